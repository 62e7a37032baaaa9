//! How a caller waits for the verdict on its notification: until it comes, the time is up, or the sender is gone.

use std::time::{Duration, Instant};

use oneshot::RecvTimeoutError;
use parking_lot::Mutex;

use super::Verdict;
use super::error::DeliveryError;

/// How often a waiting caller looks whether its sender is still there, and whether there is progress.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// How long a caller waits.
#[derive(Debug, Clone, Copy)]
pub struct AnswerTimeout {
    /// Since an event of the notification was settled last; before, since the ledger took it, or the wait began.
    pub without_progress: Duration,
    /// Since the notification was submitted.
    pub in_all: Duration,
}

/// The wait of one caller.
#[derive(Debug)]
pub struct Wait {
    /// When it began.
    pub since: Instant,
    timeout: AnswerTimeout,
    /// How many events of the notification are settled, and when the last one was: written by the publisher's thread.
    progress: Mutex<(usize, Instant)>,
}

impl Wait {
    /// Begins now.
    pub fn new(timeout: AnswerTimeout, now: Instant) -> Self {
        Self {
            since: now,
            timeout,
            progress: Mutex::new((0, now)),
        }
    }

    /// Another event is settled, or the ledger has taken the notification, of which an earlier attempt may have settled events.
    pub fn advance(&self, settled: usize, now: Instant) {
        *self.progress.lock() = (settled, now);
    }

    /// The number of settled events.
    pub fn settled(&self) -> usize {
        self.progress.lock().0
    }

    /// Waits for the verdict; `None` if the time is up before it comes.
    pub fn verdict(
        &self,
        receiver: &oneshot::Receiver<Verdict>,
        sender_is_gone: &dyn Fn() -> bool,
    ) -> Option<Verdict> {
        while let Some(pause) = self.pause(Instant::now()) {
            match receiver.recv_timeout(pause) {
                Ok(verdict) => return Some(verdict),
                Err(RecvTimeoutError::Disconnected) => return Some(Err(DeliveryError::Stopped)),
                Err(RecvTimeoutError::Timeout) if sender_is_gone() => {
                    return Some(Err(DeliveryError::SenderGone));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
        None
    }

    /// How long to wait before the next look; `None` if the time is up.
    pub fn pause(&self, now: Instant) -> Option<Duration> {
        let (_, changed_at) = *self.progress.lock();
        let stalled = changed_at + self.timeout.without_progress;
        let deadline = stalled.min(self.since + self.timeout.in_all);
        let left = deadline.saturating_duration_since(now);
        (!left.is_zero()).then(|| left.min(LOOK_INTERVAL))
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const TIMEOUT: AnswerTimeout = AnswerTimeout {
        without_progress: Duration::from_millis(3_500),
        in_all: Duration::from_secs(9),
    };

    proptest! {
        /// A caller that looks after each pause gives up at its deadline, whenever events are settled meanwhile.
        #[test]
        fn the_time_is_up_at_the_deadline_and_not_before(settled_after in vec(0_u64..12_000, 0..6)) {
            let start = Instant::now();
            let at = |milliseconds| start + Duration::from_millis(milliseconds);
            let mut settled_after = settled_after;
            settled_after.sort_unstable();
            // The first time at which one of the two limits is reached.
            let mut deadline = start + TIMEOUT.without_progress;
            for time in settled_after.iter().map(|after| at(*after)) {
                if time < deadline {
                    deadline = (time + TIMEOUT.without_progress).min(start + TIMEOUT.in_all);
                }
            }
            let wait = Wait::new(TIMEOUT, start);
            let (mut now, mut events) = (start, settled_after.iter().enumerate().peekable());
            while let Some(pause) = wait.pause(now) {
                prop_assert!(!pause.is_zero() && pause <= LOOK_INTERVAL, "a sender that is gone is noticed");
                now += pause;
                while let Some((index, after)) = events.next_if(|(_, after)| at(**after) < now) {
                    wait.advance(index + 1, at(*after));
                }
            }
            prop_assert_eq!(now, deadline);
        }
    }

    #[test]
    fn an_earlier_attempt_is_no_progress() {
        let start = Instant::now();
        let wait = Wait::new(TIMEOUT, start);
        wait.advance(7, start);
        assert_eq!(wait.settled(), 7);
        assert_eq!(wait.pause(start + TIMEOUT.without_progress), None);
    }

    #[test]
    fn a_wait_ends_with_the_verdict_the_sender_the_thread_or_the_time() {
        let wait_for = |limit, sender_is_gone: bool, act: fn(oneshot::Sender<Verdict>)| {
            let timeout = AnswerTimeout {
                without_progress: limit,
                in_all: limit,
            };
            let (sender, receiver) = oneshot::channel();
            act(sender);
            let wait = Wait::new(timeout, Instant::now());
            let verdict = wait.verdict(&receiver, &|| sender_is_gone);
            let is_up = wait.since.elapsed() >= limit;
            assert_eq!(is_up, verdict.is_none(), "the time of the error message");
            verdict
        };
        let (long, moment) = (Duration::from_hours(1), Duration::from_millis(1));
        let keep = |sender| std::mem::forget(sender);
        let settle = |sender: oneshot::Sender<Verdict>| sender.send(Ok(())).unwrap();
        assert_eq!(wait_for(long, false, settle), Some(Ok(())));
        assert_eq!(
            wait_for(long, false, drop),
            Some(Err(DeliveryError::Stopped))
        );
        assert_eq!(
            wait_for(long, true, keep),
            Some(Err(DeliveryError::SenderGone))
        );
        assert_eq!(wait_for(moment, false, keep), None);
    }
}
