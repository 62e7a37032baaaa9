//! Many senders at once, and the account of what they were told.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::http::Client;
use super::notification;

/// Alerts in each notification of a load.
pub const ALERTS: usize = 3;

/// Senders that post notifications, each of alerts that nobody else has, until they are stopped.
pub struct Load {
    stop: Arc<AtomicBool>,
    confirmed: Arc<AtomicUsize>,
    senders: Vec<JoinHandle<Account>>,
}

/// What the senders were told.
#[derive(Debug, Default)]
pub struct Account {
    /// The alerts of notifications that were answered 200.
    pub confirmed: Vec<String>,
    /// All alerts that were sent.
    pub sent: usize,
    /// How often each status came; 0 where there was no answer.
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

    /// How many notifications have been answered 200 so far.
    pub fn confirmed(&self) -> usize {
        self.confirmed.load(Ordering::SeqCst)
    }

    /// Waits until so many more notifications have been answered 200.
    pub fn wait_for_more(&self, count: usize) {
        let start = self.confirmed();
        super::wait_until("notifications get through", || {
            self.confirmed() >= start + count
        });
    }

    /// Ends all senders, each after the answer it waits for.
    pub fn stop(self) -> Account {
        self.stop.store(true, Ordering::SeqCst);
        let mut total = Account::default();
        for account in self
            .senders
            .into_iter()
            .map(|sender| sender.join().unwrap())
        {
            total.confirmed.extend(account.confirmed);
            total.sent += account.sent;
            for (status, count) in account.statuses {
                *total.statuses.entry(status).or_default() += count;
            }
        }
        total
    }
}

fn send(address: SocketAddr, sender: usize, stop: &AtomicBool, confirmed: &AtomicUsize) -> Account {
    let (mut client, mut account) = (Client::new(address), Account::default());
    // Alertmanager's shortest window: an answer that comes later is none.
    client.patience(Duration::from_secs(10));
    let mut number = 0;
    while !stop.load(Ordering::SeqCst) {
        let names: Vec<String> = (0..ALERTS)
            .map(|alert| format!("s{sender}-n{number}-a{alert}"))
            .collect();
        number += 1;
        account.sent += names.len();
        let status = client
            .post(&notification(&names))
            .map_or(0, |reply| reply.status);
        *account.statuses.entry(status).or_default() += 1;
        if status == 200 {
            account.confirmed.extend(names);
            confirmed.fetch_add(1, Ordering::SeqCst);
        } else {
            // As a sender would: not at once again.
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    account
}

impl Account {
    /// The promise: whatever was answered 200 is in the queue. Prints the account.
    pub fn check(&self, what: &str, received: &[String]) {
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
            "{what}: answered 200 and not in the queue: {lost:?}"
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
