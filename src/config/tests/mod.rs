//! Tests of whole configurations: what is valid, and how each error is reported.

use super::*;
use crate::text::tests::rows;

mod errors;
mod mistakes;
mod rules;
mod settings;
mod templates;
mod tls;
mod warnings;

const MINIMAL: &str = "
http: {bearer_token: sesame-word}
connector: prometheus
connector_name: p1
component: {type: copy, value: receiver}
resource: {type: copy, value: labels.alertname}
state: 2
";

/// [`MINIMAL`] with a line more, in place of that of the same key.
fn with(line: &str) -> String {
    let key = &line[..=line.find(':').unwrap_or(line.len() - 1)];
    let is_other = |known: &&str| !known.starts_with(key);
    let others = MINIMAL
        .lines()
        .filter(is_other)
        .map(|line| format!("{line}\n"));
    format!("{}{line}\n", others.collect::<String>())
}

fn load_with(
    text: &str,
    variables: &[(&str, &str)],
    overrides: &Overrides,
) -> Result<Config, ConfigError> {
    let environment = variables.iter().copied().collect();
    Config::from_text(text, Path::new("test.yml"), overrides, &environment)
}

fn load(text: &str) -> Result<Config, ConfigError> {
    load_with(text, &[], &Overrides::default())
}

fn errors(text: &str, variables: &[(&str, &str)]) -> Vec<String> {
    match load_with(text, variables, &Overrides::default()) {
        Err(ConfigError::Invalid { errors, .. }) => {
            errors.iter().map(ToString::to_string).collect()
        }
        other => panic!("no errors in {text}: {other:?}"),
    }
}

fn warnings(text: &str) -> Vec<String> {
    let config = load(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    config.warnings.iter().map(ToString::to_string).collect()
}

/// Asserts that one of the messages ends with a text. Where the text ends with `…`, the message contains what is before it.
#[track_caller]
fn assert_contains(messages: &[String], expected: &str, of: &str) {
    let is_expected = |message: &String| match expected.strip_suffix('…') {
        Some(part) => message.contains(part),
        None => message.ends_with(expected),
    };
    let is_there = messages.iter().any(is_expected);
    assert!(
        is_there,
        "{of}: no message is {expected:?} in {messages:#?}"
    );
}

/// Asserts that there is one message, with an end as in [`assert_contains`].
#[track_caller]
fn assert_is(messages: &[String], expected: &str, of: &str) {
    assert_eq!(messages.len(), 1, "{of}: {messages:#?}");
    assert_contains(messages, expected, of);
}
