//! How errors are reported.

use super::*;

#[test]
fn every_error_is_reported_at_once_with_its_line() {
    let text = "\
amqp:
  url: http://u:hunter2@h/v
  exchnge: x
http:
  listen: 18401
  bearer_token: ''
  max_body_bytes: big
  answer_timeout: 8
event_type: check
conector: prometheus
connector: {type: copy, value: labels.job}
connector_name:
  type: tempalte
  value: x
component: {type: copy, value: lables.instance}
resource:
  - {type: copy, value: labels}
  - {type: template, value: '{{ if .Field }}x', field: labels.a}
state: {type: map, field: labels.severity, values: [1]}
output: {type: template, value: x, field: labels.a, regexp: '('}
output_length: 0
tags: {type: copy, value: labels.a}
author: {value: x}
extra_infos_prefix: ''
extra_infos:
  state: 1
  fine: {type: copy, value: fingerprint, feild: x}
  fine: 2
bearer_token: x
";
    let expected = [
        "line 2, column 3: amqp.url: the URL must begin with amqp:// or amqps://",
        "line 3, column 3: amqp.exchnge: unknown key; did you mean \"exchange\"?",
        "line 5, column 3: http.listen: must be HOST:PORT, such as 0.0.0.0:18401 or [::]:18401",
        "line 6, column 3: http.bearer_token: must not be empty",
        "line 7, column 3: http.max_body_bytes: must be a whole number of bytes, 1024 to 67108864",
        "line 8, column 3: http.answer_timeout: must be a duration from 100ms to 60s, such as 8s",
        "line 9, column 1: event_type: cannot be set; it is always check",
        "line 10, column 1: conector: unknown key; did you mean \"connector\"?",
        "line 11, column 1: connector: must be a constant: write `connector: prometheus`, or `type: set`",
        "line 13, column 3: connector_name.type: unknown type \"tempalte\"; did you mean \"template\"? (known: set, copy, template, map)",
        "line 15, column 25: component.value: unknown path root \"lables\"; did you mean \"labels\"?",
        "line 17, column 18: resource[0].value: labels is a mapping, but this field takes a string: use one of its entries, such as labels.NAME",
        "line 18, column 22: resource[1].value: the template does not compile: at 1:4 of the template: unexpected EOF: the {{end}} of this if is missing",
        "line 19, column 44: state.values: must be a mapping of strings",
        "line 20, column 53: output.regexp: the regexp does not compile: unclosed group",
        "line 21, column 1: output_length: must be a whole number of characters, 1 or more",
        "line 22, column 20: tags.value: labels.a is a string, but this field takes a mapping, such as labels",
        "line 23, column 1: author: a rule must have a type (set, copy, template, map)",
        "line 26, column 3: extra_infos.state: the name \"state\" is reserved by Canopsis; choose another name or prefix",
        "line 27, column 42: extra_infos.fine.feild: unknown key",
        "line 28, column 3: extra_infos.fine: duplicate key",
        "line 29, column 1: bearer_token: unknown key; did you mean \"http.bearer_token\"?",
    ];
    let errors = errors(text, &[]);
    assert_eq!(errors, expected, "{errors:#?}");
    assert!(!format!("{:?}", load(text)).contains("hunter2"));
}

#[test]
fn a_reserved_name_is_found_across_prefix_and_name() {
    for (prefix, name) in [("", "state"), ("sta", "te"), ("_", "id"), (" sta", "te ")] {
        let lines = format!("extra_infos_prefix: {prefix:?}\nextra_infos: {{{name}: 1}}\n");
        let errors = errors(&format!("{MINIMAL}{lines}"), &[]);
        assert_is(&errors, "is reserved by Canopsis…", &lines);
    }
}

#[test]
fn a_key_of_another_type_of_rule_is_reported_with_that_type() {
    for (line, expected) in rows(
        r#"
        output: {type: copy, value: labels.a, regexp: x}
            output.regexp: unknown key; it belongs to a rule of type template
        output: {type: set, value: x, field: labels.a}
            output.field: unknown key; it belongs to a rule of type template or map
        output: {type: map, field: labels.a, values: {a: b}, value: c}
            output.value: unknown key; it belongs to a rule of type set or copy or template
        output: {type: copy, value: labels.a, template: x}
            output.template: unknown key; did you mean "type: template"?
        output: {type: map, field: labels.a, values: {a: b}, defualt: c}
            output.defualt: unknown key; did you mean "default"?
        "#,
    ) {
        assert_is(&errors(&with(line), &[]), expected, line);
    }
}

#[test]
fn missing_keys_and_invalid_values_are_reported() {
    for (line, expected) in rows(
        r#"
        connector_name: ''
            line 7, column 1: connector_name: must not be empty
        component: {type: copy, value: .Alert.labels.instance}
            did you mean "labels.instance"?
        extra_infos: {a: ~}
            extra_infos.a: must not be null
        amqp: {url_file: /etc}
            amqp.url_file: cannot read /etc: Is a directory…
        amqp: {url: 'amqp://u:p@h1,h2:5672/v'}
            line 8, column 8: amqp.url: the URL has several hosts; set several URLs instead: amqp.url takes a list
        "#,
    ) {
        assert_is(&errors(&with(line), &[]), expected, line);
    }
    let missing = errors("", &[]);
    for expected in [
        "connector: required but not set",
        "resource: required but not set",
        "http.bearer_token: required but not set; set it here or with PROMETHEUS_BEARER_TOKEN",
    ] {
        assert_contains(&missing, expected, "an empty file");
    }
    assert_contains(
        &errors("- a", &[]),
        "the file must be a YAML mapping…",
        "a list",
    );
}

#[test]
fn invalid_variables_are_reported() {
    for (variables, expected) in rows(
        r"
        PROMETHEUS_BEARER_TOKEN=
            environment variable PROMETHEUS_BEARER_TOKEN: is set but empty…
        PROMETHEUS_BEARER_TOKEN=two words
            PROMETHEUS_BEARER_TOKEN: must consist of printable ASCII…
        PROMETHEUS_BEARER_TOKEN=a; PROMETHEUS_BEARER_TOKEN_FILE=b
            PROMETHEUS_BEARER_TOKEN_FILE: is set together with PROMETHEUS_BEARER_TOKEN; set only…
        PROMETHEUS_BEARER_TOKEN_FILE=/no/such
            PROMETHEUS_BEARER_TOKEN_FILE: cannot read the file (path not shown; it may be a secret): No such file…
        PROMETHEUS_BEARER_TOKEN_FILE=hunter2
            PROMETHEUS_BEARER_TOKEN_FILE: cannot read the file (path not shown…
        PROMETHEUS_BEARER_TOKEN_FILE=/etc/../hunter2
            PROMETHEUS_BEARER_TOKEN_FILE: cannot read the file (path not shown…
        PROMETHEUS_BEARER_TOKEN_FILE=/etc/x amqp://u:hunter2@h
            PROMETHEUS_BEARER_TOKEN_FILE: cannot read the file (path not shown…
        PROMETHEUS_BEARER_TOKEN_FILE=/etc/no/such
            PROMETHEUS_BEARER_TOKEN_FILE: cannot read /etc/no/such: No such file…
        CPS_AMQP_URL=amqp://h amqp//x
            CPS_AMQP_URL: the URL must begin with…
        CPS_AMQP_URL=amqp://h; CPS_AMQP_URL_FILE=b
            CPS_AMQP_URL_FILE: is set together with CPS_AMQP_URL…
        CPS_AMQP_URL=BLANK
            CPS_AMQP_URL: is set but empty…
        CPS_AMQP_URL_FILE=/dev/null
            CPS_AMQP_URL_FILE: the file is empty
        PROMETHEUS_LISTEN=here
            PROMETHEUS_LISTEN: must be HOST:PORT…
        PROMETHEUS_MAX_CONNECTIONS=many
            PROMETHEUS_MAX_CONNECTIONS: must be a whole number of connections, 2 to 4096
        ",
    ) {
        // The table has no lines that end with a space.
        let text = variables.replace("BLANK", " ");
        let pairs: Vec<_> = text
            .split("; ")
            .filter_map(|pair| pair.split_once('='))
            .collect();
        assert_contains(&errors(MINIMAL, &pairs), expected, variables);
    }
}

#[test]
fn the_first_line_names_where_the_errors_are() {
    for (text, variables, expected) in [
        (
            "a: 1",
            &[][..],
            "test.yml: 6 errors; configuration rejected\n",
        ),
        (
            MINIMAL,
            &[("PROMETHEUS_LISTEN", "here")],
            "environment: 1 error; configuration rejected\n  environment variable PROMETHEUS_LISTEN: ",
        ),
        (
            &format!("{MINIMAL}a: 1"),
            &[("PROMETHEUS_LISTEN", "here")],
            "test.yml and environment: 2 errors; configuration rejected\n  line 8, column 1: a: unknown key\n",
        ),
    ] {
        let error = load_with(text, variables, &Overrides::default()).unwrap_err();
        assert!(error.to_string().starts_with(expected), "{error}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_reported() {
    let path = Path::new("/no/such.yml");
    let error = Config::load(path, &Overrides::default(), &Environment::default()).unwrap_err();
    assert!(
        error.to_string().contains("/no/such.yml: No such file"),
        "{error}"
    );
    for (text, expected) in [
        ("a: [", "test.yml: line 2, column 1: invalid YAML"),
        (
            "http:\n  bearer_token: !S3cret\n",
            "test.yml: line 2, column 17: invalid YAML: a value that begins with ! must be quoted",
        ),
    ] {
        let error = load(text).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    }
}

/// 600 patterns of 20 characters took 370 MiB.
#[test]
fn regexps_that_take_much_memory_together_are_an_error() {
    let config = |pattern: &str, rules: usize, of_template: usize| {
        let calls = format!("{{{{ replace `{pattern}` `` .Field }}}}").repeat(of_template);
        let rule = format!(
            "  - {{type: template, field: labels.a, regexp: '{pattern}', value: '{calls}'}}\n"
        );
        format!("{MINIMAL}output:\n{}", rule.repeat(rules))
    };
    let large = errors(&config(r"\pL{20}", 10, 60), &[]);
    assert_eq!(
        large[0],
        "line 9, column 58: output[0].value: the template does not compile: at 1:507 of the template: all patterns together take more than 16 MiB once they are compiled; use fewer, or smaller ones"
    );
    let large = errors(&config(r"\pL{20}", 20, 0), &[]);
    assert_eq!(large.len(), 4, "{large:?}");
    assert!(
        large[0].starts_with(
            "line 25, column 39: output[16].regexp: the regexp does not compile: all patterns"
        ),
        "{large:?}"
    );
    assert!(load(&config("^(?P<host>[^:]+)(:(?P<port>[0-9]+))?$", 100, 5)).is_ok());
}

/// Compared letter by letter, these names take a minute.
#[test]
fn long_names_of_a_template_are_not_compared() {
    let name = "a".repeat(100_000);
    let value = format!("{{{{define \"{name}b\"}}}}{{{{end}}}}{{{{template \"{name}c\"}}}}");
    let errors = errors(
        &format!("{MINIMAL}output: {{type: template, value: '{value}'}}"),
        &[],
    );
    assert!(errors[0].contains("template \"aaa"), "{errors:?}");
}

#[test]
fn duplicate_keys_are_errors_wherever_they_are() {
    for (line, expected) in rows(
        r"
        amqp: {exchange: a, exchange: b}
            line 8, column 21: amqp.exchange
        output: [{type: copy, type: set, value: x}]
            line 8, column 23: output[0].type
        extra_infos: {a: {type: set, value: {k: 1, k: 2}}}
            line 8, column 44: extra_infos.a.value.k
        extra_infos: {a: [1, {b: [{k: 1, k: 1}]}]}
            line 8, column 34: extra_infos.a[1].b[0].k
        output: {type: map, field: labels.a, values: {a: 1, a: 1}}
            line 8, column 53: output.values.a
        tags: {a: 1, a: 2}
            line 8, column 14: tags.a
        x: {a: {b: 1, b: 2}}
            line 8, column 15: x.a.b
        ",
    )
    .into_iter()
    .chain([("author: x\nauthor: y", "line 9, column 1: author")])
    {
        let expected = format!("{expected}: duplicate key…");
        assert_contains(&errors(&with(line), &[]), &expected, line);
    }
}

#[test]
fn warnings_are_listed_below_the_errors_each_in_the_order_of_the_file() {
    let text = MINIMAL
        .replace("state: 2", "state: 9")
        .replace("sesame-word", "sesame-word, answer_timeout: 30s")
        + "output: labels.a\nauthor: {type: copy, value: lables.a}\nconnectr: x\n";
    let error = load(&text).unwrap_err().to_string();
    let lines: Vec<&str> = error.lines().collect();
    let expected = [
        "test.yml: 2 errors; configuration rejected",
        "  line 9, column 22: author.value: unknown path root",
        "  line 10, column 1: connectr: unknown key; did you mean \"connector\"?",
        "  warning: line 2, column 35: http.answer_timeout: is over 9s",
        "  warning: line 7, column 1: state: \"9\" is not a valid state",
        "  warning: line 8, column 1: output: is the constant \"labels.a\"",
    ];
    assert_eq!(lines.len(), expected.len(), "{error}");
    for (line, expected) in lines.iter().zip(expected) {
        assert!(line.starts_with(expected), "{expected}: {error}");
    }
    let config = load(&text.replace("lables", "labels").replace("connectr: x", "")).unwrap();
    let lines = config.warnings.iter().map(|line| line.split(',').next());
    let expected = ["line 2", "line 7", "line 8"].map(Some);
    assert_eq!(lines.collect::<Vec<_>>(), expected);
}

#[test]
fn no_text_of_the_user_reaches_the_terminal_unseen() {
    let hidden = "\u{1b}[31m\u{9b}\u{200b}\u{a0}\u{202e}\u{43e}x";
    for line in [
        format!("tags: {{type: copy, value: 'labels.{hidden}'}}"),
        format!("tags: {{type: copy, value: '{hidden}'}}"),
        format!("output: {{type: '{hidden}', value: x}}"),
        format!("output: {{type: template, value: x, '{hidden}': x}}"),
        format!("output: 'labels.{hidden}'\nx: 1"),
        format!("state: '{hidden}'\nx: 1"),
        format!("extra_infos: {{'{hidden}': {{type: x}}}}"),
        format!("'{hidden}': 1"),
        format!("output: {{type: template, value: '{{{{ {hidden} }}}}'}}"),
        format!("output: {{type: template, field: labels.a, value: x, regexp: '({hidden}'}}"),
    ] {
        // YAML has no control characters but in double quotes.
        let line = line
            .replace('\'', "\"")
            .replace('\u{1b}', "\\e")
            .replace('\u{9b}', "\\u009b");
        for error in errors(&format!("{MINIMAL}{line}"), &[]) {
            assert!(!error.contains(crate::text::is_hidden), "{line}: {error:?}");
            assert!(!error.contains('\u{43e}'), "{line}: {error:?}");
        }
    }
}

#[test]
fn a_character_that_is_no_white_space_is_named() {
    const REMOVE: &str = "is not white space in YAML: remove it)";
    for (line, shown, meant) in [
        ("author\u{200b}: y", "author\\u{200b}", "author"),
        (
            "\u{3000}\u{3000}listen: x",
            "\\u{3000}\\u{3000}listen",
            "http.listen",
        ),
        (
            "amqp: {\u{202f}exchange: y}",
            "amqp.\\u{202f}exchange",
            "exchange",
        ),
        (
            "tags: {type: set, value\u{ad}: {}}",
            "tags.value\\u{ad}",
            "value",
        ),
    ] {
        let mut errors = errors(&with(line), &[]);
        errors.retain(|error| error.ends_with(REMOVE));
        let expected = format!("{shown}: unknown key; did you mean \"{meant}\"? (\\u{{…");
        assert_contains(&errors, &expected, line);
    }
    for (text, expected) in rows(
        "
        http: {listen:\u{a0}x}
            http.listen:…: unknown key; \\u{a0} follows the colon instead of a space
        http: {listen:x}
            http.listen:…: unknown key; a space is missing after the colon
        http: listen:x
            http: must be a mapping; a space is missing after the colon
        connector:x
            the file must be a YAML mapping (KEY: value); a space is missing after the colon
        component: {type: copy, value: labels.a, type: copy}
            component.type: duplicate key; each rule of a list begins with a dash
        ",
    ) {
        assert_contains(&errors(text, &[]), expected, text);
    }
}

#[test]
fn long_lists_of_errors_and_warnings_are_cut() {
    let unknown: Vec<String> = (0..1000).map(|key| format!("k{key}: 1\n")).collect();
    let error = load(&with(&unknown.concat())).unwrap_err().to_string();
    let lines: Vec<&str> = error.lines().collect();
    assert_eq!(lines.len(), 52);
    assert_eq!(lines[0], "test.yml: 1000 errors; configuration rejected");
    assert_eq!(lines[51], "  and 950 more");
    let long = errors(
        &with(&format!("output: {{type: {}}}", "x".repeat(100_000))),
        &[],
    );
    assert!(long[0].len() < 2000, "{}", long[0].len());
    let constants = "  - labels.a\n".repeat(300);
    let config = load(&with(&format!("output:\n{constants}"))).unwrap();
    assert_eq!(config.warnings.len(), 51);
    assert_eq!(config.warnings[50], "and 250 more");
}

#[test]
fn no_message_shows_what_may_be_a_secret() {
    for text in [
        "http: {bearer_token:hunter2}",
        "http: {bearer_token: !!int hunter2}",
        "http: {bearer_token: !secret hunter2}",
        "http: {bearer_token: @hunter2}",
        "http: {bearer_token: *hunter2}",
        "amqp: {url:amqp://u:hunter2@h/v}",
        "amqp: {url: 'amqp://u:12/hunter2@h'}",
        "bearer_token:hunter2\n",
        "hunter2",
    ] {
        let error = load(text).unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("hunter2"), "{text}: {error}");
    }
    let text = MINIMAL.replace("sesame-word", "hunter2") + "amqp: {url: 'amqp://u:hunter2@h/v'}";
    let valid = load(&text).unwrap();
    assert!(!format!("{valid}{valid:?}").contains("hunter2"), "{valid}");
}

#[test]
fn a_long_token_of_digits_and_a_byte_order_mark_are_accepted() {
    let digits = "12345678901234567890123456";
    let config = load(&MINIMAL.replace("sesame-word", digits)).unwrap();
    assert_eq!(config.http.tokens, [crate::http::Token::new(digits)]);
    load(&format!("\u{feff}{MINIMAL}")).unwrap();
}

#[test]
fn a_connector_name_that_breaks_canopsis_is_refused() {
    const MESSAGE: &str =
        "connector_name: connector_name has a control character or more than 255 characters";
    assert!(load(&with(&format!("connector_name: {}", "x".repeat(255)))).is_ok());
    for name in [&"x".repeat(256), "\"a\\tb\"", "\"a\\0b\""] {
        let errors = errors(&with(&format!("connector_name: {name}")), &[]);
        assert_is(&errors, MESSAGE, name);
    }
}
