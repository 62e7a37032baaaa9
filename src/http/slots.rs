//! Limits the number of open connections: when all slots are taken, the longest idle connection is closed.

use std::collections::BTreeMap;
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

/// How long an evicted connection may take to end before another one is evicted.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(1);

/// The slots of a server.
#[derive(Debug)]
pub struct ConnectionSlots {
    state: Mutex<SlotTable>,
    changed: Condvar,
}

#[derive(Debug)]
struct SlotTable {
    max: usize,
    taken: BTreeMap<u64, Slot>,
    next_id: u64,
    /// Whether the accept thread waits for a slot. Waking it without need would cost each request three system calls.
    is_awaited: bool,
}

#[derive(Debug)]
struct Slot {
    socket: Arc<TcpStream>,
    state: SlotState,
}

/// What a connection does, and since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SlotState {
    /// Its sender is idle, or sends a request that is not authorized and complete yet.
    Waiting(Instant),
    /// An authorized notification is processed: must not be evicted.
    Working(Instant),
    /// Its sender reads a response.
    Answering(Instant),
    /// It has been evicted, and its thread has not ended yet.
    Leaving(Instant),
}

impl SlotState {
    fn evictable_since(self) -> Option<Instant> {
        match self {
            Self::Waiting(since) | Self::Answering(since) => Some(since),
            Self::Working(_) | Self::Leaving(_) => None,
        }
    }
}

/// One connection's slot, given back when it is dropped.
#[derive(Debug)]
pub struct SlotGuard {
    slots: Arc<ConnectionSlots>,
    id: u64,
}

impl ConnectionSlots {
    /// A number of free slots.
    pub fn new(max: usize) -> Self {
        let state = SlotTable {
            max,
            taken: BTreeMap::new(),
            next_id: 0,
            is_awaited: false,
        };
        Self {
            state: Mutex::new(state),
            changed: Condvar::new(),
        }
    }

    /// Changes the number of slots. Open connections keep theirs.
    pub fn resize(&self, max: usize) {
        let mut state = self.state.lock();
        state.max = max;
        self.notify(&state);
    }

    /// How many slots are taken.
    pub fn len(&self) -> usize {
        self.state.lock().taken.len()
    }

    /// Takes a slot. Where all are taken, the longest idle connection is evicted; where all are working, this waits.
    pub fn enter(self: &Arc<Self>, socket: &Arc<TcpStream>) -> SlotGuard {
        let mut state = self.state.lock();
        while state.taken.len() >= state.max {
            if !state.is_one_leaving() {
                state.evict_longest_idle();
            }
            state.is_awaited = true;
            self.changed.wait_for(&mut state, LEAVE_TIMEOUT);
        }
        state.is_awaited = false;
        let id = state.next_id;
        state.next_id += 1;
        let slot = Slot {
            socket: Arc::clone(socket),
            state: SlotState::Waiting(Instant::now()),
        };
        state.taken.insert(id, slot);
        SlotGuard {
            slots: Arc::clone(self),
            id,
        }
    }

    /// Closes the connection that has been idle for the longest time.
    pub fn evict_longest_idle(&self) {
        self.state.lock().evict_longest_idle();
    }

    /// Whether every slot is taken and working, none for longer than `limit`.
    pub fn is_saturated(&self, limit: Duration) -> bool {
        let state = self.state.lock();
        let is_working = |slot: &Slot| matches!(slot.state, SlotState::Working(since) if since.elapsed() < limit);
        state.taken.len() >= state.max && state.taken.values().all(is_working)
    }

    /// Closes every connection that waits for its sender. A response on its way still arrives.
    pub fn close_waiting(&self) {
        let state = self.state.lock();
        let is_waiting = |slot: &&Slot| matches!(slot.state, SlotState::Waiting(_));
        for slot in state.taken.values().filter(is_waiting) {
            let _ = slot.socket.shutdown(Shutdown::Both);
        }
    }

    fn notify(&self, state: &MutexGuard<'_, SlotTable>) {
        if state.is_awaited {
            self.changed.notify_all();
        }
    }
}

impl SlotTable {
    fn evict_longest_idle(&mut self) {
        let candidates = self
            .taken
            .values_mut()
            .filter_map(|slot| Some((slot.state.evictable_since()?, slot)));
        if let Some((_, slot)) = candidates.min_by_key(|(since, _)| *since) {
            let _ = slot.socket.shutdown(Shutdown::Both);
            slot.state = SlotState::Leaving(Instant::now());
        }
    }

    fn is_one_leaving(&self) -> bool {
        let is_leaving = |slot: &Slot| matches!(slot.state, SlotState::Leaving(since) if since.elapsed() < LEAVE_TIMEOUT);
        self.taken.values().any(is_leaving)
    }
}

impl SlotGuard {
    /// The connection waits for its sender: it may be evicted, and is closed by a shutdown.
    pub fn set_waiting(&self) {
        self.set(SlotState::Waiting(Instant::now()));
    }

    /// The connection must not be closed.
    pub fn set_working(&self) {
        self.set(SlotState::Working(Instant::now()));
    }

    /// The connection may be evicted, and is not closed by a shutdown.
    pub fn set_answering(&self) {
        self.set(SlotState::Answering(Instant::now()));
    }

    fn set(&self, new: SlotState) {
        let mut state = self.slots.state.lock();
        if let Some(slot) = state.taken.get_mut(&self.id) {
            slot.state = new;
        }
        // It may have become evictable.
        self.slots.notify(&state);
    }
}

impl Drop for SlotGuard {
    fn drop(&mut self) {
        let mut state = self.slots.state.lock();
        state.taken.remove(&self.id);
        self.slots.notify(&state);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    #[test]
    fn the_longest_idle_connection_is_evicted_and_a_working_one_is_not() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = || {
            let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            (Arc::new(stream), listener.accept().unwrap().0)
        };
        let slots = Arc::new(ConnectionSlots::new(3));
        let (working, idle, later, newcomer) = (socket(), socket(), socket(), socket());
        let working_slot = slots.enter(&working.0);
        working_slot.set_working();
        let idle_slot = slots.enter(&idle.0);
        let later_slot = slots.enter(&later.0);
        let idle_thread = {
            let socket = Arc::clone(&idle.0);
            thread::spawn(move || {
                let count = (&*socket).read(&mut [0]).unwrap();
                drop(idle_slot);
                count
            })
        };
        let slot = slots.enter(&newcomer.0);
        assert_eq!(idle_thread.join().unwrap(), 0);
        drop((slot, working_slot, later_slot));
        assert_eq!(slots.len(), 0);
    }
}
