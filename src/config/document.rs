//! The YAML file as a tree with the position of every value.
//!
//! `serde_yaml` tells a position only with an error. So the tree is built once, and the line of a key is found, when a
//! message needs it, by reading the file again with a visitor that fails on purpose at that key.

use std::fmt;

use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess,
    Visitor,
};
use serde_json::{Number, Value};

/// A value of the file. Maps keep their order and their duplicates, so that both can be talked about.
#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    /// null, a boolean, a number or a string
    Scalar(Value),
    /// a sequence
    List(Vec<Node>),
    /// a mapping; keys as they are written
    Map(Vec<(String, Node)>),
}

/// One step from a value to one inside it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    /// The n-th entry of a map (its key is kept for the message).
    Entry(usize, String),
    /// The n-th item of a list.
    Item(usize),
}

/// A file that is YAML. What it means is for others to say.
#[derive(Debug)]
pub struct Document {
    text: String,
    root: Node,
}

/// A file that is not YAML.
#[derive(Debug, PartialEq, Eq)]
pub struct SyntaxError {
    /// Counted from 1, where it is known.
    pub line: Option<usize>,
    /// What the parser says; never the text of the file.
    pub message: String,
}

impl Document {
    /// Reads the text; an empty one is an empty map.
    pub fn parse(text: String) -> Result<Self, SyntaxError> {
        // A byte order mark, as some editors on Windows write it.
        let text = text
            .strip_prefix('\u{feff}')
            .map(str::to_owned)
            .unwrap_or(text);
        let root = match Node::deserialize(serde_yaml::Deserializer::from_str(&text)) {
            Ok(Node::Scalar(Value::Null)) => Node::Map(Vec::new()),
            Ok(root) => root,
            Err(error) => {
                return Err(SyntaxError {
                    line: error.location().map(|location| location.line()),
                    message: explain(&error),
                });
            }
        };
        Ok(Self { text, root })
    }

    /// The whole file.
    pub fn root(&self) -> NodeRef<'_> {
        NodeRef {
            document: self,
            node: &self.root,
            steps: Vec::new(),
        }
    }
}

/// The parser's words without what it quotes of the file, which may be a secret.
fn explain(error: &serde_yaml::Error) -> String {
    let text = error.to_string();
    let words = text
        .split(['"', '`'])
        .next()
        .unwrap_or_default()
        .trim_end()
        .to_owned();
    if words.contains("cannot start any token") || words.contains("unknown anchor") {
        return words
            + "; a value that begins with a special character (@ % * & ! ` and others) must be quoted";
    }
    words
}

/// A place in a document: a value, and the way to it.
#[derive(Debug, Clone)]
pub struct NodeRef<'d> {
    document: &'d Document,
    /// The value.
    pub node: &'d Node,
    steps: Vec<Step>,
}

impl<'d> NodeRef<'d> {
    /// The value of the first entry with this key, unless it is null.
    pub fn get(&self, key: &str) -> Option<NodeRef<'d>> {
        self.entries()
            .into_iter()
            .find(|(name, at)| *name == key && *at.node != Node::Scalar(Value::Null))
            .map(|(_, at)| at)
    }

    /// The entries of a map, in their order; none for anything else.
    pub fn entries(&self) -> Vec<(&'d str, NodeRef<'d>)> {
        let Node::Map(entries) = self.node else {
            return Vec::new();
        };
        let entry = |(index, (key, node)): (usize, &'d (String, Node))| {
            (
                key.as_str(),
                self.inside(node, Step::Entry(index, key.clone())),
            )
        };
        entries.iter().enumerate().map(entry).collect()
    }

    /// The items of a list, in their order; none for anything else.
    pub fn items(&self) -> Vec<NodeRef<'d>> {
        let Node::List(items) = self.node else {
            return Vec::new();
        };
        items
            .iter()
            .enumerate()
            .map(|(index, node)| self.inside(node, Step::Item(index)))
            .collect()
    }

    fn inside(&self, node: &'d Node, step: Step) -> NodeRef<'d> {
        let mut steps = self.steps.clone();
        steps.push(step);
        NodeRef {
            document: self.document,
            node,
            steps,
        }
    }

    /// The line of the key (or the item), counted from 1.
    pub fn line(&self) -> Option<usize> {
        let Err(error) = self.probe(Goal::Line) else {
            return None;
        };
        error.location().map(|location| location.line())
    }

    /// A scalar as it is written (`1.10`, not 1.1); `None` for null, a list or a map.
    pub fn text(&self) -> Option<String> {
        match self.node {
            Node::Scalar(Value::String(text)) => Some(text.clone()),
            Node::Scalar(Value::Null) | Node::List(_) | Node::Map(_) => None,
            Node::Scalar(_) => self.probe(Goal::Text).ok().flatten(),
        }
    }

    fn probe(&self, goal: Goal) -> Result<Option<String>, serde_yaml::Error> {
        Probe {
            steps: &self.steps,
            goal,
        }
        .deserialize(serde_yaml::Deserializer::from_str(&self.document.text))
    }
}

impl fmt::Display for NodeRef<'_> {
    /// `http.listen`, `connector_name[2].value`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, step) in self.steps.iter().enumerate() {
            match step {
                Step::Entry(_, key) => {
                    f.write_str(if index == 0 { "" } else { "." })?;
                    // What stands behind a colon without a space is meant as a value, perhaps a secret one.
                    match key.split_once(':') {
                        None => f.write_str(key)?,
                        Some((key, _)) => write!(f, "{key}:…")?,
                    }
                }
                Step::Item(item) => write!(f, "[{item}]")?,
            }
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Build;
        impl<'de> Visitor<'de> for Build {
            type Value = Node;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a plain YAML value")
            }
            fn visit_unit<E>(self) -> Result<Node, E> {
                Ok(Node::Scalar(Value::Null))
            }
            fn visit_none<E>(self) -> Result<Node, E> {
                Ok(Node::Scalar(Value::Null))
            }
            fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
                Ok(Node::Scalar(Value::Bool(value)))
            }
            fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
                Ok(Node::Scalar(value.into()))
            }
            fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
                Ok(Node::Scalar(value.into()))
            }
            fn visit_i128<E>(self, value: i128) -> Result<Node, E> {
                Ok(Node::Scalar(Value::String(value.to_string())))
            }
            fn visit_u128<E>(self, value: u128) -> Result<Node, E> {
                Ok(Node::Scalar(Value::String(value.to_string())))
            }
            fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
                // Not-a-number and the infinities have no JSON form; their YAML spelling does.
                let number = Number::from_f64(value)
                    .map_or_else(|| Value::String(value.to_string()), Value::Number);
                Ok(Node::Scalar(number))
            }
            fn visit_str<E>(self, value: &str) -> Result<Node, E> {
                Ok(Node::Scalar(Value::String(value.to_owned())))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    items.push(item);
                }
                Ok(Node::List(items))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Node::Map(entries))
            }
        }
        deserializer.deserialize_any(Build)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Goal {
    /// Fail at the place, so that the error bears its line.
    Line,
    /// Read the scalar as text.
    Text,
}

/// Walks the steps, skipping everything beside them.
#[derive(Clone, Copy)]
struct Probe<'a> {
    steps: &'a [Step],
    goal: Goal,
}

impl<'de> DeserializeSeed<'de> for Probe<'_> {
    type Value = Option<String>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        if self.steps.is_empty() && self.goal == Goal::Text {
            return deserializer.deserialize_str(self);
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Probe<'_> {
    type Value = Option<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the same file as before")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
        match self.goal {
            Goal::Line => Err(E::custom("here")),
            Goal::Text => Ok(Some(text.to_owned())),
        }
    }

    fn visit_bool<E: serde::de::Error>(self, _: bool) -> Result<Self::Value, E> {
        Err(E::custom("here"))
    }

    fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<Self::Value, E> {
        Err(E::custom("here"))
    }

    fn visit_u64<E: serde::de::Error>(self, _: u64) -> Result<Self::Value, E> {
        Err(E::custom("here"))
    }

    fn visit_i128<E: serde::de::Error>(self, _: i128) -> Result<Self::Value, E> {
        Err(E::custom("here"))
    }

    fn visit_u128<E: serde::de::Error>(self, _: u128) -> Result<Self::Value, E> {
        Err(E::custom("here"))
    }

    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<Self::Value, E> {
        Err(E::custom("here"))
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Self::Value, E> {
        Err(E::custom("here"))
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<Self::Value, E> {
        Err(E::custom("here"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let Some((Step::Item(wanted), rest)) = self.steps.split_first() else {
            return Err(A::Error::custom("here"));
        };
        for _ in 0..*wanted {
            seq.next_element::<IgnoredAny>()?;
        }
        let found = seq
            .next_element_seed(Probe {
                steps: rest,
                ..self
            })?
            .flatten();
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(found)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let Some((Step::Entry(wanted, _), rest)) = self.steps.split_first() else {
            return Err(A::Error::custom("here"));
        };
        for _ in 0..*wanted {
            map.next_entry::<IgnoredAny, IgnoredAny>()?;
        }
        if rest.is_empty() && self.goal == Goal::Line {
            // The key's line, not its value's: a value may start a line later.
            map.next_key_seed(Probe { steps: &[], ..self })?;
            return Ok(None);
        }
        map.next_key::<IgnoredAny>()?;
        let found = map.next_value_seed(Probe {
            steps: rest,
            ..self
        })?;
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "a: 1\nhttp:\n  # a comment\n  listen: x\n  deep:\n    - p: 1\n      q: {r: 2,\n        s: 3.10}\n  \
                        'last': 4\nv: 1.10\nv:\n  second\n0x1f: yes\n";

    #[test]
    fn every_place_knows_its_line_and_its_text() {
        let document = Document::parse(TEXT.to_owned()).unwrap();
        let root = document.root();
        let at = |path: &str| {
            path.split('.')
                .fold(root.clone(), |at, key| match key.parse::<usize>() {
                    Ok(index) => at.items()[index].clone(),
                    Err(_) => at.get(key).unwrap(),
                })
        };
        for (path, line, text) in [
            ("a", 1, Some("1")),
            ("http", 2, None),
            ("http.listen", 4, Some("x")),
            ("http.deep", 5, None),
            ("http.deep.0", 6, None),
            ("http.deep.0.q", 7, None),
            ("http.deep.0.q.s", 8, Some("3.10")),
            ("http.last", 9, Some("4")),
            ("v", 10, Some("1.10")),
            ("0x1f", 13, Some("yes")),
        ] {
            assert_eq!(at(path).line(), Some(line), "{path}");
            assert_eq!(at(path).text().as_deref(), text, "{path}");
        }
        assert_eq!(at("http.deep.0.q.s").to_string(), "http.deep[0].q.s");
        let (key, second) = &root.entries()[3];
        assert_eq!(
            (*key, second.line(), second.text().as_deref()),
            ("v", Some(11), Some("second"))
        );
    }

    #[test]
    fn broken_yaml_tells_its_line_and_an_empty_file_is_an_empty_map() {
        assert_eq!(
            Document::parse("a: [1\nb: 2\n".to_owned())
                .unwrap_err()
                .line,
            Some(2)
        );
        assert!(Document::parse("a: 1\n---\nb: 2\n".to_owned()).is_err());
        assert!(
            Document::parse(String::new())
                .unwrap()
                .root()
                .entries()
                .is_empty()
        );
    }
}
