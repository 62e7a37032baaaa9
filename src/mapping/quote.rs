//! Values as people see them on a terminal. They may come from anybody: texts are quoted, shortened where they are long, and never
//! change the terminal.

use std::fmt::{self, Write as _};

use serde_json::{Map, Value};

use crate::logging::one_line;

/// How much of a field's value is shown, in characters: with its name it fits on a line of 100.
const MOST_OF_VALUE: usize = 60;

/// How much is shown of a text among others.
pub const MOST_OF_TEXT: usize = 36;

/// A value on one line.
pub fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => Quoted {
            text,
            most: MOST_OF_VALUE,
        }
        .to_string(),
        Value::Object(entries) => shown_entries(entries),
        other => shown_json(other),
    }
}

/// As many entries as fit, and how many there are besides.
fn shown_entries(entries: &Map<String, Value>) -> String {
    let mut line = "{".to_owned();
    for (count, (key, value)) in entries.iter().enumerate() {
        let value = match value {
            Value::String(text) => Quoted {
                text,
                most: MOST_OF_TEXT,
            }
            .to_string(),
            other => shown_json(other),
        };
        let entry = format!(
            "{}: {value}",
            Quoted {
                text: key,
                most: MOST_OF_TEXT
            }
        );
        if count > 0 && line.chars().count() + entry.chars().count() > MOST_OF_VALUE {
            return format!("{line}, … {} more}}", entries.len() - count);
        }
        line.push_str(if count > 0 { ", " } else { "" });
        line.push_str(&entry);
    }
    line + "}"
}

/// Numbers, truth values, and what the configuration holds of greater depth.
fn shown_json(value: &Value) -> String {
    let text = one_line(&value.to_string());
    let mut short: String = text.chars().take(MOST_OF_VALUE).collect();
    if short.len() < text.len() {
        let _ = write!(short, "… ({} characters)", text.chars().count());
    }
    short
}

/// A text in quotes; a long one's beginning, and its length.
#[derive(Debug)]
pub struct Quoted<'t> {
    /// The text.
    pub text: &'t str,
    /// How much of it is shown, in characters.
    pub most: usize,
}

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = self.most;
        f.write_char('"')?;
        for (at, c) in self.text.char_indices() {
            let escaped = escaped(c);
            let width = escaped.as_ref().map_or(1, String::len);
            // The ellipsis stands behind the quotes: what is between them is the text's own.
            if width > left {
                let more = self.text[at..].chars().count();
                return write!(
                    f,
                    "\"… ({more} more character{})",
                    if more == 1 { "" } else { "s" }
                );
            }
            left -= width;
            match escaped {
                Some(escaped) => f.write_str(&escaped)?,
                None => f.write_char(c)?,
            }
        }
        f.write_char('"')
    }
}

/// How a character that is not shown as it is, is shown: one that ends the quotes, moves the cursor, or turns the reading direction.
fn escaped(c: char) -> Option<String> {
    let turns = matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    match c {
        '"' | '\\' => Some(format!("\\{c}")),
        c if c.is_control() || turns => Some(c.escape_default().collect()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_one_line_that_cannot_be_mistaken() {
        for (value, expected) in [
            (Value::from("plain"), "\"plain\"".to_owned()),
            (
                Value::from("a\n\u{1b}[2J\u{202e}\u{9b}é日\"\\"),
                r#""a\n\u{1b}[2J\u{202e}\u{9b}é日\"\\""#.to_owned(),
            ),
            (Value::from("…"), "\"…\"".to_owned()),
            (
                Value::from("x".repeat(60)),
                format!("\"{}\"", "x".repeat(60)),
            ),
            (
                Value::from("x".repeat(61)),
                format!("\"{}\"… (1 more character)", "x".repeat(60)),
            ),
            (
                Value::from("日".repeat(100)),
                format!("\"{}\"… (40 more characters)", "日".repeat(60)),
            ),
            (
                Value::from("\n".repeat(31)),
                format!("\"{}\"… (1 more character)", "\\n".repeat(30)),
            ),
            (Value::from(true), "true".to_owned()),
            (
                serde_json::json!([1, "a\u{9b}"]),
                "[1,\"a\\u{9b}\"]".to_owned(),
            ),
            (
                serde_json::json!({"a\n": "b", "c": {"d": 1}}),
                r#"{"a\n": "b", "c": {"d":1}}"#.to_owned(),
            ),
            (
                serde_json::json!({"a": "x".repeat(30), "b": "y".repeat(30), "c": "z"}),
                format!("{{\"a\": \"{}\", … 2 more}}", "x".repeat(30)),
            ),
        ] {
            assert_eq!(shown(&value), expected);
        }
        let long = shown(&Value::from(vec![1; 100]));
        assert!(long.ends_with(",1… (201 characters)"), "{long}");
    }
}
