//! How much memory a notification takes: a small multiple of its body, whatever that holds.

use crate::support::connector::{Connector, MAPPING, config};
use crate::support::notification;

/// Most of a body that the default configuration allows.
const BODY: usize = 15 << 20;

/// The most bytes that are held at once for each byte of a body: the body, and the events while they grow.
const FACTOR: usize = 3;

/// Code and data that the first notification touches, and the values of one alert.
const CONSTANT: usize = 6 << 20;

/// Every part of a notification that templates see.
const TEMPLATES: &str = "
extra_infos_prefix: x_
extra_infos:
  alert: {type: template, value: '{{ len .Alert }}'}
  notification: {type: template, value: '{{ len .Notification }}'}
  labels: {type: template, field: labels, value: '{{ len .Field }}'}
";

fn repeated(text: &str, size: usize) -> String {
    text.repeat(size / text.len())
}

/// A notification of one alert, with JSON behind the alert and behind the notification's keys.
fn one_alert(alert: &str, top: &str) -> String {
    format!(
        r#"{{"version":"4","alerts":[{{"status":"firing","labels":{{"alertname":"a","instance":"h"}}{alert}}}]{top}}}"#
    )
}

#[test]
fn a_notification_takes_a_small_multiple_of_its_body() {
    let names: Vec<String> = (0..20_000).map(|number| number.to_string()).collect();
    let escaped = repeated(r"\n", BODY);
    let labels = |count: usize| {
        let labels: Vec<String> = (0..count)
            .map(|number| format!(r#""{number}":"""#))
            .collect();
        labels.join(",")
    };
    // A quoted control character takes six times as much.
    let deleted = repeated("\u{7f}", BODY);
    let numbers = repeated("0,", BODY);
    let keys: Vec<String> = (0..BODY / 12)
        .map(|number| format!(r#""{number:07}":0"#))
        .collect();
    let keys = keys.join(",");
    let empty = repeated(r#"{"status":"firing"},"#, 1_000_000);
    for (what, body, statuses) in [
        ("alerts", notification(&names), &[200][..]),
        (
            "one string with escapes",
            one_alert("", &format!(r#","groupKey":"{escaped}""#)),
            &[200],
        ),
        (
            "an annotation with escapes",
            one_alert(&format!(r#","annotations":{{"summary":"{escaped}"}}"#), ""),
            &[200],
        ),
        (
            "as many labels as are allowed",
            one_alert(&format!(r#","annotations":{{{}}}"#, labels(4096)), ""),
            &[200],
        ),
        (
            "more labels than are allowed",
            one_alert(&format!(r#","annotations":{{{}}}"#, labels(1_000_000)), ""),
            &[422],
        ),
        (
            "a list under an unknown key",
            one_alert(&format!(r#","x":[{numbers}0]"#), ""),
            &[200],
        ),
        (
            "a list under an unknown key of the notification",
            one_alert("", &format!(r#","x":[{numbers}0]"#)),
            &[200],
        ),
        (
            "short lists that are kept",
            one_alert(
                &format!(r#","x":[{}0]"#, &numbers[..60_000]),
                &format!(r#","x":[{}0]"#, &numbers[..60_000]),
            ),
            &[200],
        ),
        ("unknown keys", one_alert(&format!(",{keys}"), ""), &[200]),
        (
            "unknown keys of the notification",
            one_alert("", &format!(",{keys}")),
            &[200],
        ),
        (
            "a malformed alert of many keys",
            one_alert(&format!(r#","startsAt":1,{keys}"#), ""),
            &[422],
        ),
        (
            "a string for the labels",
            one_alert(&format!(r#","annotations":"{deleted}""#), ""),
            &[422],
        ),
        (
            "a string for a number",
            one_alert("", &format!(r#","truncatedAlerts":"{deleted}""#)),
            &[400],
        ),
        (
            "an unknown status",
            one_alert(&format!(r#","status":"{deleted}""#), "")
                .replace(r#""status":"firing","#, ""),
            &[422],
        ),
        (
            "a string for the notification",
            format!("\"{deleted}\""),
            &[400],
        ),
        (
            "a long name",
            one_alert(
                "",
                &format!(r#","truncatedAlerts":1,"receiver":"{deleted}""#),
            ),
            &[200],
        ),
        (
            "alerts without a name",
            format!(r#"{{"version":"4","alerts":[{empty}{{}}]}}"#),
            &[400, 422],
        ),
    ] {
        // A process for each: what one has freed would hide what the next one takes.
        let mapping = format!("{MAPPING}{TEMPLATES}");
        let text = config("amqp://127.0.0.1:1", "answer_timeout: 60s", &mapping);
        let connector = Connector::with(&text, &["--stdout", "--log-level", "info"]);
        let before = connector.memory();
        let response = connector.post(&body);
        let taken = connector.peak_memory() - before;
        let logged = connector.log().len();
        assert!(logged < 10_000, "{what}: {logged} bytes of log");
        println!(
            "{what}: {} bytes, {taken} taken, {}",
            body.len(),
            response.status
        );
        assert!(
            statuses.contains(&response.status),
            "{what}: {}",
            response.body
        );
        assert!(
            taken <= FACTOR * body.len() + CONSTANT,
            "{what}: {taken} bytes for a body of {}",
            body.len()
        );
    }
}
