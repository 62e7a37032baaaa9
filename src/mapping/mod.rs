//! The rules of the configuration, and how they turn an alert into an event.
//!
//! A required name without a value rejects the alert; an optional field that fails is omitted with a warning. This module is
//! pure: it knows nothing of HTTP, files, brokers, logs or metrics.

use std::borrow::Cow;
use std::mem;

use serde_json::Value;

mod context;
mod dot;
pub mod explain;
mod keys;
pub mod path;
mod quote;
pub mod rule;
pub mod shapes;
pub mod summary;

pub use context::{Context, NotificationContext};

use crate::alertmanager::{Labels, Status};
use crate::event::{
    self, Event, ExtraName, FieldValue, MAX_EVENT_BYTES, Name, Names, NamesError, State,
};
use crate::perf_data::PerfData;
use crate::text::{shorten, split_at_chars};
use explain::FieldTrace;
use quote::quote;
use rule::{Reasons, Rule};

/// The state of a firing alert whose rule has no valid value: an alarm is never lost to a spelling.
const UNKNOWN_STATE: State = State::Critical;

/// How many rules of a field are usually evaluated: for the first allocation only.
const TYPICAL_REASONS: usize = 8;

/// A timestamp above this is not in seconds: it is in the year 5138.
pub const MAX_SECONDS: i64 = 100_000_000_000;

/// The rule of a string field of limited length.
#[derive(Debug)]
pub struct TruncatedRule {
    /// The rule.
    pub rule: Rule,
    /// The most characters (not bytes) of the field.
    pub length: usize,
}

/// The compiled rules of a configuration.
#[derive(Debug)]
pub struct Mapping {
    /// The constant connector.
    pub connector: Name<'static>,
    /// Required.
    pub connector_name: Rule,
    /// Required.
    pub component: Rule,
    /// Required.
    pub resource: Rule,
    /// For firing alerts.
    pub state: Option<Rule>,
    /// Optional.
    pub output: Option<TruncatedRule>,
    /// Optional.
    pub long_output: Option<TruncatedRule>,
    /// Optional; the default is `<connector>.<connector_name>`.
    pub author: Option<Rule>,
    /// Optional.
    pub timestamp: Option<Rule>,
    /// Optional.
    pub tags: Option<Rule>,
    /// Optional.
    pub perf_data: Option<Rule>,
    /// Extra informations by their final names.
    pub extra_infos: Vec<(ExtraName, Rule)>,
}

/// A fault of a rule that does not keep its alert from being published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The event's field.
    pub field: String,
    /// What is wrong.
    pub reason: String,
    /// Whether the field is omitted (or is the unknown state) because of it. Otherwise another rule has a value.
    pub dropped: bool,
}

/// Why an alert has no event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AlertError {
    /// A required field has no value.
    #[error("required field {field} has no value: {reason}")]
    NoValue {
        /// The event's field.
        field: &'static str,
        /// Why each of its rules has no value.
        reason: String,
    },
    /// Canopsis would not accept the names.
    #[error(transparent)]
    Names(#[from] NamesError),
    /// The event exceeds [`MAX_EVENT_BYTES`].
    #[error("the event is larger than {} KiB", MAX_EVENT_BYTES >> 10)]
    EventTooLarge,
    /// The alert cannot be decoded.
    #[error("malformed: {0}")]
    Malformed(String),
}

impl AlertError {
    /// The same error with its reason shortened, to be kept.
    #[must_use]
    pub fn shortened(mut self) -> Self {
        if let Self::NoValue { reason, .. } | Self::Malformed(reason) = &mut self {
            *reason = shorten(reason);
        }
        self
    }

    /// The part that is at fault, as a label of metrics.
    pub fn field(&self) -> &'static str {
        match self {
            Self::NoValue { field, .. } => field,
            Self::Names(error) => error.field(),
            Self::EventTooLarge => "event",
            Self::Malformed(_) => "alert",
        }
    }
}

impl Mapping {
    /// Maps one alert. The warnings come with either result.
    pub fn map<'a>(
        &'a self,
        context: &Context<'a>,
    ) -> (Result<Event<'a>, Vec<AlertError>>, Vec<Warning>) {
        let mut builder = EventBuilder::new(context);
        (builder.event(self), builder.warnings)
    }

    /// As [`Mapping::map`], with how each field gets its value, in the order of the shipped configuration.
    fn map_traced<'a>(
        &'a self,
        context: &Context<'a>,
    ) -> (Result<Event<'a>, Vec<AlertError>>, Vec<FieldTrace>) {
        let mut builder = EventBuilder::new(context);
        let connector = Value::from(self.connector.as_str());
        let connector = FieldTrace::new("connector", Some(connector), vec!["constant".to_owned()]);
        builder.trace = Some(vec![connector]);
        (builder.event(self), builder.trace.unwrap_or_default())
    }
}

/// Builds the event of one alert, field by field.
struct EventBuilder<'a, 'w> {
    context: &'w Context<'a>,
    errors: Vec<AlertError>,
    warnings: Vec<Warning>,
    /// Why the rules of the current field have no value, and the last one of them its value.
    reasons: Reasons<'a>,
    /// The length of the event's strings so far.
    text_len: usize,
    /// What `--explain` shows.
    trace: Option<Vec<FieldTrace>>,
}

impl<'a, 'w> EventBuilder<'a, 'w> {
    fn new(context: &'w Context<'a>) -> Self {
        let mut reasons = Reasons::default();
        reasons.all.reserve(TYPICAL_REASONS);
        Self {
            context,
            errors: Vec::new(),
            warnings: Vec::new(),
            reasons,
            text_len: 0,
            trace: None,
        }
    }

    fn event(&mut self, mapping: &'a Mapping) -> Result<Event<'a>, Vec<AlertError>> {
        let connector_name = self.required("connector_name", &mapping.connector_name);
        let component = self.required("component", &mapping.component);
        let resource = self.required("resource", &mapping.resource);
        if self.is_too_large() {
            return Err(vec![AlertError::EventTooLarge]);
        }
        let (Some(connector_name), Some(component), Some(resource)) =
            (connector_name, component, resource)
        else {
            return Err(mem::take(&mut self.errors));
        };
        let connector = mapping.connector.borrowed();
        let names = Names::new([connector, connector_name, component, resource])
            .map_err(|error| vec![error.into()])?;
        if let Some(resource) = self.traced() {
            resource.lines.extend(names.warnings());
        }
        let event = Event {
            state: self.state(mapping.state.as_ref()),
            output: self.truncated("output", mapping.output.as_ref()),
            long_output: self.truncated("long_output", mapping.long_output.as_ref()),
            author: self.author(mapping.author.as_ref()),
            timestamp: self.timestamp(mapping.timestamp.as_ref()),
            tags: self.tags(mapping.tags.as_ref()),
            perf_data: self.perf_data(mapping.perf_data.as_ref()),
            extra: self.extra(&mapping.extra_infos),
            names,
        };
        if self.is_too_large() {
            return Err(vec![AlertError::EventTooLarge]);
        }
        Ok(event)
    }

    /// Whether the values are too large for an event. Then no further rule is evaluated: together they could take any amount
    /// of memory before the event is encoded.
    fn is_too_large(&self) -> bool {
        self.text_len > MAX_EVENT_BYTES
    }

    /// The value of a field's rule. Templates that failed are warnings.
    fn value(&mut self, field: &str, rule: Option<&'a Rule>) -> Option<FieldValue<'a>> {
        self.reasons.clear();
        if self.is_too_large() {
            return None;
        }
        let value = rule.and_then(|rule| rule.evaluate(self.context, &mut self.reasons));
        let failures = &self.reasons.failures;
        for (number, (_, template, error)) in (1..).zip(failures) {
            // The error may quote a value.
            let (source, error) = (shorten(template.source()), shorten(&error.to_string()));
            self.warnings.push(Warning {
                field: field.to_owned(),
                reason: format!("template {source:?} failed: {error}"),
                // Several templates may have failed; the field is omitted once.
                dropped: value.is_none() && number == failures.len(),
            });
        }
        if let Some(trace) = &mut self.trace {
            let reasons = self.reasons.texts(self.context);
            trace.push(FieldTrace::of_rule(field, rule, reasons, value.as_ref()));
        }
        self.text_len += value.as_ref().map_or(0, FieldValue::text_len);
        value
    }

    /// The explanation of the current field, if one is wanted.
    fn traced(&mut self) -> Option<&mut FieldTrace> {
        self.trace.as_mut()?.last_mut()
    }

    /// Adds to it.
    fn note(&mut self, note: impl FnOnce() -> String) {
        if let Some(field) = self.traced() {
            field.lines.push(note());
        }
    }

    fn note_number(&mut self, string: &str, number: i64) {
        // That "3" is 3 needs no explanation.
        if self.trace.is_some() && string != number.to_string() {
            self.note(|| format!("{} is read as {number}", quote(string)));
        }
    }

    /// Omits a field, or gives it the unknown state.
    fn warn(&mut self, field: &str, reason: String) {
        self.note(|| reason.clone());
        self.warnings.push(Warning {
            field: field.to_owned(),
            reason,
            dropped: true,
        });
    }

    /// A string that must not be blank.
    fn required(&mut self, field: &'static str, rule: &'a Rule) -> Option<Name<'a>> {
        let warned = self.warnings.len();
        let name = Name::new(self.string(field, Some(rule)).unwrap_or_default());
        // Where the event is too large already, the rule was not evaluated.
        if name.is_none() && !self.is_too_large() {
            // The error gives the same reasons.
            self.warnings.truncate(warned);
            let reasons: Vec<String> = self.reasons.texts(self.context).collect();
            let reason = reasons.join("; ");
            self.errors.push(AlertError::NoValue { field, reason });
            if let Some(field) = self.traced() {
                field.value = Err("required, and has no value");
            }
        }
        name
    }

    /// The configuration rejects rules of another type for the fields that are strings.
    fn string(&mut self, field: &str, rule: Option<&'a Rule>) -> Option<Cow<'a, str>> {
        match self.value(field, rule)? {
            FieldValue::String(string) => Some(string),
            FieldValue::Labels(_) | FieldValue::Constant(_) => None,
        }
    }

    /// A string that is not in the event as it is.
    fn parsed(&mut self, field: &str, rule: Option<&'a Rule>) -> Option<Cow<'a, str>> {
        let string = self.string(field, rule)?;
        self.text_len -= string.len();
        Some(string)
    }

    fn truncated(&mut self, field: &str, rule: Option<&'a TruncatedRule>) -> Option<Cow<'a, str>> {
        let mut string = self.string(field, rule.map(|truncated| &truncated.rule))?;
        let length = rule?.length;
        let end = split_at_chars(&string, length).0.len();
        if end < string.len() {
            self.note(|| format!("cut to {length} of {} characters", string.chars().count()));
            self.text_len -= string.len() - end;
            match &mut string {
                Cow::Borrowed(string) => *string = &string[..end],
                Cow::Owned(string) => string.truncate(end),
            }
        }
        Some(string)
    }

    fn author(&mut self, rule: Option<&'a Rule>) -> Option<Cow<'a, str>> {
        let author = self.string("author", rule);
        if author.is_none() {
            self.note(|| "default: <connector>.<connector_name>".to_owned());
        }
        author
    }

    fn state(&mut self, rule: Option<&'a Rule>) -> State {
        if self.context.alert.status == Status::Resolved {
            if let Some(trace) = &mut self.trace {
                let reason = "a resolved alert is always 0: its rule is not evaluated";
                trace.push(FieldTrace::new("state", None, vec![reason.to_owned()]));
            }
            return State::Ok;
        }
        match (rule, self.parsed("state", rule)) {
            (None, _) => self.note(|| "every firing alert is 3 (critical)".to_owned()),
            (_, None) => self.warn("state", "no value; using 3 (critical)".to_owned()),
            (_, Some(string)) => {
                if let Some(state) = State::parse(&string) {
                    self.note_number(&string, state as i64);
                    return state;
                }
                let string = quote(&string);
                let reason = format!("{string} is not a valid state; using 3 (critical)");
                self.warn("state", reason);
            }
        }
        UNKNOWN_STATE
    }

    /// Canopsis replaces a time that is more than a day off by its own.
    fn timestamp(&mut self, rule: Option<&'a Rule>) -> Option<i64> {
        const DAY: i64 = 24 * 3600;
        let now = self.context.shared.received_at.as_second();
        if let Some(string) = self.parsed("timestamp", rule) {
            let string = string.trim();
            let (is_fault, reason) = match event::parse_timestamp(string) {
                None => (true, "is neither Unix seconds nor RFC 3339"),
                // Go's zero time means none, as in the endsAt of a firing alert.
                Some(..=0) => (false, "means no time"),
                Some(seconds) if seconds > MAX_SECONDS => {
                    (true, "is too large for Unix seconds: probably milliseconds")
                }
                Some(seconds) if seconds > now + DAY => (
                    true,
                    "is more than 24 hours in the future: a clock is wrong",
                ),
                Some(seconds) if seconds < now - DAY => (false, "is more than 24 hours ago"),
                Some(seconds) => {
                    self.note_number(string, seconds);
                    return Some(seconds);
                }
            };
            let reason = || format!("{} {reason}", quote(string));
            if is_fault {
                self.warn("timestamp", reason());
            } else {
                self.note(reason);
            }
        }
        self.note(|| "Canopsis uses the time at which it reads the event".to_owned());
        None
    }

    fn tags(&mut self, rule: Option<&'a Rule>) -> Option<&'a Labels<'a>> {
        match self.value("tags", rule)? {
            FieldValue::Labels(labels) => Some(labels),
            FieldValue::String(_) | FieldValue::Constant(_) => None,
        }
    }

    /// Canopsis ignores a malformed text without a word.
    fn perf_data(&mut self, rule: Option<&'a Rule>) -> Option<PerfData<'a>> {
        let string = self.string("perf_data", rule)?;
        PerfData::new(string)
            .map_err(|text| {
                let reason = format!("{} is not {}", quote(&text), PerfData::FORM);
                self.warn("perf_data", reason);
            })
            .ok()
    }

    fn extra(&mut self, rules: &'a [(ExtraName, Rule)]) -> Vec<(&'a ExtraName, FieldValue<'a>)> {
        let mut extra = Vec::with_capacity(rules.len());
        for (name, rule) in rules {
            if let Some(value) = self.value(name.as_str(), Some(rule)) {
                extra.push((name, value));
            }
        }
        extra
    }
}

#[cfg(test)]
pub mod tests;
