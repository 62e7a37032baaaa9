//! The encoded events of one notification, in one buffer: a few large allocations instead of many small ones.

use std::hash::{BuildHasher, DefaultHasher, Hash, Hasher, RandomState};
use std::io::{self, Write};
use std::ops::Range;
use std::sync::LazyLock;

use crate::event::{Candidate, Event, MAX_EVENT_BYTES, State, choose_events};

/// A batch above this, in bytes, gives back its unused capacity: it may wait for the broker for a while.
const SHRINK_ABOVE: usize = 64 << 10;

/// For the first allocation only.
const TYPICAL_TEXT_BYTES: usize = 96;

/// How much of an entity's id is kept for log entries, in bytes.
pub const SHOWN_ID_BYTES: usize = 255;

/// The random keys of this process: a sender can't construct colliding hashes.
static HASH_KEYS: LazyLock<[RandomState; 2]> =
    LazyLock::new(|| [RandomState::new(), RandomState::new()]);

/// What Canopsis attaches an alarm to, as a keyed hash of its id. Two of a million entities have the same hash with a
/// probability of 10^-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Entity(pub u64);

/// A notification as a keyed hash over its events, and the entities and times of all alerts that have one: the same for a
/// retry, and another one for a later occurrence of the same alerts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity(pub [u64; 2]);

/// The encoded event exceeds [`MAX_EVENT_BYTES`].
#[derive(Debug)]
pub struct EventTooLarge;

/// Messages in order, ready to be published: one for each entity.
#[derive(Debug, Clone)]
pub struct Batch {
    bodies: Vec<u8>,
    /// For each message its routing key, and the id of its entity behind it.
    texts: String,
    entries: Vec<Entry>,
    /// Over entities and times; [`Batch::identity`] adds the bodies.
    hasher: DefaultHasher,
}

/// Where a message is in the buffers.
#[derive(Debug, Clone)]
struct Entry {
    body: Range<usize>,
    routing_key: Range<usize>,
    /// The entity's id begins where the routing key ends.
    id_end: usize,
    entity: Entity,
}

/// Takes the events of a notification's alerts, of which several may be of one entity.
#[derive(Debug)]
pub struct BatchBuilder {
    /// Of all events.
    batch: Batch,
    /// What each of them is chosen by.
    candidates: Vec<Candidate<Entity>>,
}

/// What has become of the events of a notification's alerts.
#[derive(Debug)]
pub struct MergedBatch {
    /// The chosen events.
    pub batch: Batch,
    /// The state of each of them.
    pub states: Vec<(Entity, State)>,
    /// How many gave way to another one of their entity.
    pub merged: usize,
    /// How many of these disappear behind one with the same state.
    pub hidden: usize,
    /// The position in the batch of the first one that hides another.
    pub first_hiding: Option<usize>,
}

/// One message of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'b> {
    /// At most 255 bytes.
    pub routing_key: &'b str,
    /// The id of the event's entity for people, cut to [`SHOWN_ID_BYTES`].
    pub entity_id: &'b str,
    /// The event's JSON.
    pub body: &'b [u8],
}

impl BatchBuilder {
    /// Allocates for `messages` messages, whose bodies have about `bytes` bytes in sum.
    pub fn with_capacity(messages: usize, bytes: usize) -> Self {
        Self {
            batch: Batch {
                bodies: Vec::with_capacity(bytes),
                texts: String::with_capacity(messages * TYPICAL_TEXT_BYTES),
                entries: Vec::with_capacity(messages),
                hasher: HASH_KEYS[0].build_hasher(),
            },
            candidates: Vec::with_capacity(messages),
        }
    }

    /// Encodes an alert's event and appends it; after an error the builder is as before.
    pub fn push(
        &mut self,
        event: &Event<'_>,
        is_firing: bool,
        starts_at: &str,
        ends_at: &str,
    ) -> Result<(), EventTooLarge> {
        let batch = &mut self.batch;
        let start = batch.bodies.len();
        let mut writer = LimitedWriter {
            bytes: &mut batch.bodies,
            limit: start + MAX_EVENT_BYTES,
        };
        // Whatever an event holds can be written as JSON: only the limit is an error.
        if event.write_json(&mut writer).is_err() {
            batch.bodies.truncate(start);
            return Err(EventTooLarge);
        }
        let key_start = batch.texts.len();
        event.write_routing_key(&mut batch.texts);
        let id_start = batch.texts.len();
        event.names.write_entity_id(&mut batch.texts);
        let id = &batch.texts[id_start..];
        let entity = Entity(HASH_KEYS[1].hash_one(id));
        let id_end = id_start + id.floor_char_boundary(SHOWN_ID_BYTES);
        batch.texts.truncate(id_end);
        (entity, starts_at, ends_at).hash(&mut batch.hasher);
        batch.entries.push(Entry {
            body: start..batch.bodies.len(),
            routing_key: key_start..id_start,
            id_end,
            entity,
        });
        self.candidates.push(Candidate {
            entity,
            state: event.state,
            is_firing,
        });
        Ok(())
    }

    /// The number of events.
    pub fn events(&self) -> usize {
        self.batch.len()
    }

    /// The bytes of all events.
    pub fn written(&self) -> usize {
        self.batch.bodies.len() + self.batch.texts.len()
    }

    /// The bytes allocated.
    pub fn bytes(&self) -> usize {
        self.batch.bytes() + self.candidates.capacity() * size_of::<Candidate<Entity>>()
    }

    /// Keeps one event for each entity.
    pub fn finish(self) -> MergedBatch {
        let (mut batch, events) = (self.batch, self.candidates);
        let chosen = choose_events(&events);
        let is_kept = |position: &usize| chosen[*position] == *position;
        let (kept, merged): (Vec<_>, Vec<_>) = (0..events.len()).partition(is_kept);
        let state = |&one: &usize| (events[one].entity, events[one].state);
        let is_hidden = |one: &&usize| events[**one].is_hidden_by(&events[chosen[**one]]);
        let hidden = merged.iter().filter(is_hidden);
        let first = hidden.clone().next();
        let first_hiding = first.and_then(|&one| kept.binary_search(&chosen[one]).ok());
        if !merged.is_empty() {
            batch.retain(|position| is_kept(&position));
        }
        if !merged.is_empty() || batch.bytes() > SHRINK_ABOVE {
            batch.bodies.shrink_to_fit();
            batch.texts.shrink_to_fit();
            batch.entries.shrink_to_fit();
        }
        MergedBatch {
            batch,
            states: kept.iter().map(state).collect(),
            merged: merged.len(),
            hidden: hidden.count(),
            first_hiding,
        }
    }
}

impl Batch {
    /// Removes messages, which may be most of them, and the bytes that they take.
    fn retain(&mut self, is_kept: impl Fn(usize) -> bool) {
        let (mut positions, mut texts, mut bodies) = (0.., String::new(), 0);
        self.entries.retain_mut(|entry| {
            let is_kept = positions.next().is_some_and(&is_kept);
            if is_kept {
                let moved = bodies..bodies + entry.body.len();
                self.bodies.copy_within(entry.body.clone(), moved.start);
                bodies = moved.end;
                let key = texts.len()..texts.len() + entry.routing_key.len();
                texts.push_str(&self.texts[entry.routing_key.start..entry.id_end]);
                (entry.body, entry.routing_key, entry.id_end) = (moved, key, texts.len());
            }
            is_kept
        });
        self.bodies.truncate(bodies);
        self.texts = texts;
    }

    /// The message at `index`.
    pub fn get(&self, index: usize) -> Option<Message<'_>> {
        let entry = self.entries.get(index)?;
        Some(Message {
            routing_key: &self.texts[entry.routing_key.clone()],
            entity_id: &self.texts[entry.routing_key.end..entry.id_end],
            body: &self.bodies[entry.body.clone()],
        })
    }

    /// The entity of the message at `index`.
    pub fn entity(&self, index: usize) -> Option<Entity> {
        self.entries.get(index).map(|entry| entry.entity)
    }

    /// Two halves: one over entities and times in the order of [`BatchBuilder::push`], one over the bodies and where each
    /// starts.
    pub fn identity(&self) -> Identity {
        let mut bodies = HASH_KEYS[1].build_hasher();
        bodies.write(&self.bodies);
        for entry in &self.entries {
            bodies.write_usize(entry.body.start);
        }
        Identity([self.hasher.finish(), bodies.finish()])
    }

    /// All messages, in order.
    pub fn iter(&self) -> impl Iterator<Item = Message<'_>> {
        (0..self.len()).filter_map(|index| self.get(index))
    }

    /// The number of messages.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// There are no messages.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The bytes allocated.
    pub fn bytes(&self) -> usize {
        self.bodies.capacity()
            + self.texts.capacity()
            + self.entries.capacity() * size_of::<Entry>()
    }
}

/// Fails instead of growing beyond its limit.
struct LimitedWriter<'b> {
    bytes: &'b mut Vec<u8>,
    limit: usize,
}

impl Write for LimitedWriter<'_> {
    fn write(&mut self, part: &[u8]) -> io::Result<usize> {
        if part.len() > self.limit - self.bytes.len() {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(part);
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::event::tests::event;
    use crate::event::{Name, Names, State};

    const NEVER: &str = "0001-01-01T00:00:00Z";

    /// A batch of some firing alerts' events.
    pub fn batch_of<'e>(events: impl IntoIterator<Item = Event<'e>>) -> Batch {
        let mut builder = BatchBuilder::with_capacity(0, 0);
        for event in events {
            builder.push(&event, true, "", "").unwrap();
        }
        builder.finish().batch
    }

    fn merged(events: &[(&str, State, &str, &str)]) -> MergedBatch {
        let mut builder = BatchBuilder::with_capacity(0, 0);
        for (resource, state, starts_at, ends_at) in events {
            let is_firing = *ends_at == NEVER;
            let event = event(resource, *state);
            builder.push(&event, is_firing, starts_at, ends_at).unwrap();
        }
        builder.finish()
    }

    fn identity(events: &[(&str, State, &str, &str)]) -> Identity {
        merged(events).batch.identity()
    }

    #[test]
    fn each_message_is_found_by_its_index() {
        let names = ["one", "zwei", "三"];
        let batch = batch_of(names.map(|name| event(name, State::Ok)));
        assert_eq!(batch.iter().count(), 3);
        assert!(batch.get(3).is_none() && batch.entity(3).is_none());
        for (message, name) in batch.iter().zip(names) {
            let key = format!("c.n.check.resource.host.{name}");
            assert_eq!(message.routing_key, key);
            assert_eq!(message.entity_id, format!("{name}/host"));
            let event: serde_json::Value = serde_json::from_slice(message.body).unwrap();
            assert_eq!(event["resource"], name);
            assert_eq!(event["author"], "c.n");
        }
        let length = |m: Message<'_>| m.routing_key.len() + m.entity_id.len() + m.body.len();
        assert!(batch.bytes() >= batch.iter().map(length).sum());
    }

    #[test]
    fn an_entity_has_one_message_and_a_retry_has_the_same_identity() {
        let (minor, resolved) = (("r", State::Minor, "1", NEVER), ("r", State::Ok, "1", "2"));
        let [full, full_too] = ["1", "2"].map(|starts_at| ("s", State::Major, starts_at, NEVER));
        let other = ("t", State::Ok, "1", "2");
        let events = [resolved, full, minor, other, full_too, full_too];
        let result = merged(&events);
        let published = result.batch.iter().map(|message| {
            let event: serde_json::Value = serde_json::from_slice(message.body).unwrap();
            let resource = event["resource"].as_str().unwrap();
            assert!(message.routing_key.ends_with(&format!(".{resource}")));
            assert_eq!(message.entity_id, format!("{resource}/host"));
            format!("{resource} {}", event["state"])
        });
        assert_eq!(published.collect::<Vec<_>>(), ["s 2", "r 1", "t 0"]);
        assert_eq!((result.merged, result.hidden), (3, 2));
        assert_eq!(result.first_hiding, Some(0));
        let entities = (0..3).map(|index| result.batch.entity(index).unwrap());
        let states = entities.zip([State::Major, State::Minor, State::Ok]);
        assert_eq!(result.states, states.collect::<Vec<_>>());
        assert_eq!(result.batch.identity(), identity(&events));
        // The time of an alert whose event is not published.
        let mut later = events;
        later[0] = ("r", State::Ok, "1", "3");
        assert_ne!(result.batch.identity(), identity(&later));
    }

    #[test]
    fn merged_and_unused_memory_is_given_back() {
        let mut builder = BatchBuilder::with_capacity(10_000, 1 << 20);
        assert!(builder.bytes() > 1 << 20);
        for _ in 0..10_000 {
            let event = event("r", State::Major);
            builder.push(&event, true, "", "").unwrap();
        }
        let batch = builder.finish().batch;
        assert!(
            batch.len() == 1 && batch.bytes() < 2_000_000,
            "{}",
            batch.bytes()
        );
        let unused = BatchBuilder::with_capacity(10_000, 1 << 20).finish();
        assert_eq!(unused.batch.bytes(), 0);
    }

    #[test]
    fn what_is_allocated_is_counted() {
        let mut builder = BatchBuilder::with_capacity(10, 1_000);
        let each = TYPICAL_TEXT_BYTES + size_of::<Entry>() + size_of::<Candidate<Entity>>();
        assert_eq!(builder.bytes(), 1_000 + 10 * each);
        for resource in ["one", "two"] {
            let event = event(resource, State::Ok);
            builder.push(&event, true, "", "").unwrap();
        }
        let (events, written) = (builder.events(), builder.written());
        let batch = builder.finish().batch;
        let length = |m: Message<'_>| m.routing_key.len() + m.entity_id.len() + m.body.len();
        assert_eq!((events, written), (2, batch.iter().map(length).sum()));
        let unused = 1_000 + 10 * TYPICAL_TEXT_BYTES;
        assert_eq!(batch.bytes(), unused + 10 * size_of::<Entry>());
        assert!(!batch.is_empty() && batch_of([]).is_empty());
        // Above a size, or where events are merged, what is not used is given back.
        for (bytes, events) in [(SHRINK_ABOVE + 1, 1), (1_000, 2)] {
            let mut builder = BatchBuilder::with_capacity(10, bytes);
            for _ in 0..events {
                let event = event("one", State::Ok);
                builder.push(&event, true, "", "").unwrap();
            }
            assert!(builder.finish().batch.bytes() < 1_000, "{events} events");
        }
    }

    #[test]
    fn one_joined_id_is_one_entity() {
        let event = |component, resource| {
            let names = ["c", "n", component, resource].map(|text| Name::new(text).unwrap());
            Event {
                names: Names::new(names).unwrap(),
                ..event("r", State::Major)
            }
        };
        assert_eq!(batch_of([event("c", "a/b"), event("b/c", "a")]).len(), 1);
        assert_eq!(batch_of([event("b", "a"), event("a", "b")]).len(), 2);
        let long = "é".repeat(10_000);
        let batch = batch_of([event("c", &long), event(&long, "c")]);
        assert_eq!(batch.len(), 2);
        let mut shown = batch.iter().map(|message| message.entity_id.len());
        assert!(shown.all(|length| length >= SHOWN_ID_BYTES - 1));
    }

    #[test]
    fn only_a_retry_has_the_same_identity() {
        let firing = |starts_at| ("r", State::Major, starts_at, NEVER);
        let resolved = ("r", State::Ok, "1", "2");
        let different = [
            identity(&[]),
            identity(&[firing("1")]),
            identity(&[resolved]),
            identity(&[firing("3")]),
            identity(&[("s", State::Major, "1", NEVER)]),
            identity(&[firing("1"), resolved]),
            identity(&[resolved, firing("1")]),
        ];
        for (index, one) in different.iter().enumerate() {
            assert!(!different[index + 1..].contains(one), "{index}");
        }
        assert_eq!(different[1], identity(&[firing("1")]), "a retry");
    }

    #[test]
    fn an_event_above_the_limit_leaves_the_builder_as_it_was() {
        let mut builder = BatchBuilder::with_capacity(0, 0);
        builder.push(&event("r", State::Ok), true, "", "").unwrap();
        let written = builder.written();
        let mut empty = Vec::new();
        event("x", State::Ok).write_json(&mut empty).unwrap();
        let fits = "x".repeat(MAX_EVENT_BYTES - empty.len() + 1);
        let rejected = builder.push(&event(&format!("{fits}x"), State::Ok), true, "", "");
        assert!(matches!(rejected, Err(EventTooLarge)));
        assert_eq!(builder.written(), written);
        let event = event(&fits, State::Ok);
        builder.push(&event, true, "", "").unwrap();
        assert_eq!(builder.finish().batch.len(), 2);
    }
}
