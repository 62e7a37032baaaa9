//! Decides what is published next, and each notification's verdict.
//!
//! Pure: time comes in as an argument, confirms as numbers, and what is to be published goes out as bytes. It must know no
//! thread, socket or clock, and nothing of amiquip.
//!
//! A notification that is submitted again attaches to its *delivery* and goes on where that was. A delivery without a
//! waiting caller is *parked*: nothing of it is published. All deliveries take turns, a message each. Events of one entity
//! are published and settled in the order of their submission; after the loss of a connection everything that is not
//! settled is published again in that order, so that the last message of an entity is always the one submitted last.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

mod delivery;
mod parking;
#[cfg(test)]
mod tests;
mod window;

pub use delivery::{Caller, EventRef, Publication, Submission};
pub use window::STALL_LIMIT;

use super::Verdict;
use super::batch::{Entity, Identity};
use super::error::{CloseReason, DeliveryError, Progress};
use crate::metrics::LedgerStats;
use delivery::{Delivery, EventState};
use window::{InFlight, Window};

/// How often [`Ledger::scan`] has to be called.
pub const SCAN_INTERVAL: Duration = Duration::from_secs(1);

/// All deliveries, and the unconfirmed messages of the current channel.
#[derive(Debug, Default)]
pub struct Ledger {
    deliveries: HashMap<Identity, Delivery>,
    /// For each entity its events that are in flight, acked or (of live deliveries) to do, in the order of submission:
    /// those that are to do come last.
    entities: HashMap<Entity, VecDeque<EventRef>>,
    /// Every live delivery once.
    turns: VecDeque<Identity>,
    /// No delivery that has a turn has an event to do: looking for one takes a look at each.
    is_idle: bool,
    /// Events that were in flight when the broker closed a channel. They are published one at a time.
    suspects: VecDeque<EventRef>,
    /// `None` without a channel.
    window: Option<Window>,
    parked_bytes: usize,
}

impl Ledger {
    /// Takes a notification. Returns the number of its events that an earlier attempt has settled.
    pub fn submit(&mut self, submission: Submission, now: Instant) -> usize {
        let Submission {
            batch,
            charge,
            caller,
        } = submission;
        let identity = batch.identity();
        let delivery = self.deliveries.entry(identity).or_insert_with(|| {
            let delivery = Delivery::new(batch.len(), now);
            self.parked_bytes += delivery.parked_bytes();
            delivery
        });
        delivery.add_caller(caller);
        let settled = delivery.settled;
        if delivery.is_live() {
            return settled;
        }
        for (index, state) in (0..).zip(&delivery.states) {
            if *state == EventState::ToDo
                && let Some(entity) = batch.entity(index as usize)
            {
                let event = EventRef {
                    delivery: identity,
                    index,
                };
                self.entities.entry(entity).or_default().push_back(event);
            }
        }
        self.parked_bytes -= delivery.parked_bytes();
        delivery.content = Some((batch, charge));
        delivery.cursor = 0;
        self.turns.push_back(identity);
        self.is_idle = false;
        if delivery.is_settled() {
            self.conclude(identity, &Ok(()), now);
        }
        settled
    }

    /// Records that a sender gets the response to a settled notification. It is forgotten, so that a repetition is
    /// published.
    pub fn heard(&mut self, identity: Identity) {
        let delivery = self.deliveries.get(&identity);
        if delivery.is_some_and(|delivery| !delivery.is_live() && delivery.is_settled()) {
            self.forget(identity);
        }
    }

    /// A channel has been opened.
    pub fn opened(&mut self, now: Instant) {
        self.window = Some(Window::new(now));
    }

    /// The broker has blocked publishing, or accepts messages again.
    pub fn set_blocked(&mut self, is_blocked: bool, now: Instant) {
        if let Some(window) = &mut self.window {
            window.set_blocked(is_blocked, now);
        }
    }

    /// The next message to publish. From now on it counts as in flight. `None` if nothing may or has to be published.
    pub fn publish_next(&mut self, now: Instant) -> Option<Publication<'_>> {
        if !self.window.as_ref()?.accepts(0) {
            return None;
        }
        let event = self.next_event(now)?;
        let window = self.window.as_mut()?;
        let delivery = self.deliveries.get_mut(&event.delivery)?;
        let (batch, _) = delivery.content.as_ref()?;
        let index = event.index as usize;
        let (message, entity) = (batch.get(index)?, batch.entity(index)?);
        let bytes = message.body.len();
        if !window.accepts(bytes) {
            return None;
        }
        delivery.states[index] = EventState::InFlight;
        delivery.in_doubt += 1;
        let tag = window.push(InFlight {
            event,
            entity,
            bytes,
            published_at: now,
            returned: None,
        });
        // Suspects are published before all others. The turn ends also where it was an older event of another delivery.
        if self.suspects.is_empty()
            && let Some(identity) = self.turns.pop_front()
        {
            self.turns.push_back(identity);
        }
        Some(Publication { tag, message })
    }

    /// The event that is to be published next, if the window accepts it. Deliveries that turn out to have no caller are
    /// parked.
    fn next_event(&mut self, now: Instant) -> Option<EventRef> {
        loop {
            let event = self.next_suspect_or_turn()?;
            let oldest = self.oldest_to_do(event);
            if self.deliveries.get_mut(&oldest.delivery)?.has_callers() {
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
        for _ in 0..self.turns.len() {
            if self.is_idle {
                break;
            }
            let delivery = *self.turns.front()?;
            let next_to_do = self.deliveries.get_mut(&delivery)?.next_to_do();
            if let Some(index) = next_to_do {
                return Some(EventRef { delivery, index });
            }
            self.turns.rotate_left(1);
        }
        self.is_idle = true;
        None
    }

    /// The oldest event to do of the same entity as an event to do.
    fn oldest_to_do(&self, event: EventRef) -> EventRef {
        let delivery = self.deliveries.get(&event.delivery);
        let content = delivery.and_then(|delivery| delivery.content.as_ref());
        let entity = content.and_then(|(batch, _)| batch.entity(event.index as usize));
        let events = entity.and_then(|entity| self.entities.get(&entity));
        let oldest = events.and_then(|events| {
            let first = events.partition_point(|event| !self.is_to_do(*event));
            events.get(first).copied()
        });
        oldest.unwrap_or(event)
    }

    /// The event is to do, and its delivery is live.
    fn is_to_do(&self, event: EventRef) -> bool {
        let delivery = self.deliveries.get(&event.delivery);
        delivery.is_some_and(|delivery| {
            delivery.is_live() && delivery.states[event.index as usize] == EventState::ToDo
        })
    }

    /// Records that the broker has returned a message as unroutable. False for an unknown tag.
    pub fn returned(&mut self, tag: u64, reason: String) -> bool {
        let window = self.window.as_mut();
        window.is_some_and(|window| window.mark_returned(tag, reason))
    }

    /// Records an ack or a nack, and returns how long each message that it settles took.
    pub fn confirmed(
        &mut self,
        tag: u64,
        multiple: bool,
        is_ack: bool,
        now: Instant,
    ) -> Vec<Duration> {
        let Some(window) = &mut self.window else {
            return Vec::new();
        };
        let messages = window.take_confirmed(tag, multiple, now);
        let mut durations = Vec::with_capacity(messages.len());
        for message in messages {
            durations.push(now.saturating_duration_since(message.published_at));
            let InFlight { event, entity, .. } = message;
            match message.returned {
                Some(reason) => self.fail(event, entity, now, |progress| DeliveryError::Returned {
                    reason,
                    progress,
                }),
                None if is_ack => {
                    if let Some(delivery) = self.deliveries.get_mut(&event.delivery) {
                        delivery.states[event.index as usize] = EventState::Acked;
                    }
                }
                None => self.fail(event, entity, now, DeliveryError::Nacked),
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
            let Some(delivery) = self.deliveries.get_mut(&event.delivery) else {
                events.pop_front();
                continue;
            };
            if delivery.states[event.index as usize] != EventState::Acked {
                return;
            }
            events.pop_front();
            delivery.settle(event.index, now);
            if delivery.is_live() && delivery.is_settled() {
                self.conclude(event.delivery, &Ok(()), now);
            }
        }
    }

    /// Gives a delivery its verdict. It is parked: whether a sender gets the response is not known yet.
    fn conclude(&mut self, identity: Identity, verdict: &Verdict, now: Instant) {
        if let Some(delivery) = self.deliveries.get_mut(&identity) {
            delivery.answer(verdict);
        }
        self.park(identity, now);
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
        let Some(delivery) = self.deliveries.get_mut(&event.delivery) else {
            return;
        };
        delivery.states[event.index as usize] = EventState::ToDo;
        delivery.in_doubt -= 1;
        let verdict = Err(error(delivery.progress()));
        self.conclude(event.delivery, &verdict, now);
    }

    /// Ends the current channel: what is not settled becomes to do again, in order. Returns how many messages were in
    /// flight. Every confirm that was received has to be recorded before.
    pub fn channel_ended(&mut self, reason: &CloseReason, now: Instant) -> usize {
        let Some(window) = self.window.take() else {
            return 0;
        };
        let in_flight: Vec<InFlight> = window.into_messages().collect();
        if let CloseReason::Channel {
            code,
            message: text,
        } = reason
        {
            if let [message] = in_flight.as_slice() {
                self.fail(message.event, message.entity, now, |progress| {
                    DeliveryError::channel_closed(*code, text, progress)
                });
            } else {
                // There were no others: a suspect is alone in flight.
                let events = in_flight.iter().map(|message| message.event);
                self.suspects.extend(events);
            }
        }
        for delivery in self.deliveries.values_mut() {
            if delivery.in_doubt == 0 {
                continue;
            }
            for state in &mut delivery.states {
                if *state != EventState::Settled {
                    *state = EventState::ToDo;
                }
            }
            (delivery.in_doubt, delivery.cursor) = (0, 0);
        }
        self.is_idle = false;
        let deliveries = &self.deliveries;
        self.entities.retain(|_, events| {
            events.retain(|event| {
                let delivery = deliveries.get(&event.delivery);
                delivery.is_some_and(Delivery::is_live)
            });
            !events.is_empty()
        });
        in_flight.len()
    }

    /// The number of messages published and not confirmed.
    pub fn in_flight(&self) -> usize {
        self.window.as_ref().map_or(0, Window::len)
    }

    /// A caller waits, as far as is known.
    pub fn has_callers(&self) -> bool {
        !self.turns.is_empty()
    }

    /// When the broker counts as stalled.
    pub fn stalls_at(&self) -> Option<Instant> {
        self.window.as_ref()?.stalls_at()
    }

    /// Numbers for operators. Looks at each delivery.
    pub fn stats(&self) -> LedgerStats {
        let live = self.deliveries.values().filter(|one| one.is_live());
        LedgerStats {
            live: self.turns.len(),
            parked: self.deliveries.len() - self.turns.len(),
            to_settle: live.map(|one| one.states.len() - one.settled).sum(),
            in_flight: self.in_flight(),
            window: self.window.as_ref().map_or(0, Window::limit),
        }
    }
}
