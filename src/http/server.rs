//! The seam around the HTTP library: accepts connections, one thread each and no more than a bounded number, and turns what
//! the library reads into [`Request`]s.
//!
//! The library's own accept loop is not used: it ends on the first error (as when file descriptors run out), makes threads
//! without bound, and dies where none can be made. Its requests are taken from connections that are accepted here.

use std::io::{self, Read};
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use log::{debug, error, warn};
use socket2::SockRef;
use tiny_http::{Header, Headers, Listener, Response, SslContextWrap, StatusCode};

use super::{Answer, Body, BodyError, Listen, Problem, Request};

/// Connections at once; who comes beyond waits in the kernel's queue until a place is free.
const MOST_CONNECTIONS: usize = 1024;

/// Without a byte for so long, a connection is closed. Longer than the 5 minutes that Alertmanager keeps an idle one: were
/// it shorter, Alertmanager would log failures.
const READ_TIMEOUT: Duration = Duration::from_mins(6);

/// A client that does not read its answer is given up.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// A pause after an accept that failed for want of something that others may give back.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Answers requests, from any thread.
pub type Handler = Arc<dyn Fn(&mut Request<'_>) -> Answer + Send + Sync>;

/// Why the server can't start.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The name has no address.
    #[error("can't resolve the listen address {0}: {1}")]
    Resolve(Listen, io::Error),
    /// The address can't be had.
    #[error("can't listen on {0}: {1}")]
    Bind(Listen, io::Error),
    /// The library refuses.
    #[error("can't set the HTTP server up: {0}")]
    Library(String),
    /// No thread.
    #[error("can't start the accepting thread: {0}")]
    Thread(io::Error),
}

/// A listening server.
pub struct Server {
    address: SocketAddr,
    ending: Arc<AtomicBool>,
    requests: Arc<Gauge>,
}

impl Server {
    /// Binds the address and begins to accept.
    pub fn start(listen: &Listen, handler: Handler) -> Result<Self, ListenError> {
        let addresses: Vec<SocketAddr> = (listen.host.as_str(), listen.port)
            .to_socket_addrs()
            .map_err(|error| ListenError::Resolve(listen.clone(), error))?
            .collect();
        let bind = || {
            let listener = TcpListener::bind(addresses.as_slice())?;
            // What is accepted inherits these from the listening socket on Linux; the library gives no access to it.
            let socket = SockRef::from(&listener);
            socket.set_read_timeout(Some(READ_TIMEOUT))?;
            socket.set_write_timeout(Some(WRITE_TIMEOUT))?;
            socket.set_tcp_nodelay(true)?;
            Ok((listener.local_addr()?, listener))
        };
        let (address, listener) = bind().map_err(|error| ListenError::Bind(listen.clone(), error))?;
        let plain =
            SslContextWrap::build_ssl_capabilities(None).map_err(|error| ListenError::Library(error.to_string()))?;
        let (ending, requests) = (Arc::new(AtomicBool::new(false)), Arc::new(Gauge::default()));
        let accept = Acceptor {
            listener: listener.into(),
            plain,
            ending: Arc::clone(&ending),
            requests: Arc::clone(&requests),
            handler,
        };
        thread::Builder::new().name("accept".to_owned()).spawn(move || accept.run()).map_err(ListenError::Thread)?;
        Ok(Self { address, ending, requests })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops accepting, and waits until every request under way has its answer, `grace` at most. False where some had not.
    pub fn stop(self, grace: Duration) -> bool {
        let deadline = Instant::now() + grace;
        self.ending.store(true, Ordering::SeqCst);
        // The accepting thread sits in accept(): a connection of our own wakes it, and it then closes the port.
        let mut address = self.address;
        if address.ip().is_unspecified() {
            address.set_ip(if address.is_ipv4() { [127, 0, 0, 1].into() } else { [0, 0, 0, 0, 0, 0, 0, 1].into() });
        }
        let _ = TcpStream::connect_timeout(&address, grace);
        self.requests.wait_until_none(deadline)
    }
}

struct Acceptor {
    listener: Listener,
    plain: SslContextWrap,
    ending: Arc<AtomicBool>,
    requests: Arc<Gauge>,
    handler: Handler,
}

impl Acceptor {
    fn run(self) {
        let connections = Arc::new(Gauge::default());
        while !self.ending.load(Ordering::SeqCst) {
            let place = connections.enter(MOST_CONNECTIONS);
            // The library panics where it can't duplicate the socket's descriptor.
            let accepted =
                catch_unwind(AssertUnwindSafe(|| tiny_http::Server::accept_connection(&self.listener, &self.plain)));
            if self.ending.load(Ordering::SeqCst) {
                return;
            }
            let connection = match accepted {
                Ok(Ok(Some(connection))) => connection,
                Ok(Ok(None)) => continue,
                Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                Ok(Err(error)) => {
                    warn!("can't accept a connection: {error}");
                    thread::sleep(ACCEPT_PAUSE);
                    continue;
                }
                Err(_) => {
                    warn!("can't accept a connection: the HTTP library panicked");
                    thread::sleep(ACCEPT_PAUSE);
                    continue;
                }
            };
            let (handler, requests) = (Arc::clone(&self.handler), Arc::clone(&self.requests));
            let serve = move || {
                let _place = place;
                for request in connection {
                    match request {
                        Ok(request) => {
                            let _under_way = requests.enter(usize::MAX);
                            respond(request, &handler);
                        }
                        Err(error) => debug!("a connection ended: {error}"),
                    }
                }
            };
            if let Err(error) = thread::Builder::new().name("connection".to_owned()).spawn(serve) {
                warn!("can't serve a connection: no thread: {error}");
                thread::sleep(ACCEPT_PAUSE);
            }
        }
    }
}

fn respond(mut request: tiny_http::Request, handler: &Handler) {
    let method = request.method().as_str().to_owned();
    let target = request.url().to_owned();
    let authorization = request.headers().get("Authorization").map(|value| value.as_str().to_string());
    let peer = request.remote_addr().map_or_else(String::new, ToString::to_string);
    let mut seen = Request {
        method: &method,
        target: &target,
        authorization: authorization.as_deref(),
        peer: &peer,
        body: &mut request,
    };
    let answer = catch_unwind(AssertUnwindSafe(|| handler(&mut seen))).unwrap_or_else(|_| {
        error!("answering a request panicked");
        Problem::Internal.answer()
    });
    if let Err(error) = request.respond(response(answer)) {
        debug!(peer:% = peer; "the answer could not be written: {error}");
    }
}

fn response(answer: Answer) -> Response<io::Cursor<Vec<u8>>> {
    let body = answer.body.into_bytes();
    let length = body.len();
    let every = [("Content-Type", "application/json"), ("Server", env!("CARGO_PKG_NAME"))];
    let headers: Vec<Header> = every
        .into_iter()
        .chain(answer.headers)
        .filter_map(|(name, value)| Header::from_str(name, value).ok())
        .collect();
    Response::new(StatusCode(answer.status), Headers::from(headers), io::Cursor::new(body), Some(length), None)
        .with_chunked_threshold(usize::MAX)
}

impl Body for tiny_http::Request {
    fn read(&mut self, limit: usize) -> Result<Vec<u8>, BodyError> {
        if self.body_length().is_some_and(|length| length > limit) {
            return Err(BodyError::TooLong(limit));
        }
        let expected = self.body_length();
        let mut body = Vec::new();
        let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
        self.as_reader().take(most).read_to_end(&mut body).map_err(BodyError::Incomplete)?;
        if body.len() > limit {
            return Err(BodyError::TooLong(limit));
        }
        if expected.is_some_and(|expected| body.len() < expected) {
            return Err(BodyError::Incomplete(io::ErrorKind::UnexpectedEof.into()));
        }
        Ok(body)
    }
}

/// Counts what is there at once.
#[derive(Debug, Default)]
struct Gauge {
    count: Mutex<usize>,
    changed: Condvar,
}

/// One place of a gauge; given back when dropped.
struct Place(Arc<Gauge>);

impl Gauge {
    /// Waits while there are `most`, and takes a place.
    fn enter(self: &Arc<Self>, most: usize) -> Place {
        let count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        let mut count = self.changed.wait_while(count, |count| *count >= most).unwrap_or_else(PoisonError::into_inner);
        *count += 1;
        Place(Arc::clone(self))
    }

    fn wait_until_none(&self, deadline: Instant) -> bool {
        let count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        let left = deadline.saturating_duration_since(Instant::now());
        let (count, _) =
            self.changed.wait_timeout_while(count, left, |count| *count > 0).unwrap_or_else(PoisonError::into_inner);
        *count == 0
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        *self.0.count.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.0.changed.notify_all();
    }
}
