//! What Alertmanager sends: the webhook's JSON, version "4", decoded and checked.
//!
//! The format is Alertmanager's (`notify/webhook` and `template.Data` in its sources). Keys that newer versions add are
//! kept for templates and are never an error; keys that older versions lack have a default.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};
use serde_json::Value;
use thiserror::Error;

/// Label or annotation names to their values, sorted by name as Alertmanager itself writes them.
pub type Labels = BTreeMap<String, String>;

/// One notification: a group of alerts that Alertmanager sends to one receiver.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Notification {
    version: String,
    /// The group's status: firing as soon as one of its alerts fires. An event follows its own alert's.
    #[serde(default)]
    pub status: String,
    /// Names the group; opaque.
    #[serde(default)]
    pub group_key: String,
    /// The receiver's name, escaped for regular expressions (`a.b` arrives as `a\.b`).
    #[serde(default)]
    pub receiver: String,
    /// Alertmanager's own address.
    #[serde(default, rename = "externalURL")]
    pub external_url: String,
    /// How many alerts `max_alerts` cut off; they are sent nowhere.
    #[serde(default)]
    pub truncated_alerts: u64,
    /// The labels the group was made by.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub group_labels: Labels,
    /// The labels that all of the alerts share.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub common_labels: Labels,
    /// The annotations that all of the alerts share.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub common_annotations: Labels,
    /// The alerts, in Alertmanager's order.
    pub alerts: Vec<Alert>,
    /// Whatever newer versions of Alertmanager add.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

/// One alert of a notification.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Alert {
    /// Firing or resolved.
    pub status: Status,
    /// The alert's labels.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub labels: Labels,
    /// The alert's annotations.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub annotations: Labels,
    /// RFC 3339.
    #[serde(default)]
    pub starts_at: String,
    /// RFC 3339; Go's zero time (`0001-01-01T00:00:00Z`) while the alert fires.
    #[serde(default)]
    pub ends_at: String,
    /// Where the alert comes from; may be empty.
    #[serde(default, rename = "generatorURL")]
    pub generator_url: String,
    /// Identifies the alert: a hash of its labels.
    #[serde(default)]
    pub fingerprint: String,
    /// Whatever newer versions of Alertmanager add.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
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

impl Notification {
    /// Decodes and checks a body.
    pub fn decode(body: &[u8]) -> Result<Self, DecodeError> {
        if body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[') {
            return Err(DecodeError::FromPrometheus);
        }
        let notification: Self = serde_json::from_slice(body)?;
        if notification.version != "4" {
            return Err(DecodeError::Version(notification.version.chars().take(32).collect()));
        }
        Ok(notification)
    }

    /// The version the notification declares: "4".
    pub fn version(&self) -> &str {
        &self.version
    }
}

/// A nil map of Go is written as `null`.
fn null_is_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Labels, D::Error> {
    Ok(Option::<Labels>::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_and_missing_keys_are_no_error() {
        let body = br#"{"version":"4","status":"firing","routeLabels":{"a":"b"},"commonLabels":null,
            "alerts":[{"status":"resolved","labels":{"x":"y"},"annotations":null,"novel":1}]}"#;
        let notification = Notification::decode(body).unwrap();
        assert_eq!(notification.alerts[0].status, Status::Resolved);
        assert_eq!(notification.alerts[0].extra["novel"], 1);
        assert_eq!(notification.extra["routeLabels"]["a"], "b");
        assert!(notification.common_labels.is_empty() && notification.alerts[0].annotations.is_empty());
    }

    #[test]
    fn each_wrong_body_says_what_is_wrong() {
        let deep = format!(r#"{{"version":"4","alerts":[],"x":{}"#, "[".repeat(100_000));
        for (body, reason) in [
            ("", "EOF while parsing"),
            ("  [ {\"labels\":{}} ]", "as a Prometheus server sends it"),
            ("{\"version\":\"3\",\"alerts\":[]}", "version \"3\""),
            ("{\"alerts\":[]}", "missing field `version`"),
            ("{\"version\":\"4\"}", "missing field `alerts`"),
            ("{\"version\":4,\"alerts\":[]}", "expected a string"),
            ("{\"version\":\"4\",\"alerts\":[{\"status\":\"odd\"}]}", "unknown variant `odd`"),
            ("{\"version\":\"4\",\"alerts\":[{\"status\":\"firing\",\"labels\":{\"a\":1}}]}", "expected a string"),
            ("{\"version\":\"4\",\"alerts\":[]} x", "trailing characters"),
            (deep.as_str(), "recursion limit"),
        ] {
            let error = Notification::decode(body.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(reason), "{body:.60}: {error}");
        }
    }
}
