//! A real Prometheus with the scrape job, the rules and the dashboard.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use regex::Regex;
use serde_json::Value;

use super::queries::{dashboard_queries, inner_queries, names, substitute_variables, variables};
use super::{JOB, RULES, SCRAPE, list, rules, run_tool, text, with_https};
use crate::support::broker::Broker;
use crate::support::connector::{Connector, MAPPING, config};
use crate::support::http::Client;
use crate::support::tls::Authority;
use crate::support::{ProcessGroup, TOKEN, free_port, notification, temp_path, wait_until};

/// Every metric of a page with its labels and their values, and the metric and labels that Prometheus adds.
fn exposed(page: &str) -> BTreeMap<String, BTreeMap<String, BTreeSet<String>>> {
    let label = Regex::new(r#"(\w+)="([^"]*)""#).unwrap();
    let mut all: BTreeMap<String, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
    for sample in page
        .lines()
        .filter(|line| !line.starts_with('#'))
        .chain(["up 1"])
    {
        let labels = all
            .entry(sample.split(['{', ' ']).next().unwrap().to_owned())
            .or_default();
        labels.entry("instance".to_owned()).or_default();
        labels
            .entry("job".to_owned())
            .or_default()
            .insert(JOB.to_owned());
        for found in label.captures_iter(sample) {
            labels
                .entry(found[1].to_owned())
                .or_default()
                .insert(found[2].to_owned());
        }
    }
    all
}

/// A real Prometheus with `contrib/prometheus-scrape.yml` that scrapes a connector every second.
struct Prometheus {
    _process: ProcessGroup,
    port: u16,
    /// The connector's address in the scrape job.
    target: String,
}

impl Prometheus {
    /// With the job's variant for HTTPS where an authority is given.
    fn start(connector: &Connector, authority: Option<&Authority>) -> Self {
        let (dir, port) = (temp_path("prometheus"), free_port());
        fs::create_dir_all(&dir).unwrap();
        for path in RULES {
            fs::copy(path, dir.join(path.rsplit_once('/').unwrap().1)).unwrap();
        }
        let (mut config, mut target) = (SCRAPE.to_owned(), connector.address.to_string());
        if let Some(authority) = authority {
            config = with_https(&config);
            target = format!("localhost:{}", connector.address.port());
            fs::copy(authority.ca(), dir.join("canopsis-ca.pem")).unwrap();
            fs::write(dir.join("canopsis-token"), TOKEN).unwrap();
        }
        for (from, to) in [
            ("connector.example:18401", target.clone()),
            // No Alertmanager listens there.
            (
                "alertmanager.example:9093",
                format!("127.0.0.1:{}", free_port()),
            ),
            (" 30s", " 1s".to_owned()),
            (
                "# - prometheus-watchdog.yml",
                "- prometheus-watchdog.yml".to_owned(),
            ),
        ] {
            assert!(config.contains(from), "{from} in prometheus-scrape.yml");
            config = config.replace(from, &to);
        }
        let dir = dir.to_str().unwrap();
        let path = format!("{dir}/prometheus.yml");
        fs::write(&path, config).unwrap();
        run_tool(&["promtool", "check", "config", &path]);
        let command = [
            "prometheus",
            &format!("--config.file={path}"),
            &format!("--storage.tsdb.path={dir}/data"),
            &format!("--web.listen-address=127.0.0.1:{port}"),
        ];
        let process =
            ProcessGroup::start(&command, &format!("{dir}/log"), &format!("rm -rf {dir}"));
        let prometheus = Self {
            _process: process,
            port,
            target,
        };
        wait_until("Prometheus starts (prometheus must be installed)", || {
            prometheus.get("/-/ready").is_ok()
        });
        wait_until("the connector is scraped", || {
            let up = format!("up{{job=\"{JOB}\",instance=\"{}\"}}", prometheus.target);
            let samples = prometheus.query(&up);
            samples.first().is_some_and(|up| up["value"][1] == "1")
        });
        prometheus
    }

    /// The body of a 200 response. With HTTP/1.0, whose responses are never chunked.
    fn get(&self, path: &str) -> Result<String, String> {
        let exchange = || -> std::io::Result<String> {
            let mut connection = TcpStream::connect(("127.0.0.1", self.port))?;
            connection.set_read_timeout(Some(crate::support::TIMEOUT))?;
            connection
                .write_all(format!("GET {path} HTTP/1.0\r\nHost: test\r\n\r\n").as_bytes())?;
            let mut response = String::new();
            connection.read_to_string(&mut response)?;
            Ok(response)
        };
        let response = exchange().map_err(|error| error.to_string())?;
        let (head, body) = response.split_once("\r\n\r\n").ok_or("no response")?;
        if head.split(' ').nth(1) == Some("200") {
            Ok(body.to_owned())
        } else {
            Err(response)
        }
    }

    fn api(&self, path: &str) -> Value {
        let body = self
            .get(&format!("/api/v1/{path}"))
            .unwrap_or_else(|error| panic!("{path}: {error}"));
        serde_json::from_str::<Value>(&body).unwrap()["data"].clone()
    }

    /// The current result of an instant query.
    fn query(&self, query: &str) -> Vec<Value> {
        let query = utf8_percent_encode(query, NON_ALPHANUMERIC);
        list(&self.api(&format!("query?query={query}"))["result"]).to_vec()
    }
}

/// A connector that gets every kind of request, so that every metric has samples.
struct BusyConnector {
    connector: Connector,
}

impl BusyConnector {
    /// With HTTPS, and a token for `/metrics`, where an authority is given.
    fn start(authority: Option<&Authority>) -> Self {
        let broker = Broker::shared();
        let mapping = format!("{MAPPING}\ntimestamp: {{type: copy, value: labels.severity}}\n");
        let http = authority.map_or_else(String::new, |authority| {
            authority.setting("server", "") + ", metrics_require_token: true"
        });
        let url = broker.url(&broker.fresh_vhost());
        let mut connector = Connector::with(&config(&url, &http, &mapping), &[]);
        connector.tls = authority.map(Authority::tls);
        connector.wait_until_ready();
        Self { connector }
    }

    fn send_requests(&self) {
        assert_eq!(self.connector.post(&notification(&["A", "B"])).status, 200);
        let nameless = notification(&["A"]).replace("\"instance\"", "\"other\"");
        assert_eq!(self.connector.post(&nameless).status, 422);
        let mut unauthenticated = self.connector.client();
        assert_eq!(
            unauthenticated
                .send("POST", "/webhook", &[], b"{}")
                .unwrap()
                .status,
            401
        );
    }
}

#[test]
fn queries_use_only_exposed_metrics_and_labels() {
    let busy = BusyConnector::start(None);
    busy.send_requests();
    let page = Client::new(busy.connector.address)
        .send("GET", "/metrics", &[], b"")
        .unwrap()
        .body;
    let exposed = exposed(&page);
    let check = |query: &str| {
        let names = names(query);
        for (metric, matchers) in &names.metrics {
            let labels = exposed
                .get(metric)
                .unwrap_or_else(|| panic!("{metric} is not exposed; in {query}"));
            for label in names
                .grouped
                .iter()
                .chain(matchers.iter().map(|(label, _)| label))
            {
                assert!(
                    labels.contains_key(label),
                    "{metric} has no label {label}; in {query}"
                );
            }
            // A status code has samples only after its first response; all other label values exist from the start.
            let fixed = matchers
                .iter()
                .filter(|(label, _)| !["code", "instance"].contains(&&**label));
            for (label, values) in fixed.filter(|(_, values)| !values.starts_with('$')) {
                for value in values.split('|') {
                    assert!(
                        labels[label].contains(value),
                        "{metric} never has {label}={value}; in {query}"
                    );
                }
            }
        }
        names
    };
    for rule in rules() {
        let mut queries = vec![text(&rule["expr"]).to_owned()];
        queries.extend(inner_queries(&rule));
        for query in queries {
            let names = check(&query);
            assert!(!names.metrics.is_empty() || query == "vector(1)", "{query}");
        }
    }
    for (metric, label) in variables() {
        let names = check(&metric);
        assert!(
            exposed[&names.metrics[0].0].contains_key(&label),
            "{label} of {metric}"
        );
    }
    let shown = Regex::new(r"\{\{(\w+)\}\}").unwrap();
    for (query, legend) in dashboard_queries() {
        let names = check(&query);
        for label in shown
            .captures_iter(&legend)
            .map(|found| found[1].to_owned())
        {
            let is_present = if names.grouped.is_empty() {
                names
                    .metrics
                    .iter()
                    .all(|(metric, _)| exposed[metric].contains_key(&label))
            } else {
                names.grouped.contains(&label)
            };
            assert!(is_present, "{label} of {legend:?} is not in {query}");
        }
    }
}

#[test]
fn a_real_prometheus_evaluates_every_rule_and_fills_every_panel() {
    let authority = Authority::new();
    let busy = BusyConnector::start(Some(&authority));
    let prometheus = Prometheus::start(&busy.connector, Some(&authority));
    let address = &prometheus.target;
    wait_until("all rules are evaluated without an error", || {
        let groups = prometheus.api("rules")["groups"].clone();
        let rules: Vec<&Value> = list(&groups)
            .iter()
            .flat_map(|group| list(&group["rules"]))
            .collect();
        rules.len() == self::rules().len() && rules.iter().all(|rule| rule["health"] == "ok")
    });
    for (metric, label) in variables() {
        let values = prometheus.query(&substitute_variables(&metric, JOB, address));
        let expected = if label == "job" { JOB } else { address };
        assert_eq!(values[0]["metric"][&label], expected, "{metric}");
    }
    for (query, _) in dashboard_queries() {
        let query = substitute_variables(&query, JOB, address);
        wait_until(&query, || {
            busy.send_requests();
            !prometheus.query(&query).is_empty()
        });
    }
    let alerts = || list(&prometheus.api("alerts")["alerts"]).to_vec();
    wait_until("an alert fires, and names the field", || {
        alerts().iter().any(|alert| {
            alert["labels"]["alertname"] == "CanopsisConnectorAlertsRejected"
                && alert["state"] == "firing"
                && text(&alert["annotations"]["description"])
                    .contains("without a value: component.")
        })
    });
    let critical: Vec<Value> = alerts()
        .into_iter()
        .filter(|alert| alert["labels"]["severity"] == "critical")
        .collect();
    assert!(
        critical.iter().all(|alert| alert["state"] != "firing"),
        "{critical:?}"
    );
}

#[test]
fn a_real_prometheus_scrapes_a_connector_without_https() {
    let busy = BusyConnector::start(None);
    let prometheus = Prometheus::start(&busy.connector, None);
    let expiry = "canopsis_connector_tls_certificate_expiry_timestamp_seconds";
    assert_eq!(prometheus.query(expiry)[0]["value"][1], "0");
    let (panel, _) = dashboard_queries()
        .into_iter()
        .find(|(query, _)| query.contains(expiry))
        .unwrap();
    let query = substitute_variables(&panel, JOB, &prometheus.target);
    assert!(prometheus.query(&query).is_empty(), "no certificate");
}
