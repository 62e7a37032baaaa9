//! Overload: a broker that is slower than its senders. What is confirmed counts, nobody starves, and nothing is published for
//! senders that have their answer.

mod support;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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
fn nothing_is_published_for_a_sender_that_is_gone() {
    let vhost = Broker::shared().fresh_vhost();
    let relay = AmqpRelay::to(Broker::shared().port, 50);
    let connector = Connector::on(&relay.url(&vhost));
    connector.wait_until_ready();
    let alerts = names("gone", 600);
    let body = notification(&alerts);
    let mut client = Client::new(connector.address);
    client.set_timeout(Duration::from_secs(2));
    assert!(client.post(&body).is_err());
    drop(client);
    // It is seen within a second; then only what was in flight. On this broker that is less than 100 messages.
    let mut before = usize::MAX;
    wait_until("nothing more is published", || {
        let forwarded = relay.forwarded();
        thread::sleep(Duration::from_millis(500));
        std::mem::replace(&mut before, forwarded) == forwarded
    });
    assert!((1..300).contains(&before), "{before} of 600 published");
    relay.set_rate(1000);
    assert_eq!(connector.post(&body).status, 200);
    let copies = copies(&vhost);
    assert!(alerts.iter().all(|alert| copies.get(alert) == Some(&1)));
}

#[test]
fn single_alerts_beside_large_groups_on_a_slow_broker() {
    const GROUPS: usize = 4;
    let vhost = Broker::shared().fresh_vhost();
    let relay = AmqpRelay::to(Broker::shared().port, 20);
    let connector = Connector::on(&relay.url(&vhost));
    connector.wait_until_ready();
    let (address, is_over) = (connector.address, Arc::new(AtomicBool::new(false)));
    let groups: Vec<_> = (0..GROUPS)
        .map(|group| {
            let (body, is_over) = (
                notification(&names(&format!("group{group}"), 300)),
                Arc::clone(&is_over),
            );
            // As Alertmanager does.
            thread::spawn(move || {
                while !is_over.load(Ordering::SeqCst)
                    && Client::new(address).post(&body).unwrap().status != 200
                {
                    thread::sleep(Duration::from_secs(1));
                }
            })
        })
        .collect();
    wait_until("the groups are published", || relay.forwarded() > 20);
    // For longer than the 30 s after which a broker that confirms nothing is given up.
    let (start, mut singles) = (Instant::now(), Vec::new());
    while start.elapsed() < Duration::from_secs(40) {
        let single = format!("single-{}", singles.len());
        let started = Instant::now();
        let reply = connector.post(&notification(&[&single]));
        assert_eq!(reply.status, 200, "{}", reply.body);
        assert!(
            started.elapsed() < Duration::from_secs(3),
            "{:?}",
            started.elapsed()
        );
        singles.push(single);
    }
    assert_eq!(relay.connections(), 1, "the broker was given up");
    relay.set_rate(1000);
    is_over.store(true, Ordering::SeqCst);
    for group in groups {
        group.join().unwrap();
    }
    let copies = copies(&vhost);
    assert!(singles.iter().all(|single| copies.get(single) == Some(&1)));
    let twice = copies.values().filter(|count| **count > 1).count();
    assert!(twice <= GROUPS * 300 / 20, "{twice} events twice");
}

#[test]
fn a_long_value_does_not_occupy_a_regexp() {
    // Quadratic in the length of the value.
    let rule = r#"{{ replace ".*[^A-Z]|[A-Z]" "" .Field }}"#;
    let mapping = format!(
        "{MAPPING}\nextra_infos_prefix: x_\nextra_infos: {{quadratic: {{type: template, field: externalURL, value: '{rule}'}}}}\n"
    );
    let text = config("amqp://127.0.0.1:1", "", &mapping);
    let connector = Connector::with(&text, &["--stdout"]);
    let url = format!("\"externalURL\":\"{}\"", "A".repeat(200_000));
    let body = notification(&["regexp"]).replace("\"externalURL\":\"\"", &url);
    for _ in 0..4 {
        let mut client = Client::new(connector.address);
        // Alertmanager's shortest timeout.
        client.set_timeout(Duration::from_secs(10));
        let reply = client.post(&body).unwrap();
        assert_eq!(reply.status, 200, "{}", reply.body);
    }
    connector.terminate();
    let events = connector.into_stdout();
    assert_eq!(events.lines().count(), 4);
    assert!(!events.contains("x_quadratic"), "{events}");
}
