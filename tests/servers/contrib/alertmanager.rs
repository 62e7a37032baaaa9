//! `contrib/alertmanager.yml`: every alert that it lets into Canopsis also leaves it. And the idle rule for what does not.

use serde_json::{Value, json};

use super::{CONFIG, list, text, yaml};
use crate::support::alertmanager::Alertmanager;
use crate::support::broker::Admin;
use crate::support::canopsis::Canopsis;
use crate::support::connector::{Connector, shipped_config};
use crate::support::{TOKEN, wait_until};

const FILE: &str = include_str!("../../../contrib/alertmanager.yml");
const OVER: Option<&str> = Some("2026-01-01T00:01:00Z");

/// Alertmanager sends no resolve for an alert that ends while it is inhibited.
#[test]
fn no_alert_of_canopsis_is_inhibited() {
    let file = yaml(FILE);
    // So every alert reaches Canopsis: every target of a rule would, too.
    assert_eq!(file["route"]["receiver"], "canopsis");
    let routes = list(&file["route"]["routes"]);
    let last = routes.last().unwrap();
    assert_eq!(last, &json!({"receiver": "canopsis"}));
    for route in &routes[..routes.len() - 1] {
        let keeps = text(&route["receiver"]) == "canopsis" || route["continue"] == true;
        assert!(keeps, "{route}");
    }
    assert_eq!(list(&file["inhibit_rules"]), [] as [Value; 0]);
}

/// Two groups with alerts of one entity close each other's alarm.
#[test]
fn groups_have_only_labels_that_every_name_has() {
    let file = yaml(FILE);
    let routes = list(&file["route"]["routes"]).iter();
    for route in routes.chain([&file["route"]]) {
        for label in list(&route["group_by"]) {
            let omitted = format!(" \"{}\" ", text(label));
            let (_, resource) = CONFIG.split_once("\nresource:\n").unwrap();
            let is_kept = label == "alertname" || !resource.contains(&omitted);
            assert!(is_kept, "the shipped rules leave out {label}");
        }
    }
}

#[test]
fn each_alarm_is_closed_when_its_alert_ends() {
    let admin = Admin::fresh();
    let shipped = shipped_config(&admin.url());
    let connector = Connector::with(&shipped, &["--host", "127.0.0.1", "--port", "0"]);
    connector.wait_until_ready();
    let mut config = FILE.to_owned();
    let token = format!("credentials: {TOKEN}");
    for (shipped, tested) in [
        ("connector.example:18401", &*connector.address.to_string()),
        ("credentials_file: /etc/prometheus/canopsis-token", &token),
        ("group_wait: 5s", "group_wait: 0s"),
        ("group_interval: 1m", "group_interval: 1s"),
        ("mail.example:25", "127.0.0.1:9"),
    ] {
        assert!(config.contains(shipped), "{shipped}");
        config = config.replace(shipped, tested);
    }
    let mut alertmanager = Alertmanager::with_config("", &config);

    let alert = |name: &str, severity: &str| json!({"alertname": name, "severity": severity, "job": "connector", "instance": "connector:18401"});
    // A cause, and a consequence that ends while the cause still fires.
    let names = ["CanopsisConnectorBrokerLost", "CanopsisConnectorBrokerSlow"];
    let cause = [alert(names[0], "critical")];
    let consequence = [alert(names[1], "warning")];
    let mut canopsis = Canopsis::default();
    let mut wait_for = |what: &str, expected: &[u64]| {
        wait_until(what, || {
            for received in admin.drain() {
                canopsis.take(&received.event).unwrap();
            }
            let resource = |name: &str| format!("{name} instance=connector:18401 job=connector");
            let state = |name: &str| canopsis.state(&(resource(name) + "/connector"));
            names.map(state) == *expected
        });
    };
    alertmanager.post_alerts(&consequence, None);
    wait_for("the consequence fires", &[0, 1]);
    alertmanager.post_alerts(&cause, None);
    wait_for("the cause fires", &[3, 1]);
    alertmanager.post_alerts(&consequence, OVER);
    wait_for("the consequence has ended", &[3, 0]);
    alertmanager.post_alerts(&cause, OVER);
    wait_for("the cause has ended", &[0, 0]);
}

/// The idle rule cancels no alarm of an alert that Alertmanager repeats, even if one repetition is lost.
#[test]
fn the_idle_rule_waits_for_two_repetitions() {
    let rule: Value =
        serde_json::from_str(include_str!("../../../contrib/canopsis-idle-rule.json")).unwrap();
    assert_eq!(rule["type"], "alarm");
    assert_eq!(rule["alarm_condition"], "last_event");
    assert_eq!(rule["operation"]["type"], "cancel");
    let config = yaml(CONFIG);
    let conditions = list(&rule["alarm_pattern"][0]);
    for (condition, key) in conditions.iter().zip(["connector", "connector_name"]) {
        assert_eq!(condition["field"], format!("v.{key}"));
        let cond = json!({"type": "eq", "value": config[key]});
        assert_eq!(condition["cond"], cond);
    }
    let file = yaml(FILE);
    let minutes = |text: &str| {
        let (number, unit) = text.split_at(text.len() - 1);
        number.parse::<u64>().unwrap() * if unit == "h" { 60 } else { 1 }
    };
    let routes = list(&file["route"]["routes"]).iter();
    let routes = routes.chain([&file["route"]]);
    let repeated = routes.filter_map(|route| route["repeat_interval"].as_str());
    let longest = repeated.map(minutes).max().unwrap();
    let interval = longest + minutes(text(&file["route"]["group_interval"]));
    assert_eq!(rule["duration"]["unit"], "h");
    assert!(rule["duration"]["value"].as_u64().unwrap() * 60 > 2 * interval);
}
