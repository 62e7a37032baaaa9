//! Publishes events to RabbitMQ and says of each notification whether all of it is in the queue.
//!
//! A caller hands over a [`Batch`] and waits for its verdict. The [ledger] decides what is published and every verdict; one
//! thread connects it to a broker. This module must know nothing of HTTP, alerts or mapping rules.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use parking_lot::Mutex;

mod backoff;
mod batch;
mod caller;
mod connection;
mod error;
mod frames;
mod ledger;
mod status;
mod stream;
mod thread;
mod tls;
mod watchdog;
mod write_gate;

pub use batch::{Batch, BatchBuilder, Entity, EventTooLarge, MergedBatch};
pub use caller::AnswerTimeout;
pub use error::{DeliveryError, Progress};
pub use status::BrokerStatus;
pub use tls::TlsFiles;

use crate::amqp_url::AmqpUrl;
use crate::memory::Charge;
use crate::metrics;
use batch::Identity;
use caller::Wait;
use ledger::Caller;

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

/// For the publisher's thread.
enum PublisherCommand {
    Submit(Identity, (Batch, Charge), Caller),
    Reconfigure(BrokerSettings),
    Stop,
}

/// The publisher's handle. Dropping it does not wait; [`Publisher::stop`] does.
#[derive(Debug)]
pub struct Publisher {
    commands: Sender<PublisherCommand>,
    /// The notifications whose senders get the verdict `Ok`. The thread reads it before the next submission, and is not woken.
    heard: Sender<Identity>,
    /// Written by the thread.
    status: Arc<Mutex<BrokerStatus>>,
    metrics: metrics::BrokerMetrics,
    stopped: Receiver<()>,
}

impl Publisher {
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
        let wait = Arc::new(Wait::new(timeout, Instant::now()));
        let caller = Caller {
            verdict: sender,
            wait: Arc::clone(&wait),
        };
        // Without the thread, the sender of the verdict is dropped, which ends the wait.
        let submit = PublisherCommand::Submit(identity, (batch, charge), caller);
        let _ = self.commands.send(submit);
        let verdict = match wait.verdict(&receiver, sender_is_gone) {
            Some(Ok(())) if sender_is_gone() => Err(DeliveryError::SenderGone),
            Some(verdict) => verdict,
            None => Err(DeliveryError::Timeout {
                after: wait.since.elapsed(),
                progress: Progress {
                    confirmed: wait.settled(),
                    of: events,
                },
                status: self.status(),
            }),
        };
        match &verdict {
            Ok(()) => {
                let _ = self.heard.send(identity);
                self.metrics.published.add(events as u64);
            }
            // It is not known to have failed, and nobody waits for it.
            Err(DeliveryError::SenderGone) => {}
            Err(error) => self.metrics.failed.add(error.reason(), events as u64),
        }
        verdict
    }

    /// Uses other settings from now on. What waits is published with them.
    pub fn reconfigure(&self, settings: BrokerSettings) {
        // Without the thread there is nothing to configure.
        let _ = self.commands.send(PublisherCommand::Reconfigure(settings));
    }

    /// The broker's state now.
    pub fn status(&self) -> BrokerStatus {
        self.status.lock().clone()
    }

    /// Closes the connection, if there is one, when no caller waits any more; gives up after `limit`.
    pub fn stop(&self, limit: Duration) {
        let _ = self.commands.send(PublisherCommand::Stop);
        if self.status().is_connected() {
            let _ = self.stopped.recv_timeout(limit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::batch::tests::batch_of;
    use super::*;
    use crate::event::State;
    use crate::event::tests::event;
    use crate::memory::Budget;

    #[test]
    fn a_delivery_is_forgotten_only_where_a_sender_gets_the_response() {
        for (is_gone, expected) in [(false, Ok(())), (true, Err(DeliveryError::SenderGone))] {
            let (commands, inbox) = crossbeam_channel::unbounded();
            let (heard, heard_inbox) = crossbeam_channel::unbounded();
            let publisher = Publisher {
                commands,
                heard,
                status: Arc::default(),
                metrics: metrics::Metrics::default().broker,
                stopped: crossbeam_channel::never(),
            };
            // In the place of the thread.
            std::thread::spawn(move || {
                if let Ok(PublisherCommand::Submit(.., caller)) = inbox.recv() {
                    caller.verdict.send(Ok(())).unwrap();
                }
            });
            let limit = Duration::from_mins(1);
            let timeout = AnswerTimeout {
                without_progress: limit,
                in_all: limit,
            };
            let charge = Budget::new(1 << 20).charge();
            let batch = batch_of([event("r", State::Ok)]);
            let verdict = publisher.deliver(batch, charge, timeout, &|| is_gone);
            let is_forgotten = heard_inbox.try_recv().is_ok();
            assert_eq!(is_forgotten, !is_gone, "a retry is published again");
            assert_eq!(verdict, expected);
        }
    }
}
