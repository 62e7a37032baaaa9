//! What the README shows is true.

mod support;

use std::process::Command;

use serde_json::Value;
use support::connector::{BINARY, MAPPING, run};
use support::{TOKEN, payload, scratch};

const README: &str = include_str!("../README.md");

/// The text of the first fenced block of a language behind a place; and what comes after it.
fn block<'t>(text: &'t str, language: &str) -> (&'t str, &'t str) {
    let (_, rest) = text.split_once(&format!("```{language}\n")).unwrap();
    rest.split_once("\n```").unwrap()
}

fn written(name: &str, text: &str) -> String {
    let path = scratch(name).with_extension("yml");
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn every_worked_example_gives_what_it_shows() {
    let (_, section) = README.split_once("### Worked examples").unwrap();
    let shown: Value = serde_json::from_str(block(section, "json").0).unwrap();
    let sent: Value = serde_json::from_str(&payload("firing-one")).unwrap();
    for (key, value) in shown.as_object().unwrap() {
        assert_eq!(&sent["alerts"][0][key], value, "{key} of the alert in the README");
    }
    let examples: Vec<&str> = section.split("<!-- example -->").skip(1).collect();
    assert_eq!(examples.len(), 5);
    for example in examples {
        let (rules, rest) = block(example, "yaml");
        let (expected, _) = block(rest, "json");
        let keys: Vec<&str> = rules.lines().filter_map(|line| line.split_once(':')).map(|(key, _)| key).collect();
        let others = MAPPING.lines().filter(|line| !keys.iter().any(|key| line.starts_with(&format!("{key}:"))));
        let others = others.collect::<Vec<&str>>().join("\n");
        let config = written("example", &format!("http: {{bearer_token: {TOKEN}}}\n{others}\n{rules}\n"));
        let output = run(&["-c", &config, "--dry-run", "tests/data/payloads/firing-one.json"], &[], "");
        assert_eq!(String::from_utf8(output.stderr).unwrap(), "", "{rules}");
        let event: Value = serde_json::from_slice(&output.stdout).unwrap();
        for (key, value) in serde_json::from_str::<Value>(expected).unwrap().as_object().unwrap() {
            assert_eq!(&event[key], value, "{key} of {rules}");
        }
    }
}

#[test]
fn the_mistakes_are_told_as_shown() {
    let (_, section) = README.split_once("every mistake at once").unwrap();
    let (faulty, rest) = block(section, "yaml");
    let output = run(&["-c", &written("faulty", faulty), "--check"], &[], "");
    assert_eq!(output.status.code(), Some(2));
    let told = String::from_utf8(output.stderr).unwrap();
    let (_, shown) = block(rest, "text").0.split_once('\n').unwrap();
    let (_, told) = told.trim_end().split_once('\n').unwrap();
    assert_eq!(told, shown);
}

#[test]
fn alertmanager_takes_the_example_of_its_side() {
    let (config, _) = block(README.split_once("## Alertmanager's side").unwrap().1, "yaml");
    let path = written("alertmanager", config);
    let output = Command::new("amtool")
        .args(["check-config", &path])
        .output()
        .expect("amtool comes with prometheus-alertmanager");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn every_option_and_key_stands_there_and_exists() {
    let help = String::from_utf8(Command::new(BINARY).arg("--help").output().unwrap().stdout).unwrap();
    let options = |text: &str| {
        let words =
            text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-')).filter(|word| word.starts_with("--"));
        let mut words: Vec<String> = words.filter(|word| word.len() > 3).map(str::to_owned).collect();
        words.sort();
        words.dedup();
        words
    };
    assert_eq!(options(README), options(&help));
    // Each key that the README's tables name is one that a faulty file is told to be known, and the other way round.
    let shipped = include_str!("../config.yml");
    for key in [
        "url",
        "exchange",
        "ca_file",
        "cert_file",
        "key_file",
        "listen",
        "bearer_token",
        "bearer_token_file",
        "max_body_bytes",
        "max_connections",
        "answer_timeout",
        "connector",
        "connector_name",
        "component",
        "resource",
        "state",
        "output",
        "output_length",
        "long_output",
        "long_output_length",
        "extra_infos",
        "extra_infos_prefix",
        "author",
        "timestamp",
        "tags",
    ] {
        assert!(README.contains(&format!("{key}`")), "{key} in the README");
        assert!(shipped.contains(&format!("{key}:")) || key == "author", "{key} in config.yml");
    }
}
