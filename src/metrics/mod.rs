//! Metrics for Prometheus, served by `GET /metrics`.
//!
//! Each module gets a handle to its own metrics. Label values come from the program or the configuration, never from a sender:
//! each distinct value costs memory here and in Prometheus.

use jiff::Timestamp;
use prometheus_client::encoding::text;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

mod families;
mod process;

pub use families::{AlertMetrics, BrokerMetrics, HttpMetrics, LedgerStats, ReloadMetrics};
pub use process::max_open_files;

use crate::version;
use families::Gauge;
use process::ProcessMetrics;

/// Of every name except those of the process, which are the same for all exporters.
const PREFIX: &str = "canopsis_connector";

/// The value of the header `Content-Type`: Prometheus's text format, which every Prometheus reads.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The current Unix time.
pub fn unix_seconds() -> f64 {
    Timestamp::now().as_duration().as_secs_f64()
}

/// The registry and the handles of all metrics.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    process: ProcessMetrics,
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
    /// Registers all metrics. Counters start at 0; the process counts as started now, and the configuration as loaded.
    fn default() -> Self {
        let mut root = Registry::default();
        let process = ProcessMetrics::register(&mut root);
        process.started.set(unix_seconds());
        let registry = root.sub_registry_with_prefix(PREFIX);
        let build = Family::<[(&str, &str); 3], Gauge>::default();
        let labels = [
            ("version", version::VERSION),
            ("commit", version::COMMIT),
            ("rustc", version::RUSTC),
        ];
        build.get_or_create(&labels).set(1);
        registry.register(
            "build_info",
            "Version, commit and compiler version of the program",
            build,
        );
        let reloads = ReloadMetrics::register(registry);
        reloads.loaded(true);
        Self {
            process,
            http: HttpMetrics::register(registry),
            alerts: AlertMetrics::register(registry),
            broker: BrokerMetrics::register(registry),
            reloads,
            registry: root,
        }
    }
}

impl Metrics {
    /// The body of the response to a scrape.
    pub fn expose(&self) -> String {
        self.process.read();
        let mut page = String::with_capacity(16 << 10);
        // Writing to a string does not fail. The end mark is OpenMetrics's alone.
        let _ = text::encode_registry(&mut page, &self.registry);
        page
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_scrape_shows_every_count() {
        let metrics = Metrics::default();
        let duration = Some(Duration::from_millis(3));
        metrics.http.answered("/webhook", 401, duration);
        metrics.http.preregister(3);
        metrics.http.connections.set(7);
        metrics.http.notifications.set(2);
        metrics.http.max_notifications.set(5);
        metrics.http.memory_used.set(600);
        metrics.http.memory_limit.set(1000);
        metrics.http.memory_refused.set(1);
        metrics.alerts.received.add("firing", 1);
        metrics.alerts.dropped.add("prom_title", 1);
        metrics.broker.failed.add("blocked", 7);
        metrics.reloads.reloaded(false);
        metrics.broker.connected.set(1);
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
            "canopsis_connector_http_requests_with_later_token_total{position=\"2\"} 0",
            "canopsis_connector_http_requests_with_later_token_total{position=\"3\"} 0",
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

    #[test]
    fn samples_follow_the_help_and_the_type_of_their_name() {
        let page = Metrics::default().expose();
        let (mut named, mut typed) = ("", ("", ""));
        for line in page.lines() {
            let (name, rest) = line.rsplit_once(' ').unwrap();
            if let Some(help) = line.strip_prefix("# HELP ") {
                named = help.split(' ').next().unwrap();
            } else if let Some(name) = name.strip_prefix("# TYPE ") {
                assert_eq!(name, named);
                typed = (name, rest);
            } else {
                let sample = name.split('{').next().unwrap();
                let suffix = sample.strip_prefix(typed.0).unwrap();
                let expected: &[&str] = match typed.1 {
                    "counter" if sample.ends_with("_total") => &[""],
                    "gauge" if !sample.ends_with("_total") => &[""],
                    "histogram" => &["_sum", "_count", "_bucket"],
                    _ => &[],
                };
                assert!(expected.contains(&suffix), "{typed:?}: {line}");
                assert!(rest.parse::<f64>().is_ok(), "{line}");
            }
        }
        assert_eq!(named, typed.0, "the page is not empty");
    }
}
