//! The configuration: reads the file, the environment and the command line, checks all of it, and compiles it into the settings
//! of the other modules, which do not know this one.
//!
//! An invalid configuration is rejected as a whole. The error lists everything that is wrong, then the warnings, each with its key's path and line
//! or its variable, and never shows a secret.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

mod diagnostics;
mod environment;
mod event;
mod rules;
mod settings;
mod source;

pub use diagnostics::{Diagnostic, Origin, Place};
pub use environment::{Environment, LOG_FORMAT, LOG_LEVEL};
pub use event::KEYS as EVENT_KEYS;
pub use settings::{AMQP, HTTP, TLS};
pub use source::SectionKeys;
pub use yamldoc::{MAX_FILE_BYTES, Position, SyntaxError};

use crate::mapping::Mapping;
use crate::suggest::did_you_mean;
use crate::text::visible;
use crate::{http, publisher};
use diagnostics::{Diagnostics, listed, mapping_hint, unknown_key};
use rules::MappingReader;
use yamldoc::{Document, Node};

/// The configuration file of an RPM installation.
pub const DEFAULT_PATH: &str = "/etc/canopsis-connectors/prometheus/config.yml";

/// The options that override the file.
#[derive(Debug, Default, Clone)]
pub struct Overrides {
    /// `--host`
    pub host: Option<String>,
    /// `--port`
    pub port: Option<u16>,
}

/// A valid configuration.
#[derive(Debug)]
pub struct Config {
    /// The broker, and how to reach it.
    pub publisher: publisher::BrokerSettings,
    /// The HTTP server.
    pub http: http::ServerSettings,
    /// How alerts are mapped to events.
    pub mapping: Mapping,
    /// What is valid and probably not intended, with its place.
    pub warnings: Vec<String>,
}

/// Why a configuration is rejected.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The file is not valid YAML.
    #[error("{}: {}invalid YAML: {}", path.display(), error.position.map_or_else(String::new, |position| format!("{position}: ")), error.message)]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What the parser reports, without the text of the file.
        error: SyntaxError,
    },
    /// Settings are missing or invalid.
    #[error("{}", list(path, errors, warnings))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Every error, by line.
        errors: Vec<Diagnostic>,
        /// Every warning, by line.
        warnings: Vec<String>,
    },
}

/// The errors, then the warnings, below a line that names where the errors are: the file, the environment, or both.
fn list(path: &Path, errors: &[Diagnostic], warnings: &[String]) -> String {
    let in_environment = |error: &&Diagnostic| error.place.origin == Origin::Environment;
    let origin = match errors.iter().filter(in_environment).count() {
        0 => path.display().to_string(),
        all if all == errors.len() => "environment".to_owned(),
        _ => format!("{} and environment", path.display()),
    };
    let noun = if errors.len() == 1 { "error" } else { "errors" };
    let count = errors.len();
    let mut lines = vec![format!("{origin}: {count} {noun}; configuration rejected")];
    lines.extend(listed(errors));
    lines.extend(warnings.iter().map(|warning| format!("warning: {warning}")));
    lines.join("\n  ")
}

impl Config {
    /// Reads and checks a file, with the environment and the options that override it.
    pub fn load(
        path: &Path,
        overrides: &Overrides,
        environment: &Environment,
    ) -> Result<Self, ConfigError> {
        let text = source::read_file(path, MAX_FILE_BYTES).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::from_text(&text, path, overrides, environment)
    }

    /// Like [`Config::load`], with the text of the file. `path` is for messages.
    pub fn from_text(
        text: &str,
        path: &Path,
        overrides: &Overrides,
        environment: &Environment,
    ) -> Result<Self, ConfigError> {
        let document = Document::parse(text).map_err(|error| ConfigError::Syntax {
            path: path.to_owned(),
            error,
        })?;
        let root = document.root();
        let known = [&["amqp", "http"], event::KEYS].concat();
        let mut diagnostics = Diagnostics::default();
        let invalid = |(errors, warnings)| ConfigError::Invalid {
            path: path.to_owned(),
            errors,
            warnings,
        };
        if !matches!(root.node, Node::Map(_)) {
            let hint = mapping_hint(&root, &known);
            let message = format!("the file must be a YAML mapping (KEY: value){hint}");
            diagnostics.error(&root, message);
            return Err(invalid(diagnostics.into_parts()));
        }
        for duplicate in root.duplicates() {
            let message = format!("duplicate key{}", rules::duplicate_hint(&duplicate));
            diagnostics.error(&duplicate, message);
        }
        diagnostics.check_keys(&root, &known, |key| unknown_root_key(key, &known));
        for (name, meant) in environment.misspelt() {
            let message = format!("is not read; did you mean {meant}?");
            diagnostics.warn(Place::new(name, Origin::Environment), message);
        }
        let publisher = settings::read_amqp(&root, environment, &mut diagnostics);
        let http = settings::read_http(&root, environment, overrides, &mut diagnostics);
        let mapping = MappingReader::new(&root, &mut diagnostics).mapping();
        let (errors, warnings) = diagnostics.into_parts();
        match mapping {
            Some(mapping) if errors.is_empty() => Ok(Self {
                publisher,
                http,
                mapping,
                warnings,
            }),
            _ => Err(invalid((errors, warnings))),
        }
    }
}

fn unknown_root_key(key: &str, known: &[&str]) -> String {
    match key {
        "event_type" => "cannot be set; it is always check".to_owned(),
        "source_type" => "cannot be set; it is always resource".to_owned(),
        _ => unknown_key(key, |seen| match settings::section_of(seen) {
            Some(full_key) => format!("; did you mean \"{full_key}\"?"),
            None => did_you_mean(seen, known.iter().copied()),
        }),
    }
}

impl fmt::Display for Config {
    /// The summary that `--check` prints, without secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let urls = self.publisher.urls.iter().map(ToString::to_string);
        let urls: Vec<String> = urls.collect();
        writeln!(f, "broker:       {}", urls.join(", "))?;
        writeln!(f, "exchange:     {}", visible(&self.publisher.exchange))?;
        writeln!(f, "listen:       {}", self.http.listen)?;
        writeln!(f, "tls:          {}", self.http.tls_summary())?;
        writeln!(f, "tokens:       {} (not shown)", self.http.tokens.len())?;
        writeln!(f, "body limit:   {} bytes", self.http.max_body_bytes)?;
        writeln!(f, "connections:  {}", self.http.max_connections)?;
        writeln!(f, "timeout:      {:?}", self.http.answer_timeout)?;
        let connector = visible(self.mapping.connector.as_str());
        writeln!(f, "connector:    {connector}")?;
        let infos = self.mapping.extra_infos.iter();
        let names: Vec<_> = infos.map(|(name, _)| visible(name.as_str())).collect();
        match names.join(", ").as_str() {
            "" => write!(f, "extra infos:  none"),
            names => write!(f, "extra infos:  {names}"),
        }
    }
}

#[cfg(test)]
mod tests;
