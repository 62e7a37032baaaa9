//! What a connection's end leaves behind: confirmed events are not published again, and the last message of an entity in the queue
//! is the one that was submitted last.

use std::collections::HashSet;
use std::io::Write;
use std::net::TcpStream;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::support::broker::{Admin, ReceivedMessage};
use crate::support::connector::{Connector, MAPPING, config, copying_mapping};
use crate::support::frame_relay::{self, HEARTBEAT, Handlers, ack, acked_tag, is_publish};
use crate::support::load::Load;
use crate::support::relay::{Mode, Relay};
use crate::support::{notification, wait_until};
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
            published.lock().unwrap().push(name.clone());
            let mut seen = seen_by_broker.lock().unwrap();
            if seen.acked.contains(&name) {
                seen.published_again.push(name);
            }
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
    Handlers::new(to_broker, to_client)
}

#[test]
fn events_whose_acks_come_with_the_end_of_the_connection_are_not_published_again() {
    const CUTS: usize = 30;
    let admin = Admin::fresh();
    let seen: Arc<Mutex<Seen>> = Arc::default();
    let connections = Arc::new(AtomicUsize::new(0));
    let (seen_by_relay, counter) = (Arc::clone(&seen), Arc::clone(&connections));
    let url = frame_relay::url(&admin, move |number| {
        counter.fetch_add(1, Ordering::SeqCst);
        cut_with_acks(number, CUTS, &seen_by_relay)
    });
    let connector = Connector::on(&url);
    let load = Load::start(connector.address, SENDERS);
    wait_until("each connection is cut", || {
        connections.load(Ordering::SeqCst) > CUTS
    });
    load.wait_for_more(SENDERS);
    let result = load.stop();
    let seen = seen.lock().unwrap();
    println!("{} acks before an end", seen.acked.len());
    assert_eq!(seen.published_again, [""; 0], "published again");
    result.assert_no_loss("cut together with acks", &admin.drain_resources());
}

#[test]
fn a_resolve_that_is_acked_before_its_firing_event_stays_the_last_one() {
    let admin = Admin::fresh();
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
        Handlers::new(to_broker, to_client)
    };
    let url = frame_relay::url(&admin, connect);
    let connector = Connector::ready(&url, "answer_timeout: 30s", MAPPING);
    let firing = connector.post_in_background(notification(&[ENTITY]));
    wait_until("it is published", || published.load(Ordering::SeqCst) == 1);
    let resolve = connector.post_in_background(resolved());
    assert_eq!(firing.join().unwrap().unwrap().status, 200);
    assert_eq!(resolve.join().unwrap().unwrap().status, 200);
    let states = states(&admin);
    assert!(states.contains(&json!(3)), "{states:?}");
    assert_eq!(states.last(), Some(&json!(0)), "{states:?}");
}

#[test]
fn a_connection_that_is_given_up_delivers_nothing_later() {
    let admin = Admin::fresh();
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
            ended: Box::new(move || end.store(true, Ordering::SeqCst)),
            ..Handlers::new(to_broker, to_client)
        }
    };
    let url = frame_relay::url(&admin, connect) + "?heartbeat=2";
    let mapping = copying_mapping("annotations.large");
    let connector = Connector::ready(&url, "answer_timeout: 60s", &mapping);
    // What the relay's socket receives without being read is less than the padding; the firing event stays in the connector's.
    let mut firing: Value = serde_json::from_str(&notification(&["padding", ENTITY])).unwrap();
    firing["alerts"][0]["annotations"]["large"] = "x".repeat(1_000_000).into();
    assert_eq!(connector.post(&firing.to_string()).status, 200);
    assert_eq!(connector.post(&resolved()).status, 200);
    released.store(true, Ordering::SeqCst);
    let is_over = || ended.load(Ordering::SeqCst);
    wait_until("the first connection has ended", is_over);
    assert_eq!(states(&admin), [json!(3), json!(0)]);
}

#[test]
fn a_reload_with_other_broker_settings_keeps_the_order() {
    let admin = Admin::fresh();
    let [slow, fast] = [20, 1000].map(|rate| Relay::to(admin.port, Mode::Rate(rate)));
    let (slow_url, fast_url) = (slow.url(&admin.vhost), fast.url(&admin.vhost));
    let connector = Connector::ready(&slow_url, "answer_timeout: 30s", MAPPING);
    // The entity's event is the last one, and not published yet when the settings change.
    let mut names: Vec<String> = (0..200).map(|number| format!("{number}")).collect();
    names.push(ENTITY.to_owned());
    let firing = connector.post_in_background(notification(&names));
    wait_until("the first events are published", || slow.forwarded() >= 5);
    connector.rewrite(&config(&fast_url, "answer_timeout: 30s", MAPPING));
    let before = slow.forwarded();
    assert_eq!(connector.post_reload().status, 200);
    assert_eq!(connector.post(&resolved()).status, 200);
    assert_eq!(firing.join().unwrap().unwrap().status, 200);
    assert_eq!(states(&admin), [json!(3), json!(0)]);
    assert!(fast.forwarded() > 100, "{}", fast.forwarded());
    // Those in flight: a window for 20 messages a second.
    let after = slow.forwarded() - before;
    assert!(after < 40, "{after} messages to the old broker");
}
