//! Cases that Go has answered, and what this crate makes of them.

use std::collections::BTreeMap;

use gotemplate::{Map, MapShape, Regexp, RegexpBudget, Shape, Template, Value};
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

    /// What this crate makes of it. What is said to fail always counts as refused, so that it must never render.
    pub fn of_crate(&self) -> Answer {
        let shape = self.shape();
        let template =
            match Template::parse_for(&self.template, &shape, &mut RegexpBudget::default()) {
                Ok(template) => template,
                Err(error) => return Answer::Refused(error.to_string()),
            };
        let mut faults = template.analysis().faults().iter();
        if let Some(fault) = faults.find(|fault| fault.always) {
            return Answer::Refused(fault.to_string());
        }
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

    fn shape(&self) -> Shape {
        let field = match self.texts() {
            Some(_) => Shape::Texts,
            None => shape(&self.field),
        };
        let regexp = Regexp::new(&self.regexp).unwrap();
        let groups = regexp
            .names()
            .map(|name| (name.to_owned(), Ok(Shape::Text)));
        closed(vec![
            ("Field".to_owned(), Ok(field)),
            ("RegexMatch".to_owned(), Ok(closed(groups.collect()))),
        ])
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

pub fn closed(keys: Vec<(String, Result<Shape, String>)>) -> Shape {
    Shape::Map(MapShape {
        keys,
        may_have_others: false,
        of_others: "no such field".to_owned(),
    })
}

/// What is known of JSON whose value is known.
pub fn shape(json: &Json) -> Shape {
    match json {
        Json::Null => Shape::Nil,
        Json::Bool(_) => Shape::Bool,
        Json::Number(_) => Shape::Float,
        Json::String(_) => Shape::Text,
        Json::Array(_) => Shape::Any,
        Json::Object(entries) => {
            let entries = entries.iter();
            closed(
                entries
                    .map(|(key, value)| (key.clone(), Ok(shape(value))))
                    .collect(),
            )
        }
    }
}

/// A template's data, as the connector has them.
#[derive(Debug)]
pub struct Dot<'d>(pub BTreeMap<&'static str, Value<'d>>);

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
