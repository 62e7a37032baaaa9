//! TLS with RabbitMQ and with senders: certificates are verified, and no handshake blocks others.

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use openssl::ssl::SslVersion;
use support::broker::Broker;
use support::certificates::{Identity, Subject};
use support::connector::{Connector, MAPPING, config, run_with_input};
use support::http::{Client, Response, Tls, read_response};
use support::tls::Authority;
use support::{ProcessGroup, TOKEN, free_port, notification, wait_until};

#[test]
fn only_a_broker_with_a_trusted_certificate_gets_events() {
    let mut broker = Broker::prepare();
    let tls = broker.make_certificates();
    let file = |name: &str| tls.join(name).to_str().unwrap().to_owned();
    broker.run();
    let connect = |host: &str, files: &str| {
        let url = format!("amqps://cpsrabbit:canopsis@{host}:{}/v0", broker.port);
        let settings = format!("amqp: {{url: '{url}', {files}}}");
        let text =
            config("x", "answer_timeout: 1s", MAPPING).replacen("amqp: {url: 'x'}", &settings, 1);
        Connector::with(&text, &[])
    };
    let authority = format!("ca_file: '{}'", file("ca.pem"));
    let identity = format!(
        "cert_file: '{}', key_file: '{}'",
        file("client.pem"),
        file("client-key.pem")
    );

    let good = connect("localhost", &format!("{authority}, {identity}"));
    good.wait_until_ready();
    assert_eq!(good.post(&notification(&["a"])).status, 200);

    for (what, bad, reason) in [
        (
            "another name",
            connect("127.0.0.1", &format!("{authority}, {identity}")),
            "certificate verify failed",
        ),
        (
            "an authority that the system does not trust",
            connect("localhost", &identity),
            "certificate verify failed",
        ),
        (
            "no client certificate",
            connect("localhost", &authority),
            "certificate required",
        ),
    ] {
        wait_until(what, || bad.get("/-/ready").body.contains(reason));
        assert!(!bad.log().contains("no TLS on this port?"), "{what}");
        assert_eq!(bad.post(&notification(&["b"])).status, 503, "{what}");
    }

    let plain = Broker::shared().port;
    for (what, url, hint) in [
        (
            "amqp:// on the port for TLS",
            format!("amqp://cpsrabbit:canopsis@localhost:{}/v0", broker.port),
            "use amqps://",
        ),
        (
            "amqps:// on the port without TLS",
            format!("amqps://cpsrabbit:canopsis@localhost:{plain}/v0"),
            "no TLS on this port?",
        ),
    ] {
        let text = config(&url, "", MAPPING);
        let bad = Connector::with(&text, &[]);
        wait_until(what, || bad.get("/-/ready").body.contains(hint));
    }
}

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

#[test]
fn senders_verify_the_certificate() {
    let (authority, other) = (Authority::new(), Identity::root("another authority"));
    let other_ca = other.write(&authority.dir, "other-ca").0;
    let ca = authority.ca();
    authority.issue(
        "rsa",
        Subject {
            rsa: true,
            ..Subject::host("localhost")
        },
    );
    authority.issue(
        "expired",
        Subject {
            days: -1,
            ..Subject::host("localhost")
        },
    );
    authority.issue("elsewhere", Subject::host("elsewhere.example"));
    let intermediate = authority.root.issue(Subject {
        is_authority: true,
        ..Subject::host("intermediate")
    });
    intermediate
        .issue(Subject::host("localhost"))
        .write(&authority.dir, "chain");
    let vhost = Broker::shared().fresh_vhost();

    for (name, trusted, is_accepted) in [
        ("server", &ca, true),
        ("rsa", &ca, true),
        ("chain", &ca, true),
        ("server", &other_ca, false),
        ("expired", &ca, false),
        ("elsewhere", &ca, false),
    ] {
        let text = config(
            &Broker::shared().url(&vhost),
            &authority.setting(name, ""),
            MAPPING,
        );
        let mut connector = Connector::with(&text, &[]);
        connector.tls = Some(Tls::trusting(trusted, "localhost"));
        let posted = || connector.try_post(&notification(&[name]));
        if is_accepted {
            connector.wait_until_ready();
            assert_eq!(posted().unwrap().status, 200, "{name}");
        } else {
            assert!(posted().is_err(), "{name}");
            connector.wait_for_log("TLS handshake failed");
        }
        let (succeeded, output) = s_client(&connector, trusted, &[]);
        assert_eq!(
            succeeded && output.contains("healthy"),
            is_accepted,
            "{name}: {output}"
        );
        let (succeeded, output) = curl(&connector, trusted, &[]);
        assert_eq!(
            succeeded && output.contains("healthy"),
            is_accepted,
            "{name}: {output}"
        );
        assert_eq!(
            connector.log().contains("the certificate has expired"),
            name == "expired",
            "{}",
            connector.log()
        );
    }
    let received = Broker::shared().admin(&vhost).drain();
    assert_eq!(received.len(), 3);
}

#[test]
fn a_client_certificate_is_required_where_its_authority_is_set() {
    let (authority, other) = (Authority::new(), Identity::root("another authority"));
    let good = authority.issue("client", Subject::host("sender.example"));
    let expired = authority.issue(
        "old",
        Subject {
            days: -1,
            ..Subject::host("sender.example")
        },
    );
    let foreign = other
        .issue(Subject::host("sender.example"))
        .write(&authority.dir, "foreign");
    let client_ca = format!("client_ca_file: '{}'", authority.ca().display());
    let mut connector = https_connector(&authority, &Broker::shared().fresh_vhost(), &client_ca);

    for version in [SslVersion::TLS1_2, SslVersion::TLS1_3] {
        let with = |identity| {
            Some(Tls::with(
                &authority.ca(),
                "localhost",
                identity,
                Some(version),
            ))
        };
        connector.tls = with(Some(&good));
        connector.wait_until_ready();
        assert_eq!(connector.post(&notification(&["a"])).status, 200);
        for (identity, reason) in [
            (
                None,
                "peer did not return a certificate (http.tls.client_ca_file requires",
            ),
            (
                Some(&expired),
                "certificate verify failed (certificate has expired)",
            ),
            (
                Some(&foreign),
                "certificate verify failed (unable to get local issuer certificate)",
            ),
        ] {
            connector.tls = with(identity);
            assert!(
                connector.try_post(&notification(&["b"])).is_err(),
                "{reason}"
            );
            connector.wait_for_log(reason);
        }
    }
    let (cert, key) = (good.0.to_str().unwrap(), good.1.to_str().unwrap());
    let (succeeded, output) = curl(&connector, &authority.ca(), &["--cert", cert, "--key", key]);
    assert!(succeeded && output.contains("healthy"), "{output}");
    let (succeeded, output) = curl(&connector, &authority.ca(), &[]);
    assert!(!succeeded, "{output}");
    let (succeeded, output) = s_client(&connector, &authority.ca(), &["-cert", cert, "-key", key]);
    assert!(succeeded && output.contains("healthy"), "{output}");
}

#[test]
fn old_versions_renegotiation_and_resumption_are_refused() {
    let authority = Authority::new();
    // RSA, for which every version has cipher suites.
    authority.issue(
        "server",
        Subject {
            rsa: true,
            ..Subject::host("localhost")
        },
    );
    let mut connector = https_connector(&authority, &Broker::shared().fresh_vhost(), "");
    for (version, is_accepted) in [
        ("-tls1_3", true),
        ("-tls1_2", true),
        ("-tls1_1", false),
        ("-tls1", false),
    ] {
        // Security level 0: otherwise the client itself would refuse old versions.
        let arguments = [version, "-cipher", "ALL:@SECLEVEL=0"];
        let (succeeded, output) = s_client(&connector, &authority.ca(), &arguments);
        assert_eq!(
            succeeded && output.contains("healthy"),
            is_accepted,
            "{version}: {output}"
        );
    }
    connector.wait_for_log("TLS handshake failed: unsupported protocol");

    // s_client renegotiates at a line with the letter R.
    let ca = authority.ca();
    let (succeeded, output) = s_client_with_input(&connector, &ca, &["-tls1_2"], "R\n");
    assert!(output.contains("RENEGOTIATING"), "{output}");
    assert!(
        !succeeded && output.contains("no renegotiation"),
        "{output}"
    );

    for version in ["-tls1_3", "-tls1_2"] {
        let arguments = [version, "-reconnect"];
        let (_, output) = s_client_with_input(&connector, &ca, &arguments, "Q\n");
        assert!(output.contains("New, TLS"), "{output}");
        assert!(!output.contains("Reused, TLS"), "{output}");
        assert!(!output.contains("session ticket:"), "{output}");
    }
    connector.wait_until_ready();
}

#[test]
fn a_wrong_scheme_is_answered_and_the_log_says_what_to_change() {
    let authority = Authority::new();
    let vhost = Broker::shared().fresh_vhost();
    let mut with_tls = https_connector(&authority, &vhost, "");
    for request in ["GET /-/healthy HTTP/1.1\r\n\r\n", "G", "\u{15}\u{3}\u{1}"] {
        let mut stream = TcpStream::connect(with_tls.address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let response = read_response(&mut std::io::BufReader::new(stream)).unwrap();
        assert_eq!(response.status, 400, "{request:?}");
        assert!(response.body.contains("use https://"), "{}", response.body);
    }
    with_tls.wait_for_log("plain HTTP on a port with TLS: use https:// in the URL");

    let mut plain = Connector::on(&Broker::shared().url(&vhost));
    plain.tls = Some(authority.tls());
    assert!(plain.try_post(&notification(&["a"])).is_err());
    plain.wait_for_log(
        "TLS handshake on a plain HTTP port: use http:// in the URL, or set http.tls",
    );
}

/// The start of a handshake: a record with a `ClientHello` that announces this length.
fn client_hello(length: u32) -> Vec<u8> {
    let [_, high, middle, low] = length.to_be_bytes();
    vec![0x16, 3, 1, 2, 0, 1, high, middle, low, 3, 3]
}

#[test]
fn stalled_and_dripping_handshakes_keep_no_sender_out() {
    let authority = Authority::new();
    for max_connections in [1024, 64] {
        let vhost = Broker::shared().fresh_vhost();
        let tls = authority.setting("server", "");
        let http = format!("{tls}, max_connections: {max_connections}");
        let text = config(&Broker::shared().url(&vhost), &http, MAPPING);
        let mut connector = Connector::with(&text, &["--log-level", "info"]);
        connector.tls = Some(authority.tls());
        connector.wait_until_ready();
        let stop = Arc::new(AtomicBool::new(false));
        let address = connector.address;
        let mut held = Vec::new();
        for number in 0..600 {
            let mut stream = TcpStream::connect(address).unwrap();
            match number % 3 {
                0 => {}
                // The largest that is not refused at once, and nothing of it.
                1 => stream.write_all(&client_hello(16 << 10)).unwrap(),
                _ => stream.write_all(&client_hello(500)).unwrap(),
            }
            held.push(stream);
        }
        let mut dripping: Vec<TcpStream> = (held.iter().skip(2).step_by(3))
            .map(|stream| stream.try_clone().unwrap())
            .collect();
        let drip = {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || {
                while !stop.load(Ordering::SeqCst) {
                    for stream in &mut dripping {
                        let _ = stream.write_all(&[0]);
                    }
                    std::thread::sleep(Duration::from_millis(100));
                }
            })
        };
        for name in ["a", "b", "c"] {
            let mut client = Client::with_tls(address, Some(authority.tls()));
            client.set_timeout(Duration::from_secs(5));
            let response = client.post(&notification(&[name])).unwrap();
            assert_eq!(response.status, 200, "{}", response.body);
        }
        // Single bytes do not extend the time.
        wait_until("every handshake has ended", || connector.threads() < 20);
        connector.wait_for_log("TLS handshake not complete within 10s");
        stop.store(true, Ordering::SeqCst);
        drip.join().unwrap();
        assert!(
            connector.log().len() < 1 << 20,
            "{} bytes of log",
            connector.log().len()
        );
        let peak = connector.peak_memory();
        assert!(peak < 128 << 20, "{peak} bytes");
    }
}

#[test]
fn handshakes_that_are_none_or_announce_too_much_are_closed_at_once() {
    let authority = Authority::new();
    let mut connector = https_connector(&authority, &Broker::shared().fresh_vhost(), "");
    for (start, reason) in [
        (
            client_hello((16 << 10) + 1),
            "the ClientHello exceeds 16384 bytes",
        ),
        (
            vec![0x16, 3, 1, 2, 0, 11, 0, 0, 1],
            "the first message is not a ClientHello",
        ),
        (
            [client_hello(40), vec![0xff; 600]].concat(),
            "TLS handshake failed",
        ),
    ] {
        let mut stream = TcpStream::connect(connector.address).unwrap();
        stream.write_all(&start).unwrap();
        let mut rest = Vec::new();
        // A reset where it was closed with unread input.
        let _ = stream.read_to_end(&mut rest);
        // At most OpenSSL's alert.
        assert!(rest.len() < 10, "{reason}: {rest:?}");
        connector.wait_for_log(reason);
    }
    connector.wait_until_ready();
}

fn expiry(connector: &Connector) -> i64 {
    let page = connector.get("/metrics").body;
    let name = "canopsis_connector_tls_certificate_expiry_timestamp_seconds ";
    let value = page
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .unwrap();
    value.parse().unwrap()
}

#[test]
fn certificates_are_rotated_by_a_reload_under_load() {
    let authority = Authority::new();
    let vhost = Broker::shared().fresh_vhost();
    let mut connector = https_connector(&authority, &vhost, "");
    connector.wait_until_ready();
    let text = std::fs::read_to_string(connector.config_path()).unwrap();
    let (stop, sent, address) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
        connector.address,
    );
    // Half of the senders keep their connection, the others open one for each notification.
    let senders: Vec<_> = (0..4)
        .map(|number| {
            let (stop, sent, tls) = (Arc::clone(&stop), Arc::clone(&sent), authority.tls());
            std::thread::spawn(move || {
                let mut client = Client::with_tls(address, Some(tls.clone()));
                let mut names = (0..).map(|count| format!("{number}-{count}"));
                while !stop.load(Ordering::SeqCst) {
                    if number % 2 == 0 {
                        client = Client::with_tls(address, Some(tls.clone()));
                    }
                    let name = names.next().unwrap();
                    let response = client.post(&notification(&[name])).unwrap();
                    assert_eq!(response.status, 200, "{}", response.body);
                    sent.fetch_add(1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    let more_is_sent = || {
        let before = sent.load(Ordering::SeqCst);
        wait_until("more is sent", || sent.load(Ordering::SeqCst) > before + 20);
    };
    let mut last = expiry(&connector);
    for days in [120, 150, 180] {
        authority.issue(
            "server",
            Subject {
                days,
                ..Subject::host("localhost")
            },
        );
        connector.reload(&text);
        more_is_sent();
        let now = expiry(&connector);
        assert_eq!((now - last + 43_200) / 86_400, 30);
        last = now;
    }
    // The new certificate with the old key, as between two copies: nothing of it is used.
    let key = std::fs::read(authority.dir.join("server-key.pem")).unwrap();
    authority.issue(
        "server",
        Subject {
            days: 10,
            ..Subject::host("localhost")
        },
    );
    std::fs::write(authority.dir.join("server-key.pem"), key).unwrap();
    connector.reload(&text);
    connector.wait_for_log("does not belong to the certificate in");
    connector.wait_for_log("configuration reload failed; still using the previous configuration");
    more_is_sent();
    assert_eq!(expiry(&connector), last);
    stop.store(true, Ordering::SeqCst);
    for sender in senders {
        sender.join().unwrap();
    }
    let received = Broker::shared().admin(&vhost).drain().len();
    assert_eq!(received, sent.load(Ordering::SeqCst));
    let key = std::fs::read_to_string(authority.dir.join("server-key.pem")).unwrap();
    for line in key.lines() {
        assert!(!connector.log().contains(line), "a line of the key");
    }

    // From TLS to plain HTTP: for new connections, too.
    connector.reload(&config(&Broker::shared().url(&vhost), "", MAPPING));
    connector.tls = None;
    assert_eq!(connector.post(&notification(&["plain"])).status, 200);
    assert_eq!(expiry(&connector), 0);
}

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
