use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use super::*;
use crate::mapping::tests::{NOW, mapping};
use crate::memory::Budget;
use crate::metrics::Metrics;

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

struct Fixture {
    budget: Arc<Budget>,
    mapping: Mapping,
    metrics: Metrics,
    reporter: MappingReporter,
}

impl Fixture {
    fn new(limit: usize) -> Self {
        let metrics = Metrics::default();
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
        let mut charge = self.budget.charge();
        charge.grow(body.len())?;
        let body = body.as_bytes().to_vec();
        EncodedNotification::from_body(&self.mapping, &self.reporter, body, charge, NOW, deadline)
    }

    fn encode(&self, body: &str) -> Result<EncodedNotification, PipelineError> {
        self.encode_until(body, later())
    }

    fn deliver(&self, body: &str, sink: &EventSink) -> Result<Outcome, PipelineError> {
        let encoded = self.encode(body)?;
        encoded.deliver(&self.reporter, sink, timeout(), &|| false)
    }

    /// The samples of the alerts, those that are 0 left out.
    fn counted(&self) -> Vec<String> {
        let page = self.metrics.expose();
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
    let (broken, working) = (EventSink::stream(Broken), EventSink::stream(io::sink()));
    let failed = fixture.deliver(&body(&ALERTS), &broken);
    assert!(matches!(failed, Err(PipelineError::Delivery(_))));
    assert_eq!(fixture.counted(), [""; 0], "it will be sent again");

    let outcome = fixture.deliver(&body(&ALERTS), &working).unwrap();
    assert_eq!((outcome.published, outcome.rejected.count), (1, 3));
    let named = outcome.rejected.named.iter().map(|alert| {
        format!(
            "{:?} {:?} {}",
            alert.alertname, alert.fingerprint, alert.errors[0]
        )
    });
    let expected = [
        r#""B" "" malformed: invalid type: integer `1`, expected a string at line 1 column 57 of the alert"#,
        r#""" "f" required field resource has no value: labels.alertname is absent"#,
        r#""D" "" the event is larger than 1024 KiB"#,
    ];
    assert_eq!(named.collect::<Vec<_>>(), expected);
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
    let [resolved_b, resolved_c] = [ALERTS[1], ALERTS[2]].map(|a| a.replace("firing", "resolved"));
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
        let outcome = fixture.deliver(&body(alerts), &sink).unwrap();
        let found = (outcome.rejected.firing, outcome.is_failure());
        assert_eq!(found, (firing, is_failure), "{alerts:?}");
    }
}

/// An alert of an entity, with the state of its severity.
fn alert(status: &str, resource: &str, severity: &str) -> String {
    format!(
        r#"{{"status":"{status}","labels":{{"alertname":"{resource}","instance":"h","severity":"{severity}"}}}}"#
    )
}

/// Delivers the notification of a group, `KEY` or `RECEIVER/KEY`. Returns the resource and the state of each event, and the number of
/// merged alerts.
fn deliver(fixture: &Fixture, sink: &EventSink, group: &str, alerts: &[String]) -> (String, usize) {
    let (receiver, group) = group.split_once('/').unwrap_or(("r", group));
    let body = format!(
        r#"{{"version":"4","receiver":"{receiver}","groupKey":"{group}","groupLabels":{{"g":"{group}"}},"alerts":[{}]}}"#,
        alerts.join(",")
    );
    let encoded = fixture.encode(&body).unwrap();
    let events = encoded.events.batch.iter().map(|message| {
        let event: serde_json::Value = serde_json::from_slice(message.body).unwrap();
        format!("{} {}", event["resource"].as_str().unwrap(), event["state"])
    });
    let events: Vec<String> = events.collect();
    let delivered = encoded.deliver(&fixture.reporter, sink, timeout(), &|| false);
    (
        events.join(", "),
        delivered.map_or(0, |outcome| outcome.merged),
    )
}

#[test]
fn an_entity_has_one_event_and_what_disappears_is_counted() {
    let mut fixture = Fixture::new(64 << 20);
    fixture.mapping = mapping("state: {type: copy, value: labels.severity}");
    let sink = EventSink::stream(io::sink());
    // The alerts: the entity and the severity, and that some are resolved.
    for (alerts, events, merged) in [
        ("A minor, A critical", "A 3", 1),
        ("A minor, A critical resolved", "A 1", 1),
        ("A critical resolved, A info, B 1", "A 0, B 1", 1),
        ("A 2, B 2, A 2, A 2", "A 2, B 2", 2),
    ] {
        let alerts =
            alerts
                .split(", ")
                .map(|words| match words.split(' ').collect::<Vec<_>>()[..] {
                    [resource, severity] => alert("firing", resource, severity),
                    [resource, severity, status] => alert(status, resource, severity),
                    _ => panic!("{words}"),
                });
        let alerts: Vec<String> = alerts.collect();
        let found = deliver(&fixture, &sink, "", &alerts);
        assert_eq!(found, (events.to_owned(), merged), "{alerts:?}");
    }
    let counted = fixture.counted();
    let shared = counted
        .iter()
        .find(|line| line.starts_with("sharing_entity_total "));
    assert_eq!(shared.unwrap(), "sharing_entity_total 2");
    // A rejected critical alert takes no part in the choice.
    let large = ALERTS[3]
        .replace("\"D\"", "\"A\"")
        .replace("LARGE", &"x".repeat(1 << 20));
    fixture.mapping = mapping(
        "state: {type: map, field: labels.severity, values: {minor: 1}, default: 3}\nextra_infos_prefix: x_\n\
         extra_infos: {large: {type: copy, value: annotations.large}}",
    );
    let found = deliver(&fixture, &sink, "", &[large, alert("firing", "A", "minor")]);
    assert_eq!(found, ("A 1".to_owned(), 0));
}

#[test]
fn a_group_that_lowers_the_alarm_of_another_is_counted_once_it_is_delivered() {
    let mut fixture = Fixture::new(64 << 20);
    fixture.mapping = mapping("state: {type: copy, value: labels.severity}");
    let (broken, working) = (EventSink::stream(Broken), EventSink::stream(io::sink()));
    let lowered = |fixture: &Fixture| {
        let page = fixture.metrics.expose();
        let line = page
            .lines()
            .find(|line| line.starts_with("canopsis_connector_groups_sharing_entity_total"));
        line.unwrap().rsplit(' ').next().unwrap().to_owned()
    };
    let [high, low] = ["3", "1"].map(|severity| alert("firing", "A", severity));
    let over = alert("resolved", "A", "3");
    for (sink, group, alerts, expected) in [
        (&working, "", vec![&high], "0"),
        (&working, "one", vec![&low], "0"),
        (&broken, "one", vec![&high], "0"),
        // What failed is not remembered, and is not counted.
        (&working, "two", vec![&low], "0"),
        (&working, "one", vec![&high], "0"),
        (&broken, "two", vec![&low], "0"),
        // Merged: what counts is the state of the entity's event.
        (&working, "two", vec![&low, &high], "0"),
        (&working, "two", vec![&over], "1"),
        (&working, "two", vec![&over], "1"),
        // Without a group, nothing is known.
        (&working, "one", vec![&high], "1"),
        (&working, "", vec![&over], "1"),
        // Two Alertmanagers may have the same routes.
        (&working, "other/one", vec![&over], "2"),
    ] {
        let alerts: Vec<String> = alerts.into_iter().cloned().collect();
        deliver(&fixture, sink, group, &alerts);
        assert_eq!(lowered(&fixture), expected, "{group}: {alerts:?}");
    }
}

#[test]
fn what_a_notification_holds_is_charged_until_it_is_dropped() {
    let alerts = (0..2000).map(|number| ALERTS[0].replace('A', &format!("{number}")));
    let alerts: Vec<String> = alerts.collect();
    let many = body(&alerts.iter().map(String::as_str).collect::<Vec<_>>());
    let fixture = Fixture::new(64 << 20);
    let encoded = fixture.encode(&many).unwrap();
    let held = encoded.events.batch.bytes() + 2000 * EVENT_BOOKKEEPING;
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
        let is_limit = matches!(error, PipelineError::Memory(_));
        assert!(is_limit, "{limit}: {error}");
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
    let more = fixture.encode(&body(&vec!["{}"; MAX_ALERTS + 1]));
    assert!(matches!(
        more.unwrap_err(),
        PipelineError::Decode(DecodeError::TooManyAlerts)
    ));
}

#[test]
fn a_number_of_truncated_alerts_does_not_overflow_the_counter() {
    let fixture = Fixture::new(64 << 20);
    let sink = EventSink::stream(io::sink());
    let alerts = format!(r#""truncatedAlerts":{},"alerts":[]"#, u64::MAX);
    for _ in 0..2 {
        let delivered = fixture.deliver(&format!(r#"{{"version":"4",{alerts}}}"#), &sink);
        delivered.unwrap();
    }
    let expected = format!("truncated_total {}", 2 * u64::from(u32::MAX));
    assert_eq!(fixture.counted(), [expected]);
}

#[test]
fn a_reader_of_events_that_stops_does_not_hold_senders() {
    let sink = Arc::new(EventSink::stream(io::sink()));
    let EventSink::Stream(stream) = &*sink else {
        unreachable!()
    };
    // Another notification is being written.
    let _writing = stream.lock();
    let (done, is_done) = mpsc::channel();
    let waiting = Arc::clone(&sink);
    thread::spawn(move || {
        let timeout = AnswerTimeout {
            without_progress: Duration::from_millis(1),
            ..timeout()
        };
        let fixture = Fixture::new(1 << 20);
        let encoded = fixture.encode(&body(&[])).unwrap();
        done.send(encoded.deliver(&fixture.reporter, &waiting, timeout, &|| false))
    });
    let delivered = is_done.recv_timeout(Duration::from_secs(50));
    let delivered = delivered.expect("a sender waits for a reader that does not read");
    assert!(matches!(
        delivered,
        Err(PipelineError::Delivery(DeliveryError::Output(_)))
    ));
}
