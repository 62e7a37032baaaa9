//! Errors and warnings about a configuration: collected, each with its place. They never show a secret.

use std::collections::HashSet;
use std::fmt;

use super::document::{Node, NodeRef};
use crate::suggest::did_you_mean;

/// One error or warning. Its message never shows a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Where it is.
    pub place: Place,
    /// What is wrong, and what to do.
    pub message: String,
}

/// A place in the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A key of the file.
    File {
        /// The key's path; empty for the file itself.
        path: String,
        /// Its line, counted from 1; `None` for a missing key.
        line: Option<usize>,
    },
    /// An environment variable.
    Variable(String),
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::File { path, line } => {
                if let Some(line) = line {
                    write!(f, "line {line}: ")?;
                }
                if !path.is_empty() {
                    write!(f, "{path}: ")?;
                }
            }
            Place::Variable(name) => write!(f, "environment variable {name}: ")?,
        }
        f.write_str(&self.message)
    }
}

/// Collects errors, which reject the configuration, and warnings, which do not.
#[derive(Debug, Default)]
pub struct Diagnostics {
    errors: Vec<Diagnostic>,
    warnings: Vec<Diagnostic>,
}

impl Diagnostics {
    fn push(&mut self, place: Place, message: impl Into<String>) {
        let message = message.into();
        self.errors.push(Diagnostic { place, message });
    }

    /// Reports an error at a place of the file.
    pub fn add(&mut self, at: &NodeRef<'_>, message: impl Into<String>) {
        let (path, line) = (at.to_string(), at.line());
        self.push(Place::File { path, line }, message);
    }

    /// Reports an error about a key that the file lacks.
    pub fn add_missing(&mut self, path: &str, message: impl Into<String>) {
        let (path, line) = (path.to_owned(), None);
        self.push(Place::File { path, line }, message);
    }

    /// Reports an error in an environment variable.
    pub fn add_variable(&mut self, name: &str, message: impl Into<String>) {
        self.push(Place::Variable(name.to_owned()), message);
    }

    /// Reports something that is valid and probably not intended.
    pub fn warn(&mut self, path: &str, message: impl Into<String>) {
        let (path, line) = (path.to_owned(), None);
        self.warnings.push(Diagnostic {
            place: Place::File { path, line },
            message: message.into(),
        });
    }

    /// Reports a value that is not a mapping, unknown keys, and duplicate keys.
    pub fn check_keys(&mut self, at: &NodeRef<'_>, known: &[&str]) {
        if !matches!(at.node, Node::Map(_)) {
            self.add(at, "must be a mapping");
            return;
        }
        for (key, value) in at.entries() {
            if !known.contains(&key) {
                self.add(&value, format!("unknown key{}", hint(key, known)));
            }
        }
        self.check_duplicates(at);
    }

    /// Reports duplicate keys.
    pub fn check_duplicates(&mut self, at: &NodeRef<'_>) {
        let mut seen = HashSet::new();
        for (key, value) in at.entries() {
            if !seen.insert(key) {
                self.add(&value, "duplicate key");
            }
        }
    }

    /// The errors, by line, and the warnings.
    pub fn into_parts(mut self) -> (Vec<Diagnostic>, Vec<Diagnostic>) {
        self.errors.sort_by_key(|error| match error.place {
            Place::File { line, .. } => line.unwrap_or(usize::MAX),
            Place::Variable(_) => usize::MAX,
        });
        (self.errors, self.warnings)
    }
}

/// The likely intention behind an unknown key.
pub fn hint(key: &str, known: &[&str]) -> String {
    match key.split_once(':') {
        Some(_) => "; a space is missing after the colon".to_owned(),
        None => did_you_mean(key, known),
    }
}
