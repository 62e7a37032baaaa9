//! The log: one line an entry on standard error, for people, for machines, or for the journal.
//!
//! Only the connector's own entries are written: the AMQP library's would show the login at debug, and the bodies of
//! returned messages at warn.

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use env_logger::Target;
use env_logger::fmt::Formatter;
use log::kv::{self, Key, Value, VisitSource};
use log::{Level, LevelFilter, Record};

const OWN_TARGET: &str = "canopsis_connector_prometheus";

/// How entries are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// As the journal has it, if it is the journal that listens; otherwise as text.
    Auto,
    /// Time, level, message, key=value.
    Text,
    /// One JSON object.
    Json,
}

impl Format {
    /// By its name on the command line.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "auto" => Some(Self::Auto),
            "text" => Some(Self::Text),
            "json" => Some(Self::Json),
            _ => None,
        }
    }
}

/// Sets the log up, panics included. A second call changes nothing.
pub fn start(level: LevelFilter, format: Format) {
    let under_journal = std::env::var_os("JOURNAL_STREAM").is_some();
    let write: fn(&mut Formatter, &Record<'_>) -> io::Result<()> = match format {
        Format::Json => |out, record| write_json(out, record, &now()),
        Format::Auto if under_journal => |out, record| write_journal(out, record),
        Format::Auto | Format::Text => |out, record| write_text(out, record, &now()),
    };
    let _ = env_logger::Builder::new()
        .filter_level(LevelFilter::Off)
        .filter_module(OWN_TARGET, level)
        .target(Target::Stderr)
        .format(write)
        .try_init();
    std::panic::set_hook(Box::new(|panic| {
        // Where, and not what: a library's panic message may quote what it was working on.
        let place = panic
            .location()
            .map_or_else(String::new, ToString::to_string);
        let thread = std::thread::current()
            .name()
            .unwrap_or("unnamed")
            .to_owned();
        log::error!(thread:% = thread, place:% = place; "panic");
    }));
}

fn now() -> String {
    format!("{:.3}", jiff::Timestamp::now())
}

fn write_text(out: &mut dyn Write, record: &Record<'_>, time: &str) -> io::Result<()> {
    writeln!(out, "{time} {:5} {}", record.level(), message(record))
}

/// The journal has the time; it reads the priority from the line's beginning (sd-daemon(3)).
fn write_journal(out: &mut dyn Write, record: &Record<'_>) -> io::Result<()> {
    let priority = match record.level() {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    };
    writeln!(out, "<{priority}>{}", message(record))
}

fn write_json(out: &mut dyn Write, record: &Record<'_>, time: &str) -> io::Result<()> {
    let mut object = serde_json::Map::new();
    object.insert("time".to_owned(), time.into());
    object.insert(
        "level".to_owned(),
        record.level().as_str().to_lowercase().into(),
    );
    object.insert("message".to_owned(), record.args().to_string().into());
    let mut pairs = Pairs(Vec::new());
    let _ = record.key_values().visit(&mut pairs);
    for (key, value) in pairs.0 {
        object.insert(key, value.into());
    }
    writeln!(out, "{}", serde_json::Value::Object(object))
}

/// The message and its pairs on one line, whatever they hold: a sender must not be able to write lines of its own.
fn message(record: &Record<'_>) -> String {
    let mut line = one_line(&record.args().to_string());
    let mut pairs = Pairs(Vec::new());
    let _ = record.key_values().visit(&mut pairs);
    for (key, value) in pairs.0 {
        let plain = !value.is_empty()
            && !value.contains(|c: char| c.is_whitespace() || c.is_control() || c == '"');
        let value = if plain {
            value
        } else {
            format!("\"{}\"", one_line(&value).replace('"', "\\\""))
        };
        line.push_str(&format!(" {key}={value}"));
    }
    line
}

/// Control characters escaped; letters of any language as they are.
pub fn one_line(text: &str) -> String {
    let escape = |c: char| {
        if c.is_control() {
            c.escape_default().collect()
        } else {
            String::from(c)
        }
    };
    text.chars().map(escape).collect()
}

/// The beginning of a text, for a message.
pub fn shorten(text: &str) -> String {
    const MOST: usize = 96;
    let mut short: String = text.chars().take(MOST).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

/// Bounds the log lines that anybody can cause, without a token: so many in a row, then so many a second.
#[derive(Debug)]
pub struct RateLimiter(Mutex<Tokens>);

#[derive(Debug)]
struct Tokens {
    left: u32,
    refilled: Instant,
    suppressed: u64,
}

impl RateLimiter {
    const BURST: u32 = 20;
    const REFILL: Duration = Duration::from_secs(1);

    /// Whether a line may be written; if so, how many were not since the last one.
    pub fn allow(&self) -> Option<u64> {
        let mut tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let refill = tokens.refilled.elapsed().as_secs() / Self::REFILL.as_secs();
        if refill > 0 {
            tokens.left = Self::BURST.min(
                tokens
                    .left
                    .saturating_add(u32::try_from(refill).unwrap_or(Self::BURST)),
            );
            tokens.refilled = Instant::now();
        }
        if tokens.left == 0 {
            tokens.suppressed += 1;
            return None;
        }
        tokens.left -= 1;
        Some(std::mem::take(&mut tokens.suppressed))
    }
}

impl Default for RateLimiter {
    fn default() -> Self {
        Self(Mutex::new(Tokens {
            left: Self::BURST,
            refilled: Instant::now(),
            suppressed: 0,
        }))
    }
}

/// Bounds log lines that would come again and again: one for each thing, then one a minute with how many there were.
///
/// The things are named by the configuration or the program, never by a sender: each is remembered.
#[derive(Debug, Default)]
pub struct RepeatLimiter(Mutex<HashMap<String, Repeat>>);

#[derive(Debug)]
struct Repeat {
    told: Instant,
    suppressed: u64,
}

impl RepeatLimiter {
    const PAUSE: Duration = Duration::from_mins(1);

    /// Whether a line about this may be written; if so, how many were not since the last one.
    pub fn allow(&self, what: &str) -> Option<u64> {
        let mut repeats = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(repeat) = repeats.get_mut(what) else {
            repeats.insert(
                what.to_owned(),
                Repeat {
                    told: Instant::now(),
                    suppressed: 0,
                },
            );
            return Some(0);
        };
        if repeat.told.elapsed() < Self::PAUSE {
            repeat.suppressed += 1;
            return None;
        }
        repeat.told = Instant::now();
        Some(std::mem::take(&mut repeat.suppressed))
    }
}

struct Pairs(Vec<(String, String)>);

impl<'kvs> VisitSource<'kvs> for Pairs {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), kv::Error> {
        self.0.push((key.to_string(), value.to_string()));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Writer = fn(&mut dyn Write, &Record<'_>, &str) -> io::Result<()>;

    fn written(write: Writer, pairs: &[(&str, &str)]) -> String {
        let mut out = Vec::new();
        let arguments = format_args!("Température\nélevée");
        let record = Record::builder()
            .args(arguments)
            .level(Level::Warn)
            .key_values(&pairs)
            .build();
        write(&mut out, &record, "T").unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_flood_is_counted_and_not_written() {
        let throttle = RateLimiter::default();
        let written = (0..10_000).filter(|_| throttle.allow().is_some()).count();
        assert!(written < 100, "{written}");
        throttle.0.lock().unwrap().left = 1;
        assert_eq!(
            throttle.allow(),
            Some(10_000 - u64::try_from(written).unwrap())
        );
    }

    #[test]
    fn what_repeats_is_told_once_and_counted() {
        let repeats = RepeatLimiter::default();
        let told = |what: &str| {
            (0..100)
                .filter_map(|_| repeats.allow(what))
                .collect::<Vec<_>>()
        };
        assert_eq!((told("output"), told("tags")), (vec![0], vec![0]));
        repeats.0.lock().unwrap().get_mut("output").unwrap().told -= RepeatLimiter::PAUSE;
        assert_eq!((told("output"), told("tags")), (vec![99], vec![]));
    }

    #[test]
    fn an_entry_is_one_line_whatever_it_holds() {
        let pairs = [("a", "b"), ("c", "d \"e\"\nf"), ("g", "")];
        let line = "Température\\nélevée a=b c=\"d \\\"e\\\"\\nf\" g=\"\"\n";
        assert_eq!(written(write_text, &pairs), format!("T WARN  {line}"));
        assert_eq!(
            written(|out, record, _| write_journal(out, record), &pairs),
            format!("<4>{line}")
        );
        let json = written(write_json, &pairs);
        assert_eq!(json.matches('\n').count(), 1);
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(
            (json["message"].as_str(), json["c"].as_str()),
            (Some("Température\nélevée"), Some("d \"e\"\nf"))
        );
    }
}
