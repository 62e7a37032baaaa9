//! What senders may send: several alerts of one entity, Grafana's notifications, nulls, and JSON as Go reads it.

use crate::support::broker::{Admin, Broker};
use crate::support::connector::{Connector, MAPPING, config, shipped_config};
use crate::support::http::Client;
use crate::support::{TOKEN, notification, payload};
use serde_json::{Value, json};

fn alert(status: &str, name: &str, instance: &str, severity: &str) -> Value {
    json!({
        "status": status, "annotations": {}, "startsAt": "2026-11-24T10:00:00Z",
        "labels": {"alertname": name, "instance": instance, "severity": severity},
    })
}

fn of_alerts(alerts: &[Value]) -> String {
    json!({"version": "4", "alerts": alerts}).to_string()
}

/// Resource, component and state of each event in the queue.
fn drained(admin: &Admin) -> Vec<(String, String, u64)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    admin
        .drain()
        .iter()
        .map(|one| &one.event)
        .map(|event| {
            (
                text(&event["resource"]),
                text(&event["component"]),
                event["state"].as_u64().unwrap(),
            )
        })
        .collect()
}

fn assert_counted(connector: &Connector, metric: &str, count: usize) {
    let page = connector.get("/metrics").body;
    let line = format!("canopsis_connector_{metric} {count}");
    assert!(page.lines().any(|found| found == line), "{line} in\n{page}");
}

/// The only entry of the log with this text: such entries are written once a minute.
fn the_entry(connector: &mut Connector, part: &str) -> String {
    connector.wait_for_log(part);
    let log = connector.log();
    let entries: Vec<&str> = log.lines().filter(|line| line.contains(part)).collect();
    assert_eq!(entries.len(), 1, "at most once a minute: {entries:?}");
    entries[0].to_owned()
}

#[test]
fn an_entity_has_one_event_in_its_highest_state() {
    let broker = Broker::shared();
    let vhost = broker.fresh_vhost();
    let admin = broker.admin(&vhost);
    let mut connector = Connector::on(&broker.url(&vhost));
    connector.wait_until_ready();
    let body = of_alerts(&[
        alert("firing", "DiskFull", "db-1", "warning"),
        alert("firing", "Other", "db-1", "warning"),
        alert("firing", "DiskFull", "db-1", "critical"),
        alert("firing", "DiskFull", "db-2", "critical"),
        alert("resolved", "DiskFull", "db-1", "critical"),
        alert("resolved", "Other", "db-2", "warning"),
        alert("firing", "DiskFull", "db-2", "critical"),
    ]);
    // The second time, the events are the same ones: a repetition by Alertmanager.
    for posted in 1..=2 {
        let response = connector.post(&body);
        assert_eq!(
            (response.status, response.json()),
            (200, json!({"published": 4, "merged": 3}))
        );
        let expected = [
            ("Other", "db-1", 1),
            ("DiskFull", "db-1", 3),
            ("DiskFull", "db-2", 3),
            ("Other", "db-2", 0),
        ];
        let expected =
            expected.map(|(name, instance, state)| (name.to_owned(), instance.to_owned(), state));
        assert_eq!(drained(&admin), expected);
        // The two full disks of db-2: one of them is not visible in Canopsis.
        assert_counted(&connector, "alerts_sharing_entity_total", posted);
    }
    let entry = the_entry(
        &mut connector,
        "firing alerts of one entity have the same state",
    );
    assert!(entry.contains("entity=DiskFull/db-2 merged=1"), "{entry}");
}

#[test]
fn groups_that_change_each_others_alarm_are_reported() {
    let broker = Broker::shared();
    let vhost = broker.fresh_vhost();
    let mut connector = Connector::on(&broker.url(&vhost));
    connector.wait_until_ready();
    // As with "group_by: [severity]", and an entity without the severity.
    let post = |connector: &Connector, group: &str, status: &str, severity: &str| {
        let body = json!({
            "version": "4", "receiver": "canopsis", "groupKey": format!("{{}}:{{severity=\"{group}\"}}"),
            "groupLabels": {"severity": group}, "alerts": [alert(status, "Disk", "db-1", severity)],
        });
        assert_eq!(connector.post(&body.to_string()).status, 200);
    };
    for (group, status, severity, reported) in [
        ("critical", "firing", "critical", 0),
        ("critical", "firing", "critical", 0),
        ("warning", "firing", "warning", 1),
        ("critical", "firing", "critical", 1),
        ("page", "firing", "page", 1),
        ("page", "resolved", "page", 2),
        ("critical", "firing", "critical", 2),
        ("critical", "resolved", "critical", 2),
        ("critical", "resolved", "critical", 2),
    ] {
        post(&connector, group, status, severity);
        assert_counted(&connector, "groups_sharing_entity_total", reported);
    }
    let entry = the_entry(
        &mut connector,
        "this group lowers the alarm of another group",
    );
    let named = "entity=Disk/db-1 group_labels=\"{\\\"severity\\\":\\\"warning\\\"}\"";
    assert!(entry.contains(named), "{entry}");
}

#[test]
fn notifications_of_grafana_are_published() {
    const EXTRA: &str = "
extra_infos_prefix: x_
extra_infos:
  value_string: {type: template, value: '{{ .Alert.valueString }}'}
  b: {type: template, value: '{{ .Alert.values.B }}'}
  title: {type: template, value: '{{ .Notification.title }}'}
  org: {type: template, value: '{{ .Notification.orgId }}'}
  truncated: {type: copy, value: truncatedAlerts}
  hour: {type: template, value: '{{ localtime \"15:04 MST\" \"UTC\" .Alert.startsAt }}'}
";
    let broker = Broker::shared();
    let vhost = broker.fresh_vhost();
    let admin = broker.admin(&vhost);
    let connector = Connector::with(
        &config(&broker.url(&vhost), "", &format!("{MAPPING}{EXTRA}")),
        &[],
    );
    connector.wait_until_ready();
    let authorization = format!("Authorization: Bearer {TOKEN}");
    let mut client = Client::new(connector.address);
    let mut send = |method: &str, name: &str| {
        let body = payload(name);
        let headers = [&*authorization, "Content-Type: application/json"];
        let response = client.send(method, "/webhook", &headers, body.as_bytes());
        let response = response.unwrap();
        assert_eq!(response.status, 200, "{}", response.body);
        let received = admin.drain();
        received
            .into_iter()
            .map(|one| one.event)
            .collect::<Vec<Value>>()
    };
    for method in ["POST", "PUT"] {
        let events = send(method, "grafana-firing-and-resolved");
        let expected = [
            json!({
                "component": "mq-1:15692", "resource": "Queue is long", "state": 1,
                "x_b": "22.5", "x_org": "1", "x_title": "[FIRING:1, RESOLVED:1] Queue is long Orders",
                "x_truncated": "0", "x_hour": "14:10 UTC",
                "x_value_string": "[ var='B' labels={instance=mq-1:15692} value=22.5 ], \
                                   [ var='C' labels={instance=mq-1:15692} value=1 ]",
            }),
            // Its values are null, and its valueString is empty.
            json!({
                "component": "mq-2:15692", "resource": "Queue is long", "state": 0,
                "x_b": null, "x_title": "[FIRING:1, RESOLVED:1] Queue is long Orders", "x_value_string": null,
                "x_hour": "21:10 UTC",
            }),
        ];
        assert_eq!(events.len(), expected.len());
        for (event, expected) in events.iter().zip(&expected) {
            for (key, value) in expected.as_object().unwrap() {
                assert_eq!(&event[key], value, "{method}: {key}");
            }
        }
    }
    let old = send("POST", "grafana-old");
    assert_eq!(
        (&old[0]["x_truncated"], &old[0]["state"]),
        (&json!("0"), &json!(3))
    );
    let unknown = payload("grafana-old").replace("\"version\":\"1\"", "\"version\":\"2\"");
    let response = connector.post(&unknown);
    let reason = "unsupported notification version \"2\"; supported: \"4\" (Alertmanager) and \"1\" (Grafana Alerting)";
    assert_eq!(
        (response.status, response.json()),
        (400, json!({"error": reason}))
    );
}

#[test]
fn json_is_read_as_go_reads_it() {
    let broker = Broker::shared();
    let vhost = broker.fresh_vhost();
    let mapping = MAPPING.replace(
        "{type: copy, value: annotations.summary}",
        "{type: template, value: '{{ .Alert.annotations.summary }} {{ .Alert.text }} {{ json .Alert.number }} {{ .Alert.number }}'}",
    );
    let connector = Connector::with(&config(&broker.url(&vhost), "", &mapping), &[]);
    connector.wait_until_ready();
    // The strings are cut in the middle of an emoji. The number has more digits than a float64.
    let body = notification(&["a"]).replace(
        "\"it is down\"",
        r#""a \ud83d b", "other": "\ude00\ud83d\ude00"}, "text": "c \ude00", "number": 123456789012345680000, "x": {"y": """#,
    );
    let response = connector.post(&body);
    assert_eq!(response.status, 200, "{}", response.body);
    let output = &broker.admin(&vhost).drain()[0].event["output"];
    let of_go = "a \u{fffd} b c \u{fffd} 123456789012345680000 1.2345678901234568e+20";
    assert_eq!(output, of_go);
}

#[test]
fn a_null_is_absent_and_a_wrong_type_costs_only_its_alert() {
    let broker = Broker::shared();
    let vhost = broker.fresh_vhost();
    let admin = broker.admin(&vhost);
    let mapping = MAPPING.replace(
        "{type: copy, value: annotations.summary}",
        "[{type: copy, value: annotations.summary}, no summary]",
    );
    let connector = Connector::with(&config(&broker.url(&vhost), "", &mapping), &[]);
    connector.wait_until_ready();
    let mut with_null = alert("firing", "Null", "h", "warning");
    with_null["annotations"]["summary"] = Value::Null;
    with_null["fingerprint"] = Value::Null;
    let mut wrong = alert("firing", "Wrong", "h", "warning");
    wrong["labels"]["replicas"] = json!(3);
    let body = json!({
        "version": "4", "alerts": [with_null, wrong, alert("firing", "Good", "h", "warning")],
        "groupKey": null, "truncatedAlerts": null, "commonLabels": {"x": null}, "commonAnnotations": null,
    });
    let response = connector.post(&body.to_string());
    assert_eq!(response.status, 200, "{}", response.body);
    let answer = response.json();
    assert_eq!(answer["published"], 2);
    assert_eq!(answer["rejected"][0]["alertname"], "Wrong");
    let received = admin.drain();
    let outputs: Vec<(String, &Value)> = received
        .iter()
        .map(|one| (one.resource(), &one.event["output"]))
        .collect();
    let output = json!("no summary");
    let expected = ["Null", "Good"].map(|name| (name.to_owned(), &output));
    assert_eq!(outputs, expected);
}

#[test]
fn the_shipped_configuration_has_usable_entities_and_states() {
    let broker = Broker::shared();
    let vhost = broker.fresh_vhost();
    let admin = broker.admin(&vhost);
    let shipped = shipped_config(&broker.url(&vhost));
    let connector = Connector::with(&shipped, &["--host", "127.0.0.1", "--port", "0"]);
    connector.wait_until_ready();
    let cases = [
        ("Watchdog", "", "none", "prometheus", 0),
        ("Watchdog", "p-1:9090", "critical", "p-1", 0),
        ("A", "db-1.example:9100", "none", "db-1.example", 0),
        ("B", "10.0.0.1", "odd", "10.0.0.1", 3),
        (
            "C",
            "https://shop.example/health?x=1",
            "warning",
            "shop.example",
            1,
        ),
        (
            "D",
            "https://user@shop.example:8443",
            "major",
            "shop.example",
            2,
        ),
        (
            "E",
            "http://[2001:db8::1]:8080/",
            "critical",
            "2001:db8::1",
            3,
        ),
        ("F", "[2001:db8::2]:9100", "critical", "2001:db8::2", 3),
        ("G", "[2001:db8::3]", "critical", "2001:db8::3", 3),
        ("H", "2001:db8::4", "critical", "2001:db8::4", 3),
        ("I", "https://", "critical", "prometheus", 3),
    ];
    let alerts: Vec<Value> = cases
        .iter()
        .map(|(name, instance, severity, ..)| alert("firing", name, instance, severity))
        .collect();
    assert_eq!(connector.post(&of_alerts(&alerts)).status, 200);
    let received = admin.drain();
    assert_eq!(received.len(), cases.len());
    for (one, (name, instance, _, component, state)) in received.iter().zip(cases) {
        let event = &one.event;
        assert_eq!(event["connector_name"], "prometheus");
        assert_eq!(
            (
                one.resource().split(' ').next(),
                &event["component"],
                &event["state"]
            ),
            (Some(name), &json!(component), &json!(state)),
            "{instance}"
        );
    }
}
