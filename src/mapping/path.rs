//! PATH: the part of an alert or its notification that a rule reads.

use std::fmt;

use super::Context;
use super::keys::{ALERT, Field, NOTIFICATION};
use crate::event::FieldValue;

/// Every root.
pub fn roots() -> impl Iterator<Item = &'static str> {
    fields().map(|(root, _)| root)
}

/// The roots: the keys of an alert, and with other names those of its notification.
fn fields() -> impl Iterator<Item = (&'static str, Field)> {
    let of_notification = NOTIFICATION.into_iter().map(|(key, field)| match key {
        "status" => ("groupStatus", field),
        key => (key, field),
    });
    let of_notification = of_notification.filter(|(root, _)| *root != "version");
    let received_at = ("receivedAt", Field::ReceivedAt);
    ALERT
        .into_iter()
        .chain(of_notification)
        .chain([received_at])
}

/// A checked path.
#[derive(Debug, Clone)]
pub struct Path {
    source: String,
    root: Field,
    /// Everything after the first dot is the name of an entry: label names may contain dots.
    entry: Option<String>,
    /// The alert itself lacks it: so may a list of alerts, or of groups.
    may_be_unlisted: bool,
}

/// Why there is no value at a path: the map has no such entry.
const ABSENT: &str = "is absent";
/// The string or map is empty.
const EMPTY: &str = "is empty";
/// Only notifications have it, and this alert is from a list, a notification without a `groupKey`.
const NOT_LISTED: &str = "is not in a list of alerts";

/// Why a string is not a path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// The part before the first dot is none of [`roots`].
    #[error("unknown path root {0:?}")]
    UnknownRoot(String),
    /// A name below a string.
    #[error("{0} is a string and has nothing below it")]
    NotAMap(String),
    /// `labels.`
    #[error("a name is missing after the dot")]
    NameMissing,
}

impl Path {
    /// Checks a path.
    pub fn parse(source: &str) -> Result<Self, PathError> {
        let (root, entry) = match source.split_once('.') {
            Some((root, entry)) => (root, Some(entry)),
            None => (source, None),
        };
        let Some((_, field)) = fields().find(|(known, _)| *known == root) else {
            return Err(PathError::UnknownRoot(root.to_owned()));
        };
        match (field, entry) {
            (Field::Texts(_), Some("")) => return Err(PathError::NameMissing),
            (Field::Texts(_), _) | (_, None) => {}
            (_, Some(_)) => return Err(PathError::NotAMap(root.to_owned())),
        }
        Ok(Self {
            source: source.to_owned(),
            root: field,
            entry: entry.map(str::to_owned),
            may_be_unlisted: ALERT.iter().all(|(known, _)| *known != root),
        })
    }

    /// The path as it is written.
    pub fn as_str(&self) -> &str {
        &self.source
    }

    /// The path itself, unless every alert has a value there, or nearly every one.
    pub fn if_optional(&self) -> Option<String> {
        let is_always_there = match self.root {
            Field::Texts(_) => ["labels", "labels.alertname"].contains(&self.as_str()),
            _ => self.source != "generatorURL",
        };
        (!is_always_there).then(|| self.source.clone())
    }

    /// Whether the value is a whole map, rather than a string.
    pub fn is_map(&self) -> bool {
        matches!(self.root, Field::Texts(_)) && self.entry.is_none()
    }

    /// The value for an alert, never an empty string or map; or what is said of the path in its place.
    pub fn find<'a>(&self, context: &Context<'a>) -> Result<FieldValue<'a>, &'static str> {
        let missing = match (self.root, &self.entry) {
            (Field::Texts(texts), Some(name)) => match texts(context).get(name) {
                Some("") => EMPTY,
                Some(text) => return Ok(FieldValue::String(text.into())),
                None => ABSENT,
            },
            (root, _) => match root.value(context) {
                FieldValue::String(text) if text.is_empty() => EMPTY,
                FieldValue::Labels(labels) if labels.is_empty() => EMPTY,
                value => return Ok(value),
            },
        };
        // Of a group, the API lists some of the strings and maps.
        let is_unlisted = || context.shared.notification.group_key.is_empty();
        if self.may_be_unlisted && self.root.value(context).text_len() == 0 && is_unlisted() {
            return Err(NOT_LISTED);
        }
        Err(missing)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;
    use crate::input::Input;
    use crate::mapping::NotificationContext;
    use crate::mapping::tests::{NOW, sample};

    #[test]
    fn paths_find_their_values() {
        let context = sample().context();
        for (path, string) in [
            ("status", Ok("firing")),
            ("labels.alertname", Ok("InstanceDown")),
            ("labels.a.dotted.name", Ok("dotted")),
            ("labels.empty", Err(EMPTY)),
            ("labels.nosuch", Err(ABSENT)),
            ("annotations.title", Ok("Instance node_exporter:9100 down")),
            ("startsAt", Ok("2026-11-22T14:10:49Z")),
            ("endsAt", Ok("0001-01-01T00:00:00Z")),
            ("generatorURL", Err(EMPTY)),
            ("fingerprint", Ok("86714e72c9c59990")),
            ("groupStatus", Ok("firing")),
            ("groupKey", Ok("{}:{}")),
            ("receiver", Ok("canopsis")),
            ("externalURL", Ok("http://am:9093")),
            ("truncatedAlerts", Ok("3")),
            ("groupLabels.alertname", Ok("InstanceDown")),
            ("commonLabels.job", Ok("node1")),
            ("commonAnnotations.title", Err(ABSENT)),
            ("receivedAt", Ok("2026-11-22T15:10:49Z")),
        ] {
            let found = Path::parse(path).unwrap();
            let found = found.find(&context);
            assert_eq!(
                found,
                string.map(|string| FieldValue::String(Cow::Borrowed(string))),
                "{path}"
            );
        }
        assert_eq!(
            Path::parse("labels").unwrap().find(&context),
            Ok(FieldValue::Labels(&context.alert.labels))
        );
        assert_eq!(
            Path::parse("commonAnnotations").unwrap().find(&context),
            Err(EMPTY)
        );
    }

    #[test]
    fn what_a_list_of_alerts_lacks_is_not_called_absent() {
        const GROUP: &str = r#"[{"labels":{"alertname":"A"},"receiver":{"name":"r"},"alerts":[{"labels":{"alertname":"A"}}]}]"#;
        const ALERT: &str = r#"{"labels":{"alertname":"A"}}"#;
        for (json, path, missing) in [
            (GROUP, "groupStatus", None),
            (GROUP, "receiver", None),
            (GROUP, "groupLabels.alertname", None),
            (GROUP, "groupLabels.job", Some(ABSENT)),
            (GROUP, "labels.job", Some(ABSENT)),
            (GROUP, "generatorURL", Some(EMPTY)),
            (GROUP, "commonLabels.alertname", Some(NOT_LISTED)),
            (GROUP, "commonAnnotations", Some(NOT_LISTED)),
            (GROUP, "externalURL", Some(NOT_LISTED)),
            (GROUP, "groupKey", Some(NOT_LISTED)),
            (ALERT, "labels.job", Some(ABSENT)),
            (ALERT, "annotations", Some(EMPTY)),
            (ALERT, "groupStatus", Some(NOT_LISTED)),
            (ALERT, "receiver", Some(NOT_LISTED)),
            (ALERT, "groupLabels.alertname", Some(NOT_LISTED)),
        ] {
            let input = Input::read(json.into()).unwrap();
            let groups = input.groups().unwrap();
            let notification = &groups[0].notification;
            let alert = notification.alerts().next().unwrap().unwrap();
            let shared = NotificationContext::new(notification, NOW, &|| false);
            let found = Path::parse(path).unwrap();
            let found = found.find(&shared.with_alert(&alert)).err();
            assert_eq!(found, missing, "{path} of {json}");
        }
    }

    #[test]
    fn wrong_paths_say_why() {
        for (path, error) in [
            ("label.x", PathError::UnknownRoot("label".to_owned())),
            ("", PathError::UnknownRoot(String::new())),
            ("status.x", PathError::NotAMap("status".to_owned())),
            ("labels.", PathError::NameMissing),
        ] {
            assert_eq!(Path::parse(path).unwrap_err(), error, "{path}");
        }
        for root in roots() {
            assert!(Path::parse(root).is_ok(), "{root}");
        }
    }
}
