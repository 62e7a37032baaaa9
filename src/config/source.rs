//! Finds a setting of the sections `amqp` and `http`: in its environment variable, else in the file.
//!
//! The variable of `amqp.exchange` is `CPS_AMQP_EXCHANGE`, that of `http.listen` is `PROMETHEUS_LISTEN`. What a value means is up
//! to `settings`.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::Environment;
use super::diagnostics::{Diagnostics, Place};
use yamldoc::{Node, NodeRef};

/// The maximal length of a file with a secret.
const MAX_SECRET_FILE_BYTES: usize = 64 << 10;

/// A setting, with the place it comes from.
pub enum Setting<'d> {
    File(NodeRef<'d>),
    /// The name and the value of the variable.
    Environment(String, String),
}

impl From<&Setting<'_>> for Place {
    fn from(setting: &Setting<'_>) -> Self {
        match setting {
            Setting::File(node) => node.into(),
            Setting::Environment(name, _) => Self::Variable(name.clone()),
        }
    }
}

impl Setting<'_> {
    /// The key's path, or the name of the variable.
    pub fn name(&self) -> &str {
        match self {
            Self::File(node) => &node.path,
            Self::Environment(name, _) => name,
        }
    }

    /// The value as text without white space around it; `None` for an empty text, a list or a mapping.
    pub fn text(&self) -> Option<&str> {
        let text = match self {
            Self::File(node) => node.text()?.trim(),
            Self::Environment(_, text) => text.trim(),
        };
        (!text.is_empty()).then_some(text)
    }

    /// The value as a non-negative integer.
    pub fn number(&self) -> Option<usize> {
        match self {
            Self::File(NodeRef {
                node: Node::Scalar(Value::Number(number), _),
                ..
            }) => usize::try_from(number.as_u64()?).ok(),
            Self::File(_) => None,
            Self::Environment(..) => self.text()?.parse().ok(),
        }
    }
}

/// Where a secret comes from.
pub enum SecretSource<'d> {
    Missing,
    Inline(Setting<'d>),
    /// In the file whose path this is.
    File(Setting<'d>),
    /// Both inline and in a file, which has been reported.
    Conflict,
}

/// A section of the file and its variables.
pub struct Section<'d, 'e> {
    /// The prefix of the variables' names.
    prefix: &'static str,
    /// The section; `None` where the file lacks it.
    node: Option<NodeRef<'d>>,
    environment: Environment<'e>,
    pub diagnostics: &'e mut Diagnostics,
}

impl<'d, 'e> Section<'d, 'e> {
    /// Finds a section within another one, and checks its keys.
    pub fn find(
        parent: Option<&NodeRef<'d>>,
        (name, prefix, keys): (&str, &'static str, &[&str]),
        environment: Environment<'e>,
        diagnostics: &'e mut Diagnostics,
    ) -> Self {
        let node = parent.and_then(|parent| parent.get(name));
        if let Some(node) = &node {
            diagnostics.check_keys(node, keys);
        }
        Self {
            prefix,
            node,
            environment,
            diagnostics,
        }
    }

    /// Whether the file has the section, or the environment one of these keys.
    pub fn is_present(&self, keys: &[&str]) -> bool {
        let in_environment = |key: &&str| (self.environment)(&self.variable(key)).is_some();
        self.node.is_some() || keys.iter().any(in_environment)
    }

    /// The place of a key that is needed, or of the section where neither the file nor the environment has the key.
    pub fn place(&mut self, key: &str, section: &str) -> Place {
        self.get(key)
            .map_or_else(|| Place::missing(section), |setting| Place::from(&setting))
    }

    /// Adds an error about a setting.
    pub fn error(&mut self, setting: &Setting<'_>, message: impl Into<String>) {
        self.diagnostics.error(setting, message);
    }

    /// The name of a key's variable.
    pub fn variable(&self, key: &str) -> String {
        format!("{}{}", self.prefix, key.to_uppercase())
    }

    /// The setting of a key.
    pub fn get(&mut self, key: &str) -> Option<Setting<'d>> {
        self.in_environment(key).or_else(|| self.in_file(key))
    }

    /// The setting of a key as a value; one without a value is reported with what it must be.
    pub fn value<T>(
        &mut self,
        key: &str,
        parse: impl FnOnce(&Setting<'_>) -> Option<T>,
        requirement: &str,
    ) -> Option<T> {
        let setting = self.get(key)?;
        let value = parse(&setting);
        if value.is_none() {
            self.error(&setting, format!("must be {requirement}"));
        }
        value
    }

    /// The source of a secret: the key, or the key with the suffix `_file`.
    pub fn secret(&mut self, key: &str) -> SecretSource<'d> {
        let file_key = format!("{key}_file");
        let found = match (self.in_environment(key), self.in_environment(&file_key)) {
            (None, None) => (self.in_file(key), self.in_file(&file_key)),
            found => found,
        };
        match found {
            (None, None) => SecretSource::Missing,
            (Some(inline), None) => SecretSource::Inline(inline),
            (None, Some(file)) => SecretSource::File(file),
            (Some(inline), Some(file)) => {
                let other = inline.name();
                let message = format!("is set together with {other}; set only one of them");
                self.error(&file, message);
                SecretSource::Conflict
            }
        }
    }

    /// The texts of a setting that may be a list in the file, each with its place, as they are written.
    pub fn texts(&mut self, setting: Setting<'d>) -> Vec<(Setting<'d>, String)> {
        let nodes = match setting {
            Setting::Environment(_, ref text) => {
                let text = text.clone();
                return vec![(setting, text)];
            }
            Setting::File(node) if matches!(node.node, Node::List(_)) => {
                if node.items().is_empty() {
                    self.diagnostics.error(&node, "must not be an empty list");
                }
                node.items()
            }
            Setting::File(node) => vec![node],
        };
        let mut texts = Vec::new();
        for node in nodes {
            match node.text() {
                Some(text) => texts.push((Setting::File(node), text.to_owned())),
                None => self.diagnostics.error(&node, "must be a string"),
            }
        }
        texts
    }

    /// The contents of the file whose path is the setting.
    pub fn contents(&mut self, setting: &Setting<'_>) -> Option<String> {
        let Some(path) = setting.text() else {
            self.error(setting, "must be a path");
            return None;
        };
        read_file(Path::new(path), MAX_SECRET_FILE_BYTES)
            .map_err(|error| {
                let file = if may_be_secret(path) {
                    "the file (path not shown; it may be a secret)"
                } else {
                    path
                };
                self.error(setting, format!("cannot read {file}: {error}"));
            })
            .ok()
    }

    fn in_file(&self, key: &str) -> Option<Setting<'d>> {
        self.node.as_ref()?.get(key).map(Setting::File)
    }

    fn in_environment(&mut self, key: &str) -> Option<Setting<'d>> {
        let name = self.variable(key);
        let message = match (self.environment)(&name)? {
            Ok(text) if text.trim().is_empty() => "is set but empty; unset it or give it a value",
            Ok(text) => return Some(Setting::Environment(name, text)),
            Err(_) => "is not UTF-8",
        };
        self.diagnostics.error(Place::Variable(name), message);
        None
    }
}

/// Whether what is set as the path of a file with a secret may be the secret itself. It is not where it looks like a path in an
/// existing directory, such as `/etc`.
fn may_be_secret(path: &str) -> bool {
    let is_odd = |character: char| character.is_whitespace() || character.is_control();
    if path.contains(['@', '%']) || path.contains("..") || path.contains(is_odd) {
        return true;
    }
    let first_directory: PathBuf = Path::new(path).components().take(2).collect();
    !(path.starts_with('/') && first_directory.is_dir())
}

/// Reads a text file up to a maximal length: a path may lead to a device that has no end.
pub fn read_file(path: &Path, max_bytes: usize) -> io::Result<String> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(max_bytes).unwrap_or(u64::MAX);
    File::open(path)?
        .take(limit.saturating_add(1))
        .read_to_end(&mut bytes)?;
    if bytes.len() > max_bytes {
        let message = format!("longer than {max_bytes} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    String::from_utf8(bytes)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.utf8_error()))
}
