//! A real Prometheus with the scrape job, the rules and the dashboard.

use std::fs;

use regex::Regex;
use serde_json::Value;

use super::queries::{
    Names, dashboard_queries, inner_queries, names, substitute_variables, variables,
};
use super::{JOB, RULES, SCRAPE, list, rules, run_tool, text, with_https};
use crate::support::broker::Admin;
use crate::support::certificates::Subject;
use crate::support::connector::{Connector, MAPPING, config};
use crate::support::http::Tls;
use crate::support::prometheus::Prometheus;
use crate::support::tls::Authority;
use crate::support::{TOKEN, TempDir, free_port, notification, wait_until};

/// Starts a Prometheus with `contrib/prometheus-scrape.yml` that scrapes a connector every second, and returns the connector's
/// address in it. With the job's variant for HTTPS where an authority is given.
fn start_prometheus(connector: &Connector, authority: Option<&Authority>) -> (Prometheus, String) {
    let dir = TempDir::new("prometheus");
    for path in RULES {
        fs::copy(path, dir.path().join(path.rsplit_once('/').unwrap().1)).unwrap();
    }
    let (mut config, mut target) = (SCRAPE.to_owned(), connector.address.to_string());
    if let Some(authority) = authority {
        config = with_https(&config);
        target = format!("localhost:{}", connector.address.port());
        // The connector requires a client certificate, too.
        let (cert, key) = authority.issue("client", Subject::host("prometheus.example"));
        let ca = "ca_file: canopsis-ca.pem";
        let files = format!(
            "{ca}, cert_file: {}, key_file: {}",
            cert.display(),
            key.display()
        );
        let block = format!("tls_config:\n      {ca}\n");
        assert!(config.contains(&block), "{config}");
        config = config.replace(&block, &format!("tls_config: {{{files}}}\n"));
        fs::copy(authority.ca(), dir.path().join("canopsis-ca.pem")).unwrap();
        dir.file("canopsis-token", TOKEN);
    }
    // No Alertmanager listens there.
    let alertmanager = format!("127.0.0.1:{}", free_port());
    for (from, to) in [
        ("connector.example:18401", &*target),
        ("alertmanager.example:9093", &alertmanager),
        (" 30s", " 1s"),
        ("# - prometheus-watchdog.yml", "- prometheus-watchdog.yml"),
    ] {
        assert!(config.contains(from), "{from} in prometheus-scrape.yml");
        config = config.replace(from, to);
    }
    run_tool(&[
        "promtool",
        "check",
        "config",
        &dir.file("prometheus.yml", &config),
    ]);
    let prometheus = Prometheus::start(dir);
    wait_until("the connector is scraped", || {
        let up = prometheus.query(&format!("up{{job=\"{JOB}\",instance=\"{target}\"}}"));
        up.first().is_some_and(|up| up["value"][1] == "1")
    });
    (prometheus, target)
}

/// A connector with HTTPS where an authority is given, whose metrics then need a token and a client certificate.
fn start_connector(authority: Option<&Authority>) -> Connector {
    let mapping = format!("{MAPPING}\ntimestamp: {{type: copy, value: labels.severity}}\n");
    let http = authority.map_or_else(String::new, |authority| {
        let client_ca = format!("client_ca_file: '{}'", authority.ca().display());
        authority.setting("server", &client_ca) + ", metrics_require_token: true"
    });
    let text = config(&Admin::fresh().url(), &http, &mapping);
    let mut connector = Connector::with(&text, &[]);
    connector.tls = authority.map(|authority| {
        let identity = authority.issue("sender", Subject::host("sender.example"));
        Tls::with(&authority.ca(), "localhost", Some(&identity), None)
    });
    connector.wait_until_ready();
    connector
}

/// Sends every kind of request, so that every metric has samples.
fn send_requests(connector: &Connector) {
    assert_eq!(connector.post(&notification(&["A", "B"])).status, 200);
    let nameless = notification(&["A"]).replace("\"instance\"", "\"other\"");
    assert_eq!(connector.post(&nameless).status, 422);
    assert_eq!(connector.send("POST", "/webhook", &[]).status, 401);
}

/// Asserts that the connector exposes the metrics and labels of a query.
fn assert_exposed(prometheus: &Prometheus, query: &str) -> Names {
    let names = names(query);
    for (metric, matchers) in &names.metrics {
        let samples = prometheus.query(metric);
        assert!(!samples.is_empty(), "{metric} is not exposed; in {query}");
        let has = |label: &str, is_it: &dyn Fn(&str) -> bool| {
            let mut values = samples
                .iter()
                .filter_map(|one| one["metric"][label].as_str());
            values.any(is_it)
        };
        let labels = names.grouped.iter();
        for label in labels.chain(matchers.iter().map(|(label, _)| label)) {
            let is_label = has(label, &|_| true);
            assert!(is_label, "{metric} has no label {label}; in {query}");
        }
        // A status code has samples only after its first response; all other label values exist from the start.
        let fixed = matchers.iter();
        let fixed = fixed.filter(|(label, _)| !["code", "instance"].contains(&&**label));
        for (label, values) in fixed.filter(|(_, values)| !values.starts_with('$')) {
            for value in values.split('|') {
                let is_value = has(label, &|found| found == value);
                assert!(is_value, "{metric} never has {label}={value}; in {query}");
            }
        }
    }
    names
}

#[test]
fn a_real_prometheus_evaluates_every_rule_and_fills_every_panel() {
    let authority = Authority::new();
    let connector = start_connector(Some(&authority));
    assert_eq!(connector.send("GET", "/metrics", &[]).status, 401);
    let (prometheus, address) = start_prometheus(&connector, Some(&authority));
    wait_until("all rules are evaluated without an error", || {
        let groups = prometheus.api("rules")["groups"].clone();
        let rules = list(&groups).iter().flat_map(|group| list(&group["rules"]));
        let rules: Vec<&Value> = rules.collect();
        rules.len() == self::rules().len() && rules.iter().all(|rule| rule["health"] == "ok")
    });
    for (metric, label) in variables() {
        let values = prometheus.query(&substitute_variables(&metric, JOB, &address));
        let expected = if label == "job" { JOB } else { &address };
        assert_eq!(values[0]["metric"][&label], expected, "{metric}");
    }
    let shown = Regex::new(r"\{\{(\w+)\}\}").unwrap();
    for (query, legend) in dashboard_queries() {
        let substituted = substitute_variables(&query, JOB, &address);
        let mut samples = Vec::new();
        wait_until(&query, || {
            send_requests(&connector);
            samples = prometheus.query(&substituted);
            !samples.is_empty()
        });
        for label in shown
            .captures_iter(&legend)
            .map(|found| found[1].to_owned())
        {
            let mut metrics = samples.iter().map(|sample| &sample["metric"]);
            let is_shown = metrics.all(|metric| metric[&label].is_string());
            assert!(is_shown, "{label} of {legend:?} is not in {query}");
        }
        assert_exposed(&prometheus, &query);
    }
    for rule in rules() {
        let queries = inner_queries(&rule).into_iter();
        for query in queries.chain([text(&rule["expr"]).to_owned()]) {
            let names = assert_exposed(&prometheus, &query);
            assert!(!names.metrics.is_empty() || query == "vector(1)", "{query}");
        }
    }
    let alerts = || list(&prometheus.api("alerts")["alerts"]).to_vec();
    wait_until("an alert fires, and names the field", || {
        alerts().iter().any(|alert| {
            let description = text(&alert["annotations"]["description"]);
            alert["labels"]["alertname"] == "CanopsisConnectorAlertsRejected"
                && alert["state"] == "firing"
                && description.contains("without a value: component.")
        })
    });
    for alert in alerts() {
        let is_critical = alert["labels"]["severity"] == "critical";
        assert!(!is_critical || alert["state"] != "firing", "{alert}");
    }
}

#[test]
fn a_real_prometheus_scrapes_a_connector_without_https() {
    let connector = start_connector(None);
    let (prometheus, address) = start_prometheus(&connector, None);
    let expiry = "canopsis_connector_tls_certificate_expiry_timestamp_seconds";
    assert_eq!(prometheus.query(expiry)[0]["value"][1], "0");
    let mut queries = dashboard_queries().into_iter();
    let (panel, _) = queries.find(|(query, _)| query.contains(expiry)).unwrap();
    let query = substitute_variables(&panel, JOB, &address);
    assert!(prometheus.query(&query).is_empty(), "no certificate");
}
