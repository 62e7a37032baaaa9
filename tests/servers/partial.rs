//! A notification of which some alerts are rejected: the alarms of the others open and close.
//!
//! Alertmanager never sends a resolve for a group that has never been answered 2xx. So a failure of one alert must not be the
//! answer to a notification of which events were published: their alarms would stay open for good.

use crate::support::alertmanager::Alertmanager;
use crate::support::broker::Broker;
use crate::support::connector::{Connector, MAPPING, config};
use crate::support::wait_until;
use serde_json::{Value, json};

const OVER: Option<&str> = Some("2026-01-01T00:01:00Z");

#[test]
fn the_alarm_beside_a_rejected_alert_closes() {
    let broker = Broker::shared();
    let vhost = broker.fresh_vhost();
    let admin = broker.admin(&vhost);
    let mut connector = Connector::on(&broker.url(&vhost));
    connector.wait_until_ready();
    // Both are in the first notification of their group.
    let route = "group_by: [instance], group_wait: 1s";
    let mut alertmanager = Alertmanager::start(connector.address, route);
    let mut received: Vec<Value> = Vec::new();
    let mut wait_for = |state: u8| {
        wait_until(&format!("an event with state {state}"), || {
            received.extend(admin.drain().into_iter().map(|message| message.event));
            received.iter().any(|event| event["state"] == state)
        });
    };
    // The mapping's resource is the alert's name.
    let alerts = [
        json!({"alertname": "Mapped", "instance": "host:9100", "severity": "warning"}),
        json!({"instance": "host:9100", "severity": "warning"}),
    ];
    alertmanager.post_alerts(&alerts, None);
    connector.wait_for_log("alert rejected: required field resource has no value");
    wait_for(1);
    alertmanager.post_alerts(&alerts, OVER);
    wait_for(0);
    assert!(received.iter().all(|event| event["resource"] == "Mapped"));
}

#[test]
fn each_notification_has_the_answer_that_closes_its_alarms() {
    let broker = Broker::shared();
    let vhost = broker.fresh_vhost();
    let admin = broker.admin(&vhost);
    let mapping = format!(
        "{MAPPING}\nextra_infos_prefix: x_\nextra_infos: {{large: {{type: copy, value: annotations.large}}}}\n"
    );
    let connector = Connector::with(&config(&broker.url(&vhost), "", &mapping), &[]);
    connector.wait_until_ready();
    let alert = |status: &str, labels: Value, annotations: Value| json!({"status": status, "labels": labels, "annotations": annotations, "fingerprint": "f"});
    let good = |status: &str| {
        alert(
            status,
            json!({"alertname": "A", "instance": "h"}),
            json!({}),
        )
    };
    let nameless = |status: &str| alert(status, json!({"instance": "h"}), json!({}));
    let malformed =
        |status: &str| alert(status, json!({"alertname": "M", "instance": 1}), json!({}));
    let large = |status: &str| {
        alert(
            status,
            json!({"alertname": "L", "instance": "h"}),
            json!({"large": "x".repeat(1 << 20)}),
        )
    };
    for (alerts, status, published, fields) in [
        (
            vec![good("firing"), nameless("firing")],
            200,
            1,
            &["resource"][..],
        ),
        (
            vec![malformed("firing"), good("firing")],
            200,
            1,
            &["alert"],
        ),
        (
            vec![
                large("firing"),
                good("resolved"),
                nameless("firing"),
                good("firing"),
            ],
            200,
            1,
            &["event", "resource"],
        ),
        (
            vec![nameless("resolved"), malformed("resolved")],
            200,
            0,
            &["resource", "alert"],
        ),
        (
            vec![nameless("firing"), malformed("resolved")],
            422,
            0,
            &["resource", "alert"],
        ),
        (vec![malformed("firing")], 422, 0, &["alert"]),
        (vec![large("firing")], 422, 0, &["event"]),
        (vec![json!(1)], 422, 0, &["alert"]),
        (vec![good("firing")], 200, 1, &[]),
    ] {
        let body = json!({"version": "4", "alerts": alerts}).to_string();
        let response = connector.post(&body);
        let answer = response.json();
        assert_eq!(
            (response.status, &answer["published"]),
            (status, &json!(published)),
            "{answer}"
        );
        let rejected = answer["rejected"].as_array().cloned().unwrap_or_default();
        let named: Vec<&Value> = rejected.iter().map(|alert| &alert["field"]).collect();
        assert_eq!(named, fields, "{answer}");
        assert_eq!(admin.drain().len(), published, "{answer}");
    }
    // Those of a notification that is given up count, those of one that is sent again do not.
    let page = connector.get("/metrics").body;
    for line in [
        "alerts_received_total{status=\"firing\"} 12",
        "alerts_received_total{status=\"resolved\"} 4",
        "alerts_rejected_total{field=\"alert\"} 5",
        "alerts_rejected_total{field=\"event\"} 2",
        "alerts_rejected_total{field=\"resource\"} 4",
    ] {
        let line = format!("canopsis_connector_{line}");
        assert!(page.lines().any(|found| found == line), "{line} in\n{page}");
    }
}
