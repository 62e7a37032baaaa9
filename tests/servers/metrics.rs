//! `/metrics`: the page is valid, and the counts are right. `offline/documents/reference.rs` compares it with the documents.

use std::process::Command;

use crate::support::broker::{Admin, Broker};
use crate::support::connector::{Connector, MAPPING, run_with_input};
use crate::support::{notification, payload, wait_until};

#[test]
fn metrics_count_requests_alerts_and_events() {
    let mut broker = Broker::start();
    // The rule of output has a fallback: what fails before it drops no field.
    let failing = "[{type: template, value: '{{ slice .Alert.labels.alertname 9 }}'}, x]";
    let mapping = MAPPING.replace("{type: copy, value: annotations.summary}", failing);
    let mapping = format!("{mapping}\ntimestamp: {{type: copy, value: labels.severity}}\n");
    let mut connector = Connector::ready(&broker.url("v0"), "answer_timeout: 1s", &mapping);
    for name in [
        "events_published_total",
        "alerts_truncated_total",
        "events_failed_total{reason=\"returned\"}",
    ] {
        assert_eq!(connector.metric(name), 0, "{name}");
    }

    let response = connector.post(&notification(&["A", "B", "C"]));
    assert_eq!(response.status, 200);
    let resolved = notification(&["A"]).replace("\"firing\"", "\"resolved\"");
    assert_eq!(connector.post(&resolved).status, 200);
    let nameless = notification(&["A", "B"]).replace("\"instance\"", "\"other\"");
    assert_eq!(connector.post(&nameless).status, 422);
    let truncated = notification(&["D"]).replace("\"truncatedAlerts\":0", "\"truncatedAlerts\":7");
    assert_eq!(connector.post(&truncated).status, 200);
    assert_eq!(connector.send("POST", "/webhook", &[]).status, 401);
    let elsewhere = connector.send("GET", "/elsewhere/by/the/sender", &[]);
    assert_eq!(elsewhere.status, 404);
    let mut noise = connector.connect();
    noise.send("noise\r\n\r\n").unwrap();
    let _ = noise.rest();
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
        connector.metric("events_waiting") == 0
    });

    for (name, expected) in [
        ("http_requests_total{route=\"/webhook\",code=\"200\"}", 3),
        ("http_requests_total{route=\"/webhook\",code=\"401\"}", 1),
        ("http_requests_total{route=\"/webhook\",code=\"422\"}", 1),
        ("http_requests_total{route=\"/webhook\",code=\"503\"}", 2),
        ("http_requests_total{route=\"other\",code=\"404\"}", 1),
        ("http_requests_total{route=\"other\",code=\"400\"}", 1),
        ("http_request_duration_seconds_count{route=\"/webhook\"}", 7),
        ("http_authentication_failures_total", 1),
        ("alerts_received_total{status=\"firing\"}", 6),
        ("alerts_received_total{status=\"resolved\"}", 1),
        ("alerts_rejected_total{field=\"component\"}", 2),
        ("alerts_truncated_total", 7),
        ("event_fields_dropped_total{field=\"timestamp\"}", 5),
        ("event_fields_dropped_total{field=\"output\"}", 0),
        ("events_published_total", 5),
        ("events_failed_total{reason=\"returned\"}", 2),
        ("events_failed_total{reason=\"disconnected\"}", 3),
        ("events_failed_total{reason=\"nack\"}", 0),
        ("amqp_connected", 0),
        ("amqp_messages_in_flight", 0),
        ("amqp_connection_attempts_total{outcome=\"success\"}", 1),
        // RabbitMQ confirms returned messages as well.
        ("amqp_confirm_duration_seconds_count", 7),
        ("config_last_reload_successful", 0),
        ("config_reloads_total{outcome=\"failure\"}", 1),
    ] {
        assert_eq!(connector.metric(name), expected, "{name}");
    }
    assert!(connector.metric("amqp_connection_attempts_total{outcome=\"failure\"}") >= 1);
    for (name, least) in [
        ("process_resident_memory_bytes", 1_000_000),
        ("process_threads", 3),
        ("process_open_fds", 4),
    ] {
        assert!(connector.metric(name) >= least, "{name}");
    }
    let page = connector.get("/metrics").body;
    let version = "\ncanopsis_connector_build_info{version=\"v";
    assert!(page.contains(version), "{page}");
    assert!(!page.contains("elsewhere"), "a name that a sender chose");

    broker.run();
    wait_until("the broker is back", || {
        connector.metric("amqp_connected") == 1
    });
}

#[test]
fn repeated_warnings_are_logged_once_and_each_request_has_an_id() {
    let mapping = format!("{MAPPING}\ntimestamp: {{type: copy, value: labels.severity}}\n");
    let mut connector = Connector::ready(&Admin::fresh().url(), "", &mapping);
    let names: Vec<String> = (0..100).map(|number| format!("A{number}")).collect();
    let response = connector.post(&notification(&names));
    assert_eq!(response.status, 200);
    let id = response.header("X-Request-Id").unwrap();
    let request = format!("request request={id} ");
    connector.wait_for_log(&request);
    let log = connector.log();
    let line = log.lines().find(|line| line.contains(&request)).unwrap();
    assert!(line.contains(" status=200 "), "another status: {line}");
    let warnings = log.matches("is neither Unix seconds nor RFC 3339");
    assert_eq!(warnings.count(), 1, "{log}");
}

#[test]
fn the_page_is_valid() {
    let connector = Connector::on(&Admin::fresh().url());
    connector.post(&payload("firing-one"));
    // Whatever a scrape accepts. This is what Prometheus 2 and 3 send.
    let accept =
        "Accept: application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3";
    let page = connector.send("GET", "/metrics", &[accept]);
    let format = "text/plain; version=0.0.4; charset=utf-8";
    assert_eq!(page.header("Content-Type"), Some(format));
    let mut promtool = Command::new("promtool");
    let checked = run_with_input(promtool.args(["check", "metrics"]), &page.body);
    let printed = [checked.stdout, checked.stderr].concat();
    assert_eq!(String::from_utf8_lossy(&printed), "");
    assert!(checked.status.success());
}
