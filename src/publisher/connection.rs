//! One connection to one broker, opened, used and closed under deadlines. The only place that calls amiquip.
//!
//! amiquip never sets `TCP_NODELAY`, shows passwords in the errors of its URL functions, and can hang forever in any call.
//! So the socket is made here, every call that waits for the broker runs under the watchdog, and no URL is ever given to the
//! library. Publishing does not wait: a full window is less than amiquip buffers.

use std::cell::Cell;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use amiquip::{
    AmqpProperties, Auth, Channel, Confirm, Connection, ConnectionBlockedNotification,
    ConnectionOptions, ConnectionTuning, Publish, Return,
};
use crossbeam_channel::Receiver;
use log::info;
use socket2::SockRef;

use super::BrokerSettings;
use super::batch::Message;
use super::error::{ACCESS_REFUSED, CloseReason};
use super::frames::MAX_FRAME_BYTES;
use super::stream::BoundedStream;
use super::watchdog::within;
use super::write_gate::WriteGate;
use crate::amqp_url::{AmqpUrl, Login};
use crate::tls::TlsError;

const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// From the TCP connection to the open channel.
const OPEN_LIMIT: Duration = Duration::from_secs(10);
/// A server that sends nothing for this long during the login speaks another protocol. RabbitMQ takes 3 s to refuse a password.
const SILENCE_LIMIT: Duration = Duration::from_secs(5);
const CLOSE_LIMIT: Duration = Duration::from_secs(3);

/// Frames queued for amiquip's thread. A message has three, and one more for each 128 KiB: a full window (1,000 messages,
/// 8 MiB) has fewer, so that publishing never waits. (amiquip's default of 16 made the two threads alternate every fifth
/// message.)
const MAX_QUEUED_FRAMES: usize = 4096;

const PERSISTENT: u8 = 2;
const APP_ID: &str = env!("CARGO_PKG_NAME");

/// The act that failed, and the cause. Holds no secret.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// DNS
    #[error("cannot resolve the host name: {0}")]
    Resolve(io::Error),
    /// TCP
    #[error("TCP connection failed: {0}")]
    Connect(io::Error),
    /// Certificate files
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// TLS handshake
    #[error("TLS handshake failed: {}", explain_handshake(.0))]
    TlsHandshake(io::Error),
    /// AMQP handshake
    #[error("login failed: {}", explain_login(.0))]
    Login(amiquip::Error),
    /// Channel, confirms, listeners
    #[error("cannot open a channel: {0}")]
    OpenChannel(#[from] amiquip::Error),
    /// The exchange does not exist, or the user has no permission.
    #[error("cannot use the exchange: {0}")]
    Exchange(amiquip::Error),
    /// A call was ended by the watchdog.
    #[error("{0} took longer than {1:?}")]
    TooSlow(&'static str, Duration),
}

/// OpenSSL's words for an answer that is not TLS.
const NOT_TLS: [&str; 4] = [
    "wrong version number",
    "packet length too long",
    "unexpected EOF",
    "unknown protocol",
];

/// OpenSSL's words for the alerts of a server that requires a client certificate, or refuses the one that it got.
const REFUSES_CERTIFICATE: [&str; 3] = ["certificate", "unknown ca", "handshake failure"];

fn explain_handshake(error: &io::Error) -> String {
    let cause = error.to_string();
    let has_any = |signs: &[&str]| signs.iter().any(|sign| cause.contains(sign));
    if has_any(&NOT_TLS) {
        format!("{cause} (no TLS on this port? amqps:// usually has port 5671)")
    } else if cause.contains(" alert ") && has_any(&REFUSES_CERTIFICATE) {
        format!(
            "{cause} (RabbitMQ requires a client certificate that it trusts: set amqp.cert_file and amqp.key_file; the certificate needs clientAuth)"
        )
    } else {
        cause
    }
}

/// amiquip's errors with what usually causes them.
fn explain_login(error: &amiquip::Error) -> String {
    match error {
        amiquip::Error::InvalidCredentials => {
            "probably a wrong user or password; see RabbitMQ's log".to_owned()
        }
        amiquip::Error::UnexpectedSocketClose => {
            "the server closed the connection; this may not be the AMQP port (5672, 5671 with TLS), or it requires TLS: use amqps://".to_owned()
        }
        amiquip::Error::ConnectionTimeout => {
            format!("no answer for {SILENCE_LIMIT:?}; this may not be the AMQP port (5672, 5671 with TLS), or the node is frozen")
        }
        amiquip::Error::IoErrorReadingSocket { source } => explain_handshake(source),
        other => other.to_string(),
    }
}

/// An open connection with one channel in confirm mode.
pub struct BrokerConnection {
    /// The first field, so that it is dropped first: dropping amiquip's values may wait for the broker forever; on a closed
    /// socket it does not.
    socket: ClosingSocket,
    connection: Connection,
    channel: Channel,
    exchange: String,
    /// Where it leads to, for people.
    pub name: String,
    /// What the broker says of the messages that were published since the channel was opened.
    pub confirmations: Confirmations,
    /// Memory and disk alarms.
    pub blocked: Receiver<ConnectionBlockedNotification>,
    /// While it is held, amiquip writes nothing, and then everything at once.
    pub write_gate: Arc<WriteGate>,
}

/// Acks and nacks of the messages of one channel, and those that were routed to no queue. Each of these comes before its ack.
pub type Confirmations = (Receiver<Confirm>, Receiver<Return>);

impl BrokerConnection {
    /// Connects to the first address of a broker that can be used; where there is none, returns a reason for each. The lookup
    /// of the addresses has no limit.
    pub fn open(url: &AmqpUrl, settings: &BrokerSettings) -> Result<Self, Vec<String>> {
        let unresolved = |error| vec![format!("{url}: {}", BrokerError::Resolve(error))];
        let addresses: Vec<SocketAddr> = (url.host.as_str(), url.port)
            .to_socket_addrs()
            .map_err(unresolved)?
            .collect();
        if addresses.is_empty() {
            return Err(unresolved(io::ErrorKind::NotFound.into()));
        }
        let mut reasons = Vec::new();
        for address in &addresses {
            let name = if addresses.len() > 1 {
                format!("{url} ({})", address.ip())
            } else {
                url.to_string()
            };
            match Self::open_at(*address, &name, url, settings) {
                Ok(connection) => return Ok(connection),
                Err(error) => reasons.push(format!("{name}: {error}")),
            }
        }
        Err(reasons)
    }

    fn open_at(
        address: SocketAddr,
        name: &str,
        url: &AmqpUrl,
        settings: &BrokerSettings,
    ) -> Result<Self, BrokerError> {
        let socket = Arc::new(connect(address).map_err(BrokerError::Connect)?);
        let step = Cell::new("TLS handshake");
        let open = || {
            let write_gate = Arc::new(WriteGate::default());
            let tls = url.tls.then(|| settings.tls.session(&url.host));
            let stream = BoundedStream::open(&socket, tls.transpose()?, Arc::clone(&write_gate))
                .map_err(BrokerError::TlsHandshake)?;
            step.set("login");
            let tuning = ConnectionTuning::default().mem_channel_bound(MAX_QUEUED_FRAMES);
            let mut connection =
                Connection::insecure_open_stream(stream, connection_options(url), tuning)
                    .map_err(BrokerError::Login)?;
            let blocked = connection.listen_for_connection_blocked()?;
            step.set("checking the exchange");
            check_exchange(&mut connection, &settings.exchange)?;
            step.set("opening a channel");
            let (channel, confirmations) = open_channel(&mut connection)?;
            Ok(Self {
                socket: ClosingSocket(Arc::clone(&socket)),
                connection,
                channel,
                exchange: settings.exchange.clone(),
                name: name.to_owned(),
                confirmations,
                blocked,
                write_gate,
            })
        };
        let opened = within(OPEN_LIMIT, &socket, open);
        opened.unwrap_or_else(|| Err(BrokerError::TooSlow(step.get(), OPEN_LIMIT)))
    }

    /// Hands a message to amiquip. The broker returns it if no queue is bound for it. An error is why the channel is closed, if
    /// amiquip has reported it.
    pub fn publish(&self, message: Message<'_>, id: String) -> Result<(), Option<CloseReason>> {
        let properties = AmqpProperties::default()
            .with_content_type("application/json".to_owned())
            .with_delivery_mode(PERSISTENT)
            .with_app_id(APP_ID.to_owned())
            .with_message_id(id);
        let publish = Publish {
            body: message.body,
            routing_key: message.routing_key.to_owned(),
            mandatory: true,
            immediate: false,
            properties,
        };
        let published = self.channel.basic_publish(&self.exchange, publish);
        published.map_err(channel_close_reason)
    }

    /// Ends the channel, and returns why it ended: `known`, or what amiquip reports. Where the broker has closed it over a
    /// message, another one may be opened on the same connection. Otherwise the connection is closed with the protocol's
    /// handshake, or cut if the broker does not answer. What the broker had sent before is in the receivers then.
    pub fn end_channel(
        self,
        known: Option<CloseReason>,
        may_reopen: bool,
    ) -> (CloseReason, Option<Self>) {
        let (socket, channel, mut connection) = (self.socket, self.channel, self.connection);
        // Kept where the watchdog ends what follows.
        let mut reason = known;
        let calls = || {
            // amiquip reports the cause of a failure once, in whichever call comes first.
            let found = channel.close().err().and_then(channel_close_reason);
            reason = reason.take().or(found);
            if may_reopen
                && let Some(reason) = reason.clone().filter(CloseReason::is_over_message)
                && let Ok(opened) = open_channel(&mut connection)
            {
                return Ok((reason, connection, opened));
            }
            Err(match connection.close() {
                Ok(()) => {
                    // The broker has read everything: the usual end of a TCP connection instead of a reset.
                    let _ = SockRef::from(&*socket.0).set_linger(None);
                    "closed".to_owned()
                }
                Err(error) => error.to_string(),
            })
        };
        let ended = within(CLOSE_LIMIT, &socket.0, calls);
        match ended.unwrap_or_else(|| Err("no answer to the close request".to_owned())) {
            Ok((reason, connection, (channel, confirmations))) => {
                let reopened = Self {
                    socket,
                    connection,
                    channel,
                    confirmations,
                    ..self
                };
                (reason, Some(reopened))
            }
            Err(found) => (reason.unwrap_or(CloseReason::Connection(found)), None),
        }
    }
}

/// Checks that the exchange exists. Nothing is declared.
fn check_exchange(connection: &mut Connection, exchange: &str) -> Result<(), BrokerError> {
    // A channel for the check only: a refusal closes it.
    let channel = connection.open_channel(None)?;
    match channel.exchange_declare_passive(exchange) {
        // The check requires a permission that publishing does not, in some versions of RabbitMQ.
        Err(error @ amiquip::Error::ServerClosedChannel { code, .. }) if code == ACCESS_REFUSED => {
            info!("cannot check the exchange, publishing without the check: {error}");
            Ok(())
        }
        checked => checked.map(drop).map_err(BrokerError::Exchange),
    }
}

/// Opens a channel in confirm mode.
fn open_channel(connection: &mut Connection) -> amiquip::Result<(Channel, Confirmations)> {
    let channel = connection.open_channel(None)?;
    let returns = channel.listen_for_returns()?;
    let confirms = channel.listen_for_publisher_confirms()?;
    channel.enable_publisher_confirms()?;
    Ok((channel, (confirms, returns)))
}

/// Why the broker has closed a channel, where that is the error.
fn channel_close_reason(error: amiquip::Error) -> Option<CloseReason> {
    let amiquip::Error::ServerClosedChannel { code, message, .. } = error else {
        return None;
    };
    Some(CloseReason::Channel { code, message })
}

/// Connects to one address.
fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpStream::connect_timeout(&address, CONNECT_LIMIT)?;
    let options = SockRef::from(&socket);
    options.set_tcp_nodelay(true)?;
    // A connection that is given up sends nothing more: what the kernel still holds could reach the queue behind events
    // that have been published on the next connection.
    options.set_linger(Some(Duration::ZERO))?;
    Ok(socket)
}

/// The socket of a connection, which is shut down when this is dropped.
struct ClosingSocket(Arc<TcpStream>);

impl Drop for ClosingSocket {
    fn drop(&mut self) {
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

fn connection_options(url: &AmqpUrl) -> ConnectionOptions<Auth> {
    let auth = match &url.login {
        Login::Plain { user, password } => Auth::Plain {
            username: user.clone(),
            password: password.expose().to_owned(),
        },
        Login::External => Auth::External,
    };
    ConnectionOptions::default()
        .auth(auth)
        .virtual_host(url.vhost.clone())
        .connection_timeout(Some(SILENCE_LIMIT))
        .heartbeat(url.heartbeat)
        .frame_max(MAX_FRAME_BYTES)
        .information(Some(format!("{APP_ID} {}", crate::version::VERSION)))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn the_socket_sends_at_once_and_nothing_after_its_end() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = connect(listener.local_addr().unwrap()).unwrap();
        let options = SockRef::from(&socket);
        assert!(
            options.tcp_nodelay().unwrap(),
            "without TCP_NODELAY, each message waits for the ack of the one before"
        );
        assert_eq!(
            options.linger().unwrap(),
            Some(Duration::ZERO),
            "old bytes arrive behind those of the next connection"
        );
    }

    /// amiquip has no other way to read them.
    #[test]
    fn the_options_of_a_connection_are_those_of_its_url() {
        let url = AmqpUrl::parse("amqp://u:p@h/v?heartbeat=7").unwrap();
        let options = format!("{:?}", connection_options(&url));
        for (option, without) in [
            ("heartbeat: 7,", "a dead broker is noticed after 30 s only"),
            (
                "frame_max: 131072,",
                "frames are longer than the check of frames allows",
            ),
            (
                "connection_timeout: Some(5s),",
                "the login waits for a silent server",
            ),
            ("virtual_host: \"v\",", "events go to another virtual host"),
        ] {
            assert!(options.contains(option), "{without}: {option} in {options}");
        }
    }
}
