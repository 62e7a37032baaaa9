//! The slots for connections: so many and no more. Who waits for a next request has to give way when all are taken.

use std::collections::BTreeMap;
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Whoever has been closed for the sake of another has so long to leave, before one more is closed.
const LEAVING_LIMIT: Duration = Duration::from_secs(1);

/// All slots of a server.
#[derive(Debug)]
pub struct ConnectionSlots {
    most: AtomicUsize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    taken: BTreeMap<u64, Entry>,
    next: u64,
    /// Whether somebody waits for a slot. Waking nobody would cost each request three calls of the kernel.
    awaited: bool,
}

#[derive(Debug)]
struct Entry {
    socket: Arc<TcpStream>,
    state: SlotState,
}

/// What a connection does, as far as its slot is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SlotState {
    /// Its sender has the word: a next request, the rest of one, or one that has shown no token. Since when.
    Waiting(Instant),
    /// An authorized notification is under way: not to be disturbed. Since when.
    Working(Instant),
    /// Its sender reads the answer. Since when.
    Answering(Instant),
    /// It has been closed for the sake of another, and leaves when its thread sees that. Since when.
    Leaving(Instant),
}

impl SlotState {
    /// Since when it might give way; `None` where it must not.
    fn since(self) -> Option<Instant> {
        match self {
            Self::Waiting(since) | Self::Answering(since) => Some(since),
            Self::Working(_) | Self::Leaving(_) => None,
        }
    }
}

/// One connection's slot; given back when dropped.
#[derive(Debug)]
pub struct SlotGuard {
    slots: Arc<ConnectionSlots>,
    number: u64,
}

impl ConnectionSlots {
    /// So many slots.
    pub fn new(most: usize) -> Self {
        Self {
            most: AtomicUsize::new(most),
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// From here on there are so many. Who has a slot keeps it.
    pub fn resize(&self, most: usize) {
        self.most.store(most, Ordering::SeqCst);
        self.tell(self.lock());
    }

    /// Takes a slot. Where there is none, the connection whose sender has let it wait longest is closed; where all work, this waits.
    pub fn enter(self: &Arc<Self>, socket: &Arc<TcpStream>) -> SlotGuard {
        let mut state = self.lock();
        while state.taken.len() >= self.most.load(Ordering::SeqCst) {
            // It leaves its slot when its thread sees the end; one that is slow to see it is not waited for.
            if !state.is_anyone_leaving() {
                state.evict_longest_idle();
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
                state: SlotState::Waiting(Instant::now()),
            },
        );
        SlotGuard {
            slots: Arc::clone(self),
            number,
        }
    }

    /// Closes the connection whose sender has let it wait longest, so that it gives back what it holds.
    pub fn evict_longest_idle(&self) {
        self.lock().evict_longest_idle();
    }

    /// Whether every slot is taken by one that works, none for longer than this.
    pub fn are_saturated(&self, limit: Duration) -> bool {
        let state = self.lock();
        let works = |entry: &Entry| matches!(entry.state, SlotState::Working(since) if since.elapsed() < limit);
        state.taken.len() >= self.most.load(Ordering::SeqCst) && state.taken.values().all(works)
    }

    /// Closes all connections that wait for their sender; an answer on its way is left to arrive.
    pub fn close_waiting(&self) {
        for entry in self
            .lock()
            .taken
            .values()
            .filter(|entry| matches!(entry.state, SlotState::Waiting(_)))
        {
            let _ = entry.socket.shutdown(Shutdown::Both);
        }
    }

    /// Wakes who waits for a slot: only the accepting thread does.
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
    fn evict_longest_idle(&mut self) {
        let candidates = self
            .taken
            .values_mut()
            .filter_map(|entry| Some((entry.state.since()?, entry)));
        if let Some((_, entry)) = candidates.min_by_key(|(since, _)| *since) {
            let _ = entry.socket.shutdown(Shutdown::Both);
            entry.state = SlotState::Leaving(Instant::now());
        }
    }

    fn is_anyone_leaving(&self) -> bool {
        let leaves = |entry: &Entry| matches!(entry.state, SlotState::Leaving(since) if since.elapsed() < LEAVING_LIMIT);
        self.taken.values().any(leaves)
    }
}

impl SlotGuard {
    /// From here on the connection may be closed for the sake of another, or at the end.
    pub fn waits(&self) {
        self.set(SlotState::Waiting(Instant::now()));
    }

    /// From here on the connection is not closed.
    pub fn works(&self) {
        self.set(SlotState::Working(Instant::now()));
    }

    /// From here on the connection may be closed for the sake of another.
    pub fn answers(&self) {
        self.set(SlotState::Answering(Instant::now()));
    }

    fn set(&self, state: SlotState) {
        let mut all = self.slots.lock();
        if let Some(entry) = all.taken.get_mut(&self.number) {
            entry.state = state;
        }
        // Somebody may wait for one that can give way.
        self.slots.tell(all);
    }
}

impl Drop for SlotGuard {
    fn drop(&mut self) {
        let mut all = self.slots.lock();
        all.taken.remove(&self.number);
        self.slots.tell(all);
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
        let slots = Arc::new(ConnectionSlots::new(3));
        let (busy, waiting, later, newcomer) = (socket(), socket(), socket(), socket());
        let busy_place = slots.enter(&busy.0);
        busy_place.works();
        let waiting_place = slots.enter(&waiting.0);
        let later_place = slots.enter(&later.0);
        let serving = {
            let socket = Arc::clone(&waiting.0);
            thread::spawn(move || {
                let ended = (&*socket).read(&mut [0]).unwrap();
                drop(waiting_place);
                ended
            })
        };
        let slot = slots.enter(&newcomer.0);
        assert_eq!(serving.join().unwrap(), 0);
        drop((slot, busy_place, later_place));
        assert!(slots.lock().taken.is_empty());
    }
}
