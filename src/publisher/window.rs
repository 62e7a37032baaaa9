//! What has been published on a channel and is not confirmed yet.
//!
//! The AMQP library tells no delivery tags: they are counted here, from 1 on each channel, in the order of publishing.
//! Confirms come out of order, and one may settle all up to its tag.

use std::collections::VecDeque;
use std::time::Instant;

/// How many messages may be unconfirmed at once.
pub const MOST_MESSAGES: usize = 1000;

/// How many bytes may be unconfirmed at once; below the 16 MiB at which the AMQP library begins to hang. One message is
/// let out whatever its size.
pub const MOST_BYTES: usize = 8 << 20;

/// A message on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InFlight {
    /// Its batch.
    pub job: u64,
    /// Its place in the batch.
    pub index: usize,
    /// What its message id ends with.
    pub sequence: u64,
    /// Its body's length.
    pub bytes: usize,
    /// When it was published.
    pub since: Instant,
}

/// The unconfirmed messages of one channel.
#[derive(Debug)]
pub struct Window {
    /// The delivery tag of the first slot.
    first_tag: u64,
    slots: VecDeque<Option<InFlight>>,
    open: usize,
    bytes: usize,
}

impl Default for Window {
    fn default() -> Self {
        Self {
            first_tag: 1,
            slots: VecDeque::new(),
            open: 0,
            bytes: 0,
        }
    }
}

impl Window {
    /// Whether another message may go out.
    pub fn has_room(&self, bytes: usize) -> bool {
        self.open == 0 || (self.open < MOST_MESSAGES && self.bytes + bytes <= MOST_BYTES)
    }

    /// Notes a message, in the order of publishing.
    pub fn push(&mut self, message: InFlight) {
        self.open += 1;
        self.bytes += message.bytes;
        self.slots.push_back(Some(message));
    }

    /// Takes out what a confirm settles. A tag that is unknown, or settled already, settles nothing.
    pub fn settle(&mut self, tag: u64, multiple: bool) -> Vec<InFlight> {
        let Some(end) = tag
            .checked_sub(self.first_tag)
            .and_then(|index| usize::try_from(index).ok())
        else {
            return Vec::new();
        };
        let start = if multiple { 0 } else { end };
        let settled: Vec<InFlight> = self
            .slots
            .iter_mut()
            .take(end.saturating_add(1))
            .skip(start)
            .filter_map(Option::take)
            .collect();
        self.open -= settled.len();
        self.bytes -= settled.iter().map(|message| message.bytes).sum::<usize>();
        while let Some(None) = self.slots.front() {
            self.slots.pop_front();
            self.first_tag += 1;
        }
        settled
    }

    /// When the message that has waited longest was published.
    pub fn oldest(&self) -> Option<Instant> {
        // The front slot is never an empty one.
        self.slots
            .front()
            .copied()
            .flatten()
            .map(|message| message.since)
    }

    /// How many messages are unconfirmed.
    pub fn len(&self) -> usize {
        self.open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(count: usize) -> Window {
        let mut window = Window::default();
        for index in 0..count {
            window.push(InFlight {
                job: 1,
                index,
                sequence: 0,
                bytes: 10,
                since: Instant::now(),
            });
        }
        window
    }

    fn indices(settled: &[InFlight]) -> Vec<usize> {
        settled.iter().map(|message| message.index).collect()
    }

    #[test]
    fn confirms_in_any_order_settle_each_message_once() {
        let mut window = filled(6);
        assert_eq!(indices(&window.settle(3, false)), [2]);
        assert_eq!(indices(&window.settle(3, false)), [0_usize; 0]);
        assert_eq!(indices(&window.settle(4, true)), [0, 1, 3]);
        assert_eq!(indices(&window.settle(2, true)), [0_usize; 0]);
        assert_eq!(indices(&window.settle(0, true)), [0_usize; 0]);
        assert_eq!(indices(&window.settle(99, false)), [0_usize; 0]);
        assert_eq!((window.len(), window.bytes), (2, 20));
        assert_eq!(indices(&window.settle(u64::MAX, true)), [4, 5]);
        assert_eq!((window.len(), window.bytes, window.oldest()), (0, 0, None));
        window.push(InFlight {
            job: 2,
            index: 0,
            sequence: 0,
            bytes: 1,
            since: Instant::now(),
        });
        assert_eq!(indices(&window.settle(7, false)), [0]);
    }

    #[test]
    fn room_is_bounded_by_number_and_bytes() {
        assert!(filled(MOST_MESSAGES - 1).has_room(1));
        assert!(!filled(MOST_MESSAGES).has_room(1));
        assert!(filled(0).has_room(10 * MOST_BYTES));
        assert!(!filled(1).has_room(MOST_BYTES));
    }
}
