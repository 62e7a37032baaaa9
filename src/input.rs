//! What `--explain` and `--dry-run` map: a notification, or what Alertmanager's API prints of the alerts that fire, rewritten as the
//! notifications that it would send.
//!
//! `GET /api/v2/alerts/groups` prints the alerts in their groups, in the order of notifications. `GET /api/v2/alerts` and
//! `amtool alert query` print them without groups. Neither prints an alert that has ended, so every listed alert fires. No
//! sender gets here: `POST /webhook` takes notifications only.

use serde_json::Value;
use serde_json::value::RawValue;
use thiserror::Error;

use crate::alertmanager::{DecodeError, Entries, Notification, replace_lone_surrogates};
use crate::text::shorten;

/// The keys of an alert that the API and a notification share. A rule must not find others: a notification lacks them.
const SHARED_KEYS: [&str; 5] = [
    "labels",
    "annotations",
    "startsAt",
    "generatorURL",
    "fingerprint",
];

/// What is mapped.
#[derive(Debug)]
pub struct Input {
    /// Its form.
    pub kind: InputKind,
    /// Its notifications.
    pub bodies: Vec<Body>,
}

/// The form of an input.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum InputKind {
    /// A notification, or a single alert.
    #[default]
    Notification,
    /// The groups of `GET /api/v2/alerts/groups`.
    Groups,
    /// Alerts without groups.
    Alerts,
}

/// The body of a notification.
#[derive(Debug)]
pub struct Body {
    /// The JSON.
    pub json: Vec<u8>,
    /// Counts from 1. A group whose alerts are suppressed in part has two bodies.
    pub group: usize,
    /// Its alerts are silenced, inhibited or muted: Alertmanager does not send them.
    pub is_suppressed: bool,
}

/// A decoded [`Body`].
#[derive(Debug)]
pub struct Group<'b> {
    /// What was decoded.
    pub body: &'b Body,
    /// Its notification.
    pub notification: Notification<'b>,
}

/// Why an input cannot be mapped.
#[derive(Debug, Error)]
pub enum InputError {
    /// Nothing but white space.
    #[error("the input is empty: has the command that prints it failed?")]
    Empty,
    /// The response of Prometheus's API, or of the first version of Alertmanager's.
    #[error(
        "the input is the response of Prometheus's API: its alerts lack the external labels and the relabelling of alerts; \
         use GET /api/v2/alerts/groups of Alertmanager"
    )]
    FromPrometheus,
    /// A list that is not JSON.
    #[error("the input is not a list of alerts as Alertmanager's API prints it: {0}")]
    List(serde_json::Error),
    /// An item of a list of groups.
    #[error("group {number} of the list is malformed: {}", shorten(&.source.to_string()))]
    Group {
        /// Its position, from 1.
        number: usize,
        /// The cause, which may quote a value.
        source: serde_json::Error,
    },
}

/// A group as the API prints it.
#[derive(serde::Deserialize)]
struct ListedGroup<'b> {
    #[serde(borrow)]
    labels: &'b RawValue,
    receiver: Receiver,
    #[serde(borrow)]
    alerts: Vec<&'b RawValue>,
}

#[derive(serde::Deserialize)]
struct Receiver {
    name: String,
}

/// An object that has no list `alerts`. At one, the parser stops: a notification is read when it is decoded.
#[derive(serde::Deserialize)]
struct WithoutAlerts {
    #[serde(default, rename = "alerts")]
    _alerts: (),
}

impl Input {
    /// Recognises the form of an input. A notification is not decoded yet.
    pub fn read(mut json: Vec<u8>) -> Result<Self, InputError> {
        replace_lone_surrogates(&mut json);
        let (kind, bodies) = match json.trim_ascii_start().first() {
            None => return Err(InputError::Empty),
            Some(b'[') => list(&json)?,
            Some(_) => (InputKind::Notification, object(json)?),
        };
        Ok(Self { kind, bodies })
    }

    /// Decodes the notifications.
    pub fn groups(&self) -> Result<Vec<Group<'_>>, DecodeError> {
        let mut groups = Vec::with_capacity(self.bodies.len());
        for body in &self.bodies {
            let notification = Notification::decode(&body.json)?;
            groups.push(Group { body, notification });
        }
        Ok(groups)
    }
}

fn object(json: Vec<u8>) -> Result<Vec<Body>, InputError> {
    // What is wrong with other JSON, decoding says.
    if serde_json::from_slice::<WithoutAlerts>(&json).is_ok()
        && let Ok(alert) = serde_json::from_slice::<&RawValue>(&json)
    {
        let keys = keys(alert.get())?;
        if keys.contains_key("labels") && !keys.contains_key("alerts") {
            return Ok(bodies(1, "", &[alert]));
        }
    }
    Ok(vec![Body {
        json,
        group: 1,
        is_suppressed: false,
    }])
}

fn list(json: &[u8]) -> Result<(InputKind, Vec<Body>), InputError> {
    let items: Vec<&RawValue> = serde_json::from_slice(json).map_err(InputError::List)?;
    let first = keys(items.first().map_or("", |item| item.get()))?;
    if !first.contains_key("alerts") {
        return Ok((InputKind::Alerts, bodies(1, "", &items)));
    }
    let mut all = Vec::with_capacity(items.len());
    for (number, item) in (1..).zip(items) {
        let group: ListedGroup<'_> = serde_json::from_str(item.get())
            .map_err(|source| InputError::Group { number, source })?;
        let head = format!(
            r#""status":"firing","receiver":{},"groupLabels":{},"#,
            Value::from(escape(&group.receiver.name)),
            group.labels
        );
        all.extend(bodies(number, &head, &group.alerts));
    }
    Ok((InputKind::Groups, all))
}

/// The keys of an object, none of anything else. Only Prometheus's alerts have the time since which their expression is true, and no
/// alert has its labels below `data`.
fn keys(json: &str) -> Result<Entries<'_>, InputError> {
    let keys: Entries<'_> = serde_json::from_str(json).unwrap_or_default();
    let has = |key| keys.contains_key(key);
    if has("activeAt") || has("status") && has("data") && !has("labels") {
        return Err(InputError::FromPrometheus);
    }
    Ok(keys)
}

/// The name as notifications have it: Alertmanager escapes it for regular expressions.
fn escape(receiver: &str) -> String {
    let mut escaped = String::with_capacity(receiver.len());
    for c in receiver.chars() {
        if r"\.+*?()|[]{}^$".contains(c) {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

/// An alert in the form of a notification's, and whether it is suppressed. `None` for one of another form.
fn rewrite(alert: &str) -> Option<(String, bool)> {
    let keys: Entries<'_> = serde_json::from_str(alert).ok()?;
    let status = keys.get("status").map_or("{}", |status| status.get());
    let status: Entries<'_> = serde_json::from_str(status).ok()?;
    let state = status.get("state").map_or("\"\"", |state| state.get());
    let state: String = serde_json::from_str(state).ok()?;
    // The API prints the time at which the alert would end by itself; a notification has Go's zero time until it ends.
    let mut alert = r#"{"status":"firing","endsAt":"0001-01-01T00:00:00Z""#.to_owned();
    for key in SHARED_KEYS {
        if let Some(value) = keys.get(key) {
            alert.push_str(&format!(r#","{key}":{value}"#));
        }
    }
    alert.push('}');
    Some((alert, state == "suppressed"))
}

/// The bodies of a group: one of the alerts that are sent, and one of those that are not. The head is what the notification has
/// besides its alerts. An alert of another form stays as it is: decoding rejects it if it is malformed.
fn bodies(group: usize, head: &str, alerts: &[&RawValue]) -> Vec<Body> {
    let (mut sent, mut suppressed) = (Vec::new(), Vec::new());
    for alert in alerts {
        match rewrite(alert.get()) {
            Some((alert, false)) => sent.push(alert),
            Some((alert, true)) => suppressed.push(alert),
            None => sent.push(alert.get().to_owned()),
        }
    }
    let bodies = [(sent, false), (suppressed, true)].into_iter();
    bodies
        .filter(|(alerts, _)| !alerts.is_empty())
        .map(|(alerts, is_suppressed)| Body {
            json: format!(r#"{{"version":"4",{head}"alerts":[{}]}}"#, alerts.join(",")).into(),
            group,
            is_suppressed,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::text::tests::rows;

    /// The bodies of an input, with their groups and whether they are suppressed.
    fn bodies_of(input: &str) -> (InputKind, Vec<(usize, bool, Value)>) {
        let input = Input::read(input.into()).unwrap();
        input.groups().unwrap();
        let bodies = input.bodies.iter().map(|body| {
            let json = serde_json::from_slice(&body.json).unwrap();
            (body.group, body.is_suppressed, json)
        });
        (input.kind, bodies.collect())
    }

    /// An alert as Alertmanager 0.25 prints it.
    fn listed(name: &str, state: &str) -> Value {
        json!({
            "annotations": {"summary": "é"}, "endsAt": "2026-11-30T07:35:39.915Z", "fingerprint": "231a5c102f1ffdb0",
            "receivers": [{"name": "a.b"}, {"name": "mail"}], "startsAt": "2026-11-30T07:30:39.915Z",
            "status": {"inhibitedBy": [], "silencedBy": [], "state": state}, "updatedAt": "2026-11-30T07:30:39.915Z",
            "labels": {"alertname": name},
        })
    }

    /// The same alert in a notification.
    fn sent(name: &str) -> Value {
        json!({
            "status": "firing", "labels": {"alertname": name}, "annotations": {"summary": "é"},
            "startsAt": "2026-11-30T07:30:39.915Z", "endsAt": "0001-01-01T00:00:00Z", "fingerprint": "231a5c102f1ffdb0",
        })
    }

    #[test]
    fn a_group_becomes_the_notification_that_alertmanager_would_send() {
        let group = |alerts: &[Value]| json!({"labels": {"job": "j"}, "receiver": {"name": "a.b"}, "alerts": alerts});
        let first = [("A", "active"), ("S", "suppressed"), ("B", "unprocessed")];
        let first = first.map(|(name, state)| listed(name, state));
        let groups = json!([
            group(&first),
            group(&[listed("T", "suppressed")]),
            group(&[])
        ]);
        let body = |alerts: &[Value]| json!({"version": "4", "status": "firing", "receiver": "a\\.b", "groupLabels": {"job": "j"}, "alerts": alerts});
        let expected = vec![
            (1, false, body(&[sent("A"), sent("B")])),
            (1, true, body(&[sent("S")])),
            (2, true, body(&[sent("T")])),
        ];
        let found = bodies_of(&groups.to_string());
        assert_eq!(found, (InputKind::Groups, expected));
    }

    #[test]
    fn alerts_without_groups_become_one_notification() {
        let body = |alerts: &[Value]| json!({"version": "4", "alerts": alerts});
        let list = json!([listed("A", "active"), listed("S", "suppressed")]).to_string();
        let expected = vec![
            (1, false, body(&[sent("A")])),
            (1, true, body(&[sent("S")])),
        ];
        assert_eq!(bodies_of(&list), (InputKind::Alerts, expected));
        assert_eq!(bodies_of(" [] "), (InputKind::Alerts, vec![]));
        // A key that Alertmanager does not have.
        let alert = r#"{"labels":{},"status":{"state":"active"},"data":1}"#;
        for input in [alert.to_owned(), format!("[{alert}]")] {
            assert_eq!(bodies_of(&input).1.len(), 1, "{input}");
        }

        let mut with_url = (listed("A", "active"), sent("A"));
        with_url.0["generatorURL"] = json!("http://p/");
        with_url.1["generatorURL"] = json!("http://p/");
        let resolved =
            json!({"status": "resolved", "endsAt": "2026-11-30T07:35:39.915Z", "values": {"A": 1}});
        let labels = json!({"labels": {"a": "b"}});
        let mut firing = labels.clone();
        firing["status"] = json!("firing");
        firing["endsAt"] = json!("0001-01-01T00:00:00Z");
        let mut resolved_with_labels = resolved.clone();
        resolved_with_labels["labels"] = json!({"a": "b"});
        for (alert, expected) in [
            with_url,
            (labels, firing),
            // An alert of a notification keeps all that it has.
            (resolved_with_labels.clone(), resolved_with_labels),
        ] {
            let expected = vec![(1, false, body(&[expected]))];
            assert_eq!(
                bodies_of(&alert.to_string()),
                (InputKind::Notification, expected.clone())
            );
            let list = json!([alert]).to_string();
            assert_eq!(bodies_of(&list), (InputKind::Alerts, expected));
        }
    }

    #[test]
    fn a_notification_stays_as_it_is() {
        let json = r#" {"version":"4","labels":{"a":"b"},"alerts":[{"status":"firing"}]}"#;
        let input = Input::read(json.into()).unwrap();
        assert_eq!(input.kind, InputKind::Notification);
        assert_eq!(input.bodies[0].json, json.as_bytes());
        assert_eq!(input.bodies.len(), 1);
    }

    #[test]
    fn no_sender_may_send_what_the_command_line_takes() {
        let group =
            json!({"labels": {}, "receiver": {"name": "r"}, "alerts": [listed("A", "active")]});
        for input in [
            json!([group]),
            group,
            json!([listed("A", "active")]),
            listed("A", "active"),
            sent("A"),
        ] {
            assert!(
                Notification::decode(input.to_string().as_bytes()).is_err(),
                "{input}"
            );
        }
    }

    #[test]
    fn a_malformed_alert_of_a_list_is_rejected_alone() {
        let list = r#"[{"status":{"state":"active"},"labels":{"a":1}},1,{"status":1},{"labels":{"x":"\ud83d"}}]"#;
        let input = Input::read(list.into()).unwrap();
        let groups = input.groups().unwrap();
        let alerts = groups[0].notification.alerts();
        let are_ok: Vec<bool> = alerts.map(|alert| alert.is_ok()).collect();
        assert_eq!(are_ok, [false, false, false, true]);
    }

    #[test]
    fn what_is_no_list_says_why() {
        let deep = "[".repeat(100_000);
        let table = rows(
            r#"
            404 page not found
                not an Alertmanager notification: expected an object
            <html>
                not an Alertmanager notification: expected an object
            [{"labels":{}}
                not a list of alerts as Alertmanager's API prints it: EOF while parsing
            {"status":"success","data":{"alerts":[]}}
                its alerts lack the external labels and the relabelling of alerts; use GET /api/v2/alerts/groups of Alertmanager
            [{"labels":{},"activeAt":"x","state":"firing"}]
                the response of Prometheus's API
            {"labels":{},"activeAt":"x"}
                the response of Prometheus's API
            [{"labels":{},"receiver":{"name":"r"},"alerts":[]},{"labels":{}}]
                group 2 of the list is malformed: missing field `receiver`
            [{"labels":{},"receiver":{"name":"r"},"alerts":"x"}]
                group 1 of the list is malformed: invalid type: string "x"
            [{"labels":1,"receiver":{"name":"r"},"alerts":[{}]}]
                not an Alertmanager notification: invalid type
            {"alerts":[]}
                missing field `version`
            "#,
        );
        let others = [
            (
                "",
                "the input is empty: has the command that prints it failed?",
            ),
            (" \n", "the input is empty"),
            (&deep, "not a list of alerts"),
            ("\u{feff}[]", "byte order mark"),
        ];
        for (input, reason) in table.into_iter().chain(others) {
            let read = Input::read(input.into());
            let error = match &read {
                Ok(input) => input.groups().unwrap_err().to_string(),
                Err(error) => error.to_string(),
            };
            assert!(error.contains(reason), "{input:.60}: {error}");
        }
        let error = Input::read(b"[\"\xff\"]".to_vec()).unwrap_err();
        let expected = "invalid unicode code point";
        assert!(error.to_string().contains(expected), "{error}");
    }
}
