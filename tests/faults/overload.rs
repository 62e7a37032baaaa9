//! Overload: a broker that is slower than its senders. What is confirmed counts, nobody starves, and nothing is published for
//! senders that have their answer.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::broker::Broker;
use crate::support::connector::{Connector, MAPPING, config};
use crate::support::http::Client;
use crate::support::relay::{Mode, Relay};
use crate::support::{notification, raise_file_limit, wait_until};

/// The most bytes that the process may ever take, whatever senders do.
const MAX_MEMORY: usize = 256 << 20;

fn names(group: &str, count: usize) -> Vec<String> {
    (0..count)
        .map(|number| format!("{group}-{number}"))
        .collect()
}

/// How often each alert is in the queue.
fn copies(broker: &Broker, vhost: &str) -> HashMap<String, usize> {
    let mut copies = HashMap::new();
    for resource in broker.admin(vhost).drain_resources() {
        *copies.entry(resource).or_default() += 1;
    }
    copies
}

fn twice(copies: &HashMap<String, usize>) -> usize {
    copies.values().filter(|count| **count > 1).count()
}

/// Prints a row of the README's table of overload.
fn print_row(
    scenario: &str,
    connector: &Connector,
    offered: usize,
    answered_200: usize,
    copies: &HashMap<String, usize>,
    slowest_single: Option<Duration>,
) {
    let slowest = slowest_single.map_or("-".to_owned(), |time| {
        format!("{:.1} s", time.as_secs_f64())
    });
    println!(
        "{scenario}: {offered} offered, {answered_200} answered 200, {} in the queue, {} twice, slowest single {slowest}, peak {} MiB",
        copies.len(),
        twice(copies),
        connector.peak_memory() >> 20
    );
}

#[test]
fn a_large_group_on_a_slow_broker_gets_through_at_its_first_attempt() {
    let vhost = Broker::shared().fresh_vhost();
    let relay = Relay::to(Broker::shared().port, Mode::Rate(300));
    let connector = Connector::on(&relay.url(&vhost));
    connector.wait_until_ready();
    let alerts = names("large", 3600);
    let started = Instant::now();
    let response = connector.post(&notification(&alerts));
    assert_eq!(response.status, 200, "{}", response.body);
    // 12 s, and 20 % more.
    assert!(
        started.elapsed() < Duration::from_millis(14_400),
        "{:?}",
        started.elapsed()
    );
    let copies = copies(Broker::shared(), &vhost);
    let count = alerts.len();
    print_row(
        "a group of 3,600 alerts, 300 events/s",
        &connector,
        count,
        count,
        &copies,
        None,
    );
    assert!(alerts.iter().all(|alert| copies.get(alert) == Some(&1)));
}

#[test]
fn a_group_whose_sender_gives_up_goes_on_where_it_was() {
    let vhost = Broker::shared().fresh_vhost();
    let relay = Relay::to(Broker::shared().port, Mode::Rate(100));
    let connector = Connector::on(&relay.url(&vhost));
    connector.wait_until_ready();
    let alerts = names("cut", 1000);
    let body = notification(&alerts);
    let started = Instant::now();
    loop {
        let mut client = Client::new(connector.address);
        client.set_timeout(Duration::from_secs(4));
        if client
            .post(&body)
            .is_ok_and(|response| response.status == 200)
        {
            break;
        }
        drop(client);
        // 1.5 times the 10 s that the broker takes, and 30 s.
        assert!(started.elapsed() < Duration::from_secs(45));
        thread::sleep(Duration::from_secs(2));
    }
    let copies = copies(Broker::shared(), &vhost);
    let count = alerts.len();
    print_row(
        "1,000 alerts, 100 events/s, the sender gives up after 4 s",
        &connector,
        count,
        count,
        &copies,
        None,
    );
    assert!(alerts.iter().all(|alert| copies.contains_key(alert)));
    assert!(
        twice(&copies) <= count / 20,
        "{} events twice",
        twice(&copies)
    );
}

#[test]
fn nothing_is_published_behind_a_503_and_a_retry_publishes_the_rest() {
    let vhost = Broker::shared().fresh_vhost();
    let relay = Relay::to(Broker::shared().port, Mode::Rate(1000));
    let text = config(&relay.url(&vhost), "answer_timeout: 1s", MAPPING);
    let connector = Connector::with(&text, &[]);
    connector.wait_until_ready();
    relay.set(Mode::Rate(0));
    let alerts = names("late", 500);
    let response = connector.post(&notification(&alerts));
    assert_eq!(response.status, 503);
    assert!(
        response.body.contains("of 500 events confirmed"),
        "{}",
        response.body
    );
    relay.set(Mode::Rate(1000));
    // Another notification, behind everything that was in flight.
    assert_eq!(connector.post(&notification(&["marker"])).status, 200);
    let in_flight = relay.forwarded() - 1;
    assert!(in_flight < 100, "{in_flight} messages behind a 503");
    wait_until("the retry gets through", || {
        connector.post(&notification(&alerts)).status == 200
    });
    let copies = copies(Broker::shared(), &vhost);
    assert!(alerts.iter().all(|alert| copies.get(alert) == Some(&1)));
}

#[test]
fn nothing_is_published_for_a_sender_that_is_gone() {
    let vhost = Broker::shared().fresh_vhost();
    let relay = Relay::to(Broker::shared().port, Mode::Rate(50));
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
    relay.set(Mode::Rate(1000));
    assert_eq!(connector.post(&body).status, 200);
    let copies = copies(Broker::shared(), &vhost);
    assert!(alerts.iter().all(|alert| copies.get(alert) == Some(&1)));
}

#[test]
fn single_alerts_beside_large_groups_on_a_slow_broker() {
    const GROUPS: usize = 4;
    let vhost = Broker::shared().fresh_vhost();
    let relay = Relay::to(Broker::shared().port, Mode::Rate(20));
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
    let (start, mut singles, mut slowest) = (Instant::now(), Vec::new(), Duration::ZERO);
    while start.elapsed() < Duration::from_secs(33) {
        let single = format!("single-{}", singles.len());
        let started = Instant::now();
        let response = connector.post(&notification(&[&single]));
        assert_eq!(response.status, 200, "{}", response.body);
        slowest = slowest.max(started.elapsed());
        singles.push(single);
    }
    assert!(slowest < Duration::from_secs(3), "{slowest:?}");
    assert_eq!(relay.connections(), 1, "the broker was given up");
    relay.set(Mode::Rate(1000));
    is_over.store(true, Ordering::SeqCst);
    for group in groups {
        group.join().unwrap();
    }
    let copies = copies(Broker::shared(), &vhost);
    let count = GROUPS * 300 + singles.len();
    print_row(
        "four groups of 300 alerts and single ones, 20 events/s",
        &connector,
        count,
        count,
        &copies,
        Some(slowest),
    );
    assert_eq!(copies.len(), count);
    assert!(singles.iter().all(|single| copies.get(single) == Some(&1)));
    assert!(
        twice(&copies) <= count / 20,
        "{} events twice",
        twice(&copies)
    );
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
        let response = client.post(&body).unwrap();
        assert_eq!(response.status, 200, "{}", response.body);
    }
    connector.terminate();
    let events = connector.into_stdout();
    assert_eq!(events.lines().count(), 4);
    assert!(!events.contains("x_quadratic"), "{events}");
}

/// A mapping that makes events many times as long as their alerts.
fn copying_mapping() -> String {
    let copy = "{type: copy, value: externalURL}";
    format!("{MAPPING}\nextra_infos_prefix: x_\nextra_infos: {{a: {copy}, b: {copy}, c: {copy}}}\n")
}

/// A notification of so many alerts, with an `externalURL` of so many bytes.
fn with_long_url(sender: usize, alerts: usize, url: usize) -> String {
    let names: Vec<String> = (0..alerts)
        .map(|alert| format!("s{sender}-a{alert}"))
        .collect();
    let url = format!("\"externalURL\":\"{}\"", "x".repeat(url));
    notification(&names).replace("\"externalURL\":\"\"", &url)
}

/// Posts each body again and again, as Alertmanager does after a 503, until the time is over; counts the statuses.
fn keep_posting(connector: &Connector, bodies: Vec<String>) -> HashMap<u16, usize> {
    let (address, end) = (connector.address, Instant::now() + Duration::from_secs(6));
    let senders: Vec<_> = bodies
        .into_iter()
        .map(|body| {
            thread::spawn(move || {
                let (mut client, mut statuses) = (Client::new(address), Vec::new());
                while Instant::now() < end {
                    statuses.push(client.post(&body).map_or(0, |response| response.status));
                    thread::sleep(Duration::from_millis(500));
                }
                statuses
            })
        })
        .collect();
    let mut counts = HashMap::new();
    for status in senders
        .into_iter()
        .flat_map(|sender| sender.join().unwrap())
    {
        *counts.entry(status).or_default() += 1;
    }
    counts
}

/// A connector on a node that hangs once it is connected.
fn on_frozen_broker(mapping: &str) -> (Broker, Connector) {
    let broker = Broker::start();
    let text = config(&broker.url("v0"), "answer_timeout: 3s", mapping);
    let connector = Connector::with(&text, &["--log-level", "info"]);
    connector.wait_until_ready();
    broker.freeze();
    (broker, connector)
}

#[test]
fn many_small_notifications_whose_events_are_long_do_not_fill_the_memory() {
    const SENDERS: usize = 900;
    raise_file_limit(8192);
    let (broker, connector) = on_frozen_broker(&copying_mapping());
    let bodies = (0..SENDERS).map(|sender| with_long_url(sender, 25, 7 << 10));
    let counts = keep_posting(&connector, bodies.collect());
    assert!(counts.keys().all(|status| *status == 503), "{counts:?}");
    broker.thaw();
    wait_until("it serves again", || {
        connector.post(&notification(&["after"])).status == 200
    });
    print_row(
        "900 senders of 15 kB, RabbitMQ hangs, each event 22 kB",
        &connector,
        SENDERS * 25,
        0,
        &copies(&broker, "v0"),
        None,
    );
    assert!(connector.peak_memory() < MAX_MEMORY);
}

#[test]
fn large_notifications_do_not_fill_the_memory_and_leave_some_to_small_ones() {
    const SENDERS: usize = 20;
    const ALERTS: usize = 20_000;
    let (broker, connector) = on_frozen_broker(MAPPING);
    let first = with_long_url(0, ALERTS, 0);
    // Each with alerts of its own, and 6 MB.
    let bodies = (0..SENDERS).map(|sender| first.replace("\"s0-a", &format!("\"s{sender}-a")));
    let bodies = bodies.collect();
    let (small, counts) = thread::scope(|scope| {
        let small = scope.spawn(|| {
            wait_until("a large one is refused", || {
                let page = connector.get("/metrics").body;
                !page.contains("canopsis_connector_memory_refused_total 0\n")
            });
            connector.post(&notification(&["small"]))
        });
        let counts = keep_posting(&connector, bodies);
        (small.join().unwrap(), counts)
    });
    // It was accepted, and waited for the broker.
    assert!(
        small.body.contains("of 1 events confirmed"),
        "{}",
        small.body
    );
    assert!(counts.keys().all(|status| *status == 503), "{counts:?}");
    broker.thaw();
    wait_until("it serves again", || {
        connector.post(&notification(&["after"])).status == 200
    });
    print_row(
        "20 senders of 6 MB, RabbitMQ hangs",
        &connector,
        SENDERS * ALERTS,
        0,
        &copies(&broker, "v0"),
        None,
    );
    assert!(connector.peak_memory() < MAX_MEMORY);
}
