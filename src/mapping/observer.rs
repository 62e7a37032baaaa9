//! Who may watch how an event's fields get their values: the one way to map serves both publishing, where nobody watches, and
//! explaining.

use std::fmt;

use super::quote::Quoted;
use super::rule::{RuleOutcome, RulePosition};

/// Hears of each field in turn: first of its rules that are tried, then of what else decides.
pub trait Observer {
    /// A rule of the field was tried.
    fn tried(&mut self, field: &str, place: RulePosition<'_>, outcome: &RuleOutcome<'_>);
    /// Something else that decides about the field.
    fn remark(&mut self, field: &str, remark: Note<'_>);
}

/// While events are published.
pub struct NoopObserver;

impl Observer for NoopObserver {
    fn tried(&mut self, _: &str, _: RulePosition<'_>, _: &RuleOutcome<'_>) {}
    fn remark(&mut self, _: &str, _: Note<'_>) {}
}

/// What decides about a field besides its rules.
#[derive(Debug, Clone, Copy)]
pub enum Note<'n> {
    /// The configuration has no rule for it.
    NoRule,
    /// More than so many characters.
    Cut {
        /// the whole text
        text: &'n str,
        /// what is left of it
        length: usize,
    },
    /// The author is made of the names.
    DefaultAuthor,
    /// The alert is over.
    Resolved,
    /// There is no rule for the state.
    DefaultState,
    /// The state's rules yield nothing.
    NothingForState,
    /// The state's rules yield something else.
    NoState(&'n str),
    /// A text stands for a number.
    Reads {
        /// what a rule yields
        text: &'n str,
        /// what the event has
        number: i64,
    },
    /// The timestamp's rules yield something else.
    NoTime(&'n str),
    /// A time that stands for none.
    ZeroTime(&'n str),
    /// There is no timestamp.
    Unstamped,
}

/// How much of a text a remark quotes, in characters.
const MOST: usize = 48;

impl fmt::Display for Note<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quoted = |text| Quoted { text, most: MOST };
        match self {
            Self::NoRule => f.write_str("no rule"),
            Self::Cut { text, length } => {
                write!(f, "cut to {length} of {} characters", text.chars().count())
            }
            Self::DefaultAuthor => f.write_str("by default <connector>.<connector_name>"),
            Self::Resolved => f.write_str("a resolved alert is always 0: no rule is asked"),
            Self::DefaultState => f.write_str("every firing alert is critical (3)"),
            Self::NothingForState => f.write_str("the rule yields nothing; the event's state is 3"),
            Self::NoState(text) => {
                write!(f, "{} is no state; the event's state is 3", quoted(text))
            }
            Self::Reads { text, number } => write!(f, "{} counts as {number}", quoted(text)),
            Self::NoTime(text) => write!(
                f,
                "{} is neither Unix seconds nor RFC 3339; left out",
                quoted(text)
            ),
            Self::ZeroTime(text) => write!(f, "{} stands for no time", quoted(text)),
            Self::Unstamped => f.write_str("Canopsis takes the time at which it reads the event"),
        }
    }
}
