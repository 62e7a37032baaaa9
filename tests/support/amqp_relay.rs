//! A relay in front of a broker that lets a given number of messages a second through.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::frame_relay::{self, Handler, Handlers};

pub struct AmqpRelay {
    pub port: u16,
    pace: Pace,
}

/// Shared by all connections.
#[derive(Clone, Default)]
struct Pace {
    /// Messages a second; none at 0.
    rate: Arc<AtomicUsize>,
    /// Messages that have been forwarded.
    forwarded: Arc<AtomicUsize>,
    /// Connections that have been opened.
    connections: Arc<AtomicUsize>,
}

impl AmqpRelay {
    pub fn to(port: u16, rate: usize) -> Self {
        let pace = Pace::default();
        pace.rate.store(rate, Ordering::SeqCst);
        let shared = pace.clone();
        let connect = move |_| {
            shared.connections.fetch_add(1, Ordering::SeqCst);
            Handlers {
                to_broker: shared.handler(),
                ..Handlers::default()
            }
        };
        let address = frame_relay::start("127.0.0.1:0", port, connect);
        Self {
            port: address.port(),
            pace,
        }
    }

    pub fn set_rate(&self, rate: usize) {
        self.pace.rate.store(rate, Ordering::SeqCst);
    }

    pub fn forwarded(&self) -> usize {
        self.pace.forwarded.load(Ordering::SeqCst)
    }

    pub fn connections(&self) -> usize {
        self.pace.connections.load(Ordering::SeqCst)
    }

    pub fn url(&self, vhost: &str) -> String {
        super::broker::url(self.port, vhost)
    }
}

impl Pace {
    /// Forwards each message when its time has come.
    fn handler(&self) -> Handler {
        let (pace, mut next) = (self.clone(), Instant::now());
        Box::new(move |frame, mut broker| {
            if frame_relay::is_publish(frame) {
                while pace.rate.load(Ordering::SeqCst) == 0 {
                    thread::sleep(Duration::from_millis(5));
                }
                thread::sleep(next.saturating_duration_since(Instant::now()));
                let rate = u32::try_from(pace.rate.load(Ordering::SeqCst).max(1)).unwrap();
                // A short delay is made up for.
                let earliest = Instant::now().checked_sub(Duration::from_millis(50));
                next = next.max(earliest.unwrap_or(next)) + Duration::from_secs(1) / rate;
                pace.forwarded.fetch_add(1, Ordering::SeqCst);
            }
            broker.write_all(frame)
        })
    }
}
