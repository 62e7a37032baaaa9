//! The permissions of the connector's user in RabbitMQ: those that suffice, and what is said of a missing one.

use std::io::Write;
use std::net::TcpStream;

use crate::support::broker::{Admin, Broker};
use crate::support::connector::{Connector, MAPPING, config};
use crate::support::frame_relay::{self, Handlers, close_channel, is_close_ok, is_declare_ok};
use crate::support::load::{Load, post_all, statuses};
use crate::support::{notification, wait_until};

/// A connector whose user has these permissions: configure, write, read.
fn connector(admin: &Admin, user: &str, permissions: [&str; 3]) -> Connector {
    Broker::shared().ctl(&["add_user", user, "p"]);
    permit(admin, user, permissions);
    Connector::on(&format!(
        "amqp://{user}:p@127.0.0.1:{}/{}",
        admin.port, admin.vhost
    ))
}

fn permit(admin: &Admin, user: &str, permissions: [&str; 3]) {
    let arguments = ["set_permissions", "-p", &admin.vhost, user];
    Broker::shared().ctl(&[&arguments, &permissions[..]].concat());
}

/// The permissions that the documents name.
const DOCUMENTED: [&str; 3] = ["^$", "^canopsis\\.events$", "^$"];

fn failed_for_access(connector: &Connector) -> i64 {
    connector.metric("events_failed_total{reason=\"access_refused\"}")
}

#[test]
fn the_documented_permissions_suffice() {
    let documents = include_str!("../../docs/configuration.md");
    let [configure, write, read] = DOCUMENTED;
    let command = format!("-p canopsis cpsrabbit '{configure}' '{write}' '{read}'");
    assert!(documents.contains(&command), "{command} is not documented");
    let admin = Admin::fresh();
    let connector = connector(&admin, "documented", DOCUMENTED);
    assert_eq!(connector.post(&notification(&["a"])).status, 200);
    assert_eq!(admin.drain_resources(), ["a"]);
}

#[test]
fn a_user_without_the_permission_to_write_is_named_and_costs_no_connection() {
    let admin = Admin::fresh();
    let connector = connector(&admin, "nw", [".*", "^$", ".*"]);
    for _ in 0..3 {
        let response = connector.post(&notification(&["a"]));
        response.assert(503, "403 ACCESS_REFUSED");
        response.assert(503, "the permission to write");
    }
    assert_eq!(failed_for_access(&connector), 3);
    let ready = connector.get("/-/ready");
    ready.assert(503, "RabbitMQ refuses events (403");
    let log = connector.log();
    let lines = |text| log.lines().filter(move |line| line.contains(text));
    assert_eq!(lines("lost connection").count(), 0, "an outage");
    let warnings = lines("RabbitMQ refused an event").filter(|line| line.contains(" WARN "));
    assert_eq!(warnings.count(), 1, "one entry for all attempts");
    assert_eq!(lines(" ERROR ").count(), 0);

    // As many notifications as wait after an outage: each has its verdict at once. Messages that follow the refused one on its channel
    // may cost the connection, because amiquip writes them behind the channel's end.
    let bodies = (0..200).map(|number| notification(&[format!("n{number}")]));
    let statuses = statuses(post_all(&connector, bodies));
    assert_eq!(statuses, [503; 200]);
    assert_eq!(failed_for_access(&connector), 203, "another reason");

    permit(&admin, "nw", DOCUMENTED);
    assert_eq!(connector.post(&notification(&["b"])).status, 200);
    connector.wait_until_ready();
    assert_eq!(admin.drain_resources(), ["b"]);
}

#[test]
fn a_topic_that_is_not_permitted_fails_its_own_notification_only() {
    let admin = Admin::fresh();
    let connector = connector(&admin, "topic", DOCUMENTED);
    let user = ["set_topic_permissions", "-p", &admin.vhost, "topic"];
    let topics = ["canopsis.events", "^((?!forbidden).)*$", "^$"];
    Broker::shared().ctl(&[&user, &topics[..]].concat());
    let load = Load::start(connector.address, 8);
    for _ in 0..10 {
        load.wait_for_more(20);
        let response = connector.post(&notification(&["forbidden"]));
        response.assert(503, "403");
        response.assert(503, "topic");
        let ready = connector.get("/-/ready");
        assert_eq!(ready.status, 200, "others are accepted: {}", ready.body);
    }
    let result = load.stop();
    let received = admin.drain_resources();
    result.assert_no_loss("a topic that is not permitted", &received);
    assert_eq!(result.statuses.keys().collect::<Vec<_>>(), [&200]);
    assert_eq!(failed_for_access(&connector), 10);
}

#[test]
fn events_are_published_where_the_exchange_cannot_be_checked() {
    let admin = Admin::fresh();
    // As RabbitMQ 4.2.6 and 4.3.0 for a user that may not configure.
    let to_broker = |frame: &[u8], mut broker: &TcpStream| {
        if is_close_ok(frame) {
            return Ok(());
        }
        broker.write_all(frame)
    };
    let to_client = |frame: &[u8], mut client: &TcpStream| {
        if is_declare_ok(frame) {
            let text = "ACCESS_REFUSED - configure access to exchange refused";
            return client.write_all(&close_channel(frame, 403, text));
        }
        client.write_all(frame)
    };
    let url = frame_relay::url(&admin, move |_| Handlers::new(to_broker, to_client));
    let connector = Connector::with(&config(&url, "", MAPPING), &["--log-level", "info"]);
    connector.wait_until_ready();
    assert_eq!(connector.post(&notification(&["a"])).status, 200);
    assert_eq!(admin.drain_resources(), ["a"]);
    wait_until("the log says so once", || {
        let log = connector.log();
        log.matches("publishing without the check").count() == 1
    });
    assert!(!connector.log().contains("cannot connect"));
}
