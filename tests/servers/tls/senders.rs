//! Senders that deliver over TLS, and their ends.

use std::io::Write;
use std::net::{Shutdown, TcpStream};

use openssl::ssl::SslVersion;

use super::https_connector;
use crate::support::broker::Broker;
use crate::support::certificates::Subject;
use crate::support::connector::{Connector, MAPPING, config};
use crate::support::http::{Client, Response, Tls};
use crate::support::tls::Authority;
use crate::support::{ProcessGroup, TOKEN, free_port, notification, wait_until};

#[test]
fn a_sender_that_closes_its_connection_is_noticed_while_its_notification_waits() {
    let authority = Authority::new();
    // No broker: the notification waits.
    let url = "amqp://cpsrabbit:canopsis@127.0.0.1:1/v0";
    let http = format!("answer_timeout: 60s, {}", authority.setting("server", ""));
    let connector = Connector::with(&config(url, &http, MAPPING), &[]);
    let body = notification(&["a"]);
    let request = format!(
        "POST /webhook HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    for (received, version) in [(1, SslVersion::TLS1_2), (2, SslVersion::TLS1_3)] {
        let socket = TcpStream::connect(connector.address).unwrap();
        let connector_tls = Tls::with(&authority.ca(), "localhost", None, Some(version)).connector;
        let mut stream = connector_tls.connect("localhost", socket).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        wait_until("it is received", || connector.received() == received);
        // With TLS's alert before the end of the connection, as senders close one.
        stream.shutdown().unwrap();
        drop(stream);
        wait_until("the end is noticed", || {
            let noticed = "WARN  the sender closed the connection before the response";
            connector.log().matches(noticed).count() == 1
                && connector.log().matches("status=503 milli").count() == received
        });
    }
    assert!(
        !connector.log().contains("timed out"),
        "{}",
        connector.log()
    );
}

#[test]
fn a_broken_connection_is_described_without_the_source_files_of_openssl() {
    let authority = Authority::new();
    let vhost = Broker::shared().fresh_vhost();
    let mut connector = https_connector(&authority, &vhost, "");
    let head = format!(
        "POST /webhook HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 9\r\n\r\n"
    );
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

#[test]
fn alertmanager_and_prometheus_use_tls() {
    let authority = Authority::new();
    let (cert, key) = authority.issue("client", Subject::host("sender.example"));
    let dir = &authority.dir;
    std::fs::write(dir.join("token"), TOKEN).unwrap();
    let vhost = Broker::shared().fresh_vhost();
    let client_ca = format!("client_ca_file: '{}'", authority.ca().display());
    let tls = authority.setting("server", &client_ca);
    let http = format!("{tls}, metrics_require_token: true");
    let text = config(&Broker::shared().url(&vhost), &http, MAPPING);
    let mut connector = Connector::with(&text, &[]);
    let identity = (cert.clone(), key.clone());
    connector.tls = Some(Tls::with(
        &authority.ca(),
        "localhost",
        Some(&identity),
        None,
    ));
    connector.wait_until_ready();

    let (am, prometheus) = (free_port(), free_port());
    let port = connector.address.port();
    let http = format!(
        "authorization: {{credentials_file: {dir}/token}}, tls_config: {{ca_file: {ca}, cert_file: {cert}, key_file: {key}}}",
        dir = dir.display(),
        ca = authority.ca().display(),
        cert = cert.display(),
        key = key.display()
    );
    let start = |name: &str, config: &str, arguments: &[&str]| {
        let file = dir.join(format!("{name}.yml"));
        std::fs::write(&file, config).unwrap();
        let log = dir.join(format!("{name}.log"));
        let config = format!("--config.file={}", file.display());
        let command = [&[name, &config], arguments].concat();
        ProcessGroup::start(&command, log.to_str().unwrap(), "")
    };
    let storage = |name: &str| dir.join(name).display().to_string();
    let _alertmanager = start(
        "prometheus-alertmanager",
        &format!(
            "route: {{receiver: canopsis, group_wait: 0s}}\nreceivers:\n- name: canopsis\n  webhook_configs:\n  \
             - {{url: 'https://localhost:{port}/webhook', http_config: {{{http}}}}}\n"
        ),
        &[
            &format!("--storage.path={}", storage("alertmanager")),
            &format!("--web.listen-address=127.0.0.1:{am}"),
            "--cluster.listen-address=",
        ],
    );
    let rules = dir.join("rules.yml");
    std::fs::write(
        &rules,
        "groups: [{name: a, rules: [{alert: Scraped, expr: 'canopsis_connector_tls_certificate_expiry_timestamp_seconds > 0', \
         labels: {severity: warning}}]}]",
    )
    .unwrap();
    let _prometheus = start(
        "prometheus",
        &format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: ['{}']\n\
             alerting: {{alertmanagers: [{{static_configs: [{{targets: ['127.0.0.1:{am}']}}]}}]}}\n\
             scrape_configs: [{{job_name: connector, scheme: https, {http}, static_configs: [{{targets: ['localhost:{port}']}}]}}]\n",
            rules.display()
        ),
        &[
            &format!("--storage.tsdb.path={}", storage("prometheus")),
            &format!("--web.listen-address=127.0.0.1:{prometheus}"),
        ],
    );
    // Scraped through TLS by Prometheus, sent through TLS by Alertmanager.
    let admin = Broker::shared().admin(&vhost);
    let mut received = Vec::new();
    wait_until("the alert is in the queue", || {
        received.extend(admin.drain());
        received
            .iter()
            .any(|message| message.resource() == "Scraped")
    });
    let without_token: Response = Client::with_tls(connector.address, connector.tls.clone())
        .send("GET", "/metrics", &[], b"")
        .unwrap();
    assert_eq!(without_token.status, 401);
}
