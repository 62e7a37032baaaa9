//! Where a setting comes from: the environment before the file.
//!
//! Each key of the sections `amqp` and `http` has its variable: `amqp.exchange` is `CPS_AMQP_EXCHANGE`, `http.listen` is
//! `PROMETHEUS_LISTEN`.

use std::fmt::{self, Display};
use std::fs;

use serde_json::Value;

use super::Environment;
use super::document::{At, Node};
use super::mistakes::Mistakes;

/// A setting that has been found, and where.
pub enum Source<'d> {
    File(At<'d>),
    /// The variable's name, and what it holds.
    Environment(String, String),
}

impl Display for Source<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(at) => at.fmt(f),
            Self::Environment(name, _) => f.write_str(name),
        }
    }
}

impl<'d> Source<'d> {
    /// Notes a mistake at its place.
    pub fn wrong(&self, mistakes: &mut Mistakes, message: impl Into<String>) {
        match self {
            Self::File(at) => mistakes.add(at, message),
            Self::Environment(name, _) => mistakes.add_elsewhere(name, message),
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
            Self::File(At {
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
    pub fn texts(self, mistakes: &mut Mistakes) -> Vec<(Source<'d>, String)> {
        let places = match self {
            Self::File(at) if matches!(at.node, Node::List(_)) => {
                let items = at.items();
                if items.is_empty() {
                    mistakes.add(&at, "is an empty list");
                }
                items.into_iter().map(Self::File).collect()
            }
            single => vec![single],
        };
        let mut found = Vec::new();
        for place in places {
            match place.text() {
                Some(text) => found.push((place, text)),
                None => place.wrong(mistakes, "must be a text"),
            }
        }
        found
    }

    /// What stands in the file that it names. A secret, perhaps: no message shows any of it.
    pub fn contents(&self, mistakes: &mut Mistakes) -> Option<String> {
        let Some(path) = self.text().filter(|path| !path.is_empty()) else {
            self.wrong(mistakes, "must be the path of a file");
            return None;
        };
        let contents = fs::read_to_string(&path);
        // Not even its path: whoever gives the secret in its place must not see it in a log.
        contents
            .map_err(|error| {
                self.wrong(
                    mistakes,
                    format!("can't read the file that is named here: {error}"),
                )
            })
            .ok()
    }
}

/// The name of a key's variable.
pub fn variable(prefix: &str, key: &str) -> String {
    format!("{prefix}{}", key.to_uppercase())
}

/// One section of the file, and its variables.
pub struct Section<'d, 'e> {
    /// Of the variables' names.
    pub prefix: &'static str,
    /// `None` where the file has no such section.
    pub at: Option<At<'d>>,
    pub environment: Environment<'e>,
}

/// A secret setting.
pub enum Given<'d> {
    Nowhere,
    Here(Source<'d>),
    /// In the file whose path stands here.
    InFile(Source<'d>),
    /// In two ways, which has been noted as a mistake.
    Twice,
}

impl<'d> Section<'d, '_> {
    /// A variable's name.
    pub fn variable(&self, key: &str) -> String {
        variable(self.prefix, key)
    }

    /// What is said for a key.
    pub fn get(&self, key: &str, mistakes: &mut Mistakes) -> Option<Source<'d>> {
        self.in_environment(key, mistakes)
            .or_else(|| self.in_file(key))
    }

    /// As [`Section::get`], for a secret that may stand in a file of its own.
    pub fn get_or_file(&self, key: &str, mistakes: &mut Mistakes) -> Given<'d> {
        let file_key = format!("{key}_file");
        let of_environment = (
            self.in_environment(key, mistakes),
            self.in_environment(&file_key, mistakes),
        );
        let found = match of_environment {
            (None, None) => (self.in_file(key), self.in_file(&file_key)),
            some => some,
        };
        match found {
            (None, None) => Given::Nowhere,
            (Some(here), None) => Given::Here(here),
            (None, Some(file)) => Given::InFile(file),
            (Some(here), Some(file)) => {
                file.wrong(mistakes, format!("and {here} are both set: set one"));
                Given::Twice
            }
        }
    }

    fn in_file(&self, key: &str) -> Option<Source<'d>> {
        self.at.as_ref()?.get(key).map(Source::File)
    }

    fn in_environment(&self, key: &str, mistakes: &mut Mistakes) -> Option<Source<'d>> {
        let name = self.variable(key);
        match (self.environment)(&name)? {
            Ok(text) if text.trim().is_empty() => {
                mistakes.add_elsewhere(&name, "is set, but empty: unset it, or give it a value");
                None
            }
            Ok(text) => Some(Source::Environment(name, text)),
            Err(_) => {
                mistakes.add_elsewhere(&name, "is not UTF-8");
                None
            }
        }
    }
}
