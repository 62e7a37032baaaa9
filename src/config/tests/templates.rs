//! What is found in templates before they run.

use super::*;

fn warnings(text: &str) -> Vec<String> {
    let config = load(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    config.warnings.iter().map(ToString::to_string).collect()
}

/// The warnings about the template of an optional field.
fn faults(template: &str, more: &str) -> Vec<String> {
    warnings(&format!(
        "{MINIMAL}output: {{type: template, value: '{template}'{more}}}"
    ))
}

#[test]
fn what_a_template_can_never_use_is_a_warning() {
    const FIELD: &str = ", field: labels.instance";
    const REGEXP: &str = ", field: labels.instance, regexp: \"(?P<host>[^:]+):(?P<port>.*)\"";
    for (template, more, message) in [
        (
            "{{ .Field }}",
            "",
            "the template always fails: at 1:4 of the template: .Field: the rule has no field",
        ),
        (
            "{{ .Field.job.x }}",
            ", field: labels",
            ".Field.job.x: .Field.job is a string, not a map",
        ),
        (
            "{{ .Field.job }}",
            FIELD,
            ".Field.job: .Field is a string, not a map",
        ),
        (
            "{{ .RegexMatch.host }}",
            FIELD,
            ".RegexMatch: the rule has no regexp",
        ),
        (
            "{{ if true }}{{ .RegexMatch.hsot }}{{ end }}",
            REGEXP,
            "at 1:17 of the template: fails where it is reached: .RegexMatch.hsot: the regexp has no such group (named groups: host, port); did you mean \"host\"?",
        ),
        (
            "{{ .RegexMatch.a }}",
            ", field: labels.a, regexp: a(b)",
            "(named groups: none)",
        ),
        (
            "{{ .RegexMatch.host.x }}",
            REGEXP,
            ".RegexMatch.host is a string",
        ),
        (
            "{{ index .RegexMatch 1 }}",
            REGEXP,
            "always fails: at 1:4 of the template: index: a map is indexed with a name",
        ),
        (
            "{{ index .Alert.labels 1 }}",
            "",
            "index: a map is indexed with a name",
        ),
        (
            "{{ .Feild.x }}",
            FIELD,
            ".Feild: no such field (known: Field, RegexMatch, Alert, Notification); did you mean \"Field\"?",
        ),
        (
            "{{ $.Labels.job | lowercase }}",
            "",
            "Notification); here it is .Alert.labels",
        ),
        (
            "{{ .labels.job }}",
            "",
            "Notification); here it is .Alert.labels",
        ),
        (
            "{{ .CommonLabels.job }}",
            "",
            "Notification); here it is .Notification.commonLabels",
        ),
        (
            "{{ range .Alerts }}{{ .Labels.job }}{{ end }}",
            "",
            "Notification); here it is .Alert",
        ),
        (
            "{{ .Value }}",
            "",
            "put the value into an annotation instead",
        ),
        (
            "{{ .Alert.Labels.job }}",
            "",
            ".Alert.Labels: Alertmanager does not send it; did you mean \"labels\"?",
        ),
        (
            "{{ .Alert.lables.job }}",
            "",
            ".Alert.lables: Alertmanager does not send it; did you mean \"labels\"?",
        ),
        (
            "{{ .Alert.startsAt.Format }}",
            "",
            ".Alert.startsAt.Format: .Alert.startsAt is a string",
        ),
        (
            "{{ len .Notification.alerts }}",
            "",
            ".Notification.alerts: it comes without its alerts; use .Alert",
        ),
        (
            "{{ if gt .Alert.labels.value 5 }}x{{ end }}",
            "",
            "gt: incompatible types for comparison: string and int",
        ),
        (
            "{{ with .Alert.labels }}{{ .job }}{{ else }}{{ .Alret }}{{ end }}",
            "",
            ".Alret: no such field",
        ),
        (
            "{{ block \"t\" . }}{{ .RegexMatch.x }}{{ end }}",
            "",
            ".RegexMatch: the rule has no regexp",
        ),
        (
            "{{ replace \"(\" \"\" .Alert.status }}",
            "",
            "replace gives an empty text: its pattern does not compile",
        ),
    ] {
        let faults = faults(template, more);
        assert_eq!(faults.len(), 1, "{template}: {faults:?}");
        assert!(
            faults[0].starts_with("line 8, column ") && faults[0].contains("output.value: "),
            "{faults:?}"
        );
        assert!(faults[0].contains(message), "{template}: {faults:?}");
    }
}

#[test]
fn what_a_template_may_use_is_no_warning() {
    for (template, more) in [
        ("{{ .Alert.labels.x }}{{ .Notification }}", ""),
        // A sender may add what Alertmanager does not have.
        (
            "{{ .Alert.state }}{{ .Notification.state }}{{ .Notification.group.a.b.c }}{{ .Alert.values.B }}",
            "",
        ),
        ("{{ .Field.job }}", ", field: labels"),
        (
            "{{ .RegexMatch.host }}{{ .RegexMatch }}",
            ", field: labels.a, regexp: (?P<host>.*)",
        ),
        ("{{ with $x := .Alert }}{{ $x.nosuch }}{{ end }}", ""),
        (
            "{{ range $name, $text := .Alert.labels }}{{ $name }}={{ $text }}{{ end }}",
            "",
        ),
        ("{{ $ := .Alert }}{{ $.nosuch }}", ""),
        ("{{ if true }}{{ $ = .Alert }}{{ end }}{{ $.nosuch }}", ""),
        (
            "{{ define \"t\" }}{{ .x }}{{ $.y }}{{ end }}{{ template \"t\" .Alert }}",
            "",
        ),
    ] {
        assert_eq!(faults(template, more), [""; 0], "{template}");
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
        let errors = errors(&format!("{MINIMAL}output: {rule}"), &[]);
        assert_eq!(errors.len(), 1, "{errors:?}");
    }
}

#[test]
fn names_of_other_programs_are_translated() {
    for (template, message) in [
        (
            "{{ .Alert.status | toUpper }}",
            "function \"toUpper\" not defined; here it is uppercase TEXT",
        ),
        (
            "{{ join \", \" .Field }}",
            "function \"join\" not defined; here it is strjoin LIST SEPARATOR",
        ),
        (
            "{{ reReplaceAll \":.*\" \"\" $labels.instance }}",
            "not defined; here it is replace REGEXP NEW TEXT",
        ),
        (
            "{{ match \"a.*\" .Field }}",
            "use the rule's regexp and .RegexMatch instead",
        ),
        (
            "{{ since .Alert.startsAt }}",
            "function \"since\" not defined; it has no counterpart here",
        ),
        (
            "{{ query \"up\" }}",
            "function \"query\" not defined; it has no counterpart here",
        ),
        (
            "{{ .Alert.labels.job | title }}",
            "function \"title\" not defined; it has no counterpart here",
        ),
        (
            "{{ $labels.instance }}",
            "undefined variable \"$labels\"; here it is .Alert.labels",
        ),
        (
            "{{ .Field | default \"x\" }}",
            "here it is or (index MAP KEY) DEFAULT",
        ),
        (
            "{{ upercase .Field }}",
            "function \"upercase\" not defined; did you mean \"uppercase\"?",
        ),
        ("{{ nothing .Field }}", "function \"nothing\" not defined"),
    ] {
        let rule = format!("{{type: template, field: labels.a, value: '{template}'}}");
        let errors = errors(&format!("{MINIMAL}output: {rule}"), &[]);
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
        let errors = errors(&MINIMAL.replace("{type: copy, value: receiver}", rule), &[]);
        assert_eq!(errors.len(), 1, "{rule}: {errors:?}");
        assert!(
            errors[0].starts_with("line 5, column 1")
                && errors[0].ends_with(
                    ": component: no rule can have a value: every alert would be rejected"
                ),
            "{errors:?}"
        );
    }
    // Another rule, or an optional field.
    let rule = "{type: template, value: '{{ .Labels.instance }}'}";
    let other = format!("[{rule}, x]");
    assert_eq!(
        warnings(&MINIMAL.replace("{type: copy, value: receiver}", &other)).len(),
        1
    );
    assert!(load(&format!("{MINIMAL}output: {rule}\nauthor: {rule}")).is_ok());
}

#[test]
fn alerts_that_a_required_field_rejects_are_named() {
    for (rule, needed) in [
        ("{type: copy, value: labels.instance}", "labels.instance"),
        (
            "[{type: copy, value: labels.host}, {type: copy, value: labels.job}]",
            "labels.job",
        ),
        (
            "{type: copy, value: groupLabels.alertname}",
            "groupLabels.alertname",
        ),
        (
            "{type: template, value: '{{ .Field }}', field: labels.job}",
            "labels.job",
        ),
        (
            "{type: template, value: '{{ .Field.job }}', field: labels}",
            "labels.job",
        ),
        (
            "{type: template, value: '{{ .Alert.labels.alertname }} {{ .Alert.labels.job }}'}",
            "labels.job",
        ),
        (
            "{type: template, value: '{{ .RegexMatch.a }}', field: labels.alertname, regexp: (?P<a>.*)}",
            "a match of the regexp in labels.alertname",
        ),
        (
            "{type: map, field: labels.job, values: {a: b}}",
            "labels.job in the table",
        ),
        (
            "{type: map, field: labels.job, values: {a: b}, default: c}",
            "labels.job",
        ),
        (
            "[{type: copy, value: labels.job}, {type: template, value: '{{ .Labels.a }}'}]",
            "labels.job",
        ),
    ] {
        let warnings = warnings(&MINIMAL.replace("{type: copy, value: receiver}", rule));
        let expected = format!(
            "component: an alert without {needed} is rejected: let the last rule be one that always has a value, such as a constant"
        );
        assert!(
            warnings.iter().any(|warning| warning.ends_with(&expected)),
            "{rule}: {warnings:?}"
        );
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
        let warnings = warnings(&MINIMAL.replace("{type: copy, value: receiver}", rule));
        assert_eq!(warnings, [""; 0], "{rule}");
    }
}
