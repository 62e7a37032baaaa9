//! Finds a setting of the sections `amqp`, `http` and `http.tls`: in its environment variable, else in the file, and for a secret
//! in the file that either of them names.
//!
//! The variable of `amqp.exchange` is `CPS_AMQP_EXCHANGE`, that of `http.listen` is `PROMETHEUS_LISTEN`. What a value means is up
//! to `settings`.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::diagnostics::{Diagnostics, Place, unknown_key};
use super::environment::Environment;
use crate::placeholder;
use crate::suggest::did_you_mean;
use yamldoc::{Node, NodeRef};

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

/// How many values a setting has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// One.
    One,
    /// One text, or a list in the file.
    List,
    /// Texts separated by white space, or a list in the file.
    Words,
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

    /// Whether the file has the section, or the environment one of its keys.
    pub fn is_present(&self) -> bool {
        let in_environment = |key: &&str| !matches!(self.variable(key), Ok(None));
        self.node.is_some() || self.keys.keys.iter().any(in_environment)
    }

    /// The place of a key, or of the section where neither the file nor the environment has the key.
    pub fn place(&self, key: &str) -> Place {
        if !matches!(self.variable(key), Ok(None)) {
            return Place::variable(self.keys.variable(key));
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
        let setting = self.texts(key, Form::One)?.pop()?;
        let value = parse(&setting.text);
        if value.is_none() {
            let message = format!("must be {requirement}");
            self.diagnostics.error(setting.place, message);
        }
        value
    }

    /// The texts of a setting: those of its variable, else those of the file, or of the file whose path is the key with the
    /// suffix `_file`. `None` where it is not set; a text that is reported is left out.
    pub fn texts(&mut self, key: &str, form: Form) -> Option<Vec<Setting>> {
        let file_key = format!("{key}_file");
        let file_key = Some(&*file_key).filter(|key| self.keys.keys.contains(key));
        let mut found = (
            self.in_environment(key),
            file_key.and_then(|key| self.in_environment(key)),
        );
        if let (None, None) = found {
            found = (
                self.in_file(key, form),
                file_key.and_then(|key| self.in_file(key, Form::One)),
            );
        }
        let texts = match found {
            (None, None) => return None,
            (Some(texts), None) => texts,
            (None, Some(paths)) => {
                let contents = paths.into_iter().filter_map(|path| self.contents(path));
                contents.collect()
            }
            (Some(_), Some(_)) => {
                let (place, file) = (self.place(key), self.place(file_key.unwrap_or_default()));
                let message = format!("is set together with {}; set only one of them", place.name);
                self.diagnostics.error(file, message);
                Vec::new()
            }
        };
        let mut settings = Vec::new();
        for setting in texts {
            // A token may contain anything; its checks are elsewhere.
            if form != Form::List {
                self.warn_of_placeholder(&setting);
            }
            match form {
                Form::Words => settings.extend(self.words(&setting)),
                Form::One | Form::List => settings.push(setting),
            }
        }
        Some(settings)
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

    /// The words of a text. A comma or a semicolon between two of them would be part of one.
    fn words(&mut self, setting: &Setting) -> Vec<Setting> {
        let mut words = Vec::new();
        for word in setting.text.split_whitespace() {
            let mut parts = word.split([',', ';']);
            let first = parts.next().unwrap_or_default();
            if first.is_empty() || parts.any(|part| part.is_empty() || part.contains("://")) {
                let message = "has a comma or a semicolon between values; separate them with white space, or write a YAML list";
                self.diagnostics.error(setting.place.clone(), message);
                return Vec::new();
            }
            words.push(Setting {
                place: setting.place.clone(),
                text: word.to_owned(),
            });
        }
        words
    }

    fn variable(&self, key: &str) -> Result<Option<&'e str>, &'static str> {
        self.environment.get(&self.keys.variable(key))
    }

    fn in_environment(&mut self, key: &str) -> Option<Vec<Setting>> {
        let place = Place::variable(self.keys.variable(key));
        match self.variable(key) {
            Ok(text) => Some(Vec::from_iter(self.setting(place, text?))),
            Err(message) => {
                self.diagnostics.error(place, message);
                Some(Vec::new())
            }
        }
    }

    fn in_file(&mut self, key: &str, form: Form) -> Option<Vec<Setting>> {
        let node = self.node.as_ref()?.get(key)?;
        let nodes = match node.node {
            Node::List(items) if form != Form::One && !items.is_empty() => node.items(),
            Node::Scalar(..) | Node::List(_) | Node::Map(_) => vec![node],
        };
        let requirement = match form {
            Form::One => "must be one value, neither a list nor a mapping",
            Form::List | Form::Words => "must be a string or a list of strings",
        };
        let mut settings = Vec::new();
        for node in nodes {
            match node.text() {
                Some(text) => settings.extend(self.setting((&node).into(), text)),
                None => self.diagnostics.error(&node, requirement),
            }
        }
        Some(settings)
    }

    /// The text of the file whose path is the setting.
    fn contents(&mut self, setting: Setting) -> Option<Setting> {
        self.warn_of_placeholder(&setting);
        let Setting { place, text: path } = setting;
        match read_file(Path::new(&path), MAX_SECRET_FILE_BYTES) {
            Ok(text) if trim(&text).is_empty() => {
                self.diagnostics.error(place, "the file is empty");
                None
            }
            Ok(text) => self.setting(place, &text),
            Err(error) => {
                let file = if may_be_secret(&path) {
                    "the file (path not shown; it may be a secret)"
                } else {
                    &path
                };
                let message = format!("cannot read {file}: {error}");
                self.diagnostics.error(place, message);
                None
            }
        }
    }

    fn setting(&mut self, place: Place, text: &str) -> Option<Setting> {
        let text = trim(text).to_owned();
        if text.is_empty() {
            self.diagnostics.error(place, "must not be empty");
            return None;
        }
        Some(Setting { place, text })
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
    String::from_utf8(bytes).map_err(|error| {
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
