//! A 200 means that every event is in the queue, whatever happens to RabbitMQ.

use std::collections::HashSet;

use crate::support::broker::{Admin, Broker};
use crate::support::connector::{Connector, MAPPING, amqp_config, config};
use crate::support::load::{post_all, statuses};
use crate::support::{free_port, notification, wait_until};

#[test]
fn the_connector_starts_and_responds_without_a_broker_and_waits_for_it() {
    let mut broker = Broker::prepare();
    let text = config(&broker.url("v0"), "answer_timeout: 500ms", MAPPING);
    let connector = Connector::with(&text, &[]);
    let response = connector.post(&notification(&["too early"]));
    response.assert(503, "not connected to RabbitMQ: amqp://cpsrabbit@127.0.0.1");
    assert!(response.header("retry-after").is_some());
    assert_eq!(connector.get("/-/ready").status, 503);
    let anonymous = connector.send("GET", "/-/ready", &[]).json();
    let hidden = "not ready: the reason is shown with the token only";
    assert_eq!(anonymous["error"], hidden);
    assert_eq!(connector.get("/-/healthy").status, 200);
    // Another one waits for the broker, for longer.
    let text = config(&broker.url("v0"), "answer_timeout: 60s", MAPPING);
    let waiting = Connector::with(&text, &[]);
    let sender = waiting.post_in_background(notification(&["patient"]));
    wait_until("the notification waits", || waiting.received() == 1);
    broker.run();
    assert_eq!(sender.join().unwrap().unwrap().status, 200);
    connector.wait_until_ready();
    assert_eq!(connector.post(&notification(&["in time"])).status, 200);
    let received = broker.admin("v0").drain_resources();
    assert_eq!(received, ["patient", "in time"]);
}

#[test]
fn unroutable_events_are_answered_503() {
    let admin = Admin::fresh();
    let connector = Connector::on(&admin.url());
    admin.unbind();
    let response = connector.post(&notification(&["a", "b"]));
    response.assert(503, "312 NO_ROUTE");
    admin.bind();
    assert_eq!(connector.post(&notification(&["c"])).status, 200);
    assert_eq!(admin.drain_resources(), ["c"]);
    assert!(!connector.log().contains("lost connection to RabbitMQ"));
}

/// Alertmanager's `repeat_interval`: the sender has got the 200.
#[test]
fn a_repetition_is_published_again_also_at_once() {
    let admin = Admin::fresh();
    let connector = Connector::on(&admin.url());
    for _ in 0..5 {
        assert_eq!(connector.post(&notification(&["a"])).status, 200);
    }
    let received = admin.drain_resources();
    assert_eq!(received, ["a"; 5], "answered 200 without being published");
}

#[test]
fn a_missing_exchange_is_answered_503_until_it_is_declared() {
    let admin = Admin::fresh();
    let connector = Connector::ready(&admin.url(), "answer_timeout: 2s", MAPPING);
    admin.delete_exchange();
    let response = connector.post(&notification(&["a"]));
    response.assert(503, "404 NOT_FOUND - no exchange 'canopsis.events'");
    wait_until("the missing exchange is noticed", || {
        let ready = connector.get("/-/ready");
        ready.status == 503 && ready.body.contains("cannot use the exchange")
    });
    admin.declare_exchange();
    connector.wait_until_ready();
    assert_eq!(connector.post(&notification(&["b"])).status, 200);
    assert_eq!(admin.drain_resources(), ["b"]);
}

#[test]
fn events_for_a_full_queue_are_answered_503() {
    let admin = Admin::fresh();
    admin.limit_queue(5);
    let connector = Connector::on(&admin.url());
    let first = notification(&["1", "2", "3", "4", "5"]);
    assert_eq!(connector.post(&first).status, 200);
    // A classic queue accepts a few more than x-max-length before it rejects.
    wait_until("the queue is full", || {
        connector.post(&notification(&["x"])).status == 503
    });
    connector.post(&notification(&["y"])).assert(503, "(nack)");
    assert!(!admin.drain_resources().contains(&"y".to_owned()));
    // Of this one the queue refuses some events at a time.
    let names: Vec<String> = (100..200).map(|number| number.to_string()).collect();
    connector.post(&notification(&names)).assert(503, "(nack)");
    let mut received = Vec::new();
    wait_until("a retry delivers the refused events", || {
        received.extend(admin.drain_resources());
        connector.post(&notification(&names)).status == 200
    });
    received.extend(admin.drain_resources());
    received.sort();
    assert_eq!(received, names, "every event once");
    assert_eq!(connector.post(&notification(&["z"])).status, 200);
    assert_eq!(admin.drain_resources(), ["z"]);
}

#[test]
fn the_second_url_is_used_while_the_first_is_down() {
    let admin = Admin::fresh();
    let first = format!("amqp://u:hunter2@127.0.0.1:{}/v", free_port());
    let urls = format!("url: ['{first}', '{}']", admin.url());
    let mut connector = Connector::with(&amqp_config(&urls, "", MAPPING), &[]);
    assert_eq!(connector.post(&notification(&["a"])).status, 200);
    assert_eq!(admin.drain_resources(), ["a"]);
    connector.wait_for_log("TCP connection failed: Connection refused");
}

#[test]
fn a_memory_alarm_is_answered_503_until_it_ends() {
    let broker = Broker::start();
    let connector = Connector::ready(&broker.url("v0"), "answer_timeout: 1s", MAPPING);
    broker.ctl(&["set_vm_memory_high_watermark", "0.0000001"]);
    // RabbitMQ reports it after the first publish only.
    wait_until("publishing is blocked", || {
        let response = connector.post(&notification(&["during"]));
        assert_eq!(response.status, 503);
        let blocked = "RabbitMQ has blocked publishing (low on memory)";
        response.body.contains(blocked)
    });
    assert_eq!(connector.get("/-/ready").status, 503);
    broker.ctl(&["set_vm_memory_high_watermark", "0.8"]);
    connector.wait_until_ready();
    assert_eq!(connector.post(&notification(&["after"])).status, 200);
    let received = broker.admin("v0").drain_resources();
    assert_eq!(received.last().map(String::as_str), Some("after"));
    let is_lost = connector.log().contains("lost connection to RabbitMQ");
    assert!(!is_lost, "the connection is not kept");
}

#[test]
fn five_hundred_notifications_wait_for_one_frozen_broker() {
    let broker = Broker::start();
    let connector = Connector::ready(&broker.url("v0"), "answer_timeout: 60s", MAPPING);
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
