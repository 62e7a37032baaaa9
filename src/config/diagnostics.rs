//! Every error of a configuration, told at once: where it is, what it is, and what was probably meant.

use std::fmt;

use super::document::{Node, NodeRef};
use crate::suggest::did_you_mean;

/// One error. Its message never holds a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// The key's path, or the environment variable's name.
    pub place: String,
    /// The line in the file, counted from 1.
    pub line: Option<usize>,
    /// What is wrong, and what would be right.
    pub message: String,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        if !self.place.is_empty() {
            write!(f, "{}: ", self.place)?;
        }
        f.write_str(&self.message)
    }
}

/// Collects errors (which refuse the file) and warnings (which do not).
#[derive(Debug, Default)]
pub struct Diagnostics {
    list: Vec<Diagnostic>,
    warnings: Vec<Diagnostic>,
}

impl Diagnostics {
    /// Notes an error at a place of the file.
    pub fn add(&mut self, at: &NodeRef<'_>, message: impl Into<String>) {
        self.list.push(Diagnostic {
            place: at.to_string(),
            line: at.line(),
            message: message.into(),
        });
    }

    /// Notes an error that stands nowhere in the file: something missing, or an environment variable.
    pub fn add_elsewhere(&mut self, place: &str, message: impl Into<String>) {
        self.list.push(Diagnostic {
            place: place.to_owned(),
            line: None,
            message: message.into(),
        });
    }

    /// Notes something that is allowed and probably not meant.
    pub fn warn(&mut self, place: &str, message: impl Into<String>) {
        self.warnings.push(Diagnostic {
            place: place.to_owned(),
            line: None,
            message: message.into(),
        });
    }

    /// Reports a value that is no map, keys that are not in `known`, and keys given twice.
    pub fn check_keys(&mut self, at: &NodeRef<'_>, known: &[&str]) {
        if !matches!(at.node, Node::Map(_)) {
            self.add(at, "must hold keys of its own (a YAML mapping)");
            return;
        }
        for (key, value) in at.entries() {
            if !known.contains(&key) {
                self.add(&value, format!("unknown key{}", hint(key, known)));
            }
        }
        self.check_duplicates(at);
    }

    /// Reports keys given twice.
    pub fn check_duplicates(&mut self, at: &NodeRef<'_>) {
        let entries = at.entries();
        for (index, (key, value)) in entries.iter().enumerate() {
            if entries[..index].iter().any(|(earlier, _)| earlier == key) {
                self.add(value, "given twice");
            }
        }
    }

    /// The errors by line, and the warnings.
    pub fn into_parts(mut self) -> (Vec<Diagnostic>, Vec<Diagnostic>) {
        self.list
            .sort_by_key(|diagnostic| diagnostic.line.unwrap_or(usize::MAX));
        (self.list, self.warnings)
    }
}

/// What was probably meant by an unknown key.
pub fn hint(key: &str, known: &[&str]) -> String {
    match key.split_once(':') {
        Some(_) => "; a space is missing after the colon".to_owned(),
        None => did_you_mean(key, known),
    }
}
