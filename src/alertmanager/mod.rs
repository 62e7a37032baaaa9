//! Alertmanager's webhook notification (version "4"), and Grafana Alerting's of the same shape (version "1"): decoded within
//! limits.
//!
//! The format is Alertmanager's (`notify/webhook` and `template.Data` in its sources). Keys that newer versions or Grafana
//! add are kept for templates and are never an error; keys that older versions lack have a default. A null is an absent
//! key, because Go's decoder, for which senders write, reads it as the empty value. Nothing is copied that the
//! body holds unescaped, and one alert is decoded at a time: a body of many megabytes is never held in both forms. No error
//! quotes a value, which may be as long as the body.
//!
//! This module knows no rules, events or answers.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::iter;

use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny};
use serde_json::value::RawValue;

mod labels;
mod surrogates;

use labels::JsonString;
pub use labels::Labels;
pub use surrogates::replace_lone_surrogates;

/// The most alerts of one notification. Alertmanager's groups are rarely above hundreds.
pub const MAX_ALERTS: usize = 50_000;

/// The versions that are decoded: Alertmanager's, and Grafana's.
const VERSIONS: [&str; 2] = ["4", "1"];

/// U+FEFF in UTF-8, which some editors and libraries write before a text.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// One notification: a group of alerts that Alertmanager sends to one receiver.
#[derive(Debug, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Notification<'b> {
    /// "4", or Grafana's "1".
    #[serde(borrow)]
    pub version: Cow<'b, str>,
    /// The group's status: firing as soon as one of its alerts fires. An event follows the status of its alert.
    #[serde(borrow, default, deserialize_with = "string")]
    pub status: Cow<'b, str>,
    /// Identifies the group; opaque.
    #[serde(borrow, default, deserialize_with = "string")]
    pub group_key: Cow<'b, str>,
    /// The receiver's name, escaped for regular expressions (`a.b` arrives as `a\.b`).
    #[serde(borrow, default, deserialize_with = "string")]
    pub receiver: Cow<'b, str>,
    /// The address of Alertmanager's web interface.
    #[serde(borrow, default, rename = "externalURL", deserialize_with = "string")]
    pub external_url: Cow<'b, str>,
    /// How many alerts `max_alerts` cut off; Alertmanager never sends them.
    #[serde(default, deserialize_with = "count")]
    pub truncated_alerts: u64,
    /// The labels by which the alerts are grouped.
    #[serde(borrow, default)]
    pub group_labels: Labels<'b>,
    /// The labels that all alerts share.
    #[serde(borrow, default)]
    pub common_labels: Labels<'b>,
    /// The annotations that all alerts share.
    #[serde(borrow, default)]
    pub common_annotations: Labels<'b>,
    #[serde(borrow)]
    alerts: &'b RawValue,
    #[serde(skip)]
    body: &'b str,
}

/// One alert of a notification.
#[derive(Debug, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Alert<'b> {
    /// Firing or resolved.
    pub status: Status,
    /// The alert's labels.
    #[serde(borrow, default)]
    pub labels: Labels<'b>,
    /// The alert's annotations.
    #[serde(borrow, default)]
    pub annotations: Labels<'b>,
    /// RFC 3339.
    #[serde(borrow, default, deserialize_with = "string")]
    pub starts_at: Cow<'b, str>,
    /// RFC 3339; Go's zero time (`0001-01-01T00:00:00Z`) while the alert fires.
    #[serde(borrow, default, deserialize_with = "string")]
    pub ends_at: Cow<'b, str>,
    /// The page of the rule in Prometheus; may be empty.
    #[serde(borrow, default, rename = "generatorURL", deserialize_with = "string")]
    pub generator_url: Cow<'b, str>,
    /// Identifies the alert: a hash of its labels.
    #[serde(borrow, default, deserialize_with = "string")]
    pub fingerprint: Cow<'b, str>,
    /// The whole of it.
    #[serde(skip)]
    pub json: &'b str,
}

/// Whether an alert is active or over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// The alert is active.
    Firing,
    /// The alert is over.
    Resolved,
}

impl Status {
    /// The status as Alertmanager spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Firing => "firing",
            Self::Resolved => "resolved",
        }
    }
}

impl<'de> Deserialize<'de> for Status {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let JsonString(status) = JsonString::deserialize(deserializer)?;
        [Self::Firing, Self::Resolved]
            .into_iter()
            .find(|known| known.as_str() == status)
            .ok_or_else(|| D::Error::custom("unknown status"))
    }
}

/// A string, or null.
fn string<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Cow<'de, str>, D::Error> {
    let string: Option<JsonString<'de>> = Option::deserialize(deserializer)?;
    Ok(string.map_or(Cow::Borrowed(""), |JsonString(string)| string))
}

/// A number, or null. Derived code would quote the whole of a long string in its place.
fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let json = <&RawValue>::deserialize(deserializer)?.get();
    if json == "null" {
        return Ok(0);
    }
    json.parse()
        .map_err(|_| D::Error::custom("truncatedAlerts: expected a number"))
}

/// Why a body is not a notification. `Display` is what the sender reads.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Not UTF-8, not JSON, or JSON of another shape.
    #[error("the body is not an Alertmanager notification: {0}")]
    Json(#[from] serde_json::Error),
    /// UTF-8 with a byte order mark, which JSON must not have (RFC 8259, section 8.1).
    #[error("the body begins with a UTF-8 byte order mark; send the JSON without it")]
    ByteOrderMark,
    /// A list, as a Prometheus server sends it to an Alertmanager.
    #[error(
        "the body is a list of alerts, as a Prometheus server sends it: point Prometheus at an Alertmanager, \
         and that Alertmanager's webhook receiver here"
    )]
    FromPrometheus,
    /// A notification of a version that this program does not know.
    #[error(
        "unsupported notification version {0:?}; supported: \"4\" (Alertmanager) and \"1\" (Grafana Alerting)"
    )]
    Version(String),
    /// More alerts than [`MAX_ALERTS`].
    #[error("the notification has more than {MAX_ALERTS} alerts")]
    TooManyAlerts,
}

/// An alert of another shape. As far as they can be read, its parts identify it.
#[derive(Debug, thiserror::Error)]
#[error("{source} of the alert")]
pub struct MalformedAlert {
    /// The label `alertname`, or empty.
    pub alertname: String,
    /// The fingerprint, or empty.
    pub fingerprint: String,
    /// `None` where it is missing or unknown.
    pub status: Option<Status>,
    source: serde_json::Error,
}

impl<'b> Notification<'b> {
    /// Decodes and checks a body, except for its alerts.
    pub fn decode(body: &'b [u8]) -> Result<Self, DecodeError> {
        if body.starts_with(BYTE_ORDER_MARK) {
            return Err(DecodeError::ByteOrderMark);
        }
        match body.iter().find(|byte| !byte.is_ascii_whitespace()) {
            Some(b'{') | None => {}
            Some(b'[') => return Err(DecodeError::FromPrometheus),
            Some(_) => return Err(serde_json::Error::custom("expected an object").into()),
        }
        let body = std::str::from_utf8(body).map_err(serde_json::Error::custom)?;
        let mut notification: Self = serde_json::from_str(body)?;
        if !VERSIONS.contains(&&*notification.version) {
            let version = notification.version.chars().take(32).collect();
            return Err(DecodeError::Version(version));
        }
        if !notification.alerts.get().starts_with('[') {
            return Err(serde_json::Error::custom("alerts: expected a list").into());
        }
        notification.body = body;
        Ok(notification)
    }

    /// The alerts, in Alertmanager's order, decoded one at a time. A malformed one is an error, and the next one follows it.
    pub fn alerts(&self) -> impl Iterator<Item = Result<Alert<'b>, MalformedAlert>> + use<'b> {
        // The list has been parsed once: only white space and commas separate its items.
        let list = self.alerts.get().strip_prefix('[');
        let items = list.and_then(|list| list.strip_suffix(']'));
        let mut rest = items.unwrap_or_default();
        iter::from_fn(move || next_alert(&mut rest))
    }

    /// The length of the notification's JSON without its alerts, in bytes.
    pub fn json_len(&self) -> usize {
        self.body.len() - self.alerts.get().len()
    }

    /// Every key with its JSON, also those that only newer versions of Alertmanager or Grafana send. None where
    /// [`Notification::json_len`] is above [`MAX_OBJECT`].
    pub fn entries(&self) -> Entries<'b> {
        entries(self.body, self.json_len())
    }
}

impl<'b> Alert<'b> {
    /// Every key with its JSON, also those that only newer versions of Alertmanager or Grafana send. None where
    /// [`Alert::json`] is longer than [`MAX_OBJECT`].
    pub fn entries(&self) -> Entries<'b> {
        entries(self.json, self.json.len())
    }
}

impl MalformedAlert {
    fn new(json: &str, source: serde_json::Error) -> Self {
        fn string<'b, T: Deserialize<'b>>(object: &Entries<'b>, key: &str) -> Option<T> {
            serde_json::from_str(object.get(key)?.get()).ok()
        }
        let alert = entries(json, json.len());
        let labels = alert.get("labels").map_or("", |json| json.get());
        let labels = entries(labels, labels.len());
        Self {
            alertname: string(&labels, "alertname").unwrap_or_default(),
            fingerprint: string(&alert, "fingerprint").unwrap_or_default(),
            status: string(&alert, "status"),
            source,
        }
    }
}

/// The longest JSON that is read as a map of its keys, in bytes: each key takes about 100 bytes of memory.
pub const MAX_OBJECT: usize = 256 << 10;

/// An object's keys with their JSON. Of a repeated key the last value counts, as for Go's decoder.
pub type Entries<'b> = BTreeMap<String, &'b RawValue>;

fn entries(json: &str, len: usize) -> Entries<'_> {
    if len > MAX_OBJECT {
        return Entries::new();
    }
    serde_json::from_str(json).unwrap_or_default()
}

fn next_alert<'b>(rest: &mut &'b str) -> Option<Result<Alert<'b>, MalformedAlert>> {
    let item = rest.trim_start_matches([' ', '\t', '\r', '\n', ',']);
    let mut values = serde_json::Deserializer::from_str(item).into_iter::<Alert<'b>>();
    // Derived code would take a list of the values, too.
    let decoded = if item.is_empty() || item.starts_with('{') {
        values.next()?
    } else {
        Err(serde_json::Error::custom("expected an object"))
    };
    let end = if decoded.is_ok() {
        values.byte_offset()
    } else {
        let mut values = serde_json::Deserializer::from_str(item).into_iter::<IgnoredAny>();
        values.next();
        values.byte_offset()
    };
    let json;
    (json, *rest) = item.split_at(end);
    Some(match decoded {
        Ok(alert) => Ok(Alert { json, ..alert }),
        Err(error) => Err(MalformedAlert::new(json, error)),
    })
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::text::tests::rows;

    /// The status of each alert, or why it is malformed.
    fn alerts(json: &str) -> Vec<String> {
        let body = format!("{{\"version\":\"4\",\"alerts\":{json}}}");
        let notification = Notification::decode(body.as_bytes()).unwrap();
        let status = |alert: Result<Alert<'_>, _>| match alert {
            Ok(alert) => alert.status.as_str().to_owned(),
            Err(error) => MalformedAlert::to_string(&error),
        };
        notification.alerts().map(status).collect()
    }

    #[test]
    fn unknown_and_missing_keys_are_no_error() {
        let body =
            br#"{"version":"4","status":"firing","routeLabels":{"a":"b"},"commonLabels":null,
            "alerts":[{"status":"resolved","labels":{"x":"y"},"annotations":null,"novel":1}]}"#;
        let notification = Notification::decode(body).unwrap();
        let alert = notification.alerts().next().unwrap().unwrap();
        assert_eq!(alert.status, Status::Resolved);
        assert_eq!(alert.entries()["novel"].get(), "1");
        assert_eq!(notification.entries()["routeLabels"].get(), "{\"a\":\"b\"}");
        assert!(notification.common_labels.is_empty() && alert.annotations.is_empty());
    }

    #[test]
    fn a_null_is_an_absent_key() {
        let body = r#"{"version":"1","status":null,"groupKey":null,"receiver":null,"externalURL":null,
            "truncatedAlerts":null,"groupLabels":null,"commonLabels":{"a":null},"commonAnnotations":null,
            "alerts":[{"status":"firing","labels":{"a":null,"b":"c"},"annotations":{"summary":null},"startsAt":null,
            "endsAt":null,"generatorURL":null,"fingerprint":null,"values":null},{"status":null},{"status":"firing"}]}"#;
        let notification = Notification::decode(body.as_bytes()).unwrap();
        assert_eq!(notification.version, "1");
        let strings = [
            &notification.status,
            &notification.group_key,
            &notification.receiver,
            &notification.external_url,
        ];
        assert!(strings.iter().all(|string| string.is_empty()));
        assert_eq!(notification.truncated_alerts, 0);
        assert!(notification.common_labels.is_empty());
        let alerts: Vec<_> = notification.alerts().collect();
        let first = alerts[0].as_ref().unwrap();
        assert_eq!(first.labels.iter().collect::<Vec<_>>(), [("b", "c")]);
        assert!(first.annotations.is_empty() && first.starts_at.is_empty());
        assert!(first.ends_at.is_empty() && first.fingerprint.is_empty());
        assert!(
            alerts[1].is_err() && alerts[2].is_ok(),
            "a status is required"
        );
    }

    #[test]
    fn a_malformed_alert_is_an_error_and_the_others_are_decoded() {
        const OBJECT: &str = "expected an object";
        for (json, expected) in [
            ("[]", &[][..]),
            ("[ \t\r\n]", &[]),
            (
                r#"[ {"status":"firing"} ,{"status":"resolved"}]"#,
                &["firing", "resolved"],
            ),
            (
                r#"[{"status":"odd","x":"]},{"},{"status":"firing"}]"#,
                &["unknown status", "firing"],
            ),
            (
                r#"[1, null,"a,]",[[{"status":"firing"}]],["firing"],{"status":"firing"}]"#,
                &[OBJECT, OBJECT, OBJECT, OBJECT, OBJECT, "firing"],
            ),
            (
                r#"[{"status":"firing","labels":{"a":1}},{"labels":{}},{"status":"firing","labels":{"a":"\ud800"}},{"status":"firing"}]"#,
                &[
                    "invalid type: integer `1`, expected a string",
                    "missing field `status`",
                    "unexpected end of hex escape",
                    "firing",
                ],
            ),
        ] {
            let found = alerts(json);
            assert_eq!(found.len(), expected.len(), "{json}: {found:?}");
            let begins = |(found, expected): (&String, &&str)| found.starts_with(expected);
            assert!(found.iter().zip(expected).all(begins), "{json}: {found:?}");
        }
    }

    fn any_json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(serde_json::Value::from),
            any::<i64>().prop_map(serde_json::Value::from),
            any::<f64>().prop_map(serde_json::Value::from),
            "[\\PC\u{0}-\u{1f}]{0,8}".prop_map(serde_json::Value::from),
            Just(serde_json::json!({"status": "firing", "labels": {"a": "b"}})),
        ];
        leaf.prop_recursive(4, 16, 4, |inner| {
            let key = prop_oneof!["status", "labels", "startsAt", "[\\[\\]{},:\"]{0,3}"];
            prop_oneof![
                vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
                vec((key, inner), 0..4)
                    .prop_map(|entries| serde_json::Value::Object(entries.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn of_any_list_each_item_is_an_alert_or_an_error(
            items in vec((any_json(), "[ \t\r\n]{0,2}", "[ \t\r\n]{0,2}"), 0..8)
        ) {
            let texts: Vec<String> = items
                .iter()
                .map(|(item, before, after)| format!("{before}{item}{after}"))
                .collect();
            let body = format!("{{\"version\":\"4\",\"alerts\":[{}]}}", texts.join(","));
            let notification = Notification::decode(body.as_bytes()).unwrap();
            let alerts: Vec<_> = notification.alerts().collect();
            prop_assert_eq!(alerts.len(), items.len());
            for (alert, (item, ..)) in alerts.iter().zip(&items) {
                let is_known = matches!(item["status"].as_str(), Some("firing" | "resolved"));
                match alert {
                    Ok(alert) => {
                        prop_assert_eq!(alert.status.as_str(), item["status"].as_str().unwrap());
                        prop_assert_eq!(alert.json, item.to_string());
                    }
                    Err(_) => prop_assert!(
                        !is_known || item.get("labels").or(item.get("startsAt")).is_some()
                    ),
                }
            }
        }
    }

    #[test]
    fn a_malformed_alert_is_identified_as_far_as_possible() {
        let long = format!(
            r#"{{"status":"resolved","labels":{{"alertname":"A"}},"x":"{}","startsAt":1}}"#,
            "x".repeat(MAX_OBJECT)
        );
        let resolved =
            r#"{"status":"resolved","labels":{"alertname":"A","n":1},"fingerprint":"f"}"#;
        let firing = r#"{"status":"firing","labels":[1],"fingerprint":"f"}"#;
        let odd = r#"{"status":"odd","labels":{"alertname":"A"},"fingerprint":1}"#;
        for (alert, expected) in [
            (resolved, ("A", "f", Some(Status::Resolved))),
            (odd, ("A", "", None)),
            (firing, ("", "f", Some(Status::Firing))),
            ("[1]", ("", "", None)),
            (&long, ("", "", None)),
        ] {
            let body = format!("{{\"version\":\"4\",\"alerts\":[{alert}]}}");
            let notification = Notification::decode(body.as_bytes()).unwrap();
            let malformed = notification.alerts().next().unwrap().unwrap_err();
            let (name, fingerprint) = (&*malformed.alertname, &*malformed.fingerprint);
            let found = (name, fingerprint, malformed.status);
            assert_eq!(found, expected, "{alert:.60}");
        }
    }

    #[test]
    fn what_is_not_escaped_is_not_copied() {
        let body = r#"{"version":"4","receiver":"plain","groupKey":"\u0041","alerts":[{"status":"firing","labels":{"a":"b","c":"\n"}}]}"#;
        let notification = Notification::decode(body.as_bytes()).unwrap();
        assert!(matches!(notification.receiver, Cow::Borrowed("plain")));
        assert!(matches!(&notification.group_key, Cow::Owned(key) if key == "A"));
        let alert = notification.alerts().next().unwrap().unwrap();
        let within = |text: &str| body.as_bytes().as_ptr_range().contains(&text.as_ptr());
        assert!(within(alert.labels.get("a").unwrap()));
        assert!(!within(alert.labels.get("c").unwrap()));
    }

    #[test]
    fn each_wrong_body_says_what_is_wrong() {
        let deep = format!(r#"{{"version":"4","alerts":[],"x":{}"#, "[".repeat(100_000));
        let labels: Vec<String> = (0..4097)
            .map(|number| format!("\"{number}\":\"\""))
            .collect();
        let labels = labels.join(",");
        let labels = format!(r#"{{"version":"4","alerts":[],"commonLabels":{{{labels}}}}}"#);
        for (body, reason) in rows(
            r#"
            {"version":"3","alerts":[]}
                version "3"; supported: "4" (Alertmanager) and "1" (Grafana Alerting)
            {"alerts":[]}
                missing field `version`
            {"version":"4"}
                missing field `alerts`
            {"version":"4","alerts":null}
                alerts: expected a list
            {"version":4,"alerts":[]}
                expected a string
            {"version":"4","alerts":[]} x
                trailing characters
            {"version":"4","alerts":[{]}
                key must be a string
            "#,
        )
        .into_iter()
        .chain([
            ("", "EOF while parsing"),
            (&deep, "EOF while parsing"),
            ("  [ {\"labels\":{}} ]", "as a Prometheus server sends it"),
            (&labels, "more than 4096 labels"),
        ]) {
            let error = Notification::decode(body.as_bytes())
                .unwrap_err()
                .to_string();
            assert!(error.contains(reason), "{body:.60}: {error}");
        }
        let error = Notification::decode(b"{\"version\":\"4\xff\"}").unwrap_err();
        let expected = "the body is not an Alertmanager notification: invalid utf-8 sequence of 1 bytes from index 13";
        assert_eq!(error.to_string(), expected);
    }
}
