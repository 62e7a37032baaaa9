//! The broker's state, as the publisher's thread last saw it.

use std::fmt;
use std::time::{Duration, Instant};

/// Only where no event has been confirmed for this long before a refusal, the connector is not ready: a user with a
/// permission for some routing keys would make the readiness flap.
const ACCEPTED_FOR: Duration = Duration::from_mins(1);

/// The connector is ready again this long after the last refusal, or once an event is confirmed: where nothing is sent to
/// one that is not ready, it could not find out otherwise. Alertmanager retries after 90 s at most.
const REFUSED_FOR: Duration = Duration::from_mins(2);

/// Whether RabbitMQ refuses events for lack of a permission, as far as the readiness is concerned.
#[derive(Debug, Default)]
pub struct Refusals {
    /// When an event was confirmed last.
    pub confirmed_at: Option<Instant>,
    /// When an event was refused last.
    pub refused_at: Option<Instant>,
}

impl Refusals {
    /// The connector is not ready for this reason.
    pub fn is_refused(&self, now: Instant) -> bool {
        self.refused_at.is_some_and(|refused_at| {
            let is_recent = |confirmed_at| refused_at < confirmed_at + ACCEPTED_FOR;
            now < refused_at + REFUSED_FOR && !self.confirmed_at.is_some_and(is_recent)
        })
    }
}

/// Whether events can be published. Its `Display` may hold the broker's address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum BrokerStatus {
    /// Before the first attempt has ended.
    #[default]
    Connecting,
    /// No connection, and why.
    Disconnected(String),
    /// A connection is open, and RabbitMQ accepts messages.
    Connected,
    /// A connection is open, and RabbitMQ accepts no messages (memory or disk alarm), and why.
    Blocked(String),
    /// A connection is open, and RabbitMQ refuses events for lack of a permission, and which.
    Refused(String),
}

impl BrokerStatus {
    /// A connection is open, not blocked, and not without a permission.
    pub fn is_ready(&self) -> bool {
        *self == Self::Connected
    }

    /// A connection is open, whether events are accepted or not.
    pub fn is_connected(&self) -> bool {
        !matches!(self, Self::Connecting | Self::Disconnected(_))
    }

    /// The reason to count for events that were not confirmed in time.
    pub(super) fn failure_reason(&self) -> &'static str {
        match self {
            Self::Connected => "timeout",
            Self::Blocked(_) => "blocked",
            Self::Refused(_) => "access_refused",
            Self::Connecting | Self::Disconnected(_) => "disconnected",
        }
    }
}

impl fmt::Display for BrokerStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connecting => f.write_str("connecting to RabbitMQ"),
            Self::Connected => f.write_str("connected to RabbitMQ"),
            Self::Disconnected(reason) => write!(f, "not connected to RabbitMQ: {reason}"),
            Self::Blocked(reason) => write!(f, "RabbitMQ has blocked publishing ({reason})"),
            Self::Refused(reason) => write!(
                f,
                "RabbitMQ refuses events ({reason}): its user needs the permission to write"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_counts_until_an_event_is_confirmed_or_nothing_is_refused_any_more() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut refusals = Refusals::default();
        assert!(!refusals.is_refused(start));
        for seconds in [0, 90] {
            refusals.refused_at = Some(start + seconds * second);
            assert!(refusals.is_refused(start + seconds * second));
        }
        assert!(
            refusals.is_refused(start + 209 * second),
            "flaps between two retries"
        );
        assert!(
            !refusals.is_refused(start + 210 * second),
            "a connector that is not ready gets nothing, and would stay so"
        );
        refusals.refused_at = Some(start + 300 * second);
        refusals.confirmed_at = Some(start + 301 * second);
        assert!(!refusals.is_refused(start + 301 * second));
        refusals.refused_at = Some(start + 360 * second);
        assert!(
            !refusals.is_refused(start + 360 * second),
            "other topics are permitted"
        );
        refusals.refused_at = Some(start + 361 * second);
        assert!(refusals.is_refused(start + 361 * second));
    }
}
