//! Publishes events to RabbitMQ and says of each batch whether all of it is in the queue.
//!
//! One thread owns the connection, publishes, and counts the broker's confirms. It must know nothing of HTTP, alerts or
//! mapping rules. Whatever can hang hangs in that thread: a caller waits until its own deadline at most.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

mod backoff;
mod batch;
mod connection;
mod session;
mod status;
mod thread;
mod tls;
mod watchdog;
mod window;
mod write_gate;

pub use batch::{Batch, Message};
pub use status::{BrokerStatus, ConnectionState};
pub use tls::{TlsError, TlsFiles};

use crate::amqp_url::AmqpUrl;
use crate::metrics::{self, FailureReason};
use status::StatusCell;
use thread::PublisherThread;

/// All batches that are not confirmed yet, in bytes. Above it a new batch is refused at once, so that a broker that is
/// away for long can't fill the memory. The first batch is accepted whatever its size.
const MAX_BACKLOG_BYTES: usize = 64 << 20;

/// Where to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerSettings {
    /// Tried in turn; at least one.
    pub urls: Vec<AmqpUrl>,
    /// The exchange. It is never declared here.
    pub exchange: String,
    /// For `amqps://` URLs.
    pub tls: TlsFiles,
}

/// Why a batch may not be in the queue. Parts of it may be; publishing them again does no harm.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeliveryError {
    /// The deadline has passed.
    #[error("timed out after {}: {}", Seconds(*.after), explain_timeout(.status))]
    Timeout {
        /// How long the batch waited.
        after: Duration,
        /// The broker's state at that time.
        status: BrokerStatus,
    },
    /// The deadline passed before all events were made.
    #[error("timed out while mapping alerts to events")]
    MappingTimeout,
    /// RabbitMQ refused a message, as a queue does that is full.
    #[error("RabbitMQ refused an event (nack): a queue is probably full")]
    Nacked,
    /// The exchange routed a message to no queue.
    #[error("RabbitMQ returned an event ({0}): no queue is bound to the exchange")]
    Returned(String),
    /// RabbitMQ closed the channel because of a message.
    #[error("RabbitMQ closed the channel: {0}")]
    ChannelClosed(String),
    /// Too many bytes wait already.
    #[error("publish backlog full ({max} MiB): {0}", max = MAX_BACKLOG_BYTES >> 20)]
    BacklogFull(BrokerStatus),
    /// Standard output, or the encoder, failed.
    #[error("cannot write an event: {0}")]
    Output(String),
    /// The publisher's thread has ended.
    #[error("the connector is shutting down")]
    Stopped,
}

fn explain_timeout(status: &BrokerStatus) -> String {
    if status.is_ready() {
        "RabbitMQ is connected but slow".to_owned()
    } else {
        status.to_string()
    }
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

type Verdict = Result<(), DeliveryError>;

/// A batch, its deadline, and where its verdict goes.
#[derive(Debug)]
struct Submission {
    batch: Batch,
    submitted_at: Instant,
    deadline: Instant,
    verdict: oneshot::Sender<Verdict>,
    _reservation: Reservation,
}

/// The publisher's handle. Dropping it does not wait; [`Publisher::close`] does.
#[derive(Debug)]
pub struct Publisher {
    submissions: Sender<Submission>,
    backlog: Arc<Backlog>,
    status: Arc<StatusCell>,
    metrics: metrics::BrokerMetrics,
    stop: Sender<()>,
    stopped: Receiver<()>,
}

impl Publisher {
    /// Starts the thread, which connects, and reconnects until it is stopped.
    pub fn start(
        settings: BrokerSettings,
        metrics: metrics::BrokerMetrics,
    ) -> std::io::Result<Self> {
        let (submissions, inbox) = unbounded();
        let (stop, stop_inbox) = bounded(1);
        let (stopped_sender, stopped) = bounded(0);
        let status = Arc::new(StatusCell::default());
        let thread = PublisherThread::new(
            settings,
            inbox,
            stop_inbox,
            Arc::clone(&status),
            metrics.clone(),
        )?;
        std::thread::Builder::new()
            .name("publisher".to_owned())
            .spawn(move || {
                thread.run();
                drop(stopped_sender);
            })?;
        Ok(Self {
            submissions,
            backlog: Arc::default(),
            status,
            metrics,
            stop,
            stopped,
        })
    }

    /// Publishes all messages, in order, and waits until the broker has confirmed every one of them and routed it to a
    /// queue.
    pub fn deliver(&self, batch: Batch, deadline: Instant) -> Result<(), DeliveryError> {
        if batch.is_empty() {
            return Ok(());
        }
        let events = batch.len();
        let verdict = self.submit(batch, deadline);
        match &verdict {
            Ok(()) => self.metrics.published(events),
            Err(error) => self.metrics.failed(self.failure_reason(error), events),
        }
        verdict
    }

    fn submit(&self, batch: Batch, deadline: Instant) -> Verdict {
        let submitted_at = Instant::now();
        let Some(reservation) = Reservation::new(&self.backlog, batch.bytes(), batch.len()) else {
            return Err(DeliveryError::BacklogFull(self.status()));
        };
        let (verdict, receiver) = oneshot::channel();
        let submission = Submission {
            batch,
            submitted_at,
            deadline,
            verdict,
            _reservation: reservation,
        };
        self.submissions
            .send(submission)
            .map_err(|_| DeliveryError::Stopped)?;
        match receiver.recv_deadline(deadline) {
            Ok(verdict) => verdict,
            Err(oneshot::RecvTimeoutError::Timeout) => Err(DeliveryError::Timeout {
                after: submitted_at.elapsed(),
                status: self.status(),
            }),
            Err(oneshot::RecvTimeoutError::Disconnected) => Err(DeliveryError::Stopped),
        }
    }

    fn failure_reason(&self, error: &DeliveryError) -> FailureReason {
        match error {
            DeliveryError::Nacked => FailureReason::Nack,
            DeliveryError::Returned(_) => FailureReason::Returned,
            DeliveryError::ChannelClosed(_) | DeliveryError::Stopped => FailureReason::Disconnected,
            DeliveryError::Timeout { .. }
            | DeliveryError::MappingTimeout
            | DeliveryError::BacklogFull(_)
            | DeliveryError::Output(_) => self.status().failure_reason(),
        }
    }

    /// The values of the gauges.
    pub fn now(&self) -> metrics::BrokerSnapshot {
        metrics::BrokerSnapshot {
            waiting: self.backlog.events.load(Ordering::SeqCst),
            ..self.status().gauges()
        }
    }

    /// The broker's state now.
    pub fn status(&self) -> BrokerStatus {
        self.status.get()
    }

    /// Closes the connection, if there is one, when no batch waits any more; gives up after `limit`.
    pub fn close(&self, limit: Duration) {
        let _ = self.stop.try_send(());
        if self.status().is_connected() {
            let _ = self.stopped.recv_timeout(limit);
        }
    }
}

/// The size of all batches that are not confirmed yet.
#[derive(Debug, Default)]
struct Backlog {
    bytes: AtomicUsize,
    events: AtomicUsize,
}

/// A batch's share of the backlog, given back on drop.
#[derive(Debug)]
struct Reservation {
    backlog: Arc<Backlog>,
    bytes: usize,
    events: usize,
}

impl Reservation {
    fn new(backlog: &Arc<Backlog>, bytes: usize, events: usize) -> Option<Self> {
        let add =
            |used: usize| (used == 0 || used + bytes <= MAX_BACKLOG_BYTES).then_some(used + bytes);
        backlog
            .bytes
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, add)
            .ok()?;
        backlog.events.fetch_add(events, Ordering::SeqCst);
        Some(Self {
            backlog: Arc::clone(backlog),
            bytes,
            events,
        })
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.backlog.bytes.fetch_sub(self.bytes, Ordering::SeqCst);
        self.backlog.events.fetch_sub(self.events, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_backlog_is_bounded_and_given_back() {
        let backlog = Arc::default();
        let huge = Reservation::new(&backlog, 2 * MAX_BACKLOG_BYTES, 1).unwrap();
        assert!(Reservation::new(&backlog, 1, 1).is_none());
        assert_eq!(backlog.events.load(Ordering::SeqCst), 1);
        drop(huge);
        let small = Reservation::new(&backlog, 1, 1).unwrap();
        assert!(Reservation::new(&backlog, MAX_BACKLOG_BYTES, 1).is_none());
        assert!(Reservation::new(&backlog, MAX_BACKLOG_BYTES - 1, 1).is_some());
        drop(small);
        assert_eq!(
            (
                backlog.bytes.load(Ordering::SeqCst),
                backlog.events.load(Ordering::SeqCst)
            ),
            (0, 0)
        );
    }

    #[test]
    fn a_timeout_says_after_how_long_and_what_the_broker_was_doing() {
        let message = |milliseconds, connection| {
            DeliveryError::Timeout {
                after: Duration::from_millis(milliseconds),
                status: BrokerStatus {
                    connection,
                    in_flight: 0,
                },
            }
            .to_string()
        };
        assert_eq!(
            message(7_999, ConnectionState::Connected),
            "timed out after 8 s: RabbitMQ is connected but slow"
        );
        assert_eq!(
            message(512, ConnectionState::Blocked("low on memory".to_owned())),
            "timed out after 0.5 s: RabbitMQ has blocked publishing (low on memory)"
        );
    }
}
