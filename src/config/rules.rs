//! From the file's rules to compiled ones. Every mistake is noted; nothing is guessed.

use std::collections::BTreeSet;

use serde_json::Value;

use super::document::{At, Node};
use super::mistakes::Mistakes;
use crate::event::{ExtraName, Name, State};
use crate::mapping::path::{Path, PathError, ROOTS};
use crate::mapping::pattern::Pattern;
use crate::mapping::rule::Rule;
use crate::mapping::template::Template;
use crate::mapping::uses::Offer;
use crate::mapping::{Limited, Mapping, goregexp};
use crate::notification::Labels;
use crate::suggest::did_you_mean;

/// The file's keys that make up the mapping.
pub const KEYS: &[&str] = &[
    "connector",
    "connector_name",
    "component",
    "resource",
    "state",
    "output",
    "output_length",
    "long_output",
    "long_output_length",
    "extra_infos",
    "extra_infos_prefix",
    "author",
    "timestamp",
    "tags",
];

const TYPES: &[&str] = &["set", "copy", "template", "map"];
const OUTPUT_LENGTH: usize = 255;
const LONG_OUTPUT_LENGTH: usize = 1024;

/// What a field takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Want {
    /// a text
    Text,
    /// anything: an extra information
    Anything,
    /// a map of texts
    Labels,
}

/// Compiles the mapping; `None` where a mistake (which has been noted) leaves no mapping.
pub fn mapping(root: &At<'_>, mistakes: &mut Mistakes) -> Option<Mapping> {
    let connector = connector(root, mistakes);
    let connector_name = required(root, "connector_name", mistakes);
    let component = required(root, "component", mistakes);
    let resource = required(root, "resource", mistakes);
    let state = optional(root, "state", Want::Text, mistakes);
    check_state(root.get("state").zip(state.as_ref()), mistakes);
    if root.get("state").is_none() {
        mistakes.warn(
            "state",
            "there is no rule: every firing alert is critical (3)",
        );
    }
    let output_length = length(root, "output_length", OUTPUT_LENGTH, mistakes);
    let long_output_length = length(root, "long_output_length", LONG_OUTPUT_LENGTH, mistakes);
    let output = optional(root, "output", Want::Text, mistakes).map(|rule| Limited {
        rule,
        length: output_length,
    });
    let long_output = optional(root, "long_output", Want::Text, mistakes).map(|rule| Limited {
        rule,
        length: long_output_length,
    });
    let author = optional(root, "author", Want::Text, mistakes);
    let timestamp = optional(root, "timestamp", Want::Text, mistakes);
    let tags = optional(root, "tags", Want::Labels, mistakes);
    let extra_infos = extra_infos(root, mistakes);
    Some(Mapping {
        connector: connector?,
        connector_name: connector_name?,
        component: component?,
        resource: resource?,
        state,
        output,
        long_output,
        author,
        timestamp,
        tags,
        extra_infos,
    })
}

fn connector(root: &At<'_>, mistakes: &mut Mistakes) -> Option<Name<'static>> {
    let Some(at) = root.get("connector") else {
        mistakes.add_elsewhere(
            "connector",
            "is missing: every event needs a constant connector, as prometheus",
        );
        return None;
    };
    let Rule::Text(text) = rule(&at, Want::Text, mistakes)? else {
        mistakes.add(
            &at,
            "is a constant and can't be computed: write `connector: prometheus`, or `type: set`",
        );
        return None;
    };
    let name = Name::new(text);
    if name.is_none() {
        mistakes.add(&at, "must not be empty");
    }
    name
}

/// Warns of constants that are no state: an alert that gets one is critical.
fn check_state(state: Option<(At<'_>, &Rule)>, mistakes: &mut Mistakes) {
    let Some((at, rule)) = state else { return };
    let mut constants = Vec::new();
    rule.constants(&mut constants);
    for text in constants {
        if State::parse(text).is_none() {
            mistakes.warn(
                &at.to_string(),
                format!(
                    "{text:?} is no state, and counts as critical (known: 0 to 3, ok, info, minor, major, critical)"
                ),
            );
        }
    }
}

fn required(root: &At<'_>, key: &str, mistakes: &mut Mistakes) -> Option<Rule> {
    if root.get(key).is_none() {
        mistakes.add_elsewhere(key, "is missing: every event needs it");
        return None;
    }
    let at = root.get(key)?;
    let rule = rule(&at, Want::Text, mistakes)?;
    if matches!(&rule, Rule::Text(text) if text.is_empty()) {
        mistakes.add(&at, "must not be empty");
    }
    Some(rule)
}

fn optional(root: &At<'_>, key: &str, want: Want, mistakes: &mut Mistakes) -> Option<Rule> {
    root.get(key).and_then(|at| rule(&at, want, mistakes))
}

fn length(root: &At<'_>, key: &str, default: usize, mistakes: &mut Mistakes) -> usize {
    let Some(at) = root.get(key) else {
        return default;
    };
    match at.node {
        Node::Scalar(Value::Number(number)) if number.as_u64().is_some_and(|number| number > 0) => {
            number
                .as_u64()
                .and_then(|number| usize::try_from(number).ok())
                .unwrap_or(default)
        }
        _ => {
            mistakes.add(&at, "must be a whole number of characters, 1 or more");
            default
        }
    }
}

fn extra_infos(root: &At<'_>, mistakes: &mut Mistakes) -> Vec<(ExtraName, Rule)> {
    let prefix = match root.get("extra_infos_prefix") {
        None => String::new(),
        Some(at) => at.text().unwrap_or_else(|| {
            mistakes.add(&at, "must be a text");
            String::new()
        }),
    };
    let Some(at) = root.get("extra_infos") else {
        return Vec::new();
    };
    if !matches!(at.node, Node::Map(_)) {
        mistakes.add(&at, "must hold a rule for each name (a YAML mapping)");
        return Vec::new();
    }
    if prefix.is_empty() {
        mistakes.warn(
            "extra_infos_prefix",
            "is empty: a name that a later version of Canopsis takes for itself would change the meaning of events",
        );
    }
    mistakes.check_duplicates(&at);
    let mut infos = Vec::new();
    for (key, value) in at.entries() {
        let name = ExtraName::new(format!("{prefix}{key}"));
        if name.is_none() {
            mistakes.add(
                &value,
                format!("the final name \"{prefix}{key}\" is Canopsis's own: choose another name or prefix"),
            );
        }
        let rule = rule(&value, Want::Anything, mistakes);
        infos.extend(name.zip(rule));
    }
    infos
}

/// Compiles one rule in any of its forms.
fn rule(at: &At<'_>, want: Want, mistakes: &mut Mistakes) -> Option<Rule> {
    match at.node {
        Node::Scalar(_) => constant(at, want, mistakes),
        Node::List(items) => {
            if items.is_empty() {
                mistakes.add(at, "a list of rules needs at least one");
            }
            let rules: Vec<Option<Rule>> = at
                .items()
                .iter()
                .map(|item| rule(item, want, mistakes))
                .collect();
            rules
                .into_iter()
                .collect::<Option<Vec<Rule>>>()
                .map(Rule::First)
        }
        Node::Map(_) => {
            let Some(kind) = at.get("type") else {
                mistakes.add(
                    at,
                    format!("a rule needs a type: one of {}", TYPES.join(", ")),
                );
                return None;
            };
            let name = kind.text().unwrap_or_default();
            match name.as_str() {
                "set" => set(at, want, mistakes),
                "copy" => copy(at, want, mistakes),
                "template" => template(at, want, mistakes),
                "map" => lookup(at, want, mistakes),
                _ => {
                    let hint = did_you_mean(&name, TYPES);
                    mistakes.add(
                        &kind,
                        format!("unknown type {name:?}{hint} (known: {})", TYPES.join(", ")),
                    );
                    None
                }
            }
        }
    }
}

fn constant(at: &At<'_>, want: Want, mistakes: &mut Mistakes) -> Option<Rule> {
    if *at.node == Node::Scalar(Value::Null) {
        mistakes.add(at, "has no value");
        return None;
    }
    if let Some(text) = at.text() {
        let is_path = text.contains('.') && Path::parse(&text).is_ok();
        if is_path || text.contains("{{") {
            let rule = if is_path {
                "{type: copy, value: ...}"
            } else {
                "{type: template, value: ...}"
            };
            mistakes.warn(
                &at.to_string(),
                format!("is taken as the constant text {text:?}; perhaps {rule} is meant"),
            );
        }
    }
    match (want, at.node) {
        (Want::Labels, Node::Map(_)) => labels(at, mistakes).map(Rule::Labels),
        (Want::Labels, _) => {
            mistakes.add(at, "must be a map of texts");
            None
        }
        (Want::Anything, Node::Scalar(Value::String(_))) => at.text().map(Rule::Text),
        (Want::Anything, node) => Some(Rule::Constant(json(node))),
        (Want::Text, _) => {
            let text = at.text();
            if text.is_none() {
                mistakes.add(at, "must be a text or a number");
            }
            text.map(Rule::Text)
        }
    }
}

fn set(at: &At<'_>, want: Want, mistakes: &mut Mistakes) -> Option<Rule> {
    mistakes.check_keys(at, &["type", "value"]);
    constant(&needed(at, "value", mistakes)?, want, mistakes)
}

fn copy(at: &At<'_>, want: Want, mistakes: &mut Mistakes) -> Option<Rule> {
    mistakes.check_keys(at, &["type", "value"]);
    let value = needed(at, "value", mistakes)?;
    let path = path(&value, mistakes)?;
    match (want, path.is_map()) {
        (Want::Text, true) => {
            mistakes.add(
                &value,
                format!("{path} is a whole map, and a text is needed here: name one of its entries, as {path}.NAME"),
            );
            None
        }
        (Want::Labels, false) => {
            mistakes.add(
                &value,
                format!("{path} is a text, and a whole map is needed here, as labels"),
            );
            None
        }
        _ => Some(Rule::Copy(path)),
    }
}

fn template(at: &At<'_>, want: Want, mistakes: &mut Mistakes) -> Option<Rule> {
    mistakes.check_keys(at, &["type", "value", "field", "regexp"]);
    if want == Want::Labels {
        mistakes.add(
            at,
            "a template yields a text, and a map is needed here: use copy or set",
        );
        return None;
    }
    let given = |key: &str| at.get(key).filter(|at| at.text().as_deref() != Some(""));
    let field_at = given("field");
    let field = part(field_at.as_ref(), |at| path(at, mistakes));
    let regexp_at = given("regexp");
    let regexp = part(regexp_at.as_ref(), |at| regexp_of(at, mistakes));
    if let Some(regexp_at) = &regexp_at {
        match &field {
            Ok(None) => mistakes.add(
                regexp_at,
                "has nothing to match: it needs a field beside it",
            ),
            Ok(Some(path)) if path.is_map() => {
                mistakes.add(
                    regexp_at,
                    format!("can't match {path}, which is a whole map: name one of its entries"),
                );
            }
            _ => {}
        }
    }
    let value = needed(at, "value", mistakes)?;
    let source = scalar_text(&value, mistakes)?;
    let (template, uses) = match Template::parse(&source) {
        Ok(parsed) => parsed,
        Err(error) => {
            mistakes.add(&value, format!("the template does not compile: {error}"));
            return None;
        }
    };
    let offer = Offer {
        field: (&field).into(),
        regexp: (&regexp).into(),
    };
    let faults: BTreeSet<String> = uses.iter().filter_map(|used| used.fault(&offer)).collect();
    for fault in faults {
        mistakes.warn(&value.to_string(), fault);
    }
    Some(Rule::Template {
        template,
        field: field.ok()?,
        regexp: regexp.ok()?,
    })
}

fn lookup(at: &At<'_>, want: Want, mistakes: &mut Mistakes) -> Option<Rule> {
    mistakes.check_keys(at, &["type", "field", "values", "default"]);
    if want == Want::Labels {
        mistakes.add(
            at,
            "a look-up yields a text, and a map is needed here: use copy or set",
        );
        return None;
    }
    let field_at = needed(at, "field", mistakes);
    let field = field_at.as_ref().and_then(|at| path(at, mistakes));
    if let (Some(at), Some(path)) = (&field_at, &field)
        && path.is_map()
    {
        mistakes.add(
            at,
            format!("{path} is a whole map: name one of its entries, as {path}.NAME"),
        );
    }
    let values = needed(at, "values", mistakes).and_then(|at| labels(&at, mistakes));
    let default = part(at.get("default").as_ref(), |at| scalar_text(at, mistakes));
    Some(Rule::Lookup {
        field: field?,
        values: values?,
        default: default.ok()?,
    })
}

/// Something that has been noted as a mistake.
struct Noted;

/// An optional part of a rule: absent is fine, present and wrong is not.
fn part<'d, T>(
    at: Option<&At<'d>>,
    read: impl FnOnce(&At<'d>) -> Option<T>,
) -> Result<Option<T>, Noted> {
    at.map(|at| read(at).ok_or(Noted)).transpose()
}

fn needed<'d>(at: &At<'d>, key: &str, mistakes: &mut Mistakes) -> Option<At<'d>> {
    let value = at.get(key);
    if value.is_none() {
        mistakes.add(at, format!("this type of rule needs a {key}"));
    }
    value
}

fn scalar_text(at: &At<'_>, mistakes: &mut Mistakes) -> Option<String> {
    let text = at.text();
    if text.is_none() {
        mistakes.add(at, "must be a text");
    }
    text
}

fn path(at: &At<'_>, mistakes: &mut Mistakes) -> Option<Path> {
    let text = scalar_text(at, mistakes)?;
    match Path::parse(&text) {
        Ok(path) => Some(path),
        Err(error) => {
            let hint = match &error {
                PathError::UnknownRoot(root) => {
                    // As one writes it in a template.
                    let bare = text.trim_start_matches('.');
                    let bare = bare
                        .strip_prefix("Alert.")
                        .or(bare.strip_prefix("alert."))
                        .unwrap_or(bare);
                    if Path::parse(bare).is_ok() {
                        format!("; did you mean \"{bare}\"?")
                    } else {
                        did_you_mean(root, ROOTS)
                    }
                }
                PathError::NotAMap(_) | PathError::NameMissing => String::new(),
            };
            mistakes.add(at, format!("{error}{hint}"));
            None
        }
    }
}

fn regexp_of(at: &At<'_>, mistakes: &mut Mistakes) -> Option<Pattern> {
    let text = scalar_text(at, mistakes)?;
    match goregexp::compile(&text) {
        Ok(regexp) => Some(regexp.into()),
        Err(error) => {
            mistakes.add(at, format!("the regexp does not compile: {error}"));
            None
        }
    }
}

fn labels(at: &At<'_>, mistakes: &mut Mistakes) -> Option<Labels<'static>> {
    if !matches!(at.node, Node::Map(_)) {
        mistakes.add(at, "must be a map of texts");
        return None;
    }
    mistakes.check_duplicates(at);
    let entries = at.entries();
    let texts: Vec<(&str, Option<String>)> = entries
        .iter()
        .map(|(key, value)| (*key, scalar_text(value, mistakes)))
        .collect();
    let texts = texts
        .into_iter()
        .map(|(key, text)| Some((key.to_owned().into(), text?.into())));
    texts.collect::<Option<_>>().map(Labels::new)
}

fn json(node: &Node) -> Value {
    match node {
        Node::Scalar(value) => value.clone(),
        Node::List(items) => Value::Array(items.iter().map(json).collect()),
        Node::Map(entries) => Value::Object(
            entries
                .iter()
                .map(|(key, node)| (key.clone(), json(node)))
                .collect(),
        ),
    }
}
