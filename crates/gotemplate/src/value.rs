//! The values that templates work on: Go's kinds, borrowed from where they are kept.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;
use std::rc::Rc;

use serde_json::Value as Json;

/// A text: bytes, as Go's strings are. Borrowed from the data or the template, or computed and shared.
#[derive(Debug, Clone)]
pub enum Text<'a> {
    /// Kept elsewhere.
    Borrowed(&'a [u8]),
    /// Computed by a function; variables share it.
    Shared(Rc<Vec<u8>>),
}

impl Deref for Text<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Borrowed(bytes) => bytes,
            Self::Shared(bytes) => bytes,
        }
    }
}

/// A value, with the kinds that Go distinguishes: `1` is an `int` and equals no `float64`.
#[derive(Debug, Clone)]
pub enum Value<'a> {
    /// No value at all: printed as `<no value>`.
    Nil,
    /// `bool`
    Bool(bool),
    /// `int`: constants of templates, lengths, positions.
    Int(i64),
    /// `int64`: what the arithmetic functions give.
    Int64(i64),
    /// `uint8`: what `index` gives of a text.
    Uint8(u8),
    /// `float64`: every number of JSON.
    Float(f64),
    /// `string`
    Text(Text<'a>),
    /// `[]interface {}`
    List(&'a [Json]),
    /// `map[string]string` or `map[string]interface {}`
    Map(&'a (dyn Map + 'a)),
}

/// A map with texts as its keys, through which a program shows its own data to templates without copying it.
pub trait Map: fmt::Debug {
    /// Whether every value is a text by its type (`map[string]string` rather than `map[string]interface {}`): the value of a key
    /// that is not there is then the empty text for `index`, and no value otherwise.
    fn holds_text(&self) -> bool;

    /// The value of a key.
    fn get(&self, key: &str) -> Option<Value<'_>>;

    /// All entries, in the order of their keys' bytes.
    fn entries(&self) -> Vec<(&str, Value<'_>)>;

    /// How many entries it has.
    fn len(&self) -> usize {
        self.entries().len()
    }

    /// Whether it has no entry.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<'a> Value<'a> {
    /// JSON as Go's decoder gives it where it knows no type: every number is a `float64`.
    pub fn from_json(json: &'a Json) -> Self {
        match json {
            Json::Null => Self::Nil,
            Json::Bool(value) => Self::Bool(*value),
            Json::Number(number) => number.as_f64().map_or(Self::Nil, Self::Float),
            Json::String(text) => Self::from(text.as_str()),
            Json::Array(items) => Self::List(items),
            Json::Object(entries) => Self::Map(entries),
        }
    }

    /// A text that was computed.
    pub(crate) fn computed(bytes: Vec<u8>) -> Self {
        Self::Text(Text::Shared(Rc::new(bytes)))
    }

    /// A part of a text; of a computed one it is a copy.
    pub(crate) fn part_of(text: &Text<'a>, range: std::ops::Range<usize>) -> Self {
        match text {
            Text::Borrowed(bytes) => Self::Text(Text::Borrowed(&bytes[range])),
            Text::Shared(bytes) if range == (0..bytes.len()) => Self::Text(text.clone()),
            Text::Shared(bytes) => Self::computed(bytes[range].to_vec()),
        }
    }

    /// The type's name, as `%T` has it.
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Self::Nil => "nil",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Int64(_) => "int64",
            Self::Uint8(_) => "uint8",
            Self::Float(_) => "float64",
            Self::Text(_) => "string",
            Self::List(_) => "[]interface {}",
            Self::Map(map) if map.holds_text() => "map[string]string",
            Self::Map(_) => "map[string]interface {}",
        }
    }

    /// Whether it counts as true: it is neither nothing, nor zero, nor empty.
    pub(crate) fn is_true(&self) -> bool {
        match self {
            Self::Nil => false,
            Self::Bool(value) => *value,
            Self::Int(value) | Self::Int64(value) => *value != 0,
            Self::Uint8(value) => *value != 0,
            Self::Float(value) => *value != 0.0,
            Self::Text(text) => !text.is_empty(),
            Self::List(items) => !items.is_empty(),
            Self::Map(map) => !map.is_empty(),
        }
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(Text::Borrowed(text.as_bytes()))
    }
}

impl Map for serde_json::Map<String, Json> {
    fn holds_text(&self) -> bool {
        false
    }

    fn get(&self, key: &str) -> Option<Value<'_>> {
        self.get(key).map(Value::from_json)
    }

    fn entries(&self) -> Vec<(&str, Value<'_>)> {
        self.iter()
            .map(|(key, value)| (key.as_str(), Value::from_json(value)))
            .collect()
    }

    fn len(&self) -> usize {
        self.len()
    }
}

impl Map for BTreeMap<String, String> {
    fn holds_text(&self) -> bool {
        true
    }

    fn get(&self, key: &str) -> Option<Value<'_>> {
        self.get(key).map(|text| Value::from(text.as_str()))
    }

    fn entries(&self) -> Vec<(&str, Value<'_>)> {
        self.iter()
            .map(|(key, text)| (key.as_str(), Value::from(text.as_str())))
            .collect()
    }

    fn len(&self) -> usize {
        self.len()
    }
}
