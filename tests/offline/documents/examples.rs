//! The code blocks of the documents are run, and give what is shown.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::text;
use crate::support::connector::{
    BINARY, Connector, config_without_broker, config_without_warning, run_with_config,
};
use crate::support::documents::{
    self, blocks, document, files_below, marked, only, user_documents,
};
use crate::support::{TOKEN, TempDir, TempFile, assert_success, notification, payload};

#[test]
fn every_code_block_is_run_or_has_a_reason_not_to_be() {
    let files = files_below(Path::new("tests")).into_iter();
    let sources = files.filter(|path| path.extension().is_some_and(|end| end == "rs"));
    let sources: String = sources
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    for (name, text) in user_documents() {
        for block in blocks(&name, &text) {
            let place = format!("{name}:{}", block.line);
            let marker = block
                .marker
                .unwrap_or_else(|| panic!("{place}: no comment says which test runs it"));
            match marker.split_once(": ") {
                Some(("test", test)) => {
                    let is_used = sources.contains(&format!("{test:?}"));
                    assert!(is_used, "{place}: no test runs {test:?}");
                }
                Some(("not run", reason)) => assert!(reason.len() > 8, "{place}"),
                _ => panic!("{place}: {marker:?}"),
            }
        }
    }
}

#[test]
fn every_worked_example_gives_the_shown_event() {
    let shown: Value = serde_json::from_str(&only("examples, alert")).unwrap();
    let sent = payload("firing-one");
    let alert = &serde_json::from_str::<Value>(&sent).unwrap()["alerts"][0];
    for (key, value) in shown["alerts"][0].as_object().unwrap() {
        assert_eq!(&alert[key], value, "{key} of the alert");
    }
    let (examples, events) = (marked("example"), marked("example, event"));
    assert_eq!(examples.len(), events.len());
    let mapping = config_without_warning();
    for (example, event) in examples.iter().zip(events) {
        let rules = &example.text;
        let key = |line: &str| line.split_once(':').map(|(key, _)| key.to_owned());
        let keys: Vec<String> = rules.lines().filter_map(key).collect();
        let mut others = mapping.lines().collect::<Vec<&str>>();
        others.retain(|line| key(line).is_none_or(|key| !keys.contains(&key)));
        let config = format!("{}\n{rules}\n", others.join("\n"));
        let printed = run_with_config(&config, "--dry-run -", &sent);
        assert_eq!(printed.stderr, "Summary of 1 alert: 1 event\n", "{rules}");
        let shown: Value = serde_json::from_str(&event.text).unwrap();
        for (key, value) in shown.as_object().unwrap() {
            assert_eq!(&printed.events()[0][key], value, "{key} of {rules}");
        }
    }
}

/// A configuration of the documents, with a secret token in place of the published one.
fn configuration(marker: &str) -> String {
    let config = only(marker);
    config
        .replace("a-secret", TOKEN)
        .replace("a-long-random-word", TOKEN)
}

/// Runs a command of the documents with a configuration and a notification, and returns its standard output and standard error.
fn run_shown(command: &str, config: &str, notification: &str) -> (String, String) {
    let dir = TempDir::new("shown");
    dir.file("config.yml", config);
    dir.file("notification.json", notification);
    fs::create_dir(dir.path().join("bin")).unwrap();
    let program = format!("#!/bin/sh\nexec {BINARY} \"$@\"\n");
    dir.program("bin/canopsis-connector-prometheus", &program);
    let output = documents::command(&dir, command).output().unwrap();
    assert_success(&output, command);
    (text(output.stdout), text(output.stderr))
}

#[test]
fn the_errors_are_reported_as_shown() {
    for (config, expected) in [
        (
            configuration("errors, configuration"),
            only("errors, output"),
        ),
        (
            configuration("migration, errors"),
            only("migration, errors, output"),
        ),
        (
            configuration("migration, YAML"),
            only("migration, YAML, output"),
        ),
    ] {
        let printed = run_with_config(&config, "--check", "");
        assert_eq!(printed.status, Some(2), "{config}");
        assert_eq!(printed.stderr, expected, "{config}");
    }
    // A key that has another place now.
    let old = "bearer_token: x\nconnector: c\ncomponent: x\nresource: r\n";
    let printed = run_with_config(old, "--check", "");
    assert_eq!(printed.status, Some(2), "{old}");
    let names_the_place = printed.stderr.contains("http.bearer_token");
    assert!(names_the_place, "{}", printed.stderr);
}

#[test]
fn a_configuration_of_the_old_connector_works_unchanged() {
    let (config, sent) = (
        configuration("migration, configuration"),
        payload("firing-one"),
    );
    for name in ["migration, check", "migration, explain"] {
        let (_, stderr) = run_shown(&only(name), &config, &sent);
        let warning = "component: an alert without labels.instance is rejected";
        assert!(
            stderr.lines().count() == 1 && stderr.contains(warning),
            "{name}: {stderr}"
        );
    }
    let event = run_with_config(&config, "--dry-run -", &sent)
        .events()
        .remove(0);
    for (key, value) in [
        ("connector_name", json!("prometheus1")),
        ("component", json!("node_exporter:9100")),
        ("resource", json!("InstanceDown")),
        ("prom_title", json!("Prometheus node_exporter:9100 down")),
        ("prom_type", json!("alert")),
        ("state", json!(3)),
    ] {
        assert_eq!(event[key], value, "{key}");
    }
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

#[test]
fn an_explanation_is_printed_as_shown() {
    let config = configuration("explain, configuration");
    let command = &marked("explain, command")[0].text;
    let (printed, errors) = run_shown(command, &config, &only("examples, alert"));
    assert_eq!(errors, "");
    assert_shown(&only("explain, output"), &printed);
}

/// The five forms of rules, and two disks of one host, as `docs/fr.md` explains them.
#[test]
fn the_french_examples_give_what_is_shown() {
    let rules = only("French example, configuration");
    let explain = |rules: &str| {
        let config = format!("http: {{bearer_token: {TOKEN}}}\nconnector: prometheus\n{rules}");
        let notification = only("French example, notification");
        let printed = run_with_config(&config, "--explain -", &notification);
        assert_eq!(printed.stderr, "", "{rules}");
        printed.stdout
    };
    assert_shown(&only("French example, explanation"), &explain(&rules));
    let resource = rules
        .lines()
        .find(|line| line.starts_with("resource:"))
        .unwrap();
    let separated = only("French example, two disks");
    let printed = explain(&rules.replace(resource, separated.trim_end()));
    assert!(!printed.contains("Merged"), "{printed}");
    let page = document("docs/fr.md");
    for disk in ["DisquePlein /dev/sda1", "DisquePlein /dev/sdb1"] {
        assert!(page.contains(&format!("`{disk}`")));
        let shown = format!("resource = \"{disk}\"");
        assert!(printed.contains(&shown), "{printed}");
    }
}

/// `servers/alertmanager.rs` runs the command above the output.
#[test]
fn a_summary_is_printed_as_shown() {
    let alert = |name: &str, severity: &str, disk: &str| {
        let (device, mountpoint) = disk.split_once(' ').unwrap_or_default();
        let labels = json!({
            "alertname": name, "severity": severity, "instance": "db:9100", "device": device, "mountpoint": mountpoint,
        });
        json!({"labels": labels, "status": {"state": "active"}})
    };
    let group = |name: &str, job: &str, alerts: &[Value]| json!({"labels": {"alertname": name, "job": job}, "receiver": {"name": "canopsis"}, "alerts": alerts});
    let disks = ["/dev/sda1 /", "/dev/sdb1 /var", "/dev/sdc1 /srv"];
    let mut disks = disks.map(|disk| alert("DiskFull", "critical", disk));
    disks[2]["status"]["state"] = json!("suppressed");
    let loads = ["critical", "warning"].map(|severity| alert("LoadHigh", severity, ""));
    let down = [alert("Down", "critical", "")];
    let groups = json!([
        group("DiskFull", "node", &disks),
        group("Down", "blackbox", &down),
        group("Down", "node", &down),
        group("LoadHigh", "node", &loads),
    ]);
    let config = configuration("explain, configuration");
    let printed = run_with_config(&config, "--explain -", &groups.to_string()).stdout;
    let (_, summary) = printed.split_once("\nSummary").unwrap();
    assert_eq!(format!("Summary{summary}"), only("summary, output"));
}

#[test]
fn a_body_is_saved_from_the_trace_log() {
    let config = config_without_broker();
    let mut connector = Connector::with(&config, &["--stdout", "--log-level", "trace"]);
    // Alertmanager ends each body with a line end.
    let body = notification(&["é « ça » \"\\"]) + "\n";
    for sent in [&notification(&["first"]), &body] {
        assert_eq!(connector.post(sent).status, 200);
    }
    connector.wait_for_log("ça");
    // The journal, with the lines as the connector writes them.
    let log = TempFile::new(&connector.log());
    let journal = format!("journalctl() {{ cat {}; }}", &*log);
    let script = format!(
        "{journal}\n{}\necho; cat notification.json",
        only("save a body")
    );
    let (printed, _) = run_shown(&script, &config, "");
    assert!(printed.starts_with("config.yml is valid"), "{printed}");
    let saved = printed.lines().last().unwrap();
    let value = |json: &str| serde_json::from_str::<Value>(json).unwrap();
    assert_eq!(value(saved), value(&body));
}

#[test]
fn rejected_alerts_are_named_as_shown() {
    let connector = Connector::with(&config_without_broker(), &["--stdout"]);
    let sent = notification(&["NoInstance", "Other"]).replacen("\"instance\"", "\"other\"", 1);
    let response = connector.post(&sent);
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
    let blocks = blocks("docs/fr.md", &document("docs/fr.md"));
    let markers = blocks.into_iter().filter_map(|block| block.marker);
    let mut compared = 0;
    for marker in markers {
        let Some(name) = marker.strip_prefix("test: ") else {
            continue;
        };
        let texts = marked(name);
        compared += usize::from(texts.len() > 1);
        let texts = texts.iter().map(|block| without_comments(&block.text));
        let texts: BTreeSet<String> = texts.collect();
        assert_eq!(texts.len(), 1, "{name}: {texts:?}");
    }
    assert!(compared > 5, "{compared}");
}

#[test]
fn arithmetic_is_as_documented() {
    for (template, result) in [
        ("add 9223372036854775807 1", json!("-9223372036854775808")),
        ("sub 1 2", json!("-1")),
        ("mult 9223372036854775807 2", json!("-2")),
        ("div 7 2", json!("3")),
        ("div 7 0", Value::Null),
    ] {
        let rule = format!("long_output: {{type: template, value: '{{{{ {template} }}}}'}}");
        let config = format!("{}{rule}\n", config_without_broker());
        let printed = run_with_config(&config, "--dry-run -", &payload("firing-one"));
        assert_eq!(printed.events()[0]["long_output"], result, "{template}");
    }
}
