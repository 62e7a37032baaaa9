//! Floating-point numbers as Go's `strconv.AppendFloat` writes them. Rust's own conversions give the digits; where the point
//! and the exponent go is Go's.

/// A number in one of Go's formats (`e`, `E`, `f`, `g`, `G`, `b`, `x`, `X`), with a number of digits, or with as few as distinguish it
/// from its neighbours.
pub fn format(value: f64, verb: char, precision: Option<usize>) -> String {
    if !value.is_finite() {
        let name = if value.is_nan() { "NaN" } else { "Inf" };
        let sign = match (value.is_nan(), value < 0.0) {
            (true, _) => "",
            (false, true) => "-",
            (false, false) => "+",
        };
        return format!("{sign}{name}");
    }
    match verb {
        'e' => exponential(value, precision),
        'E' => exponential(value, precision).replace('e', "E"),
        'f' => match precision {
            Some(precision) => format!("{value:.precision$}"),
            None => format!("{value}"),
        },
        'G' => general(value, precision).replace('e', "E"),
        'b' => binary(value),
        'x' => hexadecimal(value, precision),
        'X' => hexadecimal(value, precision).to_uppercase(),
        _ => general(value, precision),
    }
}

/// A number as `encoding/json` writes it.
pub fn json(value: f64) -> String {
    let size = value.abs();
    if size == 0.0 || (1e-6..1e21).contains(&size) {
        return format(value, 'f', None);
    }
    let text = exponential(value, None);
    match text.split_once("e-0") {
        Some((mantissa, exponent)) => format!("{mantissa}e-{exponent}"),
        None => text,
    }
}

/// Mantissa and exponent as Rust writes them: `1.25e-7`
fn parts(value: f64, precision: Option<usize>) -> (String, i32) {
    let text = match precision {
        Some(precision) => format!("{value:.precision$e}"),
        None => format!("{value:e}"),
    };
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    (mantissa.to_owned(), exponent.parse().unwrap_or(0))
}

fn exponent(number: i32) -> String {
    let sign = if number < 0 { '-' } else { '+' };
    format!("{sign}{:02}", number.unsigned_abs())
}

fn exponential(value: f64, precision: Option<usize>) -> String {
    let (mantissa, power) = parts(value, precision);
    format!("{mantissa}e{}", exponent(power))
}

/// `%g`: without an exponent where that is short, and without zeros at the end.
fn general(value: f64, precision: Option<usize>) -> String {
    let precision = precision.map(|precision| precision.max(1));
    let (mantissa, power) = parts(value, precision.map(|precision| precision - 1));
    let sign = if mantissa.starts_with('-') { "-" } else { "" };
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    let digits = digits.trim_end_matches('0');
    let count = digits.len();
    // Where the decimal point is, in digits from the left.
    let point = if count == 0 { 0 } else { power + 1 };
    let limit = match precision {
        None => 6,
        Some(precision) if precision > count && i64_of(count) >= i64::from(point) => i64_of(count),
        Some(precision) => i64_of(precision),
    };
    let power = point - 1;
    if power < -4 || i64::from(power) >= limit {
        let (first, rest) = digits.split_at(digits.len().min(1));
        let dot = if rest.is_empty() { "" } else { "." };
        return format!("{sign}{first}{dot}{rest}e{}", exponent(power));
    }
    let Ok(whole) = usize::try_from(point) else {
        let zeros = usize::try_from(-point).unwrap_or(0);
        return format!("{sign}0.{}{digits}", "0".repeat(zeros));
    };
    match (whole, count) {
        (0, 0) => format!("{sign}0"),
        (0, _) => format!("{sign}0.{digits}"),
        (whole, count) if whole >= count => format!("{sign}{digits}{}", "0".repeat(whole - count)),
        (whole, _) => format!("{sign}{}.{}", &digits[..whole], &digits[whole..]),
    }
}

fn i64_of(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// The mantissa as a whole number of 53 bits, and the power of two to multiply it with.
fn decode(value: f64) -> (u64, i32) {
    let bits = value.to_bits();
    let power = i32::try_from((bits >> 52) & 0x7ff).unwrap_or(0);
    let mantissa = bits & ((1 << 52) - 1);
    if power == 0 {
        (mantissa, -1074)
    } else {
        (mantissa | 1 << 52, power - 1075)
    }
}

fn sign_of(value: f64) -> &'static str {
    if value.is_sign_negative() { "-" } else { "" }
}

fn binary(value: f64) -> String {
    let (mantissa, power) = decode(value);
    format!("{}{mantissa}p{power:+}", sign_of(value))
}

fn hexadecimal(value: f64, precision: Option<usize>) -> String {
    const ONE: u64 = 1 << 60;
    let (mantissa, power) = decode(value);
    // The leading one, where there is any, goes to bit 60.
    let mut mantissa = mantissa << 8;
    let mut power = if mantissa == 0 { 0 } else { power + 52 };
    while mantissa != 0 && mantissa & ONE == 0 {
        mantissa <<= 1;
        power -= 1;
    }
    if let Some(digits @ 0..15) = precision {
        let dropped = 60 - 4 * digits;
        let extra = mantissa & ((1 << dropped) - 1);
        mantissa >>= dropped;
        let half = 1_u64 << (dropped - 1);
        mantissa += u64::from(extra > half || extra == half && mantissa & 1 == 1);
        mantissa <<= dropped;
        if mantissa & ONE << 1 != 0 {
            mantissa >>= 1;
            power += 1;
        }
    }
    let fraction = format!("{:015x}", mantissa & (ONE - 1));
    let fraction = match precision {
        None => fraction.trim_end_matches('0').to_owned(),
        Some(digits) => format!("{fraction:0<digits$}")[..digits].to_owned(),
    };
    let dot = if fraction.is_empty() { "" } else { "." };
    let leading = mantissa >> 60;
    format!(
        "{}0x{leading}{dot}{fraction}p{}",
        sign_of(value),
        exponent(power)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_go_does() {
        for (value, verb, precision, text) in [
            (1e6, 'g', None, "1e+06"),
            (123_456.0, 'g', None, "123456"),
            (0.0001, 'g', None, "0.0001"),
            (0.00001, 'g', None, "1e-05"),
            (-0.0, 'g', None, "-0"),
            (1e21, 'g', None, "1e+21"),
            (123_456_789.0, 'g', Some(3), "1.23e+08"),
            (100.0, 'g', Some(3), "100"),
            (100.0, 'g', Some(10), "100"),
            (1.5, 'g', Some(0), "2"),
            (1234.5, 'e', Some(2), "1.23e+03"),
            (0.0, 'e', None, "0e+00"),
            (2.5, 'f', Some(0), "2"),
            (1e21, 'f', None, "1000000000000000000000"),
            (1.0, 'b', None, "4503599627370496p-52"),
            (1.5, 'x', None, "0x1.8p+00"),
            (1.999, 'x', Some(1), "0x1.0p+01"),
            (0.0, 'x', Some(2), "0x0.00p+00"),
            (1e-5, 'X', None, "0X1.4F8B588E368F1P-17"),
        ] {
            assert_eq!(
                format(value, verb, precision),
                text,
                "{value} {verb} {precision:?}"
            );
        }
        assert_eq!(json(1e-7), "1e-7");
        assert_eq!(json(1e21), "1e+21");
        assert_eq!(json(1.5e-10), "1.5e-10");
        assert_eq!(json(100_000_000.0), "100000000");
    }
}
