//! Compiles the mapping: the fields of an event and their rules. How a compiled rule is evaluated is up to `crate::mapping`.

use std::collections::HashSet;

use super::diagnostics::Place;
use super::rules::{FieldKind, MappingReader, alert_time};
use crate::event::{ExtraName, Name, NamesError, is_connector_name};
use crate::mapping::rule::Rule;
use crate::mapping::{Mapping, TruncatedRule};
use yamldoc::Node;

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

impl MappingReader<'_> {
    /// Compiles the mapping; `None` where a reported error leaves none.
    pub fn mapping(&mut self) -> Option<Mapping> {
        let connector = self.connector();
        let connector_name = self.connector_name();
        let component = self.required("component", FieldKind::NameWithoutSlash);
        let resource = self.required("resource", FieldKind::Name);
        Some(Mapping {
            state: self.state(),
            output: self.truncated("output", DEFAULT_OUTPUT_LENGTH),
            long_output: self.truncated("long_output", DEFAULT_LONG_OUTPUT_LENGTH),
            author: self.optional("author", FieldKind::Text),
            timestamp: self.timestamp(),
            tags: self.optional("tags", FieldKind::Labels),
            perf_data: self.optional("perf_data", FieldKind::Text),
            extra_infos: self.extra_infos(),
            // Behind the others, whose errors are reported, too.
            connector: connector?,
            connector_name: connector_name?,
            component: component?,
            resource: resource?,
        })
    }

    fn connector(&mut self) -> Option<Name<'static>> {
        let Rule::String(text) = self.required("connector", FieldKind::NameWithoutSlash)? else {
            let place = Place::from(&self.root.get("connector")?);
            let message = "must be a constant: write `connector: prometheus`, or `type: set`";
            return self.error(place, message);
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
            return self.error(place, message);
        }
        Some(rule)
    }

    fn required(&mut self, key: &str, kind: FieldKind) -> Option<Rule> {
        let Some(node) = self.root.get(key) else {
            return self.error(Place::missing(key), "required but not set");
        };
        let rule = self.rule(&node, kind)?;
        if !rule.can_yield() {
            let message = "no rule can have a value: every alert would be rejected";
            return self.error(&node, message);
        }
        if let Some(needed) = rule.needs() {
            let message = format!(
                "an alert without {needed} is rejected: let the last rule be one that always has a value, such as a constant"
            );
            self.diagnostics.warn(&node, message);
        }
        Some(rule)
    }

    fn optional(&mut self, key: &str, expected: FieldKind) -> Option<Rule> {
        let node = self.root.get(key)?;
        self.rule(&node, expected)
    }

    fn state(&mut self) -> Option<Rule> {
        if self.root.get("state").is_none() {
            let message = "not set; every firing alert gets 3 (critical)";
            (self.diagnostics).warn(Place::missing("state"), message);
        }
        self.optional("state", FieldKind::State)
    }

    fn timestamp(&mut self) -> Option<Rule> {
        if let Some(part) = self.root.get("timestamp").as_ref().and_then(alert_time) {
            let message = "is the time of the alert: dates jump in Canopsis, and idle rules misfire; leave timestamp out, \
                           and put startsAt into an extra information";
            self.diagnostics.warn(&part, message);
        }
        self.optional("timestamp", FieldKind::Timestamp)
    }

    fn truncated(&mut self, key: &str, default: usize) -> Option<TruncatedRule> {
        let mut length = default;
        if let Some(node) = self.root.get(&format!("{key}_length")) {
            match node.text().and_then(|text| text.parse().ok()) {
                None | Some(0) => {
                    let message = "must be a whole number of characters, 1 or more";
                    self.diagnostics.error(&node, message);
                }
                Some(written) => length = written,
            }
            if self.root.get(key).is_none() {
                let message = format!("has no effect without {key}");
                self.diagnostics.warn(&node, message);
            }
        }
        let rule = self.optional(key, FieldKind::Text)?;
        Some(TruncatedRule { rule, length })
    }

    fn extra_infos(&mut self) -> Vec<(ExtraName, Rule)> {
        let prefix = self.root.get("extra_infos_prefix");
        let prefix = prefix
            .and_then(|node| self.technical(&node))
            .unwrap_or_default();
        let Some(node) = self.root.get("extra_infos") else {
            return Vec::new();
        };
        if !matches!(node.node, Node::Map(_)) {
            let message = "must be a mapping of names to rules";
            self.diagnostics.error(&node, message);
        } else if prefix.is_empty() {
            self.diagnostics.warn(
                Place::missing("extra_infos_prefix"),
                "is empty; a later version of Canopsis may use one of the names for a field of its events",
            );
        }
        let mut infos: Vec<(ExtraName, Rule)> = Vec::new();
        let mut written = HashSet::new();
        for (key, value) in node.entries() {
            let name = match self.first_line(&value, key) {
                "" => self.error(&value, "the name is blank"),
                name => {
                    let name = format!("{prefix}{name}");
                    let message = format!(
                        "the name {name:?} is reserved by Canopsis; choose another name or prefix"
                    );
                    ExtraName::new(name).or_else(|| self.error(&value, message))
                }
            };
            let is_known = || infos.iter().any(|(known, _)| Some(known) == name.as_ref());
            if written.insert(key) && is_known() {
                let message = "duplicate key: white space around a name is ignored";
                self.diagnostics.error(&value, message);
            }
            let rule = self.rule(&value, FieldKind::Anything);
            infos.extend(name.zip(rule));
        }
        infos
    }
}
