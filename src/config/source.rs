//! Finds a setting of the sections `amqp`, `http` and `http.tls`: in its environment variable, else in the file, and for a secret
//! in the file that either of them names.
//!
//! The variable of `amqp.exchange` is `CPS_AMQP_EXCHANGE`, that of `http.listen` is `PROMETHEUS_LISTEN`. What a value means is up
//! to `settings`.

use std::io;
use std::path::{Path, PathBuf};

use super::diagnostics::{Diagnostics, Origin, Place, unknown_key};
use super::environment::Environment;
use crate::suggest::did_you_mean;
use crate::{files, placeholder};
use yamldoc::NodeRef;

/// The maximal length of a file with a secret.
const MAX_SECRET_FILE_BYTES: usize = 64 << 10;

/// The name of a section, and of its variables.
#[derive(Debug)]
pub struct SectionKeys {
    /// The path of the section.
    pub path: &'static str,
    /// The prefix of the variables' names.
    pub prefix: &'static str,
    /// Every key.
    pub keys: &'static [&'static str],
}

impl SectionKeys {
    /// The name of a key's variable.
    pub fn variable(&self, key: &str) -> String {
        format!("{}{}", self.prefix, key.to_uppercase())
    }
}

/// How many values a setting may have in the file.
#[derive(Debug, Clone, Copy)]
enum Form {
    /// One.
    One,
    /// One text or a list.
    List,
}

/// The text of a setting, and where it is written.
#[derive(Debug)]
pub struct Setting {
    /// The key or the variable.
    pub place: Place,
    /// Without white space around it, and never empty.
    pub text: String,
}

/// A section of the file and its variables.
pub struct Section<'d, 'e> {
    keys: &'static SectionKeys,
    /// The section; `None` where the file lacks it.
    node: Option<NodeRef<'d>>,
    environment: &'e Environment,
    pub diagnostics: &'e mut Diagnostics,
}

impl<'d, 'e> Section<'d, 'e> {
    /// Checks the keys of a section.
    pub fn new(
        keys: &'static SectionKeys,
        node: Option<NodeRef<'d>>,
        environment: &'e Environment,
        diagnostics: &'e mut Diagnostics,
    ) -> Self {
        if let Some(node) = &node {
            let hint = |seen: &str| did_you_mean(seen, keys.keys.iter().copied());
            diagnostics.check_keys(node, keys.keys, |key| unknown_key(key, hint));
        }
        Self {
            keys,
            node,
            environment,
            diagnostics,
        }
    }

    /// Whether the environment has one of the keys.
    pub fn has_variables(&self) -> bool {
        self.keys.keys.iter().any(|key| self.has_variable(key))
    }

    /// The place of a key, or of the section where neither the file nor the environment has the key.
    pub fn place(&self, key: &str) -> Place {
        if self.has_variable(key) {
            return Place::new(self.keys.variable(key), Origin::Environment);
        }
        let node = self.node.as_ref().and_then(|node| node.get(key));
        node.map_or_else(|| Place::missing(self.keys.path), |node| (&node).into())
    }

    /// The setting of a key as a value; one without a value is reported with what it must be.
    pub fn value<T>(
        &mut self,
        key: &str,
        parse: impl FnOnce(&str) -> Option<T>,
        requirement: &str,
    ) -> Option<T> {
        let in_environment = self.has_variable(key);
        let setting = self.read(key, Form::One, in_environment)?.pop()?;
        self.warn_of_placeholder(&setting);
        let value = parse(&setting.text);
        if value.is_none() {
            let message = format!("must be {requirement}");
            self.diagnostics.error(setting.place, message);
        }
        value
    }

    /// The texts of a setting that may be a list, or in a file: those of its variable, else those of its key; or that of the file whose
    /// path is in the variable or the key with the suffix `_file`. `None` where it is not set; a text that is reported is left out.
    pub fn texts(&mut self, key: &str) -> Option<Vec<Setting>> {
        let file_key = format!("{key}_file");
        // A variable takes the place of both keys.
        let in_environment = self.has_variable(key) || self.has_variable(&file_key);
        let texts = self.read(key, Form::List, in_environment);
        let Some(paths) = self.read(&file_key, Form::One, in_environment) else {
            return texts;
        };
        if texts.is_some() {
            let (place, file) = (self.place(key), self.place(&file_key));
            let message = format!("is set together with {}; set only one of them", place.name);
            self.diagnostics.error(file, message);
            return Some(Vec::new());
        }
        let contents = paths.into_iter().filter_map(|path| self.contents(path));
        Some(contents.collect())
    }

    /// Warns of a placeholder in the text of a setting.
    pub fn warn_of_placeholder(&mut self, setting: &Setting) {
        if let Some(found) = placeholder::find(&setting.text) {
            let message = format!(
                "contains a placeholder ({found}), which is used as it is written: nothing is expanded here; write the value itself"
            );
            self.diagnostics.warn(setting.place.clone(), message);
        }
    }

    fn variable(&self, key: &str) -> Option<Result<&'e str, &'static str>> {
        self.environment.get(&self.keys.variable(key))
    }

    fn has_variable(&self, key: &str) -> bool {
        self.variable(key).is_some()
    }

    /// The texts of one key, in its variable or in the file.
    fn read(&mut self, key: &str, form: Form, in_environment: bool) -> Option<Vec<Setting>> {
        let found: Vec<(Place, Result<&str, &str>)> = if in_environment {
            vec![(self.place(key), self.variable(key)?)]
        } else {
            let node = self.node.as_ref()?.get(key)?;
            let (mut nodes, requirement) = match form {
                Form::One => (
                    Vec::new(),
                    "must be one value, neither a list nor a mapping",
                ),
                Form::List => (node.items(), "must be a string or a list of strings"),
            };
            if nodes.is_empty() {
                nodes.push(node);
            }
            let text = |node: NodeRef<'d>| (Place::from(&node), node.text().ok_or(requirement));
            nodes.into_iter().map(text).collect()
        };
        let mut settings = Vec::new();
        for (place, text) in found {
            match text.map(trim) {
                Ok("") => self.diagnostics.error(place, "must not be empty"),
                Ok(text) => settings.push(Setting {
                    place,
                    text: text.to_owned(),
                }),
                Err(message) => self.diagnostics.error(place, message),
            }
        }
        Some(settings)
    }

    /// The text of the file whose path is the setting.
    fn contents(&mut self, setting: Setting) -> Option<Setting> {
        self.warn_of_placeholder(&setting);
        let Setting { place, text: path } = setting;
        let message = match read_file(Path::new(&path), MAX_SECRET_FILE_BYTES) {
            Ok(text) if trim(&text).is_empty() => "the file is empty".to_owned(),
            Ok(text) => {
                let text = trim(&text).to_owned();
                return Some(Setting { place, text });
            }
            Err(error) if may_be_secret(&path) => {
                format!("cannot read the file (path not shown; it may be a secret): {error}")
            }
            Err(error) => format!("cannot read {path}: {error}"),
        };
        self.diagnostics.error(place, message);
        None
    }
}

/// The text without what editors and YAML put around it: white space, line ends, a byte order mark.
pub fn trim(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || c == '\u{feff}')
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

/// Reads a text file up to a maximal length.
pub fn read_file(path: &Path, max_bytes: usize) -> io::Result<String> {
    String::from_utf8(files::read(path, max_bytes)?).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..valid]
            .split(|byte| *byte == b'\n')
            .count();
        let encoding = match error.as_bytes() {
            [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => "UTF-16",
            _ => "perhaps Latin-1",
        };
        let message = format!("line {line} is not UTF-8 ({encoding}); save the file as UTF-8");
        io::Error::new(io::ErrorKind::InvalidData, message)
    })
}
