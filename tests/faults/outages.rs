//! The guarantee under faults: every event that was answered with 200 is in the queue, every response comes within 10 s and is 200 or
//! 503, and the connector recovers by itself and releases its threads and memory.
//!
//! Each test causes a real fault under load, on a private RabbitMQ node. The counts that the tests print are in docs/reliability.md.

use std::collections::HashSet;
use std::net::TcpListener;
use std::time::Duration;

use crate::support::broker::{Broker, ReceivedMessage};
use crate::support::connector::{Connector, MAPPING, amqp_config, config};
use crate::support::load::{Load, post_all, statuses};
use crate::support::relay::{Mode, Relay};
use crate::support::{notification, wait_until, wait_within};

const SENDERS: usize = 8;

/// The limit from the end of the fault to the next confirmed notifications.
const RECOVERY: Duration = Duration::from_secs(15);

/// Asserts that no event is lost when a fault begins and ends under load. `fault` ends it when the connector has noticed it.
fn assert_no_loss(
    what: &str,
    broker: &mut Broker,
    url: &str,
    fault: impl FnOnce(&mut Broker, &mut Connector, &Load),
) {
    let mut connector = Connector::with(&config(url, "", MAPPING), &["--log-level", "info"]);
    connector.wait_until_ready();
    let before = (connector.threads(), connector.memory());
    let load = Load::start(connector.address, SENDERS);
    load.wait_for_more(50);
    fault(broker, &mut connector, &load);
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

/// Like [`assert_no_loss`], without a relay.
fn assert_no_loss_on_a_broker(what: &str, fault: impl FnOnce(&mut Broker, &mut Connector, &Load)) {
    let mut broker = Broker::start();
    let url = broker.url("v0");
    assert_no_loss(what, &mut broker, &url, fault);
}

/// Like [`assert_no_loss`], with a relay before the broker.
fn assert_no_loss_behind_a_relay(
    what: &str,
    fault: impl FnOnce(&Relay, &mut Broker, &mut Connector),
) {
    let mut broker = Broker::start();
    let relay = Relay::to(broker.port, Mode::Forward);
    let url = format!("{}?heartbeat=2", relay.url("v0"));
    assert_no_loss(what, &mut broker, &url, |broker, connector, _| {
        fault(&relay, broker, connector);
        relay.set(Mode::Forward);
    });
}

fn wait_for_disconnection(connector: &mut Connector) {
    connector.wait_for_log("lost connection to RabbitMQ");
}

#[test]
fn no_event_is_lost_when_the_broker_is_killed() {
    let what = "killed and restarted, twice";
    assert_no_loss_on_a_broker(what, |broker, connector, load| {
        broker.kill();
        wait_for_disconnection(connector);
        broker.run();
        load.wait_for_more(50);
        broker.kill();
        broker.run();
    });
}

#[test]
fn no_event_is_lost_when_the_broker_stops() {
    assert_no_loss_on_a_broker("stopped and started", |broker, connector, _| {
        broker.ctl(&["stop_app"]);
        wait_for_disconnection(connector);
        broker.ctl(&["start_app"]);
    });
}

#[test]
fn no_event_is_lost_when_the_broker_freezes() {
    let mut broker = Broker::start();
    let url = format!("{}?heartbeat=2", broker.url("v0"));
    let what = "frozen for more than two heartbeats";
    assert_no_loss(what, &mut broker, &url, |broker, connector, _| {
        broker.freeze();
        wait_for_disconnection(connector);
        broker.thaw();
    });
}

#[test]
fn no_event_is_lost_when_the_network_drops_packets() {
    let what = "network cut without a close";
    assert_no_loss_behind_a_relay(what, |relay, _, connector| {
        relay.set(Mode::Blackhole);
        wait_for_disconnection(connector);
    });
}

#[test]
fn no_event_is_lost_after_a_slow_handshake() {
    let what = "a byte at a time in the handshake";
    assert_no_loss_behind_a_relay(what, |relay, broker, connector| {
        relay.set(Mode::Trickle);
        broker.ctl(&["close_all_connections", "--vhost", "v0", "test"]);
        connector.wait_for_log("login took longer than 10s");
    });
}

#[test]
fn no_event_is_lost_when_the_first_url_never_responds() {
    let mut broker = Broker::start();
    // Accepts connections and never sends a byte. The second URL is the broker.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let first = format!("amqp://{}", silent.local_addr().unwrap());
    let urls = format!("url: ['{first}', '{}']", broker.url("v0"));
    let mut connector = Connector::with(&amqp_config(&urls, "", MAPPING), &[]);
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
    assert_no_loss_on_a_broker("memory alarm", |broker, connector, _| {
        broker.ctl(&["set_vm_memory_high_watermark", "0.0000001"]);
        connector.wait_for_log("RabbitMQ has blocked publishing");
        connector.wait_for_log("timed out after 8 s");
        broker.ctl(&["set_vm_memory_high_watermark", "0.8"]);
    });
}

#[test]
fn no_event_is_lost_while_the_queue_is_unbound() {
    let what = "queue unbound and bound again";
    assert_no_loss_on_a_broker(what, |broker, connector, _| {
        broker.admin("v0").unbind();
        connector.wait_for_log("RabbitMQ returned an event (312 NO_ROUTE)");
        broker.admin("v0").bind();
    });
}

#[test]
fn no_event_is_lost_while_the_exchange_is_deleted() {
    let what = "exchange deleted and declared again";
    assert_no_loss_on_a_broker(what, |broker, connector, _| {
        broker.admin("v0").delete_exchange();
        wait_for_disconnection(connector);
        connector.wait_for_log("cannot use the exchange");
        broker.admin("v0").declare_exchange();
    });
}

#[test]
fn no_event_is_lost_while_the_queue_is_full() {
    let broker = Broker::start();
    let admin = broker.admin("v0");
    admin.limit_queue(600);
    let mut connector = Connector::on(&admin.url());
    let load = Load::start(connector.address, SENDERS);
    connector.wait_for_log("RabbitMQ refused an event (nack)");
    let (mut taken, confirmed) = (Vec::new(), load.confirmed());
    let what = "notifications get through while the queue is emptied";
    wait_until(what, || {
        taken.extend(admin.take(100).iter().map(ReceivedMessage::resource));
        load.confirmed() > confirmed + 10
    });
    let result = load.stop();
    taken.extend(admin.drain_resources());
    result.assert_no_loss("queue full (nacks), then emptied", &taken);
}

#[test]
fn no_event_is_lost_while_the_password_is_wrong() {
    let what = "wrong password, corrected later";
    assert_no_loss_on_a_broker(what, |broker, connector, _| {
        broker.ctl(&["change_password", "cpsrabbit", "another"]);
        broker.ctl(&["close_all_connections", "--vhost", "v0", "test"]);
        connector.wait_for_log("probably a wrong user or password");
        broker.ctl(&["change_password", "cpsrabbit", "canopsis"]);
    });
}

#[test]
fn no_event_is_lost_when_the_connector_is_terminated() {
    let broker = Broker::start();
    let mut connector = Connector::on(&broker.url("v0"));
    let load = Load::start(connector.address, SENDERS);
    load.wait_for_more(100);
    connector.terminate();
    assert_eq!(connector.wait().code(), Some(0));
    let log = connector.log();
    let is_closed = log.contains("connection closed");
    assert!(is_closed, "the connection to the broker was not closed");
    let is_answered = !log.contains("got no response");
    assert!(is_answered, "in-flight requests got no response");
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
