//! Whether a loop still works, as the loop itself reports it.
//!
//! The accept loop and the publisher's loop own a [`Heartbeat`] each; the main thread reads them, and only while both are alive
//! does it feed systemd's watchdog. This module knows no thread and no socket.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// How long a loop may take from one beat to the next. The accept loop beats every 10 s when it is idle, the publisher's every
/// second; the rest is for a machine that is overloaded.
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// When a loop was last alive. Clones share one state.
#[derive(Debug, Clone)]
pub struct Heartbeat(Arc<Mutex<Instant>>);

impl Heartbeat {
    /// The loop is alive.
    pub fn beat(&self) {
        *self.0.lock() = Instant::now();
    }

    /// Whether the next beat is not overdue.
    fn is_alive(&self, now: Instant) -> bool {
        now.saturating_duration_since(*self.0.lock()) <= MAX_PAUSE
    }
}

/// The heartbeats of all loops, with their names. It makes them, so that none goes unwatched.
#[derive(Debug, Default)]
pub struct Heartbeats(Vec<(&'static str, Heartbeat)>);

impl Heartbeats {
    /// The heartbeat of a new loop: alive for now, and the first beat is due as any other.
    pub fn add(&mut self, name: &'static str) -> Heartbeat {
        let heartbeat = Heartbeat(Arc::new(Mutex::new(Instant::now())));
        self.0.push((name, heartbeat.clone()));
        heartbeat
    }

    /// The first loop whose beat is overdue.
    pub fn silent(&self, now: Instant) -> Option<&'static str> {
        let silent = self.0.iter().find(|(_, one)| !one.is_alive(now));
        silent.map(|(name, _)| *name)
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_loop_is_alive_until_its_beat_is_overdue(
            steps in vec(0_u64..100_000, 1..20), later in 0_u64..60_000,
        ) {
            let heartbeat = Heartbeats::default().add("loop");
            let reader = heartbeat.clone();
            let mut now = Instant::now();
            for passed in steps {
                now += Duration::from_millis(passed);
                *heartbeat.0.lock() = now;
            }
            let later = Duration::from_millis(later);
            prop_assert_eq!(reader.is_alive(now + later), later <= MAX_PAUSE);
        }
    }

    #[test]
    fn a_new_one_is_alive_until_its_first_beat_is_overdue() {
        let heartbeat = Heartbeats::default().add("loop");
        let now = Instant::now();
        assert!(heartbeat.is_alive(now));
        assert!(!heartbeat.is_alive(now + 2 * MAX_PAUSE));
    }

    #[test]
    fn one_silent_loop_is_enough() {
        let mut heartbeats = Heartbeats::default();
        let accept = heartbeats.add("accept");
        let _publisher = heartbeats.add("publisher");
        let now = Instant::now();
        assert_eq!(heartbeats.silent(now), None);
        let later = now + Duration::from_hours(1);
        assert_eq!(heartbeats.silent(later), Some("accept"));
        *accept.0.lock() = later;
        assert_eq!(heartbeats.silent(later), Some("publisher"));
    }
}
