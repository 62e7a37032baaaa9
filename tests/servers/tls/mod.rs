//! TLS with RabbitMQ and with senders: certificates are verified, and no handshake blocks others.

mod broker;
mod certificates;
mod handshakes;
mod senders;
use std::path::Path;
use std::process::Command;

use crate::support::broker::Broker;
use crate::support::connector::{Connector, MAPPING, config, run_with_input};
use crate::support::tls::Authority;

/// A connector with a virtual host's events and the certificate `server`, which its clients verify.
fn https_connector(authority: &Authority, vhost: &str, more: &str) -> Connector {
    let tls = authority.setting("server", more);
    let text = config(&Broker::shared().url(vhost), &tls, MAPPING);
    let mut connector = Connector::with(&text, &[]);
    connector.tls = Some(authority.tls());
    connector
}

/// The output of a client program with this input.
fn run_client(program: &str, arguments: &[&str], input: &str) -> (bool, String) {
    let output = run_with_input(Command::new(program).args(arguments), input);
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

/// Asks `openssl s_client` for the health, in one request on a verified connection.
fn s_client(connector: &Connector, ca: &Path, more: &[&str]) -> (bool, String) {
    let fixed = [
        "-verify_return_error",
        "-verify_hostname",
        "localhost",
        "-ign_eof",
    ];
    let request = "GET /-/healthy HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    s_client_with_input(connector, ca, &[&fixed, more].concat(), request)
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

fn curl(connector: &Connector, ca: &Path, more: &[&str]) -> (bool, String) {
    let port = connector.address.port();
    let url = format!("https://localhost:{port}/-/healthy");
    let fixed = [
        "--silent",
        "--show-error",
        "--max-time",
        "30",
        "--cacert",
        ca.to_str().unwrap(),
    ];
    run_client("curl", &[&fixed, more, &[&url]].concat(), "")
}
