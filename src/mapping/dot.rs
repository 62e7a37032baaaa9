//! What templates see of an alert: their dot, with `.Field`, `.RegexMatch`, `.Alert` and `.Notification`.
//!
//! Nothing is copied. Keys that Alertmanager does not have are decoded when a template looks for one.

use std::cell::OnceCell;
use std::collections::BTreeMap;

use gotemplate::{Groups, Map, Value as TemplateValue};
use serde_json::Value;

use super::Context;
use super::keys::{ALERT, Field, NOTIFICATION};
use crate::alertmanager::{Entries, Labels};
use crate::event::FieldValue;

/// The keys that Alertmanager does not have, decoded.
pub type OtherKeys = OnceCell<serde_json::Map<String, Value>>;

/// How much JSON of such keys is decoded, in bytes: in memory it takes up to 64 times as much.
const MAX_OTHER_KEYS: usize = 64 << 10;

/// A template's dot.
#[derive(Debug)]
pub struct Dot<'a> {
    /// `.Field`, of a rule that has a field.
    pub field: Option<&'a FieldValue<'a>>,
    /// `.RegexMatch`, of a rule that has a regexp.
    pub regex_match: Option<Groups<'a>>,
    /// `.Alert`
    pub alert: Data<'a>,
    /// `.Notification`
    pub notification: Data<'a>,
}

/// `.Alert`, or `.Notification` without its alerts, in its JSON shape.
#[derive(Debug)]
pub struct Data<'a> {
    context: &'a Context<'a>,
    keys: &'static [(&'static str, Field)],
    /// Every key with its JSON.
    json: for<'b> fn(&Context<'b>) -> Entries<'b>,
    /// Kept for other templates.
    others: &'a OtherKeys,
}

impl Map for Dot<'_> {
    fn holds_text(&self) -> bool {
        false
    }

    fn get(&self, key: &str) -> Option<TemplateValue<'_>> {
        match key {
            "Alert" => Some(TemplateValue::Map(&self.alert)),
            "Field" => self.field.map(|field| match field {
                FieldValue::String(text) => TemplateValue::from(&**text),
                FieldValue::Labels(labels) => TemplateValue::Map(*labels),
                FieldValue::Constant(value) => TemplateValue::from_json(value),
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

impl<'a> Data<'a> {
    /// The alert.
    pub fn of_alert(context: &'a Context<'a>) -> Self {
        Self {
            context,
            keys: &ALERT,
            json: |context| context.alert.entries(),
            others: &context.others,
        }
    }

    /// The notification.
    pub fn of_notification(context: &'a Context<'a>) -> Self {
        Self {
            context,
            keys: &NOTIFICATION,
            json: |context| {
                let mut entries = context.shared.notification.entries();
                entries.remove("alerts");
                entries
            },
            others: &context.shared.others,
        }
    }

    fn known(&self, key: &str) -> Option<&Field> {
        let mut keys = self.keys.iter();
        keys.find_map(|(name, field)| (*name == key).then_some(field))
    }

    /// What takes more JSON than [`MAX_OTHER_KEYS`] is absent. So is a null: reading below it is an error in Go, as is reading
    /// what is absent. So is a value that is nested too deeply for the parser.
    fn others(&self) -> &serde_json::Map<String, Value> {
        self.others.get_or_init(|| {
            let mut left = MAX_OTHER_KEYS;
            let mut decoded = serde_json::Map::new();
            for (key, json) in (self.json)(self.context) {
                let rest = left.checked_sub(key.len() + json.get().len());
                let Some(rest) = rest.filter(|_| self.known(&key).is_none()) else {
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
}

impl Map for Data<'_> {
    fn holds_text(&self) -> bool {
        false
    }

    fn get(&self, key: &str) -> Option<TemplateValue<'_>> {
        match self.known(key) {
            Some(field) => Some(field.template_value(self.context)),
            None => Map::get(self.others(), key),
        }
    }

    fn entries(&self) -> Vec<(&str, TemplateValue<'_>)> {
        let others = Map::entries(self.others()).into_iter();
        let known = self.keys.iter();
        let known = known.map(|(key, field)| (*key, field.template_value(self.context)));
        let entries: BTreeMap<&str, TemplateValue<'_>> = others.chain(known).collect();
        entries.into_iter().collect()
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
