//! The places for connections: so many and no more. Who waits for a next request has to give way when all are taken.

use std::collections::BTreeMap;
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Whoever has been closed for the sake of another has so long to leave, before one more is closed.
const LEAVING_LIMIT: Duration = Duration::from_secs(1);

/// All places of a server.
#[derive(Debug)]
pub struct Places {
    most: AtomicUsize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    taken: BTreeMap<u64, Entry>,
    next: u64,
    /// Whether somebody waits for a place. Waking nobody would cost each request three calls of the kernel.
    awaited: bool,
}

#[derive(Debug)]
struct Entry {
    socket: Arc<TcpStream>,
    state: Doing,
}

/// What a connection does, as far as its place is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doing {
    /// Its sender has the word: a next request, the rest of one, or one that has shown no token. Since when.
    Waiting(Instant),
    /// An authorized notification is under way: not to be disturbed. Since when.
    Working(Instant),
    /// Its sender reads the answer. Since when.
    Answering(Instant),
    /// It has been closed for the sake of another, and leaves when its thread sees that. Since when.
    Leaving(Instant),
}

impl Doing {
    /// Since when it might give way; `None` where it must not.
    fn since(self) -> Option<Instant> {
        match self {
            Self::Waiting(since) | Self::Answering(since) => Some(since),
            Self::Working(_) | Self::Leaving(_) => None,
        }
    }
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
        Self {
            most: AtomicUsize::new(most),
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// From here on there are so many. Who has a place keeps it.
    pub fn resize(&self, most: usize) {
        self.most.store(most, Ordering::SeqCst);
        self.tell(self.lock());
    }

    /// Takes a place. Where there is none, the connection whose sender has let it wait longest is closed; where all work, this waits.
    pub fn enter(self: &Arc<Self>, socket: &Arc<TcpStream>) -> Place {
        let mut state = self.lock();
        while state.taken.len() >= self.most.load(Ordering::SeqCst) {
            // It leaves its place when its thread sees the end; one that is slow to see it is not waited for.
            if !state.somebody_leaves() {
                state.close_slowest();
            }
            state.awaited = true;
            state = self
                .changed
                .wait_timeout(state, LEAVING_LIMIT)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        state.awaited = false;
        let number = state.next;
        state.next += 1;
        state.taken.insert(
            number,
            Entry {
                socket: Arc::clone(socket),
                state: Doing::Waiting(Instant::now()),
            },
        );
        Place {
            places: Arc::clone(self),
            number,
        }
    }

    /// Closes the connection whose sender has let it wait longest, so that it gives back what it holds.
    pub fn close_slowest(&self) {
        self.lock().close_slowest();
    }

    /// Whether every place is taken by one that works, none for longer than this.
    pub fn are_full_of_work(&self, limit: Duration) -> bool {
        let state = self.lock();
        let works =
            |entry: &Entry| matches!(entry.state, Doing::Working(since) if since.elapsed() < limit);
        state.taken.len() >= self.most.load(Ordering::SeqCst) && state.taken.values().all(works)
    }

    /// Closes all connections that wait for their sender; an answer on its way is left to arrive.
    pub fn close_waiting(&self) {
        for entry in self
            .lock()
            .taken
            .values()
            .filter(|entry| matches!(entry.state, Doing::Waiting(_)))
        {
            let _ = entry.socket.shutdown(Shutdown::Both);
        }
    }

    /// Wakes who waits for a place: only the accepting thread does.
    fn tell(&self, state: MutexGuard<'_, State>) {
        let awaited = state.awaited;
        drop(state);
        if awaited {
            self.changed.notify_all();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn close_slowest(&mut self) {
        let candidates = self
            .taken
            .values_mut()
            .filter_map(|entry| Some((entry.state.since()?, entry)));
        if let Some((_, entry)) = candidates.min_by_key(|(since, _)| *since) {
            let _ = entry.socket.shutdown(Shutdown::Both);
            entry.state = Doing::Leaving(Instant::now());
        }
    }

    fn somebody_leaves(&self) -> bool {
        let leaves = |entry: &Entry| matches!(entry.state, Doing::Leaving(since) if since.elapsed() < LEAVING_LIMIT);
        self.taken.values().any(leaves)
    }
}

impl Place {
    /// From here on the connection may be closed for the sake of another, or at the end.
    pub fn waits(&self) {
        self.set(Doing::Waiting(Instant::now()));
    }

    /// From here on the connection is not closed.
    pub fn works(&self) {
        self.set(Doing::Working(Instant::now()));
    }

    /// From here on the connection may be closed for the sake of another.
    pub fn answers(&self) {
        self.set(Doing::Answering(Instant::now()));
    }

    fn set(&self, state: Doing) {
        let mut all = self.places.lock();
        if let Some(entry) = all.taken.get_mut(&self.number) {
            entry.state = state;
        }
        // Somebody may wait for one that can give way.
        self.places.tell(all);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut all = self.places.lock();
        all.taken.remove(&self.number);
        self.places.tell(all);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    #[test]
    fn the_slowest_gives_way_and_who_works_does_not() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = || {
            let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            (Arc::new(stream), listener.accept().unwrap().0)
        };
        let places = Arc::new(Places::new(3));
        let (busy, waiting, later, newcomer) = (socket(), socket(), socket(), socket());
        let busy_place = places.enter(&busy.0);
        busy_place.works();
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
