//! What is valid and probably not intended.

use super::*;

#[test]
fn warnings_name_what_is_probably_not_intended() {
    let long = format!("resource: {}", "x".repeat(501));
    let table = rows(
        r#"
        extra_infos: {a: b}
            extra_infos_prefix: is empty…
        output: {type: template, value: '{{ .Field }}'}
            the rule has no field
        output: {type: template, value: '{{ .Feild }}'}
            output.value: the template always fails: at 1:4 of the template: .Feild: no such field…
        http: {bearer_token: sesame-word, answer_timeout: 30s}
            http.answer_timeout: is over 9s…
        amqp: {ca_file: x}
            have no effect without an amqps:// URL
        output: labels.instance
            did you mean {type: copy, value: labels.instance}?
        output: 'a {{ .Alert }}'
            did you mean {type: template, value: ...}?
        state: [{type: map, field: labels.a, values: {a: 9}}, ok]
            state[0].values.a: "9" is not a valid state; using 3 (critical)…
        connector: a/b
            line 7, column 1: connector: contains a slash, with which Canopsis joins names to ids…
        component: [{type: map, field: labels.a, values: {x: y}, default: a/b}]
            component[0].default: contains a slash…
        connector_name: "p1 \n p2"
            line 7, column 1: connector_name: contains a line break; using "p1", which is before it
        component: {type: copy, value: "labels.alertname\nlabels.job"}
            line 7, column 25: component.value: contains a line break; using "labels.alertname", which is before it
        "#,
    );
    let others = [(long.as_str(), "resource: has more than 500 characters…")];
    for (line, expected) in table.into_iter().chain(others) {
        assert_contains(&warnings(&with(line)), expected, line);
    }
    let without_state = warnings(&MINIMAL.replace("state: 2", ""));
    let expected = "state: not set; every firing alert gets 3 (critical)";
    assert_is(&without_state, expected, "no state");
    let blank = errors(&with("connector_name: ' '"), &[]);
    let expected = "line 7, column 1: connector_name: is blank: white space only";
    assert_eq!(blank, [expected]);
}
