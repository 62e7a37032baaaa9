//! What is found in templates before they run.

use super::*;

/// The warnings about the template of an optional field.
fn faults(rule: &str) -> Vec<String> {
    warnings(&with(&format!("output: {{type: template, {rule}}}")))
}

#[test]
fn what_a_template_can_never_use_is_a_warning() {
    for (rule, message) in rows(
        r#"
        value: '{{ .Field }}'
            the template always fails: at 1:4 of the template: .Field: the rule has no field
        value: '{{ .Field.job.x }}', field: labels
            .Field.job.x: .Field.job is a string, not a map
        value: '{{ .Field.job }}', field: labels.instance
            .Field.job: .Field is a string, not a map
        value: '{{ .RegexMatch.host }}', field: labels.instance
            .RegexMatch: the rule has no regexp
        value: '{{ if true }}{{ .RegexMatch.hsot }}{{ end }}', field: labels.instance, regexp: "(?P<host>[^:]+):(?P<port>.*)"
            at 1:17 of the template: fails where it is reached: .RegexMatch.hsot: the regexp has no such group (named groups: host, port); did you mean "host"?
        value: '{{ .RegexMatch.a }}', field: labels.a, regexp: a(b)
            (named groups: none)
        value: '{{ .RegexMatch.host.x }}', field: labels.instance, regexp: "(?P<host>[^:]+):(?P<port>.*)"
            .RegexMatch.host is a string…
        value: '{{ index .RegexMatch 1 }}', field: labels.instance, regexp: "(?P<host>[^:]+):(?P<port>.*)"
            always fails: at 1:4 of the template: index: a map is indexed with a name…
        value: '{{ index .Alert.labels 1 }}'
            index: a map is indexed with a name…
        value: '{{ .Feild.x }}', field: labels.instance
            .Feild: no such field (known: Field, RegexMatch, Alert, Notification); did you mean "Field"?
        value: '{{ $.Labels.job | lowercase }}'
            Notification); here it is .Alert.labels
        value: '{{ .labels.job }}'
            Notification); here it is .Alert.labels
        value: '{{ .CommonLabels.job }}'
            Notification); here it is .Notification.commonLabels
        value: '{{ range .Alerts }}{{ .Labels.job }}{{ end }}'
            Notification); here it is .Alert
        value: '{{ .Value }}'
            put the value into an annotation instead
        value: '{{ .Alert.Labels.job }}'
            .Alert.Labels: Alertmanager does not send it; did you mean "labels"?
        value: '{{ .Alert.lables.job }}'
            .Alert.lables: Alertmanager does not send it; did you mean "labels"?
        value: '{{ .Alert.startsAt.Format }}'
            .Alert.startsAt.Format: .Alert.startsAt is a string…
        value: '{{ len .Notification.alerts }}'
            .Notification.alerts: it comes without its alerts; use .Alert
        value: '{{ if gt .Alert.labels.value 5 }}x{{ end }}'
            gt: incompatible types for comparison: string and int
        value: '{{ with .Alert.labels }}{{ .job }}{{ else }}{{ .Alret }}{{ end }}'
            .Alret: no such field…
        value: '{{ block "t" . }}{{ .RegexMatch.x }}{{ end }}'
            .RegexMatch: the rule has no regexp
        value: '{{ replace "(" "" .Alert.status }}'
            replace gives an empty text: its pattern does not compile…
        "#,
    ) {
        let faults = faults(rule);
        assert_is(&faults, message, rule);
        let is_placed = faults[0].starts_with("line 8, column ");
        assert!(
            is_placed && faults[0].contains("output.value: "),
            "{faults:?}"
        );
    }
}

#[test]
fn what_a_template_may_use_is_no_warning() {
    for rule in [
        "value: '{{ .Alert.labels.x }}{{ .Notification }}'",
        // A sender may add what Alertmanager does not have.
        "value: '{{ .Alert.state }}{{ .Notification.state }}{{ .Notification.group.a.b.c }}{{ .Alert.values.B }}'",
        "value: '{{ .Field.job }}', field: labels",
        "value: '{{ .RegexMatch.host }}{{ .RegexMatch }}', field: labels.a, regexp: (?P<host>.*)",
        "value: '{{ with $x := .Alert }}{{ $x.nosuch }}{{ end }}'",
        "value: '{{ range $name, $text := .Alert.labels }}{{ $name }}={{ $text }}{{ end }}'",
        "value: '{{ $ := .Alert }}{{ $.nosuch }}'",
        "value: '{{ if true }}{{ $ = .Alert }}{{ end }}{{ $.nosuch }}'",
        r#"value: '{{ define "t" }}{{ .x }}{{ $.y }}{{ end }}{{ template "t" .Alert }}'"#,
    ] {
        assert_eq!(faults(rule), [""; 0], "{rule}");
    }
    // An invalid field or regexp is the only error.
    for more in [
        ", field: nosuch.x",
        ", field: labels.a, regexp: \"(\"",
        ", regexp: x",
    ] {
        let rule = format!(
            "{{type: template, value: '{{{{ .Field.job }}}}{{{{ .RegexMatch.x }}}}'{more}}}"
        );
        let errors = errors(&with(&format!("output: {rule}")), &[]);
        assert_eq!(errors.len(), 1, "{errors:?}");
    }
}

#[test]
fn names_of_other_programs_are_translated() {
    for (template, message) in rows(
        r#"
        {{ .Alert.status | toUpper }}
            function "toUpper" not defined; here it is uppercase TEXT
        {{ join ", " .Field }}
            function "join" not defined; here it is strjoin LIST SEPARATOR
        {{ reReplaceAll ":.*" "" $labels.instance }}
            not defined; here it is replace REGEXP NEW TEXT
        {{ match "a.*" .Field }}
            use the rule's regexp and .RegexMatch instead
        {{ since .Alert.startsAt }}
            function "since" not defined; it has no counterpart here
        {{ query "up" }}
            function "query" not defined; it has no counterpart here
        {{ .Alert.labels.job | title }}
            function "title" not defined; it has no counterpart here
        {{ $labels.instance }}
            undefined variable "$labels"; here it is .Alert.labels
        {{ .Field | default "x" }}
            here it is or (index MAP KEY) DEFAULT
        {{ upercase .Field }}
            function "upercase" not defined; did you mean "uppercase"?
        {{ nothing .Field }}
            function "nothing" not defined
        "#,
    ) {
        let rule = format!("{{type: template, field: labels.a, value: '{template}'}}");
        let errors = errors(&with(&format!("output: {rule}")), &[]);
        assert!(errors[0].ends_with(message), "{template}: {errors:?}");
    }
}

#[test]
fn a_required_field_that_can_never_have_a_value_is_an_error() {
    for rule in [
        "{type: template, value: '{{ .Labels.instance }}'}",
        "[{type: template, value: '{{ index .Alert.labels 1 }}'}, {type: template, value: '{{ .Field }}'}]",
        "{type: map, field: labels.a, values: {}}",
    ] {
        let errors = errors(&with(&format!("component: {rule}")), &[]);
        let expected = ": component: no rule can have a value: every alert would be rejected";
        assert_is(&errors, expected, rule);
        assert!(errors[0].starts_with("line 7, column 1"), "{errors:?}");
    }
    // Another rule, or an optional field.
    let rule = "{type: template, value: '{{ .Labels.instance }}'}";
    let other = warnings(&with(&format!("component: [{rule}, x]")));
    assert_eq!(other.len(), 1, "{other:?}");
    assert!(load(&format!("{MINIMAL}output: {rule}\nauthor: {rule}")).is_ok());
}

#[test]
fn alerts_that_a_required_field_rejects_are_named() {
    for (rule, needed) in rows(
        r"
        {type: copy, value: labels.instance}
            labels.instance
        [{type: copy, value: labels.host}, {type: copy, value: labels.job}]
            labels.job
        {type: copy, value: groupLabels.alertname}
            groupLabels.alertname
        {type: template, value: '{{ .Field }}', field: labels.job}
            labels.job
        {type: template, value: '{{ .Field.job }}', field: labels}
            labels.job
        {type: template, value: '{{ .Alert.labels.alertname }} {{ .Alert.labels.job }}'}
            labels.job
        {type: template, value: '{{ .RegexMatch.a }}', field: labels.alertname, regexp: (?P<a>.*)}
            a match of the regexp in labels.alertname
        {type: map, field: labels.job, values: {a: b}}
            labels.job in the table
        {type: map, field: labels.job, values: {a: b}, default: c}
            labels.job
        [{type: copy, value: labels.job}, {type: template, value: '{{ .Labels.a }}'}]
            labels.job
        ",
    ) {
        let warnings = warnings(&with(&format!("component: {rule}")));
        let expected = format!(
            "component: an alert without {needed} is rejected: let the last rule be one that always has a value, such as a constant"
        );
        assert_contains(&warnings, &expected, rule);
    }
    for rule in [
        "x",
        "{type: copy, value: labels.alertname}",
        "{type: copy, value: receiver}",
        "[{type: copy, value: labels.instance}, x]",
        "[x, {type: copy, value: labels.instance}]",
        "{type: template, value: '{{ .Field.alertname }} {{ pairs .Field \"alertname\" }}', field: labels}",
        "{type: template, value: '{{ .Alert.labels.alertname }} {{ index .Alert.labels \"job\" }}'}",
        "{type: template, value: '{{ if .Alert.labels }}{{ .Alert.labels.job }}{{ end }}x'}",
        "{type: map, field: status, values: {firing: a}, default: b}",
        "{type: map, field: labels.alertname, values: {a: b}, default: c}",
        "{type: template, field: labels, value: 'x {{ len .Field }}'}",
    ] {
        let warnings = warnings(&with(&format!("component: {rule}")));
        assert_eq!(warnings, [""; 0], "{rule}");
    }
}
