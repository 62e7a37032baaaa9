//! The functions that Canopsis documents for its templates, besides Go's built-in ones.
//!
//! For an argument of the wrong type a text function returns the empty text; a wrong number of arguments fails the template.

// One signature for all of them.
#![allow(clippy::unnecessary_wraps)]

use std::ops::RangeInclusive;

use gotmpl::{TemplateError, Value};
use jiff::tz::TimeZone;

use crate::regexp;
use crate::{case, json, time};

type Args<'a> = &'a [Value];
type FunctionResult = Result<Value, TemplateError>;

/// A function and the number of its arguments.
pub struct Function {
    /// The name in templates.
    pub name: &'static str,
    arity: RangeInclusive<usize>,
    body: fn(Args<'_>) -> FunctionResult,
}

/// Go's `index`: for a key that a map of strings lacks it returns the empty string, where gotmpl's returns no value, which is
/// printed as `<no value>`. It takes any number of arguments, unlike the functions below.
pub fn index(args: Args<'_>) -> FunctionResult {
    let Some((first, keys)) = args.split_first() else {
        return Err(TemplateError::ArgCount {
            name: "index".to_owned(),
            expected: 1,
            got: 0,
        });
    };
    keys.iter()
        .try_fold(first.clone(), |value, key| match (&value, key) {
            (Value::Map(map), Value::String(key)) => {
                Ok(map.get(&**key).cloned().unwrap_or_else(empty))
            }
            _ => value.index(key),
        })
}

/// The names of all functions in the table below.
pub fn names() -> impl Iterator<Item = &'static str> {
    FUNCTIONS.iter().map(|function| function.name)
}

/// Every function.
pub const FUNCTIONS: &[Function] = &[
    Function {
        name: "uppercase",
        arity: 1..=1,
        body: |a| Ok(on_text(&a[0], case::to_upper)),
    },
    Function {
        name: "lowercase",
        arity: 1..=1,
        body: |a| Ok(on_text(&a[0], case::to_lower)),
    },
    Function {
        name: "trim",
        arity: 1..=1,
        body: |a| Ok(on_text(&a[0], |text| text.trim().to_owned())),
    },
    Function {
        name: "replace",
        arity: 3..=3,
        body: replace,
    },
    Function {
        name: "split",
        arity: 3..=3,
        body: split,
    },
    Function {
        name: "json",
        arity: 1..=1,
        body: |a| to_json(&a[0]).map(Value::from),
    },
    Function {
        name: "json_unquote",
        arity: 1..=1,
        body: json_unquote,
    },
    Function {
        name: "regex_map_key",
        arity: 2..=2,
        body: regex_map_key,
    },
    Function {
        name: "regex_map_keys",
        arity: 2..=2,
        body: regex_map_key,
    },
    Function {
        name: "map_has_key",
        arity: 2..=2,
        body: map_has_key,
    },
    Function {
        name: "map_as_keys",
        arity: 2..=2,
        body: map_has_key,
    },
    Function {
        name: "substr",
        arity: 3..=3,
        body: substr,
    },
    Function {
        name: "substrLeft",
        arity: 2..=2,
        body: substr_left,
    },
    Function {
        name: "substrRight",
        arity: 2..=2,
        body: substr_right,
    },
    Function {
        name: "strlen",
        arity: 1..=1,
        body: strlen,
    },
    Function {
        name: "strpos",
        arity: 2..=2,
        body: strpos,
    },
    Function {
        name: "strjoin",
        arity: 2..=2,
        body: strjoin,
    },
    Function {
        name: "localtime",
        arity: 2..=3,
        body: localtime,
    },
    Function {
        name: "formattedDate",
        arity: 2..=2,
        body: formatted_date,
    },
    Function {
        name: "add",
        arity: 2..=2,
        body: |a| arithmetic(a, |x, y| Some(x.wrapping_add(y))),
    },
    Function {
        name: "sub",
        arity: 2..=2,
        body: |a| arithmetic(a, |x, y| Some(x.wrapping_sub(y))),
    },
    Function {
        name: "mult",
        arity: 2..=2,
        body: |a| arithmetic(a, |x, y| Some(x.wrapping_mul(y))),
    },
    Function {
        name: "div",
        arity: 2..=2,
        body: |a| arithmetic(a, |x, y| (y != 0).then(|| x.wrapping_div(y))),
    },
];

impl Function {
    /// Calls the function.
    pub fn call(&self, args: Args<'_>) -> FunctionResult {
        let got = args.len();
        if !self.arity.contains(&got) {
            let expected = got.clamp(*self.arity.start(), *self.arity.end());
            return Err(TemplateError::ArgCount {
                name: self.name.to_owned(),
                expected,
                got,
            });
        }
        (self.body)(args)
    }
}

fn empty() -> Value {
    Value::from("")
}

fn on_text(value: &Value, change: impl Fn(&str) -> String) -> Value {
    value
        .as_str()
        .map_or_else(empty, |text| Value::from(change(text)))
}

/// `replace REGEXP NEW VALUE`, with `$1`, `${name}` in NEW
fn replace(args: Args<'_>) -> FunctionResult {
    let [
        Value::String(pattern),
        Value::String(new),
        Value::String(text),
    ] = args
    else {
        return Ok(empty());
    };
    let Some(regexp) = regexp::cached(pattern) else {
        return Ok(empty());
    };
    Ok(Value::from(regexp.replace_all(text, new)))
}

/// `split SEPARATOR INDEX VALUE`
fn split(args: Args<'_>) -> FunctionResult {
    let [Value::String(separator), index, Value::String(text)] = args else {
        return Ok(empty());
    };
    let Some(index) = index.as_int().and_then(|index| usize::try_from(index).ok()) else {
        return Ok(empty());
    };
    let part = if separator.is_empty() {
        // Go splits on the empty separator into characters; Rust adds an empty part at each end.
        text.char_indices()
            .nth(index)
            .map(|(start, c)| &text[start..start + c.len_utf8()])
    } else {
        text.split(&**separator).nth(index)
    };
    Ok(part.map_or_else(empty, Value::from))
}

fn to_json(value: &Value) -> Result<String, TemplateError> {
    json::to_json(value)
        .ok_or_else(|| TemplateError::Exec("json: the value has no JSON form".to_owned()))
}

/// The JSON of a text without its quotes, for use between other quotes.
fn json_unquote(args: Args<'_>) -> FunctionResult {
    let json = to_json(&args[0])?;
    let inside = json
        .strip_prefix('"')
        .and_then(|json| json.strip_suffix('"'));
    Ok(Value::from(inside.unwrap_or(&json)))
}

/// `regex_map_key MAP REGEXP`: the value of the first key, in their order, that matches.
fn regex_map_key(args: Args<'_>) -> FunctionResult {
    let [Value::Map(map), Value::String(pattern)] = args else {
        return Ok(empty());
    };
    let Some(regex) = regexp::cached(pattern) else {
        return Ok(empty());
    };
    Ok(map
        .iter()
        .find(|(key, _)| regex.is_match(key))
        .map_or_else(empty, |(_, value)| value.clone()))
}

/// `map_has_key MAP KEY`
fn map_has_key(args: Args<'_>) -> FunctionResult {
    let [Value::Map(map), Value::String(key)] = args else {
        return Ok(Value::Bool(false));
    };
    Ok(Value::Bool(map.contains_key(&**key)))
}

fn text_part(text: &str, start: usize, count: usize) -> Value {
    Value::from(text.chars().skip(start).take(count).collect::<String>())
}

/// Negative positions and counts are taken as 0.
fn position(value: &Value) -> Option<usize> {
    value
        .as_int()
        .map(|value| usize::try_from(value).unwrap_or(0))
}

/// `substr TEXT START COUNT`, in characters
fn substr(args: Args<'_>) -> FunctionResult {
    let (Some(text), Some(start), Some(count)) =
        (args[0].as_str(), position(&args[1]), position(&args[2]))
    else {
        return Ok(empty());
    };
    Ok(text_part(text, start, count))
}

/// `substrLeft TEXT COUNT`
fn substr_left(args: Args<'_>) -> FunctionResult {
    let (Some(text), Some(count)) = (args[0].as_str(), position(&args[1])) else {
        return Ok(empty());
    };
    Ok(text_part(text, 0, count))
}

/// `substrRight TEXT COUNT`
fn substr_right(args: Args<'_>) -> FunctionResult {
    let (Some(text), Some(count)) = (args[0].as_str(), position(&args[1])) else {
        return Ok(empty());
    };
    Ok(text_part(
        text,
        text.chars().count().saturating_sub(count),
        count,
    ))
}

fn integer(value: usize) -> Value {
    Value::Int(i64::try_from(value).unwrap_or(i64::MAX))
}

/// `strlen TEXT`, in characters
fn strlen(args: Args<'_>) -> FunctionResult {
    Ok(args[0]
        .as_str()
        .map_or_else(empty, |text| integer(text.chars().count())))
}

/// `strpos TEXT PART`: the index of the character at which PART starts, from 0; -1 if it is not found.
fn strpos(args: Args<'_>) -> FunctionResult {
    let (Some(text), Some(part)) = (args[0].as_str(), args[1].as_str()) else {
        return Ok(empty());
    };
    Ok(text
        .find(part)
        .map_or(Value::Int(-1), |byte| integer(text[..byte].chars().count())))
}

/// `strjoin LIST SEPARATOR`
fn strjoin(args: Args<'_>) -> FunctionResult {
    let [Value::List(items), Value::String(separator)] = args else {
        return Ok(empty());
    };
    let parts: Option<Vec<&str>> = items.iter().map(Value::as_str).collect();
    Ok(parts.map_or_else(empty, |parts| Value::from(parts.join(separator))))
}

/// `localtime LAYOUT VALUE` or `localtime LAYOUT ZONE VALUE`
fn localtime(args: Args<'_>) -> FunctionResult {
    let (layout, zone, value) = match args {
        [Value::String(layout), Value::String(value)] => (layout, None, value),
        [
            Value::String(layout),
            Value::String(zone),
            Value::String(value),
        ] => (layout, Some(&**zone), value),
        _ => return Ok(empty()),
    };
    let zone =
        time::zone(zone).map_err(|error| TemplateError::Exec(format!("localtime: {error}")))?;
    Ok(time::format(layout, &zone, value).map_or_else(empty, Value::from))
}

/// `formattedDate LAYOUT VALUE`, in UTC
fn formatted_date(args: Args<'_>) -> FunctionResult {
    let [Value::String(layout), Value::String(value)] = args else {
        return Ok(empty());
    };
    Ok(time::format(layout, &TimeZone::UTC, value).map_or_else(empty, Value::from))
}

fn arithmetic(args: Args<'_>, operation: impl Fn(i64, i64) -> Option<i64>) -> FunctionResult {
    let [Value::Int(left), Value::Int(right)] = args else {
        return Err(TemplateError::Exec(
            "arithmetic takes two whole numbers".to_owned(),
        ));
    };
    operation(*left, *right)
        .map(Value::Int)
        .ok_or_else(|| TemplateError::Exec("division by zero".to_owned()))
}
