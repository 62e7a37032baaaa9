//! From an alert to an event, by the rules of the configuration.
//!
//! Knows alerts, rules and events; knows nothing of HTTP, files or brokers. A required name that yields nothing refuses the
//! alert; anything optional that fails costs that field and leaves a warning.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use gotmpl::Value as View;
use jiff::Timestamp;
use serde_json::Value;
use serde_json::value::RawValue;

pub mod explain;
pub mod functions;
pub mod goregexp;
mod gotext;
mod gotime;
pub mod path;
pub mod pattern;
pub mod rule;
mod shown;
mod strict;
pub mod template;
pub mod uses;
pub mod witness;

use crate::event::{Event, ExtraName, Info, Name, State};
use crate::notification::{Alert, Extra, Labels, Notification, Status};
use rule::{Nothing, Place, Rule, labels_view, view};
use witness::{Nobody, Remark, Witness};

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
    alert_view: OnceCell<View>,
    notification_view: Rc<OnceCell<View>>,
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
            alert_view: OnceCell::new(),
            notification_view: Rc::default(),
        }
    }

    /// For another alert of the same notification, whose view is not built again.
    #[must_use]
    pub fn sibling(&self, alert: &'a Alert<'a>) -> Self {
        Self {
            alert,
            alert_view: OnceCell::new(),
            notification_view: Rc::clone(&self.notification_view),
            ..*self
        }
    }

    /// `.Alert`: the whole alert in its JSON shape.
    fn alert_view(&self) -> &View {
        self.alert_view.get_or_init(|| {
            let alert = self.alert;
            object(
                &alert.extra,
                [
                    ("status", View::from(alert.status.as_str())),
                    ("labels", labels_view(&alert.labels)),
                    ("annotations", labels_view(&alert.annotations)),
                    ("startsAt", View::from(&*alert.starts_at)),
                    ("endsAt", View::from(&*alert.ends_at)),
                    ("generatorURL", View::from(&*alert.generator_url)),
                    ("fingerprint", View::from(&*alert.fingerprint)),
                ],
            )
        })
    }

    /// `.Notification`: the notification without its alerts, in its JSON shape.
    fn notification_view(&self) -> &View {
        self.notification_view.get_or_init(|| {
            let notification = self.notification;
            object(
                &notification.extra,
                [
                    ("version", View::from(notification.version())),
                    ("status", View::from(&*notification.status)),
                    ("groupKey", View::from(&*notification.group_key)),
                    ("receiver", View::from(&*notification.receiver)),
                    ("externalURL", View::from(&*notification.external_url)),
                    (
                        "truncatedAlerts",
                        View::Int(i64::try_from(notification.truncated_alerts).unwrap_or(i64::MAX)),
                    ),
                    ("groupLabels", labels_view(&notification.group_labels)),
                    ("commonLabels", labels_view(&notification.common_labels)),
                    (
                        "commonAnnotations",
                        labels_view(&notification.common_annotations),
                    ),
                ],
            )
        })
    }
}

fn object<const N: usize>(extra: &Extra<'_>, known: [(&str, View); N]) -> View {
    // Of a key that comes twice the last one counts, also where it is a null.
    let last: BTreeMap<&str, &RawValue> = extra.iter().map(|(key, raw)| (&**key, *raw)).collect();
    let extra = last.into_iter().filter_map(|(key, raw)| {
        // Nested too deep, it is left out, as a null is.
        let value: Value = serde_json::from_str(raw.get())
            .ok()
            .filter(|value: &Value| !value.is_null())?;
        Some((Arc::from(key), view(&value)))
    });
    View::Map(Arc::new(
        extra
            .chain(known.map(|(key, value)| (Arc::from(key), value)))
            .collect(),
    ))
}

/// A text field with the most characters it may have.
#[derive(Debug)]
pub struct Limited {
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
    pub output: Option<Limited>,
    /// Optional.
    pub long_output: Option<Limited>,
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
pub struct Refusal {
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
    ) -> (Result<Event<'a>, Vec<Refusal>>, Vec<Warning>) {
        let mut warnings = Vec::new();
        let event = self.event(Fields {
            context,
            warnings: &mut warnings,
            witness: &mut Nobody,
        });
        (event, warnings)
    }

    /// As [`Mapping::map`]; a witness hears how each field gets its value, in the order of the shipped configuration.
    pub fn map_watched<'a>(
        &'a self,
        context: &Context<'a>,
        witness: &mut dyn Witness,
    ) -> Result<Event<'a>, Vec<Refusal>> {
        self.event(Fields {
            context,
            warnings: &mut Vec::new(),
            witness,
        })
    }

    fn event<'a>(&'a self, mut field: Fields<'a, '_>) -> Result<Event<'a>, Vec<Refusal>> {
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
struct Fields<'a, 'w> {
    context: &'w Context<'a>,
    warnings: &'w mut Vec<Warning>,
    witness: &'w mut dyn Witness,
}

impl<'a> Fields<'a, '_> {
    fn remark(&mut self, field: &str, remark: Remark<'_>) {
        self.witness.remark(field, remark);
    }

    /// A remark that an operator should hear of, too.
    fn warn(&mut self, field: &str, remark: Remark<'_>) {
        self.remark(field, remark);
        self.warnings.push(Warning {
            field: field.to_owned(),
            reason: remark.to_string(),
            dropped: true,
        });
    }

    fn value(&mut self, field: &str, rule: Option<&'a Rule>) -> Option<Info<'a>> {
        let Some(rule) = rule else {
            self.remark(field, Remark::NoRule);
            return None;
        };
        let known = self.warnings.len();
        let value = rule.evaluate(self.context, Place::Alone, &mut |place, outcome| {
            self.witness.tried(field, place, outcome);
            if let Err(Nothing::Failed {
                template, error, ..
            }) = outcome
            {
                let reason = format!("the template {:?} failed: {error}", template.excerpt());
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
    fn required(&mut self, field: &'static str, rule: &'a Rule) -> Result<Name<'a>, Refusal> {
        let known = self.warnings.len();
        let text = self.text(field, Some(rule)).unwrap_or_default();
        Name::new(text).ok_or_else(|| {
            self.warnings.truncate(known);
            let mut reasons = Vec::new();
            let _ = rule.evaluate(
                self.context,
                Place::Alone,
                &mut |_, outcome| match outcome {
                    Err(nothing) => reasons.push(nothing.to_string()),
                    Ok(_) => reasons.push("a whole map is no text".to_owned()),
                },
            );
            Refusal {
                field,
                reason: reasons.join("; "),
            }
        })
    }

    fn text(&mut self, field: &str, rule: Option<&'a Rule>) -> Option<Cow<'a, str>> {
        match self.value(field, rule)? {
            Info::Text(text) => Some(text),
            Info::Labels(_) | Info::Constant(_) => None,
        }
    }

    fn limited(&mut self, field: &str, limited: Option<&'a Limited>) -> Option<Cow<'a, str>> {
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
            Remark::Cut {
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
            self.remark("author", Remark::DefaultAuthor);
        }
        author
    }

    fn state(&mut self, rule: Option<&'a Rule>) -> State {
        if self.context.alert.status == Status::Resolved {
            self.remark("state", Remark::Resolved);
            return State::Ok;
        }
        let Some(text) = self.text("state", rule) else {
            match rule {
                Some(_) => self.warn("state", Remark::NothingForState),
                None => self.remark("state", Remark::DefaultState),
            }
            return UNKNOWN_STATE;
        };
        let Some(state) = State::parse(&text) else {
            self.warn("state", Remark::NoState(&text));
            return UNKNOWN_STATE;
        };
        self.remark(
            "state",
            Remark::Reads {
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
            self.remark("timestamp", Remark::Unstamped);
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
            None => self.warn("timestamp", Remark::NoTime(text)),
            // Go's zero time stands for "none", as in a firing alert's endsAt.
            Some(..=0) => self.remark("timestamp", Remark::ZeroTime(text)),
            Some(number) => self.remark("timestamp", Remark::Reads { text, number }),
        }
        seconds.filter(|seconds| *seconds > 0)
    }

    fn tags(&mut self, rule: Option<&'a Rule>) -> Option<&'a Labels<'a>> {
        match self.value("tags", rule)? {
            Info::Labels(labels) => Some(labels),
            Info::Text(_) | Info::Constant(_) => None,
        }
    }

    fn extra(&mut self, rules: &'a [(ExtraName, Rule)]) -> BTreeMap<&'a ExtraName, Info<'a>> {
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
