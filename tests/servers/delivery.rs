//! A 200 means that every event is in the queue, whatever happens to RabbitMQ.

use std::collections::HashSet;
use std::io::Write;
use std::net::TcpListener;
use std::thread;

use crate::support::broker::Broker;
use crate::support::connector::{Connector, MAPPING, config};
use crate::support::http::Client;
use crate::support::load::{post_all, statuses};
use crate::support::{free_port, notification, wait_until};
use amiquip::{AmqpValue, FieldTable};

#[test]
fn the_connector_starts_and_responds_without_a_broker() {
    let mut broker = Broker::prepare();
    let connector = Connector::with(
        &config(&broker.url("v0"), "answer_timeout: 500ms", MAPPING),
        &[],
    );
    let response = connector.post(&notification(&["too early"]));
    assert_eq!(response.status, 503);
    assert!(response.header("retry-after").is_some());
    assert!(
        response
            .body
            .contains("not connected to RabbitMQ: amqp://cpsrabbit@127.0.0.1"),
        "{}",
        response.body
    );
    assert_eq!(connector.get("/-/ready").status, 503);
    let anonymous = Client::new(connector.address)
        .send("GET", "/-/ready", &[], b"")
        .unwrap();
    assert_eq!(
        anonymous.json()["error"],
        "not ready: the reason is shown with the token only"
    );
    assert_eq!(connector.get("/-/healthy").status, 200);
    broker.run();
    connector.wait_until_ready();
    assert_eq!(connector.post(&notification(&["in time"])).status, 200);
    assert_eq!(broker.admin("v0").drain_resources(), ["in time"]);
}

#[test]
fn a_notification_waits_for_the_broker_until_its_deadline() {
    let mut broker = Broker::prepare();
    let connector = Connector::with(
        &config(&broker.url("v0"), "answer_timeout: 60s", MAPPING),
        &[],
    );
    let sender = connector.post_in_background(notification(&["patient"]));
    wait_until("the notification waits", || connector.received() == 1);
    broker.run();
    assert_eq!(sender.join().unwrap().unwrap().status, 200);
    assert_eq!(broker.admin("v0").drain_resources(), ["patient"]);
}

#[test]
fn unroutable_events_are_answered_503() {
    let broker = Broker::shared();
    let vhost = broker.fresh_vhost();
    let connector = Connector::on(&broker.url(&vhost));
    let admin = broker.admin(&vhost);
    admin.unbind();
    let response = connector.post(&notification(&["a", "b"]));
    assert_eq!(response.status, 503);
    assert!(response.body.contains("312 NO_ROUTE"), "{}", response.body);
    admin.bind();
    assert_eq!(connector.post(&notification(&["c"])).status, 200);
    assert_eq!(broker.admin(&vhost).drain_resources(), ["c"]);
    assert!(!connector.log().contains("lost connection to RabbitMQ"));
}

/// Alertmanager's `repeat_interval`: the sender has got the 200.
#[test]
fn a_repetition_is_published_again_also_at_once() {
    let broker = Broker::shared();
    let vhost = broker.fresh_vhost();
    let connector = Connector::on(&broker.url(&vhost));
    for _ in 0..5 {
        assert_eq!(connector.post(&notification(&["a"])).status, 200);
    }
    let received = broker.admin(&vhost).drain_resources();
    assert_eq!(received, ["a"; 5], "answered 200 without being published");
}

#[test]
fn a_missing_exchange_is_answered_503_until_it_is_declared() {
    let broker = Broker::shared();
    let vhost = broker.fresh_vhost();
    let connector = Connector::with(
        &config(&broker.url(&vhost), "answer_timeout: 2s", MAPPING),
        &[],
    );
    connector.wait_until_ready();
    let admin = broker.admin(&vhost);
    admin.delete_exchange();
    let response = connector.post(&notification(&["a"]));
    assert_eq!(response.status, 503);
    assert!(
        response
            .body
            .contains("404 NOT_FOUND - no exchange 'canopsis.events'"),
        "{}",
        response.body
    );
    wait_until("the missing exchange is noticed", || {
        let ready = connector.get("/-/ready");
        ready.status == 503 && ready.body.contains("cannot use the exchange")
    });
    admin.declare_exchange();
    admin.bind();
    connector.wait_until_ready();
    assert_eq!(connector.post(&notification(&["b"])).status, 200);
    assert_eq!(broker.admin(&vhost).drain_resources(), ["b"]);
}

#[test]
fn events_for_a_full_queue_are_answered_503() {
    let broker = Broker::shared();
    let vhost = broker.fresh_vhost();
    let mut arguments = FieldTable::new();
    arguments.insert("x-max-length".to_owned(), AmqpValue::LongInt(5));
    arguments.insert(
        "x-overflow".to_owned(),
        AmqpValue::LongString("reject-publish".to_owned()),
    );
    broker.admin(&vhost).redeclare_queue(arguments);
    let connector = Connector::on(&broker.url(&vhost));
    assert_eq!(
        connector
            .post(&notification(&["1", "2", "3", "4", "5"]))
            .status,
        200
    );
    // A classic queue accepts a few more than x-max-length before it rejects.
    wait_until("the queue is full", || {
        connector.post(&notification(&["x"])).status == 503
    });
    let response = connector.post(&notification(&["y"]));
    assert_eq!(response.status, 503);
    assert!(response.body.contains("(nack)"), "{}", response.body);
    assert!(
        !broker
            .admin(&vhost)
            .drain_resources()
            .contains(&"y".to_owned())
    );
    assert_eq!(connector.post(&notification(&["z"])).status, 200);
    assert_eq!(broker.admin(&vhost).drain_resources(), ["z"]);
}

#[test]
fn the_second_url_is_used_while_the_first_is_down() {
    let broker = Broker::shared();
    let vhost = broker.fresh_vhost();
    let urls = format!(
        "amqp://u:hunter2@127.0.0.1:{}/v', '{}",
        free_port(),
        broker.url(&vhost)
    );
    let text = config(&urls, "", MAPPING)
        .replacen("{url: '", "{url: ['", 1)
        .replacen("'}", "']}", 1);
    let connector = Connector::with(&text, &[]);
    assert_eq!(connector.post(&notification(&["a"])).status, 200);
    assert_eq!(broker.admin(&vhost).drain_resources(), ["a"]);
    assert!(
        connector
            .log()
            .contains("TCP connection failed: Connection refused")
            && !connector.log().contains("hunter2")
    );
}

#[test]
fn a_server_without_amqp_is_reported() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("amqp://u:p@{}/v", other.local_addr().unwrap());
    thread::spawn(move || {
        for stream in other.incoming().flatten() {
            let _ = (&stream).write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
        }
    });
    let connector = Connector::with(&config(&url, "answer_timeout: 500ms", MAPPING), &[]);
    wait_until("the reason is reported", || {
        connector
            .get("/-/ready")
            .body
            .contains("the server does not speak AMQP")
    });
    assert_eq!(connector.post(&notification(&["a"])).status, 503);
}

#[test]
fn a_memory_alarm_is_answered_503_until_it_ends() {
    let broker = Broker::start();
    let connector = Connector::with(
        &config(&broker.url("v0"), "answer_timeout: 1s", MAPPING),
        &[],
    );
    connector.wait_until_ready();
    broker.ctl(&["set_vm_memory_high_watermark", "0.0000001"]);
    // RabbitMQ reports it after the first publish only.
    wait_until("publishing is blocked", || {
        let response = connector.post(&notification(&["during"]));
        assert_eq!(response.status, 503);
        response
            .body
            .contains("RabbitMQ has blocked publishing (low on memory)")
    });
    assert_eq!(connector.get("/-/ready").status, 503);
    broker.ctl(&["set_vm_memory_high_watermark", "0.8"]);
    connector.wait_until_ready();
    assert_eq!(connector.post(&notification(&["after"])).status, 200);
    assert_eq!(
        broker
            .admin("v0")
            .drain_resources()
            .last()
            .map(String::as_str),
        Some("after")
    );
    assert!(
        !connector.log().contains("lost connection to RabbitMQ"),
        "the connection is kept"
    );
}

#[test]
fn five_hundred_notifications_wait_for_one_frozen_broker() {
    let broker = Broker::start();
    let connector = Connector::with(
        &config(&broker.url("v0"), "answer_timeout: 60s", MAPPING),
        &[],
    );
    connector.wait_until_ready();
    broker.freeze();
    let bodies = (0..500).map(|sender| notification(&[format!("n{sender}")]));
    let senders = post_all(&connector, bodies);
    wait_until("all of them wait", || connector.received() == 500);
    broker.thaw();
    assert_eq!(statuses(senders), [200; 500]);
    // Distinct events: a reconnection in between would publish some of them twice.
    let received = broker.admin("v0").drain_resources();
    assert_eq!(received.into_iter().collect::<HashSet<_>>().len(), 500);
}
