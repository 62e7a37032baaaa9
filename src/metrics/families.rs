//! The metrics of each part of the program: their names, labels, and initial values.
//!
//! Each type is one module's handle. It must not know what the module does beyond what it counts.

use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::unix_seconds;
use crate::memory::Budget;

/// In seconds. By default a response is due within 8.
const REQUEST_BUCKETS: [f64; 12] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 5.0, 10.0,
];

/// In seconds. RabbitMQ confirms a persistent message once it is on disk.
const CONFIRM_BUCKETS: [f64; 12] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0,
];

/// One label: its name and its value.
type Label<V> = [(&'static str, V); 1];

type CounterBy<V> = Family<Label<V>, Counter>;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    route: &'static str,
    code: u16,
}

/// Defines a set of metrics, and registers each under its name with its help text.
macro_rules! metrics {
    ($(#[$doc:meta])* $set:ident {
        $($field:ident: $metric:ty = $initial:expr, $name:literal, $help:literal;)+
    }) => {
        $(#[$doc])*
        #[derive(Debug, Clone)]
        pub struct $set {
            $($field: $metric),+
        }

        impl $set {
            pub(super) fn registered(registry: &mut Registry) -> Self {
                let new = Self { $($field: $initial),+ };
                $(registry.register($name, $help, new.$field.clone());)+
                new
            }
        }
    };
}

metrics! {
    /// What the HTTP server counts.
    HttpMetrics {
        requests: Family<RequestLabels, Counter> = Family::default(), "http_requests",
            "HTTP requests answered, by route and status code";
        durations: Family<Label<&'static str>, Histogram, fn() -> Histogram> =
            Family::new_with_constructor(|| Histogram::new(REQUEST_BUCKETS)),
            "http_request_duration_seconds",
            "Time from the end of the request's header to the response, the wait for RabbitMQ included";
        unauthorized: Counter = Counter::default(), "http_authentication_failures",
            "HTTP requests without a token or with a wrong one";
        later_tokens: CounterBy<u64> = Family::default(), "http_requests_with_later_token",
            "HTTP requests with a token that is not the first of http.bearer_token, by its position in the list";
        handshake_failures: Counter = Counter::default(), "tls_handshake_failures",
            "TLS handshakes with senders that failed or were not complete in time";
        certificate_expiry: Gauge = Gauge::default(), "tls_certificate_expiry_timestamp_seconds",
            "Unix time at which the listener's certificate, or one of its chain, expires; 0 without TLS";
        connections: Gauge = Gauge::default(), "http_connections",
            "Open HTTP connections";
        notifications: Gauge = Gauge::default(), "http_notifications",
            "HTTP connections that receive or process a notification";
        max_notifications: Gauge = Gauge::default(), "http_notifications_limit",
            "Limit of canopsis_connector_http_notifications; beyond it, notifications are answered 503";
        memory_used: Gauge = Gauge::default(), "memory_used_bytes",
            "Memory that notifications hold, as charged to the memory budget";
        memory_limit: Gauge = Gauge::default(), "memory_limit_bytes",
            "Limit of the memory budget";
        memory_refused: Counter = Counter::default(), "memory_refused",
            "Attempts to charge the memory budget that failed; answered 503 or 413";
    }
}

metrics! {
    /// What the pipeline counts.
    AlertMetrics {
        last_notification: Gauge<f64, AtomicU64> = Gauge::default(),
            "last_notification_timestamp_seconds",
            "Unix time of the last valid notification; 0 before the first";
        received: CounterBy<&'static str> = Family::default(), "alerts_received",
            "Alerts in notifications, by status";
        rejected: CounterBy<String> = Family::default(), "alerts_rejected",
            "Alerts rejected: this required field has no value, the event is too large, or the alert is malformed";
        truncated: Counter = Counter::default(), "alerts_truncated",
            "Alerts that Alertmanager left out of notifications (max_alerts); they never reach Canopsis";
        sharing: Counter = Counter::default(), "alerts_sharing_entity",
            "Firing alerts merged into another one of their entity (component and resource) with the same state; they are one alarm";
        lowered: Counter = Counter::default(), "groups_sharing_entity",
            "Events that lowered or closed an alarm that another group of Alertmanager had raised";
        dropped: CounterBy<String> = Family::default(), "event_fields_dropped",
            "Rules that failed or yielded an invalid value; the event lacks the field, or is critical (state)";
    }
}

metrics! {
    /// What the publisher counts, and its state.
    BrokerMetrics {
        published: Counter = Counter::default(), "events_published",
            "Events confirmed by RabbitMQ, in notifications answered 200 or 422";
        failed: CounterBy<&'static str> = Family::default(), "events_failed",
            "Events rejected, returned or not confirmed in time, by reason; Alertmanager sends them again";
        settled_before_retry: Counter = Counter::default(), "events_settled_before_retry",
            "Events of retried notifications that an earlier attempt had published; not published again";
        attempts: CounterBy<&'static str> = Family::default(), "amqp_connection_attempts",
            "Attempts to connect to RabbitMQ, by outcome";
        confirms: Histogram = Histogram::new(CONFIRM_BUCKETS), "amqp_confirm_duration_seconds",
            "Time from publishing a message to its confirm";
        connected: Gauge = Gauge::default(), "amqp_connected",
            "Whether a connection to RabbitMQ is open";
        blocked: Gauge = Gauge::default(), "amqp_blocked",
            "Whether RabbitMQ has blocked publishing (memory or disk alarm)";
        in_flight: Gauge = Gauge::default(), "amqp_messages_in_flight",
            "Messages published and not yet confirmed";
        waiting: Gauge = Gauge::default(), "events_waiting",
            "Events waiting for their confirm, those in flight included";
        live: Gauge = Gauge::default(), "deliveries_live",
            "Notifications whose sender waits for RabbitMQ's confirms";
        parked: Gauge = Gauge::default(), "deliveries_parked",
            "Notifications answered 503 whose confirmed events are remembered for a retry";
        window: Gauge = Gauge::default(), "amqp_window_messages",
            "Messages that may be published and not yet confirmed; adapts to RabbitMQ's speed";
    }
}

metrics! {
    /// What the reload controller counts.
    ReloadMetrics {
        outcomes: CounterBy<&'static str> = Family::default(), "config_reloads",
            "Reloads of the configuration, by outcome";
        successful: Gauge = Gauge::default(), "config_last_reload_successful",
            "Whether the last load of the configuration succeeded (1) or failed (0)";
        loaded_at: Gauge<f64, AtomicU64> = Gauge::default(),
            "config_last_reload_success_timestamp_seconds",
            "Unix time of the last successful load of the configuration";
    }
}

/// Adds to a counter, which exists from then on, also at 0.
fn add<L>(family: &Family<L, Counter>, labels: &L, count: u64)
where
    L: Clone + Hash + Eq,
{
    family.get_or_create(labels).inc_by(count);
}

fn outcome(success: bool) -> Label<&'static str> {
    [("outcome", if success { "success" } else { "failure" })]
}

/// What the publisher's ledger holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LedgerStats {
    /// Deliveries with a waiting caller.
    pub live: usize,
    /// Deliveries without one.
    pub parked: usize,
    /// Events of live deliveries that are not settled.
    pub to_settle: usize,
    /// Messages published and not confirmed.
    pub in_flight: usize,
    /// Messages that may be in flight.
    pub window: usize,
}

/// Why events are not known to be in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureReason {
    /// The broker rejected the message (`basic.nack`).
    Nack,
    /// No queue is bound to the exchange (`basic.return`).
    Returned,
    /// The connection is open, and the confirm did not come in time.
    Timeout,
    /// No connection is open, or it was lost before the confirm.
    Disconnected,
    /// The broker has blocked the connection (memory or disk alarm).
    Blocked,
    /// The broker's user may not write.
    AccessRefused,
}

impl FailureReason {
    const ALL: [Self; 6] = [
        Self::Nack,
        Self::Returned,
        Self::Timeout,
        Self::Disconnected,
        Self::Blocked,
        Self::AccessRefused,
    ];

    fn label(self) -> Label<&'static str> {
        let reason = match self {
            Self::Nack => "nack",
            Self::Returned => "returned",
            Self::Timeout => "timeout",
            Self::Disconnected => "disconnected",
            Self::Blocked => "blocked",
            Self::AccessRefused => "access_refused",
        };
        [("reason", reason)]
    }
}

impl HttpMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let new = Self::registered(registry);
        for code in [200, 400, 401, 413, 415, 422, 503] {
            let route = "/webhook";
            add(&new.requests, &RequestLabels { route, code }, 0);
        }
        new
    }

    /// Counts input that is not a valid request, and was answered with this code.
    pub fn refused(&self, code: u16) {
        let route = "other";
        add(&self.requests, &RequestLabels { route, code }, 1);
    }

    /// Counts a request that was answered.
    pub fn answered(&self, route: &'static str, code: u16, after: Duration) {
        add(&self.requests, &RequestLabels { route, code }, 1);
        self.durations
            .get_or_create(&[("route", route)])
            .observe(after.as_secs_f64());
        if code == 401 {
            self.unauthorized.inc();
        }
    }

    /// Counts a request with the token at this position, which is not the first.
    pub fn token_used(&self, position: u64) {
        add(&self.later_tokens, &[("position", position)], 1);
    }

    /// Starts the counts for tokens other than the first at 0, so that `increase()` sees the first request. There is always
    /// one, so that the metric is there before a second token is.
    pub fn preregister(&self, tokens: usize) {
        for position in 2..=(tokens as u64).max(2) {
            add(&self.later_tokens, &[("position", position)], 0);
        }
    }

    /// Counts a connection that was closed because TLS was not established.
    pub fn handshake_failed(&self) {
        self.handshake_failures.inc();
    }

    /// Sets the gauge for a scrape.
    pub fn set_certificate_expiry(&self, unix_seconds: i64) {
        self.certificate_expiry.set(unix_seconds);
    }

    /// Sets the gauges for a scrape: the open connections, the ones among them with a notification, and the limit of those.
    pub fn set_connections(&self, open: usize, notifications: usize, max_notifications: usize) {
        self.connections.set(gauge(open));
        self.notifications.set(gauge(notifications));
        self.max_notifications.set(gauge(max_notifications));
    }

    /// Sets the metrics of the memory budget for a scrape.
    pub fn set_memory(&self, budget: &Budget) {
        self.memory_used.set(gauge(budget.used()));
        self.memory_limit.set(gauge(budget.limit));
        let refused = self.memory_refused.inner();
        refused.store(budget.refused(), Ordering::Relaxed);
    }
}

impl AlertMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let new = Self::registered(registry);
        for status in ["firing", "resolved"] {
            add(&new.received, &[("status", status)], 0);
        }
        for field in ["connector_name", "component", "resource", "event", "alert"] {
            add(&new.rejected, &field_label(field), 0);
        }
        for field in [
            "state",
            "output",
            "long_output",
            "author",
            "timestamp",
            "tags",
            "perf_data",
        ] {
            new.preregister(field);
        }
        new
    }

    /// Counts alerts, `firing` or `resolved`.
    pub fn received(&self, status: &'static str, alerts: u64) {
        add(&self.received, &[("status", status)], alerts);
    }

    /// Counts alerts without an event: this required field has no value, or the whole `event` or `alert` is at fault.
    pub fn rejected(&self, field: &str, alerts: u64) {
        add(&self.rejected, &field_label(field), alerts);
    }

    /// Counts an event that lacks this field.
    pub fn dropped(&self, field: &str, events: u64) {
        add(&self.dropped, &field_label(field), events);
    }

    /// Notes the time of a valid notification.
    pub fn notified(&self) {
        self.last_notification.set(unix_seconds());
    }

    /// Starts the count of events that lack this field at 0, so that `increase()` sees the first one.
    pub fn preregister(&self, field: &str) {
        add(&self.dropped, &field_label(field), 0);
    }

    /// Counts firing alerts that are merged into another one with the same state.
    pub fn sharing_entity(&self, alerts: usize) {
        self.sharing.inc_by(saturating(alerts));
    }

    /// Counts events that lower the alarm of another group.
    pub fn lowered_by_group(&self, events: usize) {
        self.lowered.inc_by(saturating(events));
    }

    /// Counts alerts that Alertmanager left out.
    pub fn truncated(&self, alerts: u64) {
        // A sender chooses the number: the counter must not overflow.
        self.truncated.inc_by(alerts.min(u32::MAX.into()));
    }
}

fn field_label(field: &str) -> Label<String> {
    [("field", field.to_owned())]
}

impl BrokerMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let new = Self::registered(registry);
        for reason in FailureReason::ALL {
            add(&new.failed, &reason.label(), 0);
        }
        for success in [true, false] {
            add(&new.attempts, &outcome(success), 0);
        }
        new
    }

    /// Counts events that are in the queue, of a notification that is answered so.
    pub fn published(&self, events: usize) {
        self.published.inc_by(saturating(events));
    }

    /// Counts events that are not known to be in the queue.
    pub fn failed(&self, reason: FailureReason, events: usize) {
        add(&self.failed, &reason.label(), saturating(events));
    }

    /// Counts events that a retry need not publish again.
    pub fn settled_before_retry(&self, events: usize) {
        self.settled_before_retry.inc_by(saturating(events));
    }

    /// Counts an attempt to connect.
    pub fn attempted(&self, success: bool) {
        add(&self.attempts, &outcome(success), 1);
    }

    /// Records how long a confirm took.
    pub fn confirmed(&self, after: Duration) {
        self.confirms.observe(after.as_secs_f64());
    }

    /// Sets whether a connection is open, and whether the broker has blocked publishing on it.
    pub fn set_connection(&self, is_connected: bool, is_blocked: bool) {
        self.connected.set(is_connected.into());
        self.blocked.set(is_blocked.into());
    }

    /// Sets what the ledger holds.
    pub fn set_ledger(&self, stats: LedgerStats) {
        self.in_flight.set(gauge(stats.in_flight));
        self.waiting.set(gauge(stats.to_settle));
        self.live.set(gauge(stats.live));
        self.parked.set(gauge(stats.parked));
        self.window.set(gauge(stats.window));
    }
}

fn saturating(events: usize) -> u64 {
    u64::try_from(events).unwrap_or(u64::MAX)
}

fn gauge(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

impl ReloadMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let new = Self::registered(registry);
        for success in [true, false] {
            add(&new.outcomes, &outcome(success), 0);
        }
        new.loaded(true);
        new
    }

    /// Counts a reload.
    pub fn reloaded(&self, success: bool) {
        add(&self.outcomes, &outcome(success), 1);
        self.loaded(success);
    }

    fn loaded(&self, success: bool) {
        self.successful.set(success.into());
        if success {
            self.loaded_at.set(unix_seconds());
        }
    }
}
