//! One connection to one broker: opened, used and closed under deadlines, on a socket of our own.
//!
//! The AMQP library never sets `TCP_NODELAY`, shows passwords in the errors of its URL functions, and can hang for ever in
//! any call. So the socket is made here, every call runs under the watchdog, and no URL is ever given to the library.

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
use super::write_gate::{Held, WriteGate};
use crate::amqp_url::{AmqpUrl, Login};

const CONNECT_LIMIT: Duration = Duration::from_secs(5);
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
const CALL_LIMIT: Duration = Duration::from_secs(5);
const PUBLISH_LIMIT: Duration = Duration::from_secs(8);
const CLOSE_LIMIT: Duration = Duration::from_secs(3);

/// So many frames may be on their way to the library's thread. A message has three, and one more for each 128 KiB (or what else
/// the broker takes for a frame): with the window full there is usually room left, so that handing a message over does not wait.
/// (The library's own 16 had the two threads take turns for every fifth message.)
const MOST_FRAMES: usize = 4096;

const PERSISTENT: u8 = 2;
const APP_ID: &str = env!("CARGO_PKG_NAME");

/// What could not be done with a broker, and why. Holds no secret.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// DNS
    #[error("can't resolve its name: {0}")]
    Resolve(io::Error),
    /// TCP
    #[error("can't connect: {0}")]
    Connect(io::Error),
    /// Certificates
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// AMQP or TLS handshake
    #[error("can't log in: {}", explain(.0))]
    Handshake(amiquip::Error),
    /// Channel, confirms, listeners
    #[error("can't set the channel up: {}", explain(.0))]
    SetUp(amiquip::Error),
    /// The exchange is missing, or may not be seen.
    #[error("can't use the exchange: {}", explain(.0))]
    Exchange(amiquip::Error),
    /// Publishing
    #[error("can't publish: {}", explain(.0))]
    Publish(amiquip::Error),
    /// A call took too long and was ended.
    #[error("{0} took longer than {1:?}")]
    TooSlow(&'static str, Duration),
}

/// The library's words with what they mean here.
fn explain(error: &amiquip::Error) -> String {
    match error {
        amiquip::Error::InvalidCredentials => {
            "probably a wrong user or password; RabbitMQ's log says more".to_owned()
        }
        amiquip::Error::TlsHandshake { source } => {
            format!("TLS handshake failed: {source} (does this port speak TLS? it is usually 5671)")
        }
        other => other.to_string(),
    }
}

/// An open connection with one channel in confirm mode.
pub struct BrokerConnection {
    connection: Option<Connection>,
    channel: Option<Channel>,
    socket: Arc<TcpStream>,
    gate: WriteGate,
    /// Acks and nacks.
    pub confirms: Receiver<Confirm>,
    /// Messages that no queue takes; each comes before its ack.
    pub returns: Receiver<Return>,
    /// Memory and disk alarms.
    pub blocked: Receiver<ConnectionBlockedNotification>,
}

/// How a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CloseReason {
    /// The broker closed the channel over what was done on it.
    Channel(String),
    /// Everything else.
    Connection(String),
}

impl BrokerConnection {
    /// Connects, logs in, opens the channel and checks that the exchange is there (passively: nothing is declared).
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
        let gate = WriteGate::default();
        let connector = if url.tls {
            Some(tls.connector()?)
        } else {
            None
        };
        let mut connection = watched(
            watchdog,
            "logging in",
            HANDSHAKE_LIMIT,
            &socket,
            BrokerError::Handshake,
            || {
                let inner = mio::net::TcpStream::from_stream(stream).map_err(socket_error)?;
                let stream = Stream {
                    inner,
                    greeted: url.tls,
                    gate: gate.clone(),
                };
                let (options, tuning) = (
                    options(url),
                    ConnectionTuning::default().mem_channel_bound(MOST_FRAMES),
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
        let set_up = |connection: &mut Connection| {
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
            BrokerError::SetUp,
            || set_up(&mut connection),
        )
        // Or else dropping the connection might wait for the broker for ever.
        .inspect_err(|_| drop(socket.shutdown(std::net::Shutdown::Both)))?;
        let (connection, channel) = (Some(connection), Some(channel));
        let link = Self {
            connection,
            channel,
            socket,
            gate,
            confirms,
            returns,
            blocked,
        };
        if let Some(channel) = &link.channel {
            watched(
                watchdog,
                "looking for the exchange",
                CALL_LIMIT,
                &link.socket,
                BrokerError::Exchange,
                || channel.exchange_declare_passive(exchange).map(drop),
            )?;
        }
        Ok(link)
    }

    /// While what is returned lives, the library does not write, so as to write all at once then.
    pub fn hold_writes(&self) -> Held<'_> {
        self.gate.hold()
    }

    /// Hands a message to the library, to be returned if no queue takes it.
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

    /// Closes the connection as the protocol has it, or cuts it where the broker does not answer.
    pub fn close(mut self, watchdog: &CallWatchdog) -> CloseReason {
        let (channel, connection) = (self.channel.take(), self.connection.take());
        let closing = watchdog.within(CLOSE_LIMIT, &self.socket, || {
            // The cause of a failure is told once, by whichever of the two comes first.
            let channel = channel.map_or(Ok(()), Channel::close);
            let connection = connection.map_or(Ok(()), Connection::close);
            (channel, connection)
        });
        if !closing.in_time {
            return CloseReason::Connection("it did not answer".to_owned());
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
        // Dropping the library's own values may wait for the broker for ever; on a dead socket it does not.
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
    }
}

fn watched<T>(
    watchdog: &CallWatchdog,
    act: &'static str,
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
            BrokerError::TooSlow(act, limit)
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

/// The socket, which looks at the first byte that comes: the library takes whatever answers for a broker, and reads the
/// text of an HTTP server as a frame of a gigabyte.
struct Stream {
    inner: mio::net::TcpStream,
    /// Whether the first byte has been looked at. Behind TLS the handshake does it.
    greeted: bool,
    gate: WriteGate,
}

impl IoStream for Stream {}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        if !self.greeted && count > 0 {
            self.greeted = true;
            match buffer[0] {
                // A method frame, or a broker that speaks another version of AMQP.
                1 => {}
                b'A' => {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        "the broker does not speak AMQP 0-9-1",
                    ));
                }
                _ => {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        "what answers there is no AMQP broker",
                    ));
                }
            }
        }
        Ok(count)
    }
}

impl Write for Stream {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.gate.wait();
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
