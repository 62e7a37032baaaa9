//! Go's own functions.

#![allow(clippy::unnecessary_wraps, reason = "one signature for all functions")]

use std::cmp::Ordering;

use crate::error::Reason;
use crate::function::{Answer, Call, Function, function_table};
use crate::limits::Buffer;
use crate::printf;
use crate::text::{is_print, runes};
use crate::value::Value;

/// `and` and `or` are the evaluator's business.
fn not_called<'a>(_: &mut Call<'_, '_>, _: &[Value<'a>]) -> Answer<'a> {
    Err("unreachable".into())
}

fn call<'a>(_: &mut Call<'_, '_>, values: &[Value<'a>]) -> Answer<'a> {
    let kind = values.first().map_or("nil", Value::type_name);
    Err(format!("non-function of type {kind}").into())
}

fn not<'a>(_: &mut Call<'_, '_>, values: &[Value<'a>]) -> Answer<'a> {
    Ok(Value::Bool(!values[0].is_true()))
}

fn eq<'a>(_: &mut Call<'_, '_>, values: &[Value<'a>]) -> Answer<'a> {
    if values.len() < 2 {
        return Err("missing argument for comparison".into());
    }
    for other in &values[1..] {
        if equal(&values[0], other)? {
            return Ok(Value::Bool(true));
        }
    }
    Ok(Value::Bool(false))
}

fn ne<'a>(_: &mut Call<'_, '_>, values: &[Value<'a>]) -> Answer<'a> {
    Ok(Value::Bool(!equal(&values[0], &values[1])?))
}

fn lt<'a>(_: &mut Call<'_, '_>, values: &[Value<'a>]) -> Answer<'a> {
    ordered(values, |order| order == Some(Ordering::Less))
}

fn le<'a>(_: &mut Call<'_, '_>, values: &[Value<'a>]) -> Answer<'a> {
    ordered(values, |order| {
        matches!(order, Some(Ordering::Less | Ordering::Equal))
    })
}

/// Go asks whether it is not less or equal.
fn gt<'a>(_: &mut Call<'_, '_>, values: &[Value<'a>]) -> Answer<'a> {
    ordered(values, |order| {
        !matches!(order, Some(Ordering::Less | Ordering::Equal))
    })
}

fn ge<'a>(_: &mut Call<'_, '_>, values: &[Value<'a>]) -> Answer<'a> {
    ordered(values, |order| order != Some(Ordering::Less))
}

/// The kinds that are compared with each other; signed and unsigned integers are, integers and floats are not.
fn whole(value: &Value<'_>) -> Option<i64> {
    match value {
        Value::Int(number) | Value::Int64(number) => Some(*number),
        Value::Uint8(number) => Some(i64::from(*number)),
        _ => None,
    }
}

#[allow(clippy::float_cmp, reason = "as Go compares them")]
fn equal(left: &Value<'_>, right: &Value<'_>) -> Result<bool, Reason> {
    match (left, right) {
        (Value::Nil, right) => Ok(matches!(right, Value::Nil)),
        (_, Value::Nil) => Ok(false),
        (Value::Bool(left), Value::Bool(right)) => Ok(left == right),
        (Value::Float(left), Value::Float(right)) => Ok(left == right),
        (Value::Text(left), Value::Text(right)) => Ok(**left == **right),
        (Value::Map(_), Value::Map(_)) | (Value::List(_), Value::List(_)) => {
            Err(format!("non-comparable type {}", right.type_name()).into())
        }
        (Value::Map(_), Value::List(_)) | (Value::List(_), Value::Map(_)) => {
            Err("non-comparable types".into())
        }
        _ => match (whole(left), whole(right)) {
            (Some(left), Some(right)) => Ok(left == right),
            _ => Err(incompatible(left, right)),
        },
    }
}

fn ordered<'a>(values: &[Value<'a>], test: impl Fn(Option<Ordering>) -> bool) -> Answer<'a> {
    let (left, right) = (&values[0], &values[1]);
    let order = match (left, right) {
        (Value::Float(left), Value::Float(right)) => left.partial_cmp(right),
        (Value::Text(left), Value::Text(right)) => Some((**left).cmp(&**right)),
        _ => match (whole(left), whole(right)) {
            (Some(left), Some(right)) => Some(left.cmp(&right)),
            _ => return Err(incompatible(left, right)),
        },
    };
    Ok(Value::Bool(test(order)))
}

fn incompatible(left: &Value<'_>, right: &Value<'_>) -> Reason {
    let (left, right) = (left.type_name(), right.type_name());
    if left == right {
        return format!("invalid type for comparison: {left}").into();
    }
    format!("incompatible types for comparison: {left} and {right}").into()
}

fn int(length: usize) -> Value<'static> {
    Value::Int(i64::try_from(length).unwrap_or(i64::MAX))
}

fn len<'a>(_: &mut Call<'_, '_>, values: &[Value<'a>]) -> Answer<'a> {
    Ok(int(match &values[0] {
        Value::Text(text) => text.len(),
        Value::List(items) => items.len(),
        Value::Map(map) => map.len(),
        other => return Err(format!("len of type {}", other.type_name()).into()),
    }))
}

/// `index x 1 "a"` is Go's `x[1]["a"]`.
fn index<'a>(_: &mut Call<'_, '_>, values: &[Value<'a>]) -> Answer<'a> {
    let mut item = values[0].clone();
    if matches!(item, Value::Nil) {
        return Err("index of untyped nil".into());
    }
    for key in &values[1..] {
        item = match &item {
            Value::Nil => return Err("index of nil pointer".into()),
            Value::Text(text) => Value::Uint8(text[position(key, text.len(), false)?]),
            Value::List(items) => Value::from_json(&items[position(key, items.len(), false)?]),
            Value::Map(map) => {
                let Value::Text(key) = key else {
                    let kind = key.type_name();
                    return Err(format!("value has type {kind}; should be string").into());
                };
                let key = std::str::from_utf8(key).ok();
                match key.and_then(|key| map.get(key)) {
                    Some(value) => value,
                    None if map.holds_text() => Value::from(""),
                    None => Value::Nil,
                }
            }
            other => return Err(format!("can't index item of type {}", other.type_name()).into()),
        };
    }
    Ok(item)
}

/// A position inside of something, or also at its end.
fn position(value: &Value<'_>, length: usize, end: bool) -> Result<usize, Reason> {
    let Some(number) = whole(value) else {
        let kind = value.type_name();
        return Err(format!("cannot index slice/array with type {kind}").into());
    };
    usize::try_from(number)
        .ok()
        .filter(|position| *position < length || end && *position == length)
        .ok_or_else(|| format!("index out of range: {number}").into())
}

/// `slice x 1 2` is Go's `x[1:2]`: of a text it counts bytes, and may cut a character.
fn slice<'a>(_: &mut Call<'_, '_>, values: &[Value<'a>]) -> Answer<'a> {
    let (item, indexes) = (&values[0], &values[1..]);
    let length = match (item, indexes.len()) {
        (Value::Nil, _) => return Err("slice of untyped nil".into()),
        (_, 4..) => return Err(format!("too many slice indexes: {}", indexes.len()).into()),
        (Value::Text(_), 3) => return Err("cannot 3-index slice a string".into()),
        (Value::Text(text), _) => text.len(),
        (Value::List(items), _) => items.len(),
        (other, _) => {
            return Err(format!("can't slice item of type {}", other.type_name()).into());
        }
    };
    let mut bounds = [0, length, length];
    for (bound, index) in bounds.iter_mut().zip(indexes) {
        *bound = position(index, length, true)?;
    }
    let [start, end, capacity] = bounds;
    if start > end || end > capacity {
        return Err(format!("invalid slice index: {start} > {end}").into());
    }
    Ok(match item {
        Value::Text(text) => Value::part_of(text, start..end),
        Value::List(items) => Value::List(&items[start..end]),
        other => other.clone(),
    })
}

fn print<'a>(_: &mut Call<'_, '_>, values: &[Value<'a>]) -> Answer<'a> {
    printf::sprint(values).map(Value::computed)
}

fn println<'a>(_: &mut Call<'_, '_>, values: &[Value<'a>]) -> Answer<'a> {
    printf::sprintln(values).map(Value::computed)
}

fn printf<'a>(_: &mut Call<'_, '_>, values: &[Value<'a>]) -> Answer<'a> {
    let [Value::Text(format), arguments @ ..] = values else {
        return Err("expected string".into());
    };
    printf::sprintf(format, arguments).map(Value::computed)
}

fn html<'a>(_: &mut Call<'_, '_>, values: &[Value<'a>]) -> Answer<'a> {
    let mut out = Buffer::default();
    for byte in printf::eval_args(values)? {
        match byte {
            0 => out.push_str("\u{fffd}")?,
            b'"' => out.push(b"&#34;")?,
            b'\'' => out.push(b"&#39;")?,
            b'&' => out.push(b"&amp;")?,
            b'<' => out.push(b"&lt;")?,
            b'>' => out.push(b"&gt;")?,
            byte => out.push(&[byte])?,
        }
    }
    Ok(Value::computed(out.into_bytes()))
}

fn js<'a>(_: &mut Call<'_, '_>, values: &[Value<'a>]) -> Answer<'a> {
    let mut out = Buffer::default();
    for rune in runes(&printf::eval_args(values)?) {
        match rune {
            Ok(c @ ('\\' | '\'' | '"')) => {
                out.push(b"\\")?;
                out.push_char(c)?;
            }
            Ok(c @ ('<' | '>' | '&' | '=' | '\0'..='\x1f')) => {
                out.push_str(&format!("\\u{:04X}", u32::from(c)))?;
            }
            Ok(c) if c.is_ascii() || is_print(c) => out.push_char(c)?,
            Ok(c) => out.push_str(&format!("\\u{:04X}", u32::from(c)))?,
            Err(byte) => out.push(&[byte])?,
        }
    }
    Ok(Value::computed(out.into_bytes()))
}

fn urlquery<'a>(_: &mut Call<'_, '_>, values: &[Value<'a>]) -> Answer<'a> {
    let mut out = Buffer::default();
    for byte in printf::eval_args(values)? {
        match byte {
            b' ' => out.push(b"+")?,
            b'-' | b'_' | b'.' | b'~' => out.push(&[byte])?,
            byte if byte.is_ascii_alphanumeric() => out.push(&[byte])?,
            byte => out.push_str(&format!("%{byte:02X}"))?,
        }
    }
    Ok(Value::computed(out.into_bytes()))
}

pub static OF_GO: &[Function] = function_table! {
    "and"(Any, ...Any) -> Any = not_called;
    "or"(Any, ...Any) -> Any = not_called;
    "not"(Any) -> Bool = not;
    "eq"(Any, ...Any) -> Bool = eq;
    "ne"(Any, Any) -> Bool = ne;
    "lt"(Any, Any) -> Bool = lt;
    "le"(Any, Any) -> Bool = le;
    "gt"(Any, Any) -> Bool = gt;
    "ge"(Any, Any) -> Bool = ge;
    "len"(Any) -> Int = len;
    "index"(Any, ...Any) -> Any = index;
    "slice"(Any, ...Any) -> Any = slice;
    "print"(...Any) -> Text = print;
    "println"(...Any) -> Text = println;
    "printf"(Text, ...Any) -> Text = printf;
    "html"(...Any) -> Text = html;
    "js"(...Any) -> Text = js;
    "urlquery"(...Any) -> Text = urlquery;
    "call"(Any, ...Any) -> Any = call;
};
