//! The alerting rules, and the events that their alerts become.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::{Value, json};

use super::{PROJECT, TESTS, list, rules, text, yaml};
use crate::support::connector::run;
use crate::support::documents::{anchors, document};
use crate::support::{assert_success, notification};

/// All checks of `prometheus-rules-test.yml`.
pub fn checks() -> Vec<Value> {
    list(&yaml(TESTS)["tests"])
        .iter()
        .flat_map(|test| list(&test["alert_rule_test"]))
        .cloned()
        .collect()
}

#[test]
fn every_alert_is_tested_firing_and_silent() {
    let checks = checks();
    let names: BTreeSet<String> = rules()
        .iter()
        .map(|rule| text(&rule["alert"]).to_owned())
        .collect();
    assert_eq!(
        names.len(),
        rules().len(),
        "two alerts with the same name are one entity in Canopsis"
    );
    for name in &names {
        let (firing, silent): (Vec<&Value>, Vec<&Value>) = checks
            .iter()
            .filter(|check| check["alertname"] == **name)
            .partition(|check| !list(&check["exp_alerts"]).is_empty());
        assert!(!firing.is_empty(), "{name} has no test that fires it");
        assert!(
            !silent.is_empty() || name == "Watchdog",
            "{name} has no test in which it is silent"
        );
    }
    let tested: BTreeSet<String> = checks
        .iter()
        .map(|check| text(&check["alertname"]).to_owned())
        .collect();
    assert_eq!(tested, names);
}

#[test]
fn every_alert_has_a_severity_a_summary_and_a_runbook() {
    for rule in rules() {
        let name = text(&rule["alert"]);
        let severity = text(&rule["labels"]["severity"]);
        assert!(
            ["critical", "major", "warning", "info"].contains(&severity),
            "{name}: {severity}"
        );
        assert!(!text(&rule["annotations"]["summary"]).is_empty(), "{name}");
        if name == "Watchdog" {
            continue;
        }
        let link = text(&rule["annotations"]["runbook_url"]);
        let (page, anchor) = link
            .strip_prefix(&format!("{PROJECT}/-/blob/main/"))
            .and_then(|path| path.split_once('#'))
            .unwrap_or_else(|| panic!("{name}: {link}"));
        assert!(
            anchors(&document(page)).iter().any(|known| known == anchor),
            "{name}: {link}"
        );
    }
}

#[test]
fn alerts_map_to_distinct_events_with_their_states() {
    let checks = checks();
    let mut alerts: Vec<Value> = Vec::new();
    for check in &checks {
        for alert in list(&check["exp_alerts"]) {
            let mut labels = alert["exp_labels"].clone();
            labels["alertname"] = check["alertname"].clone();
            let alert = json!({
                "status": "firing", "labels": labels, "annotations": alert["exp_annotations"], "fingerprint": "f",
                "startsAt": "2026-11-22T14:10:49Z", "endsAt": "0001-01-01T00:00:00Z", "generatorURL": "",
            });
            // Several checks may expect the same alert.
            if !alerts.contains(&alert) {
                alerts.push(alert);
            }
        }
    }
    let mut notification: Value = serde_json::from_str(&notification::<&str>(&[])).unwrap();
    notification["alerts"] = json!(alerts);
    let output = run(
        &["-c", "config.yml", "--dry-run", "-"],
        &[],
        &notification.to_string(),
    );
    assert_success(&output, "--dry-run");
    let events: Vec<Value> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(events.len(), alerts.len());
    let mut entities = BTreeSet::new();
    for (event, alert) in events.iter().zip(&alerts) {
        let labels = &alert["labels"];
        let state = match text(&labels["severity"]) {
            "critical" => 3,
            "major" => 2,
            "info" => 0,
            _ => 1,
        };
        assert_eq!(event["state"], state, "{event}");
        // Not truncated.
        assert_eq!(event["output"], alert["annotations"]["description"]);
        let resource = text(&event["resource"]);
        assert_eq!(
            resource.split(' ').next(),
            labels["alertname"].as_str(),
            "{event}"
        );
        let component = match labels.get("instance") {
            Some(instance) => text(instance).split(':').next().unwrap(),
            None => labels.get("job").map_or("prometheus", text),
        };
        assert_eq!(event["component"], component, "{event}");
        assert!(
            entities.insert((event["resource"].to_string(), component)),
            "two alerts for one alarm: {event}"
        );
    }
    let watchdog = events
        .iter()
        .find(|event| text(&event["resource"]).trim() == "Watchdog")
        .unwrap();
    assert_eq!(
        (&watchdog["component"], &watchdog["state"]),
        (&json!("prometheus"), &json!(0))
    );
}

#[test]
fn alerts_of_a_failed_delivery_go_to_another_receiver() {
    let route = |labels: &[&str]| {
        let command = [
            "amtool",
            "config",
            "routes",
            "test",
            "--config.file=contrib/alertmanager.yml",
        ];
        let output = Command::new(command[0])
            .args(&command[1..])
            .args(labels)
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    for rule in rules() {
        let name = text(&rule["alert"]);
        let labels: Vec<String> = rule["labels"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(label, value)| format!("{label}={}", text(value)))
            .chain([format!("alertname={name}")])
            .collect();
        let cut_off = rule["labels"]["canopsis"] == "cut-off";
        let expected = if cut_off {
            "beside-canopsis,canopsis"
        } else {
            "canopsis"
        };
        assert_eq!(
            route(&labels.iter().map(String::as_str).collect::<Vec<_>>()),
            expected,
            "{name}"
        );
        let closed = [
            "Down",
            "NotScraped",
            "BrokerLost",
            "BrokerBlocked",
            "EventsReturned",
            "EventsNacked",
            "EventsRefused",
            "NoAlertsReceived",
        ];
        if closed.iter().any(|end| name.ends_with(end)) {
            assert!(cut_off, "{name} can't reach Canopsis through the connector");
        }
    }
    assert_eq!(
        route(&["alertname=InstanceDown", "severity=critical"]),
        "canopsis"
    );
}
