//! Values on one line of a terminal: quoted as in JSON, shortened, and unable to change the terminal. They come from senders.

use serde_json::Value;

use crate::text::{count, split_at_chars, visible};

/// How much is shown of a field's value, in characters: with the field's name it fits on a line of 100.
const MAX_VALUE: usize = 60;

/// How much is shown of a string within a sentence, in characters.
const MAX_STRING: usize = 36;

/// The value of an event's field.
pub fn quote_value(value: &Value) -> String {
    match value {
        Value::String(string) => quote_head(string, MAX_VALUE),
        other => {
            let json = other.to_string();
            let (head, rest) = split_at_chars(&json, MAX_VALUE);
            format!("{}{}", visible(head), more(rest))
        }
    }
}

/// A string within a sentence.
pub fn quote(string: &str) -> String {
    quote_head(string, MAX_STRING)
}

/// What is left out is counted behind the quotes: the text between them is the value's.
fn quote_head(string: &str, limit: usize) -> String {
    let (head, rest) = split_at_chars(string, limit);
    format!("{}{}", visible(&Value::from(head).to_string()), more(rest))
}

/// How much is left out.
fn more(rest: &str) -> String {
    match rest.chars().count() {
        0 => String::new(),
        rest => format!("… ({})", count(rest, "more character", "more characters")),
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
                r#""a\n\u001b[2J\u{202e}\u{9b}é日\"\\""#.to_owned(),
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
            (Value::from(true), "true".to_owned()),
            (
                serde_json::json!([1, "a\u{9b}"]),
                "[1,\"a\\u{9b}\"]".to_owned(),
            ),
            (
                serde_json::json!({"a\n": "b", "c": {"d": 1}}),
                r#"{"a\n":"b","c":{"d":1}}"#.to_owned(),
            ),
            (
                serde_json::json!({"a": "x".repeat(60)}),
                format!("{{\"a\":\"{}… (8 more characters)", "x".repeat(54)),
            ),
        ] {
            assert_eq!(quote_value(&value), expected);
        }
        assert_eq!(
            quote(&"x".repeat(40)),
            format!("\"{}\"… (4 more characters)", "x".repeat(36))
        );
    }
}
