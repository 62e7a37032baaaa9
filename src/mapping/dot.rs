//! What templates see of an alert: their dot, with `.Field`, `.RegexMatch`, `.Alert` and `.Notification`.
//!
//! Nothing is copied. Keys that Alertmanager does not have are decoded when a template looks for one.

use std::cell::OnceCell;
use std::collections::BTreeMap;

use gotemplate::{Groups, Map, Shape, Value as TemplateValue};
use serde_json::Value;

use super::path::PathValue;
use super::shapes::{ALERT, NOTIFICATION};
use crate::alertmanager::{Alert, Entries, Labels, Notification};

/// The keys that Alertmanager does not have, decoded.
pub type OtherKeys = OnceCell<serde_json::Map<String, Value>>;

/// How much JSON of such keys is decoded, in bytes: in memory it takes up to 64 times as much.
const MAX_OTHER_KEYS: usize = 64 << 10;

/// A template's dot.
#[derive(Debug)]
pub struct Dot<'a> {
    /// `.Field`, of a rule that has a field.
    pub field: Option<&'a PathValue<'a>>,
    /// `.RegexMatch`, of a rule that has a regexp.
    pub regex_match: Option<Groups<'a>>,
    /// `.Alert`
    pub alert: AlertData<'a>,
    /// `.Notification`
    pub notification: NotificationData<'a>,
}

/// `.Alert`: the whole alert in its JSON shape.
#[derive(Debug)]
pub struct AlertData<'a> {
    /// The alert.
    pub alert: &'a Alert<'a>,
    /// Kept for the alert's other templates.
    pub others: &'a OtherKeys,
}

/// `.Notification`: the notification without its alerts, in its JSON shape.
#[derive(Debug)]
pub struct NotificationData<'a> {
    /// The notification.
    pub notification: &'a Notification<'a>,
    /// Kept for all its alerts.
    pub others: &'a OtherKeys,
}

impl Map for Dot<'_> {
    fn holds_text(&self) -> bool {
        false
    }

    fn get(&self, key: &str) -> Option<TemplateValue<'_>> {
        match key {
            "Alert" => Some(TemplateValue::Map(&self.alert)),
            "Field" => self.field.map(|field| match field {
                PathValue::String(text) => TemplateValue::from(&**text),
                PathValue::Map(labels) => TemplateValue::Map(*labels),
            }),
            "Notification" => Some(TemplateValue::Map(&self.notification)),
            "RegexMatch" => Some(TemplateValue::Map(self.regex_match.as_ref()?)),
            _ => None,
        }
    }

    fn entries(&self) -> Vec<(&str, TemplateValue<'_>)> {
        ["Alert", "Field", "Notification", "RegexMatch"]
            .into_iter()
            .filter_map(|key| Some((key, self.get(key)?)))
            .collect()
    }
}

impl AlertData<'_> {
    fn others(&self) -> &serde_json::Map<String, Value> {
        decoded(self.others, || {
            let mut entries = self.alert.entries();
            entries.retain(|key, _| !is_known(key, &ALERT));
            entries
        })
    }
}

impl Map for AlertData<'_> {
    fn holds_text(&self) -> bool {
        false
    }

    fn get(&self, key: &str) -> Option<TemplateValue<'_>> {
        let alert = self.alert;
        Some(match key {
            "status" => TemplateValue::from(alert.status.as_str()),
            "labels" => TemplateValue::Map(&alert.labels),
            "annotations" => TemplateValue::Map(&alert.annotations),
            "startsAt" => TemplateValue::from(&*alert.starts_at),
            "endsAt" => TemplateValue::from(&*alert.ends_at),
            "generatorURL" => TemplateValue::from(&*alert.generator_url),
            "fingerprint" => TemplateValue::from(&*alert.fingerprint),
            _ => return Map::get(self.others(), key),
        })
    }

    fn entries(&self) -> Vec<(&str, TemplateValue<'_>)> {
        let known = ALERT.iter().map(|(key, _)| *key);
        entries(self, known, self.others())
    }
}

impl NotificationData<'_> {
    fn others(&self) -> &serde_json::Map<String, Value> {
        decoded(self.others, || {
            let mut entries = self.notification.entries();
            entries.retain(|key, _| key != "alerts" && !is_known(key, &NOTIFICATION));
            entries
        })
    }
}

impl Map for NotificationData<'_> {
    fn holds_text(&self) -> bool {
        false
    }

    fn get(&self, key: &str) -> Option<TemplateValue<'_>> {
        let notification = self.notification;
        Some(match key {
            "version" => TemplateValue::from(notification.version()),
            "status" => TemplateValue::from(&*notification.status),
            "groupKey" => TemplateValue::from(&*notification.group_key),
            "receiver" => TemplateValue::from(&*notification.receiver),
            "externalURL" => TemplateValue::from(&*notification.external_url),
            // An int in Alertmanager's own code; numbers of other keys are float64, as Go decodes them.
            "truncatedAlerts" => {
                TemplateValue::Int(i64::try_from(notification.truncated_alerts).unwrap_or(i64::MAX))
            }
            "groupLabels" => TemplateValue::Map(&notification.group_labels),
            "commonLabels" => TemplateValue::Map(&notification.common_labels),
            "commonAnnotations" => TemplateValue::Map(&notification.common_annotations),
            _ => return Map::get(self.others(), key),
        })
    }

    fn entries(&self) -> Vec<(&str, TemplateValue<'_>)> {
        let known = NOTIFICATION.iter().map(|(key, _)| *key);
        entries(self, known, self.others())
    }
}

impl Map for Labels<'_> {
    fn holds_text(&self) -> bool {
        true
    }

    fn get(&self, key: &str) -> Option<TemplateValue<'_>> {
        self.get(key).map(TemplateValue::from)
    }

    fn entries(&self) -> Vec<(&str, TemplateValue<'_>)> {
        self.iter()
            .map(|(name, text)| (name, TemplateValue::from(text)))
            .collect()
    }

    fn len(&self) -> usize {
        self.len()
    }
}

fn is_known(key: &str, known: &[(&str, Shape)]) -> bool {
    known.iter().any(|(name, _)| *name == key)
}

/// The known keys with the others, by their names.
fn entries<'m>(
    map: &'m dyn Map,
    known: impl Iterator<Item = &'static str>,
    others: &'m serde_json::Map<String, Value>,
) -> Vec<(&'m str, TemplateValue<'m>)> {
    let mut entries: BTreeMap<&str, TemplateValue<'_>> = Map::entries(others).into_iter().collect();
    entries.extend(known.filter_map(|key| Some((key, map.get(key)?))));
    entries.into_iter().collect()
}

/// What takes more JSON than [`MAX_OTHER_KEYS`] is absent. So is a null: reading below it is an error in Go, as is reading what is
/// absent. So is a value that is nested too deeply for the parser.
fn decoded<'o, 'b>(
    others: &'o OtherKeys,
    entries: impl FnOnce() -> Entries<'b>,
) -> &'o serde_json::Map<String, Value> {
    others.get_or_init(|| {
        let mut left = MAX_OTHER_KEYS;
        let mut decoded = serde_json::Map::new();
        for (key, json) in entries() {
            let Some(rest) = left.checked_sub(key.len() + json.get().len()) else {
                continue;
            };
            left = rest;
            match serde_json::from_str(json.get()) {
                Ok(Value::Null) | Err(_) => {}
                Ok(value) => {
                    decoded.insert(key, value);
                }
            }
        }
        decoded
    })
}
