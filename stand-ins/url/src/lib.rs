//! A stand-in for url 1.7, made for one caller: amq-protocol 1.4. The names that it uses, on the code of url 2.

pub use percent_encoding;
pub use url2::Url;
