//! Canopsis's event, as a type that cannot hold what Canopsis would silently discard.
//!
//! Source of the format: Canopsis's public documentation and engine sources (2024-10). Its first engine acknowledges and
//! drops an event whose four names are not all non-empty strings, or in which a known field has the wrong JSON type; later
//! ones drop an event whose entity has the id of its connector. A broker's confirm cannot reveal that, so such an event must
//! never be published.
//!
//! This module knows nothing of rules and brokers.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::io::{self, Write};

use serde::Serialize;
use serde_json::Value;

use crate::alertmanager::Labels;
use crate::perf_data::PerfData;

/// Every key that Canopsis knows. An extra information with one of these names would change the event's meaning, or make
/// it undecodable and so lost.
const RESERVED: &str = "\
    _id ack_resources added_to_services aid alarm_change author component connector connector_name current_alarm \
    current_entity debug delayed_scenario_data delayed_scenario_id display_name duration event_type \
    execution extra healthcheck idle_rule_apply initiator instr_matched instruction long_output \
    ma_children ma_parents ma_updated manual_meta_alarm_auto_resolve metaalarm_rule_id \
    metaalarm_value_path output pbehavior_info perf_data perf_data_array removed_from_services resource role \
    routing_key rt source_type stat_name state state_setting_updated status tags ticket \
    ticket_comment ticket_data ticket_meta_alarm_id ticket_resources ticket_rule_id ticket_rule_name \
    ticket_system_name ticket_url timestamp user_id";

/// The longest encoded event. RabbitMQ closes the channel over its `max_message_size`, 16 MiB by default since 4.0: a
/// longer event would end the deliveries of all others.
pub const MAX_EVENT_BYTES: usize = 1 << 20;

/// The longest routing key, in bytes: an AMQP short string. A longer one ends the connection.
pub const ROUTING_KEY_BYTES: usize = 255;

/// The longest `connector_name` that does not break Canopsis's statistics, in characters.
pub const MAX_CONNECTOR_NAME: usize = 255;

/// The longest entity id that is in Canopsis's statistics, in characters.
pub const MAX_ENTITY_ID: usize = 500;

/// What a slash does in a connector, a connector's name or a component.
pub const SLASH_IN_NAME: &str = "contains a slash, with which Canopsis joins names to ids: its id may be that of another entity";

/// One of the four names of every event: not blank, on one line, without white space around it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name<'a>(Cow<'a, str>);

impl<'a> Name<'a> {
    /// Removes white space around the text, and puts a blank in place of line breaks and the white space around them: cutting
    /// at the line break would merge different entities. `None` for a blank text.
    pub fn new(text: impl Into<Cow<'a, str>>) -> Option<Self> {
        let text = text.into();
        // Nearly every name.
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Some(Self(text));
        }
        let lines = text.split(is_line_break).map(str::trim);
        let lines: Vec<&str> = lines.filter(|line| !line.is_empty()).collect();
        (!lines.is_empty()).then(|| Self(lines.join(" ").into()))
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

/// The mandatory line breaks of Unicode.
fn is_line_break(c: char) -> bool {
    matches!(c, '\n'..='\r' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// The four names of an event, as Canopsis accepts them together.
#[derive(Debug, Clone)]
pub struct Names<'a> {
    connector: Name<'a>,
    connector_name: Name<'a>,
    component: Name<'a>,
    resource: Name<'a>,
}

/// Why Canopsis would not accept four names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NamesError {
    /// Canopsis keeps the ids of connectors, components and resources in one collection.
    #[error(
        "the id of this {field} is that of the connector, <connector>/<connector_name>: Canopsis would drop the event; \
         change the rule of {field}, or the connector's names"
    )]
    ConnectorId {
        /// `component` or `resource`.
        field: &'static str,
    },
    /// The name breaks the statistics of all connectors.
    #[error("connector_name has a control character or more than {MAX_CONNECTOR_NAME} characters")]
    ConnectorName,
}

impl NamesError {
    /// The event's field that is at fault.
    pub fn field(&self) -> &'static str {
        match self {
            Self::ConnectorId { field } => field,
            Self::ConnectorName => "connector_name",
        }
    }
}

impl<'a> Names<'a> {
    /// Checks the names against each other.
    pub fn new(
        [connector, connector_name, component, resource]: [Name<'a>; 4],
    ) -> Result<Self, NamesError> {
        if !is_connector_name(connector_name.as_str()) {
            return Err(NamesError::ConnectorName);
        }
        let own = || joined(connector.as_str(), connector_name.as_str());
        if own().eq(component.as_str().bytes()) {
            return Err(NamesError::ConnectorId { field: "component" });
        }
        if own().eq(joined(resource.as_str(), component.as_str())) {
            return Err(NamesError::ConnectorId { field: "resource" });
        }
        Ok(Self {
            connector,
            connector_name,
            component,
            resource,
        })
    }

    /// The host or the like that the alarm belongs to.
    pub fn component(&self) -> &str {
        self.component.as_str()
    }

    /// What is wrong there.
    pub fn resource(&self) -> &str {
        self.resource.as_str()
    }

    /// What is wrong with names that Canopsis accepts.
    pub fn warnings(&self) -> Vec<String> {
        let names = [
            ("connector", &self.connector),
            ("connector_name", &self.connector_name),
            ("component", &self.component),
        ];
        let with_slash = names.into_iter().filter(|(_, name)| name.0.contains('/'));
        let mut warnings: Vec<String> = with_slash
            .map(|(field, _)| format!("{field} {SLASH_IN_NAME}"))
            .collect();
        let id = self.resource().chars().count() + 1 + self.component().chars().count();
        if id > MAX_ENTITY_ID {
            warnings.push(format!(
                "resource and component have more than {MAX_ENTITY_ID} characters: Canopsis's statistics lose the entity"
            ));
        }
        warnings
    }

    /// Appends the id of the entity that the alarm belongs to, `resource/component`. It is one text for Canopsis: (`a/b`, `c`)
    /// and (`a`, `b/c`) are one entity.
    pub fn write_entity_id(&self, id: &mut String) {
        id.push_str(self.resource());
        id.push('/');
        id.push_str(self.component());
    }
}

/// Whether the name of a connector does not break Canopsis's statistics.
pub fn is_connector_name(name: &str) -> bool {
    // A string has at most as many characters as bytes.
    let is_short = name.len() <= MAX_CONNECTOR_NAME || name.chars().count() <= MAX_CONNECTOR_NAME;
    // Nearly every name is plain ASCII, which takes less to see.
    let is_plain = || name.bytes().all(|byte| byte.is_ascii_graphic());
    is_short && (is_plain() || !name.contains(char::is_control))
}

fn joined<'n>(one: &'n str, other: &'n str) -> impl Iterator<Item = u8> {
    one.bytes().chain([b'/']).chain(other.bytes())
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
        match value.trim().to_ascii_lowercase().as_str() {
            "0" | "ok" | "info" => Some(Self::Ok),
            "1" | "minor" => Some(Self::Minor),
            "2" | "major" => Some(Self::Major),
            "3" | "critical" => Some(Self::Critical),
            _ => None,
        }
    }
}

/// An alert's event, as far as it decides which one of its entity is published.
#[derive(Debug)]
pub struct Candidate<E> {
    /// The entity of the event.
    pub entity: E,
    /// The state of the event.
    pub state: State,
    /// Whether the alert fires. The state of a firing alert may be 0, too.
    pub is_firing: bool,
}

impl<E> Candidate<E> {
    /// The event disappears behind one that says the same: two problems are one alarm, and the operator sees one of them. Of
    /// state 0, as of a Watchdog, no alarm exists.
    pub fn is_hidden_by(&self, other: &Self) -> bool {
        let is_same = self.state == other.state && self.state > State::Ok;
        is_same && self.is_firing && other.is_firing
    }
}

/// Chooses one event for each entity of a notification: that with the highest state; of those, one of a firing alert before one
/// of a resolved alert, then the first. Returns for each event the position of the one that is published in its place; for a
/// published one that is its own.
///
/// Two events would move the alarm to one state and back at each repetition of the notification.
pub fn choose_events<E: Ord>(events: &[Candidate<E>]) -> Vec<usize> {
    let entity = |position: usize| &events[position].entity;
    let rank = |position: usize| (events[position].state, events[position].is_firing);
    let mut positions: Vec<usize> = (0..events.len()).collect();
    positions.sort_unstable_by_key(|&it| (entity(it), Reverse(rank(it)), it));
    let mut chosen = vec![0; events.len()];
    for of_entity in positions.chunk_by(|&one, &other| entity(one) == entity(other)) {
        for &position in of_entity {
            chosen[position] = of_entity[0];
        }
    }
    chosen
}

/// Parses the value of a timestamp rule, Unix seconds or RFC 3339. The result is in Unix seconds.
pub fn parse_timestamp(value: &str) -> Option<i64> {
    let value = value.trim();
    let rfc3339 = || value.parse().ok().map(jiff::Timestamp::as_second);
    value.parse().ok().or_else(rfc3339)
}

/// The value of a rule, and of an extra information.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
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

/// A check event of Canopsis. It borrows from the notification and the configuration.
#[derive(Debug, Clone)]
pub struct Event<'a> {
    /// Which tool sends the event, and the entity of its alarm.
    pub names: Names<'a>,
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
    /// Measures, for Canopsis's graphs.
    pub perf_data: Option<PerfData<'a>>,
    /// Extra informations, each name once.
    pub extra: Vec<(&'a ExtraName, FieldValue<'a>)>,
}

impl Event<'_> {
    /// Appends the event as a JSON object. The keys are written as they are, with their separators: that takes 4,000
    /// instructions an event less than a serializer that quotes them each time.
    pub fn write_json(&self, json: &mut impl Write) -> io::Result<()> {
        let names = &self.names;
        let (connector, connector_name) = (names.connector.as_str(), names.connector_name.as_str());
        json.write_all(b"{\"event_type\":\"check\",\"source_type\":\"resource\"")?;
        write_entry(json, ",\"connector\":", Some(connector))?;
        write_entry(json, ",\"connector_name\":", Some(connector_name))?;
        write_entry(json, ",\"component\":", Some(names.component()))?;
        write_entry(json, ",\"resource\":", Some(names.resource()))?;
        write_entry(json, ",\"state\":", Some(self.state as u8))?;
        write_entry(json, ",\"output\":", self.output.as_ref())?;
        write_entry(json, ",\"long_output\":", self.long_output.as_ref())?;
        if self.author.is_none() {
            let author = format_args!("{connector}.{connector_name}");
            write_entry(json, ",\"author\":", Some(author))?;
        }
        write_entry(json, ",\"author\":", self.author.as_ref())?;
        write_entry(json, ",\"timestamp\":", self.timestamp)?;
        write_entry(json, ",\"tags\":", self.tags)?;
        let perf_data = self.perf_data.as_ref().map(PerfData::as_str);
        write_entry(json, ",\"perf_data\":", perf_data)?;
        for (name, value) in &self.extra {
            write_entry(json, &name.json_key, Some(value))?;
        }
        json.write_all(b"}")
    }

    /// Appends the routing key after Canopsis's convention, cut to [`ROUTING_KEY_BYTES`] on a character boundary. Canopsis
    /// binds its queue with `#`, so the part that is cut off does not matter to delivery.
    pub fn write_routing_key(&self, key: &mut String) {
        let start = key.len();
        let parts = [
            self.names.connector.as_str(),
            self.names.connector_name.as_str(),
            "check",
            "resource",
            self.names.component(),
            self.names.resource(),
        ];
        for part in parts {
            key.push_str(part);
            key.push('.');
        }
        key.pop();
        key.truncate(key.floor_char_boundary(start + ROUTING_KEY_BYTES));
    }
}

/// Appends a key, as it is written, with its value; nothing where there is none.
fn write_entry(json: &mut impl Write, key: &str, value: Option<impl Serialize>) -> io::Result<()> {
    if let Some(value) = value {
        json.write_all(key.as_bytes())?;
        serde_json::to_writer(json, &value)?;
    }
    Ok(())
}

#[cfg(test)]
#[allow(missing_docs, clippy::missing_panics_doc)]
pub mod tests;
