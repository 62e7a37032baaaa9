//! From an alert to an event, by the rules of the configuration.
//!
//! Knows alerts, rules and events; knows nothing of HTTP, files or brokers. A required name that yields nothing refuses the
//! alert; anything optional that fails costs that field and leaves a warning.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use gotemplate::{Value as TemplateValue, from_json};
use jiff::Timestamp;
use serde_json::Value;
use serde_json::value::RawValue;

pub mod explain;
pub mod lint;
pub mod observer;
pub mod path;
mod quote;
pub mod rule;

use crate::alertmanager::{Alert, Extra, Labels, Notification, Status};
use crate::event::{Event, ExtraName, FieldValue, Name, State};
use crate::logging::shorten;
use observer::{NoopObserver, Note, Observer};
use rule::{Rule, RulePosition, SkipReason, labels_to_template_value};

/// What a firing alert is where no state can be told: an alarm is never lost to a spelling.
const UNKNOWN_STATE: State = State::Critical;

/// An alert, and all that a rule may look at around it.
#[derive(Debug)]
pub struct Context<'a> {
    /// The notification the alert came in.
    pub notification: &'a Notification<'a>,
    /// The alert.
    pub alert: &'a Alert<'a>,
    /// When the notification came in.
    pub received_at: Timestamp,
    alert_value: OnceCell<TemplateValue>,
    notification_value: Rc<OnceCell<TemplateValue>>,
}

impl<'a> Context<'a> {
    /// For one alert of a notification.
    pub fn new(
        notification: &'a Notification<'a>,
        alert: &'a Alert<'a>,
        received_at: Timestamp,
    ) -> Self {
        Self {
            notification,
            alert,
            received_at,
            alert_value: OnceCell::new(),
            notification_value: Rc::default(),
        }
    }

    /// For another alert of the same notification, whose view is not built again.
    #[must_use]
    pub fn for_alert(&self, alert: &'a Alert<'a>) -> Self {
        Self {
            alert,
            alert_value: OnceCell::new(),
            notification_value: Rc::clone(&self.notification_value),
            ..*self
        }
    }

    /// `.Alert`: the whole alert in its JSON shape.
    fn alert_value(&self) -> &TemplateValue {
        self.alert_value.get_or_init(|| {
            let alert = self.alert;
            object(
                &alert.extra,
                [
                    ("status", TemplateValue::from(alert.status.as_str())),
                    ("labels", labels_to_template_value(&alert.labels)),
                    ("annotations", labels_to_template_value(&alert.annotations)),
                    ("startsAt", TemplateValue::from(&*alert.starts_at)),
                    ("endsAt", TemplateValue::from(&*alert.ends_at)),
                    ("generatorURL", TemplateValue::from(&*alert.generator_url)),
                    ("fingerprint", TemplateValue::from(&*alert.fingerprint)),
                ],
            )
        })
    }

    /// `.Notification`: the notification without its alerts, in its JSON shape.
    fn notification_value(&self) -> &TemplateValue {
        self.notification_value.get_or_init(|| {
            let notification = self.notification;
            object(
                &notification.extra,
                [
                    ("version", TemplateValue::from(notification.version())),
                    ("status", TemplateValue::from(&*notification.status)),
                    ("groupKey", TemplateValue::from(&*notification.group_key)),
                    ("receiver", TemplateValue::from(&*notification.receiver)),
                    (
                        "externalURL",
                        TemplateValue::from(&*notification.external_url),
                    ),
                    (
                        "truncatedAlerts",
                        TemplateValue::Int(
                            i64::try_from(notification.truncated_alerts).unwrap_or(i64::MAX),
                        ),
                    ),
                    (
                        "groupLabels",
                        labels_to_template_value(&notification.group_labels),
                    ),
                    (
                        "commonLabels",
                        labels_to_template_value(&notification.common_labels),
                    ),
                    (
                        "commonAnnotations",
                        labels_to_template_value(&notification.common_annotations),
                    ),
                ],
            )
        })
    }
}

fn object<const N: usize>(extra: &Extra<'_>, known: [(&str, TemplateValue); N]) -> TemplateValue {
    // Of a key that comes twice the last one counts, also where it is a null.
    let last: BTreeMap<&str, &RawValue> = extra.iter().map(|(key, raw)| (&**key, *raw)).collect();
    let extra = last.into_iter().filter_map(|(key, raw)| {
        // Nested too deep, it is left out, as a null is.
        let value: Value = serde_json::from_str(raw.get())
            .ok()
            .filter(|value: &Value| !value.is_null())?;
        Some((Arc::from(key), from_json(&value)))
    });
    TemplateValue::Map(Arc::new(
        extra
            .chain(known.map(|(key, value)| (Arc::from(key), value)))
            .collect(),
    ))
}

/// A text field with the most characters it may have.
#[derive(Debug)]
pub struct TruncatedRule {
    /// How the text is got.
    pub rule: Rule,
    /// In characters, not bytes.
    pub length: usize,
}

/// All the rules: the compiled mapping of a configuration.
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
    /// Of firing alerts.
    pub state: Option<Rule>,
    /// Optional.
    pub output: Option<TruncatedRule>,
    /// Optional.
    pub long_output: Option<TruncatedRule>,
    /// Optional; `<connector>.<connector_name>` otherwise.
    pub author: Option<Rule>,
    /// Optional.
    pub timestamp: Option<Rule>,
    /// Optional.
    pub tags: Option<Rule>,
    /// Extra informations by their final names.
    pub extra_infos: Vec<(ExtraName, Rule)>,
}

/// Something about an alert that an operator should hear of, and that did not keep it from being published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The event's field.
    pub field: String,
    /// What is wrong with it.
    pub reason: String,
    /// Whether the field has another value for it: none, or a state that is on the safe side. Otherwise another rule gave one.
    pub dropped: bool,
}

/// An alert that can't be published: a required name yields nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// The event's field.
    pub field: &'static str,
    /// Why there is nothing.
    pub reason: String,
}

impl Mapping {
    /// Maps one alert. The warnings come with either outcome.
    pub fn map<'a>(
        &'a self,
        context: &Context<'a>,
    ) -> (Result<Event<'a>, Vec<FieldError>>, Vec<Warning>) {
        let mut warnings = Vec::new();
        let event = self.event(EventBuilder {
            context,
            warnings: &mut warnings,
            witness: &mut NoopObserver,
        });
        (event, warnings)
    }

    /// As [`Mapping::map`]; a witness hears how each field gets its value, in the order of the shipped configuration.
    pub fn map_observed<'a>(
        &'a self,
        context: &Context<'a>,
        witness: &mut dyn Observer,
    ) -> Result<Event<'a>, Vec<FieldError>> {
        self.event(EventBuilder {
            context,
            warnings: &mut Vec::new(),
            witness,
        })
    }

    fn event<'a>(&'a self, mut field: EventBuilder<'a, '_>) -> Result<Event<'a>, Vec<FieldError>> {
        let connector_name = field.required("connector_name", &self.connector_name);
        let component = field.required("component", &self.component);
        let resource = field.required("resource", &self.resource);
        let (connector_name, component, resource) = match (connector_name, component, resource) {
            (Ok(connector_name), Ok(component), Ok(resource)) => {
                (connector_name, component, resource)
            }
            (one, two, three) => {
                return Err([one, two, three]
                    .into_iter()
                    .filter_map(Result::err)
                    .collect());
            }
        };
        Ok(Event {
            state: field.state(self.state.as_ref()),
            output: field.limited("output", self.output.as_ref()),
            long_output: field.limited("long_output", self.long_output.as_ref()),
            author: field.author(self.author.as_ref()),
            timestamp: field.timestamp(self.timestamp.as_ref()),
            tags: field.tags(self.tags.as_ref()),
            extra: field.extra(&self.extra_infos),
            connector: self.connector.borrowed(),
            connector_name,
            component,
            resource,
        })
    }
}

/// The fields of one alert's event.
struct EventBuilder<'a, 'w> {
    context: &'w Context<'a>,
    warnings: &'w mut Vec<Warning>,
    witness: &'w mut dyn Observer,
}

impl<'a> EventBuilder<'a, '_> {
    fn remark(&mut self, field: &str, remark: Note<'_>) {
        self.witness.remark(field, remark);
    }

    /// A remark that an operator should hear of, too.
    fn warn(&mut self, field: &str, remark: Note<'_>) {
        self.remark(field, remark);
        self.warnings.push(Warning {
            field: field.to_owned(),
            reason: remark.to_string(),
            dropped: true,
        });
    }

    fn value(&mut self, field: &str, rule: Option<&'a Rule>) -> Option<FieldValue<'a>> {
        let Some(rule) = rule else {
            self.remark(field, Note::NoRule);
            return None;
        };
        let known = self.warnings.len();
        let value = rule.evaluate(self.context, RulePosition::Alone, &mut |place, outcome| {
            self.witness.tried(field, place, outcome);
            if let Err(SkipReason::Failed {
                template, error, ..
            }) = outcome
            {
                let reason = format!(
                    "the template {:?} failed: {error}",
                    shorten(template.source())
                );
                self.warnings.push(Warning {
                    field: field.to_owned(),
                    reason,
                    dropped: false,
                });
            }
        });
        // Several templates may have failed for one field; it is dropped once.
        if let (None, Some(last)) = (&value, self.warnings[known..].last_mut()) {
            last.dropped = true;
        }
        value
    }

    /// A text that must not be empty. Where there is none, every rule says why: an alert that is refused is rare enough to be
    /// looked at twice.
    fn required(&mut self, field: &'static str, rule: &'a Rule) -> Result<Name<'a>, FieldError> {
        let known = self.warnings.len();
        let text = self.text(field, Some(rule)).unwrap_or_default();
        Name::new(text).ok_or_else(|| {
            self.warnings.truncate(known);
            let mut reasons = Vec::new();
            let _ = rule.evaluate(
                self.context,
                RulePosition::Alone,
                &mut |_, outcome| match outcome {
                    Err(nothing) => reasons.push(nothing.to_string()),
                    Ok(_) => reasons.push("a whole map is no text".to_owned()),
                },
            );
            FieldError {
                field,
                reason: reasons.join("; "),
            }
        })
    }

    fn text(&mut self, field: &str, rule: Option<&'a Rule>) -> Option<Cow<'a, str>> {
        match self.value(field, rule)? {
            FieldValue::Text(text) => Some(text),
            FieldValue::Labels(_) | FieldValue::Constant(_) => None,
        }
    }

    fn limited(&mut self, field: &str, limited: Option<&'a TruncatedRule>) -> Option<Cow<'a, str>> {
        let text = self.text(field, limited.map(|limited| &limited.rule))?;
        let length = limited?.length;
        // What has not more bytes has not more characters.
        let cut_at = if text.len() <= length {
            None
        } else {
            text.char_indices().nth(length)
        };
        let Some((end, _)) = cut_at else {
            return Some(text);
        };
        self.remark(
            field,
            Note::Cut {
                text: &text,
                length,
            },
        );
        Some(match text {
            Cow::Borrowed(text) => Cow::Borrowed(&text[..end]),
            Cow::Owned(mut text) => {
                text.truncate(end);
                Cow::Owned(text)
            }
        })
    }

    fn author(&mut self, rule: Option<&'a Rule>) -> Option<Cow<'a, str>> {
        let author = self.text("author", rule);
        if author.is_none() {
            self.remark("author", Note::DefaultAuthor);
        }
        author
    }

    fn state(&mut self, rule: Option<&'a Rule>) -> State {
        if self.context.alert.status == Status::Resolved {
            self.remark("state", Note::Resolved);
            return State::Ok;
        }
        let Some(text) = self.text("state", rule) else {
            match rule {
                Some(_) => self.warn("state", Note::NothingForState),
                None => self.remark("state", Note::DefaultState),
            }
            return UNKNOWN_STATE;
        };
        let Some(state) = State::parse(&text) else {
            self.warn("state", Note::NoState(&text));
            return UNKNOWN_STATE;
        };
        self.remark(
            "state",
            Note::Reads {
                text: &text,
                number: state as i64,
            },
        );
        state
    }

    fn timestamp(&mut self, rule: Option<&'a Rule>) -> Option<i64> {
        let text = self.text("timestamp", rule);
        let seconds = text.and_then(|text| self.seconds(text.trim()));
        if seconds.is_none() {
            self.remark("timestamp", Note::Unstamped);
        }
        seconds
    }

    fn seconds(&mut self, text: &str) -> Option<i64> {
        let seconds = match text.parse::<i64>() {
            Ok(seconds) => Some(seconds),
            Err(_) => text
                .parse::<jiff::Timestamp>()
                .ok()
                .map(jiff::Timestamp::as_second),
        };
        match seconds {
            None => self.warn("timestamp", Note::NoTime(text)),
            // Go's zero time stands for "none", as in a firing alert's endsAt.
            Some(..=0) => self.remark("timestamp", Note::ZeroTime(text)),
            Some(number) => self.remark("timestamp", Note::Reads { text, number }),
        }
        seconds.filter(|seconds| *seconds > 0)
    }

    fn tags(&mut self, rule: Option<&'a Rule>) -> Option<&'a Labels<'a>> {
        match self.value("tags", rule)? {
            FieldValue::Labels(labels) => Some(labels),
            FieldValue::Text(_) | FieldValue::Constant(_) => None,
        }
    }

    fn extra(&mut self, rules: &'a [(ExtraName, Rule)]) -> BTreeMap<&'a ExtraName, FieldValue<'a>> {
        let mut extra = BTreeMap::new();
        for (name, rule) in rules {
            if let Some(value) = self.value(name.as_str(), Some(rule)) {
                extra.insert(name, value);
            }
        }
        extra
    }
}

#[cfg(test)]
pub mod tests;
