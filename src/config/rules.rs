//! Compiles one rule in any of its forms. It reports every error and stops at none.

use std::collections::BTreeSet;

use gotemplate::{Regexp, RegexpBudget, Template, UnknownName};
use serde_json::Value;

use super::diagnostics::{Diagnostics, Place, hint};
use crate::alertmanager::Labels;
use crate::mapping::lint::{self, RuleInputs};
use crate::mapping::path::{Path, PathError, ROOTS};
use crate::mapping::rule::Rule;
use crate::suggest::did_you_mean;
use yamldoc::{Key, Node, NodeRef};

/// The types of rules, with their keys.
const RULE_KEYS: [(&str, &[&str]); 4] = [
    ("set", &["type", "value"]),
    ("copy", &["type", "value"]),
    ("template", &["type", "value", "field", "regexp"]),
    ("map", &["type", "field", "values", "default"]),
];

fn keys_of(kind: &str) -> Option<&'static [&'static str]> {
    let (_, keys) = RULE_KEYS.iter().find(|(known, _)| *known == kind)?;
    Some(keys)
}

/// A hint for an unknown key of a rule: the type of rule that has it, or a similar key.
fn key_hint(key: &str, known: &[&str]) -> String {
    let has_key = |(_, keys): &&(&str, &[&str])| keys.contains(&key);
    let types: Vec<&str> = RULE_KEYS
        .iter()
        .filter(has_key)
        .map(|(kind, _)| *kind)
        .collect();
    if !types.is_empty() {
        format!("; it belongs to a rule of type {}", types.join(" or "))
    } else if keys_of(key).is_some() {
        format!("; did you mean \"type: {key}\"?")
    } else {
        hint(key, known)
    }
}

/// The type of value that a field of the event takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpectedType {
    /// A string that is neither empty nor has several lines.
    Name,
    /// A string.
    Text,
    /// A mapping of strings.
    Labels,
    /// Any: an extra information.
    Anything,
}

/// Compiles rules, and collects what is wrong with them.
pub struct Compiler<'c> {
    pub diagnostics: &'c mut Diagnostics,
    /// The memory of all regexps, those in templates included.
    pub regexps: RegexpBudget,
}

impl Compiler<'_> {
    /// Adds an error, and yields the `None` that goes with it.
    pub fn error<T>(&mut self, place: impl Into<Place>, message: impl Into<String>) -> Option<T> {
        self.diagnostics.error(place, message);
        None
    }

    /// Compiles a rule; `None` where it has an error.
    pub fn rule(&mut self, node: &NodeRef<'_>, expected: ExpectedType) -> Option<Rule> {
        match node.node {
            Node::Scalar(..) => self.constant(node, expected),
            Node::List(items) if items.is_empty() => {
                self.error(node, "a list of rules must not be empty")
            }
            Node::List(_) => {
                let items = node.items();
                let rules: Vec<Option<Rule>> =
                    items.iter().map(|item| self.rule(item, expected)).collect();
                Some(Rule::First(rules.into_iter().collect::<Option<_>>()?))
            }
            Node::Map(_) => {
                let types = RULE_KEYS.map(|(kind, _)| kind);
                let known = types.join(", ");
                let Some(kind) = node.get("type") else {
                    return self.error(node, format!("a rule must have a type ({known})"));
                };
                match kind.text().unwrap_or_default().trim() {
                    "set" => self.set(node, expected),
                    "copy" => self.copy(node, expected),
                    kind @ ("template" | "map") if expected == ExpectedType::Labels => {
                        let message = format!(
                            "a rule of type {kind} yields a string, but this field takes a mapping: use copy or set"
                        );
                        self.error(node, message)
                    }
                    "template" => self.template(node),
                    "map" => self.lookup(node),
                    other => {
                        let hint = did_you_mean(other, &types);
                        let message = format!("unknown type {other:?}{hint} (known: {known})");
                        self.error(&kind, message)
                    }
                }
            }
        }
    }

    fn constant(&mut self, node: &NodeRef<'_>, expected: ExpectedType) -> Option<Rule> {
        if matches!(node.node, Node::Scalar(Value::Null, _)) {
            return self.error(node, "must not be null");
        }
        if let Some(text) = node.text() {
            let is_path = text.contains('.') && Path::parse(text.trim()).is_ok();
            if is_path || text.contains("{{") {
                let kind = if is_path { "copy" } else { "template" };
                let message =
                    format!("is the constant {text:?}; did you mean {{type: {kind}, value: ...}}?");
                self.diagnostics.warn(node, message);
            }
        }
        match (expected, node.node) {
            (ExpectedType::Labels, _) => self.labels(node).map(Rule::Labels),
            (ExpectedType::Anything, Node::Scalar(Value::String(text), _)) => {
                Some(Rule::String(text.clone()))
            }
            (ExpectedType::Anything, value) => Some(Rule::Constant(json(value))),
            (ExpectedType::Name | ExpectedType::Text, _) => {
                let Some(text) = node.text() else {
                    return self.error(node, "must be a string or a number");
                };
                if expected == ExpectedType::Text {
                    return Some(Rule::String(text.to_owned()));
                }
                match self.first_line(node, text) {
                    "" => self.error(node, "must not be empty"),
                    name => Some(Rule::String(name.to_owned())),
                }
            }
        }
    }

    fn set(&mut self, node: &NodeRef<'_>, expected: ExpectedType) -> Option<Rule> {
        self.check_keys(node, "set");
        let value = self.required_key(node, "value")?;
        self.constant(&value, expected)
    }

    fn copy(&mut self, node: &NodeRef<'_>, expected: ExpectedType) -> Option<Rule> {
        self.check_keys(node, "copy");
        let value = self.required_key(node, "value")?;
        let path = match expected {
            ExpectedType::Name | ExpectedType::Text => self.string_path(&value, "this field")?,
            ExpectedType::Labels | ExpectedType::Anything => self.path(&value)?,
        };
        if expected == ExpectedType::Labels && !path.is_map() {
            let message =
                format!("{path} is a string, but this field takes a mapping, such as labels");
            return self.error(&value, message);
        }
        Some(Rule::Copy(path))
    }

    fn template(&mut self, node: &NodeRef<'_>) -> Option<Rule> {
        self.check_keys(node, "template");
        let given = |key: &str| node.get(key).filter(|node| node.text() != Some(""));
        let (field_node, regexp_node) = (given("field"), given("regexp"));
        let field = part(field_node.as_ref(), |node| match &regexp_node {
            Some(_) => self.string_path(node, "a regexp"),
            None => self.path(node),
        });
        let regexp = part(regexp_node.as_ref(), |node| self.regexp(node));
        if let (Some(node), Ok(None)) = (&regexp_node, &field) {
            self.diagnostics.error(node, "requires a field to match");
        }
        let value = self.required_key(node, "value")?;
        let template = match Template::parse_within(self.text(&value)?, &mut self.regexps) {
            Ok(template) => template,
            Err(error) => {
                let hint = unknown_hint(error.unknown.as_ref());
                let message = format!("the template does not compile: {error}{hint}");
                return self.error(&value, message);
            }
        };
        let inputs = RuleInputs {
            field: (&field).into(),
            regexp: (&regexp).into(),
        };
        let used = template.analysis().fields();
        let faults: BTreeSet<String> = used
            .iter()
            .filter_map(|field| lint::fault(field, &inputs))
            .collect();
        for fault in faults {
            self.diagnostics.warn(&value, fault);
        }
        for warning in template.analysis().warnings() {
            let hint = unknown_hint(warning.unknown.as_ref());
            self.diagnostics.warn(&value, format!("{warning}{hint}"));
        }
        Some(Rule::template(template, field.ok()?, regexp.ok()?))
    }

    fn lookup(&mut self, node: &NodeRef<'_>) -> Option<Rule> {
        self.check_keys(node, "map");
        let field_node = self.required_key(node, "field");
        let field = field_node.and_then(|node| self.string_path(&node, "a lookup"));
        let values_node = self.required_key(node, "values");
        let values = values_node.and_then(|node| self.labels(&node));
        let default = part(node.get("default").as_ref(), |node| self.text(node));
        Some(Rule::Lookup {
            field: field?,
            values: values?,
            default: default.ok()?.map(str::to_owned),
        })
    }

    /// Checks the keys of a rule of this type.
    fn check_keys(&mut self, node: &NodeRef<'_>, kind: &str) {
        let known = keys_of(kind).unwrap_or_default();
        self.diagnostics
            .check_keys_with(node, known, |key| key_hint(key, known));
    }

    fn required_key<'d>(&mut self, node: &NodeRef<'d>, key: &str) -> Option<NodeRef<'d>> {
        let value = node.get(key);
        if value.is_none() {
            self.diagnostics
                .error(node, format!("missing key \"{key}\""));
        }
        value
    }

    /// A scalar as it is written.
    pub fn text<'d>(&mut self, node: &NodeRef<'d>) -> Option<&'d str> {
        match node.text() {
            None => self.error(node, "must be a string"),
            text => text,
        }
    }

    /// A path or a name without white space around it, up to the first line break: a block scalar (`>`, `|`) ends with one.
    pub fn first_line<'t>(&mut self, node: &NodeRef<'_>, text: &'t str) -> &'t str {
        let text = text.trim();
        let Some((line, _)) = text.split_once(['\n', '\r']) else {
            return text;
        };
        let line = line.trim_end();
        let message = format!("contains a line break; using {line:?}, which is before it");
        self.diagnostics.warn(node, message);
        line
    }

    fn path(&mut self, node: &NodeRef<'_>) -> Option<Path> {
        let text = self.text(node)?;
        let text = self.first_line(node, text);
        let error = match Path::parse(text) {
            Ok(path) => return Some(path),
            Err(error) => error,
        };
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
        self.error(node, format!("{error}{hint}"))
    }

    /// A path to a string, which `user` takes.
    fn string_path(&mut self, node: &NodeRef<'_>, user: &str) -> Option<Path> {
        let path = self.path(node)?;
        if path.is_map() {
            let message = format!(
                "{path} is a mapping, but {user} takes a string: use one of its entries, such as {path}.NAME"
            );
            return self.error(node, message);
        }
        Some(path)
    }

    fn regexp(&mut self, node: &NodeRef<'_>) -> Option<Regexp> {
        let text = self.text(node)?;
        match self.regexps.compile(text) {
            Ok(regexp) => Some(regexp),
            Err(error) => self.error(node, format!("the regexp does not compile: {error}")),
        }
    }

    fn labels(&mut self, node: &NodeRef<'_>) -> Option<Labels<'static>> {
        if !matches!(node.node, Node::Map(_)) {
            return self.error(node, "must be a mapping of strings");
        }
        let mut labels = Some(Vec::new());
        for (key, value) in node.entries() {
            match (self.text(&value), &mut labels) {
                (Some(text), Some(labels)) => {
                    labels.push((key.to_owned().into(), text.to_owned().into()));
                }
                _ => labels = None,
            }
        }
        labels.map(Labels::new)
    }
}

/// A hint for a name that a template uses and that nothing has.
fn unknown_hint(unknown: Option<&UnknownName>) -> String {
    unknown.map_or_else(String::new, |unknown| {
        let known: Vec<&str> = unknown.known.iter().map(String::as_str).collect();
        did_you_mean(&unknown.name, &known)
    })
}

/// The error is among the diagnostics already.
struct AlreadyReported;

/// An optional part of a rule: `Ok(None)` where it is absent, `Err` where it is invalid.
fn part<'d, T>(
    node: Option<&NodeRef<'d>>,
    read: impl FnOnce(&NodeRef<'d>) -> Option<T>,
) -> Result<Option<T>, AlreadyReported> {
    node.map(|node| read(node).ok_or(AlreadyReported))
        .transpose()
}

fn json(node: &Node) -> Value {
    match node {
        Node::Scalar(value, _) => value.clone(),
        Node::List(items) => items.iter().map(|(_, node)| json(node)).collect(),
        Node::Map(entries) => {
            let entry = |(key, node): &(Key, Node)| (key.text.clone(), json(node));
            Value::Object(entries.iter().map(entry).collect())
        }
    }
}
