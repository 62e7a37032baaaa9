//! What becomes of a batch, told once, from the publisher's thread to the one that waits for it.
//!
//! A channel would do; but one that is built for many messages looks for the next one for a while before it sleeps, and gives
//! the processor away meanwhile: with many who wait, on few processors, that is most of what their waiting costs.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Instant;

use super::DeliveryError;

type Verdict = Result<(), DeliveryError>;

/// A place for a verdict: who tells it, and who waits for it.
pub fn verdict() -> (Teller, Awaiter) {
    let slot = Arc::new(Slot::default());
    (Teller(Arc::clone(&slot)), Awaiter(slot))
}

#[derive(Debug, Default)]
struct Slot {
    state: Mutex<State>,
    told: Condvar,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Open,
    Told(Verdict),
    /// Nobody will tell it any more.
    Abandoned,
}

/// Tells the verdict. Dropping it without a word is one, too: nobody is left to ask.
#[derive(Debug)]
pub struct Teller(Arc<Slot>);

/// Waits for it.
#[derive(Debug)]
pub struct Awaiter(Arc<Slot>);

/// Why there is no verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoVerdict {
    /// The deadline has passed.
    Late,
    /// Nobody is left who could tell it.
    Abandoned,
}

impl Teller {
    /// The first one counts.
    pub fn tell(&self, verdict: Verdict) {
        self.0.set(State::Told(verdict));
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        self.0.set(State::Abandoned);
    }
}

impl Slot {
    fn set(&self, state: State) {
        let mut open = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !matches!(*open, State::Open) {
            return;
        }
        *open = state;
        // Who wakes up wants the lock: it must be free by then, or else that thread goes to sleep once more.
        drop(open);
        self.told.notify_one();
    }
}

impl Awaiter {
    /// Waits until the deadline.
    pub fn wait(self, deadline: Instant) -> Result<Verdict, NoVerdict> {
        let state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        let left = deadline.saturating_duration_since(Instant::now());
        let is_open = |state: &mut State| matches!(state, State::Open);
        let mut state = self
            .0
            .told
            .wait_timeout_while(state, left, is_open)
            .unwrap_or_else(PoisonError::into_inner)
            .0;
        match std::mem::replace(&mut *state, State::Abandoned) {
            State::Open => Err(NoVerdict::Late),
            State::Told(verdict) => Ok(verdict),
            State::Abandoned => Err(NoVerdict::Abandoned),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    use super::*;

    /// What a thread of its own hears, who would wait for an hour: within a minute it has to be woken.
    fn heard(awaiter: Awaiter) -> mpsc::Receiver<Result<Verdict, NoVerdict>> {
        let (heard, receiver) = mpsc::channel();
        thread::spawn(move || heard.send(awaiter.wait(Instant::now() + Duration::from_hours(1))));
        receiver
    }

    #[test]
    fn it_is_told_once_or_never() {
        let (teller, awaiter) = verdict();
        let receiver = heard(awaiter);
        teller.tell(Err(DeliveryError::Nacked));
        teller.tell(Ok(()));
        assert_eq!(
            receiver.recv_timeout(Duration::from_mins(1)).unwrap(),
            Ok(Err(DeliveryError::Nacked))
        );

        let (teller, awaiter) = verdict();
        let receiver = heard(awaiter);
        drop(teller);
        assert_eq!(
            receiver.recv_timeout(Duration::from_mins(1)).unwrap(),
            Err(NoVerdict::Abandoned)
        );

        let (teller, awaiter) = verdict();
        assert_eq!(awaiter.wait(Instant::now()), Err(NoVerdict::Late));
        // Who has waited too long has gone: nothing happens.
        teller.tell(Ok(()));
    }
}
