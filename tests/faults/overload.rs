//! Overload: a broker that is slower than its senders. What is confirmed counts, nobody starves, and nothing is published for
//! senders that have their answer.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::broker::{Admin, Broker};
use crate::support::connector::{Connector, MAPPING, config, copying_mapping};
use crate::support::http::Client;
use crate::support::relay::{Mode, Relay};
use crate::support::{notification, raise_file_limit, wait_until, with_external_url};

/// The most bytes that the process may ever take, whatever senders do.
const MAX_MEMORY: usize = 256 << 20;

fn names(group: &str, count: usize) -> Vec<String> {
    (0..count)
        .map(|number| format!("{group}-{number}"))
        .collect()
}

/// How often each alert is in the queue.
fn copies(admin: &Admin) -> HashMap<String, usize> {
    let mut copies = HashMap::new();
    for resource in admin.drain_resources() {
        *copies.entry(resource).or_default() += 1;
    }
    copies
}

fn twice(copies: &HashMap<String, usize>) -> usize {
    copies.values().filter(|count| **count > 1).count()
}

/// Prints a row of the table of overload in `docs/reliability.md`, without the scenario's name.
fn print_row(connector: &Connector, offered: usize, copies: &HashMap<String, usize>) {
    println!(
        "{offered} offered, {} in the queue, {} twice, peak {} MiB",
        copies.len(),
        twice(copies),
        connector.peak_memory() >> 20
    );
}

/// A connector behind a relay that forwards this number of messages a second.
fn on_slow_broker(rate: u32, http: &str) -> (Admin, Relay, Connector) {
    let admin = Admin::fresh();
    let relay = Relay::to(admin.port, Mode::Rate(rate));
    let connector = Connector::ready(&relay.url(&admin.vhost), http, MAPPING);
    (admin, relay, connector)
}

#[test]
fn a_large_group_on_a_slow_broker_gets_through_at_its_first_attempt() {
    let (admin, _relay, connector) = on_slow_broker(300, "");
    let alerts = names("large", 3600);
    let started = Instant::now();
    let response = connector.post(&notification(&alerts));
    assert_eq!(response.status, 200, "{}", response.body);
    let elapsed = started.elapsed();
    // 12 s, and 20 % more.
    assert!(elapsed < Duration::from_millis(14_400), "{elapsed:?}");
    let copies = copies(&admin);
    print_row(&connector, alerts.len(), &copies);
    assert!(alerts.iter().all(|alert| copies.get(alert) == Some(&1)));
}

#[test]
fn a_group_whose_sender_gives_up_goes_on_where_it_was() {
    let (admin, _relay, connector) = on_slow_broker(100, "");
    let alerts = names("cut", 1000);
    let body = notification(&alerts);
    let started = Instant::now();
    let is_accepted = || {
        let response = connector.client().with_timeout(4).post(&body);
        response.is_ok_and(|response| response.status == 200)
    };
    while !is_accepted() {
        // 1.5 times the 10 s that the broker takes, and 30 s.
        assert!(started.elapsed() < Duration::from_secs(45));
        thread::sleep(Duration::from_secs(2));
    }
    let copies = copies(&admin);
    print_row(&connector, alerts.len(), &copies);
    assert!(alerts.iter().all(|alert| copies.contains_key(alert)));
    let twice = twice(&copies);
    assert!(twice <= alerts.len() / 20, "{twice} events twice");
}

#[test]
fn nothing_is_published_behind_a_503_and_a_retry_publishes_the_rest() {
    let (admin, relay, connector) = on_slow_broker(1000, "answer_timeout: 1s");
    relay.set(Mode::Rate(0));
    let alerts = names("late", 500);
    let response = connector.post(&notification(&alerts));
    response.assert(503, "of 500 events confirmed");
    relay.set(Mode::Rate(1000));
    // Another notification, behind everything that was in flight.
    assert_eq!(connector.post(&notification(&["marker"])).status, 200);
    let in_flight = relay.forwarded() - 1;
    assert!(in_flight < 100, "{in_flight} messages behind a 503");
    wait_until("the retry gets through", || {
        connector.post(&notification(&alerts)).status == 200
    });
    let copies = copies(&admin);
    assert!(alerts.iter().all(|alert| copies.get(alert) == Some(&1)));
}

#[test]
fn nothing_is_published_for_a_sender_that_is_gone() {
    let (admin, relay, connector) = on_slow_broker(50, "");
    let alerts = names("gone", 600);
    let body = notification(&alerts);
    assert!(connector.client().with_timeout(2).post(&body).is_err());
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
    let copies = copies(&admin);
    assert!(alerts.iter().all(|alert| copies.get(alert) == Some(&1)));
}

#[test]
fn single_alerts_beside_large_groups_on_a_slow_broker() {
    const GROUPS: usize = 4;
    let (admin, relay, connector) = on_slow_broker(20, "");
    let is_over = Arc::new(AtomicBool::new(false));
    let groups = (0..GROUPS).map(|group| {
        let body = notification(&names(&format!("group{group}"), 300));
        let (address, is_over) = (connector.address, Arc::clone(&is_over));
        // As Alertmanager does.
        thread::spawn(move || {
            while !is_over.load(Ordering::SeqCst)
                && Client::new(address).post(&body).unwrap().status != 200
            {
                thread::sleep(Duration::from_secs(1));
            }
        })
    });
    let groups: Vec<_> = groups.collect();
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
    println!("slowest single {:.1} s", slowest.as_secs_f64());
    assert!(slowest < Duration::from_secs(3), "{slowest:?}");
    assert_eq!(relay.connections(), 1, "the broker was given up");
    relay.set(Mode::Rate(1000));
    is_over.store(true, Ordering::SeqCst);
    for group in groups {
        group.join().unwrap();
    }
    let copies = copies(&admin);
    let count = GROUPS * 300 + singles.len();
    print_row(&connector, count, &copies);
    assert_eq!(copies.len(), count);
    assert!(singles.iter().all(|single| copies.get(single) == Some(&1)));
    let twice = twice(&copies);
    assert!(twice <= count / 20, "{twice} events twice");
}

#[test]
fn a_long_value_does_not_occupy_a_regexp() {
    // Quadratic in the length of the value.
    let rule = r#"{type: template, field: externalURL, value: '{{ replace ".*[^A-Z]|[A-Z]" "" .Field }}'}"#;
    let mapping = copying_mapping("externalURL").replace("{type: copy, value: externalURL}", rule);
    let text = config("amqp://127.0.0.1:1", "", &mapping);
    let connector = Connector::with(&text, &["--stdout"]);
    let body = with_external_url(&["regexp"], &"A".repeat(200_000));
    for _ in 0..4 {
        // Alertmanager's shortest timeout.
        let response = connector.client().with_timeout(10).post(&body);
        response.unwrap().assert(200, "published");
    }
    let events = connector.into_stdout();
    assert_eq!(events.lines().count(), 4);
    assert!(!events.contains("x_copied"), "{events}");
}

/// A notification with this number of alerts, whose `externalURL` has this number of bytes.
fn with_long_url(sender: usize, alerts: usize, url: usize) -> String {
    with_external_url(&names(&format!("s{sender}"), alerts), &"x".repeat(url))
}

/// Posts each body again and again, as Alertmanager does after a 503, until the time is over; counts the statuses.
fn keep_posting(connector: &Connector, bodies: Vec<String>) -> HashMap<u16, usize> {
    let (address, end) = (connector.address, Instant::now() + Duration::from_secs(6));
    let senders = bodies.into_iter().map(|body| {
        thread::spawn(move || {
            let (mut client, mut statuses) = (Client::new(address), Vec::new());
            while Instant::now() < end {
                statuses.push(client.post(&body).map_or(0, |response| response.status));
                thread::sleep(Duration::from_millis(500));
            }
            statuses
        })
    });
    let senders: Vec<_> = senders.collect();
    let mut counts = HashMap::new();
    for sender in senders {
        for status in sender.join().unwrap() {
            *counts.entry(status).or_default() += 1;
        }
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

/// Ends the fault of [`on_frozen_broker`], and asserts what it has cost.
fn assert_recovers(broker: &Broker, connector: &Connector, offered: usize) {
    broker.thaw();
    wait_until("it serves again", || {
        connector.post(&notification(&["after"])).status == 200
    });
    print_row(connector, offered, &copies(&broker.admin("v0")));
    assert!(connector.peak_memory() < MAX_MEMORY);
}

#[test]
fn many_small_notifications_whose_events_are_long_do_not_fill_the_memory() {
    const SENDERS: usize = 900;
    raise_file_limit(8192);
    // Each event is three times as long as the URL.
    let rule = "{type: copy, value: externalURL}";
    let rules = format!("extra_infos: {{a: {rule}, b: {rule}, c: {rule}}}");
    let mapping = format!("{MAPPING}\nextra_infos_prefix: x_\n{rules}\n");
    let (broker, connector) = on_frozen_broker(&mapping);
    let bodies = (0..SENDERS).map(|sender| with_long_url(sender, 25, 7 << 10));
    let counts = keep_posting(&connector, bodies.collect());
    assert!(counts.keys().all(|status| *status == 503), "{counts:?}");
    assert_recovers(&broker, &connector, SENDERS * 25);
}

#[test]
fn large_notifications_do_not_fill_the_memory_and_leave_some_to_small_ones() {
    const SENDERS: usize = 20;
    const ALERTS: usize = 20_000;
    let (broker, connector) = on_frozen_broker(MAPPING);
    let first = with_long_url(0, ALERTS, 0);
    // Each with other alerts, and 6 MB.
    let bodies = (0..SENDERS).map(|sender| first.replace("\"s0-", &format!("\"s{sender}-")));
    let bodies = bodies.collect();
    let (small, counts) = thread::scope(|scope| {
        let small = scope.spawn(|| {
            wait_until("a large one is refused", || {
                connector.metric("memory_refused_total") > 0
            });
            connector.post(&notification(&["small"]))
        });
        let counts = keep_posting(&connector, bodies);
        (small.join().unwrap(), counts)
    });
    // It was accepted, and waited for the broker.
    small.assert(503, "of 1 events confirmed");
    assert!(counts.keys().all(|status| *status == 503), "{counts:?}");
    assert_recovers(&broker, &connector, SENDERS * ALERTS);
}
