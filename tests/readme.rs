//! The README and the manual pages agree with the program.

mod support;

use std::collections::BTreeSet;
use std::process::Command;

use canopsis_connector_prometheus::cli;
use canopsis_connector_prometheus::config::{
    AMQP_KEYS, AMQP_PREFIX, EVENT_KEYS, HTTP_KEYS, HTTP_PREFIX, TLS_KEYS, TLS_PREFIX,
};
use canopsis_connector_prometheus::mapping::path::ROOTS;
use serde_json::Value;
use support::connector::{BINARY, MAPPING, run};
use support::{TOKEN, payload, temp_path};

const README: &str = include_str!("../README.md");
const CONFIG: &str = include_str!("../config.yml");
const MAN: &str = include_str!("../man/canopsis-connector-prometheus.8.scd");
const FORMAT_MAN: &str = include_str!("../man/canopsis-connector-prometheus.yml.5.scd");

/// The content of the first fenced block of this language in the text, and the text after it.
fn block<'t>(text: &'t str, language: &str) -> (&'t str, &'t str) {
    let (_, rest) = text.split_once(&format!("```{language}\n")).unwrap();
    rest.split_once("\n```").unwrap()
}

/// A temporary file, removed on drop.
struct TempFile(String);

impl std::ops::Deref for TempFile {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn temp_file(name: &str, text: &str) -> TempFile {
    let path = temp_path(name).with_extension("yml");
    std::fs::write(&path, text).unwrap();
    TempFile(path.to_str().unwrap().to_owned())
}

#[test]
fn every_worked_example_gives_the_shown_event() {
    let (_, section) = README.split_once("### Worked examples").unwrap();
    let shown: Value = serde_json::from_str(block(section, "json").0).unwrap();
    let sent: Value = serde_json::from_str(&payload("firing-one")).unwrap();
    for (key, value) in shown.as_object().unwrap() {
        assert_eq!(
            &sent["alerts"][0][key], value,
            "{key} of the alert in the README"
        );
    }
    let examples: Vec<&str> = section.split("<!-- example -->").skip(1).collect();
    assert_eq!(examples.len(), 6);
    for example in examples {
        let (rules, rest) = block(example, "yaml");
        let (expected, _) = block(rest, "json");
        let keys: Vec<&str> = rules
            .lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(key, _)| key)
            .collect();
        let others = MAPPING
            .lines()
            .filter(|line| !keys.iter().any(|key| line.starts_with(&format!("{key}:"))));
        let others = others.collect::<Vec<&str>>().join("\n");
        let config = temp_file(
            "example",
            &format!("http: {{bearer_token: {TOKEN}}}\n{others}\n{rules}\n"),
        );
        let output = run(
            &[
                "-c",
                &config,
                "--dry-run",
                "tests/data/payloads/firing-one.json",
            ],
            &[],
            "",
        );
        assert_eq!(String::from_utf8(output.stderr).unwrap(), "", "{rules}");
        let event: Value = serde_json::from_slice(&output.stdout).unwrap();
        for (key, value) in serde_json::from_str::<Value>(expected)
            .unwrap()
            .as_object()
            .unwrap()
        {
            assert_eq!(&event[key], value, "{key} of {rules}");
        }
    }
}

#[test]
fn the_errors_are_reported_as_shown() {
    let (_, section) = README.split_once("every error at once").unwrap();
    let (faulty, rest) = block(section, "yaml");
    let output = run(&["-c", &temp_file("faulty", faulty), "--check"], &[], "");
    assert_eq!(output.status.code(), Some(2));
    let printed = String::from_utf8(output.stderr).unwrap();
    let (_, shown) = block(rest, "text").0.split_once('\n').unwrap();
    let (_, printed) = printed.trim_end().split_once('\n').unwrap();
    assert_eq!(printed, shown);
}

#[test]
fn an_explanation_is_printed_as_shown() {
    let (_, section) = README
        .split_once("### Find out why a field has its value")
        .unwrap();
    let (rules, rest) = block(section, "yaml");
    let (command, rest) = block(rest, "sh");
    let arguments: Vec<&str> = command.split_whitespace().collect();
    let config = temp_file("explained", &format!("{rules}\n"));
    assert_eq!(
        arguments[..3],
        ["canopsis-connector-prometheus", "--config", "config.yml"]
    );
    let arguments = [&["--config", &config][..], &arguments[3..]].concat();
    let output = run(&arguments, &[("PROMETHEUS_BEARER_TOKEN", TOKEN)], "");
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
    let printed = String::from_utf8(output.stdout)
        .unwrap()
        .replace(&*config, "config.yml");
    assert_eq!(printed.trim_end(), block(rest, "text").0);
}

#[test]
fn amtool_accepts_the_alertmanager_example() {
    let (config, _) = block(
        README.split_once("## Alertmanager's side").unwrap().1,
        "yaml",
    );
    let path = temp_file("alertmanager", config);
    let output = Command::new("amtool")
        .args(["check-config", &path])
        .output()
        .expect("amtool comes with prometheus-alertmanager");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
}

/// The distinct long options in a text.
fn options(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
    words
        .filter(|word| word.starts_with("--") && word.len() > 3)
        .collect()
}

/// The distinct environment variables of the program in a text.
fn variables(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words
        .filter(|word| word.starts_with(AMQP_PREFIX) || word.starts_with(HTTP_PREFIX))
        .filter(|word| !word.ends_with('_'))
        .collect()
}

/// Every variable that the program reads.
fn known_variables() -> BTreeSet<String> {
    let of = |prefix: &'static str, keys: &'static [&'static str]| {
        (keys.iter()).map(move |key| format!("{prefix}{}", key.to_uppercase()))
    };
    of(AMQP_PREFIX, AMQP_KEYS)
        .chain(of(HTTP_PREFIX, HTTP_KEYS).filter(|name| name != "PROMETHEUS_TLS"))
        .chain(of(TLS_PREFIX, TLS_KEYS))
        .chain([cli::LOG_LEVEL, cli::LOG_FORMAT].map(str::to_owned))
        .collect()
}

fn help() -> String {
    String::from_utf8(Command::new(BINARY).arg("--help").output().unwrap().stdout).unwrap()
}

#[test]
fn documented_options_match_the_program() {
    let help = help();
    let table = README
        .split_once("| option | meaning |")
        .unwrap()
        .1
        .split_once("\n\n")
        .unwrap()
        .0;
    assert_eq!(options(table), options(&help), "README");
    let section = MAN
        .split_once("# OPTIONS")
        .unwrap()
        .1
        .split_once("# ENVIRONMENT")
        .unwrap()
        .0;
    assert_eq!(options(section), options(&help), "manual");
}

#[test]
fn documented_variables_match_the_program() {
    let known = known_variables();
    let known: BTreeSet<&str> = known.iter().map(String::as_str).collect();
    assert_eq!(variables(MAN), known, "manual");
    assert_eq!(variables(README), known, "README");
    for (text, what) in [
        (&*help(), "--help"),
        (include_str!("../sysconfig"), "sysconfig"),
        (CONFIG, "config.yml"),
    ] {
        let unknown: Vec<_> = variables(text)
            .into_iter()
            .filter(|name| !known.contains(name))
            .collect();
        assert!(unknown.is_empty(), "{what}: {unknown:?}");
    }
}

#[test]
fn documented_keys_paths_and_functions_match_the_program() {
    let bold = |name: &str| FORMAT_MAN.contains(&format!("*{name}*"));
    for key in TLS_KEYS {
        assert!(
            README.contains(&format!("`http.tls.{key}`")),
            "{key} in the README"
        );
        assert!(
            FORMAT_MAN.contains(&format!("_{key}_")),
            "{key} in the manual"
        );
        assert!(
            CONFIG.contains(&format!("#   {key}:")),
            "{key} in config.yml"
        );
    }
    for key in AMQP_KEYS.iter().chain(HTTP_KEYS).chain(EVENT_KEYS) {
        let quoted = [format!("{key}`"), format!("`http.{key}.")];
        assert!(
            quoted.iter().any(|quoted| README.contains(quoted)),
            "{key} in the README"
        );
        assert!(bold(key), "{key} in the manual");
        assert!(
            CONFIG.contains(&format!("{key}:")) || *key == "author",
            "{key} in config.yml"
        );
    }
    for root in ROOTS {
        assert!(README.contains(&format!("`{root}")), "{root} in the README");
        assert!(CONFIG.contains(root), "{root} in config.yml");
        assert!(bold(root), "{root} in the manual");
    }
    for function in gotemplate::function_names() {
        assert!(
            README.contains(&format!("`{function}")),
            "{function} in the README"
        );
        assert!(bold(function), "{function} in the manual");
    }
    // The manual documents no unknown key.
    let sections = FORMAT_MAN.split("\n# ").filter(|section| {
        ["RABBITMQ", "HTTP SERVER", "EVENTS"]
            .iter()
            .any(|name| section.starts_with(name))
    });
    for line in sections
        .flat_map(str::lines)
        .filter(|line| line.starts_with('*'))
    {
        for key in line.split(", ").map(|word| word.trim_matches('*')) {
            assert!(
                AMQP_KEYS
                    .iter()
                    .chain(HTTP_KEYS)
                    .chain(EVENT_KEYS)
                    .any(|known| *known == key),
                "{key}"
            );
        }
    }
}
