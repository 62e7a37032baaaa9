//! One rule: how a field of the event gets its value.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use gotmpl::Value as View;
use regex::Regex;
use serde_json::Value;

use super::Context;
use super::path::{Found, Path};
use super::template::Template;
use crate::notification::Labels;

/// A checked and compiled rule.
#[derive(Debug)]
pub enum Rule {
    /// A constant text.
    Text(String),
    /// A constant of any other kind, for an extra information.
    Constant(Value),
    /// A constant map, for tags.
    Labels(Labels),
    /// What stands at a path.
    Copy(Path),
    /// A rendered template.
    Template {
        /// What is rendered.
        template: Template,
        /// What its `.Field` is.
        field: Option<Path>,
        /// What must match that field, and gives `.RegexMatch`.
        regexp: Option<Regex>,
    },
    /// A look-up table.
    Lookup {
        /// What is looked up.
        field: Path,
        /// From what to what.
        values: BTreeMap<String, String>,
        /// For everything else.
        default: Option<String>,
    },
    /// The first of several that yields something.
    First(Vec<Rule>),
}

/// What a rule yields.
#[derive(Debug, Clone, PartialEq)]
pub enum Yield<'a> {
    /// a text, never empty
    Text(Cow<'a, str>),
    /// a map of texts, never empty
    Labels(&'a Labels),
    /// a constant
    Constant(&'a Value),
}

impl Rule {
    /// Adds every constant text that the rule may yield.
    pub fn constants<'r>(&'r self, found: &mut Vec<&'r str>) {
        match self {
            Self::Text(text) => found.push(text),
            Self::Lookup { values, default, .. } => found.extend(values.values().chain(default).map(String::as_str)),
            Self::First(rules) => rules.iter().for_each(|rule| rule.constants(found)),
            Self::Constant(_) | Self::Labels(_) | Self::Copy(_) | Self::Template { .. } => {}
        }
    }

    /// The rule's value for an alert; `None` where it yields nothing. A template that fails as it runs yields nothing,
    /// and `failed` hears why.
    pub fn evaluate<'a>(&'a self, context: &'a Context<'_>, failed: &mut dyn FnMut(String)) -> Option<Yield<'a>> {
        match self {
            Self::Text(text) => (!text.is_empty()).then_some(Yield::Text(Cow::Borrowed(text))),
            Self::Constant(value) => Some(Yield::Constant(value)),
            Self::Labels(labels) => (!labels.is_empty()).then_some(Yield::Labels(labels)),
            Self::Copy(path) => path.find(context).map(|found| match found {
                Found::Text(text) => Yield::Text(text),
                Found::Map(labels) => Yield::Labels(labels),
            }),
            Self::Lookup { field, values, default } => {
                let key = match field.find(context)? {
                    Found::Text(text) => text,
                    Found::Map(_) => return None,
                };
                let text = values.get(key.as_ref()).or(default.as_ref())?;
                (!text.is_empty()).then_some(Yield::Text(Cow::Borrowed(text)))
            }
            Self::Template { template, field, regexp } => {
                let data = template_data(context, field.as_ref(), regexp.as_ref())?;
                match template.render(&data) {
                    Ok(text) => (!text.is_empty()).then_some(Yield::Text(Cow::Owned(text))),
                    Err(error) => {
                        failed(format!("the template {:?} failed: {error}", template.excerpt()));
                        None
                    }
                }
            }
            Self::First(rules) => rules.iter().find_map(|rule| rule.evaluate(context, failed)),
        }
    }
}

/// The names of a template's dot, shared by all of them.
struct Names {
    field: Arc<str>,
    regex_match: Arc<str>,
    alert: Arc<str>,
    notification: Arc<str>,
}

static NAMES: LazyLock<Names> = LazyLock::new(|| Names {
    field: "Field".into(),
    regex_match: "RegexMatch".into(),
    alert: "Alert".into(),
    notification: "Notification".into(),
});

/// A template's dot; `None` where its field is absent or empty, or its regexp does not match.
fn template_data(context: &Context<'_>, field: Option<&Path>, regexp: Option<&Regex>) -> Option<View> {
    let mut data = BTreeMap::new();
    if let Some(field) = field {
        let value = match field.find(context)? {
            Found::Text(text) => {
                if let Some(regexp) = regexp {
                    data.insert(Arc::clone(&NAMES.regex_match), matched_groups(regexp, &text)?);
                }
                View::from(&*text)
            }
            Found::Map(labels) => labels_view(labels),
        };
        data.insert(Arc::clone(&NAMES.field), value);
    }
    data.insert(Arc::clone(&NAMES.alert), context.alert_view().clone());
    data.insert(Arc::clone(&NAMES.notification), context.notification_view().clone());
    Some(View::Map(Arc::new(data)))
}

/// The named groups of the first match; one that takes no part in it is the empty text.
pub fn matched_groups(regexp: &Regex, text: &str) -> Option<View> {
    let captures = regexp.captures(text)?;
    let named = regexp.capture_names().flatten();
    let groups =
        named.map(|name| (Arc::from(name), View::from(captures.name(name).map_or("", |group| group.as_str()))));
    Some(View::Map(Arc::new(groups.collect())))
}

/// Labels as templates see them.
pub fn labels_view(labels: &Labels) -> View {
    View::Map(Arc::new(
        labels.iter().map(|(name, value)| (Arc::from(name.as_str()), View::from(value.as_str()))).collect(),
    ))
}

/// JSON as templates see it. Like Go's decoder into `any`, but that whole numbers stay whole.
pub fn view(value: &Value) -> View {
    match value {
        Value::Null => View::Nil,
        Value::Bool(value) => View::Bool(*value),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => View::Int(whole),
            (None, Some(float)) => View::Float(float),
            (None, None) => View::Nil,
        },
        Value::String(text) => View::from(text.as_str()),
        Value::Array(items) => View::List(items.iter().map(view).collect()),
        Value::Object(entries) => {
            // Without nulls: looking into one is an error in Go, as is looking at what is not there.
            let entries = entries.iter().filter(|(_, value)| !value.is_null());
            View::Map(Arc::new(entries.map(|(key, value)| (Arc::from(key.as_str()), view(value))).collect()))
        }
    }
}
