//! More senders than the connector can serve, while RabbitMQ hangs: it still answers, and systemd knows that it is alive.

use std::collections::HashSet;

use crate::support::broker::{Admin, Broker};
use crate::support::connector::{Connector, MAPPING, config};
use crate::support::http::{Peer, webhook_head};
use crate::support::load::{post_all, statuses};
use crate::support::systemd::Systemd;
use crate::support::{notification, wait_until};

/// What the connector promises to need at most until it answers a page or refuses a notification, in seconds.
const PROMPT: u64 = 1;

#[test]
fn pages_refusals_and_the_watchdog_are_prompt_while_every_notification_waits() {
    let (broker, systemd) = (Broker::start(), Systemd::new());
    let settings = "max_connections: 16, answer_timeout: 60s";
    let text = config(&broker.url("v0"), settings, MAPPING);
    let connector = systemd.start_under(&["env"], &text);
    connector.wait_until_ready();
    broker.freeze();
    let bodies = (0..40).map(|sender| notification(&[format!("n{sender}")]));
    let senders = post_all(&connector, bodies);
    wait_until("half of the connections wait for the broker", || {
        connector.received() >= 8
    });
    for _ in 0..20 {
        for path in ["/-/healthy", "/metrics"] {
            let mut client = connector.client().with_timeout(PROMPT);
            let page = client.send("GET", path, &[], b"");
            let page = page.unwrap_or_else(|error| panic!("GET {path}: {error}"));
            assert_eq!(page.status, 200, "{path}");
        }
        let mut client = connector.client().with_timeout(PROMPT);
        let refused = client.post(&notification(&["refused"])).unwrap();
        refused.assert(503, "too many notifications in progress (8)");
        assert_eq!(refused.header("retry-after"), Some("5"));
    }
    assert_eq!(connector.received(), 8);
    for _ in 0..5 {
        systemd.wait_for(&["WATCHDOG=1"]);
    }
    broker.thaw();
    // Who waited is served, and nothing else is in the queue.
    let mut accepted = statuses(senders);
    accepted.retain(|status| *status == 200);
    assert_eq!(accepted.len(), 8);
    let received = broker.admin("v0").drain_resources();
    assert_eq!(received.into_iter().collect::<HashSet<_>>().len(), 8);
}

#[test]
fn a_connection_that_has_begun_a_request_outlives_silent_ones() {
    let admin = Admin::fresh();
    let connector = Connector::ready(&admin.url(), "max_connections: 16", MAPPING);
    // As Alertmanager keeps it: it has been idle for longer than all others.
    let mut sender = connector.connect();
    sender
        .send("GET /-/healthy HTTP/1.1\r\nHost: h\r\n\r\n")
        .unwrap();
    assert_eq!(sender.response().unwrap().status, 200);
    let silent: Vec<Peer> = (0..15).map(|_| connector.connect()).collect();
    let body = notification(&["uploaded"]);
    let (first, second) = body.split_at(100);
    let length = format!("Content-Length: {}\r\n", body.len());
    let head = webhook_head(&format!("Expect: 100-continue\r\n{length}"));
    sender.send(head).unwrap();
    assert_eq!(sender.response().unwrap().status, 100);
    sender.send(first).unwrap();
    // Each of them takes the slot of a silent one.
    let mut newcomers = Vec::new();
    for mut evicted in silent.into_iter().take(12) {
        newcomers.push(connector.connect());
        assert!(evicted.rest().unwrap().is_empty());
    }
    sender.send(second).unwrap();
    assert_eq!(sender.response().unwrap().status, 200);
    assert_eq!(admin.drain_resources(), ["uploaded"]);
}

#[test]
fn the_watchdog_is_fed_without_a_connection_and_shutdown_is_clean() {
    let up = "ip link set lo up && exec \"$@\"";
    let up_without_ipv6 = format!("echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6 && {up}");
    // Namespaces in which the process cannot connect to itself: without any interface, and at ::1 only.
    for wrapper in [
        &["unshare", "--net"][..],
        &["unshare", "--net", "sh", "-c", &up_without_ipv6, "sh"],
    ] {
        let systemd = Systemd::new();
        let text = config("amqp://127.0.0.1:1/v0", "", MAPPING).replace("127.0.0.1:0", "[::]:0");
        let mut connector = systemd.start_under(wrapper, &text);
        for _ in 0..3 {
            systemd.wait_for(&["WATCHDOG=1"]);
        }
        connector.terminate();
        systemd.wait_for(&["STOPPING=1"]);
        assert_eq!(connector.wait().code(), Some(0));
        assert!(connector.log().contains("INFO  stopped"));
    }
}
