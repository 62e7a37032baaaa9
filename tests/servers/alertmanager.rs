//! A real Alertmanager as the sender: its alerts arrive, also after an outage of RabbitMQ.

use crate::support::alertmanager::Alertmanager;
use crate::support::broker::{Admin, Broker};
use crate::support::connector::{BINARY, Connector, config, run, run_with_input};
use crate::support::documents::only;
use crate::support::{TempDir, assert_success, wait_until};
use serde_json::{Value, json};
use std::process::Command;

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
    let mut alertmanager = start(&connector);
    let labels =
        |name: &str| [json!({"alertname": name, "instance": "host:9100", "severity": "warning"})];
    let mut received: Vec<Value> = Vec::new();
    let mut wait_for = |broker: &Broker, resource: &str, state: u8| {
        wait_for_event(&broker.admin("v0"), &mut received, resource, state);
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
    for event in received {
        assert_eq!(event["output"], "é « ça » 🔥");
    }
}

/// Takes events until one has this resource and state.
fn wait_for_event(admin: &Admin, received: &mut Vec<Value>, resource: &str, state: u8) {
    let what = format!("{resource} with state {state} in the queue");
    wait_until(&what, || {
        received.extend(admin.drain().into_iter().map(|one| one.event));
        let is_it = |event: &Value| event["resource"] == resource && event["state"] == state;
        received.iter().any(is_it)
    });
}

/// Alertmanager never sends a resolve for a group that has never been answered 2xx. So a rejected alert must not be the answer to a
/// notification of which events were published: their alarms would stay open for good.
#[test]
fn the_alarm_beside_a_rejected_alert_closes() {
    let admin = Admin::fresh();
    let mut connector = Connector::on(&admin.url());
    // Both are in the first notification of their group.
    let route = "group_by: [instance], group_wait: 1s";
    let mut alertmanager = Alertmanager::start(connector.address, route);
    // The mapping's resource is the alert's name.
    let alerts = [
        json!({"alertname": "Mapped", "instance": "host:9100", "severity": "warning"}),
        json!({"instance": "host:9100", "severity": "warning"}),
    ];
    alertmanager.post_alerts(&alerts, None);
    connector.wait_for_log("alert rejected: required field resource has no value");
    let mut received = Vec::new();
    wait_for_event(&admin, &mut received, "Mapped", 1);
    alertmanager.post_alerts(&alerts, OVER);
    wait_for_event(&admin, &mut received, "Mapped", 0);
    for event in received {
        assert_eq!(event["resource"], "Mapped");
    }
}

/// Has most of what a list may lack, or has in another form.
const LISTED: &str = "
connector: prometheus
connector_name: p1
component: [{type: template, field: labels.instance, value: '{{ split \":\" 0 .Field }}'}, nowhere]
resource: [{type: copy, value: labels.alertname}, nothing]
state: {type: map, field: labels.severity, values: {critical: 3, warning: 1}}
output: {type: copy, value: annotations.summary}
extra_infos_prefix: x_
extra_infos:
  receiver: {type: copy, value: receiver}
  group: {type: copy, value: groupLabels}
  group_status: {type: copy, value: groupStatus}
  status: {type: copy, value: status}
  ends: {type: copy, value: endsAt}
  url: {type: copy, value: generatorURL}
  fingerprint: {type: copy, value: fingerprint}
  labels: {type: copy, value: labels}
";

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn sorted(lines: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = lines.lines().collect();
    lines.sort_unstable();
    lines
}

#[test]
fn the_alerts_of_the_api_give_the_events_of_the_notifications() {
    let listed = config("amqp://127.0.0.1:1", "", LISTED);
    let connector = Connector::with(&listed, &["--stdout"]);
    // Long enough for each group to have all its alerts at its first notification.
    let route = "group_by: [alertname, job], group_wait: 2s";
    let mut alertmanager = Alertmanager::start(connector.address, route);
    alertmanager.silence("Silenced");
    let alert = |name: &str, severity: &str, device: &str, job: &str| json!({"alertname": name, "severity": severity, "device": device, "job": job, "instance": "db:9100"});
    alertmanager.post_alerts(
        &[
            alert("DiskFull", "critical", "sdb", "node"),
            alert("DiskFull", "critical", "sda", "node"),
            alert("LoadHigh", "warning", "", "node"),
            alert("LoadHigh", "critical", "", "node"),
            alert("Down", "critical", "", "blackbox"),
            alert("Down", "critical", "", "node"),
            alert("Silenced", "critical", "sda", "node"),
            alert("Silenced", "critical", "sdb", "node"),
        ],
        None,
    );
    wait_until("the four groups that are sent arrive", || {
        connector.log().matches("notification delivered").count() >= 4
    });

    let dir = TempDir::new("listed");
    dir.file("config.yml", &listed);
    let url = format!("http://{}", alertmanager.address);
    let api = format!("{url}/api/v2/alerts");
    let printed = |command: &str| {
        let mut sh = Command::new("sh");
        let output = run_with_input(sh.args(["-ec", command]).current_dir(dir.path()), "");
        assert_success(&output, command);
        text(&output.stdout).to_owned()
    };
    let file = format!("{}/config.yml", dir.path().display());
    let dry_run = |input: &str| run(&["-c", &file, "--dry-run", "-"], &[], input);
    let groups = printed(&format!("curl -fsS '{api}/groups?receiver=canopsis'"));
    let events = dry_run(&groups);

    let command = only("summary, command").replace("http://alertmanager:9093", &url);
    let command = command.replace("canopsis-connector-prometheus", BINARY);
    let summary = printed(&command);
    let expected = r#"Summary of 8 alerts in 5 groups: 4 events, 2 merged, 2 suppressed (silenced, inhibited or muted: not sent)

1 entity has several alerts of one state, and Canopsis shows one of them.
Add a label in which they differ to the rule of resource.
    "DiskFull/db": alerts 1, 2; state 3
        device: "sda", "sdb"

1 entity has alerts in several groups, and each group closes the alarm of the others.
Remove a label in which the groups differ from group_by, or add it to the rule of resource.
    "Down/db": groups 2, 3
        job: "blackbox", "node"

1 entity has alerts of several states, of which the highest counts.
That is right for the severities of one problem.
    "LoadHigh/db": alerts 5, 6; state 3, 1
        severity: "critical", "warning"
"#;
    assert_eq!(summary, expected, "{groups}");
    assert_eq!(text(&events.stderr), summary);

    // Without groups: the API with the silenced alerts, amtool with the active ones.
    let curl = format!("curl -fsS {api}");
    let amtool = format!("amtool --alertmanager.url={url} alert query -r canopsis -o json");
    let with_silenced = "Summary of 8 alerts: 3 events, 3 merged, 2 suppressed";
    let active = "Summary of 6 alerts: 3 events, 3 merged\n";
    for (command, first) in [(curl, with_silenced), (amtool, active)] {
        let output = dry_run(&printed(&command));
        let summary = text(&output.stderr);
        assert!(summary.starts_with(first), "{command}: {summary}");
        assert!(summary.contains("\nThis list has no groups: "), "{summary}");
        assert_eq!(text(&output.stdout).lines().count(), 3);
    }
    let none = format!("curl -fsS '{api}/groups?receiver=nosuch'");
    let none = dry_run(&printed(&none));
    assert!(text(&none.stderr).contains("\nThere are no alerts: "));

    let sent = connector.into_stdout();
    assert_eq!(sorted(text(&events.stdout)), sorted(&sent), "{groups}");
}
