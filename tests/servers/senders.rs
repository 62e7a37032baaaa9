//! What senders may send: several alerts of one entity, Grafana's notifications, and JSON as Go reads it.

use crate::support::broker::{Admin, ReceivedMessage};
use crate::support::connector::{Connector, MAPPING};
use crate::support::{AUTHORIZATION, notification, payload};
use serde_json::{Value, json};

fn alert(status: &str, name: &str, instance: &str, severity: &str) -> Value {
    json!({
        "status": status, "annotations": {}, "startsAt": "2026-11-24T10:00:00Z",
        "labels": {"alertname": name, "instance": instance, "severity": severity},
    })
}

/// The only entry of the log with this text: such entries are written once a minute.
fn the_entry(connector: &mut Connector, part: &str) -> String {
    connector.wait_for_log(part);
    let log = connector.log();
    let entries: Vec<&str> = log.lines().filter(|line| line.contains(part)).collect();
    assert_eq!(entries.len(), 1, "at most once a minute: {entries:?}");
    entries[0].to_owned()
}

/// `src/pipeline/tests.rs` has more alerts.
#[test]
fn an_entity_has_one_event_in_its_highest_state() {
    let admin = Admin::fresh();
    let mut connector = Connector::on(&admin.url());
    let alerts = [
        alert("firing", "DiskFull", "db-1", "warning"),
        alert("firing", "Other", "db-1", "warning"),
        alert("firing", "DiskFull", "db-1", "critical"),
        alert("firing", "DiskFull", "db-2", "critical"),
        alert("resolved", "DiskFull", "db-1", "critical"),
        alert("resolved", "Other", "db-2", "warning"),
        alert("firing", "DiskFull", "db-2", "critical"),
    ];
    let body = json!({"version": "4", "alerts": alerts}).to_string();
    let entity_and_state = |message: ReceivedMessage| {
        let event = message.event;
        json!([event["resource"], event["component"], event["state"]])
    };
    let expected = [
        json!(["Other", "db-1", 1]),
        json!(["DiskFull", "db-1", 3]),
        json!(["DiskFull", "db-2", 3]),
        json!(["Other", "db-2", 0]),
    ];
    // The second time, the events are the same ones: a repetition by Alertmanager.
    for posted in 1..=2 {
        let response = connector.post(&body);
        assert_eq!(response.status, 200);
        assert_eq!(response.json(), json!({"published": 4, "merged": 3}));
        let received = admin.drain().into_iter().map(entity_and_state);
        assert_eq!(received.collect::<Vec<_>>(), expected);
        // The two full disks of db-2: one of them is not visible in Canopsis.
        assert_eq!(connector.metric("alerts_sharing_entity_total"), posted);
    }
    let message = "firing alerts of one entity have the same state";
    let entry = the_entry(&mut connector, message);
    assert!(entry.contains("entity=DiskFull/db-2 merged=1"), "{entry}");
}

/// `src/pipeline/tests.rs` has more notifications.
#[test]
fn groups_that_change_each_others_alarm_are_reported() {
    let mut connector = Connector::on(&Admin::fresh().url());
    // As with "group_by: [severity]", and an entity without the severity.
    for (group, status, reported) in [
        ("critical", "firing", 0),
        ("warning", "firing", 1),
        ("critical", "firing", 1),
        ("warning", "resolved", 2),
    ] {
        let body = json!({
            "version": "4", "receiver": "canopsis", "groupKey": format!("{{}}:{{severity=\"{group}\"}}"),
            "groupLabels": {"severity": group}, "alerts": [alert(status, "Disk", "db-1", group)],
        });
        assert_eq!(connector.post(&body.to_string()).status, 200);
        let counted = connector.metric("groups_sharing_entity_total");
        assert_eq!(counted, reported, "{group} {status}");
    }
    let message = "this group lowers the alarm of another group";
    let entry = the_entry(&mut connector, message);
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
    let admin = Admin::fresh();
    let connector = Connector::ready(&admin.url(), "", &format!("{MAPPING}{EXTRA}"));
    let mut client = connector.client();
    let mut send = |method: &str, name: &str| {
        let body = payload(name);
        let response = client.send(method, "/webhook", &[AUTHORIZATION], body.as_bytes());
        response.unwrap().assert(200, "published");
        let received = admin.drain().into_iter().map(|one| one.event);
        received.collect::<Vec<Value>>()
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
    let old = send("POST", "grafana-old").remove(0);
    assert_eq!(old["x_truncated"], "0");
    assert_eq!(old["state"], 3);
    let unknown = payload("grafana-old").replace("\"version\":\"1\"", "\"version\":\"2\"");
    let response = connector.post(&unknown);
    let reason = "unsupported notification version \"2\"; supported: \"4\" (Alertmanager) and \"1\" (Grafana Alerting)";
    assert_eq!(response.status, 400);
    assert_eq!(response.json(), json!({"error": reason}));
}

#[test]
fn json_is_read_as_go_reads_it() {
    let admin = Admin::fresh();
    let mapping = MAPPING.replace(
        "{type: copy, value: annotations.summary}",
        "{type: template, value: '{{ .Alert.annotations.summary }} {{ .Alert.text }} {{ json .Alert.number }} {{ .Alert.number }}'}",
    );
    let connector = Connector::ready(&admin.url(), "", &mapping);
    // The strings are cut in the middle of an emoji. The number has more digits than a float64.
    let body = notification(&["a"]).replace(
        "\"it is down\"",
        r#""a \ud83d b", "other": "\ude00\ud83d\ude00"}, "text": "c \ude00", "number": 123456789012345680000, "x": {"y": """#,
    );
    connector.post(&body).assert(200, "published");
    let output = &admin.drain()[0].event["output"];
    let of_go = "a \u{fffd} b c \u{fffd} 123456789012345680000 1.2345678901234568e+20";
    assert_eq!(output, of_go);
}
