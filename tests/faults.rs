//! The promise under faults: whatever was answered 200 is in the queue, each answer comes within 10 s and is 200 or 503, the
//! connector recovers by itself, and it gives back what it took.
//!
//! Each fault is done for real, under load, on a RabbitMQ node of its own. The account that each prints is in the README.

mod support;

use std::collections::HashSet;
use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use amiquip::{AmqpValue, FieldTable};
use support::broker::{Broker, ReceivedMessage};
use support::connector::{Connector, MAPPING, config};
use support::http::Client;
use support::load::Load;
use support::relay::{Mode, Relay};
use support::{notification, wait_until, wait_within};

const SENDERS: usize = 8;

/// From the moment the broker is there again.
const RECOVERY: Duration = Duration::from_secs(15);

/// Puts a connector under load, does the harm, undoes it, and checks the account. `harm` returns when the harm has shown.
fn under(
    what: &str,
    broker: &mut Broker,
    url: &str,
    harm: impl FnOnce(&mut Broker, &mut Connector, &Load),
    heal: impl FnOnce(&mut Broker),
) {
    let mut connector = Connector::with(&config(url, "", MAPPING), &["--log-level", "info"]);
    connector.wait_until_ready();
    let before = (connector.threads(), connector.memory());
    let load = Load::start(connector.address, SENDERS);
    load.wait_for_more(50);
    harm(broker, &mut connector, &load);
    heal(broker);
    let confirmed = load.confirmed();
    wait_within(RECOVERY, &format!("{what}: recovers"), || {
        load.confirmed() > confirmed + SENDERS
    });
    load.wait_for_more(50);
    let account = load.stop();
    let received: Vec<String> = broker
        .admin("v0")
        .drain()
        .iter()
        .map(ReceivedMessage::resource)
        .collect();
    account.check(what, &received);
    // The senders' connections, and those to the broker that were lost, are gone with their threads.
    wait_until(&format!("{what}: threads are given back"), || {
        connector.threads() <= before.0
    });
    let grown = connector.memory().saturating_sub(before.1);
    assert!(grown < 16 << 20, "{what}: {grown} bytes more than before");
}

fn lost(connector: &mut Connector) {
    connector.wait_for_log("lost connection to RabbitMQ");
}

#[test]
fn killed() {
    let mut broker = Broker::start();
    let url = broker.url("v0");
    let kill = |broker: &mut Broker, connector: &mut Connector, load: &Load| {
        broker.kill();
        lost(connector);
        broker.run();
        load.wait_for_more(50);
        broker.kill();
    };
    under(
        "killed and restarted, twice",
        &mut broker,
        &url,
        kill,
        Broker::run,
    );
}

#[test]
fn stopped() {
    let mut broker = Broker::start();
    let url = broker.url("v0");
    let stop = |broker: &mut Broker, connector: &mut Connector, _: &Load| {
        broker.ctl(&["stop_app"]);
        lost(connector);
    };
    under("stopped and started", &mut broker, &url, stop, |broker| {
        broker.ctl(&["start_app"]);
    });
}

#[test]
fn frozen() {
    let mut broker = Broker::start();
    let url = format!("{}?heartbeat=2", broker.url("v0"));
    let freeze = |broker: &mut Broker, connector: &mut Connector, _: &Load| {
        broker.freeze();
        lost(connector);
    };
    under(
        "frozen for more than two heartbeats",
        &mut broker,
        &url,
        freeze,
        |broker| broker.thaw(),
    );
}

#[test]
fn cut_off() {
    let mut broker = Broker::start();
    let relay = Relay::to(broker.port);
    let url = format!(
        "amqp://cpsrabbit:canopsis@127.0.0.1:{}/v0?heartbeat=2",
        relay.port
    );
    let cut = |_: &mut Broker, connector: &mut Connector, _: &Load| {
        relay.set(Mode::Cut);
        lost(connector);
    };
    under(
        "network cut without a close",
        &mut broker,
        &url,
        cut,
        |_| relay.set(Mode::Forward),
    );
}

#[test]
fn dripping() {
    let mut broker = Broker::start();
    let relay = Relay::to(broker.port);
    let url = format!(
        "amqp://cpsrabbit:canopsis@127.0.0.1:{}/v0?heartbeat=2",
        relay.port
    );
    let drip = |broker: &mut Broker, connector: &mut Connector, _: &Load| {
        relay.set(Mode::Drip);
        broker.ctl(&["close_all_connections", "--vhost", "v0", "test"]);
        connector.wait_for_log("login took longer than 10s");
    };
    under(
        "a byte at a time in the handshake",
        &mut broker,
        &url,
        drip,
        |_| relay.set(Mode::Forward),
    );
}

#[test]
fn silent_handshake() {
    let mut broker = Broker::start();
    // Accepts, and never says a word; the second URL is the broker.
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let urls = format!(
        "amqp://127.0.0.1:{}', '{}",
        mute.local_addr().unwrap().port(),
        broker.url("v0")
    );
    let text = config(&urls, "", MAPPING)
        .replacen("{url: '", "{url: ['", 1)
        .replacen("'}", "']}", 1);
    let mut connector = Connector::with(&text, &[]);
    let load = Load::start(connector.address, SENDERS);
    connector.wait_for_log("login took longer than 10s");
    load.wait_for_more(50);
    broker.kill();
    lost(&mut connector);
    broker.run();
    load.wait_for_more(50);
    let received = |broker: &Broker| {
        broker
            .admin("v0")
            .drain()
            .iter()
            .map(ReceivedMessage::resource)
            .collect::<Vec<String>>()
    };
    load.stop()
        .check("first of two URLs never answers", &received(&broker));
}

#[test]
fn blocked() {
    let mut broker = Broker::start();
    let url = broker.url("v0");
    let block = |broker: &mut Broker, connector: &mut Connector, _: &Load| {
        broker.ctl(&["set_vm_memory_high_watermark", "0.0000001"]);
        connector.wait_for_log("RabbitMQ has blocked publishing");
        connector.wait_for_log("timed out after 8 s");
    };
    let unblock = |broker: &mut Broker| broker.ctl(&["set_vm_memory_high_watermark", "0.8"]);
    under("memory alarm", &mut broker, &url, block, unblock);
}

#[test]
fn unbound() {
    let mut broker = Broker::start();
    let url = broker.url("v0");
    let unbind = |broker: &mut Broker, connector: &mut Connector, _: &Load| {
        broker.admin("v0").unbind();
        connector.wait_for_log("RabbitMQ returned an event (312 NO_ROUTE)");
    };
    under(
        "queue unbound and bound again",
        &mut broker,
        &url,
        unbind,
        |broker| broker.admin("v0").bind(),
    );
}

#[test]
fn exchange_deleted() {
    let mut broker = Broker::start();
    let url = broker.url("v0");
    let delete = |broker: &mut Broker, connector: &mut Connector, _: &Load| {
        broker.admin("v0").delete_exchange();
        lost(connector);
        connector.wait_for_log("cannot use the exchange");
    };
    let declare = |broker: &mut Broker| {
        let admin = broker.admin("v0");
        admin.declare_exchange();
        admin.bind();
    };
    under(
        "exchange deleted and declared again",
        &mut broker,
        &url,
        delete,
        declare,
    );
}

#[test]
fn queue_full() {
    let broker = Broker::start();
    let url = broker.url("v0");
    let mut taken: Vec<String> = Vec::new();
    let mut arguments = FieldTable::new();
    arguments.insert("x-max-length".to_owned(), AmqpValue::LongInt(600));
    arguments.insert(
        "x-overflow".to_owned(),
        AmqpValue::LongString("reject-publish".to_owned()),
    );
    broker.admin("v0").redeclare_queue(arguments);
    let mut connector = Connector::on(&url);
    connector.wait_until_ready();
    let load = Load::start(connector.address, SENDERS);
    connector.wait_for_log("RabbitMQ refused an event (nack)");
    let (admin, confirmed) = (broker.admin("v0"), load.confirmed());
    wait_until(
        "notifications get through while the queue is emptied",
        || {
            taken.extend(admin.take(100).iter().map(ReceivedMessage::resource));
            load.confirmed() > confirmed + 10
        },
    );
    let account = load.stop();
    taken.extend(
        broker
            .admin("v0")
            .drain()
            .iter()
            .map(ReceivedMessage::resource),
    );
    account.check("queue full (nacks), then emptied", &taken);
}

#[test]
fn wrong_password() {
    let mut broker = Broker::start();
    let url = broker.url("v0");
    let change = |broker: &mut Broker, connector: &mut Connector, _: &Load| {
        broker.ctl(&["change_password", "cpsrabbit", "another"]);
        broker.ctl(&["close_all_connections", "--vhost", "v0", "test"]);
        connector.wait_for_log("probably a wrong user or password");
    };
    let correct = |broker: &mut Broker| broker.ctl(&["change_password", "cpsrabbit", "canopsis"]);
    under(
        "wrong password, corrected later",
        &mut broker,
        &url,
        change,
        correct,
    );
}

#[test]
fn terminated() {
    let broker = Broker::start();
    let mut connector = Connector::on(&broker.url("v0"));
    connector.wait_until_ready();
    let load = Load::start(connector.address, SENDERS);
    load.wait_for_more(100);
    connector.terminate();
    assert_eq!(connector.wait().code(), Some(0));
    assert!(
        connector.log().contains("connection closed"),
        "the broker was told"
    );
    assert!(
        !connector.log().contains("got no response"),
        "whoever was under way was answered"
    );
    let mut account = load.stop();
    // Whoever came after the end had no answer at all.
    account.statuses.remove(&0);
    let received: Vec<String> = broker
        .admin("v0")
        .drain()
        .iter()
        .map(ReceivedMessage::resource)
        .collect();
    account.check("SIGTERM in the middle of a burst", &received);
}

#[test]
fn terminated_while_notifications_wait() {
    let broker = Broker::start();
    let mut connector = Connector::on(&broker.url("v0"));
    connector.wait_until_ready();
    broker.freeze();
    let address = connector.address;
    let senders: Vec<_> = (0..20)
        .map(|sender| {
            thread::spawn(move || {
                Client::new(address)
                    .post(&notification(&[format!("n{sender}")]))
                    .unwrap()
                    .status
            })
        })
        .collect();
    wait_until("all of them wait", || {
        connector.log().matches("notification received").count() == 20
    });
    connector.terminate();
    connector.wait_for_log("shutting down: finishing in-flight requests");
    broker.thaw();
    assert!(
        senders
            .into_iter()
            .all(|sender| sender.join().unwrap() == 200)
    );
    assert_eq!(connector.wait().code(), Some(0));
    let received: HashSet<String> = broker
        .admin("v0")
        .drain()
        .iter()
        .map(ReceivedMessage::resource)
        .collect();
    assert_eq!(received.len(), 20);
}
