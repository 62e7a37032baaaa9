//! Go's `time.Format` with its layouts, in a time zone of the system.
//!
//! A layout shows how Go's reference time (`Mon Jan 2 15:04:05 MST 2006`) would be written. This module finds the elements in it;
//! calendar and zones are jiff's, which reads a zone's file again after five minutes.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::fmt::strtime;
use jiff::tz::{Offset, TimeZone, TimeZoneOffsetInfo, db};
use thiserror::Error;

use crate::text::shorten;

/// The meaning of an element of a layout.
enum Element {
    /// A part of date and time, as a strftime directive.
    Civil(&'static str),
    /// The year. strftime writes too few digits of a year before 0.
    Year,
    /// The year's last two digits. strftime has them for 1969 to 2068 only.
    ShortYear,
    /// The zone's abbreviation.
    ZoneName,
    /// The offset from UTC, in the form that the element shows.
    Offset,
}

use Element::{Civil, ShortYear, Year, ZoneName};

/// Every element but fractions of a second. The first that matches counts.
const ELEMENTS: &[(&str, Element)] = &[
    ("January", Civil("%B")),
    ("Jan", Civil("%b")),
    ("Monday", Civil("%A")),
    ("Mon", Civil("%a")),
    ("MST", ZoneName),
    ("01", Civil("%m")),
    ("02", Civil("%d")),
    ("03", Civil("%I")),
    ("04", Civil("%M")),
    ("05", Civil("%S")),
    ("06", ShortYear),
    ("002", Civil("%j")),
    ("15", Civil("%H")),
    ("1", Civil("%-m")),
    ("2006", Year),
    ("2", Civil("%-d")),
    ("_2", Civil("%e")),
    ("__2", Civil("%_j")),
    ("3", Civil("%-I")),
    ("4", Civil("%-M")),
    ("5", Civil("%-S")),
    ("PM", Civil("%p")),
    ("pm", Civil("%P")),
    ("-070000", Element::Offset),
    ("-07:00:00", Element::Offset),
    ("-0700", Element::Offset),
    ("-07:00", Element::Offset),
    ("-07", Element::Offset),
    ("Z070000", Element::Offset),
    ("Z07:00:00", Element::Offset),
    ("Z0700", Element::Offset),
    ("Z07:00", Element::Offset),
    ("Z07", Element::Offset),
];

/// Why a zone can't be used.
#[derive(Debug, Error)]
pub enum ZoneError {
    /// The system does not have it.
    #[error("unknown time zone {0:?}{without}", without = without_zones())]
    Unknown(String),
    /// The variable TZ names a zone that the system does not have.
    #[error("unknown time zone {0:?} in the variable TZ{without}", without = without_zones())]
    Variable(String),
}

fn without_zones() -> &'static str {
    if !db().is_definitively_empty() {
        return "";
    }
    "; this system has no time zones: install tzdata (/usr/share/zoneinfo)"
}

impl ZoneError {
    /// The name that is wrong.
    pub fn name(&self) -> &str {
        let (Self::Unknown(name) | Self::Variable(name)) = self;
        name
    }
}

/// The names of all zones that the system has. It reads directories.
pub fn zone_names() -> Vec<String> {
    let zones = db().available();
    zones.map(|zone| zone.as_str().to_owned()).collect()
}

/// The zone with a name; without a name the system's, or UTC if the system has none.
pub fn zone(name: Option<&str>) -> Result<TimeZone, ZoneError> {
    match name {
        None => system_zone(),
        // jiff needs the system's zone files even for UTC.
        Some("UTC") => Ok(TimeZone::UTC),
        // jiff accepts "Etc/Unknown", which Go does not.
        Some(name) => match TimeZone::get(name) {
            Ok(zone) if !zone.is_unknown() => Ok(zone),
            _ => Err(ZoneError::Unknown(shorten(name))),
        },
    }
}

fn system_zone() -> Result<TimeZone, ZoneError> {
    TimeZone::try_system().or_else(|_| match std::env::var_os("TZ") {
        Some(variable) if variable != "UTC" => {
            Err(ZoneError::Variable(shorten(&variable.to_string_lossy())))
        }
        _ => Ok(TimeZone::UTC),
    })
}

/// Formats an RFC 3339 time in a zone; `None` if the text is not one.
pub fn format(layout: &str, zone: &TimeZone, time: &str) -> Option<String> {
    let time: Timestamp = time.parse().ok()?;
    let moment = Moment {
        civil: zone.to_datetime(time),
        zone: zone.to_offset_info(time),
    };
    let mut text = String::with_capacity(2 * layout.len());
    let mut rest = layout;
    while let Some(first) = rest.chars().next() {
        if let Some((name, element)) = ELEMENTS.iter().find(|(name, _)| begins_with(rest, name)) {
            text.push_str(&moment.part(name, element));
            rest = &rest[name.len()..];
        } else if let Some(length) = fraction_length(rest) {
            text.push_str(&moment.fraction(&rest[..length]));
            rest = &rest[length..];
        } else {
            text.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    Some(text)
}

fn begins_with(layout: &str, element: &str) -> bool {
    layout
        .strip_prefix(element)
        .is_some_and(|rest| match element {
            // "Month" is not an element.
            "Jan" | "Mon" => !rest.starts_with(|next: char| next.is_ascii_lowercase()),
            // "_2006" is an underscore and a year.
            "_2" => !rest.starts_with("006"),
            _ => true,
        })
}

/// The length of a fraction of a second at the layout's beginning: `.` or `,`, then `0`s or `9`s that no other digit follows.
fn fraction_length(layout: &str) -> Option<usize> {
    let digits = layout.strip_prefix(['.', ','])?;
    let digit = digits
        .chars()
        .next()
        .filter(|digit| matches!(digit, '0' | '9'))?;
    let rest = digits.trim_start_matches(digit);
    (!rest.starts_with(|next: char| next.is_ascii_digit())).then_some(layout.len() - rest.len())
}

/// A time in a zone.
struct Moment<'z> {
    civil: DateTime,
    zone: TimeZoneOffsetInfo<'z>,
}

impl Moment<'_> {
    fn part(&self, name: &str, element: &Element) -> String {
        match element {
            // Every directive has a value for every date.
            Civil(directive) => strtime::format(directive, self.civil).unwrap_or_default(),
            Year => number(self.civil.year().into(), 4),
            ShortYear => number(i32::from(self.civil.year().abs() % 100), 2),
            ZoneName => self.zone.abbreviation().to_owned(),
            Element::Offset => offset(name, self.zone.offset()),
        }
    }

    /// `.000` keeps all digits, `.999` drops trailing zeros. There are at most nine digits.
    fn fraction(&self, element: &str) -> String {
        let digits = format!("{:09}", self.civil.subsec_nanosecond());
        let digits = &digits[..(element.len() - 1).min(9)];
        if element.ends_with('0') {
            return format!("{}{digits}", &element[..1]);
        }
        match digits.trim_end_matches('0') {
            "" => String::new(),
            digits => format!("{}{digits}", &element[..1]),
        }
    }
}

/// `-07:00` and its variants. Like Go, it drops the seconds before it looks at the sign.
fn offset(element: &str, offset: Offset) -> String {
    let seconds = offset.seconds();
    if seconds == 0 && element.starts_with('Z') {
        return "Z".to_owned();
    }
    let minutes = seconds / 60;
    let (sign, seconds) = if minutes < 0 {
        ('-', -seconds)
    } else {
        ('+', seconds)
    };
    let parts = [
        number(minutes.abs() / 60, 2),
        number(minutes.abs() % 60, 2),
        number(seconds % 60, 2),
    ];
    let digits = element.bytes().filter(u8::is_ascii_digit).count();
    let colon = if element.contains(':') { ":" } else { "" };
    format!("{sign}{}", parts[..digits / 2].join(colon))
}

/// A number with at least this many digits, besides its sign.
fn number(value: i32, digits: usize) -> String {
    let sign = if value < 0 { "-" } else { "" };
    format!("{sign}{:0digits$}", value.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Go 1.19's output.
    const GOLDENS: &str = include_str!("../tests/time-goldens.json");

    #[derive(serde::Deserialize)]
    struct Goldens {
        layouts: Vec<String>,
        moments: Vec<Golden>,
    }

    /// A time in a zone, and its text for each of the layouts.
    #[derive(serde::Deserialize)]
    struct Golden {
        time: String,
        zone: String,
        texts: Vec<String>,
    }

    #[test]
    fn every_golden_case_is_formatted_as_by_go() {
        let goldens: Goldens = serde_json::from_str(GOLDENS).unwrap();
        assert_eq!((goldens.layouts.len(), goldens.moments.len()), (47, 35));
        for Golden {
            time,
            zone: name,
            texts,
        } in &goldens.moments
        {
            assert_eq!(texts.len(), goldens.layouts.len());
            let zone = zone(Some(name)).unwrap();
            for (layout, text) in goldens.layouts.iter().zip(texts) {
                assert_eq!(
                    format(layout, &zone, time).as_ref(),
                    Some(text),
                    "{layout:?} {time} {name}"
                );
            }
        }
    }

    #[test]
    fn less_than_a_minute_west_of_utc_is_formatted_as_by_go() {
        for (seconds, element, text) in [
            (-52, "-07:00:00", "+00:00:-52"),
            (-5, "Z070000", "+0000-05"),
            (-52, "Z0700", "+0000"),
            (-61, "-070000", "-000101"),
        ] {
            assert_eq!(
                offset(element, Offset::from_seconds(seconds).unwrap()),
                text,
                "{seconds} {element}"
            );
        }
    }

    #[test]
    fn only_rfc_3339_is_a_time() {
        for time in [
            "",
            "yesterday",
            "1795356649",
            "2026-11-22",
            "2026-11-22T14:10:49",
            "2026-02-30T00:00:00Z",
        ] {
            assert_eq!(format("2006", &TimeZone::UTC, time), None, "{time}");
        }
    }

    #[test]
    fn an_unknown_zone_is_an_error() {
        for name in [
            "Europe/Pariss",
            "Etc/Unknown",
            "../../../etc/passwd",
            "CEST-2",
            "",
        ] {
            let error = zone(Some(name)).unwrap_err();
            assert_eq!(error.to_string(), format!("unknown time zone {name:?}"));
            assert_eq!(error.name(), name);
        }
        assert!(zone_names().contains(&"Europe/Paris".to_owned()));
    }
}
