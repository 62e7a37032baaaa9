//! Which alerts share an alarm: the entities that several alerts or groups of an input have, and the labels in which those
//! differ. The author of a mapping adds such a label to the rule of `resource`.
//!
//! Pure: the alerts are mapped once more for it. Which alert of an entity is published, [`choose_events`] decides.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::Timestamp;
use serde_json::Value;

use super::quote::{quote, quote_value};
use super::{AlertError, Mapping, NotificationContext};
use crate::alertmanager::{DecodeError, Labels, MAX_ALERTS, Status};
use crate::event::{Candidate, choose_events};
use crate::input::{Group, Input, InputKind};
use crate::text::{count, visible};

/// How many rows of a section are shown.
const MAX_ROWS: usize = 10;

/// How many alerts or groups of an entity are shown, how many labels, and how many values of each.
const MAX_NUMBERS: usize = 6;
const MAX_LABELS: usize = 6;
const MAX_VALUES: usize = 2;

/// What the entities of a section have, and what to do.
const OF_ONE_STATE: &str = "several alerts of one state, and Canopsis shows one of them.\n\
    Add a label in which they differ to the rule of resource.";
const IN_SEVERAL_GROUPS: &str = "alerts in several groups, and each group closes the alarm of the others.\n\
    Remove a label in which the groups differ from group_by, or add it to the rule of resource.";
const OF_SEVERAL_STATES: &str = "alerts of several states, of which the highest counts.\n\
    That is right for the severities of one problem.";

/// What a list of alerts without groups cannot show.
const ALERTS_ALONE: &str = "This list has no groups: its alerts are taken as one group, of all receivers that it holds \
    (amtool alert query -r\nNAME: of one). With GET /api/v2/alerts/groups, entities of several groups are found, too.\n";

/// An entity that several alerts or groups share.
struct Shared {
    /// The names of the labels in which those differ.
    labels: Vec<String>,
    /// What is shown.
    row: String,
}

/// What becomes of the alerts of an input together.
#[derive(Debug, Default)]
pub struct Summary<'n> {
    /// The form of the input.
    pub kind: InputKind,
    /// The input's notifications.
    pub groups: Vec<Group<'n>>,
    /// When they arrived.
    pub received_at: Timestamp,
    /// How many alerts there are.
    pub alerts: usize,
    suppressed: usize,
    /// The numbers of the rejected alerts, by their reasons.
    rejected: BTreeMap<String, Vec<usize>>,
    /// The numbers and labels of the alerts that are sent and mapped.
    sent: Vec<(usize, Labels<'n>)>,
    /// The same alerts; an entity counts for each position in [`Summary::groups`].
    candidates: Vec<Candidate<(usize, String)>>,
    /// For each of them the position of the one that is published.
    chosen: Vec<usize>,
}

impl<'n> Summary<'n> {
    /// Decodes and maps all alerts.
    pub fn new(mapping: &Mapping, input: &'n Input, now: Timestamp) -> Result<Self, DecodeError> {
        let mut summary = Self {
            kind: input.kind,
            groups: input.groups()?,
            received_at: now,
            ..Self::default()
        };
        for (position, Group { body, notification }) in summary.groups.iter().enumerate() {
            let context = NotificationContext::new(notification, now, &|| false);
            for (number, alert) in (1..).zip(notification.alerts()) {
                if number > MAX_ALERTS {
                    return Err(DecodeError::TooManyAlerts);
                }
                summary.alerts += 1;
                let decoded = alert.map_err(|error| vec![AlertError::Malformed(error.to_string())]);
                let mapped = decoded.and_then(|alert| {
                    let event = mapping.map(&context.with_alert(&alert)).0?;
                    let mut entity = String::new();
                    event.names.write_entity_id(&mut entity);
                    let candidate = Candidate {
                        entity: (position, entity),
                        state: event.state,
                        is_firing: alert.status == Status::Firing,
                    };
                    Ok((candidate, alert.labels))
                });
                match mapped {
                    Ok(_) if body.is_suppressed => summary.suppressed += 1,
                    Ok((candidate, labels)) => {
                        summary.candidates.push(candidate);
                        summary.sent.push((summary.alerts, labels));
                    }
                    Err(errors) => {
                        let reasons: Vec<String> = errors.iter().map(ToString::to_string).collect();
                        let numbers = summary.rejected.entry(reasons.join("; "));
                        numbers.or_default().push(summary.alerts);
                    }
                }
            }
        }
        summary.chosen = choose_events(&summary.candidates);
        Ok(summary)
    }

    /// The number of rejected alerts.
    pub fn rejected(&self) -> usize {
        self.rejected.values().map(Vec::len).sum()
    }

    /// Why this alert has no event: another one of its entity is published.
    pub(super) fn merged_note(&self, number: usize) -> Option<String> {
        let sent = &self.sent;
        let position = sent.binary_search_by_key(&number, |(known, _)| *known);
        let position = position.ok()?;
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
        let (number, entity) = (sent[chosen].0, quote(&alert.entity.1));
        Some(format!(
            "Merged into alert {number} of the entity {entity}, {why}"
        ))
    }

    /// The alerts of each entity and group that are merged: those of which one is hidden, and those of several states. Alerts
    /// of state 0 only have no alarm.
    fn merged(&self) -> (Vec<Shared>, Vec<Shared>) {
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
            let states = first(states.iter().rev(), states.len());
            let sent = positions.iter().map(|position| &self.sent[*position]);
            let numbers = first(sent.clone().map(|(number, _)| number), MAX_NUMBERS);
            let section = match alerts.filter(|alert| alert.is_hidden_by(chosen)).count() {
                0 => continue,
                // The published one, which does not hide itself.
                1 => &mut others,
                _ => &mut hidden,
            };
            let alerts = format!("alerts {numbers}; state {states}");
            let labels: Vec<_> = sent.map(|(_, labels)| labels).collect();
            section.push(shared(&chosen.entity.1, &alerts, &labels));
        }
        (hidden, others)
    }

    /// The groups of each entity that is in several.
    fn in_several_groups(&self) -> Vec<Shared> {
        let mut entities: BTreeMap<&str, BTreeSet<usize>> = BTreeMap::new();
        for candidate in &self.candidates {
            let (group, entity) = &candidate.entity;
            entities.entry(entity).or_default().insert(*group);
        }
        entities.retain(|_, groups| groups.len() > 1);
        let shared = |(entity, groups): (&str, BTreeSet<usize>)| {
            let groups = groups.iter().map(|position| &self.groups[*position]);
            let labels: Vec<Labels<'_>> = groups.clone().map(labels_of_group).collect();
            let labels: Vec<&Labels<'_>> = labels.iter().collect();
            let numbers = first(groups.map(|group| group.body.group), MAX_NUMBERS);
            shared(entity, &format!("groups {numbers}"), &labels)
        };
        entities.into_iter().map(shared).collect()
    }

    /// What the input lacks, or has too much of.
    fn note(&self) -> String {
        let receivers = self.groups.iter().map(|group| &group.notification.receiver);
        let receivers = receivers.collect::<BTreeSet<_>>().len();
        match self.kind {
            _ if self.alerts == 0 => {
                "There are no alerts: none fires, or the receiver has another name.\n".to_owned()
            }
            InputKind::Groups if receivers > 1 => format!(
                "These are the groups of {receivers} receivers. Add ?receiver=NAME to the URL for those of one.\n"
            ),
            InputKind::Alerts => ALERTS_ALONE.to_owned(),
            InputKind::Groups | InputKind::Notification => String::new(),
        }
    }
}

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Summary of {}", count(self.alerts, "alert", "alerts"))?;
        if self.kind == InputKind::Groups {
            let numbers: BTreeSet<_> = self.groups.iter().map(|group| group.body.group).collect();
            write!(f, " in {}", count(numbers.len(), "group", "groups"))?;
        }
        let events = self.chosen.iter().collect::<BTreeSet<_>>().len();
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
        let rejected = self.rejected.iter().map(|(reason, numbers)| {
            let shown = first(numbers.iter(), MAX_NUMBERS);
            (numbers.len(), format!("{shown}: {}", visible(reason)))
        });
        let (hidden, others) = self.merged();
        let parts = [
            self.note(),
            section("Rejected alerts:", rejected.collect(), "reasons"),
            of_entities(hidden, OF_ONE_STATE),
            of_entities(self.in_several_groups(), IN_SEVERAL_GROUPS),
            of_entities(others, OF_SEVERAL_STATES),
        ];
        write!(f, "\n{}", parts.concat())
    }
}

/// An entity with its alerts or groups, and the labels in which they differ.
fn shared(entity: &str, members: &str, labels: &[&Labels<'_>]) -> Shared {
    let all = labels.iter().flat_map(|labels| labels.iter());
    let names: BTreeSet<&str> = all.map(|(name, _)| name).collect();
    let (mut differing, mut lines) = (Vec::new(), Vec::new());
    for name in names {
        let values: BTreeSet<_> = labels.iter().map(|labels| labels.get(name)).collect();
        if values.len() > 1 {
            let values = values.iter();
            let values = values.map(|value| value.map_or_else(|| "absent".to_owned(), quote));
            lines.push(format!("{}: {}", visible(name), first(values, MAX_VALUES)));
            differing.push(name.to_owned());
        }
    }
    if lines.is_empty() {
        lines.push("no label differs".to_owned());
    }
    if let more @ 1.. = lines.len().saturating_sub(MAX_LABELS) {
        lines.truncate(MAX_LABELS);
        lines.push(format!("and {}", count(more, "more label", "more labels")));
    }
    let entity = quote_value(&Value::from(entity));
    let lines = lines.join("\n        ");
    Shared {
        labels: differing,
        row: format!("{entity}: {members}\n        {lines}"),
    }
}

/// One entity is shown for each combination of labels: the others have the same remedy.
fn of_entities(mut entities: Vec<Shared>, what: &str) -> String {
    let number = count(entities.len(), "entity has", "entities have");
    entities.sort_by(|one, other| one.labels.cmp(&other.labels));
    let combinations = entities.chunk_by(|one, other| one.labels == other.labels);
    let rows = combinations.map(|entities| {
        let mut row = entities[0].row.clone();
        if let others @ 1.. = entities.len() - 1 {
            let others = count(others, "more entity with", "more entities with");
            row += &format!("\n        and {others} the same labels");
        }
        (entities.len(), row)
    });
    section(
        &format!("{number} {what}"),
        rows.collect(),
        "combinations of labels",
    )
}

/// The rows with the largest numbers, below a title, and how many others there are. Empty without rows.
fn section(title: &str, mut rows: Vec<(usize, String)>, what: &str) -> String {
    if rows.is_empty() {
        return String::new();
    }
    rows.sort_by_key(|(size, _)| Reverse(*size));
    let mut text = format!("\n{title}\n");
    for (_, row) in rows.iter().take(MAX_ROWS) {
        text += &format!("    {row}\n");
    }
    if let more @ 1.. = rows.len().saturating_sub(MAX_ROWS) {
        text += &format!("    and {more} more {what}\n");
    }
    text
}

/// A group's labels, and its receiver as another one.
fn labels_of_group<'g>(group: &'g Group<'_>) -> Labels<'g> {
    let notification = &group.notification;
    let receiver = [("receiver", &*notification.receiver)].into_iter();
    let labels = receiver.chain(notification.group_labels.iter());
    let labels = labels.map(|(name, value)| (name.into(), Some(value.into())));
    Labels::new(labels.collect())
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::mapping::tests::{NOW, mapping};

    const STATE: &str = "state: {type: copy, value: labels.severity}";

    fn summary(input: &Value) -> String {
        let mapping = mapping(STATE);
        let input = Input::read(input.to_string().into()).unwrap();
        let summary = Summary::new(&mapping, &input, NOW).unwrap();
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
        let summary = Summary::new(&mapping(""), &input, NOW);
        assert!(matches!(summary, Err(DecodeError::TooManyAlerts)));
    }
}
