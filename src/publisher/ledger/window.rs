//! The unconfirmed messages of one channel, and how many of them the broker can handle.
//!
//! amiquip does not return delivery tags: they are counted here, from 1 on each channel, in the order of publishing.
//! Confirms come out of order, and one with the `multiple` flag covers all messages up to its tag.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::EventRef;
use crate::publisher::batch::Entity;

/// Unconfirmed messages at once. More gain no throughput: 7,400/s with 1,000, 7,200/s with 5,000.
pub const MAX_MESSAGES: usize = 1000;

/// Where the window begins, and the least that it is for the slowest broker: 16 messages at 20/s are 0.8 s, which each new
/// message waits for those before it. A fast broker's window doubles with each round trip.
const MIN_MESSAGES: usize = 16;

/// Unconfirmed bytes at once, below the 16 MiB of unwritten bytes at which amiquip's calls begin to hang. An event has 1 MiB
/// at most.
const MAX_BYTES: usize = 8 << 20;

/// A confirm that takes this much longer than the fastest one does not let the window grow.
const SLOW: Duration = Duration::from_millis(500);

/// A confirm that takes this much longer than the fastest one halves the window.
const TOO_SLOW: Duration = Duration::from_secs(1);

/// The window is halved once in this time: the confirms of one round trip come together.
const HALVE_INTERVAL: Duration = Duration::from_secs(1);

/// A pause without unconfirmed messages, after which what is known of the broker's speed is out of date.
const IDLE: Duration = Duration::from_secs(1);

/// A broker that has confirmed nothing for this long while messages are in flight is given up, also where heartbeats are
/// off. Nor does it help to confirm only messages that are this much younger than the oldest one.
pub const STALL_LIMIT: Duration = Duration::from_secs(30);

/// An unconfirmed message.
#[derive(Debug)]
pub struct InFlight {
    /// The event that was published.
    pub event: EventRef,
    /// The event's entity.
    pub entity: Entity,
    /// The length of the body.
    pub bytes: usize,
    /// When it was published.
    pub published_at: Instant,
    /// RabbitMQ's reason, once it has returned the message.
    pub returned: Option<String>,
}

/// The unconfirmed messages of one channel. By default no channel is open, and nothing is accepted.
#[derive(Debug, Default)]
pub struct Window {
    /// With their delivery tags, in the order of publishing.
    messages: VecDeque<(u64, InFlight)>,
    /// The tag of the message that was published last.
    last_tag: u64,
    /// The number of messages that may be unconfirmed now.
    pub limit: usize,
    bytes: usize,
    is_blocked: bool,
    fastest: Duration,
    /// `None` if it was not halved yet.
    halved_at: Option<Instant>,
    /// The last confirm of old messages, the last publish into an empty window, or the beginning or end of an alarm; `None` before these.
    active_at: Option<Instant>,
}

impl Window {
    /// For a channel that has just been opened.
    pub fn open() -> Self {
        Self {
            limit: MIN_MESSAGES,
            fastest: Duration::MAX,
            ..Self::default()
        }
    }

    /// Another message of `bytes` bytes may be published.
    pub fn accepts(&self, bytes: usize) -> bool {
        !self.is_blocked && self.len() < self.limit && self.bytes + bytes <= MAX_BYTES
    }

    /// The number of unconfirmed messages.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Adds a message, in the order of publishing, and returns its delivery tag.
    pub fn push(&mut self, message: InFlight) -> u64 {
        let now = message.published_at;
        if self.messages.is_empty() {
            if self.active_at.is_none_or(|at| at + IDLE < now) {
                self.limit = MIN_MESSAGES;
                self.fastest = Duration::MAX;
            }
            self.active_at = Some(now);
        }
        self.bytes += message.bytes;
        self.last_tag += 1;
        self.messages.push_back((self.last_tag, message));
        self.last_tag
    }

    /// Records that the broker has returned the message. False for an unknown tag.
    pub fn mark_returned(&mut self, tag: u64, reason: String) -> bool {
        let index = self.index(tag);
        match self.messages.get_mut(index) {
            Some((other, message)) if *other == tag => {
                message.returned = Some(reason);
                true
            }
            _ => false,
        }
    }

    /// Removes the messages that a confirm is for, and adapts the limit to how long they took. There are none for an
    /// unknown tag; those that are confirmed already are not there any more.
    pub fn take_confirmed(&mut self, tag: u64, multiple: bool, now: Instant) -> Vec<InFlight> {
        if tag > self.last_tag {
            return Vec::new();
        }
        // A window that was not needed has shown nothing: only one that is half full grows.
        let is_needed = self.len() * 2 >= self.limit;
        let start = if multiple { 0 } else { self.index(tag) };
        let confirmed = self.messages.drain(start..self.index(tag + 1));
        let confirmed: Vec<InFlight> = confirmed.map(|(_, message)| message).collect();
        for message in &confirmed {
            self.bytes -= message.bytes;
            let latency = now.saturating_duration_since(message.published_at);
            self.adapt(latency, is_needed, now);
        }
        // One message that is never confirmed must not hold back its entity for good.
        let young_from =
            (self.messages.front()).map(|(_, oldest)| oldest.published_at + STALL_LIMIT);
        let is_old = |message: &InFlight| young_from.is_none_or(|from| message.published_at < from);
        if confirmed.iter().any(is_old) {
            self.active_at = Some(now);
        }
        confirmed
    }

    fn adapt(&mut self, latency: Duration, is_needed: bool, now: Instant) {
        self.fastest = self.fastest.min(latency);
        let excess = latency.saturating_sub(self.fastest);
        let is_due = self.halved_at.is_none_or(|at| at + HALVE_INTERVAL <= now);
        if is_needed && excess < SLOW {
            self.limit = (self.limit + 1).min(MAX_MESSAGES);
        } else if excess > TOO_SLOW && is_due {
            self.limit = (self.limit / 2).max(MIN_MESSAGES);
            self.halved_at = Some(now);
        }
    }

    /// The index of the first message with this tag or a higher one.
    fn index(&self, tag: u64) -> usize {
        self.messages.partition_point(|(other, _)| *other < tag)
    }

    /// All unconfirmed messages, in the order of publishing.
    pub fn into_messages(self) -> impl Iterator<Item = InFlight> {
        self.messages.into_iter().map(|(_, message)| message)
    }

    /// A memory or disk alarm has begun, or it has ended: the stall limit counts from then on.
    pub fn set_blocked(&mut self, is_blocked: bool, now: Instant) {
        (self.is_blocked, self.active_at) = (is_blocked, Some(now));
    }

    /// When the broker counts as stalled, unless it confirms old messages before. `None` while nothing is unconfirmed, or the
    /// broker has blocked publishing.
    pub fn stalls_at(&self) -> Option<Instant> {
        let is_due = !self.messages.is_empty() && !self.is_blocked;
        is_due.then_some(self.active_at? + STALL_LIMIT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publisher::batch::Identity;

    fn message(index: usize, bytes: usize, published_at: Instant) -> InFlight {
        InFlight {
            event: EventRef {
                delivery: Identity([0, 0]),
                index,
            },
            entity: Entity(0),
            bytes,
            published_at,
            returned: None,
        }
    }

    fn filled(count: usize, now: Instant) -> Window {
        let mut window = Window::open();
        for index in 0..count {
            assert_eq!(
                window.push(message(index, 10, now)),
                index as u64 + 1,
                "the tag"
            );
        }
        window
    }

    fn indices(settled: &[InFlight]) -> Vec<usize> {
        settled.iter().map(|message| message.event.index).collect()
    }

    #[test]
    fn confirms_in_any_order_settle_each_message_once() {
        let now = Instant::now();
        let mut window = filled(6, now);
        for (tag, multiple, settles) in [
            (3, false, vec![2]),
            (3, false, vec![]),
            (4, true, vec![0, 1, 3]),
            (2, true, vec![]),
            (0, true, vec![]),
            (99, false, vec![]),
            // The next one.
            (7, true, vec![]),
        ] {
            assert_eq!(
                indices(&window.take_confirmed(tag, multiple, now)),
                settles,
                "{tag}"
            );
        }
        assert_eq!((window.len(), window.bytes), (2, 20));
        assert!(window.mark_returned(6, "no route".to_owned()));
        assert!(!window.mark_returned(1, String::new()) && !window.mark_returned(7, String::new()));
        assert!(window.take_confirmed(u64::MAX, true, now).is_empty());
        let rest = window.take_confirmed(6, true, now);
        assert_eq!(indices(&rest), [4, 5]);
        assert_eq!(rest[1].returned.as_deref(), Some("no route"));
        assert_eq!(
            (window.len(), window.bytes, window.stalls_at()),
            (0, 0, None)
        );
        assert_eq!(window.push(message(6, 1, now)), 7);
        assert_eq!(indices(&window.take_confirmed(7, false, now)), [6]);
    }

    #[test]
    fn the_window_is_bounded_in_messages_and_bytes() {
        let now = Instant::now();
        assert!(filled(15, now).accepts(1));
        assert!(!filled(16, now).accepts(1));
        assert!(filled(0, now).accepts(MAX_BYTES));
        assert!(!filled(1, now).accepts(MAX_BYTES));
    }

    /// A broker that takes a number of messages a second, and a window that is always full: its limit after some seconds.
    fn limit_at(rate: u32, start: Instant, seconds: u32) -> usize {
        let (mut window, mut tag) = (Window::open(), 0);
        for number in 0..rate * seconds {
            let now = start + Duration::from_secs(1) / rate * number;
            while window.accepts(1) {
                window.push(message(0, 1, now));
            }
            tag += 1;
            window.take_confirmed(tag, false, now);
            assert!((MIN_MESSAGES..=MAX_MESSAGES).contains(&window.limit));
        }
        window.limit
    }

    #[test]
    fn the_limit_adapts_to_the_speed_of_the_broker() {
        let start = Instant::now();
        assert_eq!(limit_at(20, start, 60), MIN_MESSAGES);
        assert_eq!(limit_at(8000, start, 2), MAX_MESSAGES);
        let medium = limit_at(500, start, 20);
        assert!((200..=600).contains(&medium), "{medium}");
    }

    #[test]
    fn slow_confirms_halve_the_limit_once_in_a_round_trip() {
        let start = Instant::now();
        let mut window = Window::open();
        (window.limit, window.active_at) = (MAX_MESSAGES, Some(start));
        window.push(message(0, 1, start));
        window.take_confirmed(1, false, start + Duration::from_millis(1));
        for index in 1..=100 {
            window.push(message(index, 1, start + Duration::from_millis(2)));
        }
        // They come together, each as late as the others.
        for tag in 2..=101 {
            window.take_confirmed(tag, false, start + 3 * TOO_SLOW);
        }
        assert_eq!(window.limit, MAX_MESSAGES / 2);
    }

    #[test]
    fn the_limit_follows_the_time_and_the_number_of_confirms() {
        let start = Instant::now();
        for (latency, limit) in [
            (SLOW / 2, 101),
            (SLOW, 100),
            (TOO_SLOW, 100),
            (TOO_SLOW * 2, 50),
        ] {
            let mut window = Window::open();
            (window.limit, window.fastest) = (100, Duration::ZERO);
            window.adapt(latency, true, start + HALVE_INTERVAL);
            assert_eq!(window.limit, limit, "{latency:?}");
        }
        // A window that is half full grows with each of them.
        for (count, limit) in [(7, MIN_MESSAGES), (8, MIN_MESSAGES + 8)] {
            let mut window = filled(count, start);
            window.take_confirmed(count as u64, true, start);
            assert_eq!(window.limit, limit, "{count}");
        }
    }

    #[test]
    fn a_window_that_is_not_needed_does_not_grow_and_a_pause_resets_it() {
        let mut now = Instant::now();
        let mut window = Window::open();
        for tag in 1..1000 {
            window.push(message(0, 1, now));
            window.take_confirmed(tag, false, now);
        }
        assert_eq!(window.limit, MIN_MESSAGES);
        window.limit = MAX_MESSAGES;
        now += IDLE * 2;
        window.push(message(0, 1, now));
        assert_eq!(window.limit, MIN_MESSAGES);
        assert_eq!(
            window.fastest,
            Duration::MAX,
            "the broker may have become slower for good"
        );
    }

    #[test]
    fn a_stall_counts_from_the_last_confirm_and_not_while_blocked() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let mut window = filled(2, start);
        assert_eq!(window.stalls_at(), Some(start + STALL_LIMIT));
        window.take_confirmed(1, false, start + 20 * second);
        assert_eq!(window.stalls_at(), Some(start + 20 * second + STALL_LIMIT));
        window.push(message(2, 1, start + 25 * second));
        assert_eq!(window.stalls_at(), Some(start + 20 * second + STALL_LIMIT));
        window.set_blocked(true, start + 30 * second);
        assert!(window.stalls_at().is_none() && !window.accepts(1));
        window.set_blocked(false, start + 40 * second);
        assert_eq!(window.stalls_at(), Some(start + 40 * second + STALL_LIMIT));
        window.take_confirmed(3, true, start + 41 * second);
        assert_eq!(window.stalls_at(), None);
        window.push(message(3, 1, start + 90 * second));
        assert_eq!(window.stalls_at(), Some(start + 90 * second + STALL_LIMIT));
    }

    #[test]
    fn confirms_of_younger_messages_do_not_hide_one_that_is_never_confirmed() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut window = filled(1, start);
        for seconds in 1..3 * STALL_LIMIT.as_secs() {
            let now = start + Duration::from_secs(seconds);
            if window.stalls_at().is_some_and(|stalls_at| stalls_at <= now) {
                break;
            }
            let tag = window.push(message(1, 1, now));
            window.take_confirmed(tag, false, now);
        }
        let stalls_at = window.stalls_at().unwrap();
        assert!(stalls_at > start + STALL_LIMIT, "others were confirmed");
        assert!(
            stalls_at <= start + 2 * STALL_LIMIT,
            "its entity is held back for good"
        );
        // A burst may take long on a slow link: each confirm of it is progress.
        let mut burst = filled(10, start);
        for tag in 1..=9 {
            let now = start + 20 * second * u32::try_from(tag).unwrap();
            burst.take_confirmed(tag, false, now);
            assert_eq!(burst.stalls_at(), Some(now + STALL_LIMIT));
        }
    }

    #[test]
    fn an_alarm_before_the_first_message_says_nothing_of_the_speed() {
        let now = Instant::now();
        let mut window = Window::open();
        window.set_blocked(true, now);
        window.set_blocked(false, now);
        let tags = (0..MIN_MESSAGES).map(|index| window.push(message(index, 1, now)));
        let tags: Vec<u64> = tags.collect();
        window.take_confirmed(tags[0], false, now + SLOW);
        assert_eq!(
            window.limit,
            MIN_MESSAGES + 1,
            "the first confirm is the fastest"
        );
    }
}
