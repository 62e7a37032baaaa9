//! More senders than the connector can serve, while RabbitMQ hangs: it still answers, and systemd knows that it is alive.

use std::collections::HashSet;
use std::io::{BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::support::broker::Broker;
use crate::support::connector::{Connector, MAPPING, config};
use crate::support::http::{Client, Response, read_response};
use crate::support::load::{post_all, statuses};
use crate::support::systemd::Systemd;
use crate::support::{TIMEOUT, TOKEN, notification, wait_until};

/// What the connector promises to need at most until it answers a page or refuses a notification.
const PROMPT: Duration = Duration::from_secs(1);

fn prompt_get(connector: &Connector, path: &str) -> Response {
    let mut client = Client::new(connector.address);
    client.set_timeout(PROMPT);
    client
        .send("GET", path, &[], b"")
        .unwrap_or_else(|error| panic!("GET {path}: {error}"))
}

#[test]
fn pages_and_refusals_are_prompt_while_every_notification_waits() {
    let broker = Broker::start();
    let settings = "max_connections: 16, answer_timeout: 60s";
    let connector = Connector::with(&config(&broker.url("v0"), settings, MAPPING), &[]);
    connector.wait_until_ready();
    broker.freeze();
    let bodies = (0..40).map(|sender| notification(&[format!("n{sender}")]));
    let senders = post_all(&connector, bodies);
    wait_until("half of the connections wait for the broker", || {
        connector.received() >= 8
    });
    for _ in 0..20 {
        for path in ["/-/healthy", "/metrics"] {
            assert_eq!(prompt_get(&connector, path).status, 200, "{path}");
        }
        let mut client = Client::new(connector.address);
        client.set_timeout(PROMPT);
        let refused = client.post(&notification(&["refused"])).unwrap();
        assert_eq!(refused.status, 503, "{}", refused.body);
        assert_eq!(refused.header("retry-after"), Some("5"));
        assert!(
            refused
                .body
                .contains("too many notifications in progress (8)"),
            "{}",
            refused.body
        );
    }
    assert_eq!(connector.received(), 8);
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
    let broker = Broker::shared();
    let vhost = broker.fresh_vhost();
    let text = config(&broker.url(&vhost), "max_connections: 16", MAPPING);
    let connector = Connector::with(&text, &[]);
    connector.wait_until_ready();
    let connect = || {
        let stream = TcpStream::connect(connector.address).unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        stream
    };
    // As Alertmanager keeps it: it has been idle for longer than all others.
    let mut sender = BufReader::new(connect());
    let healthy = b"GET /-/healthy HTTP/1.1\r\nHost: h\r\n\r\n";
    sender.get_mut().write_all(healthy).unwrap();
    assert_eq!(read_response(&mut sender).unwrap().status, 200);
    let silent: Vec<TcpStream> = (0..15).map(|_| connect()).collect();
    let body = notification(&["uploaded"]);
    let (first, second) = body.split_at(100);
    let head = format!(
        "POST /webhook HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {TOKEN}\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    sender.get_mut().write_all(head.as_bytes()).unwrap();
    assert_eq!(read_response(&mut sender).unwrap().status, 100);
    sender.get_mut().write_all(first.as_bytes()).unwrap();
    // Each of them takes the slot of a silent one.
    let mut newcomers = Vec::new();
    for mut evicted in silent.into_iter().take(12) {
        newcomers.push(connect());
        assert_eq!(evicted.read(&mut [0]).unwrap(), 0);
    }
    sender.get_mut().write_all(second.as_bytes()).unwrap();
    assert_eq!(read_response(&mut sender).unwrap().status, 200);
    assert_eq!(broker.admin(&vhost).drain_resources(), ["uploaded"]);
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

#[test]
fn the_watchdog_is_fed_while_every_notification_waits() {
    let broker = Broker::start();
    let systemd = Systemd::new();
    let text = config(
        &broker.url("v0"),
        "max_connections: 16, answer_timeout: 60s",
        MAPPING,
    );
    let connector = systemd.start_under(&["env"], &text);
    connector.wait_until_ready();
    broker.freeze();
    let bodies = (0..40).map(|sender| notification(&[format!("n{sender}")]));
    let senders = post_all(&connector, bodies);
    wait_until("notifications wait for the broker", || {
        connector.received() == 8
    });
    for _ in 0..5 {
        systemd.wait_for(&["WATCHDOG=1"]);
    }
    broker.thaw();
    for sender in senders {
        sender.join().unwrap().unwrap();
    }
}
