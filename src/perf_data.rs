//! Performance data, as Canopsis reads it: measures separated by blanks, each `name=value[unit];warn;crit;min;max`.
//!
//! Canopsis (23.10 and later) ignores the whole text if one measure is malformed, without a word. So a malformed text is not
//! published, and the fault is reported here.

use std::borrow::Cow;

/// How many thresholds may follow a value: warning, critical, minimum, maximum.
const MAX_THRESHOLDS: usize = 4;

/// The text of the field `perf_data`, in the form that Canopsis reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PerfData<'a>(Cow<'a, str>);

impl<'a> PerfData<'a> {
    /// What [`PerfData::new`] takes, for messages.
    pub const FORM: &'static str =
        "name=value[unit];warn;crit;min;max, where the value has neither a sign nor an exponent";

    /// Gives a malformed text back. White space around the text is not part of it.
    ///
    /// # Errors
    ///
    /// The text, if one of its measures is malformed.
    pub fn new(text: Cow<'a, str>) -> Result<Self, Cow<'a, str>> {
        let measures = text.trim();
        if measures.contains(char::is_control) || !are_measures(measures) {
            return Err(text);
        }
        Ok(Self(text))
    }

    /// The measures, without white space around them.
    pub fn as_str(&self) -> &str {
        self.0.trim()
    }
}

/// A name ends at the first `=`, a measure at the next blank: a name may hold blanks, in quotes. The text ends with a measure.
fn are_measures(text: &str) -> bool {
    let mut rest = text;
    loop {
        let Some((name, measures)) = rest.split_once('=') else {
            return false;
        };
        let (value, others) = measures.split_once(' ').unwrap_or((measures, ""));
        let mut parts = value.split(';');
        let is_value = parts.next().is_some_and(is_value) && parts.count() <= MAX_THRESHOLDS;
        if !is_name(name) || !is_value {
            return false;
        }
        if others.is_empty() {
            return true;
        }
        rest = others;
    }
}

/// A quote in a name is doubled.
fn is_name(name: &str) -> bool {
    let quoted = name
        .strip_prefix('\'')
        .and_then(|name| name.strip_suffix('\''));
    if quoted.is_none() && name.contains(char::is_whitespace) {
        return false;
    }
    let name = quoted.unwrap_or(name);
    !name.is_empty() && !name.replace("''", "").contains('\'')
}

/// A decimal number with a unit, or `U` for an unknown value. Which units are taken is a setting of Canopsis.
fn is_value(value: &str) -> bool {
    if value.starts_with('U') {
        return true;
    }
    let is_unit = |c: char| !c.is_ascii_digit() && c != '.';
    let (number, unit) = value.split_at(value.find(is_unit).unwrap_or(value.len()));
    // It has digits and dots only, and a digit on both sides of the dot. Hundreds of digits are no float64.
    let is_decimal = !number.starts_with('.') && !number.ends_with('.');
    let is_finite = number.parse().is_ok_and(f64::is_finite);
    is_decimal && is_finite && unit.chars().all(is_unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which texts Canopsis 24.10 takes as a whole, and which it ignores as a whole.
    #[test]
    fn malformed_measures_are_refused() {
        for text in [
            "load=0.5",
            "cpu=20%;80;90;0;100",
            "cpu=20%;80;90",
            "'disk i/o'=1.5TB memory=2GB;1;2.5;0;3 temp=57.5°C",
            "'the host''s load'=1",
            "a''b=1",
            "load=U",
            " load=1\n",
        ] {
            let data = PerfData::new(text.into()).unwrap();
            assert_eq!(data.as_str(), text.trim());
        }
        let huge = format!("load={}", "9".repeat(400));
        let without_space = "
            load = load= =1 load=% load=-1 load=+1 load=1e6 load=1. load=.5 load=NaN load=1.2.3 it's=1 ''=1
            load=1;2;3;4;5;6 load=1%5
        ";
        let others = [
            "",
            "load=1 2",
            "load=1  cpu=2",
            "disk io=1",
            "'disk io=1",
            "load=1\ncpu=2",
            &huge,
        ];
        for text in without_space.split_whitespace().chain(others) {
            assert!(PerfData::new(text.into()).is_err(), "{text:?}");
        }
    }
}
