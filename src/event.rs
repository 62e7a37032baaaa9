//! What Canopsis takes: the event, as a type that cannot hold what Canopsis would discard without a word.
//!
//! Source of the format: Canopsis's public documentation and engine sources (2024-10). Its first engine acknowledges and
//! drops an event whose four names are not all non-empty strings, or in which a known field has another JSON type than
//! it should; a broker's confirm cannot reveal that, so none may ever be published.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::Value;

use crate::alertmanager::Labels;

/// Every key that Canopsis knows. An extra information under one of these names would change the event's meaning, or
/// make it undecodable and so lost.
const RESERVED: &[&str] = &[
    "_id",
    "added_to_services",
    "aid",
    "alarm_change",
    "author",
    "component",
    "connector",
    "connector_name",
    "current_alarm",
    "current_entity",
    "debug",
    "delayed_scenario_data",
    "delayed_scenario_id",
    "display_name",
    "duration",
    "event_type",
    "execution",
    "extra",
    "healthcheck",
    "idle_rule_apply",
    "initiator",
    "instr_matched",
    "instruction",
    "long_output",
    "ma_children",
    "ma_parents",
    "ma_updated",
    "manual_meta_alarm_auto_resolve",
    "metaalarm_rule_id",
    "metaalarm_value_path",
    "output",
    "pbehavior_info",
    "perf_data",
    "removed_from_services",
    "resource",
    "role",
    "routing_key",
    "rt",
    "source_type",
    "stat_name",
    "state",
    "state_setting_updated",
    "status",
    "tags",
    "ticket",
    "ticket_comment",
    "ticket_data",
    "ticket_meta_alarm_id",
    "ticket_rule_id",
    "ticket_rule_name",
    "ticket_system_name",
    "ticket_url",
    "timestamp",
    "user_id",
];

const EVENT_TYPE: &str = "check";
const SOURCE_TYPE: &str = "resource";

/// The longest routing key, in bytes: an AMQP short string. A longer one kills the connection.
pub const ROUTING_KEY_BYTES: usize = 255;

/// A text that is not empty: the four names that identify what an alarm hangs on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name<'a>(Cow<'a, str>);

impl<'a> Name<'a> {
    /// `None` for the empty text.
    pub fn new(text: impl Into<Cow<'a, str>>) -> Option<Self> {
        let text = text.into();
        (!text.is_empty()).then_some(Self(text))
    }

    /// The same name, of which nothing is copied.
    pub fn borrowed(&self) -> Name<'_> {
        Name(Cow::Borrowed(&self.0))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The final name (prefix included) of an extra information: not empty, and none of Canopsis's own keys.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ExtraName(String);

impl ExtraName {
    /// `None` for an empty or reserved name.
    pub fn new(name: impl Into<String>) -> Option<Self> {
        let name = name.into();
        (!name.is_empty() && !RESERVED.contains(&name.as_str())).then_some(Self(name))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// 0: closes the alarm.
    Ok = 0,
    /// 1
    Minor = 1,
    /// 2
    Major = 2,
    /// 3
    Critical = 3,
}

impl State {
    /// Reads what a state rule yields: `0` to `3`, or a state's name, whatever its case.
    pub fn parse(text: &str) -> Option<Self> {
        const WORDS: [(State, &[&str]); 4] = [
            (State::Ok, &["0", "ok", "info"]),
            (State::Minor, &["1", "minor"]),
            (State::Major, &["2", "major"]),
            (State::Critical, &["3", "critical"]),
        ];
        let text = text.trim();
        let reads = |words: &[&str]| words.iter().any(|word| word.eq_ignore_ascii_case(text));
        WORDS
            .into_iter()
            .find(|(_, words)| reads(words))
            .map(|(state, _)| state)
    }
}

/// What a rule yields, and an extra information holds.
#[derive(Debug, Clone, PartialEq)]
pub enum FieldValue<'a> {
    /// A text.
    Text(Cow<'a, str>),
    /// A map of texts.
    Labels(&'a Labels<'a>),
    /// Whatever the configuration holds.
    Constant(&'a Value),
}

impl Serialize for FieldValue<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => serializer.serialize_str(text),
            Self::Labels(labels) => labels.serialize(serializer),
            Self::Constant(value) => value.serialize(serializer),
        }
    }
}

/// A check event of Canopsis. It borrows from the notification and the configuration.
#[derive(Debug, Clone)]
pub struct Event<'a> {
    /// The kind of tool the event comes from.
    pub connector: Name<'a>,
    /// The instance of that tool.
    pub connector_name: Name<'a>,
    /// With `resource`, what the alarm hangs on.
    pub component: Name<'a>,
    /// With `component`, what the alarm hangs on.
    pub resource: Name<'a>,
    /// How bad it is.
    pub state: State,
    /// The short message.
    pub output: Option<Cow<'a, str>>,
    /// The long message.
    pub long_output: Option<Cow<'a, str>>,
    /// Who says so; `<connector>.<connector_name>` where it is absent.
    pub author: Option<Cow<'a, str>>,
    /// Unix seconds; Canopsis takes the time at which it reads the event where this is absent.
    pub timestamp: Option<i64>,
    /// The alarm's external tags.
    pub tags: Option<&'a Labels<'a>>,
    /// Everything else.
    pub extra: BTreeMap<&'a ExtraName, FieldValue<'a>>,
}

impl Event<'_> {
    /// Appends the routing key by Canopsis's convention, cut to [`ROUTING_KEY_BYTES`] on a character boundary. Canopsis
    /// consumes by `#`, so what is cut off does not matter to delivery.
    pub fn write_routing_key(&self, key: &mut String) {
        let start = key.len();
        let parts = [
            self.connector.as_str(),
            self.connector_name.as_str(),
            EVENT_TYPE,
            SOURCE_TYPE,
            self.component.as_str(),
            self.resource.as_str(),
        ];
        for (index, part) in parts.into_iter().enumerate() {
            if index > 0 {
                key.push('.');
            }
            key.push_str(part);
        }
        key.truncate(key.floor_char_boundary(start + ROUTING_KEY_BYTES));
    }
}

/// Two names with a dot between them: written without a text of their own.
struct Joined<'a>(&'a Name<'a>, &'a Name<'a>);

impl fmt::Display for Joined<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0.as_str(), self.1.as_str())
    }
}

impl Serialize for Joined<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Event<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("event_type", EVENT_TYPE)?;
        map.serialize_entry("source_type", SOURCE_TYPE)?;
        map.serialize_entry("connector", self.connector.as_str())?;
        map.serialize_entry("connector_name", self.connector_name.as_str())?;
        map.serialize_entry("component", self.component.as_str())?;
        map.serialize_entry("resource", self.resource.as_str())?;
        map.serialize_entry("state", &(self.state as u8))?;
        if let Some(output) = &self.output {
            map.serialize_entry("output", output)?;
        }
        if let Some(long_output) = &self.long_output {
            map.serialize_entry("long_output", long_output)?;
        }
        match &self.author {
            Some(author) => map.serialize_entry("author", author)?,
            None => {
                map.serialize_entry("author", &Joined(&self.connector, &self.connector_name))?;
            }
        }
        if let Some(timestamp) = self.timestamp {
            map.serialize_entry("timestamp", &timestamp)?;
        }
        if let Some(tags) = &self.tags {
            map.serialize_entry("tags", tags)?;
        }
        for (name, value) in &self.extra {
            map.serialize_entry(name.as_str(), value)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(resource: &str) -> Event<'_> {
        Event {
            connector: Name::new("prometheus").unwrap(),
            connector_name: Name::new("p1").unwrap(),
            component: Name::new("host").unwrap(),
            resource: Name::new(resource).unwrap(),
            state: State::Major,
            output: None,
            long_output: None,
            author: None,
            timestamp: None,
            tags: None,
            extra: BTreeMap::new(),
        }
    }

    #[test]
    fn names_that_canopsis_discards_cannot_be_built() {
        assert!(Name::new("").is_none());
        for name in ["", "state", "_id", "state_setting_updated", "tags"] {
            assert!(ExtraName::new(name).is_none(), "{name}");
        }
        assert!(ExtraName::new("prom_state").is_some());
    }

    #[test]
    fn states() {
        for (text, state) in [
            ("0", Some(State::Ok)),
            ("Info", Some(State::Ok)),
            (" minor\n", Some(State::Minor)),
            ("2", Some(State::Major)),
            ("CRITICAL", Some(State::Critical)),
            ("4", None),
            ("warning", None),
            ("", None),
        ] {
            assert_eq!(State::parse(text), state, "{text:?}");
        }
    }

    #[test]
    fn a_long_routing_key_is_cut_between_characters() {
        let mut key = String::new();
        event("r").write_routing_key(&mut key);
        event("s").write_routing_key(&mut key);
        assert_eq!(
            key,
            "prometheus.p1.check.resource.host.rprometheus.p1.check.resource.host.s"
        );
        for length in 60..90 {
            let resource = format!("{}{}", "x".repeat(length), "日".repeat(200));
            let mut key = String::new();
            event(&resource).write_routing_key(&mut key);
            assert!(
                key.len() <= ROUTING_KEY_BYTES && key.len() > ROUTING_KEY_BYTES - 3,
                "{}",
                key.len()
            );
        }
    }
}
