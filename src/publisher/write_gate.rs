//! Lets the AMQP library's thread write what belongs `together` at once.
//!
//! The library hands each frame of each message to its own thread, which wakes for the first one and writes it while the second
//! one is on its way: a storm becomes thousands of small writes, and as many wake-ups on both sides. While the gate is in, that
//! thread waits before it writes; once it is out, it writes what it had, and then, in one go, all that has been handed over since.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// No write waits longer: whatever goes wrong between the two threads must not keep them apart.
const LIMIT: Duration = Duration::from_millis(20);

/// Shared by the publisher, who holds it, and the socket, whose writes wait for it.
#[derive(Debug, Clone, Default)]
pub struct WriteGate(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    out: Condvar,
}

#[derive(Debug, Default)]
struct State {
    held: bool,
    /// Whether somebody waits: only then is there anybody to wake.
    awaited: bool,
}

/// While this lives, writes wait.
#[derive(Debug)]
pub struct Held<'c>(&'c WriteGate);

impl WriteGate {
    /// From here on writes wait, until what is returned is dropped.
    pub fn hold(&self) -> Held<'_> {
        self.lock().held = true;
        Held(self)
    }

    /// Waits while the gate is held, and not for ever.
    pub fn wait(&self) {
        self.wait_for(LIMIT);
    }

    fn wait_for(&self, limit: Duration) {
        let mut state = self.lock();
        if state.held {
            state.awaited = true;
            let held = |state: &mut State| state.held;
            state = self
                .0
                .out
                .wait_timeout_while(state, limit, held)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
            state.awaited = false;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.held = false;
        let awaited = state.awaited;
        drop(state);
        if awaited {
            self.0.0.out.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    #[test]
    fn a_writer_waits_until_it_is_out() {
        let (gate, (done, is_done)) = (WriteGate::default(), mpsc::channel());
        let held = gate.hold();
        let writer = {
            let gate = gate.clone();
            thread::spawn(move || {
                gate.wait_for(Duration::from_hours(1));
                done.send(()).unwrap();
            })
        };
        while !gate.lock().awaited {
            thread::yield_now();
        }
        assert!(is_done.try_recv().is_err());
        drop(held);
        // Far less than the hour: it has been woken.
        is_done.recv_timeout(Duration::from_mins(1)).unwrap();
        writer.join().unwrap();
    }

    #[test]
    fn a_writer_does_not_wait_for_ever() {
        let gate = WriteGate::default();
        gate.wait();
        let _held = gate.hold();
        gate.wait();
    }
}
