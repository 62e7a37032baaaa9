//! How an alert's event gets its values, field by field, in words for whoever writes a mapping.
//!
//! Decides nothing: it watches [`Mapping::map_observed`], and shows the values of the event itself.

use std::fmt;
use std::io;

use jiff::Timestamp;
use serde_json::Value;

use super::observer::{Note, Observer};
use super::path::{Missing, PathValue};
use super::quote::{MOST_OF_TEXT, Quoted, shown};
use super::rule::{RuleInput, RuleOutcome, RulePosition, RuleValue, SkipReason, ValueSource};
use super::{Context, Mapping};
use crate::alertmanager::{Alert, Notification};
use crate::logging::{one_line, shorten};

/// Explains each alert of a notification in turn. How many of them can't be mapped.
pub fn write(
    out: &mut dyn io::Write,
    mapping: &Mapping,
    notification: &Notification<'_>,
    received_at: Timestamp,
) -> io::Result<usize> {
    if notification.truncated_alerts > 0 {
        writeln!(
            out,
            "Alertmanager has cut {} alerts off (max_alerts): they are sent nowhere",
            notification.truncated_alerts
        )?;
    }
    let Some(first) = notification.alerts.first() else {
        writeln!(out, "The notification holds no alert.")?;
        return Ok(0);
    };
    let context = Context::new(notification, first, received_at);
    let mut refused = 0;
    for (number, alert) in (1..).zip(&notification.alerts) {
        let explanation = Explanation::new(mapping, &context.for_alert(alert))?;
        refused += usize::from(!explanation.published);
        write!(
            out,
            "\n{}\n\n{explanation}",
            heading(alert, number, notification.alerts.len())
        )?;
    }
    Ok(refused)
}

fn heading(alert: &Alert<'_>, number: usize, of: usize) -> String {
    let quoted = |text| Quoted {
        text,
        most: MOST_OF_TEXT,
    };
    let name = alert
        .labels
        .get("alertname")
        .map(|name| format!("{}, ", quoted(name)))
        .unwrap_or_default();
    format!(
        "Alert {number} of {of}: {name}{}, fingerprint {}",
        alert.status.as_str(),
        quoted(&alert.fingerprint)
    )
}

/// How one alert's event gets its values.
#[derive(Debug)]
pub struct Explanation {
    /// In the order of the shipped configuration. Of an alert that can't be mapped, the names alone.
    pub fields: Vec<Field>,
    /// Whether the alert becomes an event.
    pub published: bool,
}

/// How one field gets its value.
#[derive(Debug)]
pub struct Field {
    /// As the event has it.
    pub name: String,
    /// What the event has there; `None` where the field is left out, or missing for an event.
    pub value: Option<Value>,
    /// What came of each rule that was tried.
    rules: Vec<String>,
    /// What else decided.
    remarks: Vec<String>,
}

impl Explanation {
    /// Maps an alert and explains how.
    pub fn new(mapping: &Mapping, context: &Context<'_>) -> serde_json::Result<Self> {
        let connector = Field {
            name: "connector".to_owned(),
            value: Some(Value::from(mapping.connector.as_str())),
            rules: vec!["constant".to_owned()],
            remarks: Vec::new(),
        };
        let mut watched = Watched {
            fields: vec![connector],
        };
        let event = mapping.map_observed(context, &mut watched).ok();
        if let Some(event) = &event {
            let event = serde_json::to_value(event)?;
            for field in &mut watched.fields {
                field.value = event.get(&field.name).cloned();
            }
        }
        Ok(Self {
            fields: watched.fields,
            published: event.is_some(),
        })
    }
}

/// Turns what it hears into words at once.
struct Watched {
    fields: Vec<Field>,
}

impl Watched {
    /// The field that is under way, or a new one.
    fn field(&mut self, name: &str) -> &mut Field {
        if self.fields.last().is_none_or(|field| field.name != name) {
            let name = name.to_owned();
            self.fields.push(Field {
                name,
                value: None,
                rules: Vec::new(),
                remarks: Vec::new(),
            });
        }
        let last = self.fields.len() - 1;
        &mut self.fields[last]
    }
}

impl Observer for Watched {
    fn tried(&mut self, field: &str, place: RulePosition<'_>, outcome: &RuleOutcome<'_>) {
        let field = self.field(field);
        let told = match outcome {
            Ok(given) => given.to_string(),
            Err(nothing) => nothing.to_string(),
        };
        field.rules.push(match place {
            RulePosition::Alone => told,
            RulePosition::Item { .. } => format!("rule {place}: {told}"),
        });
        if let Ok(given) = outcome {
            field.value = serde_json::to_value(&given.value).ok();
        }
    }

    fn remark(&mut self, field: &str, remark: Note<'_>) {
        // Only what surprises: that "3" is 3 does not.
        let plain = matches!(remark, Note::Reads { text, number } if text == number.to_string());
        let field = self.field(field);
        if !plain {
            field.remarks.push(remark.to_string());
        }
    }
}

impl fmt::Display for RuleValue<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            ValueSource::Constant => f.write_str("constant"),
            ValueSource::Copy(path) => write!(f, "copied from {path}"),
            ValueSource::Table(input) => write!(f, "{input}: from the table"),
            ValueSource::Default(input) => write!(f, "{input}: the table's default"),
            ValueSource::Template(Some(input)) => write!(f, "{input}: rendered by the template"),
            ValueSource::Template(None) => f.write_str("rendered by the template"),
        }
    }
}

impl fmt::Display for SkipReason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EmptyConstant => f.write_str("the constant is empty"),
            Self::Missing(path, Missing::Absent) => write!(f, "{path} is absent"),
            Self::Missing(path, Missing::Empty) => write!(f, "{path} is empty"),
            Self::NotInTable(input) => write!(f, "{input}: not in the table"),
            Self::EmptyEntry(input) => write!(f, "{input}: the table has an empty text for it"),
            Self::NoMatch(input) => write!(f, "{input}: the regexp does not match"),
            Self::EmptyText(input) => {
                prefix(f, input.as_ref())?;
                f.write_str("the template wrote an empty text")
            }
            Self::Failed { input, error, .. } => {
                prefix(f, input.as_ref())?;
                write!(f, "the template failed: {}", shorten(&error.to_string()))
            }
        }
    }
}

fn prefix(f: &mut fmt::Formatter<'_>, input: Option<&RuleInput<'_>>) -> fmt::Result {
    input.map_or(Ok(()), |input| write!(f, "{input}: "))
}

impl fmt::Display for RuleInput<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.found {
            PathValue::Text(text) => write!(
                f,
                "{} is {}",
                self.path,
                Quoted {
                    text,
                    most: MOST_OF_TEXT
                }
            ),
            PathValue::Map(labels) if labels.len() == 1 => write!(f, "{} has 1 entry", self.path),
            PathValue::Map(labels) => write!(f, "{} has {} entries", self.path, labels.len()),
        }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for field in &self.fields {
            match &field.value {
                Some(value) => writeln!(f, "{} = {}", one_line(&field.name), shown(value))?,
                None if self.published => writeln!(f, "{}: left out", one_line(&field.name))?,
                None => writeln!(f, "{}: nothing, and every event needs it", field.name)?,
            }
            let remarks = (!field.remarks.is_empty()).then(|| field.remarks.join("; "));
            for line in field.rules.iter().chain(&remarks) {
                writeln!(f, "    {}", one_line(line))?;
            }
        }
        if !self.published {
            writeln!(
                f,
                "The alert can't be mapped: no event is published, and no other field is tried."
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alertmanager::Status;
    use crate::config::{Config, Overrides};
    use crate::mapping::tests::{NOW, mapping, sample, sample_with};

    /// What is said of the fields of one name.
    fn told(name: &str, lines: &str, notification: &Notification<'_>) -> String {
        let context = Context::new(notification, &notification.alerts[0], NOW);
        let mapping = mapping(lines);
        let mut explanation = Explanation::new(&mapping, &context).unwrap();
        explanation.fields.retain(|field| field.name == name);
        explanation.to_string()
    }

    #[test]
    fn each_rule_that_is_tried_says_what_came_of_it() {
        let output = |rules: &str| told("output", &format!("output: {rules}"), &sample());
        for (rules, lines) in [
            ("x", "output = \"x\"|constant"),
            ("''", "output: left out|the constant is empty"),
            (
                "{type: copy, value: labels.severity}",
                "output = \"critical\"|copied from labels.severity",
            ),
            (
                "[{type: copy, value: labels.nosuch}, {type: copy, value: labels.empty}, {type: copy, value: generatorURL}, x, y]",
                "output = \"x\"|rule 1: labels.nosuch is absent|rule 2: labels.empty is empty|rule 3: generatorURL is empty|rule 4: constant",
            ),
            (
                "[[{type: copy, value: labels.nosuch}, ''], [x]]",
                "output = \"x\"|rule 1.1: labels.nosuch is absent|rule 1.2: the constant is empty|rule 2.1: constant",
            ),
            (
                "[{type: map, field: labels.severity, values: {a: b}}, {type: map, field: labels.severity, values: {critical: ''}}, \
                 {type: map, field: labels.severity, values: {critical: bad}}]",
                "output = \"bad\"|rule 1: labels.severity is \"critical\": not in the table|rule 2: labels.severity is \"critical\": the table \
                 has an empty text for it|rule 3: labels.severity is \"critical\": from the table",
            ),
            (
                "{type: map, field: labels.severity, values: {a: b}, default: odd}",
                "output = \"odd\"|labels.severity is \"critical\": the table's default",
            ),
            (
                "[{type: template, field: labels.severity, regexp: '(?P<x>z)', value: '{{ .RegexMatch.x }}'}, \
                 {type: template, field: labels.nosuch, value: x}, {type: template, field: labels.severity, value: '{{ \"\" }}'}, \
                 {type: template, value: '{{ \"\" }}'}]",
                "output: left out|rule 1: labels.severity is \"critical\": the regexp does not match|rule 2: labels.nosuch is absent|\
                 rule 3: labels.severity is \"critical\": the template wrote an empty text|rule 4: the template wrote an empty text",
            ),
            (
                "[{type: template, field: labels, value: '{{ .Field.x }}'}, {type: template, field: groupLabels, value: y}]",
                "output = \"y\"|rule 1: labels has 5 entries: the template failed: map has no entry for key: x|\
                 rule 2: groupLabels has 1 entry: rendered by the template",
            ),
            (
                "{type: template, value: x}",
                "output = \"x\"|rendered by the template",
            ),
        ] {
            assert_eq!(
                output(rules),
                lines.replace('|', "\n    ") + "\n",
                "{rules}"
            );
        }
    }

    #[test]
    fn what_decides_besides_the_rules_is_told() {
        let mut resolved = sample();
        resolved.alerts[0].status = Status::Resolved;
        let stamp = "Canopsis takes the time at which it reads the event";
        for (name, lines, notification, expected) in [
            ("connector", "", sample(), "connector = \"prometheus\"|constant".to_owned()),
            (
                "author",
                "",
                sample(),
                "author = \"prometheus.p1\"|no rule; by default <connector>.<connector_name>".to_owned(),
            ),
            (
                "author",
                "author: {type: copy, value: labels.nosuch}",
                sample(),
                "author = \"prometheus.p1\"|labels.nosuch is absent|by default <connector>.<connector_name>".to_owned(),
            ),
            ("state", "state: 2", resolved, "state = 0|a resolved alert is always 0: no rule is asked".to_owned()),
            ("state", "", sample(), "state = 3|no rule; every firing alert is critical (3)".to_owned()),
            ("state", "state: 2", sample(), "state = 2|constant".to_owned()),
            ("state", "state: Minor", sample(), "state = 1|constant|\"Minor\" counts as 1".to_owned()),
            ("state", "state: 4", sample(), "state = 3|constant|\"4\" is no state; the event's state is 3".to_owned()),
            (
                "state",
                "state: {type: copy, value: labels.nosuch}",
                sample(),
                "state = 3|labels.nosuch is absent|the rule yields nothing; the event's state is 3".to_owned(),
            ),
            (
                "output",
                "output_length: 4\noutput: abcdef",
                sample(),
                "output = \"abcd\"|constant|cut to 4 of 6 characters".to_owned(),
            ),
            ("output", "output_length: 6\noutput: abcdef", sample(), "output = \"abcdef\"|constant".to_owned()),
            ("long_output", "", sample(), "long_output: left out|no rule".to_owned()),
            ("tags", "", sample(), "tags: left out|no rule".to_owned()),
            ("timestamp", "", sample(), format!("timestamp: left out|no rule; {stamp}")),
            (
                "timestamp",
                "timestamp: {type: copy, value: startsAt}",
                sample(),
                "timestamp = 1795356649|copied from startsAt|\"2026-11-22T14:10:49Z\" counts as 1795356649".to_owned(),
            ),
            (
                "timestamp",
                "timestamp: {type: copy, value: endsAt}",
                sample(),
                format!("timestamp: left out|copied from endsAt|\"0001-01-01T00:00:00Z\" stands for no time; {stamp}"),
            ),
            (
                "timestamp",
                "timestamp: yesterday",
                sample(),
                format!(
                    "timestamp: left out|constant|\"yesterday\" is neither Unix seconds nor RFC 3339; left out; {stamp}"
                ),
            ),
        ] {
            assert_eq!(told(name, lines, &notification), expected.replace('|', "\n    ") + "\n", "{name}: {lines}");
        }
    }

    #[test]
    fn an_alert_that_cannot_be_mapped_names_what_is_missing() {
        let notification = sample();
        let mut out = Vec::new();
        let mapping = mapping(
            "component: [{type: copy, value: labels.pod}, {type: copy, value: labels.empty}]",
        );
        assert_eq!(write(&mut out, &mapping, &notification, NOW).unwrap(), 1);
        let text = String::from_utf8(out).unwrap();
        let expected = "Alertmanager has cut 3 alerts off (max_alerts): they are sent nowhere\n\n\
            Alert 1 of 1: \"InstanceDown\", firing, fingerprint \"86714e72c9c59990\"\n\n\
            connector = \"prometheus\"\n    constant\nconnector_name = \"p1\"\n    constant\n\
            component: nothing, and every event needs it\n    rule 1: labels.pod is absent\n    rule 2: labels.empty is empty\n\
            resource = \"InstanceDown\"\n    copied from labels.alertname\n\
            The alert can't be mapped: no event is published, and no other field is tried.\n";
        assert_eq!(text, expected);
        let mut out = Vec::new();
        let empty = Notification::decode(br#"{"version":"4","alerts":[]}"#).unwrap();
        assert_eq!(write(&mut out, &mapping, &empty, NOW).unwrap(), 0);
        assert_eq!(out, b"The notification holds no alert.\n");
    }

    #[test]
    fn no_line_is_a_senders_own() {
        let notification = sample_with(|text| format!("{text}\u{1b}[31m\nconnector = \"forged\""));
        let lines = "extra_infos_prefix: x_\nextra_infos: {a: {type: copy, value: labels}, \
            b: {type: template, value: '{{ index .Alert.labels .Alert.labels.severity | json | json_unquote | add }}'}}\n\
            state: {type: map, field: labels.severity, values: {a: 1}}\ntimestamp: {type: copy, value: labels.severity}";
        let mut out = Vec::new();
        let mapping = mapping(lines);
        write(&mut out, &mapping, &notification, NOW).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(
            !text.contains(|c: char| c.is_control() && c != '\n')
                && !text.contains("\nconnector = \"forged"),
            "{text}"
        );
        assert!(
            text.contains("x_b: left out\n    the template failed: "),
            "{text}"
        );
    }

    #[test]
    fn what_is_explained_is_what_is_published() {
        let text = std::fs::read_to_string("config.yml").unwrap();
        let config = Config::from_text(
            &text,
            std::path::Path::new("config.yml"),
            &Overrides::default(),
            &|_| None,
        )
        .unwrap();
        let mut alerts = 0;
        for file in std::fs::read_dir("tests/data/payloads").unwrap() {
            let body = std::fs::read(file.unwrap().path()).unwrap();
            let notification = Notification::decode(&body).unwrap();
            for alert in &notification.alerts {
                let context = Context::new(&notification, alert, NOW);
                let event = serde_json::to_value(config.mapping.map(&context).0.unwrap()).unwrap();
                let explanation = Explanation::new(&config.mapping, &context).unwrap();
                let constants = [("event_type", "check"), ("source_type", "resource")]
                    .map(|(key, value)| (key.to_owned(), value.into()));
                let explained = explanation
                    .fields
                    .into_iter()
                    .filter_map(|field| Some((field.name, field.value?)));
                assert_eq!(Value::Object(explained.chain(constants).collect()), event);
                alerts += 1;
            }
        }
        assert!(alerts > 8, "{alerts}");
    }
}
