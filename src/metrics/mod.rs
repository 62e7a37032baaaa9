//! Metrics for Prometheus, served by `GET /metrics`.
//!
//! Each module gets a handle to its own metrics. Label values come from the program or the configuration, never from a sender:
//! each distinct value costs memory here and in Prometheus.

use std::time::SystemTime;

use prometheus_client::encoding::text;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

mod exposition;
mod families;
mod process;

pub use exposition::CONTENT_TYPE;
pub use families::{
    AlertMetrics, BrokerMetrics, FailureReason, HttpMetrics, LedgerStats, ReloadMetrics,
};
pub use process::max_open_files;

use crate::version;

/// Of every name except those of the process, which are the same for all exporters.
const PREFIX: &str = "canopsis_connector";

/// The current Unix time.
fn unix_seconds() -> f64 {
    SystemTime::UNIX_EPOCH
        .elapsed()
        .map_or(0.0, |elapsed| elapsed.as_secs_f64())
}

/// The registry and the handles of all metrics.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// For the HTTP server.
    pub http: HttpMetrics,
    /// For the pipeline.
    pub alerts: AlertMetrics,
    /// For the publisher.
    pub broker: BrokerMetrics,
    /// For the reload controller.
    pub reloads: ReloadMetrics,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Registers all metrics. Counters start at 0; the configuration counts as loaded now.
    pub fn new() -> Self {
        let mut root = Registry::default();
        let registry = root.sub_registry_with_prefix(PREFIX);
        let build = [
            ("version", version::VERSION),
            ("commit", version::COMMIT),
            ("rustc", version::RUSTC),
        ];
        registry.register(
            "build",
            "Version, commit and compiler version of the program",
            Info::new(build.to_vec()),
        );
        let http = HttpMetrics::register(registry);
        let alerts = AlertMetrics::register(registry);
        let broker = BrokerMetrics::register(registry);
        let reloads = ReloadMetrics::register(registry);
        root.register_collector(Box::new(process::Process::new()));
        Self {
            registry: root,
            http,
            alerts,
            broker,
            reloads,
        }
    }

    /// The body of the response to a scrape.
    pub fn expose(&self) -> String {
        let mut page = String::with_capacity(16 << 10);
        // Writing to a string does not fail.
        let _ = text::encode(&mut page, &self.registry);
        exposition::to_text(&page)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::memory::Budget;

    #[test]
    fn a_scrape_shows_every_count() {
        let metrics = Metrics::new();
        metrics
            .http
            .answered("/webhook", 401, Duration::from_millis(3));
        let budget = Budget::new(1000);
        let mut charge = budget.charge();
        charge.grow(600).unwrap();
        charge.grow(600).unwrap_err();
        metrics.http.set_connections(7, 2, 5);
        metrics.http.set_memory(&budget);
        drop(charge);
        metrics.alerts.received("firing", 1);
        metrics.alerts.dropped("prom_title", 1);
        metrics.broker.failed(FailureReason::Blocked, 7);
        metrics.reloads.reloaded(false);
        metrics.broker.set_connection(true, false);
        metrics.broker.set_ledger(LedgerStats {
            live: 2,
            parked: 1,
            to_settle: 5,
            in_flight: 3,
            window: 32,
        });
        let page = metrics.expose();
        for line in [
            "canopsis_connector_http_requests_total{route=\"/webhook\",code=\"401\"} 1",
            "canopsis_connector_http_request_duration_seconds_bucket{le=\"0.005\",route=\"/webhook\"} 1",
            "canopsis_connector_http_authentication_failures_total 1",
            "canopsis_connector_http_connections 7",
            "canopsis_connector_http_notifications 2",
            "canopsis_connector_http_notifications_limit 5",
            "canopsis_connector_memory_used_bytes 600",
            "canopsis_connector_memory_limit_bytes 1000",
            "canopsis_connector_memory_refused_total 1",
            "canopsis_connector_alerts_received_total{status=\"firing\"} 1",
            "canopsis_connector_alerts_received_total{status=\"resolved\"} 0",
            "canopsis_connector_event_fields_dropped_total{field=\"prom_title\"} 1",
            "canopsis_connector_events_failed_total{reason=\"blocked\"} 7",
            "canopsis_connector_config_reloads_total{outcome=\"failure\"} 1",
            "canopsis_connector_config_last_reload_successful 0",
            "canopsis_connector_amqp_connected 1",
            "canopsis_connector_amqp_blocked 0",
            "canopsis_connector_amqp_messages_in_flight 3",
            "canopsis_connector_events_waiting 5",
            "canopsis_connector_deliveries_live 2",
            "canopsis_connector_deliveries_parked 1",
            "canopsis_connector_amqp_window_messages 32",
        ] {
            assert!(page.lines().any(|found| found == line), "{line} in\n{page}");
        }
    }
}
