//! `--explain` and `--dry-run` with what Alertmanager's API prints. `servers/alertmanager.rs` has a real one.

use std::io::Read;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::TempFile;
use crate::support::connector::{BINARY, config_without_warning as config, run_with_config};
use crate::support::documents::only;

const MODES: [&str; 2] = ["--explain -", "--dry-run -"];

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
    (String::from_utf8(printed).unwrap(), peak)
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
    let (config, groups) = (
        TempFile::new(&config()),
        (0..10).map(group).collect::<Vec<_>>(),
    );
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
fn rejected_alerts_of_a_list_are_named_and_the_status_is_1() {
    let list = r#"[{"labels":{"alertname":"A","instance":"h"}},{"labels":{"instance":"h"}},3,{"labels":{"instance":"i"}}]"#;
    for mode in MODES {
        let printed = run_with_config(&config(), mode, list);
        assert_eq!(printed.status, Some(1));
        let printed = printed.stdout + &printed.stderr;
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
    let dry_run = |input: &str| run_with_config(&config(), "--log-level warn --dry-run -", input);
    let mapped = dry_run(&only("examples, alert"));
    assert_eq!((mapped.status, mapped.stderr.as_str()), (Some(0), ""));
    let rejected = dry_run(r#"[{"labels":{}}]"#);
    assert_eq!(rejected.status, Some(1));
    assert!(rejected.stderr.contains("rejected 1 of 1 alerts\n"));
}

#[test]
fn a_single_alert_is_mapped_as_in_its_notification() {
    let shown: Value = serde_json::from_str(&only("examples, alert")).unwrap();
    for mode in MODES {
        let run = |input: &Value| run_with_config(&config(), mode, &input.to_string());
        let (alone, notification) = (run(&shown["alerts"][0]), run(&shown));
        assert_eq!(alone.status, Some(0), "{}", alone.stderr);
        assert!(alone.stdout.contains("InstanceDown"));
        assert_eq!(alone.stdout, notification.stdout);
        assert_eq!(alone.stderr, notification.stderr);
    }
}
