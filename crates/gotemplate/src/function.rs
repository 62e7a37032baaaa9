//! What a function is: its name, the types of its parameters, and what it gives.

use crate::error::Reason;
use crate::limits::Meter;
use crate::regexp::{Compiled, Regexp, RegexpError};
use crate::value::Value;

/// The functions that evaluate no more of their values than they need; the evaluator does it.
pub const AND: &str = "and";
pub const OR: &str = "or";
/// Calls a value that is a function, of which there are none.
pub const CALL: &str = "call";
/// The function that has a time zone among its values.
pub const LOCALTIME: &str = "localtime";

/// The type of a parameter or a result, as far as Go checks it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    Any,
    Bool,
    Int,
    Int64,
    Text,
    /// The text of a regexp.
    Pattern,
}

impl Type {
    /// As Go names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Any => "interface {}",
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Int64 => "int64",
            Self::Text | Self::Pattern => "string",
        }
    }
}

/// What a function uses besides its values.
pub struct Call<'c, 'm> {
    pub meter: &'c mut Meter<'m>,
    pattern: Option<&'c Compiled>,
}

impl<'c, 'm> Call<'c, 'm> {
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
pub type Body = for<'a> fn(&mut Call<'_, '_>, &[Value<'a>]) -> Answer<'a>;

/// A function. A value of another type than its parameter's fails the template, as in Go; what a function does with a value of
/// the wrong type where it takes any is its own decision.
#[derive(Debug)]
pub struct Function {
    pub name: &'static str,
    pub parameters: &'static [Type],
    /// One more parameter, which may be left out.
    pub optional: Option<Type>,
    /// The type of any number of further values.
    pub rest: Option<Type>,
    pub result: Type,
    pub body: Body,
}

impl Function {
    /// Why it can't be called with this many values.
    pub fn check_count(&self, count: usize) -> Result<(), String> {
        let fixed = self.parameters.len();
        let (fits, wanted) = if self.rest.is_some() {
            (count >= fixed, format!("at least {fixed}"))
        } else if self.optional.is_some() {
            let most = fixed + 1;
            (
                (fixed..=most).contains(&count),
                format!("{fixed} or {most}"),
            )
        } else {
            (count == fixed, format!("{fixed}"))
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
        let declared = self.parameters.get(index).copied();
        declared
            .or(self.optional)
            .or(self.rest)
            .unwrap_or(Type::Any)
    }

    /// Which of its values is a pattern.
    pub fn pattern_index(&self) -> Option<usize> {
        let is_pattern = |kind: &Type| *kind == Type::Pattern;
        self.parameters.iter().position(is_pattern)
    }
}

/// A table of functions with their signatures, `"name"(Type, [Type], ...Type) -> Type = body;`: in brackets what may be left
/// out, behind dots what may be repeated.
macro_rules! function_table {
    ($(
        $name:literal ($($parameter:ident),* $(,)? $([$optional:ident])? $(...$rest:ident)?) -> $result:ident = $body:path;
    )*) => {
        &[$($crate::function::Function {
            name: $name,
            parameters: &[$($crate::function::Type::$parameter),*],
            optional: $crate::function::function_table!(@type $($optional)?),
            rest: $crate::function::function_table!(@type $($rest)?),
            result: $crate::function::Type::$result,
            body: $body,
        }),*]
    };
    (@type) => { None };
    (@type $type:ident) => { Some($crate::function::Type::$type) };
}

pub(crate) use function_table;
