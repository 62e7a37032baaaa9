//! What the connector counts and measures, for Prometheus: `GET /metrics`.
//!
//! Each room gets its own part and knows no other. A label's values come from a list here, from the configuration, or from the
//! program: never from a sender, who could otherwise fill the memory of whoever scrapes.

use std::time::SystemTime;

use prometheus_client::encoding::text;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

mod exposition;
mod families;
mod process;

pub use exposition::Exposition;
pub use families::{AlertMetrics, BrokerMetrics, FailureReason, HttpMetrics, ReloadMetrics};
pub use process::max_open_files;

use crate::version;

/// Of every metric's name, but those of the process, which have the names that all exporters give them.
const PREFIX: &str = "canopsis_connector";

/// Since 1970.
fn seconds_now() -> f64 {
    SystemTime::UNIX_EPOCH
        .elapsed()
        .map_or(0.0, |elapsed| elapsed.as_secs_f64())
}

/// How the publisher is at the moment of a scrape.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BrokerSnapshot {
    /// A connection is open, blocked or not.
    pub connected: bool,
    /// The broker takes nothing.
    pub blocked: bool,
    /// Messages published and not confirmed.
    pub in_flight: usize,
    /// Events that wait for their confirm, those in flight included.
    pub waiting: usize,
}

#[derive(Debug, Clone, Default)]
struct Gauges {
    connected: Gauge,
    blocked: Gauge,
    in_flight: Gauge,
    waiting: Gauge,
}

/// All of it.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    now: Gauges,
    /// For the HTTP room.
    pub http: HttpMetrics,
    /// For the bridge.
    pub alerts: AlertMetrics,
    /// For the publisher.
    pub broker: BrokerMetrics,
    /// For the service.
    pub reloads: ReloadMetrics,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Everything at 0, and just loaded.
    pub fn new() -> Self {
        let mut all = Registry::default();
        let registry = all.sub_registry_with_prefix(PREFIX);
        let build = [
            ("version", version::VERSION),
            ("commit", version::COMMIT),
            ("rustc", version::RUSTC),
        ];
        registry.register(
            "build",
            "The version, its commit, and the compiler that built it",
            Info::new(build.to_vec()),
        );
        let (http, alerts) = (
            HttpMetrics::register(registry),
            AlertMetrics::register(registry),
        );
        let (broker, now) = (
            BrokerMetrics::register(registry),
            Gauges::register(registry),
        );
        let reloads = ReloadMetrics::register(registry);
        all.register_collector(Box::new(process::Process::new()));
        Self {
            registry: all,
            now,
            http,
            alerts,
            broker,
            reloads,
        }
    }

    /// What a scrape reads.
    pub fn expose(&self, now: BrokerSnapshot, exposition: Exposition) -> String {
        let gauge = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        self.now.connected.set(now.connected.into());
        self.now.blocked.set(now.blocked.into());
        self.now.in_flight.set(gauge(now.in_flight));
        self.now.waiting.set(gauge(now.waiting));
        let mut page = String::with_capacity(16 << 10);
        // Writing to a string does not fail.
        let _ = text::encode(&mut page, &self.registry);
        exposition.write(page)
    }
}

impl Gauges {
    fn register(registry: &mut Registry) -> Self {
        let new = Self::default();
        registry.register(
            "amqp_connected",
            "Whether a connection to the broker is open",
            Gauge::clone(&new.connected),
        );
        registry.register(
            "amqp_blocked",
            "Whether the broker has blocked publishing (memory or disk alarm)",
            Gauge::clone(&new.blocked),
        );
        registry.register(
            "amqp_messages_in_flight",
            "Messages published and not yet confirmed",
            Gauge::clone(&new.in_flight),
        );
        registry.register(
            "events_waiting",
            "Events that wait for their confirm, those in flight included",
            Gauge::clone(&new.waiting),
        );
        new
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_has_happened_stands_on_the_page() {
        let metrics = Metrics::new();
        metrics
            .http
            .answered("/webhook", 401, Duration::from_millis(3));
        metrics.alerts.received("firing");
        metrics.alerts.dropped("prom_title");
        metrics.broker.failed(FailureReason::Blocked, 7);
        metrics.reloads.reloaded(false);
        let now = BrokerSnapshot {
            connected: true,
            blocked: false,
            in_flight: 3,
            waiting: 5,
        };
        let page = metrics.expose(now, Exposition::Text);
        for line in [
            "canopsis_connector_http_requests_total{route=\"/webhook\",code=\"401\"} 1",
            "canopsis_connector_http_request_duration_seconds_bucket{le=\"0.005\",route=\"/webhook\"} 1",
            "canopsis_connector_http_authentication_failures_total 1",
            "canopsis_connector_alerts_received_total{status=\"firing\"} 1",
            "canopsis_connector_alerts_received_total{status=\"resolved\"} 0",
            "canopsis_connector_event_fields_dropped_total{field=\"prom_title\"} 1",
            "canopsis_connector_events_failed_total{reason=\"blocked\"} 7",
            "canopsis_connector_config_reloads_total{outcome=\"failure\"} 1",
            "canopsis_connector_config_last_reload_successful 0",
            "canopsis_connector_amqp_connected 1",
            "canopsis_connector_amqp_messages_in_flight 3",
            "canopsis_connector_events_waiting 5",
        ] {
            assert!(page.lines().any(|found| found == line), "{line} in\n{page}");
        }
    }
}
