//! The documents agree with the program. What needs a server is in `servers/documents.rs`.

mod claims;
mod examples;
mod reference;
const CONFIG: &str = include_str!("../../../config.yml");
const MAN: &str = include_str!("../../../man/canopsis-connector-prometheus.8.scd");
const FORMAT_MAN: &str = include_str!("../../../man/canopsis-connector-prometheus.yml.5.scd");

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}
