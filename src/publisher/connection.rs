//! One connection to one broker, opened, used and closed under deadlines. The only place that calls amiquip.
//!
//! amiquip never sets `TCP_NODELAY`, shows passwords in the errors of its URL functions, and can hang forever in any call.
//! So the socket is made here, every call runs under the watchdog, and no URL is ever given to the library.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use amiquip::{
    AmqpProperties, Auth, Channel, Confirm, Connection, ConnectionBlockedNotification,
    ConnectionOptions, ConnectionTuning, Publish, Return,
};
use crossbeam_channel::{Receiver, never};
use log::info;
use socket2::SockRef;

use super::BrokerSettings;
use super::batch::Message;
use super::error::{ACCESS_REFUSED, CloseReason};
use super::frames::MAX_FRAME_BYTES;
use super::stream::BoundedStream;
use super::watchdog::CallWatchdog;
use super::write_gate::{HoldGuard, WriteGate};
use crate::amqp_url::{AmqpUrl, Login};
use crate::tls::TlsError;

const CONNECT_LIMIT: Duration = Duration::from_secs(5);
const LOGIN_LIMIT: Duration = Duration::from_secs(10);
const CALL_LIMIT: Duration = Duration::from_secs(5);
const PUBLISH_LIMIT: Duration = Duration::from_secs(8);
const CLOSE_LIMIT: Duration = Duration::from_secs(3);

/// Frames queued for amiquip's thread. A message has three, and one more for each 128 KiB: with a full window of small
/// messages there is capacity left, and publishing does not wait. (amiquip's default of 16 made the two threads alternate
/// every fifth message.)
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
    OpenChannel(amiquip::Error),
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

fn explain_handshake(error: &io::Error) -> String {
    let cause = error.to_string();
    if NOT_TLS.iter().any(|sign| cause.contains(sign)) {
        format!("{cause} (no TLS on this port? amqps:// usually has port 5671)")
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
            "the server closed the connection; if this port requires TLS, use amqps://".to_owned()
        }
        other => other.to_string(),
    }
}

/// An open connection with one channel in confirm mode.
pub struct BrokerConnection {
    /// The first field, so that it is dropped first: dropping amiquip's values may wait for the broker forever; on a closed
    /// socket it does not.
    socket: WatchedSocket,
    connection: Connection,
    channel: ConfirmChannel,
    write_gate: WriteGate,
    /// Memory and disk alarms.
    pub blocked: Receiver<ConnectionBlockedNotification>,
}

impl Confirmations {
    /// Of no channel.
    pub fn none() -> Self {
        Self {
            confirms: never(),
            returns: never(),
        }
    }
}

/// A channel in confirm mode, and what comes from it.
struct ConfirmChannel {
    channel: Channel,
    confirmations: Confirmations,
}

/// What the broker says of the messages of one channel.
#[derive(Clone)]
pub struct Confirmations {
    /// Acks and nacks.
    pub confirms: Receiver<Confirm>,
    /// Messages routed to no queue. Each comes before its ack.
    pub returns: Receiver<Return>,
}

/// The addresses of a broker. There is no limit on the time that this takes.
pub fn resolve(url: &AmqpUrl) -> Result<Vec<SocketAddr>, BrokerError> {
    let addresses: Vec<SocketAddr> = (url.host.as_str(), url.port)
        .to_socket_addrs()
        .map_err(BrokerError::Resolve)?
        .collect();
    if addresses.is_empty() {
        return Err(BrokerError::Resolve(io::ErrorKind::NotFound.into()));
    }
    Ok(addresses)
}

impl BrokerConnection {
    /// Connects, logs in, opens the channel and checks that the exchange exists (passively: nothing is declared).
    pub fn open(
        url: &AmqpUrl,
        address: SocketAddr,
        settings: &BrokerSettings,
        watchdog: &Arc<CallWatchdog>,
    ) -> Result<Self, BrokerError> {
        let (socket, stream) = connect(address).map_err(BrokerError::Connect)?;
        let socket = WatchedSocket {
            socket: Arc::new(socket),
            watchdog: Arc::clone(watchdog),
        };
        let write_gate = WriteGate::default();
        let stream = if url.tls {
            let (connector, gate) = (settings.tls.connector()?, write_gate.clone());
            let handshake = || BoundedStream::tls(stream, &connector, &url.host, gate);
            socket.call(
                "TLS handshake",
                LOGIN_LIMIT,
                BrokerError::TlsHandshake,
                handshake,
            )?
        } else {
            BoundedStream::plain(stream, write_gate.clone()).map_err(BrokerError::Connect)?
        };
        let mut connection = socket.call("login", LOGIN_LIMIT, BrokerError::Login, || {
            let tuning = ConnectionTuning::default().mem_channel_bound(MAX_QUEUED_FRAMES);
            Connection::insecure_open_stream(stream, connection_options(url), tuning)
        })?;
        let blocked = connection
            .listen_for_connection_blocked()
            .map_err(BrokerError::OpenChannel);
        let opened = blocked.and_then(|blocked| {
            let channel = ConfirmChannel::open(&socket, &mut connection, &settings.exchange)?;
            Ok((channel, blocked))
        });
        // Otherwise dropping the connection might wait for the broker forever.
        let (channel, blocked) = opened.inspect_err(|_| socket.shut_down())?;
        Ok(Self {
            socket,
            connection,
            channel,
            write_gate,
            blocked,
        })
    }

    /// What the broker says of the messages published since the channel was opened.
    pub fn confirmations(&self) -> &Confirmations {
        &self.channel.confirmations
    }

    /// amiquip writes nothing until the guard is dropped, and then everything at once.
    pub fn hold_writes(&self) -> HoldGuard<'_> {
        self.write_gate.hold()
    }

    /// Hands a message to amiquip. The broker returns it if no queue is bound for it. An error is why the channel is closed, if
    /// amiquip has reported it.
    pub fn publish(
        &self,
        exchange: &str,
        message: Message<'_>,
        id: String,
    ) -> Result<(), Option<CloseReason>> {
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
        let publish = || self.channel.channel.basic_publish(exchange, publish);
        let WatchedSocket { socket, watchdog } = &self.socket;
        let Some(published) = watchdog.within(PUBLISH_LIMIT, socket, publish) else {
            let reason = format!("publishing took longer than {PUBLISH_LIMIT:?}");
            return Err(Some(CloseReason::Connection(reason)));
        };
        published.map_err(|error| match CloseReason::from(error) {
            reason @ CloseReason::Channel { .. } => Some(reason),
            _ => None,
        })
    }

    /// Closes the connection with the protocol's handshake, or cuts it if the broker does not answer. What the broker had
    /// sent before is in the receivers then.
    pub fn close(self) -> CloseReason {
        let Self {
            socket,
            connection,
            channel,
            ..
        } = self;
        // amiquip reports the cause of a failure once, in whichever call comes first.
        let close = || (channel.channel.close(), connection.close());
        match socket.watchdog.within(CLOSE_LIMIT, &socket.socket, close) {
            None => CloseReason::Connection("no answer to the close request".to_owned()),
            Some(
                (Err(error @ amiquip::Error::ServerClosedChannel { .. }), _)
                | (_, Err(error))
                | (Err(error), Ok(())),
            ) => error.into(),
            Some((Ok(()), Ok(()))) => {
                // The broker has read everything: the usual end of a TCP connection instead of a reset.
                let _ = SockRef::from(&*socket.socket).set_linger(None);
                CloseReason::Connection("closed".to_owned())
            }
        }
    }

    /// Opens another channel, where the broker has closed the channel only. Otherwise closes the connection. Returns why
    /// the channel was closed: `known`, or what amiquip reports, which it does once.
    pub fn reopen(
        mut self,
        exchange: &str,
        known: Option<CloseReason>,
    ) -> (CloseReason, Option<Self>) {
        let opened = ConfirmChannel::open(&self.socket, &mut self.connection, exchange);
        let Ok(opened) = opened else {
            let found = self.close();
            return (known.unwrap_or(found), None);
        };
        let closed = std::mem::replace(&mut self.channel, opened);
        let close = || closed.channel.close().map_err(CloseReason::from);
        let socket = &self.socket;
        let found = socket.watchdog.within(CLOSE_LIMIT, &socket.socket, close);
        match (known, found) {
            (Some(reason), _) | (None, Some(Err(reason @ CloseReason::Channel { .. }))) => {
                (reason, Some(self))
            }
            _ => (self.close(), None),
        }
    }
}

impl ConfirmChannel {
    /// Checks that the exchange exists, and opens the channel.
    fn open(
        socket: &WatchedSocket,
        connection: &mut Connection,
        exchange: &str,
    ) -> Result<Self, BrokerError> {
        let mut open_channel = || {
            let open = || connection.open_channel(None);
            socket.call(
                "opening a channel",
                CALL_LIMIT,
                BrokerError::OpenChannel,
                open,
            )
        };
        // A channel for the check only: a refusal closes it. Nothing is declared.
        let checked = open_channel()?;
        let check = || {
            checked.exchange_declare_passive(exchange)?;
            checked.close()
        };
        let checked = socket.call(
            "checking the exchange",
            CALL_LIMIT,
            BrokerError::Exchange,
            check,
        );
        match checked {
            // The check requires a permission that publishing does not, in some versions of RabbitMQ.
            Err(BrokerError::Exchange(error)) if is_refused(&error) => {
                info!("cannot check the exchange, publishing without the check: {error}");
            }
            checked => checked?,
        }
        let channel = open_channel()?;
        // It is dropped here if it fails: that may wait for the broker, too.
        let prepare = || {
            let returns = channel.listen_for_returns()?;
            let confirms = channel.listen_for_publisher_confirms()?;
            channel.enable_publisher_confirms()?;
            let confirmations = Confirmations { confirms, returns };
            Ok(Self {
                channel,
                confirmations,
            })
        };
        let error = BrokerError::OpenChannel;
        socket.call("selecting confirms", CALL_LIMIT, error, prepare)
    }
}

/// The broker has refused a method for lack of a permission.
fn is_refused(error: &amiquip::Error) -> bool {
    matches!(error, amiquip::Error::ServerClosedChannel { code, .. } if *code == ACCESS_REFUSED)
}

impl From<amiquip::Error> for CloseReason {
    fn from(error: amiquip::Error) -> Self {
        match error {
            amiquip::Error::ServerClosedChannel { code, message, .. } => {
                Self::Channel { code, message }
            }
            error => Self::Connection(error.to_string()),
        }
    }
}

/// Connects to one address: the socket twice.
fn connect(address: SocketAddr) -> io::Result<(TcpStream, TcpStream)> {
    let socket = TcpStream::connect_timeout(&address, CONNECT_LIMIT)?;
    let options = SockRef::from(&socket);
    options.set_tcp_nodelay(true)?;
    // A connection that is given up sends nothing more: what the kernel still holds could reach the queue behind events
    // that have been published on the next connection.
    options.set_linger(Some(Duration::ZERO))?;
    let duplicate = socket.try_clone()?;
    Ok((socket, duplicate))
}

/// The socket of a connection, which is shut down when this is dropped.
struct WatchedSocket {
    socket: Arc<TcpStream>,
    watchdog: Arc<CallWatchdog>,
}

impl WatchedSocket {
    /// Runs a call that uses the socket and may hang.
    fn call<T, E>(
        &self,
        name: &'static str,
        limit: Duration,
        error: fn(E) -> BrokerError,
        call: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, BrokerError> {
        match self.watchdog.within(limit, &self.socket, call) {
            Some(result) => result.map_err(error),
            None => Err(BrokerError::TooSlow(name, limit)),
        }
    }

    fn shut_down(&self) {
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}

impl Drop for WatchedSocket {
    fn drop(&mut self) {
        self.shut_down();
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
        .heartbeat(url.heartbeat)
        .frame_max(MAX_FRAME_BYTES)
        .information(Some(format!("{APP_ID} {}", crate::version::VERSION)))
}
