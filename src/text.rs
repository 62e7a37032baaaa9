//! Texts for people: what cannot be seen in them is shown, and long ones are cut.
//!
//! Data keeps what it contains. Only what is displayed passes here: diagnostics, the log, responses, `--explain`.

use std::borrow::Cow;

/// The most characters of a text that a message repeats.
const MAX_CHARS: usize = 96;

/// The text on one line, with an escape (`\n`, `\u{200b}`) in place of each character that cannot be seen or that looks like
/// another one: control and format characters, white space other than the space, and letters that resemble Latin ones in a
/// word with ASCII letters.
///
/// It escapes neither a backslash nor a quotation mark, so that escaping twice changes nothing.
pub fn visible(text: &str) -> Cow<'_, str> {
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let mut end = first.len_utf8();
        if first == '\\' {
            // The letter behind it, or behind several, belongs to an escape, and to no word.
            let behind = rest.trim_start_matches('\\');
            end = rest.len() - behind.len() + behind.chars().next().map_or(0, char::len_utf8);
        } else if is_word(first) {
            end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        }
        let (part, after) = rest.split_at(end);
        let is_latin = part.contains(|c: char| c.is_ascii_alphabetic()) && first != '\\';
        for c in part.chars() {
            if is_hidden(c) || is_latin && resembles_latin(c) {
                shown.extend(c.escape_default());
            } else {
                shown.push(c);
            }
        }
        rest = after;
    }
    Cow::Owned(shown)
}

fn is_word(c: char) -> bool {
    (c.is_alphanumeric() || c == '_') && !is_hidden(c)
}

/// Whether a character cannot be seen: control characters, white space other than the space, and Unicode's format
/// characters and fillers.
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || c.is_whitespace() && c != ' '
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{890}'..='\u{891}' | '\u{8e2}'
            | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1343f}' | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// Greek, Coptic, Cyrillic, Armenian, Cherokee, Lisu, full-width and mathematical letters.
fn resembles_latin(c: char) -> bool {
    matches!(c,
        '\u{370}'..='\u{58f}' | '\u{13a0}'..='\u{13ff}' | '\u{1c80}'..='\u{1c8f}' | '\u{1d26}'..='\u{1d2b}' | '\u{1f00}'..='\u{1fff}'
        | '\u{2c80}'..='\u{2cff}' | '\u{2de0}'..='\u{2dff}' | '\u{a4d0}'..='\u{a4ff}' | '\u{a640}'..='\u{a69f}'
        | '\u{ab70}'..='\u{abbf}' | '\u{ff21}'..='\u{ff5a}' | '\u{1d400}'..='\u{1d7ff}')
}

/// The start of a text, at most `max_chars` characters, and what follows.
pub fn split_at_chars(text: &str, max_chars: usize) -> (&str, &str) {
    // A text has at most as many characters as bytes.
    if text.len() <= max_chars {
        return (text, "");
    }
    let end = text.char_indices().nth(max_chars);
    text.split_at(end.map_or(text.len(), |(end, _)| end))
}

/// The start of a text, for a message: 96 characters at most.
pub fn shorten(text: &str) -> String {
    shorten_to(text, MAX_CHARS)
}

/// The start of a text, with an ellipsis where it is cut.
pub fn shorten_to(text: &str, max_chars: usize) -> String {
    match split_at_chars(text, max_chars) {
        (text, "") => text.to_owned(),
        (start, _) => format!("{start}…"),
    }
}

/// A number with what it counts.
pub fn count(number: usize, one: &str, several: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { several })
}

#[cfg(test)]
#[allow(missing_docs)]
pub mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The rows of a table: the text of a line, and what is expected of it, below it. A line that begins with `//` is a comment.
    pub fn rows(table: &str) -> Vec<(&str, &str)> {
        let lines = table.lines().map(str::trim);
        let lines = lines.filter(|line| !line.is_empty() && !line.starts_with("//"));
        let lines: Vec<&str> = lines.collect();
        lines.chunks(2).map(|row| (row[0], row[1])).collect()
    }

    #[test]
    fn what_cannot_be_seen_is_shown() {
        for (text, shown) in [
            ("a b\\n\"c'", "a b\\n\"c'"),
            (
                "Température élevée, 日本語 🔥",
                "Température élevée, 日本語 🔥",
            ),
            // Words of one script, and those that no Latin letter is in.
            ("сервер_1 Ωμέγα λ=2", "сервер_1 Ωμέγα λ=2"),
            ("tab\tline\r\nend\u{85}", "tab\\tline\\r\\nend\\u{85}"),
            ("\u{a0}output", "\\u{a0}output"),
            ("author\u{200b}", "author\\u{200b}"),
            ("50\u{202f}%", "50\\u{202f}%"),
            ("\u{feff}connector", "\\u{feff}connector"),
            ("soft\u{ad}hyphen", "soft\\u{ad}hyphen"),
            ("\u{1b}[31mred\u{9b}", "\\u{1b}[31mred\\u{9b}"),
            (
                "a\u{202e}b\u{2066}c\u{2028}d",
                "a\\u{202e}b\\u{2066}c\\u{2028}d",
            ),
            (
                "x\u{3164}y\u{2800}z\u{e0041}",
                "x\\u{3164}y\\u{2800}z\\u{e0041}",
            ),
            // Cyrillic, Greek, Armenian, full-width.
            ("c\u{43e}mponent", "c\\u{43e}mponent"),
            ("labels.\u{456}nstance", "labels.\\u{456}nstance"),
            ("h\u{3bf}st", "h\\u{3bf}st"),
            ("\u{585}utput", "\\u{585}utput"),
            ("\u{ff4f}utput", "\\u{ff4f}utput"),
            ("α\nβ", "α\\nβ"),
            ("\\\rα", "\\\\rα"),
        ] {
            assert_eq!(visible(text), shown, "{text:?}");
        }
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        for (text, max_chars, short) in [
            ("", 0, ""),
            ("abc", 3, "abc"),
            ("abcd", 3, "abc…"),
            ("日本語", 3, "日本語"),
            ("日本語!", 3, "日本語…"),
        ] {
            assert_eq!(shorten_to(text, max_chars), short);
        }
    }

    proptest! {
        #[test]
        fn nothing_stays_hidden_and_escaping_twice_changes_nothing(
            text in "([a-zαβоп\u{200b}\u{a0}\\\\\"\n\t é_0-9]|\\PC){0,24}|.{0,24}"
        ) {
            let once = visible(&text).into_owned();
            prop_assert!(!once.contains(is_hidden), "{:?}", once);
            prop_assert_eq!(visible(&once), &*once);
        }
    }
}
