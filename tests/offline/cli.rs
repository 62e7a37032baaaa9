//! The command line: every mode and every exit status.

use std::net::TcpListener;

use crate::support::connector::{
    Connector, MAPPING, config_without_broker, config_without_warning, run, run_with_config,
    shipped_config,
};
use crate::support::{TOKEN, TempFile, notification, payload};
use serde_json::{Value, json};

const BROKER: &str = "amqp://cpsrabbit:canopsis@localhost/canopsis";

/// The arguments, the status, a part of standard output, and one of standard error; without a part, nothing is printed there. The
/// configuration is valid, the input is "noise". The port `TAKEN` is in use, which matters where it is bound. In an argument, `_` is a
/// space.
const RUNS: &str = r#"
--help | 0 | Usage: canopsis-connector-prometheus [OPTIONS] |
--chekc | 2 | | unknown option --chekc; did you mean "--check"?; see --help
--check | 0 | is valid |
--check --port TAKEN --host 127.0.0.1 | 0 | is valid |
--check --port TAKEN --host ::1 | 0 | is valid |
--check --port TAKEN --host localhost | 0 | is valid |
--check --port TAKEN --host nope.invalid | 1 | | cannot resolve the listen address
--check --port TAKEN --host no_host | 1 | | cannot resolve the listen address
--check --port TAKEN --host 127.0.0.1:80 | 1 | | cannot resolve the listen address
--port TAKEN | 1 | | cannot listen on 127.0.0.1:TAKEN: Address already in use
--explain /no/such.json | 1 | | cannot read the notification /no/such.json
--explain - | 1 | | not an Alertmanager notification
--dry-run - | 1 | | not an Alertmanager notification
--dry-run /no/such.json | 1 | | cannot read the notification /no/such.json
--dry-run tests/data/payloads/firing-one.json | 0 | "resource":" | Summary of 1 alert: 1 event
--explain - --check | 2 | | --check, --explain, --dry-run and --stdout are mutually exclusive; see --help
"#;

#[test]
fn each_mode_has_its_output_and_its_status() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let config = TempFile::new(&config_without_warning());
    for row in RUNS.replace("TAKEN", &port).lines().skip(1) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let words: Vec<String> = (cells[0].split(' '))
            .map(|word| word.replace('_', " "))
            .collect();
        let mut arguments: Vec<&str> = words.iter().map(String::as_str).collect();
        arguments.extend(["-c", &config]);
        let output = run(&arguments, &[], "noise");
        assert_eq!(
            output.status.code(),
            cells[1].parse().ok(),
            "{row}: {output:?}"
        );
        for (part, printed) in [(cells[2], output.stdout), (cells[3], output.stderr)] {
            let printed = String::from_utf8(printed).unwrap();
            assert!(printed.contains(part), "{row}: {printed}");
            assert_eq!(printed.is_empty(), part.is_empty(), "{row}: {printed}");
        }
    }
}

#[test]
fn the_version_names_the_commit_and_the_compiler() {
    let version = run_with_config("", "-V", "").stdout;
    let (name, built) = version.trim_end().split_once(" (commit ").unwrap();
    let (commit, compiler) = built.split_once(", rustc ").unwrap();
    assert!(
        name.starts_with("canopsis-connector-prometheus v"),
        "{version}"
    );
    assert!(commit.len() >= 7 && compiler.starts_with("1."), "{version}");
}

#[test]
fn check_distinguishes_valid_from_invalid_configurations() {
    let good = run_with_config(&shipped_config(BROKER), "--check", "");
    assert_eq!((good.status, good.stderr.as_str()), (Some(0), ""));
    for line in [
        "config.yml is valid",
        "broker:       amqp://cpsrabbit@localhost:5672/canopsis",
        "exchange:     canopsis.events",
        "listen:       0.0.0.0:18401",
        "tokens:       1 (not shown)",
        "extra infos:  prom_labels_severity, prom_title, prom_event_type",
    ] {
        assert!(good.stdout.contains(line), "{line} in {}", good.stdout);
    }
    assert!(!good.stdout.contains(TOKEN) && !good.stdout.contains("canopsis@"));
    let faulty =
        "http: {bearer_tokn: hunter2}\nconnector: prometheus\namqp: {url: 'amq://u:hunter2@h'}\n";
    let faulty = run_with_config(faulty, "--check", "");
    assert_eq!((faulty.status, faulty.stdout.as_str()), (Some(2), ""));
    for diagnostic in [
        "6 errors; configuration rejected",
        "line 1, column 8: http.bearer_tokn: unknown key; did you mean \"bearer_token\"?",
        "line 3, column 8: amqp.url: the URL must begin with amqp:// or amqps://",
        "component: required but not set",
    ] {
        assert!(
            faulty.stderr.contains(diagnostic),
            "{diagnostic} in {}",
            faulty.stderr
        );
    }
    assert!(!faulty.stderr.contains("hunter2"));
}

#[test]
fn check_warns_about_what_is_probably_not_intended() {
    let config = shipped_config(BROKER).replace(".RegexMatch.Substr", ".RegexMatch.Sbstr");
    let checked = run_with_config(&config, "--check", "");
    assert_eq!(checked.status, Some(0), "{}", checked.stderr);
    let warning = "extra_infos.title[0].value: the template always fails: at 1:15 of the template: .RegexMatch.Sbstr: the \
                   regexp has no such group (named groups: Substr); did you mean \"Substr\"?\n";
    assert!(checked.stderr.ends_with(warning), "{}", checked.stderr);
    assert_eq!(checked.stderr.lines().count(), 1, "{}", checked.stderr);
}

#[test]
fn hostile_files_end_check_with_status_2() {
    let token = format!("http: {{bearer_token_file: /dev/zero}}\n{MAPPING}\n");
    let deep_list = format!("connector: {}", "[".repeat(100_000));
    let laughs = (1..100).map(|n| format!("a{n}: &a{n} [*a{0}, *a{0}, *a{0}]\n", n - 1));
    let laughs = laughs.fold("a0: &a0 x\n".to_owned(), |text, line| text + &line);
    let long = "- x\n".repeat(50 << 18);
    for (config, reason) in [
        (
            &deep_list,
            "line 1, column 43: invalid YAML: nested too deeply",
        ),
        (&laughs, "too many uses of large anchors"),
        (&long, "longer than 1048576 bytes"),
        (
            &token,
            "http.bearer_token_file: cannot read /dev/zero: longer than",
        ),
    ] {
        let checked = run_with_config(config, "--check", "");
        assert_eq!(checked.status, Some(2), "{reason}: {}", checked.stderr);
        assert!(
            checked.stderr.contains(reason),
            "{reason}: {}",
            checked.stderr
        );
    }
    for (path, reason) in [
        ("/dev/zero", "longer than 1048576 bytes"),
        ("/no/such.yml", "No such file"),
    ] {
        let checked = run(&["-c", path, "--check"], &[], "");
        let errors = String::from_utf8(checked.stderr).unwrap();
        assert_eq!(checked.status.code(), Some(2), "{errors}");
        let reason = format!("cannot read the configuration {path}: {reason}");
        assert!(errors.contains(&reason), "{reason}: {errors}");
    }
}

#[test]
fn dry_run_prints_each_event_on_a_line() {
    let mixed = payload("mixed-resolved-and-firing");
    let shipped = run_with_config(include_str!("../../config.yml"), "--dry-run -", &mixed);
    assert_eq!(shipped.status, Some(0), "{}", shipped.stderr);
    let events = shipped.events();
    let states: Vec<&Value> = events.iter().map(|event| &event["state"]).collect();
    assert_eq!(states, [&json!(0), &json!(3)]);
    let config = config_without_broker();
    // One without a name, and two of one entity.
    let body = notification(&["a", "", "c", "a"]);
    let rejecting = run_with_config(&config, "--dry-run -", &body);
    assert_eq!((rejecting.status, rejecting.events().len()), (Some(1), 2));
    for part in ["field=resource", "1 merged", "rejected 1 of 4 alerts"] {
        assert!(rejecting.stderr.contains(part), "{}", rejecting.stderr);
    }
}

#[test]
fn an_explanation_names_the_deciding_rule_and_the_skipped_ones() {
    let config = format!(
        "http: {{bearer_token: {TOKEN}}}\nconnector: prometheus\nconnector_name: p1\n\
         component: [{{type: copy, value: labels.pod}}, {{type: copy, value: labels.instance}}, none]\n\
         resource: {{type: copy, value: labels.alertname}}\nstate: {{type: copy, value: labels.severity}}\n\
         output: {{type: template, value: '{{{{ .Field.nosuch }}}}', field: labels}}\n"
    );
    let explained = run_with_config(&config, "--explain -", &notification(&["a"]));
    assert_eq!((explained.status, explained.stderr.as_str()), (Some(0), ""));
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
    let is_shown = explained.stdout.starts_with("config.yml is valid\n");
    assert!(
        is_shown && explained.stdout.contains(expected),
        "{}",
        explained.stdout
    );

    let refused = run_with_config(&config, "--explain -", &notification(&["a", "", "c"]));
    assert_eq!(refused.status, Some(1));
    let expected = "resource: required, and has no value\n    labels.alertname is empty\n";
    assert!(refused.stdout.contains(expected), "{}", refused.stdout);
    assert!(
        refused.stderr.contains("rejected 1 of 3 alerts"),
        "{}",
        refused.stderr
    );
}

#[test]
fn times_use_the_time_zone_of_the_environment() {
    let rule = "long_output: {type: template, field: startsAt, value: '{{ .Field | localtime \"15:04 MST\" }}'}";
    let config = TempFile::new(&format!("{}{rule}\n", config_without_broker()));
    let run_in = |zone: &str| {
        let input = payload("firing-one");
        run(&["-c", &config, "--dry-run", "-"], &[("TZ", zone)], &input)
    };
    for (zone, expected) in [
        ("Asia/Tokyo", "23:10 JST"),
        (":America/New_York", "09:10 EST"),
        ("/usr/share/zoneinfo/Europe/Paris", "15:10 CET"),
        ("XYZ-3:30", "17:40 XYZ"),
        ("", "14:10 UTC"),
    ] {
        let output = run_in(zone);
        let event: Result<Value, _> = serde_json::from_slice(&output.stdout);
        let event = event.unwrap_or_else(|_| panic!("TZ={zone}: {output:?}"));
        assert_eq!(event["long_output"], expected, "TZ={zone}");
    }
    let refused = run_in("Asia/Toky");
    assert_eq!((refused.status.code(), refused.stdout), (Some(2), vec![]));
    let errors = String::from_utf8(refused.stderr).unwrap();
    for part in [
        "long_output.value: the template does not compile",
        "unknown time zone \"Asia/Toky\" in the variable TZ; did you mean \"Asia/Tokyo\"?",
    ] {
        assert!(errors.contains(part), "{errors}");
    }
}

#[test]
fn stdout_serves_without_a_broker() {
    let connector = Connector::with(&config_without_broker(), &["--stdout"]);
    assert_eq!(connector.get("/-/ready").status, 200);
    let response = connector.post(&payload("firing-two-severities"));
    assert_eq!(
        (response.status, response.json()),
        (200, json!({"published": 2}))
    );
    let lines = connector.into_stdout();
    let events = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let resources: Vec<Value> = events.map(|event| event["resource"].clone()).collect();
    assert_eq!(resources, ["DiskFull", "DiskFull"]);
}
