//! What is said of a template when it is loaded.

#[path = "support/table.rs"]
mod table;

use std::collections::BTreeMap;

use gotemplate::Template;
use table::rows;

#[test]
fn what_go_refuses_is_refused_with_its_place_and_a_hint() {
    for (source, message) in rows(
        r#"
        {{ /* note */ }}
            1:4 of the template: unexpected "/" in command: a comment begins with
        {{ .a | "n/a" }}
            1:9 of the template: non executable command in pipeline stage 2
        {{ .. }}
            unexpected "." in operand
        {{ true.x }}
            unexpected . after term "true"
        {{ if .a }}{{ define "t" }}{{ end }}{{ end }}
            unexpected <define> in command
        {{ replace "\d+" "" .a }}
            1:12 of the template: invalid syntax: "\d+" has the escape \d
        {{ if .a }}x
            1:4 of the template: unexpected EOF: the {{end}} of this if is missing
        {{ end }}
            unexpected {{end}}
        {{ if .a }}{{ else }}{{ else }}{{ end }}
            expected end; found {{else}}
        {{ with .a }}{{ else if .b }}{{ end }}
            write {{else}}{{if …}} and one more {{end}}
        {{ upercase .a }}
            function "upercase" not defined
        {{ $value := 1 }}{{ $valeu }}
            undefined variable "$valeu"
        {{ break }}
            {{break}} outside {{range}}
        {{ range .a }}{{ else }}{{ continue }}{{ end }}
            {{continue}} outside {{range}}
        {{ $a, $b := .a }}
            too many declarations in command
        {{ 1i }}
            imaginary numbers are not supported
        {{ }}
            missing value for command
        {{ .a .b := 1 }}
            unexpected ":=" in operand: only a variable can be given a value
        {{ define "t" }}1{{ end }}{{ define "t" }}2{{ end }}
            multiple definition of template "t"
        "#,
    )
    .into_iter()
    .chain([
        (
            "x\né{{/* c */ }}",
            "2:4 of the template: comment ends before closing delimiter",
        ),
        (
            "{{ .a\u{a0}}}",
            "bad character U+00A0 (a space other than blank, tab and line break)",
        ),
    ]) {
        let error = Template::parse(source).expect_err(source).to_string();
        assert!(error.contains(message), "{source}: {error}");
    }
}

#[test]
fn an_unknown_name_comes_with_the_known_ones() {
    for (source, expected) in rows(
        r#"
        {{ upercase .a }}
            Function upercase uppercase
        {{ $value := 1 }}{{ $valeu }}
            Variable $valeu $value
        {{ define "head" }}{{ end }}{{ template "haed" }}
            Template haed head
        {{ .a | localtime "15:04" "Asia/Toky" }}
            TimeZone Asia/Toky Asia/Tokyo
        "#,
    ) {
        let unknown = Template::parse(source).unwrap_err().unknown.unwrap();
        let (found, known) = expected.rsplit_once(' ').unwrap();
        assert_eq!(format!("{:?} {}", unknown.kind, unknown.name), found);
        let is_there = unknown.known.iter().any(|other| other == known);
        assert!(is_there, "{unknown:?}");
    }
    let source = "{{ if .a }}{{ template \"haed\" }}{{ end }}{{ define \"head\" }}{{ end }}";
    let template = Template::parse(source).unwrap();
    let unknown = template.analysis().faults()[0].unknown.as_ref().unwrap();
    assert_eq!(unknown.known, ["head"]);
}

#[test]
fn what_always_fails_is_refused_and_what_may_fail_is_a_warning() {
    for (action, message) in [
        ("{{ template \"x\" . }}", "template \"x\" not defined"),
        (
            "{{ uppercase }}",
            "wrong number of args for uppercase: want 1 got 0",
        ),
        ("{{ .a | uppercase .b }}", "want 1 got 2"),
        ("{{ localtime .a }}", "want 2 or 3 got 1"),
        ("{{ index }}", "want at least 1 got 0"),
        ("{{ split \":\" \"0\" .a }}", "expected int; got string"),
        ("{{ split ':' 0 .a }}", "expected string; got int"),
        ("{{ split \":\" 1.5 .a }}", "expected int; got float64"),
        ("{{ substr .a 0 (strlen .a) }}", "expected int; got int64"),
        ("{{ 1 | printf }}", "expected string; got int"),
        ("{{ nil }}", "nil is not a command"),
        ("{{ .a 1 }}", "a field is not a function"),
        ("{{ \"a\" 1 }}", "can't give argument to non-function"),
        (
            "{{ (uppercase .a).b }}",
            "(…).b: (…) is a string, not a map",
        ),
        ("{{ call .a }}", "call: none of the values is a function"),
        ("{{ 9223372036854775808 }}", "the number overflows int"),
        ("{{ $x = 1 }}", "undefined variable \"$x\""),
    ] {
        let error = Template::parse(action).expect_err(action).to_string();
        assert!(error.contains(message), "{action}: {error}");
        for maybe in [
            format!("{{{{ if .a }}}}{action}{{{{ end }}}}"),
            format!("{{{{ range .a }}}}{{{{ else }}}}{action}{{{{ end }}}}"),
            format!("{{{{ define \"t\" }}}}{action}{{{{ end }}}}"),
        ] {
            let template = Template::parse(&maybe).expect(&maybe);
            let faults = &template.analysis().faults();
            let is_warned = faults
                .iter()
                .any(|fault| !fault.always && fault.message.contains(message));
            assert!(is_warned, "{maybe}: {faults:?}");
        }
    }
    for source in [
        "{{ and .a (uppercase) }}",
        "{{ if .a }}{{ else if uppercase }}{{ end }}",
        "{{ if .a }}{{ $y := 1 }}{{ else }}{{ $y }}{{ end }}",
        "{{ replace \"(\" \"\" .a }}",
    ] {
        let template = Template::parse(source).unwrap();
        assert_eq!(template.analysis().faults().len(), 1, "{source}");
    }
}

#[test]
fn what_go_takes_is_taken_without_a_warning() {
    for source in [
        "",
        "a }} b",
        "{{/* a */}}{{- /* b */ -}}",
        "{{with $x := .a}}{{$x}}{{else with .b}}{{.}}{{else}}{{$x}}{{end}}",
        "{{range $k, $v := .}}{{if $v}}{{continue}}{{end}}{{break}}{{end}}",
        "{{ $x := 1 }}{{ range $x = .a }}{{ end }}{{ $x }}",
        "{{ $k := 1 }}{{ $v := 2 }}{{ range $k, $v = .a }}{{ end }}",
        "{{ split \":\" 1e0 .a | printf \"%s\" | html }}",
        "{{ (index . \"a\").b.c }}",
        "{{ define \"t\" }} {{ end }}{{ define \"t\" }}x{{ end }}{{ template \"t\" }}{{ block \"b\" . }}{{ . }}{{ end }}",
        "{{ .a | }}",
        "{{\n\t.a\r\n}}",
    ] {
        let template = Template::parse(source).unwrap_or_else(|error| panic!("{source}: {error}"));
        assert_eq!(template.analysis().faults(), [], "{source}");
    }
}

#[test]
fn an_assignment_that_versions_of_go_read_differently_is_refused() {
    for source in [
        "{{ $x := 1 }}{{ $y := 2 }}{{ range $x = .a }}{{ end }}",
        "{{ $v := 1 }}{{ $k := 2 }}{{ range $k, $v = .a }}{{ end }}",
    ] {
        let error = Template::parse(source).unwrap_err().to_string();
        assert!(error.contains("Go before 1.20"), "{error}");
    }
}

#[test]
fn unknown_zones_are_refused() {
    for (source, message) in rows(
        r#"
        {{ localtime "15:04" "Asia/Toky" .a }}
            localtime: unknown time zone "Asia/Toky"
        {{ uppercase (.a | localtime "15:04" "CEST") }}
            unknown time zone "CEST"
        {{ if .a }}{{ .a | localtime "15:04" `No/Where` | lowercase }}{{ end }}
            localtime: unknown
        "#,
    ) {
        let error = Template::parse(source).unwrap_err().to_string();
        assert!(error.contains(message), "{source}: {error}");
    }
}

#[test]
fn the_analysis_says_what_is_looked_up_in_the_root() {
    // What is looked up: "all" where it may be anything, "none" where it is nothing.
    for (source, fields) in rows(
        r#"
        plain {{ 1 }}
            none
        {{ .a.b }}{{ $.c }}
            a c
        {{ with .a }}{{ .b }}{{ else }}{{ .c }}{{ end }}
            a b c
        {{ range .a }}{{ . }}{{ $.c }}{{ end }}{{ .d }}
            a c d
        {{ define "t" }}{{ . }}{{ $ }}{{ $.c }}{{ end }}{{ template "t" .a }}
            a c
        {{ block "t" . }}{{ .b }}{{ end }}
            all
        {{ with $x := .a }}{{ $x.b }}{{ . }}{{ end }}
            a
        {{ json . }}
            all
        {{ (.).a }}
            all
        {{ index $ (print "a") }}
            all
        {{ (.a).b }}{{ (index .c "d").e }}
            a c
        "#,
    ) {
        let template = Template::parse(source).unwrap();
        let uses = |name: &&str| template.analysis().may_use(name);
        assert_eq!(uses(&"x"), fields == "all", "{source}");
        let found: Vec<&str> = ["a", "b", "c", "d", "e"].into_iter().filter(uses).collect();
        match fields {
            "all" => {}
            "none" => assert_eq!(found, [""; 0], "{source}"),
            fields => assert_eq!(found.join(" "), fields, "{source}"),
        }
    }
}

#[test]
fn times_are_written_in_a_zone() {
    let started = "2026-11-22T14:10:49.093139117Z";
    let summer = "2026-07-05T23:30:00+05:30";
    for (source, text, expected) in [
        (
            r#".a | localtime "15:04 MST" "Europe/Paris""#,
            started,
            "15:10 CET",
        ),
        (
            r#"localtime "Jan 2 15:04:05.000 -07:00" "America/New_York" .a"#,
            started,
            "Nov 22 09:10:49.093 -05:00",
        ),
        (
            r#".a | localtime "02/01 15:04 MST" "Europe/Paris" | lowercase"#,
            summer,
            "05/07 20:00 cest",
        ),
        (
            r#".a | formattedDate "2006-01-02T15:04:05Z07:00""#,
            summer,
            "2026-07-05T18:00:00Z",
        ),
        (
            r#"formattedDate "Mon, 02 Jan 2006 15:04:05 MST" .a"#,
            "0001-01-01T00:00:00Z",
            "Mon, 01 Jan 0001 00:00:00 UTC",
        ),
        (r#"localtime "2006" "UTC" .a"#, "soon", ""),
        (r#"formattedDate "2006" .a"#, "soon", ""),
        ("localtime 2006 .a", started, ""),
        (r#"localtime "2006" 1 .a"#, started, ""),
        (r#"formattedDate "2006" 1"#, started, ""),
    ] {
        let data = BTreeMap::from([("a".to_owned(), text.to_owned())]);
        let template = Template::parse(&format!("{{{{ {source} }}}}")).unwrap();
        let rendered = template.render(&data, &|| false);
        assert_eq!(rendered.as_deref(), Ok(expected), "{source}");
    }
    let unknown = Template::parse("{{ localtime \"2006\" (lowercase \"No/Where\") .a }}").unwrap();
    let data = BTreeMap::from([("a".to_owned(), started.to_owned())]);
    let error = unknown.render(&data, &|| false).unwrap_err().to_string();
    assert_eq!(
        error,
        "at 1:4 of the template: error calling localtime: unknown time zone \"no/where\""
    );
}
