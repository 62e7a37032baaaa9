//! Accepts connections, one thread each, and hands their requests to the [`Application`].
//!
//! I/O is blocking, and everything that a sender chooses is bounded: the number of connections, the length and time of a head
//! and of a body, the memory of all notifications. Nothing that a sender does blocks or ends the accept thread.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use log::{debug, error, info};
use socket2::{Domain, SockRef, Socket, Type};

use super::connection::{Connection, HEAD_TIMEOUT, LINGER_TIMEOUT};
use super::request::{InvalidRequest, TLS_HANDSHAKE};
use super::slots::ConnectionSlots;
use super::stream::{Stream, is_timeout};
use super::{Application, ListenAddress};
use crate::liveness::Heartbeat;
use crate::logging::{LogLimiter, LogRate};

/// How long a connection may be idle. Alertmanager keeps one for 5 minutes, and logs a failure if it is closed earlier.
const IDLE_TIMEOUT: Duration = Duration::from_mins(6);

/// How many connections may wait to be accepted: the kernel takes the lower of this and `net.core.somaxconn`, and a sender
/// above it has to try again after a second.
const BACKLOG: i32 = i32::MAX;

/// How long the accept thread waits for a connection at most before it beats.
const ACCEPT_TIMEOUT: Duration = Duration::from_secs(5);

/// After an accept that failed because a resource (a file descriptor, a thread) was missing.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why the server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The host name has no address.
    #[error(
        "cannot resolve the listen address {0}: {1}; use a name or an address of this host, or 0.0.0.0"
    )]
    Resolve(ListenAddress, io::Error),
    /// The address is not available.
    #[error("cannot listen on {0}: {1}")]
    Bind(ListenAddress, io::Error),
    /// The accept thread cannot be created.
    #[error("cannot start the accept thread: {0}")]
    Thread(io::Error),
}

/// A listening server.
pub struct Server {
    /// The address on which it listens.
    pub address: SocketAddr,
    listener: TcpListener,
    /// Answers the requests.
    pub application: Application,
    slots: Arc<ConnectionSlots>,
}

impl ListenAddress {
    /// Looks up the host's addresses.
    pub fn resolve(&self) -> Result<Vec<SocketAddr>, ListenError> {
        let host = match &*self.host {
            // The socket takes connections of both families.
            "" if Socket::new(Domain::IPV6, Type::STREAM, None).is_ok() => "::",
            "" => "0.0.0.0",
            host => host,
        };
        (host, self.port)
            .to_socket_addrs()
            .map(Iterator::collect)
            .map_err(|error| ListenError::Resolve(self.clone(), error))
    }
}

impl Server {
    /// Binds the address and starts to accept.
    pub fn start(
        listen: &ListenAddress,
        max_connections: usize,
        application: Application,
        heartbeat: Heartbeat,
    ) -> Result<Arc<Self>, ListenError> {
        let addresses = listen.resolve()?;
        let unavailable = |error| ListenError::Bind(listen.clone(), error);
        let listener = bind(&addresses).map_err(unavailable)?;
        let address = listener.local_addr().map_err(unavailable)?;
        let server = Arc::new(Self {
            address,
            listener,
            application,
            slots: Arc::new(ConnectionSlots::new(max_connections)),
        });
        let accepting = Arc::clone(&server);
        thread::Builder::new()
            .name("accept".to_owned())
            .spawn(move || accepting.accept(&heartbeat))
            .map_err(ListenError::Thread)?;
        Ok(server)
    }

    /// Changes the number of connections that may be open at once.
    pub fn resize(&self, max_connections: usize) {
        self.slots.resize(max_connections);
    }

    /// Stops accepting connections and input, and waits for the responses to the notifications in progress, `grace` at most.
    /// Returns how many have got none.
    pub fn stop(&self, grace: Duration) -> usize {
        let deadline = Instant::now() + grace;
        self.application.stop();
        // On Linux this ends an accept at once; elsewhere it ends after its timeout.
        let _ = SockRef::from(&self.listener).shutdown(Shutdown::Both);
        self.slots.drain(deadline)
    }

    fn accept(self: &Arc<Self>, heartbeat: &Heartbeat) {
        let (log_limiter, mut is_failure_logged) = (LogLimiter::default(), false);
        loop {
            heartbeat.beat();
            let accepted = self.listener.accept();
            if self.application.is_stopping() {
                return;
            }
            let result = match accepted {
                Ok((socket, peer)) => {
                    // An IPv4 address of a socket for both families is shown as such.
                    self.serve(socket, (peer.ip().to_canonical(), peer.port()).into())
                }
                Err(error)
                    if is_timeout(&error) || error.kind() == io::ErrorKind::ConnectionAborted =>
                {
                    continue;
                }
                Err(error) => Err(error),
            };
            if let Err(error) = result {
                if let Some(suppressed) = log_limiter.allow("accept", LogRate::REPEATED) {
                    is_failure_logged = true;
                    let connections = self.slots.usage().connections;
                    error!(connections, suppressed; "cannot accept a connection: {error}; closing the oldest one and retrying");
                }
                // It may hold the missing resource.
                self.slots.evict_oldest();
                thread::sleep(ACCEPT_PAUSE);
            } else if std::mem::take(&mut is_failure_logged) {
                info!("accepting connections again");
            }
        }
    }

    /// Serves a connection in its own thread. Where there is no slot or thread for it, it is closed, and its sender tries
    /// again.
    fn serve(self: &Arc<Self>, socket: TcpStream, peer: SocketAddr) -> io::Result<()> {
        let socket = Arc::new(socket);
        let Some(slot) = self.slots.take(&socket) else {
            debug!(peer:% = peer; "no free slot for a connection: closed");
            return Ok(());
        };
        let _ = socket.set_nodelay(true);
        let server = Arc::clone(self);
        thread::Builder::new()
            .name("connection".to_owned())
            .spawn(move || server.handle_connection(Connection::new(socket, peer, slot)))?;
        Ok(())
    }

    fn handle_connection(&self, mut connection: Connection) {
        let linger = match self.handle_requests(&mut connection) {
            Ok(()) => LINGER_TIMEOUT,
            Err(error) => {
                debug!(peer:% = connection.peer; "connection closed: {error}");
                Duration::ZERO
            }
        };
        connection.close(linger);
    }

    fn handle_requests(&self, connection: &mut Connection) -> io::Result<()> {
        if !self.begin_tls(connection)? {
            return Ok(());
        }
        connection.wait_for_request()?;
        while self.handle_request(connection)? {
            connection.set_timeout(IDLE_TIMEOUT);
            connection.wait_for_request()?;
            connection.set_timeout(HEAD_TIMEOUT);
        }
        Ok(())
    }

    /// Does the TLS handshake, where TLS is configured now. Returns whether requests may follow.
    fn begin_tls(&self, connection: &mut Connection) -> io::Result<bool> {
        let Some(tls) = self.application.config().settings.tls.clone() else {
            return Ok(true);
        };
        connection.slot.begin_handshake();
        let stream = connection.reader.get_mut();
        // A port check, for example, fails here: it is not worth a warning.
        if stream.socket().peek_first()? != TLS_HANDSHAKE {
            let error = InvalidRequest::NotTls.into();
            let response = self.application.reject(&error, connection.peer);
            connection.write(&response, false, true)?;
            return Ok(false);
        }
        match tls.accept(stream.socket().clone()) {
            Ok(secured) => *stream = Stream::Tls(secured),
            Err(error) => {
                self.application.handshake_failed(&error, connection.peer);
                return Err(io::ErrorKind::InvalidData.into());
            }
        }
        connection.slot.end_work();
        Ok(true)
    }

    /// Reads a request that has begun, and responds to it. Returns whether another one may follow on the connection.
    fn handle_request(&self, connection: &mut Connection) -> io::Result<bool> {
        let (response, keep_alive, with_body) = match connection.read_head()? {
            Ok(head) => {
                let response = self.application.respond(&head, connection);
                let keep_alive =
                    head.keep_alive && connection.skip_body() && !self.application.is_stopping();
                (response, keep_alive, head.method != "HEAD")
            }
            Err(error) => {
                let response = self.application.reject(&error, connection.peer);
                (response, false, true)
            }
        };
        connection.write(&response, keep_alive, with_body)?;
        connection.slot.end_work();
        Ok(keep_alive)
    }
}

/// Listens on the first address that is available.
fn bind(addresses: &[SocketAddr]) -> io::Result<TcpListener> {
    let none = Err(io::ErrorKind::AddrNotAvailable.into());
    let addresses = addresses.iter();
    addresses.fold(none, |bound, address| bound.or_else(|_| listen(*address)))
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // Whatever net.ipv6.bindv6only says: [::] is every address of both families, as in Go programs.
        socket.set_only_v6(false)?;
    }
    socket.bind(&address.into())?;
    // The standard library's backlog is 128; an Alertmanager may start with a burst of 500 connections.
    socket.listen(BACKLOG)?;
    // It counts for accept, too: see socket(7).
    socket.set_read_timeout(Some(ACCEPT_TIMEOUT))?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::super::application::tests::application;
    use super::*;

    #[test]
    fn each_phase_of_a_connection_has_its_own_time() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut sender = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (socket, peer) = listener.accept().unwrap();
        let (socket, slots) = (Arc::new(socket), Arc::new(ConnectionSlots::new(2)));
        let slot = slots.take(&socket).unwrap();
        let server = Server {
            address: listener.local_addr().unwrap(),
            listener,
            application: application(),
            slots,
        };
        let (head, body, idle) = (10, 30, 360);
        // Each read is limited to what is left of the time of its phase.
        let wait_for_phase = |seconds: u64, what: &str| {
            let give_up = Instant::now() + Duration::from_secs(5);
            let seconds = Duration::from_secs(seconds);
            let is_of_phase =
                |timeout| timeout <= seconds && timeout + Duration::from_secs(6) > seconds;
            while !socket.read_timeout().unwrap().is_some_and(is_of_phase) {
                assert!(
                    Instant::now() < give_up,
                    "{what}: {:?}",
                    socket.read_timeout()
                );
                thread::yield_now();
            }
        };
        thread::scope(|scope| {
            let connection = Connection::new(Arc::clone(&socket), peer, slot);
            scope.spawn(|| server.handle_connection(connection));
            wait_for_phase(head, "the first head");
            sender
                .write_all(b"GET /-/healthy HTTP/1.1\r\nHost: h\r\n\r\n")
                .unwrap();
            assert!(sender.read(&mut [0; 1000]).unwrap() > 0);
            wait_for_phase(idle, "between two requests");
            sender.write_all(b"POST /webhook HTTP/1.1\r\n").unwrap();
            wait_for_phase(head, "a later head");
            sender
                .write_all(b"Host: h\r\nAuthorization: Bearer t\r\nContent-Length: 9\r\n")
                .unwrap();
            sender.write_all(b"Expect: 100-continue\r\n\r\n").unwrap();
            wait_for_phase(body, "a body");
            sender.write_all(b"no JSON!!").unwrap();
            // The interim response may come before it.
            let mut received = String::new();
            while !received.contains(" 400 ") {
                let mut part = [0; 1000];
                let count = sender.read(&mut part).unwrap();
                assert!(count > 0, "{received}");
                received += &String::from_utf8_lossy(&part[..count]);
            }
            let written = socket.write_timeout().unwrap().unwrap();
            assert!(
                written <= Duration::from_secs(10),
                "a response: {written:?}"
            );
            drop(sender);
        });
    }

    #[test]
    fn without_a_host_it_listens_on_every_address_of_both_families() {
        let listen = ListenAddress::parse(":0").unwrap();
        assert_eq!(listen.to_string(), ":0");
        let addresses = listen.resolve().unwrap();
        let port = bind(&addresses).unwrap();
        let (port, _listener) = (port.local_addr().unwrap().port(), port);
        TcpStream::connect(("127.0.0.1", port)).unwrap();
        // Where there is no IPv6, that is all.
        if addresses[0].is_ipv6() && TcpListener::bind("[::1]:0").is_ok() {
            TcpStream::connect(("::1", port)).unwrap();
        }
    }

    #[test]
    fn a_burst_of_connections_is_not_turned_away() {
        let allowed: usize = std::fs::read_to_string("/proc/sys/net/core/somaxconn")
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        let listener = bind(&["127.0.0.1:0".parse().unwrap()]).unwrap();
        let address = listener.local_addr().unwrap();
        // They are not accepted: with a short backlog, the last ones would time out.
        let connect = |_| TcpStream::connect_timeout(&address, Duration::from_secs(10)).unwrap();
        let _held: Vec<TcpStream> = (0..allowed.min(500)).map(connect).collect();
    }
}
