//! One notification's events in the ledger: what has become of each, and who waits for them.

use std::sync::Arc;
use std::time::Instant;

use crate::memory::Charge;
use crate::publisher::Verdict;
use crate::publisher::batch::{Batch, Entity, Identity};
use crate::publisher::caller::Wait;

/// A caller that waits for a delivery's verdict.
#[derive(Debug)]
pub struct Caller {
    /// Closed when the caller does not wait any more.
    pub verdict: oneshot::Sender<Verdict>,
    /// Each settled event gives the caller more time.
    pub wait: Arc<Wait>,
}

/// One event of one delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventRef {
    /// The delivery.
    pub delivery: Identity,
    /// The index in its batch.
    pub index: usize,
}

/// What has become of an event; see the table of the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventState {
    ToDo,
    InFlight,
    Acked,
    Settled,
}

/// The bookkeeping of one delivery, besides a byte for each event.
const DELIVERY_BYTES: usize = 300;

/// A notification's events.
#[derive(Debug)]
pub struct Delivery {
    /// The messages and the memory they are charged to; `None` while it is parked.
    pub content: Option<(Batch, Charge)>,
    pub states: Vec<EventState>,
    pub settled: usize,
    /// Events in flight or acked. The window and the entities still refer to them.
    pub in_doubt: usize,
    /// While it is live, no event before this one is to do.
    pub cursor: usize,
    pub callers: Vec<Caller>,
    /// The last time at which an event was settled, or the delivery was parked.
    pub changed_at: Instant,
}

impl Delivery {
    /// A parked delivery, all of whose events are to do.
    pub fn new(events: usize, now: Instant) -> Self {
        Self {
            content: None,
            states: vec![EventState::ToDo; events],
            settled: 0,
            in_doubt: 0,
            cursor: 0,
            callers: Vec::new(),
            changed_at: now,
        }
    }

    pub fn is_live(&self) -> bool {
        self.content.is_some()
    }

    /// It is parked, and nothing refers to its events.
    pub fn is_forgettable(&self) -> bool {
        !self.is_live() && self.in_doubt == 0
    }

    /// The memory that it takes while it is parked.
    pub fn parked_bytes(&self) -> usize {
        DELIVERY_BYTES + self.states.len()
    }

    pub fn is_settled(&self) -> bool {
        self.settled == self.states.len()
    }

    /// The events to do and their entities.
    pub fn to_do(&self, batch: &Batch) -> impl Iterator<Item = (usize, Entity)> {
        let is_to_do = |index: &usize| self.states[*index] == EventState::ToDo;
        let to_do = (0..self.states.len()).filter(is_to_do);
        to_do.filter_map(|index| Some((index, batch.entity(index)?)))
    }

    /// Moves the cursor to the next event to do, and returns it.
    pub fn next_to_do(&mut self) -> Option<usize> {
        let rest = self.states.get(self.cursor..)?;
        let skipped = rest.iter().position(|state| *state == EventState::ToDo);
        self.cursor += skipped.unwrap_or(rest.len());
        skipped.map(|_| self.cursor)
    }

    /// Drops the callers that are gone. False if none is left.
    pub fn retain_callers(&mut self) -> bool {
        self.callers.retain(|caller| !caller.verdict.is_closed());
        !self.callers.is_empty()
    }

    /// Settles an acked event.
    pub fn settle(&mut self, index: usize, now: Instant) {
        self.states[index] = EventState::Settled;
        self.in_doubt -= 1;
        self.settled += 1;
        self.changed_at = now;
        for caller in &self.callers {
            caller.wait.advance(self.settled, now);
        }
    }
}
