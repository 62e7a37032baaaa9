//! A real Alertmanager as the sender: its alerts arrive, also after an outage of RabbitMQ.

use crate::support::alertmanager::Alertmanager;
use crate::support::broker::Broker;
use crate::support::connector::Connector;
use crate::support::wait_until;
use serde_json::{Value, json};

const ROUTE: &str = "group_by: [alertname], group_wait: 0s";
const OVER: Option<&str> = Some("2026-01-01T00:01:00Z");

#[test]
fn alerts_fire_and_resolve_through_an_outage_of_the_broker() {
    fire_and_resolve(|connector| Alertmanager::start(connector.address, ROUTE));
}

/// `make check-cluster` runs it: it needs root, and the directory that `scripts/rabbitmq-4-root` makes.
#[test]
#[ignore = "needs root and RABBITMQ_4_ROOT"]
fn a_later_alertmanager_fires_and_resolves_through_an_outage_of_the_broker() {
    let root = std::env::var("RABBITMQ_4_ROOT")
        .expect("RABBITMQ_4_ROOT names the directory that scripts/rabbitmq-4-root has made");
    fire_and_resolve(|connector| {
        let mut alertmanager = Alertmanager::start_in(&root, connector.address, ROUTE);
        let version = alertmanager.version();
        assert!(version.starts_with("0.28."), "{version}");
        alertmanager
    });
}

fn fire_and_resolve(start: impl FnOnce(&Connector) -> Alertmanager) {
    let mut broker = Broker::start();
    let mut connector = Connector::on(&broker.url("v0"));
    connector.wait_until_ready();
    let mut alertmanager = start(&connector);
    let labels =
        |name: &str| [json!({"alertname": name, "instance": "host:9100", "severity": "warning"})];
    let mut received: Vec<Value> = Vec::new();
    let mut wait_for = |broker: &Broker, resource: &str, state: u8| {
        let admin = broker.admin("v0");
        wait_until(
            &format!("{resource} with state {state} in the queue"),
            || {
                received.extend(admin.drain().into_iter().map(|one| one.event));
                received
                    .iter()
                    .any(|event| event["resource"] == resource && event["state"] == state)
            },
        );
    };

    alertmanager.post_alerts(&labels("Before"), None);
    wait_for(&broker, "Before", 1);

    broker.kill();
    connector.wait_for_log("lost connection to RabbitMQ");
    alertmanager.post_alerts(&labels("During"), None);
    alertmanager.post_alerts(&labels("Before"), OVER);
    connector.wait_for_log("timed out after");
    broker.run();
    wait_for(&broker, "During", 1);
    wait_for(&broker, "Before", 0);

    alertmanager.post_alerts(&labels("During"), OVER);
    wait_for(&broker, "During", 0);
    assert!(
        received
            .iter()
            .all(|event| event["output"] == "é « ça » 🔥")
    );
}
