//! One notification's events in the ledger: what has become of each, and who waits for them.

use std::time::{Duration, Instant};

use crate::memory::Charge;
use crate::publisher::batch::{Batch, Identity, Message};
use crate::publisher::error::{DeliveryError, Progress};
use crate::publisher::{Verdict, VerdictSender};

/// A notification, and the caller that waits for its verdict.
#[derive(Debug)]
pub struct Submission {
    /// Its events.
    pub batch: Batch,
    /// The memory they are charged to.
    pub charge: Charge,
    /// How long the caller waits.
    pub timeout: AnswerTimeout,
    /// Closed when the caller does not wait any more.
    pub verdict: VerdictSender,
}

/// One event of one delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventRef {
    /// The delivery.
    pub delivery: Identity,
    /// The index in its batch.
    pub index: u32,
}

/// A message to publish now.
#[derive(Debug, PartialEq, Eq)]
pub struct Publication<'l> {
    /// Its delivery tag on the current channel.
    pub tag: u64,
    /// What to publish.
    pub message: Message<'l>,
}

/// How long a caller waits.
#[derive(Debug, Clone, Copy)]
pub struct AnswerTimeout {
    /// Since an event of the notification was settled last.
    pub without_progress: Duration,
    /// Since the notification was submitted.
    pub in_all: Duration,
}

/// What has become of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventState {
    /// To be published.
    ToDo,
    /// Published and not confirmed.
    InFlight,
    /// Confirmed, and an older event of its entity is not.
    Acked,
    /// In the queue, behind all older events of its entity.
    Settled,
}

/// The bookkeeping of one delivery, besides a byte for each event.
const DELIVERY_BYTES: usize = 300;

/// A notification's events. It is *live* while a caller waits, and *parked* when none does.
#[derive(Debug)]
pub struct Delivery {
    /// The messages and the memory they are charged to; `None` while it is parked.
    pub content: Option<(Batch, Charge)>,
    pub states: Vec<EventState>,
    pub settled: usize,
    /// Events in flight or acked.
    pub unsettled: usize,
    /// No event before this one is to do.
    pub cursor: usize,
    pub waiting: Vec<Waiting>,
    /// The last time at which an event was settled, or the delivery was parked.
    pub changed_at: Instant,
}

/// A caller that waits.
#[derive(Debug)]
pub struct Waiting {
    /// Closed when the caller does not wait any more.
    pub verdict: VerdictSender,
    pub since: Instant,
    pub timeout: AnswerTimeout,
}

impl Delivery {
    /// A parked delivery, all of whose events are in one state.
    pub fn new(events: usize, state: EventState, now: Instant) -> Self {
        Self {
            content: None,
            states: vec![state; events],
            settled: if state == EventState::Settled {
                events
            } else {
                0
            },
            unsettled: 0,
            cursor: 0,
            waiting: Vec::new(),
            changed_at: now,
        }
    }

    pub fn is_live(&self) -> bool {
        self.content.is_some()
    }

    /// The memory that it takes while it is parked.
    pub fn parked_bytes(&self) -> usize {
        DELIVERY_BYTES + self.states.len()
    }

    pub fn is_settled(&self) -> bool {
        self.settled == self.states.len()
    }

    pub fn progress(&self) -> Progress {
        Progress {
            confirmed: self.settled,
            of: self.states.len(),
        }
    }

    pub fn has_to_do(&self) -> bool {
        self.states[self.cursor..].contains(&EventState::ToDo)
    }

    /// Moves the cursor to the next event to do, and returns it.
    pub fn next_to_do(&mut self) -> Option<u32> {
        let rest = self.states.get(self.cursor..)?;
        let skipped = rest.iter().position(|state| *state == EventState::ToDo);
        self.cursor += skipped.unwrap_or(rest.len());
        skipped.and_then(|_| u32::try_from(self.cursor).ok())
    }

    /// Forgets the callers that are gone. False if none is left.
    pub fn has_waiter(&mut self) -> bool {
        self.waiting.retain(|waiting| !waiting.verdict.is_closed());
        !self.waiting.is_empty()
    }

    /// Gives every caller the same verdict. True if at least one heard it.
    pub fn answer(&mut self, verdict: &Verdict) -> bool {
        let mut is_heard = false;
        for waiting in self.waiting.drain(..) {
            is_heard |= waiting.verdict.send(verdict.clone()).is_ok();
        }
        is_heard
    }

    /// Answers the callers whose time is up, and returns when the next one's is.
    pub fn expire(
        &mut self,
        now: Instant,
        error: impl Fn(Duration, Progress) -> DeliveryError,
    ) -> Option<Instant> {
        let (changed_at, progress) = (self.changed_at, self.progress());
        let deadline = |waiting: &Waiting| {
            let without_progress = waiting.since.max(changed_at) + waiting.timeout.without_progress;
            without_progress.min(waiting.since + waiting.timeout.in_all)
        };
        let expired = self
            .waiting
            .extract_if(.., |waiting| deadline(waiting) <= now);
        for waiting in expired {
            let after = now.saturating_duration_since(waiting.since);
            // It may be gone.
            let _ = waiting.verdict.send(Err(error(after, progress)));
        }
        self.waiting.iter().map(deadline).min()
    }
}
