//! All functions: Go's own, and those of Canopsis.

use crate::builtins::OF_GO;
use crate::canopsis::OF_CANOPSIS;
use crate::function::Function;

fn all() -> impl Iterator<Item = &'static Function> {
    OF_GO.iter().chain(OF_CANOPSIS)
}

/// The function of a name.
pub fn find(name: &str) -> Option<&'static Function> {
    all().find(|function| function.name == name)
}

/// The names of all functions.
pub fn all_names() -> Vec<String> {
    all().map(|function| function.name.to_owned()).collect()
}

/// The names of the functions that are added to Go's.
pub fn names() -> impl Iterator<Item = &'static str> {
    OF_CANOPSIS.iter().map(|function| function.name)
}
