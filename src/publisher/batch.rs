//! The encoded events of one notification, in one buffer: a few large allocations instead of many small ones.

use std::hash::{BuildHasher, DefaultHasher, Hash, Hasher, RandomState};
use std::io::{self, Write};
use std::sync::LazyLock;

use crate::event::{Event, MAX_EVENT_BYTES, SharedEntity, State, worst_state_last};

/// A batch above this, in bytes, gives back its unused capacity: it may wait for the broker for a while.
const SHRINK_ABOVE: usize = 64 << 10;

/// For the first allocation only.
const TYPICAL_KEY_BYTES: usize = 64;

/// The random keys of this process: a sender can't construct colliding hashes.
static HASH_KEYS: LazyLock<[RandomState; 2]> =
    LazyLock::new(|| [RandomState::new(), RandomState::new()]);

/// What Canopsis attaches an alarm to, component and resource, as a keyed hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Entity(pub u64);

/// A notification as a keyed hash over its events and their alerts' times: the same for a retry, and another one for a
/// later occurrence of the same alerts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity(pub [u64; 2]);

/// Why an event is not part of a batch.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// The encoded event, or the whole batch, exceeds its limit.
    #[error("the event is larger than {} KiB", MAX_EVENT_BYTES >> 10)]
    TooLarge,
    /// The encoder failed.
    #[error("cannot encode the event: {0}")]
    Json(serde_json::Error),
}

/// Messages in order, ready to be published.
#[derive(Debug, Clone)]
pub struct Batch {
    bodies: Vec<u8>,
    keys: String,
    entries: Vec<Entry>,
    /// Over entities and times; [`Batch::identity`] adds the bodies.
    hasher: DefaultHasher,
}

/// Where a message is in the buffers: reordering moves entries, and no bytes.
#[derive(Debug, Clone, Copy)]
struct Entry {
    body_start: u32,
    /// At most [`MAX_EVENT_BYTES`].
    body_len: u32,
    key_start: u32,
    /// At most 255 bytes.
    key_len: u8,
    state: State,
    entity: Entity,
}

/// One message of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'b> {
    /// At most 255 bytes.
    pub routing_key: &'b str,
    /// The event's JSON.
    pub body: &'b [u8],
}

impl Default for Batch {
    fn default() -> Self {
        Self::with_capacity(0, 0)
    }
}

impl Batch {
    /// Allocates for `messages` messages, whose bodies have about `bytes` bytes in sum.
    pub fn with_capacity(messages: usize, bytes: usize) -> Self {
        Self {
            bodies: Vec::with_capacity(bytes),
            keys: String::with_capacity(messages * TYPICAL_KEY_BYTES),
            entries: Vec::with_capacity(messages),
            hasher: HASH_KEYS[0].build_hasher(),
        }
    }

    /// Encodes an event and appends it; after an error the batch is as before. The times are its alert's `startsAt` and
    /// `endsAt`.
    pub fn push(
        &mut self,
        event: &Event<'_>,
        starts_at: &str,
        ends_at: &str,
    ) -> Result<(), EncodeError> {
        let start = self.bodies.len();
        let mut writer = LimitedWriter {
            bytes: &mut self.bodies,
            limit: start + MAX_EVENT_BYTES,
        };
        if let Err(error) = event.write_json(&mut writer) {
            self.bodies.truncate(start);
            return Err(if error.is_io() {
                EncodeError::TooLarge
            } else {
                EncodeError::Json(error)
            });
        }
        let key_start = self.keys.len();
        event.write_routing_key(&mut self.keys);
        let Some(entry) = self.last_entry(event, start, key_start) else {
            self.bodies.truncate(start);
            self.keys.truncate(key_start);
            return Err(EncodeError::TooLarge);
        };
        (entry.entity, starts_at, ends_at).hash(&mut self.hasher);
        self.entries.push(entry);
        Ok(())
    }

    /// For the event that ends both buffers. `None` if they are too long.
    fn last_entry(&self, event: &Event<'_>, start: usize, key_start: usize) -> Option<Entry> {
        let names = (event.component.as_str(), event.resource.as_str());
        Some(Entry {
            body_start: start.try_into().ok()?,
            body_len: (self.bodies.len() - start).try_into().ok()?,
            key_start: key_start.try_into().ok()?,
            key_len: (self.keys.len() - key_start).try_into().ok()?,
            state: event.state,
            entity: Entity(HASH_KEYS[1].hash_one(names)),
        })
    }

    /// To be called after the last event: puts the events of each entity into ascending order of state, and returns the
    /// entities of several events.
    pub fn finish(&mut self) -> Vec<SharedEntity> {
        if self.bytes() > SHRINK_ABOVE {
            self.bodies.shrink_to_fit();
            self.keys.shrink_to_fit();
            self.entries.shrink_to_fit();
        }
        worst_state_last(&mut self.entries, |entry| entry.entity, |entry| entry.state)
    }

    /// The message at `index`.
    pub fn get(&self, index: usize) -> Option<Message<'_>> {
        let entry = self.entries.get(index)?;
        let (body_start, key_start) = (entry.body_start as usize, entry.key_start as usize);
        Some(Message {
            routing_key: &self.keys[key_start..key_start + usize::from(entry.key_len)],
            body: &self.bodies[body_start..body_start + entry.body_len as usize],
        })
    }

    /// The entity of the message at `index`.
    pub fn entity(&self, index: usize) -> Option<Entity> {
        self.entries.get(index).map(|entry| entry.entity)
    }

    /// The state of the event at `index`.
    pub fn state(&self, index: usize) -> Option<State> {
        self.entries.get(index).map(|entry| entry.state)
    }

    /// Two halves: one over entities and times in the order of [`Batch::push`], one over the bodies and where each starts.
    pub fn identity(&self) -> Identity {
        let mut bodies = HASH_KEYS[1].build_hasher();
        bodies.write(&self.bodies);
        for entry in &self.entries {
            bodies.write_u32(entry.body_start);
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

    /// The bytes of all bodies and routing keys.
    pub fn written(&self) -> usize {
        self.bodies.len() + self.keys.len()
    }

    /// The bytes allocated.
    pub fn bytes(&self) -> usize {
        self.bodies.capacity() + self.keys.capacity() + self.entries.capacity() * size_of::<Entry>()
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
    use crate::event::{Name, State};

    const NEVER: &str = "0001-01-01T00:00:00Z";

    pub fn event(resource: &str, state: State) -> Event<'_> {
        let name = |text| Name::new(text).unwrap();
        Event {
            connector: name("c"),
            connector_name: name("n"),
            component: name("host"),
            resource: name(resource),
            state,
            output: None,
            long_output: None,
            author: None,
            timestamp: None,
            tags: None,
            extra: Vec::new(),
        }
    }

    fn batch(events: &[(&str, State, &str, &str)]) -> Batch {
        let mut batch = Batch::default();
        for (resource, state, starts_at, ends_at) in events {
            batch
                .push(&event(resource, *state), starts_at, ends_at)
                .unwrap();
        }
        batch.finish();
        batch
    }

    #[test]
    fn each_message_is_found_by_its_index() {
        let names = ["one", "zwei", "三"];
        let batch = batch(&names.map(|name| (name, State::Ok, "", "")));
        assert_eq!(batch.iter().count(), 3);
        assert!(batch.get(3).is_none() && batch.entity(3).is_none());
        for (message, name) in batch.iter().zip(names) {
            assert_eq!(
                message.routing_key,
                format!("c.n.check.resource.host.{name}")
            );
            let event: serde_json::Value = serde_json::from_slice(message.body).unwrap();
            assert_eq!(event["resource"], name);
            assert_eq!(event["author"], "c.n");
        }
        let bytes: usize = batch
            .iter()
            .map(|message| message.routing_key.len() + message.body.len())
            .sum();
        assert_eq!(batch.written(), bytes);
        assert!(batch.bytes() >= bytes);
    }

    #[test]
    fn each_entity_ends_in_its_worst_state_and_a_retry_has_the_same_identity() {
        let firing = ("r", State::Critical, "1", NEVER);
        let resolved = ("r", State::Ok, "1", "2");
        let (one, two) = (("one", State::Major, "", ""), ("two", State::Ok, "", ""));
        let events = [firing, one, resolved, two];
        let mut reordered = Batch::default();
        for (resource, state, starts_at, ends_at) in events {
            reordered
                .push(&event(resource, state), starts_at, ends_at)
                .unwrap();
        }
        let shared = SharedEntity {
            first: 0,
            events: 2,
        };
        assert_eq!(reordered.finish(), [shared]);
        let published: Vec<(String, u64)> = reordered
            .iter()
            .map(|message| {
                let event: serde_json::Value = serde_json::from_slice(message.body).unwrap();
                let resource = event["resource"].as_str().unwrap().to_owned();
                assert!(message.routing_key.ends_with(&format!(".{resource}")));
                (resource, event["state"].as_u64().unwrap())
            })
            .collect();
        let expected = [("r", 0), ("one", 2), ("r", 3), ("two", 0)];
        assert_eq!(
            published,
            expected.map(|(resource, state)| (resource.to_owned(), state))
        );
        assert_eq!(reordered.entity(0), reordered.entity(2));
        assert_eq!(reordered.identity(), batch(&events).identity());
        assert!(batch(&[firing, one]).finish().is_empty());
    }

    #[test]
    fn a_large_batch_gives_back_unused_capacity() {
        let mut batch = Batch::with_capacity(10_000, 1 << 20);
        assert!(batch.bytes() > 1 << 20);
        batch.finish();
        assert_eq!(batch.bytes(), 0);
    }

    #[test]
    fn only_a_retry_has_the_same_identity() {
        let firing = |starts_at| ("r", State::Major, starts_at, NEVER);
        let resolved = ("r", State::Ok, "1", "2");
        let different = [
            batch(&[]),
            batch(&[firing("1")]),
            batch(&[resolved]),
            batch(&[firing("3")]),
            batch(&[("s", State::Major, "1", NEVER)]),
            batch(&[firing("1"), resolved]),
            batch(&[resolved, firing("1")]),
        ];
        for (index, one) in different.iter().enumerate() {
            for other in &different[index + 1..] {
                assert_ne!(one.identity(), other.identity());
            }
        }
        assert_eq!(
            different[1].identity(),
            batch(&[firing("1")]).identity(),
            "a retry"
        );
        assert_eq!(different[1].entity(0), different[2].entity(0));
        assert_ne!(different[1].entity(0), different[4].entity(0));
    }

    #[test]
    fn an_event_above_the_limit_leaves_the_batch_as_it_was() {
        let mut batch = batch(&[("r", State::Ok, "", "")]);
        let (before, length) = (batch.identity(), batch.written());
        let resource = "x".repeat(MAX_EVENT_BYTES);
        let rejected = batch.push(&event(&resource, State::Ok), "", "");
        assert!(matches!(rejected, Err(EncodeError::TooLarge)));
        assert_eq!((batch.identity(), batch.written()), (before, length));
        let fits = "x".repeat(MAX_EVENT_BYTES - 1000);
        batch.push(&event(&fits, State::Ok), "", "").unwrap();
        assert_eq!(batch.len(), 2);
    }
}
