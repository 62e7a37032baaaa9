//! Which request gets which answer.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock};
use std::thread;
use std::time::{Instant, SystemTime};

use jiff::Timestamp;
use log::{debug, error, trace, warn};

use super::server::Handler;
use super::{BodyError, HttpError, Request, Response, Settings, auth};
use crate::logging::{RateLimiter, shorten};
use crate::mapping::Mapping;
use crate::metrics::{Exposition, Metrics};
use crate::pipeline::{EncodedNotification, EventSink, MappingReporter, PipelineError};

/// A body above this is a large one: one at a time is decoded and mapped, which may take thirty times its length.
const LARGE_BYTES: usize = 256 << 10;

/// Of bodies above this, a few are decoded and mapped at a time. A smaller one is done before another thread has its turn.
const MIDDLE_BYTES: usize = 16 << 10;

/// So many, or as many as there are processors.
const MIDDLE_TURNS: usize = 4;

/// What a configuration makes of the answers. A request has the same from its beginning to its end.
pub struct Runtime {
    /// The sender's side.
    pub settings: Settings,
    /// The rules.
    pub mapping: Mapping,
    /// Where events go. A publisher ends when the last request that uses it has its answer.
    pub sink: Arc<EventSink>,
}

/// Has the configuration read again.
pub type Reload = Box<dyn Fn() -> Result<(), ReloadError> + Send + Sync>;

/// Why a reload is not done.
#[derive(Debug, PartialEq, Eq)]
pub enum ReloadError {
    /// The configuration is faulty: each error is a line.
    Refused(Vec<String>),
    /// It takes long, or the connector is stopping.
    Unfinished,
}

/// Everything that an answer depends on.
pub struct Routes {
    runtime: RwLock<Arc<Runtime>>,
    metrics: Metrics,
    reporter: MappingReporter,
    reload: Reload,
    stopping: AtomicBool,
    large: Semaphore,
    middle: Semaphore,
    /// For log lines that anybody can cause.
    refusals: RateLimiter,
    ids: Ids,
}

impl Routes {
    /// Puts the rooms together.
    pub fn new(runtime: Runtime, metrics: Metrics, reload: Reload) -> Self {
        let reporter = MappingReporter::new(metrics.alerts.clone());
        reporter.preregister(&runtime.mapping);
        Self {
            runtime: RwLock::new(Arc::new(runtime)),
            reporter,
            metrics,
            reload,
            stopping: AtomicBool::new(false),
            large: Semaphore::new(1),
            middle: Semaphore::new(
                thread::available_parallelism().map_or(MIDDLE_TURNS, |n| n.get().max(MIDDLE_TURNS)),
            ),
            refusals: RateLimiter::default(),
            ids: Ids::new(),
        }
    }

    /// What counts for a request that begins now.
    pub fn runtime(&self) -> Arc<Runtime> {
        Arc::clone(&self.runtime.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// From here on requests begin with another runtime; those under way end with the one they have.
    pub fn replace(&self, runtime: Runtime) {
        self.reporter.preregister(&runtime.mapping);
        *self.runtime.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(runtime);
    }

    /// From here on notifications are refused with 503: the process is about to end.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
    }

    fn log(&self, request: &Request<'_>, problem: &HttpError, id: &str) {
        let from_anybody = match problem {
            HttpError::NotReady(_) => return,
            HttpError::NotFound
            | HttpError::NotAnAlertmanager
            | HttpError::Method(_)
            | HttpError::Unauthorized => true,
            _ => false,
        };
        let unlogged = if from_anybody {
            self.refusals.allow()
        } else {
            Some(0)
        };
        if let Some(unlogged) = unlogged {
            let (method, path, status) = (
                shorten(request.method),
                shorten(path(request)),
                problem.status(),
            );
            warn!(request = id, peer:% = request.peer, method:% = method, path:% = path, status, unlogged; "{problem}");
        }
    }

    fn route(&self, request: &mut Request<'_>, id: &str) -> Result<Response, HttpError> {
        let runtime = self.runtime();
        let authorized = auth::is_authorized(request.authorization, &runtime.settings.tokens);
        let with_token = || {
            if authorized {
                Ok(())
            } else {
                Err(HttpError::Unauthorized)
            }
        };
        match path(request) {
            "/webhook" => {
                require_method(request, &["POST"])?;
                with_token()?;
                self.webhook(&runtime, request, id)
            }
            "/-/healthy" => require_method(request, READ).map(|()| Response::ok("healthy")),
            "/-/ready" => {
                require_method(request, READ)?;
                runtime
                    .sink
                    .readiness(authorized)
                    .map_err(HttpError::NotReady)
                    .map(|()| Response::ok("ready"))
            }
            "/-/reload" => {
                require_method(request, &["POST"])?;
                with_token()?;
                (self.reload)()
                    .map_err(HttpError::from)
                    .map(|()| Response::ok("reloaded"))
            }
            "/metrics" => {
                require_method(request, READ)?;
                let exposition = if request.accepts_openmetrics {
                    Exposition::OpenMetrics
                } else {
                    Exposition::Text
                };
                let page = self.metrics.expose(runtime.sink.now(), exposition);
                Ok(Response::page(page, exposition.content_type()))
            }
            path if path.ends_with("/api/v2/alerts") || path.ends_with("/api/v1/alerts") => {
                Err(HttpError::NotAnAlertmanager)
            }
            _ => Err(HttpError::NotFound),
        }
    }

    fn webhook(
        &self,
        runtime: &Runtime,
        request: &mut Request<'_>,
        id: &str,
    ) -> Result<Response, HttpError> {
        if self.stopping.load(Ordering::SeqCst) {
            return Err(HttpError::Stopping);
        }
        let body = request.body.read(runtime.settings.max_body_bytes)?;
        debug!(request = id, peer:% = request.peer, bytes = body.len(); "notification received");
        trace!("notification body: {}", String::from_utf8_lossy(&body));
        let deadline = Instant::now() + runtime.settings.answer_timeout;
        let received_at = Timestamp::now();
        let prepared = {
            let turns = if body.len() > LARGE_BYTES {
                &self.large
            } else {
                &self.middle
            };
            let is_small = body.len() <= MIDDLE_BYTES;
            let _turn = if is_small {
                None
            } else {
                Some(turns.take(deadline).ok_or(BodyError::Busy)?)
            };
            EncodedNotification::from_body(
                &runtime.mapping,
                &self.reporter,
                &body,
                received_at,
                deadline,
            )?
        };
        drop(body);
        let outcome = prepared.deliver(&runtime.sink, deadline)?;
        debug!(request = id, published = outcome.published, refused = outcome.refused.count; "notification");
        Ok(Response::of(&outcome))
    }
}

impl Handler for Routes {
    fn answer(&self, request: &mut Request<'_>) -> Response {
        let (started, id) = (Instant::now(), self.ids.next());
        let routed = catch_unwind(AssertUnwindSafe(|| {
            self.route(request, &id).unwrap_or_else(|problem| {
                self.log(request, &problem, &id);
                problem.answer()
            })
        }));
        let mut answer = routed.unwrap_or_else(|_| {
            error!(request = id, peer:% = request.peer, path:% = shorten(path(request)); "answering a request panicked: a defect");
            HttpError::Internal.answer()
        });
        let elapsed = started.elapsed();
        self.metrics
            .http
            .answered(label(path(request)), answer.status, elapsed);
        debug!(
            request = id, peer:% = request.peer, method:% = shorten(request.method), path:% = shorten(path(request)),
            status = answer.status, milliseconds = elapsed.as_millis();
            "request"
        );
        answer.headers.push(("X-Request-Id", id.into()));
        answer
    }

    fn refuse(&self, problem: &HttpError, peer: &str) -> Response {
        let (mut answer, id) = (problem.answer(), self.ids.next());
        self.metrics.http.refused(answer.status);
        if let Some(unlogged) = self.refusals.allow() {
            warn!(request = id, peer:% = peer, status = answer.status, unlogged; "{problem}");
        }
        debug!(request = id, peer:% = peer, status = answer.status; "request");
        answer.headers.push(("X-Request-Id", id.into()));
        answer
    }
}

/// The routes, as a label of metrics: a sender must not be able to make up values.
const ROUTES: [&str; 5] = [
    "/webhook",
    "/-/healthy",
    "/-/ready",
    "/-/reload",
    "/metrics",
];

fn label(path: &str) -> &'static str {
    ROUTES
        .into_iter()
        .find(|route| *route == path)
        .unwrap_or("other")
}

/// Numbers requests, uniquely among all runs of the connector as far as anybody is concerned who reads a log.
struct Ids {
    run: u32,
    next: AtomicU64,
}

impl Ids {
    fn new() -> Self {
        let nanoseconds = SystemTime::UNIX_EPOCH
            .elapsed()
            .unwrap_or_default()
            .as_nanos();
        // The lower bits are the ones that differ.
        let run = u32::try_from(nanoseconds / 1000 % u128::from(u32::MAX)).unwrap_or_default();
        Self {
            run,
            next: AtomicU64::new(1),
        }
    }

    fn next(&self) -> String {
        format!(
            "{:08x}-{}",
            self.run,
            self.next.fetch_add(1, Ordering::Relaxed)
        )
    }
}

/// So many at a time.
#[derive(Debug)]
struct Semaphore {
    free: Mutex<usize>,
    freed: Condvar,
}

impl Semaphore {
    fn new(turns: usize) -> Self {
        Self {
            free: Mutex::new(turns),
            freed: Condvar::new(),
        }
    }

    /// Waits for a turn until the deadline.
    fn take(&self, deadline: Instant) -> Option<Permit<'_>> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let left = deadline.saturating_duration_since(Instant::now());
        let none = |free: &mut usize| *free == 0;
        let mut free = self
            .freed
            .wait_timeout_while(free, left, none)
            .unwrap_or_else(PoisonError::into_inner)
            .0;
        *free = free.checked_sub(1)?;
        Some(Permit(self))
    }
}

struct Permit<'t>(&'t Semaphore);

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.freed.notify_one();
    }
}

/// The target without its query.
fn path<'r>(request: &Request<'r>) -> &'r str {
    request.target.split(['?', '#']).next().unwrap_or_default()
}

const READ: &[&str] = &["GET", "HEAD"];

fn require_method(
    request: &Request<'_>,
    methods: &'static [&'static str],
) -> Result<(), HttpError> {
    if methods.contains(&request.method) {
        Ok(())
    } else {
        Err(HttpError::Method(methods))
    }
}

impl From<ReloadError> for HttpError {
    fn from(why: ReloadError) -> Self {
        match why {
            ReloadError::Refused(reasons) => Self::Reload(reasons),
            ReloadError::Unfinished => Self::StillReloading,
        }
    }
}

impl From<PipelineError> for HttpError {
    fn from(error: PipelineError) -> Self {
        match error {
            PipelineError::Decode(error) => Self::Decode(error),
            PipelineError::TooLarge(_) => Self::EventsTooLarge(error.to_string()),
            PipelineError::Delivery(error) => Self::Delivery(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::config::{Config, Overrides};
    use crate::http::Body;
    use crate::http::budget::BodyBytes;

    struct Explosive;

    impl Body for Explosive {
        fn read(&mut self, _: usize) -> Result<BodyBytes, BodyError> {
            panic!("as the test wants it");
        }
    }

    #[test]
    fn a_panic_is_an_answer_and_each_answer_has_an_id() {
        let text = "http: {bearer_token: t}\nconnector: c\nconnector_name: n\ncomponent: x\nresource: r\nstate: 1\n";
        let path = std::path::Path::new("test.yml");
        let config =
            Config::from_text(text.to_owned(), path, &Overrides::default(), &|_| None).unwrap();
        let sink = Arc::new(EventSink::Stream(Mutex::new(Box::new(std::io::sink()))));
        let runtime = Runtime {
            settings: config.http,
            mapping: config.mapping,
            sink,
        };
        let routes = Routes::new(runtime, Metrics::new(), Box::new(|| Ok(())));
        let answer = |method, target| {
            routes.answer(&mut Request {
                method,
                target,
                authorization: Some("Bearer t"),
                accepts_openmetrics: false,
                peer: "somebody",
                body: &mut Explosive,
            })
        };
        let answers = [
            answer("POST", "/webhook"),
            answer("GET", "/-/healthy"),
            answer("GET", "/nothing"),
            routes.refuse(&HttpError::HeadTooSlow, "somebody"),
        ];
        assert_eq!(
            answers.each_ref().map(|answer| answer.status),
            [500, 200, 404, 408]
        );
        let headers = answers.iter().flat_map(|answer| &answer.headers);
        let ids: HashSet<_> = headers
            .filter(|(name, _)| *name == "X-Request-Id")
            .map(|(_, id)| id.clone())
            .collect();
        assert_eq!(ids.len(), answers.len(), "{ids:?}");
    }
}
