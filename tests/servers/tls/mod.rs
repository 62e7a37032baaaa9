//! TLS with RabbitMQ and with senders: certificates are verified, and no handshake blocks others.

mod broker;
mod certificates;
mod handshakes;
mod senders;
use std::path::Path;
use std::process::Command;

use crate::support::broker::Admin;
use crate::support::connector::{Connector, MAPPING, config, run_with_input};
use crate::support::tls::Authority;

/// A connector with the certificate `server`, which its clients verify.
fn https_connector(authority: &Authority, admin: &Admin, more: &str) -> Connector {
    let text = config(&admin.url(), &authority.setting("server", more), MAPPING);
    let mut connector = Connector::with(&text, &[]);
    connector.tls = Some(authority.tls());
    connector
}

/// Runs a client program with this input. Returns whether it has succeeded, and its output.
fn run_client(program: &str, arguments: &[&str], input: &str) -> (bool, String) {
    let output = run_with_input(Command::new(program).args(arguments), input);
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    (output.status.success(), text)
}

/// Asks `openssl s_client` for the health, in one request on a verified connection. Returns whether it is healthy, and the output.
fn s_client(connector: &Connector, ca: &Path, more: &[&str]) -> (bool, String) {
    let fixed = "-verify_return_error -verify_hostname localhost -ign_eof";
    let fixed: Vec<&str> = fixed.split(' ').collect();
    let request = "GET /-/healthy HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    let arguments = [&fixed, more].concat();
    let (succeeded, output) = s_client_with_input(connector, ca, &arguments, request);
    (succeeded && output.contains("healthy"), output)
}

/// Runs `openssl s_client`, which also takes commands from its input.
fn s_client_with_input(
    connector: &Connector,
    ca: &Path,
    more: &[&str],
    input: &str,
) -> (bool, String) {
    let (address, ca) = (connector.address.to_string(), ca.to_str().unwrap());
    let fixed = ["s_client", "-connect", &address, "-CAfile", ca];
    run_client("openssl", &[&fixed, more].concat(), input)
}

/// Asks curl for the health. Returns whether it is healthy, and the output.
fn curl(connector: &Connector, ca: &Path, more: &[&str]) -> (bool, String) {
    let url = format!("https://localhost:{}/-/healthy", connector.address.port());
    let fixed: Vec<&str> = "--silent --show-error --max-time 30 --cacert"
        .split(' ')
        .collect();
    let arguments = [&fixed[..], &[ca.to_str().unwrap()], more, &[&url]].concat();
    let (succeeded, output) = run_client("curl", &arguments, "");
    (succeeded && output.contains("healthy"), output)
}
