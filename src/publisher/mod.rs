//! From events to RabbitMQ: one thread that publishes, waits for the broker's confirms, and says what became of each batch.
//!
//! Knows messages and brokers; knows nothing of HTTP, alerts or rules. Everything that can hang, hangs in the publisher's
//! thread: whoever waits for a batch has its own deadline.

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
mod verdict;
mod watchdog;
mod window;
mod write_gate;

pub use batch::{Batch, Message};
pub use status::Status;
pub use tls::{TlsError, TlsFiles};

use crate::amqp_url::AmqpUrl;
use crate::metrics::{self, FailureReason};
use thread::PublisherThread;
use verdict::{NoVerdict, Teller, verdict};

/// What waits for its confirms, of all batches `together`, in bytes. Above it a new batch is refused at once, so that a
/// broker that stays away can't fill the memory. A batch that comes alone is taken whatever its size.
const MOST_WAITING_BYTES: usize = 64 << 20;

/// Where to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Tried in turn; at least one.
    pub urls: Vec<AmqpUrl>,
    /// The exchange; it is never declared here.
    pub exchange: String,
    /// For `amqps://` URLs.
    pub tls: TlsFiles,
}

/// Why a batch is not in the queue, as far as is known. Some of it may be; publishing it again does no harm.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeliveryError {
    /// The deadline has passed; says what the broker's state is.
    #[error("not confirmed in time: {0}")]
    Deadline(String),
    /// The broker took a message and refused it, as a queue does that is full.
    #[error("the broker refused an event (nack): a queue is probably full")]
    Nacked,
    /// No queue takes what the exchange gets.
    #[error("the broker returned an event ({0}): no queue is bound to the exchange")]
    Returned(String),
    /// The broker closed the channel over what was published.
    #[error("the broker refused an event: {0}")]
    ChannelClosed(String),
    /// Too much waits already.
    #[error("too many events wait for the broker already: {0}")]
    Busy(String),
    /// The event can't be written.
    #[error("an event can't be written: {0}")]
    Output(String),
    /// The publisher is not there to ask.
    #[error("the connector is stopping")]
    Stopped,
}

/// A batch, and who waits for it.
#[derive(Debug)]
struct Job {
    batch: Batch,
    deadline: Instant,
    teller: Teller,
    _reserved: Reserved,
}

/// The publisher's handle. Dropping it does not wait; [`Publisher::close`] does.
#[derive(Debug)]
pub struct Publisher {
    jobs: Sender<Job>,
    waiting: Arc<Waiting>,
    status: Arc<Status>,
    metrics: metrics::BrokerMetrics,
    stop: Sender<()>,
    stopped: Receiver<()>,
}

impl Publisher {
    /// Starts the thread, which connects, and connects again, for as long as it takes.
    pub fn start(settings: Settings, metrics: metrics::BrokerMetrics) -> std::io::Result<Self> {
        let (jobs, inbox) = unbounded();
        let (stop, stop_inbox) = bounded(1);
        let (stopped_sender, stopped) = bounded(0);
        let status = Arc::new(Status::default());
        let worker = PublisherThread::new(
            settings,
            inbox,
            stop_inbox,
            Arc::clone(&status),
            metrics.clone(),
        )?;
        std::thread::Builder::new()
            .name("publisher".to_owned())
            .spawn(move || {
                worker.run();
                drop(stopped_sender);
            })?;
        Ok(Self {
            jobs,
            waiting: Arc::default(),
            status,
            metrics,
            stop,
            stopped,
        })
    }

    /// Publishes all of the messages, in order, and waits until the broker has confirmed every one of them, each routed
    /// to a queue.
    pub fn deliver(&self, batch: Batch, deadline: Instant) -> Result<(), DeliveryError> {
        if batch.is_empty() {
            return Ok(());
        }
        let events = batch.len();
        let delivered = self.hand_over(batch, deadline);
        match &delivered {
            Ok(()) => self.metrics.published(events),
            Err(error) => self.metrics.failed(self.failure(error), events),
        }
        delivered
    }

    fn hand_over(&self, batch: Batch, deadline: Instant) -> Result<(), DeliveryError> {
        let Some(reserved) = Reserved::take(&self.waiting, batch.bytes(), batch.len()) else {
            return Err(DeliveryError::Busy(self.status.describe()));
        };
        let (teller, awaiter) = verdict();
        let job = Job {
            batch,
            deadline,
            teller,
            _reserved: reserved,
        };
        self.jobs.send(job).map_err(|_| DeliveryError::Stopped)?;
        match awaiter.wait(deadline) {
            Ok(verdict) => verdict,
            Err(NoVerdict::Late) => Err(DeliveryError::Deadline(self.status.describe())),
            Err(NoVerdict::Abandoned) => Err(DeliveryError::Stopped),
        }
    }

    fn failure(&self, error: &DeliveryError) -> FailureReason {
        match error {
            DeliveryError::Nacked => FailureReason::Nack,
            DeliveryError::Returned(_) => FailureReason::Returned,
            DeliveryError::ChannelClosed(_) | DeliveryError::Stopped => FailureReason::Disconnected,
            DeliveryError::Deadline(_) | DeliveryError::Busy(_) | DeliveryError::Output(_) => {
                self.status.failure()
            }
        }
    }

    /// For a page of metrics.
    pub fn now(&self) -> metrics::BrokerSnapshot {
        metrics::BrokerSnapshot {
            waiting: self.waiting.events.load(Ordering::SeqCst),
            ..self.status.now()
        }
    }

    /// Whether a connection is open and not blocked.
    pub fn status(&self) -> &Status {
        &self.status
    }

    /// Closes the connection, if there is one, once nothing waits any more; gives up after `limit`.
    pub fn close(&self, limit: Duration) {
        let _ = self.stop.try_send(());
        if self.status.is_connected() {
            let _ = self.stopped.recv_timeout(limit);
        }
    }
}

/// What waits for the broker.
#[derive(Debug, Default)]
struct Waiting {
    bytes: AtomicUsize,
    events: AtomicUsize,
}

/// A batch's share of the memory for batches; given back when it is dropped.
#[derive(Debug)]
struct Reserved {
    total: Arc<Waiting>,
    bytes: usize,
    events: usize,
}

impl Reserved {
    fn take(total: &Arc<Waiting>, bytes: usize, events: usize) -> Option<Self> {
        let fits =
            |held: usize| (held == 0 || held + bytes <= MOST_WAITING_BYTES).then_some(held + bytes);
        total
            .bytes
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, fits)
            .ok()?;
        total.events.fetch_add(events, Ordering::SeqCst);
        Some(Self {
            total: Arc::clone(total),
            bytes,
            events,
        })
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.total.bytes.fetch_sub(self.bytes, Ordering::SeqCst);
        self.total.events.fetch_sub(self.events, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_for_batches_is_bounded_and_given_back() {
        let total = Arc::default();
        let huge = Reserved::take(&total, 2 * MOST_WAITING_BYTES, 1).unwrap();
        assert!(Reserved::take(&total, 1, 1).is_none());
        assert_eq!(total.events.load(Ordering::SeqCst), 1);
        drop(huge);
        let small = Reserved::take(&total, 1, 1).unwrap();
        assert!(Reserved::take(&total, MOST_WAITING_BYTES, 1).is_none());
        assert!(Reserved::take(&total, MOST_WAITING_BYTES - 1, 1).is_some());
        drop(small);
        assert_eq!(
            (
                total.bytes.load(Ordering::SeqCst),
                total.events.load(Ordering::SeqCst)
            ),
            (0, 0)
        );
    }
}
