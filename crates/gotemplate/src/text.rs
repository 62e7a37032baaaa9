//! Go's way with text where Rust's differs. Go's texts are bytes, which need not be UTF-8: a byte that belongs to no character
//! counts as one character, U+FFFD.

use std::sync::LazyLock;

use regex::Regex;

/// The characters of a text; `Err` is a byte that belongs to none.
pub fn runes(text: &[u8]) -> impl Iterator<Item = Result<char, u8>> {
    text.utf8_chunks().flat_map(|chunk| {
        let invalid = chunk.invalid().iter().map(|byte| Err(*byte));
        chunk.valid().chars().map(Ok).chain(invalid)
    })
}

/// The characters of a text, each byte that belongs to none as U+FFFD.
pub fn chars(text: &[u8]) -> impl Iterator<Item = char> {
    runes(text).map(|rune| rune.unwrap_or(char::REPLACEMENT_CHARACTER))
}

/// The text as UTF-8, as `encoding/json` makes it: each byte that belongs to no character as U+FFFD.
pub fn to_utf8(text: Vec<u8>) -> String {
    String::from_utf8(text).unwrap_or_else(|error| chars(error.as_bytes()).collect())
}

/// At most the first 96 characters of a text.
pub fn shorten(text: &str) -> String {
    const MAX_CHARACTERS: usize = 96;
    let mut short: String = text.chars().take(MAX_CHARACTERS).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

/// `strings.TrimSpace`.
pub fn trim(text: &[u8]) -> &[u8] {
    let text = trim_start(text);
    // Space is never part of what is not UTF-8.
    match text.utf8_chunks().last() {
        Some(last) if last.invalid().is_empty() => {
            let valid = last.valid();
            &text[..text.len() - (valid.len() - valid.trim_end().len())]
        }
        _ => text,
    }
}

/// The text without the space in front.
pub fn trim_start(text: &[u8]) -> &[u8] {
    match text.utf8_chunks().next() {
        Some(first) => {
            let valid = first.valid();
            &text[valid.len() - valid.trim_start().len()..]
        }
        None => text,
    }
}

/// `unicode.IsLetter`. Rust's `is_alphabetic` counts marks and letter-like numbers, too.
pub fn is_letter(c: char) -> bool {
    c.is_ascii_alphabetic() || !c.is_ascii() && matches(c, &LETTER)
}

/// `unicode.IsDigit`.
pub fn is_digit(c: char) -> bool {
    c.is_ascii_digit() || !c.is_ascii() && matches(c, &DIGIT)
}

/// `unicode.IsPrint`: letters, marks, numbers, punctuation, symbols and the blank.
pub fn is_print(c: char) -> bool {
    matches!(c, ' '..='~') || !c.is_ascii() && matches(c, &PRINT)
}

type Class = LazyLock<Option<Regex>>;

static LETTER: Class = LazyLock::new(|| Regex::new(r"\pL").ok());
static DIGIT: Class = LazyLock::new(|| Regex::new(r"\p{Nd}").ok());
static PRINT: Class = LazyLock::new(|| Regex::new(r"[\pL\pM\pN\pP\pS]").ok());

fn matches(c: char, class: &Class) -> bool {
    let class: &Option<Regex> = class;
    class
        .as_ref()
        .is_some_and(|class| class.is_match(c.encode_utf8(&mut [0; 4])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_byte_outside_of_a_character_is_one() {
        for (text, expected) in [
            (&b"donn\xc3"[..], "donn\u{fffd}"),
            (b"\xe2\x82x", "\u{fffd}\u{fffd}x"),
            (b"\xff\xfe", "\u{fffd}\u{fffd}"),
            ("é".as_bytes(), "é"),
        ] {
            assert_eq!(to_utf8(text.to_vec()), expected);
        }
    }

    #[test]
    fn space_is_trimmed_around_what_is_not_utf8() {
        for (text, expected) in [
            (&b" \t\xc2\xa0a \xe2\x80\x83\n"[..], &b"a"[..]),
            (b" \xff ", b"\xff"),
            (b"\xff a\xc3", b"\xff a\xc3"),
            (b" a\xff b ", b"a\xff b"),
            (b"  ", b""),
        ] {
            assert_eq!(trim(text), expected);
        }
    }

    #[test]
    fn classes_are_those_of_go() {
        for (c, letter, digit, print) in [
            ('é', true, false, true),
            ('٣', false, true, true),
            ('Ⅷ', false, false, true),
            ('\u{301}', false, false, true),
            ('\u{a0}', false, false, false),
            ('\u{ad}', false, false, false),
            ('€', false, false, true),
            ('\u{fffd}', false, false, true),
            ('\u{7f}', false, false, false),
        ] {
            assert_eq!(
                (is_letter(c), is_digit(c), is_print(c)),
                (letter, digit, print),
                "{c:?}"
            );
        }
    }
}
