//! One rule: how a field of the event gets its value, and why not.
//!
//! A rule is a pure function of an alert and its notification.

use std::borrow::Cow;
use std::collections::BTreeMap;

use gotemplate::{Regexp, RenderError, Template};
use serde_json::Value;

use super::Context;
use super::dot::{Data, Dot};
use super::path::Path;
use super::quote::quote;
use crate::alertmanager::{Labels, MAX_OBJECT};
use crate::event::FieldValue;
use crate::text::{count, shorten};

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

/// Why the rules of a field have no value, and why the last of them has one. It borrows, so that a skipped rule costs little as
/// long as nobody reads why.
#[derive(Debug, Default)]
pub struct Reasons<'a> {
    /// All, in the order of the rules.
    pub all: Vec<Reason<'a>>,
    /// The templates that failed when they ran, with the positions of their reasons.
    pub failures: Vec<(usize, &'a Template, RenderError)>,
}

/// Why a rule has its value, or none.
#[derive(Debug, Clone, Copy)]
pub enum Reason<'a> {
    /// What is said of the rule itself.
    Rule(&'static str),
    /// The value is copied from a path.
    Copied(&'a Path),
    /// What is said of a path.
    Path(&'a Path, &'static str),
    /// What is too long for a template: the value at a path, `.Alert` or `.Notification`.
    TooLong(&'a str),
    /// What is said of a path with the value there.
    Input(&'a Path, &'static str),
}

/// A template and its input.
#[derive(Debug)]
pub struct TemplateRule {
    template: Template,
    /// Finding a regexp's groups costs more than matching.
    uses_groups: bool,
    uses_alert: bool,
    uses_notification: bool,
    /// The path of its `.Field`.
    field: Option<Path>,
    /// The regexp that must match that field, and whose groups are `.RegexMatch`.
    regexp: Option<Regexp>,
}

impl Rule {
    /// A rule that renders a template.
    pub fn template(template: Template, field: Option<Path>, regexp: Option<Regexp>) -> Self {
        let uses = |name| template.analysis().may_use(name);
        Self::Template(Box::new(TemplateRule {
            uses_groups: uses("RegexMatch"),
            uses_alert: uses("Alert"),
            uses_notification: uses("Notification"),
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

    /// The rule's value for an alert: a string is never blank, and a map of strings never empty. Why it has the value, or none, is
    /// added to `reasons`; of a list, also why the rules before have none.
    pub fn evaluate<'a>(
        &'a self,
        context: &Context<'a>,
        reasons: &mut Reasons<'a>,
    ) -> Option<FieldValue<'a>> {
        let (source, if_blank) = ("constant", "the constant is empty");
        let constant = |value| {
            Ok(Found {
                value,
                source: Reason::Rule(source),
                if_blank: Reason::Rule(if_blank),
            })
        };
        let result = match self {
            Self::First(rules) => {
                return rules
                    .iter()
                    .find_map(|rule| rule.evaluate(context, reasons));
            }
            Self::String(string) => constant(FieldValue::String(Cow::Borrowed(string))),
            Self::Constant(value) => constant(FieldValue::Constant(value)),
            Self::Labels(labels) => constant(FieldValue::Labels(labels)),
            Self::Copy(path) => read(context, path).map(|value| Found {
                value,
                source: Reason::Copied(path),
                if_blank: Reason::Path(path, "is blank"),
            }),
            Self::Lookup {
                field,
                values,
                default,
            } => look_up(context, field, values, default.as_ref()),
            Self::Template(rule) => rule.render(context, reasons),
        };
        let (value, reason) = match result {
            Ok(found) if is_blank(&found.value) => (None, found.if_blank),
            Ok(found) => (Some(found.value), found.source),
            Err(reason) => (None, reason),
        };
        reasons.all.push(reason);
        value
    }
}

/// What a rule yields.
struct Found<'a> {
    value: FieldValue<'a>,
    /// Why it is the value.
    source: Reason<'a>,
    /// Why there is none, where it is blank.
    if_blank: Reason<'a>,
}

type RuleResult<'a> = Result<Found<'a>, Reason<'a>>;

fn is_blank(value: &FieldValue<'_>) -> bool {
    match value {
        FieldValue::String(string) => string.chars().all(char::is_whitespace),
        FieldValue::Labels(labels) => labels.is_empty(),
        FieldValue::Constant(_) => false,
    }
}

fn read<'a>(context: &Context<'a>, path: &'a Path) -> Result<FieldValue<'a>, Reason<'a>> {
    let found = path.find(context);
    found.map_err(|missing| Reason::Path(path, missing))
}

/// No table has a key for a whole map; the configuration rejects such a field.
fn look_up<'a>(
    context: &Context<'a>,
    field: &'a Path,
    values: &'a BTreeMap<String, String>,
    default: Option<&'a String>,
) -> RuleResult<'a> {
    let entry = match read(context, field)? {
        FieldValue::String(key) => values.get(&*key),
        FieldValue::Labels(_) | FieldValue::Constant(_) => None,
    };
    let (text, source) = match (entry, default) {
        (Some(text), _) => (text, "from the table"),
        (None, Some(text)) => (text, "the table's default"),
        (None, None) => return Err(Reason::Input(field, "not in the table")),
    };
    Ok(Found {
        value: FieldValue::String(Cow::Borrowed(text)),
        source: Reason::Input(field, source),
        if_blank: Reason::Input(field, "empty in the table"),
    })
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

    fn render<'a>(&'a self, context: &Context<'a>, reasons: &mut Reasons<'a>) -> RuleResult<'a> {
        if (context.shared.is_late)() {
            // Nobody sees this reason: the notification has no event then.
            return Err(Reason::Rule("out of time"));
        }
        let (path, field) = match &self.field {
            Some(path) => (path.as_str(), Some(read(context, path)?)),
            None => ("", None),
        };
        let field = field.as_ref();
        let reason = |text| match &self.field {
            Some(path) => Reason::Input(path, text),
            None => Reason::Rule(text),
        };
        let too_long = if field.is_some_and(|field| field.text_len() > MAX_INPUT) {
            Some(path)
        } else if self.uses_alert && context.alert.json.len() > MAX_INPUT {
            Some(".Alert")
        } else if self.uses_notification && context.shared.notification.json_len() > MAX_INPUT {
            Some(".Notification")
        } else {
            None
        };
        if let Some(input) = too_long {
            return Err(Reason::TooLong(input));
        }
        let mut regex_match = None;
        if let (Some(regexp), Some(FieldValue::String(text))) = (&self.regexp, field) {
            let is_match = if self.uses_groups {
                regex_match = regexp.groups(text);
                regex_match.is_some()
            } else {
                regexp.is_match(text)
            };
            if !is_match {
                return Err(reason("the regexp does not match"));
            }
        }
        let dot = Dot {
            field,
            regex_match,
            alert: Data::of_alert(context),
            notification: Data::of_notification(context),
        };
        match self.template.render(&dot, context.shared.is_late) {
            Ok(text) => Ok(Found {
                value: FieldValue::String(Cow::Owned(text)),
                source: reason("rendered by the template"),
                if_blank: reason("the template rendered an empty string"),
            }),
            Err(error) => {
                let failure = (reasons.all.len(), &self.template, error);
                reasons.failures.push(failure);
                Err(reason("the template failed"))
            }
        }
    }
}

impl Reasons<'_> {
    /// Forgets those of another field.
    pub fn clear(&mut self) {
        self.all.clear();
        self.failures.clear();
    }

    /// All in words, for the alert of the rules.
    pub fn texts(&self, context: &Context<'_>) -> impl Iterator<Item = String> {
        let texts = self.all.iter().map(|reason| reason.text(context));
        texts.enumerate().map(|(position, text)| {
            let mut failures = self.failures.iter();
            match failures.find(|(failed, ..)| *failed == position) {
                Some((.., error)) => format!("{text}: {}", shorten(&error.to_string())),
                None => text,
            }
        })
    }
}

impl Reason<'_> {
    fn text(&self, context: &Context<'_>) -> String {
        match self {
            Self::Rule(text) => (*text).to_owned(),
            Self::Copied(path) => format!("copied from {path}"),
            Self::Path(path, text) => format!("{path} {text}"),
            Self::TooLong(input) => format!("{input} is longer than {} KiB", MAX_INPUT >> 10),
            Self::Input(path, text) => match path.find(context) {
                Ok(FieldValue::String(string)) => format!("{path} is {}: {text}", quote(&string)),
                Ok(FieldValue::Labels(labels)) => {
                    let entries = count(labels.len(), "entry", "entries");
                    format!("{path} has {entries}: {text}")
                }
                // A path has a string or a map, and this one has been read.
                Ok(FieldValue::Constant(_)) | Err(_) => format!("{path}: {text}"),
            },
        }
    }
}
