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
use super::path::Path;
use super::quote::quote;
use crate::alertmanager::{Labels, MAX_OBJECT};
use crate::event::FieldValue;
use crate::text::shorten;

/// The longest input of a template or a regexp, in bytes. Strings that people read are far shorter.
const MAX_INPUT: usize = MAX_OBJECT;

/// What is said of a longer one.
const TOO_LONG: &str = "is longer than 256 KiB";
const _: () = assert!(MAX_INPUT == 256 << 10);

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
    pub source: Reason<'a>,
}

/// Why a rule has its value, or none. It borrows, so that a skipped rule costs little as long as nobody reads why.
#[derive(Debug)]
pub struct Reason<'a> {
    subject: Subject<'a>,
    text: &'static str,
    /// The template that failed when it ran. Boxed, so that the other reasons stay small.
    pub failure: Option<(&'a Template, Box<RenderError>)>,
}

/// What a [`Reason`] is about.
#[derive(Debug)]
enum Subject<'a> {
    /// The rule itself.
    Rule,
    /// The path from which the value is copied.
    Source(&'a Path),
    /// A path, or what else a template reads.
    Path(&'a str),
    /// A path, with the value there.
    Input(&'a Path, FieldValue<'a>),
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

    /// The rule's value for an alert. Of a list, the rules before the first with a value are added to `skipped`; where none
    /// has a value, all of them.
    pub fn evaluate<'a>(
        &'a self,
        context: &Context<'a>,
        skipped: &mut Vec<Reason<'a>>,
    ) -> Option<RuleValue<'a>> {
        let constant = |value| found(value, Subject::Rule, "constant", "the constant is empty");
        let result = match self {
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
            } => look_up(context, field, values, default.as_ref()),
            Self::Template(rule) => rule.render(context),
        };
        result.map_err(|reason| skipped.push(reason)).ok()
    }
}

type RuleResult<'a> = Result<RuleValue<'a>, Reason<'a>>;

/// The value and its source, unless it is blank.
fn found<'a>(
    value: FieldValue<'a>,
    subject: Subject<'a>,
    source: &'static str,
    if_blank: &'static str,
) -> RuleResult<'a> {
    if is_blank(&value) {
        return Err(Reason::new(subject, if_blank));
    }
    let source = Reason::new(subject, source);
    Ok(RuleValue { value, source })
}

fn is_blank(value: &FieldValue<'_>) -> bool {
    match value {
        FieldValue::String(string) => string.chars().all(char::is_whitespace),
        FieldValue::Labels(labels) => labels.is_empty(),
        FieldValue::Constant(_) => false,
    }
}

fn read<'a>(context: &Context<'a>, path: &'a Path) -> Result<FieldValue<'a>, Reason<'a>> {
    let found = path.find(context);
    found.map_err(|missing| Reason::new(Subject::Path(path.as_str()), missing))
}

fn copy<'a>(context: &Context<'a>, path: &'a Path) -> RuleResult<'a> {
    let value = read(context, path)?;
    if is_blank(&value) {
        return Err(Reason::new(Subject::Path(path.as_str()), "is blank"));
    }
    let source = Reason::new(Subject::Source(path), "copied from");
    Ok(RuleValue { value, source })
}

/// No table has a key for a whole map; the configuration rejects such a field.
fn look_up<'a>(
    context: &Context<'a>,
    field: &'a Path,
    values: &'a BTreeMap<String, String>,
    default: Option<&'a String>,
) -> RuleResult<'a> {
    let key = read(context, field)?;
    let entry = match &key {
        FieldValue::String(key) => values.get(&**key),
        FieldValue::Labels(_) | FieldValue::Constant(_) => None,
    };
    let input = Subject::Input(field, key);
    let (text, source) = match (entry, default) {
        (Some(text), _) => (text, "from the table"),
        (None, Some(text)) => (text, "the table's default"),
        (None, None) => return Err(Reason::new(input, "not in the table")),
    };
    let value = FieldValue::String(Cow::Borrowed(text));
    found(value, input, source, "empty in the table")
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
        if (context.shared.is_late)() {
            // Nobody sees this reason: the notification has no event then.
            return Err(Reason::new(Subject::Rule, "out of time"));
        }
        let subject = match &self.field {
            Some(path) => Subject::Input(path, read(context, path)?),
            None => Subject::Rule,
        };
        let (path, field) = match &subject {
            Subject::Input(path, value) => (path.as_str(), Some(value)),
            _ => ("", None),
        };
        let (alert, notification) = (context.alert, context.shared.notification);
        for (input, is_used, length) in [
            (path, true, field.map_or(0, FieldValue::text_len)),
            (".Alert", self.uses_alert, alert.json.len()),
            (
                ".Notification",
                self.uses_notification,
                notification.json_len(),
            ),
        ] {
            if is_used && length > MAX_INPUT {
                return Err(Reason::new(Subject::Path(input), TOO_LONG));
            }
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
                return Err(Reason::new(subject, "the regexp does not match"));
            }
        }
        let dot = Dot {
            field,
            regex_match,
            alert: Data::of_alert(context),
            notification: Data::of_notification(context),
        };
        match self.template.render(&dot, context.shared.is_late) {
            Ok(text) => {
                let value = FieldValue::String(Cow::Owned(text));
                let if_blank = "the template rendered an empty string";
                found(value, subject, "rendered by the template", if_blank)
            }
            Err(error) => Err(Reason {
                failure: Some((&self.template, Box::new(error))),
                ..Reason::new(subject, "the template failed")
            }),
        }
    }
}

impl<'a> Reason<'a> {
    fn new(subject: Subject<'a>, text: &'static str) -> Self {
        Self {
            subject,
            text,
            failure: None,
        }
    }
}

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.text;
        match &self.subject {
            Subject::Rule => f.write_str(text)?,
            Subject::Source(path) => write!(f, "{text} {path}")?,
            Subject::Path(path) => write!(f, "{path} {text}")?,
            Subject::Input(path, FieldValue::String(string)) => {
                write!(f, "{path} is {}: {text}", quote(string))?;
            }
            Subject::Input(path, FieldValue::Labels(labels)) if labels.len() == 1 => {
                write!(f, "{path} has 1 entry: {text}")?;
            }
            Subject::Input(path, FieldValue::Labels(labels)) => {
                write!(f, "{path} has {} entries: {text}", labels.len())?;
            }
            Subject::Input(path, FieldValue::Constant(value)) => {
                write!(f, "{path} is {value}: {text}")?;
            }
        }
        match &self.failure {
            Some((_, error)) => write!(f, ": {}", shorten(&error.to_string())),
            None => Ok(()),
        }
    }
}
