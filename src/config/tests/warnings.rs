//! What is valid and probably not intended.

use super::*;

#[test]
fn warnings_name_what_is_probably_not_intended() {
    for (text, expected) in [
        (
            MINIMAL.replace("state: 2", ""),
            "state: not set; every firing alert gets 3 (critical)",
        ),
        (
            format!("{MINIMAL}extra_infos: {{a: b}}"),
            "extra_infos_prefix: is empty",
        ),
        (
            format!("{MINIMAL}output: {{type: template, value: '{{{{ .Field }}}}'}}"),
            "the rule has no field",
        ),
        (
            format!("{MINIMAL}output: {{type: template, value: '{{{{ .Feild }}}}'}}"),
            "output.value: the template always fails: at 1:4 of the template: .Feild: no such field",
        ),
        (
            MINIMAL.replace("sesame-word", "sesame-word, answer_timeout: 30s"),
            "http.answer_timeout: is over 9s",
        ),
        (
            format!("{MINIMAL}amqp: {{ca_file: x}}"),
            "have no effect without an amqps:// URL",
        ),
        (
            format!("{MINIMAL}output: labels.instance"),
            "did you mean {type: copy, value: labels.instance}?",
        ),
        (
            format!("{MINIMAL}output: 'a {{{{ .Alert }}}}'"),
            "did you mean {type: template, value: ...}?",
        ),
        (
            MINIMAL.replace(
                "state: 2",
                "state: [{type: map, field: labels.a, values: {a: 9}}, ok]",
            ),
            "state[0].values.a: \"9\" is not a valid state; using 3 (critical)",
        ),
        (
            MINIMAL.replace("connector: prometheus", "connector: a/b"),
            "line 3, column 1: connector: contains a slash, with which Canopsis joins names to ids",
        ),
        (
            MINIMAL.replace(
                "{type: copy, value: receiver}",
                "[{type: map, field: labels.a, values: {x: y}, default: a/b}]",
            ),
            "component[0].default: contains a slash",
        ),
        (
            MINIMAL.replace("{type: copy, value: labels.alertname}", &"x".repeat(501)),
            "resource: has more than 500 characters",
        ),
    ] {
        let config = load(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let warnings: Vec<String> = config.warnings.iter().map(ToString::to_string).collect();
        assert!(
            warnings.iter().any(|warning| warning.contains(expected)),
            "{expected}: {warnings:?}"
        );
    }
}

#[test]
fn a_path_or_a_name_is_cut_at_a_line_break_with_a_warning() {
    for (from, to, expected) in [
        (
            "p1",
            "\"p1 \\n p2\"",
            "line 4, column 1: connector_name: contains a line break; using \"p1\", which is before it",
        ),
        (
            "receiver",
            "\"labels.alertname\\nlabels.job\"",
            "line 5, column 25: component.value: contains a line break; using \"labels.alertname\", which is before it",
        ),
    ] {
        let config = load(&MINIMAL.replace(from, to)).unwrap();
        assert_eq!(config.warnings[0].to_string(), expected);
    }
    let blank = errors(&MINIMAL.replace("p1", "' '"), &[]);
    assert_eq!(
        blank,
        ["line 4, column 1: connector_name: is blank: white space only"]
    );
}
