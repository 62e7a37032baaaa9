//! Concurrent senders, and the responses that they got.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
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
    stop: Arc<AtomicBool>,
    confirmed: Arc<AtomicUsize>,
    senders: Vec<JoinHandle<LoadResult>>,
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
        let (stop, confirmed) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicUsize::new(0)),
        );
        let senders = (0..senders)
            .map(|sender| {
                let (stop, confirmed) = (Arc::clone(&stop), Arc::clone(&confirmed));
                std::thread::spawn(move || send(address, sender, &stop, &confirmed))
            })
            .collect();
        Self {
            stop,
            confirmed,
            senders,
        }
    }

    /// The number of notifications that have been answered with 200 so far.
    pub fn confirmed(&self) -> usize {
        self.confirmed.load(Ordering::SeqCst)
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
        self.stop.store(true, Ordering::SeqCst);
        let mut total = LoadResult::default();
        for result in self
            .senders
            .into_iter()
            .map(|sender| sender.join().unwrap())
        {
            total.confirmed.extend(result.confirmed);
            total.sent += result.sent;
            for (status, count) in result.statuses {
                *total.statuses.entry(status).or_default() += count;
            }
        }
        total
    }
}

fn send(
    address: SocketAddr,
    sender: usize,
    stop: &AtomicBool,
    confirmed: &AtomicUsize,
) -> LoadResult {
    // Alertmanager's timeout is at least 10 s. A later response counts as none.
    let mut client = Client::new(address).with_timeout(10);
    let mut result = LoadResult::default();
    let mut number = 0;
    while !stop.load(Ordering::SeqCst) {
        let names: Vec<String> = (0..ALERTS)
            .map(|alert| format!("s{sender}-n{number}-a{alert}"))
            .collect();
        number += 1;
        result.sent += names.len();
        let status = client
            .post(&notification(&names))
            .map_or(0, |response| response.status);
        *result.statuses.entry(status).or_default() += 1;
        if status == 200 {
            result.confirmed.extend(names);
            confirmed.fetch_add(1, Ordering::SeqCst);
        } else {
            // Senders do not retry immediately.
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    result
}

impl LoadResult {
    /// Asserts that every alert that was answered with 200 is in the queue, and that every response was 200 or 503. Prints the counts
    /// of the README's table.
    pub fn assert_no_loss(&self, what: &str, received: &[String]) {
        let distinct: HashSet<&String> = received.iter().collect();
        let lost: Vec<&String> = self
            .confirmed
            .iter()
            .filter(|name| !distinct.contains(name))
            .collect();
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
        assert!(
            self.statuses
                .keys()
                .all(|status| matches!(status, 200 | 503)),
            "{what}: {:?}",
            self.statuses
        );
    }
}
