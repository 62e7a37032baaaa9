//! The connector as a service: reloads, and notifications to systemd.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::thread;

use crate::support::broker::{Admin, Broker, ReceivedMessage};
use crate::support::connector::{Connector, MAPPING, config, config_without_broker};
use crate::support::http::{Client, webhook_head};
use crate::support::load::Load;
use crate::support::systemd::Systemd;
use crate::support::{AUTHORIZATION, TOKEN, TempDir, free_port, notification, signal, wait_until};
use serde_json::{Value, json};

#[test]
fn reloads_under_load_lose_no_event() {
    let (first, second) = (Admin::fresh(), Admin::fresh());
    let other_mapping = MAPPING.replace("p1", "p2");
    let more = "max_connections: 500, answer_timeout: 9s";
    let configurations = [
        config(&second.url(), "", MAPPING),
        config(&second.url(), more, &other_mapping),
        format!("connector: {}", "[".repeat(100_000)),
        config(&first.url(), "", &other_mapping),
        config(&first.url(), "", MAPPING),
    ];
    let initial = config(&first.url(), "", MAPPING);
    let mut connector = Connector::with(&initial, &["--log-level", "info"]);
    connector.wait_until_ready();
    let load = Load::start(connector.address, 8);
    load.wait_for_more(20);
    for configuration in configurations.iter().cycle().take(20) {
        connector.reload(configuration);
        load.wait_for_more(5);
    }
    let result = load.stop();
    assert_eq!(result.statuses.keys().collect::<Vec<_>>(), [&200]);
    let (at_first, at_second) = (first.drain(), second.drain());
    // Each valid configuration was in use, with its broker and its mapping.
    for messages in [&at_first, &at_second] {
        let names = messages
            .iter()
            .map(|one| one.event["connector_name"].as_str());
        let names: BTreeSet<_> = names.collect();
        assert_eq!(names, BTreeSet::from([Some("p1"), Some("p2")]));
    }
    let received = at_first.iter().chain(&at_second);
    let resources: Vec<String> = received.map(ReceivedMessage::resource).collect();
    result.assert_no_loss("reloaded 20 times", &resources);
    let log = connector.log();
    assert_eq!(log.matches("configuration reloaded").count(), 16);
    assert_eq!(log.matches("nested too deeply").count(), 4);
}

#[test]
fn a_reload_changes_everything_but_the_address_or_nothing() {
    let (first, second) = (Admin::fresh(), Admin::fresh());
    let mut connector = Connector::on(&first.url());
    let changed = |name: &str| {
        let mapping = MAPPING.replace("p1", name);
        let url = second.url();
        format!(
            "amqp: {{url: '{url}'}}\nhttp: {{listen: '127.0.0.1:1', bearer_token: another, max_body_bytes: 2048, max_connections: 100, \
             metrics_require_token: true}}\n{mapping}"
        )
    };
    // The statuses of a notification, a large one, one with the other token, and of the metrics; the limit of notifications, which
    // follows from that of connections; the name in the event.
    let address = connector.address;
    let in_use = |token: &str, other: &str, admin: &Admin| {
        let mut client = Client::new(address);
        let mut post = |token: &str, alerts: usize| {
            let authorization = format!("Authorization: Bearer {token}");
            let body = notification(&vec!["A"; alerts]);
            let response = client.send("POST", "/webhook", &[&authorization], body.as_bytes());
            response.unwrap().status
        };
        let statuses = [post(token, 1), post(token, 100), post(other, 1)];
        let mut metrics = |headers: &[&str]| client.send("GET", "/metrics", headers, b"").unwrap();
        let anonymous = metrics(&[]).status;
        let page = metrics(&[&format!("Authorization: Bearer {token}")]);
        let limit = page.metric("http_notifications_limit");
        let event = admin.drain().swap_remove(0).event;
        (statuses, anonymous, limit, event["connector_name"].clone())
    };
    let before = ([200, 200, 401], 200, 1016, json!("p1"));
    assert_eq!(in_use(TOKEN, "another", &first), before);
    let invalid = changed("p2").replace("max_body_bytes", "bearer_tokn: hunter2, max_body_bytes");
    connector.reload(&invalid);
    connector.wait_for_log("configuration reload failed; still using the previous configuration");
    connector.wait_for_log("http.bearer_tokn: unknown key; did you mean \"bearer_token\"?");
    let after = in_use(TOKEN, "another", &first);
    assert_eq!(after, before, "after an invalid reload");

    for name in ["p2", "p3"] {
        connector.reload(&changed(name));
        let after = ([200, 413, 401], 401, 92, json!(name));
        assert_eq!(in_use("another", TOKEN, &second), after, "after a reload");
    }
    connector.wait_for_log("http.listen changed: restart the service to apply it");
    let log = connector.log();
    // With unchanged broker settings, the connection is kept.
    assert_eq!(log.matches("connected to RabbitMQ").count(), 2, "{log}");
}

#[test]
fn a_reload_over_http_requires_the_token_and_returns_the_errors() {
    let good = config_without_broker();
    let mut connector = Connector::with(&good, &["--stdout"]);
    assert_eq!(connector.send("POST", "/-/reload", &[]).status, 401);
    let read = connector.send("GET", "/-/reload", &[AUTHORIZATION]);
    assert_eq!(read.status, 405);
    assert_eq!(connector.post_reload().status, 200);
    let loaded_at = |connector: &Connector| {
        let page = connector.get("/metrics").body;
        let name = "canopsis_connector_config_last_reload_success_timestamp_seconds ";
        let value = page.lines().find_map(|line| line.strip_prefix(name));
        value.unwrap().to_owned()
    };
    let loaded = loaded_at(&connector);
    connector.rewrite(&good.replace("bearer_token", "bearer_tokn"));
    let refused = connector.post_reload();
    refused.assert(500, "still using the previous configuration");
    refused.assert(500, "http.bearer_tokn");
    assert_eq!(loaded_at(&connector), loaded, "after a failure");
    assert_eq!(connector.metric("config_last_reload_successful"), 0);
    connector.rewrite(&good);
    assert_eq!(connector.post_reload().status, 200);
    let succeeded = connector.metric("config_reloads_total{outcome=\"success\"}");
    assert_eq!(succeeded, 2);
    connector.terminate();
    connector.wait();
    // At debug level the request is logged as well.
    let log = connector.log();
    let is_failure = |line: &&str| line.contains("reload failed") && !line.contains(" DEBUG ");
    assert_eq!(log.lines().filter(is_failure).count(), 1, "{log}");
    assert_eq!(log.matches("http.bearer_tokn").count(), 1, "{log}");
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
    let request = || connector.post_reload().status;
    thread::scope(|scope| {
        let first = scope.spawn(request);
        // Opening the write end returns when the connector has opened the FIFO for reading.
        let mut writer = File::options().write(true).open(&pipe).unwrap();
        let second = scope.spawn(request);
        wait_until("both requests are open, and that of this page", || {
            connector.metric("http_connections") == 3
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
    let url = Admin::fresh().url();
    let mut connector = Connector::on(&url);
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
    let body = notification(&["a"]);
    let length = format!("Content-Length: {}\r\n", body.len());
    let head = webhook_head(&format!("Expect: 100-continue\r\n{length}"));
    let [mut idle, mut upload, mut waiting] = [(); 3].map(|()| connector.connect());
    for sender in [&mut upload, &mut waiting] {
        sender.send(&head).unwrap();
        assert_eq!(sender.response().unwrap().status, 100);
    }
    let (half, rest) = body.split_at(100);
    upload.send(half).unwrap();
    waiting.send(&body).unwrap();
    wait_until("one waits", || connector.received() == 1);
    connector.terminate();
    assert!(idle.rest().unwrap().is_empty(), "not closed");
    let response = upload.response().unwrap();
    response.assert(503, "body not received completely");
    let _ = upload.send(rest);
    let response = waiting.response().unwrap();
    let is_kept = response.status == 503 && response.body.contains("not connected to RabbitMQ");
    assert!(is_kept, "given up at the shutdown: {response:?}");
    assert_eq!(response.header("connection"), Some("close"));
    assert_eq!(connector.wait().code(), Some(0));
    let log = connector.log();
    assert!(!log.contains("shutdown timeout"), "{log}");
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
        assert!(ready.contains("READY=1\n"), "{ready}");
        let status = format!("STATUS=listening on {address}");
        assert!(ready.contains(&status), "{ready}");
        starting.join().unwrap()
    });
    assert_eq!(connector.get("/-/healthy").status, 200);
    systemd.wait_for(&["STATUS=listening on", "; connected to RabbitMQ"]);
    for _ in 0..3 {
        let is_fed = systemd.is_notified_of("WATCHDOG=1");
        assert!(is_fed, "systemd kills a connector that works");
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
    for name in ["TERM", "INT"] {
        let admin = Admin::fresh();
        let text = config(&admin.url(), "", MAPPING);
        let mut connector = Connector::with(&text, &["--log-format", "json"]);
        connector.wait_until_ready();
        signal(connector.pid(), name);
        assert_eq!(connector.wait().code(), Some(0));
        let log = connector.log();
        let last: Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
        assert_eq!(last["level"], "info");
        assert_eq!(last["message"], "stopped");
        // RabbitMQ ends its line with a colon and a reason where a client closes only the socket.
        let user = format!("vhost: '{}', user: 'cpsrabbit'", admin.vhost);
        wait_until("RabbitMQ logs the end of the connection", || {
            let log = Broker::shared().log();
            let is_end = |line: &&str| line.contains("closing AMQP") && line.contains(&user);
            let end = log.lines().find(is_end);
            let is_in_order = end.is_none_or(|line| !line.ends_with(':'));
            assert!(is_in_order, "not closed in order: {end:?}");
            end.is_some()
        });
    }
}
