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

/// What a body is, its status, and the body. Words in capital letters are replaced.
const BODIES: &str = r#"
alerts | 200 | NOTIFICATION
one string with escapes | 200 | ALERT}],"groupKey":"ESCAPED"}
an annotation with escapes | 200 | ALERT,"annotations":{"summary":"ESCAPED"}}]}
as many labels as are allowed | 200 | ALERT,"annotations":{4096-LABELS}}]}
more labels than are allowed | 422 | ALERT,"annotations":{MILLION-LABELS}}]}
a list under an unknown key | 200 | ALERT,"x":[LONG-LIST]}]}
a list under an unknown key of the notification | 200 | ALERT}],"x":[LONG-LIST]}
short lists that are kept | 200 | ALERT,"x":[SHORT-LIST]}],"x":[SHORT-LIST]}
unknown keys | 200 | ALERT,UNKNOWN-KEYS}]}
unknown keys of the notification | 200 | ALERT}],UNKNOWN-KEYS}
a malformed alert of many keys | 422 | ALERT,"startsAt":1,UNKNOWN-KEYS}]}
a string for the labels | 422 | ALERT,"annotations":"DELETED"}]}
a string for a number | 400 | ALERT}],"truncatedAlerts":"DELETED"}
an unknown status | 422 | {"version":"4","alerts":[{"status":"DELETED"}]}
a string for the notification | 400 | "DELETED"
a long name | 200 | ALERT}],"truncatedAlerts":1,"receiver":"DELETED"}
alerts without a name | 422 | {"version":"4","alerts":[47000-NAMELESS{}]}
more alerts than are allowed | 400 | {"version":"4","alerts":[51000-NAMELESS{}]}
"#;

fn repeated(text: &str, size: usize) -> String {
    text.repeat(size / text.len())
}

#[test]
fn a_notification_takes_a_small_multiple_of_its_body() {
    let names: Vec<String> = (0..20_000).map(|number| number.to_string()).collect();
    let entries = |count: usize, value: &str| {
        let entries = (0..count).map(|number| format!("\"{number}\":{value}"));
        entries.collect::<Vec<_>>().join(",")
    };
    let alert =
        r#"{"version":"4","alerts":[{"status":"firing","labels":{"alertname":"a","instance":"h"}"#;
    let words = [
        ("NOTIFICATION", notification(&names)),
        ("ALERT", alert.to_owned()),
        ("ESCAPED", repeated(r"\n", BODY)),
        ("4096-LABELS", entries(4096, "\"\"")),
        ("MILLION-LABELS", entries(1_000_000, "\"\"")),
        ("LONG-LIST", repeated("0,", BODY) + "0"),
        ("SHORT-LIST", repeated("0,", 60_000) + "0"),
        ("UNKNOWN-KEYS", entries(BODY / 12, "0")),
        // A quoted control character takes six times as much.
        ("DELETED", repeated("\u{7f}", BODY)),
        ("47000-NAMELESS", "{\"status\":\"firing\"},".repeat(47_000)),
        ("51000-NAMELESS", "{\"status\":\"firing\"},".repeat(51_000)),
    ];
    for row in BODIES.trim().lines() {
        let (what, row) = row.split_once(" | ").unwrap();
        let (status, body) = row.split_once(" | ").unwrap();
        let mut body = body.to_owned();
        for (word, text) in &words {
            body = body.replace(word, text);
        }
        // A process for each: what one has freed would hide what the next one takes.
        let mapping = format!("{MAPPING}{TEMPLATES}");
        let text = config("amqp://127.0.0.1:1", "answer_timeout: 60s", &mapping);
        let connector = Connector::with(&text, &["--stdout", "--log-level", "info"]);
        let before = connector.memory();
        let response = connector.post(&body);
        let taken = connector.peak_memory() - before;
        let logged = connector.log().len();
        assert!(logged < 10_000, "{what}: {logged} bytes of log");
        let length = body.len();
        println!("{what}: {length} bytes, {taken} taken");
        let (found, limit) = (response.status.to_string(), FACTOR * length + CONSTANT);
        assert_eq!(found, status, "{what}: {}", response.body);
        assert!(
            taken <= limit,
            "{what}: {taken} bytes for a body of {length}"
        );
    }
}
