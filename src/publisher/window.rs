//! The unconfirmed messages of one channel, by delivery tag.
//!
//! amiquip does not return delivery tags: they are counted here, from 1 on each channel, in the order of publishing.
//! Confirms come out of order, and one with the `multiple` flag settles all messages up to its tag.

use std::collections::VecDeque;
use std::time::Instant;

/// Unconfirmed messages at once. More gain no throughput: 7,400/s with 1,000, 7,200/s with 5,000.
pub const MAX_MESSAGES: usize = 1000;

/// Unconfirmed bytes at once, below the 16 MiB of unwritten bytes at which amiquip's calls begin to hang. A single message
/// may be larger.
pub const MAX_BYTES: usize = 8 << 20;

/// An unconfirmed message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InFlight {
    /// The delivery it belongs to.
    pub delivery: u64,
    /// Its index in the delivery's batch.
    pub index: usize,
    /// The last part of its message id.
    pub sequence: u64,
    /// The length of its body.
    pub bytes: usize,
    /// When it was published.
    pub published_at: Instant,
}

/// The unconfirmed messages of one channel.
#[derive(Debug)]
pub struct Window {
    /// The delivery tag of the first slot.
    first_tag: u64,
    slots: VecDeque<Option<InFlight>>,
    len: usize,
    bytes: usize,
}

impl Default for Window {
    fn default() -> Self {
        Self {
            first_tag: 1,
            slots: VecDeque::new(),
            len: 0,
            bytes: 0,
        }
    }
}

impl Window {
    /// Another message of `bytes` bytes may be published.
    pub fn accepts(&self, bytes: usize) -> bool {
        self.len == 0 || (self.len < MAX_MESSAGES && self.bytes + bytes <= MAX_BYTES)
    }

    /// Adds a message, in the order of publishing.
    pub fn push(&mut self, message: InFlight) {
        self.len += 1;
        self.bytes += message.bytes;
        self.slots.push_back(Some(message));
    }

    /// Removes the messages that a confirm settles. A tag that is unknown, or settled already, settles nothing.
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
        self.len -= settled.len();
        self.bytes -= settled.iter().map(|message| message.bytes).sum::<usize>();
        while let Some(None) = self.slots.front() {
            self.slots.pop_front();
            self.first_tag += 1;
        }
        settled
    }

    /// When the oldest unconfirmed message was published.
    pub fn oldest(&self) -> Option<Instant> {
        // `settle` removes empty slots from the front.
        self.slots
            .front()
            .copied()
            .flatten()
            .map(|message| message.published_at)
    }

    /// The number of unconfirmed messages.
    pub fn len(&self) -> usize {
        self.len
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(count: usize) -> Window {
        let mut window = Window::default();
        for index in 0..count {
            window.push(InFlight {
                delivery: 1,
                index,
                sequence: 0,
                bytes: 10,
                published_at: Instant::now(),
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
            delivery: 2,
            index: 0,
            sequence: 0,
            bytes: 1,
            published_at: Instant::now(),
        });
        assert_eq!(indices(&window.settle(7, false)), [0]);
    }

    #[test]
    fn the_window_is_bounded_in_messages_and_bytes() {
        assert!(filled(MAX_MESSAGES - 1).accepts(1));
        assert!(!filled(MAX_MESSAGES).accepts(1));
        assert!(filled(0).accepts(10 * MAX_BYTES));
        assert!(!filled(1).accepts(MAX_BYTES));
    }
}
