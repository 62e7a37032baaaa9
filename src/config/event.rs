//! Compiles the mapping: the fields of an event and their rules. How a compiled rule is evaluated is up to `crate::mapping`.

use std::collections::HashSet;

use serde_json::Value;

use super::diagnostics::{Diagnostics, Place};
use super::rules::{FieldKind, RuleReader};
use crate::event::{ExtraName, Name, NamesError, is_connector_name};
use crate::mapping::rule::Rule;
use crate::mapping::{Mapping, TruncatedRule};
use yamldoc::{Node, NodeRef};

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
    "perf_data",
];

const DEFAULT_OUTPUT_LENGTH: usize = 255;
const DEFAULT_LONG_OUTPUT_LENGTH: usize = 1024;

/// Compiles the mapping; `None` where a reported error leaves none.
pub fn compile_mapping(root: &NodeRef<'_>, diagnostics: &mut Diagnostics) -> Option<Mapping> {
    let mut fields = Fields {
        root,
        rules: RuleReader::new(diagnostics),
    };
    let connector = fields.connector();
    let connector_name = fields.connector_name();
    let component = fields.required("component", FieldKind::NameWithoutSlash);
    let resource = fields.required("resource", FieldKind::Name);
    let default = DEFAULT_LONG_OUTPUT_LENGTH;
    Some(Mapping {
        state: fields.state(),
        output: fields.truncated("output", "output_length", DEFAULT_OUTPUT_LENGTH),
        long_output: fields.truncated("long_output", "long_output_length", default),
        author: fields.optional("author", FieldKind::Text),
        timestamp: fields.optional("timestamp", FieldKind::Timestamp),
        tags: fields.optional("tags", FieldKind::Labels),
        perf_data: fields.optional("perf_data", FieldKind::Text),
        extra_infos: fields.extra_infos(),
        // Behind the others, whose errors are reported, too.
        connector: connector?,
        connector_name: connector_name?,
        component: component?,
        resource: resource?,
    })
}

/// Reads the fields of the mapping.
struct Fields<'d, 'c> {
    root: &'c NodeRef<'d>,
    rules: RuleReader<'c>,
}

impl Fields<'_, '_> {
    fn connector(&mut self) -> Option<Name<'static>> {
        let Rule::String(text) = self.required("connector", FieldKind::NameWithoutSlash)? else {
            let place = Place::from(&self.root.get("connector")?);
            let message = "must be a constant: write `connector: prometheus`, or `type: set`";
            return self.rules.error(place, message);
        };
        Name::new(text)
    }

    fn connector_name(&mut self) -> Option<Rule> {
        let rule = self.required("connector_name", FieldKind::NameWithoutSlash)?;
        if let Rule::String(text) = &rule
            && !is_connector_name(text)
        {
            let place = Place::from(&self.root.get("connector_name")?);
            let message = NamesError::ConnectorName.to_string();
            return self.rules.error(place, message);
        }
        Some(rule)
    }

    fn required(&mut self, key: &str, kind: FieldKind) -> Option<Rule> {
        let Some(node) = self.root.get(key) else {
            return self
                .rules
                .error(Place::missing(key), "required but not set");
        };
        let rule = self.rules.rule(&node, kind)?;
        if !rule.can_yield() {
            let message = "no rule can have a value: every alert would be rejected";
            return self.rules.error(&node, message);
        }
        if let Some(needed) = rule.needs() {
            let message = format!(
                "an alert without {needed} is rejected: let the last rule be one that always has a value, such as a constant"
            );
            self.rules.diagnostics.warn(&node, message);
        }
        Some(rule)
    }

    fn optional(&mut self, key: &str, expected: FieldKind) -> Option<Rule> {
        let node = self.root.get(key)?;
        self.rules.rule(&node, expected)
    }

    fn state(&mut self) -> Option<Rule> {
        if self.root.get("state").is_none() {
            let message = "not set; every firing alert gets 3 (critical)";
            (self.rules.diagnostics).warn(Place::missing("state"), message);
        }
        self.optional("state", FieldKind::State)
    }

    fn truncated(&mut self, key: &str, length_key: &str, default: usize) -> Option<TruncatedRule> {
        let length = self.length(length_key).unwrap_or(default);
        if let (None, Some(node)) = (self.root.get(key), self.root.get(length_key)) {
            let message = format!("has no effect without {key}");
            self.rules.diagnostics.warn(&node, message);
        }
        let rule = self.optional(key, FieldKind::Text)?;
        Some(TruncatedRule { rule, length })
    }

    fn length(&mut self, key: &str) -> Option<usize> {
        let node = self.root.get(key)?;
        match node.node {
            Node::Scalar(Value::Number(number), _) if number.as_u64() > Some(0) => {
                usize::try_from(number.as_u64()?).ok()
            }
            _ => {
                let message = "must be a whole number of characters, 1 or more";
                self.rules.error(&node, message)
            }
        }
    }

    fn extra_infos(&mut self) -> Vec<(ExtraName, Rule)> {
        let prefix = self.root.get("extra_infos_prefix");
        let prefix = prefix
            .and_then(|node| self.rules.technical(&node))
            .unwrap_or_default();
        let Some(node) = self.root.get("extra_infos") else {
            return Vec::new();
        };
        if !matches!(node.node, Node::Map(_)) {
            let message = "must be a mapping of names to rules";
            self.rules.diagnostics.error(&node, message);
            return Vec::new();
        }
        if prefix.is_empty() {
            self.rules.diagnostics.warn(
                Place::missing("extra_infos_prefix"),
                "is empty; a later version of Canopsis may use one of the names for a field of its events",
            );
        }
        let mut infos: Vec<(ExtraName, Rule)> = Vec::new();
        let mut written = HashSet::new();
        for (key, value) in node.entries() {
            let name = match self.rules.first_line(&value, key) {
                "" => self.rules.error(&value, "the name is blank"),
                name => {
                    let name = format!("{prefix}{name}");
                    let message = format!(
                        "the name {name:?} is reserved by Canopsis; choose another name or prefix"
                    );
                    ExtraName::new(name).or_else(|| self.rules.error(&value, message))
                }
            };
            let is_known = || infos.iter().any(|(known, _)| Some(known) == name.as_ref());
            if written.insert(key) && is_known() {
                let message = "duplicate key: white space around a name is ignored";
                self.rules.diagnostics.error(&value, message);
            }
            let rule = self.rules.rule(&value, FieldKind::Anything);
            infos.extend(name.zip(rule));
        }
        infos
    }
}
