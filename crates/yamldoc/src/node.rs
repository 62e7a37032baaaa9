//! The tree: values with their texts, positions and paths.

use std::collections::HashSet;
use std::fmt;

use serde_json::Value;

/// The characters of a key in the path of a value.
const MAX_EXCERPT: usize = 96;
/// The most duplicate keys that are found.
pub const MAX_DUPLICATES: usize = 1000;

/// A place in the file, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The character in the line.
    pub column: usize,
}

/// The start of the file.
pub(crate) const START: Position = Position { line: 1, column: 1 };

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

/// A value of the file.
#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    /// Null, a boolean, a number or a string; and its text as written (`1.10`, not 1.1).
    Scalar(Value, String),
    /// A sequence.
    List(Vec<(Option<Position>, Node)>),
    /// A mapping, in the order of the file, with duplicate keys.
    Map(Vec<(Key, Node)>),
}

/// A key of a mapping.
#[derive(Debug, Clone, PartialEq)]
pub struct Key {
    /// As it is written.
    pub text: String,
    pub(crate) position: Option<Position>,
}

/// A value of a document, with its path and its position.
#[derive(Debug, Clone)]
pub struct NodeRef<'d> {
    /// The value.
    pub node: &'d Node,
    /// That of its key or, in a list, of its first scalar. `None` where there is none.
    pub position: Option<Position>,
    /// Such as `http.listen` and `connector_name[2].value`; empty for the whole file.
    pub path: String,
}

impl<'d> NodeRef<'d> {
    /// The value of the first entry with this key, unless it is null.
    pub fn get(&self, key: &str) -> Option<NodeRef<'d>> {
        let Node::Map(entries) = self.node else {
            return None;
        };
        let (key, node) = entries.iter().find(|(known, node)| {
            known.text == key && !matches!(node, Node::Scalar(Value::Null, _))
        })?;
        Some(self.entry(key, node))
    }

    /// The entries of a mapping; none of another value.
    pub fn entries(&self) -> Vec<(&'d str, NodeRef<'d>)> {
        let Node::Map(entries) = self.node else {
            return Vec::new();
        };
        let entry = |(key, node): &'d (Key, Node)| (key.text.as_str(), self.entry(key, node));
        entries.iter().map(entry).collect()
    }

    /// The items of a list; none of another value.
    pub fn items(&self) -> Vec<NodeRef<'d>> {
        let Node::List(items) = self.node else {
            return Vec::new();
        };
        let item = |(index, (position, node)): (usize, &'d (Option<Position>, Node))| NodeRef {
            node,
            position: position.or(self.position),
            path: format!("{}[{index}]", self.path),
        };
        items.iter().enumerate().map(item).collect()
    }

    /// The entries below this value whose key an earlier entry of the same mapping has; at most [`MAX_DUPLICATES`].
    pub fn duplicates(&self) -> Vec<NodeRef<'d>> {
        let mut found = Vec::new();
        self.find_duplicates(&mut found);
        found
    }

    /// One value at a time: together, their paths may take more memory than the tree.
    fn find_duplicates(&self, found: &mut Vec<NodeRef<'d>>) {
        if let Node::List(_) = self.node {
            for item in self.items() {
                item.find_duplicates(found);
            }
        }
        let Node::Map(entries) = self.node else {
            return;
        };
        let mut seen = HashSet::new();
        for (key, node) in entries {
            let is_duplicate = !seen.insert(&key.text);
            if found.len() == MAX_DUPLICATES {
                return;
            }
            if is_duplicate {
                found.push(self.entry(key, node));
            }
            if !matches!(node, Node::Scalar(..)) {
                self.entry(key, node).find_duplicates(found);
            }
        }
    }

    /// A scalar as it is written; `None` for null, a list or a mapping.
    pub fn text(&self) -> Option<&'d str> {
        match self.node {
            Node::Scalar(Value::Null, _) | Node::List(_) | Node::Map(_) => None,
            Node::Scalar(_, text) => Some(text),
        }
    }

    fn entry(&self, key: &Key, node: &'d Node) -> NodeRef<'d> {
        let dot = if self.path.is_empty() { "" } else { "." };
        // Without a space after the colon, the value belongs to the key; it may be a secret.
        let key_text = match key.text.split_once(':') {
            None => excerpt(&key.text),
            Some((start, _)) => format!("{}:…", excerpt(start)),
        };
        NodeRef {
            node,
            position: key.position,
            path: format!("{}{dot}{key_text}", self.path),
        }
    }
}

/// The beginning of a key.
fn excerpt(key: &str) -> String {
    let mut short: String = key.chars().take(MAX_EXCERPT).collect();
    if short.len() < key.len() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Document;

    const TEXT: &str = "a: 1\nhttp:\n  # a comment\n  listen: x\n  deep:\n    - p: 1\n      q: {r: 2,\n        s: 3.10}\n  \
                        'last': 4\nv: 1.10\nv:\n  second\n0x1f: yes\nlist: [[1, é, 0x1F], {}, true]\n";

    fn at<'d>(root: &NodeRef<'d>, path: &str) -> NodeRef<'d> {
        path.split('.')
            .fold(root.clone(), |at, key| match key.parse::<usize>() {
                Ok(index) => at.items()[index].clone(),
                Err(_) => at.get(key).unwrap(),
            })
    }

    #[test]
    fn every_value_has_its_position_and_its_text() {
        let document = Document::parse(TEXT).unwrap();
        let root = document.root();
        for (path, line, column, text) in [
            ("a", 1, 1, Some("1")),
            ("http", 2, 1, None),
            ("http.listen", 4, 3, Some("x")),
            ("http.deep", 5, 3, None),
            ("http.deep.0", 6, 7, None),
            ("http.deep.0.q", 7, 7, None),
            ("http.deep.0.q.s", 8, 9, Some("3.10")),
            ("http.last", 9, 3, Some("4")),
            ("v", 10, 1, Some("1.10")),
            ("0x1f", 13, 1, Some("yes")),
            ("list.0", 14, 9, None),
            ("list.0.2", 14, 15, Some("0x1F")),
            ("list.1", 14, 1, None),
            ("list.2", 14, 26, Some("true")),
        ] {
            let at = at(&root, path);
            assert_eq!(at.position, Some(Position { line, column }), "{path}");
            assert_eq!(at.text(), text, "{path}");
        }
        assert_eq!(at(&root, "http.deep.0.q.s").path, "http.deep[0].q.s");
        let (key, second) = &root.entries()[3];
        let position = Some(Position {
            line: 11,
            column: 1,
        });
        assert_eq!(
            (*key, second.position, second.text()),
            ("v", position, Some("second"))
        );
        let numbers = at(&root, "list.0").items();
        assert!(
            matches!(numbers[2].node, Node::Scalar(Value::Number(n), _) if n.as_u64() == Some(31))
        );
        let duplicates = root.duplicates();
        let paths: Vec<&str> = duplicates.iter().map(|node| &*node.path).collect();
        assert_eq!((paths, duplicates[0].position), (vec!["v"], position));
    }
}
