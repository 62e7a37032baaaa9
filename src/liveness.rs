//! Whether a loop still works, as the loop itself reports it.
//!
//! The accept loop and the publisher's loop own a [`Heartbeat`] each; the main thread reads them, and only while both are alive
//! does it feed systemd's watchdog. This module knows no thread and no socket.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long a loop may take from one beat to the next, unless it has announced a longer step. A loop beats every 10 s when it is
/// idle; the rest is for a machine that is overloaded.
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// A loop's sign of life. Clones share one state.
#[derive(Debug, Clone)]
pub struct Heartbeat(Arc<State>);

#[derive(Debug)]
struct State {
    created: Instant,
    /// When the next beat is due, in milliseconds since `created`.
    due: AtomicU64,
}

impl Heartbeat {
    /// Alive for now; the first beat is due as any other.
    pub fn new() -> Self {
        let heartbeat = Self(Arc::new(State {
            created: Instant::now(),
            due: AtomicU64::new(0),
        }));
        heartbeat.beat();
        heartbeat
    }

    /// The loop is alive.
    pub fn beat(&self) {
        self.expect_within(MAX_PAUSE);
    }

    /// The loop is alive, and its next beat may take up to `limit`: for a step without a limit of its own, for example the lookup
    /// of a host name.
    pub fn expect_within(&self, limit: Duration) {
        self.set_due(Instant::now(), limit);
    }

    fn set_due(&self, now: Instant, limit: Duration) {
        let due = self.milliseconds(now.checked_add(limit).unwrap_or(now));
        self.0.due.store(due, Ordering::SeqCst);
    }

    /// Whether the next beat is not overdue.
    pub fn is_alive(&self, now: Instant) -> bool {
        self.milliseconds(now) <= self.0.due.load(Ordering::SeqCst)
    }

    fn milliseconds(&self, time: Instant) -> u64 {
        let elapsed = time.saturating_duration_since(self.0.created);
        u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
    }
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn only_the_last_announcement_counts(
            steps in vec((0_u64..100_000, 0_u64..100_000), 1..20), later in 0_u64..200_000,
        ) {
            let heartbeat = Heartbeat::new();
            let reader = heartbeat.clone();
            let mut now = heartbeat.0.created;
            let mut limit = 0;
            for (passed, next_limit) in steps {
                now += Duration::from_millis(passed);
                limit = next_limit;
                heartbeat.set_due(now, Duration::from_millis(limit));
            }
            prop_assert_eq!(reader.is_alive(now + Duration::from_millis(later)), later <= limit);
        }
    }

    #[test]
    fn a_new_one_is_alive_until_its_first_beat_is_overdue() {
        let heartbeat = Heartbeat::new();
        let now = Instant::now();
        assert!(heartbeat.is_alive(now));
        assert!(!heartbeat.is_alive(now + 2 * MAX_PAUSE));
        heartbeat.expect_within(3 * MAX_PAUSE);
        assert!(heartbeat.is_alive(now + 2 * MAX_PAUSE));
        heartbeat.beat();
        assert!(!heartbeat.is_alive(now + 2 * MAX_PAUSE));
    }
}
