//! What is known of one connection while it lasts.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use amiquip::Return;

use super::window::Window;

/// A connected, unblocked broker that has confirmed nothing for so long is given up, even where heartbeats are off.
pub const STALL_LIMIT: Duration = Duration::from_secs(30);

/// What belongs to one connection.
#[derive(Default)]
pub struct Session {
    /// What is not confirmed.
    pub window: Window,
    /// By sequence number: what the broker said of the messages it has returned.
    pub returned: HashMap<u64, String>,
    /// A memory or disk alarm: nothing may be published.
    pub blocked: bool,
    /// When it was blocked last.
    pub unblocked_at: Option<Instant>,
}

impl Session {
    /// False where the message has no id of ours.
    pub fn note_returned(&mut self, returned: &Return) -> bool {
        let id = returned
            .properties
            .message_id()
            .as_deref()
            .unwrap_or_default();
        let Some(sequence) = id
            .rsplit('-')
            .next()
            .and_then(|sequence| sequence.parse().ok())
        else {
            return false;
        };
        self.returned.insert(
            sequence,
            format!("{} {}", returned.reply_code, returned.reply_text),
        );
        true
    }

    /// How long until the connection counts as stalled; never while it is blocked, or nothing is in flight.
    pub fn time_until_stall(&self, now: Instant) -> Option<Duration> {
        let oldest = self.window.oldest().filter(|_| !self.blocked)?;
        // While it was blocked, the broker could not confirm anything.
        let waiting_since = self
            .unblocked_at
            .map_or(oldest, |unblocked_at| oldest.max(unblocked_at));
        Some((waiting_since + STALL_LIMIT).saturating_duration_since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::super::window::InFlight;
    use super::*;

    #[test]
    fn a_block_does_not_count_as_a_stall() {
        let start = Instant::now();
        let mut session = Session::default();
        assert_eq!(session.time_until_stall(start), None);
        session.window.push(InFlight {
            job: 0,
            index: 0,
            sequence: 0,
            bytes: 1,
            since: start,
        });
        assert_eq!(
            session.time_until_stall(start + STALL_LIMIT),
            Some(Duration::ZERO)
        );
        session.blocked = true;
        assert_eq!(session.time_until_stall(start + STALL_LIMIT), None);
        session.blocked = false;
        session.unblocked_at = Some(start + STALL_LIMIT);
        assert_eq!(
            session.time_until_stall(start + STALL_LIMIT),
            Some(STALL_LIMIT)
        );
    }
}
