//! The functions that Canopsis adds to Go's, and `pairs`.

#![allow(clippy::unnecessary_wraps, reason = "one signature for all functions")]

use std::collections::HashSet;
use std::ops::Deref;

use jiff::tz::TimeZone;

use crate::case;
use crate::error::Reason;
use crate::function::{Answer, Call, Function, function_table};
use crate::json::to_json;
use crate::limits::Buffer;
use crate::printf;
use crate::quote;
use crate::regexp;
use crate::text;
use crate::time;
use crate::value::{Map, Text, Value};

fn empty<'a>() -> Value<'a> {
    Value::from("")
}

fn as_text<'v, 'a>(value: &'v Value<'a>) -> Option<&'v Text<'a>> {
    match value {
        Value::Text(text) => Some(text),
        _ => None,
    }
}

fn as_map<'a>(value: &Value<'a>) -> Option<&'a (dyn Map + 'a)> {
    match value {
        Value::Map(map) => Some(*map),
        _ => None,
    }
}

/// An `int` that is not negative.
fn as_position(value: &Value<'_>) -> Option<usize> {
    match value {
        Value::Int(number) => usize::try_from(*number).ok(),
        _ => None,
    }
}

/// UTF-8 for what works on characters.
fn utf8<'t>(text: &'t Text<'_>) -> std::borrow::Cow<'t, str> {
    match std::str::from_utf8(text) {
        Ok(valid) => valid.into(),
        Err(_) => text::chars(text).collect::<String>().into(),
    }
}

fn map_chars<'a>(value: &Value<'a>, change: fn(char) -> char) -> Value<'a> {
    let Some(text) = as_text(value) else {
        return empty();
    };
    Value::computed(
        text::chars(text)
            .map(change)
            .collect::<String>()
            .into_bytes(),
    )
}

fn uppercase<'a>(_: &mut Call<'_, '_>, values: &[Value<'a>]) -> Answer<'a> {
    Ok(map_chars(&values[0], case::upper))
}

fn lowercase<'a>(_: &mut Call<'_, '_>, values: &[Value<'a>]) -> Answer<'a> {
    Ok(map_chars(&values[0], case::lower))
}

fn trim<'a>(_: &mut Call<'_, '_>, values: &[Value<'a>]) -> Answer<'a> {
    let Some(whole) = as_text(&values[0]) else {
        return Ok(empty());
    };
    let trimmed = text::trim(whole);
    let start = whole.len() - text::trim_start(whole).len();
    Ok(Value::part_of(whole, start..start + trimmed.len()))
}

/// `replace REGEXP NEW VALUE`, with `$1`, `${name}` in NEW
fn replace<'a>(call: &mut Call<'_, '_>, values: &[Value<'a>]) -> Answer<'a> {
    let [Value::Text(pattern), Value::Text(new), Value::Text(text)] = values else {
        return Ok(empty());
    };
    let Some(regexp) = call.regexp(pattern)? else {
        return Ok(empty());
    };
    regexp::check_length("replace", text)?;
    call.meter.check_deadline()?;
    let replaced = regexp.replace_all(&utf8(text), &utf8(new), call.meter)?;
    Ok(Value::computed(replaced))
}

/// `split SEPARATOR INDEX VALUE`
fn split<'a>(_: &mut Call<'_, '_>, values: &[Value<'a>]) -> Answer<'a> {
    let [Value::Text(separator), index, Value::Text(text)] = values else {
        return Ok(empty());
    };
    let Some(index) = as_position(index) else {
        return Ok(empty());
    };
    let range = if separator.is_empty() {
        // Into characters.
        let lengths = text::runes(text).map(|rune| rune.map_or(1, char::len_utf8));
        let mut start = 0;
        lengths
            .map(|length| {
                start += length;
                start - length..start
            })
            .nth(index)
    } else {
        part(text, separator, index)
    };
    Ok(range.map_or_else(empty, |range| Value::part_of(text, range)))
}

fn part(text: &[u8], separator: &[u8], index: usize) -> Option<std::ops::Range<usize>> {
    let mut start = 0;
    for _ in 0..index {
        start += find(&text[start..], separator)? + separator.len();
    }
    let length = find(&text[start..], separator).unwrap_or(text.len() - start);
    Some(start..start + length)
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    if let (Ok(text), Ok(part)) = (std::str::from_utf8(text), std::str::from_utf8(part)) {
        return text.find(part);
    }
    if part.is_empty() {
        return Some(0);
    }
    text.windows(part.len()).position(|window| window == part)
}

fn json<'a>(_: &mut Call<'_, '_>, values: &[Value<'a>]) -> Answer<'a> {
    to_json(&values[0]).map(Value::computed)
}

/// The JSON of a text without its quotes, to be put between other ones.
fn json_unquote<'a>(_: &mut Call<'_, '_>, values: &[Value<'a>]) -> Answer<'a> {
    let json = to_json(&values[0])?;
    let inside = json
        .strip_prefix(b"\"")
        .and_then(|json| json.strip_suffix(b"\""));
    Ok(Value::computed(inside.unwrap_or(&json).to_vec()))
}

/// `regex_map_key MAP REGEXP`: the value of the first key, in their order, that matches.
fn regex_map_key<'a>(call: &mut Call<'_, '_>, values: &[Value<'a>]) -> Answer<'a> {
    let (Some(map), Some(pattern)) = (as_map(&values[0]), as_text(&values[1])) else {
        return Ok(empty());
    };
    let Some(regexp) = call.regexp(pattern)? else {
        return Ok(empty());
    };
    for (key, value) in map.entries() {
        regexp::check_length("regex_map_key", key.as_bytes())?;
        call.meter.step()?;
        call.meter.check_deadline()?;
        if regexp.is_match(key) {
            return Ok(value);
        }
    }
    Ok(empty())
}

/// `map_has_key MAP KEY`
fn map_has_key<'a>(_: &mut Call<'_, '_>, values: &[Value<'a>]) -> Answer<'a> {
    let (Some(map), Some(key)) = (as_map(&values[0]), as_text(&values[1])) else {
        return Ok(Value::Bool(false));
    };
    let key = std::str::from_utf8(key).ok();
    Ok(Value::Bool(key.is_some_and(|key| map.get(key).is_some())))
}

/// Characters of a text; nothing for less than one.
fn characters<'a>(text: &Text<'a>, start: usize, count: usize) -> Value<'a> {
    let lengths = |from: usize, count: usize| -> usize {
        let lengths = text::runes(text).map(|rune| rune.map_or(1, char::len_utf8));
        lengths.skip(from).take(count).sum()
    };
    let begin = lengths(0, start);
    Value::part_of(text, begin..begin + lengths(start, count))
}

/// `substr TEXT START COUNT`, in characters
fn substr<'a>(_: &mut Call<'_, '_>, values: &[Value<'a>]) -> Answer<'a> {
    let [Value::Text(text), start, count] = values else {
        return Ok(empty());
    };
    match (as_position(start), as_position(count)) {
        (Some(start), Some(count)) => Ok(characters(text, start, count)),
        _ => Ok(empty()),
    }
}

/// `substrLeft TEXT COUNT`
fn substr_left<'a>(_: &mut Call<'_, '_>, values: &[Value<'a>]) -> Answer<'a> {
    let [Value::Text(text), count] = values else {
        return Ok(empty());
    };
    Ok(as_position(count).map_or_else(empty, |count| characters(text, 0, count)))
}

/// `substrRight TEXT COUNT`
fn substr_right<'a>(_: &mut Call<'_, '_>, values: &[Value<'a>]) -> Answer<'a> {
    let [Value::Text(text), count] = values else {
        return Ok(empty());
    };
    let Some(count) = as_position(count) else {
        return Ok(empty());
    };
    let start = text::runes(text).count().saturating_sub(count);
    Ok(characters(text, start, count))
}

fn int64(value: usize) -> Value<'static> {
    Value::Int64(i64::try_from(value).unwrap_or(i64::MAX))
}

/// `strlen TEXT`, in characters
fn strlen<'a>(_: &mut Call<'_, '_>, values: &[Value<'a>]) -> Answer<'a> {
    Ok(as_text(&values[0]).map_or_else(empty, |text| int64(text::runes(text).count())))
}

/// `strpos TEXT PART`: the character at which PART starts, counted from 0; -1 where it is not in it.
fn strpos<'a>(_: &mut Call<'_, '_>, values: &[Value<'a>]) -> Answer<'a> {
    let [Value::Text(text), Value::Text(part)] = values else {
        return Ok(empty());
    };
    Ok(match find(text, part) {
        Some(at) => int64(text::runes(&text[..at]).count()),
        None => Value::Int64(-1),
    })
}

/// `strjoin LIST SEPARATOR`
fn strjoin<'a>(_: &mut Call<'_, '_>, values: &[Value<'a>]) -> Answer<'a> {
    let [list, Value::Text(separator)] = values else {
        return Ok(empty());
    };
    let Value::List(items) = list else {
        return Err(format!("unsupported type {}", list.type_name()).into());
    };
    let mut out = Buffer::default();
    for (index, item) in items.iter().enumerate() {
        let Some(text) = item.as_str() else {
            return Err("not a list of strings".into());
        };
        if index > 0 {
            out.push(separator)?;
        }
        out.push_str(text)?;
    }
    Ok(Value::computed(out.into_bytes()))
}

/// `pairs MAP NAME...`: `name=value` of each entry but those with a NAME, in the order of their keys, with blanks between. A key
/// or value is quoted where two maps could have the same text otherwise, and where it has characters that can't be seen.
fn pairs<'a>(call: &mut Call<'_, '_>, values: &[Value<'a>]) -> Answer<'a> {
    let [item, names @ ..] = values else {
        return Ok(empty());
    };
    let Some(map) = as_map(item) else {
        return Err(format!("unsupported type {}", item.type_name()).into());
    };
    let entries = map.entries();
    call.meter
        .bytes((entries.len() + names.len()) * size_of::<Value<'_>>())?;
    let omitted: HashSet<&[u8]> = names
        .iter()
        .filter_map(|name| as_text(name).map(Deref::deref))
        .collect();
    let mut out = Buffer::default();
    let kept = entries
        .iter()
        .filter(|(key, _)| !omitted.contains(key.as_bytes()));
    for (index, (key, value)) in kept.enumerate() {
        if index > 0 {
            out.push(b" ")?;
        }
        push_word(&mut out, key.as_bytes())?;
        out.push(b"=")?;
        match value {
            Value::Text(text) => push_word(&mut out, text)?,
            Value::Nil | Value::List(_) | Value::Map(_) => {
                let kind = value.type_name();
                return Err(format!("the value of {key:?} has the type {kind}").into());
            }
            number => printf::write_value(&mut out, number)?,
        }
    }
    Ok(Value::computed(out.into_bytes()))
}

fn push_word(out: &mut Buffer, text: &[u8]) -> Result<(), Reason> {
    let is_plain = |rune: Result<char, u8>| {
        rune.is_ok_and(|c| !matches!(c, ' ' | '=' | '"') && text::is_print(c))
    };
    if text::runes(text).all(is_plain) {
        out.push(text)
    } else {
        out.push_str(&quote::quoted(text, false))
    }
}

/// `localtime LAYOUT VALUE` or `localtime LAYOUT ZONE VALUE`
fn localtime<'a>(_: &mut Call<'_, '_>, values: &[Value<'a>]) -> Answer<'a> {
    let (layout, zone, time) = match values {
        [Value::Text(layout), Value::Text(time)] => (layout, None, time),
        [Value::Text(layout), Value::Text(zone), Value::Text(time)] => (layout, Some(zone), time),
        _ => return Ok(empty()),
    };
    let name = zone.map(utf8);
    let zone = time::zone(name.as_deref()).map_err(|error| error.to_string())?;
    Ok(formatted(layout, &zone, time))
}

/// `formattedDate LAYOUT VALUE`, in UTC
fn formatted_date<'a>(_: &mut Call<'_, '_>, values: &[Value<'a>]) -> Answer<'a> {
    let [Value::Text(layout), Value::Text(time)] = values else {
        return Ok(empty());
    };
    Ok(formatted(layout, &TimeZone::UTC, time))
}

fn formatted<'a>(layout: &Text<'_>, zone: &TimeZone, time: &Text<'_>) -> Value<'a> {
    let text = time::format(&utf8(layout), zone, &utf8(time));
    text.map_or_else(empty, |text| Value::computed(text.into_bytes()))
}

fn add<'a>(_: &mut Call<'_, '_>, values: &[Value<'a>]) -> Answer<'a> {
    arithmetic(values, |x, y| Some(x.wrapping_add(y)))
}

fn sub<'a>(_: &mut Call<'_, '_>, values: &[Value<'a>]) -> Answer<'a> {
    arithmetic(values, |x, y| Some(x.wrapping_sub(y)))
}

fn mult<'a>(_: &mut Call<'_, '_>, values: &[Value<'a>]) -> Answer<'a> {
    arithmetic(values, |x, y| Some(x.wrapping_mul(y)))
}

fn div<'a>(_: &mut Call<'_, '_>, values: &[Value<'a>]) -> Answer<'a> {
    arithmetic(values, |x, y| (y != 0).then(|| x.wrapping_div(y)))
}

fn arithmetic<'a>(values: &[Value<'a>], operation: impl Fn(i64, i64) -> Option<i64>) -> Answer<'a> {
    let [
        Value::Int(left) | Value::Int64(left),
        Value::Int(right) | Value::Int64(right),
    ] = values
    else {
        return Err(Reason::from("not an integer"));
    };
    operation(*left, *right)
        .map(Value::Int64)
        .ok_or_else(|| "division by zero".into())
}

pub static OF_CANOPSIS: &[Function] = function_table! {
    "uppercase"(Any) -> Text = uppercase;
    "lowercase"(Any) -> Text = lowercase;
    "trim"(Any) -> Text = trim;
    "replace"(Pattern, Text, Any) -> Text = replace;
    "split"(Text, Int, Any) -> Text = split;
    "json"(Any) -> Text = json;
    "json_unquote"(Any) -> Text = json_unquote;
    "regex_map_key"(Any, Pattern) -> Any = regex_map_key;
    "regex_map_keys"(Any, Pattern) -> Any = regex_map_key;
    "map_has_key"(Any, Any) -> Bool = map_has_key;
    "map_as_keys"(Any, Any) -> Bool = map_has_key;
    "substr"(Text, Int, Int) -> Text = substr;
    "substrLeft"(Text, Int) -> Text = substr_left;
    "substrRight"(Text, Int) -> Text = substr_right;
    "strlen"(Text) -> Int64 = strlen;
    "strpos"(Text, Text) -> Int64 = strpos;
    "strjoin"(Any, Text) -> Text = strjoin;
    "pairs"(Any, ...Text) -> Text = pairs;
    "localtime"(Any, Any, [Any]) -> Text = localtime;
    "formattedDate"(Any, Any) -> Text = formatted_date;
    "add"(Any, Any) -> Int64 = add;
    "sub"(Any, Any) -> Int64 = sub;
    "mult"(Any, Any) -> Int64 = mult;
    "div"(Any, Any) -> Int64 = div;
};
