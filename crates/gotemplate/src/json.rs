//! JSON as `encoding/json` of Go 1.19 writes it: map keys sorted, `<`, `>`, `&`, U+2028 and U+2029 escaped.

use crate::error::Reason;
use crate::float;
use crate::limits::Buffer;
use crate::text::runes;
use crate::value::Value;

/// As deep as JSON's parser takes values.
const MAX_DEPTH: usize = 130;

/// A value as JSON.
pub fn to_json(value: &Value<'_>) -> Result<Vec<u8>, Reason> {
    let mut out = Buffer::default();
    write(&mut out, value, 0)?;
    Ok(out.into_bytes())
}

fn write(out: &mut Buffer, value: &Value<'_>, depth: usize) -> Result<(), Reason> {
    if depth > MAX_DEPTH {
        return Err("the value is nested too deeply for JSON".into());
    }
    match value {
        Value::Nil => out.push_str("null"),
        Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Value::Int(value) | Value::Int64(value) => out.push_str(&value.to_string()),
        Value::Uint8(value) => out.push_str(&value.to_string()),
        Value::Float(value) => out.push_str(&float::json(*value)),
        Value::Text(text) => write_text(out, text),
        Value::List(items) => {
            out.push(b"[")?;
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(b",")?;
                }
                write(out, &Value::from_json(item), depth + 1)?;
            }
            out.push(b"]")
        }
        Value::Map(map) => {
            out.push(b"{")?;
            for (index, (key, item)) in map.entries().iter().enumerate() {
                if index > 0 {
                    out.push(b",")?;
                }
                write_text(out, key.as_bytes())?;
                out.push(b":")?;
                write(out, item, depth + 1)?;
            }
            out.push(b"}")
        }
    }
}

fn write_text(out: &mut Buffer, text: &[u8]) -> Result<(), Reason> {
    out.push(b"\"")?;
    for rune in runes(text) {
        match rune {
            Ok('"') => out.push(b"\\\"")?,
            Ok('\\') => out.push(b"\\\\")?,
            Ok('\n') => out.push(b"\\n")?,
            Ok('\r') => out.push(b"\\r")?,
            Ok('\t') => out.push(b"\\t")?,
            Ok(c @ ('\0'..='\x1f' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}')) => {
                out.push_str(&format!("\\u{:04x}", u32::from(c)))?;
            }
            Ok(c) => out.push_char(c)?,
            Err(_) => out.push(b"\\ufffd")?,
        }
    }
    out.push(b"\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_escaped_as_go_does() {
        let items = serde_json::json!([-1, null, true, 1.5, 1e21, {"b": "<", "a": 1e-7}]);
        let bytes = Value::computed(b"a\xff".to_vec());
        for (value, json) in [
            (
                Value::from("a\u{8}\u{c}\u{1}\n\r\t\"\\/"),
                r#""a\u0008\u000c\u0001\n\r\t\"\\/""#,
            ),
            (
                Value::from("<é>&\u{2028}\u{7f}"),
                "\"\\u003cé\\u003e\\u0026\\u2028\u{7f}\"",
            ),
            (bytes, "\"a\\ufffd\""),
            (
                Value::from_json(&items),
                "[-1,null,true,1.5,1e+21,{\"a\":1e-7,\"b\":\"\\u003c\"}]",
            ),
            (Value::Int64(i64::MIN), "-9223372036854775808"),
            (Value::Uint8(97), "97"),
        ] {
            assert_eq!(to_json(&value), Ok(json.as_bytes().to_vec()));
        }
    }
}
