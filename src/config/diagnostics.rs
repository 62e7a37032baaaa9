//! Errors and warnings about a configuration: collected, each with its place. They never show a secret.

use std::fmt;

use crate::suggest::did_you_mean;
use crate::text::{is_hidden, shorten_to, visible};
use yamldoc::{Node, NodeRef, Position};

/// How many errors and warnings are listed: a file may have a hundred thousand.
pub const MAX_LISTED: usize = 50;
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
pub enum Place {
    /// A key of the file.
    File {
        /// The key's path; empty for the file itself.
        path: String,
        /// The position of the key; `None` for a missing one.
        position: Option<Position>,
    },
    /// An environment variable.
    Variable(String),
}

impl Place {
    /// The place of a key that the file lacks.
    pub fn missing(path: &str) -> Self {
        Self::File {
            path: path.to_owned(),
            position: None,
        }
    }

    /// The key's path, or the name of the variable.
    pub fn name(&self) -> &str {
        match self {
            Self::File { path, .. } => path,
            Self::Variable(name) => name,
        }
    }

    fn position(&self) -> Option<Position> {
        match self {
            Self::File { position, .. } => *position,
            Self::Variable(_) => None,
        }
    }
}

impl From<&NodeRef<'_>> for Place {
    fn from(node: &NodeRef<'_>) -> Self {
        Self::File {
            path: node.path.clone(),
            position: node.position,
        }
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::File { path, position } => {
                if let Some(position) = position {
                    write!(f, "{position}: ")?;
                }
                if !path.is_empty() {
                    write!(f, "{}: ", visible(path))?;
                }
            }
            Place::Variable(name) => write!(f, "environment variable {}: ", visible(name))?,
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

    /// The errors and the warnings, each in the order of the file.
    pub fn into_parts(mut self) -> (Vec<Diagnostic>, Vec<Diagnostic>) {
        let by_position = |diagnostic: &Diagnostic| {
            let position = diagnostic.place.position();
            (position.is_none(), position)
        };
        self.errors.sort_by_key(by_position);
        self.warnings.sort_by_key(by_position);
        if let Some(more) = more_than_listed(&self.warnings) {
            self.warnings.truncate(MAX_LISTED);
            self.warnings
                .push(Diagnostic::new(Place::missing(""), more));
        }
        (self.errors, self.warnings)
    }
}

/// A hint for a text where a mapping must be: it begins with a key.
pub fn mapping_hint(node: &NodeRef<'_>, known: &[&str]) -> &'static str {
    let key = node.text().and_then(|text| text.split_once(':'));
    key.filter(|(key, _)| known.contains(key))
        .map_or("", |_| MISSING_SPACE)
}

/// How many there are beyond [`MAX_LISTED`], in words.
pub fn more_than_listed(list: &[Diagnostic]) -> Option<String> {
    let more = list
        .len()
        .checked_sub(MAX_LISTED)
        .filter(|&more| more > 0)?;
    Some(format!("and {more} more"))
}

/// An unknown key, the likely intention behind it, and what is wrong with its characters.
pub fn unknown_key(key: &str, known: &[&str]) -> String {
    let Some((_, value)) = key.split_once(':') else {
        let hint = did_you_mean(&without_hidden(key), known.iter().copied());
        return format!("unknown key{hint}{}", hidden_hint(key));
    };
    match value.chars().next().filter(|c| is_hidden(*c)) {
        Some(hidden) => {
            let hidden = hidden.escape_default();
            format!("unknown key; {hidden} follows the colon instead of a space")
        }
        None => format!("unknown key{MISSING_SPACE}"),
    }
}

/// A key without characters that cannot be seen, and without blanks around it.
pub fn without_hidden(key: &str) -> String {
    let seen: String = key.chars().filter(|c| !is_hidden(*c)).collect();
    seen.trim().to_owned()
}

/// What to do about a character of a key that looks like white space, or like nothing.
pub fn hidden_hint(key: &str) -> String {
    let hidden = key.chars().find(|c| is_hidden(*c));
    hidden.map_or_else(String::new, |c| {
        format!(
            " ({} is not white space in YAML: remove it)",
            c.escape_default()
        )
    })
}
