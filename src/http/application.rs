//! Answers each request: who may send it, and what happens then.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use jiff::Timestamp;
use log::{debug, error, info, trace, warn};
use parking_lot::RwLock;

use super::connection::Connection;
use super::permits::MappingPermits;
use super::request::RequestHead;
use super::response::LogLimit;
use super::routes::{self, Action, Route};
use super::slots::SlotUsage;
use super::{HandshakeError, HttpError, Response, ServerSettings, Unauthorized, auth};
use crate::logging::{LogLimiter, LogRate};
use crate::mapping::Mapping;
use crate::memory::Budget;
use crate::metrics::{self, Metrics};
use crate::pipeline::{EncodedNotification, EventSink, MappingReporter};
use crate::publisher::AnswerTimeout;
use crate::text::shorten;

/// The most time from a body to its response, however steadily RabbitMQ confirms: the upper limit of `http.answer_timeout`.
const MAX_ANSWER_TIME: Duration = Duration::from_mins(1);

/// What the configuration in use provides. A request uses the same one from its start to its end.
pub struct ActiveConfig {
    /// The settings of the server.
    pub settings: ServerSettings,
    /// The rules.
    pub mapping: Mapping,
}

/// Reloads the configuration, and waits for the result.
pub type Reload = Box<dyn Fn() -> Result<(), HttpError> + Send + Sync>;

/// Everything that responses depend on.
pub struct Application {
    config: RwLock<Arc<ActiveConfig>>,
    /// Where events go.
    pub sink: EventSink,
    /// What is counted, of all modules.
    pub metrics: Metrics,
    reporter: MappingReporter,
    reload: Reload,
    is_stopping: AtomicBool,
    budget: Arc<Budget>,
    permits: MappingPermits,
    log_limiter: LogLimiter,
    /// The start of each request's id, so that a log with two runs of the program is unambiguous.
    run: u32,
    requests: AtomicU64,
}

impl Application {
    /// Starts with a configuration.
    pub fn new(
        config: ActiveConfig,
        sink: EventSink,
        metrics: Metrics,
        budget: Arc<Budget>,
        reload: Reload,
    ) -> Self {
        let started = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        let new = Self {
            reporter: MappingReporter::new(metrics.alerts.clone()),
            config: RwLock::new(Arc::new(config)),
            sink,
            metrics,
            reload,
            is_stopping: AtomicBool::new(false),
            budget,
            permits: MappingPermits::new(),
            log_limiter: LogLimiter::default(),
            // The part of the time that differs most.
            run: started.subsec_nanos(),
            requests: AtomicU64::new(0),
        };
        new.preregister(&new.config());
        new
    }

    /// Starts the counts of what a configuration names at 0.
    fn preregister(&self, config: &ActiveConfig) {
        self.reporter.preregister(&config.mapping);
        self.metrics.http.preregister(config.settings.tokens.len());
    }

    /// The configuration for a request that starts now.
    pub fn config(&self) -> Arc<ActiveConfig> {
        Arc::clone(&self.config.read())
    }

    /// Changes the configuration for requests that start from now on.
    pub fn replace(&self, config: ActiveConfig) {
        self.preregister(&config);
        *self.config.write() = Arc::new(config);
    }

    /// Refuses notifications from now on with 503, because the process is shutting down.
    pub fn stop(&self) {
        self.is_stopping.store(true, Ordering::SeqCst);
    }

    /// Whether the process is shutting down.
    pub fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::SeqCst)
    }

    /// Identifies a request in the log and in its response.
    fn next_id(&self) -> String {
        let number = 1 + self.requests.fetch_add(1, Ordering::Relaxed);
        format!("{:08x}-{number}", self.run)
    }

    /// Responds to a request. A panic becomes a 500: it must not leave the sender without a response.
    pub fn respond(&self, head: &RequestHead, connection: &mut Connection) -> Response {
        let (started, id, peer) = (Instant::now(), self.next_id(), connection.peer);
        let route = routes::find(&head.path);
        let routed = catch_unwind(AssertUnwindSafe(|| {
            let routed = self.route(head, connection, route, &id);
            routed.unwrap_or_else(|error| {
                self.log(head, peer, &error, &id);
                error.response()
            })
        }));
        let mut response = routed.unwrap_or_else(|_| {
            error!(request = id, peer:% = peer, path:% = shorten(&head.path); "internal error: request handler panicked (please report)");
            HttpError::Internal.response()
        });
        let (status, elapsed) = (response.status, started.elapsed());
        let route = route.map_or("other", |(path, ..)| path);
        self.metrics.http.answered(route, status, Some(elapsed));
        debug!(
            request = id, peer:% = peer, method:% = shorten(&head.method), path:% = shorten(&head.path),
            status, milliseconds = elapsed.as_millis();
            "request"
        );
        response.headers.push(("X-Request-Id", id.into()));
        response
    }

    /// Responds to input that is not a request.
    pub fn reject(&self, error: &HttpError, peer: SocketAddr) -> Response {
        let (mut response, id) = (error.response(), self.next_id());
        let (status, log_limit) = error.classify();
        self.metrics.http.answered("other", status, None);
        if let Some(suppressed) = self.is_allowed(log_limit) {
            warn!(request = id, peer:% = peer, status, suppressed; "{error}");
        }
        debug!(request = id, peer:% = peer, status; "request");
        response.headers.push(("X-Request-Id", id.into()));
        response
    }

    /// Counts and logs a failed TLS handshake.
    pub fn handshake_failed(&self, error: &HandshakeError, peer: SocketAddr) {
        self.metrics.http.handshake_failures.add(1);
        if let Some(suppressed) = self.is_allowed(LogLimit::Anonymous) {
            warn!(peer:% = peer, suppressed; "{error}");
        }
    }

    fn log(&self, head: &RequestHead, peer: SocketAddr, error: &HttpError, id: &str) {
        let (status, log_limit) = error.classify();
        let Some(suppressed) = self.is_allowed(log_limit) else {
            return debug!(request = id, peer:% = peer, status; "{error}");
        };
        let (method, path) = (shorten(&head.method), shorten(&head.path));
        warn!(request = id, peer:% = peer, method:% = method, path:% = path, status, suppressed; "{error}");
    }

    /// Whether a warning may be logged; if so, how many were suppressed since the last one.
    fn is_allowed(&self, limit: LogLimit) -> Option<u64> {
        match limit {
            LogLimit::Unlimited => Some(0),
            LogLimit::Anonymous => self.log_limiter.allow("anonymous", LogRate::ANONYMOUS),
            LogLimit::Outage(kind) => self.log_limiter.allow(kind, LogRate::REPEATED),
            LogLimit::Debug => None,
        }
    }

    /// A sender without the first token would be refused once the others are removed.
    fn later_token_used(&self, position: u64, peer: SocketAddr) {
        self.metrics.http.later_tokens.add(position.to_string(), 1);
        let subject = format!("token {position}");
        if let Some(suppressed) = self.log_limiter.allow(&subject, LogRate::LASTING) {
            info!(peer:% = peer, position, suppressed; "request with a token that is not the first of http.bearer_token");
        }
    }

    fn route(
        &self,
        head: &RequestHead,
        connection: &mut Connection,
        route: Option<Route>,
        id: &str,
    ) -> Result<Response, HttpError> {
        let (config, peer) = (self.config(), connection.peer);
        let settings = &config.settings;
        let header = head.authorization.as_deref();
        let authorized = auth::authorize(header, &settings.tokens, peer.ip());
        // A wrong token is an error also where none is required: the sender is misconfigured, or guesses.
        if let Err(error @ (Unauthorized::Wrong | Unauthorized::PublishedToken)) = authorized {
            return Err(error.into());
        }
        if let Ok(position @ 2..) = authorized {
            self.later_token_used(position, peer);
        }
        let (_, methods, action) = route.ok_or_else(|| routes::unknown_path(&head.path))?;
        if !methods.contains(&head.method.as_str()) {
            return Err(HttpError::Method(methods));
        }
        match action {
            Action::Notify => {
                authorized?;
                self.webhook(&config, head, connection, id)
            }
            Action::CheckHealth => Ok(Response::ok("healthy")),
            Action::CheckReadiness => {
                let readiness = self.sink.readiness(authorized.is_ok());
                readiness.map_err(HttpError::NotReady)?;
                Ok(Response::ok("ready"))
            }
            Action::Reload => {
                authorized?;
                // As a notification, so that it is not evicted while it waits.
                let claimed = connection.slot.begin_notification();
                claimed.map_err(HttpError::Saturated)?;
                (self.reload)()?;
                Ok(Response::ok("reloaded"))
            }
            Action::ShowMetrics => {
                if settings.metrics_require_token {
                    authorized?;
                }
                Ok(self.metrics_page(settings, connection.slot.slots.usage()))
            }
        }
    }

    fn metrics_page(&self, settings: &ServerSettings, usage: SlotUsage) -> Response {
        let http = &self.metrics.http;
        http.connections.set(usage.connections as u64);
        http.notifications.set(usage.notifications as u64);
        http.max_notifications.set(usage.max_notifications as u64);
        http.memory_used.set(self.budget.used() as u64);
        http.memory_limit.set(self.budget.limit as u64);
        http.memory_refused.set(self.budget.refused());
        let tls = settings.tls.as_ref();
        http.certificate_expiry
            .set(tls.map_or(0, |tls| tls.certificate.expires_at));
        Response::new(200, metrics::CONTENT_TYPE, self.metrics.expose())
    }

    fn webhook(
        &self,
        config: &ActiveConfig,
        head: &RequestHead,
        connection: &mut Connection,
        id: &str,
    ) -> Result<Response, HttpError> {
        if self.is_stopping() {
            return Err(HttpError::Stopping);
        }
        if head.is_encoded {
            return Err(HttpError::ContentEncoding);
        }
        let claimed = connection.slot.begin_notification();
        claimed.map_err(HttpError::Saturated)?;
        let settings = &config.settings;
        let body = connection.read_body(head, settings.max_body_bytes, &self.budget)?;
        debug!(request = id, peer:% = connection.peer, bytes = body.bytes.len(); "notification received");
        trace!(
            "notification body: {}",
            String::from_utf8_lossy(&body.bytes)
        );
        let deadline = Instant::now() + settings.answer_timeout;
        let received_at = Timestamp::now();
        let permit = self.permits.acquire(body.bytes.len(), deadline);
        let permit = permit.ok_or(HttpError::MappingBusy)?;
        let encoded = EncodedNotification::from_body(
            &config.mapping,
            &self.reporter,
            body.bytes,
            body.charge,
            received_at,
            deadline,
        )?;
        drop(permit);
        let timeout = AnswerTimeout {
            without_progress: settings.answer_timeout,
            in_all: MAX_ANSWER_TIME,
        };
        let connection = RefCell::new(connection);
        // A shutdown ends the input of every connection: look at it after the input.
        let is_sender_gone = || connection.borrow_mut().is_sender_gone() && !self.is_stopping();
        let outcome = encoded.deliver(&self.reporter, &self.sink, timeout, &is_sender_gone)?;
        debug!(request = id, published = outcome.published, merged = outcome.merged, rejected = outcome.rejected.count; "notification delivered");
        Ok(Response::to_notification(&outcome))
    }
}

#[cfg(test)]
pub mod tests {
    use std::collections::HashSet;
    use std::io::{self, Read, Write};
    use std::net::TcpStream;

    use super::*;
    use crate::config::{Config, Environment, Overrides};
    use crate::http::Server;
    use crate::liveness::Heartbeats;

    struct PanickingWriter;

    impl Write for PanickingWriter {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            panic!("intended by the test");
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// An application whose token is `t`, and which panics once it has an event.
    pub fn application() -> Application {
        let text = "http: {listen: '127.0.0.1:0', bearer_token: t}\nconnector: c\nconnector_name: n\n\
                    component: x\nresource: r\nstate: 1\n";
        let path = std::path::Path::new("test.yml");
        let config =
            Config::from_text(text, path, &Overrides::default(), &Environment::default()).unwrap();
        let active = ActiveConfig {
            settings: config.http,
            mapping: config.mapping,
        };
        let budget = Budget::new(1 << 20);
        let sink = EventSink::stream(PanickingWriter);
        let reload = Box::new(|| Ok(()));
        Application::new(active, sink, Metrics::default(), budget, reload)
    }

    #[test]
    fn a_panic_is_answered_and_each_response_has_an_id() {
        let application = application();
        let listen = application.config().settings.listen.clone();
        let server = Server::start(
            &listen,
            10,
            application,
            Heartbeats::default().add("accept"),
        )
        .unwrap();
        let body = r#"{"version":"4","alerts":[{"status":"firing","labels":{"a":"b"}}]}"#;
        let webhook = format!(
            "POST /webhook HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer t\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut stream = TcpStream::connect(server.address).unwrap();
        let requests = [
            webhook.as_str(),
            "GET /-/healthy HTTP/1.1\r\nHost: h\r\n\r\n",
            "GET /nothing HTTP/1.1\r\nHost: h\r\n\r\n",
            "GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n",
            "noise\r\n\r\n",
        ];
        stream.write_all(requests.concat().as_bytes()).unwrap();
        let mut received = String::new();
        stream.read_to_string(&mut received).unwrap();
        let lines = |prefix: &'static str| {
            received
                .lines()
                .filter_map(move |line| line.strip_prefix(prefix))
        };
        let statuses: Vec<&str> = lines("HTTP/1.1 ").map(|line| &line[..3]).collect();
        assert_eq!(statuses, ["500", "200", "404", "200", "400"], "{received}");
        let ids: HashSet<&str> = lines("X-Request-Id: ").collect();
        assert_eq!(ids.len(), requests.len(), "{received}");
        // As RFC 9110 requires: Sun, 06 Nov 1994 08:49:37 GMT.
        let is_date = |date: &&str| date.len() == 29 && date.ends_with(" GMT");
        let dates = lines("Date: ").filter(is_date);
        assert_eq!(dates.count(), requests.len(), "{received}");
        for gauge in [
            "http_connections 1",
            "http_notifications 0",
            "http_notifications_limit 5",
            "memory_used_bytes 0",
            "memory_limit_bytes 1048576",
            "tls_certificate_expiry_timestamp_seconds 0",
        ] {
            let found = lines("canopsis_connector_").any(|line| line == gauge);
            assert!(found, "{gauge}: {received}");
        }
    }
}
