//! What Canopsis 24.10 makes of events, as far as a connector can cause it: the alarms, and the events that it drops. A model of what
//! its engines were seen to do, also for `make demo`.

use std::collections::HashMap;

use serde_json::Value;

/// An alarm takes this many steps; an event that would add another one is dropped, unless it closes the alarm.
const MAX_STEPS: usize = 2000;

/// A closed alarm that gets a state above 0 within this time, in seconds, is opened again. Later, a new one is.
const REOPEN_WITHIN: u64 = 60;

/// What an id stands for. Canopsis keeps all ids in one collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Connector,
    Component,
    Resource,
}

#[derive(Debug, Default, Clone)]
pub struct Alarm {
    pub state: u64,
    pub output: String,
    /// Each change of the state, from and to.
    pub changes: Vec<(u64, u64)>,
    steps: usize,
    closed_at: Option<u64>,
}

#[derive(Debug, Default)]
pub struct Canopsis {
    /// In seconds.
    now: u64,
    kinds: HashMap<String, Kind>,
    alarms: HashMap<String, Alarm>,
}

impl Canopsis {
    /// Lets time pass.
    pub fn wait(&mut self, seconds: u64) {
        self.now += seconds;
    }

    /// The state of an entity's alarm; 0 without an alarm.
    pub fn state(&self, entity: &str) -> u64 {
        self.alarms.get(entity).map_or(0, |alarm| alarm.state)
    }

    /// How often the state of an entity's current alarm has changed.
    pub fn changes(&self, entity: &str) -> usize {
        self.alarms
            .get(entity)
            .map_or(0, |alarm| alarm.changes.len())
    }

    /// The entities that have an alarm above 0.
    pub fn open(&self) -> Vec<&str> {
        let mut open: Vec<&str> = self
            .alarms
            .iter()
            .filter(|(_, alarm)| alarm.state > 0)
            .map(|(entity, _)| entity.as_str())
            .collect();
        open.sort_unstable();
        open
    }

    /// Takes an event. Returns the entity whose alarm it was for, or why the event is dropped.
    pub fn take(&mut self, event: &Value) -> Result<String, &'static str> {
        let text = |key: &str| match &event[key] {
            Value::String(text) => Ok(text.as_str()),
            Value::Null => Ok(""),
            _ => Err("a field has another type"),
        };
        for key in ["author", "output", "long_output"] {
            text(key)?;
        }
        for key in ["state", "timestamp"] {
            if !event[key].is_number() && !event[key].is_null() {
                return Err("a field has another type");
            }
        }
        let are_texts = |tags: &serde_json::Map<String, Value>| tags.values().all(Value::is_string);
        if !event["tags"].is_null() && !event["tags"].as_object().is_some_and(are_texts) {
            return Err("a field has another type");
        }
        if (text("event_type")?, text("source_type")?) != ("check", "resource") {
            return Err("not a check of a resource");
        }
        let mut names = [""; 4];
        let keys = ["connector", "connector_name", "component", "resource"];
        for (name, key) in names.iter_mut().zip(keys) {
            *name = text(key)?;
            if name.is_empty() {
                return Err("a name is empty");
            }
        }
        let [connector, connector_name, component, resource] = names;
        let entity = self.find_entity(
            &format!("{connector}/{connector_name}"),
            component,
            &format!("{resource}/{component}"),
        )?;
        self.check(
            &entity,
            event["state"].as_u64().unwrap_or(0),
            text("output")?,
        )?;
        Ok(entity)
    }

    fn find_entity(
        &mut self,
        connector: &str,
        component: &str,
        resource: &str,
    ) -> Result<String, &'static str> {
        if connector == component || connector == resource {
            return Err("the entity has the id of its connector");
        }
        let known = |id, kind| self.kinds.get(id).is_none_or(|known| *known == kind);
        if !known(component, Kind::Component) && !known(component, Kind::Connector) {
            // Found first: the alarm of that resource is changed instead.
            self.kinds
                .entry(connector.to_owned())
                .or_insert(Kind::Connector);
            return Ok(component.to_owned());
        }
        let ids = [
            (connector, Kind::Connector),
            (component, Kind::Component),
            (resource, Kind::Resource),
        ];
        if !ids.iter().all(|(id, kind)| known(id, *kind)) {
            return Err("an entity of another kind has this id");
        }
        for (id, kind) in ids {
            self.kinds.entry(id.to_owned()).or_insert(kind);
        }
        Ok(resource.to_owned())
    }

    fn check(&mut self, entity: &str, state: u64, output: &str) -> Result<(), &'static str> {
        let now = self.now;
        let is_over = |alarm: &Alarm| alarm.closed_at.is_some_and(|at| now >= at + REOPEN_WITHIN);
        if self.alarms.get(entity).is_some_and(is_over) {
            self.alarms.remove(entity);
        }
        if state == 0 && !self.alarms.contains_key(entity) {
            return Ok(());
        }
        let alarm = self.alarms.entry(entity.to_owned()).or_default();
        if state != alarm.state {
            // Between 0 and another state the status changes as well: another step.
            let steps = if state == 0 || alarm.state == 0 { 2 } else { 1 };
            if state != 0 && alarm.steps + steps > MAX_STEPS {
                return Err("the alarm has too many steps");
            }
            alarm.steps += steps;
            alarm.changes.push((alarm.state, state));
            alarm.state = state;
            alarm.closed_at = (state == 0).then_some(now);
        }
        output.clone_into(&mut alarm.output);
        Ok(())
    }
}
