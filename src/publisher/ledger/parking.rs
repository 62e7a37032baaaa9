//! Deliveries without a waiting caller: what is kept of them, and for how long.

use std::time::{Duration, Instant};

use super::Ledger;
use super::delivery::EventState;
use crate::publisher::batch::{Entity, Identity};

/// A parked delivery is forgotten after this time. Alertmanager retries after 90 s at most.
pub const PARKING_LIMIT: Duration = Duration::from_mins(2);

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
        self.turns.retain(|other| *other != identity);
        self.parked_bytes += delivery.parked_bytes();
        delivery.changed_at = now;
        let is_to_do = |index: &usize| delivery.states[*index] == EventState::ToDo;
        let to_do = (0..delivery.states.len()).filter(is_to_do);
        let entities: Vec<Entity> = to_do.filter_map(|index| batch.entity(index)).collect();
        for entity in entities {
            if let Some(events) = self.entities.get_mut(&entity) {
                events.retain(|event| event.delivery != identity);
                if events.is_empty() {
                    self.entities.remove(&entity);
                }
            }
        }
        self.limit_parked();
    }

    /// Forgets a parked delivery that has no event in flight.
    pub(super) fn forget(&mut self, identity: Identity) {
        if let Some(delivery) = self.deliveries.remove(&identity) {
            self.parked_bytes -= delivery.parked_bytes();
        }
    }

    /// Parks the deliveries that have no caller left, and forgets those that have been parked for long.
    pub fn scan(&mut self, now: Instant) {
        let (mut without_caller, mut outdated) = (Vec::new(), Vec::new());
        for (identity, delivery) in &mut self.deliveries {
            let age = now.saturating_duration_since(delivery.changed_at);
            if delivery.is_live() {
                if !delivery.has_callers() {
                    without_caller.push(*identity);
                }
            } else if delivery.in_doubt == 0 && age >= PARKING_LIMIT {
                outdated.push(*identity);
            }
        }
        for identity in without_caller {
            self.park(identity, now);
        }
        for identity in outdated {
            self.forget(identity);
        }
    }

    /// Forgets the oldest parked deliveries beyond [`MAX_PARKED_BYTES`].
    pub(super) fn limit_parked(&mut self) {
        while self.parked_bytes > MAX_PARKED_BYTES {
            let idle = self
                .deliveries
                .iter()
                .filter(|(_, delivery)| !delivery.is_live() && delivery.in_doubt == 0);
            let oldest = idle.min_by_key(|(_, delivery)| delivery.changed_at);
            let Some(identity) = oldest.map(|(identity, _)| *identity) else {
                return;
            };
            self.forget(identity);
        }
    }
}
