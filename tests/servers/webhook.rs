//! The webhook: notifications become events in the queue.

use crate::support::broker::{Admin, ReceivedMessage};
use crate::support::connector::{Connector, MAPPING, config, shipped_config};
use crate::support::http::Client;
use crate::support::{notification, payload, wait_until};
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
    let admin = Admin::fresh();
    let connector = Connector::ready(&admin.url(), "", DOCUMENTED);
    let response = connector.post(&payload("firing-one"));
    assert_eq!(response.status, 200);
    assert_eq!(response.json(), json!({"published": 1}));
    let received = admin.drain();
    assert_eq!(received.len(), 1);
    assert_eq!(received[0].event, documented_event());
    let delivery = &received[0].delivery;
    let routing_key = "prometheus.node_exporter1.check.resource.node_exporter:9100.InstanceDown";
    assert_eq!(delivery.routing_key, routing_key);
    let content_type = delivery.properties.content_type().as_deref();
    assert_eq!(content_type, Some("application/json"));
    assert_eq!(*delivery.properties.delivery_mode(), Some(2));
    assert!(delivery.properties.message_id().is_some());
}

#[test]
fn the_shipped_configuration_maps_every_captured_notification() {
    let admin = Admin::fresh();
    let shipped = shipped_config(&admin.url());
    let connector = Connector::with(&shipped, &["--host", "127.0.0.1", "--port", "0"]);
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
        assert_eq!(response.status, 200, "{name}: {}", response.body);
        let published = json!({"published": states.len()});
        assert_eq!(response.json(), published, "{name}");
        let received = admin.drain();
        let found = received.iter().map(|one| one.event["state"].clone());
        assert_eq!(found.collect::<Vec<_>>(), states, "{name}");
        for (received, alert) in received.iter().zip(sent["alerts"].as_array().unwrap()) {
            let first_word = |text: &str| text.split(' ').next().unwrap().to_owned();
            let alert_name = alert["labels"]["alertname"].as_str().unwrap();
            let resource = received.resource();
            assert_eq!(first_word(&resource), first_word(alert_name), "{name}");
            assert_eq!(received.event["prom_tags"], alert["labels"], "{name}");
            let annotations = &alert["annotations"];
            let message = ["description", "summary"].map(|key| annotations[key].as_str());
            let message = message[0].or(message[1]);
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
    let log = connector.log();
    assert!(log.contains("Alertmanager truncated the notification (max_alerts)"));
    let is_warned = log.contains("http.bearer_token: is a published placeholder");
    assert_eq!(is_warned, shipped.contains("change-me"));
}

#[test]
fn events_keep_their_order_and_routing_keys_fit() {
    let admin = Admin::fresh();
    let connector = Connector::on(&admin.url());
    let names: Vec<String> = (0..2500)
        .map(|number| format!("{number}-{}", "é".repeat(number % 300)))
        .collect();
    let response = connector.post(&notification(&names));
    response.assert(200, "{\"published\":2500}");
    let received = admin.drain();
    let resources: Vec<String> = received.iter().map(ReceivedMessage::resource).collect();
    assert_eq!(resources, names);
    let lengths = received.iter().map(|one| one.delivery.routing_key.len());
    // A character of two bytes is not split.
    assert!(matches!(lengths.max(), Some(254 | 255)));
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
                let page = pages.send("GET", "/metrics", &[], b"").unwrap();
                page.metric("http_notifications") == 0
            });
        }
    }
}

#[test]
fn rejected_alerts_are_named_and_the_others_published() {
    let admin = Admin::fresh();
    let connector = Connector::on(&admin.url());
    let response = connector.post(&notification(&["first", "", "third"]));
    assert_eq!(response.status, 200);
    let expected = json!({
        "warning": "rejected 1 of 3 alerts; published 2",
        "published": 2,
        "rejected": [{"alertname": "", "fingerprint": "", "field": "resource",
            "reason": "required field resource has no value: labels.alertname is empty"}],
    });
    assert_eq!(response.json(), expected);
    assert_eq!(admin.drain_resources(), ["first", "third"]);
    // Without any event: Alertmanager need not send a resolved alert again, and must send a firing one.
    let firing = notification(&[""]);
    let resolved = firing.replace("\"firing\"", "\"resolved\"");
    for (body, status) in [(resolved, 200), (firing, 422)] {
        let response = connector.post(&body);
        response.assert(status, "\"field\":\"resource\"");
    }
    assert!(admin.drain().is_empty());
    assert_eq!(
        connector.metric("alerts_rejected_total{field=\"resource\"}"),
        3
    );
}
