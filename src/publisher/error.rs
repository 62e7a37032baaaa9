//! Why a notification's events may not be in the queue.

use std::fmt;
use std::time::Duration;

use super::status::BrokerStatus;

/// AMQP's code for a permission that the user does not have.
pub const ACCESS_REFUSED: u16 = 403;

/// AMQP's code for an exchange that does not exist.
const NOT_FOUND: u16 = 404;

/// Why a channel or its connection ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CloseReason {
    /// The connector's decision.
    #[error("{0}")]
    Intended(&'static str),
    /// The broker closed the channel because of a method on it.
    #[error("{code} {message}")]
    Channel {
        /// AMQP's reply code.
        code: u16,
        /// The broker's text.
        message: String,
    },
    /// Any other reason.
    #[error("{0}")]
    Connection(String),
}

impl CloseReason {
    /// The broker closed the channel over a message that is at fault: without the exchange, it would close another one, too.
    pub fn is_over_message(&self) -> bool {
        matches!(self, Self::Channel { code, .. } if *code != NOT_FOUND)
    }

    /// The broker closed the channel over an event for lack of a permission.
    pub fn is_access_refused(&self) -> bool {
        matches!(self, Self::Channel { code, .. } if *code == ACCESS_REFUSED)
    }
}

/// Why events may not be in the queue. A retry goes on with those that are not confirmed. Texts are RabbitMQ's code and reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeliveryError {
    /// The deadline has passed.
    #[error("timed out after {} s: {progress}; {}", seconds(*.after), explain_timeout(.status))]
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
    #[error("RabbitMQ returned an event ({0}): no queue is bound to the exchange; {1}")]
    Returned(String, Progress),
    /// RabbitMQ refused a message for lack of a permission, and closed the channel.
    #[error("RabbitMQ refused an event ({0}): its user needs the permission to write; {1}")]
    AccessRefused(String, Progress),
    /// RabbitMQ closed the channel because of a message.
    #[error("RabbitMQ closed the channel because of an event: {0}; {1}")]
    ChannelClosed(String, Progress),
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
    /// A name for each kind of failure, for limiting log entries and for the metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Timeout { status, .. } => status.failure_reason(),
            Self::MappingTimeout => "mapping_timeout",
            Self::Nacked(_) => "nack",
            Self::Returned(..) => "returned",
            Self::AccessRefused(..) => "access_refused",
            Self::ChannelClosed(..) | Self::Stopped => "disconnected",
            Self::SenderGone => "sender_gone",
            Self::Output(_) => "output",
        }
    }
}

fn explain_timeout(status: &BrokerStatus) -> String {
    match status {
        BrokerStatus::Connected => "RabbitMQ is connected but slow".to_owned(),
        other => other.to_string(),
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
    if number < 1000 {
        return number.to_string();
    }
    format!("{},{:03}", grouped(number / 1000), number % 1000)
}

/// With at most one decimal: `8`, `0.5`.
fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_says_after_how_long_how_far_and_what_the_broker_was_doing() {
        let message = |milliseconds, confirmed, status| {
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
            message(7_999, 4_012, BrokerStatus::Connected),
            "timed out after 8 s: 4,012 of 1,006,000 events confirmed; RabbitMQ is connected but slow"
        );
        assert_eq!(
            message(512, 0, BrokerStatus::Blocked("low on memory".to_owned())),
            "timed out after 0.5 s: 0 of 1,006,000 events confirmed; RabbitMQ has blocked publishing (low on memory)"
        );
    }

    #[test]
    fn the_count_of_each_reason_starts_at_0() {
        let page = crate::metrics::Metrics::default().expose();
        let progress = Progress {
            confirmed: 0,
            of: 1,
        };
        let timeouts = [
            BrokerStatus::Connecting,
            BrokerStatus::Disconnected(String::new()),
            BrokerStatus::Connected,
            BrokerStatus::Blocked(String::new()),
            BrokerStatus::Refused(String::new()),
        ]
        .map(|status| DeliveryError::Timeout {
            after: Duration::ZERO,
            progress,
            status,
        });
        let others = [
            DeliveryError::Nacked(progress),
            DeliveryError::Returned(String::new(), progress),
            DeliveryError::AccessRefused(String::new(), progress),
            DeliveryError::ChannelClosed(String::new(), progress),
            DeliveryError::Stopped,
        ];
        for error in timeouts.into_iter().chain(others) {
            let reason = error.reason();
            let count = format!("events_failed_total{{reason=\"{reason}\"}} 0\n");
            assert!(page.contains(&count), "{reason}");
        }
    }
}
