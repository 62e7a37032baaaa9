//! A substitute for url 1.7 with one caller, amq-protocol 1.4: re-exports url 2 under the names that it uses.

pub use percent_encoding;
pub use url2::Url;
