//! Finds a setting of the sections `amqp` and `http`: in its environment variable, else in the file.
//!
//! The variable of `amqp.exchange` is `CPS_AMQP_EXCHANGE`, that of `http.listen` is `PROMETHEUS_LISTEN`. What a value means is up
//! to `settings`.

use std::fmt::{self, Display};
use std::fs;

use serde_json::Value;

use super::Environment;
use super::diagnostics::Diagnostics;
use super::document::{Node, NodeRef};

/// A setting, with the place it comes from.
pub enum SettingSource<'d> {
    File(NodeRef<'d>),
    /// The name and the value of the variable.
    Environment(String, String),
}

impl Display for SettingSource<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(at) => at.fmt(f),
            Self::Environment(name, _) => f.write_str(name),
        }
    }
}

impl<'d> SettingSource<'d> {
    /// Reports an error at this place.
    pub fn report(&self, diagnostics: &mut Diagnostics, message: impl Into<String>) {
        match self {
            Self::File(at) => diagnostics.add(at, message),
            Self::Environment(name, _) => diagnostics.add_variable(name, message),
        }
    }

    /// The value as text; `None` for a list or a mapping.
    pub fn text(&self) -> Option<String> {
        match self {
            Self::File(at) => at.text(),
            Self::Environment(_, text) => Some(text.clone()),
        }
    }

    /// The value as a non-negative integer.
    pub fn number(&self) -> Option<usize> {
        match self {
            Self::File(NodeRef {
                node: Node::Scalar(Value::Number(number)),
                ..
            }) => number
                .as_u64()
                .and_then(|number| usize::try_from(number).ok()),
            Self::File(_) => None,
            Self::Environment(_, text) => text.trim().parse().ok(),
        }
    }

    /// The texts of a value that may be a list in the file, each with its place.
    pub fn texts(self, diagnostics: &mut Diagnostics) -> Vec<(SettingSource<'d>, String)> {
        let places = match self {
            Self::File(at) if matches!(at.node, Node::List(_)) => {
                let items = at.items();
                if items.is_empty() {
                    diagnostics.add(&at, "must not be an empty list");
                }
                items.into_iter().map(Self::File).collect()
            }
            single => vec![single],
        };
        let mut found = Vec::new();
        for place in places {
            match place.text() {
                Some(text) => found.push((place, text)),
                None => place.report(diagnostics, "must be a string"),
            }
        }
        found
    }

    /// The contents of the file whose path is the value.
    pub fn contents(&self, diagnostics: &mut Diagnostics) -> Option<String> {
        let Some(path) = self.text().filter(|path| !path.is_empty()) else {
            self.report(diagnostics, "must be a path");
            return None;
        };
        let contents = fs::read_to_string(&path);
        // Without the path: a user may have set the secret itself in its place.
        contents
            .map_err(|error| {
                self.report(
                    diagnostics,
                    format!("cannot read the file (path not shown; it may be a secret): {error}"),
                );
            })
            .ok()
    }
}

/// A section of the file and its variables.
pub struct Section<'d, 'e> {
    /// The prefix of the variables' names.
    pub prefix: &'static str,
    /// The section; `None` where the file lacks it.
    pub at: Option<NodeRef<'d>>,
    pub environment: Environment<'e>,
}

/// Where a secret comes from.
pub enum SecretSource<'d> {
    Missing,
    Inline(SettingSource<'d>),
    /// In the file whose path this is.
    File(SettingSource<'d>),
    /// Both inline and in a file, which has been reported.
    Conflict,
}

impl<'d> Section<'d, '_> {
    /// The name of a key's variable.
    pub fn variable(&self, key: &str) -> String {
        format!("{}{}", self.prefix, key.to_uppercase())
    }

    /// The setting of a key.
    pub fn get(&self, key: &str, diagnostics: &mut Diagnostics) -> Option<SettingSource<'d>> {
        self.in_environment(key, diagnostics)
            .or_else(|| self.in_file(key))
    }

    /// The source of a secret: the key, or the key with the suffix `_file`.
    pub fn get_or_file(&self, key: &str, diagnostics: &mut Diagnostics) -> SecretSource<'d> {
        let file_key = format!("{key}_file");
        let of_environment = (
            self.in_environment(key, diagnostics),
            self.in_environment(&file_key, diagnostics),
        );
        let found = match of_environment {
            (None, None) => (self.in_file(key), self.in_file(&file_key)),
            some => some,
        };
        match found {
            (None, None) => SecretSource::Missing,
            (Some(here), None) => SecretSource::Inline(here),
            (None, Some(file)) => SecretSource::File(file),
            (Some(here), Some(file)) => {
                file.report(
                    diagnostics,
                    format!("is set together with {here}; set only one of them"),
                );
                SecretSource::Conflict
            }
        }
    }

    fn in_file(&self, key: &str) -> Option<SettingSource<'d>> {
        self.at.as_ref()?.get(key).map(SettingSource::File)
    }

    fn in_environment(
        &self,
        key: &str,
        diagnostics: &mut Diagnostics,
    ) -> Option<SettingSource<'d>> {
        let name = self.variable(key);
        match (self.environment)(&name)? {
            Ok(text) if text.trim().is_empty() => {
                diagnostics.add_variable(&name, "is set but empty; unset it or give it a value");
                None
            }
            Ok(text) => Some(SettingSource::Environment(name, text)),
            Err(_) => {
                diagnostics.add_variable(&name, "is not UTF-8");
                None
            }
        }
    }
}
