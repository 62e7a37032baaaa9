//! Limits the number of open connections, and how many of them may process notifications.
//!
//! A few connections are never used for notifications. So there is always one that can be evicted for a new connection, which
//! then gets its response at once: a page of metrics, or a 503. This module knows sockets only in order to close them.

use std::collections::BTreeMap;
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

/// This number of connections, or half of them where they are few, is not used for notifications.
const RESERVED: usize = 8;

/// A connection that waits for a shorter time is not evicted: its request may be on its way, or its thread may have had no
/// processor yet. A burst of requests is answered one after the other, and does not evict itself.
const MIN_IDLE: Duration = Duration::from_millis(50);

/// The most TLS handshakes at once. Each may hold 65 KiB in OpenSSL, or 213 KiB where the sender has it repeated with a long
/// `ClientHello` (measured).
const MAX_HANDSHAKES: usize = 256;

/// How long a handshake waits for others to end before the longest one is evicted: a burst of new connections, as of an
/// Alertmanager that starts, does not evict itself.
const HANDSHAKE_WAIT: Duration = Duration::from_millis(200);

/// How long a new connection waits for a slot.
const ENTER_TIMEOUT: Duration = Duration::from_secs(1);

/// The slots of a server.
#[derive(Debug)]
pub struct ConnectionSlots {
    state: Mutex<SlotTable>,
    /// A slot became free, or no notification is left; notified only while it is awaited.
    changed: Condvar,
}

#[derive(Debug)]
struct SlotTable {
    max: usize,
    taken: BTreeMap<u64, Slot>,
    next_id: u64,
    /// How many slots are receiving or working.
    notifications: usize,
    /// How many threads wait for `changed`. Notifying without need would cost each request three system calls.
    waiters: usize,
}

#[derive(Debug)]
struct Slot {
    socket: Arc<TcpStream>,
    /// When it was accepted, or its last notification ended: other requests, which need no token, do not renew its age.
    idle_since: Instant,
    state: SlotState,
}

/// What a connection does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SlotState {
    /// In a TLS handshake since then: can be evicted.
    Handshaking(Instant),
    /// Idle, or reading a request that is not known to be an authorized notification, since then: can be evicted.
    Waiting(Instant),
    /// Writing the response to anything but a notification, since then: can be evicted.
    Answering(Instant),
    /// Reading the body of an authorized notification.
    Receiving,
    /// Processing a notification, up to the end of its response: a shutdown waits for it.
    Working,
    /// Evicted; its thread has not ended yet.
    Leaving,
}

impl SlotState {
    fn evictable_since(self) -> Option<Instant> {
        match self {
            Self::Handshaking(since) | Self::Waiting(since) | Self::Answering(since) => Some(since),
            Self::Receiving | Self::Working | Self::Leaving => None,
        }
    }

    fn is_notification(self) -> bool {
        matches!(self, Self::Receiving | Self::Working)
    }
}

/// How many slots are used, for metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SlotUsage {
    /// Open connections.
    pub connections: usize,
    /// The ones among them that process a notification.
    pub notifications: usize,
}

/// One connection's slot, given back when it is dropped.
#[derive(Debug)]
pub struct SlotGuard {
    slots: Arc<ConnectionSlots>,
    id: u64,
}

impl ConnectionSlots {
    /// A number of free slots; at least 2, so that one can process notifications and another one is left.
    pub fn new(max: usize) -> Self {
        let state = SlotTable {
            max: max.max(2),
            taken: BTreeMap::new(),
            next_id: 0,
            notifications: 0,
            waiters: 0,
        };
        Self {
            state: Mutex::new(state),
            changed: Condvar::new(),
        }
    }

    /// Changes the number of slots. Open connections keep theirs until they are evicted.
    pub fn resize(&self, max: usize) {
        self.state.lock().max = max.max(2);
    }

    /// How many slots are used.
    pub fn usage(&self) -> SlotUsage {
        let state = self.state.lock();
        SlotUsage {
            connections: state.taken.len(),
            notifications: state.notifications,
        }
    }

    /// How many slots notifications may use.
    pub fn max_notifications(&self) -> usize {
        self.state.lock().max_notifications()
    }

    /// Takes a slot. Where all are taken, the longest idle connection is evicted. `None` where none was free in time.
    pub fn enter(self: &Arc<Self>, socket: &Arc<TcpStream>) -> Option<SlotGuard> {
        let deadline = Instant::now() + ENTER_TIMEOUT;
        let mut state = self.state.lock();
        while state.is_full() {
            let now = Instant::now();
            if now >= deadline {
                return None;
            }
            let excess = state.taken.len() + 1 - state.max;
            let retry_at = state.evict(excess, now.checked_sub(MIN_IDLE));
            let until = retry_at.map_or(deadline, |since| deadline.min(since + MIN_IDLE));
            self.wait_while(&mut state, |state| state.is_full(), until);
        }
        let id = state.next_id;
        state.next_id += 1;
        let now = Instant::now();
        let slot = Slot {
            socket: Arc::clone(socket),
            idle_since: now,
            state: SlotState::Waiting(now),
        };
        state.taken.insert(id, slot);
        Some(SlotGuard {
            slots: Arc::clone(self),
            id,
        })
    }

    /// Closes the connection that has been idle for the longest time.
    pub fn evict_longest_idle(&self) {
        let mut state = self.state.lock();
        let leaving = state.leaving();
        state.evict(leaving + 1, Some(Instant::now()));
    }

    /// Closes every connection that processes no notification, except for a response on its way, and waits until no
    /// notification is being processed. Returns how many are left at the deadline.
    pub fn drain(&self, deadline: Instant) -> usize {
        let mut state = self.state.lock();
        for slot in state.taken.values() {
            if matches!(
                slot.state,
                SlotState::Handshaking(_) | SlotState::Waiting(_) | SlotState::Receiving
            ) {
                let _ = slot.socket.shutdown(Shutdown::Both);
            }
        }
        self.wait_while(&mut state, |state| state.working() > 0, deadline);
        state.working()
    }

    /// Waits until the condition is false, or for the deadline.
    fn wait_while(
        &self,
        state: &mut MutexGuard<'_, SlotTable>,
        condition: impl FnMut(&mut SlotTable) -> bool,
        deadline: Instant,
    ) {
        state.waiters += 1;
        self.changed.wait_while_until(state, condition, deadline);
        state.waiters -= 1;
    }
}

impl Slot {
    fn evict(&mut self) {
        let _ = self.socket.shutdown(Shutdown::Both);
        self.state = SlotState::Leaving;
    }
}

impl SlotTable {
    /// Closes the connections that have been idle for the longest time, until `count` connections are leaving. Where the next
    /// one has not been idle since `limit`, this returns since when it has.
    fn evict(&mut self, count: usize, limit: Option<Instant>) -> Option<Instant> {
        for _ in self.leaving()..count {
            let candidates = self
                .taken
                .values_mut()
                .filter_map(|slot| Some((slot.state.evictable_since()?, slot)));
            let (since, slot) = candidates.min_by_key(|(since, _)| *since)?;
            if limit.is_none_or(|limit| since > limit) {
                return Some(since);
            }
            slot.evict();
        }
        None
    }

    fn limit_handshakes(&mut self) {
        let is_handshaking = |slot: &&mut Slot| matches!(slot.state, SlotState::Handshaking(_));
        if self.handshakes() > MAX_HANDSHAKES {
            let candidates = self.taken.values_mut().filter(is_handshaking);
            if let Some(slot) = candidates.min_by_key(|slot| slot.state.evictable_since()) {
                slot.evict();
            }
        }
    }

    fn handshakes(&self) -> usize {
        self.count(|state| matches!(state, SlotState::Handshaking(_)))
    }

    fn is_full(&self) -> bool {
        self.taken.len() >= self.max
    }

    fn leaving(&self) -> usize {
        self.count(|state| state == SlotState::Leaving)
    }

    fn working(&self) -> usize {
        self.count(|state| state == SlotState::Working)
    }

    fn count(&self, condition: impl Fn(SlotState) -> bool) -> usize {
        let slots = self.taken.values();
        slots.filter(|slot| condition(slot.state)).count()
    }

    fn get(&self, id: u64) -> Option<SlotState> {
        self.taken.get(&id).map(|slot| slot.state)
    }

    fn set(&mut self, id: u64, new: SlotState) {
        // An evicted connection stays one, although its thread may not have noticed yet.
        if let Some(slot) = self.taken.get_mut(&id)
            && slot.state != SlotState::Leaving
        {
            let old = std::mem::replace(&mut slot.state, new);
            self.notifications += usize::from(new.is_notification());
            self.notifications -= usize::from(old.is_notification());
        }
    }

    fn max_notifications(&self) -> usize {
        self.max - RESERVED.min(self.max / 2)
    }
}

impl SlotGuard {
    /// The slots that this one belongs to.
    pub fn slots(&self) -> &ConnectionSlots {
        &self.slots
    }

    /// A TLS handshake begins. Where there are too many, it waits for a moment, and then the one that has lasted longest is
    /// evicted.
    pub fn set_handshaking(&self) {
        let mut state = self.slots.state.lock();
        let is_full = |state: &mut SlotTable| state.handshakes() >= MAX_HANDSHAKES;
        let deadline = Instant::now() + HANDSHAKE_WAIT;
        self.slots.wait_while(&mut state, is_full, deadline);
        state.set(self.id, SlotState::Handshaking(Instant::now()));
        state.limit_handshakes();
        self.notify(&state);
    }

    /// The connection begins to wait, for a request or for the rest of one. From now on its age counts for eviction.
    pub fn set_waiting(&self) {
        self.set(SlotState::Waiting(Instant::now()));
    }

    /// The response is written. A connection that only sends requests without a token becomes the first to be evicted.
    pub fn set_idle(&self) {
        let mut state = self.slots.state.lock();
        if let Some(slot) = state.taken.get_mut(&self.id) {
            if slot.state == SlotState::Working {
                slot.idle_since = Instant::now();
            }
            let idle = SlotState::Waiting(slot.idle_since);
            state.set(self.id, idle);
            self.notify(&state);
        }
    }

    /// The connection writes a response. After a notification it keeps working until that is done.
    pub fn set_answering(&self) {
        let mut state = self.slots.state.lock();
        if state.get(self.id) != Some(SlotState::Working) {
            state.set(self.id, SlotState::Answering(Instant::now()));
            self.notify(&state);
        }
    }

    /// The body of an authorized notification is next. False where the slots for notifications are taken.
    #[must_use]
    pub fn try_set_receiving(&self) -> bool {
        let mut state = self.slots.state.lock();
        let is_free = state.notifications < state.max_notifications()
            && state.get(self.id) != Some(SlotState::Leaving);
        if is_free {
            state.set(self.id, SlotState::Receiving);
        }
        is_free
    }

    /// The body is complete.
    pub fn set_working(&self) {
        self.set(SlotState::Working);
    }

    fn set(&self, new: SlotState) {
        let mut state = self.slots.state.lock();
        state.set(self.id, new);
        self.notify(&state);
    }

    fn notify(&self, state: &SlotTable) {
        if state.waiters > 0 {
            self.slots.changed.notify_all();
        }
    }
}

impl Drop for SlotGuard {
    fn drop(&mut self) {
        let mut state = self.slots.state.lock();
        if let Some(slot) = state.taken.remove(&self.id) {
            state.notifications -= usize::from(slot.state.is_notification());
        }
        self.notify(&state);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// Both ends of a connection.
    fn connection(listener: &TcpListener) -> (Arc<TcpStream>, TcpStream) {
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (Arc::new(listener.accept().unwrap().0), stream)
    }

    /// Gives a slot back when its socket is closed, as a connection's thread does.
    fn leave_when_closed(socket: &Arc<TcpStream>, slot: SlotGuard) -> thread::JoinHandle<()> {
        let socket = Arc::clone(socket);
        thread::spawn(move || {
            assert_eq!((&*socket).read(&mut [0]).unwrap(), 0);
            drop(slot);
        })
    }

    #[test]
    fn the_longest_idle_connection_is_evicted_and_one_that_began_a_request_is_not() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let slots = Arc::new(ConnectionSlots::new(4));
        let sockets: Vec<_> = (0..5).map(|_| connection(&listener)).collect();
        let guards: Vec<_> = sockets[..4]
            .iter()
            .map(|(socket, _)| slots.enter(socket).unwrap())
            .collect();
        // The oldest two go on: one sends a notification, one begins a request.
        assert!(guards[0].try_set_receiving());
        guards[0].set_working();
        guards[1].set_waiting();
        let mut guards = guards.into_iter();
        let kept: Vec<_> = guards.by_ref().take(2).collect();
        let evicted = leave_when_closed(&sockets[2].0, guards.next().unwrap());
        let newcomer = slots.enter(&sockets[4].0).unwrap();
        evicted.join().unwrap();
        let usage = SlotUsage {
            connections: 4,
            notifications: 1,
        };
        assert_eq!(slots.usage(), usage);
        drop((kept, guards, newcomer));
        assert_eq!(slots.usage(), SlotUsage::default());
    }

    #[test]
    fn requests_without_a_notification_do_not_renew_the_age_of_a_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let slots = Arc::new(ConnectionSlots::new(3));
        let sockets: Vec<_> = (0..4).map(|_| connection(&listener)).collect();
        let enter = |index: usize| slots.enter(&sockets[index].0).unwrap();
        let (notifies, busy, silent) = (enter(0), enter(1), enter(2));
        for guard in [&notifies, &busy] {
            guard.set_waiting();
        }
        assert!(notifies.try_set_receiving());
        notifies.set_working();
        for guard in [&notifies, &busy] {
            guard.set_answering();
            guard.set_idle();
        }
        let evicted = leave_when_closed(&sockets[1].0, busy);
        let newcomer = enter(3);
        evicted.join().unwrap();
        drop((notifies, silent, newcomer));
    }

    #[test]
    fn the_longest_of_too_many_handshakes_is_evicted() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let slots = Arc::new(ConnectionSlots::new(2000));
        let (socket, _peer) = connection(&listener);
        let enter = || slots.enter(&socket).unwrap();
        let (idle, first) = (enter(), enter());
        first.set_handshaking();
        let others: Vec<_> = (0..MAX_HANDSHAKES).map(|_| enter()).collect();
        let state = |guard: &SlotGuard| slots.state.lock().get(guard.id).unwrap();
        for (number, guard) in others.iter().enumerate() {
            assert_ne!(state(&first), SlotState::Leaving, "{number}");
            guard.set_handshaking();
        }
        assert_eq!(state(&first), SlotState::Leaving);
        let evicted = others.iter().chain([&idle]);
        assert!(evicted.map(state).all(|state| state != SlotState::Leaving));
        // A finished one makes space.
        others[0].set_waiting();
        first.set_handshaking();
        idle.set_handshaking();
        assert_ne!(state(&others[1]), SlotState::Leaving);
    }

    #[test]
    fn notifications_leave_slots_for_others() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (socket, _peer) = connection(&listener);
        for (max, notifications) in [
            (0, 1),
            (1, 1),
            (2, 1),
            (3, 2),
            (7, 4),
            (15, 8),
            (16, 8),
            (17, 9),
            (1024, 1016),
        ] {
            let slots = Arc::new(ConnectionSlots::new(max));
            let guards: Vec<_> = (0..max.max(2))
                .map(|_| slots.enter(&socket).unwrap())
                .collect();
            let received = guards.iter().filter(|slot| slot.try_set_receiving());
            assert_eq!(received.count(), notifications, "{max}");
            guards[0].set_answering();
            assert!(guards[max.max(2) - 1].try_set_receiving(), "{max}");
            drop(guards);
            assert_eq!(slots.usage(), SlotUsage::default());
        }
    }

    #[test]
    fn a_connection_that_does_not_leave_delays_a_new_one_for_a_limited_time() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let slots = Arc::new(ConnectionSlots::new(2));
        let (socket, _peer) = connection(&listener);
        let guards = [slots.enter(&socket).unwrap(), slots.enter(&socket).unwrap()];
        assert!(slots.enter(&socket).is_none());
        // The evicted one stays evicted.
        guards[0].set_working();
        assert_eq!(slots.usage().notifications, 0);
        drop(guards);
        assert!(slots.enter(&socket).is_some());
    }

    #[test]
    fn draining_closes_idle_connections_and_waits_for_notifications() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let slots = Arc::new(ConnectionSlots::new(4));
        let (idle, working) = (connection(&listener), connection(&listener));
        let _idle_slot = slots.enter(&idle.0).unwrap();
        let working_slot = slots.enter(&working.0).unwrap();
        working_slot.set_working();
        assert_eq!(slots.drain(Instant::now()), 1);
        assert_eq!((&idle.1).read(&mut [0]).unwrap(), 0);
        let worker = thread::spawn(move || drop(working_slot));
        assert_eq!(slots.drain(Instant::now() + Duration::from_mins(1)), 0);
        worker.join().unwrap();
    }
}
