//! The parts: what each room counts, and under which names and labels.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::seconds_now;

/// Seconds; an answer has to come within 8 by default.
const REQUEST_BUCKETS: [f64; 12] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 5.0, 10.0,
];

/// Seconds; a confirm comes when the broker has written the message to disk.
const CONFIRM_BUCKETS: [f64; 12] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0,
];

/// One label, whose name and values are known when the program is compiled, or when the configuration is read.
macro_rules! labels {
    ($($name:ident { $($field:ident: $type:ty),+ })+) => {
        $(#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
        struct $name { $($field: $type),+ })+
    };
}

labels! {
    RouteLabel { route: &'static str }
    RequestLabels { route: &'static str, code: u16 }
    StatusLabel { status: &'static str }
    FieldLabel { field: String }
    ReasonLabel { reason: &'static str }
    OutcomeLabel { outcome: &'static str }
}

/// Why events did not get through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum FailureReason {
    Nack,
    Returned,
    Timeout,
    Disconnected,
    Blocked,
}

impl FailureReason {
    const ALL: [Self; 5] = [
        Self::Nack,
        Self::Returned,
        Self::Timeout,
        Self::Disconnected,
        Self::Blocked,
    ];

    fn label(self) -> ReasonLabel {
        let reason = match self {
            Self::Nack => "nack",
            Self::Returned => "returned",
            Self::Timeout => "timeout",
            Self::Disconnected => "disconnected",
            Self::Blocked => "blocked",
        };
        ReasonLabel { reason }
    }
}

impl OutcomeLabel {
    fn of(success: bool) -> Self {
        Self {
            outcome: if success { "success" } else { "failure" },
        }
    }
}

/// Makes histograms for a family.
#[derive(Debug, Clone)]
struct RequestBuckets;

impl MetricConstructor<Histogram> for RequestBuckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new(REQUEST_BUCKETS)
    }
}

/// The HTTP room's part.
#[derive(Debug, Clone)]
pub struct HttpMetrics {
    requests: Family<RequestLabels, Counter>,
    durations: Family<RouteLabel, Histogram, RequestBuckets>,
    unauthorized: Counter,
}

impl HttpMetrics {
    /// Something that is no request has been answered.
    pub fn refused(&self, code: u16) {
        self.requests
            .get_or_create(&RequestLabels {
                route: "other",
                code,
            })
            .inc();
    }

    /// A request has been answered.
    pub fn answered(&self, route: &'static str, code: u16, after: Duration) {
        self.requests
            .get_or_create(&RequestLabels { route, code })
            .inc();
        self.durations
            .get_or_create(&RouteLabel { route })
            .observe(after.as_secs_f64());
        if code == 401 {
            self.unauthorized.inc();
        }
    }
}

/// The bridge's part.
#[derive(Debug, Clone)]
pub struct AlertMetrics {
    received: Family<StatusLabel, Counter>,
    refused: Family<FieldLabel, Counter>,
    dropped: Family<FieldLabel, Counter>,
    truncated: Counter,
    last: Gauge<f64, AtomicU64>,
}

impl AlertMetrics {
    /// An alert has come, `firing` or `resolved`.
    pub fn received(&self, status: &'static str) {
        self.received.get_or_create(&StatusLabel { status }).inc();
    }

    /// An alert can't be published for want of this field.
    pub fn refused(&self, field: &str) {
        self.refused
            .get_or_create(&FieldLabel {
                field: field.to_owned(),
            })
            .inc();
    }

    /// An event goes without this field.
    pub fn dropped(&self, field: &str) {
        self.dropped
            .get_or_create(&FieldLabel {
                field: field.to_owned(),
            })
            .inc();
    }

    /// A notification has been understood.
    pub fn notified(&self) {
        self.last.set(seconds_now());
    }

    /// An event may go without this field: its count begins with 0, so that the first time is seen as an increase.
    pub fn preregister(&self, field: &str) {
        let _ = self.dropped.get_or_create(&FieldLabel {
            field: field.to_owned(),
        });
    }

    /// Alertmanager has cut off so many alerts.
    pub fn truncated(&self, alerts: u64) {
        self.truncated.inc_by(alerts);
    }
}

/// The publisher's part.
#[derive(Debug, Clone)]
pub struct BrokerMetrics {
    published: Counter,
    failed: Family<ReasonLabel, Counter>,
    attempts: Family<OutcomeLabel, Counter>,
    confirms: Histogram,
}

impl BrokerMetrics {
    /// So many events are in the queue, and their notification is answered.
    pub fn published(&self, events: usize) {
        self.published
            .inc_by(u64::try_from(events).unwrap_or(u64::MAX));
    }

    /// So many events are, as far as is known, not in the queue.
    pub fn failed(&self, reason: FailureReason, events: usize) {
        self.failed
            .get_or_create(&reason.label())
            .inc_by(u64::try_from(events).unwrap_or(u64::MAX));
    }

    /// An attempt to connect has ended.
    pub fn attempted(&self, success: bool) {
        self.attempts
            .get_or_create(&OutcomeLabel::of(success))
            .inc();
    }

    /// The broker has confirmed a message.
    pub fn confirmed(&self, after: Duration) {
        self.confirms.observe(after.as_secs_f64());
    }
}

/// The service's part.
#[derive(Debug, Clone)]
pub struct ReloadMetrics {
    outcomes: Family<OutcomeLabel, Counter>,
    successful: Gauge,
    loaded_at: Gauge<f64, AtomicU64>,
}

impl ReloadMetrics {
    /// The configuration has been read again.
    pub fn reloaded(&self, success: bool) {
        self.outcomes
            .get_or_create(&OutcomeLabel::of(success))
            .inc();
        self.loaded(success);
    }

    fn loaded(&self, success: bool) {
        self.successful.set(success.into());
        if success {
            self.loaded_at.set(seconds_now());
        }
    }
}

impl HttpMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let (requests, unauthorized) = (
            Family::<RequestLabels, Counter>::default(),
            Counter::default(),
        );
        let durations = Family::new_with_constructor(RequestBuckets);
        for code in [200, 400, 401, 413, 422, 503] {
            let _ = requests.get_or_create(&RequestLabels {
                route: "/webhook",
                code,
            });
        }
        registry.register(
            "http_requests",
            "Requests answered, by route and status",
            Family::clone(&requests),
        );
        registry.register(
            "http_request_duration_seconds",
            "From the end of a request's head to its answer, the wait for the broker included",
            Family::clone(&durations),
        );
        registry.register(
            "http_authentication_failures",
            "Requests without a token, or with a wrong one",
            Counter::clone(&unauthorized),
        );
        Self {
            requests,
            durations,
            unauthorized,
        }
    }
}

impl AlertMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let new = Self {
            received: Family::default(),
            refused: Family::default(),
            dropped: Family::default(),
            truncated: Counter::default(),
            last: Gauge::default(),
        };
        for status in ["firing", "resolved"] {
            let _ = new.received.get_or_create(&StatusLabel { status });
        }
        for field in ["connector_name", "component", "resource"] {
            let _ = new.refused.get_or_create(&FieldLabel {
                field: field.to_owned(),
            });
        }
        for field in [
            "state",
            "output",
            "long_output",
            "author",
            "timestamp",
            "tags",
        ] {
            new.preregister(field);
        }
        registry.register(
            "last_notification_timestamp_seconds",
            "When a notification last came in; 0 before the first",
            Gauge::clone(&new.last),
        );
        registry.register(
            "alerts_received",
            "AlertMetrics in notifications, by status",
            Family::clone(&new.received),
        );
        registry.register(
            "alerts_refused",
            "AlertMetrics that are not published because this field, which an event needs, yields nothing",
            Family::clone(&new.refused),
        );
        registry.register(
            "alerts_truncated",
            "AlertMetrics that Alertmanager has cut off (max_alerts) and sent nowhere",
            Counter::clone(&new.truncated),
        );
        registry.register(
            "event_fields_dropped",
            "Rules that failed, or gave what the field does not take: the event goes without it, or is critical (state)",
            Family::clone(&new.dropped),
        );
        new
    }
}

impl BrokerMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let new = Self {
            published: Counter::default(),
            failed: Family::default(),
            attempts: Family::default(),
            confirms: Histogram::new(CONFIRM_BUCKETS),
        };
        for reason in FailureReason::ALL {
            let _ = new.failed.get_or_create(&reason.label());
        }
        for success in [true, false] {
            let _ = new.attempts.get_or_create(&OutcomeLabel::of(success));
        }
        registry.register(
            "events_published",
            "Events that the broker has confirmed and routed, of notifications answered so",
            Counter::clone(&new.published),
        );
        registry.register(
            "events_failed",
            "Events that were handed to the publisher and not confirmed in time, by reason; Alertmanager sends them again",
            Family::clone(&new.failed),
        );
        registry.register(
            "amqp_connection_attempts",
            "Attempts to connect to the broker, by outcome",
            Family::clone(&new.attempts),
        );
        registry.register(
            "amqp_confirm_duration_seconds",
            "From publishing a message to its confirm",
            Histogram::clone(&new.confirms),
        );
        new
    }
}

impl ReloadMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let new = Self {
            outcomes: Family::default(),
            successful: Gauge::default(),
            loaded_at: Gauge::default(),
        };
        for success in [true, false] {
            let _ = new.outcomes.get_or_create(&OutcomeLabel::of(success));
        }
        registry.register(
            "config_reloads",
            "ReloadMetrics of the configuration, by outcome",
            Family::clone(&new.outcomes),
        );
        registry.register(
            "config_last_reload_successful",
            "Whether the configuration was taken when it was last read",
            Gauge::clone(&new.successful),
        );
        registry.register(
            "config_last_reload_success_timestamp_seconds",
            "When a configuration was last taken",
            Gauge::clone(&new.loaded_at),
        );
        new.loaded(true);
        new
    }
}
