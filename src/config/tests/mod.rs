//! Tests of whole configurations: what is valid, and how each error is reported.

use super::*;

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
