//! Makes amiquip's I/O thread write all frames of a burst at once.
//!
//! The library hands each frame of each message to its own thread, which wakes for the first one and writes it while the
//! second one is being handed over: a storm becomes thousands of small writes, and as many wake-ups on both sides. While
//! the gate is held, that thread waits before it writes; after the release it writes what it had, and then, in one write,
//! everything that has been handed over since.

use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// No write waits longer than this, whatever goes wrong between the two threads.
const MAX_WAIT: Duration = Duration::from_millis(20);

/// Shared by the publisher's thread, which holds the gate, and the socket, whose writes wait for it.
#[derive(Debug, Default)]
pub struct WriteGate {
    is_held: Mutex<bool>,
    released: Condvar,
}

/// Writes wait until this is dropped.
#[derive(Debug)]
pub struct HoldGuard<'g>(&'g WriteGate);

impl WriteGate {
    /// Makes writes wait until the guard is dropped.
    pub fn hold(&self) -> HoldGuard<'_> {
        *self.is_held.lock() = true;
        HoldGuard(self)
    }

    /// Waits while the gate is held, [`MAX_WAIT`] at most.
    pub fn wait(&self) {
        self.wait_for(MAX_WAIT);
    }

    fn wait_for(&self, limit: Duration) {
        let mut is_held = self.is_held.lock();
        self.released
            .wait_while_for(&mut is_held, |is_held| *is_held, limit);
    }
}

impl Drop for HoldGuard<'_> {
    fn drop(&mut self) {
        *self.0.is_held.lock() = false;
        self.0.released.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};
    use std::sync::{Arc, mpsc};
    use std::thread;

    use super::super::stream::BoundedStream;
    use super::*;

    #[test]
    fn a_writer_waits_until_the_release() {
        let (gate, (done, is_done)) = (Arc::new(WriteGate::default()), mpsc::channel());
        let held = gate.hold();
        let writer = {
            let gate = Arc::clone(&gate);
            thread::spawn(move || {
                gate.wait_for(Duration::from_hours(1));
                done.send(()).unwrap();
            })
        };
        // It goes on waiting when it is woken while the gate is held.
        while !gate.released.notify_one() {
            thread::yield_now();
        }
        assert!(is_done.try_recv().is_err());
        drop(held);
        // Far less than the hour: the release has woken it.
        is_done.recv_timeout(Duration::from_mins(1)).unwrap();
        writer.join().unwrap();
    }

    #[test]
    fn the_writes_of_a_stream_wait_for_the_gate() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let gate = Arc::new(WriteGate::default());
        let mut stream = BoundedStream::open(&Arc::new(socket), None, Arc::clone(&gate)).unwrap();
        let held = gate.hold();
        thread::scope(|scope| {
            // Held, each waits 20 ms.
            let writer = scope.spawn(move || {
                for _ in 0..1000 {
                    stream.write_all(b"x").unwrap();
                }
            });
            while !gate.released.notify_one() {
                let is_late = writer.is_finished();
                assert!(
                    !is_late,
                    "no write waits: a burst is sent in many small ones"
                );
                thread::yield_now();
            }
            drop(held);
        });
    }

    #[test]
    fn a_writer_does_not_wait_forever() {
        let gate = WriteGate::default();
        gate.wait();
        let _held = gate.hold();
        gate.wait();
    }
}
