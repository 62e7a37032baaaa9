//! From a template's text to tokens, as Go's lexer cuts them.
//!
//! Knows delimiters, trim markers, comments and the outer form of literals; what a literal is worth is `literal`'s business,
//! and what may follow what is the parser's.

use crate::error::{Failure, Position};
use crate::text::{is_digit, is_letter};

/// What a token is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    Text,
    LeftDelimiter,
    RightDelimiter,
    Space,
    Assign,
    Declare,
    Pipe,
    LeftParenthesis,
    RightParenthesis,
    /// Another printable ASCII character.
    Char,
    Bool,
    CharConstant,
    Complex,
    Number,
    Dot,
    /// `.name`, with its dot.
    Field,
    Identifier,
    /// `$name`, with its dollar sign.
    Variable,
    Nil,
    Quoted,
    RawQuoted,
    Block,
    Break,
    Continue,
    Define,
    Else,
    End,
    If,
    Range,
    Template,
    With,
    EndOfText,
    /// What can't be cut into tokens; nothing follows it.
    Error(String),
}

/// A piece of the template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token<'s> {
    pub kind: Kind,
    pub at: Position,
    pub text: &'s str,
}

const LEFT: &str = "{{";
const RIGHT: &str = "}}";

/// The only characters that count as space in actions and that trim markers remove.
const SPACES: [char; 4] = [' ', '\t', '\r', '\n'];

/// Cuts a whole template. The last token is `EndOfText` or `Error`.
pub fn tokens(source: &str) -> Vec<Token<'_>> {
    let mut lexer = Lexer {
        source,
        position: 0,
        tokens: Vec::new(),
    };
    match lexer.run() {
        Ok(()) => lexer.emit(Kind::EndOfText, source.len()),
        Err(Failure { at, message, .. }) => lexer.tokens.push(Token {
            kind: Kind::Error(message),
            at,
            text: "",
        }),
    }
    lexer.tokens
}

struct Lexer<'s> {
    source: &'s str,
    position: usize,
    tokens: Vec<Token<'s>>,
}

impl<'s> Lexer<'s> {
    fn rest(&self) -> &'s str {
        &self.source[self.position..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    /// Adds what lies between a place and the present position.
    fn emit(&mut self, kind: Kind, start: usize) {
        self.tokens.push(Token {
            kind,
            at: start,
            text: &self.source[start..self.position],
        });
    }

    fn fail<T>(at: usize, message: impl Into<String>) -> Result<T, Failure> {
        Err(Failure::new(at, message))
    }

    fn run(&mut self) -> Result<(), Failure> {
        loop {
            let start = self.position;
            let Some(length) = self.rest().find(LEFT) else {
                self.position = self.source.len();
                if self.position > start {
                    self.emit(Kind::Text, start);
                }
                return Ok(());
            };
            let delimiter = start + length;
            let inside = &self.source[delimiter + LEFT.len()..];
            let trims = has_left_trim_marker(inside);
            let text = &self.source[start..delimiter];
            let text = if trims {
                text.trim_end_matches(SPACES)
            } else {
                text
            };
            self.position = start + text.len();
            if !text.is_empty() {
                self.emit(Kind::Text, start);
            }
            self.position = delimiter + LEFT.len();
            let after_marker = self.position + if trims { 2 } else { 0 };
            if self.source[after_marker..].starts_with("/*") {
                self.position = after_marker;
                self.comment()?;
                continue;
            }
            self.emit(Kind::LeftDelimiter, delimiter);
            self.position = after_marker;
            self.action(delimiter)?;
        }
    }

    /// How long the delimiter is that begins here, and whether it has a trim marker.
    fn right_delimiter(&self) -> Option<(usize, bool)> {
        let rest = self.rest();
        if rest.starts_with(RIGHT) {
            return Some((RIGHT.len(), false));
        }
        let after_space = rest.strip_prefix(SPACES)?;
        after_space
            .strip_prefix('-')?
            .starts_with(RIGHT)
            .then_some((2 + RIGHT.len(), true))
    }

    /// Passes the delimiter, and the space behind it that its marker removes.
    fn pass_right_delimiter(&mut self, length: usize, trims: bool) {
        self.position += length;
        if trims {
            let rest = self.rest();
            self.position += rest.len() - rest.trim_start_matches(SPACES).len();
        }
    }

    fn comment(&mut self) -> Result<(), Failure> {
        let start = self.position;
        let Some(length) = self.source[start + 2..].find("*/") else {
            return Self::fail(start, "unclosed comment");
        };
        self.position = start + 2 + length + 2;
        let Some((length, trims)) = self.right_delimiter() else {
            return Self::fail(
                start,
                "comment ends before closing delimiter: }} or \" -}}\" must follow */ at once",
            );
        };
        self.pass_right_delimiter(length, trims);
        Ok(())
    }

    fn action(&mut self, delimiter: usize) -> Result<(), Failure> {
        let mut open = 0_usize;
        loop {
            let start = self.position;
            if let Some((length, trims)) = self.right_delimiter() {
                if open > 0 {
                    return Self::fail(start, "unclosed left paren");
                }
                self.pass_right_delimiter(length, trims);
                self.tokens.push(Token {
                    kind: Kind::RightDelimiter,
                    at: start,
                    text: RIGHT,
                });
                return Ok(());
            }
            let Some(c) = self.peek() else {
                return Self::fail(delimiter, "unclosed action: }} is missing");
            };
            match c {
                c if SPACES.contains(&c) => self.space(),
                '"' => self.quoted('"', Kind::Quoted, "quoted string")?,
                '\'' => self.quoted('\'', Kind::CharConstant, "character constant")?,
                '`' => self.raw_quoted()?,
                '$' => self.name(Kind::Variable)?,
                '.' if !self.rest()[1..].starts_with(|c: char| c.is_ascii_digit()) => {
                    self.name(Kind::Field)?;
                }
                '.' | '+' | '-' | '0'..='9' => self.number()?,
                c if is_word(c) => self.name(Kind::Identifier)?,
                c => {
                    self.position += c.len_utf8();
                    let kind = match c {
                        '=' => Kind::Assign,
                        ':' if self.peek() == Some('=') => {
                            self.position += 1;
                            Kind::Declare
                        }
                        ':' => return Self::fail(start, "expected :="),
                        '|' => Kind::Pipe,
                        '(' => {
                            open += 1;
                            Kind::LeftParenthesis
                        }
                        ')' if open == 0 => {
                            return Self::fail(start, "unexpected right paren");
                        }
                        ')' => {
                            open -= 1;
                            Kind::RightParenthesis
                        }
                        ' '..='~' => Kind::Char,
                        c => {
                            return Self::fail(
                                start,
                                format!("unrecognized character in action: {}", shown(c)),
                            );
                        }
                    };
                    self.emit(kind, start);
                }
            }
        }
    }

    /// A run of space, without the one that belongs to a trim marker.
    fn space(&mut self) {
        let start = self.position;
        while self.right_delimiter().is_none() && self.peek().is_some_and(|c| SPACES.contains(&c)) {
            self.position += 1;
        }
        self.emit(Kind::Space, start);
    }

    fn quoted(&mut self, quote: char, kind: Kind, name: &str) -> Result<(), Failure> {
        let start = self.position;
        let mut chars = self.rest().char_indices().skip(1);
        while let Some((offset, c)) = chars.next() {
            match c {
                '\n' => break,
                '\\' if chars.next().is_none_or(|(_, c)| c == '\n') => break,
                c if c == quote => {
                    self.position = start + offset + 1;
                    self.emit(kind, start);
                    return Ok(());
                }
                _ => {}
            }
        }
        Self::fail(start, format!("unterminated {name}"))
    }

    fn raw_quoted(&mut self) -> Result<(), Failure> {
        let start = self.position;
        let Some(length) = self.rest()[1..].find('`') else {
            return Self::fail(start, "unterminated raw quoted string");
        };
        self.position += length + 2;
        self.emit(Kind::RawQuoted, start);
        Ok(())
    }

    /// A word, or one with a dot or a dollar sign in front, which may be alone.
    fn name(&mut self, kind: Kind) -> Result<(), Failure> {
        let start = self.position;
        if kind != Kind::Identifier {
            self.position += 1;
        }
        self.position += word_length(self.rest());
        let next = self.peek();
        let terminated = next.is_none_or(|c| SPACES.contains(&c) || ".,|:)(".contains(c))
            || self.rest().starts_with(RIGHT);
        if let Some(c) = next.filter(|_| !terminated) {
            return Self::fail(self.position, format!("bad character {}", shown(c)));
        }
        let word = &self.source[start..self.position];
        let kind = match (kind, word) {
            (Kind::Field, ".") => Kind::Dot,
            (Kind::Identifier, word) => identifier(word),
            (kind, _) => kind,
        };
        self.emit(kind, start);
        Ok(())
    }

    fn number(&mut self) -> Result<(), Failure> {
        let start = self.position;
        let mut kind = Kind::Number;
        let mut valid = self.scan_number();
        if valid && self.peek().is_some_and(|c| c == '+' || c == '-') {
            kind = Kind::Complex;
            valid = self.scan_number() && self.source[..self.position].ends_with('i');
        }
        if !valid {
            self.position += self.peek().map_or(0, char::len_utf8);
            let text = &self.source[start..self.position];
            return Self::fail(start, format!("bad number syntax: {text:?}"));
        }
        self.emit(kind, start);
        Ok(())
    }

    fn accept(&mut self, set: &str) -> bool {
        let accepted = self.peek().is_some_and(|c| set.contains(c));
        self.position += usize::from(accepted);
        accepted
    }

    fn accept_run(&mut self, set: &str) {
        while self.accept(set) {}
    }

    /// Passes the outer form of a number; whether it is one is found out later.
    fn scan_number(&mut self) -> bool {
        const DECIMAL: &str = "0123456789_";
        self.accept("+-");
        let (mut digits, mut exponent) = (DECIMAL, "eE");
        if self.accept("0") {
            if self.accept("xX") {
                (digits, exponent) = ("0123456789abcdefABCDEF_", "pP");
            } else if self.accept("oO") {
                (digits, exponent) = ("01234567_", "");
            } else if self.accept("bB") {
                (digits, exponent) = ("01_", "");
            }
        }
        self.accept_run(digits);
        if self.accept(".") {
            self.accept_run(digits);
        }
        if self.accept(exponent) {
            self.accept("+-");
            self.accept_run(DECIMAL);
        }
        self.accept("i");
        !self.peek().is_some_and(is_word)
    }
}

fn has_left_trim_marker(inside: &str) -> bool {
    inside
        .strip_prefix('-')
        .is_some_and(|rest| rest.starts_with(SPACES))
}

fn is_word(c: char) -> bool {
    c == '_' || is_letter(c) || is_digit(c)
}

fn word_length(text: &str) -> usize {
    text.find(|c| !is_word(c)).unwrap_or(text.len())
}

fn identifier(word: &str) -> Kind {
    match word {
        "block" => Kind::Block,
        "break" => Kind::Break,
        "continue" => Kind::Continue,
        "define" => Kind::Define,
        "else" => Kind::Else,
        "end" => Kind::End,
        "if" => Kind::If,
        "range" => Kind::Range,
        "nil" => Kind::Nil,
        "template" => Kind::Template,
        "with" => Kind::With,
        "true" | "false" => Kind::Bool,
        _ => Kind::Identifier,
    }
}

/// `U+00A0`, or with the character where it can be seen.
fn shown(c: char) -> String {
    let code = format!("U+{:04X}", u32::from(c));
    if c.is_ascii_graphic() || is_letter(c) {
        return format!("{code} '{c}'");
    }
    if c.is_whitespace() {
        return format!("{code} (a space other than blank, tab and line break)");
    }
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(source: &str) -> Vec<(Kind, String)> {
        tokens(source)
            .into_iter()
            .map(|token| (token.kind, token.text.to_owned()))
            .collect()
    }

    fn texts(source: &str) -> Vec<String> {
        kinds(source)
            .into_iter()
            .filter(|(kind, _)| *kind == Kind::Text)
            .map(|(_, text)| text)
            .collect()
    }

    #[test]
    fn markers_trim_the_four_spaces_on_their_side_only() {
        for (source, expected) in [
            ("a {{- 1 }} b", &["a", " b"][..]),
            ("a {{ 1 -}} b", &["a ", "b"]),
            ("a {{- /* c */}} b", &["a", " b"]),
            ("a {{/* c */ -}} b", &["a ", "b"]),
            ("a \t\r\n{{- 1 -}} \t\r\nb", &["a", "b"]),
            ("a\u{a0}{{- 1 -}}\u{b}b", &["a\u{a0}", "\u{b}b"]),
            ("a {{-1}} b", &["a ", " b"]),
        ] {
            assert_eq!(texts(source), expected, "{source:?}");
        }
    }

    #[test]
    fn what_is_no_token_is_an_error_at_its_place() {
        for (source, at, message) in [
            ("{{ 1", 0, "unclosed action"),
            ("a{{/* c", 3, "unclosed comment"),
            ("{{/* c */ }}", 2, "comment ends before"),
            ("{{\u{a0}1}}", 2, "U+00A0 (a space other than"),
            ("{{ (1 }}", 6, "unclosed left paren"),
            ("{{ 1) }}", 4, "unexpected right paren"),
            ("{{ $x=1 }}", 5, "bad character U+003D '='"),
            ("{{ \"a }}", 3, "unterminated quoted string"),
            ("{{ \"a\\\n\" }}", 3, "unterminated quoted string"),
            ("{{ `a }}", 3, "unterminated raw"),
            ("{{ 'a }}", 3, "unterminated character"),
            ("{{ 1x }}", 3, "bad number syntax: \"1x\""),
            ("{{ 1+2 }}", 3, "bad number syntax"),
            ("{{ : }}", 3, "expected :="),
        ] {
            let all = tokens(source);
            let last = all.last().unwrap();
            assert_eq!(last.at, at, "{source:?}: {last:?}");
            assert!(
                matches!(&last.kind, Kind::Error(text) if text.contains(message)),
                "{source:?}: {last:?}"
            );
        }
    }

    #[test]
    fn words_fields_and_numbers_are_told_apart() {
        for (inside, kind) in [
            ("printf", Kind::Identifier),
            ("é2_", Kind::Identifier),
            ("true", Kind::Bool),
            ("nil", Kind::Nil),
            ("end", Kind::End),
            (".", Kind::Dot),
            (".a", Kind::Field),
            (".5", Kind::Number),
            ("$", Kind::Variable),
            ("$x", Kind::Variable),
            ("-0x1F", Kind::Number),
            ("1_0.5e-3", Kind::Number),
            ("1+2i", Kind::Complex),
            ("'\\''", Kind::CharConstant),
        ] {
            let all = kinds(&format!("{{{{{inside}}}}}"));
            assert_eq!(all[1], (kind, inside.to_owned()));
        }
    }
}
