//! The metrics of each part of the program: their names, labels, and initial values.
//!
//! Each set is one module's handle. It must not know what the module does beyond what it counts.

use std::borrow::Cow;
use std::fmt;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::unix_seconds;

/// In seconds. By default a response is due within 8.
const REQUEST_BUCKETS: [f64; 12] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 5.0, 10.0,
];

/// In seconds. RabbitMQ confirms a persistent message once it is on disk.
const CONFIRM_BUCKETS: [f64; 12] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0,
];

/// Why events are not known to be in the queue.
const FAILURE_REASONS: &[&str] = &[
    // The broker rejected the message (`basic.nack`).
    "nack",
    // No queue is bound to the exchange (`basic.return`).
    "returned",
    // The connection is open, and the confirm did not come in time.
    "timeout",
    // No connection is open, or it was lost before the confirm.
    "disconnected",
    // The broker has blocked the connection (memory or disk alarm).
    "blocked",
    // The broker's user may not write.
    "access_refused",
];

/// A number that may fall.
pub type Gauge<N = u64> = gauge::Gauge<N, AtomicU64>;

/// A gauge that only rises, in Prometheus's text format: its `HELP` and `TYPE` have the name of its samples. A counter of
/// the library has the suffix `_total` in its samples only, as OpenMetrics demands.
#[derive(Debug, Clone, Default)]
pub struct Counter<G = Gauge>(pub(super) G);

impl<G: EncodeMetric> EncodeMetric for Counter<G> {
    fn encode(&self, encoder: MetricEncoder<'_>) -> fmt::Result {
        self.0.encode(encoder)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Counter
    }
}

impl Counter {
    /// Counts this many.
    pub fn add(&self, count: u64) {
        self.0.inc_by(count);
    }

    /// Takes over what is counted elsewhere.
    pub fn set(&self, total: u64) {
        self.0.set(total);
    }
}

/// A counter for each value of a label.
#[derive(Debug, Clone)]
pub struct CounterBy {
    label: &'static str,
    counters: Family<[(&'static str, Cow<'static, str>); 1], Gauge>,
}

impl CounterBy {
    /// The counters of these values start at 0, so that `increase()` sees the first event.
    fn new(label: &'static str, values: &[&'static str]) -> Self {
        let counters = Family::default();
        let new = Self { label, counters };
        for value in values {
            new.add(*value, 0);
        }
        new
    }

    /// Adds to the counter of a value, which exists from then on, also at 0.
    pub fn add(&self, value: impl Into<Cow<'static, str>>, count: u64) {
        let labels = [(self.label, value.into())];
        self.counters.get_or_create(&labels).inc_by(count);
    }
}

impl EncodeMetric for CounterBy {
    fn encode(&self, encoder: MetricEncoder<'_>) -> fmt::Result {
        self.counters.encode(encoder)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Counter
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RequestLabels {
    route: &'static str,
    code: u16,
}

/// Defines a set of metrics, and registers each under its name with its help text. One without an initial value starts at 0.
macro_rules! metrics {
    ($(#[$doc:meta])* $set:ident {
        $($field:ident: $metric:ty $(= $initial:expr)?, $name:literal, $help:literal;)+
    }) => {
        $(#[$doc])*
        #[derive(Debug, Clone)]
        pub struct $set {
            $(pub(crate) $field: $metric),+
        }

        impl $set {
            pub(super) fn register(registry: &mut Registry) -> Self {
                let new = Self { $($field: metrics!(@initial $($initial)?)),+ };
                $(registry.register($name, $help, new.$field.clone());)+
                new
            }
        }
    };
    (@initial) => { Default::default() };
    (@initial $initial:expr) => { $initial };
}
pub(super) use metrics;

metrics! {
    /// What the HTTP server counts.
    HttpMetrics {
        requests: Counter<Family<RequestLabels, Gauge>>, "http_requests_total",
            "HTTP requests answered, by route and status code";
        durations: Family<[(&'static str, &'static str); 1], Histogram, fn() -> Histogram> =
            Family::new_with_constructor(|| Histogram::new(REQUEST_BUCKETS)),
            "http_request_duration_seconds",
            "Time from the end of the request's header to the response, the wait for RabbitMQ included";
        unauthorized: Counter, "http_authentication_failures_total",
            "HTTP requests without a token or with a wrong one";
        later_tokens: CounterBy = CounterBy::new("position", &["2"]), "http_requests_with_later_token_total",
            "HTTP requests with a token that is not the first of http.bearer_token, by its position in the list";
        handshake_failures: Counter, "tls_handshake_failures_total",
            "TLS handshakes with senders that failed or were not complete in time";
        certificate_expiry: gauge::Gauge, "tls_certificate_expiry_timestamp_seconds",
            "Unix time at which the listener's certificate, or one of its chain, expires; 0 without TLS";
        connections: Gauge, "http_connections", "Open HTTP connections";
        notifications: Gauge, "http_notifications",
            "HTTP connections that receive or process a notification";
        max_notifications: Gauge, "http_notifications_limit",
            "Limit of canopsis_connector_http_notifications; beyond it, notifications are answered 503";
        memory_used: Gauge, "memory_used_bytes",
            "Memory that notifications hold, as charged to the memory budget";
        memory_limit: Gauge, "memory_limit_bytes", "Limit of the memory budget";
        memory_refused: Counter, "memory_refused_total",
            "Attempts to charge the memory budget that failed; answered 503 or 413";
    }
}

metrics! {
    /// What the pipeline counts.
    AlertMetrics {
        last_notification: Gauge<f64>, "last_notification_timestamp_seconds",
            "Unix time of the last valid notification; 0 before the first";
        received: CounterBy = CounterBy::new("status", &["firing", "resolved"]), "alerts_received_total",
            "Alerts in notifications, by status";
        rejected: CounterBy =
            CounterBy::new("field", &["connector_name", "component", "resource", "event", "alert"]),
            "alerts_rejected_total",
            "Alerts rejected: this required field has no value, the event is too large, or the alert is malformed";
        truncated: Counter, "alerts_truncated_total",
            "Alerts that Alertmanager left out of notifications (max_alerts); they never reach Canopsis";
        sharing: Counter, "alerts_sharing_entity_total",
            "Firing alerts merged into another one of their entity (component and resource) with the same state; they are one alarm";
        lowered: Counter, "groups_sharing_entity_total",
            "Events that lowered or closed an alarm that another group of Alertmanager had raised";
        dropped: CounterBy = CounterBy::new(
            "field", &["state", "output", "long_output", "author", "timestamp", "tags", "perf_data"]),
            "event_fields_dropped_total",
            "Rules that failed or yielded an invalid value; the event lacks the field, or is critical (state)";
    }
}

metrics! {
    /// What the publisher counts, and its state.
    BrokerMetrics {
        published: Counter, "events_published_total",
            "Events confirmed by RabbitMQ, in notifications answered 200 or 422";
        failed: CounterBy = CounterBy::new("reason", FAILURE_REASONS), "events_failed_total",
            "Events rejected, returned or not confirmed in time, by reason; Alertmanager sends them again";
        settled_before_retry: Counter, "events_settled_before_retry_total",
            "Events of retried notifications that an earlier attempt had published; not published again";
        attempts: CounterBy = CounterBy::new("outcome", &["success", "failure"]), "amqp_connection_attempts_total",
            "Attempts to connect to RabbitMQ, by outcome";
        confirms: Histogram = Histogram::new(CONFIRM_BUCKETS), "amqp_confirm_duration_seconds",
            "Time from publishing a message to its confirm";
        connected: Gauge, "amqp_connected", "Whether a connection to RabbitMQ is open";
        blocked: Gauge, "amqp_blocked",
            "Whether RabbitMQ has blocked publishing (memory or disk alarm)";
        in_flight: Gauge, "amqp_messages_in_flight", "Messages published and not yet confirmed";
        waiting: Gauge, "events_waiting",
            "Events waiting for their confirm, those in flight included";
        live: Gauge, "deliveries_live", "Notifications whose sender waits for RabbitMQ's confirms";
        parked: Gauge, "deliveries_parked",
            "Notifications answered 503 whose confirmed events are remembered for a retry";
        window: Gauge, "amqp_window_messages",
            "Messages that may be published and not yet confirmed; adapts to RabbitMQ's speed";
    }
}

metrics! {
    /// What the reload controller counts.
    ReloadMetrics {
        outcomes: CounterBy = CounterBy::new("outcome", &["success", "failure"]), "config_reloads_total",
            "Reloads of the configuration, by outcome";
        successful: Gauge, "config_last_reload_successful",
            "Whether the last load of the configuration succeeded (1) or failed (0)";
        loaded_at: Gauge<f64>, "config_last_reload_success_timestamp_seconds",
            "Unix time of the last successful load of the configuration";
    }
}

impl HttpMetrics {
    /// Counts a response. The duration is that of a request.
    pub fn answered(&self, route: &'static str, code: u16, after: Option<Duration>) {
        self.count(route, code, 1);
        if let Some(after) = after {
            let duration = self.durations.get_or_create(&[("route", route)]);
            duration.observe(after.as_secs_f64());
        }
        if code == 401 {
            self.unauthorized.add(1);
        }
    }

    fn count(&self, route: &'static str, code: u16, requests: u64) {
        let labels = RequestLabels { route, code };
        self.requests.0.get_or_create(&labels).inc_by(requests);
    }

    /// Starts the counts of answers to notifications at 0, and those of requests with one of these tokens except the first. That
    /// of the second one is always there.
    pub fn preregister(&self, tokens: usize) {
        for code in [200, 400, 401, 413, 415, 422, 503] {
            self.count("/webhook", code, 0);
        }
        for position in 2..=tokens {
            self.later_tokens.add(position.to_string(), 0);
        }
    }
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

impl BrokerMetrics {
    /// Sets what the ledger holds.
    pub fn set_ledger(&self, stats: LedgerStats) {
        self.in_flight.set(stats.in_flight as u64);
        self.waiting.set(stats.to_settle as u64);
        self.live.set(stats.live as u64);
        self.parked.set(stats.parked as u64);
        self.window.set(stats.window as u64);
    }
}

impl ReloadMetrics {
    /// Counts a reload.
    pub fn reloaded(&self, success: bool) {
        let outcome = if success { "success" } else { "failure" };
        self.outcomes.add(outcome, 1);
        self.loaded(success);
    }

    /// Records whether the last load has succeeded.
    pub(super) fn loaded(&self, success: bool) {
        self.successful.set(success.into());
        if success {
            self.loaded_at.set(unix_seconds());
        }
    }
}
