//! Why a template can't be loaded, or failed as it ran.

use std::fmt;

/// Where something begins in the source, in bytes.
pub(crate) type Position = usize;

/// Something is wrong at a place of the source.
#[derive(Debug)]
pub(crate) struct Failure {
    pub at: Position,
    pub message: String,
    pub unknown: Option<UnknownName>,
}

impl Failure {
    pub fn new(at: Position, message: impl Into<String>) -> Self {
        Self {
            at,
            message: message.into(),
            unknown: None,
        }
    }

    /// A failure because of a name that nothing has.
    pub fn unknown(at: Position, message: String, unknown: UnknownName) -> Self {
        Self {
            at,
            message,
            unknown: Some(unknown),
        }
    }
}

/// A name that is used and that nothing has, with those that exist, for a suggestion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownName {
    /// What it should be the name of.
    pub kind: NameKind,
    /// The name; of a variable with its dollar sign.
    pub name: String,
    /// The names that could be meant.
    pub known: Vec<String>,
}

/// What a name belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameKind {
    /// A function.
    Function,
    /// A variable, with its dollar sign.
    Variable,
    /// A field of a map that has none of this name.
    Field,
    /// A field of a map that may have one of this name.
    PossibleField,
    /// A template of `{{define}}`.
    Template,
    /// A time zone.
    TimeZone,
}

/// A place in a template, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Location {
    /// The line.
    pub line: usize,
    /// The column, in characters.
    pub column: usize,
}

impl Location {
    pub(crate) fn of(at: Position, source: &str) -> Self {
        let before = source.get(..at).unwrap_or(source);
        let (lines, last) = before
            .rsplit_once('\n')
            .map_or((0, before), |(lines, last)| {
                (1 + lines.matches('\n').count(), last)
            });
        Self {
            line: lines + 1,
            column: last.chars().count() + 1,
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// Why a text is not a template, or one that would fail whenever it is run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("at {location} of the template: {message}")]
pub struct ParseError {
    /// Where.
    pub location: Location,
    /// What is wrong.
    pub message: String,
    /// The name that is wrong, if one is.
    pub unknown: Option<UnknownName>,
}

impl ParseError {
    pub(crate) fn new(failure: Failure, source: &str) -> Self {
        Self {
            location: Location::of(failure.at, source),
            message: failure.message,
            unknown: failure.unknown,
        }
    }
}

/// Why a template failed as it ran.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("at {location} of the template: {reason}")]
pub struct RenderError {
    /// Where.
    pub location: Location,
    /// Why.
    pub reason: Reason,
}

/// What ended a template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// What Go fails at, too (a missing key, a wrong type, a function that refuses its values), and `%p`, a computed pattern that is
    /// too large, and a computed zone that the system does not know.
    #[error("{0}")]
    Failed(String),
    /// The output, or a text that a function computes, is longer than the limit.
    #[error("a text is longer than {} bytes", crate::MAX_TEXT_BYTES)]
    TooLong,
    /// A text of the data is longer than the limit.
    #[error("the value is {0} bytes long; a template takes at most {max}", max = crate::MAX_INPUT_BYTES)]
    InputTooLong(usize),
    /// A text is longer than the limit for a regular expression.
    #[error("{function}: the text is {length} bytes long; a regexp is run on at most {max}", max = crate::MAX_REGEXP_BYTES)]
    RegexpInputTooLong {
        /// The function that was called.
        function: &'static str,
        /// The text's length.
        length: usize,
    },
    /// It took more steps than the limit.
    #[error("it took more than {} steps (endless loop?)", crate::MAX_STEPS)]
    TooManySteps,
    /// Templates called each other, or themselves, more deeply than the limit.
    #[error(
        "templates and blocks are more than {} deep inside each other",
        crate::MAX_DEPTH
    )]
    TooDeep,
    /// The deadline passed.
    #[error("its time is over")]
    DeadlinePassed,
}

pub(crate) const NIL_IS_NO_COMMAND: &str = "nil is not a command";

pub(crate) fn undefined_template(name: &str) -> String {
    format!("template {name:?} not defined: its {{{{define}}}} must be in the same source")
}

pub(crate) fn undefined_variable(name: &str) -> String {
    format!("undefined variable {name:?}")
}

pub(crate) fn wrong_type(expected: &str, actual: &str) -> String {
    format!("wrong type for value; expected {expected}; got {actual}")
}

impl From<String> for Reason {
    fn from(message: String) -> Self {
        Self::Failed(message)
    }
}

impl From<&str> for Reason {
    fn from(message: &str) -> Self {
        Self::Failed(message.to_owned())
    }
}
