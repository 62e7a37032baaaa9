//! The files in `contrib/`: the real tools accept them, they use only metrics that the real binary exposes, and a real Prometheus has
//! data for every panel of the dashboard.

mod alertmanager;
mod dashboard;
mod files;
mod prometheus;
mod queries;
mod rules;
use std::fs;
use std::process::Command;

use regex::Regex;
use serde_json::Value;

/// Where the runbooks are: the `URL` of the package.
const PROJECT: &str = "https://git.canopsis.net/canopsis-connectors/connector-prometheus";
const CONFIG: &str = include_str!("../../../config.yml");
const DASHBOARD: &str = include_str!("../../../contrib/grafana-dashboard.json");
const RULES: [&str; 2] = [
    "contrib/prometheus-rules.yml",
    "contrib/prometheus-watchdog.yml",
];
const TESTS: &str = include_str!("../../../contrib/prometheus-rules-test.yml");
const SCRAPE: &str = include_str!("../../../contrib/prometheus-scrape.yml");
const JOB: &str = "canopsis-connector-prometheus";

/// Runs a tool that must succeed, and returns its output.
fn run_tool(command: &[&str]) -> String {
    let output = Command::new(command[0])
        .args(&command[1..])
        .output()
        .unwrap_or_else(|error| {
            panic!(
                "{}: {error}; it comes with prometheus or prometheus-alertmanager",
                command[0]
            )
        });
    let printed = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(output.status.success(), "{command:?}: {printed}");
    printed
}

/// A file with its lines for HTTPS, which are comments in it.
fn with_https(text: &str) -> String {
    let keys =
        "scheme|tls_config|ca_file|authorization|credentials_file|volumes|PROMETHEUS_TLS_[A-Z_]+";
    let line = Regex::new(&format!("(?m)^( *)# ( *(?:{keys}):.*| *- .*/tls:.*)$")).unwrap();
    line.replace_all(text, "$1$2").into_owned()
}

fn yaml(text: &str) -> Value {
    serde_yaml::from_str(text).unwrap()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value
        .as_str()
        .unwrap_or_else(|| panic!("not a string: {value}"))
}

/// All alerting rules.
fn rules() -> Vec<Value> {
    let files = RULES.map(|path| yaml(&fs::read_to_string(path).unwrap()));
    files
        .iter()
        .flat_map(|file| list(&file["groups"]))
        .flat_map(|group| list(&group["rules"]))
        .cloned()
        .collect()
}
