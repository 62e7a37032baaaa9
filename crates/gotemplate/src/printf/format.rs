//! Formats of `Sprintf`: their flags, widths, precisions and indexes, and what is written where they or the values are wrong.

use super::{Flags, Printer, Written};
use crate::error::Reason;
use crate::text::runes;
use crate::value::Value;

/// Go takes no larger width or precision.
const MAX_WIDTH: usize = 1_000_000;

/// `fmt.Sprintf`
pub fn sprintf(format: &[u8], arguments: &[Value<'_>]) -> Result<Vec<u8>, Reason> {
    let mut printer = Printer::default();
    Format {
        text: format,
        position: 0,
        arguments,
        next: 0,
        reordered: false,
        index_is_good: true,
    }
    .run(&mut printer)?;
    Ok(printer.out.into_bytes())
}

/// A format with what is printed by it.
struct Format<'f> {
    text: &'f [u8],
    position: usize,
    arguments: &'f [Value<'f>],
    /// Which argument is next.
    next: usize,
    /// Whether an index (`%[2]d`) was used.
    reordered: bool,
    index_is_good: bool,
}

impl Format<'_> {
    fn run(mut self, printer: &mut Printer) -> Written {
        while self.position < self.text.len() {
            let rest = &self.text[self.position..];
            let plain = rest.iter().position(|byte| *byte == b'%');
            let plain = plain.unwrap_or(rest.len());
            printer.out.push(&rest[..plain])?;
            self.position += plain + 1;
            if plain < rest.len() {
                printer.flags = Flags::default();
                self.directive(printer)?;
            }
        }
        if self.reordered || self.next >= self.arguments.len() {
            return Ok(());
        }
        printer.flags = Flags::default();
        printer.out.push(b"%!(EXTRA ")?;
        for (index, value) in self.arguments[self.next..].iter().enumerate() {
            if index > 0 {
                printer.out.push(b", ")?;
            }
            if !matches!(value, Value::Nil) {
                printer.out.push_str(value.type_name())?;
                printer.out.push(b"=")?;
            }
            printer.argument(value, 'v')?;
        }
        printer.out.push(b")")
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.position).copied()
    }

    fn accept(&mut self, byte: u8) -> bool {
        let accepted = self.peek() == Some(byte);
        self.position += usize::from(accepted);
        accepted
    }

    fn directive(&mut self, printer: &mut Printer) -> Written {
        let flags = &mut printer.flags;
        while let Some(byte) = self.peek() {
            match byte {
                b'#' => flags.sharp = true,
                b'0' => flags.zero = !flags.minus,
                b'+' => flags.plus = true,
                b'-' => (flags.minus, flags.zero) = (true, false),
                b' ' => flags.space = true,
                _ => break,
            }
            self.position += 1;
        }
        self.index_is_good = true;
        let mut after_index = self.index();
        if self.accept(b'*') {
            match self.number_of_argument() {
                Some(width) => {
                    if width < 0 {
                        (flags.minus, flags.zero) = (true, false);
                    }
                    flags.width = usize::try_from(width.unsigned_abs()).ok();
                }
                None => printer.out.push(b"%!(BADWIDTH)")?,
            }
            after_index = false;
        } else {
            flags.width = self.number();
            self.index_is_good &= !(after_index && flags.width.is_some());
        }
        if self.peek() == Some(b'.') && self.position + 1 < self.text.len() {
            self.position += 1;
            self.index_is_good &= !after_index;
            after_index = self.index();
            if self.accept(b'*') {
                let number = self.number_of_argument();
                printer.flags.precision = number.and_then(|number| usize::try_from(number).ok());
                if printer.flags.precision.is_none() {
                    printer.out.push(b"%!(BADPREC)")?;
                }
                after_index = false;
            } else {
                printer.flags.precision = Some(self.number().unwrap_or(0));
            }
        }
        if !after_index {
            self.index();
        }
        self.verb(printer)
    }

    fn verb(&mut self, printer: &mut Printer) -> Written {
        let rest = &self.text[self.position.min(self.text.len())..];
        let Some(rune) = runes(rest).next() else {
            return printer.out.push(b"%!(NOVERB)");
        };
        self.position += rune.map_or(1, char::len_utf8);
        let verb = rune.unwrap_or(char::REPLACEMENT_CHARACTER);
        let message = match verb {
            '%' => return printer.out.push(b"%"),
            _ if !self.index_is_good => "(BADINDEX)",
            _ if self.next >= self.arguments.len() => "(MISSING)",
            'v' => {
                let flags = &mut printer.flags;
                flags.go_syntax = std::mem::take(&mut flags.sharp);
                flags.plus = false;
                ""
            }
            _ => "",
        };
        if !message.is_empty() {
            printer.out.push(b"%!")?;
            printer.out.push_char(verb)?;
            return printer.out.push_str(message);
        }
        let value = &self.arguments[self.next];
        self.next += 1;
        printer.argument(value, verb)
    }

    /// Digits of the format; nothing where there are none. A number that is too large swallows the rest.
    fn number(&mut self) -> Option<usize> {
        let start = self.position;
        let mut number = 0;
        while let Some(digit @ b'0'..=b'9') = self.peek() {
            if number > MAX_WIDTH {
                self.position = self.text.len();
                return None;
            }
            number = 10 * number + usize::from(digit - b'0');
            self.position += 1;
        }
        (self.position > start).then_some(number)
    }

    /// The next argument as a width or precision.
    fn number_of_argument(&mut self) -> Option<i64> {
        let value = self.arguments.get(self.next)?;
        self.next += 1;
        let number = match value {
            Value::Int(number) | Value::Int64(number) => *number,
            Value::Uint8(number) => i64::from(*number),
            _ => return None,
        };
        let fits = usize::try_from(number.unsigned_abs()).is_ok_and(|size| size <= MAX_WIDTH);
        fits.then_some(number)
    }

    /// `[2]`: which argument is next. Whether there was one that can be read.
    fn index(&mut self) -> bool {
        if self.peek() != Some(b'[') {
            return false;
        }
        self.reordered = true;
        let rest = &self.text[self.position..];
        let closed = rest.iter().position(|byte| *byte == b']');
        let Some(length) = closed.filter(|_| rest.len() >= 3) else {
            self.index_is_good = false;
            self.position += 1;
            return false;
        };
        let end = self.position + length;
        self.position += 1;
        let number = self.number();
        let is_whole = self.position == end;
        self.position = end + 1;
        let Some(number) = number.filter(|_| is_whole) else {
            self.index_is_good = false;
            return false;
        };
        if (1..=self.arguments.len()).contains(&number) {
            self.next = number - 1;
        } else {
            self.index_is_good = false;
        }
        true
    }
}
