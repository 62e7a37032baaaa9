//! `--explain` and `--dry-run` with what Alertmanager's API prints. `servers/alertmanager.rs` has a real one.

use std::io::Read;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::connector::{BINARY, MAPPING, run};
use crate::support::documents::only;
use crate::support::{TOKEN, TempFile};

const MODES: [&str; 2] = ["--explain", "--dry-run"];

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn config() -> TempFile {
    // With a last rule that always has a value, nothing is warned of.
    let mapping = MAPPING.replace(
        "{type: copy, value: labels.instance}",
        "[{type: copy, value: labels.instance}, unknown]",
    );
    TempFile::new(&format!("http: {{bearer_token: {TOKEN}}}\n{mapping}"))
}

/// What `--explain` prints, and the peak of its resident memory in bytes.
fn explained(config: &str, list: &Value) -> (String, usize) {
    let list = TempFile::new(&list.to_string());
    let mut command = Command::new(BINARY);
    command.args(["-c", config, "--explain", &*list]);
    let mut child = command.env_clear().stdout(Stdio::piped()).spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let (mut printed, mut peak) = (Vec::new(), 0);
    let mut stdout = child.stdout.take().unwrap();
    let mut buffer = [0; 1 << 13];
    loop {
        // It waits for the reader, except at its end.
        let status = std::fs::read_to_string(&status).unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with("VmHWM:"));
        let kib = line.and_then(|line| line.split_whitespace().nth(1));
        peak = peak.max(kib.map_or(0, |kib| kib.parse::<usize>().unwrap() << 10));
        match stdout.read(&mut buffer).unwrap() {
            0 => break,
            read => printed.extend_from_slice(&buffer[..read]),
        }
    }
    assert!(child.wait().unwrap().success());
    assert!(peak > 0);
    (text(&printed), peak)
}

/// The alerts of a large list are explained one after the other, and its summary stays short.
#[test]
fn a_large_list_takes_little_memory_and_has_a_short_summary() {
    let alert = |number: usize| {
        json!({
            "labels": {
                "alertname": format!("A{}", number % 500), "instance": "host:9100", "severity": "critical",
                "device": number.to_string(),
            },
            "status": {"state": "active"}, "startsAt": "2026-11-30T07:30:39.915Z",
        })
    };
    let group = |number: usize| {
        let alerts: Vec<Value> = (0..1_000).map(alert).collect();
        json!({"labels": {"group": number.to_string()}, "receiver": {"name": "canopsis"}, "alerts": alerts})
    };
    let (config, groups) = (config(), (0..10).map(group).collect::<Vec<_>>());
    let (_, of_one_group) = explained(&config, &json!(groups[..1]));
    let (printed, peak) = explained(&config, &json!(groups));
    // An explanation takes some KiB.
    let of_an_alert = peak.saturating_sub(of_one_group) / 9_000;
    assert!(of_an_alert < 2_000, "{of_an_alert} bytes");
    let (_, summary) = printed
        .split_once("Summary of 10000 alerts in 10 groups: 5000 events, 5000 merged\n")
        .unwrap();
    let expected = "\n        and 4999 more entities with the same labels\n";
    assert!(summary.contains(expected), "{summary}");
    assert!(summary.lines().count() < 20, "{summary}");
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
