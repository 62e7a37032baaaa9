//! `--explain` and `--dry-run` with what Alertmanager's API prints. `servers/alertmanager.rs` has a real one.

use std::process::Command;

use serde_json::{Value, json};

use crate::support::connector::{BINARY, MAPPING, run, run_with_input};
use crate::support::documents::only;
use crate::support::{TOKEN, TempFile};

const MODES: [&str; 2] = ["--explain", "--dry-run"];

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn config() -> TempFile {
    TempFile::new(&format!("http: {{bearer_token: {TOKEN}}}\n{MAPPING}"))
}

/// The alerts of a large list are explained one after the other, and its summary stays short.
#[test]
fn a_large_list_takes_little_more_memory_than_itself() {
    let alert = |number: usize| {
        json!({
            "labels": {
                "alertname": format!("A{}", number % 500), "instance": "host:9100", "severity": "critical",
                "device": number.to_string(),
            },
            "annotations": {"summary": "x".repeat(600)}, "status": {"state": "active"},
            "startsAt": "2026-11-30T07:30:39.915Z",
        })
    };
    let group = |number: usize| {
        let alerts: Vec<Value> = (0..1_000).map(alert).collect();
        json!({"labels": {"group": number.to_string()}, "receiver": {"name": "canopsis"}, "alerts": alerts})
    };
    let list = Value::from((0..10).map(group).collect::<Vec<_>>()).to_string();
    let (list, config) = (TempFile::new(&list), config());
    for mode in MODES {
        // The program itself takes 40 MiB of addresses, the list 8 MiB.
        let script = format!(
            "ulimit -v 70000 && exec {BINARY} -c {} {mode} {}",
            &*config, &*list
        );
        let output = run_with_input(Command::new("sh").args(["-c", &script]), "");
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{mode}: {stderr}");
        let printed = text(&output.stdout) + &stderr;
        let (_, summary) = printed
            .split_once("Summary of 10000 alerts in 10 groups: 5000 events, 5000 merged\n")
            .unwrap();
        let expected = "\n        and 4999 more entities with the same labels\n";
        assert!(summary.contains(expected), "{mode}: {summary}");
        assert!(summary.lines().count() < 20, "{mode}: {summary}");
    }
}

#[test]
fn a_malformed_list_is_explained() {
    let config = config();
    for mode in MODES {
        for (input, reason) in [
            (
                "",
                "the input is empty: has the command that prints it failed?",
            ),
            (
                "404 page not found\n",
                "not an Alertmanager notification: expected an object",
            ),
            (
                "[{\"labels\"",
                "not a list of alerts as Alertmanager's API prints it: EOF while parsing",
            ),
            (
                "[{\"alerts\":[]}]",
                "group 1 of the list is malformed: missing field `labels`",
            ),
            (
                r#"{"status":"success","data":{"alerts":[{"labels":{}}]}}"#,
                "its alerts lack the external labels and the relabelling of alerts; use GET /api/v2/alerts/groups of Alertmanager",
            ),
        ] {
            let output = run(&["-c", &config, mode, "-"], &[], input);
            let printed = (output.status.code(), text(&output.stdout));
            assert_eq!(printed, (Some(1), String::new()), "{input}");
            let stderr = text(&output.stderr);
            assert!(stderr.contains(reason), "{input}: {stderr}");
        }
    }
}

#[test]
fn rejected_alerts_of_a_list_are_named_and_the_status_is_1() {
    let config = config();
    let list = r#"[{"labels":{"alertname":"A","instance":"h"}},{"labels":{"instance":"h"}},3,{"labels":{"instance":"i"}}]"#;
    for mode in MODES {
        let output = run(&["-c", &config, mode, "-"], &[], list);
        assert_eq!(output.status.code(), Some(1));
        let printed = text(&output.stdout) + &text(&output.stderr);
        for part in [
            "Summary of 4 alerts: 1 event, 3 rejected\n",
            "\nRejected alerts:\n    2, 4: required field resource has no value: labels.alertname is absent\n    3: malformed: expected an object",
            "canopsis-connector-prometheus: rejected 3 of 4 alerts\n",
        ] {
            assert!(printed.contains(part), "{mode}: {part}: {printed}");
        }
    }
}

#[test]
fn a_dry_run_without_information_has_no_summary() {
    let arguments = ["-c", &*config(), "--log-level", "warn", "--dry-run", "-"];
    let output = run(&arguments, &[], &only("examples, alert"));
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(text(&output.stderr), "");
    let rejected = run(&arguments, &[], r#"[{"labels":{}}]"#);
    assert_eq!(rejected.status.code(), Some(1));
    assert!(text(&rejected.stderr).contains("rejected 1 of 1 alerts\n"));
}

#[test]
fn a_single_alert_is_mapped_as_in_its_notification() {
    let config = config();
    let shown = only("examples, alert");
    let shown: Value = serde_json::from_str(&shown).unwrap();
    for mode in MODES {
        let run = |input: &Value| run(&["-c", &config, mode, "-"], &[], &input.to_string());
        let (alone, notification) = (run(&shown["alerts"][0]), run(&shown));
        assert_eq!(alone.status.code(), Some(0), "{}", text(&alone.stderr));
        assert!(text(&alone.stdout).contains("InstanceDown"));
        assert_eq!(text(&alone.stdout), text(&notification.stdout));
        assert_eq!(text(&alone.stderr), text(&notification.stderr));
    }
}
