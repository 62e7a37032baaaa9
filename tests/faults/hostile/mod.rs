//! Malformed, malicious and excessive input: nothing is published without the token, and no input stops, blocks or bloats the process.

/// Runs each test with a listener for plain HTTP, and with one for HTTPS.
macro_rules! on_both_listeners {
    ($($test:ident),+ $(,)?) => {
        mod plain {
            $(#[test]
            fn $test() {
                super::$test(None);
            })+
        }

        mod https {
            $(#[test]
            fn $test() {
                super::$test(Some(&crate::support::tls::Authority::new()));
            })+
        }
    };
}

mod bodies;
mod connections;
mod requests;
mod token;

use crate::support::broker::Admin;
use crate::support::connector::{Connector, MAPPING, config};
use crate::support::notification;
use crate::support::tls::Authority;

/// The limit for the resident memory. The most of a debug build was 95 MiB: with HTTPS, and 100 bodies that stall.
const MAX_MEMORY: usize = 128 << 20;

fn connector(authority: Option<&Authority>) -> (Connector, Admin) {
    connector_with(authority, "max_connections: 1024", &[])
}

/// A connector with settings of the section `http` and these arguments, and its virtual host.
fn connector_with(
    authority: Option<&Authority>,
    http: &str,
    arguments: &[&str],
) -> (Connector, Admin) {
    let admin = Admin::fresh();
    let tls = authority.map(|authority| authority.setting("server", ""));
    let http = [Some(http.to_owned()), tls].into_iter().flatten();
    let text = config(&admin.url(), &http.collect::<Vec<_>>().join(", "), MAPPING);
    let mut connector = Connector::with(&text, arguments);
    connector.tls = authority.map(Authority::tls);
    connector.wait_until_ready();
    (connector, admin)
}

/// Asserts that the process still accepts a notification within 5 s, and that its memory is below [`MAX_MEMORY`].
fn assert_survives(connector: &Connector, what: &str) {
    let mut client = connector.client().with_timeout(5);
    let response = client.post(&notification(&[what]));
    let response = response.unwrap_or_else(|error| panic!("after {what}: {error}"));
    assert_eq!(response.status, 200, "after {what}: {}", response.body);
    assert_bounded(connector, what);
}

fn assert_bounded(connector: &Connector, what: &str) {
    let peak = connector.peak_memory();
    assert!(peak < MAX_MEMORY, "after {what}: {peak} bytes");
}
