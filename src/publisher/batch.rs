//! The encoded events of one notification, in one buffer: a few large allocations instead of many small ones.

use crate::event::Event;

/// A batch above this, in bytes, gives back its unused capacity: it may wait for the broker for a while.
const SHRINK_ABOVE: usize = 64 << 10;

/// For the first allocation only.
const TYPICAL_KEY_BYTES: usize = 64;

/// Messages in order, ready to be published.
#[derive(Debug, Default)]
pub struct Batch {
    bodies: Vec<u8>,
    keys: String,
    /// The end of each message's body and routing key.
    ends: Vec<(usize, usize)>,
}

/// One message of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'b> {
    /// At most 255 bytes.
    pub routing_key: &'b str,
    /// The event's JSON.
    pub body: &'b [u8],
}

impl Batch {
    /// Allocates for `messages` messages, whose bodies have about `bytes` bytes in sum.
    pub fn with_capacity(messages: usize, bytes: usize) -> Self {
        let keys = String::with_capacity(messages * TYPICAL_KEY_BYTES);
        Self {
            bodies: Vec::with_capacity(bytes),
            keys,
            ends: Vec::with_capacity(messages),
        }
    }

    /// Encodes an event and appends it.
    pub fn push(&mut self, event: &Event<'_>) -> Result<(), serde_json::Error> {
        let start = self.bodies.len();
        event
            .write_json(&mut self.bodies)
            .inspect_err(|_| self.bodies.truncate(start))?;
        event.write_routing_key(&mut self.keys);
        self.ends.push((self.bodies.len(), self.keys.len()));
        Ok(())
    }

    /// To be called after the last event.
    pub fn finish(&mut self) {
        if self.bytes() > SHRINK_ABOVE {
            self.bodies.shrink_to_fit();
            self.keys.shrink_to_fit();
            self.ends.shrink_to_fit();
        }
    }

    /// The message at `index`.
    pub fn get(&self, index: usize) -> Option<Message<'_>> {
        let (body_end, key_end) = *self.ends.get(index)?;
        let (body_start, key_start) = index
            .checked_sub(1)
            .map_or((0, 0), |previous| self.ends[previous]);
        Some(Message {
            routing_key: &self.keys[key_start..key_end],
            body: &self.bodies[body_start..body_end],
        })
    }

    /// All messages, in order.
    pub fn iter(&self) -> impl Iterator<Item = Message<'_>> {
        (0..self.len()).filter_map(|index| self.get(index))
    }

    /// The number of messages.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// There are no messages.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The bytes of all bodies and routing keys.
    pub fn written(&self) -> usize {
        self.bodies.len() + self.keys.len()
    }

    /// The bytes allocated.
    pub fn bytes(&self) -> usize {
        self.bodies.capacity()
            + self.keys.capacity()
            + self.ends.capacity() * size_of::<(usize, usize)>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Name, State};

    #[test]
    fn each_message_is_found_by_its_index() {
        let mut batch = Batch::default();
        assert!(batch.is_empty() && batch.get(0).is_none());
        let names = ["one", "zwei", "三"];
        let name = |text| Name::new(text).unwrap();
        for resource in names {
            let event = Event {
                connector: name("c"),
                connector_name: name("n"),
                component: name("host"),
                resource: name(resource),
                state: State::Ok,
                output: None,
                long_output: None,
                author: None,
                timestamp: None,
                tags: None,
                extra: Vec::new(),
            };
            batch.push(&event).unwrap();
        }
        batch.finish();
        assert_eq!(batch.iter().count(), 3);
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
    fn a_large_batch_gives_back_unused_capacity() {
        let mut batch = Batch::with_capacity(10_000, 1 << 20);
        assert!(batch.bytes() > 1 << 20);
        batch.finish();
        assert_eq!(batch.bytes(), 0);
    }
}
