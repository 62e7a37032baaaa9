//! Go's `fmt`: `Sprintf` with its verbs and flags, and what it writes of values that do not fit; `Sprint` and `Sprintln`.

mod format;

use crate::error::Reason;
use crate::float;
use crate::limits::Buffer;
use crate::quote;
use crate::text::runes;
use crate::value::{Text, Value};

pub use format::sprintf;

type Written = Result<(), Reason>;

/// How deep lists and maps may be nested that are printed; JSON's parser takes no deeper ones.
const MAX_DATA_DEPTH: usize = 130;

/// `fmt.Sprint`: blanks only between two values that are no texts.
pub fn sprint(arguments: &[Value<'_>]) -> Result<Vec<u8>, Reason> {
    let mut printer = Printer::default();
    let mut after_text = true;
    for value in arguments {
        let is_text = matches!(value, Value::Text(_));
        if !is_text && !after_text {
            printer.out.push(b" ")?;
        }
        printer.argument(value, 'v')?;
        after_text = is_text;
    }
    Ok(printer.out.into_bytes())
}

/// `fmt.Sprintln`
pub fn sprintln(arguments: &[Value<'_>]) -> Result<Vec<u8>, Reason> {
    let mut printer = Printer::default();
    for (index, value) in arguments.iter().enumerate() {
        if index > 0 {
            printer.out.push(b" ")?;
        }
        printer.argument(value, 'v')?;
    }
    printer.out.push(b"\n")?;
    Ok(printer.out.into_bytes())
}

/// What stands between `%` and the verb.
#[derive(Debug, Default, Clone, Copy)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of Go's")]
struct Flags {
    minus: bool,
    plus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    /// `%#v`
    go_syntax: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

#[derive(Default)]
struct Printer {
    out: Buffer,
    flags: Flags,
}

impl Printer {
    fn argument(&mut self, value: &Value<'_>, verb: char) -> Written {
        match (value, verb) {
            (Value::Nil, 'v' | 'T') => self.pad(b"<nil>"),
            (Value::Nil, _) => self.bad_verb(value, verb),
            (_, 'T') => self.text(value.type_name().as_bytes()),
            (Value::Map(_) | Value::List(_), 'p') => {
                Err("printf: %p writes an address of memory, which is never the same".into())
            }
            (Value::Map(_) | Value::List(_), 'w') | (_, 'p') => self.bad_verb(value, verb),
            _ => self.value(value, verb, 0),
        }
    }

    fn value(&mut self, value: &Value<'_>, verb: char, depth: usize) -> Written {
        if depth > MAX_DATA_DEPTH {
            return Err("the value is nested too deeply to be printed".into());
        }
        match value {
            Value::Nil if self.flags.go_syntax => self.out.push(b"interface {}(nil)"),
            Value::Nil => self.out.push(b"<nil>"),
            Value::Bool(value) if matches!(verb, 't' | 'v') => {
                self.pad(if *value { b"true" } else { b"false" })
            }
            Value::Bool(_) => self.bad_verb(value, verb),
            Value::Int(number) | Value::Int64(number) => {
                self.integer(value, number.unsigned_abs(), *number < 0, verb)
            }
            Value::Uint8(number) if verb == 'v' && self.flags.go_syntax => {
                let flags = self.flags;
                self.flags.sharp = true;
                self.digits(u64::from(*number), false, 16, 'v')?;
                self.flags = flags;
                Ok(())
            }
            Value::Uint8(number) => self.integer(value, u64::from(*number), false, verb),
            Value::Float(number) => self.float(value, *number, verb),
            Value::Text(text) => self.string(value, text, verb),
            Value::List(items) => {
                let elements = items.iter().map(Value::from_json);
                self.sequence(value, ["[", "]"], elements, |printer, item| {
                    printer.value(&item, verb, depth + 1)
                })
            }
            Value::Map(map) => {
                let entries = map.entries().into_iter();
                self.sequence(value, ["map[", "]"], entries, |printer, (key, item)| {
                    printer.value(&Value::from(key), verb, depth + 1)?;
                    printer.out.push(b":")?;
                    printer.value(&item, verb, depth + 1)
                })
            }
        }
    }

    fn sequence<T>(
        &mut self,
        value: &Value<'_>,
        brackets: [&str; 2],
        items: impl Iterator<Item = T>,
        mut write: impl FnMut(&mut Self, T) -> Written,
    ) -> Written {
        let go_syntax = self.flags.go_syntax;
        if go_syntax {
            self.out.push_str(value.type_name())?;
        }
        let [open, close] = if go_syntax { ["{", "}"] } else { brackets };
        self.out.push_str(open)?;
        for (index, item) in items.enumerate() {
            if index > 0 {
                self.out.push_str(if go_syntax { ", " } else { " " })?;
            }
            write(self, item)?;
        }
        self.out.push_str(close)
    }

    /// `%!d(string=text)`
    fn bad_verb(&mut self, value: &Value<'_>, verb: char) -> Written {
        self.out.push(b"%!")?;
        self.out.push_char(verb)?;
        self.out.push(b"(")?;
        if matches!(value, Value::Nil) {
            self.out.push(b"<nil>")?;
        } else {
            self.out.push_str(value.type_name())?;
            self.out.push(b"=")?;
            self.value(value, 'v', 0)?;
        }
        self.out.push(b")")
    }

    /// Widths are counted in characters.
    fn pad(&mut self, text: &[u8]) -> Written {
        let width = self.flags.width.unwrap_or(0);
        let missing = match width {
            0 => 0,
            width => width.saturating_sub(runes(text).count()),
        };
        if self.flags.minus {
            self.out.push(text)?;
            self.padding(missing)
        } else {
            self.padding(missing)?;
            self.out.push(text)
        }
    }

    fn padding(&mut self, count: usize) -> Written {
        let byte = if self.flags.zero { b'0' } else { b' ' };
        self.out.repeat(byte, count)
    }

    /// As [`Printer::pad`], never with zeros.
    fn pad_with_blanks(&mut self, text: &[u8]) -> Written {
        let zero = std::mem::take(&mut self.flags.zero);
        let written = self.pad(text);
        self.flags.zero = zero;
        written
    }

    /// The first characters of a text, as many as the precision says.
    fn truncated<'t>(&self, text: &'t [u8]) -> &'t [u8] {
        let Some(precision) = self.flags.precision else {
            return text;
        };
        let length = runes(text)
            .take(precision)
            .map(|rune| rune.map_or(1, char::len_utf8))
            .sum();
        &text[..length]
    }

    fn text(&mut self, text: &[u8]) -> Written {
        self.pad(self.truncated(text))
    }

    fn string(&mut self, value: &Value<'_>, text: &Text<'_>, verb: char) -> Written {
        match verb {
            'v' if !self.flags.go_syntax => self.text(text),
            's' => self.text(text),
            'v' | 'q' => {
                let text = self.truncated(text);
                let quoted = match quote::backquoted(text) {
                    Some(raw) if self.flags.sharp => raw,
                    _ => quote::quoted(text, self.flags.plus),
                };
                self.pad(quoted.as_bytes())
            }
            'x' | 'X' => self.hexadecimal_text(text, verb),
            _ => self.bad_verb(value, verb),
        }
    }

    fn hexadecimal_text(&mut self, text: &[u8], verb: char) -> Written {
        let text = &text[..text.len().min(self.flags.precision.unwrap_or(usize::MAX))];
        let prefix = match (self.flags.sharp, verb) {
            (false, _) => "",
            (true, 'x') => "0x",
            (true, _) => "0X",
        };
        let mut digits = String::new();
        for (index, byte) in text.iter().enumerate() {
            if self.flags.space && index > 0 {
                digits.push(' ');
            }
            if index == 0 || self.flags.space {
                digits.push_str(prefix);
            }
            digits.push_str(&if verb == 'x' {
                format!("{byte:02x}")
            } else {
                format!("{byte:02X}")
            });
        }
        self.pad(digits.as_bytes())
    }

    fn integer(&mut self, value: &Value<'_>, size: u64, negative: bool, verb: char) -> Written {
        let code = || {
            u32::try_from(size)
                .ok()
                .filter(|_| !negative)
                .and_then(char::from_u32)
                .unwrap_or(char::REPLACEMENT_CHARACTER)
        };
        match verb {
            'v' | 'd' => self.digits(size, negative, 10, verb),
            'b' => self.digits(size, negative, 2, verb),
            'o' | 'O' => self.digits(size, negative, 8, verb),
            'x' | 'X' => self.digits(size, negative, 16, verb),
            'c' => self.pad(code().encode_utf8(&mut [0; 4]).as_bytes()),
            'q' => {
                let quoted = quote::quoted_char(code(), self.flags.plus);
                self.pad(quoted.as_bytes())
            }
            'U' => {
                let bits = if negative { size.wrapping_neg() } else { size };
                let digits = self.flags.precision.unwrap_or(0).max(4);
                let mut text = format!("U+{bits:0digits$X}");
                let c = u32::try_from(bits).ok().and_then(char::from_u32);
                if let Some(c) = c.filter(|c| self.flags.sharp && crate::text::is_print(*c)) {
                    text.push_str(&format!(" '{c}'"));
                }
                self.pad_with_blanks(text.as_bytes())
            }
            _ => self.bad_verb(value, verb),
        }
    }

    fn digits(&mut self, size: u64, negative: bool, base: u32, verb: char) -> Written {
        let flags = self.flags;
        let minimum = match (flags.precision, flags.width) {
            (Some(0), width) if size == 0 => {
                return self.out.repeat(b' ', width.unwrap_or(0));
            }
            (Some(precision), _) => precision,
            (None, Some(width)) if flags.zero => {
                width.saturating_sub(usize::from(negative || flags.plus || flags.space))
            }
            (None, _) => 0,
        };
        let mut digits = match (base, verb) {
            (2, _) => format!("{size:b}"),
            (8, _) => format!("{size:o}"),
            (16, 'X') => format!("{size:X}"),
            (16, _) => format!("{size:x}"),
            _ => size.to_string(),
        };
        digits = format!("{digits:0>minimum$}");
        let prefix = match (flags.sharp, base, verb) {
            (true, 2, _) => "0b",
            (true, 16, 'X') => "0X",
            (true, 16, _) => "0x",
            (true, 8, 'O') if !digits.starts_with('0') => "0o0",
            (true, 8, _) if verb != 'O' && !digits.starts_with('0') => "0",
            (_, _, 'O') => "0o",
            _ => "",
        };
        let sign = self.sign(negative);
        self.pad_with_blanks(format!("{sign}{prefix}{digits}").as_bytes())
    }

    fn sign(&self, negative: bool) -> &'static str {
        match (negative, self.flags.plus, self.flags.space) {
            (true, _, _) => "-",
            (_, true, _) => "+",
            (_, _, true) => " ",
            _ => "",
        }
    }

    fn float(&mut self, value: &Value<'_>, number: f64, verb: char) -> Written {
        let (format, usual) = match verb {
            'v' => ('g', None),
            'b' | 'g' | 'G' | 'x' | 'X' => (verb, None),
            'f' | 'e' | 'E' => (verb, Some(6)),
            'F' => ('f', Some(6)),
            _ => return self.bad_verb(value, verb),
        };
        let precision = self.flags.precision.or(usual);
        let text = float::format(number, format, precision);
        let negative = text.starts_with('-');
        let mut digits = text.trim_start_matches(['-', '+']).to_owned();
        let sign = self.sign(negative);
        if !number.is_finite() {
            let sign = if number.is_infinite() && !negative && sign.is_empty() {
                "+"
            } else {
                sign
            };
            return self.pad_with_blanks(format!("{sign}{digits}").as_bytes());
        }
        if self.flags.sharp && verb != 'b' {
            digits = with_point(&digits, format, precision);
        }
        // Zeros go between the sign and the digits.
        let width = self.flags.width.unwrap_or(0);
        if self.flags.zero && !sign.is_empty() && width > 1 + digits.len() {
            self.out.push_str(sign)?;
            self.padding(width - 1 - digits.len())?;
            return self.out.push_str(&digits);
        }
        self.pad(format!("{sign}{digits}").as_bytes())
    }
}

/// `%#g`: with a decimal point and the zeros behind it.
fn with_point(text: &str, format: char, precision: Option<usize>) -> String {
    let exponent_begins: &[char] = if matches!(format, 'x' | 'X') {
        &['p', 'P']
    } else {
        &['e', 'E']
    };
    let split = text.find(exponent_begins).unwrap_or(text.len());
    let (mantissa, exponent) = text.split_at(split);
    let mut missing = match format {
        'g' | 'G' | 'x' => precision.unwrap_or(6),
        _ => 0,
    };
    // An `x` of the prefix counts as Go counts it: as a digit that is not zero.
    let significant = mantissa
        .chars()
        .filter(|c| *c != '.')
        .skip_while(|c| *c == '0')
        .count();
    missing = missing.saturating_sub(significant);
    let mut out = mantissa.to_owned();
    if !mantissa.contains('.') {
        if mantissa == "0" {
            missing = missing.saturating_sub(1);
        }
        out.push('.');
    }
    out + &"0".repeat(missing) + exponent
}

/// A value as an action writes it.
pub fn write_value(out: &mut Buffer, value: &Value<'_>) -> Written {
    match value {
        Value::Nil => out.push(b"<no value>"),
        Value::Text(text) => out.push(text),
        Value::Int(number) => out.push_str(&number.to_string()),
        value => out.push(&sprint(std::slice::from_ref(value))?),
    }
}

/// What `html`, `js` and `urlquery` escape: their values side by side, as `print` has them but for what is none.
pub fn eval_args(arguments: &[Value<'_>]) -> Result<Vec<u8>, Reason> {
    let shown: Vec<Value<'_>> = arguments
        .iter()
        .map(|value| match value {
            Value::Nil => Value::from("<no value>"),
            value => value.clone(),
        })
        .collect();
    sprint(&shown)
}
