//! The log: one line for each entry on standard error, as text, as JSON, or for the journal; and limits for entries that repeat.
//!
//! Only the connector's own entries are written: the AMQP library logs the login at debug level, and bodies of returned messages
//! at warn level.

use std::collections::HashMap;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use env_logger::Target;
use env_logger::fmt::Formatter;
use log::kv::{self, Key, Value, VisitSource};
use log::{Level, LevelFilter, Record};
use parking_lot::Mutex;

use crate::text::visible;

const OWN_TARGET: &str = "canopsis_connector_prometheus";

/// How entries are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// With priorities for the journal where standard error is connected to it, else as text.
    Auto,
    /// Time, level, message, and the pairs as `key=value`.
    Text,
    /// One JSON object: time, level, message, and the pairs.
    Json,
}

/// Sets up the log and logs panics. A second call changes nothing.
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
        // The location only: a library's panic message may quote its input, which may hold a secret.
        let place = panic
            .location()
            .map_or_else(String::new, ToString::to_string);
        let thread = std::thread::current();
        log::error!(thread = thread.name().unwrap_or("unnamed"), place:% = place; "panic");
    }));
}

fn now() -> String {
    format!("{:.3}", jiff::Timestamp::now())
}

fn write_text(out: &mut dyn Write, record: &Record<'_>, time: &str) -> io::Result<()> {
    writeln!(out, "{time} {:5} {}", record.level(), message(record))
}

/// The journal adds the time, and reads the priority from the start of the line (sd-daemon(3)).
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
    let mut entry = serde_json::json!({
        "time": time,
        "level": record.level().as_str().to_lowercase(),
        "message": visible(&record.args().to_string()),
    });
    for (key, value) in pairs(record) {
        entry[key] = value;
    }
    writeln!(out, "{entry}")
}

/// The message and its pairs on one line, whatever they contain: a sender must not be able to forge entries.
fn message(record: &Record<'_>) -> String {
    let mut line = visible(&record.args().to_string()).into_owned();
    for (key, value) in pairs(record) {
        let value = match value {
            serde_json::Value::String(text) => text,
            other => other.to_string(),
        };
        let shown = visible(&value);
        if value.is_empty() || value.contains([' ', '"']) || shown != value {
            let escaped = shown.replace('"', "\\\"");
            line.push_str(&format!(" {key}=\"{escaped}\""));
        } else {
            line.push_str(&format!(" {key}={value}"));
        }
    }
    line
}

/// The pairs of an entry: numbers and booleans as such, everything else as text.
fn pairs(record: &Record<'_>) -> Vec<(String, serde_json::Value)> {
    struct Pairs(Vec<(String, serde_json::Value)>);

    impl<'kvs> VisitSource<'kvs> for Pairs {
        fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), kv::Error> {
            let value = (value.to_bool().map(Into::into))
                .or_else(|| value.to_u64().map(Into::into))
                .or_else(|| value.to_i64().map(Into::into))
                .or_else(|| value.to_f64().map(Into::into))
                .unwrap_or_else(|| value.to_string().into());
            // A limiter's count is worth a pair only where it has suppressed entries.
            if key.as_str() != "suppressed" || value != 0 {
                self.0.push((key.to_string(), value));
            }
            Ok(())
        }
    }

    let mut pairs = Pairs(Vec::new());
    // Collecting does not fail.
    let _ = record.key_values().visit(&mut pairs);
    pairs.0
}

/// How often entries about a subject are written: a number of them at once, and then one in each period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogRate {
    burst: u32,
    period: Duration,
}

impl LogRate {
    /// For what anyone can cause without a token.
    pub const ANONYMOUS: Self = Self {
        burst: 20,
        period: Duration::from_secs(1),
    };

    /// For what repeats with each notification or attempt while its cause lasts.
    pub const REPEATED: Self = Self {
        burst: 1,
        period: Duration::from_mins(1),
    };

    /// For what may be meant to last.
    pub const LASTING: Self = Self {
        burst: 1,
        period: Duration::from_hours(1),
    };
}

/// The most subjects that are remembered. Reasons of a lost connection may have been written by the other side.
const MAX_SUBJECTS: usize = 1024;

/// Limits entries that repeat, and counts the suppressed ones.
#[derive(Debug, Default)]
pub struct LogLimiter(Mutex<HashMap<String, Bucket>>);

#[derive(Debug)]
struct Bucket {
    /// When the whole burst may be written again. Each entry costs a period.
    full_at: Instant,
    suppressed: u64,
}

impl LogLimiter {
    /// Whether an entry about this subject may be written: `Some` with the number suppressed since the last one.
    pub fn allow(&self, subject: &str, rate: LogRate) -> Option<u64> {
        self.allow_at(subject, rate, Instant::now())
    }

    fn allow_at(&self, subject: &str, rate: LogRate, now: Instant) -> Option<u64> {
        let mut buckets = self.0.lock();
        if buckets.len() == MAX_SUBJECTS && !buckets.contains_key(subject) {
            buckets.clear();
        }
        let bucket = buckets.entry(subject.to_owned()).or_insert(Bucket {
            full_at: now,
            suppressed: 0,
        });
        let full_at = bucket.full_at.max(now) + rate.period;
        if full_at > now + rate.burst * rate.period {
            bucket.suppressed += 1;
            return None;
        }
        bucket.full_at = full_at;
        Some(std::mem::take(&mut bucket.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Writer = fn(&mut dyn Write, &Record<'_>, &str) -> io::Result<()>;

    fn written(write: Writer, pairs: &[(&str, Value<'_>)]) -> String {
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
    fn each_subject_has_a_burst_and_then_one_entry_a_period() {
        let (limiter, start) = (LogLimiter::default(), Instant::now());
        for rate in [LogRate::ANONYMOUS, LogRate::REPEATED, LogRate::LASTING] {
            let subject = format!("{rate:?}");
            // The numbers suppressed before each of the entries that are written.
            let written = |subject: &str, after: Duration, count: u32| {
                let attempts = (0..count).map(|_| limiter.allow_at(subject, rate, start + after));
                attempts.flatten().collect::<Vec<u64>>()
            };
            let (burst, period) = (rate.burst as usize, rate.period);
            assert_eq!(written(&subject, Duration::ZERO, 100), vec![0; burst]);
            let almost = period.checked_sub(Duration::from_nanos(1)).unwrap();
            assert_eq!(written(&subject, almost, 5), [0; 0], "{subject}");
            let suppressed = 105 - u64::from(rate.burst);
            assert_eq!(written(&subject, period, 3), [suppressed], "{subject}");
            assert_eq!(written(&subject, period + almost, 1), [0; 0], "{subject}");
            // A pause of any length permits one burst.
            let again = written(&subject, 1000 * period, 100);
            assert_eq!(again.len(), burst, "{subject}");
            assert_eq!(again[0], 3, "{subject}");
            assert_eq!(written("another", Duration::ZERO, 1), [0], "{subject}");
            limiter.0.lock().clear();
        }
    }

    #[test]
    fn the_number_of_subjects_is_limited() {
        let limiter = LogLimiter::default();
        for number in 0..10_000 {
            let subject = number.to_string();
            assert_eq!(limiter.allow(&subject, LogRate::REPEATED), Some(0));
        }
        assert!(limiter.0.lock().len() <= MAX_SUBJECTS);
    }

    #[test]
    fn an_entry_is_one_line_whatever_it_contains() {
        let pairs = [("a", "b"), ("c", "d \"e\"\nf"), ("g", "")].map(|(k, v)| (k, Value::from(v)));
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
            (Some("Température\\nélevée"), Some("d \"e\"\nf"))
        );
    }

    #[test]
    fn numbers_and_booleans_keep_their_type() {
        let pairs = [
            ("status", Value::from(503_u16)),
            ("left", (-1_i64).into()),
            ("share", 0.5_f64.into()),
            ("changed", true.into()),
            ("text", "7".into()),
            ("suppressed", 0_u64.into()),
        ];
        assert_eq!(
            written(write_text, &pairs),
            "T WARN  Température\\nélevée status=503 left=-1 share=0.5 changed=true text=7\n"
        );
        let json: serde_json::Value = serde_json::from_str(&written(write_json, &pairs)).unwrap();
        let expected = serde_json::json!({
            "time": "T", "level": "warn", "message": "Température\\nélevée",
            "status": 503, "left": -1, "share": 0.5, "changed": true, "text": "7",
        });
        assert_eq!(json, expected);
        let suppressed = written(write_text, &[("suppressed", 3_u64.into())]);
        assert!(suppressed.ends_with(" suppressed=3\n"), "{suppressed}");
    }
}
