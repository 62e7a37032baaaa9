//! Compiles one rule in any of its forms. It reports every error and stops at none.

use std::collections::BTreeMap;

use gotemplate::{NameKind, Regexp, RegexpBudget, Shape, Template};
use serde_json::Value;

use super::diagnostics::{Diagnostics, Place, unknown_key};
use crate::alertmanager::Labels;
use crate::event::{MAX_ENTITY_ID, SLASH_IN_NAME, State, parse_timestamp};
use crate::mapping::MAX_SECONDS;
use crate::mapping::path::{Path, PathError, roots};
use crate::mapping::rule::Rule;
use crate::mapping::shapes;
use crate::placeholder;
use crate::suggest::{self, did_you_mean};
use crate::text::is_hidden;
use yamldoc::{Node, NodeRef};

/// The maximal number of rules, those in lists included.
const MAX_RULES: usize = 1000;
/// Beyond it, a reader of JSON that has floating-point numbers only changes an integer.
const MAX_EXACT_INTEGER: u128 = 1 << 53;

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

/// An unknown key of a rule, with the type of rule that has it, or a similar key.
fn unknown_rule_key(key: &str, known: &[&str]) -> String {
    let has_key = |(_, keys): &&(&str, &[&str])| keys.contains(&key);
    let types: Vec<&str> = RULE_KEYS
        .iter()
        .filter(has_key)
        .map(|(kind, _)| *kind)
        .collect();
    if !types.is_empty() {
        let types = types.join(" or ");
        format!("unknown key; it belongs to a rule of type {types}")
    } else if keys_of(key).is_some() {
        format!("unknown key; did you mean \"type: {key}\"?")
    } else {
        unknown_key(key, |seen| did_you_mean(seen, known.iter().copied()))
    }
}

/// What a field of the event takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldKind {
    /// A string that is neither blank nor has several lines.
    Name,
    /// A name by which Canopsis would join or split ids wrongly if it had a slash.
    NameWithoutSlash,
    /// A string.
    Text,
    /// A state.
    State,
    /// A time.
    Timestamp,
    /// A mapping of strings.
    Labels,
    /// Any value: an extra information.
    Anything,
}

/// Compiles the mapping, and collects what is wrong with it. Its fields are read in `event`.
pub struct MappingReader<'c> {
    /// The whole file.
    pub root: &'c NodeRef<'c>,
    pub diagnostics: &'c mut Diagnostics,
    /// The memory of all regexps, those in templates included.
    regexps: RegexpBudget,
    /// How many rules have been read.
    rules: usize,
}

impl<'c> MappingReader<'c> {
    pub fn new(root: &'c NodeRef<'c>, diagnostics: &'c mut Diagnostics) -> Self {
        Self {
            root,
            diagnostics,
            regexps: RegexpBudget::default(),
            rules: 0,
        }
    }

    /// Adds an error, and yields the `None` that goes with it.
    pub fn error<T>(&mut self, place: impl Into<Place>, message: impl Into<String>) -> Option<T> {
        self.diagnostics.error(place, message);
        None
    }

    /// Compiles a rule; `None` where it has an error.
    pub fn rule(&mut self, node: &NodeRef<'_>, kind: FieldKind) -> Option<Rule> {
        if let Node::List(items) = node.node {
            if items.is_empty() {
                return self.error(node, "a list of rules must not be empty");
            }
            let items = node.items();
            let rules: Vec<Option<Rule>> = items.iter().map(|item| self.rule(item, kind)).collect();
            return Some(Rule::First(rules.into_iter().collect::<Option<_>>()?));
        }
        self.rules += 1;
        if self.rules == MAX_RULES + 1 {
            let message = format!("more than {MAX_RULES} rules; use lookup tables (type: map)");
            return self.error(node, message);
        }
        match node.node {
            _ if self.rules > MAX_RULES => None,
            Node::Map(_) => self.typed_rule(node, kind),
            Node::Scalar(..) | Node::List(_) => self.constant(node, kind),
        }
    }

    fn typed_rule(&mut self, node: &NodeRef<'_>, kind: FieldKind) -> Option<Rule> {
        let types = RULE_KEYS.map(|(name, _)| name);
        let known = types.join(", ");
        let Some(type_node) = node.get("type") else {
            return self.error(node, format!("a rule must have a type ({known})"));
        };
        let name = self.technical(&type_node)?;
        let Some(keys) = keys_of(name) else {
            let hint = did_you_mean(name, types);
            let message = format!("unknown type {name:?}{hint} (known: {known})");
            return self.error(&type_node, message);
        };
        (self.diagnostics).check_keys(node, keys, |key| unknown_rule_key(key, keys));
        match name {
            "set" => {
                let value = self.required_key(node, "value")?;
                self.constant(&value, kind)
            }
            "copy" => self.copy(node, kind),
            _ if kind == FieldKind::Labels => {
                let message = format!(
                    "a rule of type {name} yields a string, but this field takes a mapping: use copy or set"
                );
                self.error(node, message)
            }
            "template" => self.template(node),
            _ => self.lookup(node, kind),
        }
    }

    fn constant(&mut self, node: &NodeRef<'_>, kind: FieldKind) -> Option<Rule> {
        match (kind, node.node) {
            (_, Node::Scalar(Value::Null, _)) => self.error(node, "must not be null"),
            (FieldKind::Labels, _) => {
                let texts = self.texts(node, FieldKind::Text)?.into_iter();
                let labels = texts.map(|(name, text)| (name.into(), Some(text.into())));
                Some(Rule::Labels(Labels::new(labels.collect())))
            }
            (
                FieldKind::Anything,
                Node::Scalar(Value::Bool(_) | Value::Number(_), _) | Node::List(_) | Node::Map(_),
            ) => Some(Rule::Constant(self.json(node))),
            (FieldKind::Name | FieldKind::NameWithoutSlash, _) => {
                match self.value_text(node, kind)? {
                    text if text.is_empty() => self.error(node, "must not be empty"),
                    text => Some(Rule::String(self.first_line(node, &text).to_owned())),
                }
            }
            _ => self.value_text(node, kind).map(Rule::String),
        }
    }

    /// A constant as it is published: that of a rule, or an entry of a table. An empty one has no value.
    fn value_text(&mut self, node: &NodeRef<'_>, kind: FieldKind) -> Option<String> {
        let text = node.text();
        let text = text.or_else(|| self.error(node, "must be a string or a number"))?;
        if !text.is_empty() {
            match check_constant(text, kind) {
                Ok(None) => {}
                Ok(Some(warning)) => self.diagnostics.warn(node, warning),
                Err(error) => return self.error(node, error),
            }
        }
        Some(text.to_owned())
    }

    fn copy(&mut self, node: &NodeRef<'_>, kind: FieldKind) -> Option<Rule> {
        let value = self.required_key(node, "value")?;
        let path = match kind {
            FieldKind::Labels | FieldKind::Anything => self.path(&value)?,
            _ => self.string_path(&value, "this field")?,
        };
        if kind == FieldKind::Labels && !path.is_map() {
            let message =
                format!("{path} is a string, but this field takes a mapping, such as labels");
            return self.error(&value, message);
        }
        Some(Rule::Copy(path))
    }

    fn template(&mut self, node: &NodeRef<'_>) -> Option<Rule> {
        let given = |key: &str| node.get(key).filter(|node| node.text() != Some(""));
        // Within the outer `Some`, `None` is invalid, which is reported.
        let field = given("field").map(|node| match given("regexp") {
            Some(_) => self.string_path(&node, "a regexp"),
            None => self.path(&node),
        });
        let regexp = given("regexp").map(|node| {
            let regexp = self.regexp(&node);
            match field {
                Some(_) => regexp,
                None => self.error(&node, "requires a field to match"),
            }
        });
        let inputs = match (field, regexp) {
            (Some(None), _) | (_, Some(None)) => None,
            (field, regexp) => Some((field.flatten(), regexp.flatten())),
        };
        let shape = match &inputs {
            Some((field, regexp)) => shapes::dot(field.as_ref(), regexp.as_ref()),
            None => Shape::Any,
        };
        let value = self.required_key(node, "value")?;
        let template = self.parse(&value, &shape)?;
        let (field, regexp) = inputs?;
        Some(Rule::template(template, field, regexp))
    }

    fn parse(&mut self, node: &NodeRef<'_>, shape: &Shape) -> Option<Template> {
        let source = self.text(node)?;
        let template = match Template::parse_for(source, shape, &mut self.regexps) {
            Ok(template) => template,
            Err(error) => {
                let hint = error.unknown.as_ref().map(suggest::for_template);
                let hint = hint.unwrap_or_default();
                let message = format!("the template does not compile: {error}{hint}");
                return self.error(node, message);
            }
        };
        for fault in template.analysis().faults() {
            let hint = fault.unknown.as_ref().map(suggest::for_template);
            let hint = hint.unwrap_or_default();
            let kind = fault.unknown.as_ref().map(|unknown| unknown.kind);
            // The sender may have added it.
            if kind == Some(NameKind::PossibleField) && hint.is_empty() {
                continue;
            }
            let always = if fault.always {
                "the template always fails: "
            } else {
                ""
            };
            self.diagnostics
                .warn(node, format!("{always}{fault}{hint}"));
        }
        Some(template)
    }

    fn lookup(&mut self, node: &NodeRef<'_>, kind: FieldKind) -> Option<Rule> {
        let field_node = self.required_key(node, "field");
        let field = field_node.and_then(|node| self.string_path(&node, "a lookup"));
        let values_node = self.required_key(node, "values");
        let values = values_node.and_then(|node| self.texts(&node, kind));
        let default = match node.get("default") {
            Some(node) => Some(self.value_text(&node, kind)?),
            None => None,
        };
        Some(Rule::Lookup {
            field: field?,
            values: values?,
            default,
        })
    }

    fn required_key<'d>(&mut self, node: &NodeRef<'d>, key: &str) -> Option<NodeRef<'d>> {
        let value = node.get(key);
        value.or_else(|| self.error(node, format!("missing key \"{key}\"")))
    }

    /// A scalar as it is written.
    fn text<'d>(&mut self, node: &NodeRef<'d>) -> Option<&'d str> {
        let text = node.text();
        text.or_else(|| self.error(node, "must be a string"))
    }

    /// A path, a type or a prefix: on one line, without white space around it.
    pub fn technical<'d>(&mut self, node: &NodeRef<'d>) -> Option<&'d str> {
        let text = self.text(node)?;
        Some(self.first_line(node, text))
    }

    /// The text without white space around it, up to the first line break: a block scalar (`>`, `|`) ends with one.
    pub fn first_line<'t>(&mut self, node: &NodeRef<'_>, text: &'t str) -> &'t str {
        let text = text.trim();
        let (line, rest) = text.split_once(['\n', '\r']).unwrap_or((text, ""));
        let line = line.trim_end();
        if !rest.is_empty() {
            let message = format!("contains a line break; using {line:?}, which is before it");
            self.diagnostics.warn(node, message);
        }
        self.warn_of_hidden(node, line);
        line
    }

    /// Warns of characters that cannot be seen in a text that is compared with others.
    fn warn_of_hidden(&mut self, node: &NodeRef<'_>, text: &str) {
        if let Some(hidden) = text.chars().find(|c| is_hidden(*c)) {
            let message = format!("contains {}, which cannot be seen", hidden.escape_default());
            self.diagnostics.warn(node, message);
        }
    }

    fn path(&mut self, node: &NodeRef<'_>) -> Option<Path> {
        let text = self.technical(node)?;
        match Path::parse(text) {
            Ok(path) => Some(path),
            Err(ref error @ PathError::UnknownRoot(ref root)) => {
                let hint = meant_path(text).map_or_else(
                    || did_you_mean(root, roots()),
                    |path| format!("; did you mean \"{path}\"?"),
                );
                self.error(node, format!("{error}{hint}"))
            }
            Err(error) => self.error(node, error.to_string()),
        }
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
        let regexp = text.trim();
        if regexp.is_empty() {
            return self.error(node, "is blank; write [ ] or \\s for a blank");
        }
        if regexp != text.trim_matches(['\r', '\n']) {
            let message =
                "white space around a regexp is ignored; write [ ] or \\s where it must match";
            self.diagnostics.warn(node, message);
        }
        self.warn_of_hidden(node, regexp);
        match self.regexps.compile(regexp) {
            Ok(regexp) => Some(regexp),
            Err(error) => self.error(node, format!("the regexp does not compile: {error}")),
        }
    }

    fn texts(&mut self, node: &NodeRef<'_>, kind: FieldKind) -> Option<BTreeMap<String, String>> {
        if !matches!(node.node, Node::Map(_)) {
            return self.error(node, "must be a mapping of strings");
        }
        let mut texts = Some(BTreeMap::new());
        for (written, value) in node.entries() {
            let key = written.trim_matches(['\r', '\n']);
            if key != written && node.get(key).is_some() {
                let message = "duplicate key: line ends around a key are ignored";
                self.diagnostics.error(&value, message);
            }
            self.warn_of_hidden(&value, key);
            match (self.value_text(&value, kind), &mut texts) {
                (Some(text), Some(texts)) => drop(texts.insert(key.to_owned(), text)),
                _ => texts = None,
            }
        }
        texts
    }

    /// A constant of any type. Integers that not every reader of JSON keeps as they are become strings.
    fn json(&mut self, node: &NodeRef<'_>) -> Value {
        match node.node {
            Node::Scalar(Value::Number(number), _)
                if number
                    .as_i128()
                    .is_some_and(|n| n.unsigned_abs() > MAX_EXACT_INTEGER) =>
            {
                number.to_string().into()
            }
            Node::Scalar(value, _) => {
                let text = value.as_str().unwrap_or_default();
                if let Ok(Some(warning)) = check_constant(text, FieldKind::Anything) {
                    self.diagnostics.warn(node, warning);
                }
                value.clone()
            }
            Node::List(_) => node.items().iter().map(|item| self.json(item)).collect(),
            Node::Map(_) => {
                let entries = node.entries().into_iter();
                let json = entries.map(|(key, value)| (key.to_owned(), self.json(&value)));
                json.collect()
            }
        }
    }
}

/// A hint for a duplicate key: that of a rule comes from a list without dashes.
pub fn duplicate_hint(node: &NodeRef<'_>) -> &'static str {
    let (_, key) = node.path.rsplit_once('.').unwrap_or_default();
    let is_of_a_rule = RULE_KEYS.iter().any(|(_, keys)| keys.contains(&key));
    if is_of_a_rule {
        "; each rule of a list begins with a dash"
    } else {
        ""
    }
}

/// The first part of a rule with which it reads when the alert began or ended.
pub fn alert_time<'d>(rule: &NodeRef<'d>) -> Option<NodeRef<'d>> {
    if let Node::List(_) = rule.node {
        return rule.items().iter().find_map(alert_time);
    }
    let is_alert_time = |part: &NodeRef<'_>| {
        let text = part.text().unwrap_or_default();
        text.contains("startsAt") || text.contains("endsAt")
    };
    let is_read = ["copy", "template"].contains(&rule.get("type")?.text()?.trim());
    let mut parts = ["value", "field"].iter().filter_map(|key| rule.get(key));
    parts.find(|part| is_read && is_alert_time(part))
}

/// Checks a constant that is not empty: why its field cannot take it, or else a warning about what is probably not intended.
fn check_constant(text: &str, kind: FieldKind) -> Result<Option<String>, String> {
    let trimmed = text.trim();
    if trimmed.is_empty() {
        return Err("is blank: white space only".to_owned());
    }
    if kind == FieldKind::Timestamp {
        let seconds = parse_timestamp(trimmed).ok_or_else(|| {
            format!("{trimmed:?} is neither Unix seconds nor RFC 3339; without a timestamp, Canopsis uses the time at which it reads the event")
        })?;
        let is_in_range = (1..=MAX_SECONDS).contains(&seconds);
        return Ok((!is_in_range).then(|| {
            format!("{trimmed:?} is out of range for Unix seconds: events get no timestamp")
        }));
    }
    if let Some(hint) = likely_meaning(text) {
        return Ok(Some(format!("is the constant {text:?}{hint}")));
    }
    Ok(match kind {
        FieldKind::State if State::parse(text).is_none() => Some(format!(
            "{text:?} is not a valid state; using 3 (critical). Valid are 0 to 3, ok, info, minor, major and critical"
        )),
        FieldKind::NameWithoutSlash if text.contains('/') => Some(SLASH_IN_NAME.to_owned()),
        FieldKind::Name | FieldKind::NameWithoutSlash if text.chars().count() > MAX_ENTITY_ID => {
            Some(format!(
                "has more than {MAX_ENTITY_ID} characters: Canopsis's statistics lose the entity"
            ))
        }
        _ => None,
    })
}

/// What was probably meant by a text that is taken as it is written: a template, the path of a value, an item of a list or a
/// placeholder.
fn likely_meaning(text: &str) -> Option<String> {
    let hint = if text.contains("{{") {
        "; did you mean {type: template, value: ...}?".to_owned()
    } else if let Some(path) = meant_path(text.trim()) {
        format!("; did you mean {{type: copy, value: {path}}}?")
    } else if text.starts_with('-') && text[1..].starts_with(char::is_alphabetic) {
        ": in a list, a space follows the dash".to_owned()
    } else {
        let found = placeholder::find(text)?;
        format!(": nothing expands the placeholder {found}")
    };
    Some(hint)
}

/// The path that a text stands for, in the spelling of paths or of templates: `.Alert.labels.job`, `.Labels.job`, `$labels.job`.
fn meant_path(text: &str) -> Option<String> {
    let bare = text.trim_start_matches(['.', '$']);
    let bare = ["Alert.", "alert.", "Notification.", "notification."]
        .iter()
        .find_map(|whole| bare.strip_prefix(whole))
        .unwrap_or(bare);
    let first = bare.chars().next()?;
    let rest = &bare[first.len_utf8()..];
    let path = format!("{}{rest}", first.to_ascii_lowercase());
    // A word such as status may be meant as it is written.
    let is_word =
        path == text && path.chars().all(|c| c.is_ascii_lowercase()) && path != "fingerprint";
    (!is_word && Path::parse(&path).is_ok()).then_some(path)
}
