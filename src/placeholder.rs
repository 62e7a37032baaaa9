//! Texts that nobody has replaced by a value: `${PASSWORD}`, `<token>`, `CHANGE-ME`. Files and variables are read as they are, so
//! that they arrive unchanged.

use std::fmt;

/// How placeholders begin and end in shells, templates and documents.
const FORMS: [(&str, &str); 9] = [
    ("${", "}"),
    ("$(", ")"),
    ("{{", "}}"),
    ("#{", "}"),
    ("%(", ")"),
    ("<", ">"),
    ("%", "%"),
    ("__", "__"),
    ("$", ""),
];

/// What documents and examples write, in lower case and without separators. Long enough that no random text contains one.
const WORDS: [&str; 16] = [
    "changeme",
    "changeit",
    "changethis",
    "replaceme",
    "replacewith",
    "replacethis",
    "insertyour",
    "yourtoken",
    "yoursecret",
    "yourpassword",
    "thetoken",
    "tokenexample",
    "exampletoken",
    "sometoken",
    "placeholder",
    "longrandomword",
];

/// A placeholder within a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placeholder {
    /// How it begins, or the word.
    start: &'static str,
    /// How it ends; empty for a word.
    end: &'static str,
    /// Whether nothing else is in the text, or a word of [`WORDS`] is.
    is_whole: bool,
}

impl Placeholder {
    /// Whether a program would expand it.
    pub fn is_variable(&self) -> bool {
        FORMS.contains(&(self.start, self.end))
    }
}

impl fmt::Display for Placeholder {
    /// Without the text between: it may be part of a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.start, self.end) {
            ("$", _) => f.write_str("$NAME"),
            (word, "") => f.write_str(word),
            (start, end) => write!(f, "{start}...{end}"),
        }
    }
}

/// The first placeholder in a text.
pub fn find(text: &str) -> Option<Placeholder> {
    let forms = FORMS.iter().copied();
    let mut enclosed = forms.filter_map(|(start, end)| {
        let found = text
            .match_indices(start)
            .find_map(|(at, _)| enclosed_length(text, at, start, end));
        let is_whole = found? == text.len();
        Some(Placeholder {
            start,
            end,
            is_whole,
        })
    });
    enclosed.next().or_else(|| {
        let letters = |c: &char| !matches!(c, '-' | '_' | '.' | ' ');
        let plain: String = text
            .chars()
            .filter(letters)
            .flat_map(char::to_lowercase)
            .collect();
        let start = WORDS.into_iter().find(|word| plain.contains(word))?;
        Some(Placeholder {
            start,
            end: "",
            is_whole: true,
        })
    })
}

/// Whether a text is nothing but a placeholder, so that everyone can guess it.
pub fn is_placeholder(text: &str) -> bool {
    let is_blank_out = |c: char| matches!(c, 'x' | 'X' | '*' | '.' | '?');
    text.chars().all(is_blank_out) || find(text).is_some_and(|found| found.is_whole)
}

/// The length of the placeholder that begins at a place.
fn enclosed_length(text: &str, at: usize, start: &str, end: &str) -> Option<usize> {
    let inner = &text[at + start.len()..];
    let is_name = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ' '))
    };
    let is_variable = |name: &str| {
        is_name(name)
            && !name.contains(|c: char| c.is_ascii_lowercase() || matches!(c, '-' | '.' | ' '))
    };
    // A part of a URL, or all of another text.
    let is_delimiter = |c: char| matches!(c, '/' | ':' | '@' | '?' | '&' | '=');
    let begins_part = text[..at].chars().next_back().is_none_or(is_delimiter);
    let length = match end {
        "" => inner.find(is_delimiter).unwrap_or(inner.len()),
        end => inner.find(end)?,
    };
    let name = &inner[..length];
    let is_one = match start {
        "<" => is_name(name),
        // %C3%A9 is a letter.
        "%" => {
            is_name(name)
                && length > 2
                && (is_variable(name) || !name.bytes().take(2).all(|byte| byte.is_ascii_hexdigit()))
        }
        "__" | "$" => begins_part && is_variable(name),
        _ => length > 0,
    };
    is_one.then_some(start.len() + length + end.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_found_in_urls_and_tokens() {
        for (text, start) in [
            ("${PROMETHEUS_BEARER_TOKEN}", "${"),
            ("amqp://${RABBIT_USER}:x@h/v", "${"),
            ("amqp://u:p@${HOST:-rabbitmq}:5672/v", "${"),
            ("${{ secrets.TOKEN }}", "${"),
            ("amqp://u:$(RABBIT_PASSWORD)@h/v", "$("),
            ("$(cat /run/secrets/token)", "$("),
            ("amqp://u:%RABBIT_PASSWORD%@h/v", "%"),
            ("%token%", "%"),
            ("amqp://%40:%40@%ADMIN_HOST%/v", "%"),
            ("amqp://<user>:<password>@<host>/canopsis", "<"),
            ("<your token here>", "<"),
            ("{{ .Values.token }}", "{{"),
            ("amqp://u:{{rabbit_password}}@h/v", "{{"),
            ("#{Token}#", "#{"),
            ("%(token)s", "%("),
            ("__TOKEN__", "__"),
            ("amqp://u:__RABBIT_PASSWORD__@h/v", "__"),
            ("$TOKEN", "$"),
            ("amqp://u:$RABBIT_PASSWORD@h/v", "$"),
            ("CHANGE-ME", "changeme"),
            ("change_me", "changeme"),
            ("amqp://u:ChangeMe@h/v", "changeme"),
            ("REPLACE-WITH-TOKEN", "replacewith"),
            ("your-token-here", "yourtoken"),
            ("THE-TOKEN", "thetoken"),
            ("token_example", "tokenexample"),
        ] {
            assert_eq!(find(text).map(|found| found.start), Some(start), "{text}");
        }
        for text in [
            "${A}",
            "$(A)",
            "%A_B%",
            "<a>",
            "{{a}}",
            "__A__",
            "$A",
            "changeme!",
            "xxxxxx",
            "***",
            "...",
        ] {
            assert!(is_placeholder(text), "{text}");
        }
    }

    #[test]
    fn what_a_generator_makes_is_no_placeholder() {
        for text in [
            "",
            "amqp://cpsrabbit:canopsis@localhost/canopsis",
            "amqp://u:p%40s%23@[::1]:5672/%2Fteam%2Fa",
            "amqp://u:%C3%A9t%C3%A9%20a@h/v",
            "amqp://u:%E2%82%AC%41@h/v",
            "amqp://u:pa$$w0rd@h/v",
            "amqp://u:a$b@h/v?heartbeat=5",
            "$ecret",
            "a<b",
            "x>y<z",
            "100%",
            "5f2b8c",
            "aGVsbG8+d29ybGQ/Zm9v",
            "sesame-word",
            "a__b__c",
            "canopsis.events",
            "/run/secrets/token",
            "/etc/__pycache__",
            "0.0.0.0:18401",
            "8s",
            "q7$(x",
            "q7%(x",
            "q${x",
        ] {
            assert_eq!(find(text), None, "{text}");
        }
        // Part of a text that is long enough.
        for text in ["q7$(Lx)f", "Zk<ab>9", "p%xyz%d", "q${x}9f"] {
            assert!(find(text).is_some() && !is_placeholder(text), "{text}");
        }
    }
}
