//! Mistakes that are valid YAML, in rules.

use super::mistakes::reported;
use super::*;
use crate::mapping::tests::{mapping, sample, to_value};

/// What is reported of a line of the event.
fn of(line: &str) -> Vec<String> {
    let mut reported = reported(&with(line), &[]);
    reported.retain(|line| !line.contains("extra_infos_prefix"));
    reported
}

/// The event that a few lines make of an alert.
fn event(lines: &str) -> serde_json::Value {
    let (mapping, sample) = (mapping(lines), sample());
    let context = sample.context();
    to_value(&mapping.map(&context).0.unwrap())
}

/// A constant in each position where a rule may have one.
fn positions(field: &str, constant: &str) -> Vec<String> {
    vec![
        format!("{field}: {constant}"),
        format!("{field}: {{type: set, value: {constant}}}"),
        format!("{field}: [{{type: copy, value: labels.a}}, {constant}]"),
        format!("{field}: [{{type: map, field: labels.a, values: {{a: {constant}}}}}, 1]"),
        format!("{field}: [{{type: map, field: labels.a, values: {{}}, default: {constant}}}, 1]"),
    ]
}

#[test]
fn a_constant_that_cannot_be_a_time_is_an_error_in_every_position() {
    let wrong = "startsAt|now|yesterday|'12:00'|2026-11-24|labels.time|'{{ .Alert.startsAt }}'|1.5|true|''''";
    for constant in wrong.split('|') {
        for line in positions("timestamp", constant) {
            let reported = of(&line);
            let expected = "is neither Unix seconds nor RFC 3339; without a timestamp…";
            assert_is(&reported, expected, &line);
            assert!(!reported[0].starts_with("warning"), "{line}: {reported:?}");
        }
    }
    for constant in ["1795360249000", "0", "-5", "0001-01-01T00:00:00Z"] {
        let reported = of(&format!("timestamp: '{constant}'"));
        assert_contains(&reported, "out of range for Unix seconds…", constant);
        assert!(reported[0].starts_with("warning: "), "{reported:?}");
    }
    for constant in [
        "1795360249",
        "'2026-11-24T10:00:00Z'",
        "'2026-11-24T10:00:00.5+01:00'",
        "\"1795360249\\n\"",
    ] {
        for line in positions("timestamp", constant) {
            assert_eq!(of(&line), [""; 0], "{line}");
        }
    }
    let line = "timestamp: {type: map, field: labels.a, values: {b: 5,\n  a: now}}";
    let expected = "line 9, column 3: timestamp.values.a: \"now\" is neither…";
    assert_contains(&of(line), expected, line);
}

#[test]
fn a_constant_that_is_no_state_is_reported_where_it_is_written() {
    let expected = "is not a valid state; using 3 (critical). Valid are 0 to 3…";
    for line in ["9", "warning"]
        .iter()
        .flat_map(|constant| positions("state", constant))
    {
        assert_is(&of(&line), expected, &line);
    }
    let line = "state: {type: map, field: labels.a, values: {b: 1,\n  a: warning}}";
    let expected = "warning: line 8, column 3: state.values.a: \"warning\" is not…";
    assert_contains(&of(line), expected, line);
}

#[test]
fn a_timestamp_that_copies_the_time_of_the_alert_is_warned_of_once() {
    for line in [
        "timestamp: {type: copy, value: startsAt}",
        "timestamp: {type: copy, value: endsAt}",
        "timestamp: [{type: copy, value: annotations.at}, {type: copy, value: endsAt}, {type: copy, value: startsAt}]",
        "timestamp: {type: template, field: startsAt, value: '{{ .Field }}'}",
        "timestamp: {type: template, value: '{{ .Alert.startsAt }}'}",
    ] {
        let expected = "is the time of the alert: dates jump in Canopsis…";
        assert_is(&of(line), expected, line);
    }
    for line in [
        "timestamp: {type: copy, value: annotations.at}",
        "timestamp: {type: copy, value: receivedAt}",
        "extra_infos: {since: {type: copy, value: startsAt}}",
    ] {
        assert_eq!(of(line), [""; 0], "{line}");
    }
}

#[test]
fn a_text_that_looks_like_a_rule_is_warned_of_wherever_it_is_taken_as_written() {
    const TEMPLATE: &str = "{type: template, value: ...}";
    let copied = [
        ("labels.instance", "labels.instance"),
        ("annotations.summary", "annotations.summary"),
        ("commonLabels.job", "commonLabels.job"),
        (".Alert.labels.job", "labels.job"),
        (".Labels.job", "labels.job"),
        ("$labels.job", "labels.job"),
        (".CommonAnnotations.job", "commonAnnotations.job"),
        ("generatorURL", "generatorURL"),
        ("startsAt", "startsAt"),
        ("groupKey", "groupKey"),
        ("fingerprint", "fingerprint"),
    ];
    let copied =
        copied.map(|(constant, path)| (constant, format!("{{type: copy, value: {path}}}")));
    let rendered = ["'{{ .Labels.job }}'", "'job {{ uppercase .Field }}'"];
    let rendered = rendered.map(|constant| (constant, TEMPLATE.to_owned()));
    for (constant, meant) in copied.into_iter().chain(rendered) {
        let expected = format!("did you mean {meant}?");
        let of_infos = positions("extra_infos: {a", constant).into_iter();
        let mut lines: Vec<String> = of_infos.map(|line| line + "}").collect();
        for field in ["output", "resource", "state"] {
            lines.extend(positions(field, constant));
        }
        lines.push(format!("tags: {{type: set, value: {{a: {constant}}}}}"));
        lines.push(format!(
            "extra_infos: {{a: {{type: set, value: {{b: [1, {constant}]}}}}}}"
        ));
        for line in lines {
            assert_is(&of(&line), &expected, &line);
        }
    }
    for constant in ["'${HOSTNAME}'", "'$(NAME)'", "'%NAME%'", "'CHANGE-ME'"] {
        for line in positions("connector_name", constant) {
            assert_is(&of(&line), "nothing expands the placeholder…", &line);
        }
    }
    let texts =
        "status|receiver|db-1.example|'a{b}'|prometheus|10 % of labels|'.'|status.example.com|v1.2";
    for constant in texts.split('|') {
        for line in positions("output", constant) {
            assert_eq!(of(&line), [""; 0], "{line}");
        }
    }
}

#[test]
fn white_space_around_what_is_technical_does_not_count() {
    let block = |key: &str, text: &str| {
        format!(
            "output:\n  type: template\n  field: labels.instance\n  value: '{{{{ .Field }}}}'\n  {key}: {text}\n"
        )
    };
    for regexp in [
        "|\n    ^(?P<h>[^:]+):[0-9]+$\n",
        ">\n    ^(?P<h>[^:]+):[0-9]+$\n\n",
        "|+\n    ^(?P<h>[^:]+):[0-9]+$\n\n",
        "\"^(?P<h>[^:]+):[0-9]+$\\r\\n\"",
    ] {
        let lines = block("regexp", regexp);
        assert_eq!(of(&lines), [""; 0], "{lines}");
        assert_eq!(event(&lines)["output"], "node_exporter:9100", "{lines}");
    }
    for regexp in ["'^(.+)$ '", "' ^(.+)$'", "\"\\t^(.+)$\""] {
        let lines = block("regexp", regexp);
        let expected = "white space around a regexp is ignored…";
        assert_is(&of(&lines), expected, &lines);
        assert_eq!(event(&lines)["output"], "node_exporter:9100", "{lines}");
    }
    assert!(of(&block("regexp", "' '"))[0].contains("is blank; write [ ] or \\s"));
    for lines in [
        "output:\n  type: |\n    copy\n  value: |\n    labels.instance\n",
        "output:\n  type: >\n    map\n  field: >\n    labels.instance\n  values:\n    ? |\n      node_exporter:9100\n    : node_exporter:9100\n",
        "output: {type: map, field: labels.instance, values: {\"node_exporter:9100\\r\\n\": node_exporter:9100}}",
        "output: {type: ' copy', value: ' labels.instance '}",
    ] {
        assert_eq!(of(lines), [""; 0], "{lines}");
        assert_eq!(event(lines)["output"], "node_exporter:9100", "{lines}");
    }
    let lines = "
connector: >
  prometheus
connector_name: ' p1 '
component:
  type: copy
  value: >
    fingerprint
resource: {type: ' copy', value: 'labels.alertname '}
state: {type: map, field: \"labels.alertname\\t\", values: {InstanceDown: 1}}
output: {type: template, field: ' labels.alertname', value: '{{ .Field }} '}
extra_infos_prefix: |
  x_
extra_infos:
  ? |
    a
  : {type: copy, value: ' labels.alertname'}
tags: {type: copy, value: ' labels'}
";
    let reported = reported(&format!("http: {{bearer_token: a-token}}{lines}"), &[]);
    assert_eq!(reported, [""; 0], "{lines}");
    let event = event(lines);
    for (field, expected) in [
        ("connector", "prometheus"),
        ("connector_name", "p1"),
        ("component", "86714e72c9c59990"),
        ("resource", "InstanceDown"),
        ("output", "InstanceDown "),
        ("x_a", "InstanceDown"),
    ] {
        assert_eq!(event[field], expected, "{field}");
    }
    assert_eq!(
        (&event["state"], &event["tags"]["severity"]),
        (&1.into(), &"critical".into())
    );
}

#[test]
fn a_constant_name_is_cut_at_a_line_break() {
    // Those of a table are not: names that differ must stay different.
    for line in &positions("resource", "\"a \\n b\"")[..3] {
        let expected = "contains a line break; using \"a\", which is before it";
        assert_is(&of(line), expected, line);
    }
    for line in positions("resource", "\"a\\n\"") {
        assert_eq!(of(&line), [""; 0], "{line}");
    }
}

#[test]
fn a_blank_constant_or_name_is_an_error() {
    for field in [
        "output",
        "resource",
        "state",
        "timestamp",
        "extra_infos: {a",
    ] {
        for blank in ["' '", "\"\\t\\n\"", "\"\\u00a0\"", "\"\\u3000 \\u2003\""] {
            for line in positions(field, blank) {
                let line = line + if field.contains('{') { "}" } else { "" };
                assert_is(&of(&line), "is blank: white space only", &line);
            }
        }
    }
    for name in ["''", "' '", "\"\\u00a0\"", "\"\\n\""] {
        for prefix in ["", "extra_infos_prefix: prom_\n"] {
            let reported = of(&format!("{prefix}extra_infos: {{{name}: 1}}"));
            assert_contains(&reported, ": the name is blank", name);
        }
    }
    // In a table, an empty text has no value: the next rule applies.
    let empty = of("output: [{type: map, field: labels.a, values: {a: ''}}, x]");
    assert_eq!(empty, [""; 0]);
}

#[test]
fn keys_that_differ_in_ignored_white_space_are_duplicates() {
    for line in [
        "extra_infos: {a: 1, ' a': 2}",
        "extra_infos: {\"a\\n\": 1, a: 2}",
        "output: {type: map, field: labels.a, values: {b: 1, \"b\\n\": 2}}",
    ] {
        assert_is(&of(line), ": duplicate key: …", line);
    }
}

#[test]
fn hidden_characters_in_what_is_compared_are_warned_of() {
    for (line, shown) in [
        (
            "output: {type: copy, value: \"labels.a\u{200b}\"}",
            "\\u{200b}",
        ),
        ("output: {type: copy, value: \"labels.\u{a0}a\"}", "\\u{a0}"),
        (
            "output: {type: map, field: labels.a, values: {\"a\u{200b}\": b}}",
            "\\u{200b}",
        ),
        (
            "output: {type: template, field: labels.a, value: x, regexp: 'a\u{ad}'}",
            "\\u{ad}",
        ),
        (
            "output: {type: template, field: labels.a, value: x, regexp: \"a\\nb\"}",
            "\\n",
        ),
        ("connector_name: \"p\u{feff}1\"", "\\u{feff}"),
        ("extra_infos: {\"a\u{200d}\": 1}", "\\u{200d}"),
    ] {
        let reported = of(line);
        let expected = format!("contains {shown}, which cannot be seen");
        assert!(
            reported.len() == 1 && reported[0].contains(&expected),
            "{line}: {reported:?}"
        );
    }
}

#[test]
fn integers_that_readers_of_json_would_change_are_published_as_strings() {
    let lines = "extra_infos_prefix: x_\nextra_infos: {a: 9007199254740992, b: 9007199254740993, c: -9007199254740993, d: 18446744073709551615, \
                 e: 12345678901234567890123, f: 1.5, g: {type: set, value: [1, {h: 0x20000000000001}]}, i: 1e300, j: '9007199254740993'}\n";
    let event = event(lines);
    for (name, value) in [
        ("a", serde_json::json!(9_007_199_254_740_992_u64)),
        ("b", "9007199254740993".into()),
        ("c", "-9007199254740993".into()),
        ("d", "18446744073709551615".into()),
        ("e", "12345678901234567890123".into()),
        ("f", serde_json::json!(1.5)),
        ("g", serde_json::json!([1, {"h": "9007199254740993"}])),
        ("i", serde_json::json!(1e300)),
        ("j", "9007199254740993".into()),
    ] {
        assert_eq!(event[format!("x_{name}")], value, "{name}");
    }
}

#[test]
fn a_dash_without_a_space_is_no_list() {
    for line in [
        "component:\n  -prometheus\n  -other\n",
        "output: -x",
        "author: [x, -major]",
    ] {
        let reported = of(line);
        assert!(
            reported
                .iter()
                .any(|line| line.ends_with("in a list, a space follows the dash")),
            "{line}: {reported:?}"
        );
    }
}

#[test]
fn what_has_no_effect_is_warned_of() {
    assert!(of("output_length: 5")[0].ends_with("output_length: has no effect without output"));
    // Five rules are elsewhere.
    let many = "  - x\n".repeat(996);
    for rest in ["", "author: [x]\n", "author: x\n"] {
        let lines = format!("output:\n{many}{rest}");
        let expected = ": more than 1000 rules; use lookup tables…";
        assert_is(&of(&lines), expected, &lines);
    }
    let few = "  - x\n".repeat(900);
    assert_eq!(of(&format!("output:\n{few}")), [""; 0]);
}
