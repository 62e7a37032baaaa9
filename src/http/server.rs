//! Accepts connections, one thread each, and hands their requests to the [`Routes`].
//!
//! I/O is blocking, and everything that a sender chooses is bounded: the number of connections, the length and time of a head
//! and of a body, the memory of all bodies. Nothing that a sender does ends the accept thread.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use log::{debug, error, info};
use parking_lot::{Condvar, Mutex};
use socket2::SockRef;

use super::body::BodyReader;
use super::budget::Budget;
use super::connection::{Connection, HEAD_TIMEOUT, ReadRequestError};
use super::slots::{ConnectionSlots, SlotGuard};
use super::{HttpError, ListenAddress, Request, Routes};
use crate::logging::RateLimiter;

/// How long a connection may be idle. Alertmanager keeps one for 5 minutes, and logs a failure if it is closed earlier.
const IDLE_TIMEOUT: Duration = Duration::from_mins(6);

/// How many connections may wait to be accepted: the kernel takes the lower of this and `net.core.somaxconn`, and a sender
/// above it has to try again after a second.
const BACKLOG: i32 = i32::MAX;

/// After an accept that failed because a resource (a file descriptor, a thread) was missing.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The memory for all bodies together, besides the first 64 KiB of each.
const MAX_BODY_MEMORY: usize = 64 << 20;

/// Why the server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The host name has no address.
    #[error("cannot resolve the listen address {0}: {1}")]
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
    address: SocketAddr,
    shared: Arc<ServerState>,
}

/// What the accept thread and the connection threads share.
struct ServerState {
    routes: Arc<Routes>,
    slots: Arc<ConnectionSlots>,
    budget: Arc<Budget>,
    in_flight: Arc<ActiveRequests>,
    stopping: AtomicBool,
    accepted: AtomicU64,
    /// For entries that any sender can cause.
    log_limiter: RateLimiter,
}

impl Server {
    /// Binds the address and starts to accept.
    pub fn start(
        listen: &ListenAddress,
        max_connections: usize,
        routes: Arc<Routes>,
    ) -> Result<Self, ListenError> {
        let addresses: Vec<SocketAddr> = (listen.host.as_str(), listen.port)
            .to_socket_addrs()
            .map_err(|error| ListenError::Resolve(listen.clone(), error))?
            .collect();
        let bound = bind(&addresses).and_then(|listener| Ok((listener.local_addr()?, listener)));
        let (address, listener) =
            bound.map_err(|error| ListenError::Bind(listen.clone(), error))?;
        let shared = Arc::new(ServerState {
            routes,
            slots: Arc::new(ConnectionSlots::new(max_connections)),
            budget: Arc::new(Budget::new(MAX_BODY_MEMORY)),
            in_flight: Arc::default(),
            stopping: AtomicBool::new(false),
            accepted: AtomicU64::new(0),
            log_limiter: RateLimiter::default(),
        });
        let accepting = Arc::clone(&shared);
        thread::Builder::new()
            .name("accept".to_owned())
            .spawn(move || accept(&listener, &accepting))
            .map_err(ListenError::Thread)?;
        Ok(Self { address, shared })
    }

    /// The address under which this host reaches it.
    pub fn reachable_at(&self) -> SocketAddr {
        let mut address = self.address;
        if address.ip().is_unspecified() {
            address.set_ip(if address.is_ipv4() {
                Ipv4Addr::LOCALHOST.into()
            } else {
                Ipv6Addr::LOCALHOST.into()
            });
        }
        address
    }

    /// A counter of the accepted connections: it grows while the accept thread works.
    pub fn accepted(&self) -> impl Fn() -> u64 + Send + 'static {
        let shared = Arc::clone(&self.shared);
        move || shared.accepted.load(Ordering::Relaxed)
    }

    /// A check whether every slot is working, none for longer than a given time.
    pub fn is_saturated(&self) -> impl Fn(Duration) -> bool + Send + 'static {
        let slots = Arc::clone(&self.shared.slots);
        move |limit| slots.is_saturated(limit)
    }

    /// Changes the number of connections that may be open at once.
    pub fn resize(&self, max_connections: usize) {
        self.shared.slots.resize(max_connections);
    }

    /// The address on which it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops accepting, and waits for the responses to all in-flight requests, `grace` at most. Returns how many requests have
    /// got none.
    pub fn stop(self, grace: Duration) -> usize {
        let deadline = Instant::now() + grace;
        self.shared.stopping.store(true, Ordering::SeqCst);
        self.shared.slots.close_waiting();
        // Wakes the accept thread, which then closes the listener.
        let _ = TcpStream::connect_timeout(&self.reachable_at(), Duration::from_secs(1));
        self.shared.in_flight.wait_until_none(deadline)
    }
}

fn bind(addresses: &[SocketAddr]) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(addresses)?;
    // The standard library's backlog is 128; an Alertmanager may start with a burst of 500 connections.
    SockRef::from(&listener).listen(BACKLOG)?;
    Ok(listener)
}

fn accept(listener: &TcpListener, shared: &Arc<ServerState>) {
    let mut is_failing = false;
    loop {
        let accepted = listener.accept();
        if shared.stopping.load(Ordering::SeqCst) {
            return;
        }
        let result = match accepted {
            Ok((socket, peer)) => {
                shared.accepted.fetch_add(1, Ordering::Relaxed);
                let socket = Arc::new(socket);
                let slot = shared.slots.enter(&socket);
                spawn_connection(socket, peer, slot, shared)
            }
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted
                ) =>
            {
                continue;
            }
            Err(error) => Err(error),
        };
        match result {
            Ok(()) => {
                if std::mem::take(&mut is_failing) {
                    info!("accepting connections again");
                }
            }
            Err(error) => {
                // Once for a period of failures.
                if !is_failing && let Some(suppressed) = shared.log_limiter.allow() {
                    is_failing = true;
                    error!(connections = shared.slots.len(), suppressed; "cannot accept a connection: {error}; closing the longest idle one and retrying");
                }
                // It may hold the missing resource.
                shared.slots.evict_longest_idle();
                thread::sleep(ACCEPT_PAUSE);
            }
        }
    }
}

/// Serves a connection in its own thread. Where none can be created, the connection is closed, and its sender tries again.
fn spawn_connection(
    socket: Arc<TcpStream>,
    peer: SocketAddr,
    slot: SlotGuard,
    shared: &Arc<ServerState>,
) -> io::Result<()> {
    let shared = Arc::clone(shared);
    thread::Builder::new()
        .name("connection".to_owned())
        .spawn(move || {
            let _ = socket.set_nodelay(true);
            shared.handle_connection(Connection::new(socket), &peer.to_string(), &slot);
        })?;
    Ok(())
}

impl ServerState {
    fn handle_connection(&self, mut connection: Connection, peer: &str, slot: &SlotGuard) {
        let mut first_byte_timeout = HEAD_TIMEOUT;
        loop {
            let error = match connection.read_head(first_byte_timeout) {
                Ok(head) => {
                    // Only an authorized sender that has sent the whole body keeps its slot and delays a shutdown.
                    let mut in_flight = None;
                    let mut on_complete = || {
                        slot.set_working();
                        in_flight = Some(self.in_flight.enter());
                    };
                    let mut body =
                        BodyReader::new(&mut connection, &head, &self.budget, &mut on_complete);
                    let mut request = Request {
                        head: &head,
                        peer,
                        body: &mut body,
                    };
                    let response = self.routes.respond(&mut request);
                    let keep_alive = head.keep_alive
                        && body.is_finished()
                        && !self.stopping.load(Ordering::SeqCst);
                    slot.set_answering();
                    if let Err(error) =
                        connection.write(&response, keep_alive, head.method != "HEAD")
                    {
                        debug!(peer:% = peer; "cannot write the response: {error}");
                        return;
                    }
                    drop(in_flight);
                    if !keep_alive {
                        break;
                    }
                    first_byte_timeout = IDLE_TIMEOUT;
                    slot.set_waiting();
                    continue;
                }
                Err(ReadRequestError::Closed) => return,
                Err(ReadRequestError::Invalid(error)) => HttpError::RequestHead(error),
                Err(ReadRequestError::TooSlow) => HttpError::HeadTooSlow,
            };
            let response = self.routes.reject(&error, peer);
            slot.set_answering();
            if connection.write(&response, false, true).is_err() {
                return;
            }
            break;
        }
        slot.set_waiting();
        connection.close();
    }
}

/// Counts the requests that a shutdown waits for.
#[derive(Debug, Default)]
struct ActiveRequests {
    state: Mutex<InFlightState>,
    none_left: Condvar,
}

#[derive(Debug, Default)]
struct InFlightState {
    requests: usize,
    /// Whether a shutdown waits for the last one.
    is_awaited: bool,
}

/// One request, counted until it is dropped.
struct ActiveRequestGuard(Arc<ActiveRequests>);

impl ActiveRequests {
    fn enter(self: &Arc<Self>) -> ActiveRequestGuard {
        self.state.lock().requests += 1;
        ActiveRequestGuard(Arc::clone(self))
    }

    /// How many requests are left at the deadline.
    fn wait_until_none(&self, deadline: Instant) -> usize {
        let mut state = self.state.lock();
        state.is_awaited = true;
        self.none_left
            .wait_while_until(&mut state, |state| state.requests > 0, deadline);
        state.requests
    }
}

impl Drop for ActiveRequestGuard {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.requests -= 1;
        if state.is_awaited {
            self.0.none_left.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
