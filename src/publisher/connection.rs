//! One connection to one broker, opened, used and closed under deadlines. The only place that calls amiquip.
//!
//! amiquip never sets `TCP_NODELAY`, shows passwords in the errors of its URL functions, and can hang forever in any call.
//! So the socket is made here, every call runs under the watchdog, and no URL is ever given to the library.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use amiquip::{
    AmqpProperties, Auth, Channel, Confirm, Connection, ConnectionBlockedNotification,
    ConnectionOptions, ConnectionTuning, IoStream, Publish, Return,
};
use crossbeam_channel::Receiver;
use mio::{Evented, Poll, PollOpt, Ready, Token};

use super::Message;
use super::tls::{TlsError, TlsFiles};
use super::watchdog::CallWatchdog;
use super::write_gate::{HoldGuard, WriteGate};
use crate::amqp_url::{AmqpUrl, Login};

const CONNECT_LIMIT: Duration = Duration::from_secs(5);
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
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
    /// AMQP or TLS handshake
    #[error("login failed: {}", explain_login(.0))]
    Login(amiquip::Error),
    /// Channel, confirms, listeners
    #[error("cannot open a channel: {0}")]
    OpenChannel(amiquip::Error),
    /// The exchange does not exist, or the user has no permission.
    #[error("cannot use the exchange: {0}")]
    Exchange(amiquip::Error),
    /// Publishing
    #[error("publishing failed: {0}")]
    Publish(amiquip::Error),
    /// A call was ended by the watchdog.
    #[error("{0} took longer than {1:?}")]
    TooSlow(&'static str, Duration),
}

/// amiquip's errors with what usually causes them.
fn explain_login(error: &amiquip::Error) -> String {
    match error {
        amiquip::Error::InvalidCredentials => {
            "probably a wrong user or password; see RabbitMQ's log".to_owned()
        }
        amiquip::Error::TlsHandshake { source } => {
            let cause = source.to_string();
            let hint = if NOT_TLS.iter().any(|sign| cause.contains(sign)) {
                " (no TLS on this port? amqps:// usually has port 5671)"
            } else {
                ""
            };
            format!("TLS handshake failed: {cause}{hint}")
        }
        amiquip::Error::UnexpectedSocketClose => {
            "the server closed the connection; if this port requires TLS, use amqps://".to_owned()
        }
        other => other.to_string(),
    }
}

/// OpenSSL's words for an answer that is not TLS.
const NOT_TLS: [&str; 4] = [
    "wrong version number",
    "packet length too long",
    "unexpected EOF",
    "unknown protocol",
];

/// An open connection with one channel in confirm mode.
pub struct BrokerConnection {
    connection: Option<Connection>,
    channel: Option<Channel>,
    socket: Arc<TcpStream>,
    write_gate: WriteGate,
    /// Acks and nacks.
    pub confirms: Receiver<Confirm>,
    /// Messages routed to no queue. Each comes before its ack.
    pub returns: Receiver<Return>,
    /// Memory and disk alarms.
    pub blocked: Receiver<ConnectionBlockedNotification>,
}

/// Why a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CloseReason {
    /// The broker closed the channel because of a method on it.
    Channel(String),
    /// Any other reason.
    Connection(String),
}

impl BrokerConnection {
    /// Connects, logs in, opens the channel and checks that the exchange exists (passively: nothing is declared).
    pub fn open(
        url: &AmqpUrl,
        exchange: &str,
        tls: &TlsFiles,
        watchdog: &CallWatchdog,
    ) -> Result<Self, BrokerError> {
        let socket = connect(url)?;
        socket.set_nodelay(true).map_err(BrokerError::Connect)?;
        let stream = socket.try_clone().map_err(BrokerError::Connect)?;
        let socket = Arc::new(socket);
        let write_gate = WriteGate::default();
        let connector = if url.tls {
            Some(tls.connector()?)
        } else {
            None
        };
        let mut connection = watched(
            watchdog,
            "login",
            HANDSHAKE_LIMIT,
            &socket,
            BrokerError::Login,
            || {
                let inner = mio::net::TcpStream::from_stream(stream).map_err(socket_error)?;
                let stream = Stream {
                    inner,
                    is_first_byte_checked: url.tls,
                    write_gate: write_gate.clone(),
                };
                let (options, tuning) = (
                    options(url),
                    ConnectionTuning::default().mem_channel_bound(MAX_QUEUED_FRAMES),
                );
                match (connector, &url.login) {
                    (Some(connector), Login::Plain { .. }) => {
                        Connection::open_tls_stream(connector, &url.host, stream, options, tuning)
                    }
                    (Some(connector), Login::External) => Connection::open_tls_stream(
                        connector,
                        &url.host,
                        stream,
                        options.auth(Auth::External),
                        tuning,
                    ),
                    (None, Login::Plain { .. }) => {
                        Connection::insecure_open_stream(stream, options, tuning)
                    }
                    (None, Login::External) => Connection::insecure_open_stream(
                        stream,
                        options.auth(Auth::External),
                        tuning,
                    ),
                }
            },
        )?;
        let open_channel = |connection: &mut Connection| {
            let blocked = connection.listen_for_connection_blocked()?;
            let channel = connection.open_channel(None)?;
            let returns = channel.listen_for_returns()?;
            let confirms = channel.listen_for_publisher_confirms()?;
            channel.enable_publisher_confirms()?;
            Ok((channel, confirms, returns, blocked))
        };
        let (channel, confirms, returns, blocked) = watched(
            watchdog,
            "opening a channel",
            CALL_LIMIT,
            &socket,
            BrokerError::OpenChannel,
            || open_channel(&mut connection),
        )
        // Otherwise dropping the connection might wait for the broker forever.
        .inspect_err(|_| drop(socket.shutdown(std::net::Shutdown::Both)))?;
        let (connection, channel) = (Some(connection), Some(channel));
        let opened = Self {
            connection,
            channel,
            socket,
            write_gate,
            confirms,
            returns,
            blocked,
        };
        if let Some(channel) = &opened.channel {
            watched(
                watchdog,
                "checking the exchange",
                CALL_LIMIT,
                &opened.socket,
                BrokerError::Exchange,
                || channel.exchange_declare_passive(exchange).map(drop),
            )?;
        }
        Ok(opened)
    }

    /// amiquip writes nothing until the guard is dropped, and then everything at once.
    pub fn hold_writes(&self) -> HoldGuard<'_> {
        self.write_gate.hold()
    }

    /// Hands a message to amiquip. The broker returns it if no queue is bound for it.
    pub fn publish(
        &self,
        exchange: &str,
        message: Message<'_>,
        id: String,
        watchdog: &CallWatchdog,
    ) -> Result<(), BrokerError> {
        let Some(channel) = &self.channel else {
            return Ok(());
        };
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
        watched(
            watchdog,
            "publishing",
            PUBLISH_LIMIT,
            &self.socket,
            BrokerError::Publish,
            || channel.basic_publish(exchange, publish),
        )
    }

    /// Closes the connection with the protocol's handshake, or cuts it if the broker does not answer.
    pub fn close(mut self, watchdog: &CallWatchdog) -> CloseReason {
        let (channel, connection) = (self.channel.take(), self.connection.take());
        let closing = watchdog.within(CLOSE_LIMIT, &self.socket, || {
            // amiquip reports the cause of a failure once, in whichever call comes first.
            let channel = channel.map_or(Ok(()), Channel::close);
            let connection = connection.map_or(Ok(()), Connection::close);
            (channel, connection)
        });
        if !closing.in_time {
            return CloseReason::Connection("no answer to the close request".to_owned());
        }
        match closing.value {
            (Err(amiquip::Error::ServerClosedChannel { code, message, .. }), _) => {
                CloseReason::Channel(format!("{code} {message}"))
            }
            (_, Err(error)) | (Err(error), Ok(())) => CloseReason::Connection(error.to_string()),
            (Ok(()), Ok(())) => CloseReason::Connection("closed".to_owned()),
        }
    }
}

impl Drop for BrokerConnection {
    fn drop(&mut self) {
        // Dropping amiquip's values may wait for the broker forever; on a closed socket it does not.
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
    }
}

fn watched<T>(
    watchdog: &CallWatchdog,
    call_name: &'static str,
    limit: Duration,
    socket: &Arc<TcpStream>,
    error: fn(amiquip::Error) -> BrokerError,
    call: impl FnOnce() -> amiquip::Result<T>,
) -> Result<T, BrokerError> {
    let outcome = watchdog.within(limit, socket, call);
    outcome.value.map_err(|cause| {
        if outcome.in_time {
            error(cause)
        } else {
            BrokerError::TooSlow(call_name, limit)
        }
    })
}

fn connect(url: &AmqpUrl) -> Result<TcpStream, BrokerError> {
    let addresses: Vec<SocketAddr> = (url.host.as_str(), url.port)
        .to_socket_addrs()
        .map_err(BrokerError::Resolve)?
        .collect();
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        match TcpStream::connect_timeout(&address, CONNECT_LIMIT) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(BrokerError::Connect(last))
}

fn options(url: &AmqpUrl) -> ConnectionOptions<Auth> {
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
        .connection_timeout(Some(HANDSHAKE_LIMIT))
        .information(Some(format!("{APP_ID} {}", crate::version::VERSION)))
}

fn socket_error(source: io::Error) -> amiquip::Error {
    amiquip::Error::IoErrorReadingSocket { source }
}

/// The socket. Checks the first byte received: amiquip would read the text of an HTTP server as a frame of a gigabyte.
struct Stream {
    inner: mio::net::TcpStream,
    /// True from the start behind TLS, where the handshake does it.
    is_first_byte_checked: bool,
    write_gate: WriteGate,
}

impl IoStream for Stream {}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        if count > 0 && !std::mem::replace(&mut self.is_first_byte_checked, true) {
            check_first_byte(buffer[0])?;
        }
        Ok(count)
    }
}

fn check_first_byte(byte: u8) -> io::Result<()> {
    let reason = match byte {
        // A method frame: `connection.start`.
        1 => return Ok(()),
        // The protocol header of the version that the server requires.
        b'A' => "the server does not support AMQP 0-9-1",
        // A TLS alert.
        0x15 => "the server requires TLS: use amqps://",
        _ => "the server does not speak AMQP",
    };
    Err(io::Error::new(io::ErrorKind::InvalidData, reason))
}

impl Write for Stream {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.write_gate.wait();
        self.inner.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl Evented for Stream {
    fn register(
        &self,
        poll: &Poll,
        token: Token,
        interest: Ready,
        options: PollOpt,
    ) -> io::Result<()> {
        self.inner.register(poll, token, interest, options)
    }

    fn reregister(
        &self,
        poll: &Poll,
        token: Token,
        interest: Ready,
        options: PollOpt,
    ) -> io::Result<()> {
        self.inner.reregister(poll, token, interest, options)
    }

    fn deregister(&self, poll: &Poll) -> io::Result<()> {
        self.inner.deregister(poll)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_amqp_is_refused_with_what_to_change() {
        for (byte, hint) in [
            (1, None),
            (b'A', Some("does not support AMQP 0-9-1")),
            (0x15, Some("use amqps://")),
            (b'H', Some("does not speak AMQP")),
        ] {
            let reason = check_first_byte(byte).err().map(|error| error.to_string());
            assert_eq!(
                reason
                    .as_deref()
                    .map(|reason| hint.is_some_and(|hint| reason.contains(hint))),
                hint.map(|_| true),
                "{byte}: {reason:?}"
            );
        }
    }
}
