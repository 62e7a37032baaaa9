//! Go's regular expressions on the `regex` crate: compiling, matching, replacing, and a cache.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, LazyLock};

use gotmpl::Value;
use parking_lot::Mutex;
use regex::{Captures, Regex, RegexBuilder};

mod syntax;

/// Why a pattern does not compile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RegexpError(String);

/// A pattern may take this much memory when compiled, in bytes.
const MAX_COMPILED_BYTES: usize = 1 << 20;

/// The number of patterns computed by templates that are kept compiled. One more, and all are dropped: a label's value used as a
/// pattern must not fill the memory.
const MAX_CACHED_PATTERNS: usize = 256;

/// A compiled pattern with Go's meaning, and the names of its groups.
#[derive(Debug)]
pub struct Regexp {
    regex: Regex,
    /// The named groups, by number.
    names: Vec<(usize, Arc<str>)>,
}

impl Regexp {
    /// Compiles a pattern.
    pub fn new(pattern: &str) -> Result<Self, RegexpError> {
        let regex = RegexBuilder::new(&syntax::translate(pattern)?)
            .size_limit(MAX_COMPILED_BYTES)
            .build()
            .map_err(|error| match error {
                regex::Error::CompiledTooBig(limit) => {
                    RegexpError(format!("larger than {limit} bytes when compiled"))
                }
                error => {
                    let text = error.to_string();
                    let last = text.lines().last().unwrap_or("does not compile");
                    RegexpError(last.trim().trim_start_matches("error: ").to_owned())
                }
            })?;
        let names = (0..)
            .zip(regex.capture_names())
            .filter_map(|(number, name)| Some((number, Arc::from(name?))))
            .collect();
        Ok(Self { regex, names })
    }

    /// The names of its groups, in their order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(|(_, name)| &**name)
    }

    /// Whether it matches anywhere in a text.
    pub fn is_match(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }

    /// The named groups of the first match; a group without a match is the empty string.
    pub fn groups(&self, text: &str) -> Option<Value> {
        let captures = self.regex.captures(text)?;
        let mut groups = BTreeMap::new();
        for (number, name) in &self.names {
            let text = captures.get(*number).map_or("", |group| group.as_str());
            groups.insert(Arc::clone(name), Value::from(text));
        }
        Some(Value::Map(Arc::new(groups)))
    }

    /// Go's `ReplaceAllString`: each match becomes `new`, where `$1`, `$name`, `${1}` and `${name}` are groups and `$$` is `$`.
    pub fn replace_all(&self, text: &str, new: &str) -> String {
        let expanded = |captures: &Captures<'_>| expand(new, captures);
        self.regex.replace_all(text, expanded).into_owned()
    }
}

/// A pattern that a template computes: compiled once, and shared, as a clone would start with cold caches. `None` if it does not
/// compile.
pub(crate) fn cached(pattern: &str) -> Option<Arc<Regexp>> {
    type Cache = HashMap<String, Option<Arc<Regexp>>>;
    static CACHE: LazyLock<Mutex<Cache>> = LazyLock::new(Mutex::default);
    if let Some(known) = CACHE.lock().get(pattern) {
        return known.clone();
    }
    // Compiling takes milliseconds, in which other threads may use the cache.
    let compiled = Regexp::new(pattern).ok().map(Arc::new);
    let mut cache = CACHE.lock();
    if cache.len() >= MAX_CACHED_PATTERNS {
        cache.clear();
    }
    cache.insert(pattern.to_owned(), compiled.clone());
    compiled
}

/// The `regex` crate's expansion delimits names differently: `$1é` is the group `1é` in Go.
fn expand(template: &str, captures: &Captures<'_>) -> String {
    let mut out = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            out.push('$');
            rest = after;
            continue;
        }
        let braced = after.strip_prefix('{');
        let from = braced.unwrap_or(after);
        let length = from
            .find(|c: char| c != '_' && !c.is_alphanumeric())
            .unwrap_or(from.len());
        let (name, behind) = from.split_at(length);
        let behind = if braced.is_some() {
            behind.strip_prefix('}')
        } else {
            Some(behind)
        };
        let Some(behind) = behind.filter(|_| !name.is_empty()) else {
            // What names no group stays as it is.
            out.push('$');
            rest = after;
            continue;
        };
        let group = match name.parse::<usize>() {
            // With a zero in front it is a name, which no group has.
            Ok(number)
                if name.bytes().all(|byte| byte.is_ascii_digit())
                    && (name == "0" || !name.starts_with('0')) =>
            {
                captures.get(number)
            }
            _ => captures.name(name),
        };
        out.push_str(group.map_or("", |group| group.as_str()));
        rest = behind;
    }
    out + rest
}

#[cfg(test)]
mod tests;
