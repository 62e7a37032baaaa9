//! PATH: the part of an alert or its notification that a rule reads.

use std::borrow::Cow;
use std::fmt;

use super::Context;
use crate::alertmanager::{Labels, Notification};

/// Every root, for messages.
pub const ROOTS: &[&str] = &[
    "status",
    "labels",
    "annotations",
    "startsAt",
    "endsAt",
    "generatorURL",
    "fingerprint",
    "groupStatus",
    "groupKey",
    "receiver",
    "externalURL",
    "truncatedAlerts",
    "groupLabels",
    "commonLabels",
    "commonAnnotations",
    "receivedAt",
];

type StringField = for<'a> fn(&Context<'a>) -> Cow<'a, str>;

/// The roots that are strings.
const STRINGS: [(&str, StringField); 11] = [
    ("status", |context| context.alert.status.as_str().into()),
    ("startsAt", |context| (&*context.alert.starts_at).into()),
    ("endsAt", |context| (&*context.alert.ends_at).into()),
    ("generatorURL", |context| {
        (&*context.alert.generator_url).into()
    }),
    ("fingerprint", |context| {
        (&*context.alert.fingerprint).into()
    }),
    ("groupStatus", |context| {
        (&*notification(context).status).into()
    }),
    ("groupKey", |context| {
        (&*notification(context).group_key).into()
    }),
    ("receiver", |context| {
        (&*notification(context).receiver).into()
    }),
    ("externalURL", |context| {
        (&*notification(context).external_url).into()
    }),
    ("truncatedAlerts", |context| {
        notification(context).truncated_alerts.to_string().into()
    }),
    ("receivedAt", |context| {
        context.shared.received_at.to_string().into()
    }),
];

type MapField = for<'a> fn(&Context<'a>) -> &'a Labels<'a>;

/// The roots that are maps of strings.
const MAPS: [(&str, MapField); 5] = [
    ("labels", |context| &context.alert.labels),
    ("annotations", |context| &context.alert.annotations),
    ("groupLabels", |context| &notification(context).group_labels),
    ("commonLabels", |context| {
        &notification(context).common_labels
    }),
    ("commonAnnotations", |context| {
        &notification(context).common_annotations
    }),
];

fn notification<'a>(context: &Context<'a>) -> &'a Notification<'a> {
    context.shared.notification
}

fn root<F: Copy>(roots: &[(&str, F)], name: &str) -> Option<F> {
    let (_, field) = roots.iter().find(|(known, _)| *known == name)?;
    Some(*field)
}

/// A checked path.
#[derive(Debug, Clone)]
pub struct Path {
    source: String,
    target: Target,
    /// The root is one of [`NOT_LISTED`].
    may_be_unlisted: bool,
}

#[derive(Debug, Clone)]
enum Target {
    String(StringField),
    Map(MapField),
    /// Everything after the first dot is the name: label names may contain dots.
    Entry(MapField, String),
}

/// The value at a path: never an empty string or map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathValue<'a> {
    /// A string.
    String(Cow<'a, str>),
    /// A whole map.
    Map(&'a Labels<'a>),
}

impl PathValue<'_> {
    /// The length of its strings, in bytes.
    pub fn text_len(&self) -> usize {
        match self {
            Self::String(string) => string.len(),
            Self::Map(labels) => labels.text_len(),
        }
    }
}

/// Why there is no value at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// The map has no such entry.
    Absent,
    /// The string or map is empty.
    Empty,
    /// Only notifications have it, and this alert is from a list, a notification without a `groupKey`.
    NotListed,
}

/// What a list of alerts, or of groups, may lack.
const NOT_LISTED: [&str; 7] = [
    "groupStatus",
    "groupKey",
    "receiver",
    "externalURL",
    "groupLabels",
    "commonLabels",
    "commonAnnotations",
];

/// Why a string is not a path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// The part before the first dot is none of [`ROOTS`].
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
        let (root, name) = match source.split_once('.') {
            Some((root, name)) => (root, Some(name)),
            None => (source, None),
        };
        let (string, map) = (self::root(&STRINGS, root), self::root(&MAPS, root));
        let target = match (string, map, name) {
            (Some(field), _, None) => Target::String(field),
            (Some(_), _, Some(_)) => return Err(PathError::NotAMap(root.to_owned())),
            (_, Some(field), None) => Target::Map(field),
            (_, Some(_), Some("")) => return Err(PathError::NameMissing),
            (_, Some(field), Some(name)) => Target::Entry(field, name.to_owned()),
            (None, None, _) => return Err(PathError::UnknownRoot(root.to_owned())),
        };
        Ok(Self {
            source: source.to_owned(),
            target,
            may_be_unlisted: NOT_LISTED.contains(&root),
        })
    }

    /// The path as it is written.
    pub fn as_str(&self) -> &str {
        &self.source
    }

    /// Whether every alert has a value there, or nearly every one.
    pub fn is_always_there(&self) -> bool {
        match &self.target {
            Target::String(_) => self.source != "generatorURL",
            Target::Map(_) => self.source == "labels",
            Target::Entry(..) => self.source == "labels.alertname",
        }
    }

    /// Whether the value is a whole map, rather than a string.
    pub fn is_map(&self) -> bool {
        matches!(self.target, Target::Map(_))
    }

    /// The value for an alert.
    pub fn find<'a>(&self, context: &Context<'a>) -> Result<PathValue<'a>, Missing> {
        let found = self.find_in(context);
        if found.is_err() && self.may_be_unlisted && self.is_unlisted(context) {
            return Err(Missing::NotListed);
        }
        found
    }

    /// Whether the whole of a map, or the string, is empty: of a group, the API lists some of them.
    fn is_unlisted(&self, context: &Context<'_>) -> bool {
        let is_empty = match &self.target {
            Target::Map(field) | Target::Entry(field, _) => field(context).is_empty(),
            Target::String(_) => true,
        };
        is_empty && notification(context).group_key.is_empty()
    }

    fn find_in<'a>(&self, context: &Context<'a>) -> Result<PathValue<'a>, Missing> {
        let value = match &self.target {
            Target::String(field) => PathValue::String(field(context)),
            Target::Map(field) => PathValue::Map(field(context)),
            Target::Entry(field, name) => {
                let value = field(context).get(name).ok_or(Missing::Absent)?;
                PathValue::String(value.into())
            }
        };
        let is_empty = match &value {
            PathValue::String(string) => string.is_empty(),
            PathValue::Map(labels) => labels.is_empty(),
        };
        if is_empty {
            Err(Missing::Empty)
        } else {
            Ok(value)
        }
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

#[cfg(test)]
mod tests {
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
            ("labels.empty", Err(Missing::Empty)),
            ("labels.nosuch", Err(Missing::Absent)),
            ("annotations.title", Ok("Instance node_exporter:9100 down")),
            ("startsAt", Ok("2026-11-22T14:10:49Z")),
            ("endsAt", Ok("0001-01-01T00:00:00Z")),
            ("generatorURL", Err(Missing::Empty)),
            ("fingerprint", Ok("86714e72c9c59990")),
            ("groupStatus", Ok("firing")),
            ("groupKey", Ok("{}:{}")),
            ("receiver", Ok("canopsis")),
            ("externalURL", Ok("http://am:9093")),
            ("truncatedAlerts", Ok("3")),
            ("groupLabels.alertname", Ok("InstanceDown")),
            ("commonLabels.job", Ok("node1")),
            ("commonAnnotations.title", Err(Missing::Absent)),
            ("receivedAt", Ok("2026-11-22T15:10:49Z")),
        ] {
            let found = Path::parse(path).unwrap();
            let found = found.find(&context);
            assert_eq!(
                found,
                string.map(|string| PathValue::String(Cow::Borrowed(string))),
                "{path}"
            );
        }
        assert_eq!(
            Path::parse("labels").unwrap().find(&context),
            Ok(PathValue::Map(&context.alert.labels))
        );
        assert_eq!(
            Path::parse("commonAnnotations").unwrap().find(&context),
            Err(Missing::Empty)
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
            (GROUP, "groupLabels.job", Some(Missing::Absent)),
            (GROUP, "labels.job", Some(Missing::Absent)),
            (GROUP, "generatorURL", Some(Missing::Empty)),
            (GROUP, "commonLabels.alertname", Some(Missing::NotListed)),
            (GROUP, "commonAnnotations", Some(Missing::NotListed)),
            (GROUP, "externalURL", Some(Missing::NotListed)),
            (GROUP, "groupKey", Some(Missing::NotListed)),
            (ALERT, "labels.job", Some(Missing::Absent)),
            (ALERT, "annotations", Some(Missing::Empty)),
            (ALERT, "groupStatus", Some(Missing::NotListed)),
            (ALERT, "receiver", Some(Missing::NotListed)),
            (ALERT, "groupLabels.alertname", Some(Missing::NotListed)),
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
        for root in ROOTS {
            assert!(Path::parse(root).is_ok(), "{root}");
        }
    }
}
