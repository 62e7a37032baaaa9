//! Why a notification's events may not be in the queue.

use std::fmt;
use std::time::Duration;

use super::status::BrokerStatus;
use crate::metrics::FailureReason;

/// Why a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CloseReason {
    /// The broker closed the channel because of a method on it.
    Channel(String),
    /// Any other reason.
    Connection(String),
}

/// Why events may not be in the queue. A retry goes on with those that are not confirmed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeliveryError {
    /// The deadline has passed.
    #[error("timed out after {}: {progress}; {}", Seconds(*.after), explain_timeout(.status))]
    Timeout {
        /// How long the caller waited.
        after: Duration,
        /// How far it got.
        progress: Progress,
        /// The broker's state at that time.
        status: BrokerStatus,
    },
    /// The deadline passed before all events were made.
    #[error("timed out while mapping alerts to events")]
    MappingTimeout,
    /// RabbitMQ refused a message, as a queue does that is full.
    #[error("RabbitMQ refused an event (nack): a queue is probably full; {0}")]
    Nacked(Progress),
    /// The exchange routed a message to no queue.
    #[error("RabbitMQ returned an event ({reason}): no queue is bound to the exchange; {progress}")]
    Returned {
        /// RabbitMQ's code and text.
        reason: String,
        /// How far it got.
        progress: Progress,
    },
    /// RabbitMQ closed the channel because of a message.
    #[error("RabbitMQ closed the channel because of an event: {reason}; {progress}")]
    ChannelClosed {
        /// RabbitMQ's code and text.
        reason: String,
        /// How far it got.
        progress: Progress,
    },
    /// The sender closed its connection before its events were confirmed.
    #[error("the sender closed the connection before the response")]
    SenderGone,
    /// Standard output, or the encoder, failed.
    #[error("cannot write an event: {0}")]
    Output(String),
    /// The publisher's thread has ended.
    #[error("the connector is shutting down")]
    Stopped,
}

impl DeliveryError {
    /// A name for each variant, for limiting log entries.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Timeout { .. } => "timeout",
            Self::MappingTimeout => "mapping timeout",
            Self::Nacked(_) => "nack",
            Self::Returned { .. } => "returned",
            Self::ChannelClosed { .. } => "channel closed",
            Self::SenderGone => "sender gone",
            Self::Output(_) => "output",
            Self::Stopped => "stopped",
        }
    }

    /// The reason to count the events under; `None` where no event failed.
    pub(super) fn failure_reason(&self) -> Option<FailureReason> {
        match self {
            Self::Nacked(_) => Some(FailureReason::Nack),
            Self::Returned { .. } => Some(FailureReason::Returned),
            Self::Timeout { status, .. } => Some(status.failure_reason()),
            Self::ChannelClosed { .. } | Self::Stopped => Some(FailureReason::Disconnected),
            Self::SenderGone | Self::MappingTimeout | Self::Output(_) => None,
        }
    }
}

fn explain_timeout(status: &BrokerStatus) -> String {
    if status.is_ready() {
        "RabbitMQ is connected but slow".to_owned()
    } else {
        status.to_string()
    }
}

/// How many of a notification's events are in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Events that are settled.
    pub confirmed: usize,
    /// All events.
    pub of: usize,
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (confirmed, of) = (grouped(self.confirmed), grouped(self.of));
        write!(f, "{confirmed} of {of} events confirmed")
    }
}

/// With commas between thousands.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Seconds with at most one decimal: `8 s`, `0.5 s`.
struct Seconds(Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tenths = (self.0.as_millis() + 50) / 100;
        match tenths % 10 {
            0 => write!(f, "{} s", tenths / 10),
            tenth => write!(f, "{}.{tenth} s", tenths / 10),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::status::ConnectionState;
    use super::*;

    #[test]
    fn a_timeout_says_after_how_long_how_far_and_what_the_broker_was_doing() {
        let message = |milliseconds, confirmed, connection| {
            let status = BrokerStatus {
                connection,
                ..BrokerStatus::default()
            };
            DeliveryError::Timeout {
                after: Duration::from_millis(milliseconds),
                progress: Progress {
                    confirmed,
                    of: 1_006_000,
                },
                status,
            }
            .to_string()
        };
        assert_eq!(
            message(7_999, 4_012, ConnectionState::Connected),
            "timed out after 8 s: 4,012 of 1,006,000 events confirmed; RabbitMQ is connected but slow"
        );
        assert_eq!(
            message(512, 0, ConnectionState::Blocked("low on memory".to_owned())),
            "timed out after 0.5 s: 0 of 1,006,000 events confirmed; RabbitMQ has blocked publishing (low on memory)"
        );
    }
}
