#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![warn(clippy::unwrap_used, clippy::expect_used)]

mod error;
mod merge;
mod node;
mod read;

pub use error::SyntaxError;
pub use node::{Key, MAX_DUPLICATES, Node, NodeRef, Position};

use error::ReadError;
use node::START;
use read::{MAX_DEPTH, read};
use serde_json::Value;

/// The maximal length of a file. `serde_yaml` takes up to 200 bytes of memory for each byte (`? ? ? …`).
pub const MAX_FILE_BYTES: usize = 1 << 20;
/// The maximal number of lines that begin with %: libyaml compares all directives with each other.
const MAX_DIRECTIVES: usize = 16;
/// How much is read at once while the depth is unknown (see [`check_depth`]).
const DEPTH_STEP_BYTES: usize = 16 << 10;

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
        check_characters(text)?;
        check_depth(text)?;
        let syntax_error = |error: ReadError| error.explain(text);
        let first_read = read(text, None).map_err(syntax_error)?;
        if matches!(first_read, Node::Scalar(Value::Null, _)) {
            return Ok(Self(Node::Map(Vec::new())));
        }
        let mut root = read(text, Some(&first_read)).map_err(syntax_error)?;
        merge::merge(&mut root)?;
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

/// Rejects control characters, as libyaml does, with their position.
fn check_characters(text: &str) -> Result<(), SyntaxError> {
    let is_invalid = |c: char| c.is_control() && !matches!(c, '\t' | '\n' | '\r' | '\u{85}');
    let Some(at) = text.find(is_invalid) else {
        return Ok(());
    };
    let (before, after) = text.split_at(at);
    let line = before.rsplit('\n').next().unwrap_or_default();
    let position = Position {
        line: before.matches('\n').count() + 1,
        column: line.chars().count() + 1,
    };
    let c = after.chars().next().unwrap_or_default().escape_default();
    let message =
        format!("the control character {c} is not allowed; write it as an escape in double quotes");
    Err(SyntaxError::new(Some(position), message))
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

#[cfg(test)]
mod tests {
    use super::*;
    use error::TOO_LARGE;

    /// Copies of a text, up to a number of bytes.
    fn fill(text: &str, bytes: usize) -> String {
        text.repeat(bytes / text.len())
    }

    #[test]
    fn no_file_takes_much_time_or_memory() {
        const FILE: usize = 40_000;
        let half = |text: &str| fill(text, FILE / 2);
        let aliases = |count: usize| {
            let level = |n: usize| {
                let items = fill(&format!("*a{},", n - 1), count);
                format!("a{n}: &a{n} [{items}]\n")
            };
            let levels: Vec<String> = (1..30).map(level).collect();
            format!("a0: &a0 [x]\n{}", levels.concat())
        };
        let directives: Vec<String> = (0..FILE / 18).map(|n| format!("%TAG !a{n}! x\n")).collect();
        let (deep, large) = ("nested too deeply", TOO_LARGE);
        for (text, message) in [
            (fill("[", FILE), deep),
            (fill("{a: ", FILE), deep),
            (fill("- ", FILE), deep),
            (fill("{'}': ", FILE), deep),
            (fill("{[", FILE), "a key must be a scalar"),
            (fill("? ", FILE), "a key must be a scalar"),
            // Only the end of the file is deep, or a second document.
            (format!("a: \"{}\"\nb: {}", half("["), half("{a: ")), deep),
            (
                format!("a: 1\n---\n{}", fill("{a: ", FILE)),
                "more than one document",
            ),
            (format!("{}\nb: {}", aliases(12), half("{a: ")), large),
            ("&a [*a, *a]".to_owned(), deep),
            ("&a {b: *a, c: *a}".to_owned(), deep),
            (aliases(36), large),
            (format!("- &a [{}]\n{}", half("1,"), half("- *a\n")), large),
            (format!("a: &a {}\n{}", half("x"), half("b: *a\n")), large),
            // A number whose text is long.
            (format!("- &a 1.{}\n{}", half("0"), half("- *a\n")), large),
            (format!("? {}\n: 1", fill("k", FILE)), "a key is longer"),
            (directives.concat() + "--- 1", "lines begin with %"),
            (fill("x", MAX_FILE_BYTES + 1), "longer than"),
        ] {
            let start: String = text.chars().take(40).collect();
            let error = Document::parse(&text).map(drop).expect_err(&start);
            assert!(error.message.contains(message), "{start}: {error:?}");
        }
        // libyaml does not read a deep end of the file.
        let late = format!("{}a: {}", half("# x\n"), half("{a: "));
        assert_eq!(check_depth(&late).unwrap_err().message, deep);
        // Brackets in strings are not nested.
        let quoted = format!("a: \"{}\"\nb: [[1]]\n", half("["));
        Document::parse(&quoted).unwrap();
        // A large lookup table is valid.
        let table: Vec<String> = (0..30_000)
            .map(|n| format!("host-{n:05}: [team]\n"))
            .collect();
        let table = Document::parse(&table.concat()).unwrap();
        assert_eq!(table.root().entries().len(), 30_000);
    }
}
