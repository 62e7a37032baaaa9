//! Builds the tree from what `serde_yaml` reads, within limits.

use std::convert::Infallible;
use std::fmt;

use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error as DeError, MapAccess, SeqAccess, Visitor,
};
use serde_json::{Number, Value};

use crate::error::{REASONS, ReadError, TOO_LARGE, position_at_end};
use crate::{Key, Node, Position, START};

/// The maximal depth of lists and mappings.
pub(crate) const MAX_DEPTH: usize = 32;
/// The maximal size of the tree. An alias counts as what it stands for: nested aliases grow exponentially.
const MAX_TREE_BYTES: usize = 8 << 20;
/// What a value counts besides its text; about its size in memory.
const VALUE_BYTES: usize = 80;
/// The maximal length of a key. Positions cost time by the length of the keys above them.
const MAX_KEY_BYTES: usize = 1024;

/// Reads a text as a tree: first without the texts of scalars and without positions, then along the result of the first read with
/// both.
pub(crate) fn read(text: &str, first_read: Option<&Node>) -> Result<Node, ReadError> {
    let mut budget = TreeBudget {
        bytes_left: MAX_TREE_BYTES,
        reason: None,
    };
    let seed = NodeSeed {
        budget: &mut budget,
        depth: 0,
        first_read,
    };
    let root = seed.deserialize(serde_yaml::Deserializer::from_str(text));
    root.map(|(_, root)| root).map_err(|error| {
        let message = error.to_string();
        let known = REASONS.iter().find(|(part, _)| message.contains(part));
        let reason = budget.reason.or(known.map(|(_, reason)| *reason));
        ReadError { error, reason }
    })
}

/// How much larger the tree may become.
struct TreeBudget {
    bytes_left: usize,
    /// Why reading failed, if a rule of this module is the reason.
    reason: Option<&'static str>,
}

impl TreeBudget {
    fn fail<E: DeError>(&mut self, reason: &'static str) -> E {
        self.reason = Some(reason);
        E::custom(reason)
    }

    fn charge<E: DeError>(&mut self, text: &str) -> Result<(), E> {
        let left = self.bytes_left.checked_sub(VALUE_BYTES + text.len());
        self.bytes_left = left.ok_or_else(|| self.fail(TOO_LARGE))?;
        Ok(())
    }
}

/// Builds a value of the tree, with the position of its first scalar.
struct NodeSeed<'l> {
    budget: &'l mut TreeBudget,
    depth: usize,
    /// The same value without texts and positions.
    first_read: Option<&'l Node>,
}

impl NodeSeed<'_> {
    fn scalar<E: DeError>(self, value: impl Into<Value>) -> Result<(Option<Position>, Node), E> {
        let value = value.into();
        self.budget.charge(value.as_str().unwrap_or_default())?;
        Ok((None, Node::Scalar(value, String::new())))
    }

    /// For the next value of a list or a mapping.
    fn inner<E: DeError>(&mut self, index: usize) -> Result<NodeSeed<'_>, E> {
        if self.depth == MAX_DEPTH {
            return Err(self.budget.fail("nested too deeply"));
        }
        let first_read = match self.first_read {
            Some(Node::List(items)) => items.get(index).map(|(_, node)| node),
            Some(Node::Map(entries)) => entries.get(index).map(|(_, node)| node),
            Some(Node::Scalar(..)) | None => None,
        };
        Ok(NodeSeed {
            budget: self.budget,
            depth: self.depth + 1,
            first_read,
        })
    }
}

impl<'de> DeserializeSeed<'de> for NodeSeed<'_> {
    type Value = (Option<Position>, Node);

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        let Some(Node::Scalar(value, _)) = self.first_read else {
            return deserializer.deserialize_any(self);
        };
        let (position, text) = read_scalar(deserializer)?;
        self.budget.charge(&text)?;
        Ok((position, Node::Scalar(value.clone(), text)))
    }
}

/// What JSON has no form for (integers beyond 64 bits, infinities, not-a-number) becomes a string.
macro_rules! visit_scalars {
    ($($visit:ident($value:ident: $type:ty) => $json:expr;)+) => {
        $(fn $visit<E: DeError>(self, $value: $type) -> Result<Self::Value, E> {
            self.scalar($json)
        })+
    };
}

impl<'de> Visitor<'de> for NodeSeed<'_> {
    type Value = (Option<Position>, Node);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    visit_scalars! {
        visit_bool(value: bool) => value;
        visit_i64(value: i64) => value;
        visit_u64(value: u64) => value;
        visit_i128(value: i128) => value.to_string();
        visit_u128(value: u128) => value.to_string();
        visit_f64(value: f64) => Number::from_f64(value).map_or_else(|| value.to_string().into(), Value::Number);
        visit_str(text: &str) => text;
    }

    fn visit_unit<E: DeError>(self) -> Result<Self::Value, E> {
        self.scalar(Value::Null)
    }

    fn visit_none<E: DeError>(self) -> Result<Self::Value, E> {
        self.scalar(Value::Null)
    }

    fn visit_enum<A: EnumAccess<'de>>(self, _: A) -> Result<Self::Value, A::Error> {
        Err(self
            .budget
            .fail("a value that begins with ! must be quoted"))
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<Self::Value, A::Error> {
        self.budget.charge("")?;
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(self.inner(items.len())?)? {
            items.push(item);
        }
        let position = items.first().and_then(|(position, _)| *position);
        Ok((position, Node::List(items)))
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Self::Value, A::Error> {
        self.budget.charge("")?;
        let mut entries: Vec<(Key, Node)> = Vec::new();
        while let Some(key) = map.next_key_seed(ReadKey)? {
            self.budget.charge(&key.text)?;
            if key.text.len() > MAX_KEY_BYTES {
                return Err(self.budget.fail("a key is longer than 1024 bytes"));
            }
            let (_, node) = map.next_value_seed(self.inner(entries.len())?)?;
            entries.push((key, node));
        }
        let position = entries.first().and_then(|(key, _)| key.position);
        Ok((position, Node::Map(entries)))
    }
}

struct ReadKey;

impl<'de> DeserializeSeed<'de> for ReadKey {
    type Value = Key;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Key, D::Error> {
        let (position, text) = read_scalar(deserializer)?;
        Ok(Key { text, position })
    }
}

/// A scalar as it is written, with its position: that of the error with which the visitor fails once it has the text.
fn read_scalar<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<(Option<Position>, String), D::Error> {
    let mut text = None;
    let Err(error) = deserializer.deserialize_str(FailWithText(&mut text));
    let Some(text) = text else {
        return Err(error);
    };
    // The type of the error is unknown here. Its message ends with the position, except at the start of the file.
    let position = position_at_end(&error.to_string()).unwrap_or(START);
    Ok((Some(position), text))
}

struct FailWithText<'t>(&'t mut Option<String>);

impl Visitor<'_> for FailWithText<'_> {
    type Value = Infallible;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a scalar")
    }

    fn visit_str<E: DeError>(self, text: &str) -> Result<Infallible, E> {
        *self.0 = Some(text.to_owned());
        Err(E::custom(""))
    }
}
