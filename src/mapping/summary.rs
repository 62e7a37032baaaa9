//! Which alerts share an alarm: the entities that several alerts or groups of an input have, and the labels in which those
//! differ. The author of a mapping adds such a label to the rule of `resource`.
//!
//! Pure: the alerts are mapped once more for it. Which alert of an entity is published, [`choose_events`] decides.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::Timestamp;
use serde_json::Value;

use super::quote::{quote, quote_value};
use super::{Mapping, NotificationContext};
use crate::alertmanager::{DecodeError, Labels, MAX_ALERTS, Notification, Status};
use crate::event::{Candidate, choose_events};
use crate::input::{Group, InputKind};
use crate::text::visible;

/// How many rows of a section are shown.
const MAX_ROWS: usize = 10;

/// How many alerts or groups of an entity are shown, how many labels, and how many values of each.
const MAX_NUMBERS: usize = 6;
const MAX_LABELS: usize = 6;
const MAX_VALUES: usize = 2;

/// What becomes of the alerts of an input together.
#[derive(Debug)]
pub struct Summary<'n> {
    kind: InputKind,
    /// By the numbers of their groups.
    notifications: BTreeMap<usize, &'n Notification<'n>>,
    /// How many alerts there are.
    pub alerts: usize,
    suppressed: usize,
    /// The numbers of the rejected alerts, by their reasons.
    rejected: BTreeMap<String, Vec<usize>>,
    /// The numbers and labels of the alerts that are sent and mapped.
    sent: Vec<(usize, Labels<'n>)>,
    /// The same alerts; an entity counts for each group.
    candidates: Vec<Candidate<(usize, String)>>,
    /// For each of them the position of the one that is published.
    chosen: Vec<usize>,
}

/// Alerts or groups that share an entity.
struct Shared<'s> {
    entity: &'s str,
    /// Which they are.
    members: String,
    /// The labels in which they differ, with their values; `None` is an absent label.
    labels: BTreeMap<&'s str, BTreeSet<Option<&'s str>>>,
}

impl<'n> Summary<'n> {
    /// Maps all alerts.
    pub fn new(
        mapping: &Mapping,
        kind: InputKind,
        groups: &'n [Group<'n>],
        received_at: Timestamp,
    ) -> Result<Self, DecodeError> {
        let mut summary = Self {
            kind,
            notifications: groups
                .iter()
                .map(|group| (group.number, &group.notification))
                .collect(),
            alerts: 0,
            suppressed: 0,
            rejected: BTreeMap::new(),
            sent: Vec::new(),
            candidates: Vec::new(),
            chosen: Vec::new(),
        };
        for group in groups {
            let context = NotificationContext::new(&group.notification, received_at, &|| false);
            for (number, alert) in (1..).zip(group.notification.alerts()) {
                if number > MAX_ALERTS {
                    return Err(DecodeError::TooManyAlerts);
                }
                summary.alerts += 1;
                let alert = match alert {
                    Ok(alert) => alert,
                    Err(error) => {
                        summary.reject(format!("malformed: {error}"));
                        continue;
                    }
                };
                let mut entity = String::new();
                let event = mapping.map(&context.with_alert(&alert)).0;
                let state = event.map(|event| {
                    event.names.write_entity_id(&mut entity);
                    event.state
                });
                match state {
                    Err(errors) => {
                        let reasons: Vec<String> = errors.iter().map(ToString::to_string).collect();
                        summary.reject(reasons.join("; "));
                    }
                    Ok(_) if group.is_suppressed => summary.suppressed += 1,
                    Ok(state) => {
                        summary.candidates.push(Candidate {
                            entity: (group.number, entity),
                            state,
                            is_firing: alert.status == Status::Firing,
                        });
                        summary.sent.push((summary.alerts, alert.labels));
                    }
                }
            }
        }
        summary.chosen = choose_events(&summary.candidates);
        Ok(summary)
    }

    /// Of the alert that was counted last.
    fn reject(&mut self, reason: String) {
        self.rejected.entry(reason).or_default().push(self.alerts);
    }

    /// The number of rejected alerts.
    pub fn rejected(&self) -> usize {
        self.rejected.values().map(Vec::len).sum()
    }

    /// Whether the input has groups with numbers.
    pub(super) fn has_groups(&self) -> bool {
        self.kind == InputKind::Groups
    }

    /// Why this alert has no event: another one of its entity is published.
    pub(super) fn merged_note(&self, number: usize) -> Option<String> {
        let find = |(known, _): &(usize, _)| known.cmp(&number);
        let position = self.sent.binary_search_by(find).ok()?;
        let chosen = self.chosen[position];
        if position == chosen {
            return None;
        }
        let [alert, other] = [position, chosen].map(|position| &self.candidates[position]);
        let why = if alert.is_hidden_by(other) {
            "which has the same state; Canopsis shows one of the two. To separate them, add a label to the rule of resource"
        } else {
            "which decides the state of their alarm"
        };
        let (number, entity) = (self.sent[chosen].0, quote(&alert.entity.1));
        Some(format!(
            "Merged into alert {number} of the entity {entity}, {why}"
        ))
    }

    /// The alerts of each entity and group that are merged: those of which one is hidden, and those of several states. Alerts
    /// of state 0 only have no alarm.
    fn merged(&self) -> (Vec<Shared<'_>>, Vec<Shared<'_>>) {
        let mut entities: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (position, chosen) in self.chosen.iter().enumerate() {
            entities.entry(*chosen).or_default().push(position);
        }
        entities.retain(|_, positions| positions.len() > 1);
        let (mut hidden, mut others) = (Vec::new(), Vec::new());
        for (chosen, positions) in entities {
            let chosen = &self.candidates[chosen];
            let alerts = positions.iter().map(|position| &self.candidates[*position]);
            let states: BTreeSet<u8> = alerts.clone().map(|alert| alert.state as u8).collect();
            let states: Vec<String> = states.iter().rev().map(u8::to_string).collect();
            let numbers = positions.iter().map(|position| self.sent[*position].0);
            let numbers = first(numbers, MAX_NUMBERS);
            let has_several = states.len() > 1;
            let shared = Shared {
                entity: &chosen.entity.1,
                members: format!("alerts {numbers}; state {}", states.join(", ")),
                labels: differing(positions.iter().map(|position| &self.sent[*position].1)),
            };
            // One of them is the published one, which does not hide itself.
            if alerts.filter(|alert| alert.is_hidden_by(chosen)).count() > 1 {
                hidden.push(shared);
            } else if has_several {
                others.push(shared);
            }
        }
        (hidden, others)
    }

    /// The groups of each entity that is in several.
    fn in_several_groups(&self) -> Vec<Shared<'_>> {
        let mut entities: BTreeMap<&str, BTreeSet<usize>> = BTreeMap::new();
        for candidate in &self.candidates {
            let (group, entity) = &candidate.entity;
            entities.entry(entity).or_default().insert(*group);
        }
        entities.retain(|_, groups| groups.len() > 1);
        let shared = |(entity, groups): (_, BTreeSet<usize>)| {
            let found = groups.iter().map(|group| self.notifications[group]);
            let mut labels = differing(found.clone().map(|found| &found.group_labels));
            let receivers: BTreeSet<_> = found.map(|found| Some(&*found.receiver)).collect();
            if receivers.len() > 1 {
                labels.insert("receiver", receivers);
            }
            Shared {
                entity,
                members: format!("groups {}", first(groups.iter(), MAX_NUMBERS)),
                labels,
            }
        };
        entities.into_iter().map(shared).collect()
    }

    fn write_notes(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let notifications = self.notifications.values();
        let receivers: BTreeSet<&str> = notifications.map(|group| &*group.receiver).collect();
        match self.kind {
            _ if self.alerts == 0 => writeln!(
                f,
                "There are no alerts: none fires, or the receiver has another name."
            ),
            InputKind::Groups if receivers.len() > 1 => writeln!(
                f,
                "These are the groups of {} receivers. Add ?receiver=NAME to the URL for those of one.",
                receivers.len()
            ),
            InputKind::Alerts => writeln!(
                f,
                "This list has no groups: its alerts are taken as one group, of all receivers that it holds (amtool alert query -r\n\
                 NAME: of one). With GET /api/v2/alerts/groups, entities of several groups are found, too."
            ),
            InputKind::Groups | InputKind::Notification => Ok(()),
        }
    }
}

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let events = (self.chosen.iter().enumerate())
            .filter(|(position, chosen)| position == *chosen)
            .count();
        write!(f, "Summary of {}", count(self.alerts, "alert", "alerts"))?;
        if self.has_groups() {
            let groups = self.notifications.len();
            write!(f, " in {}", count(groups, "group", "groups"))?;
        }
        write!(f, ": {}", count(events, "event", "events"))?;
        for (number, what) in [
            (self.chosen.len() - events, "merged"),
            (self.rejected(), "rejected"),
            (
                self.suppressed,
                "suppressed (silenced, inhibited or muted: not sent)",
            ),
        ] {
            if number > 0 {
                write!(f, ", {number} {what}")?;
            }
        }
        writeln!(f)?;
        self.write_notes(f)?;
        let mut rejected: Vec<_> = self.rejected.iter().collect();
        rejected.sort_by_key(|(_, numbers)| std::cmp::Reverse(numbers.len()));
        if !rejected.is_empty() {
            writeln!(f, "\nRejected alerts:")?;
        }
        for (reason, numbers) in rejected.iter().take(MAX_ROWS) {
            let numbers = first(numbers.iter(), MAX_NUMBERS);
            writeln!(f, "    {numbers}: {}", visible(reason))?;
        }
        write_more(f, rejected.len(), "reasons")?;
        let (hidden, others) = self.merged();
        write_section(
            f,
            "several alerts of one state, and Canopsis shows one of them.\nAdd a label in which they differ to the rule of resource.",
            hidden,
        )?;
        write_section(
            f,
            "alerts in several groups, and each group closes the alarm of the others.\n\
             Remove a label in which the groups differ from group_by, or add it to the rule of resource.",
            self.in_several_groups(),
        )?;
        write_section(
            f,
            "alerts of several states, of which the highest counts.\nThat is right for the severities of one problem.",
            others,
        )
    }
}

/// One entity is shown for each combination of labels: the others have the same remedy.
fn write_section(f: &mut fmt::Formatter<'_>, what: &str, shared: Vec<Shared<'_>>) -> fmt::Result {
    if shared.is_empty() {
        return Ok(());
    }
    let entities = count(shared.len(), "entity has", "entities have");
    writeln!(f, "\n{entities} {what}")?;
    let mut combinations: BTreeMap<Vec<&str>, Vec<Shared<'_>>> = BTreeMap::new();
    for shared in shared {
        let names = shared.labels.keys().copied().collect();
        combinations.entry(names).or_default().push(shared);
    }
    let mut combinations: Vec<_> = combinations.into_values().collect();
    combinations.sort_by_key(|shared| std::cmp::Reverse(shared.len()));
    for shared in combinations.iter().take(MAX_ROWS) {
        writeln!(f, "    {}", shared[0])?;
        if let others @ 1.. = shared.len() - 1 {
            let others = count(others, "more entity with", "more entities with");
            writeln!(f, "        and {others} the same labels")?;
        }
    }
    write_more(f, combinations.len(), "combinations of labels")
}

fn write_more(f: &mut fmt::Formatter<'_>, rows: usize, what: &str) -> fmt::Result {
    match rows.saturating_sub(MAX_ROWS) {
        0 => Ok(()),
        more => writeln!(f, "    and {more} more {what}"),
    }
}

impl fmt::Display for Shared<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entity = quote_value(&Value::from(self.entity));
        write!(f, "{entity}: {}", self.members)?;
        if self.labels.is_empty() {
            return f.write_str("\n        no label differs");
        }
        for (name, values) in self.labels.iter().take(MAX_LABELS) {
            let texts = values
                .iter()
                .map(|value| value.map_or_else(|| "absent".to_owned(), quote));
            let texts = first(texts, MAX_VALUES);
            write!(f, "\n        {}: {texts}", visible(name))?;
        }
        if let more @ 1.. = self.labels.len().saturating_sub(MAX_LABELS) {
            let more = count(more, "more label", "more labels");
            write!(f, "\n        and {more}")?;
        }
        Ok(())
    }
}

/// The labels in which these differ.
fn differing<'l>(
    alerts: impl Iterator<Item = &'l Labels<'l>> + Clone,
) -> BTreeMap<&'l str, BTreeSet<Option<&'l str>>> {
    let mut labels: BTreeMap<&str, BTreeSet<Option<&str>>> = BTreeMap::new();
    for (name, _) in alerts.clone().flat_map(Labels::iter) {
        labels.entry(name).or_default();
    }
    for alert in alerts {
        for (name, values) in &mut labels {
            values.insert(alert.get(name));
        }
    }
    labels.retain(|_, values| values.len() > 1);
    labels
}

/// The first of some items, and how many others there are.
fn first<T: ToString>(items: impl ExactSizeIterator<Item = T>, limit: usize) -> String {
    let more = items.len().saturating_sub(limit);
    let items: Vec<String> = items.take(limit).map(|item| item.to_string()).collect();
    let items = items.join(", ");
    match more {
        0 => items,
        more => format!("{items} and {more} more"),
    }
}

fn count(number: usize, one: &str, several: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { several })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::input::Input;
    use crate::mapping::tests::{NOW, mapping};

    const STATE: &str = "state: {type: copy, value: labels.severity}";

    fn summary(input: &Value) -> String {
        let mapping = mapping(STATE);
        let input = Input::read(input.to_string().into()).unwrap();
        let groups = input.groups().unwrap();
        let summary = Summary::new(&mapping, input.kind, &groups, NOW).unwrap();
        summary.to_string()
    }

    fn group(labels: &Value, alerts: &[Value]) -> Value {
        json!({"labels": labels, "receiver": {"name": "canopsis"}, "alerts": alerts})
    }

    /// An alert of the API, with a label in addition.
    fn alert(name: &str, severity: &str, device: &str) -> Value {
        json!({"labels": {"alertname": name, "instance": "host", "severity": severity, "device": device}})
    }

    fn suppressed(mut alert: Value) -> Value {
        alert["status"] = json!({"state": "suppressed"});
        alert
    }

    #[test]
    fn alerts_and_groups_of_one_entity_are_listed_with_the_labels_that_differ() {
        let mut bare = alert("Bare", "minor", "x");
        bare["labels"].as_object_mut().unwrap().remove("device");
        let first = [
            alert("Disk", "major", "sda"),
            alert("Disk", "minor", "sdb"),
            alert("Disk", "major", "sdc"),
            alert("Disk", "major", "sd\u{1b}d"),
            alert("Load", "minor", ""),
            alert("Load", "critical", ""),
            alert("", "minor", ""),
            json!(1),
            bare,
        ];
        let second = [("Load", ""), ("Bare", "y"), ("Bare", "z")];
        let second = second.map(|(name, device)| alert(name, "minor", device));
        let third = [("Disk", "x"), ("Disk", "y"), ("", "y")];
        let third = third.map(|(name, device)| suppressed(alert(name, "major", device)));
        let groups = json!([
            group(&json!({"job": "node"}), &first),
            group(&json!({"job": "other", "team": "db"}), &second),
            group(&json!({}), &third),
        ]);
        let expected = r#"Summary of 15 alerts in 3 groups: 5 events, 5 merged, 3 rejected, 2 suppressed (silenced, inhibited or muted: not sent)

Rejected alerts:
    7, 15: required field resource has no value: labels.alertname is empty
    8: malformed: expected an object of the alert

2 entities have several alerts of one state, and Canopsis shows one of them.
Add a label in which they differ to the rule of resource.
    "Bare/host": alerts 11, 12; state 1
        device: "y", "z"
    "Disk/host": alerts 1, 2, 3, 4; state 2, 1
        device: "sd\u001bd", "sda" and 2 more
        severity: "major", "minor"

2 entities have alerts in several groups, and each group closes the alarm of the others.
Remove a label in which the groups differ from group_by, or add it to the rule of resource.
    "Bare/host": groups 1, 2
        job: "node", "other"
        team: absent, "db"
        and 1 more entity with the same labels

1 entity has alerts of several states, of which the highest counts.
That is right for the severities of one problem.
    "Load/host": alerts 5, 6; state 3, 1
        severity: "critical", "minor"
"#;
        assert_eq!(summary(&groups), expected);
    }

    #[test]
    fn an_input_without_groups_or_with_several_receivers_has_a_note() {
        let flat = "Summary of 1 alert: 1 event\nThis list has no groups: ";
        assert!(summary(&json!([alert("A", "minor", "")])).starts_with(flat));
        let none = "Summary of 0 alerts: 0 events\nThere are no alerts: none fires, or the receiver has another name.\n";
        assert_eq!(summary(&json!([])), none);
        let alone = summary(&alert("A", "minor", ""));
        assert_eq!(alone, "Summary of 1 alert: 1 event\n");
        let one = group(&json!({}), &[alert("A", "minor", "")]);
        let mut groups = json!([one, one]);
        let same = summary(&groups);
        let end = "\n    \"A/host\": groups 1, 2\n        no label differs\n";
        assert!(same.ends_with(end), "{same}");
        groups[1]["receiver"]["name"] = json!("mail");
        let others = summary(&groups);
        let receivers = "\nThese are the groups of 2 receivers.";
        let end = "groups 1, 2\n        receiver: \"canopsis\", \"mail\"\n";
        assert!(
            others.contains(receivers) && others.ends_with(end),
            "{others}"
        );
    }

    #[test]
    fn resolved_alerts_and_those_of_state_0_hide_nothing() {
        let body = |severity: &str, statuses: [&str; 2]| {
            let alerts = statuses.map(|status| {
                let mut alert = alert("A", severity, status);
                alert["status"] = json!(status);
                alert
            });
            json!({"version": "4", "groupKey": "g", "alerts": alerts})
        };
        for (severity, statuses, hides, has_several) in [
            ("minor", ["firing", "firing"], true, false),
            ("minor", ["firing", "resolved"], false, true),
            ("minor", ["resolved", "resolved"], false, false),
            ("ok", ["firing", "firing"], false, false),
            ("ok", ["firing", "resolved"], false, false),
        ] {
            let text = summary(&body(severity, statuses));
            assert!(text.starts_with("Summary of 2 alerts: 1 event, 1 merged\n"));
            assert_eq!(text.contains("of one state"), hides, "{text}");
            assert_eq!(text.contains("of several states"), has_several, "{text}");
        }
    }

    #[test]
    fn a_summary_of_many_alerts_is_short() {
        let alerts = (0..2_000).map(|number| {
            let mut alert = alert(&format!("A{}", number % 500), "minor", &number.to_string());
            let labels = alert["labels"].as_object_mut().unwrap();
            for name in 0..20 {
                labels.insert(format!("l{name}"), number.to_string().into());
            }
            labels.insert(format!("m{}", number % 500 / 15), number.to_string().into());
            if number % 10 == 9 {
                labels.remove("instance");
            }
            alert
        });
        let alerts: Vec<Value> = alerts.collect();
        let halves = alerts.chunks(1_000).zip(["a", "b"]);
        let groups: Vec<Value> = halves
            .map(|(alerts, name)| group(&json!({"x": name}), alerts))
            .collect();
        let text = summary(&Value::from(groups));
        assert!(text.lines().count() < 150, "{text}");
        for expected in [
            "\n        and 16 more labels\n        and 27 more entities with the same labels\n",
            "    and 24 more combinations of labels\n",
            "    10, 20, 30, 40, 50, 60 and 194 more: required field component",
        ] {
            assert!(text.contains(expected), "{expected}: {text}");
        }
        assert!(text.lines().all(|line| line.len() < 600));
    }

    #[test]
    fn more_alerts_than_a_notification_may_have_are_an_error() {
        let json = format!("[{}]", vec![r#"{"labels":{}}"#; MAX_ALERTS + 1].join(","));
        let input = Input::read(json.into()).unwrap();
        let groups = input.groups().unwrap();
        let summary = Summary::new(&mapping(""), input.kind, &groups, NOW);
        assert!(matches!(summary, Err(DecodeError::TooManyAlerts)));
    }
}
