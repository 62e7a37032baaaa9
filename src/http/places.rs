//! The places for connections: so many and no more. Who waits for a next request has to give way when all are taken.

use std::collections::BTreeMap;
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// All places of a server.
#[derive(Debug)]
pub struct Places {
    most: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    taken: BTreeMap<u64, Entry>,
    next: u64,
}

#[derive(Debug)]
struct Entry {
    socket: Arc<TcpStream>,
    /// Since when it has waited for a request (or for the rest of a head); `None` while a request is answered.
    waiting_since: Option<Instant>,
}

/// One connection's place; given back when dropped.
#[derive(Debug)]
pub struct Place {
    places: Arc<Places>,
    number: u64,
}

impl Places {
    /// So many places.
    pub fn new(most: usize) -> Self {
        Self { most, state: Mutex::default(), changed: Condvar::new() }
    }

    /// Takes a place. Where there is none, the connection that has waited longest is closed; where all are busy, this waits.
    pub fn enter(self: &Arc<Self>, socket: &Arc<TcpStream>) -> Place {
        let mut state = self.lock();
        while state.taken.len() >= self.most {
            // It leaves its place when its thread sees the end.
            state.close_longest_waiting();
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let number = state.next;
        state.next += 1;
        state.taken.insert(number, Entry { socket: Arc::clone(socket), waiting_since: Some(Instant::now()) });
        Place { places: Arc::clone(self), number }
    }

    /// Closes the connection that has waited longest, so that it gives back what it holds.
    pub fn close_longest_waiting(&self) {
        self.lock().close_longest_waiting();
    }

    /// Closes all connections that wait.
    pub fn close_waiting(&self) {
        for entry in self.lock().taken.values().filter(|entry| entry.waiting_since.is_some()) {
            let _ = entry.socket.shutdown(Shutdown::Both);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn close_longest_waiting(&mut self) {
        let waiting = self.taken.values().filter(|entry| entry.waiting_since.is_some());
        if let Some(entry) = waiting.min_by_key(|entry| entry.waiting_since) {
            let _ = entry.socket.shutdown(Shutdown::Both);
        }
    }
}

impl Place {
    /// From here on the connection may be closed for the sake of another.
    pub fn is_waiting(&self) {
        self.set(Some(Instant::now()));
        // Somebody may wait for one that waits.
        self.places.changed.notify_all();
    }

    /// From here on the connection is not closed.
    pub fn is_busy(&self) {
        self.set(None);
    }

    fn set(&self, waiting_since: Option<Instant>) {
        if let Some(entry) = self.places.lock().taken.get_mut(&self.number) {
            entry.waiting_since = waiting_since;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.lock().taken.remove(&self.number);
        self.places.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    #[test]
    fn the_one_that_has_waited_longest_gives_way() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = || {
            let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            (Arc::new(stream), listener.accept().unwrap().0)
        };
        let places = Arc::new(Places::new(3));
        let (busy, waiting, later, newcomer) = (socket(), socket(), socket(), socket());
        let busy_place = places.enter(&busy.0);
        busy_place.is_busy();
        let waiting_place = places.enter(&waiting.0);
        let later_place = places.enter(&later.0);
        let serving = {
            let socket = Arc::clone(&waiting.0);
            thread::spawn(move || {
                let ended = (&*socket).read(&mut [0]).unwrap();
                drop(waiting_place);
                ended
            })
        };
        let place = places.enter(&newcomer.0);
        assert_eq!(serving.join().unwrap(), 0);
        drop((place, busy_place, later_place));
        assert!(places.lock().taken.is_empty());
    }
}
