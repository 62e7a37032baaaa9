//! A YAML file as a tree of values, each as it is written, with its position. What the values mean is up to the caller.
//!
//! `serde_yaml` gives a position only with an error, and a scalar either with its type or as it is written. So the file is read
//! twice: for the tree, then along the tree for the rest. A reader with positions (such as `saphyr-parser`) would be a second YAML
//! parser beside `serde_yaml`, with other ideas of YAML 1.1.
//!
//! No input may take much time or memory, so size, depth and expanded aliases are limited.

#![forbid(unsafe_code)]
#![warn(clippy::unwrap_used, clippy::expect_used)]

use std::collections::HashSet;
use std::convert::Infallible;
use std::fmt;

use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error as DeError, MapAccess, SeqAccess, Visitor,
};
use serde_json::{Number, Value};

/// The maximal length of a file. `serde_yaml` takes up to 200 bytes of memory for each byte (`? ? ? …`).
pub const MAX_FILE_BYTES: usize = 1 << 20;
/// The maximal depth of lists and mappings.
const MAX_DEPTH: usize = 32;
/// The maximal size of the tree. An alias counts as what it stands for: nested aliases grow exponentially.
const MAX_TREE_BYTES: usize = 8 << 20;
/// What a value counts besides its text; about its size in memory.
const VALUE_BYTES: usize = 80;
/// The maximal length of a key. Positions cost time by the length of the keys above them.
const MAX_KEY_BYTES: usize = 1024;
/// The maximal number of lines that begin with %: libyaml compares all directives with each other.
const MAX_DIRECTIVES: usize = 16;
/// How much is read at once while the depth is unknown (see [`check_depth`]).
const DEPTH_STEP_BYTES: usize = 16 << 10;

/// The characters of a key in the path of a value.
const MAX_EXCERPT: usize = 96;

/// A place in the file, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The character in the line.
    pub column: usize,
}

const START: Position = Position { line: 1, column: 1 };

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
    position: Option<Position>,
}

/// Why a file is rejected. The message never quotes the file, which may hold a secret.
#[derive(Debug, PartialEq, Eq)]
pub struct SyntaxError {
    /// Where, as far as it is known.
    pub position: Option<Position>,
    /// What is wrong.
    pub message: String,
}

impl SyntaxError {
    fn new(position: Option<Position>, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { position, message }
    }
}

/// A file that is valid YAML.
#[derive(Debug)]
pub struct Document(Node);

impl Document {
    /// Parses a file; an empty one is an empty mapping.
    pub fn parse(text: &str) -> Result<Self, SyntaxError> {
        // Some editors on Windows write a byte order mark.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        if text.len() > MAX_FILE_BYTES {
            let message = format!("longer than {MAX_FILE_BYTES} bytes");
            return Err(SyntaxError::new(None, message));
        }
        if text.lines().filter(|line| line.starts_with('%')).count() > MAX_DIRECTIVES {
            let message = format!("more than {MAX_DIRECTIVES} lines begin with %");
            return Err(SyntaxError::new(None, message));
        }
        check_depth(text)?;
        let syntax_error = |error: ReadError| error.explain(text);
        let typed = read(text, None).map_err(syntax_error)?;
        if matches!(typed, Node::Scalar(Value::Null, _)) {
            return Ok(Self(Node::Map(Vec::new())));
        }
        let mut root = read(text, Some(&typed)).map_err(syntax_error)?;
        merge(&mut root)?;
        Ok(Self(root))
    }

    /// The whole file.
    pub fn root(&self) -> NodeRef<'_> {
        NodeRef {
            node: &self.0,
            position: None,
            path: String::new(),
        }
    }
}

/// Rejects a file whose flow collections (`[`, `{`) are nested too deeply, before libyaml reads it as a whole: libyaml takes time
/// by the square of the depth (100 kB of `{a: `: 2.5 s), and `serde_yaml` looks at the depth only afterwards.
///
/// So the beginning of the file is read first, up to a point where the depth may exceed the limit, then up to the next one.
fn check_depth(text: &str) -> Result<(), SyntaxError> {
    let (mut start, mut openers) = (0, 0);
    while text.len() - start > DEPTH_STEP_BYTES {
        let end = text.floor_char_boundary(start + DEPTH_STEP_BYTES);
        openers += text[start..end].matches(['[', '{']).count();
        if openers > MAX_DEPTH {
            let beginning = &text[..end];
            match read(beginning, None) {
                Err(error) if error.reason.is_some() => return Err(error.explain(beginning)),
                // The beginning of a valid file may be invalid.
                Ok(_) | Err(_) => openers = 0,
            }
        }
        start = end;
    }
    Ok(())
}

/// Why a text, perhaps only the beginning of the file, could not be read.
struct ReadError {
    error: serde_yaml::Error,
    /// Why no further text could make it valid; `None` where libyaml cannot parse it.
    reason: Option<&'static str>,
}

impl ReadError {
    fn explain(&self, text: &str) -> SyntaxError {
        let position = self.error.location().map(|at| Position {
            line: at.line(),
            column: at.column(),
        });
        if let Some(reason) = self.reason {
            return SyntaxError::new(position, reason);
        }
        let message = self.error.to_string();
        if let Some((_, context)) = message.split_once("while scanning a quoted scalar") {
            // The message has both the position where the text begins, unless it is the first one, and that of the file's end.
            let start = position_at_end(context).unwrap_or(START);
            return SyntaxError::new(Some(start), "the quotation mark has no closing one");
        }
        let character = |column: usize| text.lines().nth(position?.line - 1)?.chars().nth(column);
        let column = position.map_or(0, |position| position.column);
        let found = character(column.wrapping_sub(1));
        let before = character(column.wrapping_sub(2));
        SyntaxError::new(position, describe(&message, before, found))
    }
}

/// The message of libyaml, which never quotes the file, with a hint. `found` is the character at its position, `before` the one before.
fn describe(message: &str, before: Option<char>, found: Option<char>) -> String {
    let has = |part| message.contains(part);
    let start = match found {
        Some('\t') => None,
        found if has("cannot start any token") => found,
        _ if has("unknown anchor") || has("scanning an alias") => Some('*'),
        _ if has("scanning an anchor") => Some('&'),
        _ if has(" a tag") || has("tag handle") => Some('!'),
        _ => None,
    };
    let hint = match start {
        Some(start) => format!("; a value that begins with {start} must be quoted"),
        None if found == Some('\t') => "; indent with spaces, not with tabs".to_owned(),
        None if has("unknown escape character") => {
            "; within double quotes, write \\\\ for a backslash, or use single quotes".to_owned()
        }
        None if has("mapping values are not allowed") => {
            "; a value that contains a colon and a space must be quoted".to_owned()
        }
        None if has("did not find expected") && matches!(before, Some('\'' | '"')) => {
            "; the quoted text ends here: a quotation mark above is missing, or one within the text must be \
             doubled ('') or escaped (\\\")"
                .to_owned()
        }
        None if has("expected ',' or") => {
            "; within { } and [ ], a value that contains a colon, a comma or a bracket must be quoted".to_owned()
        }
        None => String::new(),
    };
    let message = message.split(" at line ").next().unwrap_or(message);
    format!("{message}{hint}")
}

const TOO_LARGE: &str = "too many values, or too many uses of large anchors";
/// Messages of `serde_yaml` that quote the file, and what to say instead.
const REASONS: [(&str, &str); 4] = [
    (
        "invalid type",
        "a key must be a scalar; a value that begins with {, such as {{ .Field }}, must be quoted",
    ),
    ("invalid value", "a value does not match its tag (!!)"),
    ("repetition limit", TOO_LARGE),
    ("more than one document", "more than one document (---)"),
];

/// Reads a text as a tree: first (`typed` is `None`) without the texts of scalars and without positions, then along the first tree
/// with both.
fn read(text: &str, typed: Option<&Node>) -> Result<Node, ReadError> {
    let mut budget = TreeBudget {
        bytes_left: MAX_TREE_BYTES,
        reason: None,
    };
    let seed = Build {
        budget: &mut budget,
        depth: 0,
        typed,
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
struct Build<'l> {
    budget: &'l mut TreeBudget,
    depth: usize,
    /// The same value without texts and positions.
    typed: Option<&'l Node>,
}

impl Build<'_> {
    fn scalar<E: DeError>(self, value: impl Into<Value>) -> Result<(Option<Position>, Node), E> {
        let value = value.into();
        self.budget.charge(value.as_str().unwrap_or_default())?;
        Ok((None, Node::Scalar(value, String::new())))
    }

    /// For the next value of a list or a mapping.
    fn inner<E: DeError>(&mut self, index: usize) -> Result<Build<'_>, E> {
        if self.depth == MAX_DEPTH {
            return Err(self.budget.fail("nested too deeply"));
        }
        let typed = match self.typed {
            Some(Node::List(items)) => items.get(index).map(|(_, node)| node),
            Some(Node::Map(entries)) => entries.get(index).map(|(_, node)| node),
            Some(Node::Scalar(..)) | None => None,
        };
        Ok(Build {
            budget: self.budget,
            depth: self.depth + 1,
            typed,
        })
    }
}

impl<'de> DeserializeSeed<'de> for Build<'_> {
    type Value = (Option<Position>, Node);

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        let Some(Node::Scalar(value, _)) = self.typed else {
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

impl<'de> Visitor<'de> for Build<'_> {
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

/// The position with which a message of `serde_yaml` ends.
fn position_at_end(message: &str) -> Option<Position> {
    let (_, end) = message.rsplit_once(" at line ")?;
    let (line, column) = end.split_once(" column ")?;
    let (line, column) = (line.parse().ok()?, column.parse().ok()?);
    Some(Position { line, column })
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

/// Resolves merge keys (`<<`) as YAML 1.1 does: a mapping's own keys come first, then those of earlier mappings.
fn merge(node: &mut Node) -> Result<(), SyntaxError> {
    let entries = match node {
        Node::Scalar(..) => return Ok(()),
        Node::List(items) => return items.iter_mut().try_for_each(|(_, node)| merge(node)),
        Node::Map(entries) => entries,
    };
    entries.iter_mut().try_for_each(|(_, node)| merge(node))?;
    let is_merge = |(key, _): &mut (Key, Node)| key.text == "<<";
    let sources: Vec<_> = entries.extract_if(.., is_merge).collect();
    let own = entries.iter().map(|(key, _)| key.text.clone());
    let mut seen: HashSet<String> = if sources.is_empty() {
        HashSet::new()
    } else {
        own.collect()
    };
    for (Key { position, .. }, source) in sources {
        let maps = match source {
            Node::List(items) => items.into_iter().map(|(_, item)| item).collect(),
            single => vec![single],
        };
        for map in maps {
            let Node::Map(merged) = map else {
                let message = "a merge key (<<) takes a mapping or a list of mappings";
                return Err(SyntaxError::new(position, message));
            };
            let new = merged
                .into_iter()
                .filter(|(key, _)| seen.insert(key.text.clone()));
            entries.extend(new);
        }
    }
    Ok(())
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

    /// The value is null, written or left out.
    pub fn is_null(&self) -> bool {
        matches!(self.node, Node::Scalar(Value::Null, _))
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

/// The beginning of a key, on one line.
fn excerpt(key: &str) -> String {
    let mut short: String = key.chars().take(MAX_EXCERPT).collect();
    if short.len() < key.len() {
        short.push('…');
    }
    let is_control = |c: &char| c.is_control();
    match short.chars().find(is_control) {
        Some(_) => short.escape_debug().collect(),
        None => short,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    }

    #[test]
    fn merge_keys_are_resolved_as_in_yaml_1_1() {
        // The example of https://yaml.org/type/merge.html.
        let text = "- &CENTER {x: 1, y: 2}\n- &LEFT {x: 0, y: 2}\n- &BIG {r: 10}\n- &SMALL {r: 1}\n\
                    - {x: 1, y: 2, r: 10}\n- {<<: *CENTER, r: 10}\n- {<<: [*CENTER, *BIG]}\n- {<<: [*BIG, *LEFT, *SMALL], x: 1}\n\
                    - {<<: {<<: *BIG, x: 1}, y: 2}\n";
        let document = Document::parse(text).unwrap();
        let sorted = |node: &NodeRef<'_>| {
            let mut entries: Vec<String> = node
                .entries()
                .iter()
                .map(|(key, value)| format!("{key}={}", value.text().unwrap()))
                .collect();
            entries.sort();
            entries
        };
        for item in &document.root().items()[4..] {
            assert_eq!(sorted(item), ["r=10", "x=1", "y=2"], "{}", item.path);
        }
        for (text, column) in [("{a: 1, <<: 2}", 8), ("{<<: [{}, 1]}", 2), ("{<<: }", 2)] {
            let error = Document::parse(text).unwrap_err();
            assert_eq!(error.position, Some(Position { line: 1, column }), "{text}");
            assert!(error.message.contains("merge key (<<)"), "{error:?}");
        }
    }

    #[test]
    fn invalid_yaml_is_reported_with_its_position_and_a_hint() {
        for (text, line, column, message) in [
            (
                "a: [1\nb: 2\n",
                2,
                2,
                "or ']'; within { } and [ ], a value that contains a colon, a comma",
            ),
            ("a: 1\n---\nb: 2\n", 0, 0, "more than one document"),
            (
                "a: !S3cret\n",
                1,
                4,
                "a value that begins with ! must be quoted",
            ),
            (
                "a: !S3cret!x\n",
                1,
                4,
                "a value that begins with ! must be quoted",
            ),
            (
                "a: !<x\n",
                1,
                7,
                "a value that begins with ! must be quoted",
            ),
            ("a: @x\n", 1, 4, "a value that begins with @ must be quoted"),
            ("a: `x\n", 1, 4, "a value that begins with ` must be quoted"),
            ("a: %x\n", 1, 4, "a value that begins with % must be quoted"),
            ("a: *x\n", 1, 4, "a value that begins with * must be quoted"),
            ("a: *\n", 1, 5, "a value that begins with * must be quoted"),
            (
                "a: & x\n",
                1,
                5,
                "a value that begins with & must be quoted",
            ),
            ("a:\n\tb: 1\n", 2, 1, "indent with spaces, not with tabs"),
            (
                "a:\n  b: 1\n\tc: 1\n",
                3,
                1,
                "indent with spaces, not with tabs",
            ),
            ("a: {{ .Field }}\n", 1, 5, "{{ .Field }}, must be quoted"),
            ("a: x: y\n", 1, 5, "a colon and a space must be quoted"),
            ("a: !!int x\n", 1, 4, "does not match its tag"),
            ("a: \"\\d\"\n", 1, 5, "write \\\\ for a backslash"),
            ("a: 'it's'\n", 1, 8, "the quoted text ends here"),
            ("a: [x, \"y\nb: \"z\"]\n", 2, 5, "the quoted text ends here"),
            // Not where the file ends.
            ("a: 1\nb: 'x\nc: y\n", 2, 4, "has no closing one"),
            ("a: [x, \"y\nb: z\n", 1, 8, "has no closing one"),
            ("a: 'x\n--- \n", 1, 4, "has no closing one"),
            ("'a: x\nb: y\n", 1, 1, "has no closing one"),
        ] {
            let error = Document::parse(text).unwrap_err();
            let position = (line > 0).then_some(Position { line, column });
            assert_eq!(error.position, position, "{text:?}: {error:?}");
            assert!(error.message.contains(message), "{text:?}: {error:?}");
        }
        assert!(Document::parse("").unwrap().root().entries().is_empty());
    }

    /// Copies of a text, up to a number of bytes.
    fn fill(text: &str, bytes: usize) -> String {
        text.repeat(bytes / text.len())
    }

    #[test]
    fn no_file_takes_much_time_or_memory() {
        const FILE: usize = 40_000;
        let aliases = |count: usize| {
            let level =
                |n: usize| format!("a{n}: &a{n} [{}]\n", fill(&format!("*a{},", n - 1), count));
            format!(
                "a0: &a0 [x]\n{}",
                (1..30).map(level).collect::<Vec<String>>().concat()
            )
        };
        let directives = (0..FILE / 18)
            .map(|n| format!("%TAG !a{n}! x\n"))
            .collect::<Vec<String>>()
            .concat();
        let (deep, large) = ("nested too deeply", TOO_LARGE);
        for (text, message) in [
            (fill("[", FILE), deep),
            (fill("{a: ", FILE), deep),
            (fill("- ", FILE), deep),
            (fill("{'}': ", FILE), deep),
            (fill("{[", FILE), "a key must be a scalar"),
            (fill("? ", FILE), "a key must be a scalar"),
            // Only the end of the file is deep, or a second document.
            (
                format!(
                    "a: \"{}\"\nb: {}",
                    fill("[", FILE / 2),
                    fill("{a: ", FILE / 2)
                ),
                deep,
            ),
            (
                format!("a: 1\n---\n{}", fill("{a: ", FILE)),
                "more than one document",
            ),
            (
                format!("{}\nb: {}", aliases(12), fill("{a: ", FILE / 2)),
                large,
            ),
            ("&a [*a, *a]".to_owned(), deep),
            ("&a {b: *a, c: *a}".to_owned(), deep),
            (aliases(36), large),
            (
                format!(
                    "- &a [{}]\n{}",
                    fill("1,", FILE / 2),
                    fill("- *a\n", FILE / 2)
                ),
                large,
            ),
            (
                format!(
                    "a: &a {}\n{}",
                    fill("x", FILE / 2),
                    fill("b: *a\n", FILE / 2)
                ),
                large,
            ),
            // A number whose text is long.
            (
                format!(
                    "- &a 1.{}\n{}",
                    fill("0", FILE / 2),
                    fill("- *a\n", FILE / 2)
                ),
                large,
            ),
            (format!("? {}\n: 1", fill("k", FILE)), "a key is longer"),
            (directives + "--- 1", "lines begin with %"),
            (fill("x", MAX_FILE_BYTES + 1), "longer than"),
        ] {
            let start: String = text.chars().take(40).collect();
            let error = Document::parse(&text).map(drop).expect_err(&start);
            assert!(error.message.contains(message), "{start}: {error:?}");
        }
        // libyaml does not read a deep end of the file.
        let late = format!("{}a: {}", fill("# x\n", FILE / 2), fill("{a: ", FILE / 2));
        assert_eq!(check_depth(&late).unwrap_err().message, deep);
        // Brackets in strings are not nested.
        let quoted = format!("a: \"{}\"\nb: [[1]]\n", fill("[", FILE / 2));
        Document::parse(&quoted).unwrap();
        // A large lookup table is valid.
        let table = (0..30_000)
            .map(|n| format!("host-{n:05}: [team]\n"))
            .collect::<Vec<String>>()
            .concat();
        assert_eq!(
            Document::parse(&table).unwrap().root().entries().len(),
            30_000
        );
    }
}
