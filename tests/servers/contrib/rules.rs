//! The alerting rules, and the events that their alerts become.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{PROJECT, TESTS, list, rules, run_tool, text, yaml};
use crate::support::connector::run;
use crate::support::documents::{anchors, document};
use crate::support::{assert_success, notification};

/// All checks of `prometheus-rules-test.yml`.
fn checks() -> Vec<Value> {
    let tests = yaml(TESTS)["tests"].clone();
    let checks = list(&tests)
        .iter()
        .flat_map(|test| list(&test["alert_rule_test"]));
    checks.cloned().collect()
}

#[test]
fn every_alert_is_tested_firing_and_silent() {
    let checks = checks();
    let rules = rules();
    let names: BTreeSet<&str> = rules.iter().map(|rule| text(&rule["alert"])).collect();
    let duplicates = "two alerts with the same name are one entity in Canopsis";
    assert_eq!(names.len(), rules.len(), "{duplicates}");
    for name in &names {
        let (firing, silent): (Vec<&Value>, Vec<&Value>) = checks
            .iter()
            .filter(|check| check["alertname"] == *name)
            .partition(|check| !list(&check["exp_alerts"]).is_empty());
        assert!(!firing.is_empty(), "{name} has no test that fires it");
        let is_tested = !silent.is_empty() || *name == "Watchdog";
        assert!(is_tested, "{name} has no test in which it is silent");
    }
    let tested = checks.iter().map(|check| text(&check["alertname"]));
    assert_eq!(tested.collect::<BTreeSet<_>>(), names);
}

#[test]
fn every_alert_has_a_severity_a_summary_and_a_runbook() {
    for rule in rules() {
        let name = text(&rule["alert"]);
        let severity = text(&rule["labels"]["severity"]);
        let is_known = ["critical", "major", "warning", "info"].contains(&severity);
        assert!(is_known, "{name}: {severity}");
        assert!(!text(&rule["annotations"]["summary"]).is_empty(), "{name}");
        if name == "Watchdog" {
            continue;
        }
        let link = text(&rule["annotations"]["runbook_url"]);
        let path = link.strip_prefix(&format!("{PROJECT}/-/blob/main/"));
        let page = path.and_then(|path| path.split_once('#'));
        let (page, anchor) = page.unwrap_or_else(|| panic!("{name}: {link}"));
        let anchors = anchors(&document(page));
        assert!(
            anchors.iter().any(|known| known == anchor),
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
    let arguments = ["-c", "config.yml", "--dry-run", "-"];
    let output = run(&arguments, &[], &notification.to_string());
    assert_success(&output, "--dry-run");
    let printed = String::from_utf8(output.stdout).unwrap();
    let events = printed
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    let events: Vec<Value> = events.collect();
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
        let first_word = resource.split(' ').next();
        assert_eq!(first_word, labels["alertname"].as_str(), "{event}");
        let component = match labels.get("instance") {
            Some(instance) => text(instance).split(':').next().unwrap(),
            None => labels.get("job").map_or("prometheus", text),
        };
        assert_eq!(event["component"], component, "{event}");
        let is_new = entities.insert((resource, component));
        assert!(is_new, "two alerts for one alarm: {event}");
        if labels["alertname"] == "Watchdog" {
            let watched = ("Watchdog", "prometheus");
            assert_eq!((resource, component), watched, "docs/canopsis.md");
            assert_eq!(state, 0);
        }
    }
}

#[test]
fn alerts_of_a_failed_delivery_go_to_another_receiver() {
    let route = |labels: &[&str]| {
        let command = "amtool config routes test --config.file=contrib/alertmanager.yml";
        let command: Vec<&str> = command.split(' ').chain(labels.iter().copied()).collect();
        run_tool(&command).lines().next().unwrap().to_owned()
    };
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
    for rule in rules() {
        let name = text(&rule["alert"]);
        let mut matchers = vec![format!("alertname={name}")];
        for (label, value) in rule["labels"].as_object().unwrap() {
            matchers.push(format!("{label}={}", text(value)));
        }
        let labels: Vec<&str> = matchers.iter().map(String::as_str).collect();
        let cut_off = rule["labels"]["canopsis"] == "cut-off";
        let receivers = if cut_off {
            "beside-canopsis,canopsis"
        } else {
            "canopsis"
        };
        assert_eq!(route(&labels), receivers, "{name}");
        let can_reach = !closed.iter().any(|end| name.ends_with(end));
        assert!(
            cut_off || can_reach,
            "{name} can't reach Canopsis through the connector"
        );
    }
    assert_eq!(
        route(&["alertname=InstanceDown", "severity=critical"]),
        "canopsis"
    );
}
