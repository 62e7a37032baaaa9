//! Cases that Go has answered, and what this crate makes of them.

use std::collections::BTreeMap;

use gotemplate::{Map, Regexp, Template, Value};
use serde::Deserialize;
use serde_json::Value as Json;

/// A template with its data, and with Go's answer.
#[derive(Debug, Deserialize)]
pub struct Case {
    pub name: String,
    /// `.Field`
    #[serde(default)]
    pub field: Json,
    /// What must match it, and gives `.RegexMatch`.
    #[serde(default)]
    pub regexp: String,
    pub template: String,
    /// What Go writes.
    pub output: Option<String>,
    /// What Go says where it refuses the template, or fails as it runs it.
    pub error: Option<Json>,
}

/// What comes of a template.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    Text(String),
    /// It is not loaded.
    Refused(String),
    /// It fails as it runs.
    Failed(String),
}

impl Case {
    /// What Go makes of it.
    pub fn of_go(&self) -> Answer {
        let error = match &self.error {
            Some(Json::String(error)) => error.clone(),
            Some(Json::Bool(true)) => "executing".to_owned(),
            _ => return Answer::Text(self.output.clone().unwrap_or_default()),
        };
        if error.contains("executing") {
            Answer::Failed(error)
        } else {
            Answer::Refused(error)
        }
    }

    /// What this crate makes of it.
    pub fn of_crate(&self) -> Answer {
        let template = match Template::parse(&self.template) {
            Ok(template) => template,
            Err(error) => return Answer::Refused(error.to_string()),
        };
        let texts = self.texts();
        let field = match &texts {
            Some(texts) => Value::Map(texts),
            None => Value::from_json(&self.field),
        };
        let regexp = match Regexp::new(&self.regexp) {
            Ok(regexp) => regexp,
            Err(error) => return Answer::Failed(error.to_string()),
        };
        let Some(groups) = regexp.groups(self.field.as_str().unwrap_or_default()) else {
            return Answer::Failed("no match".to_owned());
        };
        let dot = Dot(BTreeMap::from([
            ("Field", field),
            ("RegexMatch", Value::Map(&groups)),
        ]));
        match template.render(&dot, &|| false) {
            Ok(text) => Answer::Text(text),
            Err(error) => Answer::Failed(error.to_string()),
        }
    }

    /// An object whose values are all texts is a `map[string]string`, as an alert's labels are.
    fn texts(&self) -> Option<BTreeMap<String, String>> {
        let entries = self.field.as_object()?.iter();
        entries
            .map(|(key, value)| match value {
                Json::String(text) => Some((key.clone(), text.clone())),
                Json::Null => Some((key.clone(), String::new())),
                _ => None,
            })
            .collect()
    }

    /// How the two answers differ; nothing where they agree, or where a template that always fails is refused before.
    pub fn difference(&self) -> Option<String> {
        match (self.of_go(), self.of_crate()) {
            (Answer::Text(go), Answer::Text(own)) if go == own => None,
            (Answer::Refused(_), Answer::Refused(_))
            | (Answer::Failed(_), Answer::Failed(_) | Answer::Refused(_)) => None,
            (go, own) => Some(format!(
                "{}: {:?} on {}\n  Go:   {go:?}\n  here: {own:?}",
                self.name, self.template, self.field
            )),
        }
    }
}

/// A template's data, as the connector has them.
#[derive(Debug)]
struct Dot<'d>(BTreeMap<&'static str, Value<'d>>);

impl Map for Dot<'_> {
    fn holds_text(&self) -> bool {
        false
    }

    fn get(&self, key: &str) -> Option<Value<'_>> {
        self.0.get(key).cloned()
    }

    fn entries(&self) -> Vec<(&str, Value<'_>)> {
        let entries = self.0.iter();
        entries.map(|(key, value)| (*key, value.clone())).collect()
    }
}
