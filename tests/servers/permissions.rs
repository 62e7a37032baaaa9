//! The permissions of the connector's user in RabbitMQ: those that suffice, and what is said of a missing one.

use std::io::Write;
use std::net::TcpStream;

use crate::support::broker::{Broker, url};
use crate::support::connector::{Connector, MAPPING, config};
use crate::support::frame_relay::{self, Handlers, close_channel, is_close_ok, is_declare_ok};
use crate::support::load::{Load, post_all, statuses};
use crate::support::{notification, wait_until};

/// A connector whose user has these permissions in a virtual host: configure, write, read.
fn connector(broker: &Broker, vhost: &str, user: &str, permissions: [&str; 3]) -> Connector {
    broker.ctl(&["add_user", user, "p"]);
    permit(broker, vhost, user, permissions);
    let url = format!("amqp://{user}:p@127.0.0.1:{}/{vhost}", broker.port);
    Connector::on(&url)
}

fn permit(broker: &Broker, vhost: &str, user: &str, [configure, write, read]: [&str; 3]) {
    let arguments = ["set_permissions", "-p", vhost, user, configure, write, read];
    broker.ctl(&arguments);
}

/// The permissions that the documents name.
const DOCUMENTED: [&str; 3] = ["^$", "^canopsis\\.events$", "^$"];

fn failed_for_access(connector: &Connector, events: usize) -> bool {
    let line = format!("events_failed_total{{reason=\"access_refused\"}} {events}\n");
    connector.get("/metrics").body.contains(&line)
}

#[test]
fn the_documented_permissions_suffice() {
    let documents = include_str!("../../docs/configuration.md");
    let [configure, write, read] = DOCUMENTED;
    let command = format!("-p canopsis cpsrabbit '{configure}' '{write}' '{read}'");
    assert!(documents.contains(&command), "{command} is not documented");
    let broker = Broker::shared();
    let vhost = broker.fresh_vhost();
    let connector = connector(broker, &vhost, "documented", DOCUMENTED);
    connector.wait_until_ready();
    assert_eq!(connector.post(&notification(&["a"])).status, 200);
    assert_eq!(broker.admin(&vhost).drain_resources(), ["a"]);
}

#[test]
fn a_user_without_the_permission_to_write_is_named_and_costs_no_connection() {
    let broker = Broker::shared();
    let vhost = broker.fresh_vhost();
    let connector = connector(broker, &vhost, "nw", [".*", "^$", ".*"]);
    connector.wait_until_ready();
    for _ in 0..3 {
        let response = connector.post(&notification(&["a"]));
        assert_eq!(response.status, 503);
        let body = &response.body;
        assert!(
            body.contains("403 ACCESS_REFUSED") && body.contains("the permission to write"),
            "{body}"
        );
    }
    assert!(failed_for_access(&connector, 3), "not counted");
    let ready = connector.get("/-/ready");
    assert!(
        ready.status == 503 && ready.body.contains("RabbitMQ refuses events (403"),
        "{}",
        ready.body
    );
    let log = connector.log();
    let lines = |text| log.lines().filter(move |line| line.contains(text));
    assert!(
        !log.contains("lost connection"),
        "a permission is an outage"
    );
    let warnings = lines("RabbitMQ refused an event").filter(|line| line.contains(" WARN "));
    assert_eq!(warnings.count(), 1, "one entry for all attempts");
    assert_eq!(lines(" ERROR ").count(), 0);

    // As many notifications as wait after an outage: each has its verdict at once. Messages that follow the refused one on its channel
    // may cost the connection, because amiquip writes them behind the channel's end.
    let bodies = (0..200).map(|number| notification(&[format!("n{number}")]));
    let statuses = statuses(post_all(&connector, bodies));
    assert_eq!(statuses, [503; 200]);
    assert!(failed_for_access(&connector, 203), "another reason");

    permit(broker, &vhost, "nw", DOCUMENTED);
    assert_eq!(connector.post(&notification(&["b"])).status, 200);
    connector.wait_until_ready();
    assert_eq!(broker.admin(&vhost).drain_resources(), ["b"]);
}

#[test]
fn a_topic_that_is_not_permitted_fails_its_own_notification_only() {
    let broker = Broker::shared();
    let vhost = broker.fresh_vhost();
    let connector = connector(broker, &vhost, "topic", DOCUMENTED);
    let topics = ["canopsis.events", "^((?!forbidden).)*$", "^$"];
    broker.ctl(
        &[
            &["set_topic_permissions", "-p", &vhost, "topic"],
            &topics[..],
        ]
        .concat(),
    );
    connector.wait_until_ready();
    let load = Load::start(connector.address, 8);
    for _ in 0..10 {
        load.wait_for_more(20);
        let response = connector.post(&notification(&["forbidden"]));
        let body = &response.body;
        assert!(
            response.status == 503 && body.contains("403") && body.contains("topic"),
            "{body}"
        );
        let ready = connector.get("/-/ready");
        assert_eq!(ready.status, 200, "others are accepted: {}", ready.body);
    }
    let result = load.stop();
    let received = broker.admin(&vhost).drain_resources();
    result.assert_no_loss("a topic that is not permitted", &received);
    assert_eq!(result.statuses.keys().collect::<Vec<_>>(), [&200]);
    assert!(failed_for_access(&connector, 10), "not counted");
}

#[test]
fn events_are_published_where_the_exchange_cannot_be_checked() {
    let broker = Broker::shared();
    let vhost = broker.fresh_vhost();
    // As RabbitMQ 4.2.6 and 4.3.0 for a user that may not configure.
    let connect = |_| Handlers {
        to_broker: Box::new(|frame: &[u8], mut broker: &TcpStream| {
            if is_close_ok(frame) {
                return Ok(());
            }
            broker.write_all(frame)
        }),
        to_client: Box::new(|frame: &[u8], mut client: &TcpStream| {
            if is_declare_ok(frame) {
                let text = "ACCESS_REFUSED - configure access to exchange refused";
                return client.write_all(&close_channel(frame, 403, text));
            }
            client.write_all(frame)
        }),
        ..Handlers::default()
    };
    let relay = frame_relay::start("127.0.0.1:0", broker.port, connect);
    let text = config(&url(relay.port(), &vhost), "", MAPPING);
    let connector = Connector::with(&text, &["--log-level", "info"]);
    connector.wait_until_ready();
    assert_eq!(connector.post(&notification(&["a"])).status, 200);
    assert_eq!(broker.admin(&vhost).drain_resources(), ["a"]);
    wait_until("the log says so once", || {
        let log = connector.log();
        log.matches("publishing without the check").count() == 1
    });
    assert!(!connector.log().contains("cannot connect"));
}
