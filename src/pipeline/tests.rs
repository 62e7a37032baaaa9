use std::time::Duration;

use super::*;
use crate::mapping::tests::{NOW, mapping};
use crate::memory::Budget;
use crate::metrics::{Exposition, Metrics};

fn timeout() -> AnswerTimeout {
    let limit = Duration::from_mins(1);
    AnswerTimeout {
        without_progress: limit,
        in_all: limit,
    }
}

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
        let body = body.as_bytes().to_vec();
        EncodedNotification::from_body(&self.mapping, &self.reporter, body, charge, NOW, deadline)
    }

    fn encode(&self, body: &str) -> Result<EncodedNotification, PipelineError> {
        self.encode_until(body, later())
    }

    /// The samples of the alerts, those that are 0 left out.
    fn counted(&self) -> Vec<String> {
        let page = self.metrics.expose(Exposition::Text);
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
