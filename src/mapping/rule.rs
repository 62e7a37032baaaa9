//! One rule: how a field of the event gets its value.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, LazyLock};

use gotmpl::Value as View;
use serde_json::Value;

use super::Context;
use super::path::{Found, Missing, Path};
use super::pattern::Pattern;
use super::strict::Looks;
use super::template::{RenderError, Template};
use crate::event::Info;
use crate::notification::Labels;

/// A checked and compiled rule.
#[derive(Debug)]
pub enum Rule {
    /// A constant text.
    Text(String),
    /// A constant of any other kind, for an extra information.
    Constant(Value),
    /// A constant map, for tags.
    Labels(Labels<'static>),
    /// What stands at a path.
    Copy(Path),
    /// A rendered template.
    Template {
        /// What is rendered.
        template: Template,
        /// What its `.Field` is.
        field: Option<Path>,
        /// What must match that field, and gives `.RegexMatch`.
        regexp: Option<Pattern>,
    },
    /// A look-up table.
    Lookup {
        /// What is looked up.
        field: Path,
        /// From what to what.
        values: Labels<'static>,
        /// For everything else.
        default: Option<String>,
    },
    /// The first of several that yields something.
    First(Vec<Rule>),
}

/// What came of a rule that was tried. It borrows all that an explanation needs, so that nothing is spent where nobody asks.
pub type Outcome<'a> = Result<Given<'a>, Nothing<'a>>;

/// A value, and where it is from.
#[derive(Debug)]
pub struct Given<'a> {
    /// The value; a text or a map of texts is never empty.
    pub value: Info<'a>,
    /// Where it is from.
    pub source: Source<'a>,
}

/// What a rule looked at, and found.
#[derive(Debug)]
pub struct Input<'a> {
    /// Where it looked.
    pub path: &'a Path,
    /// What stands there.
    pub found: Found<'a>,
}

/// Where a rule has its value from.
#[derive(Debug)]
pub enum Source<'a> {
    /// the configuration
    Constant,
    /// a path
    Copy(&'a Path),
    /// an entry of a look-up table
    Table(Input<'a>),
    /// a look-up table's default
    Default(Input<'a>),
    /// a template, with its field
    Template(Option<Input<'a>>),
}

/// Why a rule yields nothing.
#[derive(Debug)]
pub enum Nothing<'a> {
    /// the constant is empty
    EmptyConstant,
    /// nothing stands at its path
    Missing(&'a Path, Missing),
    /// the table has no such key, and no default
    NotInTable(Input<'a>),
    /// the table has an empty text for it
    EmptyEntry(Input<'a>),
    /// the regexp does not match the field
    NoMatch(Input<'a>),
    /// the template wrote nothing
    EmptyText(Option<Input<'a>>),
    /// the template failed as it ran
    Failed {
        /// which one
        template: &'a Template,
        /// with which field
        input: Option<Input<'a>>,
        /// boxed, so that what does not fail stays small
        error: Box<RenderError>,
    },
}

/// Which of a field's rules it is.
#[derive(Debug, Clone, Copy)]
pub enum Place<'p> {
    /// The only one.
    Alone,
    /// One of a list, counted from 1; the list may be in a list itself.
    Item {
        /// where the list stands
        list: &'p Place<'p>,
        /// which rule of it
        number: usize,
    },
}

impl fmt::Display for Place<'_> {
    /// `2`, or `2.1` for the first of a list that is the second of another; nothing for the only one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Alone => Ok(()),
            Self::Item {
                list: Self::Alone,
                number,
            } => write!(f, "{number}"),
            Self::Item { list, number } => write!(f, "{list}.{number}"),
        }
    }
}

impl Rule {
    /// Adds every constant text that the rule may yield.
    pub fn constants<'r>(&'r self, found: &mut Vec<&'r str>) {
        match self {
            Self::Text(text) => found.push(text),
            Self::Lookup {
                values, default, ..
            } => {
                found.extend(
                    values
                        .iter()
                        .map(|(_, text)| text)
                        .chain(default.as_deref()),
                );
            }
            Self::First(rules) => rules.iter().for_each(|rule| rule.constants(found)),
            Self::Constant(_) | Self::Labels(_) | Self::Copy(_) | Self::Template { .. } => {}
        }
    }

    /// The rule's value for an alert. `tried` hears of each rule that is tried, in order; of a list, each of its rules.
    pub fn evaluate<'a>(
        &'a self,
        context: &Context<'a>,
        place: Place<'_>,
        tried: &mut dyn FnMut(Place<'_>, &Outcome<'a>),
    ) -> Option<Info<'a>> {
        let outcome = match self {
            Self::First(rules) => {
                return (1..).zip(rules).find_map(|(number, rule)| {
                    rule.evaluate(
                        context,
                        Place::Item {
                            list: &place,
                            number,
                        },
                        tried,
                    )
                });
            }
            Self::Text(text) if text.is_empty() => Err(Nothing::EmptyConstant),
            Self::Text(text) => Ok(Given {
                value: Info::Text(Cow::Borrowed(text)),
                source: Source::Constant,
            }),
            Self::Constant(value) => Ok(Given {
                value: Info::Constant(value),
                source: Source::Constant,
            }),
            Self::Labels(labels) if labels.is_empty() => Err(Nothing::EmptyConstant),
            Self::Labels(labels) => Ok(Given {
                value: Info::Labels(labels),
                source: Source::Constant,
            }),
            Self::Copy(path) => copy(context, path),
            Self::Lookup {
                field,
                values,
                default,
            } => look_up(context, field, values, default.as_deref()),
            Self::Template {
                template,
                field,
                regexp,
            } => render(context, template, field.as_ref(), regexp.as_ref()),
        };
        tried(place, &outcome);
        outcome.ok().map(|given| given.value)
    }
}

fn look<'a>(context: &Context<'a>, path: &'a Path) -> Result<Input<'a>, Nothing<'a>> {
    match path.find(context) {
        Ok(found) => Ok(Input { path, found }),
        Err(missing) => Err(Nothing::Missing(path, missing)),
    }
}

fn copy<'a>(context: &Context<'a>, path: &'a Path) -> Outcome<'a> {
    let value = match look(context, path)?.found {
        Found::Text(text) => Info::Text(text),
        Found::Map(labels) => Info::Labels(labels),
    };
    Ok(Given {
        value,
        source: Source::Copy(path),
    })
}

/// No table has a key for a whole map; the configuration refuses such a field.
fn look_up<'a>(
    context: &Context<'a>,
    field: &'a Path,
    values: &'a Labels<'a>,
    default: Option<&'a str>,
) -> Outcome<'a> {
    let input = look(context, field)?;
    let Found::Text(key) = &input.found else {
        return Err(Nothing::NotInTable(input));
    };
    let (text, source): (_, fn(Input<'a>) -> Source<'a>) = match (values.get(key), default) {
        (Some(text), _) => (text, Source::Table),
        (None, Some(text)) => (text, Source::Default),
        (None, None) => return Err(Nothing::NotInTable(input)),
    };
    if text.is_empty() {
        return Err(Nothing::EmptyEntry(input));
    }
    Ok(Given {
        value: Info::Text(Cow::Borrowed(text)),
        source: source(input),
    })
}

fn render<'a>(
    context: &Context<'a>,
    template: &'a Template,
    field: Option<&'a Path>,
    regexp: Option<&Pattern>,
) -> Outcome<'a> {
    let looks = template.looks();
    let (input, groups) = match field {
        Some(path) => {
            let (input, groups) = matched(look(context, path)?, regexp, looks)?;
            (Some(input), groups)
        }
        None => (None, None),
    };
    match template.render(&template_data(context, input.as_ref(), groups, looks)) {
        Ok(text) if text.is_empty() => Err(Nothing::EmptyText(input)),
        Ok(text) => Ok(Given {
            value: Info::Text(Cow::Owned(text)),
            source: Source::Template(input),
        }),
        Err(error) => Err(Nothing::Failed {
            template,
            input,
            error: Box::new(error),
        }),
    }
}

/// A field, and the groups of its regexp where there is one and the template looks at them.
fn matched<'a>(
    input: Input<'a>,
    regexp: Option<&Pattern>,
    looks: Looks,
) -> Result<(Input<'a>, Option<View>), Nothing<'a>> {
    let (Found::Text(text), Some(regexp)) = (&input.found, regexp) else {
        return Ok((input, None));
    };
    if !looks.at_match {
        return if regexp.is_match(text) {
            Ok((input, None))
        } else {
            Err(Nothing::NoMatch(input))
        };
    }
    match regexp.groups(text) {
        Some(groups) => Ok((input, Some(groups))),
        None => Err(Nothing::NoMatch(input)),
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

/// A template's dot.
fn template_data(
    context: &Context<'_>,
    input: Option<&Input<'_>>,
    groups: Option<View>,
    looks: Looks,
) -> View {
    let mut data = BTreeMap::new();
    if let Some(input) = input.filter(|_| looks.at_field) {
        let value = match &input.found {
            Found::Text(text) => View::from(&**text),
            Found::Map(labels) => labels_view(labels),
        };
        data.insert(Arc::clone(&NAMES.field), value);
    }
    if let Some(groups) = groups {
        data.insert(Arc::clone(&NAMES.regex_match), groups);
    }
    if looks.at_alert {
        data.insert(Arc::clone(&NAMES.alert), context.alert_view().clone());
    }
    if looks.at_notification {
        data.insert(
            Arc::clone(&NAMES.notification),
            context.notification_view().clone(),
        );
    }
    View::Map(Arc::new(data))
}

/// Labels as templates see them.
pub fn labels_view(labels: &Labels<'_>) -> View {
    View::Map(Arc::new(
        labels
            .iter()
            .map(|(name, value)| (Arc::from(name), View::from(value)))
            .collect(),
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
            View::Map(Arc::new(
                entries
                    .map(|(key, value)| (Arc::from(key.as_str()), view(value)))
                    .collect(),
            ))
        }
    }
}
