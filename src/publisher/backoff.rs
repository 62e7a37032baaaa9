//! The pause before the next connection attempt.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{Duration, Instant};

const INITIAL: Duration = Duration::from_millis(200);
const MAX: Duration = Duration::from_secs(10);

/// After this time without a pause, the next one is the shortest again.
const FORGOTTEN_AFTER: Duration = Duration::from_mins(1);

/// Doubles from 0.2 s to 10 s. Each pause is a random part of it, at least half, so that many connectors don't reconnect
/// at the same moment.
#[derive(Debug, Default)]
pub struct Backoff {
    /// The longest that the last pause could be, and when it began.
    last: Option<(Duration, Instant)>,
}

impl Backoff {
    /// The pause that begins now.
    pub fn next(&mut self, now: Instant) -> Duration {
        let recent = self
            .last
            .filter(|(_, began)| now < *began + FORGOTTEN_AFTER);
        let longest = recent.map_or(INITIAL, |(longest, _)| (longest * 2).min(MAX));
        self.last = Some((longest, now));
        // The standard library's hasher keys are random: enough for jitter.
        let random = RandomState::new().build_hasher().finish() % 1000;
        longest / 2 + longest / 2 * u32::try_from(random).unwrap_or(0) / 1000
    }

    /// Starts again from the shortest pause.
    pub fn reset(&mut self) {
        self.last = None;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn grows_to_its_limit_with_jitter() {
        let (mut backoff, mut now) = (Backoff::default(), Instant::now());
        let mut longest = INITIAL;
        for _ in 0..12 {
            let pause = backoff.next(now);
            assert!(
                pause >= longest / 2 && pause <= longest,
                "{pause:?} of {longest:?}"
            );
            longest = (longest * 2).min(MAX);
            now += MAX;
        }
        let pauses: HashSet<Duration> = (0..100).map(|_| backoff.next(now)).collect();
        assert!(pauses.len() > 10, "no jitter: {pauses:?}");
        backoff.reset();
        assert!(backoff.next(now) <= INITIAL);
        let longer = (0..10).filter(|_| backoff.next(now) > INITIAL).count();
        assert!(longer > 5, "each is the first");
        now += FORGOTTEN_AFTER;
        assert!(
            backoff.next(now) <= INITIAL,
            "a connection was open for long"
        );
    }
}
