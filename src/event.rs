//! Canopsis's event, as a type that cannot hold what Canopsis would silently discard.
//!
//! Source of the format: Canopsis's public documentation and engine sources (2024-10). Its first engine acknowledges and
//! drops an event whose four names are not all non-empty strings, or in which a known field has the wrong JSON type. A
//! broker's confirm cannot reveal that, so such an event must never be published.
//!
//! This module knows nothing of rules and brokers.

use std::borrow::Cow;
use std::io::Write;

use serde::ser::{Serialize, Serializer};
use serde_json::Value;

use crate::alertmanager::Labels;

/// Every key that Canopsis knows. An extra information with one of these names would change the event's meaning, or make
/// it undecodable and so lost.
const RESERVED: &str = "\
    _id added_to_services aid alarm_change author component connector connector_name current_alarm \
    current_entity debug delayed_scenario_data delayed_scenario_id display_name duration event_type \
    execution extra healthcheck idle_rule_apply initiator instr_matched instruction long_output \
    ma_children ma_parents ma_updated manual_meta_alarm_auto_resolve metaalarm_rule_id \
    metaalarm_value_path output pbehavior_info perf_data removed_from_services resource role \
    routing_key rt source_type stat_name state state_setting_updated status tags ticket \
    ticket_comment ticket_data ticket_meta_alarm_id ticket_rule_id ticket_rule_name \
    ticket_system_name ticket_url timestamp user_id";

const EVENT_TYPE: &str = "check";
const SOURCE_TYPE: &str = "resource";

/// The longest encoded event. RabbitMQ closes the channel over its `max_message_size`, 16 MiB by default since 4.0: a
/// longer event would end the deliveries of all others.
pub const MAX_EVENT_BYTES: usize = 1 << 20;

/// The longest routing key, in bytes: an AMQP short string. A longer one ends the connection.
pub const ROUTING_KEY_BYTES: usize = 255;

/// A string that is not empty: one of the four names of every event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name<'a>(Cow<'a, str>);

impl<'a> Name<'a> {
    /// `None` for the empty string.
    pub fn new(name: impl Into<Cow<'a, str>>) -> Option<Self> {
        let name = name.into();
        (!name.is_empty()).then_some(Self(name))
    }

    /// The same name, not copied.
    pub fn borrowed(&self) -> Name<'_> {
        Name(Cow::Borrowed(&self.0))
    }

    /// The name as a string.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The final name (prefix included) of an extra information: not empty, and none of Canopsis's own keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtraName {
    name: String,
    /// Between a comma and a colon, as it is in an event.
    json_key: String,
}

impl ExtraName {
    /// `None` for an empty or reserved name.
    pub fn new(name: impl Into<String>) -> Option<Self> {
        let name = name.into();
        let json_key = format!(",{}:", Value::from(name.as_str()));
        (!name.is_empty() && RESERVED.split(' ').all(|reserved| reserved != name))
            .then_some(Self { name, json_key })
    }

    /// The name as a string.
    pub fn as_str(&self) -> &str {
        &self.name
    }
}

/// The severity of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Closes the alarm.
    Ok = 0,
    /// The lowest state of an alarm.
    Minor = 1,
    /// The middle state of an alarm.
    Major = 2,
    /// The highest state of an alarm.
    Critical = 3,
}

impl State {
    /// Parses the value of a state rule: `0` to `3`, or a state's name in any case.
    pub fn parse(value: &str) -> Option<Self> {
        const WORDS: [(State, &[&str]); 4] = [
            (State::Ok, &["0", "ok", "info"]),
            (State::Minor, &["1", "minor"]),
            (State::Major, &["2", "major"]),
            (State::Critical, &["3", "critical"]),
        ];
        let value = value.trim();
        let matches = |words: &[&str]| words.iter().any(|word| word.eq_ignore_ascii_case(value));
        WORDS
            .into_iter()
            .find(|(_, words)| matches(words))
            .map(|(state, _)| state)
    }
}

/// Several events of one notification for the same entity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SharedEntity {
    /// The position of the first of them.
    pub first: usize,
    /// How many there are.
    pub events: usize,
}

/// Puts the events of each entity into ascending order of state, so that the entity ends in its worst state: its alarm must
/// not close while one of its alerts fires. They exchange only their own positions, and events of the same state keep their
/// order. Returns the entities of several events, in the order of their first ones.
pub fn worst_state_last<T: Copy, E: Ord>(
    events: &mut [T],
    entity: impl Fn(&T) -> E,
    state: impl Fn(&T) -> State,
) -> Vec<SharedEntity> {
    let mut positions: Vec<usize> = (0..events.len()).collect();
    positions.sort_by_key(|position| entity(&events[*position]));
    let mut ordered: Vec<T> = positions.iter().map(|position| events[*position]).collect();
    ordered.sort_by_key(|event| (entity(event), state(event)));
    for (position, event) in positions.iter().zip(ordered) {
        events[*position] = event;
    }
    let is_same = |one: &usize, other: &usize| entity(&events[*one]) == entity(&events[*other]);
    let mut shared: Vec<SharedEntity> = positions
        .chunk_by(is_same)
        .filter(|positions| positions.len() > 1)
        .map(|positions| SharedEntity {
            first: positions[0],
            events: positions.len(),
        })
        .collect();
    shared.sort_unstable_by_key(|entity| entity.first);
    shared
}

/// The value of a rule, and of an extra information.
#[derive(Debug, Clone, PartialEq)]
pub enum FieldValue<'a> {
    /// A string.
    String(Cow<'a, str>),
    /// A map of strings.
    Labels(&'a Labels<'a>),
    /// A constant of any other type from the configuration.
    Constant(&'a Value),
}

impl FieldValue<'_> {
    /// The length of the strings that come from a sender.
    pub fn text_len(&self) -> usize {
        match self {
            Self::String(string) => string.len(),
            Self::Labels(labels) => labels.text_len(),
            Self::Constant(_) => 0,
        }
    }
}

impl Serialize for FieldValue<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::String(string) => serializer.serialize_str(string),
            Self::Labels(labels) => labels.serialize(serializer),
            Self::Constant(value) => value.serialize(serializer),
        }
    }
}

/// A check event of Canopsis. It borrows from the notification and the configuration.
#[derive(Debug, Clone)]
pub struct Event<'a> {
    /// The kind of tool that sends the event.
    pub connector: Name<'a>,
    /// The instance of that tool.
    pub connector_name: Name<'a>,
    /// With `resource`, the entity of the alarm.
    pub component: Name<'a>,
    /// With `component`, the entity of the alarm.
    pub resource: Name<'a>,
    /// The severity.
    pub state: State,
    /// The short message.
    pub output: Option<Cow<'a, str>>,
    /// The long message.
    pub long_output: Option<Cow<'a, str>>,
    /// `<connector>.<connector_name>` where it is absent.
    pub author: Option<Cow<'a, str>>,
    /// Unix seconds. Where it is absent, Canopsis uses the time at which it reads the event.
    pub timestamp: Option<i64>,
    /// The alarm's external tags.
    pub tags: Option<&'a Labels<'a>>,
    /// Extra informations, each name once.
    pub extra: Vec<(&'a ExtraName, FieldValue<'a>)>,
}

impl Event<'_> {
    /// Appends the event as a JSON object. The keys are written as they are, with their separators: that takes 4,000
    /// instructions an event less than a serializer that quotes them each time.
    pub fn write_json(&self, json: &mut impl Write) -> serde_json::Result<()> {
        let (connector, connector_name) = (self.connector.as_str(), self.connector_name.as_str());
        write(
            json,
            "{\"event_type\":\"check\",\"source_type\":\"resource\"",
        )?;
        entry(json, ",\"connector\":", connector)?;
        entry(json, ",\"connector_name\":", connector_name)?;
        entry(json, ",\"component\":", self.component.as_str())?;
        entry(json, ",\"resource\":", self.resource.as_str())?;
        entry(json, ",\"state\":", &(self.state as u8))?;
        if let Some(output) = &self.output {
            entry(json, ",\"output\":", output)?;
        }
        if let Some(long_output) = &self.long_output {
            entry(json, ",\"long_output\":", long_output)?;
        }
        match &self.author {
            Some(author) => entry(json, ",\"author\":", author)?,
            None => entry(
                json,
                ",\"author\":",
                &format_args!("{connector}.{connector_name}"),
            )?,
        }
        if let Some(timestamp) = &self.timestamp {
            entry(json, ",\"timestamp\":", timestamp)?;
        }
        if let Some(tags) = self.tags {
            entry(json, ",\"tags\":", tags)?;
        }
        for (name, value) in &self.extra {
            entry(json, &name.json_key, value)?;
        }
        write(json, "}")
    }

    /// Appends the routing key after Canopsis's convention, cut to [`ROUTING_KEY_BYTES`] on a character boundary. Canopsis
    /// binds its queue with `#`, so the part that is cut off does not matter to delivery.
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
        for part in parts {
            key.push_str(part);
            key.push('.');
        }
        key.pop();
        key.truncate(key.floor_char_boundary(start + ROUTING_KEY_BYTES));
    }
}

fn write(json: &mut impl Write, text: &str) -> serde_json::Result<()> {
    json.write_all(text.as_bytes())
        .map_err(serde_json::Error::io)
}

fn entry(
    json: &mut impl Write,
    key: &str,
    value: &(impl Serialize + ?Sized),
) -> serde_json::Result<()> {
    write(json, key)?;
    serde_json::to_writer(json, value)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

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
            extra: Vec::new(),
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
    fn an_event_is_one_json_object() {
        let labels = Labels::new(vec![("a\"".into(), "\n".into())]);
        let constant = serde_json::json!([1, {"x": null}]);
        let names =
            ["x_\"\\\n", "x_labels", "x_constant"].map(|name| ExtraName::new(name).unwrap());
        let mut event = event("a\"b\\c\u{0}é");
        let json = |event: &Event<'_>| {
            let mut json = b"before ".to_vec();
            event.write_json(&mut json).unwrap();
            serde_json::from_slice::<Value>(&json[7..]).unwrap()
        };
        let mut expected = serde_json::json!({
            "event_type": "check", "source_type": "resource", "connector": "prometheus", "connector_name": "p1",
            "component": "host", "resource": "a\"b\\c\u{0}é", "state": 2, "author": "prometheus.p1",
        });
        assert_eq!(json(&event), expected);

        event.output = Some("o\t".into());
        event.long_output = Some("\"".into());
        event.author = Some("me".into());
        event.timestamp = Some(5);
        event.tags = Some(&labels);
        let values = [
            FieldValue::String("s".into()),
            FieldValue::Labels(&labels),
            FieldValue::Constant(&constant),
        ];
        event.extra = names.iter().zip(values).collect();
        for (key, value) in [
            ("output", Value::from("o\t")),
            ("long_output", Value::from("\"")),
            ("author", Value::from("me")),
            ("timestamp", Value::from(5)),
            ("tags", serde_json::json!({"a\"": "\n"})),
            ("x_\"\\\n", Value::from("s")),
            ("x_labels", serde_json::json!({"a\"": "\n"})),
            ("x_constant", constant.clone()),
        ] {
            expected[key] = value;
        }
        assert_eq!(json(&event), expected);
    }

    proptest! {
        /// Against a model that looks at each pair of events.
        #[test]
        fn each_entity_ends_in_its_worst_state(
            before in vec((0_u8..4, prop::sample::select(vec![State::Ok, State::Minor, State::Major, State::Critical])), 0..12)
        ) {
            let numbered: Vec<(u8, State, usize)> = before
                .iter()
                .enumerate()
                .map(|(number, (entity, state))| (*entity, *state, number))
                .collect();
            let mut after = numbered.clone();
            let shared = worst_state_last(&mut after, |event| event.0, |event| event.1);
            for (position, event) in after.iter().enumerate() {
                prop_assert_eq!(event.0, numbered[position].0, "an entity keeps its positions");
                for later in &after[position + 1..] {
                    prop_assert!(later.0 != event.0 || (later.1, later.2) > (event.1, event.2));
                }
            }
            let count = |entity| before.iter().filter(|event| event.0 == entity).count();
            let firsts = (0..before.len()).filter(|position| {
                let entity = before[*position].0;
                count(entity) > 1 && before[..*position].iter().all(|event| event.0 != entity)
            });
            let expected: Vec<SharedEntity> = firsts
                .map(|first| SharedEntity { first, events: count(before[first].0) })
                .collect();
            prop_assert_eq!(shared, expected);
        }
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
