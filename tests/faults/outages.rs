//! The guarantee under faults: every event that was answered with 200 is in the queue, every response comes within 10 s and is 200 or
//! 503, and the connector recovers by itself and releases its threads and memory.
//!
//! Each test causes a real fault under load, on a private RabbitMQ node. The counts that the tests print are in the README.

use std::collections::HashSet;
use std::net::TcpListener;
use std::time::Duration;

use crate::support::broker::{Broker, ReceivedMessage};
use crate::support::connector::{Connector, MAPPING, config};
use crate::support::load::{Load, post_all, statuses};
use crate::support::relay::{Mode, Relay};
use crate::support::{notification, wait_until, wait_within};
use amiquip::{AmqpValue, FieldTable};

const SENDERS: usize = 8;

/// The limit from the end of the fault to the next confirmed notifications.
const RECOVERY: Duration = Duration::from_secs(15);

/// Asserts that no event is lost when a fault begins and ends under load. `cause` returns when the connector has noticed the fault.
fn assert_no_loss(
    what: &str,
    broker: &mut Broker,
    url: &str,
    cause: impl FnOnce(&mut Broker, &mut Connector, &Load),
    repair: impl FnOnce(&mut Broker),
) {
    let mut connector = Connector::with(&config(url, "", MAPPING), &["--log-level", "info"]);
    connector.wait_until_ready();
    let before = (connector.threads(), connector.memory());
    let load = Load::start(connector.address, SENDERS);
    load.wait_for_more(50);
    cause(broker, &mut connector, &load);
    repair(broker);
    let confirmed = load.confirmed();
    wait_within(RECOVERY, &format!("{what}: recovers"), || {
        load.confirmed() > confirmed + SENDERS
    });
    load.wait_for_more(50);
    let result = load.stop();
    let received = broker.admin("v0").drain_resources();
    result.assert_no_loss(what, &received);
    // The threads of the senders' connections and of lost connections to the broker have ended.
    wait_until(&format!("{what}: threads end"), || {
        connector.threads() <= before.0
    });
    let grown = connector.memory().saturating_sub(before.1);
    assert!(grown < 16 << 20, "{what}: {grown} bytes more than before");
}

fn wait_for_disconnection(connector: &mut Connector) {
    connector.wait_for_log("lost connection to RabbitMQ");
}

#[test]
fn no_event_is_lost_when_the_broker_is_killed() {
    let mut broker = Broker::start();
    let url = broker.url("v0");
    let kill = |broker: &mut Broker, connector: &mut Connector, load: &Load| {
        broker.kill();
        wait_for_disconnection(connector);
        broker.run();
        load.wait_for_more(50);
        broker.kill();
    };
    assert_no_loss(
        "killed and restarted, twice",
        &mut broker,
        &url,
        kill,
        Broker::run,
    );
}

#[test]
fn no_event_is_lost_when_the_broker_stops() {
    let mut broker = Broker::start();
    let url = broker.url("v0");
    let stop = |broker: &mut Broker, connector: &mut Connector, _: &Load| {
        broker.ctl(&["stop_app"]);
        wait_for_disconnection(connector);
    };
    assert_no_loss("stopped and started", &mut broker, &url, stop, |broker| {
        broker.ctl(&["start_app"]);
    });
}

#[test]
fn no_event_is_lost_when_the_broker_freezes() {
    let mut broker = Broker::start();
    let url = format!("{}?heartbeat=2", broker.url("v0"));
    let freeze = |broker: &mut Broker, connector: &mut Connector, _: &Load| {
        broker.freeze();
        wait_for_disconnection(connector);
    };
    assert_no_loss(
        "frozen for more than two heartbeats",
        &mut broker,
        &url,
        freeze,
        |broker| broker.thaw(),
    );
}

#[test]
fn no_event_is_lost_when_the_network_drops_packets() {
    let mut broker = Broker::start();
    let relay = Relay::to(broker.port, Mode::Forward);
    let url = format!("{}?heartbeat=2", relay.url("v0"));
    let drop_packets = |_: &mut Broker, connector: &mut Connector, _: &Load| {
        relay.set(Mode::Blackhole);
        wait_for_disconnection(connector);
    };
    assert_no_loss(
        "network cut without a close",
        &mut broker,
        &url,
        drop_packets,
        |_| relay.set(Mode::Forward),
    );
}

#[test]
fn no_event_is_lost_after_a_slow_handshake() {
    let mut broker = Broker::start();
    let relay = Relay::to(broker.port, Mode::Forward);
    let url = format!("{}?heartbeat=2", relay.url("v0"));
    let trickle = |broker: &mut Broker, connector: &mut Connector, _: &Load| {
        relay.set(Mode::Trickle);
        broker.ctl(&["close_all_connections", "--vhost", "v0", "test"]);
        connector.wait_for_log("login took longer than 10s");
    };
    assert_no_loss(
        "a byte at a time in the handshake",
        &mut broker,
        &url,
        trickle,
        |_| relay.set(Mode::Forward),
    );
}

#[test]
fn no_event_is_lost_when_the_first_url_never_responds() {
    let mut broker = Broker::start();
    // Accepts connections and never sends a byte. The second URL is the broker.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let urls = format!(
        "amqp://127.0.0.1:{}', '{}",
        silent.local_addr().unwrap().port(),
        broker.url("v0")
    );
    let text = config(&urls, "", MAPPING)
        .replacen("{url: '", "{url: ['", 1)
        .replacen("'}", "']}", 1);
    let mut connector = Connector::with(&text, &[]);
    let load = Load::start(connector.address, SENDERS);
    connector.wait_for_log("no answer for 5s");
    load.wait_for_more(50);
    broker.kill();
    wait_for_disconnection(&mut connector);
    broker.run();
    load.wait_for_more(50);
    let result = load.stop();
    let received = broker.admin("v0").drain_resources();
    result.assert_no_loss("first of two URLs never answers", &received);
}

#[test]
fn no_event_is_lost_during_a_memory_alarm() {
    let mut broker = Broker::start();
    let url = broker.url("v0");
    let block = |broker: &mut Broker, connector: &mut Connector, _: &Load| {
        broker.ctl(&["set_vm_memory_high_watermark", "0.0000001"]);
        connector.wait_for_log("RabbitMQ has blocked publishing");
        connector.wait_for_log("timed out after 8 s");
    };
    let unblock = |broker: &mut Broker| broker.ctl(&["set_vm_memory_high_watermark", "0.8"]);
    assert_no_loss("memory alarm", &mut broker, &url, block, unblock);
}

#[test]
fn no_event_is_lost_while_the_queue_is_unbound() {
    let mut broker = Broker::start();
    let url = broker.url("v0");
    let unbind = |broker: &mut Broker, connector: &mut Connector, _: &Load| {
        broker.admin("v0").unbind();
        connector.wait_for_log("RabbitMQ returned an event (312 NO_ROUTE)");
    };
    assert_no_loss(
        "queue unbound and bound again",
        &mut broker,
        &url,
        unbind,
        |broker| broker.admin("v0").bind(),
    );
}

#[test]
fn no_event_is_lost_while_the_exchange_is_deleted() {
    let mut broker = Broker::start();
    let url = broker.url("v0");
    let delete = |broker: &mut Broker, connector: &mut Connector, _: &Load| {
        broker.admin("v0").delete_exchange();
        wait_for_disconnection(connector);
        connector.wait_for_log("cannot use the exchange");
    };
    let declare = |broker: &mut Broker| {
        let admin = broker.admin("v0");
        admin.declare_exchange();
        admin.bind();
    };
    assert_no_loss(
        "exchange deleted and declared again",
        &mut broker,
        &url,
        delete,
        declare,
    );
}

#[test]
fn no_event_is_lost_while_the_queue_is_full() {
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
    let result = load.stop();
    taken.extend(broker.admin("v0").drain_resources());
    result.assert_no_loss("queue full (nacks), then emptied", &taken);
}

#[test]
fn no_event_is_lost_while_the_password_is_wrong() {
    let mut broker = Broker::start();
    let url = broker.url("v0");
    let change = |broker: &mut Broker, connector: &mut Connector, _: &Load| {
        broker.ctl(&["change_password", "cpsrabbit", "another"]);
        broker.ctl(&["close_all_connections", "--vhost", "v0", "test"]);
        connector.wait_for_log("probably a wrong user or password");
    };
    let correct = |broker: &mut Broker| broker.ctl(&["change_password", "cpsrabbit", "canopsis"]);
    assert_no_loss(
        "wrong password, corrected later",
        &mut broker,
        &url,
        change,
        correct,
    );
}

#[test]
fn no_event_is_lost_when_the_connector_is_terminated() {
    let broker = Broker::start();
    let mut connector = Connector::on(&broker.url("v0"));
    connector.wait_until_ready();
    let load = Load::start(connector.address, SENDERS);
    load.wait_for_more(100);
    connector.terminate();
    assert_eq!(connector.wait().code(), Some(0));
    assert!(
        connector.log().contains("connection closed"),
        "the connection to the broker was not closed"
    );
    assert!(
        !connector.log().contains("got no response"),
        "in-flight requests got no response"
    );
    let mut result = load.stop();
    // Requests after the shutdown got no response.
    result.statuses.remove(&0);
    let received = broker.admin("v0").drain_resources();
    result.assert_no_loss("SIGTERM in the middle of a burst", &received);
}

#[test]
fn waiting_notifications_are_answered_before_termination() {
    let broker = Broker::start();
    let mut connector = Connector::on(&broker.url("v0"));
    connector.wait_until_ready();
    broker.freeze();
    let bodies = (0..20).map(|sender| notification(&[format!("n{sender}")]));
    let senders = post_all(&connector, bodies);
    wait_until("all of them wait", || connector.received() == 20);
    connector.terminate();
    connector.wait_for_log("shutting down: finishing in-flight requests");
    broker.thaw();
    assert_eq!(statuses(senders), [200; 20]);
    assert_eq!(connector.wait().code(), Some(0));
    let received = broker.admin("v0").drain_resources();
    assert_eq!(received.into_iter().collect::<HashSet<_>>().len(), 20);
}
