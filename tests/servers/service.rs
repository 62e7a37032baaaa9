//! The connector as a service: reloads, and notifications to systemd.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::thread;

use crate::support::broker::{Broker, ReceivedMessage};
use crate::support::certificates::Subject;
use crate::support::connector::{Connector, MAPPING, config};
use crate::support::http::{Client, read_response};
use crate::support::load::Load;
use crate::support::systemd::Systemd;
use crate::support::tls::Authority;
use crate::support::{TIMEOUT, TOKEN, TempDir, free_port, notification, signal, wait_until};
use serde_json::json;

#[test]
fn reloads_under_load_lose_no_event() {
    let broker = Broker::shared();
    let (first, second) = (broker.fresh_vhost(), broker.fresh_vhost());
    let other_mapping = MAPPING.replace("p1", "p2");
    let configurations = [
        config(&broker.url(&second), "", MAPPING),
        config(
            &broker.url(&second),
            "max_connections: 500, answer_timeout: 9s",
            &other_mapping,
        ),
        "connector: [".to_owned(),
        config(&broker.url(&first), "", &other_mapping),
        config(&broker.url(&first), "", MAPPING),
    ];
    let mut connector = Connector::with(
        &config(&broker.url(&first), "", MAPPING),
        &["--log-level", "info"],
    );
    connector.wait_until_ready();
    let load = Load::start(connector.address, 8);
    load.wait_for_more(20);
    for configuration in configurations.iter().cycle().take(20) {
        connector.reload(configuration);
        load.wait_for_more(5);
    }
    let result = load.stop();
    assert_eq!(result.statuses.keys().collect::<Vec<_>>(), [&200]);
    let (at_first, at_second) = (broker.admin(&first).drain(), broker.admin(&second).drain());
    // Each valid configuration was in use, with its broker and its mapping.
    for messages in [&at_first, &at_second] {
        let names: BTreeSet<_> = messages
            .iter()
            .map(|one| one.event["connector_name"].as_str())
            .collect();
        assert_eq!(names, BTreeSet::from([Some("p1"), Some("p2")]));
    }
    let received = || at_first.iter().chain(&at_second);
    let resources: Vec<String> = received().map(ReceivedMessage::resource).collect();
    result.assert_no_loss("reloaded 20 times", &resources);
    let log = connector.log();
    assert_eq!(
        (
            log.matches("configuration reloaded").count(),
            log.matches("configuration reload failed").count()
        ),
        (16, 4)
    );
}

#[test]
fn a_reload_changes_everything_but_the_address_or_nothing() {
    let broker = Broker::shared();
    let (first, second) = (broker.fresh_vhost(), broker.fresh_vhost());
    let mut connector = Connector::on(&broker.url(&first));
    connector.wait_until_ready();
    let changed = |name: &str| {
        let mapping = MAPPING.replace("p1", name);
        let url = broker.url(&second);
        format!(
            "amqp: {{url: '{url}'}}\nhttp: {{listen: '127.0.0.1:1', bearer_token: another, max_body_bytes: 2048, max_connections: 100, \
             metrics_require_token: true}}\n{mapping}"
        )
    };
    // The statuses of a notification, a large one, one with the other token, and of the metrics; the limit of notifications, which
    // follows from that of connections; the name in the event.
    let address = connector.address;
    let in_use = |token: &str, other: &str, vhost: &str| {
        let mut client = Client::new(address);
        let mut post = |token: &str, alerts: usize| {
            let authorization = format!("Authorization: Bearer {token}");
            let body = notification(&vec!["A"; alerts]);
            let response = client.send("POST", "/webhook", &[&authorization], body.as_bytes());
            response.unwrap().status
        };
        let statuses = [post(token, 1), post(token, 100), post(other, 1)];
        let anonymous = client.send("GET", "/metrics", &[], b"").unwrap().status;
        let authorization = format!("Authorization: Bearer {token}");
        let page = client
            .send("GET", "/metrics", &[&authorization], b"")
            .unwrap();
        let name = "canopsis_connector_http_notifications_limit ";
        let limit = page
            .body
            .lines()
            .find_map(|line| line.strip_prefix(name)?.parse().ok());
        let event = broker.admin(vhost).drain().swap_remove(0).event;
        (statuses, anonymous, limit, event["connector_name"].clone())
    };
    let before = ([200, 200, 401], 200, Some(1016), json!("p1"));
    assert_eq!(in_use(TOKEN, "another", &first), before);
    let invalid = changed("p2").replace("max_body_bytes", "bearer_tokn: hunter2, max_body_bytes");
    connector.reload(&invalid);
    connector.wait_for_log("configuration reload failed; still using the previous configuration");
    connector.wait_for_log("http.bearer_tokn: unknown key; did you mean \"bearer_token\"?");
    assert_eq!(
        in_use(TOKEN, "another", &first),
        before,
        "after an invalid reload"
    );

    for name in ["p2", "p3"] {
        connector.reload(&changed(name));
        let after = ([200, 413, 401], 401, Some(92), json!(name));
        assert_eq!(in_use("another", TOKEN, &second), after, "after a reload");
    }
    let log = connector.log();
    assert!(
        log.contains("http.listen changed: restart the service to apply it"),
        "{log}"
    );
    // With unchanged broker settings, the connection is kept.
    assert_eq!(log.matches("connected to RabbitMQ").count(), 2, "{log}");
}

#[test]
fn a_failed_reload_over_http_is_logged_once() {
    let mut connector = Connector::with(&config("amqp://127.0.0.1:1", "", MAPPING), &["--stdout"]);
    connector.rewrite("connector: [");
    let authorization = format!("Authorization: Bearer {TOKEN}");
    let response = connector
        .client()
        .send("POST", "/-/reload", &[&authorization], b"")
        .unwrap();
    assert_eq!(response.status, 500);
    assert!(response.body.contains("invalid YAML"), "{}", response.body);
    connector.terminate();
    connector.wait();
    // At debug level the request is logged as well.
    let log = connector.log();
    let is_failure = |line: &&str| line.contains("reload failed") && !line.contains(" DEBUG ");
    assert_eq!(log.lines().filter(is_failure).count(), 1, "{log}");
    assert_eq!(log.matches("invalid YAML").count(), 1, "{log}");
}

#[test]
fn a_changed_certificate_is_logged_with_its_expiry() {
    let authority = Authority::new();
    let configuration = |name: &str| {
        let tls = authority.setting(name, "");
        config("amqp://127.0.0.1:1", &tls, MAPPING)
    };
    let mut connector = Connector::with(&configuration("server"), &["--stdout"]);
    let subject = Subject {
        days: 1000,
        ..Subject::host("localhost")
    };
    authority.issue("renewed", subject);
    connector.reload(&configuration("renewed"));
    let log = connector.log();
    let expiry = |message: &str| {
        let line = log.lines().find(|line| line.contains(message));
        let (_, expiry) = line?.split_once("tls=\"on, certificate expires ")?;
        Some(expiry.to_owned())
    };
    let (first, second) = (expiry(" listening "), expiry("configuration reloaded"));
    assert!(first.is_some() && first < second, "{log}");
}

#[test]
fn a_deeply_nested_configuration_is_rejected_at_reload() {
    let broker = Broker::shared();
    let vhost = broker.fresh_vhost();
    let mut connector = Connector::on(&broker.url(&vhost));
    connector.wait_until_ready();
    for nested in ["[", "{a: ", "- "] {
        connector.reload(&format!("connector: {}", nested.repeat(100_000)));
    }
    let log = connector.log();
    assert_eq!(log.matches("nested too deeply").count(), 2, "{log}");
    assert_eq!(connector.post(&notification(&["A"])).status, 200);
}

/// Makes the token come from a FIFO: reading it blocks, as for a file on an unreachable NFS server.
fn block_reloads(connector: &Connector, url: &str, dir: &TempDir) -> PathBuf {
    let pipe = dir.path().join("token");
    let made = Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    connector.rewrite(&format!(
        "amqp: {{url: '{url}'}}\nhttp: {{bearer_token_file: {}}}\n{MAPPING}",
        pipe.display()
    ));
    pipe
}

#[test]
fn each_request_for_a_reload_has_a_result_of_its_time() {
    let url = "amqp://127.0.0.1:1";
    let connector = Connector::with(&config(url, "", MAPPING), &["--stdout"]);
    let dir = TempDir::new("reloads");
    let pipe = block_reloads(&connector, url, &dir);
    let request = || {
        let mut client = connector.client();
        let authorization = format!("Authorization: Bearer {TOKEN}");
        let response = client.send("POST", "/-/reload", &[&authorization], b"");
        response.unwrap().status
    };
    thread::scope(|scope| {
        let first = scope.spawn(request);
        // Opening the write end returns when the connector has opened the FIFO for reading.
        let mut writer = File::options().write(true).open(&pipe).unwrap();
        let second = scope.spawn(request);
        wait_until("both requests are open, and that of this page", || {
            let page = connector.get("/metrics").body;
            page.contains("\ncanopsis_connector_http_connections 3\n")
        });
        writer.write_all(TOKEN.as_bytes()).unwrap();
        drop(writer);
        assert_eq!(first.join().unwrap(), 200);
        // The second one may be about a newer file, so the file is read again.
        // In a thread, because opening waits for a reader.
        thread::spawn(move || std::fs::write(&pipe, TOKEN));
        assert_eq!(second.join().unwrap(), 200, "the second request");
    });
}

#[test]
fn a_slow_reload_does_not_delay_shutdown() {
    let broker = Broker::shared();
    let url = broker.url(&broker.fresh_vhost());
    let mut connector = Connector::on(&url);
    connector.wait_until_ready();
    let dir = TempDir::new("reload");
    let pipe = block_reloads(&connector, &url, &dir);
    signal(connector.pid(), "HUP");
    // Opening the write end returns when the connector has opened the FIFO for reading.
    let _writer = File::options().write(true).open(&pipe).unwrap();
    assert_eq!(connector.post(&notification(&["A"])).status, 200);
    connector.terminate();
    assert_eq!(connector.wait().code(), Some(0));
}

#[test]
fn a_shutdown_ends_uploads_and_idle_connections_and_waits_for_notifications() {
    // Without a broker, a notification waits for the whole time.
    let text = config("amqp://127.0.0.1:1", "answer_timeout: 2s", MAPPING);
    let mut connector = Connector::with(&text, &[]);
    let connect = || {
        let stream = TcpStream::connect(connector.address).unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        BufReader::new(stream)
    };
    let body = notification(&["a"]);
    let head = format!(
        "POST /webhook HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {TOKEN}\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let (mut idle, mut upload, mut waiting) = (connect(), connect(), connect());
    for sender in [&mut upload, &mut waiting] {
        sender.get_mut().write_all(head.as_bytes()).unwrap();
        assert_eq!(read_response(sender).unwrap().status, 100);
    }
    let (half, rest) = body.split_at(100);
    upload.get_mut().write_all(half.as_bytes()).unwrap();
    waiting.get_mut().write_all(body.as_bytes()).unwrap();
    wait_until("one waits", || connector.received() == 1);
    connector.terminate();
    assert_eq!(
        idle.read(&mut [0]).unwrap(),
        0,
        "an idle connection is kept"
    );
    let response = read_response(&mut upload).unwrap();
    assert_eq!(response.status, 503, "{}", response.body);
    assert!(
        response.body.contains("body not received completely"),
        "{}",
        response.body
    );
    let _ = upload.get_mut().write_all(rest.as_bytes());
    let response = read_response(&mut waiting).unwrap();
    assert_eq!(response.status, 503, "{}", response.body);
    assert!(
        response.body.contains("not connected to RabbitMQ"),
        "a waiting notification is given up at the shutdown: {}",
        response.body
    );
    assert_eq!(connector.wait().code(), Some(0));
    assert!(
        !connector.log().contains("shutdown timeout"),
        "{}",
        connector.log()
    );
}

#[test]
fn systemd_is_notified_of_each_state() {
    let mut broker = Broker::start();
    let systemd = Systemd::new();
    let address = format!("127.0.0.1:{}", free_port());
    let good = config(&broker.url("v0"), "", MAPPING).replace("127.0.0.1:0", &address);
    let mut connector = thread::scope(|scope| {
        let starting = scope.spawn(|| systemd.start_under(&["env"], &good));
        // READY is the first notification. Units that are ordered after this one connect at once.
        let ready = systemd.next();
        TcpStream::connect(&address).expect("the port is open at READY");
        assert!(
            ready.contains("READY=1\n")
                && ready.contains(&format!("STATUS=listening on {address}")),
            "{ready}"
        );
        starting.join().unwrap()
    });
    assert_eq!(connector.get("/-/healthy").status, 200);
    systemd.wait_for(&["STATUS=listening on", "; connected to RabbitMQ"]);
    for _ in 0..3 {
        systemd.wait_for(&["WATCHDOG=1"]);
    }
    broker.kill();
    let disconnected = systemd.wait_for(&["; not connected to RabbitMQ: "]);
    assert!(!disconnected.contains("canopsis@"), "{disconnected}");
    broker.run();
    systemd.wait_for(&["; connected to RabbitMQ"]);

    connector.reload("connector: [");
    let reloading = systemd.wait_for(&["RELOADING=1"]);
    assert!(reloading.contains("MONOTONIC_USEC="), "{reloading}");
    systemd.wait_for(&["READY=1"]);
    systemd.wait_for(&["; configuration reload failed; still using the previous configuration"]);
    connector.reload(&good);
    systemd.wait_for(&["RELOADING=1"]);
    systemd.wait_for(&["READY=1"]);
    let status = systemd.wait_for(&["STATUS=listening on"]);
    assert!(!status.contains("reload failed"), "{status}");

    connector.terminate();
    systemd.wait_for(&["STOPPING=1"]);
    assert_eq!(connector.wait().code(), Some(0));
}

#[test]
fn signals_exit_with_status_0_and_json_logs_are_json() {
    let broker = Broker::shared();
    for name in ["TERM", "INT"] {
        let vhost = broker.fresh_vhost();
        let text = config(&broker.url(&vhost), "", MAPPING);
        let mut connector = Connector::with(&text, &["--log-format", "json"]);
        connector.wait_until_ready();
        signal(connector.pid(), name);
        assert_eq!(connector.wait().code(), Some(0));
        let log = connector.log();
        let last: serde_json::Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
        assert_eq!(
            (last["level"].as_str(), last["message"].as_str()),
            (Some("info"), Some("stopped"))
        );
        // RabbitMQ ends its line with a colon and a reason where a client closes only the socket.
        let user = format!("vhost: '{vhost}', user: 'cpsrabbit'");
        wait_until("RabbitMQ logs the end of the connection", || {
            let log = broker.log();
            let mut ends = log
                .lines()
                .filter(|line| line.contains("closing AMQP") && line.contains(&user));
            let end = ends.next();
            assert!(
                !end.is_some_and(|line| line.ends_with(':')),
                "not closed in order: {end:?}"
            );
            end.is_some()
        });
    }
}
