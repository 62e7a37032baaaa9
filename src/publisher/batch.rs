//! Messages that stand or fall `together`, encoded one behind the other: a few large pieces of memory instead of many small ones.

use crate::event::Event;

/// A batch above this gives back the room that it does not use. In bytes.
const LARGE: usize = 64 << 10;

/// Messages in their order, ready to be published.
#[derive(Debug, Default)]
pub struct Batch {
    bodies: Vec<u8>,
    keys: String,
    /// Where each message's body and routing key end.
    ends: Vec<(usize, usize)>,
}

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'b> {
    /// At most 255 bytes.
    pub routing_key: &'b str,
    /// The event's JSON.
    pub body: &'b [u8],
}

impl Batch {
    /// With room for so many messages, whose bodies have about so many bytes `together`.
    pub fn with_capacity(messages: usize, bytes: usize) -> Self {
        // A routing key is short: the names in it are in the body, too.
        let keys = String::with_capacity(messages * 64);
        Self {
            bodies: Vec::with_capacity(bytes),
            keys,
            ends: Vec::with_capacity(messages),
        }
    }

    /// Encodes an event behind the others.
    pub fn push(&mut self, event: &Event<'_>) -> Result<(), serde_json::Error> {
        let start = self.bodies.len();
        serde_json::to_writer(&mut self.bodies, event)
            .inspect_err(|_| self.bodies.truncate(start))?;
        event.write_routing_key(&mut self.keys);
        self.ends.push((self.bodies.len(), self.keys.len()));
        Ok(())
    }

    /// To be called when the last one is in: it may wait for its broker for a while.
    pub fn finish(&mut self) {
        if self.bytes() > LARGE {
            self.bodies.shrink_to_fit();
            self.keys.shrink_to_fit();
            self.ends.shrink_to_fit();
        }
    }

    /// A message by its place.
    pub fn get(&self, index: usize) -> Option<Message<'_>> {
        let (body_end, key_end) = *self.ends.get(index)?;
        let (body_start, key_start) = index
            .checked_sub(1)
            .map_or((0, 0), |before| self.ends[before]);
        Some(Message {
            routing_key: &self.keys[key_start..key_end],
            body: &self.bodies[body_start..body_end],
        })
    }

    /// All messages, in order.
    pub fn iter(&self) -> impl Iterator<Item = Message<'_>> {
        (0..self.len()).filter_map(|index| self.get(index))
    }

    /// How many messages there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// What has been written, in bytes.
    pub fn written(&self) -> usize {
        self.bodies.len() + self.keys.len()
    }

    /// What it takes, in bytes, with room that is not used.
    pub fn bytes(&self) -> usize {
        self.bodies.capacity()
            + self.keys.capacity()
            + self.ends.capacity() * size_of::<(usize, usize)>()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::event::{Name, State};

    #[test]
    fn each_message_is_found_again() {
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
                extra: BTreeMap::new(),
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
    fn a_large_one_gives_back_what_it_does_not_use() {
        let mut batch = Batch::with_capacity(10_000, 1 << 20);
        assert!(batch.bytes() > 1 << 20);
        batch.finish();
        assert_eq!(batch.bytes(), 0);
    }
}
