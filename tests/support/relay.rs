//! A relay in front of a broker that simulates a slow broker and faults of the network.

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::frame_relay::{self, Handler, Handlers};

#[derive(Debug, Clone, Copy)]
pub enum Mode {
    Forward,
    /// Forwards this number of messages a second. 0 holds messages until the mode changes.
    Rate(u32),
    /// Forwards one byte of the broker every 200 ms, on connections that are opened from now on. On others, the acks that are on
    /// their way would delay the end of the connection by minutes.
    Trickle,
    /// Drops all bytes in both directions, without closing the connections.
    Blackhole,
}

pub struct Relay {
    pub port: u16,
    state: Arc<State>,
}

/// Shared by all connections.
struct State {
    mode: Mutex<Mode>,
    forwarded: AtomicUsize,
    connections: AtomicUsize,
}

impl Relay {
    pub fn to(port: u16, mode: Mode) -> Self {
        let state = Arc::new(State {
            mode: Mutex::new(mode),
            forwarded: AtomicUsize::default(),
            connections: AtomicUsize::default(),
        });
        let shared = Arc::clone(&state);
        let connect = move |_| {
            shared.connections.fetch_add(1, Ordering::SeqCst);
            Handlers {
                to_broker: to_broker(Arc::clone(&shared)),
                to_client: to_client(Arc::clone(&shared)),
                ..Handlers::default()
            }
        };
        let address = frame_relay::start("127.0.0.1:0", port, connect);
        Self {
            port: address.port(),
            state,
        }
    }

    pub fn set(&self, mode: Mode) {
        *self.state.mode.lock().unwrap() = mode;
    }

    /// Messages that have been forwarded.
    pub fn forwarded(&self) -> usize {
        self.state.forwarded.load(Ordering::SeqCst)
    }

    /// Connections that have been opened.
    pub fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }

    /// The URL for the connector.
    pub fn url(&self, vhost: &str) -> String {
        super::broker::url(self.port, vhost)
    }
}

impl State {
    /// The mode. Does not return where bytes are dropped: lost bytes do not arrive later.
    fn mode(&self) -> Mode {
        let mode = *self.mode.lock().unwrap();
        if let Mode::Blackhole = mode {
            loop {
                thread::park();
            }
        }
        mode
    }
}

/// Forwards each message when its time has come.
fn to_broker(state: Arc<State>) -> Handler {
    let mut next = Instant::now();
    Box::new(move |frame, mut broker| {
        let mut mode = state.mode();
        if frame_relay::is_publish(frame) {
            while matches!(mode, Mode::Rate(0)) {
                thread::sleep(Duration::from_millis(5));
                mode = state.mode();
            }
            if let Mode::Rate(rate) = mode {
                thread::sleep(next.saturating_duration_since(Instant::now()));
                // A short delay is made up for.
                let earliest = Instant::now().checked_sub(Duration::from_millis(50));
                next = next.max(earliest.unwrap_or(next)) + Duration::from_secs(1) / rate;
            }
            state.forwarded.fetch_add(1, Ordering::SeqCst);
        }
        broker.write_all(frame)
    })
}

fn to_client(state: Arc<State>) -> Handler {
    let trickles = matches!(*state.mode.lock().unwrap(), Mode::Trickle);
    Box::new(move |frame, mut client| {
        let mut rest = frame;
        while trickles
            && let Mode::Trickle = state.mode()
            && let [byte, after @ ..] = rest
        {
            thread::sleep(Duration::from_millis(200));
            client.write_all(&[*byte])?;
            rest = after;
        }
        client.write_all(rest)
    })
}
