//! What is found in a template when something is known of its data.

#![allow(dead_code, reason = "of the shared module only a part is used")]

mod support;
#[path = "support/table.rs"]
mod table;

use std::collections::BTreeMap;

use gotemplate::{MapShape, RegexpBudget, Shape, Template, Value};
use proptest::prelude::*;
use support::{Dot, closed};
use table::rows;

fn entry(name: &str, shape: Shape) -> (String, Result<Shape, String>) {
    (name.to_owned(), Ok(shape))
}

/// Data with each kind of map: `.labels` with any keys, `.alert` with known and other ones, and the root with known ones only.
fn data() -> Shape {
    closed(vec![
        entry("text", Shape::Text),
        entry("number", Shape::Float),
        entry("yes", Shape::Bool),
        entry("any", Shape::Any),
        entry("labels", Shape::Texts),
        entry(
            "alert",
            Shape::Map(MapShape {
                keys: vec![entry("status", Shape::Text), entry("labels", Shape::Texts)],
                may_have_others: true,
                of_others: "not sent".to_owned(),
            }),
        ),
        entry("groups", closed(vec![entry("host", Shape::Text)])),
        ("match".to_owned(), Err("the rule has no regexp".to_owned())),
    ])
}

fn parse(source: &str) -> Template {
    Template::parse_for(source, &data(), &mut RegexpBudget::default())
        .unwrap_or_else(|error| panic!("{source}: {error}"))
}

#[test]
fn what_the_data_never_fit_always_fails() {
    for (source, message) in rows(
        r#"
        {{ .Labels.job }}
            at 1:4 of the template: .Labels: no such field
        {{ .match.host }}
            .match: the rule has no regexp
        {{ .text.x }}
            .text.x: .text is a string, not a map
        {{ .labels.job.x }}
            .labels.job.x: .labels.job is a string, not a map
        {{ .groups.hsot }}
            .groups.hsot: no such field
        {{ $.nosuch }}
            $.nosuch: no such field
        {{ with $x := .text }}{{ end }}{{ $x := .text }}{{ $x.y }}
            $x.y: $x is a string
        {{ (index .labels "a").b }}
            (…).b: (…) is a string
        {{ index .labels 1 }}
            index: a map is indexed with a name, such as "instance", not with a value of type int
        {{ index .groups 1 }}
            index: a map is indexed with a name
        {{ 1 | index .alert.labels }}
            index: a map is indexed with a name
        {{ index .alert "labels" 1 }}
            index: a map is indexed with a name
        {{ index .text "a" }}
            index: cannot index slice/array with type string
        {{ index .number 1 }}
            index: can't index item of type float64
        {{ slice .labels 1 }}
            slice: can't slice item of type map[string]string
        {{ slice .text .text }}
            slice: cannot index slice/array with type string
        {{ len .number }}
            len: len of type float64
        {{ if gt .labels.value 5 }}{{ end }}
            gt: incompatible types for comparison: string and int
        {{ lt .number 5 }}
            lt: incompatible types for comparison: float64 and int
        {{ le .yes .any }}
            le: incompatible types
        {{ eq .text 1 "a" }}
            eq: incompatible types for comparison: string and int
        {{ ne .labels .groups }}
            ne: non-comparable type map
        {{ add .text 1 }}
            add: string is not an integer
        {{ strjoin .labels ", " }}
            strjoin: it joins a list, not a map[string]string
        {{ pairs .text }}
            pairs: it takes a map, not a string
        {{ substr .labels 0 1 }}
            expected string; got map[string]string
        {{ .labels | strlen }}
            expected string; got map[string]string
        {{ split ":" .text .text }}
            expected int; got string
        {{ range .text }}{{ end }}
            range can't iterate over a string
        {{ if .text.x }}{{ end }}
            .text.x: .text is a string
        {{ template "t" .text.x }}{{ define "t" }}{{ end }}
            .text.x: .text is a string
        {{ and .text.x .text }}
            .text.x: .text is a string
        "#,
    ) {
        let template = parse(source);
        let faults = template.analysis().faults();
        let [fault] = faults else {
            panic!("{source}: {faults:?}");
        };
        assert!(fault.always, "{source}: {fault}");
        assert!(fault.to_string().contains(message), "{source}: {fault}");
    }
    for known in [50, 60] {
        let template = parse(&("{{ if .any }}{{ .x }}{{ end }}".repeat(known) + "{{ .y }}"));
        let faults = template.analysis().faults();
        assert!(faults.len() == 50 && faults[49].always);
    }
}

#[test]
fn what_may_not_be_reached_or_may_not_fail_is_no_certain_fault() {
    for (source, message) in rows(
        r#"
        {{ if .any }}{{ .text.x }}{{ end }}
            1:17 of the template: fails where it is reached: .text.x: .text
        {{ with .alert }}{{ .status.x }}{{ end }}
            .status.x: .status is a string
        {{ range .labels }}{{ .x }}{{ end }}
            .x: . is a string
        {{ range $k, $v := .labels }}{{ $v }}{{ else }}{{ .x }}{{ end }}
            .x: no such field
        {{ and .any .nosuch }}
            .nosuch: no such field
        {{ .alert.lables }}
            .alert.lables: not sent
        {{ with .alert }}{{ .Labels }}{{ end }}
            .Labels: not sent
        {{ block "t" . }}{{ .match.x }}{{ end }}
            .match: the rule has no regexp
        {{ replace "(" "" .text }}
            replace gives an empty text
        "#,
    ) {
        let template = parse(source);
        let faults = template.analysis().faults();
        let [fault] = faults else {
            panic!("{source}: {faults:?}");
        };
        assert!(!fault.always, "{source}: {fault}");
        assert!(fault.to_string().contains(message), "{source}: {fault}");
    }
    for source in [
        "{{ .text }}{{ .labels.job }}{{ .alert.labels.job }}{{ .any.x.y }}{{ .groups.host }}",
        "{{ index .any \"a\" \"b\" | eq 1 }}",
        "{{ index .labels .text }}{{ index .any 1 }}{{ index .groups \"hsot\" }}{{ index . \"match\" }}",
        "{{ with .any }}{{ .x.y }}{{ end }}{{ range .any }}{{ .x }}{{ end }}",
        "{{ eq .text nil }}{{ ne nil .labels }}{{ eq .any 1 }}{{ lt .any 1.5 }}{{ eq .text .text }}",
        "{{ define \"t\" }}{{ .x.y }}{{ $.z }}{{ end }}{{ template \"t\" .any }}",
        // A variable that is assigned may be anything.
        "{{ $x := .text }}{{ if .any }}{{ $x = .any }}{{ end }}{{ $x.y }}",
        "{{ if .any }}{{ $ = .any }}{{ end }}{{ $.nosuch }}",
        "{{ $x := .any }}{{ and .any ($x := .text) }}{{ $x.y }}",
        "{{ range $x := .any }}{{ $x.y }}{{ else }}{{ $x }}{{ end }}",
        "{{ len .text }}{{ add (strlen .text) 1 }}{{ slice .text 1 (len .text) }}{{ range .alert }}{{ .x }}{{ end }}",
    ] {
        assert_eq!(parse(source).analysis().faults(), [], "{source}");
    }
}

#[test]
fn what_the_data_may_lack_is_named() {
    for (source, optional) in [
        (
            "{{ .text }}{{ .alert.status }}{{ .any.x }}{{ index .labels \"a\" }}",
            &[][..],
        ),
        (
            "{{ .labels.job }}{{ .alert.labels.job }}",
            &[".alert.labels.job", ".labels.job"],
        ),
        ("{{ $x := .labels }}{{ $x.job }}", &["$x.job"]),
        ("{{ if .labels.a }}{{ .labels.b }}{{ end }}", &[".labels.a"]),
        ("{{ if .any }}{{ .labels.b }}{{ end }}", &[]),
        ("{{ define \"t\" }}{{ .x }}{{ end }}", &[]),
    ] {
        let template = parse(source);
        let found: Vec<&str> = template.analysis().optional().collect();
        assert_eq!(found, optional, "{source}");
    }
}

fn words(text: &'static str) -> impl Strategy<Value = &'static str> {
    prop::sample::select(text.split(' ').collect::<Vec<_>>())
}

/// Operands, of which some use what others declare. Most of them never fail: where one does, the others prove nothing.
fn operand() -> impl Strategy<Value = String> {
    const SAFE: &str = "., .text, .any, .labels, .labels.a, .alert, .groups, $x, $y, 1, \"a\", true, (and .any ($y := .labels)), \
                        (or .any ($x = .labels)), ($x = .any), ($y := .text)";
    const RISKY: &str = "$, .number, .yes, .labels.b, .alert.status, .alert.labels.a, .alert.other, .groups.host, .match, $.text, \
                         $.labels.a, 1.5, nil, (.alert).status";
    let of = |list: &'static str| prop::sample::select(list.split(", ").collect::<Vec<_>>());
    let simple = prop_oneof![
        6 => of(SAFE),
        3 => words("$x.a $y.a .a"),
        1 => of(RISKY),
    ];
    let simple = simple.prop_map(str::to_owned);
    simple.prop_recursive(2, 6, 3, |inner| {
        let (one, two) = (inner.clone(), inner.clone());
        let unary = words("print html json not len uppercase strlen pairs");
        let binary = words("and or print map_has_key eq ne lt ge index slice strjoin add printf");
        prop_oneof![
            (unary, inner.clone()).prop_map(|(name, value)| format!("({name} {value})")),
            (binary, one, two).prop_map(|(name, one, two)| format!("({name} {one} {two})")),
            (inner.clone(), inner).prop_map(|(one, two)| format!("({one} | index {two})")),
        ]
    })
}

fn template() -> impl Strategy<Value = String> {
    let action = prop_oneof![
        4 => operand().prop_map(|value| format!("{{{{ {value} }}}}")),
        1 => operand().prop_map(|value| format!("{{{{ $y := {value} }}}}")),
        1 => operand().prop_map(|value| format!("{{{{ $x = {value} }}}}")),
        1 => operand().prop_map(|value| format!("{{{{ template \"t\" {value} }}}}")),
    ];
    let nodes = action.prop_recursive(2, 8, 3, |inner| {
        let body = prop::collection::vec(inner, 0..3).prop_map(|nodes| nodes.concat());
        let openings = "if |with |range |with $y := |if $x := |range $x := |range $y, $x := ";
        let opening = prop::sample::select(openings.split('|').collect::<Vec<_>>());
        (opening, operand(), body.clone(), body).prop_map(|(opening, value, body, otherwise)| {
            format!("{{{{ {opening}{value} }}}}{body}{{{{ else }}}}{otherwise}{{{{ end }}}}")
        })
    });
    let root = prop::collection::vec(nodes, 1..3).prop_map(|nodes| nodes.concat());
    let first = || words(".text .any .labels .alert 1 $");
    (first(), first(), root).prop_map(|(x, y, root)| {
        let definition = "{{ define \"t\" }}{{ . }}{{ $ }}{{ end }}";
        format!("{definition}{{{{ $x := {x} }}}}{{{{ $y := {y} }}}}{root}")
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// A certain fault that can render would refuse a configuration that works.
    #[test]
    fn what_always_fails_never_renders(
        source in template(),
        a in prop::option::weighted(0.8, "[a-c]{0,2}"),
        text in prop::sample::select(&["", "a", "text"][..]),
        any in prop::sample::select(&["null", "1", "\"a\"", "[\"a\"]", "{\"a\": {\"b\": 1}}", "{}", "false"][..]),
        number in prop::sample::select(&[0.0, 1.5][..]),
        has_other: bool,
    ) {
        let Ok(template) = Template::parse_for(&source, &data(), &mut RegexpBudget::default()) else {
            return Ok(());
        };
        let Some(fault) = template.analysis().faults().iter().find(|fault| fault.always) else {
            return Ok(());
        };
        let labels: BTreeMap<String, String> = a.into_iter().map(|a| ("a".to_owned(), a)).collect();
        let groups = BTreeMap::from([("host".to_owned(), text.to_owned())]);
        let any: serde_json::Value = serde_json::from_str(any).unwrap();
        let mut alert = BTreeMap::from([("status", Value::from(text)), ("labels", Value::Map(&labels))]);
        if has_other {
            alert.insert("other", Value::from_json(&any));
        }
        let alert = Dot(alert);
        let dot = Dot(BTreeMap::from([
            ("text", Value::from(text)),
            ("number", Value::Float(number)),
            ("yes", Value::Bool(has_other)),
            ("any", Value::from_json(&any)),
            ("labels", Value::Map(&labels)),
            ("alert", Value::Map(&alert)),
            ("groups", Value::Map(&groups)),
        ]));
        let rendered = template.render(&dot, &|| false);
        prop_assert!(rendered.is_err(), "{source} renders {rendered:?}: {fault}");
    }
}
