//! Rewrites Go's regexp syntax in the syntax of the `regex` crate.
//!
//! An own scanner, because `regex-syntax` reads `[[a]`, `&&` and `--` in a class as nested sets before anything can be rewritten.
//!
//! The engines agree on nearly everything else. `\w \d \s \b` are ASCII only, `[` and `&&` inside a class are literal, a `{`
//! that starts no repetition is literal, and `\Q..\E`, octal escapes and `\p{^..}` exist. What Go refuses (`a**`, `(?x)`, more
//! than 1000 repetitions) is refused. Source: Go's `regexp/syntax` documentation and RE2's syntax page.

use std::iter::Peekable;
use std::str::Chars;

use super::RegexpError;

const MAX_REPETITIONS: u32 = 1000;
const DIGIT: &str = "0-9";
const SPACE: &str = r"\t\n\x0C\r\x20";
const WORD: &str = "0-9A-Za-z_";

/// `[:alpha:]` and its like.
const POSIX_CLASSES: &[&str] = &[
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct",
    "space", "upper", "word", "xdigit",
];

/// The pattern with the same meaning for the `regex` crate.
pub fn translate(pattern: &str) -> Result<String, RegexpError> {
    Translator::new(pattern).translate()
}

struct Translator<'p> {
    rest: Peekable<Chars<'p>>,
    out: String,
}

/// An escape sequence inside or outside of a class.
enum Escape {
    /// One character.
    Char(char),
    /// A class, as the inside of a bracket.
    Class { inside: &'static str, negated: bool },
    /// `\pL`, `\P{Greek}`: alike in both.
    Property(String),
    /// `\A`, `\z`, `\b`, `\B`
    Assertion(&'static str),
    /// `\Q...\E`
    Quoted(String),
}

impl<'p> Translator<'p> {
    fn new(pattern: &'p str) -> Self {
        Self {
            rest: pattern.chars().peekable(),
            out: String::with_capacity(pattern.len() + 16),
        }
    }

    fn translate(mut self) -> Result<String, RegexpError> {
        // Whether the last thing was a repetition: Go refuses another one on top of it.
        let mut repeated = false;
        while let Some(c) = self.rest.next() {
            let was_repeated = std::mem::take(&mut repeated);
            match c {
                '\\' => self.escape()?,
                '[' => self.class()?,
                '(' => self.group()?,
                '*' | '+' | '?' => {
                    self.out.push(c);
                    repeated = true;
                }
                '{' => match self.repetition()? {
                    Some(text) => {
                        self.out.push_str(&text);
                        repeated = true;
                    }
                    None => self.out.push_str(r"\{"),
                },
                ')' | '|' | '.' | '^' | '$' => self.out.push(c),
                literal => self.literal(literal),
            }
            if repeated {
                if was_repeated {
                    return fail("invalid nested repetition operator");
                }
                if self.rest.next_if_eq(&'?').is_some() {
                    self.out.push('?');
                }
            }
        }
        Ok(self.out)
    }

    fn literal(&mut self, c: char) {
        self.out
            .push_str(&regex::escape(c.encode_utf8(&mut [0; 4])));
    }

    fn escape(&mut self) -> Result<(), RegexpError> {
        match self.escape_sequence()? {
            Escape::Char(c) => self.literal(c),
            Escape::Class { inside, negated } => {
                self.out.push_str(if negated { "[^" } else { "[" });
                self.out.push_str(inside);
                self.out.push(']');
            }
            Escape::Property(text) => self.out.push_str(&text),
            Escape::Assertion(text) => self.out.push_str(text),
            Escape::Quoted(text) => self.out.push_str(&regex::escape(&text)),
        }
        Ok(())
    }

    /// What follows a backslash.
    fn escape_sequence(&mut self) -> Result<Escape, RegexpError> {
        let Some(c) = self.rest.next() else {
            return fail("trailing backslash at the end of the expression");
        };
        Ok(match c {
            'd' => Escape::Class {
                inside: DIGIT,
                negated: false,
            },
            'D' => Escape::Class {
                inside: DIGIT,
                negated: true,
            },
            's' => Escape::Class {
                inside: SPACE,
                negated: false,
            },
            'S' => Escape::Class {
                inside: SPACE,
                negated: true,
            },
            'w' => Escape::Class {
                inside: WORD,
                negated: false,
            },
            'W' => Escape::Class {
                inside: WORD,
                negated: true,
            },
            'p' | 'P' => Escape::Property(self.property(c == 'P')?),
            'A' => Escape::Assertion(r"\A"),
            'z' => Escape::Assertion(r"\z"),
            'b' => Escape::Assertion(r"(?-u:\b)"),
            'B' => Escape::Assertion(r"(?-u:\B)"),
            'a' => Escape::Char('\x07'),
            'f' => Escape::Char('\x0C'),
            'n' => Escape::Char('\n'),
            'r' => Escape::Char('\r'),
            't' => Escape::Char('\t'),
            'v' => Escape::Char('\x0B'),
            'x' => Escape::Char(self.hexadecimal()?),
            '0'..='7' => Escape::Char(self.octal(c)?),
            'Q' => Escape::Quoted(self.quoted()),
            'C' => return fail(r"\C (any byte) is not supported"),
            c if c.is_ascii() && !c.is_ascii_alphanumeric() => Escape::Char(c),
            c => return fail(format!("invalid escape sequence: \\{c}")),
        })
    }

    fn property(&mut self, negated: bool) -> Result<String, RegexpError> {
        let mut name = String::new();
        match self.rest.next() {
            Some('{') => loop {
                match self.rest.next() {
                    Some('}') => break,
                    Some(c) => name.push(c),
                    None => return fail(r"missing closing } of \p{"),
                }
            },
            Some(c) => name.push(c),
            None => return fail(r"a class name is missing after \p"),
        }
        let (name, caret) = name
            .strip_prefix('^')
            .map_or((name.as_str(), false), |name| (name, true));
        let kind = match name.as_bytes() {
            [b'A'..=b'Z'] | [b'A'..=b'Z', b'a'..=b'z'] => "gc=",
            _ if name == "Any" => "",
            [b'A'..=b'Z', ..] => "sc=",
            _ => return fail(format!("invalid character class range: \\p{{{name}}}")),
        };
        let letter = if negated == caret { 'p' } else { 'P' };
        Ok(format!("\\{letter}{{{kind}{name}}}"))
    }

    fn hexadecimal(&mut self) -> Result<char, RegexpError> {
        let mut digits = String::new();
        if self.rest.next_if_eq(&'{').is_some() {
            loop {
                match self.rest.next() {
                    Some('}') => break,
                    Some(c) => digits.push(c),
                    None => return fail(r"missing closing } of \x{"),
                }
            }
        } else {
            digits.extend(self.rest.by_ref().take(2));
            if digits.len() != 2 {
                return fail(r"\x needs two digits");
            }
        }
        let code = if digits.chars().all(|c| c.is_ascii_hexdigit()) {
            u32::from_str_radix(&digits, 16).ok()
        } else {
            None
        };
        code.and_then(char::from_u32)
            .ok_or_else(|| RegexpError::Syntax(format!("\\x{{{digits}}} is not a character")))
    }

    /// `\0`, `\12`, `\377`. A single digit but 0 would be a back-reference, which neither engine has.
    fn octal(&mut self, first: char) -> Result<char, RegexpError> {
        let mut code = first.to_digit(8).unwrap_or(0);
        let mut digits = 1;
        while digits < 3 {
            let Some(digit) = self.rest.peek().and_then(|c| c.to_digit(8)) else {
                break;
            };
            self.rest.next();
            code = code * 8 + digit;
            digits += 1;
        }
        if digits == 1 && first != '0' {
            return fail("back-references are not supported");
        }
        char::from_u32(code)
            .ok_or_else(|| RegexpError::Syntax("an octal escape is not a character".to_owned()))
    }

    fn quoted(&mut self) -> String {
        let mut text = String::new();
        while let Some(c) = self.rest.next() {
            if c == '\\' && self.rest.next_if_eq(&'E').is_some() {
                break;
            }
            text.push(c);
        }
        text
    }

    /// After `(`: passes what Go knows, refuses the rest.
    fn group(&mut self) -> Result<(), RegexpError> {
        self.out.push('(');
        if self.rest.next_if_eq(&'?').is_none() {
            return Ok(());
        }
        self.out.push('?');
        let mut flags = String::new();
        while let Some(c) = self.rest.next() {
            flags.push(c);
            match c {
                ':' | ')' => break,
                'i' | 'm' | 's' | 'U' | '-' => {}
                'P' if flags == "P" && self.rest.peek() == Some(&'<') => {}
                // That the name is there and closed is checked by the compiler.
                '<' if matches!(flags.as_str(), "P<" | "<")
                    && !matches!(self.rest.peek(), Some('=' | '!')) =>
                {
                    for c in self.rest.by_ref() {
                        flags.push(c);
                        match c {
                            '>' => break,
                            '_' | '0'..='9' | 'a'..='z' | 'A'..='Z' => {}
                            _ => return fail(format!("invalid group name: (?{flags}")),
                        }
                    }
                    break;
                }
                _ => return fail(format!("invalid or unsupported Perl syntax: (?{flags}")),
            }
        }
        self.out.push_str(&flags);
        Ok(())
    }

    /// After `{`: the repetition, or `None` where it is a literal brace.
    fn repetition(&mut self) -> Result<Option<String>, RegexpError> {
        let inside: String = self.rest.clone().take_while(|c| *c != '}').collect();
        let (low, high) = inside
            .split_once(',')
            .map_or((inside.as_str(), None), |(low, high)| (low, Some(high)));
        let number =
            |digits: &str| !digits.is_empty() && digits.chars().all(|c| c.is_ascii_digit());
        let closed = self.rest.clone().nth(inside.chars().count()) == Some('}');
        if !closed || !number(low) || !high.is_none_or(|high| high.is_empty() || number(high)) {
            return Ok(None);
        }
        for digits in [Some(low), high]
            .into_iter()
            .flatten()
            .filter(|digits| !digits.is_empty())
        {
            if digits
                .parse::<u32>()
                .is_ok_and(|count| count <= MAX_REPETITIONS)
            {
                continue;
            }
            return fail(format!(
                "invalid repeat count: {{{inside}}} (at most {MAX_REPETITIONS})"
            ));
        }
        for _ in 0..=inside.chars().count() {
            self.rest.next();
        }
        Ok(Some(format!("{{{inside}}}")))
    }

    /// After `[`.
    fn class(&mut self) -> Result<(), RegexpError> {
        self.out.push('[');
        if self.rest.next_if_eq(&'^').is_some() {
            self.out.push('^');
        }
        let mut first = true;
        loop {
            let Some(c) = self.rest.next() else {
                return fail("missing closing ] of a character class");
            };
            if c == ']' && !first {
                break;
            }
            first = false;
            if c == '[' && self.rest.peek() == Some(&':') && self.posix_class()? {
                continue;
            }
            if let Some(low) = self.class_char(c)? {
                self.class_range(low)?;
            }
        }
        self.out.push(']');
        Ok(())
    }

    /// `[:alpha:]` or `[:^alpha:]`, after its `[`; false where it is just a bracket.
    fn posix_class(&mut self) -> Result<bool, RegexpError> {
        let text: String = self
            .rest
            .clone()
            .skip(1)
            .take_while(|c| c.is_ascii_lowercase() || *c == '^')
            .collect();
        let mut after = self.rest.clone().skip(1 + text.len());
        if (after.next(), after.next()) != (Some(':'), Some(']')) {
            return Ok(false);
        }
        if !POSIX_CLASSES.contains(&text.strip_prefix('^').unwrap_or(&text)) {
            return fail(format!("invalid character class range: [:{text}:]"));
        }
        for _ in 0..text.len() + 3 {
            self.rest.next();
        }
        self.out.push_str(&format!("[:{text}:]"));
        Ok(true)
    }

    /// One member of a class: the character it starts at, or `None` where a whole class has been written.
    fn class_char(&mut self, c: char) -> Result<Option<char>, RegexpError> {
        if c != '\\' {
            return Ok(Some(c));
        }
        match self.escape_sequence()? {
            Escape::Char(c) => return Ok(Some(c)),
            Escape::Class {
                inside,
                negated: false,
            } => self.out.push_str(inside),
            Escape::Class {
                inside,
                negated: true,
            } => self.out.push_str(&format!("[^{inside}]")),
            Escape::Property(text) => self.out.push_str(&text),
            Escape::Assertion(_) | Escape::Quoted(_) => {
                return fail("invalid escape sequence in a character class");
            }
        }
        Ok(None)
    }

    fn class_range(&mut self, low: char) -> Result<(), RegexpError> {
        self.out.push_str(&format!("\\x{{{:X}}}", u32::from(low)));
        let mut ahead = self.rest.clone();
        if ahead.next() != Some('-') || matches!(ahead.next(), None | Some(']')) {
            return Ok(());
        }
        self.rest.next();
        let Some(c) = self.rest.next() else {
            return fail("missing closing ] of a character class");
        };
        let high = match if c == '\\' {
            self.escape_sequence()?
        } else {
            Escape::Char(c)
        } {
            Escape::Char(high) if high >= low => high,
            _ => return fail("invalid character class range"),
        };
        self.out.push_str(&format!("-\\x{{{:X}}}", u32::from(high)));
        Ok(())
    }
}

fn fail<T>(message: impl Into<String>) -> Result<T, RegexpError> {
    Err(RegexpError::Syntax(message.into()))
}
