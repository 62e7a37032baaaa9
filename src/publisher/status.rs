//! The broker's state, as the publisher's thread last saw it.

use std::fmt;

use crate::metrics::FailureReason;

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
}

impl BrokerStatus {
    /// A connection is open and not blocked.
    pub fn is_ready(&self) -> bool {
        *self == Self::Connected
    }

    /// A connection is open, and RabbitMQ has blocked publishing on it.
    pub fn is_blocked(&self) -> bool {
        matches!(self, Self::Blocked(_))
    }

    /// A connection is open, blocked or not.
    pub fn is_connected(&self) -> bool {
        self.is_ready() || self.is_blocked()
    }

    /// The reason to count for events that were not confirmed in time.
    pub(super) fn failure_reason(&self) -> FailureReason {
        match self {
            Self::Connected => FailureReason::Timeout,
            Self::Blocked(_) => FailureReason::Blocked,
            Self::Connecting | Self::Disconnected(_) => FailureReason::Disconnected,
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
        }
    }
}
