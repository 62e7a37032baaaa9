//! Limits the number of open connections, and how many of them may process notifications.
//!
//! A few connections are never used for notifications. So there is always one that can be evicted for a new connection, which
//! then gets its response at once: a page of metrics, or a 503. This module knows sockets only in order to close them.

use std::collections::BTreeMap;
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

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
const TAKE_TIMEOUT: Duration = Duration::from_secs(1);

/// The slots of a server.
#[derive(Debug)]
pub struct ConnectionSlots {
    table: Mutex<SlotTable>,
    /// A slot became free or changed its state.
    changed: Condvar,
}

#[derive(Debug)]
struct SlotTable {
    max: usize,
    taken: BTreeMap<u64, Slot>,
    next_id: u64,
    /// How many slots are receiving or working.
    notifications: usize,
}

#[derive(Debug)]
struct Slot {
    socket: Arc<TcpStream>,
    state: SlotState,
    /// The one with the earliest time is evicted first.
    since: Instant,
    /// When it was accepted, or its last notification ended.
    idle_since: Instant,
}

/// What a connection does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotState {
    /// In a TLS handshake: can be evicted.
    Handshaking,
    /// Waiting for a request: can be evicted.
    Idle,
    /// Reading a request that is not known to be an authorized notification: can be evicted.
    Reading,
    /// Writing the response to anything but a notification: can be evicted.
    Answering,
    /// Reading the body of an authorized notification.
    Receiving,
    /// Processing a notification, up to the end of its response: a shutdown waits for it.
    Working,
    /// Evicted; its thread has not ended yet.
    Leaving,
}

impl SlotState {
    fn is_evictable(self) -> bool {
        match self {
            Self::Handshaking | Self::Idle | Self::Reading | Self::Answering => true,
            Self::Receiving | Self::Working | Self::Leaving => false,
        }
    }

    fn is_notification(self) -> bool {
        matches!(self, Self::Receiving | Self::Working)
    }
}

/// How many slots are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotUsage {
    /// Open connections.
    pub connections: usize,
    /// The ones among them that process a notification.
    pub notifications: usize,
    /// How many may process one at once.
    pub max_notifications: usize,
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
        let table = SlotTable {
            max: max.max(2),
            taken: BTreeMap::new(),
            next_id: 0,
            notifications: 0,
        };
        Self {
            table: Mutex::new(table),
            changed: Condvar::new(),
        }
    }

    /// Changes the number of slots. Open connections keep theirs until they are evicted.
    pub fn resize(&self, max: usize) {
        self.table.lock().max = max.max(2);
    }

    /// How many slots are used.
    pub fn usage(&self) -> SlotUsage {
        let table = self.table.lock();
        SlotUsage {
            connections: table.taken.len(),
            notifications: table.notifications,
            max_notifications: table.max_notifications(),
        }
    }

    /// Takes a slot. Where all are taken, the longest idle connection is evicted. `None` where none was free in time.
    pub fn take(self: &Arc<Self>, socket: &Arc<TcpStream>) -> Option<SlotGuard> {
        let deadline = Instant::now() + TAKE_TIMEOUT;
        let mut table = self.table.lock();
        while table.is_full() {
            let now = Instant::now();
            if now >= deadline {
                return None;
            }
            let excess = table.taken.len() + 1 - table.max;
            let retry_at = table.evict(excess, now.checked_sub(MIN_IDLE));
            let until = retry_at.map_or(deadline, |since| deadline.min(since + MIN_IDLE));
            self.changed
                .wait_while_until(&mut table, |table| table.is_full(), until);
        }
        let id = table.next_id;
        table.next_id += 1;
        let now = Instant::now();
        let slot = Slot {
            socket: Arc::clone(socket),
            state: SlotState::Idle,
            since: now,
            idle_since: now,
        };
        table.taken.insert(id, slot);
        Some(SlotGuard {
            slots: Arc::clone(self),
            id,
        })
    }

    /// Closes the connection that has been idle for the longest time.
    pub fn evict_longest_idle(&self) {
        let mut table = self.table.lock();
        let leaving = table.count(SlotState::Leaving);
        table.evict(leaving + 1, Some(Instant::now()));
    }

    /// Closes every connection that processes no notification, except for a response on its way, and waits until no
    /// notification is being processed. Returns how many are left at the deadline.
    pub fn drain(&self, deadline: Instant) -> usize {
        let mut table = self.table.lock();
        for slot in table.taken.values() {
            if !matches!(slot.state, SlotState::Answering | SlotState::Working) {
                let _ = slot.socket.shutdown(Shutdown::Both);
            }
        }
        let is_working = |table: &mut SlotTable| table.count(SlotState::Working) > 0;
        self.changed
            .wait_while_until(&mut table, is_working, deadline);
        table.count(SlotState::Working)
    }
}

impl Slot {
    /// Every change of state goes through here. Returns whether there is one.
    fn enter(&mut self, new: SlotState, now: Instant) -> bool {
        self.since = match (self.state, new) {
            // An evicted connection stays one, although its thread may not have noticed yet. A notification is worked on until
            // its response is written.
            (SlotState::Leaving, _) | (SlotState::Working, SlotState::Answering) => return false,
            (SlotState::Working, SlotState::Idle) => {
                self.idle_since = now;
                now
            }
            // Other requests, which need no token, do not renew the age: a connection with only such is evicted first.
            (_, SlotState::Idle) => self.idle_since,
            _ => now,
        };
        self.state = new;
        true
    }

    fn evict(&mut self) {
        let _ = self.socket.shutdown(Shutdown::Both);
        self.enter(SlotState::Leaving, Instant::now());
    }
}

impl SlotTable {
    /// Closes the connections that have been idle for the longest time, until `count` connections are leaving. Where the next
    /// one has not been idle since `limit`, this returns since when it has.
    fn evict(&mut self, count: usize, limit: Option<Instant>) -> Option<Instant> {
        for _ in self.count(SlotState::Leaving)..count {
            let slot = self.longest(SlotState::is_evictable)?;
            if limit.is_none_or(|limit| slot.since > limit) {
                return Some(slot.since);
            }
            slot.evict();
        }
        None
    }

    /// Of the slots in some states, the one that is evicted first.
    fn longest(&mut self, condition: impl Fn(SlotState) -> bool) -> Option<&mut Slot> {
        self.taken
            .values_mut()
            .filter(|slot| condition(slot.state))
            .min_by_key(|slot| slot.since)
    }

    fn is_full(&self) -> bool {
        self.taken.len() >= self.max
    }

    fn count(&self, state: SlotState) -> usize {
        let slots = self.taken.values();
        slots.filter(|slot| slot.state == state).count()
    }

    fn set(&mut self, id: u64, new: SlotState) -> bool {
        let Some(slot) = self.taken.get_mut(&id) else {
            return false;
        };
        let old = slot.state;
        let is_changed = slot.enter(new, Instant::now());
        self.notifications += usize::from(slot.state.is_notification());
        self.notifications -= usize::from(old.is_notification());
        is_changed
    }

    fn max_notifications(&self) -> usize {
        self.max - RESERVED.min(self.max / 2)
    }
}

impl SlotGuard {
    /// How many slots are used, this one included.
    pub fn usage(&self) -> SlotUsage {
        self.slots.usage()
    }

    /// Reports what the connection does now. A TLS handshake and a notification begin with the methods below, which limit them.
    pub fn set(&self, new: SlotState) {
        self.slots.table.lock().set(self.id, new);
        self.slots.changed.notify_all();
    }

    /// A TLS handshake begins. Where there are too many, it waits for a moment, and then the one that has lasted longest is
    /// evicted.
    pub fn set_handshaking(&self) {
        let mut table = self.slots.table.lock();
        let is_full = |table: &mut SlotTable| table.count(SlotState::Handshaking) >= MAX_HANDSHAKES;
        let deadline = Instant::now() + HANDSHAKE_WAIT;
        self.slots
            .changed
            .wait_while_until(&mut table, is_full, deadline);
        table.set(self.id, SlotState::Handshaking);
        if table.count(SlotState::Handshaking) > MAX_HANDSHAKES
            && let Some(slot) = table.longest(|state| state == SlotState::Handshaking)
        {
            slot.evict();
        }
    }

    /// The body of an authorized notification is next. The error is the number of notifications that take all slots for them.
    pub fn try_set_receiving(&self) -> Result<(), usize> {
        let mut table = self.slots.table.lock();
        let is_free = table.notifications < table.max_notifications();
        if is_free && table.set(self.id, SlotState::Receiving) {
            Ok(())
        } else {
            Err(table.notifications)
        }
    }
}

impl Drop for SlotGuard {
    fn drop(&mut self) {
        let mut table = self.slots.table.lock();
        if let Some(slot) = table.taken.remove(&self.id) {
            table.notifications -= usize::from(slot.state.is_notification());
        }
        self.slots.changed.notify_all();
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

    /// The open connections, and the notifications among them.
    fn used(slots: &ConnectionSlots) -> (usize, usize) {
        let usage = slots.usage();
        (usage.connections, usage.notifications)
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
            .map(|(socket, _)| slots.take(socket).unwrap())
            .collect();
        // The oldest two go on: one sends a notification, one begins a request.
        assert!(guards[0].try_set_receiving().is_ok());
        guards[0].set(SlotState::Working);
        guards[1].set(SlotState::Reading);
        let mut guards = guards.into_iter();
        let kept: Vec<_> = guards.by_ref().take(2).collect();
        let evicted = leave_when_closed(&sockets[2].0, guards.next().unwrap());
        let newcomer = slots.take(&sockets[4].0).unwrap();
        evicted.join().unwrap();
        assert_eq!(used(&slots), (4, 1));
        drop((kept, guards, newcomer));
        assert_eq!(used(&slots), (0, 0));
    }

    #[test]
    fn requests_without_a_notification_do_not_renew_the_age_of_a_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let slots = Arc::new(ConnectionSlots::new(3));
        let sockets: Vec<_> = (0..4).map(|_| connection(&listener)).collect();
        let enter = |index: usize| slots.take(&sockets[index].0).unwrap();
        let (notifies, busy, silent) = (enter(0), enter(1), enter(2));
        for guard in [&notifies, &busy] {
            guard.set(SlotState::Reading);
        }
        assert!(notifies.try_set_receiving().is_ok());
        notifies.set(SlotState::Working);
        for guard in [&notifies, &busy] {
            guard.set(SlotState::Answering);
            guard.set(SlotState::Idle);
        }
        let evicted = leave_when_closed(&sockets[1].0, busy);
        let newcomer = enter(3);
        evicted.join().unwrap();
        drop((notifies, silent, newcomer));
    }

    #[test]
    fn a_change_of_state_renews_the_age_only_after_a_notification() {
        use SlotState::{Answering, Handshaking, Idle, Leaving, Reading, Receiving, Working};
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (socket, _peer) = connection(&listener);
        let accepted = Instant::now();
        let (before, now) = (accepted + MIN_IDLE, accepted + 2 * MIN_IDLE);
        for (old, new, changed) in [
            (Idle, Handshaking, Some((now, accepted))),
            (Handshaking, Reading, Some((now, accepted))),
            (Idle, Reading, Some((now, accepted))),
            (Reading, Receiving, Some((now, accepted))),
            (Reading, Answering, Some((now, accepted))),
            (Receiving, Working, Some((now, accepted))),
            (Receiving, Answering, Some((now, accepted))),
            (Working, Answering, None),
            (Working, Idle, Some((now, now))),
            (Answering, Idle, Some((accepted, accepted))),
            (Leaving, Working, None),
            (Leaving, Idle, None),
        ] {
            let mut slot = Slot {
                socket: Arc::clone(&socket),
                state: old,
                since: before,
                idle_since: accepted,
            };
            assert_eq!(slot.enter(new, now), changed.is_some(), "{old:?} {new:?}");
            let state = if changed.is_some() { new } else { old };
            let (since, idle_since) = changed.unwrap_or((before, accepted));
            assert_eq!(
                (slot.state, slot.since, slot.idle_since),
                (state, since, idle_since),
                "{old:?} {new:?}"
            );
        }
    }

    #[test]
    fn the_longest_of_too_many_handshakes_is_evicted() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let slots = Arc::new(ConnectionSlots::new(2000));
        let (socket, _peer) = connection(&listener);
        let enter = || slots.take(&socket).unwrap();
        let (idle, first) = (enter(), enter());
        first.set_handshaking();
        let others: Vec<_> = (0..MAX_HANDSHAKES).map(|_| enter()).collect();
        let state = |guard: &SlotGuard| slots.table.lock().taken[&guard.id].state;
        for (number, guard) in others.iter().enumerate() {
            assert_ne!(state(&first), SlotState::Leaving, "{number}");
            guard.set_handshaking();
        }
        assert_eq!(state(&first), SlotState::Leaving);
        let evicted = others.iter().chain([&idle]);
        assert!(evicted.map(state).all(|state| state != SlotState::Leaving));
        // A finished one makes space.
        others[0].set(SlotState::Reading);
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
                .map(|_| slots.take(&socket).unwrap())
                .collect();
            let received = guards
                .iter()
                .filter(|slot| slot.try_set_receiving().is_ok());
            assert_eq!(received.count(), notifications, "{max}");
            guards[0].set(SlotState::Answering);
            assert!(guards[max.max(2) - 1].try_set_receiving().is_ok(), "{max}");
            drop(guards);
            assert_eq!(used(&slots), (0, 0));
        }
    }

    #[test]
    fn a_connection_that_does_not_leave_delays_a_new_one_for_a_limited_time() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let slots = Arc::new(ConnectionSlots::new(2));
        let (socket, _peer) = connection(&listener);
        let guards = [slots.take(&socket).unwrap(), slots.take(&socket).unwrap()];
        assert!(slots.take(&socket).is_none());
        // The evicted one stays evicted.
        guards[0].set(SlotState::Working);
        assert_eq!(slots.usage().notifications, 0);
        drop(guards);
        assert!(slots.take(&socket).is_some());
    }

    #[test]
    fn draining_closes_idle_connections_and_waits_for_notifications() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let slots = Arc::new(ConnectionSlots::new(4));
        let (idle, working) = (connection(&listener), connection(&listener));
        let _idle_slot = slots.take(&idle.0).unwrap();
        let working_slot = slots.take(&working.0).unwrap();
        working_slot.set(SlotState::Working);
        assert_eq!(slots.drain(Instant::now()), 1);
        assert_eq!((&idle.1).read(&mut [0]).unwrap(), 0);
        let worker = thread::spawn(move || drop(working_slot));
        assert_eq!(slots.drain(Instant::now() + Duration::from_mins(1)), 0);
        worker.join().unwrap();
    }
}
