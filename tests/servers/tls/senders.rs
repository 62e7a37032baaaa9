//! Senders that deliver over TLS, and their ends.

use std::io::Write;
use std::net::{Shutdown, TcpStream};

use openssl::ssl::SslVersion;
use serde_json::json;

use super::https_connector;
use crate::support::alertmanager::Alertmanager;
use crate::support::broker::Admin;
use crate::support::certificates::Subject;
use crate::support::connector::{Connector, MAPPING, config};
use crate::support::http::{Tls, webhook_head, webhook_request};
use crate::support::tls::Authority;
use crate::support::{TOKEN, notification, wait_until};

#[test]
fn a_sender_that_closes_its_connection_is_noticed_while_its_notification_waits() {
    let authority = Authority::new();
    // No broker: the notification waits.
    let url = "amqp://cpsrabbit:canopsis@127.0.0.1:1/v0";
    let http = format!("answer_timeout: 60s, {}", authority.setting("server", ""));
    let connector = Connector::with(&config(url, &http, MAPPING), &[]);
    let request = webhook_request(&notification(&["a"]));
    for (received, version) in [(1, SslVersion::TLS1_2), (2, SslVersion::TLS1_3)] {
        let socket = TcpStream::connect(connector.address).unwrap();
        let tls = Tls::with(&authority.ca(), "localhost", None, Some(version));
        let mut stream = tls.connector.connect("localhost", socket).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        wait_until("it is received", || connector.received() == received);
        // With TLS's alert before the end of the connection, as senders close one.
        stream.shutdown().unwrap();
        drop(stream);
        wait_until("the end is noticed", || {
            let noticed = "WARN  the sender closed the connection before the response";
            let log = connector.log();
            log.matches(noticed).count() == 1 && log.matches("status=503 milli").count() == received
        });
    }
    let log = connector.log();
    assert!(!log.contains("timed out"), "{log}");
}

#[test]
fn a_broken_connection_is_described_without_the_source_files_of_openssl() {
    let authority = Authority::new();
    let mut connector = https_connector(&authority, &Admin::fresh(), "");
    let head = webhook_head("Content-Length: 9\r\n");
    for (end, reason) in [
        (&b""[..], "unexpected end of file"),
        (b"not a record", "wrong version number"),
    ] {
        let socket = TcpStream::connect(connector.address).unwrap();
        let mut raw = socket.try_clone().unwrap();
        let mut stream = authority.tls().connect(socket).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        raw.write_all(end).unwrap();
        // Fails where the connector has closed the connection already.
        let _ = raw.shutdown(Shutdown::Write);
        connector.wait_for_log(&format!("body not received completely: {reason}"));
    }
    let log = connector.log();
    assert!(!log.contains(".c:") && !log.contains("error:"), "{log}");
}

/// `servers/contrib/prometheus.rs` has a Prometheus that scrapes through TLS.
#[test]
fn alertmanager_uses_tls_with_a_client_certificate() {
    let authority = Authority::new();
    let identity = authority.issue("client", Subject::host("sender.example"));
    let ca = authority.ca();
    let client_ca = format!("client_ca_file: '{}'", ca.display());
    let admin = Admin::fresh();
    let mut connector = https_connector(&authority, &admin, &client_ca);
    connector.tls = Some(Tls::with(&ca, "localhost", Some(&identity), None));
    connector.wait_until_ready();
    let tls = format!(
        "{{ca_file: {}, cert_file: {}, key_file: {}}}",
        ca.display(),
        identity.0.display(),
        identity.1.display()
    );
    let config = format!(
        "route: {{receiver: canopsis, group_wait: 0s}}\nreceivers:\n- name: canopsis\n  webhook_configs:\n  \
         - url: https://localhost:{}/webhook\n    http_config: {{authorization: {{credentials: {TOKEN}}}, tls_config: {tls}}}\n",
        connector.address.port()
    );
    let mut alertmanager = Alertmanager::with_config("", &config);
    alertmanager.post_alerts(&[json!({"alertname": "A", "instance": "h"})], None);
    wait_until("the alert is in the queue", || {
        admin.drain_resources() == ["A"]
    });
}
