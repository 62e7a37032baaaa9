//! Publishes events to RabbitMQ and says of each notification whether all of it is in the queue.
//!
//! A caller hands over a [`Batch`] and waits for its verdict. The [ledger] decides what is published and every verdict; one
//! thread connects it to a broker. This module must know nothing of HTTP, alerts or mapping rules.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use oneshot::RecvTimeoutError;
use parking_lot::Mutex;

mod backoff;
mod batch;
mod connection;
mod dialer;
mod error;
mod frames;
mod ledger;
mod status;
mod stream;
mod thread;
mod tls;
mod watchdog;
mod write_gate;

pub use batch::{Batch, BatchBuilder, EncodeError, Entity, MergedBatch};
pub use error::{DeliveryError, Progress};
pub use ledger::AnswerTimeout;
pub use status::BrokerStatus;
pub use tls::TlsFiles;

use crate::amqp_url::AmqpUrl;
use crate::liveness::Heartbeat;
use crate::memory::Charge;
use crate::metrics;
use batch::Identity;
use ledger::Submission;
use thread::PublisherThread;

/// How often a waiting caller looks whether its sender is still there.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

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

type Verdict = Result<(), DeliveryError>;
type VerdictSender = oneshot::Sender<Verdict>;

/// For the publisher's thread.
enum Command {
    Submit(Submission),
    /// The sender of a notification with the verdict `Ok` was gone.
    Unheard {
        identity: Identity,
        events: usize,
    },
    Reconfigure(BrokerSettings),
    Stop,
}

/// The publisher's handle. Dropping it does not wait; [`Publisher::stop`] does.
#[derive(Debug)]
pub struct Publisher {
    commands: Sender<Command>,
    /// Written by the thread.
    status: Arc<Mutex<BrokerStatus>>,
    metrics: metrics::BrokerMetrics,
    stopped: Receiver<()>,
}

impl Publisher {
    /// Starts the thread, which connects, and reconnects until it is stopped.
    pub fn start(
        settings: BrokerSettings,
        metrics: metrics::BrokerMetrics,
        heartbeat: Heartbeat,
    ) -> io::Result<Self> {
        let (commands, inbox) = unbounded();
        let (stopped_sender, stopped) = bounded(0);
        let status = Arc::new(Mutex::new(BrokerStatus::default()));
        let thread = PublisherThread::new(
            settings,
            inbox,
            Arc::clone(&status),
            metrics.clone(),
            heartbeat,
        )?;
        std::thread::Builder::new()
            .name("publisher".to_owned())
            .spawn(move || {
                thread.run();
                drop(stopped_sender);
            })?;
        Ok(Self {
            commands,
            status,
            metrics,
            stopped,
        })
    }

    /// Publishes all messages, and waits until the broker has confirmed every one of them and routed it to a queue. The
    /// charge covers the batch and is given back with it.
    pub fn deliver(
        &self,
        batch: Batch,
        charge: Charge,
        timeout: AnswerTimeout,
        sender_is_gone: &dyn Fn() -> bool,
    ) -> Result<(), DeliveryError> {
        if batch.is_empty() {
            return Ok(());
        }
        let (identity, events) = (batch.identity(), batch.len());
        let (sender, receiver) = oneshot::channel();
        let submission = Submission {
            batch,
            charge,
            timeout,
            verdict: sender,
        };
        let mut verdict = self.send(Command::Submit(submission));
        if verdict.is_ok() {
            verdict = wait(&receiver, sender_is_gone);
        }
        if verdict.is_ok() && sender_is_gone() {
            let unheard = self.send(Command::Unheard { identity, events });
            verdict = unheard.and(Err(DeliveryError::SenderGone));
        }
        match &verdict {
            Ok(()) => self.metrics.published(events),
            Err(error) => {
                if let Some(reason) = error.failure_reason() {
                    self.metrics.failed(reason, events);
                }
            }
        }
        verdict
    }

    fn send(&self, command: Command) -> Result<(), DeliveryError> {
        let sent = self.commands.send(command);
        sent.map_err(|_| DeliveryError::Stopped)
    }

    /// Uses other settings from now on. What waits is published with them.
    pub fn reconfigure(&self, settings: BrokerSettings) {
        // Without the thread there is nothing to configure.
        let _ = self.commands.send(Command::Reconfigure(settings));
    }

    /// The broker's state now.
    pub fn status(&self) -> BrokerStatus {
        self.status.lock().clone()
    }

    /// Closes the connection, if there is one, when no caller waits any more; gives up after `limit`.
    pub fn stop(&self, limit: Duration) {
        let _ = self.commands.send(Command::Stop);
        if self.status().is_connected() {
            let _ = self.stopped.recv_timeout(limit);
        }
    }
}

/// Waits for the verdict, as long as the sender of the notification is there.
fn wait(receiver: &oneshot::Receiver<Verdict>, sender_is_gone: &dyn Fn() -> bool) -> Verdict {
    loop {
        match receiver.recv_timeout(LOOK_INTERVAL) {
            Ok(verdict) => return verdict,
            Err(RecvTimeoutError::Disconnected) => return Err(DeliveryError::Stopped),
            Err(RecvTimeoutError::Timeout) if sender_is_gone() => {
                return Err(DeliveryError::SenderGone);
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}
