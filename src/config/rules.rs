//! Compiles the rules of the file into a [`Mapping`]. It reports every error and stops at none; how a compiled rule is
//! evaluated is up to `mapping`.

use std::collections::BTreeSet;

use gotemplate::{Regexp, Template};
use serde_json::Value;

use super::diagnostics::Diagnostics;
use super::document::{Node, NodeRef};
use crate::alertmanager::Labels;
use crate::event::{ExtraName, Name, State};
use crate::mapping::lint::{self, RuleInputs};
use crate::mapping::path::{Path, PathError, ROOTS};
use crate::mapping::rule::Rule;
use crate::mapping::{Mapping, TruncatedRule};
use crate::suggest::did_you_mean;

/// The top-level keys of the mapping.
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
const DEFAULT_OUTPUT_LENGTH: usize = 255;
const DEFAULT_LONG_OUTPUT_LENGTH: usize = 1024;

/// The type of value that a field of the event takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ExpectedType {
    /// A string.
    Text,
    /// Any: an extra information.
    Anything,
    /// A mapping of strings.
    Labels,
}

/// Compiles the mapping; `None` where a reported error leaves none.
pub fn mapping(root: &NodeRef<'_>, diagnostics: &mut Diagnostics) -> Option<Mapping> {
    let connector = connector(root, diagnostics);
    let connector_name = required(root, "connector_name", diagnostics);
    let component = required(root, "component", diagnostics);
    let resource = required(root, "resource", diagnostics);
    let state = optional(root, "state", ExpectedType::Text, diagnostics);
    check_state(root.get("state").zip(state.as_ref()), diagnostics);
    if root.get("state").is_none() {
        diagnostics.warn("state", "not set; every firing alert gets 3 (critical)");
    }
    let output_length = length(root, "output_length", DEFAULT_OUTPUT_LENGTH, diagnostics);
    let long_output_length = length(
        root,
        "long_output_length",
        DEFAULT_LONG_OUTPUT_LENGTH,
        diagnostics,
    );
    let output =
        optional(root, "output", ExpectedType::Text, diagnostics).map(|rule| TruncatedRule {
            rule,
            length: output_length,
        });
    let long_output =
        optional(root, "long_output", ExpectedType::Text, diagnostics).map(|rule| TruncatedRule {
            rule,
            length: long_output_length,
        });
    let author = optional(root, "author", ExpectedType::Text, diagnostics);
    let timestamp = optional(root, "timestamp", ExpectedType::Text, diagnostics);
    let tags = optional(root, "tags", ExpectedType::Labels, diagnostics);
    let extra_infos = extra_infos(root, diagnostics);
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

fn connector(root: &NodeRef<'_>, diagnostics: &mut Diagnostics) -> Option<Name<'static>> {
    let Some(at) = root.get("connector") else {
        diagnostics.add_missing(
            "connector",
            "required but not set; the constant name of this connector, such as prometheus",
        );
        return None;
    };
    let Rule::String(text) = rule(&at, ExpectedType::Text, diagnostics)? else {
        diagnostics.add(
            &at,
            "must be a constant: write `connector: prometheus`, or `type: set`",
        );
        return None;
    };
    let name = Name::new(text);
    if name.is_none() {
        diagnostics.add(&at, "must not be empty");
    }
    name
}

/// Warns of constants that are not a state: an alert with one becomes critical.
fn check_state(state: Option<(NodeRef<'_>, &Rule)>, diagnostics: &mut Diagnostics) {
    let Some((at, rule)) = state else { return };
    let mut constants = Vec::new();
    rule.constants(&mut constants);
    for text in constants {
        if State::parse(text).is_none() {
            diagnostics.warn(
                &at.to_string(),
                format!(
                    "{text:?} is not a valid state; using 3 (critical). Valid are 0 to 3, ok, info, minor, major and critical"
                ),
            );
        }
    }
}

fn required(root: &NodeRef<'_>, key: &str, diagnostics: &mut Diagnostics) -> Option<Rule> {
    if root.get(key).is_none() {
        diagnostics.add_missing(key, "required but not set");
        return None;
    }
    let at = root.get(key)?;
    let rule = rule(&at, ExpectedType::Text, diagnostics)?;
    if matches!(&rule, Rule::String(text) if text.is_empty()) {
        diagnostics.add(&at, "must not be empty");
    }
    Some(rule)
}

fn optional(
    root: &NodeRef<'_>,
    key: &str,
    expected: ExpectedType,
    diagnostics: &mut Diagnostics,
) -> Option<Rule> {
    root.get(key)
        .and_then(|at| rule(&at, expected, diagnostics))
}

fn length(root: &NodeRef<'_>, key: &str, default: usize, diagnostics: &mut Diagnostics) -> usize {
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
            diagnostics.add(&at, "must be a whole number of characters, 1 or more");
            default
        }
    }
}

fn extra_infos(root: &NodeRef<'_>, diagnostics: &mut Diagnostics) -> Vec<(ExtraName, Rule)> {
    let prefix = match root.get("extra_infos_prefix") {
        None => String::new(),
        Some(at) => at.text().unwrap_or_else(|| {
            diagnostics.add(&at, "must be a string");
            String::new()
        }),
    };
    let Some(at) = root.get("extra_infos") else {
        return Vec::new();
    };
    if !matches!(at.node, Node::Map(_)) {
        diagnostics.add(&at, "must be a mapping of names to rules");
        return Vec::new();
    }
    if prefix.is_empty() {
        diagnostics.warn(
            "extra_infos_prefix",
            "is empty; a later version of Canopsis may use one of the names for a field of its events",
        );
    }
    diagnostics.check_duplicates(&at);
    let mut infos = Vec::new();
    for (key, value) in at.entries() {
        let name = ExtraName::new(format!("{prefix}{key}"));
        if name.is_none() {
            diagnostics.add(
                &value,
                format!("the name \"{prefix}{key}\" is reserved by Canopsis; choose another name or prefix"),
            );
        }
        let rule = rule(&value, ExpectedType::Anything, diagnostics);
        infos.extend(name.zip(rule));
    }
    infos
}

/// Compiles a rule in any of its forms.
fn rule(at: &NodeRef<'_>, expected: ExpectedType, diagnostics: &mut Diagnostics) -> Option<Rule> {
    match at.node {
        Node::Scalar(_) => constant(at, expected, diagnostics),
        Node::List(items) => {
            if items.is_empty() {
                diagnostics.add(at, "a list of rules must not be empty");
            }
            let rules: Vec<Option<Rule>> = at
                .items()
                .iter()
                .map(|item| rule(item, expected, diagnostics))
                .collect();
            rules
                .into_iter()
                .collect::<Option<Vec<Rule>>>()
                .map(Rule::First)
        }
        Node::Map(_) => {
            let Some(kind) = at.get("type") else {
                diagnostics.add(
                    at,
                    format!("a rule must have a type ({})", TYPES.join(", ")),
                );
                return None;
            };
            let name = kind.text().unwrap_or_default();
            match name.as_str() {
                "set" => set(at, expected, diagnostics),
                "copy" => copy(at, expected, diagnostics),
                "template" => template(at, expected, diagnostics),
                "map" => lookup(at, expected, diagnostics),
                _ => {
                    let hint = did_you_mean(&name, TYPES);
                    diagnostics.add(
                        &kind,
                        format!("unknown type {name:?}{hint} (known: {})", TYPES.join(", ")),
                    );
                    None
                }
            }
        }
    }
}

fn constant(
    at: &NodeRef<'_>,
    expected: ExpectedType,
    diagnostics: &mut Diagnostics,
) -> Option<Rule> {
    if *at.node == Node::Scalar(Value::Null) {
        diagnostics.add(at, "must not be null");
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
            diagnostics.warn(
                &at.to_string(),
                format!("is the constant {text:?}; did you mean {rule}?"),
            );
        }
    }
    match (expected, at.node) {
        (ExpectedType::Labels, Node::Map(_)) => labels(at, diagnostics).map(Rule::Labels),
        (ExpectedType::Labels, _) => {
            diagnostics.add(at, "must be a mapping of strings");
            None
        }
        (ExpectedType::Anything, Node::Scalar(Value::String(_))) => at.text().map(Rule::String),
        (ExpectedType::Anything, node) => Some(Rule::Constant(json(node))),
        (ExpectedType::Text, _) => {
            let text = at.text();
            if text.is_none() {
                diagnostics.add(at, "must be a string or a number");
            }
            text.map(Rule::String)
        }
    }
}

fn set(at: &NodeRef<'_>, expected: ExpectedType, diagnostics: &mut Diagnostics) -> Option<Rule> {
    diagnostics.check_keys(at, &["type", "value"]);
    constant(
        &required_key(at, "value", diagnostics)?,
        expected,
        diagnostics,
    )
}

fn copy(at: &NodeRef<'_>, expected: ExpectedType, diagnostics: &mut Diagnostics) -> Option<Rule> {
    diagnostics.check_keys(at, &["type", "value"]);
    let value = required_key(at, "value", diagnostics)?;
    let path = path(&value, diagnostics)?;
    match (expected, path.is_map()) {
        (ExpectedType::Text, true) => {
            diagnostics.add(
                &value,
                format!("{path} is a mapping, but this field takes a string: use one of its entries, such as {path}.NAME"),
            );
            None
        }
        (ExpectedType::Labels, false) => {
            diagnostics.add(
                &value,
                format!("{path} is a string, but this field takes a mapping, such as labels"),
            );
            None
        }
        _ => Some(Rule::Copy(path)),
    }
}

fn template(
    at: &NodeRef<'_>,
    expected: ExpectedType,
    diagnostics: &mut Diagnostics,
) -> Option<Rule> {
    diagnostics.check_keys(at, &["type", "value", "field", "regexp"]);
    if expected == ExpectedType::Labels {
        diagnostics.add(
            at,
            "a template yields a string, but this field takes a mapping: use copy or set",
        );
        return None;
    }
    let given = |key: &str| at.get(key).filter(|at| at.text().as_deref() != Some(""));
    let field_at = given("field");
    let field = part(field_at.as_ref(), |at| path(at, diagnostics));
    let regexp_at = given("regexp");
    let regexp = part(regexp_at.as_ref(), |at| regexp_of(at, diagnostics));
    if let Some(regexp_at) = &regexp_at {
        match &field {
            Ok(None) => diagnostics.add(regexp_at, "requires a field to match"),
            Ok(Some(path)) if path.is_map() => {
                diagnostics.add(
                    regexp_at,
                    format!("{path} is a mapping, but a regexp matches a string: use one of its entries, such as {path}.NAME"),
                );
            }
            _ => {}
        }
    }
    let value = required_key(at, "value", diagnostics)?;
    let source = scalar_text(&value, diagnostics)?;
    let template = match Template::parse(&source) {
        Ok(parsed) => parsed,
        Err(error) => {
            diagnostics.add(&value, format!("the template does not compile: {error}"));
            return None;
        }
    };
    let inputs = RuleInputs {
        field: (&field).into(),
        regexp: (&regexp).into(),
    };
    let faults: BTreeSet<String> = template
        .analysis()
        .fields()
        .iter()
        .filter_map(|field| lint::fault(field, &inputs))
        .collect();
    for fault in faults {
        diagnostics.warn(&value.to_string(), fault);
    }
    Some(Rule::template(template, field.ok()?, regexp.ok()?))
}

fn lookup(at: &NodeRef<'_>, expected: ExpectedType, diagnostics: &mut Diagnostics) -> Option<Rule> {
    diagnostics.check_keys(at, &["type", "field", "values", "default"]);
    if expected == ExpectedType::Labels {
        diagnostics.add(
            at,
            "a lookup yields a string, but this field takes a mapping: use copy or set",
        );
        return None;
    }
    let field_at = required_key(at, "field", diagnostics);
    let field = field_at.as_ref().and_then(|at| path(at, diagnostics));
    if let (Some(at), Some(path)) = (&field_at, &field)
        && path.is_map()
    {
        diagnostics.add(
            at,
            format!("{path} is a mapping, but a lookup takes a string: use one of its entries, such as {path}.NAME"),
        );
    }
    let values = required_key(at, "values", diagnostics).and_then(|at| labels(&at, diagnostics));
    let default = part(at.get("default").as_ref(), |at| {
        scalar_text(at, diagnostics)
    });
    Some(Rule::Lookup {
        field: field?,
        values: values?,
        default: default.ok()?,
    })
}

/// The error is among the diagnostics already.
struct AlreadyReported;

/// An optional part of a rule: `Ok(None)` where it is absent, `Err` where it is invalid.
fn part<'d, T>(
    at: Option<&NodeRef<'d>>,
    read: impl FnOnce(&NodeRef<'d>) -> Option<T>,
) -> Result<Option<T>, AlreadyReported> {
    at.map(|at| read(at).ok_or(AlreadyReported)).transpose()
}

fn required_key<'d>(
    at: &NodeRef<'d>,
    key: &str,
    diagnostics: &mut Diagnostics,
) -> Option<NodeRef<'d>> {
    let value = at.get(key);
    if value.is_none() {
        diagnostics.add(at, format!("missing key \"{key}\""));
    }
    value
}

fn scalar_text(at: &NodeRef<'_>, diagnostics: &mut Diagnostics) -> Option<String> {
    let text = at.text();
    if text.is_none() {
        diagnostics.add(at, "must be a string");
    }
    text
}

fn path(at: &NodeRef<'_>, diagnostics: &mut Diagnostics) -> Option<Path> {
    let text = scalar_text(at, diagnostics)?;
    match Path::parse(&text) {
        Ok(path) => Some(path),
        Err(error) => {
            let hint = match &error {
                PathError::UnknownRoot(root) => {
                    // The spelling that templates use.
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
            diagnostics.add(at, format!("{error}{hint}"));
            None
        }
    }
}

fn regexp_of(at: &NodeRef<'_>, diagnostics: &mut Diagnostics) -> Option<Regexp> {
    let text = scalar_text(at, diagnostics)?;
    match Regexp::new(&text) {
        Ok(regexp) => Some(regexp),
        Err(error) => {
            diagnostics.add(at, format!("the regexp does not compile: {error}"));
            None
        }
    }
}

fn labels(at: &NodeRef<'_>, diagnostics: &mut Diagnostics) -> Option<Labels<'static>> {
    if !matches!(at.node, Node::Map(_)) {
        diagnostics.add(at, "must be a mapping of strings");
        return None;
    }
    diagnostics.check_duplicates(at);
    let entries = at.entries();
    let texts: Vec<(&str, Option<String>)> = entries
        .iter()
        .map(|(key, value)| (*key, scalar_text(value, diagnostics)))
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
