//! The state of one broker connection that ends with it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use amiquip::Return;

use super::window::Window;

/// A connected, unblocked broker that has left a message unconfirmed for this long is given up, also where heartbeats are
/// off.
pub const STALL_LIMIT: Duration = Duration::from_secs(30);

/// The state of one connection.
#[derive(Default)]
pub struct Session {
    /// Unconfirmed messages.
    pub window: Window,
    /// The broker's reasons for the messages it returned, by sequence number.
    pub returned: HashMap<u64, String>,
    /// A memory or disk alarm: nothing may be published.
    pub is_blocked: bool,
    /// The end of the last alarm.
    pub unblocked_at: Option<Instant>,
}

impl Session {
    /// False if the message id is not one of this connector.
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

    /// The time left until the connection counts as stalled. `None` while it is blocked, or nothing is in flight.
    pub fn time_until_stall(&self, now: Instant) -> Option<Duration> {
        let oldest = self.window.oldest().filter(|_| !self.is_blocked)?;
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
            delivery: 0,
            index: 0,
            sequence: 0,
            bytes: 1,
            published_at: start,
        });
        assert_eq!(
            session.time_until_stall(start + STALL_LIMIT),
            Some(Duration::ZERO)
        );
        session.is_blocked = true;
        assert_eq!(session.time_until_stall(start + STALL_LIMIT), None);
        session.is_blocked = false;
        session.unblocked_at = Some(start + STALL_LIMIT);
        assert_eq!(
            session.time_until_stall(start + STALL_LIMIT),
            Some(STALL_LIMIT)
        );
    }
}
