//! The functions that templates can call: their names, the types of their parameters, and what they give.
//!
//! The first part are Go's own, the second those of Canopsis. On a value of the wrong type those that take any type give an
//! empty text; a typed parameter that gets another type fails the template, as Go's does.

use crate::builtins;
use crate::canopsis;
use crate::error::Reason;
use crate::limits::Meter;
use crate::regexp::{Compiled, Regexp, RegexpError};
use crate::value::Value;

/// The type of a parameter or a result, as far as Go checks it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    Any,
    Bool,
    Int,
    Int64,
    Text,
}

impl Type {
    /// As Go names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Any => "interface {}",
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Int64 => "int64",
            Self::Text => "string",
        }
    }
}

/// What more values a function takes behind its parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    None,
    AtMostOne,
    Any,
    /// Any number of texts.
    Texts,
}

/// What a function has at hand besides its values.
pub struct Context<'c, 'm> {
    pub meter: &'c mut Meter<'m>,
    pattern: Option<&'c Compiled>,
}

impl<'c, 'm> Context<'c, 'm> {
    pub fn new(meter: &'c mut Meter<'m>, pattern: Option<&'c Compiled>) -> Self {
        Self { meter, pattern }
    }

    /// The compiled pattern: compiled with the template where it is a constant. `None` where Go can't compile it, either.
    pub fn regexp(&self, pattern: &[u8]) -> Result<Option<Regexp>, Reason> {
        let compiled = match (self.pattern, std::str::from_utf8(pattern)) {
            (Some(constant), _) => constant.clone(),
            (None, Ok(pattern)) => Regexp::cached(pattern),
            (None, Err(_)) => return Ok(None),
        };
        match compiled {
            Ok(regexp) => Ok(Some(regexp)),
            Err(RegexpError::Syntax(_)) => Ok(None),
            Err(error @ (RegexpError::TooLarge(_) | RegexpError::OverBudget)) => {
                Err(error.to_string().into())
            }
        }
    }
}

pub type Answer<'a> = Result<Value<'a>, Reason>;
type Body = for<'a> fn(&mut Context<'_, '_>, &[Value<'a>]) -> Answer<'a>;

/// A function.
#[derive(Debug)]
pub struct Function {
    pub name: &'static str,
    pub parameters: &'static [Type],
    pub rest: Rest,
    pub result: Type,
    pub body: Body,
}

impl Function {
    /// Why it can't be called with this many values.
    pub fn check_count(&self, count: usize) -> Result<(), String> {
        let fixed = self.parameters.len();
        let (fits, wanted) = match self.rest {
            Rest::None => (count == fixed, format!("{fixed}")),
            Rest::AtMostOne => (
                (fixed..=fixed + 1).contains(&count),
                format!("{fixed} or {}", fixed + 1),
            ),
            Rest::Any | Rest::Texts => (count >= fixed, format!("at least {fixed}")),
        };
        if fits {
            return Ok(());
        }
        Err(format!(
            "wrong number of args for {}: want {wanted} got {count}",
            self.name
        ))
    }

    /// The type of a value by its place.
    pub fn parameter(&self, index: usize) -> Type {
        let rest = match self.rest {
            Rest::Texts => Type::Text,
            Rest::None | Rest::AtMostOne | Rest::Any => Type::Any,
        };
        self.parameters.get(index).copied().unwrap_or(rest)
    }

    /// Which of its values is a pattern.
    pub fn pattern_index(&self) -> Option<usize> {
        match self.name {
            "replace" => Some(0),
            "regex_map_key" | "regex_map_keys" => Some(1),
            _ => None,
        }
    }
}

fn all() -> impl Iterator<Item = &'static Function> {
    OF_GO.iter().chain(OF_CANOPSIS)
}

/// The function of a name.
pub fn find(name: &str) -> Option<&'static Function> {
    all().find(|function| function.name == name)
}

/// The names of all functions.
pub fn all_names() -> Vec<&'static str> {
    all().map(|function| function.name).collect()
}

/// The names of the functions that Canopsis adds to Go's.
pub fn names() -> impl Iterator<Item = &'static str> {
    OF_CANOPSIS.iter().map(|function| function.name)
}

const ANY: &[Type] = &[Type::Any];
const TWO: &[Type] = &[Type::Any, Type::Any];

const fn function(
    name: &'static str,
    parameters: &'static [Type],
    rest: Rest,
    result: Type,
    body: Body,
) -> Function {
    Function {
        name,
        parameters,
        rest,
        result,
        body,
    }
}

static OF_GO: &[Function] = &[
    function(AND, ANY, Rest::Any, Type::Any, builtins::not_called),
    function(OR, ANY, Rest::Any, Type::Any, builtins::not_called),
    function("not", ANY, Rest::None, Type::Bool, builtins::not),
    function("eq", ANY, Rest::Any, Type::Bool, builtins::eq),
    function("ne", TWO, Rest::None, Type::Bool, builtins::ne),
    function("lt", TWO, Rest::None, Type::Bool, builtins::lt),
    function("le", TWO, Rest::None, Type::Bool, builtins::le),
    function("gt", TWO, Rest::None, Type::Bool, builtins::gt),
    function("ge", TWO, Rest::None, Type::Bool, builtins::ge),
    function("len", ANY, Rest::None, Type::Int, builtins::len),
    function("index", ANY, Rest::Any, Type::Any, builtins::index),
    function("slice", ANY, Rest::Any, Type::Any, builtins::slice),
    function("print", &[], Rest::Any, Type::Text, builtins::print),
    function("println", &[], Rest::Any, Type::Text, builtins::println),
    function(
        "printf",
        &[Type::Text],
        Rest::Any,
        Type::Text,
        builtins::printf,
    ),
    function("html", &[], Rest::Any, Type::Text, builtins::html),
    function("js", &[], Rest::Any, Type::Text, builtins::js),
    function("urlquery", &[], Rest::Any, Type::Text, builtins::urlquery),
    function(CALL, ANY, Rest::Any, Type::Any, builtins::call),
];

static OF_CANOPSIS: &[Function] = &[
    function(
        "uppercase",
        ANY,
        Rest::None,
        Type::Text,
        canopsis::uppercase,
    ),
    function(
        "lowercase",
        ANY,
        Rest::None,
        Type::Text,
        canopsis::lowercase,
    ),
    function("trim", ANY, Rest::None, Type::Text, canopsis::trim),
    function(
        "replace",
        &[Type::Text, Type::Text, Type::Any],
        Rest::None,
        Type::Text,
        canopsis::replace,
    ),
    function(
        "split",
        &[Type::Text, Type::Int, Type::Any],
        Rest::None,
        Type::Text,
        canopsis::split,
    ),
    function("json", ANY, Rest::None, Type::Text, canopsis::json),
    function(
        "json_unquote",
        ANY,
        Rest::None,
        Type::Text,
        canopsis::json_unquote,
    ),
    function(
        "regex_map_key",
        &[Type::Any, Type::Text],
        Rest::None,
        Type::Any,
        canopsis::regex_map_key,
    ),
    function(
        "regex_map_keys",
        &[Type::Any, Type::Text],
        Rest::None,
        Type::Any,
        canopsis::regex_map_key,
    ),
    function(
        "map_has_key",
        TWO,
        Rest::None,
        Type::Bool,
        canopsis::map_has_key,
    ),
    function(
        "map_as_keys",
        TWO,
        Rest::None,
        Type::Bool,
        canopsis::map_has_key,
    ),
    function(
        "substr",
        &[Type::Text, Type::Int, Type::Int],
        Rest::None,
        Type::Text,
        canopsis::substr,
    ),
    function(
        "substrLeft",
        &[Type::Text, Type::Int],
        Rest::None,
        Type::Text,
        canopsis::substr_left,
    ),
    function(
        "substrRight",
        &[Type::Text, Type::Int],
        Rest::None,
        Type::Text,
        canopsis::substr_right,
    ),
    function(
        "strlen",
        &[Type::Text],
        Rest::None,
        Type::Int64,
        canopsis::strlen,
    ),
    function(
        "strpos",
        &[Type::Text, Type::Text],
        Rest::None,
        Type::Int64,
        canopsis::strpos,
    ),
    function(
        "strjoin",
        &[Type::Any, Type::Text],
        Rest::None,
        Type::Text,
        canopsis::strjoin,
    ),
    function("pairs", ANY, Rest::Texts, Type::Text, canopsis::pairs),
    function(
        LOCALTIME,
        TWO,
        Rest::AtMostOne,
        Type::Text,
        canopsis::localtime,
    ),
    function(
        "formattedDate",
        TWO,
        Rest::None,
        Type::Text,
        canopsis::formatted_date,
    ),
    function("add", TWO, Rest::None, Type::Int64, canopsis::add),
    function("sub", TWO, Rest::None, Type::Int64, canopsis::sub),
    function("mult", TWO, Rest::None, Type::Int64, canopsis::mult),
    function("div", TWO, Rest::None, Type::Int64, canopsis::div),
];

/// They evaluate no more of their values than they need; the evaluator does it.
pub const AND: &str = "and";
pub const OR: &str = "or";
/// Calls a value that is a function, of which there are none.
pub const CALL: &str = "call";
/// The function that has a time zone among its values.
pub const LOCALTIME: &str = "localtime";
