//! Why a file is rejected: the messages of libyaml and `serde_yaml`, with the right position and a hint.

use crate::{Position, START};

/// Why a file is rejected. The message never quotes the file, which may hold a secret.
#[derive(Debug, PartialEq, Eq)]
pub struct SyntaxError {
    /// Where, as far as it is known.
    pub position: Option<Position>,
    /// What is wrong.
    pub message: String,
}

impl SyntaxError {
    pub(crate) fn new(position: Option<Position>, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { position, message }
    }
}

/// Why a text, perhaps only the beginning of the file, could not be read.
pub(crate) struct ReadError {
    pub(crate) error: serde_yaml::Error,
    /// Why no further text could make it valid; `None` where libyaml cannot parse it.
    pub(crate) reason: Option<&'static str>,
}

impl ReadError {
    pub(crate) fn explain(&self, text: &str) -> SyntaxError {
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
            let start = position_at_end(message).unwrap_or(START);
            format!(
                "; the [ or {{ at {start} is not closed, or a value in it has a colon, a comma or a bracket and must be quoted"
            )
        }
        None => String::new(),
    };
    let message = message.split(" at line ").next().unwrap_or(message);
    format!("{message}{hint}")
}

/// The file would take too much memory.
pub(crate) const TOO_LARGE: &str = "too many values, or too many uses of large anchors";
/// Messages of `serde_yaml` that quote the file, and what to say instead.
pub(crate) const REASONS: [(&str, &str); 4] = [
    (
        "invalid type",
        "a key must be a scalar; a value that begins with {, such as {{ .Field }}, must be quoted",
    ),
    ("invalid value", "a value does not match its tag (!!)"),
    ("repetition limit", TOO_LARGE),
    ("more than one document", "more than one document (---)"),
];

/// The position with which a message of `serde_yaml` ends.
pub(crate) fn position_at_end(message: &str) -> Option<Position> {
    let (_, end) = message.rsplit_once(" at line ")?;
    let (line, column) = end.split_once(" column ")?;
    let (line, column) = (line.parse().ok()?, column.parse().ok()?);
    Some(Position { line, column })
}

#[cfg(test)]
mod tests {
    use crate::{Document, Position};

    #[test]
    fn invalid_yaml_is_reported_with_its_position_and_a_hint() {
        for (text, line, column, message) in [
            (
                "a: [1\nb: 2\n",
                2,
                2,
                "or ']'; the [ or { at line 1, column 4 is not closed, or a value in it has a colon,",
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
}
