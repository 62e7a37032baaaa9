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

pub use delivery::{AnswerTimeout, EventRef, Publication, Submission};
pub use window::STALL_LIMIT;

use super::Verdict;
use super::batch::{Entity, Identity};
use super::error::{CloseReason, DeliveryError, Progress};
use super::status::BrokerStatus;
use crate::metrics::LedgerStats;
use delivery::{Delivery, EventState, Waiting};
use window::{InFlight, Window};

/// How often callers are looked for that are gone.
const SCAN_INTERVAL: Duration = Duration::from_secs(1);

/// A parked delivery is forgotten after this time. Alertmanager retries after 90 s at most.
const PARKING_LIMIT: Duration = Duration::from_mins(2);

/// All deliveries, and the unconfirmed messages of the current channel.
#[derive(Debug, Default)]
pub struct Ledger {
    deliveries: HashMap<Identity, Delivery>,
    /// For each entity its events that are in flight, acked or (of live deliveries) to do, in the order of submission:
    /// those that are to do come last.
    entities: HashMap<Entity, VecDeque<EventRef>>,
    /// The live deliveries with events to do.
    turns: VecDeque<Identity>,
    /// Events that were in flight when the broker closed a channel. They are published one at a time.
    suspects: VecDeque<EventRef>,
    /// `None` without a channel.
    window: Option<Window>,
    next_scan: Option<Instant>,
    live: usize,
    waiting: usize,
    parked_bytes: usize,
}

impl Ledger {
    /// Takes a notification. Returns the number of its events that an earlier attempt has settled.
    pub fn submit(&mut self, submission: Submission, now: Instant) -> usize {
        let Submission {
            batch,
            charge,
            timeout,
            verdict,
        } = submission;
        self.scan_by(now + timeout.without_progress.min(timeout.in_all));
        let identity = batch.identity();
        if !self.deliveries.contains_key(&identity) {
            self.park_new(identity, batch.len(), EventState::ToDo, now);
        }
        let Some(delivery) = self.deliveries.get_mut(&identity) else {
            return 0;
        };
        delivery.waiting.push(Waiting {
            verdict,
            since: now,
            timeout,
        });
        if delivery.is_live() {
            return delivery.settled;
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
        self.live += 1;
        self.waiting += delivery.states.len() - delivery.settled;
        self.parked_bytes -= delivery.parked_bytes();
        delivery.content = Some((batch, charge));
        delivery.cursor = 0;
        if delivery.has_to_do() {
            self.turns.push_back(identity);
        }
        let settled = delivery.settled;
        if delivery.is_settled() {
            self.conclude(identity, &Ok(()), now);
        }
        settled
    }

    /// Records that a notification was settled, and its sender has not got the response: its retry is answered at once.
    pub fn unheard(&mut self, identity: Identity, events: usize, now: Instant) {
        if !self.deliveries.contains_key(&identity) {
            self.park_new(identity, events, EventState::Settled, now);
            self.limit_parked();
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
        delivery.unsettled += 1;
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
        let is_done = !delivery.has_to_do();
        if is_done && self.turns.back() == Some(&event.delivery) {
            self.turns.pop_back();
        } else if is_done {
            self.turns.retain(|other| *other != event.delivery);
        }
        Some(Publication { tag, message })
    }

    /// The event that is to be published next, if the window accepts it.
    fn next_event(&mut self, now: Instant) -> Option<EventRef> {
        while let Some(suspect) = self.suspects.front().copied() {
            if self.in_flight() > 0 {
                return None;
            }
            if !self.is_to_do(suspect) {
                self.suspects.pop_front();
            } else if let Some(oldest) = self.oldest_to_do(suspect, now) {
                return Some(oldest);
            }
        }
        while let Some(identity) = self.turns.front().copied() {
            let delivery = self.deliveries.get_mut(&identity);
            let live = delivery.filter(|delivery| delivery.is_live());
            let Some(index) = live.and_then(Delivery::next_to_do) else {
                self.turns.pop_front();
                continue;
            };
            let event = EventRef {
                delivery: identity,
                index,
            };
            if let Some(oldest) = self.oldest_to_do(event, now) {
                return Some(oldest);
            }
        }
        None
    }

    /// The oldest event to do of the same entity as an event to do. `None` if its delivery has no caller left; the
    /// delivery is parked then.
    fn oldest_to_do(&mut self, event: EventRef, now: Instant) -> Option<EventRef> {
        let (batch, _) = self.deliveries.get(&event.delivery)?.content.as_ref()?;
        let events = self.entities.get(&batch.entity(event.index as usize)?);
        let oldest = events.and_then(|events| {
            let first = events.partition_point(|event| !self.is_to_do(*event));
            events.get(first).copied()
        });
        let oldest = oldest.unwrap_or(event);
        if self.deliveries.get_mut(&oldest.delivery)?.has_waiter() {
            return Some(oldest);
        }
        self.park(oldest.delivery, now);
        None
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
        let messages = window.settle(tag, multiple, now);
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
            let state = &mut delivery.states[event.index as usize];
            if *state != EventState::Acked {
                return;
            }
            *state = EventState::Settled;
            events.pop_front();
            delivery.unsettled -= 1;
            delivery.settled += 1;
            delivery.changed_at = now;
            if delivery.is_live() {
                self.waiting -= 1;
                if delivery.is_settled() {
                    self.conclude(event.delivery, &Ok(()), now);
                }
            }
        }
    }

    /// Gives a delivery its verdict. If it is settled and a caller hears it, it is forgotten, so that a repetition is
    /// published.
    fn conclude(&mut self, identity: Identity, verdict: &Verdict, now: Instant) {
        let delivery = self.deliveries.get_mut(&identity);
        let is_heard = delivery.is_some_and(|delivery| delivery.answer(verdict));
        self.park(identity, now);
        if is_heard && verdict.is_ok() {
            self.forget(identity);
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
        let Some(delivery) = self.deliveries.get_mut(&event.delivery) else {
            return;
        };
        delivery.states[event.index as usize] = EventState::ToDo;
        delivery.unsettled -= 1;
        let verdict = Err(error(delivery.progress()));
        self.conclude(event.delivery, &verdict, now);
    }

    /// Ends the current channel: what is not settled becomes to do again, in order. Returns how many messages were in
    /// flight. Every confirm that was received has to be recorded before.
    pub fn lost(&mut self, reason: &CloseReason, now: Instant) -> usize {
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
        for (identity, delivery) in &mut self.deliveries {
            if delivery.unsettled == 0 {
                continue;
            }
            let had_turn = delivery.has_to_do();
            for state in &mut delivery.states {
                if *state != EventState::Settled {
                    *state = EventState::ToDo;
                }
            }
            (delivery.unsettled, delivery.cursor) = (0, 0);
            if delivery.is_live() && !had_turn {
                self.turns.push_back(*identity);
            }
        }
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

    /// Answers the callers whose time is up, parks the deliveries that have none left, and forgets old parked ones.
    pub fn tick(&mut self, status: &dyn Fn() -> BrokerStatus, now: Instant) {
        if self.next_scan.is_none_or(|next_scan| now < next_scan) {
            return;
        }
        let mut next_scan = now + SCAN_INTERVAL;
        let (mut unattended, mut forgotten) = (Vec::new(), Vec::new());
        for (identity, delivery) in &mut self.deliveries {
            if !delivery.is_live() {
                let age = now.saturating_duration_since(delivery.changed_at);
                if delivery.unsettled == 0 && age >= PARKING_LIMIT {
                    forgotten.push(*identity);
                }
                continue;
            }
            let next_deadline = delivery.expire(now, |after, progress| DeliveryError::Timeout {
                after,
                progress,
                status: status(),
            });
            if !delivery.has_waiter() {
                unattended.push(*identity);
            }
            next_scan = next_deadline.map_or(next_scan, |deadline| next_scan.min(deadline));
        }
        for identity in unattended {
            self.park(identity, now);
        }
        for identity in forgotten {
            self.forget(identity);
        }
        self.next_scan = (!self.deliveries.is_empty()).then_some(next_scan);
    }

    fn scan_by(&mut self, time: Instant) {
        self.next_scan = Some(self.next_scan.map_or(time, |next_scan| next_scan.min(time)));
    }

    /// The number of messages published and not confirmed.
    pub fn in_flight(&self) -> usize {
        self.window.as_ref().map_or(0, Window::len)
    }

    /// A caller waits.
    pub fn has_callers(&self) -> bool {
        self.live > 0
    }

    /// When [`Ledger::tick`] has something to do.
    pub fn next_tick(&self) -> Option<Instant> {
        self.next_scan
    }

    /// When the broker counts as stalled.
    pub fn stalls_at(&self) -> Option<Instant> {
        self.window.as_ref()?.stalls_at()
    }

    /// Numbers for operators.
    pub fn stats(&self) -> LedgerStats {
        LedgerStats {
            live: self.live,
            parked: self.deliveries.len() - self.live,
            waiting: self.waiting,
            in_flight: self.in_flight(),
            window: self.window.as_ref().map_or(0, Window::limit),
        }
    }
}
