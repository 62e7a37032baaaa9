//! PATH: the part of an alert or its notification that a rule reads.

use std::borrow::Cow;
use std::fmt;

use super::Context;
use crate::alertmanager::Labels;

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

/// A string of the alert or its notification, or the time at which that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StringField {
    Status,
    StartsAt,
    EndsAt,
    GeneratorUrl,
    Fingerprint,
    GroupStatus,
    GroupKey,
    Receiver,
    ExternalUrl,
    TruncatedAlerts,
    ReceivedAt,
}

/// A map of strings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MapField {
    Labels,
    Annotations,
    GroupLabels,
    CommonLabels,
    CommonAnnotations,
}

/// A checked path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    source: String,
    target: Target,
}

#[derive(Debug, Clone, PartialEq, Eq)]
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

/// Why there is no value at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// The map has no such entry.
    Absent,
    /// The string or map is empty.
    Empty,
}

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
        let field = match root {
            "labels" => Err(MapField::Labels),
            "annotations" => Err(MapField::Annotations),
            "groupLabels" => Err(MapField::GroupLabels),
            "commonLabels" => Err(MapField::CommonLabels),
            "commonAnnotations" => Err(MapField::CommonAnnotations),
            "status" => Ok(StringField::Status),
            "startsAt" => Ok(StringField::StartsAt),
            "endsAt" => Ok(StringField::EndsAt),
            "generatorURL" => Ok(StringField::GeneratorUrl),
            "fingerprint" => Ok(StringField::Fingerprint),
            "groupStatus" => Ok(StringField::GroupStatus),
            "groupKey" => Ok(StringField::GroupKey),
            "receiver" => Ok(StringField::Receiver),
            "externalURL" => Ok(StringField::ExternalUrl),
            "truncatedAlerts" => Ok(StringField::TruncatedAlerts),
            "receivedAt" => Ok(StringField::ReceivedAt),
            _ => return Err(PathError::UnknownRoot(root.to_owned())),
        };
        let target = match (field, name) {
            (Ok(string), None) => Target::String(string),
            (Ok(_), Some(_)) => return Err(PathError::NotAMap(root.to_owned())),
            (Err(map), None) => Target::Map(map),
            (Err(_), Some("")) => return Err(PathError::NameMissing),
            (Err(map), Some(name)) => Target::Entry(map, name.to_owned()),
        };
        Ok(Self {
            source: source.to_owned(),
            target,
        })
    }

    /// Whether the value is a whole map, rather than a string.
    pub fn is_map(&self) -> bool {
        matches!(self.target, Target::Map(_))
    }

    /// The value for an alert.
    pub fn find<'a>(&self, context: &Context<'a>) -> Result<PathValue<'a>, Missing> {
        let string = match &self.target {
            Target::Map(map) => {
                let map = labels(*map, context);
                return if map.is_empty() {
                    Err(Missing::Empty)
                } else {
                    Ok(PathValue::Map(map))
                };
            }
            Target::Entry(map, name) => {
                Cow::Borrowed(labels(*map, context).get(name).ok_or(Missing::Absent)?)
            }
            Target::String(field) => string(*field, context),
        };
        if string.is_empty() {
            Err(Missing::Empty)
        } else {
            Ok(PathValue::String(string))
        }
    }
}

fn labels<'a>(map: MapField, context: &Context<'a>) -> &'a Labels<'a> {
    match map {
        MapField::Labels => &context.alert.labels,
        MapField::Annotations => &context.alert.annotations,
        MapField::GroupLabels => &context.shared.notification.group_labels,
        MapField::CommonLabels => &context.shared.notification.common_labels,
        MapField::CommonAnnotations => &context.shared.notification.common_annotations,
    }
}

fn string<'a>(field: StringField, context: &Context<'a>) -> Cow<'a, str> {
    Cow::Borrowed(match field {
        StringField::Status => context.alert.status.as_str(),
        StringField::StartsAt => &context.alert.starts_at,
        StringField::EndsAt => &context.alert.ends_at,
        StringField::GeneratorUrl => &context.alert.generator_url,
        StringField::Fingerprint => &context.alert.fingerprint,
        StringField::GroupStatus => &context.shared.notification.status,
        StringField::GroupKey => &context.shared.notification.group_key,
        StringField::Receiver => &context.shared.notification.receiver,
        StringField::ExternalUrl => &context.shared.notification.external_url,
        StringField::ReceivedAt => return Cow::Owned(context.shared.received_at.to_string()),
        StringField::TruncatedAlerts => {
            return Cow::Owned(context.shared.notification.truncated_alerts.to_string());
        }
    })
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mapping::tests::sample;

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
            ("receivedAt", Ok("2026-01-01T00:00:00Z")),
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
    fn wrong_paths_say_why() {
        for (path, error) in [
            ("label.x", PathError::UnknownRoot("label".to_owned())),
            ("", PathError::UnknownRoot(String::new())),
            ("status.x", PathError::NotAMap("status".to_owned())),
            ("labels.", PathError::NameMissing),
        ] {
            assert_eq!(Path::parse(path), Err(error), "{path}");
        }
        for root in ROOTS {
            assert!(Path::parse(root).is_ok(), "{root}");
        }
    }
}
