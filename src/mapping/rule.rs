//! One rule: how a field of the event gets its value.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, LazyLock};

use gotemplate::{Regexp, RenderError, Template, Value as TemplateValue};
use serde_json::Value;

use super::Context;
use super::path::{Missing, Path, PathValue};
use crate::alertmanager::Labels;
use crate::event::FieldValue;

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
    Template(Box<TemplateRule>),
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
pub type RuleOutcome<'a> = Result<RuleValue<'a>, SkipReason<'a>>;

/// A value, and where it is from.
#[derive(Debug)]
pub struct RuleValue<'a> {
    /// The value; a text or a map of texts is never empty.
    pub value: FieldValue<'a>,
    /// Where it is from.
    pub source: ValueSource<'a>,
}

/// What a rule looked at, and found.
#[derive(Debug)]
pub struct RuleInput<'a> {
    /// Where it looked.
    pub path: &'a Path,
    /// What stands there.
    pub found: PathValue<'a>,
}

/// Where a rule has its value from.
#[derive(Debug)]
pub enum ValueSource<'a> {
    /// the configuration
    Constant,
    /// a path
    Copy(&'a Path),
    /// an entry of a look-up table
    Table(RuleInput<'a>),
    /// a look-up table's default
    Default(RuleInput<'a>),
    /// a template, with its field
    Template(Option<RuleInput<'a>>),
}

/// Why a rule yields nothing.
#[derive(Debug)]
pub enum SkipReason<'a> {
    /// the constant is empty
    EmptyConstant,
    /// nothing stands at its path
    Missing(&'a Path, Missing),
    /// the table has no such key, and no default
    NotInTable(RuleInput<'a>),
    /// the table has an empty text for it
    EmptyEntry(RuleInput<'a>),
    /// the regexp does not match the field
    NoMatch(RuleInput<'a>),
    /// the template wrote nothing
    EmptyText(Option<RuleInput<'a>>),
    /// the template failed as it ran
    Failed {
        /// which one
        template: &'a Template,
        /// with which field
        input: Option<RuleInput<'a>>,
        /// boxed, so that what does not fail stays small
        error: Box<RenderError>,
    },
}

/// Which of a field's rules it is.
#[derive(Debug, Clone, Copy)]
pub enum RulePosition<'p> {
    /// The only one.
    Alone,
    /// One of a list, counted from 1; the list may be in a list itself.
    Item {
        /// where the list stands
        list: &'p RulePosition<'p>,
        /// which rule of it
        number: usize,
    },
}

impl fmt::Display for RulePosition<'_> {
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

/// A template, and its input.
#[derive(Debug)]
pub struct TemplateRule {
    template: Template,
    uses: DataUse,
    /// Its `.Field`.
    field: Option<Path>,
    /// Must match the field; its groups are `.RegexMatch`.
    regexp: Option<Regexp>,
}

/// The parts of its dot that a template may look up. Building them costs more than rendering most templates.
#[derive(Debug, Clone, Copy)]
#[allow(clippy::struct_excessive_bools, reason = "each is one part of the dot")]
struct DataUse {
    field: bool,
    regex_match: bool,
    alert: bool,
    notification: bool,
}

impl DataUse {
    fn of(template: &Template) -> Self {
        let uses = |name| template.analysis().may_use(name);
        Self {
            field: uses("Field"),
            regex_match: uses("RegexMatch"),
            alert: uses("Alert"),
            notification: uses("Notification"),
        }
    }
}

impl Rule {
    /// A rule that renders a template.
    pub fn template(template: Template, field: Option<Path>, regexp: Option<Regexp>) -> Self {
        Self::Template(Box::new(TemplateRule {
            uses: DataUse::of(&template),
            template,
            field,
            regexp,
        }))
    }

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
            Self::Constant(_) | Self::Labels(_) | Self::Copy(_) | Self::Template(_) => {}
        }
    }

    /// The rule's value for an alert. `tried` hears of each rule that is tried, in order; of a list, each of its rules.
    pub fn evaluate<'a>(
        &'a self,
        context: &Context<'a>,
        place: RulePosition<'_>,
        tried: &mut dyn FnMut(RulePosition<'_>, &RuleOutcome<'a>),
    ) -> Option<FieldValue<'a>> {
        let outcome = match self {
            Self::First(rules) => {
                return (1..).zip(rules).find_map(|(number, rule)| {
                    rule.evaluate(
                        context,
                        RulePosition::Item {
                            list: &place,
                            number,
                        },
                        tried,
                    )
                });
            }
            Self::Text(text) if text.is_empty() => Err(SkipReason::EmptyConstant),
            Self::Text(text) => Ok(RuleValue {
                value: FieldValue::Text(Cow::Borrowed(text)),
                source: ValueSource::Constant,
            }),
            Self::Constant(value) => Ok(RuleValue {
                value: FieldValue::Constant(value),
                source: ValueSource::Constant,
            }),
            Self::Labels(labels) if labels.is_empty() => Err(SkipReason::EmptyConstant),
            Self::Labels(labels) => Ok(RuleValue {
                value: FieldValue::Labels(labels),
                source: ValueSource::Constant,
            }),
            Self::Copy(path) => copy(context, path),
            Self::Lookup {
                field,
                values,
                default,
            } => look_up(context, field, values, default.as_deref()),
            Self::Template(rule) => rule.render(context),
        };
        tried(place, &outcome);
        outcome.ok().map(|given| given.value)
    }
}

fn look<'a>(context: &Context<'a>, path: &'a Path) -> Result<RuleInput<'a>, SkipReason<'a>> {
    match path.find(context) {
        Ok(found) => Ok(RuleInput { path, found }),
        Err(missing) => Err(SkipReason::Missing(path, missing)),
    }
}

fn copy<'a>(context: &Context<'a>, path: &'a Path) -> RuleOutcome<'a> {
    let value = match look(context, path)?.found {
        PathValue::Text(text) => FieldValue::Text(text),
        PathValue::Map(labels) => FieldValue::Labels(labels),
    };
    Ok(RuleValue {
        value,
        source: ValueSource::Copy(path),
    })
}

/// No table has a key for a whole map; the configuration refuses such a field.
fn look_up<'a>(
    context: &Context<'a>,
    field: &'a Path,
    values: &'a Labels<'a>,
    default: Option<&'a str>,
) -> RuleOutcome<'a> {
    let input = look(context, field)?;
    let PathValue::Text(key) = &input.found else {
        return Err(SkipReason::NotInTable(input));
    };
    let (text, source): (_, fn(RuleInput<'a>) -> ValueSource<'a>) = match (values.get(key), default)
    {
        (Some(text), _) => (text, ValueSource::Table),
        (None, Some(text)) => (text, ValueSource::Default),
        (None, None) => return Err(SkipReason::NotInTable(input)),
    };
    if text.is_empty() {
        return Err(SkipReason::EmptyEntry(input));
    }
    Ok(RuleValue {
        value: FieldValue::Text(Cow::Borrowed(text)),
        source: source(input),
    })
}

impl TemplateRule {
    fn render<'a>(&'a self, context: &Context<'a>) -> RuleOutcome<'a> {
        let (input, groups) = match &self.field {
            Some(path) => {
                let input = look(context, path)?;
                let (input, groups) = matched(input, self.regexp.as_ref(), self.uses)?;
                (Some(input), groups)
            }
            None => (None, None),
        };
        let dot = template_data(context, input.as_ref(), groups, self.uses);
        match self.template.render(&dot) {
            Ok(text) if text.is_empty() => Err(SkipReason::EmptyText(input)),
            Ok(text) => Ok(RuleValue {
                value: FieldValue::Text(Cow::Owned(text)),
                source: ValueSource::Template(input),
            }),
            Err(error) => Err(SkipReason::Failed {
                template: &self.template,
                input,
                error: Box::new(error),
            }),
        }
    }
}

/// A field, and the groups of its regexp where there is one and the template uses them.
fn matched<'a>(
    input: RuleInput<'a>,
    regexp: Option<&Regexp>,
    uses: DataUse,
) -> Result<(RuleInput<'a>, Option<TemplateValue>), SkipReason<'a>> {
    let (PathValue::Text(text), Some(regexp)) = (&input.found, regexp) else {
        return Ok((input, None));
    };
    if !uses.regex_match {
        return if regexp.is_match(text) {
            Ok((input, None))
        } else {
            Err(SkipReason::NoMatch(input))
        };
    }
    match regexp.groups(text) {
        Some(groups) => Ok((input, Some(groups))),
        None => Err(SkipReason::NoMatch(input)),
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
    input: Option<&RuleInput<'_>>,
    groups: Option<TemplateValue>,
    uses: DataUse,
) -> TemplateValue {
    let mut data = BTreeMap::new();
    if let Some(input) = input.filter(|_| uses.field) {
        let value = match &input.found {
            PathValue::Text(text) => TemplateValue::from(&**text),
            PathValue::Map(labels) => labels_to_template_value(labels),
        };
        data.insert(Arc::clone(&NAMES.field), value);
    }
    if let Some(groups) = groups {
        data.insert(Arc::clone(&NAMES.regex_match), groups);
    }
    if uses.alert {
        data.insert(Arc::clone(&NAMES.alert), context.alert_value().clone());
    }
    if uses.notification {
        data.insert(
            Arc::clone(&NAMES.notification),
            context.notification_value().clone(),
        );
    }
    TemplateValue::Map(Arc::new(data))
}

/// Labels as templates see them.
pub fn labels_to_template_value(labels: &Labels<'_>) -> TemplateValue {
    TemplateValue::Map(Arc::new(
        labels
            .iter()
            .map(|(name, value)| (Arc::from(name), TemplateValue::from(value)))
            .collect(),
    ))
}
