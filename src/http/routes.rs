//! Which request gets which answer.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock};
use std::time::Instant;

use jiff::Timestamp;
use log::{debug, warn};

use super::{Answer, BodyError, Problem, Request, Settings, auth};
use crate::bridge::{BridgeError, Outlet, Prepared};
use crate::logging::{Throttle, shorten};
use crate::mapping::Mapping;

/// A body above this is a large one.
const LARGE_BYTES: usize = 256 << 10;

/// What a configuration makes of the answers. A request has the same from its beginning to its end.
pub struct Setup {
    /// The sender's side.
    pub settings: Settings,
    /// The rules.
    pub mapping: Mapping,
    /// Where events go. A publisher ends when the last request that uses it has its answer.
    pub outlet: Arc<Outlet>,
}

/// Everything that an answer depends on.
pub struct Routes {
    setup: RwLock<Arc<Setup>>,
    stopping: AtomicBool,
    large: Turn,
    /// For log lines that anybody can cause.
    refusals: Throttle,
}

impl Routes {
    /// Puts the rooms together.
    pub fn new(setup: Setup) -> Self {
        Self {
            setup: RwLock::new(Arc::new(setup)),
            stopping: AtomicBool::new(false),
            large: Turn::default(),
            refusals: Throttle::default(),
        }
    }

    /// What counts for a request that begins now.
    pub fn setup(&self) -> Arc<Setup> {
        Arc::clone(&self.setup.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// From here on requests begin with another setup; those under way end with the one they have.
    pub fn replace(&self, setup: Setup) {
        *self.setup.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(setup);
    }

    /// From here on notifications are refused with 503: the process is about to end.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
    }

    /// Answers a request.
    pub fn answer(&self, request: &mut Request<'_>) -> Answer {
        let started = Instant::now();
        let answer = self.route(request).unwrap_or_else(|problem| {
            self.log(request, &problem);
            problem.answer()
        });
        let milliseconds = started.elapsed().as_millis();
        debug!(
            peer:% = request.peer, method:% = shorten(request.method), path:% = shorten(path(request)), status = answer.status, milliseconds;
            "request"
        );
        answer
    }

    fn log(&self, request: &Request<'_>, problem: &Problem) {
        let from_anybody = match problem {
            Problem::NotReady(_) => return,
            Problem::NotFound | Problem::NotAnAlertmanager | Problem::Method(_) | Problem::Unauthorized => true,
            _ => false,
        };
        let unlogged = if from_anybody { self.refusals.allow() } else { Some(0) };
        if let Some(unlogged) = unlogged {
            let (method, path, status) = (shorten(request.method), shorten(path(request)), problem.answer().status);
            warn!(peer:% = request.peer, method:% = method, path:% = path, status, unlogged; "{problem}");
        }
    }

    fn route(&self, request: &mut Request<'_>) -> Result<Answer, Problem> {
        let setup = self.setup();
        match path(request) {
            "/webhook" => {
                if request.method != "POST" {
                    return Err(Problem::Method("POST"));
                }
                if !auth::is_authorized(request.authorization, &setup.settings.tokens) {
                    return Err(Problem::Unauthorized);
                }
                self.webhook(&setup, request)
            }
            "/-/healthy" => read_only(request).map(|()| Answer::ok("healthy")),
            "/-/ready" => {
                read_only(request)?;
                let in_detail = auth::is_authorized(request.authorization, &setup.settings.tokens);
                setup.outlet.readiness(in_detail).map_err(Problem::NotReady).map(|()| Answer::ok("ready"))
            }
            path if path.ends_with("/api/v2/alerts") || path.ends_with("/api/v1/alerts") => {
                Err(Problem::NotAnAlertmanager)
            }
            _ => Err(Problem::NotFound),
        }
    }

    fn webhook(&self, setup: &Setup, request: &mut Request<'_>) -> Result<Answer, Problem> {
        if self.stopping.load(Ordering::SeqCst) {
            return Err(Problem::Stopping);
        }
        let body = request.body.read(setup.settings.max_body_bytes)?;
        debug!(peer:% = request.peer, bytes = body.len(); "notification received");
        let deadline = Instant::now() + setup.settings.answer_timeout;
        let received_at = Timestamp::now().to_string();
        let prepared = {
            // Decoding takes several times the body's memory: the large ones take turns.
            let _turn =
                if body.len() > LARGE_BYTES { Some(self.large.take(deadline).ok_or(BodyError::Busy)?) } else { None };
            Prepared::from_body(&setup.mapping, &body, &received_at, deadline)?
        };
        drop(body);
        let outcome = prepared.deliver(&setup.outlet, deadline)?;
        debug!(published = outcome.published, refused = outcome.refused.len(); "notification");
        Ok(Answer::of(&outcome))
    }
}

/// One at a time.
#[derive(Debug, Default)]
struct Turn {
    taken: Mutex<bool>,
    free: Condvar,
}

impl Turn {
    /// Waits for the turn until the deadline.
    fn take(&self, deadline: Instant) -> Option<TurnTaken<'_>> {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let left = deadline.saturating_duration_since(Instant::now());
        let (mut taken, timeout) =
            self.free.wait_timeout_while(taken, left, |taken| *taken).unwrap_or_else(PoisonError::into_inner);
        if timeout.timed_out() {
            return None;
        }
        *taken = true;
        Some(TurnTaken(self))
    }
}

struct TurnTaken<'t>(&'t Turn);

impl Drop for TurnTaken<'_> {
    fn drop(&mut self) {
        *self.0.taken.lock().unwrap_or_else(PoisonError::into_inner) = false;
        self.0.free.notify_one();
    }
}

/// The target without its query.
fn path<'r>(request: &Request<'r>) -> &'r str {
    request.target.split(['?', '#']).next().unwrap_or_default()
}

fn read_only(request: &Request<'_>) -> Result<(), Problem> {
    if matches!(request.method, "GET" | "HEAD") { Ok(()) } else { Err(Problem::Method("GET, HEAD")) }
}

impl From<BridgeError> for Problem {
    fn from(error: BridgeError) -> Self {
        match error {
            BridgeError::Decode(error) => Self::Decode(error),
            BridgeError::Delivery(error) => Self::Delivery(error),
        }
    }
}
