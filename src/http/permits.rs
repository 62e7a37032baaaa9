//! How many notifications are mapped at once.

use std::thread;
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use crate::memory::MAX_SMALL_BYTES;

/// The most large notifications that are mapped at once. Mapping holds memory that is not charged: up to 12 MiB each.
const MAX_LARGE: usize = 3;

/// The most small notifications that are mapped at once. More threads than processors would not make it faster.
const MAX_SMALL: usize = 4;

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
            large: Semaphore::new((processors - 1).clamp(1, MAX_LARGE)),
            small: Semaphore::new(MAX_SMALL),
        }
    }

    /// Waits for a permit for a body of this length, until the deadline.
    pub fn acquire(&self, body_bytes: usize, deadline: Instant) -> Option<Permit<'_>> {
        let semaphore = if body_bytes > MAX_SMALL_BYTES {
            &self.large
        } else {
            &self.small
        };
        semaphore.acquire(deadline)
    }
}

/// A limited number of permits.
#[derive(Debug)]
struct Semaphore {
    free: Mutex<usize>,
    released: Condvar,
}

/// One permit, given back when it is dropped.
#[derive(Debug)]
pub struct Permit<'s>(&'s Semaphore);

impl Semaphore {
    fn new(permits: usize) -> Self {
        Self {
            free: Mutex::new(permits),
            released: Condvar::new(),
        }
    }

    /// Waits for a permit until the deadline.
    fn acquire(&self, deadline: Instant) -> Option<Permit<'_>> {
        let mut free = self.free.lock();
        self.released
            .wait_while_until(&mut free, |free| *free == 0, deadline);
        *free = free.checked_sub(1)?;
        Some(Permit(self))
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        *self.0.free.lock() += 1;
        self.0.released.notify_one();
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
