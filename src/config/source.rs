//! Where a setting comes from: the environment before the file.
//!
//! Each key of the sections `amqp` and `http` has its variable: `amqp.exchange` is `CPS_AMQP_EXCHANGE`, `http.listen` is
//! `PROMETHEUS_LISTEN`.

use std::fmt::{self, Display};
use std::fs;

use serde_json::Value;

use super::Environment;
use super::diagnostics::Diagnostics;
use super::document::{Node, NodeRef};

/// A setting that has been found, and where.
pub enum SettingSource<'d> {
    File(NodeRef<'d>),
    /// The variable's name, and what it holds.
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
    /// Notes an error at its place.
    pub fn wrong(&self, diagnostics: &mut Diagnostics, message: impl Into<String>) {
        match self {
            Self::File(at) => diagnostics.add(at, message),
            Self::Environment(name, _) => diagnostics.add_elsewhere(name, message),
        }
    }

    /// A single text, or nothing: the caller says what it should be.
    pub fn text(&self) -> Option<String> {
        match self {
            Self::File(at) => at.text(),
            Self::Environment(_, text) => Some(text.clone()),
        }
    }

    /// A whole number.
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

    /// A text, or (in the file) a list of at least one, each with its place.
    pub fn texts(self, diagnostics: &mut Diagnostics) -> Vec<(SettingSource<'d>, String)> {
        let places = match self {
            Self::File(at) if matches!(at.node, Node::List(_)) => {
                let items = at.items();
                if items.is_empty() {
                    diagnostics.add(&at, "is an empty list");
                }
                items.into_iter().map(Self::File).collect()
            }
            single => vec![single],
        };
        let mut found = Vec::new();
        for place in places {
            match place.text() {
                Some(text) => found.push((place, text)),
                None => place.wrong(diagnostics, "must be a text"),
            }
        }
        found
    }

    /// What stands in the file that it names. A secret, perhaps: no message shows any of it.
    pub fn contents(&self, diagnostics: &mut Diagnostics) -> Option<String> {
        let Some(path) = self.text().filter(|path| !path.is_empty()) else {
            self.wrong(diagnostics, "must be the path of a file");
            return None;
        };
        let contents = fs::read_to_string(&path);
        // Not even its path: whoever gives the secret in its place must not see it in a log.
        contents
            .map_err(|error| {
                self.wrong(
                    diagnostics,
                    format!("can't read the file that is named here: {error}"),
                );
            })
            .ok()
    }
}

/// One section of the file, and its variables.
pub struct Section<'d, 'e> {
    /// Of the variables' names.
    pub prefix: &'static str,
    /// `None` where the file has no such section.
    pub at: Option<NodeRef<'d>>,
    pub environment: Environment<'e>,
}

/// A secret setting.
pub enum SecretSource<'d> {
    Missing,
    Inline(SettingSource<'d>),
    /// In the file whose path stands here.
    File(SettingSource<'d>),
    /// In two ways, which has been noted as an error.
    Conflict,
}

impl<'d> Section<'d, '_> {
    /// A variable's name.
    pub fn variable(&self, key: &str) -> String {
        format!("{}{}", self.prefix, key.to_uppercase())
    }

    /// What is said for a key.
    pub fn get(&self, key: &str, diagnostics: &mut Diagnostics) -> Option<SettingSource<'d>> {
        self.in_environment(key, diagnostics)
            .or_else(|| self.in_file(key))
    }

    /// As [`Section::get`], for a secret that may stand in a file of its own.
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
                file.wrong(diagnostics, format!("and {here} are both set: set one"));
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
                diagnostics.add_elsewhere(&name, "is set, but empty: unset it, or give it a value");
                None
            }
            Ok(text) => Some(SettingSource::Environment(name, text)),
            Err(_) => {
                diagnostics.add_elsewhere(&name, "is not UTF-8");
                None
            }
        }
    }
}
