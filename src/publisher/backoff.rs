//! The pause before the next connection attempt.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

const INITIAL: Duration = Duration::from_millis(200);
const MAX: Duration = Duration::from_secs(10);

/// Doubles from 0.2 s to 10 s. Each pause is a random part of it, at least half, so that many connectors don't reconnect
/// at the same moment.
#[derive(Debug)]
pub struct Backoff {
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next: INITIAL }
    }
}

impl Backoff {
    /// The next pause.
    pub fn next(&mut self) -> Duration {
        let longest = self.next;
        self.next = (longest * 2).min(MAX);
        // The standard library's hasher keys are random: enough for jitter.
        let random = RandomState::new().build_hasher().finish() % 1000;
        longest / 2 + longest / 2 * u32::try_from(random).unwrap_or(0) / 1000
    }

    /// Starts again from the shortest pause.
    pub fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn grows_to_its_limit_with_jitter() {
        let mut backoff = Backoff::default();
        let mut longest = INITIAL;
        for _ in 0..12 {
            let pause = backoff.next();
            assert!(
                pause >= longest / 2 && pause <= longest,
                "{pause:?} of {longest:?}"
            );
            longest = (longest * 2).min(MAX);
        }
        let pauses: HashSet<Duration> = (0..100).map(|_| backoff.next()).collect();
        assert!(pauses.len() > 10, "no jitter: {pauses:?}");
        backoff.reset();
        assert!(backoff.next() <= INITIAL);
    }
}
