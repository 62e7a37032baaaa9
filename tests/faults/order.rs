//! What a connection's end leaves behind: confirmed events are not published again, and the last message of an entity in the queue
//! is the one that was submitted last.

use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::net::TcpStream;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::support::broker::{Admin, Broker, ReceivedMessage, url};
use crate::support::connector::{Connector, MAPPING, config};
use crate::support::frame_relay::{self, HEARTBEAT, Handlers, ack, acked_tag, is_publish};
use crate::support::http::Client;
use crate::support::load::Load;
use crate::support::relay::{Mode, Relay};
use crate::support::{TOKEN, notification, wait_until};
use amiquip::{AmqpValue, FieldTable};
use serde_json::{Value, json};
use socket2::SockRef;

/// The name of the entity whose order counts.
const ENTITY: &str = "entity";

fn resolved() -> String {
    let firing = notification(&[ENTITY]);
    firing.replace("\"firing\"", "\"resolved\"")
}

/// The states of the entity's messages in the queue, in their order.
fn states(admin: &Admin) -> Vec<Value> {
    let mut messages = admin.drain();
    messages.retain(|message| message.resource() == ENTITY);
    let state = |message: ReceivedMessage| message.event["state"].clone();
    messages.into_iter().map(state).collect()
}

const SENDERS: usize = 8;

/// What a relay has seen of the events, by the alert's name.
#[derive(Default)]
struct Seen {
    /// Those whose acks the client has received.
    acked: HashSet<String>,
    /// Those that came again after that.
    published_again: Vec<String>,
}

/// Ends a connection together with acks: with a FIN, or with a reset.
fn cut_with_acks(number: usize, cuts: usize, seen: &Arc<Mutex<Seen>>) -> Handlers {
    // Acks are held from the first tag to the second one, and passed on with the end. Each sender has a message in flight, at least.
    const HELD: RangeInclusive<u64> = 30..=30 + SENDERS as u64 - 2;
    let names: Arc<Mutex<Vec<String>>> = Arc::default();
    let (published, seen_by_broker) = (Arc::clone(&names), Arc::clone(seen));
    let to_broker = move |frame: &[u8], mut broker: &TcpStream| {
        if let Some(body) = frame_relay::body(frame) {
            let event: Value = serde_json::from_slice(body).unwrap();
            let name = event["resource"].as_str().unwrap().to_owned();
            let mut seen = seen_by_broker.lock().unwrap();
            if seen.acked.contains(&name) {
                seen.published_again.push(name.clone());
            }
            published.lock().unwrap().push(name);
        }
        broker.write_all(frame)
    };
    let (mut held, seen) = (Vec::new(), Arc::clone(seen));
    let to_client = move |frame: &[u8], mut client: &TcpStream| {
        let Some(tag) = acked_tag(frame) else {
            return client.write_all(frame);
        };
        held.extend_from_slice(frame);
        if number < cuts && HELD.contains(&tag) && tag != *HELD.end() {
            return Ok(());
        }
        let is_cut = number < cuts && tag >= *HELD.end();
        if is_cut && number % 2 == 1 {
            SockRef::from(client).set_linger(Some(Duration::ZERO))?;
        }
        client.write_all(&std::mem::take(&mut held))?;
        if is_cut {
            let names = names.lock().unwrap();
            let acked = names[..usize::try_from(tag).unwrap()].iter().cloned();
            seen.lock().unwrap().acked.extend(acked);
            return Err(std::io::ErrorKind::ConnectionAborted.into());
        }
        Ok(())
    };
    Handlers {
        to_broker: Box::new(to_broker),
        to_client: Box::new(to_client),
        ..Handlers::default()
    }
}

#[test]
fn events_whose_acks_come_with_the_end_of_the_connection_are_not_published_again() {
    const CUTS: usize = 30;
    let broker = Broker::shared();
    let vhost = broker.fresh_vhost();
    let seen: Arc<Mutex<Seen>> = Arc::default();
    let connections = Arc::new(AtomicUsize::new(0));
    let (seen_by_relay, counter) = (Arc::clone(&seen), Arc::clone(&connections));
    let relay = frame_relay::start("127.0.0.1:0", broker.port, move |number| {
        counter.fetch_add(1, Ordering::SeqCst);
        cut_with_acks(number, CUTS, &seen_by_relay)
    });
    let connector = Connector::on(&url(relay.port(), &vhost));
    connector.wait_until_ready();
    let load = Load::start(connector.address, SENDERS);
    wait_until("each connection is cut", || {
        connections.load(Ordering::SeqCst) > CUTS
    });
    load.wait_for_more(SENDERS);
    let result = load.stop();
    let seen = seen.lock().unwrap();
    println!("{} acks before an end", seen.acked.len());
    assert!(
        seen.published_again.is_empty(),
        "{:?}",
        seen.published_again
    );
    let received = broker.admin(&vhost).drain_resources();
    result.assert_no_loss("cut together with acks", &received);
}

#[test]
fn a_resolve_that_is_acked_before_its_firing_event_stays_the_last_one() {
    let broker = Broker::shared();
    let vhost = broker.fresh_vhost();
    let published = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&published);
    // The first connection passes on the second ack alone, and then ends. Both messages are in the queue then.
    let connect = move |number| {
        let counter = Arc::clone(&counter);
        let to_broker = move |frame: &[u8], mut broker: &TcpStream| {
            broker.write_all(frame)?;
            counter.fetch_add(usize::from(is_publish(frame)), Ordering::SeqCst);
            Ok(())
        };
        let to_client = move |frame: &[u8], mut client: &TcpStream| match acked_tag(frame) {
            Some(1) if number == 0 => Ok(()),
            Some(tag) if number == 0 => {
                client.write_all(&ack(frame, tag))?;
                // The client reads it before it sees the end.
                thread::sleep(Duration::from_millis(500));
                Err(std::io::ErrorKind::ConnectionAborted.into())
            }
            _ => client.write_all(frame),
        };
        Handlers {
            to_broker: Box::new(to_broker),
            to_client: Box::new(to_client),
            ..Handlers::default()
        }
    };
    let relay = frame_relay::start("127.0.0.1:0", broker.port, connect);
    let text = config(&url(relay.port(), &vhost), "answer_timeout: 30s", MAPPING);
    let connector = Connector::with(&text, &[]);
    connector.wait_until_ready();
    let firing = connector.post_in_background(notification(&[ENTITY]));
    wait_until("it is published", || published.load(Ordering::SeqCst) == 1);
    let resolve = connector.post_in_background(resolved());
    assert_eq!(firing.join().unwrap().unwrap().status, 200);
    assert_eq!(resolve.join().unwrap().unwrap().status, 200);
    let states = states(&broker.admin(&vhost));
    assert!(states.contains(&json!(3)), "{states:?}");
    assert_eq!(states.last(), Some(&json!(0)), "{states:?}");
}

#[test]
fn a_connection_that_is_given_up_delivers_nothing_later() {
    let broker = Broker::shared();
    let vhost = broker.fresh_vhost();
    let released = Arc::new(AtomicBool::new(false));
    let ended = Arc::new(AtomicBool::new(false));
    let (release, end) = (Arc::clone(&released), Arc::clone(&ended));
    // From its first message on, nothing passes through the first connection until it is released. Its broker sees it alive.
    let connect = move |number| {
        if number > 0 {
            return Handlers::default();
        }
        let (release, is_released) = (Arc::clone(&release), Arc::clone(&release));
        let held = Arc::new(AtomicBool::new(false));
        let (end, is_held) = (Arc::clone(&end), Arc::clone(&held));
        let to_broker = move |frame: &[u8], mut broker: &TcpStream| {
            if is_publish(frame) {
                held.store(true, Ordering::SeqCst);
                while !release.load(Ordering::SeqCst) {
                    thread::sleep(Duration::from_millis(100));
                    broker.write_all(&HEARTBEAT)?;
                }
            }
            broker.write_all(frame)
        };
        let to_client = move |frame: &[u8], mut client: &TcpStream| {
            if !is_held.load(Ordering::SeqCst) {
                return client.write_all(frame);
            }
            while !is_released.load(Ordering::SeqCst) {
                thread::sleep(Duration::from_millis(20));
            }
            Ok(())
        };
        Handlers {
            to_broker: Box::new(to_broker),
            to_client: Box::new(to_client),
            ended: Box::new(move || end.store(true, Ordering::SeqCst)),
        }
    };
    let relay = frame_relay::start("127.0.0.1:0", broker.port, connect);
    let mapping = format!(
        "{MAPPING}\nextra_infos_prefix: x_\nextra_infos: {{large: {{type: copy, value: annotations.large}}}}\n"
    );
    let url = format!("{}?heartbeat=2", url(relay.port(), &vhost));
    let text = config(&url, "answer_timeout: 60s", &mapping);
    let connector = Connector::with(&text, &[]);
    connector.wait_until_ready();
    // What the relay's socket receives without being read is less than the padding; the firing event stays in the connector's.
    let mut firing: Value = serde_json::from_str(&notification(&["padding", ENTITY])).unwrap();
    firing["alerts"][0]["annotations"]["large"] = "x".repeat(1_000_000).into();
    assert_eq!(connector.post(&firing.to_string()).status, 200);
    assert_eq!(connector.post(&resolved()).status, 200);
    released.store(true, Ordering::SeqCst);
    wait_until("the first connection has ended", || {
        ended.load(Ordering::SeqCst)
    });
    assert_eq!(states(&broker.admin(&vhost)), [json!(3), json!(0)]);
}

#[test]
fn a_reload_with_other_broker_settings_keeps_the_order() {
    let broker = Broker::shared();
    let vhost = broker.fresh_vhost();
    let (slow, fast) = (
        Relay::to(broker.port, Mode::Rate(20)),
        Relay::to(broker.port, Mode::Rate(1000)),
    );
    let text = config(&slow.url(&vhost), "answer_timeout: 30s", MAPPING);
    let connector = Connector::with(&text, &[]);
    connector.wait_until_ready();
    // The entity's event is the last one, and not published yet when the settings change.
    let mut names: Vec<String> = (0..200).map(|number| format!("{number}")).collect();
    names.push(ENTITY.to_owned());
    let firing = connector.post_in_background(notification(&names));
    wait_until("the first events are published", || slow.forwarded() >= 5);
    connector.rewrite(&config(&fast.url(&vhost), "answer_timeout: 30s", MAPPING));
    let authorization = format!("Authorization: Bearer {TOKEN}");
    let before = slow.forwarded();
    let reloaded = Client::new(connector.address).send("POST", "/-/reload", &[&authorization], b"");
    assert_eq!(reloaded.unwrap().status, 200);
    assert_eq!(connector.post(&resolved()).status, 200);
    assert_eq!(firing.join().unwrap().unwrap().status, 200);
    assert_eq!(states(&broker.admin(&vhost)), [json!(3), json!(0)]);
    assert!(fast.forwarded() > 100, "{}", fast.forwarded());
    // Those in flight: a window for 20 messages a second.
    let after = slow.forwarded() - before;
    assert!(
        after < 40,
        "{after} messages to the old broker after the reload"
    );
}

#[test]
fn entities_end_in_their_highest_state_where_a_full_queue_refuses_events() {
    const ENTITIES: usize = 100;
    let broker = Broker::shared();
    let vhost = broker.fresh_vhost();
    let admin = broker.admin(&vhost);
    admin.redeclare_queue(FieldTable::from([
        ("x-max-length".to_owned(), AmqpValue::LongInt(20)),
        (
            "x-overflow".to_owned(),
            AmqpValue::LongString("reject-publish".to_owned()),
        ),
    ]));
    let connector = Connector::on(&broker.url(&vhost));
    connector.wait_until_ready();
    let names: Vec<String> = (0..ENTITIES).map(|number| number.to_string()).collect();
    let mut body: Value = serde_json::from_str(&notification(&names)).unwrap();
    let firing = body["alerts"].as_array().unwrap();
    let both = firing.iter().flat_map(|alert| {
        let mut resolved = alert.clone();
        resolved["status"] = json!("resolved");
        [resolved, alert.clone()]
    });
    body["alerts"] = both.collect();
    let (address, body) = (connector.address, body.to_string());
    assert_eq!(connector.post(&body).status, 503, "the queue is full");
    let sender = thread::spawn(move || {
        let mut client = Client::new(address);
        while client.post(&body).unwrap().status != 200 {}
    });
    let mut last = HashMap::new();
    loop {
        let is_over = sender.is_finished();
        let taken = admin.take(ENTITIES);
        if is_over && taken.is_empty() {
            break;
        }
        for message in taken {
            last.insert(message.resource(), message.event["state"].clone());
        }
    }
    sender.join().unwrap();
    assert_eq!(last.len(), ENTITIES);
    let wrong: Vec<_> = last
        .iter()
        .filter(|(_, state)| **state != json!(3))
        .collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}
