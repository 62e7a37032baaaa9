//! The documents agree with the program. What needs a server is in `documents.rs`.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use canopsis_connector_prometheus::cli;
use canopsis_connector_prometheus::config::{
    AMQP_KEYS, AMQP_PREFIX, EVENT_KEYS, HTTP_KEYS, HTTP_PREFIX, TLS_KEYS, TLS_PREFIX,
};
use canopsis_connector_prometheus::mapping::path::ROOTS;
use serde_json::Value;
use support::connector::{BINARY, Connector, MAPPING, run};
use support::documents::{
    blocks, code_spans, dead_links, document, documents, marked, only, section, user_documents,
};
use support::{TOKEN, assert_success, payload, temp_path};

const CONFIG: &str = include_str!("../config.yml");
const MAN: &str = include_str!("../man/canopsis-connector-prometheus.8.scd");
const FORMAT_MAN: &str = include_str!("../man/canopsis-connector-prometheus.yml.5.scd");

/// The names of the code blocks that a test runs: here, or in `documents.rs`.
const RUN: [&str; 26] = [
    "HTTPS, Alertmanager",
    "HTTPS, Prometheus",
    "HTTPS, configuration",
    "errors, configuration",
    "errors, output",
    "example",
    "example, event",
    "examples, alert",
    "explain, command",
    "explain, configuration",
    "explain, output",
    "migration, YAML",
    "migration, YAML, output",
    "migration, check",
    "migration, configuration",
    "migration, errors",
    "migration, errors, output",
    "migration, explain",
    "quick start, Alertmanager",
    "quick start, alert",
    "quick start, configuration",
    "quick start, start",
    "readiness",
    "rejected alerts",
    "save a body",
    "show the certificate",
];

/// A temporary directory, removed on drop.
struct TempDir(PathBuf);

impl TempDir {
    fn new(name: &str) -> Self {
        let path = temp_path(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// Writes a file, and returns its path.
    fn file(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn program(&self, name: &str, text: &str) {
        let path = self.file(name, text);
        assert!(
            Command::new("chmod")
                .args(["0755", &path])
                .status()
                .unwrap()
                .success()
        );
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

#[test]
fn every_code_block_is_run_or_has_a_reason_not_to_be() {
    let mut used = BTreeSet::new();
    for (name, text) in user_documents() {
        for block in blocks(&name, &text) {
            let place = format!("{name}:{}", block.line);
            let marker = block
                .marker
                .unwrap_or_else(|| panic!("{place}: no comment says which test runs it"));
            match marker.split_once(": ") {
                Some(("test", test)) => {
                    // The French guide shows only a part of the quick start.
                    let test = test.replace("quick start, check", "quick start, start");
                    assert!(RUN.contains(&&*test), "{place}: no test runs {test:?}");
                    used.insert(test);
                }
                Some(("not run", reason)) => assert!(reason.len() > 8, "{place}"),
                _ => panic!("{place}: {marker:?}"),
            }
        }
    }
    assert_eq!(used.len(), RUN.len(), "{used:?}");
}

#[test]
fn no_link_is_dead() {
    let dead = dead_links(Path::new("."), &documents());
    assert!(dead.is_empty(), "{dead:#?}");
}

#[test]
fn every_worked_example_gives_the_shown_event() {
    let shown: Value = serde_json::from_str(&only("examples, alert")).unwrap();
    let sent: Value = serde_json::from_str(&payload("firing-one")).unwrap();
    for (key, value) in shown.as_object().unwrap() {
        assert_eq!(&sent["alerts"][0][key], value, "{key} of the alert");
    }
    let (examples, events) = (marked("example"), marked("example, event"));
    assert_eq!(examples.len(), events.len());
    let dir = TempDir::new("examples");
    for (example, event) in examples.iter().zip(events) {
        let rules = &example.text;
        let keys: Vec<&str> = rules
            .lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(key, _)| key)
            .collect();
        let others = MAPPING
            .lines()
            .filter(|line| !keys.iter().any(|key| line.starts_with(&format!("{key}:"))));
        let others = others.collect::<Vec<&str>>().join("\n");
        let config = dir.file(
            "config.yml",
            &format!("http: {{bearer_token: {TOKEN}}}\n{others}\n{rules}\n"),
        );
        let input = "tests/data/payloads/firing-one.json";
        let output = run(&["-c", &config, "--dry-run", input], &[], "");
        assert_eq!(text(output.stderr), "", "{rules}");
        let sent: Value = serde_json::from_slice(&output.stdout).unwrap();
        let shown: Value = serde_json::from_str(&event.text).unwrap();
        for (key, value) in shown.as_object().unwrap() {
            assert_eq!(&sent[key], value, "{key} of {rules}");
        }
    }
}

/// What `--check` prints for a faulty configuration, with the name `config.yml`.
fn errors_of(config: &str) -> String {
    let dir = TempDir::new("faulty");
    let path = dir.file("config.yml", config);
    let output = run(&["-c", &path, "--check"], &[], "");
    assert_eq!(output.status.code(), Some(2), "{config}");
    text(output.stderr).replace(&path, "config.yml")
}

#[test]
fn the_errors_are_reported_as_shown() {
    for (config, output) in [
        ("errors, configuration", "errors, output"),
        ("migration, errors", "migration, errors, output"),
        ("migration, YAML", "migration, YAML, output"),
    ] {
        assert_eq!(errors_of(&only(config)), only(output));
    }
}

#[test]
fn a_configuration_of_the_old_connector_works_unchanged() {
    let dir = TempDir::new("migration");
    let config = dir.file("config.yml", &only("migration, configuration"));
    let notification = dir.file("notification.json", &payload("firing-one"));
    for name in ["migration, check", "migration, explain"] {
        let command = only(name);
        let words: Vec<&str> = command.split_whitespace().collect();
        assert_eq!(
            words[..3],
            ["canopsis-connector-prometheus", "--config", "config.yml"]
        );
        let replaced: Vec<&str> = words[3..]
            .iter()
            .map(|word| match *word {
                "notification.json" => &*notification,
                other => other,
            })
            .collect();
        let arguments = [&["--config", &config][..], &replaced].concat();
        let output = run(&arguments, &[], "");
        assert_eq!(text(output.stderr), "", "{command}");
        assert!(output.status.success(), "{command}");
    }
    let output = run(&["-c", &config, "--dry-run", &notification], &[], "");
    let event: Value = serde_json::from_slice(&output.stdout).unwrap();
    for (key, value) in [
        ("connector_name", "prometheus1"),
        ("component", "node_exporter:9100"),
        ("resource", "InstanceDown"),
        ("prom_title", "Prometheus node_exporter:9100 down"),
        ("prom_type", "alert"),
    ] {
        assert_eq!(event[key], value);
    }
    assert_eq!(event["state"], 3);
    // The old spelling of the keys that have another place now.
    let errors = errors_of("bearer_token: x\nconnector: c\ncomponent: x\nresource: r\n");
    assert!(errors.contains("http.bearer_token"), "{errors}");
}

#[test]
fn an_explanation_is_printed_as_shown() {
    let dir = TempDir::new("explained");
    let config = dir.file("config.yml", &only("explain, configuration"));
    let notification = dir.file("notification.json", &payload("firing-one"));
    let command = only("explain, command");
    assert_eq!(
        command,
        "canopsis-connector-prometheus --config config.yml --explain notification.json\n"
    );
    let output = run(&["--config", &config, "--explain", &notification], &[], "");
    assert_eq!(text(output.stderr), "");
    let printed = text(output.stdout).replace(&config, "config.yml");
    assert_eq!(printed, only("explain, output"));
}

#[test]
fn a_body_is_saved_from_the_trace_log() {
    let config = format!("http: {{listen: '127.0.0.1:0', bearer_token: {TOKEN}}}\n{MAPPING}");
    let mut connector = Connector::with(&config, &["--stdout", "--log-level", "trace"]);
    // Alertmanager ends each body with a line end.
    let body = support::notification(&["é « ça » \"\\"]) + "\n";
    for sent in [support::notification(&["first"]), body.clone()] {
        assert_eq!(connector.post(&sent).status, 200);
    }
    connector.wait_for_log("ça");
    let dir = TempDir::new("saved");
    dir.file("config.yml", &config);
    // The journal, with the lines as the connector writes them.
    let log = dir.file("log", &connector.log());
    dir.program("journalctl", &format!("#!/bin/sh\ncat {log}\n"));
    let script =
        only("save a body").replace("canopsis-connector-prometheus --", &format!("{BINARY} --"));
    let path = std::env::var("PATH").unwrap();
    let output = Command::new("sh")
        .args(["-ec", &script])
        .current_dir(&dir.0)
        .env("PATH", format!("{}:{path}", dir.0.display()))
        .output()
        .unwrap();
    assert_success(&output, "the script");
    let saved = fs::read_to_string(dir.0.join("notification.json")).unwrap();
    let value = |json: &str| serde_json::from_str::<Value>(json).unwrap();
    assert_eq!(value(&saved), value(&body));
    assert!(text(output.stdout).starts_with("config.yml is valid"));
}

#[test]
fn rejected_alerts_are_named_as_shown() {
    let config = format!("http: {{listen: '127.0.0.1:0', bearer_token: {TOKEN}}}\n{MAPPING}");
    let connector = Connector::with(&config, &["--stdout"]);
    let mut notification: Value =
        serde_json::from_str(&support::notification(&["NoInstance", "Other"])).unwrap();
    notification["alerts"][0]["labels"]
        .as_object_mut()
        .unwrap()
        .remove("instance");
    let response = connector.post(&notification.to_string());
    assert_eq!(response.status, 200);
    let shown: Value = serde_json::from_str(&only("rejected alerts")).unwrap();
    assert_eq!(response.json(), shown);
}

#[test]
fn the_french_guide_shows_the_same_configuration() {
    for name in [
        "quick start, configuration",
        "quick start, Alertmanager",
        "quick start, alert",
    ] {
        let texts: BTreeSet<String> = marked(name).into_iter().map(|block| block.text).collect();
        assert_eq!(texts.len(), 1, "{name}: {texts:?}");
    }
    let check = only("quick start, check");
    assert!(only("quick start, start").starts_with(&check), "{check}");
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
    let page = document("docs/configuration.md");
    let (_, table) = page.split_once("| option | meaning |").unwrap();
    let table = table.split("\n\n").next().unwrap();
    assert_eq!(options(table), options(&help), "docs/configuration.md");
    let (_, section) = MAN.split_once("# OPTIONS").unwrap();
    let section = section.split("# ENVIRONMENT").next().unwrap();
    assert_eq!(options(section), options(&help), "manual");
}

#[test]
fn documented_variables_match_the_program() {
    let known = known_variables();
    let known: BTreeSet<&str> = known.iter().map(String::as_str).collect();
    assert_eq!(variables(MAN), known, "manual");
    let page = document("docs/configuration.md");
    assert_eq!(variables(&page), known, "docs/configuration.md");
    let others = user_documents();
    let others = others
        .iter()
        .map(|(name, text)| (text.as_str(), name.as_str()));
    for (text, what) in others.chain([
        (&*help(), "--help"),
        (include_str!("../sysconfig"), "sysconfig"),
        (CONFIG, "config.yml"),
        (include_str!("../contrib/kubernetes.yml"), "kubernetes.yml"),
    ]) {
        let unknown: Vec<_> = variables(text)
            .into_iter()
            .filter(|name| !known.contains(name))
            .collect();
        assert!(unknown.is_empty(), "{what}: {unknown:?}");
    }
}

/// The first code span of each row of the tables in a text.
fn first_cells(text: &str) -> Vec<String> {
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.filter_map(|row| row.split_once(" |"))
        .map(|(cell, _)| format!("`{cell}"))
        .collect()
}

#[test]
fn documented_keys_match_the_program() {
    let page = document("docs/configuration.md");
    let documented = |heading: &str| -> BTreeSet<String> {
        let cells = first_cells(section(&page, heading));
        let names = cells
            .iter()
            .flat_map(|cell| cell.split('`').skip(1).step_by(2));
        names.map(str::to_owned).collect()
    };
    let known = |prefix: &str, keys: &[&str]| -> BTreeSet<String> {
        keys.iter().map(|key| format!("{prefix}{key}")).collect()
    };
    assert_eq!(documented("## RabbitMQ: `amqp`"), known("amqp.", AMQP_KEYS));
    let mut http = known("http.", HTTP_KEYS);
    assert!(http.remove("http.tls"), "a section");
    http.extend(known("http.tls.", TLS_KEYS));
    assert_eq!(documented("## HTTP server: `http`"), http);
    assert_eq!(documented("## The event"), known("", EVENT_KEYS));

    let in_manual: BTreeSet<String> = ["# RABBITMQ: amqp", "# HTTP SERVER: http", "# EVENTS"]
        .iter()
        .flat_map(|heading| section(FORMAT_MAN, heading).lines())
        .filter(|line| line.starts_with('*'))
        .flat_map(|line| line.split(", "))
        .map(|word| word.trim_matches('*').to_owned())
        .collect();
    for key in AMQP_KEYS.iter().chain(HTTP_KEYS).chain(EVENT_KEYS) {
        let bold = format!("*{key}*");
        assert!(FORMAT_MAN.contains(&bold), "{key} in the manual");
        assert!(
            CONFIG.contains(&format!("{key}:")) || *key == "author",
            "{key} in config.yml"
        );
    }
    for key in TLS_KEYS {
        assert!(
            FORMAT_MAN.contains(&format!("_{key}_")),
            "{key} in the manual"
        );
        assert!(
            CONFIG.contains(&format!("#   {key}:")),
            "{key} in config.yml"
        );
    }
    for key in in_manual {
        let mut all = AMQP_KEYS.iter().chain(HTTP_KEYS).chain(EVENT_KEYS);
        assert!(all.any(|known| *known == key), "{key} in the manual");
    }
}

#[test]
fn documented_paths_and_functions_match_the_program() {
    let page = document("docs/mapping.md");
    let bold = |name: &str| FORMAT_MAN.contains(&format!("*{name}*"));
    for root in ROOTS {
        assert!(page.contains(&format!("`{root}")), "{root}");
        assert!(CONFIG.contains(root), "{root} in config.yml");
        assert!(bold(root), "{root} in the manual");
    }
    for function in gotemplate::function_names() {
        assert!(page.contains(&format!("`{function}")), "{function}");
        assert!(bold(function), "{function} in the manual");
    }
}

#[test]
fn documented_metrics_match_the_program() {
    let config = format!("http: {{listen: '127.0.0.1:0', bearer_token: {TOKEN}}}\n{MAPPING}");
    let connector = Connector::with(&config, &["--stdout"]);
    // Histograms of requests appear with the first one.
    connector.get("/-/healthy");
    let page = connector.get("/metrics").body;
    let exposed: BTreeSet<(String, String)> = page
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .filter_map(|line| line.split_once(' '))
        .map(|(name, kind)| (name.to_owned(), kind.to_owned()))
        .collect();
    let operations = document("docs/operations.md");
    let table = section(&operations, "## Metrics");
    let documented: BTreeSet<(String, String)> = table
        .lines()
        .filter(|line| line.starts_with("| `"))
        .flat_map(|row| {
            let mut cells = row.trim_matches('|').split(" | ");
            let (names, kind) = (cells.next().unwrap(), cells.next().unwrap().trim());
            let names = names.split('`').skip(1).step_by(2);
            names
                .map(|name| (name.to_owned(), kind.to_owned()))
                .collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(documented, exposed);
    // Every metric that another document names.
    for (name, text) in user_documents() {
        for span in code_spans(&text) {
            let metric = span.split(['{', ' ']).next().unwrap();
            if metric.starts_with("canopsis_connector_") && metric != "canopsis_connector_" {
                assert!(
                    exposed.iter().any(|(known, _)| known == metric),
                    "{name}: {metric}"
                );
            }
        }
    }
}

#[test]
fn documented_statuses_match_the_program() {
    let source = include_str!("../src/http/response.rs");
    let (_, table) = source.split_once("pub fn status(&self) -> u16 {").unwrap();
    let table = table.split("\n    }\n").next().unwrap();
    let mut known: BTreeSet<u16> = table
        .split(" => ")
        .skip(1)
        .filter_map(|rest| rest.split([',', '\n']).next()?.trim().parse().ok())
        .collect();
    // The responses to a notification that has been mapped.
    known.extend([200, 422]);
    let page = document("docs/http-api.md");
    let documented: BTreeSet<u16> = section(&page, "## Responses")
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split_once(" |")?.0.parse().ok())
        .collect();
    assert_eq!(documented, known);
}

/// Parts of messages that come from others: the operating system, RabbitMQ, OpenSSL, amiquip, systemd.
const FOREIGN: [&str; 12] = [
    "PRECONDITION_FAILED",
    "unknown ca",
    "peer did not return a certificate",
    "unsupported protocol",
    "Address already in use",
    "Connection refused",
    "NOT_ALLOWED - vhost",
    "access to vhost",
    "312 NO_ROUTE",
    "NOT_FOUND",
    "certificate verify failed",
    "217/USER",
];

fn sources(dir: &Path, text: &mut String) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, text);
        } else {
            text.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
}

/// The messages that operators search for are those of the program.
#[test]
fn quoted_messages_are_those_of_the_program() {
    let mut source = String::new();
    sources(Path::new("src"), &mut source);
    let source = source.split_whitespace().collect::<Vec<_>>().join(" ");
    let is_known = |part: &str| {
        // Numbers and names are formatted into the message.
        let mut words = part.split(|c: char| c.is_ascii_digit() || "(),:;".contains(c));
        words.all(|words| {
            let words = words.trim();
            words.len() < 4
                || source.contains(words)
                || words
                    .split(' ')
                    .all(|word| word.len() < 4 || source.contains(word))
        })
    };
    let troubleshooting = document("docs/troubleshooting.md");
    let http = document("docs/http-api.md");
    let mut checked = 0;
    for page in [&troubleshooting, section(&http, "## Responses")] {
        for span in code_spans(page) {
            let is_message = span.contains(' ')
                && ![
                    "ss ",
                    "journalctl ",
                    "docker ",
                    "chgrp ",
                    "chmod ",
                    "amtool ",
                    "rabbitmq-diagnostics ",
                    "systemctl ",
                ]
                .iter()
                .any(|command| span.starts_with(command))
                && !span.contains(": [")
                && !span.contains('}');
            if !is_message {
                continue;
            }
            for part in span.split("...") {
                let part = FOREIGN
                    .iter()
                    .fold(part.to_owned(), |part, foreign| part.replace(foreign, ""));
                assert!(is_known(part.trim()), "{span:?}: {part:?} is not in src/");
            }
            checked += 1;
        }
    }
    assert!(checked > 30, "{checked}");
}

/// Limits in the documents (page and words), and the constants that they come from (file and line).
const LIMITS: &[(&str, &str, &str, &str)] = &[
    (
        "docs/reliability.md",
        "| 128 MiB from the first byte",
        "src/service.rs",
        "MEMORY_LIMIT: usize = 128 << 20;",
    ),
    (
        "docs/reliability.md",
        "a quarter of it only for notifications of up to 64 KiB",
        "src/memory.rs",
        "RESERVED_PART: usize = 4;",
    ),
    (
        "docs/reliability.md",
        "| 8 fewer (half of them",
        "src/http/slots.rs",
        "RESERVED: usize = 8;",
    ),
    (
        "docs/reliability.md",
        "| 16 KiB, 100 lines, 10 s |",
        "src/http/request.rs",
        "MAX_HEADERS: usize = 100;",
    ),
    (
        "docs/reliability.md",
        "| 16 KiB, 100 lines, 10 s |",
        "src/http/connection.rs",
        "HEAD_TIMEOUT: Duration = Duration::from_secs(10);",
    ),
    (
        "docs/reliability.md",
        "(16 MiB), 30 s |",
        "src/http/body.rs",
        "BODY_TIMEOUT: Duration = Duration::from_secs(30);",
    ),
    (
        "docs/reliability.md",
        "| 50,000 alerts |",
        "src/alertmanager/mod.rs",
        "MAX_ALERTS: usize = 50_000;",
    ),
    (
        "docs/reliability.md",
        "| 1 MiB encoded |",
        "src/event.rs",
        "MAX_EVENT_BYTES: usize = 1 << 20;",
    ),
    (
        "docs/reliability.md",
        "at least 8 MiB and at most 64 MiB",
        "src/pipeline/mod.rs",
        "MIN_BATCH: usize = 8 << 20;",
    ),
    (
        "docs/reliability.md",
        "| 1,000 messages, 8 MiB;",
        "src/publisher/ledger/window.rs",
        "MAX_MESSAGES: usize = 1000;",
    ),
    (
        "docs/reliability.md",
        "| an idle connection | 6 minutes |",
        "src/http/server.rs",
        "IDLE_TIMEOUT: Duration = Duration::from_mins(6);",
    ),
    (
        "docs/reliability.md",
        "| writing a response | 10 s |",
        "src/http/connection.rs",
        "WRITE_TIMEOUT: Duration = Duration::from_secs(10);",
    ),
    (
        "docs/reliability.md",
        "| 256 KiB; 16 KiB for `replace` |",
        "src/alertmanager/mod.rs",
        "MAX_OBJECT: usize = 256 << 10;",
    ),
    (
        "docs/reliability.md",
        "5 s to connect, 10 s to log in, 30 s",
        "src/publisher/connection.rs",
        "LOGIN_LIMIT: Duration = Duration::from_secs(10);",
    ),
    (
        "docs/reliability.md",
        "remembers this for two minutes",
        "src/publisher/ledger/mod.rs",
        "PARKING_LIMIT: Duration = Duration::from_mins(2);",
    ),
    (
        "docs/reliability.md",
        "up to 2 MiB of such records",
        "src/publisher/ledger/parking.rs",
        "MAX_PARKED_BYTES: usize = 2 << 20;",
    ),
    (
        "docs/http-api.md",
        "`Retry-After: 5`",
        "src/http/response.rs",
        "RETRY_AFTER: &str = \"5\";",
    ),
    (
        "docs/http-api.md",
        "names the first 50",
        "src/pipeline/mod.rs",
        "MAX_NAMED: usize = 50;",
    ),
    (
        "docs/http-api.md",
        "no result after 9 s",
        "src/reload.rs",
        "RESULT_TIMEOUT: Duration = Duration::from_secs(9);",
    ),
    (
        "docs/http-api.md",
        "more than 4,096 labels",
        "src/alertmanager/labels.rs",
        "MAX_ENTRIES: usize = 4096;",
    ),
    (
        "docs/configuration.md",
        "1024 to 67108864",
        "src/config/settings.rs",
        "MAX_BODY_BYTES: usize = 64 << 20;",
    ),
    (
        "docs/configuration.md",
        "2 to 4096",
        "src/config/settings.rs",
        "MAX_CONNECTIONS: usize = 4096;",
    ),
    (
        "docs/configuration.md",
        "Above `9s` a warning",
        "src/config/settings.rs",
        "RECOMMENDED_ANSWER_TIMEOUT: Duration = Duration::from_secs(9);",
    ),
    (
        "docs/configuration.md",
        "less than 64 above it",
        "src/reload.rs",
        "RESERVED_FILES: usize = 64;",
    ),
    (
        "docs/configuration.md",
        "1,000 rules",
        "src/config/mapping.rs",
        "MAX_RULES: usize = 1000;",
    ),
];

#[test]
fn documented_limits_are_those_of_the_program() {
    for (page, claim, file, constant) in LIMITS {
        let text = document(page)
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ");
        assert!(text.contains(claim), "{page}: {claim:?}");
        assert!(
            document(file).contains(constant),
            "{file}: {constant:?}, for {claim:?}"
        );
    }
}

#[test]
fn named_targets_and_files_exist() {
    let makefile = document("Makefile");
    for (name, text) in documents() {
        let commands = blocks(&name, &text).into_iter().map(|block| block.text);
        for span in code_spans(&text).into_iter().chain(commands) {
            for line in span.lines() {
                let words: Vec<&str> = line.split_whitespace().collect();
                for pair in words.windows(2) {
                    if let ["--test", test] = pair
                        && test.chars().all(|c| c.is_ascii_lowercase() || c == '_')
                    {
                        let file = format!("tests/{test}.rs");
                        assert!(Path::new(&file).exists(), "{name}: --test {test}");
                    }
                }
                if let ["make", target, ..] = words[..]
                    && target.chars().all(|c| c.is_ascii_lowercase() || c == '-')
                {
                    let rule = format!("\n{target}:");
                    assert!(makefile.contains(&rule), "{name}: make {target}");
                }
            }
            let is_path = ["src/", "tests/", "scripts/", "contrib/", "crates/", "docs/"]
                .iter()
                .any(|dir| span.starts_with(dir));
            if is_path && !span.contains(['{', '*', ' ', '\n']) {
                let beside = Path::new(&name).with_file_name(&span);
                assert!(
                    Path::new(&span).exists() || beside.exists(),
                    "{name}: {span}"
                );
            }
        }
    }
}

/// `docs/installation.md` names what an old systemd ignores: all of it is in the unit.
#[test]
fn ignored_directives_are_those_of_the_unit() {
    let unit = include_str!("../canopsis-connector-prometheus.service");
    let page = document("docs/installation.md");
    let (_, paragraph) = page.split_once("**EL 8** has systemd 239").unwrap();
    let paragraph = paragraph.split("\n\n").next().unwrap();
    let directives: Vec<String> = code_spans(paragraph)
        .into_iter()
        .filter(|span| span.starts_with("Pro") || span.starts_with("Private"))
        .collect();
    assert_eq!(directives.len(), 6, "{directives:?}");
    for directive in directives {
        assert!(unit.contains(&format!("\n{directive}=")), "{directive}");
    }
}

#[test]
fn the_configuration_of_kubernetes_is_valid() {
    let file = include_str!("../contrib/kubernetes.yml");
    let (_, rest) = file.split_once("config.yml: |\n").unwrap();
    let lines = rest
        .lines()
        .map_while(|line| line.strip_prefix("    "))
        .collect::<Vec<&str>>();
    let config = lines.join("\n");
    let dir = TempDir::new("kubernetes");
    let path = dir.file("config.yml", &config);
    let output = run(
        &["-c", &path, "--check"],
        &[("PROMETHEUS_BEARER_TOKEN", TOKEN)],
        "",
    );
    assert_success(&output, "--check");
    assert_eq!(text(output.stderr), "");
}

/// Sends a raw request, and returns the status of the response.
fn status_of(connector: &Connector, request: &str) -> u16 {
    let mut stream = TcpStream::connect(connector.address).unwrap();
    stream.set_read_timeout(Some(support::TIMEOUT)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    line.split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .unwrap_or_else(|| panic!("{request:?}: {line:?}"))
}

/// `docs/http-api.md`, "Responses": each status that needs no server.
#[test]
fn requests_get_the_documented_status() {
    let config = format!(
        "http: {{listen: '127.0.0.1:0', bearer_token: {TOKEN}, max_body_bytes: 2048}}\n{MAPPING}"
    );
    let connector = Connector::with(&config, &["--stdout"]);
    let token = format!("Host: h\r\nAuthorization: Bearer {TOKEN}\r\n");
    let body = support::notification(&["A"]);
    let rejected = body.replace("\"instance\"", "\"other\"");
    let webhook = |method: &str, headers: &str, body: &str| {
        let length = body.len();
        format!(
            "{method} /webhook HTTP/1.1\r\n{token}{headers}Content-Length: {length}\r\n\r\n{body}"
        )
    };
    let get = |path: &str, version: &str| format!("GET {path} HTTP/{version}\r\nHost: h\r\n\r\n");
    let wrong_version = body.replace("\"version\":\"4\"", "\"version\":\"3\"");
    for (request, status) in [
        (webhook("POST", "", &body), 200),
        (webhook("PUT", "", &body), 200),
        (get("/-/healthy", "1.0"), 200),
        (get("/-/healthy", "1.1").replace("GET", "HEAD"), 200),
        (get("/-/healthy", "2.0"), 400),
        ("GET /-/healthy HTTP/1.1\r\n\r\n".to_owned(), 400),
        (webhook("POST", "Transfer-Encoding: chunked\r\n", ""), 400),
        (webhook("POST", "", &wrong_version), 400),
        (webhook("POST", "", "noise"), 400),
        (webhook("POST", "", &body).replace(TOKEN, "other"), 401),
        (get("/-/reload", "1.1").replace("GET", "POST"), 401),
        (get("/nothing", "1.1"), 404),
        (get("/api/v2/alerts", "1.1").replace("GET", "POST"), 404),
        (webhook("DELETE", "", ""), 405),
        (webhook("POST", "", &" ".repeat(2049)), 413),
        (webhook("POST", "Content-Encoding: gzip\r\n", &body), 415),
        (webhook("POST", "Expect: something\r\n", &body), 417),
        (webhook("POST", "", &rejected), 422),
        (format!("GET /{} HTTP/1.1\r\n", "x".repeat(16 << 10)), 431),
    ] {
        assert_eq!(status_of(&connector, &request), status, "{request}");
    }
    connector.rewrite("http: {}\n");
    let reload = format!("POST /-/reload HTTP/1.1\r\n{token}\r\n");
    assert_eq!(status_of(&connector, &reload), 500);
}

#[test]
fn an_empty_variable_is_an_error_except_tz() {
    let dir = TempDir::new("empty");
    let path = dir.file(
        "config.yml",
        &format!("http: {{bearer_token: {TOKEN}}}\n{MAPPING}"),
    );
    let check = |name: &str| run(&["-c", &path, "--check"], &[(name, "")], "").status;
    assert!(check("TZ").success());
    for name in known_variables() {
        assert!(!check(&name).success(), "{name}");
    }
}

#[test]
fn arithmetic_is_as_documented() {
    let dir = TempDir::new("arithmetic");
    let output = |template: &str| {
        let rules = format!("output: {{type: template, value: '{{{{ {template} }}}}'}}");
        let mapping = MAPPING.replace("output: {type: copy, value: annotations.summary}", &rules);
        let config = dir.file(
            "config.yml",
            &format!("http: {{bearer_token: {TOKEN}}}\n{mapping}"),
        );
        let sent = run(
            &["-c", &config, "--dry-run", "-"],
            &[],
            &payload("firing-one"),
        );
        let event: Value = serde_json::from_slice(&sent.stdout).unwrap();
        event["output"].as_str().map(str::to_owned)
    };
    for (template, result) in [
        ("add 9223372036854775807 1", Some("-9223372036854775808")),
        ("sub 1 2", Some("-1")),
        ("mult 9223372036854775807 2", Some("-2")),
        ("div 7 2", Some("3")),
        ("div 7 0", None),
    ] {
        assert_eq!(output(template).as_deref(), result, "{template}");
    }
}

#[test]
fn the_documented_compilers_are_those_of_the_project() {
    let page = document("docs/installation.md");
    let oldest = env!("CARGO_PKG_RUST_VERSION");
    let toolchain = document("rust-toolchain.toml");
    let (_, channel) = toolchain.split_once("channel = \"").unwrap();
    let pinned = channel.split('"').next().unwrap();
    let newest = pinned.rsplit_once('.').unwrap().0;
    assert!(page.contains(&format!("`rust-toolchain.toml`, {pinned}")));
    assert!(page.contains(&format!("Rust {oldest} to {newest};")));
}
