//! What the operator sees: the alarms that Canopsis makes of the events, by a model of Canopsis.

use std::collections::{BTreeMap, BTreeSet};

use canopsis_connector_prometheus::config::Config;
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::support::canopsis::Canopsis;
use crate::support::mapping::{bodies, events, firing, load};

/// A configuration whose names are copied from labels, unless other lines have a rule for them.
fn config(lines: &str) -> Config {
    let mut text = format!(
        "http: {{bearer_token: t}}\nconnector: prometheus\nconnector_name: p1\nstate: {{type: copy, value: labels.severity}}\n{lines}\n"
    );
    for (field, label) in [("component", "instance"), ("resource", "alertname")] {
        if !lines.contains(&format!("{field}:")) {
            text.push_str(&format!("{field}: {{type: copy, value: labels.{label}}}\n"));
        }
    }
    load(&text).unwrap()
}

fn event(names: [&str; 4], state: u64) -> Value {
    let [connector, connector_name, component, resource] = names;
    json!({
        "event_type": "check", "source_type": "resource", "connector": connector, "connector_name": connector_name,
        "component": component, "resource": resource, "state": state,
    })
}

#[test]
fn the_model_drops_what_canopsis_drops() {
    let good = event(["c", "n", "host", "r"], 1);
    let mut canopsis = Canopsis::default();
    assert_eq!(canopsis.take(&good).as_deref(), Ok("r/host"));
    for (key, value) in [
        ("event_type", json!("ack")),
        ("source_type", Value::Null),
        ("component", json!("")),
        ("resource", json!(1)),
        ("output", json!({})),
        ("state", json!("1")),
        ("timestamp", json!("now")),
        ("tags", json!({"a": 5})),
        ("tags", json!([])),
        ("component", json!("c/n")),
    ] {
        let mut event = good.clone();
        event[key] = value;
        assert!(canopsis.take(&event).is_err(), "{event}");
    }
    let mut take = |names, state| canopsis.take(&event(names, state));
    for names in [
        ["a", "b/c", "c", "a/b"],
        ["c", "n", "n", "c"],
        ["r", "host", "x", "y"],
    ] {
        assert!(take(names, 1).is_err(), "{names:?}");
    }
    // A component that is named like a resource changes that resource's alarm.
    let taken = take(["c", "n", "r/host", "x"], 3);
    assert_eq!(taken.as_deref(), Ok("r/host"));
    assert_eq!(canopsis.open(), ["r/host"]);
}

#[test]
fn the_model_opens_changes_and_closes_alarms() {
    let mut canopsis = Canopsis::default();
    let mut take = |state, seconds| {
        let taken = canopsis.take(&event(["c", "n", "host", "r"], state));
        canopsis.wait(seconds);
        taken.map(|entity| (canopsis.state(&entity), canopsis.changes(&entity)))
    };
    for (state, seconds, state_and_changes, what) in [
        (0, 1, (0, 0), "no alarm"),
        (2, 1, (2, 1), "a new one"),
        (2, 1, (2, 1), "repeated"),
        (3, 1, (3, 2), "another state"),
        (0, 59, (0, 3), "closed"),
        (1, 1, (1, 4), "the same alarm"),
        (0, 60, (0, 5), "closed"),
        (1, 1, (1, 1), "a new one"),
    ] {
        assert_eq!(take(state, seconds), Ok(state_and_changes), "{what}");
    }
    // Full of steps, it keeps its state until it closes.
    for number in 0..1_998 {
        assert_eq!(take(2 + number % 2, 1).unwrap().0, 2 + number % 2);
    }
    assert_eq!(take(2, 1), Err("the alarm has too many steps"));
    assert_eq!(canopsis.state("r/host"), 3);
    canopsis.take(&event(["c", "n", "host", "r"], 0)).unwrap();
    assert_eq!(canopsis.state("r/host"), 0);
}

/// The entities in Canopsis after some alerts, in the order of their events; of an event that Canopsis drops, why.
fn entities(config: &Config, alerts: &Value) -> Vec<String> {
    let mut canopsis = Canopsis::default();
    let taken = events(config, alerts)
        .into_iter()
        .map(|event| canopsis.take(&event));
    taken
        .map(|taken| taken.unwrap_or_else(|why| format!("dropped: {why}")))
        .collect()
}

#[test]
fn each_alert_is_one_alarm_or_is_rejected() {
    let copied = config("");
    let computed = config(
        "component: {type: template, value: '{{ index .Alert.labels \"instance\" }} '}\n\
         resource: {type: map, field: labels.alertname, values: {disk: \"disk\\n\"}, default: \" a\\n b \"}",
    );
    let fallback = config("component: [{type: copy, value: labels.instance}, none]");
    // The configuration, the names of the alerts, and the entities.
    for (config, names, expected) in [
        // One joined id is one entity.
        (&copied, &[("c", "a/b"), ("b/c", "a")][..], &["a/b/c"][..]),
        // The id of the connector: Canopsis would drop the event.
        (&copied, &[("p1", "prometheus")], &[]),
        (&copied, &[("prometheus/p1", "x")], &[]),
        // White space is neither a name nor a part of one.
        (&copied, &[("  ", "x")], &[]),
        (&fallback, &[(" \u{a0}\t", "x")], &["x/none"]),
        (&copied, &[(" host ", "x\n"), ("host", "x")], &["x/host"]),
        (
            &computed,
            &[("linux\n", "disk"), ("linux", "disk")],
            &["disk/linux"],
        ),
        (&computed, &[("a \r\n b", "other")], &["a b/a b"]),
    ] {
        let alerts = names.iter().map(|(component, resource)| {
            firing(&json!({"alertname": resource, "instance": component, "severity": "critical"}))
        });
        assert_eq!(entities(config, &alerts.collect()), expected, "{names:?}");
    }
}

#[test]
fn the_shipped_configuration_makes_an_alarm_of_each_alert_or_rejects_it() {
    let config = load(include_str!("../../config.yml")).unwrap();
    for labels in [
        json!({"alertname": "prometheus", "job": "prometheus"}),
        json!({"alertname": "X", "instance": "prometheus/prometheus"}),
        json!({"alertname": "X", "instance": "intranet.example/health"}),
        json!({"alertname": "X", "instance": "   "}),
        json!({"alertname": "prometheus", "instance": "prometheus"}),
    ] {
        for event in events(&config, &json!([firing(&labels)])) {
            let taken = Canopsis::default().take(&event);
            assert!(taken.is_ok(), "{labels}: {taken:?}");
            let component = event["component"].as_str().unwrap();
            assert!(!component.contains('/'), "{labels}: {component}");
        }
    }
}

#[test]
fn a_timestamp_is_one_that_canopsis_takes_as_it_is() {
    let config = config("timestamp: {type: copy, value: annotations.at}");
    for (at, expected) in [
        ("1795345200", json!(1_795_345_200)),
        ("2026-11-22T11:00:00Z", json!(1_795_345_200)),
        ("1795345200123", Value::Null),
        ("2026-11-20T11:00:00Z", Value::Null),
        ("2026-11-24T11:00:00Z", Value::Null),
    ] {
        let mut alert = firing(&json!({"alertname": "a", "instance": "h"}));
        alert["annotations"] = json!({"at": at});
        let event = events(&config, &json!([alert])).remove(0);
        assert_eq!(event["timestamp"], expected, "{at}");
    }
}

/// The alerts of the random groups: the group, the names of the entity, and the severity. Several have one entity; those of one entity
/// are in one group.
const ALERTS: [(usize, &str, &str, &str); 12] = [
    (0, "h1", "Disk", "minor"),
    (0, "h1", "Disk", "critical"),
    (0, "h1", "Disk", "major"),
    (0, "h1", "Load", "major"),
    (0, "h2", "Disk", "critical"),
    (0, "h2", "Disk", "critical"),
    (1, "c", "a/b", "major"),
    (1, "b/c", "a", "minor"),
    (1, "h2", "Load", "info"),
    (1, "h2", "Load", "major"),
    (2, "h3", "Watchdog", "info"),
    (2, "h3", "Up", "critical"),
];

/// The state of a severity.
fn state(severity: &str) -> u64 {
    ["info", "minor", "major", "critical"]
        .iter()
        .position(|name| *name == severity)
        .unwrap() as u64
}

#[derive(Debug, Clone)]
enum Step {
    Fire(usize),
    /// It fires again with the same start: the data was away.
    FireAgain(usize),
    End(usize),
    Silence(usize),
    Unsilence(usize),
    /// A group sends what it has, if there is something to send. Accepted, or answered 503 after the first of its events.
    Flush {
        group: usize,
        is_repetition: bool,
        published: Option<usize>,
    },
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let alert = || 0..ALERTS.len();
    let flush = (
        0_usize..3,
        any::<bool>(),
        prop::option::weighted(0.2, 0_usize..4),
    );
    let step = prop_oneof![
        3 => alert().prop_map(Step::Fire),
        1 => alert().prop_map(Step::FireAgain),
        3 => alert().prop_map(Step::End),
        1 => alert().prop_map(Step::Silence),
        1 => alert().prop_map(Step::Unsilence),
        6 => flush.prop_map(|(group, is_repetition, published)| Step::Flush { group, is_repetition, published }),
        1 => (0_u64..200).prop_map(Step::Wait),
    ];
    vec(step, 0..60)
}

/// An alert in its group, as Alertmanager keeps it.
#[derive(Debug, Clone, Default)]
struct Alert {
    is_known: bool,
    is_firing: bool,
    is_silenced: bool,
    starts_at: usize,
    ends_at: usize,
}

/// A time of the simulation.
fn time(number: usize) -> String {
    format!(
        "2026-11-22T{:02}:{:02}:{:02}Z",
        number / 3600,
        number / 60 % 60,
        number % 60
    )
}

#[derive(Debug, Default)]
struct Alertmanager {
    time: usize,
    alerts: [Alert; ALERTS.len()],
    /// The firing and the resolved alerts that each group sent last.
    sent: [Option<(BTreeSet<usize>, BTreeSet<usize>)>; 3],
}

impl Alertmanager {
    /// What a group sends, as its indexes; `None` if it has nothing to send.
    fn notification(&self, group: usize, is_repetition: bool) -> Option<Vec<usize>> {
        let alerts: Vec<usize> = (0..ALERTS.len())
            .filter(|index| {
                ALERTS[*index].0 == group
                    && self.alerts[*index].is_known
                    && !self.alerts[*index].is_silenced
            })
            .collect();
        let (firing, resolved): (BTreeSet<usize>, BTreeSet<usize>) = alerts
            .iter()
            .partition(|index| self.alerts[**index].is_firing);
        let is_due = match &self.sent[group] {
            None => !firing.is_empty(),
            Some((before, _)) if firing.is_empty() => !before.is_empty(),
            Some((before, ended)) => {
                is_repetition || !firing.is_subset(before) || !resolved.is_subset(ended)
            }
        };
        (is_due && !alerts.is_empty()).then_some(alerts)
    }

    /// The group has been flushed without an error: what has ended leaves it, also where it was silenced.
    fn flushed(&mut self, group: usize, sent: Option<&[usize]>) {
        if let Some(sent) = sent {
            let (firing, resolved) = sent
                .iter()
                .partition(|index| self.alerts[**index].is_firing);
            self.sent[group] = Some((firing, resolved));
        }
        for (alert, description) in self.alerts.iter_mut().zip(ALERTS) {
            alert.is_known &= alert.is_firing || description.0 != group;
        }
    }

    fn body(&self, group: usize, alerts: &[usize]) -> Value {
        let alert = |index: &usize| {
            let (alert, (_, component, resource, severity)) =
                (&self.alerts[*index], ALERTS[*index]);
            let ends_at = if alert.is_firing {
                "0001-01-01T00:00:00Z".to_owned()
            } else {
                time(alert.ends_at)
            };
            json!({
                "status": if alert.is_firing { "firing" } else { "resolved" },
                "labels": {"alertname": resource, "instance": component, "severity": severity, "number": index.to_string()},
                "startsAt": time(alert.starts_at), "endsAt": ends_at, "fingerprint": index.to_string(),
            })
        };
        let alerts: Vec<Value> = alerts.iter().map(alert).collect();
        json!({"version": "4", "receiver": "canopsis", "groupKey": format!("{{}}:{{group={group}}}"), "alerts": alerts})
    }
}

proptest! {
    // About 3,000 notifications.
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn alarms_are_what_the_alerts_of_random_groups_say(steps in steps()) {
        let config = config("");
        let (mut alertmanager, mut canopsis) = (Alertmanager::default(), Canopsis::default());
        for step in steps {
            alertmanager.time += 1;
            let now = alertmanager.time;
            match step {
                Step::Fire(index) | Step::FireAgain(index) => {
                    let alert = &mut alertmanager.alerts[index];
                    if !alert.is_firing && matches!(step, Step::Fire(_)) {
                        alert.starts_at = now;
                    }
                    (alert.is_known, alert.is_firing) = (true, true);
                }
                Step::End(index) => {
                    let alert = &mut alertmanager.alerts[index];
                    if alert.is_firing {
                        (alert.is_firing, alert.ends_at) = (false, now);
                    }
                }
                Step::Silence(index) => alertmanager.alerts[index].is_silenced = true,
                Step::Unsilence(index) => alertmanager.alerts[index].is_silenced = false,
                Step::Wait(seconds) => canopsis.wait(seconds),
                Step::Flush { group, is_repetition, published } => {
                    let Some(sent) = alertmanager.notification(group, is_repetition) else {
                        alertmanager.flushed(group, None);
                        continue;
                    };
                    let body = alertmanager.body(group, &sent);
                    let messages = bodies(&config, &body);
                    prop_assert_eq!(&messages, &bodies(&config, &body), "the same alerts give the same bytes");
                    // The highest state that the notification gives each entity.
                    let mut said: BTreeMap<String, u64> = BTreeMap::new();
                    for index in &sent {
                        let (_, component, resource, severity) = ALERTS[*index];
                        let state = if alertmanager.alerts[*index].is_firing { state(severity) } else { 0 };
                        let highest = said.entry(format!("{resource}/{component}")).or_default();
                        *highest = state.max(*highest);
                    }
                    let before: BTreeMap<&String, (u64, usize)> =
                        said.keys().map(|entity| (entity, (canopsis.state(entity), canopsis.changes(entity)))).collect();
                    let accepted = published.unwrap_or(usize::MAX);
                    for message in messages.iter().take(accepted) {
                        let event: Value = serde_json::from_slice(message).unwrap();
                        prop_assert_eq!(canopsis.take(&event).err(), None, "dropped: {}", event);
                    }
                    for (entity, highest) in &said {
                        let (state, changes) = before[entity];
                        let is_new = canopsis.changes(entity) < changes;
                        let changed = canopsis.changes(entity) - if is_new { 0 } else { changes };
                        let expected = usize::from(canopsis.state(entity) != state);
                        prop_assert_eq!(changed, expected, "{}: a change that no alert made, in {}", entity, body);
                        if published.is_none() {
                            prop_assert_eq!(canopsis.state(entity), *highest, "{}: the wrong state after {}", entity, body);
                        }
                    }
                    if published.is_none() {
                        alertmanager.flushed(group, Some(&sent));
                    }
                }
            }
        }
    }
}
