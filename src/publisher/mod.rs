//! Publishes events to RabbitMQ and says of each notification whether all of it is in the queue.
//!
//! A caller hands over a [`Batch`] and waits for its verdict. The [ledger] decides what is published and every verdict; one
//! thread connects it to a broker. This module must know nothing of HTTP, alerts or mapping rules.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
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

pub use batch::{Batch, EncodeError, Message};
pub use error::{DeliveryError, Progress};
pub use ledger::AnswerTimeout;
pub use status::BrokerStatus;
pub use tls::TlsFiles;

use crate::amqp_url::AmqpUrl;
use crate::liveness::Heartbeat;
use crate::memory::Charge;
use crate::metrics;
use batch::Identity;
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
    Submit {
        batch: Batch,
        charge: Charge,
        timeout: AnswerTimeout,
        verdict: VerdictSender,
    },
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
        let events = batch.len();
        let verdict = self.submit_and_wait(batch, charge, timeout, sender_is_gone);
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

    fn submit_and_wait(
        &self,
        batch: Batch,
        charge: Charge,
        timeout: AnswerTimeout,
        sender_is_gone: &dyn Fn() -> bool,
    ) -> Verdict {
        let (identity, events) = (batch.identity(), batch.len());
        let (verdict, receiver) = oneshot::channel();
        let send = |command| {
            self.commands
                .send(command)
                .map_err(|_| DeliveryError::Stopped)
        };
        send(Command::Submit {
            batch,
            charge,
            timeout,
            verdict,
        })?;
        loop {
            match receiver.recv_timeout(LOOK_INTERVAL) {
                Ok(Ok(())) if sender_is_gone() => {
                    send(Command::Unheard { identity, events })?;
                    return Err(DeliveryError::SenderGone);
                }
                Ok(verdict) => return verdict,
                Err(oneshot::RecvTimeoutError::Timeout) if sender_is_gone() => {
                    return Err(DeliveryError::SenderGone);
                }
                Err(oneshot::RecvTimeoutError::Timeout) => {}
                Err(oneshot::RecvTimeoutError::Disconnected) => return Err(DeliveryError::Stopped),
            }
        }
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
