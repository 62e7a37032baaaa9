//! JSON as Go has it: `encoding/json` of Go 1.19 with its escapes, and what its decoder makes of a document.

use std::sync::Arc;

use gotmpl::Value;

/// What templates see of a JSON value: as Go's decoder into `any` has it, except that whole numbers stay whole.
pub fn from_json(value: &serde_json::Value) -> Value {
    match value {
        serde_json::Value::Null => Value::Nil,
        serde_json::Value::Bool(value) => Value::Bool(*value),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => Value::Int(whole),
            (None, Some(float)) => Value::Float(float),
            (None, None) => Value::Nil,
        },
        serde_json::Value::String(text) => Value::from(text.as_str()),
        serde_json::Value::Array(items) => Value::List(items.iter().map(from_json).collect()),
        serde_json::Value::Object(entries) => {
            // Without nulls: looking into one is an error in Go, as is looking up a missing key.
            let entries = entries.iter().filter(|(_, value)| !value.is_null());
            let entry = |(key, value): (&String, _)| (Arc::from(key.as_str()), from_json(value));
            Value::Map(Arc::new(entries.map(entry).collect()))
        }
    }
}

/// `encoding/json` of Go 1.19: map keys sorted, `<`, `>`, `&`, U+2028 and U+2029 escaped. `None` for a function, and for
/// a number that has no JSON form.
pub fn to_json(value: &Value) -> Option<String> {
    let mut out = String::new();
    write_json(value, &mut out)?;
    Some(out)
}

fn write_json(value: &Value, out: &mut String) -> Option<()> {
    match value {
        Value::Nil => out.push_str("null"),
        Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Value::Int(value) => out.push_str(&value.to_string()),
        Value::Uint(value) => out.push_str(&value.to_string()),
        Value::Float(value) => out.push_str(&serde_json::Number::from_f64(*value)?.to_string()),
        Value::String(text) => write_json_text(text, out),
        Value::List(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_json(item, out)?;
            }
            out.push(']');
        }
        Value::Map(entries) => {
            out.push('{');
            for (index, (key, item)) in entries.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_json_text(key, out);
                out.push(':');
                write_json(item, out)?;
            }
            out.push('}');
        }
        Value::Function(_) => return None,
    }
    Some(())
}

fn write_json_text(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\0'..='\x1f' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                out.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            _ => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_escaped_as_go_does() {
        for (value, json) in [
            (
                Value::from("a\u{8}\u{c}\u{1}\n\r\t\"\\/"),
                r#""a\u0008\u000c\u0001\n\r\t\"\\/""#,
            ),
            (
                Value::from("<é>&\u{2028}\u{7f}"),
                "\"\\u003cé\\u003e\\u0026\\u2028\u{7f}\"",
            ),
            (
                Value::List(
                    [
                        Value::Int(-1),
                        Value::Nil,
                        Value::Bool(true),
                        Value::Float(1.5),
                    ]
                    .into(),
                ),
                "[-1,null,true,1.5]",
            ),
        ] {
            assert_eq!(to_json(&value).as_deref(), Some(json));
        }
        assert_eq!(to_json(&Value::Float(f64::NAN)), None);
    }
}
