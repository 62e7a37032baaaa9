//! What is known of a value before a template runs.

use crate::error::wrong_type;
use crate::function::Type;

/// What is known of a value before a template runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shape {
    /// Nothing.
    Any,
    /// No value.
    Nil,
    /// `bool`
    Bool,
    /// `int`
    Int,
    /// `int64`
    Int64,
    /// `uint8`
    Uint8,
    /// `float64`
    Float,
    /// `string`
    Text,
    /// A map whose values are all texts. It may have any keys.
    Texts,
    /// A map with keys that are known.
    Map(MapShape),
}

/// A map with keys that are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapShape {
    /// The keys that it has, whatever the data are, with their values; of a key that it never has, why.
    pub keys: Vec<(String, Result<Shape, String>)>,
    /// Whether it may have other keys.
    pub may_have_others: bool,
    /// What to say of another key.
    pub of_others: String,
}

/// Values that can be compared with each other.
#[derive(Clone, Copy, PartialEq)]
enum Class {
    Bool,
    Whole,
    Float,
    Text,
    Map,
}

impl From<Type> for &'static Shape {
    fn from(declared: Type) -> Self {
        match declared {
            Type::Any => &Shape::Any,
            Type::Bool => &Shape::Bool,
            Type::Int => &Shape::Int,
            Type::Int64 => &Shape::Int64,
            Type::Text | Type::Pattern => &Shape::Text,
        }
    }
}

impl Shape {
    /// The type's name in Go.
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Self::Any => Type::Any.name(),
            Self::Nil => "nil",
            Self::Bool => Type::Bool.name(),
            Self::Int => Type::Int.name(),
            Self::Int64 => Type::Int64.name(),
            Self::Uint8 => "uint8",
            Self::Float => "float64",
            Self::Text => Type::Text.name(),
            Self::Texts => "map[string]string",
            Self::Map(_) => "map",
        }
    }

    fn is_map(&self) -> bool {
        matches!(self, Self::Texts | Self::Map(_))
    }

    fn is_whole(&self) -> bool {
        matches!(self, Self::Int | Self::Int64 | Self::Uint8)
    }

    fn class(&self) -> Option<Class> {
        Some(match self {
            Self::Any | Self::Nil => return None,
            Self::Bool => Class::Bool,
            Self::Int | Self::Int64 | Self::Uint8 => Class::Whole,
            Self::Float => Class::Float,
            Self::Text => Class::Text,
            Self::Texts | Self::Map(_) => Class::Map,
        })
    }

    /// Why a function's parameter never takes such a value.
    pub(crate) fn check_parameter(&self, parameter: Type) -> Result<(), String> {
        let takes = match parameter {
            Type::Text | Type::Pattern => matches!(self, Self::Any | Self::Text),
            Type::Int => matches!(self, Self::Any | Self::Int),
            Type::Any | Type::Bool | Type::Int64 => true,
        };
        if takes {
            return Ok(());
        }
        Err(wrong_type(parameter.name(), self.type_name()))
    }

    /// Why a loop over such a value always fails.
    pub(crate) fn check_range(&self) -> Result<(), String> {
        match self {
            Self::Any | Self::Nil | Self::Texts | Self::Map(_) => Ok(()),
            other => Err(format!("range can't iterate over a {}", other.type_name())),
        }
    }

    /// Why a function always fails with such values; they fit its parameters.
    pub(crate) fn check_call(function: &str, values: &[&Self]) -> Result<(), String> {
        match (function, values) {
            ("len", [value]) if !matches!(value, Self::Any | Self::Text) && !value.is_map() => {
                Err(format!("len of type {}", value.type_name()))
            }
            ("slice", [value, indexes @ ..]) => check_slice(value, indexes),
            ("lt" | "le" | "gt" | "ge", [left, right]) => check_order(left, right),
            ("eq" | "ne", [left, right, ..]) => match (left.class(), right.class()) {
                (Some(Class::Map), Some(Class::Map)) => {
                    Err(format!("non-comparable type {}", right.type_name()))
                }
                (Some(one), Some(other)) if one != other => Err(incompatible(left, right)),
                _ => Ok(()),
            },
            ("add" | "sub" | "mult" | "div", [_, _]) => {
                let fits = |value: &&&Self| matches!(value, Self::Any | Self::Int | Self::Int64);
                match values.iter().find(|value| !fits(value)) {
                    Some(value) => Err(format!("{} is not an integer", value.type_name())),
                    None => Ok(()),
                }
            }
            ("strjoin", [list, _]) if **list != Self::Any => {
                Err(format!("it joins a list, not a {}", list.type_name()))
            }
            ("pairs", [map, ..]) if **map != Self::Any && !map.is_map() => {
                Err(format!("it takes a map, not a {}", map.type_name()))
            }
            _ => Ok(()),
        }
    }

    /// What `index` gives of a value with a key, of which the text is known where it is a constant; or why it always fails.
    pub(crate) fn index(&self, key: &Self, constant: Option<&str>) -> Result<&Self, String> {
        let name = key.type_name();
        match self {
            Self::Any => Ok(&Self::Any),
            Self::Text if *key == Self::Any || key.is_whole() => Ok(&Self::Uint8),
            Self::Text => Err(format!("cannot index slice/array with type {name}")),
            Self::Texts | Self::Map(_) if !matches!(key, Self::Any | Self::Text) => Err(format!(
                "a map is indexed with a name, such as \"instance\", not with a value of type {name}"
            )),
            Self::Texts => Ok(&Self::Text),
            Self::Map(map) => Ok(match constant.and_then(|name| map.get(name)) {
                Some(Ok(shape)) => shape,
                Some(Err(_)) | None => &Self::Any,
            }),
            Self::Nil => Err("index of untyped nil".to_owned()),
            other => Err(format!("can't index item of type {}", other.type_name())),
        }
    }
}

impl MapShape {
    /// What is known of a key.
    pub(crate) fn get(&self, key: &str) -> Option<&Result<Shape, String>> {
        let (_, shape) = self.keys.iter().find(|(known, _)| known == key)?;
        Some(shape)
    }

    /// The keys that it has.
    pub(crate) fn names(&self) -> Vec<String> {
        let has =
            |(name, shape): &(String, Result<Shape, String>)| shape.is_ok().then(|| name.clone());
        self.keys.iter().filter_map(has).collect()
    }
}

fn check_slice(value: &Shape, indexes: &[&Shape]) -> Result<(), String> {
    if !matches!(value, Shape::Any | Shape::Text) {
        return Err(format!("can't slice item of type {}", value.type_name()));
    }
    let fits = |index: &&&Shape| **index == &Shape::Any || index.is_whole();
    match indexes.iter().find(|index| !fits(index)) {
        Some(index) => Err(format!(
            "cannot index slice/array with type {}",
            index.type_name()
        )),
        None => Ok(()),
    }
}

fn check_order(left: &Shape, right: &Shape) -> Result<(), String> {
    let has_order = |shape: &Shape| {
        *shape == Shape::Any
            || matches!(
                shape.class(),
                Some(Class::Whole | Class::Float | Class::Text)
            )
    };
    let differ = left
        .class()
        .zip(right.class())
        .is_some_and(|(left, right)| left != right);
    if differ || !has_order(left) || !has_order(right) {
        return Err(incompatible(left, right));
    }
    Ok(())
}

fn incompatible(left: &Shape, right: &Shape) -> String {
    let (left, right) = (left.type_name(), right.type_name());
    format!("incompatible types for comparison: {left} and {right}")
}
