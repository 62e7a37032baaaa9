//! The path of a notification: decoded, mapped alert by alert, encoded, delivered, counted.
//!
//! This module connects the others in their order. It knows nothing of HTTP.

use std::io::{self, Write};
use std::time::Instant;

use jiff::Timestamp;
use parking_lot::Mutex;

use crate::alertmanager::{Alert, DecodeError, MAX_ALERTS, Notification, Status};
use crate::logging::shorten;
use crate::mapping::{AlertError, Context, Mapping, NotificationContext};
use crate::memory::{BudgetError, Charge};
use crate::metrics;
use crate::publisher::{AnswerTimeout, Batch, DeliveryError, EncodeError, Publisher};

mod reporter;

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
    /// The alerts without an event.
    pub rejected: RejectedAlerts,
}

impl Outcome {
    /// Whether the sender has to learn of a failure. Alertmanager resolves only what it has been told is accepted: where an
    /// event was published, a failure would leave its alarm open for good. Where none was, and no rejected alert fires, there
    /// is nothing to send again.
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

/// What the publisher holds for an event besides the event, in bytes.
const EVENT_BOOKKEEPING: usize = 100;

/// The events of a notification, encoded. What it holds is charged to the budget until it is dropped.
#[derive(Debug)]
pub struct EncodedNotification {
    /// The events, in the order of their alerts, except that those of one entity are in ascending order of state.
    pub batch: Batch,
    /// The alerts without an event.
    pub rejected: RejectedAlerts,
    counts: AlertCounts,
    charge: Charge,
}

impl EncodedNotification {
    /// Decodes, maps and encodes a body. `charge` already holds the body's bytes.
    pub fn from_body(
        mapping: &Mapping,
        reporter: &MappingReporter,
        body: impl AsRef<[u8]>,
        charge: Charge,
        received_at: Timestamp,
        deadline: Instant,
    ) -> Result<Self, PipelineError> {
        let bytes = body.as_ref();
        let mut run = Encoder {
            mapping,
            reporter,
            max_batch: (BATCH_FACTOR * bytes.len()).clamp(MIN_BATCH, MAX_BATCH),
            held: 0,
            encoded: Self {
                batch: Batch::with_capacity(bytes.len() / TYPICAL_ALERT, bytes.len()),
                rejected: RejectedAlerts::default(),
                counts: AlertCounts::default(),
                charge,
            },
        };
        run.encode(bytes, received_at, deadline)?;
        drop(body);
        let mut encoded = run.encoded;
        for entity in encoded.batch.finish() {
            encoded.counts.sharing_entity += entity.events;
            if let Some(message) = encoded.batch.get(entity.first) {
                reporter.shared(entity, message);
            }
        }
        encoded.charge.shrink_to(run.held + encoded.batch.bytes());
        Ok(encoded)
    }

    /// `Ok` means that every event is delivered. The metrics count the notification then: its other attempts are not counted.
    pub fn deliver(
        self,
        reporter: &MappingReporter,
        sink: &EventSink,
        timeout: AnswerTimeout,
        sender_is_gone: &dyn Fn() -> bool,
    ) -> Result<Outcome, PipelineError> {
        let published = self.batch.len();
        sink.deliver(self.batch, self.charge, timeout, sender_is_gone)?;
        reporter.count(&self.counts);
        Ok(Outcome {
            published,
            rejected: self.rejected,
        })
    }
}

/// Maps and encodes a notification, one alert at a time.
struct Encoder<'m> {
    mapping: &'m Mapping,
    reporter: &'m MappingReporter,
    /// The most bytes of all events.
    max_batch: usize,
    /// The bytes that stay charged besides the batch.
    held: usize,
    encoded: EncodedNotification,
}

impl Encoder<'_> {
    fn encode(
        &mut self,
        body: &[u8],
        received_at: Timestamp,
        deadline: Instant,
    ) -> Result<(), PipelineError> {
        self.encoded.charge.grow(self.encoded.batch.bytes())?;
        let notification = Notification::decode(body)?;
        self.reporter.notified(&notification);
        self.encoded.counts.truncated = notification.truncated_alerts;
        // Strings with escapes are copied: those of the notification, and those of one alert at a time.
        self.encoded.charge.grow(notification.json_len())?;
        let mut longest_alert = 0;
        let is_late = || Instant::now() >= deadline;
        let context = NotificationContext::new(&notification, received_at, &is_late);
        for (number, alert) in (1..).zip(notification.alerts()) {
            if number > MAX_ALERTS {
                return Err(DecodeError::TooManyAlerts.into());
            }
            match alert {
                Ok(alert) => {
                    let longer = alert.json_len().saturating_sub(longest_alert);
                    self.encoded.charge.grow(longer)?;
                    longest_alert += longer;
                    self.map(&alert, &context.with_alert(&alert))?;
                }
                Err(alert) => {
                    let subject = Subject {
                        alertname: &alert.alertname,
                        fingerprint: &alert.fingerprint,
                    };
                    let error = AlertError::Malformed(alert.to_string());
                    let status = alert.status.unwrap_or(Status::Firing);
                    self.reject(subject, status, vec![error])?;
                }
            }
            // After the alert: the event of one that was mapped at the deadline is incomplete.
            if is_late() {
                return Err(DeliveryError::MappingTimeout.into());
            }
        }
        Ok(())
    }

    fn map(&mut self, alert: &Alert<'_>, context: &Context<'_>) -> Result<(), PipelineError> {
        let subject = Subject {
            alertname: alert.labels.get("alertname").unwrap_or_default(),
            fingerprint: &alert.fingerprint,
        };
        let (event, warnings) = self.mapping.map(context);
        for warning in warnings {
            self.reporter.warned(subject, &warning);
            self.encoded.counts.warned(warning);
        }
        let batch = &mut self.encoded.batch;
        let before = batch.bytes();
        let errors = match event.map(|event| batch.push(&event, &alert.starts_at, &alert.ends_at)) {
            Ok(Ok(())) if batch.written() > self.max_batch => {
                return Err(PipelineError::TooLarge(self.max_batch));
            }
            Ok(Ok(())) => {
                let grown = batch.bytes() - before;
                self.encoded.counts.received(alert.status);
                self.held += EVENT_BOOKKEEPING;
                return Ok(self.encoded.charge.grow(grown + EVENT_BOOKKEEPING)?);
            }
            Ok(Err(EncodeError::TooLarge)) => vec![AlertError::EventTooLarge],
            Ok(Err(error)) => return Err(DeliveryError::Output(error.to_string()).into()),
            Err(errors) => errors,
        };
        self.reject(subject, alert.status, errors)
    }

    fn reject(
        &mut self,
        alert: Subject<'_>,
        status: Status,
        errors: Vec<AlertError>,
    ) -> Result<(), PipelineError> {
        let (counts, rejected) = (&mut self.encoded.counts, &mut self.encoded.rejected);
        counts.received(status);
        for error in &errors {
            self.reporter.rejected(alert, error);
            counts.rejected(error);
        }
        rejected.count += 1;
        rejected.firing += usize::from(status == Status::Firing);
        if rejected.named.len() < MAX_NAMED {
            self.encoded.charge.grow(NAMED_BYTES)?;
            self.held += NAMED_BYTES;
            rejected.named.push(RejectedAlert {
                alertname: shorten(alert.alertname),
                fingerprint: shorten(alert.fingerprint),
                errors: errors.into_iter().map(AlertError::shortened).collect(),
            });
        }
        Ok(())
    }
}

impl EventSink {
    /// A sink that writes lines to a stream.
    pub fn stream(stream: impl Write + Send + 'static) -> Self {
        Self::Stream(Mutex::new(Box::new(stream)))
    }

    /// Delivers all events, in order.
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
                let stalled = || DeliveryError::Output("the reader is too slow".to_owned());
                let mut stream = stream
                    .try_lock_for(timeout.without_progress)
                    .ok_or_else(stalled)?;
                write_lines(&mut *stream, &batch)
                    .map_err(|error| DeliveryError::Output(error.to_string()))
            }
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn timeout() -> AnswerTimeout {
        let limit = std::time::Duration::from_mins(1);
        AnswerTimeout {
            without_progress: limit,
            in_all: limit,
        }
    }
    use crate::mapping::tests::{NOW, mapping};
    use crate::memory::Budget;
    use crate::metrics::{Exposition, Metrics};

    /// Has an event, is malformed, lacks its name, has a value that is too large for an event; then some that are resolved.
    const ALERTS: [&str; 4] = [
        r#"{"status":"firing","labels":{"alertname":"A","instance":"h"}}"#,
        r#"{"status":"firing","labels":{"alertname":"B","instance":1}}"#,
        r#"{"status":"firing","labels":{"instance":"h"},"fingerprint":"f"}"#,
        r#"{"status":"firing","labels":{"alertname":"D","instance":"h"},"annotations":{"large":"LARGE"}}"#,
    ];

    fn body(alerts: &[&str]) -> String {
        let large = "x".repeat(crate::event::MAX_EVENT_BYTES);
        format!(
            r#"{{"version":"4","truncatedAlerts":3,"alerts":[{}]}}"#,
            alerts.join(",")
        )
        .replace("LARGE", &large)
    }

    fn resolved(alert: &str) -> String {
        alert.replace("firing", "resolved")
    }

    struct Fixture {
        budget: Budget,
        mapping: Mapping,
        metrics: Metrics,
        reporter: MappingReporter,
    }

    impl Fixture {
        fn new(limit: usize) -> Self {
            let metrics = Metrics::new();
            Self {
                budget: Budget::new(limit),
                mapping: mapping(
                    "extra_infos_prefix: x_\nextra_infos: {large: {type: copy, value: annotations.large}}",
                ),
                reporter: MappingReporter::new(metrics.alerts.clone()),
                metrics,
            }
        }

        fn encode_until(
            &self,
            body: &str,
            deadline: Instant,
        ) -> Result<EncodedNotification, PipelineError> {
            let charge = self.budget.charge(body.len())?;
            EncodedNotification::from_body(
                &self.mapping,
                &self.reporter,
                body,
                charge,
                NOW,
                deadline,
            )
        }

        fn encode(&self, body: &str) -> Result<EncodedNotification, PipelineError> {
            self.encode_until(body, later())
        }

        /// The samples of the alerts, those that are 0 left out.
        fn counted(&self) -> Vec<String> {
            let page = self
                .metrics
                .expose(metrics::BrokerSnapshot::default(), Exposition::Text);
            let alerts = page.lines().filter(|line| line.contains("_alerts_"));
            let mut counted: Vec<String> = alerts
                .filter(|line| !line.starts_with('#') && !line.ends_with(" 0"))
                .map(|line| line.replace("canopsis_connector_alerts_", ""))
                .collect();
            counted.sort();
            counted
        }
    }

    fn later() -> Instant {
        Instant::now() + Duration::from_hours(1)
    }

    struct Broken;

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn alerts_without_an_event_are_rejected_alone_and_a_notification_is_counted_once() {
        let fixture = Fixture::new(64 << 20);
        let encoded = fixture.encode(&body(&ALERTS)).unwrap();
        let (broken, working) = (EventSink::stream(Broken), EventSink::stream(io::sink()));
        let failed = encoded.deliver(&fixture.reporter, &broken, timeout(), &|| false);
        assert!(matches!(failed, Err(PipelineError::Delivery(_))));
        assert_eq!(
            fixture.counted(),
            Vec::<String>::new(),
            "it will be sent again"
        );

        let encoded = fixture.encode(&body(&ALERTS)).unwrap();
        let outcome = encoded
            .deliver(&fixture.reporter, &working, timeout(), &|| false)
            .unwrap();
        assert_eq!((outcome.published, outcome.rejected.count), (1, 3));
        let named: Vec<_> = outcome
            .rejected
            .named
            .iter()
            .map(|alert| {
                (
                    &*alert.alertname,
                    &*alert.fingerprint,
                    alert.errors[0].to_string(),
                )
            })
            .collect();
        assert_eq!(
            named,
            [
                (
                    "B",
                    "",
                    "malformed: invalid type: integer `1`, expected a string at line 1 column 57 of the alert".to_owned()
                ),
                (
                    "",
                    "f",
                    "required field resource has no value: labels.alertname is absent".to_owned()
                ),
                ("D", "", "the event is larger than 1024 KiB".to_owned()),
            ]
        );
        assert_eq!(
            fixture.counted(),
            [
                "received_total{status=\"firing\"} 4",
                "rejected_total{field=\"alert\"} 1",
                "rejected_total{field=\"event\"} 1",
                "rejected_total{field=\"resource\"} 1",
                "truncated_total 3",
            ]
        );
    }

    #[test]
    fn only_a_firing_alert_without_any_event_is_a_failure() {
        let fixture = Fixture::new(64 << 20);
        let sink = EventSink::stream(io::sink());
        let resolved_b = resolved(ALERTS[1]);
        let resolved_c = resolved(ALERTS[2]);
        for (alerts, firing, is_failure) in [
            (&[][..], 0, false),
            (&ALERTS[..1], 0, false),
            (&ALERTS[..2], 1, false),
            (&ALERTS[1..2], 1, true),
            (&ALERTS[1..3], 2, true),
            (&[&resolved_b, &resolved_c], 0, false),
            (&[&resolved_b, ALERTS[2]], 1, true),
            (&[r#"{"status":"odd"}"#], 1, true),
        ] {
            let encoded = fixture.encode(&body(alerts)).unwrap();
            let outcome = encoded
                .deliver(&fixture.reporter, &sink, timeout(), &|| false)
                .unwrap();
            assert_eq!(
                (outcome.rejected.firing, outcome.is_failure()),
                (firing, is_failure),
                "{alerts:?}"
            );
        }
    }

    #[test]
    fn what_a_notification_holds_is_charged_until_it_is_dropped() {
        let many = body(&vec![ALERTS[0]; 2000]);
        let fixture = Fixture::new(64 << 20);
        let encoded = fixture.encode(&many).unwrap();
        let held = encoded.batch.bytes() + 2000 * EVENT_BOOKKEEPING;
        assert_eq!(fixture.budget.used(), held, "the body is not held any more");
        drop(encoded);
        assert_eq!(fixture.budget.used(), 0);

        let rejected = fixture.encode(&body(&vec![ALERTS[1]; 2000])).unwrap();
        assert_eq!(rejected.rejected.count, 2000);
        assert!(fixture.budget.used() >= MAX_NAMED * NAMED_BYTES);
        assert!(fixture.budget.used() < 4 * MAX_NAMED * NAMED_BYTES);
        drop(rejected);

        for limit in [many.len() * 3 / 2, many.len() * 3] {
            let fixture = Fixture::new(limit);
            let error = fixture.encode(&many).unwrap_err();
            assert!(
                matches!(error, PipelineError::Memory(_)),
                "{limit}: {error}"
            );
            assert_eq!(fixture.budget.used(), 0);
        }
    }

    #[test]
    fn mapping_ends_at_its_limits() {
        let fixture = Fixture::new(1 << 30);
        let late = fixture.encode_until(&body(&ALERTS[..1]), Instant::now());
        assert!(matches!(
            late,
            Err(PipelineError::Delivery(DeliveryError::MappingTimeout))
        ));
        let most = fixture.encode(&body(&vec!["{}"; MAX_ALERTS])).unwrap();
        assert_eq!(most.rejected.count, MAX_ALERTS);
        let more = fixture
            .encode(&body(&vec!["{}"; MAX_ALERTS + 1]))
            .unwrap_err();
        assert!(matches!(
            more,
            PipelineError::Decode(DecodeError::TooManyAlerts)
        ));
    }

    #[test]
    fn a_number_of_truncated_alerts_does_not_overflow_the_counter() {
        let fixture = Fixture::new(64 << 20);
        let sink = EventSink::stream(io::sink());
        let body = format!(
            r#"{{"version":"4","truncatedAlerts":{},"alerts":[]}}"#,
            u64::MAX
        );
        for _ in 0..2 {
            let encoded = fixture.encode(&body).unwrap();
            encoded
                .deliver(&fixture.reporter, &sink, timeout(), &|| false)
                .unwrap();
        }
        assert_eq!(
            fixture.counted(),
            [format!("truncated_total {}", 2 * u64::from(u32::MAX))]
        );
    }
}
