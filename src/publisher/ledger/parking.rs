//! Deliveries without a waiting caller: what is kept of them, and for how long.

use std::time::Instant;

use super::delivery::{Delivery, EventState};
use super::{Ledger, SCAN_INTERVAL};
use crate::publisher::batch::{Entity, Identity};

/// Memory for parked deliveries, in bytes; the oldest are forgotten beyond it. They are not charged to the budget.
pub const MAX_PARKED_BYTES: usize = 2 << 20;

impl Ledger {
    /// Frees a live delivery's messages. What is to do gives up its place among the events of its entity.
    pub(super) fn park(&mut self, identity: Identity, now: Instant) {
        let Some(delivery) = self.deliveries.get_mut(&identity) else {
            return;
        };
        let Some((batch, _charge)) = delivery.content.take() else {
            return;
        };
        self.live -= 1;
        self.waiting -= delivery.states.len() - delivery.settled;
        self.parked_bytes += delivery.parked_bytes();
        delivery.changed_at = now;
        let is_to_do = |index: &usize| delivery.states[*index] == EventState::ToDo;
        let to_do = (0..delivery.states.len()).filter(is_to_do);
        let mut entities: Vec<Entity> = to_do.filter_map(|index| batch.entity(index)).collect();
        entities.sort_unstable();
        entities.dedup();
        if !entities.is_empty() {
            self.turns.retain(|other| *other != identity);
        }
        for entity in entities {
            if let Some(events) = self.entities.get_mut(&entity) {
                events.retain(|event| {
                    event.delivery != identity || !is_to_do(&(event.index as usize))
                });
                if events.is_empty() {
                    self.entities.remove(&entity);
                }
            }
        }
        self.limit_parked();
    }

    /// Adds a parked delivery, all of whose events are in one state.
    pub(super) fn park_new(
        &mut self,
        identity: Identity,
        events: usize,
        state: EventState,
        now: Instant,
    ) {
        let delivery = Delivery::new(events, state, now);
        self.parked_bytes += delivery.parked_bytes();
        self.deliveries.insert(identity, delivery);
        self.scan_by(now + SCAN_INTERVAL);
    }

    /// Forgets a parked delivery that has no event in flight.
    pub(super) fn forget(&mut self, identity: Identity) {
        if let Some(delivery) = self.deliveries.remove(&identity) {
            self.parked_bytes -= delivery.parked_bytes();
        }
    }

    /// Forgets the oldest parked deliveries beyond [`MAX_PARKED_BYTES`].
    pub(super) fn limit_parked(&mut self) {
        while self.parked_bytes > MAX_PARKED_BYTES {
            let idle = self
                .deliveries
                .iter()
                .filter(|(_, delivery)| !delivery.is_live() && delivery.unsettled == 0);
            let oldest = idle.min_by_key(|(_, delivery)| delivery.changed_at);
            let Some(identity) = oldest.map(|(identity, _)| *identity) else {
                return;
            };
            self.forget(identity);
        }
    }
}
