//! No template, however large or deep, ends or hangs the process.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::thread;

use gotemplate::{
    MAX_DEPTH, MAX_INPUT_BYTES, MAX_NESTING, MAX_REGEXP_BYTES, MAX_SOURCE_BYTES, MAX_TEXT_BYTES,
    Reason, Template,
};

/// What a thread of the standard library has.
const STACK_BYTES: usize = 2 << 20;

fn data(text: &str) -> BTreeMap<String, String> {
    BTreeMap::from([("text".to_owned(), text.to_owned())])
}

fn render(source: &str, text: &str) -> Result<String, Reason> {
    let template = Template::parse(source).unwrap_or_else(|error| panic!("{error}"));
    template
        .render(&data(text), &|| false)
        .map_err(|error| error.reason)
}

/// Runs it on a thread with little stack: an overflow would end the whole test.
fn on_small_stack<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let thread = thread::Builder::new()
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, work)
            .unwrap();
        thread.join().unwrap()
    })
}

#[test]
fn a_chain_of_3000_else_ifs_is_run() {
    let mut source = r#"{{ if eq .text "h0" }}service-0"#.to_owned();
    for number in 1..3000 {
        source += &format!(r#"{{{{ else if eq .text "h{number}" }}}}service-{number}"#);
    }
    source += "{{ else }}none{{ end }}";
    on_small_stack(|| {
        for (text, expected) in [
            ("h0", "service-0"),
            ("h2999", "service-2999"),
            ("x", "none"),
        ] {
            assert_eq!(render(&source, text).as_deref(), Ok(expected));
        }
    });
}

#[test]
fn deep_nesting_is_refused_without_overflow() {
    for (open, close) in [
        ("{{if .text}}", "{{end}}"),
        ("{{with .text}}", "{{end}}"),
        ("{{range .text}}", "{{end}}"),
        ("{{if .x}}{{else}}", "{{end}}"),
        ("{{block \"b\" .}}", "{{end}}"),
    ] {
        on_small_stack(|| {
            let nested = |depth: usize| format!("{}{}", open.repeat(depth), close.repeat(depth));
            assert!(Template::parse(&nested(MAX_NESTING)).is_ok() || open.contains("block"));
            for depth in [MAX_NESTING + 1, 5_000, 100_000] {
                assert!(Template::parse(&nested(depth)).is_err(), "{open} {depth}");
            }
            // Never closed.
            assert!(Template::parse(&open.repeat(10_000)).is_err());
        });
    }
    on_small_stack(|| {
        let nested = |depth: usize| {
            let open = "(not ".repeat(depth);
            format!("{{{{ {open}.text{} }}}}", ")".repeat(depth))
        };
        let deepest = nested(MAX_NESTING);
        assert_eq!(render(&deepest, "x").as_deref(), Ok("true"));
        for depth in [MAX_NESTING + 1, 40_000] {
            assert!(Template::parse(&nested(depth)).is_err());
        }
    });
}

#[test]
fn the_deepest_template_runs_on_a_small_stack() {
    // As deep as the source may be, in a template that calls itself.
    let open = "{{ if (not (not (not (not .)))) }}{{ range $ }}{{ with $ }}";
    let depth = MAX_NESTING / 4;
    let body = format!(
        "{}{{{{ template \"t\" . }}}}{}",
        open.repeat(depth),
        "{{end}}".repeat(3 * depth)
    );
    let source = format!("{{{{ define \"t\" }}}}{body}{{{{ end }}}}{{{{ template \"t\" . }}}}");
    on_small_stack(|| {
        let error = Template::parse(&source).map(|template| template.render(&data("x"), &|| false));
        assert_eq!(error.unwrap().unwrap_err().reason, Reason::TooDeep);
    });
}

#[test]
fn recursion_ends_at_the_limit() {
    let source = "{{ define \"t\" }}{{ if . }}x{{ template \"t\" slice . 1 }}{{ end }}{{ end }}{{ template \"t\" .text }}";
    on_small_stack(|| {
        let short = "a".repeat(MAX_DEPTH / 2 - 1);
        assert_eq!(
            render(source, &short).map(|text| text.len()),
            Ok(short.len())
        );
        assert_eq!(render(source, &"a".repeat(MAX_DEPTH)), Err(Reason::TooDeep));
        let endless = "{{ define \"t\" }}{{ template \"t\" }}{{ end }}{{ template \"t\" }}";
        assert_eq!(render(endless, ""), Err(Reason::TooDeep));
    });
}

#[test]
fn a_long_source_is_refused() {
    for source in [
        "x".repeat(10 << 20),
        "{{ . }}".repeat(1 << 20),
        "{{".repeat(5 << 20),
        "{{ 1 }}".to_owned() + &"é".repeat(MAX_SOURCE_BYTES),
    ] {
        let error = Template::parse(&source).unwrap_err();
        assert!(error.to_string().contains("the limit is 262144"), "{error}");
    }
    assert!(Template::parse(&"x".repeat(MAX_SOURCE_BYTES)).is_ok());
}

/// Each of the faults may list all names that are known.
#[test]
fn the_faults_are_bounded() {
    let defined = (0..5000).map(|number| format!("{{{{define \"{number}\"}}}}{{{{end}}}}"));
    let used = (0..5000).map(|number| format!("{{{{template \"x{number}\"}}}}"));
    let source: String = defined
        .chain(["{{if .text}}".to_owned()])
        .chain(used)
        .collect();
    let template = Template::parse(&(source + "{{end}}")).unwrap();
    assert_eq!(template.analysis().faults().len(), 50);
}

/// Templates of which each calls the one before twice.
fn doubled(levels: usize) -> String {
    let mut source = "{{ define \"t0\" }}{{ end }}".to_owned();
    for level in 1..levels {
        let below = format!("{{{{ template \"t{}\" }}}}", level - 1);
        source += &format!("{{{{ define \"t{level}\" }}}}{below}{below}{{{{ end }}}}");
    }
    source + &format!("{{{{ template \"t{}\" }}}}", levels - 1)
}

#[test]
fn the_steps_are_bounded() {
    assert_eq!(render(&doubled(15), "").as_deref(), Ok(""));
    assert_eq!(render(&doubled(60), ""), Err(Reason::TooManySteps));
    // Each declaration is cheap, and would keep a megabyte.
    let hoarding = "{{ $x := .text }}".to_owned()
        + &"{{ $x := print $x $x }}".repeat(3)
        + &"{{ $x := print $x \"\" }}".repeat(1000);
    assert_eq!(
        render(&hoarding, &"a".repeat(100_000)),
        Err(Reason::TooManySteps)
    );
}

#[test]
fn texts_are_bounded() {
    for source in [
        "{{ printf \"%1000000d%1000000d\" 1 1 }}",
        "{{ printf \"%*s\" 1000000 .text | print .text | printf \"%s%s\" .text | printf \"%s %s\" .text | len }}{{ printf \"%1000000s%100000s\" 1 1 }}",
        "{{ $x := .text }}{{ $x := print $x $x $x $x }}{{ $x := print $x $x $x $x }}{{ print $x $x }}",
        "{{ .text }}{{ .text }}{{ .text }}{{ .text }}{{ .text }}{{ .text }}{{ .text }}{{ .text }}{{ .text }}{{ .text }}{{ .text }}",
    ] {
        assert_eq!(
            render(source, &"a".repeat(100_000)),
            Err(Reason::TooLong),
            "{source}"
        );
    }
    let longest = "a".repeat(MAX_INPUT_BYTES);
    assert_eq!(render("{{ len .text }}", &longest).as_deref(), Ok("262144"));
    assert_eq!(
        render("{{ len .text }}", &(longest + "a")),
        Err(Reason::InputTooLong(MAX_INPUT_BYTES + 1))
    );
    let many = "a".repeat(MAX_REGEXP_BYTES);
    let long_replacement = format!("{{{{ replace \"a\" \"{}\" .text }}}}", "b".repeat(1000));
    assert_eq!(render(&long_replacement, &many), Err(Reason::TooLong));
    assert!(16 * many.len() < MAX_TEXT_BYTES);
}

#[test]
fn a_text_that_is_too_long_for_a_pattern_fails_the_template() {
    let source = "{{ replace \".*[^A-Z]|[A-Z]\" \"\" .text }}";
    let text = "A".repeat(MAX_REGEXP_BYTES + 1);
    let template = Template::parse(source).unwrap();
    let error = template.render(&data(&text), &|| false).unwrap_err();
    assert_eq!(
        error.to_string(),
        "at 1:4 of the template: replace: the text is 16385 bytes long; a regexp is run on at most 16384"
    );
}

#[test]
fn the_deadline_ends_a_template() {
    let quadratic = "{{ replace \".*[^A-Z]|[A-Z]\" \"\" .text }}";
    let doubling = doubled(60);
    let text = "A".repeat(MAX_REGEXP_BYTES);
    for source in [quadratic, &doubling] {
        let template = Template::parse(source).unwrap();
        for checks in [0, 1, 10] {
            let left = Cell::new(checks);
            let is_late = || left.replace(left.get() - 1) == 0;
            let error = template.render(&data(&text), &is_late).unwrap_err();
            assert_eq!(error.reason, Reason::DeadlinePassed, "{source}");
            assert_eq!(left.get(), -1, "it goes on for more than one check");
        }
    }
}
