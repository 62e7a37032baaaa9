//! The webhook: notifications become events in the queue.

use crate::support::broker::{Broker, ReceivedMessage};
use crate::support::connector::{Connector, MAPPING, config, shipped_config};
use crate::support::http::Client;
use crate::support::{TOKEN, notification, payload, wait_until};
use serde_json::{Value, json};

/// The mapping of the example in Canopsis's documentation.
const DOCUMENTED: &str = r#"
connector: {type: set, value: prometheus}
connector_name: {type: template, field: labels.instance, value: '{{ split ":" 0 .Field }}1'}
component: {type: copy, value: labels.instance}
resource: {type: copy, value: labels.alertname}
state: {type: template, field: labels.severity, value: '{{ if eq .Field "critical" }}2{{ else }}1{{ end }}'}
output: {type: copy, value: annotations.description}
long_output: {type: copy, value: annotations.description}
extra_infos_prefix: prom_
extra_infos:
  labels_severity: {type: copy, value: labels.severity}
  title: {type: template, field: annotations.title, regexp: 'Instance (?P<Substr>.* ?)($|,)', value: 'Prometheus {{ .RegexMatch.Substr }}'}
  event_type: {type: set, value: check}
  source_type: {type: set, value: resource}
  type_ack: {type: set, value: auto}
  fingerprint: {type: copy, value: fingerprint}
  tags: {type: copy, value: labels}
"#;

fn documented_event() -> Value {
    json!({
        "event_type": "check", "source_type": "resource", "state": 2,
        "connector": "prometheus", "connector_name": "node_exporter1",
        "component": "node_exporter:9100", "resource": "InstanceDown",
        "author": "prometheus.node_exporter1",
        "output": "node_exporter:9100 of job node1 has been down for more than 1 minute.",
        "long_output": "node_exporter:9100 of job node1 has been down for more than 1 minute.",
        "prom_labels_severity": "critical",
        "prom_title": "Prometheus node_exporter:9100 down",
        "prom_event_type": "check", "prom_source_type": "resource", "prom_type_ack": "auto",
        "prom_fingerprint": "86714e72c9c59990",
        "prom_tags": {"alertname": "InstanceDown", "cluster": "eu-1", "instance": "node_exporter:9100", "job": "node1",
            "severity": "critical"},
    })
}

#[test]
fn the_documented_notification_gives_the_documented_event() {
    let broker = Broker::shared();
    let vhost = broker.fresh_vhost();
    let connector = Connector::with(&config(&broker.url(&vhost), "", DOCUMENTED), &[]);
    let response = connector.post(&payload("firing-one"));
    assert_eq!(
        (response.status, response.json()),
        (200, json!({"published": 1}))
    );
    let received = broker.admin(&vhost).drain();
    assert_eq!(received.len(), 1);
    assert_eq!(received[0].event, documented_event());
    assert_eq!(
        received[0].delivery.routing_key,
        "prometheus.node_exporter1.check.resource.node_exporter:9100.InstanceDown"
    );
    let properties = &received[0].delivery.properties;
    assert_eq!(
        properties.content_type().as_deref(),
        Some("application/json")
    );
    assert_eq!(*properties.delivery_mode(), Some(2));
    assert!(properties.message_id().is_some());
}

#[test]
fn the_shipped_configuration_maps_every_captured_notification() {
    let broker = Broker::shared();
    let vhost = broker.fresh_vhost();
    let shipped = shipped_config(&broker.url(&vhost));
    let connector = Connector::with(&shipped, &["--host", "127.0.0.1", "--port", "0"]);
    let admin = broker.admin(&vhost);
    for (name, states) in [
        ("firing-one", &[3][..]),
        ("resolved-one", &[0]),
        ("firing-two-severities", &[1, 3]),
        ("mixed-resolved-and-firing", &[0, 3]),
        ("firing-truncated", &[1, 1, 1, 1, 1]),
        ("firing-unicode", &[3]),
    ] {
        let body = payload(name);
        let sent: Value = serde_json::from_str(&body).unwrap();
        let response = connector.post(&body);
        assert_eq!(
            (response.status, response.json()),
            (200, json!({"published": states.len()})),
            "{name}"
        );
        let received = admin.drain();
        assert_eq!(
            received
                .iter()
                .map(|one| one.event["state"].clone())
                .collect::<Vec<_>>(),
            states,
            "{name}"
        );
        for (received, alert) in received.iter().zip(sent["alerts"].as_array().unwrap()) {
            assert_eq!(
                received.resource().split(' ').next(),
                alert["labels"]["alertname"]
                    .as_str()
                    .unwrap()
                    .split(' ')
                    .next(),
                "{name}"
            );
            assert_eq!(received.event["prom_tags"], alert["labels"], "{name}");
            let message = alert["annotations"]["description"]
                .as_str()
                .or(alert["annotations"]["summary"].as_str());
            assert_eq!(received.event["output"].as_str(), message, "{name}");
        }
        if name == "firing-one" {
            // The documented event, except for the state of critical, the constant name, the entity, and the links.
            let mut expected = documented_event();
            for (key, value) in [
                ("state", json!(3)),
                ("connector_name", json!("prometheus")),
                ("author", json!("prometheus.prometheus")),
                ("component", json!("node_exporter")),
                ("resource", json!("InstanceDown cluster=eu-1")),
                ("tags", sent["groupLabels"].clone()),
                ("prom_starts_at", sent["alerts"][0]["startsAt"].clone()),
                ("prom_source", sent["alerts"][0]["generatorURL"].clone()),
                ("prom_alertmanager", sent["externalURL"].clone()),
            ] {
                expected[key] = value;
            }
            assert_eq!(received[0].event, expected);
        }
    }
    assert!(
        connector
            .log()
            .contains("Alertmanager truncated the notification (max_alerts)")
    );
    assert!(
        connector
            .log()
            .contains("http.bearer_token: is a published placeholder")
            == shipped.contains("change-me")
    );
}

#[test]
fn events_keep_their_order_and_routing_keys_fit() {
    let broker = Broker::shared();
    let vhost = broker.fresh_vhost();
    let connector = Connector::on(&broker.url(&vhost));
    let names: Vec<String> = (0..2500)
        .map(|number| format!("{number}-{}", "é".repeat(number % 300)))
        .collect();
    let response = connector.post(&notification(&names));
    assert_eq!(
        (response.status, response.json()),
        (200, json!({"published": 2500}))
    );
    let received = broker.admin(&vhost).drain();
    assert_eq!(
        received
            .iter()
            .map(ReceivedMessage::resource)
            .collect::<Vec<_>>(),
        names
    );
    assert!(
        received
            .iter()
            .all(|one| one.delivery.routing_key.len() <= 255)
    );
    assert!(
        received
            .iter()
            .any(|one| one.delivery.routing_key.len() >= 254)
    );
}

#[test]
fn a_connection_that_is_kept_open_counts_as_a_notification_only_while_it_sends_one() {
    // Two of four connections may carry notifications at once.
    let text = config("amqp://127.0.0.1:1", "max_connections: 4", MAPPING);
    let connector = Connector::with(&text, &["--stdout"]);
    let mut senders: Vec<Client> = (0..3).map(|_| connector.client()).collect();
    let mut pages = connector.client();
    for round in 0..3 {
        for sender in &mut senders {
            let response = sender.post(&notification(&["a"])).unwrap();
            assert_eq!(response.status, 200, "round {round}: {}", response.body);
            wait_until("the connection is idle", || {
                let page = pages.send("GET", "/metrics", &[], b"").unwrap().body;
                let idle = "canopsis_connector_http_notifications 0";
                page.lines().any(|line| line == idle)
            });
        }
    }
}

#[test]
fn rejected_alerts_are_named_and_the_others_published() {
    let broker = Broker::shared();
    let vhost = broker.fresh_vhost();
    let connector = Connector::on(&broker.url(&vhost));
    let body = notification(&["first", "", "third"]);
    let response = connector.post(&body);
    assert_eq!(response.status, 200);
    let expected = json!({
        "warning": "rejected 1 of 3 alerts; published 2",
        "published": 2,
        "rejected": [{"alertname": "", "fingerprint": "", "field": "resource",
            "reason": "required field resource has no value: labels.alertname is empty"}],
    });
    assert_eq!(response.json(), expected);
    assert_eq!(broker.admin(&vhost).drain_resources(), ["first", "third"]);
}

#[test]
fn no_secret_is_in_the_log_or_the_command_line() {
    let broker = Broker::shared();
    let connector = Connector::with(
        &config(&broker.url(&broker.fresh_vhost()), "", MAPPING),
        &["--log-level", "trace"],
    );
    connector.wait_until_ready();
    connector.post(&notification(&["a"]));
    let _ = Client::new(connector.address).send(
        "POST",
        "/webhook",
        &["Authorization: Bearer hunter2"],
        b"x",
    );
    let everything = connector.log()
        + &std::fs::read_to_string(format!("/proc/{}/cmdline", connector.pid())).unwrap();
    for secret in [TOKEN, "hunter2", "cpsrabbit:canopsis"] {
        assert!(!everything.contains(secret), "{secret} in {everything}");
    }
}
