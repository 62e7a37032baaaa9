//! The code blocks of the documents are run, and give what is shown.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use super::text;
use crate::support::connector::{BINARY, Connector, MAPPING, run};
use crate::support::documents::{blocks, document, marked, only, user_documents};
use crate::support::{TOKEN, TempDir, assert_success, payload};

/// The names of the code blocks that a test runs: here, or in `documents.rs`.
const RUN: [&str; 34] = [
    "French example, configuration",
    "French example, explanation",
    "French example, notification",
    "French example, two disks",
    "HTTPS, Alertmanager",
    "HTTPS, certificate",
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
    "quick start, amtool",
    "quick start, configuration",
    "quick start, start",
    "readiness",
    "rejected alerts",
    "save a body",
    "show the certificate",
    "summary, command",
    "summary, output",
    "trial, RabbitMQ",
];

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
                    assert!(RUN.contains(&test), "{place}: no test runs {test:?}");
                    used.insert(test.to_owned());
                }
                Some(("not run", reason)) => assert!(reason.len() > 8, "{place}"),
                _ => panic!("{place}: {marker:?}"),
            }
        }
    }
    assert_eq!(used.len(), RUN.len(), "{used:?}");
}

#[test]
fn every_worked_example_gives_the_shown_event() {
    let shown: Value = serde_json::from_str(&only("examples, alert")).unwrap();
    let sent: Value = serde_json::from_str(&payload("firing-one")).unwrap();
    for (key, value) in shown["alerts"][0].as_object().unwrap() {
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
        let others = others.collect::<Vec<&str>>().join("\n").replace(
            "{type: copy, value: labels.instance}",
            "[{type: copy, value: labels.instance}, unknown]",
        );
        let config = dir.file(
            "config.yml",
            &format!("http: {{bearer_token: {TOKEN}}}\n{others}\n{rules}\n"),
        );
        let input = "tests/data/payloads/firing-one.json";
        let output = run(&["-c", &config, "--dry-run", input], &[], "");
        let summary = "Summary of 1 alert: 1 event\n";
        assert_eq!(text(output.stderr), summary, "{rules}");
        let sent: Value = serde_json::from_slice(&output.stdout).unwrap();
        let shown: Value = serde_json::from_str(&event.text).unwrap();
        for (key, value) in shown.as_object().unwrap() {
            assert_eq!(&sent[key], value, "{key} of {rules}");
        }
    }
}

/// A configuration of the documents, with a secret token in place of the published one.
fn configuration(marker: &str) -> String {
    only(marker)
        .replace("a-secret", TOKEN)
        .replace("a-long-random-word", TOKEN)
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
        assert_eq!(errors_of(&configuration(config)), only(output));
    }
}

#[test]
fn a_configuration_of_the_old_connector_works_unchanged() {
    let dir = TempDir::new("migration");
    let config = dir.file("config.yml", &configuration("migration, configuration"));
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
        let stderr = text(output.stderr);
        let warning = "component: an alert without labels.instance is rejected";
        assert!(
            stderr.lines().count() == 1 && stderr.contains(warning),
            "{command}: {stderr}"
        );
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
    let config = dir.file("config.yml", &configuration("explain, configuration"));
    let notification = dir.file("notification.json", &only("examples, alert"));
    let command = &marked("explain, command")[0].text;
    assert_eq!(
        command,
        "canopsis-connector-prometheus --config config.yml --explain notification.json\n"
    );
    let output = run(&["--config", &config, "--explain", &notification], &[], "");
    assert_eq!(text(output.stderr), "");
    assert_shown(&only("explain, output"), &text(output.stdout));
}

/// Each part of a shown text between lines of `...` is in the printed one, in this order.
fn assert_shown(shown: &str, printed: &str) {
    let mut rest = printed;
    for part in shown.split("...\n") {
        let (_, after) = rest
            .split_once(part)
            .unwrap_or_else(|| panic!("{part} is not in {printed}"));
        rest = after;
    }
}

/// The five forms of rules, and two disks of one host, as `docs/fr.md` explains them.
#[test]
fn the_french_examples_give_what_is_shown() {
    let dir = TempDir::new("french");
    let notification = dir.file("notification.json", &only("French example, notification"));
    let rules = only("French example, configuration");
    let explain = |rules: &str| {
        let others = format!("http: {{bearer_token: {TOKEN}}}\nconnector: prometheus\n");
        let config = dir.file("config.yml", &format!("{others}{rules}"));
        let output = run(&["-c", &config, "--explain", &notification], &[], "");
        assert_eq!(text(output.stderr), "", "{rules}");
        text(output.stdout)
    };
    let printed = explain(&rules);
    assert_shown(&only("French example, explanation"), &printed);
    let resource = rules.lines().find(|line| line.starts_with("resource:"));
    let separated = rules.replace(
        resource.unwrap(),
        only("French example, two disks").trim_end(),
    );
    let printed = explain(&separated);
    assert!(!printed.contains("Merged"), "{printed}");
    let page = document("docs/fr.md");
    for disk in ["DisquePlein /dev/sda1", "DisquePlein /dev/sdb1"] {
        assert!(page.contains(&format!("`{disk}`")));
        assert!(
            printed.contains(&format!("resource = \"{disk}\"")),
            "{printed}"
        );
    }
}

/// `servers/alertmanager.rs` runs the command above the output.
#[test]
fn a_summary_is_printed_as_shown() {
    let dir = TempDir::new("summary");
    let config = dir.file("config.yml", &configuration("explain, configuration"));
    let alert = |labels: [&str; 4]| {
        let [name, severity, device, mountpoint] = labels;
        let mut labels = json!({"alertname": name, "severity": severity, "instance": "db:9100"});
        if !device.is_empty() {
            labels["device"] = json!(device);
            labels["mountpoint"] = json!(mountpoint);
        }
        json!({"labels": labels, "status": {"state": "active"}})
    };
    let group = |labels: Value, alerts: &[Value]| json!({"labels": labels, "receiver": {"name": "canopsis"}, "alerts": alerts});
    let mut silenced = alert(["DiskFull", "critical", "/dev/sdc1", "/srv"]);
    silenced["status"]["state"] = json!("suppressed");
    let groups = json!([
        group(
            json!({"alertname": "DiskFull", "job": "node"}),
            &[
                alert(["DiskFull", "critical", "/dev/sda1", "/"]),
                alert(["DiskFull", "critical", "/dev/sdb1", "/var"]),
                silenced,
            ]
        ),
        group(
            json!({"alertname": "Down", "job": "blackbox"}),
            &[alert(["Down", "critical", "", ""])]
        ),
        group(
            json!({"alertname": "Down", "job": "node"}),
            &[alert(["Down", "critical", "", ""])]
        ),
        group(
            json!({"alertname": "LoadHigh", "job": "node"}),
            &[
                alert(["LoadHigh", "critical", "", ""]),
                alert(["LoadHigh", "warning", "", ""])
            ]
        ),
    ]);
    let output = run(
        &["--config", &config, "--explain", "-"],
        &[],
        &groups.to_string(),
    );
    let printed = text(output.stdout);
    let (_, summary) = printed.split_once("\nSummary").unwrap();
    assert_eq!(format!("Summary{summary}"), only("summary, output"));
}

#[test]
fn a_body_is_saved_from_the_trace_log() {
    let config = format!("http: {{listen: '127.0.0.1:0', bearer_token: {TOKEN}}}\n{MAPPING}");
    let mut connector = Connector::with(&config, &["--stdout", "--log-level", "trace"]);
    // Alertmanager ends each body with a line end.
    let body = crate::support::notification(&["é « ça » \"\\"]) + "\n";
    for sent in [crate::support::notification(&["first"]), body.clone()] {
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
        .current_dir(dir.path())
        .env("PATH", format!("{}:{path}", dir.path().display()))
        .output()
        .unwrap();
    assert_success(&output, "the script");
    let saved = fs::read_to_string(dir.path().join("notification.json")).unwrap();
    let value = |json: &str| serde_json::from_str::<Value>(json).unwrap();
    assert_eq!(value(&saved), value(&body));
    assert!(text(output.stdout).starts_with("config.yml is valid"));
}

#[test]
fn rejected_alerts_are_named_as_shown() {
    let config = format!("http: {{listen: '127.0.0.1:0', bearer_token: {TOKEN}}}\n{MAPPING}");
    let connector = Connector::with(&config, &["--stdout"]);
    let mut notification: Value =
        serde_json::from_str(&crate::support::notification(&["NoInstance", "Other"])).unwrap();
    notification["alerts"][0]["labels"]
        .as_object_mut()
        .unwrap()
        .remove("instance");
    let response = connector.post(&notification.to_string());
    assert_eq!(response.status, 200);
    let shown: Value = serde_json::from_str(&only("rejected alerts")).unwrap();
    assert_eq!(response.json(), shown);
}

/// A text without comments: those of the French guide are French.
fn without_comments(text: &str) -> String {
    let lines = text.lines().map(|line| line.split(" #").next().unwrap());
    lines.map(str::trim_end).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_french_guide_shows_the_same_commands() {
    let french: BTreeSet<String> = blocks("docs/fr.md", &document("docs/fr.md"))
        .into_iter()
        .filter_map(|block| block.marker)
        .collect();
    for name in RUN {
        let texts = marked(name);
        if name.starts_with("example") || !french.contains(&format!("test: {name}")) {
            continue;
        }
        let texts: BTreeSet<String> = texts
            .iter()
            .map(|block| without_comments(&block.text))
            .collect();
        assert_eq!(texts.len(), 1, "{name}: {texts:?}");
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
