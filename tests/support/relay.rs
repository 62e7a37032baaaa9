//! A TCP relay in front of a broker that can simulate network faults.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;
use std::time::Duration;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Forward = 0,
    /// Drops all bytes in both directions, without closing the connections.
    Blackhole = 1,
    /// Forwards one byte of the broker every 200 ms.
    Trickle = 2,
}

pub struct Relay {
    pub port: u16,
    mode: Arc<AtomicU8>,
}

impl Relay {
    pub fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let relay = Self {
            port: listener.local_addr().unwrap().port(),
            mode: Arc::default(),
        };
        let mode = Arc::clone(&relay.mode);
        thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let Ok(far) = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port))) else {
                    continue;
                };
                let (near_too, far_too) = (near.try_clone().unwrap(), far.try_clone().unwrap());
                let (there, back) = (Arc::clone(&mode), Arc::clone(&mode));
                thread::spawn(move || forward(near, far, &there, false));
                thread::spawn(move || forward(far_too, near_too, &back, true));
            }
        });
        relay
    }

    /// The URL for the connector.
    pub fn url(&self, vhost: &str) -> String {
        super::broker::url(self.port, vhost)
    }

    pub fn set(&self, mode: Mode) {
        self.mode.store(mode as u8, Ordering::SeqCst);
    }
}

fn forward(mut from: TcpStream, mut to: TcpStream, mode: &AtomicU8, from_broker: bool) {
    let mut buffer = [0; 16 << 10];
    while let Ok(count) = from.read(&mut buffer) {
        let mut rest = &buffer[..count];
        while !rest.is_empty() {
            match mode.load(Ordering::SeqCst) {
                // Lost bytes do not arrive later: both sockets stay open, and this connection is never forwarded again.
                mode if mode == Mode::Blackhole as u8 => return std::mem::forget((from, to)),
                mode if mode == Mode::Trickle as u8 && from_broker => {
                    thread::sleep(Duration::from_millis(200));
                    if to.write_all(&rest[..1]).is_err() {
                        return;
                    }
                    rest = &rest[1..];
                }
                _ => {
                    if to.write_all(rest).is_err() {
                        return;
                    }
                    rest = &[];
                }
            }
        }
        if count == 0 {
            let _ = to.shutdown(Shutdown::Write);
            return;
        }
    }
}
