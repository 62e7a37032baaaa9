//! What numbers, characters and quoted texts are worth, by the rules of Go's `strconv`.

/// A number in a template. What it becomes depends on where it is used: an integer parameter takes `1e3`, too.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Number {
    /// Its value as an integer, where it has one.
    pub integer: Option<i64>,
    /// What it is where no type is asked for.
    pub ideal: Ideal,
}

/// The type that Go gives to a number by its form.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Ideal {
    Int(i64),
    Float(f64),
    /// An integer above the largest `int`: an error where it is evaluated.
    Overflow,
}

/// The value of a number's text.
pub fn number(text: &str) -> Result<Number, String> {
    if text.ends_with('i') {
        return Err(format!("{text}: imaginary numbers are not supported"));
    }
    let looks_like_float = text.contains(['.', 'e', 'E', 'p', 'P']);
    let (sign, digits) = match text.as_bytes().first() {
        Some(b'-') => (-1_i128, &text[1..]),
        Some(b'+') => (1, &text[1..]),
        _ => (1, text),
    };
    let is_hexadecimal = digits.starts_with("0x") || digits.starts_with("0X");
    if underscores_are_right(digits)
        && let Some(value) = unsigned(digits)
    {
        let value = sign * value;
        let signed = i64::try_from(value).ok();
        // `0x1e3` contains an `e`, too. Go looks for `0x` only where the sign would be.
        if looks_like_float && !(is_hexadecimal && digits.len() == text.len()) {
            #[allow(clippy::cast_precision_loss, reason = "as Go converts it")]
            let ideal = Ideal::Float(value as f64);
            if signed.is_some() {
                return Ok(Number {
                    integer: signed,
                    ideal,
                });
            }
        } else if let Some(value) = signed {
            return Ok(Number {
                integer: signed,
                ideal: Ideal::Int(value),
            });
        } else if text.len() == digits.len() && u64::try_from(value).is_ok() {
            return Ok(Number {
                integer: None,
                ideal: Ideal::Overflow,
            });
        }
    }
    let Some(float) = float(text, digits, is_hexadecimal) else {
        return Err(format!("illegal number syntax: {text:?}"));
    };
    if !looks_like_float {
        return Err(format!("integer overflow: {text:?}"));
    }
    #[allow(
        clippy::cast_possible_truncation,
        clippy::float_cmp,
        clippy::cast_precision_loss,
        reason = "compared to see whether it is a whole number"
    )]
    let integer = Some(float as i64).filter(|whole| *whole as f64 == float && *whole != i64::MAX);
    Ok(Number {
        integer,
        ideal: Ideal::Float(float),
    })
}

/// Digits with a prefix for their base; with a zero in front they are octal.
fn unsigned(digits: &str) -> Option<i128> {
    let (base, digits) = match digits.as_bytes() {
        [b'0', b'x' | b'X', _, ..] => (16, &digits[2..]),
        [b'0', b'o' | b'O', _, ..] => (8, &digits[2..]),
        [b'0', b'b' | b'B', _, ..] => (2, &digits[2..]),
        [b'0', _, ..] => (8, &digits[1..]),
        _ => (10, digits),
    };
    let plain = digits.replace('_', "");
    // A sign would be taken here.
    if !plain.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return None;
    }
    u64::from_str_radix(&plain, base).ok().map(i128::from)
}

/// An underscore stands between digits, or between a prefix and a digit.
fn underscores_are_right(digits: &str) -> bool {
    let bytes = digits.as_bytes();
    let (prefix, hexadecimal) = match bytes {
        [b'0', b'x' | b'X', ..] => (2, true),
        [b'0', b'b' | b'B' | b'o' | b'O', ..] => (2, false),
        _ => (0, false),
    };
    let is_digit = |byte: &u8| byte.is_ascii_digit() || hexadecimal && byte.is_ascii_hexdigit();
    (0..bytes.len()).filter(|&at| bytes[at] == b'_').all(|at| {
        let after_digit = at > 0 && (at == prefix || is_digit(&bytes[at - 1]));
        after_digit && bytes.get(at + 1).is_some_and(is_digit)
    })
}

fn float(text: &str, digits: &str, is_hexadecimal: bool) -> Option<f64> {
    if !underscores_are_right(digits) {
        return None;
    }
    let plain = digits.replace('_', "");
    let value = if is_hexadecimal {
        hexadecimal_float(&plain[2..])?
    } else if plain.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        plain
            .parse::<f64>()
            .ok()
            .filter(|value| value.is_finite())?
    } else {
        return None;
    };
    Some(if text.starts_with('-') { -value } else { value })
}

/// `1.8p3`: a mantissa that `f64` holds exactly, otherwise nothing.
fn hexadecimal_float(text: &str) -> Option<f64> {
    let (mantissa, exponent) = text.split_once(['p', 'P'])?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    if !exponent
        .trim_start_matches(['+', '-'])
        .starts_with(|c: char| c.is_ascii_digit())
    {
        return None;
    }
    let exponent = exponent.parse::<i32>().ok()?;
    let value = u64::from_str_radix(&digits, 16).ok()?;
    let scale = exponent.checked_sub(i32::try_from(4 * fraction.len()).ok()?)?;
    if value >= 1 << 53 || !(-1000..=900).contains(&scale) {
        return None;
    }
    #[allow(
        clippy::cast_precision_loss,
        reason = "checked above: it has at most 53 bits"
    )]
    Some(value as f64 * 2_f64.powi(scale))
}

/// The code of a character between single quotes.
pub fn character(text: &str) -> Result<Number, String> {
    let inside = text.strip_prefix('\'').unwrap_or(text);
    let malformed = || {
        format!(
            "malformed character constant: {text}; a text is written between double quotes or backquotes"
        )
    };
    if inside == "'" {
        return Err(malformed());
    }
    let (unit, rest) = unescape_one(inside, '\'').map_err(|error| error.describe(text))?;
    if rest != "'" {
        return Err(malformed());
    }
    let code = match unit {
        Unit::Char(c) => i64::from(u32::from(c)),
        Unit::Byte(byte) => i64::from(byte),
    };
    Ok(Number {
        integer: Some(code),
        ideal: Ideal::Int(code),
    })
}

/// The text between double quotes. Go's texts are bytes: `"\xff"` is one that is not valid UTF-8.
pub fn quoted(text: &str) -> Result<Vec<u8>, String> {
    let inside = text
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'))
        .unwrap_or(text);
    let mut bytes = Vec::with_capacity(inside.len());
    let mut rest = inside;
    while !rest.is_empty() {
        let (unit, after) = unescape_one(rest, '"').map_err(|error| error.describe(text))?;
        match unit {
            Unit::Char(c) => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            Unit::Byte(byte) => bytes.push(byte),
        }
        rest = after;
    }
    Ok(bytes)
}

/// The text between backquotes; Go removes carriage returns from it.
pub fn raw(text: &str) -> String {
    text.trim_matches('`').replace('\r', "")
}

/// What one character or escape sequence stands for.
enum Unit {
    Char(char),
    Byte(u8),
}

struct BadEscape(String);

impl BadEscape {
    fn describe(&self, text: &str) -> String {
        format!(
            "invalid syntax: {text} has the escape {}, which Go does not have; write the backslash twice, or the text between backquotes",
            self.0
        )
    }
}

fn unescape_one(text: &str, quote: char) -> Result<(Unit, &str), BadEscape> {
    let mut chars = text.chars();
    let Some(c) = chars.next().filter(|c| *c != quote) else {
        return Err(BadEscape(format!("{quote}{quote}")));
    };
    if c != '\\' {
        return Ok((Unit::Char(c), chars.as_str()));
    }
    let escape = chars.next();
    let bad = || {
        BadEscape(format!(
            "\\{}",
            escape.map(String::from).unwrap_or_default()
        ))
    };
    let rest = chars.as_str();
    let code = |digits: usize, base: u32, text: &str| -> Option<u32> {
        let digits = text.get(..digits)?;
        if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        u32::from_str_radix(digits, base).ok()
    };
    let byte = |code: Option<u32>| code.and_then(|code| u8::try_from(code).ok());
    let simple = |c| Ok((Unit::Char(c), rest));
    match escape {
        Some('a') => simple('\x07'),
        Some('b') => simple('\x08'),
        Some('f') => simple('\x0c'),
        Some('n') => simple('\n'),
        Some('r') => simple('\r'),
        Some('t') => simple('\t'),
        Some('v') => simple('\x0b'),
        Some('\\') => simple('\\'),
        Some(c) if c == quote => simple(c),
        Some('x') => {
            let byte = byte(code(2, 16, rest)).ok_or_else(bad)?;
            Ok((Unit::Byte(byte), &rest[2..]))
        }
        Some(c @ ('u' | 'U')) => {
            let digits = if c == 'u' { 4 } else { 8 };
            let c = code(digits, 16, rest).and_then(char::from_u32);
            Ok((Unit::Char(c.ok_or_else(bad)?), &rest[digits..]))
        }
        Some('0'..='7') => {
            let digits = &text[1..];
            let byte = byte(code(3, 8, digits)).ok_or_else(bad)?;
            Ok((Unit::Byte(byte), &digits[3..]))
        }
        _ => Err(bad()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_type_of_their_form() {
        for (text, integer, ideal) in [
            ("0", Some(0), Ideal::Int(0)),
            ("-0", Some(0), Ideal::Int(0)),
            ("+7", Some(7), Ideal::Int(7)),
            ("010", Some(8), Ideal::Int(8)),
            ("0o17", Some(15), Ideal::Int(15)),
            ("0b1_01", Some(5), Ideal::Int(5)),
            ("0x_1F", Some(31), Ideal::Int(31)),
            ("0x1e3", Some(0x1e3), Ideal::Int(0x1e3)),
            ("1_000", Some(1000), Ideal::Int(1000)),
            ("1e3", Some(1000), Ideal::Float(1000.0)),
            ("1.5", None, Ideal::Float(1.5)),
            ("-.5", None, Ideal::Float(-0.5)),
            ("1.", Some(1), Ideal::Float(1.0)),
            ("0x1.8p1", Some(3), Ideal::Float(3.0)),
            ("9223372036854775807", Some(i64::MAX), Ideal::Int(i64::MAX)),
            ("-9223372036854775808", Some(i64::MIN), Ideal::Int(i64::MIN)),
            ("9223372036854775808", None, Ideal::Overflow),
            ("1e100", None, Ideal::Float(1e100)),
        ] {
            assert_eq!(number(text), Ok(Number { integer, ideal }), "{text}");
        }
        let malformed =
            "089 0x 1__0 _1 1_ 1e 1e999 0x1.8 . - 1i 0b2 18446744073709551616 -9223372036854775809";
        for text in malformed.split(' ') {
            assert!(number(text).is_err(), "{text}");
        }
    }

    #[test]
    fn characters_are_numbers() {
        for (text, code) in [
            ("'c'", 99),
            ("'é'", 233),
            ("'\\n'", 10),
            ("'\\''", 39),
            ("'\\xff'", 255),
        ] {
            assert_eq!(character(text).map(|number| number.integer), Ok(Some(code)));
        }
        for text in ["''", "'ab'", "'\\d'", "'\\\"'"] {
            assert!(character(text).is_err(), "{text}");
        }
    }

    #[test]
    fn escapes_are_those_of_go() {
        assert_eq!(
            quoted(r#""a\a\b\f\n\r\t\v\\\"\x41\101\u00e9\U0001F600\xff""#).as_deref(),
            Ok(b"a\x07\x08\x0c\n\r\t\x0b\\\"AA\xc3\xa9\xf0\x9f\x98\x80\xff".as_slice())
        );
        for text in [
            r#""\d""#,
            r#""\'""#,
            r#""\x4""#,
            r#""\400""#,
            r#""\ud800""#,
            r#""\18""#,
            r#""\+""#,
        ] {
            let error = quoted(text).unwrap_err();
            assert!(
                error.contains("write the backslash twice"),
                "{text}: {error}"
            );
        }
        assert_eq!(raw("`a\r\n\\d`"), "a\n\\d");
    }
}
