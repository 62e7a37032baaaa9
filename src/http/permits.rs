//! How many notifications are mapped at once.

use std::thread;
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::memory::MAX_SMALL_BYTES;

/// The most large notifications that are mapped at once. Mapping holds memory that is not charged: up to 12 MiB each.
const MAX_LARGE: usize = 3;

/// The most small notifications that are mapped at once. More threads than processors would not make it faster.
const MAX_SMALL: usize = 4;

/// A limited number of permits: a channel that is full when all of them are taken.
type Semaphore = (Sender<()>, Receiver<()>);

/// Permits to map a notification. Large ones have their own, so that small ones do not wait for them.
#[derive(Debug)]
pub struct MappingPermits {
    large: Semaphore,
    small: Semaphore,
}

impl MappingPermits {
    /// All processors but one map large notifications.
    pub fn new() -> Self {
        let processors = thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            large: bounded((processors - 1).clamp(1, MAX_LARGE)),
            small: bounded(MAX_SMALL),
        }
    }

    /// Waits for a permit for a body of this length, until the deadline.
    pub fn acquire(&self, body_bytes: usize, deadline: Instant) -> Option<Permit<'_>> {
        let (take, give_back) = if body_bytes > MAX_SMALL_BYTES {
            &self.large
        } else {
            &self.small
        };
        take.send_deadline((), deadline).ok()?;
        Some(Permit(give_back))
    }
}

/// One permit, given back when it is dropped.
#[derive(Debug)]
pub struct Permit<'s>(&'s Receiver<()>);

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let _ = self.0.try_recv();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SMALL: usize = MAX_SMALL_BYTES;
    const LARGE: usize = MAX_SMALL_BYTES + 1;

    /// As many permits as there are without waiting.
    fn all(permits: &MappingPermits, body_bytes: usize) -> Vec<Permit<'_>> {
        let acquire = || permits.acquire(body_bytes, Instant::now());
        std::iter::from_fn(acquire).take(100).collect()
    }

    #[test]
    fn small_notifications_do_not_wait_for_large_ones() {
        let permits = MappingPermits::new();
        let large = all(&permits, LARGE);
        assert!((1..=MAX_LARGE).contains(&large.len()), "{}", large.len());
        let small = all(&permits, SMALL);
        assert_eq!(small.len(), MAX_SMALL, "beside all large ones");
        assert!(permits.acquire(0, Instant::now()).is_none());
        // Each is given back to its own kind.
        drop(large);
        assert!(permits.acquire(SMALL, Instant::now()).is_none());
        let again = all(&permits, LARGE);
        assert!(permits.acquire(LARGE, Instant::now()).is_none());
        drop((small, again));
        assert_eq!(all(&permits, SMALL).len(), MAX_SMALL);
    }

    #[test]
    fn a_permit_is_waited_for() {
        let permits = &MappingPermits::new();
        let held = all(permits, SMALL);
        thread::scope(|scope| {
            let later = Instant::now() + Duration::from_mins(1);
            let waiting = scope.spawn(move || permits.acquire(SMALL, later).is_some());
            drop(held);
            assert!(waiting.join().unwrap());
        });
    }
}
