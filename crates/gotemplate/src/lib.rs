//! Go's `text/template` with the functions that Canopsis documents for its templates: compiled and checked once, rendered often.
//!
//! Imitates Go, and knows nothing of alerts, events or configurations. What is exact, what is refused and which limits hold is in
//! the crate's README.
//!
//! ```
//! use gotemplate::{Template, Value};
//!
//! let template = Template::parse("{{ .name | uppercase }}").unwrap();
//! let dot = Value::Map([("name".into(), Value::from("disk"))].into_iter().collect::<std::collections::BTreeMap<_, _>>().into());
//! assert_eq!(template.render(&dot).unwrap(), "DISK");
//! ```

#![forbid(unsafe_code)]
#![warn(clippy::unwrap_used, clippy::expect_used)]

mod case;
mod functions;
mod json;
mod messages;
pub mod regexp;
mod template;
mod time;
mod validate;

pub use functions::names as function_names;
/// A value that templates see: the dot, and what is below it.
pub use gotmpl::Value;
pub use json::from_json;
pub use regexp::{Regexp, RegexpError};
pub use template::{ParseError, RenderError, Template};
pub use validate::{Analysis, Dot, FieldRef};
