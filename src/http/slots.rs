//! Limits the number of open connections, and how many of them may process notifications.
//!
//! A few slots are never used for notifications. So there is always one that can be evicted for a new connection, which
//! then gets its response soon: a page of metrics, or a 503. This module knows sockets only in order to close them.
//!
//! | state of a connection | from | until |
//! | --- | --- | --- |
//! | *waiting* | it is accepted; its handshake, or the response to a notification, has ended | a handshake or a notification begins, or it is evicted |
//! | *handshaking* | its TLS handshake begins | that has ended, or it is evicted |
//! | *notifying* | a notification is authorized, and not too many are processed | its response has ended; it is never evicted |
//! | *leaving* | it is evicted: its socket is shut down, which ends its thread soon | its thread ends |
//!
//! Other requests are answered while it is waiting. The oldest connection is evicted first. Its age counts from when it was
//! accepted, or its last notification ended: requests that need no token do not renew it.

use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// This number of connections, or half of them (rounded down) where that is less, is not used for notifications.
const RESERVED: usize = 8;

/// A younger connection is not evicted for a new one: its request may be on its way, or its thread may not have run yet. A burst
/// of requests is answered one after the other, and does not evict itself.
const MIN_AGE: Duration = Duration::from_millis(50);

/// The most TLS handshakes at once. Each holds 61 KiB in OpenSSL, or up to 196 KiB where the sender announces a long
/// `ClientHello`, in the first or in the second one (measured).
const MAX_HANDSHAKES: usize = 256;

/// How long a handshake waits for others to end before the oldest one is evicted: a burst of new connections, as of an
/// Alertmanager that starts, does not evict itself.
const HANDSHAKE_WAIT: Duration = Duration::from_millis(200);

/// How long a new connection waits for a slot.
const TAKE_TIMEOUT: Duration = Duration::from_secs(1);

/// The slots of a server.
#[derive(Debug, Default)]
pub struct ConnectionSlots {
    table: Mutex<SlotTable>,
    /// A slot became free, or a handshake or a notification has ended.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct SlotTable {
    max: usize,
    /// In the order in which they were taken. One piece of memory: every notification counts them.
    taken: Vec<Slot>,
}

#[derive(Debug)]
struct Slot {
    id: u64,
    socket: Arc<TcpStream>,
    state: SlotState,
    /// When it was accepted, or its last notification ended.
    since: Instant,
}

/// What a connection does: see the table above.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SlotState {
    Handshaking,
    Waiting,
    Notifying,
    Leaving,
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
    /// All slots, this one included.
    pub slots: Arc<ConnectionSlots>,
    id: u64,
}

impl ConnectionSlots {
    /// A number of free slots.
    pub fn new(max: usize) -> Self {
        let slots = Self::default();
        slots.resize(max);
        slots
    }

    /// Changes the number of slots; at least 2, so that one can process notifications and another one is left. Open connections
    /// keep theirs until they close, or are evicted for new ones.
    pub fn resize(&self, max: usize) {
        self.table.lock().max = max.max(2);
    }

    /// How many slots are used.
    pub fn usage(&self) -> SlotUsage {
        let table = self.table.lock();
        SlotUsage {
            connections: table.taken.len(),
            notifications: table.count(SlotState::Notifying),
            max_notifications: table.max_notifications(),
        }
    }

    /// Takes a slot. Where all are taken, the oldest connection is evicted. `None` where no slot is free within
    /// [`TAKE_TIMEOUT`].
    pub fn take(self: &Arc<Self>, socket: &Arc<TcpStream>) -> Option<SlotGuard> {
        let deadline = Instant::now() + TAKE_TIMEOUT;
        let mut table = self.table.lock();
        while table.is_full() {
            let now = Instant::now();
            if now >= deadline {
                return None;
            }
            // There may be more than one after the number was lowered.
            let excess = table.taken.len() + 1 - table.max;
            let retry_at = table.evict(excess, MIN_AGE, now);
            let until = retry_at.map_or(deadline, |at| at.min(deadline));
            self.changed
                .wait_while_until(&mut table, |table| table.is_full(), until);
        }
        let id = table.taken.last().map_or(0, |last| last.id + 1);
        table.taken.push(Slot {
            id,
            socket: Arc::clone(socket),
            state: SlotState::Waiting,
            since: Instant::now(),
        });
        Some(SlotGuard {
            slots: Arc::clone(self),
            id,
        })
    }

    /// Evicts the oldest connection, for a caller that lacks something else: a file descriptor or a thread.
    pub fn evict_oldest(&self) {
        let mut table = self.table.lock();
        let leaving = table.count(SlotState::Leaving);
        table.evict(leaving + 1, Duration::ZERO, Instant::now());
    }

    /// Ends the input of every connection, and waits until no notification is being processed. Returns how many are left at
    /// the deadline. A response can still be written. A body that is incomplete fails; its sender gets a 503, and tries again. The
    /// caller has stopped accepting connections, and answers other requests with a 503.
    pub fn drain(&self, deadline: Instant) -> usize {
        let mut table = self.table.lock();
        for slot in &table.taken {
            let _ = slot.socket.shutdown(Shutdown::Read);
        }
        let has_notifications = |table: &mut SlotTable| table.count(SlotState::Notifying) > 0;
        self.changed
            .wait_while_until(&mut table, has_notifications, deadline);
        table.count(SlotState::Notifying)
    }
}

impl Slot {
    fn evict(&mut self) {
        let _ = self.socket.shutdown(Shutdown::Both);
        self.state = SlotState::Leaving;
    }
}

impl SlotTable {
    /// Evicts the oldest connections, until `count` are leaving. Where the next one is younger than `min_age`, this returns when
    /// it can be evicted.
    fn evict(&mut self, count: usize, min_age: Duration, now: Instant) -> Option<Instant> {
        let is_evictable = |state| matches!(state, SlotState::Handshaking | SlotState::Waiting);
        for _ in self.count(SlotState::Leaving)..count {
            let slot = self.oldest(is_evictable)?;
            let evictable_at = slot.since + min_age;
            if now < evictable_at {
                return Some(evictable_at);
            }
            slot.evict();
        }
        None
    }

    /// Of the slots in some states, the one that is evicted first.
    fn oldest(&mut self, is_candidate: impl Fn(SlotState) -> bool) -> Option<&mut Slot> {
        let slots = self.taken.iter_mut();
        let candidates = slots.filter(|slot| is_candidate(slot.state));
        candidates.min_by_key(|slot| slot.since)
    }

    fn is_full(&self) -> bool {
        self.taken.len() >= self.max
    }

    fn count(&self, state: SlotState) -> usize {
        let slots = self.taken.iter();
        slots.filter(|slot| slot.state == state).count()
    }

    /// Every change of a state except for an eviction. Returns the state, which stays [`SlotState::Leaving`] where it was.
    fn enter(&mut self, id: u64, new: SlotState) -> Option<SlotState> {
        let slot = self.taken.iter_mut().find(|slot| slot.id == id)?;
        // An evicted connection stays one, although its thread may not have noticed yet.
        if slot.state != SlotState::Leaving {
            if slot.state == SlotState::Notifying {
                slot.since = Instant::now();
            }
            slot.state = new;
        }
        Some(slot.state)
    }

    fn max_notifications(&self) -> usize {
        self.max - RESERVED.min(self.max / 2)
    }
}

impl SlotGuard {
    /// A TLS handshake begins. Where there are too many, it waits for a moment, and then the oldest one is evicted.
    pub fn begin_handshake(&self) {
        let mut table = self.slots.table.lock();
        let is_full = |table: &mut SlotTable| table.count(SlotState::Handshaking) >= MAX_HANDSHAKES;
        let deadline = Instant::now() + HANDSHAKE_WAIT;
        self.slots
            .changed
            .wait_while_until(&mut table, is_full, deadline);
        table.enter(self.id, SlotState::Handshaking);
        if table.count(SlotState::Handshaking) > MAX_HANDSHAKES
            && let Some(slot) = table.oldest(|state| state == SlotState::Handshaking)
        {
            slot.evict();
        }
    }

    /// The body of an authorized notification is next. The error is the number of notifications in progress: they take all slots
    /// for notifications, or this connection has been evicted, and its sender will not see the response.
    pub fn begin_notification(&self) -> Result<(), usize> {
        let mut table = self.slots.table.lock();
        let notifications = table.count(SlotState::Notifying);
        let is_free = notifications < table.max_notifications();
        if is_free && table.enter(self.id, SlotState::Notifying) == Some(SlotState::Notifying) {
            Ok(())
        } else {
            Err(notifications)
        }
    }

    /// The handshake or the response has ended.
    pub fn end_work(&self) {
        self.slots.table.lock().enter(self.id, SlotState::Waiting);
        self.slots.changed.notify_all();
    }
}

impl Drop for SlotGuard {
    fn drop(&mut self) {
        (self.slots.table.lock().taken).retain(|slot| slot.id != self.id);
        self.slots.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// Both ends of a connection.
    fn connection() -> (Arc<TcpStream>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
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
    fn the_oldest_connection_without_a_notification_is_evicted() {
        let slots = Arc::new(ConnectionSlots::new(4));
        let sockets: Vec<_> = (0..6).map(|_| connection()).collect();
        let enter = |index: usize| slots.take(&sockets[index].0).unwrap();
        let (notifying, notified, first, second) = (enter(0), enter(1), enter(2), enter(3));
        assert!(notifying.begin_notification().is_ok());
        assert!(notified.begin_notification().is_ok());
        notified.end_work();
        // A request that needs no token does not renew the age.
        first.end_work();
        let evicted = leave_when_closed(&sockets[2].0, first);
        let newcomer = enter(4);
        evicted.join().unwrap();
        assert_eq!(used(&slots), (4, 1));
        let evicted = leave_when_closed(&sockets[3].0, second);
        let another = enter(5);
        evicted.join().unwrap();
        drop((notifying, notified, newcomer, another));
        assert_eq!(used(&slots), (0, 0));
    }

    #[test]
    fn a_handshake_does_not_keep_a_new_connection_out() {
        let slots = Arc::new(ConnectionSlots::new(2));
        let sockets: Vec<_> = (0..3).map(|_| connection()).collect();
        let held = [&sockets[0], &sockets[1]].map(|(socket, _)| {
            let slot = slots.take(socket).unwrap();
            slot.begin_handshake();
            leave_when_closed(socket, slot)
        });
        let newcomer = slots.take(&sockets[2].0);
        assert!(newcomer.is_some(), "stalled handshakes take every slot");
        let _ = sockets[1].0.shutdown(Shutdown::Both);
        for thread in held {
            thread.join().unwrap();
        }
    }

    #[test]
    fn only_a_notification_renews_the_age_of_a_connection() {
        use SlotState::{Handshaking, Leaving, Notifying, Waiting};
        let accepted = Instant::now();
        let (socket, _peer) = connection();
        for (old, new, state, is_renewed) in [
            (Waiting, Handshaking, Handshaking, false),
            (Handshaking, Waiting, Waiting, false),
            (Waiting, Waiting, Waiting, false),
            (Waiting, Notifying, Notifying, false),
            (Notifying, Waiting, Waiting, true),
            (Leaving, Notifying, Leaving, false),
            (Leaving, Waiting, Leaving, false),
        ] {
            let slot = Slot {
                id: 7,
                socket: Arc::clone(&socket),
                state: old,
                since: accepted,
            };
            let mut table = SlotTable::default();
            table.taken.push(slot);
            assert_eq!(table.enter(7, new), Some(state), "{old:?} {new:?}");
            let slot = &table.taken[0];
            let found = (slot.state, slot.since != accepted);
            assert_eq!(found, (state, is_renewed), "{old:?} {new:?}");
        }
    }

    #[test]
    fn the_oldest_of_too_many_handshakes_is_evicted() {
        let slots = Arc::new(ConnectionSlots::new(2000));
        let (socket, _peer) = connection();
        let enter = || slots.take(&socket).unwrap();
        let (idle, first) = (enter(), enter());
        first.begin_handshake();
        let others: Vec<_> = (0..MAX_HANDSHAKES).map(|_| enter()).collect();
        let state = |guard: &SlotGuard| {
            let taken = &slots.table.lock().taken;
            let slot = taken.iter().find(|slot| slot.id == guard.id);
            slot.unwrap().state
        };
        for (number, guard) in others.iter().enumerate() {
            assert_ne!(state(&first), SlotState::Leaving, "{number}");
            guard.begin_handshake();
        }
        assert_eq!(state(&first), SlotState::Leaving);
        let evicted = others.iter().chain([&idle]);
        assert!(evicted.map(state).all(|state| state != SlotState::Leaving));
        // A finished one makes space.
        others[0].end_work();
        first.begin_handshake();
        idle.begin_handshake();
        assert_ne!(state(&others[1]), SlotState::Leaving);
    }

    #[test]
    fn a_handshake_waits_for_others_to_end_before_one_is_evicted() {
        let slots = Arc::new(ConnectionSlots::new(2000));
        let (socket, _peer) = connection();
        let has_waited = || {
            let enter = |_| slots.take(&socket).unwrap();
            let held: Vec<_> = (0..MAX_HANDSHAKES).map(enter).collect();
            held.iter().for_each(SlotGuard::begin_handshake);
            let newcomer = enter(0);
            thread::scope(|scope| {
                let handshake = scope.spawn(|| newcomer.begin_handshake());
                // Until it waits.
                while !slots.changed.notify_one() && !handshake.is_finished() {
                    thread::yield_now();
                }
                held[1].end_work();
            });
            slots.table.lock().count(SlotState::Leaving) == 0
        };
        // A loaded machine may take longer than the wait, but not most times.
        let saved = (0..20).filter(|_| has_waited()).take(10).count();
        assert_eq!(saved, 10, "a burst of handshakes evicts itself");
    }

    #[test]
    fn no_more_connections_are_evicted_than_needed_and_none_that_is_new() {
        let (socket, _peer) = connection();
        let start = Instant::now();
        let at = |time: u32| start + time * MIN_AGE;
        // For each connection since when it has been idle. It is 4 now, and 1 is the shortest time after which one is evicted.
        for (times, count, evicted, next) in [
            (&[2, 0, 1, 3][..], 2, &[1, 2][..], None),
            (&[3], 1, &[0], None),
            (&[4, 2], 2, &[1], Some(5)),
            (&[4], 1, &[], Some(5)),
            (&[2], 0, &[], None),
        ] {
            let slot = |(id, time): (u64, &u32)| Slot {
                id,
                socket: Arc::clone(&socket),
                state: SlotState::Waiting,
                since: at(*time),
            };
            let mut table = SlotTable {
                max: 2,
                taken: (0..).zip(times.iter()).map(slot).collect(),
            };
            let retry_at = table.evict(count, MIN_AGE, at(4));
            assert_eq!(retry_at, next.map(at), "{times:?}");
            let taken = table.taken.iter();
            let leaving = taken.filter(|slot| slot.state == SlotState::Leaving);
            let ids: Vec<_> = leaving.map(|slot| slot.id).collect();
            assert_eq!(ids, evicted, "{times:?}");
        }
    }

    #[test]
    fn one_idle_connection_is_evicted_at_a_time() {
        let slots = Arc::new(ConnectionSlots::new(4));
        let (socket, _peer) = connection();
        let guards = [(); 3].map(|()| slots.take(&socket).unwrap());
        guards[0].begin_notification().unwrap();
        for expected in [[false, true, false], [false, true, true]] {
            slots.evict_oldest();
            let table = slots.table.lock();
            let leaving = table
                .taken
                .iter()
                .map(|slot| slot.state == SlotState::Leaving);
            assert_eq!(leaving.collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn a_lower_limit_holds_for_the_next_connection() {
        let slots = Arc::new(ConnectionSlots::new(5));
        let sockets: Vec<_> = (0..6).map(|_| connection()).collect();
        let leave =
            |(socket, _): &(Arc<_>, _)| leave_when_closed(socket, slots.take(socket).unwrap());
        let threads: Vec<_> = sockets[1..].iter().map(leave).collect();
        for slot in &mut slots.table.lock().taken {
            slot.since -= MIN_AGE;
        }
        slots.resize(4);
        let newcomer = slots.take(&sockets[0].0);
        assert!(newcomer.is_some());
        let is_leaving = slots.table.lock().count(SlotState::Leaving) > 0;
        let found = (used(&slots), is_leaving);
        assert_eq!(
            found,
            ((4, 0), false),
            "more or less than the excess is evicted"
        );
        drop(sockets);
        for thread in threads {
            thread.join().unwrap();
        }
    }

    #[test]
    fn notifications_leave_slots_for_others() {
        let (socket, _peer) = connection();
        let limits = [
            (0, 1),
            (1, 1),
            (2, 1),
            (3, 2),
            (7, 4),
            (15, 8),
            (16, 8),
            (17, 9),
        ];
        for (max, notifications) in limits.into_iter().chain([(1024, 1016)]) {
            let slots = Arc::new(ConnectionSlots::new(max));
            let guards = (0..max.max(2)).map(|_| slots.take(&socket).unwrap());
            let guards: Vec<_> = guards.collect();
            let received = guards
                .iter()
                .filter(|slot| slot.begin_notification().is_ok());
            assert_eq!(received.count(), notifications, "{max}");
            guards[0].end_work();
            assert!(guards[max.max(2) - 1].begin_notification().is_ok(), "{max}");
            drop(guards);
            assert_eq!(used(&slots), (0, 0));
        }
    }

    #[test]
    fn a_connection_that_does_not_leave_delays_a_new_one_for_a_limited_time() {
        let slots = Arc::new(ConnectionSlots::new(2));
        let (socket, _peer) = connection();
        let guards = [slots.take(&socket).unwrap(), slots.take(&socket).unwrap()];
        assert!(slots.take(&socket).is_none());
        // The evicted one stays evicted.
        assert!(guards[0].begin_notification().is_err());
        assert_eq!(slots.usage().notifications, 0);
        drop(guards);
        assert!(slots.take(&socket).is_some());
    }

    #[test]
    fn draining_ends_the_input_and_waits_for_notifications() {
        let slots = Arc::new(ConnectionSlots::new(4));
        let (idle, notifying) = (connection(), connection());
        let _idle_slot = slots.take(&idle.0).unwrap();
        let slot = slots.take(&notifying.0).unwrap();
        slot.begin_notification().unwrap();
        assert_eq!(slots.drain(Instant::now()), 1);
        for (socket, mut sender) in [idle, notifying] {
            assert_eq!((&*socket).read(&mut [0]).unwrap(), 0);
            (&*socket).write_all(b"response").unwrap();
            sender.read_exact(&mut [0; 8]).unwrap();
        }
        // The connection stays open.
        let worker = thread::spawn(move || {
            slot.end_work();
            slot
        });
        let deadline = Instant::now() + Duration::from_mins(1);
        assert_eq!(slots.drain(deadline), 0);
        assert!(Instant::now() < deadline, "noticed at the deadline only");
        drop(worker.join().unwrap());
    }
}
