//! What the operator sees under faults: a real Alertmanager sends alerts that come and go, and in the end each alarm is right.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};

use crate::support::alertmanager::Alertmanager;
use crate::support::broker::Broker;
use crate::support::canopsis::Canopsis;
use crate::support::connector::{Connector, MAPPING, config};
use crate::support::http::Client;
use crate::support::{free_port, serve, wait_until};
use serde_json::{Value, json};

/// The component, the resource and the severity of each alert. Several have one entity.
const ALERTS: [(&str, &str, &str); 9] = [
    ("db-1", "Disk", "warning"),
    ("db-1", "Disk", "critical"),
    ("db-1", "Load", "warning"),
    ("db-2", "Disk", "critical"),
    ("db-2", "Disk", "critical"),
    ("db-2", "Load", "warning"),
    ("db-3", "Load", "critical"),
    ("db-3", "Load", "warning"),
    ("db-3", "Up", "critical"),
];

fn labels(number: usize) -> Value {
    let (instance, alertname, severity) = ALERTS[number];
    json!({"alertname": alertname, "instance": instance, "severity": severity, "number": number.to_string()})
}

fn entity(number: usize) -> String {
    format!("{}/{}", ALERTS[number].1, ALERTS[number].0)
}

/// Whether each alert fired in the last notification with it that was answered 200.
type Accepted = Arc<Mutex<BTreeMap<String, bool>>>;

/// Passes a notification on to a connector, and records what it accepts. Without a connector it answers 502.
fn pass_on(stream: TcpStream, connector: SocketAddr, accepted: &Accepted) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        if let Some((name, value)) = line.split_once(": ")
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().unwrap();
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let body = String::from_utf8(body).unwrap();
    let response = Client::new(connector).post(&body);
    let status = response.map_or(502, |response| response.status);
    if status == 200 {
        let notification: Value = serde_json::from_str(&body).unwrap();
        for alert in notification["alerts"].as_array().unwrap() {
            let number = alert["labels"]["number"].as_str().unwrap().to_owned();
            let is_firing = alert["status"] == "firing";
            accepted.lock().unwrap().insert(number, is_firing);
        }
    }
    let head = "Content-Length: 0\r\nConnection: close\r\n";
    write!(reader.get_mut(), "HTTP/1.1 {status} status\r\n{head}\r\n")
}

#[test]
fn each_alarm_is_what_its_alerts_say_after_each_fault() {
    const OVER: Option<&str> = Some("2026-01-01T00:01:00Z");
    let mut broker = Broker::start();
    let listen = format!("127.0.0.1:{}", free_port());
    let text = config(&broker.url("v0"), "", MAPPING).replace("127.0.0.1:0", &listen);
    let mut connector = Connector::with(&text, &[]);
    connector.wait_until_ready();
    let (accepted, address) = (Accepted::default(), connector.address);
    let recorded = Arc::clone(&accepted);
    let proxy = serve(move |stream| {
        // Alertmanager may give up first.
        let _ = pass_on(stream, address, &recorded);
    });
    let route = "group_by: [instance], group_wait: 0s";
    let mut alertmanager = Alertmanager::start(([127, 0, 0, 1], proxy).into(), route);

    let mut canopsis = Canopsis::default();
    let mut firing: BTreeSet<usize> = BTreeSet::new();
    let mut notified: BTreeSet<usize> = BTreeSet::new();
    // A fixed sequence of numbers that look random.
    let mut random = 12_345_u32;
    for round in 0..12 {
        let before = firing.clone();
        for number in 0..ALERTS.len() {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            if random >> 31 == 1 && !firing.remove(&number) {
                firing.insert(number);
                notified.insert(number);
            }
        }
        let labels = |number: &usize| labels(*number);
        let started: Vec<Value> = firing.difference(&before).map(labels).collect();
        let ended: Vec<Value> = before.difference(&firing).map(labels).collect();
        alertmanager.post_alerts(&started, None);
        alertmanager.post_alerts(&ended, OVER);
        let fault = [
            "none",
            "connections closed",
            "broker killed",
            "reloaded",
            "restarted",
        ][round % 5];
        match fault {
            "connections closed" => broker.ctl(&["close_all_connections", "test"]),
            "broker killed" => {
                broker.kill();
                broker.run();
            }
            "reloaded" => connector.reload(&text),
            "restarted" => {
                drop(connector);
                connector = Connector::with(&text, &[]);
            }
            _ => {}
        }
        let what = format!("every alert of round {round} ({fault}) is accepted");
        wait_until(&what, || {
            let accepted = accepted.lock().unwrap();
            let mut notified = notified.iter();
            notified
                .all(|number| accepted.get(&number.to_string()) == Some(&firing.contains(number)))
        });

        let throughout = firing.intersection(&before);
        let throughout: BTreeSet<String> = throughout.map(|number| entity(*number)).collect();
        for message in broker.admin("v0").drain() {
            let event = message.event;
            let entity = canopsis.take(&event);
            let entity = entity.unwrap_or_else(|why| panic!("dropped, {why}: {event}"));
            let is_false_end = event["state"] == 0 && throughout.contains(&entity);
            assert!(
                !is_false_end,
                "round {round} ({fault}): {entity} closes while one of its alerts fires"
            );
        }
        for number in 0..ALERTS.len() {
            let entity = entity(number);
            let states = (0..ALERTS.len())
                .filter(|other| firing.contains(other) && self::entity(*other) == entity);
            let expected = states
                .map(|other| if ALERTS[other].2 == "critical" { 3 } else { 1 })
                .max();
            let (state, what) = (canopsis.state(&entity), format!("the alarm of {entity}"));
            let expected = expected.unwrap_or(0);
            assert_eq!(state, expected, "round {round} ({fault}): {what}");
        }
    }
}
