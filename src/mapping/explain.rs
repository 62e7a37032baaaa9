//! `--explain`: how each alert's event gets its values, field by field, for the author of a mapping.
//!
//! It decides nothing: it shows the event of the same [`Mapping`] that publishes, with what that recorded on the way.

use std::fmt;
use std::io::{self, Write};

use serde_json::Value;

use super::quote::{quote, quote_value};
use super::rule::Rule;
use super::summary::Summary;
use super::{AlertError, Context, Mapping, NotificationContext};
use crate::event::FieldValue;
use crate::input::InputKind;
use crate::text::visible;

/// What is said of a field that an event lacks.
const OMITTED: &str = "omitted";

/// Explains each alert of some notifications in turn, and what becomes of them together.
pub fn write(out: &mut dyn Write, mapping: &Mapping, summary: &Summary<'_>) -> io::Result<()> {
    let mut numbers = 1..;
    for group in &summary.groups {
        let notification = &group.notification;
        if notification.truncated_alerts > 0 {
            writeln!(
                out,
                "Alertmanager truncated the notification (max_alerts): {} alerts never reach Canopsis",
                notification.truncated_alerts
            )?;
        }
        let context = NotificationContext::new(notification, summary.received_at, &|| false);
        for (alert, number) in notification.alerts().zip(numbers.by_ref()) {
            write!(out, "\nAlert {number} of {}", summary.alerts)?;
            if summary.kind == InputKind::Groups {
                write!(out, ", group {}", group.body.group)?;
            }
            if group.body.is_suppressed {
                write!(out, ", suppressed (not sent)")?;
            }
            let alert = match alert {
                Ok(alert) => alert,
                Err(error) => {
                    let error = AlertError::Malformed(error.to_string()).to_string();
                    writeln!(out, ": rejected: {}", visible(&error))?;
                    continue;
                }
            };
            let (name, status) = (alert.labels.get("alertname"), alert.status.as_str());
            let name = name.map(|name| quote(name) + ", ").unwrap_or_default();
            let fingerprint = quote(&alert.fingerprint);
            write!(out, ": {name}{status}, fingerprint {fingerprint}\n\n")?;
            let (fields, errors) = explained(mapping, &context.with_alert(&alert))?;
            for field in fields {
                write!(out, "{field}")?;
            }
            for error in errors {
                writeln!(out, "Alert rejected: {}", visible(&error.to_string()))?;
            }
            if let Some(merged) = summary.merged_note(number) {
                writeln!(out, "{merged}")?;
            }
        }
    }
    write!(out, "\n{summary}")
}

/// How one alert's event gets its values, field by field, and why it has none.
fn explained(
    mapping: &Mapping,
    context: &Context<'_>,
) -> io::Result<(Vec<FieldTrace>, Vec<AlertError>)> {
    let (event, mut fields) = mapping.map_traced(context);
    if let Ok(event) = &event {
        let mut json = Vec::new();
        event.write_json(&mut json)?;
        let event: Value = serde_json::from_slice(&json)?;
        for field in &mut fields {
            field.value = event.get(&field.name).cloned().ok_or(OMITTED);
        }
    }
    Ok((fields, event.err().unwrap_or_default()))
}

/// How one field gets its value.
#[derive(Debug)]
pub(super) struct FieldTrace {
    name: String,
    /// The event's value, or what is said of the field in its place.
    pub(super) value: Result<Value, &'static str>,
    /// The result of each rule that was evaluated, and what else decided.
    pub(super) lines: Vec<String>,
}

impl FieldTrace {
    /// A field with what decided its value.
    pub(super) fn new(name: &str, value: Option<Value>, lines: Vec<String>) -> Self {
        Self {
            name: name.to_owned(),
            value: value.ok_or(OMITTED),
            lines,
        }
    }

    /// What came of a field's rule.
    pub(super) fn of_rule(
        name: &str,
        rule: Option<&Rule>,
        reasons: impl Iterator<Item = String>,
        value: Option<&FieldValue<'_>>,
    ) -> Self {
        let lines = match rule {
            Some(Rule::First(_)) => (1..)
                .zip(reasons)
                .map(|(number, reason)| format!("rule {number}: {reason}"))
                .collect(),
            Some(_) => reasons.collect(),
            None => vec!["no rule".to_owned()],
        };
        let value = value.and_then(|value| serde_json::to_value(value).ok());
        Self::new(name, value, lines)
    }
}

impl fmt::Display for FieldTrace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = visible(&self.name);
        match &self.value {
            Ok(value) => writeln!(f, "{name} = {}", quote_value(value))?,
            Err(reason) => writeln!(f, "{name}: {reason}")?,
        }
        let mut lines = self.lines.iter();
        lines.try_for_each(|line| writeln!(f, "    {}", visible(line)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alertmanager::Notification;
    use crate::config::{Config, Environment, Overrides};
    use crate::input::Input;
    use crate::mapping::tests::{
        NOW, Sample, large, mapping, resolved, sample, sample_with, to_value,
    };

    /// The explanation of one field.
    fn explained(name: &str, lines: &str, sample: Sample) -> String {
        let mapping = mapping(lines);
        let (fields, _) = super::explained(&mapping, &sample.context()).unwrap();
        let fields = fields.iter().filter(|field| field.name == name);
        fields.map(ToString::to_string).collect()
    }

    /// What `--explain` prints of an input, without the summary.
    fn written(mapping: &Mapping, input: &str) -> String {
        let input = Input::read(input.into()).unwrap();
        let summary = Summary::new(mapping, &input, NOW).unwrap();
        let mut out = Vec::new();
        write(&mut out, mapping, &summary).unwrap();
        let text = String::from_utf8(out).unwrap();
        let (alerts, _) = text.rsplit_once("\nSummary of ").unwrap();
        alerts.to_owned()
    }

    /// The lines of a configuration, and what is explained of the field that the explanation names.
    const EXPLAINED: &str = r#"
output: x
    output = "x"
        constant
output: ''
    output: omitted
        the constant is empty
output: {type: copy, value: labels.severity}
    output = "critical"
        copied from labels.severity
output: [{type: copy, value: labels.nosuch}, {type: copy, value: labels.empty}, {type: copy, value: generatorURL}, x, y]
    output = "x"
        rule 1: labels.nosuch is absent
        rule 2: labels.empty is empty
        rule 3: generatorURL is empty
        rule 4: constant
output: [[{type: copy, value: labels.nosuch}, ''], [x]]
    output = "x"
        rule 1: labels.nosuch is absent
        rule 2: the constant is empty
        rule 3: constant
output: [{type: map, field: labels.severity, values: {a: b}}, {type: map, field: labels.severity, values: {critical: ''}}]
    output: omitted
        rule 1: labels.severity is "critical": not in the table
        rule 2: labels.severity is "critical": empty in the table
output: {type: map, field: labels.severity, values: {critical: bad}}
    output = "bad"
        labels.severity is "critical": from the table
output: {type: map, field: labels.severity, values: {a: b}, default: odd}
    output = "odd"
        labels.severity is "critical": the table's default
output: {type: template, field: labels.severity, regexp: '(?P<x>z)', value: '{{ .RegexMatch.x }}'}
    output: omitted
        labels.severity is "critical": the regexp does not match
output: [{type: template, field: labels.nosuch, value: x}, {type: template, value: '{{ "" }}'}]
    output: omitted
        rule 1: labels.nosuch is absent
        rule 2: the template rendered an empty string
output: {type: template, field: labels.severity, value: '{{ "" }}'}
    output: omitted
        labels.severity is "critical": the template rendered an empty string
output: [{type: template, field: labels, value: '{{ .Field.x }}'}, {type: template, field: groupLabels, value: y}]
    output = "y"
        rule 1: labels has 5 entries: the template failed: at 1:4 of the template: map has no entry for key "x"
        rule 2: groupLabels has 1 entry: rendered by the template
output: {type: template, value: x}
    output = "x"
        rendered by the template
output_length: 4; output: abcdef
    output = "abcd"
        constant
        cut to 4 of 6 characters
output_length: 6; output: abcdef
    output = "abcdef"
        constant
# nothing
    connector = "prometheus"
        constant
# nothing
    author = "prometheus.p1"
        no rule
        default: <connector>.<connector_name>
author: {type: copy, value: labels.nosuch}
    author = "prometheus.p1"
        labels.nosuch is absent
        default: <connector>.<connector_name>
# nothing
    state = 3
        no rule
        every firing alert is 3 (critical)
state: 2
    state = 2
        constant
state: Minor
    state = 1
        constant
        "Minor" is read as 1
state: 4
    state = 3
        constant
        "4" is not a valid state; using 3 (critical)
state: {type: copy, value: labels.nosuch}
    state = 3
        labels.nosuch is absent
        no value; using 3 (critical)
# nothing
    long_output: omitted
        no rule
# nothing
    tags: omitted
        no rule
perf_data: {type: template, value: 'load=-1'}
    perf_data: omitted
        rendered by the template
        "load=-1" is not name=value[unit];warn;crit;min;max, where the value has neither a sign nor an exponent
component: a/b; resource: r
    resource = "r"
        constant
        component contains a slash, with which Canopsis joins names to ids: its id may be that of another entity
timestamp: {type: copy, value: startsAt}
    timestamp = 1795356649
        copied from startsAt
        "2026-11-22T14:10:49Z" is read as 1795356649
# nothing
    timestamp: omitted
        no rule
        Canopsis uses the time at which it reads the event
timestamp: {type: copy, value: endsAt}
    timestamp: omitted
        copied from endsAt
        "0001-01-01T00:00:00Z" means no time
        Canopsis uses the time at which it reads the event
timestamp: 1795360249123
    timestamp: omitted
        constant
        "1795360249123" is too large for Unix seconds: probably milliseconds
        Canopsis uses the time at which it reads the event
timestamp: 1795446650
    timestamp: omitted
        constant
        "1795446650" is more than 24 hours in the future: a clock is wrong
        Canopsis uses the time at which it reads the event
timestamp: 1700000000
    timestamp: omitted
        constant
        "1700000000" is more than 24 hours ago
        Canopsis uses the time at which it reads the event
timestamp: {type: template, value: yesterday}
    timestamp: omitted
        rendered by the template
        "yesterday" is neither Unix seconds nor RFC 3339
        Canopsis uses the time at which it reads the event
"#;

    #[test]
    fn each_field_has_what_decides_its_value() {
        let mut rows: Vec<(String, String)> = Vec::new();
        for line in EXPLAINED.lines().skip(1) {
            match line.strip_prefix("    ") {
                Some(expected) => rows.last_mut().unwrap().1 += &format!("{expected}\n"),
                None => rows.push((line.replace("; ", "\n"), String::new())),
            }
        }
        for (lines, expected) in rows {
            let name = expected.split([' ', ':']).next().unwrap();
            assert_eq!(explained(name, &lines, sample()), expected, "{lines}");
        }
        let state = explained("state", "state: 2", resolved());
        let expected = "state = 0\n    a resolved alert is always 0: its rule is not evaluated\n";
        assert_eq!(state, expected);
        // An optional field is not required, either, where the alert is rejected because of another one.
        let output = explained(
            "output",
            "author: {type: copy, value: labels.large}",
            large(1 << 20),
        );
        assert_eq!(output, "output: omitted\n    no rule\n");
    }

    #[test]
    fn a_rejected_alert_names_what_is_missing() {
        let mapping = mapping(
            "component: [{type: copy, value: labels.pod}, {type: copy, value: labels.empty}]",
        );
        let alert = r#"{"status":"firing","labels":{"alertname":"InstanceDown","empty":""},"fingerprint":"86714e72c9c59990"}"#;
        let truncated =
            "Alertmanager truncated the notification (max_alerts): 3 alerts never reach Canopsis\n";
        let rejected = "\nAlert 1 of 1: \"InstanceDown\", firing, fingerprint \"86714e72c9c59990\"\n\n\
            connector = \"prometheus\"\n    constant\nconnector_name = \"p1\"\n    constant\n\
            component: required, and has no value\n    rule 1: labels.pod is absent\n    rule 2: labels.empty is empty\n\
            resource = \"InstanceDown\"\n    copied from labels.alertname\n\
            Alert rejected: required field component has no value: labels.pod is absent; labels.empty is empty\n";
        for (alerts, expected) in [
            (alert, format!("{truncated}{rejected}")),
            ("", truncated.to_owned()),
            (
                "{}",
                format!(
                    "{truncated}\nAlert 1 of 1: rejected: malformed: missing field `status` at line 1 column 2 of the alert\n"
                ),
            ),
        ] {
            let body = format!(r#"{{"version":"4","truncatedAlerts":3,"alerts":[{alerts}]}}"#);
            assert_eq!(written(&mapping, &body), expected);
        }
    }

    #[test]
    fn fields_before_one_that_is_too_large_keep_their_values() {
        let mapping = mapping("connector_name: {type: copy, value: labels.large}");
        let (fields, errors) = super::explained(&mapping, &large(1 << 20).context()).unwrap();
        let fields: Vec<String> = fields.iter().map(ToString::to_string).collect();
        let component = "component = \"h\"\n    copied from labels.instance\n";
        assert_eq!(fields[2..], [component]);
        assert!(matches!(errors[..], [AlertError::EventTooLarge]));
    }

    #[test]
    fn an_alert_that_gives_way_names_the_one_that_is_published() {
        let alert = |name: &str, status: &str, severity: &str| {
            format!(
                r#"{{"status":"{status}","labels":{{"alertname":"{name}","instance":"host","severity":"{severity}"}}}}"#
            )
        };
        let alerts = [
            alert("A", "resolved", "critical"),
            alert("", "firing", "critical"),
            "1".to_owned(),
            alert("A", "firing", "major"),
            alert("B", "firing", "major"),
            alert("A", "firing", "major"),
            alert("A", "firing", "minor"),
        ];
        let body = format!(r#"{{"version":"4","alerts":[{}]}}"#, alerts.join(","));
        let mapping = mapping("state: {type: copy, value: labels.severity}");
        let text = written(&mapping, &body);
        let sections = text.split("\nAlert ").skip(1);
        let merged: Vec<(&str, &str)> = sections
            .filter_map(|section| {
                Some((
                    section.split_once(' ')?.0,
                    section.split_once("\nMerged into ")?.1,
                ))
            })
            .collect();
        let lower = "alert 4 of the entity \"A/host\", which decides the state of their alarm\n";
        let same = "alert 4 of the entity \"A/host\", which has the same state; Canopsis shows one of the two. \
            To separate them, add a label to the rule of resource\n";
        assert_eq!(merged, [("1", lower), ("6", same), ("7", lower)], "{text}");
    }

    #[test]
    fn the_alerts_of_groups_are_numbered_through_and_marked() {
        let alert = |name: &str, state: &str| {
            format!(
                r#"{{"status":{{"state":"{state}"}},"labels":{{"alertname":"{name}","instance":"host"}}}}"#
            )
        };
        let groups = [
            [alert("A", "suppressed"), alert("A", "active")].join(","),
            [alert("B", "active"), alert("B", "active")].join(","),
        ]
        .map(|alerts| {
            format!(r#"{{"labels":{{}},"receiver":{{"name":"r"}},"alerts":[{alerts}]}}"#)
        });
        let text = written(&mapping(""), &format!("[{}]", groups.join(",")));
        let headings = text.lines().filter(|line| line.starts_with("Alert "));
        let expected = [
            "Alert 1 of 4, group 1: \"A\", firing, fingerprint \"\"",
            "Alert 2 of 4, group 1, suppressed (not sent): \"A\", firing, fingerprint \"\"",
            "Alert 3 of 4, group 2: \"B\", firing, fingerprint \"\"",
            "Alert 4 of 4, group 2: \"B\", firing, fingerprint \"\"",
        ];
        assert_eq!(headings.collect::<Vec<_>>(), expected);
        assert_eq!(text.matches("Merged into alert 3 ").count(), 1, "{text}");
        assert_eq!(text.matches("Merged into ").count(), 1, "{text}");
    }

    #[test]
    fn a_sender_cannot_write_lines() {
        let sample = sample_with(|text| format!("{text}\u{1b}[31m\nconnector = \"forged\""));
        let lines = "extra_infos_prefix: x_\nextra_infos: {a: {type: copy, value: labels}, \
            b: {type: template, value: '{{ localtime \"15:04\" (index .Alert.labels .Alert.labels.severity) .Alert.startsAt }}'}}\n\
            state: {type: map, field: labels.severity, values: {a: 1}}\ntimestamp: {type: copy, value: labels.severity}";
        let (fields, _) = super::explained(&mapping(lines), &sample.context()).unwrap();
        let text: String = fields.iter().map(ToString::to_string).collect();
        assert!(
            !text.contains(|c: char| c.is_control() && c != '\n')
                && !text.contains("\nconnector = \"forged"),
            "{text}"
        );
        assert!(
            text.contains("x_b: omitted\n    the template failed: "),
            "{text}"
        );
    }

    #[test]
    fn what_is_explained_is_what_is_published() {
        let path = std::path::Path::new("config.yml");
        let config = Config::load(path, &Overrides::default(), &Environment::default()).unwrap();
        let mut alerts = 0;
        for file in std::fs::read_dir("tests/data/payloads").unwrap() {
            let body = std::fs::read_to_string(file.unwrap().path()).unwrap();
            let written = written(&config.mapping, &body);
            let longest = written.lines().map(|line| line.chars().count()).max();
            assert!(longest <= Some(100), "{written}");
            let notification = Notification::decode(body.as_bytes()).unwrap();
            let shared = NotificationContext::new(&notification, NOW, &|| false);
            for alert in notification.alerts() {
                let alert = alert.unwrap();
                let context = shared.with_alert(&alert);
                let event = to_value(&config.mapping.map(&context).0.unwrap());
                let (fields, _) = super::explained(&config.mapping, &context).unwrap();
                let explanation: String = fields.iter().map(ToString::to_string).collect();
                assert!(written.contains(&explanation), "{written}");
                let constants = [("event_type", "check"), ("source_type", "resource")]
                    .map(|(key, value)| (key.to_owned(), value.into()));
                let fields = fields.into_iter();
                let explained = fields.filter_map(|field| Some((field.name, field.value.ok()?)));
                assert_eq!(Value::Object(explained.chain(constants).collect()), event);
                alerts += 1;
            }
        }
        assert!(alerts > 8, "{alerts}");
    }
}
