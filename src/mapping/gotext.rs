//! Go's way with text where Rust's differs: letter case and JSON.

use gotmpl::Value;

/// `strings.ToUpper`: character by character, one to one (`straße` gives `STRAßE`).
pub fn to_upper(text: &str) -> String {
    text.chars().map(upper).collect()
}

/// `strings.ToLower`: character by character, one to one (`İ` gives `i`, a final sigma stays `σ`).
pub fn to_lower(text: &str) -> String {
    text.chars().map(lower).collect()
}

fn upper(c: char) -> char {
    let mut full = c.to_uppercase();
    if full.len() == 1 {
        return full.next().unwrap_or(c);
    }
    // The full mapping has several characters; Unicode's simple mapping is then the character itself, but for the
    // Greek letters with an iota below.
    let simple = match u32::from(c) {
        code @ (0x1F80..=0x1F87 | 0x1F90..=0x1F97 | 0x1FA0..=0x1FA7) => code + 8,
        code @ (0x1FB3 | 0x1FC3 | 0x1FF3) => code + 9,
        code => code,
    };
    char::from_u32(simple).unwrap_or(c)
}

fn lower(c: char) -> char {
    // Only U+0130 has a full mapping of several characters; the first one is its simple mapping.
    c.to_lowercase().next().unwrap_or(c)
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
    fn case_is_mapped_one_to_one() {
        for (text, upper, lower) in [
            ("straße", "STRAßE", "straße"),
            ("İstanbul", "İSTANBUL", "istanbul"),
            ("ΟΔΟΣ", "ΟΔΟΣ", "οδοσ"),
            ("ᾳ ᾀ ᾖ ŉ", "ᾼ ᾈ ᾞ ŉ", "ᾳ ᾀ ᾖ ŉ"),
            ("Température 日本", "TEMPÉRATURE 日本", "température 日本"),
        ] {
            assert_eq!(to_upper(text), upper);
            assert_eq!(to_lower(text), lower);
        }
    }

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
