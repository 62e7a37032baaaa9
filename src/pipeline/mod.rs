//! The path of a notification: decoded, mapped alert by alert, encoded, delivered, counted.
//!
//! This module connects the others in their order. It knows nothing of HTTP.

use std::io::{self, Write};
use std::time::Instant;

use jiff::Timestamp;
use parking_lot::Mutex;

use crate::alertmanager::{
    Alert, DecodeError, MAX_ALERTS, Notification, Status, replace_lone_surrogates,
};
use crate::mapping::{AlertError, Context, Mapping, NotificationContext};
use crate::memory::{BudgetError, Charge};
use crate::publisher::{
    AnswerTimeout, Batch, BatchBuilder, DeliveryError, EventTooLarge, MergedBatch, Publisher,
};
use crate::text::shorten;

mod groups;
mod reporter;
#[cfg(test)]
mod tests;

use groups::Group;
pub use reporter::MappingReporter;
use reporter::{AlertCounts, Subject};

/// Where events go.
pub enum EventSink {
    /// To RabbitMQ.
    Broker(Publisher),
    /// To a stream, one line of JSON per event (`--stdout`).
    Stream(Mutex<Box<dyn Write + Send>>),
}

/// The result of a notification whose events are all delivered.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    /// How many events were delivered.
    pub published: usize,
    /// How many alerts gave way to another one of their entity.
    pub merged: usize,
    /// The alerts without an event.
    pub rejected: RejectedAlerts,
}

impl Outcome {
    /// Whether the sender has to learn of a failure. Alertmanager resolves only what was accepted: where an event was published,
    /// a failure would leave its alarm open for good. Where none was, and no rejected alert fires, there is nothing to send
    /// again.
    pub fn is_failure(&self) -> bool {
        self.published == 0 && self.rejected.firing > 0
    }
}

/// The most rejected alerts that are named in one response; all of them are counted.
const MAX_NAMED: usize = 50;

/// The alerts of a notification that have no event. However many they are, they take little memory while the events of the
/// others wait for the broker.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct RejectedAlerts {
    /// How many there are.
    pub count: usize,
    /// How many of them fire, as far as is known.
    pub firing: usize,
    /// The first of them.
    pub named: Vec<RejectedAlert>,
}

/// An alert without an event.
#[derive(Debug, PartialEq, Eq)]
pub struct RejectedAlert {
    /// The label `alertname`; may be empty.
    pub alertname: String,
    /// The alert's fingerprint.
    pub fingerprint: String,
    /// What is wrong with it.
    pub errors: Vec<AlertError>,
}

/// Why the events of a notification are not delivered.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// The body is not a notification.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The events together would take the memory of other notifications.
    #[error("mapped events exceed {0} bytes: a rule copies a large value into every event")]
    TooLarge(usize),
    /// The memory for notifications does not suffice.
    #[error(transparent)]
    Memory(#[from] BudgetError),
    /// The events are not confirmed.
    #[error(transparent)]
    Delivery(#[from] DeliveryError),
}

/// The events of a notification may always have this many bytes.
const MIN_BATCH: usize = 8 << 20;

/// They may never have more than this many.
const MAX_BATCH: usize = 64 << 20;

/// Between the two, a multiple of the body's length: an event is seldom twice as long as its alert.
const BATCH_FACTOR: usize = 4;

/// Most alerts have at least this many bytes of JSON.
const TYPICAL_ALERT: usize = 400;

/// The most bytes of a named rejected alert: its strings are shortened.
const NAMED_BYTES: usize = 2560;

/// What the publisher and the reporter hold for an event besides the event, in bytes.
const EVENT_BOOKKEEPING: usize = 120;

/// The events of a notification, encoded. What it holds is charged to the budget until it is dropped.
#[derive(Debug)]
pub struct EncodedNotification {
    /// One event for each entity, in the order of their alerts. For a notification without a group, no states are kept.
    pub events: MergedBatch,
    /// The alerts without an event.
    pub rejected: RejectedAlerts,
    group: Group,
    counts: AlertCounts,
    charge: Charge,
}

impl EncodedNotification {
    /// Decodes, maps and encodes a body. `charge` already holds the body's bytes.
    pub fn from_body(
        mapping: &Mapping,
        reporter: &MappingReporter,
        mut body: impl AsMut<[u8]>,
        charge: Charge,
        received_at: Timestamp,
        deadline: Instant,
    ) -> Result<Self, PipelineError> {
        let bytes = body.as_mut();
        replace_lone_surrogates(bytes);
        let run = Encoder {
            mapping,
            reporter,
            builder: BatchBuilder::with_capacity(bytes.len() / TYPICAL_ALERT, bytes.len()),
            rejected: RejectedAlerts::default(),
            counts: AlertCounts::default(),
            charge,
        };
        let mut encoded = run.encode(bytes, received_at, deadline)?;
        drop(body);
        let batch = &encoded.events.batch;
        let held = held_bytes(batch.bytes(), batch.len(), &encoded.rejected);
        encoded.charge.shrink_to(held);
        Ok(encoded)
    }

    /// `Ok` means that every event is delivered, in order. The metrics count the notification then: its other attempts are not
    /// counted.
    pub fn deliver(
        self,
        reporter: &MappingReporter,
        sink: &EventSink,
        timeout: AnswerTimeout,
        sender_is_gone: &dyn Fn() -> bool,
    ) -> Result<Outcome, PipelineError> {
        let batch = self.events.batch;
        let count = batch.len();
        match sink {
            EventSink::Broker(publisher) => {
                publisher.deliver(batch, self.charge, timeout, sender_is_gone)?;
            }
            EventSink::Stream(stream) => {
                let Some(mut stream) = stream.try_lock_for(timeout.without_progress) else {
                    return Err(DeliveryError::Output("the reader is too slow".to_owned()).into());
                };
                let written = write_lines(&mut *stream, &batch);
                written.map_err(|error| DeliveryError::Output(error.to_string()))?;
            }
        }
        reporter.count(&self.counts, self.events.hidden);
        (reporter.groups.lock()).record(self.group, &self.events.states);
        Ok(Outcome {
            published: count,
            merged: self.events.merged,
            rejected: self.rejected,
        })
    }
}

/// The bytes that a notification holds, with this many in its buffers for this many events.
fn held_bytes(buffers: usize, events: usize, rejected: &RejectedAlerts) -> usize {
    buffers + events * EVENT_BOOKKEEPING + rejected.named.len() * NAMED_BYTES
}

/// Maps and encodes a notification, one alert at a time.
struct Encoder<'m> {
    mapping: &'m Mapping,
    reporter: &'m MappingReporter,
    builder: BatchBuilder,
    rejected: RejectedAlerts,
    counts: AlertCounts,
    charge: Charge,
}

impl Encoder<'_> {
    fn encode(
        mut self,
        body: &[u8],
        received_at: Timestamp,
        deadline: Instant,
    ) -> Result<EncodedNotification, PipelineError> {
        let max_batch = (BATCH_FACTOR * body.len()).clamp(MIN_BATCH, MAX_BATCH);
        let body_bytes = self.charge.bytes();
        self.charge(body_bytes)?;
        let notification = Notification::decode(body)?;
        self.reporter.notified(&notification);
        self.counts.truncated = notification.truncated_alerts;
        // Strings with escapes are copied: those of the notification, and those of one alert at a time.
        let decoded_bytes = body_bytes + notification.json_len();
        self.charge(decoded_bytes)?;
        let is_late = || Instant::now() >= deadline;
        let context = NotificationContext::new(&notification, received_at, &is_late);
        for (number, alert) in (1..).zip(notification.alerts()) {
            if number > MAX_ALERTS {
                return Err(DecodeError::TooManyAlerts.into());
            }
            self.charge(decoded_bytes + alert.as_ref().map_or(0, |alert| alert.json.len()))?;
            match alert {
                Ok(alert) => self.map(&alert, &context.with_alert(&alert)),
                Err(alert) => {
                    let subject = Subject {
                        alertname: &alert.alertname,
                        fingerprint: &alert.fingerprint,
                    };
                    let error = AlertError::Malformed(alert.to_string());
                    let status = alert.status.unwrap_or(Status::Firing);
                    self.reject(subject, status, vec![error]);
                }
            }
            if self.builder.written() > max_batch {
                return Err(PipelineError::TooLarge(max_batch));
            }
            // After the alert: the event of one that was mapped at the deadline is incomplete.
            if is_late() {
                return Err(DeliveryError::MappingTimeout.into());
            }
        }
        self.charge(decoded_bytes)?;
        Ok(self.finish(&notification))
    }

    /// Keeps one event for each entity, and reports entities that alerts or groups share.
    fn finish(mut self, notification: &Notification<'_>) -> EncodedNotification {
        let mut events = self.builder.finish();
        let first = events.first_hiding;
        if let Some(first) = first.and_then(|index| events.batch.get(index)) {
            self.reporter.hidden(events.hidden, first.entity_id);
        }
        let group = self.reporter.group(notification);
        if notification.group_key.is_empty() {
            events.states.clear();
        }
        let lowered = self.reporter.groups.lock().lowered(group, &events.states);
        self.counts.lowered_by_group = lowered.len();
        if let Some(first) = lowered.first().and_then(|index| events.batch.get(*index)) {
            self.reporter
                .shared_by_groups(notification, first.entity_id);
        }
        EncodedNotification {
            events,
            rejected: self.rejected,
            group,
            counts: self.counts,
            charge: self.charge,
        }
    }

    /// Charges all that has been encoded so far, and the bytes that are held until the end of encoding.
    fn charge(&mut self, until_end: usize) -> Result<(), BudgetError> {
        let builder = &self.builder;
        let total = until_end + held_bytes(builder.bytes(), builder.events(), &self.rejected);
        self.charge.grow(total.saturating_sub(self.charge.bytes()))
    }

    fn map(&mut self, alert: &Alert<'_>, context: &Context<'_>) {
        let subject = || Subject {
            alertname: alert.labels.get("alertname").unwrap_or_default(),
            fingerprint: &alert.fingerprint,
        };
        let (event, warnings) = self.mapping.map(context);
        for warning in warnings {
            self.reporter.warned(subject(), &warning);
            if warning.dropped {
                *self.counts.dropped.entry(warning.field).or_default() += 1;
            }
        }
        let is_firing = alert.status == Status::Firing;
        let pushed = event.and_then(|event| {
            let pushed = (self.builder).push(&event, is_firing, &alert.starts_at, &alert.ends_at);
            pushed.map_err(|EventTooLarge| vec![AlertError::EventTooLarge])
        });
        match pushed {
            Ok(()) => self.counts.received(alert.status),
            Err(errors) => self.reject(subject(), alert.status, errors),
        }
    }

    fn reject(&mut self, alert: Subject<'_>, status: Status, errors: Vec<AlertError>) {
        let (counts, rejected) = (&mut self.counts, &mut self.rejected);
        counts.received(status);
        for error in &errors {
            self.reporter.rejected(alert, error);
            *counts.rejected.entry(error.field()).or_default() += 1;
        }
        rejected.count += 1;
        rejected.firing += usize::from(status == Status::Firing);
        if rejected.named.len() < MAX_NAMED {
            rejected.named.push(RejectedAlert {
                alertname: shorten(alert.alertname),
                fingerprint: shorten(alert.fingerprint),
                errors: errors.into_iter().map(AlertError::shortened).collect(),
            });
        }
    }
}

impl EventSink {
    /// A sink that writes lines to a stream.
    pub fn stream(stream: impl Write + Send + 'static) -> Self {
        Self::Stream(Mutex::new(Box::new(stream)))
    }

    /// The sink's state in a line.
    pub fn headline(&self) -> String {
        match self {
            Self::Broker(publisher) => publisher.status().to_string(),
            Self::Stream(_) => "printing events instead of publishing them".to_owned(),
        }
    }

    /// Whether events can be delivered now, or why not. The details name the broker's address.
    pub fn readiness(&self, in_detail: bool) -> Result<(), String> {
        match self {
            Self::Broker(publisher) if publisher.status().is_ready() => Ok(()),
            Self::Broker(publisher) if in_detail => Err(publisher.status().to_string()),
            Self::Broker(_) => Err("the reason is shown with the token only".to_owned()),
            Self::Stream(_) => Ok(()),
        }
    }
}

/// Writes the JSON of each message on its own line.
pub fn write_lines(stream: &mut dyn Write, batch: &Batch) -> io::Result<()> {
    for message in batch.iter() {
        stream.write_all(message.body)?;
        stream.write_all(b"\n")?;
    }
    stream.flush()
}
