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
            return match less_indented_line(text).filter(|_| reason == SEVERAL_DOCUMENTS) {
                Some(line) => at(line, 0, "this line is indented less than the first key"),
                None => SyntaxError::new(position, reason),
            };
        }
        let message = self.error.to_string();
        if let Some((_, context)) = message.split_once("while scanning a quoted scalar") {
            // The message has both the position where the text begins, unless it is the first one, and that of the file's end.
            let start = position_at_end(context).unwrap_or(START);
            return SyntaxError::new(Some(start), "the quotation mark has no closing one");
        }
        if message.contains("could not find expected ':'") {
            // At the line below. The line itself is at the end.
            let start = position_at_end(&message).unwrap_or(START);
            let line = text.lines().nth(start.line - 1).unwrap_or_default();
            return SyntaxError::new(Some(start), entry_fault(line.trim_start()));
        }
        if message.contains("mapping values are not allowed")
            && let Some(error) = position.and_then(|position| continued_value(text, position))
        {
            return error;
        }
        let mut characters = position.and_then(|at| Some(text.lines().nth(at.line - 1)?.chars()));
        let mut character = |index: usize| characters.as_mut()?.nth(index);
        let before = position.and_then(|at| character(at.column.checked_sub(2)?));
        let found = character(0);
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
        None if has("did not find expected key") && matches!(found, Some('{' | '[')) => {
            "; an item of a list begins with a dash and a space".to_owned()
        }
        None if has("did not find expected key") && found == Some(',') => {
            "; several values are a list in brackets: [a, b]".to_owned()
        }
        None if has("did not find expected") && matches!(before, Some('\'' | '"')) => {
            "; the quoted text ends here: a quotation mark above is missing, or one within the text must be \
             doubled ('') or escaped (\\\")"
                .to_owned()
        }
        None if (has("expected key") || has("expected '-'")) && matches!(before, None | Some(' ')) => {
            "; check the indentation of this line".to_owned()
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

/// What is wrong with a line that is neither a key with its value nor an item of a list.
fn entry_fault(line: &str) -> String {
    if let Some(c) = behind_colon(line) {
        return if c.is_alphanumeric() || c.is_ascii() {
            "a space is missing after the colon".to_owned()
        } else {
            format!(
                "{} follows the colon instead of a space",
                c.escape_default()
            )
        };
    }
    let mut start = line.chars();
    match (start.next(), start.next()) {
        (Some('{' | '['), _) => "an item of a list begins with a dash and a space".to_owned(),
        (Some('-'), Some(c)) if c != ' ' => "a space is missing after the dash".to_owned(),
        _ => "neither a key with a colon and a space (KEY: value) nor an item of a list (- value)"
            .to_owned(),
    }
}

/// What follows the colon of a key instead of a space.
fn behind_colon(line: &str) -> Option<char> {
    let (key, value) = line.split_once(':')?;
    let is_key = key.starts_with(|c: char| c.is_ascii_alphabetic())
        && key
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'));
    // A URL or a path is a value.
    value
        .chars()
        .next()
        .filter(|c| is_key && !matches!(c, ' ' | '\t' | '/' | '\\'))
}

/// Why a key is part of a value for YAML: a space is missing in a line above, or after the dash, or the line is indented more
/// than the one above.
fn continued_value(text: &str, position: Position) -> Option<SyntaxError> {
    let lines: Vec<&str> = text.lines().take(position.line).collect();
    let (line, above) = lines.split_last()?;
    let entry = line.trim_start();
    if entry.starts_with('-') && !entry.starts_with("- ") {
        return Some(at(position.line, indentation(line), entry_fault(entry)));
    }
    let before: String = line.chars().take(position.column - 1).collect();
    if before.contains(": ") {
        return None;
    }
    let is_faulty = |line: &&&str| behind_colon(line.trim_start()).is_some();
    let faulty = above.iter().rev().take_while(is_faulty).count();
    if faulty > 0 {
        let first = above[above.len() - faulty];
        let number = position.line - faulty;
        return Some(at(
            number,
            indentation(first),
            entry_fault(first.trim_start()),
        ));
    }
    let parent = above.last()?;
    let message = "this key is indented more than the one above, which has a value";
    (parent.contains(": ") && indentation(line) > indentation(parent))
        .then(|| at(position.line, indentation(line), message))
}

/// The first line that is indented less than the first one with a key.
fn less_indented_line(text: &str) -> Option<usize> {
    let is_key = |line: &str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
    let mut lines = (1..).zip(text.lines()).filter(|(_, line)| is_key(line));
    let (_, first) = lines.next()?;
    let (number, line) = lines.find(|(_, line)| indentation(line) < indentation(first))?;
    (!line.starts_with("---")).then_some(number)
}

fn indentation(line: &str) -> usize {
    line.len() - line.trim_start_matches(' ').len()
}

/// An error in a line, behind its indentation.
fn at(line: usize, indentation: usize, message: impl Into<String>) -> SyntaxError {
    let column = indentation + 1;
    SyntaxError::new(Some(Position { line, column }), message)
}

/// More than one document, or what libyaml takes for one.
const SEVERAL_DOCUMENTS: &str = "more than one document (---)";
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
    ("more than one document", SEVERAL_DOCUMENTS),
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
        check_all(
            r#"
            a: [1\nb: 2
                2:2 or ']'; the [ or { at line 1, column 4 is not closed, or a value in it has a colon,
            a: 1\n---\nb: 2
                0:0 more than one document
            a: !S3cret
                1:4 a value that begins with ! must be quoted
            a: !S3cret!x
                1:4 a value that begins with ! must be quoted
            a: !<x
                1:7 a value that begins with ! must be quoted
            a: @x
                1:4 a value that begins with @ must be quoted
            a: `x
                1:4 a value that begins with ` must be quoted
            a: %x
                1:4 a value that begins with % must be quoted
            a: *x
                1:4 a value that begins with * must be quoted
            a: *
                1:5 a value that begins with * must be quoted
            a: & x
                1:5 a value that begins with & must be quoted
            a:\n\tb: 1
                2:1 indent with spaces, not with tabs
            a:\n  b: 1\n\tc: 1
                3:1 indent with spaces, not with tabs
            a: {{ .Field }}
                1:5 {{ .Field }}, must be quoted
            a: x: y
                1:5 a colon and a space must be quoted
            a: !!int x
                1:4 does not match its tag
            a: "\d"
                1:5 write \\ for a backslash
            a: 'it's'
                1:8 the quoted text ends here
            // Not where the file ends.
            a: 1\nb: 'x\nc: y
                2:4 has no closing one
            a: [x, "y\nb: z
                1:8 has no closing one
            a: 'x\n---\s
                1:4 has no closing one
            'a: x\nb: y
                1:1 has no closing one
            "#,
        );
        assert!(Document::parse("").unwrap().root().entries().is_empty());
    }

    #[test]
    fn what_people_leave_out_is_named_where_it_is_missing() {
        check_all(
            r#"
            // A space: the parser notices it one line later.
            a: 1\nb:x\nc: 2
                2:1 a space is missing after the colon
            a: 1\nb:x
                2:1 a space is missing after the colon
            a:x\nb: 1
                1:1 a space is missing after the colon
            a:x\nb:y\nc: 1
                1:1 a space is missing after the colon
            a:\n  b: 1\n  c:'x'
                3:3 a space is missing after the colon
            a:\n  b:x\n  c: 1
                2:3 a space is missing after the colon
            // A list without dashes.
            a:\n  {b: 1}\n  {b: 2}
                3:3 an item of a list begins with a dash and a space
            a:\n  - {b: 1}\n  {b: 2}
                3:3 an item of a list begins with a dash and a space
            a:\n  [b]\n  [c]
                3:3 an item of a list begins with a dash and a space
            a:\n  - b\n  c
                3:3 neither a key with a colon and a space (KEY: value) nor an item of a list (- value)
            a: {b: 1}, {b: 2}
                1:10 several values are a list in brackets
            a:\n  -{b: 1, c: 2}
                2:3 a space is missing after the dash
            a: 1\nb\nc: 2
                2:1 neither a key
            // Indentation.
            a:\n  b: 1\n c: 2
                3:2 check the indentation of this line
            a:\n  - b\n c: 2
                3:2 check the indentation of this line
            a: 1\n  b: 2
                2:3 indented more than the one above
            \s\sa: 1\nb: 2
                2:1 indented less than the first key
            a: x y\n  z: 2
                2:3 indented more than the one above
            a: [x, "y\nb: "z"]
                2:5 the quoted text ends here
            "#,
        );
        for (text, line, column, message) in [
            (
                "a: 1\nb:\u{a0}x\nc: 2\n",
                2,
                1,
                "\\u{a0} follows the colon instead of a space",
            ),
            (
                "b:\u{a0}x\nc: 2\n",
                1,
                1,
                "\\u{a0} follows the colon instead of a space",
            ),
            ("a: 1\nb:\u{3000}x\n", 2, 1, "\\u{3000} follows the colon"),
            (
                "a: 1\n\nb: \u{1}\n",
                3,
                4,
                "the control character \\u{1} is not allowed",
            ),
            (
                "a: x\u{9b}1m\n",
                1,
                5,
                "the control character \\u{9b} is not allowed",
            ),
        ] {
            check(text, line, column, message);
        }
    }

    /// Checks each row of a table: a text, and below it the line and the column of its fault, and a part of the message.
    /// `\n`, `\t` and `\s` (a space) are characters.
    fn check_all(table: &str) {
        let lines = table.lines().map(str::trim);
        let lines = lines.filter(|line| !line.is_empty() && !line.starts_with("//"));
        for row in lines.collect::<Vec<_>>().chunks(2) {
            let text = row[0]
                .replace(r"\n", "\n")
                .replace(r"\t", "\t")
                .replace(r"\s", " ");
            let (place, message) = row[1].split_once(' ').unwrap();
            let (line, column) = place.split_once(':').unwrap();
            let (line, column) = (line.parse().unwrap(), column.parse().unwrap());
            check(&format!("{text}\n"), line, column, message);
        }
    }

    fn check(text: &str, line: usize, column: usize, message: &str) {
        let error = Document::parse(text).unwrap_err();
        let position = (line > 0).then_some(Position { line, column });
        assert_eq!(error.position, position, "{text:?}: {error:?}");
        assert!(error.message.contains(message), "{text:?}: {error:?}");
    }
}
