//! Concurrent senders, and the responses that they got.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::connector::{Connector, Sender};
use super::http::Client;
use super::notification;

/// Alerts in each notification of a load.
pub const ALERTS: usize = 3;

/// Posts all bodies at once, each on its own connection.
pub fn post_all(connector: &Connector, bodies: impl Iterator<Item = String>) -> Vec<Sender> {
    bodies
        .map(|body| connector.post_in_background(body))
        .collect()
}

/// The statuses of all responses; 0 is the status of a request without a response.
pub fn statuses(senders: Vec<Sender>) -> Vec<u16> {
    let status = |sender: Sender| sender.join().unwrap().map_or(0, |response| response.status);
    senders.into_iter().map(status).collect()
}

/// Senders that post notifications, with different alerts in each, until they are stopped.
pub struct Load {
    state: Arc<State>,
    senders: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    is_stopped: AtomicBool,
    result: Mutex<LoadResult>,
}

/// The responses that the senders got.
#[derive(Debug, Default)]
pub struct LoadResult {
    /// The alerts of notifications that were answered with 200.
    pub confirmed: Vec<String>,
    /// The number of alerts in all notifications.
    pub sent: usize,
    /// The number of responses by status; 0 is the status of requests without a response.
    pub statuses: HashMap<u16, usize>,
}

impl Load {
    pub fn start(address: SocketAddr, senders: usize) -> Self {
        let state = Arc::new(State::default());
        let start = |sender| {
            let state = Arc::clone(&state);
            thread::spawn(move || send(address, sender, &state))
        };
        let senders = (0..senders).map(start).collect();
        Self { state, senders }
    }

    /// The number of notifications that have been answered with 200 so far.
    pub fn confirmed(&self) -> usize {
        let result = self.state.result.lock().unwrap();
        result.statuses.get(&200).copied().unwrap_or(0)
    }

    /// Waits until `count` more notifications have been answered with 200.
    pub fn wait_for_more(&self, count: usize) {
        let start = self.confirmed();
        super::wait_until("more notifications are answered with 200", || {
            self.confirmed() >= start + count
        });
    }

    /// Stops all senders, each after its current request.
    pub fn stop(self) -> LoadResult {
        self.state.is_stopped.store(true, Ordering::SeqCst);
        for sender in self.senders {
            sender.join().unwrap();
        }
        std::mem::take(&mut self.state.result.lock().unwrap())
    }
}

fn send(address: SocketAddr, sender: usize, state: &State) {
    // Alertmanager's timeout is at least 10 s. A later response counts as none.
    let mut client = Client::new(address).with_timeout(10);
    let mut number = 0;
    while !state.is_stopped.load(Ordering::SeqCst) {
        let names = (0..ALERTS).map(|alert| format!("s{sender}-n{number}-a{alert}"));
        let names: Vec<String> = names.collect();
        number += 1;
        let response = client.post(&notification(&names));
        let status = response.map_or(0, |response| response.status);
        let mut result = state.result.lock().unwrap();
        result.sent += names.len();
        *result.statuses.entry(status).or_default() += 1;
        if status == 200 {
            result.confirmed.extend(names);
        } else {
            drop(result);
            // Senders do not retry immediately.
            thread::sleep(Duration::from_millis(50));
        }
    }
}

impl LoadResult {
    /// Asserts that every alert that was answered with 200 is in the queue, and that every response was 200 or 503. Prints the counts
    /// of the table in docs/reliability.md.
    pub fn assert_no_loss(&self, what: &str, received: &[String]) {
        let distinct: HashSet<&String> = received.iter().collect();
        let confirmed = self.confirmed.iter();
        let lost: Vec<_> = confirmed.filter(|name| !distinct.contains(name)).collect();
        println!(
            "{what}: {} events sent, {} answered 200, {} lost, {} twice; answers {:?}",
            self.sent,
            self.confirmed.len(),
            lost.len(),
            received.len() - distinct.len(),
            self.statuses,
        );
        assert!(
            lost.is_empty(),
            "{what}: answered with 200 and not in the queue: {lost:?}"
        );
        for status in self.statuses.keys() {
            let is_known = matches!(status, 200 | 503);
            assert!(is_known, "{what}: {:?}", self.statuses);
        }
    }
}
