//! What Alertmanager sends: the webhook's JSON, version "4", decoded and checked.
//!
//! The format is Alertmanager's (`notify/webhook` and `template.Data` in its sources). Keys that newer versions add are
//! kept for templates and are never an error; keys that older versions lack have a default.

use std::borrow::Cow;
use std::str::Utf8Error;

use serde::Deserialize;
use serde_json::value::RawValue;
use thiserror::Error;

mod decode;
mod labels;

pub use labels::Labels;

/// Whatever newer versions of Alertmanager add, as it came.
pub type Extra<'b> = Vec<(Cow<'b, str>, &'b RawValue)>;

/// One notification: a group of alerts that Alertmanager sends to one receiver. It borrows from the body: only what JSON has
/// escaped is a text of its own.
#[derive(Debug)]
pub struct Notification<'b> {
    version: Cow<'b, str>,
    /// The group's status: firing as soon as one of its alerts fires. An event follows its own alert's.
    pub status: Cow<'b, str>,
    /// Names the group; opaque.
    pub group_key: Cow<'b, str>,
    /// The receiver's name, escaped for regular expressions (`a.b` arrives as `a\.b`).
    pub receiver: Cow<'b, str>,
    /// Alertmanager's own address.
    pub external_url: Cow<'b, str>,
    /// How many alerts `max_alerts` cut off; they are sent nowhere.
    pub truncated_alerts: u64,
    /// The labels the group was made by.
    pub group_labels: Labels<'b>,
    /// The labels that all of the alerts share.
    pub common_labels: Labels<'b>,
    /// The annotations that all of the alerts share.
    pub common_annotations: Labels<'b>,
    /// The alerts, in Alertmanager's order.
    pub alerts: Vec<Alert<'b>>,
    /// Whatever newer versions of Alertmanager add.
    pub extra: Extra<'b>,
}

/// One alert of a notification.
#[derive(Debug)]
pub struct Alert<'b> {
    /// Firing or resolved.
    pub status: Status,
    /// The alert's labels.
    pub labels: Labels<'b>,
    /// The alert's annotations.
    pub annotations: Labels<'b>,
    /// RFC 3339.
    pub starts_at: Cow<'b, str>,
    /// RFC 3339; Go's zero time (`0001-01-01T00:00:00Z`) while the alert fires.
    pub ends_at: Cow<'b, str>,
    /// Where the alert comes from; may be empty.
    pub generator_url: Cow<'b, str>,
    /// Identifies the alert: a hash of its labels.
    pub fingerprint: Cow<'b, str>,
    /// Whatever newer versions of Alertmanager add.
    pub extra: Extra<'b>,
}

/// An alert's own status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// The alert is active.
    Firing,
    /// The alert is over.
    Resolved,
}

impl Status {
    /// As Alertmanager spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Firing => "firing",
            Self::Resolved => "resolved",
        }
    }
}

/// Why a body is not a notification. `Display` is what the sender reads.
#[derive(Debug, Error)]
pub enum DecodeError {
    /// Not JSON, or JSON of another shape.
    #[error("the body is not an Alertmanager notification: {0}")]
    Json(#[from] serde_json::Error),
    /// Not even text.
    #[error("the body is not an Alertmanager notification: {0}")]
    Text(#[from] Utf8Error),
    /// A list, which is what a Prometheus server sends to an Alertmanager.
    #[error(
        "the body is a list of alerts, as a Prometheus server sends it: point Prometheus at an Alertmanager, \
         and that Alertmanager's webhook receiver here"
    )]
    FromPrometheus,
    /// A notification of a version that is not known here.
    #[error("the notification has version {0:?}, and only \"4\" is known")]
    Version(String),
}

impl<'b> Notification<'b> {
    /// Decodes and checks a body.
    pub fn decode(body: &'b [u8]) -> Result<Self, DecodeError> {
        if body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[') {
            return Err(DecodeError::FromPrometheus);
        }
        let notification = decode::notification(std::str::from_utf8(body)?)?;
        if notification.version != "4" {
            return Err(DecodeError::Version(
                notification.version.chars().take(32).collect(),
            ));
        }
        Ok(notification)
    }

    /// The version the notification declares: "4".
    pub fn version(&self) -> &str {
        &self.version
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_and_missing_keys_are_no_error() {
        let body =
            br#"{"version":"4","status":"firing","routeLabels":{"a":"b"},"commonLabels":null,
            "alerts":[{"status":"resolved","labels":{"x":"y"},"annotations":null,"novel":1}]}"#;
        let notification = Notification::decode(body).unwrap();
        assert_eq!(notification.alerts[0].status, Status::Resolved);
        let told = |extra: &Extra<'_>| {
            extra
                .iter()
                .map(|(key, raw)| format!("{key}: {}", raw.get()))
                .collect::<Vec<_>>()
        };
        assert_eq!(told(&notification.alerts[0].extra), ["novel: 1"]);
        assert_eq!(told(&notification.extra), ["routeLabels: {\"a\":\"b\"}"]);
        assert!(
            notification.common_labels.is_empty() && notification.alerts[0].annotations.is_empty()
        );
    }

    #[test]
    fn each_wrong_body_says_what_is_wrong() {
        let deep = format!(r#"{{"version":"4","alerts":[],"x":{}"#, "[".repeat(100_000));
        let many = format!(
            r#"{{"version":"4","alerts":[{}{{"status":"firing"}}]}}"#,
            r#"{"status":"firing"},"#.repeat(50_000)
        );
        let labels: Vec<String> = (0..500_001)
            .map(|number| format!("\"{number}\":\"\""))
            .collect();
        let labels = format!(
            r#"{{"version":"4","alerts":[],"commonLabels":{{{}}}}}"#,
            labels.join(",")
        );
        for (body, reason) in [
            ("", "EOF while parsing"),
            ("  [ {\"labels\":{}} ]", "as a Prometheus server sends it"),
            ("{\"version\":\"3\",\"alerts\":[]}", "version \"3\""),
            ("{\"alerts\":[]}", "missing field `version`"),
            ("{\"version\":\"4\"}", "missing field `alerts`"),
            ("{\"version\":4,\"alerts\":[]}", "expected a string"),
            (
                "{\"version\":\"4\",\"alerts\":[{\"status\":\"odd\"}]}",
                "unknown variant `odd`",
            ),
            (
                "{\"version\":\"4\",\"alerts\":[{\"status\":\"firing\",\"labels\":{\"a\":1}}]}",
                "expected a string",
            ),
            ("{\"version\":\"4\",\"alerts\":[]} x", "trailing characters"),
            (deep.as_str(), "EOF while parsing"),
            (many.as_str(), "more than 50000 alerts"),
            (labels.as_str(), "more than 500000 labels"),
            (
                "{\"version\":\"4\",\"alerts\":[{\"labels\":{}}]}",
                "missing field `status`",
            ),
        ] {
            let error = Notification::decode(body.as_bytes())
                .unwrap_err()
                .to_string();
            assert!(error.contains(reason), "{body:.60}: {error}");
        }
        let error = Notification::decode(b"{\"version\":\"4\xff\"}")
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("is not an Alertmanager notification: invalid utf-8 sequence"),
            "{error}"
        );
    }
}
