//! The command line: every mode and every exit status.

use crate::support::connector::{Connector, MAPPING, config, run};
use crate::support::{TOKEN, TempFile, notification, payload};
use serde_json::{Value, json};

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn help_and_version_are_printed_and_wrong_usage_is_rejected() {
    let help = run(&["--help"], &[], "");
    assert_eq!(help.status.code(), Some(0));
    assert!(text(&help.stdout).contains("Usage: canopsis-connector-prometheus [OPTIONS]"));
    let version = run(&["-V"], &[], "");
    let version = text(&version.stdout);
    let (name, built) = version.trim_end().split_once(" (commit ").unwrap();
    assert!(
        name.starts_with("canopsis-connector-prometheus v"),
        "{version}"
    );
    assert!(
        built
            .split_once(", rustc ")
            .is_some_and(|(commit, rustc)| commit.len() >= 7 && rustc.starts_with("1.")),
        "{version}"
    );
    let wrong = run(&["--chekc"], &[], "");
    assert_eq!(wrong.status.code(), Some(2));
    assert!(
        text(&wrong.stderr)
            .contains("unknown option --chekc; did you mean \"--check\"?; see --help")
    );
}

#[test]
fn check_distinguishes_valid_from_invalid_configurations() {
    let good = run(
        &["-c", "config.yml", "--check"],
        &[("PROMETHEUS_BEARER_TOKEN", "hunter2")],
        "",
    );
    assert_eq!(good.status.code(), Some(0), "{}", text(&good.stderr));
    let summary = text(&good.stdout);
    for line in [
        "config.yml is valid",
        "broker:       amqp://cpsrabbit@localhost:5672/canopsis",
        "exchange:     canopsis.events",
        "listen:       0.0.0.0:18401",
        "tokens:       1 (not shown)",
        "extra infos:  prom_labels_severity, prom_title, prom_event_type",
    ] {
        assert!(summary.contains(line), "{line} in {summary}");
    }
    assert!(!summary.contains("hunter2") && !summary.contains("canopsis@"));
    assert_eq!(text(&good.stderr), "");
    let faulty = TempFile::new(
        "http: {bearer_tokn: hunter2}\nconnector: prometheus\namqp: {url: 'amq://u:hunter2@h'}\n",
    );
    let faulty = run(&["-c", &faulty, "--check"], &[], "");
    assert_eq!(
        (faulty.status.code(), text(&faulty.stdout).as_str()),
        (Some(2), "")
    );
    let stderr = text(&faulty.stderr);
    for diagnostic in [
        "6 errors; configuration rejected",
        "line 1, column 8: http.bearer_tokn: unknown key; did you mean \"bearer_token\"?",
        "line 3, column 8: amqp.url: the URL must begin with amqp:// or amqps://",
        "component: required but not set",
    ] {
        assert!(stderr.contains(diagnostic), "{diagnostic} in {stderr}");
    }
    assert!(!stderr.contains("hunter2"));
    let missing = run(&["-c", "/no/such.yml", "--check"], &[], "");
    assert_eq!(missing.status.code(), Some(2));
    assert!(text(&missing.stderr).contains("cannot read the configuration /no/such.yml"));
}

#[test]
fn check_warns_about_what_is_probably_not_intended() {
    let config = std::fs::read_to_string("config.yml")
        .unwrap()
        .replace(".RegexMatch.Substr", ".RegexMatch.Sbstr");
    let environment = [("PROMETHEUS_BEARER_TOKEN", "hunter2")];
    let checked = run(
        &["-c", &TempFile::new(&config), "--check"],
        &environment,
        "",
    );
    assert_eq!(checked.status.code(), Some(0), "{}", text(&checked.stderr));
    let stderr = text(&checked.stderr);
    let warning = "extra_infos.title[0].value: the template always fails: at 1:15 of the template: .RegexMatch.Sbstr: the \
                   regexp has no such group (named groups: Substr); did you mean \"Substr\"?";
    assert!(stderr.contains(warning), "{stderr}");
    assert_eq!(
        (stderr.lines().count(), stderr.contains("hunter")),
        (1, false),
        "{stderr}"
    );
}

#[test]
fn check_resolves_the_listen_address() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let config = TempFile::new(&config("amqp://127.0.0.1:1", "", MAPPING));
    for (host, status) in [
        ("127.0.0.1", 0),
        ("::1", 0),
        ("localhost", 0),
        ("nope.invalid", 1),
        ("no host", 1),
        ("127.0.0.1:80", 1),
    ] {
        // The port is in use: it is not bound.
        let arguments = ["-c", &config, "--check", "--host", host, "--port", &port];
        let output = run(&arguments, &[], "");
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{host}: {stderr}");
        assert_eq!(output.stdout.is_empty(), status == 1, "{host}");
        assert_eq!(
            stderr.contains("cannot resolve the listen address"),
            status == 1,
            "{host}: {stderr}"
        );
    }
}

#[test]
fn hostile_files_end_check_with_status_2() {
    let token = format!("http: {{bearer_token_file: /dev/zero}}\n{MAPPING}\n");
    let deep_list = format!("connector: {}", "[".repeat(100_000));
    let laughs: Vec<String> = (1..100)
        .map(|n| format!("a{n}: &a{n} [*a{0}, *a{0}, *a{0}]\n", n - 1))
        .collect();
    let laughs = ["a0: &a0 x\n", &laughs.concat()].concat();
    let long = "- x\n".repeat(50 << 18);
    let [token, deep_list, laughs, long] =
        [token, deep_list, laughs, long].map(|text| TempFile::new(&text));
    for (path, reason) in [
        (
            &*deep_list,
            "line 1, column 43: invalid YAML: nested too deeply",
        ),
        (&laughs, "too many uses of large anchors"),
        (&long, "longer than 1048576 bytes"),
        (
            "/dev/zero",
            "cannot read the configuration /dev/zero: longer than 1048576 bytes",
        ),
        (
            &token,
            "http.bearer_token_file: cannot read /dev/zero: longer than",
        ),
    ] {
        let output = run(&["-c", path, "--check"], &[], "");
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{reason}: {stderr}");
        assert!(stderr.contains(reason), "{reason}: {stderr}");
    }
}

#[test]
fn paths_and_names_are_trimmed() {
    let config = TempFile::new(
        "
http: {bearer_token: t}
connector: >
  prometheus
connector_name: ' p1 '
component:
  type: copy
  value: >
    fingerprint
resource: {type: ' copy', value: 'labels.alertname '}
state: {type: map, field: \"labels.alertname\\t\", values: {a: 1}}
output: {type: template, field: ' labels.alertname', value: '{{ .Field }} '}
extra_infos_prefix: 'x_ '
extra_infos: {' a': {type: copy, value: ' labels.alertname'}}
tags: {type: copy, value: ' labels'}
",
    );
    let body = notification(&["a"]);
    let output = run(&["-c", &config, "--dry-run", "-"], &[], &body);
    assert_eq!(text(&output.stderr), "Summary of 1 alert: 1 event\n");
    let event: Value = serde_json::from_slice(&output.stdout).unwrap();
    for (field, expected) in [
        ("connector", json!("prometheus")),
        ("connector_name", json!("p1")),
        ("component", json!("a")),
        ("resource", json!("a")),
        ("state", json!(1)),
        ("output", json!("a ")),
        ("x_a", json!("a")),
    ] {
        assert_eq!(event[field], expected, "{field}");
    }
    assert_eq!(event["tags"]["alertname"], "a");
}

#[test]
fn dry_run_prints_each_event_on_a_line() {
    let shipped = run(
        &[
            "-c",
            "config.yml",
            "--dry-run",
            "tests/data/payloads/mixed-resolved-and-firing.json",
        ],
        &[],
        "",
    );
    assert_eq!(shipped.status.code(), Some(0), "{}", text(&shipped.stderr));
    let output = text(&shipped.stdout);
    let events: Vec<Value> = output
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(
        events
            .iter()
            .map(|event| event["state"].clone())
            .collect::<Vec<_>>(),
        [json!(0), json!(3)]
    );
    let config = TempFile::new(&format!("http: {{bearer_token: {TOKEN}}}\n{MAPPING}"));
    let from_stdin = run(
        &["-c", &config, "--dry-run", "-"],
        &[],
        &notification(&["a", "", "c"]),
    );
    assert_eq!(from_stdin.status.code(), Some(1));
    assert_eq!(text(&from_stdin.stdout).lines().count(), 2);
    let stderr = text(&from_stdin.stderr);
    assert!(
        stderr.contains("field=resource") && stderr.contains("rejected 1 of 3 alerts"),
        "{stderr}"
    );
    let noise = run(&["-c", &config, "--dry-run", "-"], &[], "noise");
    assert_eq!(
        (noise.status.code(), text(&noise.stdout).as_str()),
        (Some(1), "")
    );
    assert!(text(&noise.stderr).contains("not an Alertmanager notification"));
}

#[test]
fn alerts_that_share_an_entity_are_merged_and_shown() {
    let config = TempFile::new(&format!("http: {{bearer_token: {TOKEN}}}\n{MAPPING}"));
    let body = notification(&["DiskFull", "Other", "DiskFull"]);
    let mut body: Value = serde_json::from_str(&body).unwrap();
    for resolved in [1, 2] {
        body["alerts"][resolved]["status"] = json!("resolved");
    }
    let body = body.to_string();
    let printed = run(&["-c", &config, "--dry-run", "-"], &[], &body);
    assert_eq!(printed.status.code(), Some(0), "{}", text(&printed.stderr));
    let events: Vec<Value> = text(&printed.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let states: Vec<(&str, &Value)> = events
        .iter()
        .map(|event| (event["resource"].as_str().unwrap(), &event["state"]))
        .collect();
    assert_eq!(states, [("DiskFull", &json!(3)), ("Other", &json!(0))]);
    let explained = text(&run(&["-c", &config, "--explain", "-"], &[], &body).stdout);
    let merged = "\nMerged into alert 1 of the entity \"DiskFull/host:9100\", which decides the state of their alarm\n";
    let (before, _) = explained
        .split_once(merged)
        .unwrap_or_else(|| panic!("{explained}"));
    assert!(before.contains("\nAlert 3 of 3: "), "{explained}");
}

/// The fields of each alert in an explanation, which prints them as `name = value`.
fn explained(text: &str) -> Vec<Vec<(&str, &str)>> {
    let alerts = text.split("\nAlert ").skip(1);
    alerts
        .map(|alert| {
            let lines = alert.lines().filter(|line| !line.starts_with(' '));
            lines.filter_map(|line| line.split_once(" = ")).collect()
        })
        .collect()
}

/// Whether a value's JSON is shown, or the beginning of it.
fn shows(shown: &str, value: &Value) -> bool {
    let json = value.to_string();
    match shown.split_once("… (") {
        Some((beginning, _)) if value.is_string() => {
            json.starts_with(beginning.trim_end_matches('"'))
        }
        Some((beginning, _)) => json.starts_with(beginning),
        None => shown == json,
    }
}

#[test]
fn an_explanation_shows_the_values_of_the_event() {
    let mut alerts = 0;
    for file in std::fs::read_dir("tests/data/payloads").unwrap() {
        let file = file.unwrap().path();
        let file = file.to_str().unwrap();
        let events = run(&["-c", "config.yml", "--dry-run", file], &[], "");
        let explanation = run(&["-c", "config.yml", "--explain", file], &[], "");
        assert_eq!(
            explanation.status.code(),
            Some(0),
            "{}",
            text(&explanation.stderr)
        );
        let (events, explanation) = (text(&events.stdout), text(&explanation.stdout));
        assert!(explanation.starts_with("config.yml is valid\n"));
        assert!(
            explanation.lines().all(|line| line.chars().count() <= 100),
            "{explanation}"
        );
        let explained = explained(&explanation);
        assert_eq!(explained.len(), events.lines().count(), "{file}");
        for (event, fields) in events.lines().zip(explained) {
            let event: serde_json::Map<String, Value> = serde_json::from_str(event).unwrap();
            // event_type and source_type are constants, which are not explained.
            assert_eq!(event.len(), fields.len() + 2, "{file}");
            for (name, shown) in fields {
                assert!(
                    shows(shown, &event[name]),
                    "{file}: {name} = {shown}, and {}",
                    event[name]
                );
            }
            alerts += 1;
        }
    }
    assert!(alerts > 8, "{alerts}");
}

#[test]
fn an_explanation_names_the_deciding_rule_and_the_skipped_ones() {
    let config = TempFile::new(&format!(
        "http: {{bearer_token: {TOKEN}}}\nconnector: prometheus\nconnector_name: p1\n\
         component: [{{type: copy, value: labels.pod}}, {{type: copy, value: labels.instance}}, none]\n\
         resource: {{type: copy, value: labels.alertname}}\nstate: {{type: copy, value: labels.severity}}\n\
         output: {{type: template, value: '{{{{ .Field.nosuch }}}}', field: labels}}\n"
    ));
    let explain = |file: &str, stdin: &str| run(&["-c", &config, "--explain", file], &[], stdin);
    let output = explain("-", &notification(&["a"]));
    assert_eq!(
        (output.status.code(), text(&output.stderr).as_str()),
        (Some(0), "")
    );
    let expected = "\
Alert 1 of 1: \"a\", firing, fingerprint \"a\"

connector = \"prometheus\"
    constant
connector_name = \"p1\"
    constant
component = \"host:9100\"
    rule 1: labels.pod is absent
    rule 2: copied from labels.instance
resource = \"a\"
    copied from labels.alertname
state = 3
    copied from labels.severity
    \"critical\" is read as 3
output: omitted
    labels has 3 entries: the template failed: at 1:4 of the template: map has no entry for key \"nosuch\"
";
    assert!(
        text(&output.stdout).contains(expected),
        "{}",
        text(&output.stdout)
    );

    let refused = explain("-", &notification(&["a", "", "c"]));
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        text(&refused.stdout)
            .contains("resource: required, and has no value\n    labels.alertname is empty\n")
    );
    assert!(text(&refused.stderr).contains("rejected 1 of 3 alerts"));
}

#[test]
fn errors_of_explain_are_reported() {
    for (arguments, stdin, status, reason) in [
        (
            &["--explain", "/no/such.json"][..],
            "",
            1,
            "cannot read the notification /no/such.json",
        ),
        (
            &["--explain", "-"],
            "noise",
            1,
            "not an Alertmanager notification",
        ),
        (
            &["--explain", "-", "--check"],
            "",
            2,
            "--check, --explain, --dry-run and --stdout are mutually exclusive; see --help",
        ),
        (&["--explain", "-", "--stdout"], "", 2, "mutually exclusive"),
        (
            &["-c", "/no/such.yml", "--explain", "-"],
            "{}",
            2,
            "cannot read the configuration",
        ),
    ] {
        let configured = [&["-c", "config.yml"], arguments].concat();
        let arguments = if arguments.contains(&"-c") {
            arguments
        } else {
            &configured
        };
        let output = run(arguments, &[], stdin);
        assert_eq!(
            (output.status.code(), text(&output.stdout).as_str()),
            (Some(status), ""),
            "{arguments:?}"
        );
        assert!(
            text(&output.stderr).contains(reason),
            "{arguments:?}: {}",
            text(&output.stderr)
        );
    }
}

#[test]
fn times_use_the_time_zone_of_the_environment() {
    let rule = "long_output: {type: template, field: startsAt, value: '{{ .Field | localtime \"15:04 MST\" }}'}";
    let config = TempFile::new(&format!(
        "http: {{bearer_token: {TOKEN}}}\n{MAPPING}\n{rule}\n"
    ));
    let run_in = |zone: &str| {
        run(
            &[
                "-c",
                &config,
                "--dry-run",
                "tests/data/payloads/firing-one.json",
            ],
            &[("TZ", zone)],
            "",
        )
    };
    for (zone, expected) in [
        ("Asia/Tokyo", "23:10 JST"),
        (":America/New_York", "09:10 EST"),
        ("/usr/share/zoneinfo/Europe/Paris", "15:10 CET"),
        ("XYZ-3:30", "17:40 XYZ"),
        ("", "14:10 UTC"),
    ] {
        let output = run_in(zone);
        let event: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("{}", text(&output.stderr)));
        assert_eq!(event["long_output"], expected, "TZ={zone}");
    }
    let refused = run_in("Asia/Toky");
    assert_eq!(
        (refused.status.code(), text(&refused.stdout).as_str()),
        (Some(2), "")
    );
    let stderr = text(&refused.stderr);
    let reason = "unknown time zone \"Asia/Toky\" in the variable TZ; did you mean \"Asia/Tokyo\"?";
    assert!(
        stderr.contains("long_output.value: the template does not compile")
            && stderr.contains(reason),
        "{stderr}"
    );
}

#[test]
fn stdout_serves_without_a_broker() {
    let connector = Connector::with(&config("amqp://127.0.0.1:1", "", MAPPING), &["--stdout"]);
    assert_eq!(connector.get("/-/ready").status, 200);
    let response = connector.post(&payload("firing-two-severities"));
    assert_eq!(
        (response.status, response.json()),
        (200, json!({"published": 2}))
    );
    connector.terminate();
    let lines = connector.into_stdout();
    let resources: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["resource"].clone())
        .collect();
    assert_eq!(resources, ["DiskFull", "DiskFull"]);
}

#[test]
fn a_port_in_use_is_a_run_time_failure() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let config = TempFile::new(&config("amqp://127.0.0.1:1", "", MAPPING));
    let output = run(&["-c", &config, "--port", &port], &[], "");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains(&format!(
        "cannot listen on 127.0.0.1:{port}: Address already in use"
    )));
}
