#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![warn(clippy::unwrap_used, clippy::expect_used)]

mod builtins;
mod canopsis;
mod case;
mod check;
mod error;
mod eval;
mod float;
mod function;
mod functions;
mod json;
mod lexer;
mod limits;
mod literal;
mod parser;
mod printf;
mod quote;
mod regexp;
mod shape;
mod text;
mod time;
mod tree;
mod value;

use std::fmt;

pub use check::{Analysis, Fault};
pub use error::{Location, NameKind, ParseError, Reason, RenderError, UnknownName};
pub use functions::names as function_names;
pub use regexp::{Groups, Regexp, RegexpBudget, RegexpError};
pub use shape::{MapShape, Shape};
pub use value::{Map, Text, Value};

/// How long a template's source may be, in bytes.
pub const MAX_SOURCE_BYTES: usize = 256 << 10;

/// How deep blocks and parentheses may be nested in a source. A chain of `{{else if}}` counts once.
pub const MAX_NESTING: usize = 100;

/// How deep blocks, parentheses and calls of templates may be inside each other as a template runs.
pub const MAX_DEPTH: usize = 250;

/// How many steps one run may take. A step is a piece of text, an action, a command, a turn of a loop, or 16 bytes that a
/// function reads or writes.
pub const MAX_STEPS: u32 = 1_000_000;

/// How long the output, and each text that a function computes, may be, in bytes.
pub const MAX_TEXT_BYTES: usize = 1 << 20;

/// How long a text may be that is looked up in the data, in bytes.
pub const MAX_INPUT_BYTES: usize = 256 << 10;

/// How long a text may be on which `replace` or `regex_map_key` runs, in bytes.
pub const MAX_REGEXP_BYTES: usize = 16 << 10;

/// What most templates write is not longer than this, in bytes.
const TYPICAL_OUTPUT_BYTES: usize = 64;

/// A template that was parsed and checked.
pub struct Template {
    source: Box<str>,
    tree: tree::Tree,
    analysis: Analysis,
}

impl Template {
    /// Parses a template, and refuses what Go refuses when it parses, and what would fail whenever it is run.
    pub fn parse(source: &str) -> Result<Self, ParseError> {
        Self::parse_for(source, &Shape::Any, &mut RegexpBudget::default())
    }

    /// As [`Template::parse`], for data of which something is known, and for one of several templates whose patterns may take
    /// memory together. What fails because of the data is not refused: it is among the faults of the analysis.
    pub fn parse_for(
        source: &str,
        data: &Shape,
        regexps: &mut RegexpBudget,
    ) -> Result<Self, ParseError> {
        let failed = |failure| ParseError::new(failure, source);
        let tree = parser::parse(source, regexps).map_err(failed)?;
        let alone = check::check(&tree, source, &Shape::Any).map_err(failed)?;
        if let Some(fault) = alone.faults().iter().find(|fault| fault.always) {
            return Err(ParseError {
                location: fault.location,
                message: fault.message.clone(),
                unknown: fault.unknown.clone(),
            });
        }
        Ok(Self {
            source: source.into(),
            analysis: check::check(&tree, source, data).map_err(failed)?,
            tree,
        })
    }

    /// Runs the template with a map as its dot. Once `is_late` is true, it fails: that is asked every 256 steps, and for each
    /// match of a pattern.
    pub fn render(&self, dot: &dyn Map, is_late: &dyn Fn() -> bool) -> Result<String, RenderError> {
        let meter = limits::Meter::new(is_late);
        eval::Evaluator::new(&self.tree, meter, TYPICAL_OUTPUT_BYTES)
            .run(&Value::Map(dot))
            .map(text::to_utf8)
            .map_err(|(reason, at)| RenderError {
                location: Location::of(at, &self.source),
                reason,
            })
    }

    /// What can be said of the template without running it.
    pub fn analysis(&self) -> &Analysis {
        &self.analysis
    }

    /// Its text.
    pub fn source(&self) -> &str {
        &self.source
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Template").field(&self.source).finish()
    }
}
