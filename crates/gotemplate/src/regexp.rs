//! Go's regular expressions on the `regex` crate.
//!
//! The two engines agree on nearly everything. What differs is in `syntax`: the pattern is written anew in the crate's terms
//! before it is compiled.

mod syntax;

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use parking_lot::Mutex;
use regex::{Captures, Regex, RegexBuilder};

use crate::MAX_REGEXP_BYTES;
use crate::error::Reason;
use crate::limits::{Buffer, Meter};
use crate::text::{is_digit, is_letter};
use crate::value::{Map, Value};

/// Why a pattern does not compile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegexpError {
    /// Go refuses it, too.
    #[error("{0}")]
    Syntax(String),
    /// It would take more memory than the limit, in bytes.
    #[error(
        "the pattern takes more than {0} bytes once it is compiled (long, large repetitions, or many classes?)"
    )]
    TooLarge(usize),
    /// Together with those before it, it would take more memory than the limit, in bytes.
    #[error(
        "all patterns together take more than {} MiB once they are compiled; use fewer, or smaller ones",
        MAX_TOTAL_BYTES >> 20
    )]
    OverBudget,
}

/// What a compiled pattern may take, in bytes.
const MAX_COMPILED_BYTES: usize = 1 << 20;

/// What all patterns that are compiled with one [`RegexpBudget`] may take, in bytes.
const MAX_TOTAL_BYTES: usize = 16 << 20;

/// The least that a pattern counts as, in bytes: small ones take 6 KiB each.
const MIN_COMPILED_BYTES: usize = 16 << 10;

/// The least that a pattern counts as for each byte of its text, and for each class by name, such as `\pL`, in bytes. They bound
/// what is parsed before the size is known: a class takes 6 KiB then, and 40 KiB where the case is ignored.
const MIN_BYTES_PER_BYTE: usize = 128;
const MIN_BYTES_PER_CLASS: usize = 16 << 10;

/// The same for one that a template computes: a search takes time for each of these bytes and each of the text's, at worst
/// 0.8 s with `MAX_REGEXP_BYTES`.
const MAX_COMPUTED_BYTES: usize = 64 << 10;

/// What each thread that runs a pattern may take for it besides, in bytes, in each of two directions. The engine gets slower
/// where it needs more.
const MAX_CACHE_BYTES: usize = 128 << 10;

/// A compiled pattern. Copies share it.
#[derive(Debug, Clone)]
pub struct Regexp {
    regex: Arc<Regex>,
}

impl Regexp {
    /// Compiles a pattern with Go's meaning.
    pub fn new(pattern: &str) -> Result<Self, RegexpError> {
        Self::with_limit(pattern, MAX_COMPILED_BYTES)
    }

    fn with_limit(pattern: &str, max_bytes: usize) -> Result<Self, RegexpError> {
        let translated = syntax::translate(pattern)?;
        if least_size(&translated) > max_bytes {
            return Err(RegexpError::TooLarge(max_bytes));
        }
        Self::compile(&translated, max_bytes)
    }

    fn compile(translated: &str, max_bytes: usize) -> Result<Self, RegexpError> {
        let built = RegexBuilder::new(translated)
            .size_limit(max_bytes)
            .dfa_size_limit(MAX_CACHE_BYTES)
            .build();
        match built {
            Ok(regex) => Ok(Self {
                regex: Arc::new(regex),
            }),
            Err(regex::Error::CompiledTooBig(_)) => Err(RegexpError::TooLarge(max_bytes)),
            Err(error) => {
                let text = error.to_string();
                let last = text.lines().last().unwrap_or("does not compile");
                let reason = last.trim().trim_start_matches("error: ");
                Err(RegexpError::Syntax(reason.to_owned()))
            }
        }
    }

    /// A pattern that a template computes; what was compiled before is at hand.
    pub(crate) fn cached(pattern: &str) -> Result<Self, RegexpError> {
        if let Some(known) = CACHE.lock().get(pattern) {
            return known;
        }
        // Compiling may take a while: the others must not wait for it.
        let compiled = Self::with_limit(pattern, MAX_COMPUTED_BYTES);
        CACHE.lock().insert(pattern, compiled.clone());
        compiled
    }

    /// Whether it matches anywhere in a text.
    pub fn is_match(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }

    /// The names of its groups, in their order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.regex.capture_names().flatten()
    }

    /// The named groups of the first match.
    pub fn groups<'r>(&'r self, text: &'r str) -> Option<Groups<'r>> {
        let captures = self.regex.captures(text)?;
        let mut entries: Vec<_> = self
            .names()
            .map(|name| (name, captures.name(name).map_or("", |group| group.as_str())))
            .collect();
        entries.sort_unstable();
        Some(Groups(entries))
    }

    /// Go's `ReplaceAllString`: each match gives `new`, in which `$1`, `$name`, `${1}` and `${name}` are groups and `$$` is `$`.
    pub(crate) fn replace_all(
        &self,
        text: &str,
        new: &str,
        meter: &mut Meter<'_>,
    ) -> Result<Vec<u8>, Reason> {
        let mut out = Buffer::default();
        let mut copied = 0;
        for captures in self.regex.captures_iter(text) {
            meter.step()?;
            meter.check_deadline()?;
            let whole = captures.get_match();
            out.push_str(&text[copied..whole.start()])?;
            expand(&mut out, new, &captures)?;
            copied = whole.end();
        }
        out.push_str(&text[copied..])?;
        Ok(out.into_bytes())
    }
}

/// What a pattern counts as, whatever its compiled size is.
fn least_size(translated: &str) -> usize {
    let is_class = |pair: &&[u8]| matches!(pair, [b'\\', b'p' | b'P']);
    let classes = translated.as_bytes().windows(2).filter(is_class).count();
    (translated.len() * MIN_BYTES_PER_BYTE + classes * MIN_BYTES_PER_CLASS).max(MIN_COMPILED_BYTES)
}

/// The memory that patterns may take together. It is an upper bound, because the engine does not say what a pattern takes: each
/// counts as the limit that it was compiled with, the first of a few that suffices.
#[derive(Debug)]
pub struct RegexpBudget {
    left: usize,
}

impl Default for RegexpBudget {
    fn default() -> Self {
        Self {
            left: MAX_TOTAL_BYTES,
        }
    }
}

impl RegexpBudget {
    /// Compiles a pattern with Go's meaning. What fails counts, too: that takes the same time.
    pub fn compile(&mut self, pattern: &str) -> Result<Regexp, RegexpError> {
        const FACTOR: usize = 4;
        let translated = syntax::translate(pattern)?;
        let mut limit = least_size(&translated);
        while limit <= MAX_COMPILED_BYTES {
            if self.left < limit {
                self.left = 0;
                return Err(RegexpError::OverBudget);
            }
            let compiled = Regexp::compile(&translated, limit);
            match compiled {
                Err(RegexpError::TooLarge(_)) if limit < MAX_COMPILED_BYTES => {
                    limit = MAX_COMPILED_BYTES.min(limit * FACTOR);
                }
                compiled => {
                    self.left -= limit;
                    return compiled;
                }
            }
        }
        Err(RegexpError::TooLarge(MAX_COMPILED_BYTES))
    }
}

/// Fails for a text on which a pattern could run for seconds: a search may look at all of it, and there may be one for each of
/// its characters.
pub(crate) fn check_length(function: &'static str, text: &[u8]) -> Result<(), Reason> {
    if text.len() > MAX_REGEXP_BYTES {
        return Err(Reason::RegexpInputTooLong {
            function,
            length: text.len(),
        });
    }
    Ok(())
}

/// The named groups of a match, as templates see them. A group that takes no part in it is the empty text.
#[derive(Debug)]
pub struct Groups<'r>(Vec<(&'r str, &'r str)>);

impl Map for Groups<'_> {
    fn holds_text(&self) -> bool {
        true
    }

    fn get(&self, key: &str) -> Option<Value<'_>> {
        let (_, text) = self.0.iter().find(|(name, _)| *name == key)?;
        Some(Value::from(*text))
    }

    fn entries(&self) -> Vec<(&str, Value<'_>)> {
        self.0
            .iter()
            .map(|(name, text)| (*name, Value::from(*text)))
            .collect()
    }

    fn len(&self) -> usize {
        self.0.len()
    }
}

/// The crate's own expansion reads other names than Go's: `$1é` is the group `1é` in Go, which does not exist.
fn expand(out: &mut Buffer, template: &str, captures: &Captures<'_>) -> Result<(), Reason> {
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before)?;
        if let Some(after) = after.strip_prefix('$') {
            out.push(b"$")?;
            rest = after;
            continue;
        }
        let braced = after.strip_prefix('{');
        let from = braced.unwrap_or(after);
        let length = from
            .find(|c: char| c != '_' && !is_letter(c) && !is_digit(c))
            .unwrap_or(from.len());
        let (name, behind) = from.split_at(length);
        let behind = if braced.is_some() {
            behind.strip_prefix('}')
        } else {
            Some(behind)
        };
        let Some(behind) = behind.filter(|_| !name.is_empty()) else {
            // What names no group stays as it is.
            out.push(b"$")?;
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
        out.push_str(group.map_or("", |group| group.as_str()))?;
        rest = behind;
    }
    out.push_str(rest)
}

static CACHE: LazyLock<Mutex<Cache>> = LazyLock::new(Mutex::default);

/// What came of a pattern.
pub(crate) type Compiled = Result<Regexp, RegexpError>;

/// Patterns that templates compute as they run are compiled once. Those of a label's value can't fill the memory: when there
/// are too many, or too long ones, all are forgotten.
#[derive(Default)]
struct Cache {
    patterns: HashMap<Box<str>, Compiled>,
    bytes: usize,
}

impl Cache {
    const MAX_PATTERNS: usize = 32;
    /// Of the patterns' texts; that of a compiled one is `MAX_COMPUTED_BYTES`.
    const MAX_BYTES: usize = 64 << 10;

    fn get(&self, pattern: &str) -> Option<Compiled> {
        self.patterns.get(pattern).cloned()
    }

    fn insert(&mut self, pattern: &str, compiled: Compiled) {
        if pattern.len() > Self::MAX_BYTES {
            return;
        }
        if self.patterns.len() >= Self::MAX_PATTERNS || self.bytes + pattern.len() > Self::MAX_BYTES
        {
            *self = Self::default();
        }
        if self.patterns.insert(pattern.into(), compiled).is_none() {
            self.bytes += pattern.len();
        }
    }
}

#[cfg(test)]
mod tests;
