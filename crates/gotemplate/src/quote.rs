//! Texts as Go's `strconv.Quote` writes them.

use crate::text::{is_print, runes};

/// A text between double quotes.
pub fn quoted(text: &[u8], ascii_only: bool) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for rune in runes(text) {
        match rune {
            Ok(c) => push_escaped(&mut out, c, '"', ascii_only),
            Err(byte) => out.push_str(&format!("\\x{byte:02x}")),
        }
    }
    out.push('"');
    out
}

/// A character between single quotes.
pub fn quoted_char(c: char, ascii_only: bool) -> String {
    let mut out = String::from("'");
    push_escaped(&mut out, c, '\'', ascii_only);
    out.push('\'');
    out
}

/// The text between backquotes, where Go could read it there.
pub fn backquoted(text: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(text).ok()?;
    let fits = |c: char| c == '\t' || !matches!(c, '\0'..='\x1f' | '`' | '\x7f' | '\u{feff}');
    text.chars().all(fits).then(|| format!("`{text}`"))
}

fn push_escaped(out: &mut String, c: char, quote: char, ascii_only: bool) {
    if c == quote || c == '\\' {
        out.push('\\');
        out.push(c);
        return;
    }
    if is_print(c) && (c.is_ascii() || !ascii_only) {
        out.push(c);
        return;
    }
    let code = u32::from(c);
    match c {
        '\x07' => out.push_str("\\a"),
        '\x08' => out.push_str("\\b"),
        '\x0c' => out.push_str("\\f"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\x0b' => out.push_str("\\v"),
        '\0'..='\x1f' | '\x7f' => out.push_str(&format!("\\x{code:02x}")),
        '\u{80}'..='\u{ffff}' => out.push_str(&format!("\\u{code:04x}")),
        _ => out.push_str(&format!("\\U{code:08x}")),
    }
}
