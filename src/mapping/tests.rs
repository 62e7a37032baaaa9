//! The mapping as a whole.
#![allow(missing_docs, clippy::missing_panics_doc)]

use gotemplate::{Map, Shape, Value as TemplateValue};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::dot::Data;
use super::keys::{ALERT, NOTIFICATION};
use super::*;
use crate::alertmanager::{Alert, Notification};
use crate::config::{Config, Environment, Overrides};
use crate::text::tests::rows;

/// 2026-11-22T15:10:49Z, an hour after the start of the sample's alert.
pub const NOW: Timestamp = Timestamp::constant(1_795_360_249, 0);

/// A notification with its alert.
pub struct Sample {
    pub notification: Notification<'static>,
    pub alert: Alert<'static>,
}

impl Sample {
    /// For as long as the tests run.
    pub fn context(self) -> Context<'static> {
        let sample: &'static Self = Box::leak(Box::new(self));
        let shared = NotificationContext::new(&sample.notification, NOW, &|| false);
        Box::leak(Box::new(shared)).with_alert(&sample.alert)
    }
}

/// One firing alert that has a bit of everything.
pub fn sample() -> Sample {
    const BODY: &str = r#"{"version":"4","status":"firing","groupKey":"{}:{}","receiver":"canopsis","externalURL":"http://am:9093",
        "truncatedAlerts":3,"groupLabels":{"alertname":"InstanceDown"},"commonLabels":{"job":"node1"},
        "commonAnnotations":{},"novelty":{"deep":[1,2.5,true,null]},"alerts":[{"status":"firing",
        "labels":{"alertname":"InstanceDown","a.dotted.name":"dotted","empty":"","severity":"critical",
        "instance":"node_exporter:9100"},"annotations":{"title":"Instance node_exporter:9100 down"},
        "startsAt":"2026-11-22T14:10:49Z","endsAt":"0001-01-01T00:00:00Z","generatorURL":"",
        "fingerprint":"86714e72c9c59990"}]}"#;
    decoded(BODY)
}

/// A notification of one alert.
pub fn decoded(body: &'static str) -> Sample {
    let notification = Notification::decode(body.as_bytes()).unwrap();
    let alert = notification.alerts().next().unwrap().unwrap();
    Sample {
        notification,
        alert,
    }
}

/// As [`sample`], with each label's value changed.
pub fn sample_with(change: impl Fn(&str) -> String) -> Sample {
    let mut sample = sample();
    let labels = &mut sample.alert.labels;
    *labels = Labels::new(
        labels
            .iter()
            .map(|(name, value)| (name.to_owned().into(), Some(change(value).into())))
            .collect(),
    );
    sample
}

/// As [`sample`], resolved.
pub fn resolved() -> Sample {
    let mut sample = sample();
    sample.alert.status = Status::Resolved;
    sample
}

/// A mapping whose required names are fine, and a few lines more.
pub fn mapping(lines: &str) -> Mapping {
    let mut text = format!("http: {{bearer_token: t}}\n{lines}\n");
    for line in [
        "connector: prometheus",
        "connector_name: p1",
        "component: {type: copy, value: labels.instance}",
        "resource: {type: copy, value: labels.alertname}",
    ] {
        let key = &line[..=line.find(':').unwrap()];
        if !text.lines().any(|line| line.starts_with(key)) {
            text.push_str(&format!("{line}\n"));
        }
    }
    let (overrides, environment) = (Overrides::default(), Environment::default());
    let path = std::path::Path::new("test.yml");
    let config = Config::from_text(&text, path, &overrides, &environment);
    config.unwrap().mapping
}

/// The event as its receiver reads it.
pub fn to_value(event: &Event<'_>) -> Value {
    let mut json = Vec::new();
    event.write_json(&mut json).unwrap();
    serde_json::from_slice(&json).unwrap()
}

fn map(lines: &str, sample: Sample) -> (Result<Value, Vec<AlertError>>, Vec<Warning>) {
    let mapping = mapping(lines);
    let context = sample.context();
    let (event, warnings) = mapping.map(&context);
    (event.map(|event| to_value(&event)), warnings)
}

/// The event's field that a few lines give, and the warnings' reasons.
fn field(name: &str, lines: &str) -> (Value, Vec<String>) {
    let (event, warnings) = map(lines, sample());
    (
        event.unwrap()[name].clone(),
        warnings.into_iter().map(|warning| warning.reason).collect(),
    )
}

#[test]
fn template_data_has_the_shape_that_templates_are_checked_against() {
    const BODY: &str =
        r#"{"version":"4","truncatedAlerts":18446744073709551615,"alerts":[{"status":"firing"}]}"#;
    let context = decoded(BODY).context();
    for (data, names) in [
        (Data::of_alert(&context), &ALERT[..]),
        (Data::of_notification(&context), &NOTIFICATION),
    ] {
        let entries = data.entries();
        assert_eq!(entries.len(), names.len(), "{entries:?}");
        for (name, field) in names {
            let shape = field.shape();
            let fits = match data.get(name) {
                Some(TemplateValue::Text(_)) => shape == Shape::Text,
                // A sender may write more than an int holds.
                Some(TemplateValue::Int(count)) => shape == Shape::Int && count == i64::MAX,
                Some(TemplateValue::Map(map)) => shape == Shape::Texts && map.holds_text(),
                _ => false,
            };
            assert!(fits, "{name}");
        }
    }
}

#[test]
fn each_type_of_rule_has_its_value() {
    for (rule, value) in rows(
        r#"
        plain
            plain
        1.10
            1.10
        {type: set, value: x}
            x
        {type: copy, value: labels.severity}
            critical
        {type: template, value: '{{ uppercase .Field }}!', field: labels.severity}
            CRITICAL!
        {type: template, value: '{{ .Field.severity }}', field: labels}
            critical
        {type: template, value: '{{ .RegexMatch.h }}', field: labels.instance, regexp: '^(?P<h>[^:]+)'}
            node_exporter
        {type: template, value: '{{ .Alert.labels.severity }} {{ .Alert.fingerprint }}'}
            critical 86714e72c9c59990
        {type: template, value: '{{ .Notification.receiver }} {{ .Notification.truncatedAlerts }}'}
            canopsis 3
        {type: template, value: '{{ json .Notification.novelty }}'}
            {"deep":[1,2.5,true,null]}
        {type: template, value: '{{ index .Alert.labels "a.dotted.name" }}'}
            dotted
        [{type: template, value: '{{ index .Field "no.such" }}', field: labels}, last]
            last
        {type: template, value: '{{ index .Field "a.dotted.name" }}', field: labels}
            dotted
        {type: map, field: labels.severity, values: {critical: bad}, default: odd}
            bad
        {type: map, field: labels.alertname, values: {critical: bad}, default: odd}
            odd
        [{type: copy, value: labels.nosuch}, {type: map, field: labels.severity, values: {a: b}}, last]
            last
        [{type: template, value: '{{ .Field }}', field: labels.empty}, last]
            last
        [{type: template, value: '{{ .RegexMatch.x }}', field: labels.severity, regexp: '(?P<x>z)'}, last]
            last
        // Case counts in a regexp and in a table, and white space in a table.
        [{type: template, value: x, field: labels.severity, regexp: '^CRITICAL$'}, last]
            last
        [{type: map, field: labels.severity, values: {Critical: a, ' critical': b}}, last]
            last
        [{type: map, field: labels.alertname, values: {instancedown: a}}, last]
            last
        {type: template, value: x, field: '', regexp: ''}
            x
        "#,
    ) {
        let found = field("output", &format!("output: {rule}"));
        assert_eq!(found, (Value::from(value), Vec::new()), "{rule}");
    }
}

#[test]
fn a_copied_text_and_the_key_of_a_table_are_taken_as_they_are() {
    let lines = "output: {type: copy, value: labels.severity}\n\
                 author: {type: map, field: labels.severity, values: {critical: a}, default: b}";
    let (event, _) = map(lines, sample_with(|value| format!(" {value} ")));
    let event = event.unwrap();
    assert_eq!(
        (&event["output"], &event["author"]),
        (&" critical ".into(), &"b".into())
    );
}

#[test]
fn of_a_repeated_unknown_key_the_last_value_counts() {
    for (keys, expected) in [
        ("\"n\":1,\"n\":2", Some("2")),
        ("\"n\":1,\"n\":null", None),
        ("\"n\":null,\"n\":1", Some("1")),
    ] {
        let body = format!(
            "{{\"version\":\"4\",\"alerts\":[{{\"status\":\"firing\",\"labels\":{{\"alertname\":\"A\",\"instance\":\"h\"}},{keys}}}]}}"
        );
        let (event, _) = map(
            "output: {type: template, value: '{{ .Alert.n }}'}",
            decoded(body.leak()),
        );
        assert_eq!(event.unwrap()["output"].as_str(), expected, "{keys}");
    }
}

#[test]
fn a_required_name_without_a_value_rejects_the_alert() {
    for (line, reason) in rows(
        r#"
        component: {type: copy, value: labels.nosuch}
            labels.nosuch is absent
        resource: {type: template, value: ' {{- "" -}} '}
            the template rendered an empty string
        connector_name: {type: template, value: '{{ .Field.nosuch }}', field: labels}
            labels has 5 entries: the template failed: at 1:4 of the template: map has no entry for key "nosuch"
        "#,
    ) {
        let errors = map(line, sample()).0.unwrap_err();
        let [
            AlertError::NoValue {
                field,
                reason: found,
            },
        ] = &errors[..]
        else {
            panic!("{line}: {errors:?}");
        };
        assert_eq!(
            (*field, found.as_str()),
            (line.split(':').next().unwrap(), reason)
        );
    }
}

#[test]
fn every_required_name_that_fails_is_named_and_what_fails_before_a_fallback_is_a_warning() {
    let failing = "{type: template, value: '{{ .Field.nosuch }}', field: labels}";
    let absent = "{type: copy, value: labels.nosuch}";
    let lines = format!(
        "component: {absent}\nresource: [{failing}, {absent}]\nconnector_name: [{failing}, p2]"
    );
    let (event, warnings) = map(&lines, sample());
    let errors = event.unwrap_err();
    let fields: Vec<&str> = errors.iter().map(AlertError::field).collect();
    assert_eq!(fields, ["component", "resource"]);
    let fields: Vec<&str> = warnings
        .iter()
        .map(|warning| warning.field.as_str())
        .collect();
    assert_eq!(fields, ["connector_name"]);
}

#[test]
fn an_optional_field_that_fails_costs_that_field_alone() {
    for name in [
        "output",
        "long_output",
        "author",
        "timestamp",
        "extra_infos",
    ] {
        let failing = "{type: template, value: '{{ .Field.nosuch }}', field: labels}";
        let (name, line) = match name {
            "extra_infos" => (
                "x_a",
                format!("extra_infos_prefix: x_\nextra_infos: {{a: {failing}, b: 1}}"),
            ),
            name => (name, format!("{name}: {failing}")),
        };
        let (event, warnings) = map(&line, sample());
        let event = event.unwrap();
        let expected = if name == "author" {
            Value::from("prometheus.p1")
        } else {
            Value::Null
        };
        assert_eq!(event[name], expected, "{line}");
        assert_eq!(event["resource"], "InstanceDown");
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert_eq!(warnings[0].field, name);
    }
}

#[test]
fn state_of_a_firing_alert_is_never_lost_to_a_spelling() {
    for (rule, state, warns) in [
        ("", 3, false),
        ("state: 2", 2, false),
        ("state: Minor", 1, false),
        ("state: {type: copy, value: labels.severity}", 3, false),
        (
            "state: {type: map, field: labels.severity, values: {critical: ok}}",
            0,
            false,
        ),
        ("state: {type: copy, value: labels.nosuch}", 3, true),
        ("state: {type: copy, value: labels.alertname}", 3, true),
        ("state: 4", 3, true),
        (
            "state: {type: template, value: '{{ .Field.nosuch }}', field: labels}",
            3,
            true,
        ),
    ] {
        let (value, warnings) = field("state", rule);
        assert_eq!(
            (value, !warnings.is_empty()),
            (Value::from(state), warns),
            "{rule}: {warnings:?}"
        );
    }
    let (event, warnings) = map("state: {type: copy, value: labels.nosuch}", resolved());
    assert_eq!(
        (event.unwrap()["state"].clone(), warnings),
        (Value::from(0), Vec::new())
    );
}

#[test]
fn strings_are_cut_by_characters() {
    let mut sample = sample();
    sample.alert.annotations =
        Labels::new(vec![("title".into(), Some("日本語🔥".repeat(100).into()))]);
    let lines = "output: {type: copy, value: annotations.title}\noutput_length: 6\nlong_output: {type: copy, value: annotations.title}";
    let event = map(lines, sample).0.unwrap();
    assert_eq!(event["output"], "日本語🔥日本");
    assert_eq!(event["long_output"].as_str().unwrap().chars().count(), 400);
}

#[test]
fn timestamps_and_tags() {
    for (rule, value, warns) in [
        (
            "{type: copy, value: startsAt}",
            Value::from(1_795_356_649),
            false,
        ),
        ("1795360249", Value::from(1_795_360_249), false),
        ("1795446649", Value::from(1_795_446_649), false),
        ("1795273849", Value::from(1_795_273_849), false),
        // More than a day in the past: Canopsis would use its own time, as without a timestamp.
        ("1795273848", Value::Null, false),
        ("1700000000", Value::Null, false),
        // More than a day in the future, in milliseconds, in nanoseconds, negative, none.
        ("1795446650", Value::Null, true),
        ("1795360249000", Value::Null, true),
        ("9223372036854775807", Value::Null, true),
        ("'-1'", Value::Null, false),
        ("'0'", Value::Null, false),
        ("{type: copy, value: endsAt}", Value::Null, false),
        (
            "'2026-11-22T15:10:49.5+01:00'",
            Value::from(1_795_356_649),
            false,
        ),
        ("{type: template, value: yesterday}", Value::Null, true),
    ] {
        let (timestamp, warnings) = field("timestamp", &format!("timestamp: {rule}"));
        assert_eq!((timestamp, !warnings.is_empty()), (value, warns), "{rule}");
    }
    for (rule, expected) in [
        (
            "{type: copy, value: groupLabels}",
            json!({"alertname": "InstanceDown"}),
        ),
        ("{type: set, value: {a: 1.10}}", json!({"a": "1.10"})),
        ("{type: copy, value: commonAnnotations}", Value::Null),
    ] {
        assert_eq!(
            field("tags", &format!("tags: {rule}")).0,
            expected,
            "{rule}"
        );
    }
}

#[test]
fn malformed_performance_data_is_left_out_with_a_warning() {
    for (text, published) in [("'disk i/o'=1.5MB;2;3", true), ("load=1e6", false)] {
        let lines = format!("perf_data: {{type: template, value: \"{text}\"}}");
        let (value, warnings) = field("perf_data", &lines);
        assert_eq!(
            (value == text, warnings.is_empty()),
            (published, published),
            "{text}"
        );
    }
}

#[test]
fn extra_informations_keep_their_type() {
    let lines = "extra_infos_prefix: x_\nextra_infos: {n: 1, b: true, t: '1', l: [1, a], m: {type: set, value: {a: {b: 1}}}, \
                 s: {type: copy, value: groupLabels}, none: {type: copy, value: labels.nosuch}}";
    // A list is a list of rules, also here.
    assert_eq!(field("x_l", lines).0, json!(1));
    let lines = lines.replace("[1, a]", "{type: set, value: [1, a]}");
    let event = map(&lines, sample()).0.unwrap();
    for (name, value) in [
        ("x_n", json!(1)),
        ("x_b", json!(true)),
        ("x_t", json!("1")),
        ("x_l", json!([1, "a"])),
        ("x_m", json!({"a": {"b": 1}})),
        ("x_s", json!({"alertname": "InstanceDown"})),
        ("x_none", Value::Null),
    ] {
        assert_eq!(event[name], value, "{name}");
    }
}

/// [`sample`] with a label and an annotation of some length.
pub fn large(length: usize) -> Sample {
    let mut sample = sample();
    let large = "x".repeat(length);
    let labels = [("alertname", "A"), ("instance", "h"), ("large", &*large)];
    let labels = labels.map(|(name, value)| (name.into(), Some(value.to_owned().into())));
    for of_alert in [&mut sample.alert.labels, &mut sample.alert.annotations] {
        *of_alert = Labels::new(labels.clone().into());
    }
    sample
}

#[test]
fn an_event_that_would_be_too_large_rejects_its_alert() {
    const LARGE: &str = "{type: copy, value: labels.large}";
    for (lines, length, fits) in [
        ("output: LARGE", 2 << 20, true),
        ("author: LARGE", (1 << 20) - 100, true),
        ("author: LARGE", 1 << 20, false),
        ("resource: LARGE", 2 << 20, false),
        ("component: LARGE", 2 << 20, false),
        ("tags: {type: copy, value: labels}", 1 << 20, false),
        ("output: LARGE\noutput_length: 2000000", 1 << 20, false),
        (
            "extra_infos: {a: LARGE, b: LARGE, c: LARGE}\nextra_infos_prefix: x_",
            350 << 10,
            false,
        ),
    ] {
        let (event, _) = map(&lines.replace("LARGE", LARGE), large(length));
        let error = event.err();
        assert_eq!(
            error,
            (!fits).then(|| vec![AlertError::EventTooLarge]),
            "{lines}"
        );
    }
}

#[test]
fn a_long_input_of_a_template_skips_its_rule() {
    let body = r#"{"version":"4","x":"LARGE","alerts":[{"status":"firing","labels":{"alertname":"A","instance":"h"},"x":"LARGE"}]}"#;
    let with = |length: usize| decoded(body.replace("LARGE", &"x".repeat(length)).leak());
    let (short, long) = (250 << 10, 257 << 10);
    for (rule, sample, expected) in [
        (
            "field: labels.large, value: '{{ strlen .Field }}'",
            large(short),
            "256000",
        ),
        ("field: labels.large, value: x", large(long), "last"),
        (
            "field: labels.large, regexp: x, value: x",
            large(long),
            "last",
        ),
        ("field: labels, value: x", large(long), "last"),
        ("value: '{{ .Alert.status }}'", with(short), "firing"),
        ("value: '{{ .Alert.status }}'", with(long), "last"),
        ("value: '{{ .Notification.version }}'", with(short), "4"),
        ("value: '{{ .Notification.version }}'", with(long), "last"),
        // What a sender may add is limited further: as values it takes much more memory.
        ("value: '{{ .Alert.x }}'", with(63 << 10), "xxx"),
        ("value: '{{ .Alert.x }}'", with(65 << 10), "last"),
    ] {
        let lines = format!("output: [{{type: template, {rule}}}, last]\noutput_length: 6");
        let (event, _) = map(&lines, sample);
        let output = event.unwrap()["output"].clone();
        assert!(
            output.as_str().unwrap().starts_with(expected),
            "{rule}: {output}"
        );
    }
}

#[test]
fn once_the_time_is_over_no_template_is_rendered() {
    let sample: &'static Sample = Box::leak(Box::new(sample()));
    let context = NotificationContext::new(&sample.notification, NOW, &|| true);
    let mapping = mapping("output: [{type: template, value: x}, last]");
    let (event, warnings) = mapping.map(&context.with_alert(&sample.alert));
    assert_eq!(event.unwrap().output.as_deref(), Some("last"));
    assert_eq!(warnings, []);
}
