//! A real Alertmanager as the sender: its alerts arrive, also after an outage of RabbitMQ.

mod support;

use serde_json::{Value, json};
use support::broker::Broker;
use support::connector::Connector;
use support::http::Client;
use support::{ProcessGroup, TOKEN, free_port, temp_path, wait_until};

struct Alertmanager {
    _process: ProcessGroup,
    client: Client,
}

impl Alertmanager {
    fn start(connector: &Connector) -> Self {
        let (dir, port) = (temp_path("alertmanager"), free_port());
        std::fs::create_dir_all(&dir).unwrap();
        let dir = dir.to_str().unwrap();
        let config = format!(
            "route: {{receiver: canopsis, group_by: [alertname], group_wait: 0s, group_interval: 1s, repeat_interval: 1h}}\n\
             receivers:\n- name: canopsis\n  webhook_configs:\n  - url: http://{}/webhook\n    http_config:\n      \
             authorization: {{credentials: {TOKEN}}}\n",
            connector.address
        );
        std::fs::write(format!("{dir}/alertmanager.yml"), config).unwrap();
        let (file, storage) = (
            format!("--config.file={dir}/alertmanager.yml"),
            format!("--storage.path={dir}/data"),
        );
        let listen = format!("--web.listen-address=127.0.0.1:{port}");
        let command = [
            "prometheus-alertmanager",
            &file,
            &storage,
            &listen,
            "--cluster.listen-address=",
        ];
        let process =
            ProcessGroup::start(&command, &format!("{dir}/log"), &format!("rm -rf {dir}"));
        let address = ([127, 0, 0, 1], port).into();
        wait_until(
            "Alertmanager starts (prometheus-alertmanager must be installed)",
            || {
                Client::new(address)
                    .send("GET", "/-/ready", &[], b"")
                    .is_ok_and(|reply| reply.status == 200)
            },
        );
        Self {
            _process: process,
            client: Client::new(address),
        }
    }

    /// Posts an alert, as a Prometheus server does. With an end in the past it is resolved.
    fn post_alert(&mut self, name: &str, ends_at: Option<&str>) {
        let mut alert = json!({
            "labels": {"alertname": name, "instance": "host:9100", "severity": "warning"},
            "annotations": {"summary": "é « ça » 🔥"},
            "startsAt": "2026-01-01T00:00:00Z",
        });
        if let Some(ends_at) = ends_at {
            alert["endsAt"] = json!(ends_at);
        }
        let body = json!([alert]).to_string();
        let reply = self
            .client
            .send(
                "POST",
                "/api/v2/alerts",
                &["Content-Type: application/json"],
                body.as_bytes(),
            )
            .unwrap();
        assert_eq!(reply.status, 200, "{}", reply.body);
    }
}

#[test]
fn alerts_fire_and_resolve_through_an_outage_of_the_broker() {
    let mut broker = Broker::start();
    let mut connector = Connector::on(&broker.url("v0"));
    connector.wait_until_ready();
    let mut alertmanager = Alertmanager::start(&connector);
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

    alertmanager.post_alert("Before", None);
    wait_for(&broker, "Before", 1);

    broker.kill();
    connector.wait_for_log("lost connection to RabbitMQ");
    alertmanager.post_alert("During", None);
    alertmanager.post_alert("Before", Some("2026-01-01T00:01:00Z"));
    connector.wait_for_log("timed out after");
    broker.run();
    wait_for(&broker, "During", 1);
    wait_for(&broker, "Before", 0);

    alertmanager.post_alert("During", Some("2026-01-01T00:01:00Z"));
    wait_for(&broker, "During", 0);
    assert!(
        received
            .iter()
            .all(|event| event["output"] == "é « ça » 🔥")
    );
}
