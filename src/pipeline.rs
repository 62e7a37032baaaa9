//! The way of a notification: decoded, mapped alert by alert, delivered, and counted.
//!
//! Knows the rooms on the way and their order, and nothing of HTTP.

use std::io::{self, Write};
use std::sync::Mutex;
use std::time::Instant;

use jiff::Timestamp;
use log::{error, warn};

use crate::alertmanager::{Alert, DecodeError, Notification};
use crate::event::Event;
use crate::logging::{RepeatLimiter, shorten};
use crate::mapping::{Context, FieldError, Mapping, Warning};
use crate::memory::Charge;
use crate::metrics::{self, Metrics};
use crate::publisher::{AnswerTimeout, Batch, DeliveryError, Publisher};

/// Where events go.
pub enum EventSink {
    /// To RabbitMQ.
    Broker(Publisher),
    /// To a stream, one JSON line an event (`--stdout`).
    Stream(Mutex<Box<dyn Write + Send>>),
}

/// What came of a notification whose mapped events have all been delivered.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    /// How many events were delivered.
    pub published: usize,
    /// The alerts that could not be mapped.
    pub refused: RejectedAlerts,
}

/// As many refused alerts are named in one answer; all of them are counted and logged.
const MOST_NAMED: usize = 50;

/// The alerts of a notification that could not be mapped. However many they are, they take little memory while the others wait
/// for their broker.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct RejectedAlerts {
    /// How many there are.
    pub count: usize,
    /// The first of them.
    pub named: Vec<RejectedAlert>,
}

/// An alert that could not be mapped.
#[derive(Debug, PartialEq, Eq)]
pub struct RejectedAlert {
    /// What people call it; may be empty.
    pub alertname: String,
    /// The alert's.
    pub fingerprint: String,
    /// Which fields, and why.
    pub refusals: Vec<FieldError>,
}

/// Why a notification's events are not delivered.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// It is no notification.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The mapping copies so much into each event that all of them together would take the memory of everybody else.
    #[error(
        "the events of this notification would take more than {0} bytes: a rule copies much into each of them"
    )]
    TooLarge(usize),
    /// The events did not get through.
    #[error(transparent)]
    Delivery(#[from] DeliveryError),
}

/// So many bytes of events a notification may always make.
const LEAST_BATCH: usize = 8 << 20;

/// And never more than so many.
const MOST_BATCH: usize = 64 << 20;

/// And in between, so many times the body's length: an event is seldom twice as long as its alert.
const BATCH_TIMES: usize = 4;

/// Counts and logs what an operator should hear of.
pub struct MappingReporter {
    metrics: metrics::AlertMetrics,
    /// For log lines that come again with every notification.
    repeats: Option<RepeatLimiter>,
}

impl MappingReporter {
    /// For a service: each field is told of once a minute, with how many more there were.
    pub fn new(metrics: metrics::AlertMetrics) -> Self {
        Self {
            metrics,
            repeats: Some(RepeatLimiter::default()),
        }
    }

    /// From here on these rules count.
    pub fn preregister(&self, mapping: &Mapping) {
        mapping
            .extra_infos
            .iter()
            .for_each(|(name, _)| self.metrics.preregister(name.as_str()));
    }

    /// For one notification that somebody looks at: everything is told.
    pub fn unlimited() -> Self {
        Self {
            metrics: Metrics::new().alerts,
            repeats: None,
        }
    }

    /// Whether a line about a field may be written; if so, how many were not since the last one.
    fn should_log(&self, what: &str) -> Option<u64> {
        self.repeats
            .as_ref()
            .map_or(Some(0), |repeats| repeats.allow(what))
    }

    fn truncated(&self, notification: &Notification<'_>) {
        self.metrics.truncated(notification.truncated_alerts);
        if let Some(unlogged) = self.should_log("max_alerts") {
            warn!(
                receiver:% = notification.receiver, alerts = notification.truncated_alerts, unlogged;
                "Alertmanager has cut alerts off (max_alerts): they are sent nowhere"
            );
        }
    }

    fn warned(&self, alert: &Alert<'_>, warning: &Warning) {
        if warning.dropped {
            self.metrics.dropped(&warning.field);
        }
        if let Some(unlogged) = self.should_log(&warning.field) {
            warn!(
                alertname:% = name(alert), fingerprint:% = alert.fingerprint, field:% = warning.field, unlogged;
                "{}", warning.reason
            );
        }
    }

    fn refused(&self, alert: &Alert<'_>, refusal: &FieldError) {
        self.metrics.refused(refusal.field);
        if let Some(unlogged) = self.should_log(refusal.field) {
            error!(
                alertname:% = name(alert), fingerprint:% = alert.fingerprint, field:% = refusal.field, unlogged;
                "an alert can't be mapped and is not published: {}", refusal.reason
            );
        }
    }
}

impl RejectedAlerts {
    fn add(&mut self, alert: &Alert<'_>, mut refusals: Vec<FieldError>) {
        self.count += 1;
        if self.named.len() < MOST_NAMED {
            for refusal in &mut refusals {
                refusal.reason = shorten(&refusal.reason);
            }
            let fingerprint = shorten(&alert.fingerprint);
            self.named.push(RejectedAlert {
                alertname: name(alert),
                fingerprint,
                refusals,
            });
        }
    }
}

/// What people call the alert.
fn name(alert: &Alert<'_>) -> String {
    alert
        .labels
        .get("alertname")
        .map_or_else(String::new, shorten)
}

/// Maps the alerts one after the other, and hands each one's event on, if it has one, before the next one's turn. What can't be
/// mapped comes back.
fn map_each<'a, E>(
    mapping: &'a Mapping,
    reporter: &MappingReporter,
    notification: &'a Notification<'a>,
    received_at: Timestamp,
    mut emit: impl FnMut(&Alert<'a>, Option<Event<'a>>) -> Result<(), E>,
) -> Result<RejectedAlerts, E> {
    reporter.metrics.notified();
    if notification.truncated_alerts > 0 {
        reporter.truncated(notification);
    }
    let mut all_refused = RejectedAlerts::default();
    let Some(first) = notification.alerts.first() else {
        return Ok(all_refused);
    };
    let context = Context::new(notification, first, received_at);
    for alert in &notification.alerts {
        reporter.metrics.received(alert.status.as_str());
        let (event, warnings) = mapping.map(&context.for_alert(alert));
        for warning in &warnings {
            reporter.warned(alert, warning);
        }
        let event = event.map_err(|refusals| {
            for refusal in &refusals {
                reporter.refused(alert, refusal);
            }
            all_refused.add(alert, refusals);
        });
        emit(alert, event.ok())?;
    }
    Ok(all_refused)
}

/// A notification's events, encoded and ready to go.
#[derive(Debug)]
pub struct EncodedNotification {
    /// Of the alerts that could be mapped, in their order.
    pub batch: Batch,
    /// The alerts that could not be.
    pub refused: RejectedAlerts,
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
        let most = (BATCH_TIMES * body.len()).clamp(LEAST_BATCH, MOST_BATCH);
        // An event is about as long as its alert.
        let mut batch = Batch::with_capacity(notification.alerts.len(), body.len());
        let refused = map_each(
            mapping,
            reporter,
            &notification,
            received_at,
            |alert, event| {
                if Instant::now() >= deadline {
                    return Err(DeliveryError::MappingTimeout.into());
                }
                let pushed = event.map_or(Ok(()), |event| {
                    batch.push(&event, &alert.starts_at, &alert.ends_at)
                });
                pushed.map_err(|error| DeliveryError::Output(error.to_string()))?;
                if batch.written() > most {
                    Err(PipelineError::TooLarge(most))
                } else {
                    Ok(())
                }
            },
        )?;
        batch.finish();
        Ok(Self { batch, refused })
    }

    /// `Ok` means: every event that could be mapped is delivered.
    pub fn deliver(
        self,
        sink: &EventSink,
        charge: Charge,
        timeout: AnswerTimeout,
        sender_is_gone: &dyn Fn() -> bool,
    ) -> Result<Outcome, PipelineError> {
        let published = self.batch.len();
        sink.deliver(self.batch, charge, timeout, sender_is_gone)?;
        Ok(Outcome {
            published,
            refused: self.refused,
        })
    }
}

impl EventSink {
    /// Delivers all of the events, in order, or says why not.
    fn deliver(
        &self,
        batch: Batch,
        charge: Charge,
        timeout: AnswerTimeout,
        sender_is_gone: &dyn Fn() -> bool,
    ) -> Result<(), DeliveryError> {
        match self {
            Self::Broker(publisher) => publisher.deliver(batch, charge, timeout, sender_is_gone),
            Self::Stream(stream) => {
                let mut stream = stream
                    .lock()
                    .unwrap_or_else(std::sync::PoisonError::into_inner);
                write_lines(&mut *stream, &batch)
                    .map_err(|error| DeliveryError::Output(error.to_string()))
            }
        }
    }

    /// For a page of metrics.
    pub fn now(&self) -> metrics::BrokerSnapshot {
        match self {
            Self::Broker(publisher) => publisher.now(),
            Self::Stream(_) => metrics::BrokerSnapshot::default(),
        }
    }

    /// How it is doing, in a line.
    pub fn headline(&self) -> String {
        match self {
            Self::Broker(publisher) => publisher.status().to_string(),
            Self::Stream(_) => "printing events instead of publishing them".to_owned(),
        }
    }

    /// Whether events would get through now; if not, why: in detail for those who may know where the broker is.
    pub fn readiness(&self, in_detail: bool) -> Result<(), String> {
        match self {
            Self::Broker(publisher) if publisher.status().is_ready() => Ok(()),
            Self::Broker(publisher) if in_detail => Err(publisher.status().to_string()),
            Self::Broker(publisher) => Err(publisher.status().public().to_owned()),
            Self::Stream(_) => Ok(()),
        }
    }
}

/// Writes each message's JSON on a line of its own.
pub fn write_lines(stream: &mut dyn Write, batch: &Batch) -> io::Result<()> {
    for message in batch.iter() {
        stream.write_all(message.body)?;
        stream.write_all(b"\n")?;
    }
    stream.flush()
}
