//! Compiles the mapping: the fields of an event and their rules. How a compiled rule is evaluated is up to `crate::mapping`.

use serde_json::Value;

use super::diagnostics::{Diagnostics, Place};
use super::rules::{Compiler, ExpectedType};
use crate::event::{ExtraName, Name, State};
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
];

const DEFAULT_OUTPUT_LENGTH: usize = 255;
const DEFAULT_LONG_OUTPUT_LENGTH: usize = 1024;
/// The maximal number of rules, those in lists included.
const MAX_RULES: usize = 1000;

/// Compiles the mapping; `None` where a reported error leaves none.
pub fn mapping(root: &NodeRef<'_>, diagnostics: &mut Diagnostics) -> Option<Mapping> {
    if count_rules(root) > MAX_RULES {
        let message = format!("more than {MAX_RULES} rules; use lookup tables (type: map)");
        diagnostics.error(Place::missing(""), message);
        return None;
    }
    let mut fields = Fields {
        root,
        compiler: Compiler {
            diagnostics,
            regexps: gotemplate::RegexpBudget::default(),
        },
    };
    let connector = fields.connector();
    let connector_name = fields.required("connector_name");
    let component = fields.required("component");
    let resource = fields.required("resource");
    let state = fields.state();
    let output = fields.truncated("output", "output_length", DEFAULT_OUTPUT_LENGTH);
    let long_output = fields.truncated(
        "long_output",
        "long_output_length",
        DEFAULT_LONG_OUTPUT_LENGTH,
    );
    let author = fields.optional("author", ExpectedType::Text);
    let timestamp = fields.optional("timestamp", ExpectedType::Text);
    let tags = fields.optional("tags", ExpectedType::Labels);
    let extra_infos = fields.extra_infos();
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

fn count_rules(root: &NodeRef<'_>) -> usize {
    fn count(node: &Node) -> usize {
        match node {
            Node::List(items) => items.iter().map(|(_, item)| count(item)).sum(),
            Node::Scalar(..) | Node::Map(_) => 1,
        }
    }
    let fields = KEYS.iter().filter_map(|key| root.get(key));
    let extra_infos = root
        .get("extra_infos")
        .map_or_else(Vec::new, |node| node.entries());
    let rules = fields.chain(extra_infos.into_iter().map(|(_, node)| node));
    rules.map(|rule| count(rule.node)).sum()
}

/// Reads the fields of the mapping.
struct Fields<'d, 'c> {
    root: &'c NodeRef<'d>,
    compiler: Compiler<'c>,
}

impl Fields<'_, '_> {
    fn connector(&mut self) -> Option<Name<'static>> {
        let Rule::String(text) = self.required("connector")? else {
            let place = Place::from(&self.root.get("connector")?);
            let message = "must be a constant: write `connector: prometheus`, or `type: set`";
            return self.compiler.error(place, message);
        };
        Name::new(text)
    }

    fn required(&mut self, key: &str) -> Option<Rule> {
        match self.root.get(key) {
            Some(node) => self.compiler.rule(&node, ExpectedType::Name),
            None => self
                .compiler
                .error(Place::missing(key), "required but not set"),
        }
    }

    fn optional(&mut self, key: &str, expected: ExpectedType) -> Option<Rule> {
        let node = self.root.get(key)?;
        self.compiler.rule(&node, expected)
    }

    fn state(&mut self) -> Option<Rule> {
        let Some(node) = self.root.get("state") else {
            let message = "not set; every firing alert gets 3 (critical)";
            self.compiler
                .diagnostics
                .warn(Place::missing("state"), message);
            return None;
        };
        let rule = self.compiler.rule(&node, ExpectedType::Text)?;
        let mut constants = Vec::new();
        rule.constants(&mut constants);
        for text in constants {
            if State::parse(text).is_none() {
                let message = format!(
                    "{text:?} is not a valid state; using 3 (critical). Valid are 0 to 3, ok, info, minor, major and critical"
                );
                self.compiler.diagnostics.warn(&node, message);
            }
        }
        Some(rule)
    }

    fn truncated(&mut self, key: &str, length_key: &str, default: usize) -> Option<TruncatedRule> {
        let length = self.length(length_key).unwrap_or(default);
        let rule = self.optional(key, ExpectedType::Text)?;
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
                self.compiler.error(&node, message)
            }
        }
    }

    fn extra_infos(&mut self) -> Vec<(ExtraName, Rule)> {
        let prefix = self.root.get("extra_infos_prefix").and_then(|node| {
            let text = self.compiler.text(&node)?;
            Some(self.compiler.first_line(&node, text))
        });
        let prefix = prefix.unwrap_or_default();
        let Some(node) = self.root.get("extra_infos") else {
            return Vec::new();
        };
        if !matches!(node.node, Node::Map(_)) {
            let message = "must be a mapping of names to rules";
            self.compiler.diagnostics.error(&node, message);
            return Vec::new();
        }
        if prefix.is_empty() {
            self.compiler.diagnostics.warn(
                Place::missing("extra_infos_prefix"),
                "is empty; a later version of Canopsis may use one of the names for a field of its events",
            );
        }
        let mut infos = Vec::new();
        for (key, value) in node.entries() {
            let full_name = format!("{prefix}{}", self.compiler.first_line(&value, key));
            let name = ExtraName::new(full_name.as_str());
            if name.is_none() {
                let message = format!(
                    "the name {full_name:?} is reserved by Canopsis; choose another name or prefix"
                );
                self.compiler.diagnostics.error(&value, message);
            }
            let rule = self.compiler.rule(&value, ExpectedType::Anything);
            infos.extend(name.zip(rule));
        }
        infos
    }
}
