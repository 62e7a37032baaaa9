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
    /// A connection is open, and RabbitMQ refuses events for lack of a permission, and which.
    Refused(String),
}

impl BrokerStatus {
    /// A connection is open, not blocked, and not without a permission.
    pub fn is_ready(&self) -> bool {
        *self == Self::Connected
    }

    /// A connection is open, and RabbitMQ has blocked publishing on it.
    pub fn is_blocked(&self) -> bool {
        matches!(self, Self::Blocked(_))
    }

    /// RabbitMQ refuses events for lack of a permission.
    pub fn is_refused(&self) -> bool {
        matches!(self, Self::Refused(_))
    }

    /// A connection is open, whether events are accepted or not.
    pub fn is_connected(&self) -> bool {
        self.is_ready() || self.is_blocked() || self.is_refused()
    }

    /// The reason to count for events that were not confirmed in time.
    pub(super) fn failure_reason(&self) -> FailureReason {
        match self {
            Self::Connected => FailureReason::Timeout,
            Self::Blocked(_) => FailureReason::Blocked,
            Self::Refused(_) => FailureReason::AccessRefused,
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
            Self::Refused(reason) => write!(
                f,
                "RabbitMQ refuses events ({reason}): its user needs the permission to write"
            ),
        }
    }
}
