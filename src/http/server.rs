//! The server: accepts connections, a bounded number of them, one thread each, and turns what they send into [`Request`]s.
//!
//! Blocking, and bounded in everything that a sender chooses: connections, a head's length and time, a body's length and time,
//! all bodies together. Nothing that a sender does ends the accepting thread.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use log::{debug, error, info};
use socket2::SockRef;

use super::budget::Budget;
use super::connection::{Connection, HEAD_LIMIT, ReadRequestError};
use super::slots::{ConnectionSlots, SlotGuard};
use super::{HttpError, ListenAddress, Request, Response};
use crate::logging::RateLimiter;

/// An idle connection is kept so long, unless somebody else needs its slot. Longer than the 5 minutes for which Alertmanager keeps
/// one: were it shorter, Alertmanager would log failures.
const IDLE_LIMIT: Duration = Duration::from_mins(6);

/// So many connections may wait to be accepted: as many as the administrator allows (`net.core.somaxconn`). The kernel takes the
/// lower of both, and has those above it try again after a second.
const BACKLOG: i32 = i32::MAX;

/// A pause after an accept that failed for want of something that others may give back.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// For bodies, all senders together, besides the first 64 KiB of each.
const BODIES_BYTES: usize = 64 << 20;

/// Answers requests, from any thread.
pub trait Handler: Send + Sync {
    /// The answer to a request. A panic would cost its connection, and leave it without an answer.
    fn answer(&self, request: &mut Request<'_>) -> Response;

    /// The answer to something that is no request.
    fn refuse(&self, problem: &HttpError, peer: &str) -> Response;
}

/// Why the server can't start.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The name has no address.
    #[error("can't resolve the listen address {0}: {1}")]
    Resolve(ListenAddress, io::Error),
    /// The address can't be had.
    #[error("can't listen on {0}: {1}")]
    Bind(ListenAddress, io::Error),
    /// No thread.
    #[error("can't start the accepting thread: {0}")]
    Thread(io::Error),
}

/// A listening server.
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
}

/// What the accepting thread and those of the connections share.
struct Shared {
    handler: Arc<dyn Handler>,
    slots: Arc<ConnectionSlots>,
    budget: Arc<Budget>,
    requests: Arc<ActiveRequests>,
    ending: AtomicBool,
    accepted: AtomicU64,
    /// For log lines that anybody can cause.
    troubles: RateLimiter,
}

impl Server {
    /// Binds the address and begins to accept, so many connections at once.
    pub fn start(
        listen: &ListenAddress,
        most_connections: usize,
        handler: Arc<dyn Handler>,
    ) -> Result<Self, ListenError> {
        let addresses: Vec<SocketAddr> = (listen.host.as_str(), listen.port)
            .to_socket_addrs()
            .map_err(|error| ListenError::Resolve(listen.clone(), error))?
            .collect();
        let bound = bind(&addresses).and_then(|listener| Ok((listener.local_addr()?, listener)));
        let (address, listener) =
            bound.map_err(|error| ListenError::Bind(listen.clone(), error))?;
        let shared = Arc::new(Shared {
            handler,
            slots: Arc::new(ConnectionSlots::new(most_connections)),
            budget: Arc::new(Budget::new(BODIES_BYTES)),
            requests: Arc::default(),
            ending: AtomicBool::new(false),
            accepted: AtomicU64::new(0),
            troubles: RateLimiter::default(),
        });
        let accepting = Arc::clone(&shared);
        thread::Builder::new()
            .name("accept".to_owned())
            .spawn(move || accept(&listener, &accepting))
            .map_err(ListenError::Thread)?;
        Ok(Self { address, shared })
    }

    /// Where this host reaches it.
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

    /// How many connections have been accepted so far: it grows as long as the accepting thread does its work.
    pub fn accepted(&self) -> impl Fn() -> u64 + Send + 'static {
        let shared = Arc::clone(&self.shared);
        move || shared.accepted.load(Ordering::Relaxed)
    }

    /// Whether every connection that it may have is being worked on, none for longer than a given time.
    pub fn is_saturated(&self) -> impl Fn(Duration) -> bool + Send + 'static {
        let slots = Arc::clone(&self.shared.slots);
        move |limit| slots.are_saturated(limit)
    }

    /// From here on it takes so many connections at once.
    pub fn resize(&self, most_connections: usize) {
        self.shared.slots.resize(most_connections);
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops accepting, and waits until every request under way has its answer, `grace` at most. False where some had not.
    pub fn stop(self, grace: Duration) -> bool {
        let deadline = Instant::now() + grace;
        self.shared.ending.store(true, Ordering::SeqCst);
        self.shared.slots.close_waiting();
        // The accepting thread sits in accept(): a connection of our own wakes it, and it then closes the port.
        let _ = TcpStream::connect_timeout(&self.reachable_at(), Duration::from_secs(1));
        self.shared.requests.wait_until_none(deadline)
    }
}

fn bind(addresses: &[SocketAddr]) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(addresses)?;
    // The standard library lets 128 connections wait; a burst of 500 is what an Alertmanager may well begin with.
    SockRef::from(&listener).listen(BACKLOG)?;
    Ok(listener)
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    let mut in_trouble = false;
    loop {
        let accepted = listener.accept();
        if shared.ending.load(Ordering::SeqCst) {
            return;
        }
        let result = match accepted {
            Ok((socket, peer)) => {
                shared.accepted.fetch_add(1, Ordering::Relaxed);
                let socket = Arc::new(socket);
                let slot = shared.slots.enter(&socket);
                serve_in_a_thread(socket, peer, slot, shared)
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
                if std::mem::take(&mut in_trouble) {
                    info!("connections are accepted again");
                }
            }
            Err(error) => {
                // Told when it begins, and not for each of many short troubles.
                if !in_trouble && shared.troubles.allow().is_some() {
                    in_trouble = true;
                    error!(
                        "can't take a connection: {error}; the slowest one is closed, and it is tried again"
                    );
                }
                // It may hold what is needed: a file descriptor, a thread.
                shared.slots.evict_longest_idle();
                thread::sleep(ACCEPT_PAUSE);
            }
        }
    }
}

fn serve_in_a_thread(
    socket: Arc<TcpStream>,
    peer: SocketAddr,
    slot: SlotGuard,
    shared: &Arc<Shared>,
) -> io::Result<()> {
    let shared = Arc::clone(shared);
    // Where there is no thread, dropping the socket closes the connection, and its sender tries again.
    thread::Builder::new()
        .name("connection".to_owned())
        .spawn(move || {
            let _ = socket.set_nodelay(true);
            shared.serve(Connection::new(socket), &peer.to_string(), &slot);
        })?;
    Ok(())
}

impl Shared {
    fn serve(&self, mut connection: Connection, peer: &str, slot: &SlotGuard) {
        let mut first_byte_timeout = HEAD_LIMIT;
        loop {
            let problem = match connection.read_head(first_byte_timeout) {
                Ok(head) => {
                    // Only who has shown the token, and sent all of a body, keeps its slot and holds up the end.
                    let mut under_way = None;
                    let mut whole = || {
                        slot.works();
                        under_way = Some(self.requests.enter());
                    };
                    let mut body = connection.body(&head, &self.budget, &mut whole);
                    let mut request = Request {
                        method: &head.method,
                        target: &head.target,
                        authorization: head.authorization.as_deref(),
                        accepts_openmetrics: head.accepts_openmetrics,
                        peer,
                        body: &mut body,
                    };
                    let answer = self.handler.answer(&mut request);
                    let keep_alive =
                        head.keep_alive && body.is_over() && !self.ending.load(Ordering::SeqCst);
                    slot.answers();
                    if let Err(error) = connection.write(&answer, keep_alive, head.method != "HEAD")
                    {
                        debug!(peer:% = peer; "the answer could not be written: {error}");
                        return;
                    }
                    drop(under_way);
                    if !keep_alive {
                        break;
                    }
                    first_byte_timeout = IDLE_LIMIT;
                    slot.waits();
                    continue;
                }
                Err(ReadRequestError::Ended) => return,
                Err(ReadRequestError::Refused(error)) => HttpError::RequestHead(error),
                Err(ReadRequestError::TooSlow) => HttpError::HeadTooSlow,
            };
            let answer = self.handler.refuse(&problem, peer);
            slot.answers();
            if connection.write(&answer, false, true).is_err() {
                return;
            }
            break;
        }
        slot.waits();
        connection.close();
    }
}

/// Counts the requests under way.
#[derive(Debug, Default)]
struct ActiveRequests {
    state: Mutex<Count>,
    none: Condvar,
}

#[derive(Debug, Default)]
struct Count {
    under_way: usize,
    /// Whether somebody waits for the last one: at the end alone.
    awaited: bool,
}

/// One request under way.
struct ActiveRequest(Arc<ActiveRequests>);

impl ActiveRequests {
    fn enter(self: &Arc<Self>) -> ActiveRequest {
        self.lock().under_way += 1;
        ActiveRequest(Arc::clone(self))
    }

    fn wait_until_none(&self, deadline: Instant) -> bool {
        let mut count = self.lock();
        count.awaited = true;
        let left = deadline.saturating_duration_since(Instant::now());
        let some = |count: &mut Count| count.under_way > 0;
        let (count, _) = self
            .none
            .wait_timeout_while(count, left, some)
            .unwrap_or_else(PoisonError::into_inner);
        count.under_way == 0
    }

    fn lock(&self) -> MutexGuard<'_, Count> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        let mut count = self.0.lock();
        count.under_way -= 1;
        let awaited = count.awaited;
        drop(count);
        if awaited {
            self.0.none.notify_all();
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
        // Nobody accepts them: one too many would never get through.
        let connect = |_| TcpStream::connect_timeout(&address, Duration::from_secs(10)).unwrap();
        let _held: Vec<TcpStream> = (0..allowed.min(500)).map(connect).collect();
    }
}
