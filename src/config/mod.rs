//! The configuration: read, checked whole, and compiled once into the values that the other rooms work with.
//!
//! Knows every room's settings; no room knows it. A faulty configuration is refused as a whole, with every error listed
//! at once, by its key's path and line, and without ever showing a secret.

use std::ffi::OsString;
use std::fmt::{self, Write as _};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

mod diagnostics;
mod document;
mod rules;
mod settings;
mod source;

pub use diagnostics::Diagnostic;
pub use rules::KEYS as EVENT_KEYS;
pub use settings::{AMQP_KEYS, AMQP_PREFIX, DEFAULT_TOKEN, HTTP_KEYS, HTTP_PREFIX};

use crate::mapping::Mapping;
use crate::{http, publisher};
use diagnostics::{Diagnostics, hint};
use document::{Document, Node, NodeRef};

/// Where an RPM installation has its configuration.
pub const DEFAULT_PATH: &str = "/etc/canopsis-connectors/prometheus/config.yml";

/// Looks an environment variable up; `Err` where it is not UTF-8.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<Result<String, OsString>>;

/// What the command line says over the file.
#[derive(Debug, Default, Clone)]
pub struct Overrides {
    /// `--host`
    pub host: Option<String>,
    /// `--port`
    pub port: Option<u16>,
}

/// A configuration that holds no error.
#[derive(Debug)]
pub struct Config {
    /// The broker's side.
    pub publisher: publisher::Settings,
    /// The sender's side.
    pub http: http::Settings,
    /// The rules.
    pub mapping: Mapping,
    /// What is allowed and probably not meant.
    pub warnings: Vec<Diagnostic>,
}

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("can't read the configuration {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file is not YAML.
    #[error("{}: {}not valid YAML: {message}", path.display(), line.map_or_else(String::new, |line| format!("line {line}: ")))]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: Option<usize>,
        /// What the parser says.
        message: String,
    },
    /// The file is YAML, and says wrong things.
    #[error("{}", list(path, diagnostics))]
    Diagnostics {
        /// The file.
        path: PathBuf,
        /// All of them, by line.
        diagnostics: Vec<Diagnostic>,
    },
}

fn list(path: &Path, diagnostics: &[Diagnostic]) -> String {
    let many = if diagnostics.len() == 1 {
        "error"
    } else {
        "errors"
    };
    let mut text = format!(
        "{}: {} {many}; configuration rejected",
        path.display(),
        diagnostics.len()
    );
    for diagnostic in diagnostics {
        let _ = write!(text, "\n  {diagnostic}");
    }
    text
}

impl Config {
    /// Reads and checks a file, the environment and the command line's share.
    pub fn load(
        path: &Path,
        overrides: &Overrides,
        environment: Environment<'_>,
    ) -> Result<Self, ConfigError> {
        let text = fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::from_text(text, path, overrides, environment)
    }

    /// As [`Config::load`], of a file that has been read; `path` is for messages.
    pub fn from_text(
        text: String,
        path: &Path,
        overrides: &Overrides,
        environment: Environment<'_>,
    ) -> Result<Self, ConfigError> {
        let document = Document::parse(text).map_err(|error| ConfigError::Syntax {
            path: path.to_owned(),
            line: error.line,
            message: error.message,
        })?;
        let root = document.root();
        let mut diagnostics = Diagnostics::default();
        check_root(&root, &mut diagnostics);
        let publisher = settings::amqp(&root, environment, &mut diagnostics);
        let http = settings::http(&root, environment, overrides, &mut diagnostics);
        let mapping = rules::mapping(&root, &mut diagnostics);
        let (diagnostics, warnings) = diagnostics.into_parts();
        match mapping {
            Some(mapping) if diagnostics.is_empty() => Ok(Self {
                publisher,
                http,
                mapping,
                warnings,
            }),
            _ => Err(ConfigError::Diagnostics {
                path: path.to_owned(),
                diagnostics,
            }),
        }
    }
}

fn check_root(root: &NodeRef<'_>, diagnostics: &mut Diagnostics) {
    if !matches!(root.node, Node::Map(_)) {
        diagnostics.add(
            root,
            "the file must hold keys at its top level (a YAML mapping)",
        );
        return;
    }
    let known: Vec<&str> = ["amqp", "http"]
        .iter()
        .chain(rules::KEYS)
        .copied()
        .collect();
    for (key, value) in root.entries() {
        if known.contains(&key) {
            continue;
        }
        if key == "event_type" || key == "source_type" {
            let constant = if key == "event_type" {
                "check"
            } else {
                "resource"
            };
            diagnostics.add(&value, format!("can't be set: it is always {constant}"));
        } else if let Some(place) = settings::section_of(key) {
            diagnostics.add(&value, format!("unknown key; did you mean \"{place}\"?"));
        } else {
            diagnostics.add(&value, format!("unknown key{}", hint(key, &known)));
        }
    }
    diagnostics.check_duplicates(root);
}

impl fmt::Display for Config {
    /// The summary that `--check` prints: without secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let urls: Vec<String> = self
            .publisher
            .urls
            .iter()
            .map(ToString::to_string)
            .collect();
        writeln!(f, "broker:       {}", urls.join(", "))?;
        writeln!(f, "exchange:     {}", self.publisher.exchange)?;
        writeln!(f, "listen:       {}", self.http.listen)?;
        writeln!(f, "tokens:       {} (not shown)", self.http.tokens.len())?;
        writeln!(f, "body limit:   {} bytes", self.http.max_body_bytes)?;
        writeln!(f, "connections:  {} at most", self.http.max_connections)?;
        writeln!(f, "answer after: {:?} at most", self.http.answer_timeout)?;
        writeln!(f, "connector:    {}", self.mapping.connector.as_str())?;
        let names: Vec<&str> = self
            .mapping
            .extra_infos
            .iter()
            .map(|(name, _)| name.as_str())
            .collect();
        write!(
            f,
            "extra infos:  {}",
            if names.is_empty() {
                "none".to_owned()
            } else {
                names.join(", ")
            }
        )
    }
}

#[cfg(test)]
mod tests;
