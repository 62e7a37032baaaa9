//! `/metrics`: every metric is documented, the page is valid, and the counts are right.
#![allow(clippy::float_cmp, reason = "counts are whole numbers")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use crate::support::broker::Broker;
use crate::support::connector::{Connector, MAPPING, config};
use crate::support::http::Client;
use crate::support::{TOKEN, notification, payload, wait_until};

const OPERATIONS: &str = include_str!("../../docs/operations.md");

/// All samples, with `name{labels}` as the key.
fn samples(page: &str) -> BTreeMap<String, f64> {
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| line.rsplit_once(' ').unwrap())
        .map(|(name, value)| (name.to_owned(), value.parse().unwrap()))
        .collect()
}

pub fn scrape(connector: &Connector) -> BTreeMap<String, f64> {
    let response = Client::new(connector.address)
        .send("GET", "/metrics", &[], b"")
        .unwrap();
    assert_eq!(response.status, 200);
    samples(&response.body)
}

pub fn count(samples: &BTreeMap<String, f64>, name: &str) -> f64 {
    *samples
        .get(&format!("canopsis_connector_{name}"))
        .unwrap_or_else(|| panic!("{name} in {samples:#?}"))
}

#[test]
fn metrics_count_requests_alerts_and_events() {
    let mut broker = Broker::start();
    // The rule of output has a fallback: what fails before it drops no field.
    let failing = "[{type: template, value: '{{ slice .Alert.labels.alertname 9 }}'}, x]";
    let mapping = MAPPING.replace("{type: copy, value: annotations.summary}", failing);
    let mapping = format!("{mapping}\ntimestamp: {{type: copy, value: labels.severity}}\n");
    let mut connector = Connector::with(
        &config(&broker.url("v0"), "answer_timeout: 1s", &mapping),
        &[],
    );
    connector.wait_until_ready();
    let zero = scrape(&connector);
    for name in [
        "events_published_total",
        "alerts_truncated_total",
        "events_failed_total{reason=\"returned\"}",
    ] {
        assert_eq!(count(&zero, name), 0.0, "{name}");
    }

    assert_eq!(connector.post(&notification(&["A", "B", "C"])).status, 200);
    let resolved = notification(&["A"]).replace("\"firing\"", "\"resolved\"");
    assert_eq!(connector.post(&resolved).status, 200);
    let nameless = notification(&["A", "B"]).replace("\"instance\"", "\"other\"");
    assert_eq!(connector.post(&nameless).status, 422);
    let truncated = notification(&["D"]).replace("\"truncatedAlerts\":0", "\"truncatedAlerts\":7");
    assert_eq!(connector.post(&truncated).status, 200);
    assert_eq!(
        Client::new(connector.address)
            .send("POST", "/webhook", &[], b"{}")
            .unwrap()
            .status,
        401
    );
    assert_eq!(
        Client::new(connector.address)
            .send("GET", "/elsewhere/by/the/sender", &[], b"")
            .unwrap()
            .status,
        404
    );
    let mut noise = TcpStream::connect(connector.address).unwrap();
    noise.write_all(b"noise\r\n\r\n").unwrap();
    let _ = noise.read_to_end(&mut Vec::new());
    broker.admin("v0").unbind();
    assert_eq!(connector.post(&notification(&["E", "F"])).status, 503);
    broker.admin("v0").bind();
    broker.kill();
    wait_until("the broker is lost", || {
        connector.get("/-/ready").status == 503
    });
    assert_eq!(connector.post(&notification(&["G", "H", "I"])).status, 503);
    connector.reload("connector: [");
    wait_until("the publisher has looked for callers", || {
        count(&scrape(&connector), "events_waiting") == 0.0
    });

    let now = scrape(&connector);
    for (name, expected) in [
        ("http_requests_total{route=\"/webhook\",code=\"200\"}", 3.0),
        ("http_requests_total{route=\"/webhook\",code=\"401\"}", 1.0),
        ("http_requests_total{route=\"/webhook\",code=\"422\"}", 1.0),
        ("http_requests_total{route=\"/webhook\",code=\"503\"}", 2.0),
        ("http_requests_total{route=\"other\",code=\"404\"}", 1.0),
        ("http_requests_total{route=\"other\",code=\"400\"}", 1.0),
        (
            "http_request_duration_seconds_count{route=\"/webhook\"}",
            7.0,
        ),
        ("http_authentication_failures_total", 1.0),
        ("alerts_received_total{status=\"firing\"}", 6.0),
        ("alerts_received_total{status=\"resolved\"}", 1.0),
        ("alerts_rejected_total{field=\"component\"}", 2.0),
        ("alerts_truncated_total", 7.0),
        ("event_fields_dropped_total{field=\"timestamp\"}", 5.0),
        ("event_fields_dropped_total{field=\"output\"}", 0.0),
        ("events_published_total", 5.0),
        ("events_failed_total{reason=\"returned\"}", 2.0),
        ("events_failed_total{reason=\"disconnected\"}", 3.0),
        ("events_failed_total{reason=\"nack\"}", 0.0),
        ("amqp_connected", 0.0),
        ("amqp_messages_in_flight", 0.0),
        ("amqp_connection_attempts_total{outcome=\"success\"}", 1.0),
        // RabbitMQ confirms returned messages as well.
        ("amqp_confirm_duration_seconds_count", 7.0),
        ("config_last_reload_successful", 0.0),
        ("config_reloads_total{outcome=\"failure\"}", 1.0),
    ] {
        assert_eq!(count(&now, name), expected, "{name}");
    }
    assert!(count(&now, "amqp_connection_attempts_total{outcome=\"failure\"}") >= 1.0);
    assert!(
        now["process_resident_memory_bytes"] > 1e6
            && now["process_threads"] >= 3.0
            && now["process_open_fds"] > 3.0
    );
    assert!(
        now.keys()
            .any(|name| name.starts_with("canopsis_connector_build_info{version=\"v")),
        "{now:#?}"
    );
    assert!(!now.keys().any(|name| name.contains("elsewhere")));

    broker.run();
    wait_until("the broker is back", || {
        count(&scrape(&connector), "amqp_connected") == 1.0
    });
}

#[test]
fn repeated_warnings_are_logged_once_and_each_request_has_an_id() {
    let broker = Broker::shared();
    let mapping = format!("{MAPPING}\ntimestamp: {{type: copy, value: labels.severity}}\n");
    let connector = Connector::with(
        &config(&broker.url(&broker.fresh_vhost()), "", &mapping),
        &[],
    );
    connector.wait_until_ready();
    let names: Vec<String> = (0..100).map(|number| format!("A{number}")).collect();
    let response = connector.post(&notification(&names));
    assert_eq!(response.status, 200);
    assert_eq!(
        connector
            .log()
            .matches("is neither Unix seconds nor RFC 3339")
            .count(),
        1,
        "{}",
        connector.log()
    );
    let id = response.header("X-Request-Id").unwrap().to_owned();
    wait_until("the request's line", || {
        connector.log().lines().any(|line| {
            line.contains(&format!("request request={id} ")) && line.contains("status=200")
        })
    });
}

#[test]
fn a_reload_over_http_requires_the_token_and_returns_the_errors() {
    let broker = Broker::shared();
    let good = config(&broker.url(&broker.fresh_vhost()), "", MAPPING);
    let connector = Connector::with(&good, &[]);
    let ask = |headers: &[&str]| {
        Client::new(connector.address)
            .send("POST", "/-/reload", headers, b"")
            .unwrap()
    };
    let token = format!("Authorization: Bearer {TOKEN}");
    assert_eq!(ask(&[]).status, 401);
    assert_eq!(
        Client::new(connector.address)
            .send("GET", "/-/reload", &[&token], b"")
            .unwrap()
            .status,
        405
    );
    assert_eq!(ask(&[&token]).status, 200);
    let loaded_at = "config_last_reload_success_timestamp_seconds";
    let loaded = count(&scrape(&connector), loaded_at);
    connector.rewrite(&good.replace("bearer_token", "bearer_tokn"));
    let refused = ask(&[&token]);
    assert_eq!(
        count(&scrape(&connector), loaded_at),
        loaded,
        "after a failure"
    );
    assert_eq!(refused.status, 500);
    assert!(
        refused
            .body
            .contains("still using the previous configuration")
            && refused.body.contains("http.bearer_tokn"),
        "{}",
        refused.body
    );
    assert_eq!(
        count(&scrape(&connector), "config_last_reload_successful"),
        0.0
    );
    connector.rewrite(&good);
    assert_eq!(ask(&[&token]).status, 200);
    assert_eq!(
        count(
            &scrape(&connector),
            "config_reloads_total{outcome=\"success\"}"
        ),
        2.0
    );
}

#[test]
fn the_page_is_valid_and_every_metric_is_documented() {
    let broker = Broker::shared();
    let connector = Connector::on(&broker.url(&broker.fresh_vhost()));
    connector.wait_until_ready();
    connector.post(&payload("firing-one"));
    // Whatever a scrape accepts. This is what Prometheus 2 and 3 send.
    let accept =
        "Accept: application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3";
    let mut client = Client::new(connector.address);
    let text = client.send("GET", "/metrics", &[accept], b"").unwrap();
    assert_eq!(
        text.header("Content-Type"),
        Some("text/plain; version=0.0.4; charset=utf-8")
    );
    assert_eq!(promtool(&text.body), "");

    let table = OPERATIONS
        .split_once("| metric | type | labels | meaning |")
        .unwrap()
        .1
        .split_once("\n\n")
        .unwrap()
        .0;
    let documented: BTreeSet<(String, String)> = table
        .lines()
        .skip(2)
        .map(|row| row.split('|').map(str::trim).collect::<Vec<_>>())
        .flat_map(|cells| {
            let kind = cells[2].to_owned();
            cells[1]
                .split(", ")
                .map(|name| (name.trim_matches('`').to_owned(), kind.clone()))
                .collect::<Vec<_>>()
        })
        .collect();
    let exposed: BTreeSet<(String, String)> = text
        .body
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
        .map(|(name, kind)| (name.to_owned(), kind.to_owned()))
        .collect();
    assert_eq!(documented, exposed);
}

/// The output of `promtool check metrics`.
fn promtool(page: &str) -> String {
    let mut child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool comes with prometheus");
    child
        .stdin
        .take()
        .unwrap()
        .write_all(page.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
}
