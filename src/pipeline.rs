//! The path of a notification: decoded, mapped alert by alert, encoded, delivered, counted.
//!
//! This module connects the others in their order. It knows nothing of HTTP.

use std::io::{self, Write};
use std::time::Instant;

use jiff::Timestamp;
use log::{error, warn};
use parking_lot::Mutex;

use crate::alertmanager::{Alert, DecodeError, MAX_ALERTS, Notification};
use crate::logging::{RepeatLimiter, shorten};
use crate::mapping::{FieldError, Mapping, NotificationContext, Warning};
use crate::metrics::{self, Metrics};
use crate::publisher::{Batch, DeliveryError, Publisher};

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
    /// The alerts without an event.
    pub rejected: RejectedAlerts,
}

/// The most rejected alerts that are named in one response; all of them are counted.
const MAX_NAMED: usize = 50;

/// The alerts of a notification that have no event. However many they are, they take little memory while the events of the
/// others wait for the broker.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct RejectedAlerts {
    /// How many there are.
    pub count: usize,
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
    /// The required fields that have no value.
    pub errors: Vec<FieldError>,
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

/// Counts and logs what happens to alerts.
pub struct MappingReporter {
    metrics: metrics::AlertMetrics,
    /// For log lines that repeat with every notification.
    repeats: Option<RepeatLimiter>,
}

impl MappingReporter {
    /// For a service: each field is logged once a minute, with the number of suppressed lines.
    pub fn new(metrics: metrics::AlertMetrics) -> Self {
        Self {
            metrics,
            repeats: Some(RepeatLimiter::default()),
        }
    }

    /// For `--dry-run`: every line is logged.
    pub fn unlimited() -> Self {
        Self {
            metrics: Metrics::new().alerts,
            repeats: None,
        }
    }

    /// Creates the counters of a mapping's fields at 0, so that their first increase is seen.
    pub fn preregister(&self, mapping: &Mapping) {
        mapping
            .extra_infos
            .iter()
            .for_each(|(name, _)| self.metrics.preregister(name.as_str()));
    }

    /// Whether a line about this may be logged; if so, how many were suppressed since the last one.
    fn should_log(&self, what: &str) -> Option<u64> {
        self.repeats
            .as_ref()
            .map_or(Some(0), |repeats| repeats.allow(what))
    }

    fn truncated(&self, notification: &Notification<'_>) {
        let truncated = notification.truncated_alerts;
        self.metrics.truncated(truncated);
        if let Some(suppressed) = self.should_log("max_alerts") {
            warn!(
                receiver:% = notification.receiver, suppressed;
                "Alertmanager truncated the notification (max_alerts): {truncated} alerts never reach Canopsis"
            );
        }
    }

    fn warned(&self, alert: &Alert<'_>, warning: &Warning) {
        if warning.dropped {
            self.metrics.dropped(&warning.field);
        }
        if let Some(suppressed) = self.should_log(&warning.field) {
            warn!(
                alertname:% = name(alert), fingerprint:% = alert.fingerprint, field:% = warning.field, suppressed;
                "{}", warning.reason
            );
        }
    }

    fn rejected(&self, alert: &Alert<'_>, error: &FieldError) {
        self.metrics.rejected(error.field);
        if let Some(suppressed) = self.should_log(error.field) {
            error!(
                alertname:% = name(alert), fingerprint:% = alert.fingerprint, field = error.field, suppressed;
                "alert rejected: required field {} has no value: {}", error.field, error.reason
            );
        }
    }
}

impl RejectedAlerts {
    fn add(&mut self, alert: &Alert<'_>, mut errors: Vec<FieldError>) {
        self.count += 1;
        if self.named.len() < MAX_NAMED {
            for error in &mut errors {
                error.reason = shorten(&error.reason);
            }
            self.named.push(RejectedAlert {
                alertname: name(alert),
                fingerprint: shorten(&alert.fingerprint),
                errors,
            });
        }
    }
}

/// The label by which people know the alert.
fn name(alert: &Alert<'_>) -> String {
    alert
        .labels
        .get("alertname")
        .map_or_else(String::new, shorten)
}

/// The events of a notification, encoded.
#[derive(Debug)]
pub struct EncodedNotification {
    /// The events, in the order of their alerts.
    pub batch: Batch,
    /// The alerts without an event.
    pub rejected: RejectedAlerts,
}

impl EncodedNotification {
    /// Decodes, maps and encodes a body.
    pub fn from_body(
        mapping: &Mapping,
        reporter: &MappingReporter,
        body: &[u8],
        received_at: Timestamp,
        deadline: Instant,
    ) -> Result<Self, PipelineError> {
        let notification = Notification::decode(body)?;
        reporter.metrics.notified();
        if notification.truncated_alerts > 0 {
            reporter.truncated(&notification);
        }
        let max_bytes = (BATCH_FACTOR * body.len()).clamp(MIN_BATCH, MAX_BATCH);
        let context = NotificationContext::new(&notification, received_at).with_deadline(deadline);
        let mut batch = Batch::with_capacity(body.len() / TYPICAL_ALERT, body.len());
        let mut rejected = RejectedAlerts::default();
        for (number, alert) in (1..).zip(notification.alerts()) {
            if number > MAX_ALERTS {
                return Err(DecodeError::TooManyAlerts.into());
            }
            if Instant::now() >= deadline {
                return Err(DeliveryError::MappingTimeout.into());
            }
            let alert = alert.map_err(|source| DecodeError::Alert { number, source })?;
            reporter.metrics.received(alert.status.as_str());
            let (event, warnings) = mapping.map(&context.with_alert(&alert));
            for warning in &warnings {
                reporter.warned(&alert, warning);
            }
            match event {
                Ok(event) => batch
                    .push(&event)
                    .map_err(|error| DeliveryError::Output(error.to_string()))?,
                Err(errors) => {
                    for error in &errors {
                        reporter.rejected(&alert, error);
                    }
                    rejected.add(&alert, errors);
                }
            }
            if batch.written() > max_bytes {
                return Err(PipelineError::TooLarge(max_bytes));
            }
        }
        batch.finish();
        Ok(Self { batch, rejected })
    }

    /// `Ok` means that every event is delivered.
    pub fn deliver(self, sink: &EventSink, deadline: Instant) -> Result<Outcome, PipelineError> {
        let published = self.batch.len();
        sink.deliver(self.batch, deadline)?;
        Ok(Outcome {
            published,
            rejected: self.rejected,
        })
    }
}

impl EventSink {
    /// A sink that writes lines to a stream.
    pub fn stream(stream: impl Write + Send + 'static) -> Self {
        Self::Stream(Mutex::new(Box::new(stream)))
    }

    /// Delivers all events, in order.
    fn deliver(&self, batch: Batch, deadline: Instant) -> Result<(), DeliveryError> {
        match self {
            Self::Broker(publisher) => publisher.deliver(batch, deadline),
            Self::Stream(stream) => write_lines(&mut *stream.lock(), &batch)
                .map_err(|error| DeliveryError::Output(error.to_string())),
        }
    }

    /// The publisher's state, for a page of metrics.
    pub fn now(&self) -> metrics::BrokerSnapshot {
        match self {
            Self::Broker(publisher) => publisher.now(),
            Self::Stream(_) => metrics::BrokerSnapshot::default(),
        }
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
            Self::Broker(publisher) => Err(publisher.status().public().to_owned()),
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
