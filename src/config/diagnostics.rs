//! Errors and warnings about a configuration: collected, each with its place. They never show a secret.

use std::fmt;

use crate::text::{is_hidden, shorten_to, visible};
use yamldoc::{Node, NodeRef, Position};

/// How many errors and warnings are listed: a file may have a hundred thousand.
const MAX_LISTED: usize = 50;
/// How long a message may be, in characters: it may quote a value of any length.
const MAX_MESSAGE_CHARS: usize = 1000;

const MISSING_SPACE: &str = "; a space is missing after the colon";

/// One error or warning. Its message never shows a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Where it is.
    pub place: Place,
    /// What is wrong, and what to do.
    pub message: String,
}

impl Diagnostic {
    fn new(place: impl Into<Place>, message: impl Into<String>) -> Self {
        Self {
            place: place.into(),
            message: shorten_to(&message.into(), MAX_MESSAGE_CHARS),
        }
    }
}

/// A place in the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The path of a key, or the name of a variable; empty for the file itself.
    pub name: String,
    /// Where that is.
    pub origin: Origin,
}

/// Where a key or a variable is, in the order in which diagnostics are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// At a position of the file.
    File(Position),
    /// At none: the file lacks the key.
    Missing,
    /// In the environment.
    Environment,
}

impl Place {
    /// The place of a key or of a variable.
    pub fn new(name: impl Into<String>, origin: Origin) -> Self {
        let name = name.into();
        Self { name, origin }
    }

    /// The place of a key that the file lacks.
    pub fn missing(path: &str) -> Self {
        Self::new(path, Origin::Missing)
    }
}

impl From<&NodeRef<'_>> for Place {
    fn from(node: &NodeRef<'_>) -> Self {
        let origin = node.position.map_or(Origin::Missing, Origin::File);
        Self::new(&node.path, origin)
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place.origin {
            Origin::File(position) => write!(f, "{position}: ")?,
            Origin::Missing => {}
            Origin::Environment => f.write_str("environment variable ")?,
        }
        if !self.place.name.is_empty() {
            write!(f, "{}: ", visible(&self.place.name))?;
        }
        f.write_str(&visible(&self.message))
    }
}

/// Collects errors, which reject the configuration, and warnings, which do not.
#[derive(Debug, Default)]
pub struct Diagnostics {
    errors: Vec<Diagnostic>,
    warnings: Vec<Diagnostic>,
}

impl Diagnostics {
    /// Adds an error.
    pub fn error(&mut self, place: impl Into<Place>, message: impl Into<String>) {
        self.errors.push(Diagnostic::new(place, message));
    }

    /// Adds a warning about something that is valid and probably not intended.
    pub fn warn(&mut self, place: impl Into<Place>, message: impl Into<String>) {
        self.warnings.push(Diagnostic::new(place, message));
    }

    /// Adds errors about a value that is not a mapping, and about its unknown keys: the message of each, such as [`unknown_key`].
    pub fn check_keys(
        &mut self,
        node: &NodeRef<'_>,
        known: &[&str],
        message: impl Fn(&str) -> String,
    ) {
        if !matches!(node.node, Node::Map(_)) {
            let hint = mapping_hint(node, known);
            self.error(node, format!("must be a mapping{hint}"));
        }
        for (key, value) in node.entries() {
            if !known.contains(&key) {
                self.error(&value, message(key));
            }
        }
    }

    /// The errors, and the warnings as [`listed`], each in the order of the file.
    pub fn into_parts(mut self) -> (Vec<Diagnostic>, Vec<String>) {
        let origin = |diagnostic: &Diagnostic| diagnostic.place.origin;
        self.errors.sort_by_key(origin);
        self.warnings.sort_by_key(origin);
        (self.errors, listed(&self.warnings))
    }
}

/// The first [`MAX_LISTED`], and how many more there are.
pub fn listed(diagnostics: &[Diagnostic]) -> Vec<String> {
    let first = diagnostics.iter().take(MAX_LISTED);
    let mut lines: Vec<String> = first.map(ToString::to_string).collect();
    if diagnostics.len() > MAX_LISTED {
        lines.push(format!("and {} more", diagnostics.len() - MAX_LISTED));
    }
    lines
}

/// A hint for a text where a mapping must be: it begins with a key.
pub fn mapping_hint(node: &NodeRef<'_>, known: &[&str]) -> &'static str {
    let key = node.text().and_then(|text| text.split_once(':'));
    key.filter(|(key, _)| known.contains(key))
        .map_or("", |_| MISSING_SPACE)
}

/// An unknown key, the likely intention behind it, and what is wrong with its characters. `hint` gives the intention behind what
/// can be seen of the key.
pub fn unknown_key(key: &str, hint: impl FnOnce(&str) -> String) -> String {
    let Some((_, value)) = key.split_once(':') else {
        let seen: String = key.chars().filter(|c| !is_hidden(*c)).collect();
        let hint = hint(seen.trim());
        let remove = key.chars().find(|c| is_hidden(*c)).map(|c| {
            let hidden = c.escape_default();
            format!(" ({hidden} is not white space in YAML: remove it)")
        });
        return format!("unknown key{hint}{}", remove.unwrap_or_default());
    };
    match value.chars().next().filter(|c| is_hidden(*c)) {
        Some(hidden) => {
            let hidden = hidden.escape_default();
            format!("unknown key; {hidden} follows the colon instead of a space")
        }
        None => format!("unknown key{MISSING_SPACE}"),
    }
}
