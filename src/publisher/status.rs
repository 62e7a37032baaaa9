//! The broker's state as the publisher's thread last saw it, for readers in other threads.

use std::fmt;

use parking_lot::Mutex;

use super::ledger::LedgerStats;
use crate::metrics::{BrokerSnapshot, FailureReason};

/// Whether events can be published.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ConnectionState {
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

/// A snapshot. Its `Display` may hold the broker's address; [`BrokerStatus::public`] does not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BrokerStatus {
    /// Whether events can be published.
    pub connection: ConnectionState,
    /// What waits, and what is in flight.
    pub ledger: LedgerStats,
}

impl BrokerStatus {
    /// A connection is open and not blocked.
    pub fn is_ready(&self) -> bool {
        self.connection == ConnectionState::Connected
    }

    /// A connection is open, blocked or not.
    pub fn is_connected(&self) -> bool {
        matches!(
            self.connection,
            ConnectionState::Connected | ConnectionState::Blocked(_)
        )
    }

    /// The reason to count for events that were not confirmed in time.
    pub(super) fn failure_reason(&self) -> FailureReason {
        match self.connection {
            ConnectionState::Connected => FailureReason::Timeout,
            ConnectionState::Blocked(_) => FailureReason::Blocked,
            ConnectionState::Connecting | ConnectionState::Disconnected(_) => {
                FailureReason::Disconnected
            }
        }
    }

    /// The values of the gauges.
    pub(super) fn gauges(&self) -> BrokerSnapshot {
        BrokerSnapshot {
            connected: self.is_connected(),
            blocked: matches!(self.connection, ConnectionState::Blocked(_)),
            in_flight: self.ledger.in_flight,
            waiting: self.ledger.waiting,
            live: self.ledger.live,
            parked: self.ledger.parked,
            window: self.ledger.window,
        }
    }
}

impl fmt::Display for BrokerStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.connection {
            ConnectionState::Connecting => f.write_str("connecting to RabbitMQ"),
            ConnectionState::Connected => f.write_str("connected to RabbitMQ"),
            ConnectionState::Disconnected(reason) => {
                write!(f, "not connected to RabbitMQ: {reason}")
            }
            ConnectionState::Blocked(reason) => {
                write!(f, "RabbitMQ has blocked publishing ({reason})")
            }
        }
    }
}

/// The one place that the publisher's thread writes and others read.
#[derive(Debug, Default)]
pub struct StatusCell(Mutex<BrokerStatus>);

impl StatusCell {
    pub fn get(&self) -> BrokerStatus {
        self.0.lock().clone()
    }

    pub fn set_connection(&self, connection: ConnectionState) {
        self.0.lock().connection = connection;
    }

    pub fn set_ledger(&self, stats: LedgerStats) {
        self.0.lock().ledger = stats;
    }
}
