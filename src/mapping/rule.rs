//! One rule: how a field of the event gets its value, and why not.
//!
//! A rule is a pure function of an alert and its notification.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use gotemplate::{Regexp, RenderError, Template};
use serde_json::Value;

use super::Context;
use super::dot::{Data, Dot};
use super::path::{Missing, Path, PathValue};
use super::quote::quote;
use crate::alertmanager::{Labels, MAX_OBJECT};
use crate::event::FieldValue;
use crate::text::shorten;

/// The longest input of a template or a regexp, in bytes. Strings that people read are far shorter.
const MAX_INPUT: usize = MAX_OBJECT;

/// A checked and compiled rule.
#[derive(Debug)]
pub enum Rule {
    /// A constant string.
    String(String),
    /// A constant of any other type, for an extra information.
    Constant(Value),
    /// A constant map, for tags.
    Labels(Labels<'static>),
    /// The value at a path.
    Copy(Path),
    /// A rendered template.
    Template(Box<TemplateRule>),
    /// A look-up table.
    Lookup {
        /// The path of the key.
        field: Path,
        /// The table.
        values: BTreeMap<String, String>,
        /// The value for every other key.
        default: Option<String>,
    },
    /// The first of several rules that has a value.
    First(Vec<Rule>),
}

/// A value and its source.
#[derive(Debug)]
pub struct RuleValue<'a> {
    /// The value; a string is never blank, and a map of strings never empty.
    pub value: FieldValue<'a>,
    /// Its source.
    pub source: ValueSource<'a>,
}

/// A path that a rule read, with the value there.
#[derive(Debug)]
pub struct RuleInput<'a> {
    path: &'a Path,
    value: PathValue<'a>,
}

/// Where the value of a rule comes from.
#[derive(Debug)]
pub enum ValueSource<'a> {
    /// The configuration.
    Constant,
    /// A path.
    Copy(&'a Path),
    /// An entry of a look-up table.
    Table(RuleInput<'a>),
    /// The default of a look-up table.
    Default(RuleInput<'a>),
    /// A template with its field.
    Template(Option<RuleInput<'a>>),
}

/// Why a rule has no value. It borrows, so that a skipped rule costs little as long as nobody reads why.
#[derive(Debug)]
pub enum SkipReason<'a> {
    /// The value is empty or blank.
    Blank(ValueSource<'a>),
    /// There is no value at the path.
    Missing(&'a Path, Missing),
    /// The table has no such key, and no default.
    NotInTable(RuleInput<'a>),
    /// This input of a template is longer than [`MAX_INPUT`].
    InputTooLong(&'a str),
    /// The time for mapping is over. Nobody sees this reason: the notification has no event then.
    Late,
    /// The regexp does not match the field.
    NoMatch(Option<RuleInput<'a>>),
    /// The template failed when it ran.
    Failed {
        /// The template.
        template: &'a Template,
        /// Its field.
        input: Option<RuleInput<'a>>,
        /// Boxed, so that the other reasons stay small.
        error: Box<RenderError>,
    },
}

/// A template and its input.
#[derive(Debug)]
pub struct TemplateRule {
    template: Template,
    uses: DataUse,
    /// The path of its `.Field`.
    field: Option<Path>,
    /// The regexp that must match that field, and whose groups are `.RegexMatch`.
    regexp: Option<Regexp>,
}

/// What a template may look up in its dot.
#[derive(Debug, Clone, Copy)]
struct DataUse {
    /// Finding a regexp's groups costs more than matching.
    groups: bool,
    alert: bool,
    notification: bool,
}

impl Rule {
    /// A rule that renders a template.
    pub fn template(template: Template, field: Option<Path>, regexp: Option<Regexp>) -> Self {
        let uses = |name| template.analysis().may_use(name);
        Self::Template(Box::new(TemplateRule {
            uses: DataUse {
                groups: uses("RegexMatch"),
                alert: uses("Alert"),
                notification: uses("Notification"),
            },
            template,
            field,
            regexp,
        }))
    }

    /// Whether it may have a value for some alert.
    pub fn can_yield(&self) -> bool {
        match self {
            Self::String(text) => !text.is_empty(),
            Self::Labels(labels) => !labels.is_empty(),
            Self::Constant(_) | Self::Copy(_) => true,
            Self::Template(rule) => {
                let mut faults = rule.template.analysis().faults().iter();
                !faults.any(|fault| fault.always)
            }
            Self::Lookup {
                values, default, ..
            } => {
                let mut texts = values.values().chain(default);
                texts.any(|text| !text.is_empty())
            }
            Self::First(rules) => rules.iter().any(Self::can_yield),
        }
    }

    /// What an alert must have for the rule to have a value, in words; of a list, for the last of its rules. `None` where every
    /// alert has it. That all have `alertname` is taken for granted.
    pub fn needs(&self) -> Option<String> {
        match self {
            Self::String(_) | Self::Constant(_) | Self::Labels(_) => None,
            Self::Copy(path) => path.if_optional(),
            Self::Lookup { field, default, .. } => match default {
                Some(_) => field.if_optional(),
                None => Some(format!("{field} in the table")),
            },
            Self::Template(rule) => rule.needs(),
            Self::First(rules) => {
                let mut last = None;
                for rule in rules.iter().filter(|rule| rule.can_yield()) {
                    last = Some(rule.needs()?);
                }
                last
            }
        }
    }

    /// The rule's value for an alert. Of a list, the rules before the first with a value are added to `skipped`; where none
    /// has a value, all of them.
    pub fn evaluate<'a>(
        &'a self,
        context: &Context<'a>,
        skipped: &mut Vec<SkipReason<'a>>,
    ) -> Option<RuleValue<'a>> {
        let constant = |value| {
            Ok(RuleValue {
                value,
                source: ValueSource::Constant,
            })
        };
        let value = match self {
            Self::First(rules) => {
                return rules
                    .iter()
                    .find_map(|rule| rule.evaluate(context, skipped));
            }
            Self::String(string) => constant(FieldValue::String(Cow::Borrowed(string))),
            Self::Constant(value) => constant(FieldValue::Constant(value)),
            Self::Labels(labels) => constant(FieldValue::Labels(labels)),
            Self::Copy(path) => copy(context, path),
            Self::Lookup {
                field,
                values,
                default,
            } => look_up(context, field, values, default.as_deref()),
            Self::Template(rule) => rule.render(context),
        };
        match value {
            Ok(found) if !found.is_blank() => return Some(found),
            Ok(found) => skipped.push(SkipReason::Blank(found.source)),
            Err(reason) => skipped.push(reason),
        }
        None
    }
}

impl RuleValue<'_> {
    fn is_blank(&self) -> bool {
        match &self.value {
            FieldValue::String(string) => string.chars().all(char::is_whitespace),
            FieldValue::Labels(labels) => labels.is_empty(),
            FieldValue::Constant(_) => false,
        }
    }
}

type RuleResult<'a> = Result<RuleValue<'a>, SkipReason<'a>>;

fn read<'a>(context: &Context<'a>, path: &'a Path) -> Result<RuleInput<'a>, SkipReason<'a>> {
    let found = path.find(context).map(|value| RuleInput { path, value });
    found.map_err(|missing| SkipReason::Missing(path, missing))
}

fn copy<'a>(context: &Context<'a>, path: &'a Path) -> RuleResult<'a> {
    let value = match read(context, path)?.value {
        PathValue::String(string) => FieldValue::String(string),
        PathValue::Map(labels) => FieldValue::Labels(labels),
    };
    Ok(RuleValue {
        value,
        source: ValueSource::Copy(path),
    })
}

/// No table has a key for a whole map; the configuration rejects such a field.
fn look_up<'a>(
    context: &Context<'a>,
    field: &'a Path,
    values: &'a BTreeMap<String, String>,
    default: Option<&'a str>,
) -> RuleResult<'a> {
    let input = read(context, field)?;
    let PathValue::String(key) = &input.value else {
        return Err(SkipReason::NotInTable(input));
    };
    let found = |text: &'a str, source| {
        Ok(RuleValue {
            value: FieldValue::String(Cow::Borrowed(text)),
            source,
        })
    };
    match (values.get(&**key), default) {
        (Some(text), _) => found(text, ValueSource::Table(input)),
        (None, Some(text)) => found(text, ValueSource::Default(input)),
        (None, None) => Err(SkipReason::NotInTable(input)),
    }
}

impl TemplateRule {
    fn needs(&self) -> Option<String> {
        if let (Some(path), Some(_)) = (&self.field, &self.regexp) {
            return Some(format!("a match of the regexp in {path}"));
        }
        if let Some(path) = self.field.as_ref().and_then(Path::if_optional) {
            return Some(path);
        }
        let mut optional = self.template.analysis().optional();
        let missing = optional
            .find(|path| path.starts_with(".Notification.") || !path.ends_with(".alertname"))?;
        Some(match (missing.strip_prefix(".Field"), &self.field) {
            (Some(below), Some(path)) => format!("{path}{below}"),
            _ => missing.trim_start_matches(".Alert.").to_owned(),
        })
    }

    fn render<'a>(&'a self, context: &Context<'a>) -> RuleResult<'a> {
        if context.shared.is_late() {
            return Err(SkipReason::Late);
        }
        self.check_input_lengths(context)?;
        let field = self.field.as_ref();
        let input = field.map(|path| read(context, path)).transpose()?;
        let value = input.as_ref().map(|input| &input.value);
        if let (Some(path), Some(value)) = (field, value)
            && value.text_len() > MAX_INPUT
        {
            return Err(SkipReason::InputTooLong(path.as_str()));
        }
        let regex_match = match (&self.regexp, value) {
            (Some(regexp), Some(PathValue::String(text))) if self.uses.groups => {
                match regexp.groups(text) {
                    None => return Err(SkipReason::NoMatch(input)),
                    groups => groups,
                }
            }
            (Some(regexp), Some(PathValue::String(text))) if !regexp.is_match(text) => {
                return Err(SkipReason::NoMatch(input));
            }
            _ => None,
        };
        let dot = Dot {
            field: value,
            regex_match,
            alert: Data::of_alert(context),
            notification: Data::of_notification(context),
        };
        match self.template.render(&dot, &|| context.shared.is_late()) {
            Ok(text) => Ok(RuleValue {
                value: FieldValue::String(Cow::Owned(text)),
                source: ValueSource::Template(input),
            }),
            Err(error) => Err(SkipReason::Failed {
                template: &self.template,
                input,
                error: Box::new(error),
            }),
        }
    }

    fn check_input_lengths<'a>(&'a self, context: &Context<'a>) -> Result<(), SkipReason<'a>> {
        let notification = context.shared.notification;
        if self.uses.alert && context.alert.json.len() > MAX_INPUT {
            return Err(SkipReason::InputTooLong(".Alert"));
        }
        if self.uses.notification && notification.json_len() > MAX_INPUT {
            return Err(SkipReason::InputTooLong(".Notification"));
        }
        Ok(())
    }
}

impl fmt::Display for ValueSource<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Constant => f.write_str("constant"),
            Self::Copy(path) => write!(f, "copied from {path}"),
            Self::Table(input) => write!(f, "{input}: from the table"),
            Self::Default(input) => write!(f, "{input}: the table's default"),
            Self::Template(Some(input)) => write!(f, "{input}: rendered by the template"),
            Self::Template(None) => f.write_str("rendered by the template"),
        }
    }
}

impl fmt::Display for SkipReason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blank(ValueSource::Template(Some(input)))
            | Self::NoMatch(Some(input))
            | Self::Failed {
                input: Some(input), ..
            } => write!(f, "{input}: ")?,
            _ => {}
        }
        match self {
            Self::Blank(ValueSource::Constant) => f.write_str("the constant is empty"),
            Self::Blank(ValueSource::Copy(path)) => write!(f, "{path} is blank"),
            Self::Blank(ValueSource::Table(input) | ValueSource::Default(input)) => {
                write!(f, "{input}: empty in the table")
            }
            Self::Blank(ValueSource::Template(_)) => {
                f.write_str("the template rendered an empty string")
            }
            Self::Missing(path, Missing::Absent) => write!(f, "{path} is absent"),
            Self::Missing(path, Missing::Empty) => write!(f, "{path} is empty"),
            Self::Missing(path, Missing::NotListed) => {
                write!(f, "{path} is not in a list of alerts")
            }
            Self::NotInTable(input) => write!(f, "{input}: not in the table"),
            Self::InputTooLong(input) => {
                write!(f, "{input} is longer than {} KiB", MAX_INPUT >> 10)
            }
            Self::Late => f.write_str("out of time"),
            Self::NoMatch(_) => f.write_str("the regexp does not match"),
            Self::Failed { error, .. } => {
                write!(f, "the template failed: {}", shorten(&error.to_string()))
            }
        }
    }
}

impl fmt::Display for RuleInput<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            PathValue::String(string) => write!(f, "{} is {}", self.path, quote(string)),
            PathValue::Map(labels) if labels.len() == 1 => write!(f, "{} has 1 entry", self.path),
            PathValue::Map(labels) => write!(f, "{} has {} entries", self.path, labels.len()),
        }
    }
}
