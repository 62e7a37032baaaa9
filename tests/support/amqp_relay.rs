//! A TCP relay in front of a broker that lets a given number of messages a second through.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

pub struct AmqpRelay {
    pub port: u16,
    /// Messages a second; none at 0.
    rate: Arc<AtomicUsize>,
    /// Messages that have been forwarded.
    forwarded: Arc<AtomicUsize>,
}

impl AmqpRelay {
    pub fn to(port: u16, rate: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let relay = Self {
            port: listener.local_addr().unwrap().port(),
            rate: Arc::new(AtomicUsize::new(rate)),
            forwarded: Arc::default(),
        };
        let (rate, forwarded) = (Arc::clone(&relay.rate), Arc::clone(&relay.forwarded));
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(broker) = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port)))
                else {
                    continue;
                };
                let (mut from_broker, mut to_client) =
                    (broker.try_clone().unwrap(), client.try_clone().unwrap());
                thread::spawn(move || {
                    let _ = std::io::copy(&mut from_broker, &mut to_client);
                    let _ = to_client.shutdown(Shutdown::Both);
                });
                let (rate, forwarded) = (Arc::clone(&rate), Arc::clone(&forwarded));
                thread::spawn(move || {
                    let _ = forward(client, &broker, &rate, &forwarded);
                    let _ = broker.shutdown(Shutdown::Both);
                });
            }
        });
        relay
    }

    pub fn set_rate(&self, rate: usize) {
        self.rate.store(rate, Ordering::SeqCst);
    }

    pub fn forwarded(&self) -> usize {
        self.forwarded.load(Ordering::SeqCst)
    }

    pub fn url(&self, vhost: &str) -> String {
        format!("amqp://cpsrabbit:canopsis@127.0.0.1:{}/{vhost}", self.port)
    }
}

/// Forwards frame by frame, each `basic.publish` when its time has come.
fn forward(
    mut client: TcpStream,
    mut broker: &TcpStream,
    rate: &AtomicUsize,
    forwarded: &AtomicUsize,
) -> std::io::Result<()> {
    let mut protocol = [0; 8];
    client.read_exact(&mut protocol)?;
    broker.write_all(&protocol)?;
    let mut next = Instant::now();
    loop {
        let mut frame = vec![0; 7];
        client.read_exact(&mut frame)?;
        let size = u32::from_be_bytes([frame[3], frame[4], frame[5], frame[6]]);
        frame.resize(7 + size as usize + 1, 0);
        client.read_exact(&mut frame[7..])?;
        // Class 60 (basic), method 40 (publish).
        if frame[0] == 1 && frame[7..11] == [0, 60, 0, 40] {
            while rate.load(Ordering::SeqCst) == 0 {
                thread::sleep(Duration::from_millis(5));
            }
            thread::sleep(next.saturating_duration_since(Instant::now()));
            let rate = u32::try_from(rate.load(Ordering::SeqCst).max(1)).unwrap();
            // A short delay is made up for.
            let earliest = Instant::now().checked_sub(Duration::from_millis(50));
            next = next.max(earliest.unwrap_or(next)) + Duration::from_secs(1) / rate;
            forwarded.fetch_add(1, Ordering::SeqCst);
        }
        broker.write_all(&frame)?;
    }
}
