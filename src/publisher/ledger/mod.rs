//! Decides what is published next, and each notification's verdict.
//!
//! Never blocks: time comes in as an argument, confirms as numbers, and what is to be published goes out as bytes. It must know
//! no thread, socket or clock, and nothing of amiquip.
//!
//! A notification is a *delivery*, a *sender* the HTTP client that sent it, and a *caller* the thread that waits for the verdict. A
//! notification that is submitted again attaches to its delivery, and goes on where that was. An event is
//! *refused* if the broker nacks it, returns it as unroutable, or closes the channel while it alone is in flight.
//!
//! | a delivery is | until | and then |
//! | --- | --- | --- |
//! | *live*: a caller waits, and it has its turns, for one message each | all of its events are settled; the verdict is `Ok` | parked |
//! | | one of them is refused; the verdict says why | parked |
//! | | no caller waits any more | parked |
//! | *parked*: nothing more of it is published | it is submitted again | live |
//! | | a sender gets the response that all is settled; or, with no event in flight or acked, it is parked for too long, or too many are | forgotten |
//!
//! | an event is | until | and then |
//! | --- | --- | --- |
//! | *to do* | its turn has come, and the window accepts it | in flight |
//! | *in flight*: published and not confirmed | the broker acks it | acked |
//! | | the broker refuses it, or the channel ends | to do |
//! | *acked*: confirmed, maybe before an older event of its entity | all older events of its entity are settled or refused | settled |
//! | | the channel ends | to do |
//! | *settled*: in the queue, behind the older events of its entity | its delivery is forgotten | |
//!
//! Events of one entity are published and settled in the order of their submission. What live deliveries have not settled when a
//! channel ends is published again in that order: of these, the last message of an entity is the one submitted last. A refused or
//! parked event gets a new place, the last one, when it is submitted again: its sender still means it.
//!
//! Where the broker closes the channel while several messages are in flight, any of them may be the cause. They become
//! *suspects*, which are published one at a time, after the older events of their entities and before all others: the next close shows
//! which it is.

use std::collections::{HashMap, VecDeque};
use std::mem;
use std::time::{Duration, Instant};

mod delivery;
#[cfg(test)]
mod tests;
mod window;

pub use delivery::{Caller, EventRef};
pub use window::{MAX_MESSAGES, STALL_LIMIT};

use super::Verdict;
use super::batch::{Batch, Entity, Identity, Message};
use super::error::{CloseReason, DeliveryError, Progress};
use crate::memory::Charge;
use crate::metrics::LedgerStats;
use delivery::{Delivery, EventState};
use window::{InFlight, Window};

/// How often [`Ledger::scan`] has to be called.
pub const SCAN_INTERVAL: Duration = Duration::from_secs(1);

/// A parked delivery is forgotten after this time. Alertmanager retries after 90 s at most.
const PARKING_LIMIT: Duration = Duration::from_mins(2);

/// Memory for parked deliveries, in bytes; the oldest without events in flight or acked are forgotten
/// beyond it. They are not charged to the budget.
const MAX_PARKED_BYTES: usize = 2 << 20;

/// All deliveries, and the unconfirmed messages of the current channel.
#[derive(Debug, Default)]
pub struct Ledger {
    deliveries: HashMap<Identity, Delivery>,
    /// For each entity its events that are in flight, acked or (of live deliveries) to do, in the order of submission:
    /// those that are to do come last. A batch has an entity once, so there is at most one event of each delivery.
    entities: HashMap<Entity, VecDeque<EventRef>>,
    /// Every live delivery once; the first is next.
    turns: VecDeque<Identity>,
    /// No live delivery has an event to do. Kept so that not each of them is searched for every message.
    nothing_to_do: bool,
    /// Events that were in flight when the broker closed a channel; see above.
    suspects: VecDeque<EventRef>,
    window: Window,
}

impl Ledger {
    /// Takes a notification, and the caller that waits for its verdict. Returns how many of its events an earlier attempt has
    /// settled. The identity is that of the batch: of two with the same one, the second is not needed.
    pub fn submit(
        &mut self,
        identity: Identity,
        (batch, charge): (Batch, Charge),
        caller: Caller,
        now: Instant,
    ) -> usize {
        let new = || Delivery::new(batch.len(), now);
        let delivery = self.deliveries.entry(identity).or_insert_with(new);
        caller.wait.advance(delivery.settled, now);
        delivery.callers.push(caller);
        let settled = delivery.settled;
        if delivery.is_live() {
            return settled;
        }
        for (index, entity) in delivery.to_do(&batch) {
            let event = EventRef {
                delivery: identity,
                index,
            };
            self.entities.entry(entity).or_default().push_back(event);
        }
        delivery.content = Some((batch, charge));
        delivery.cursor = 0;
        self.turns.push_back(identity);
        self.nothing_to_do = false;
        if delivery.is_settled() {
            self.conclude(identity, &Ok(()), now);
        }
        settled
    }

    /// A channel has been opened, after the end of the one before.
    pub fn opened(&mut self) {
        self.window = Window::open();
    }

    /// The broker has blocked publishing, or accepts messages again.
    pub fn set_blocked(&mut self, is_blocked: bool, now: Instant) {
        self.window.set_blocked(is_blocked, now);
    }

    /// The next message to publish, with its delivery tag. From now on it counts as in flight. `None` if nothing may or has to
    /// be published.
    pub fn publish_next(&mut self, now: Instant) -> Option<(u64, Message<'_>)> {
        if !self.window.accepts(0) {
            return None;
        }
        let event = self.next_event(now)?;
        let delivery = self.deliveries.get_mut(&event.delivery)?;
        let (batch, _) = delivery.content.as_ref()?;
        let (message, entity) = (batch.get(event.index)?, batch.entity(event.index)?);
        let bytes = message.body.len();
        if !self.window.accepts(bytes) {
            return None;
        }
        delivery.states[event.index] = EventState::InFlight;
        delivery.in_doubt += 1;
        let tag = self.window.push(InFlight {
            event,
            entity,
            bytes,
            published_at: now,
            returned: None,
        });
        // Suspects are published without a turn. A turn is used up also where it was an older event of another delivery.
        if self.suspects.is_empty() {
            self.turns.rotate_left(1);
        }
        Some((tag, message))
    }

    /// The event that is to be published next, if the window accepts it. Deliveries that turn out to have no caller are
    /// parked.
    fn next_event(&mut self, now: Instant) -> Option<EventRef> {
        loop {
            let event = self.next_suspect_or_turn()?;
            let oldest = self.oldest_to_do(event)?;
            if self.deliveries.get_mut(&oldest.delivery)?.retain_callers() {
                return Some(oldest);
            }
            self.park(oldest.delivery, now);
        }
    }

    fn next_suspect_or_turn(&mut self) -> Option<EventRef> {
        while let Some(suspect) = self.suspects.front().copied() {
            if self.in_flight() > 0 {
                return None;
            }
            if self.is_to_do(suspect) {
                return Some(suspect);
            }
            self.suspects.pop_front();
        }
        if self.nothing_to_do {
            return None;
        }
        for _ in 0..self.turns.len() {
            let delivery = *self.turns.front()?;
            if let Some(index) = self.deliveries.get_mut(&delivery)?.next_to_do() {
                return Some(EventRef { delivery, index });
            }
            self.turns.rotate_left(1);
        }
        self.nothing_to_do = true;
        None
    }

    /// The oldest event to do of the same entity as an event to do.
    fn oldest_to_do(&self, event: EventRef) -> Option<EventRef> {
        let (batch, _) = self.deliveries.get(&event.delivery)?.content.as_ref()?;
        let events = self.entities.get(&batch.entity(event.index)?)?;
        let first = events.partition_point(|event| !self.is_to_do(*event));
        events.get(first).copied()
    }

    /// The event is to do, and its delivery is live.
    fn is_to_do(&self, event: EventRef) -> bool {
        let delivery = self.deliveries.get(&event.delivery);
        delivery.is_some_and(|delivery| {
            delivery.is_live() && delivery.states[event.index] == EventState::ToDo
        })
    }

    /// Records that the broker has returned a message as unroutable. False for an unknown tag.
    pub fn returned(&mut self, tag: u64, reason: String) -> bool {
        self.window.mark_returned(tag, reason)
    }

    /// Records an ack or a nack, and returns how long each message that it covers took.
    pub fn confirmed(
        &mut self,
        tag: u64,
        multiple: bool,
        is_ack: bool,
        now: Instant,
    ) -> Vec<Duration> {
        let messages = self.window.take_confirmed(tag, multiple, now);
        let mut durations = Vec::with_capacity(messages.len());
        for message in messages {
            durations.push(now.saturating_duration_since(message.published_at));
            let InFlight { event, entity, .. } = message;
            if let Some(reason) = message.returned {
                let error = |progress| DeliveryError::Returned(reason, progress);
                self.fail(event, entity, now, error);
            } else if !is_ack {
                self.fail(event, entity, now, DeliveryError::Nacked);
            } else if let Some(delivery) = self.deliveries.get_mut(&event.delivery) {
                delivery.states[event.index] = EventState::Acked;
            }
            self.settle(entity, now);
        }
        durations
    }

    /// Settles the acked events of an entity that have no unconfirmed one before them.
    fn settle(&mut self, entity: Entity, now: Instant) {
        while let Some(events) = self.entities.get_mut(&entity) {
            let Some(event) = events.front().copied() else {
                self.entities.remove(&entity);
                return;
            };
            // None is forgotten while an event of it is in doubt.
            let Some(delivery) = self.deliveries.get_mut(&event.delivery) else {
                return;
            };
            if delivery.states[event.index] != EventState::Acked {
                return;
            }
            events.pop_front();
            delivery.settle(event.index, now);
            if delivery.is_live() && delivery.is_settled() {
                self.conclude(event.delivery, &Ok(()), now);
            }
        }
    }

    /// Takes a refused event back, and fails its delivery and no other one.
    fn fail(
        &mut self,
        event: EventRef,
        entity: Entity,
        now: Instant,
        error: impl FnOnce(Progress) -> DeliveryError,
    ) {
        if let Some(events) = self.entities.get_mut(&entity) {
            events.retain(|other| *other != event);
        }
        if let Some(delivery) = self.deliveries.get_mut(&event.delivery) {
            delivery.states[event.index] = EventState::ToDo;
            delivery.in_doubt -= 1;
            let verdict = Err(error(Progress {
                confirmed: delivery.settled,
                of: delivery.states.len(),
            }));
            self.conclude(event.delivery, &verdict, now);
        }
    }

    /// Gives every caller of a delivery the same verdict; one that is gone does not get it. The delivery is parked: whether a
    /// sender gets the response is not known yet.
    fn conclude(&mut self, identity: Identity, verdict: &Verdict, now: Instant) {
        if let Some(delivery) = self.deliveries.get_mut(&identity) {
            for caller in delivery.callers.drain(..) {
                let _ = caller.verdict.send(verdict.clone());
            }
        }
        self.park(identity, now);
    }

    /// Frees a live delivery's messages. What is to do gives up its place among the events of its entity.
    fn park(&mut self, identity: Identity, now: Instant) {
        let Some(delivery) = self.deliveries.get_mut(&identity) else {
            return;
        };
        let Some((batch, _charge)) = delivery.content.take() else {
            return;
        };
        self.turns.retain(|other| *other != identity);
        delivery.changed_at = now;
        for (_, entity) in delivery.to_do(&batch) {
            if let Some(events) = self.entities.get_mut(&entity) {
                events.retain(|event| event.delivery != identity);
                if events.is_empty() {
                    self.entities.remove(&entity);
                }
            }
        }
        self.limit_parked();
    }

    /// Forgets the oldest parked deliveries beyond [`MAX_PARKED_BYTES`].
    fn limit_parked(&mut self) {
        while self.parked_bytes() > MAX_PARKED_BYTES {
            let deliveries = self.deliveries.iter();
            let parked = deliveries.filter(|(_, delivery)| delivery.is_forgettable());
            let Some((&oldest, _)) = parked.min_by_key(|(_, delivery)| delivery.changed_at) else {
                return;
            };
            self.deliveries.remove(&oldest);
        }
    }

    fn parked_bytes(&self) -> usize {
        let parked = self.deliveries.values().filter(|one| !one.is_live());
        parked.map(Delivery::parked_bytes).sum()
    }

    /// Records that a sender gets the response to a settled notification, which is forgotten. Until then the same notification is
    /// a retry, of which nothing is published again; from then on it is a repetition.
    pub fn heard(&mut self, identity: Identity) {
        let delivery = self.deliveries.get(&identity);
        if delivery.is_some_and(|delivery| !delivery.is_live() && delivery.is_settled()) {
            self.deliveries.remove(&identity);
        }
    }

    /// Parks the deliveries that have no caller left, and forgets those that have been parked for long.
    pub fn scan(&mut self, now: Instant) {
        for identity in self.turns.clone() {
            let delivery = self.deliveries.get_mut(&identity);
            if !delivery.is_some_and(Delivery::retain_callers) {
                self.park(identity, now);
            }
        }
        self.deliveries.retain(|_, delivery| {
            !delivery.is_forgettable() || now < delivery.changed_at + PARKING_LIMIT
        });
    }

    /// Ends the current channel: what is not settled becomes to do again, also what is acked. Live deliveries keep their order, parked
    /// ones lose their places. Returns how many messages were in flight. Every confirm that was received has to be recorded before.
    pub fn channel_ended(&mut self, reason: &CloseReason, now: Instant) -> usize {
        let window = mem::take(&mut self.window);
        let in_flight: Vec<InFlight> = window.into_messages().collect();
        if matches!(reason, CloseReason::Channel { .. }) {
            if let [message] = in_flight.as_slice() {
                let refused = if reason.is_access_refused() {
                    DeliveryError::AccessRefused
                } else {
                    DeliveryError::ChannelClosed
                };
                let error = |progress| refused(reason.to_string(), progress);
                self.fail(message.event, message.entity, now, error);
            } else {
                // With several in flight there are no other suspects: while there are, one message is in flight at most.
                let events = in_flight.iter().map(|message| message.event);
                self.suspects.extend(events);
            }
        }
        for delivery in self.deliveries.values_mut() {
            for state in &mut delivery.states {
                if *state != EventState::Settled {
                    *state = EventState::ToDo;
                }
            }
            (delivery.in_doubt, delivery.cursor) = (0, 0);
        }
        self.nothing_to_do = false;
        self.entities.retain(|_, events| {
            events.retain(|event| {
                let delivery = self.deliveries.get(&event.delivery);
                delivery.is_some_and(Delivery::is_live)
            });
            !events.is_empty()
        });
        in_flight.len()
    }

    /// The number of messages published and not confirmed.
    pub fn in_flight(&self) -> usize {
        self.window.len()
    }

    /// A caller waits, as far as is known.
    pub fn has_callers(&self) -> bool {
        !self.turns.is_empty()
    }

    /// When the broker counts as stalled.
    pub fn stalls_at(&self) -> Option<Instant> {
        self.window.stalls_at()
    }

    /// Numbers for operators. Looks at each delivery.
    pub fn stats(&self) -> LedgerStats {
        let live = self.deliveries.values().filter(|one| one.is_live());
        LedgerStats {
            live: self.turns.len(),
            parked: self.deliveries.len() - self.turns.len(),
            to_settle: live.map(|one| one.states.len() - one.settled).sum(),
            in_flight: self.in_flight(),
            window: self.window.limit,
        }
    }
}
