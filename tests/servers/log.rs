//! The log at its lowest level, with a real RabbitMQ.

use std::path::Path;

use serde_json::Value;

use crate::support::broker::{Admin, Broker};
use crate::support::connector::{Connector, MAPPING, config};
use crate::support::notification;

const PASSWORD: &str = "password-that-occurs-nowhere-else";

/// The text of all sources below a directory, in one line.
fn sources(dir: &Path) -> String {
    let mut text = String::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        text.push_str(&if path.is_dir() {
            sources(&path)
        } else {
            std::fs::read_to_string(&path).unwrap()
        });
    }
    text
}

/// amiquip logs the login, and the bodies of returned messages.
#[test]
fn the_log_has_the_connectors_own_entries_only_and_no_password() {
    let (broker, admin) = (Broker::shared(), Admin::fresh());
    let vhost = &admin.vhost;
    broker.ctl(&["add_user", "logged", PASSWORD]);
    broker.ctl(&["set_permissions", "-p", vhost, "logged", "", ".*", ""]);
    let url = format!("amqp://logged:{PASSWORD}@127.0.0.1:{}/{vhost}", admin.port);
    let arguments = ["--log-level", "trace", "--log-format", "json"];
    let mut connector = Connector::with(&config(&url, "", MAPPING), &arguments);
    connector.wait_until_ready();
    assert_eq!(connector.post(&notification(&["a"])).status, 200);
    admin.unbind();
    assert_eq!(connector.post(&notification(&["b"])).status, 503);
    // A wrong token, which no test may log.
    let wrong = connector.send("POST", "/webhook", &["Authorization: Bearer hunter2"]);
    assert_eq!(wrong.status, 401);
    connector.terminate();
    connector.wait();
    let log = connector.log();
    assert!(!log.contains(PASSWORD), "the password is in the log");
    let sources = sources(Path::new("src"));
    for line in log.lines() {
        let entry: Value = serde_json::from_str(line).unwrap();
        let message = entry["message"].as_str().unwrap();
        // What follows may be formatted.
        let mut words = message.split(|c: char| !c.is_alphabetic() && c != ' ');
        let words = words.next().unwrap().trim();
        assert!(
            words.len() > 4 && sources.contains(words),
            "an entry that is not the connector's: {line}"
        );
    }
}
