//! Overload: a broker that is slower than its senders. What is confirmed counts, nobody starves, and nothing is published for
//! senders that have their answer.

mod support;

use std::collections::HashMap;
use std::thread;
use std::time::{Duration, Instant};

use support::amqp_relay::AmqpRelay;
use support::broker::{Broker, ReceivedMessage};
use support::connector::{Connector, MAPPING, config};
use support::http::Client;
use support::{notification, wait_until};

fn names(group: &str, count: usize) -> Vec<String> {
    (0..count)
        .map(|number| format!("{group}-{number}"))
        .collect()
}

/// How often each alert is in the queue.
fn copies(vhost: &str) -> HashMap<String, usize> {
    let mut copies = HashMap::new();
    for message in Broker::shared().admin(vhost).drain() {
        *copies
            .entry(ReceivedMessage::resource(&message))
            .or_default() += 1;
    }
    copies
}

#[test]
fn a_large_group_on_a_slow_broker_gets_through_at_its_first_attempt() {
    let vhost = Broker::shared().fresh_vhost();
    let relay = AmqpRelay::to(Broker::shared().port, 300);
    let connector = Connector::on(&relay.url(&vhost));
    connector.wait_until_ready();
    let alerts = names("large", 3600);
    let started = Instant::now();
    let reply = connector.post(&notification(&alerts));
    assert_eq!(reply.status, 200, "{}", reply.body);
    // 12 s, and 20 % more.
    assert!(
        started.elapsed() < Duration::from_millis(14_400),
        "{:?}",
        started.elapsed()
    );
    let copies = copies(&vhost);
    assert!(alerts.iter().all(|alert| copies.get(alert) == Some(&1)));
}

#[test]
fn a_group_whose_sender_gives_up_goes_on_where_it_was() {
    let vhost = Broker::shared().fresh_vhost();
    let relay = AmqpRelay::to(Broker::shared().port, 100);
    let connector = Connector::on(&relay.url(&vhost));
    connector.wait_until_ready();
    let alerts = names("cut", 1500);
    let body = notification(&alerts);
    let started = Instant::now();
    loop {
        let mut client = Client::new(connector.address);
        client.set_timeout(Duration::from_secs(6));
        if client.post(&body).is_ok_and(|reply| reply.status == 200) {
            break;
        }
        drop(client);
        // 1.5 times the 15 s that the broker takes, and 30 s.
        assert!(started.elapsed() < Duration::from_millis(52_500));
        thread::sleep(Duration::from_secs(3));
    }
    let copies = copies(&vhost);
    assert!(alerts.iter().all(|alert| copies.contains_key(alert)));
    let twice = copies.values().filter(|count| **count > 1).count();
    assert!(twice <= alerts.len() / 20, "{twice} events twice");
}

#[test]
fn nothing_is_published_behind_a_503_and_a_retry_publishes_the_rest() {
    let vhost = Broker::shared().fresh_vhost();
    let relay = AmqpRelay::to(Broker::shared().port, 1000);
    let text = config(&relay.url(&vhost), "answer_timeout: 1s", MAPPING);
    let connector = Connector::with(&text, &[]);
    connector.wait_until_ready();
    relay.set_rate(0);
    let alerts = names("late", 500);
    let reply = connector.post(&notification(&alerts));
    assert_eq!(reply.status, 503);
    assert!(
        reply.body.contains("of 500 events confirmed"),
        "{}",
        reply.body
    );
    relay.set_rate(1000);
    // Another notification, behind everything that was in flight.
    assert_eq!(connector.post(&notification(&["marker"])).status, 200);
    let in_flight = relay.forwarded() - 1;
    assert!(in_flight < 100, "{in_flight} messages behind a 503");
    wait_until("the retry gets through", || {
        connector.post(&notification(&alerts)).status == 200
    });
    let copies = copies(&vhost);
    assert!(alerts.iter().all(|alert| copies.get(alert) == Some(&1)));
}

#[test]
fn single_alerts_beside_large_groups_on_a_slow_broker() {
    let vhost = Broker::shared().fresh_vhost();
    let relay = AmqpRelay::to(Broker::shared().port, 40);
    let connector = Connector::on(&relay.url(&vhost));
    connector.wait_until_ready();
    let address = connector.address;
    for group in 0..4 {
        let body = notification(&names(&format!("group{group}"), 300));
        thread::spawn(move || {
            let _ = Client::new(address).post(&body);
        });
    }
    wait_until("the groups are published", || relay.forwarded() > 20);
    for number in 0..8 {
        let started = Instant::now();
        let reply = connector.post(&notification(&[format!("single-{number}")]));
        assert_eq!(reply.status, 200, "{}", reply.body);
        assert!(
            started.elapsed() < Duration::from_secs(3),
            "{:?}",
            started.elapsed()
        );
    }
    assert!(!connector.log().contains("lost connection to RabbitMQ"));
}
