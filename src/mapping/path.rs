//! PATH: which part of an alert or its notification a rule looks at.

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

/// A text of the alert, of its notification, or of its arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Text {
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

/// A map from names to texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Map {
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
    Text(Text),
    Map(Map),
    /// Everything after the first dot is the name: label names may hold dots.
    Entry(Map, String),
}

/// What stands at a path: never an empty text or map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathValue<'a> {
    /// a text
    Text(Cow<'a, str>),
    /// a whole map
    Map(&'a Labels<'a>),
}

/// Why nothing stands at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// no such entry
    Absent,
    /// an empty text or map
    Empty,
}

/// Why a text is not a path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// The part before the first dot is none of [`ROOTS`].
    #[error("unknown path root {0:?}")]
    UnknownRoot(String),
    /// A name below something that is a text.
    #[error("{0} is a text and has nothing below it")]
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
        let text = match root {
            "labels" => Err(Map::Labels),
            "annotations" => Err(Map::Annotations),
            "groupLabels" => Err(Map::GroupLabels),
            "commonLabels" => Err(Map::CommonLabels),
            "commonAnnotations" => Err(Map::CommonAnnotations),
            "status" => Ok(Text::Status),
            "startsAt" => Ok(Text::StartsAt),
            "endsAt" => Ok(Text::EndsAt),
            "generatorURL" => Ok(Text::GeneratorUrl),
            "fingerprint" => Ok(Text::Fingerprint),
            "groupStatus" => Ok(Text::GroupStatus),
            "groupKey" => Ok(Text::GroupKey),
            "receiver" => Ok(Text::Receiver),
            "externalURL" => Ok(Text::ExternalUrl),
            "truncatedAlerts" => Ok(Text::TruncatedAlerts),
            "receivedAt" => Ok(Text::ReceivedAt),
            _ => return Err(PathError::UnknownRoot(root.to_owned())),
        };
        let target = match (text, name) {
            (Ok(text), None) => Target::Text(text),
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

    /// Whether a whole map stands there, rather than a text.
    pub fn is_map(&self) -> bool {
        matches!(self.target, Target::Map(_))
    }

    /// What stands there.
    pub fn find<'a>(&self, context: &Context<'a>) -> Result<PathValue<'a>, Missing> {
        let text = match &self.target {
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
            Target::Text(text) => self::text(*text, context),
        };
        if text.is_empty() {
            Err(Missing::Empty)
        } else {
            Ok(PathValue::Text(text))
        }
    }
}

fn labels<'a>(map: Map, context: &Context<'a>) -> &'a Labels<'a> {
    match map {
        Map::Labels => &context.alert.labels,
        Map::Annotations => &context.alert.annotations,
        Map::GroupLabels => &context.notification.group_labels,
        Map::CommonLabels => &context.notification.common_labels,
        Map::CommonAnnotations => &context.notification.common_annotations,
    }
}

fn text<'a>(text: Text, context: &Context<'a>) -> Cow<'a, str> {
    Cow::Borrowed(match text {
        Text::Status => context.alert.status.as_str(),
        Text::StartsAt => &context.alert.starts_at,
        Text::EndsAt => &context.alert.ends_at,
        Text::GeneratorUrl => &context.alert.generator_url,
        Text::Fingerprint => &context.alert.fingerprint,
        Text::GroupStatus => &context.notification.status,
        Text::GroupKey => &context.notification.group_key,
        Text::Receiver => &context.notification.receiver,
        Text::ExternalUrl => &context.notification.external_url,
        Text::ReceivedAt => return Cow::Owned(context.received_at.to_string()),
        Text::TruncatedAlerts => {
            return Cow::Owned(context.notification.truncated_alerts.to_string());
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
    use crate::mapping::tests::{NOW, sample};

    #[test]
    fn paths_find_what_stands_there() {
        let notification = sample();
        let context = Context::new(&notification, &notification.alerts[0], NOW);
        for (path, text) in [
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
                text.map(|text| PathValue::Text(Cow::Borrowed(text))),
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
