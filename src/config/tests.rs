//! Tests of whole configurations: what is valid, and how each error is reported.

use std::fs;

use super::*;
use crate::secret::Secret;

#[path = "../../tests/support/certificates.rs"]
#[allow(dead_code, missing_docs)]
mod certificates;

use certificates::{Identity, Subject};

const MINIMAL: &str = "
http: {bearer_token: sesame-word}
connector: prometheus
connector_name: p1
component: {type: copy, value: labels.instance}
resource: {type: copy, value: labels.alertname}
state: 2
";

fn load_with(
    text: &str,
    variables: &[(&str, &str)],
    overrides: &Overrides,
) -> Result<Config, ConfigError> {
    let environment = |name: &str| {
        variables
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| Ok((*value).to_owned()))
    };
    Config::from_text(text, Path::new("test.yml"), overrides, &environment)
}

fn load(text: &str) -> Result<Config, ConfigError> {
    load_with(text, &[], &Overrides::default())
}

fn errors(text: &str, variables: &[(&str, &str)]) -> Vec<String> {
    match load_with(text, variables, &Overrides::default()) {
        Err(ConfigError::Invalid { errors, .. }) => {
            errors.iter().map(ToString::to_string).collect()
        }
        other => panic!("no errors in {text}: {other:?}"),
    }
}

#[test]
fn defaults() {
    let config = load(MINIMAL).unwrap();
    assert_eq!(
        config.publisher.urls[0].to_string(),
        "amqp://cpsrabbit@localhost:5672/canopsis"
    );
    assert_eq!(config.publisher.exchange, "canopsis.events");
    assert_eq!(config.http.listen.to_string(), "0.0.0.0:18401");
    assert_eq!(config.http.max_body_bytes, 16 * 1024 * 1024);
    assert_eq!(config.http.answer_timeout.as_secs(), 8);
    assert_eq!(config.http.tokens, [Secret::new("sesame-word")]);
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
}

#[test]
fn command_line_over_environment_over_file() {
    let text = MINIMAL.replace(
        "{bearer_token: sesame-word}",
        "{bearer_token: sesame-word, listen: '127.0.0.1:1'}",
    ) + "amqp: {url: [amqp://a:b@one/v, amqps://two]}";
    let file = load(&text).unwrap();
    assert_eq!(
        file.publisher
            .urls
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>(),
        ["amqp://a@one:5672/v", "amqps://guest@two:5671/%2F"]
    );
    let variables = [
        ("CPS_AMQP_URL", " amqp://three\n amqp://four "),
        ("PROMETHEUS_BEARER_TOKEN", "other"),
    ];
    let overrides = Overrides {
        host: Some("::1".to_owned()),
        port: Some(2),
    };
    let config = load_with(&text, &variables, &overrides).unwrap();
    assert_eq!(
        config
            .publisher
            .urls
            .iter()
            .map(|url| url.host.as_str())
            .collect::<Vec<_>>(),
        ["three", "four"]
    );
    assert_eq!(config.http.tokens, [Secret::new("other")]);
    assert_eq!(config.http.listen.to_string(), "[::1]:2");
}

#[test]
fn every_key_of_the_settings_has_a_variable() {
    let path = std::env::temp_dir().join(format!("url-{}", std::process::id()));
    fs::write(&path, "amqp://in-a-file amqp://second\n").unwrap();
    let in_a_file = path.to_str().unwrap();
    let variables = [
        ("CPS_AMQP_URL_FILE", in_a_file),
        ("CPS_AMQP_EXCHANGE", "other"),
        ("CPS_AMQP_CA_FILE", "/ca"),
        ("CPS_AMQP_CERT_FILE", "/cert"),
        ("CPS_AMQP_KEY_FILE", "/key"),
        ("PROMETHEUS_LISTEN", "[::1]:9"),
        ("PROMETHEUS_MAX_BODY_BYTES", "2048"),
        ("PROMETHEUS_MAX_CONNECTIONS", "7"),
        ("PROMETHEUS_ANSWER_TIMEOUT", "3s"),
        ("PROMETHEUS_METRICS_REQUIRE_TOKEN", "true"),
    ];
    let config = load_with(MINIMAL, &variables, &Overrides::default()).unwrap();
    let from_the_file = load(&format!("{MINIMAL}amqp: {{url_file: {in_a_file}}}")).unwrap();
    fs::remove_file(&path).unwrap();
    let hosts = |config: &Config| {
        config
            .publisher
            .urls
            .iter()
            .map(|url| url.host.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        (hosts(&config), hosts(&from_the_file)),
        (
            vec!["in-a-file".to_owned(), "second".to_owned()],
            hosts(&config)
        )
    );
    let tls = config.publisher.tls;
    assert_eq!(
        [tls.ca, tls.cert, tls.key],
        ["/ca", "/cert", "/key"].map(|path| Some(PathBuf::from(path)))
    );
    assert_eq!(
        (
            config.publisher.exchange.as_str(),
            config.http.listen.to_string().as_str()
        ),
        ("other", "[::1]:9")
    );
    let limits = (
        config.http.max_body_bytes,
        config.http.max_connections,
        config.http.answer_timeout.as_secs(),
    );
    assert_eq!(limits, (2048, 7, 3));
    assert!(config.http.metrics_require_token);
    // Other tests set the remaining four: the URL, the token, the token's file, and TLS.
    assert_eq!(AMQP_KEYS.len() + HTTP_KEYS.len(), variables.len() + 4);
}

#[test]
fn the_shipped_file_is_valid_and_warns_about_its_token() {
    let config = load(include_str!("../../config.yml")).unwrap();
    assert_eq!(config.http.tokens, [Secret::new(http::DEFAULT_TOKEN)]);
    let warnings: Vec<String> = config.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(
        warnings[0].contains("column 3: http.bearer_token: is still the published default"),
        "{warnings:?}"
    );
}

#[test]
fn tokens_come_from_a_list_or_a_file() {
    let several = load(&MINIMAL.replace("sesame-word", "[one, two]")).unwrap();
    assert_eq!(
        several.http.tokens,
        [Secret::new("one"), Secret::new("two")]
    );
    let path = std::env::temp_dir().join(format!("token-{}", std::process::id()));
    fs::write(&path, "from-file\r\n").unwrap();
    let place = path.to_str().unwrap();
    let file = load(&MINIMAL.replace(
        "bearer_token: sesame-word",
        &format!("bearer_token_file: {place}"),
    ))
    .unwrap();
    let environment = load_with(
        MINIMAL,
        &[("PROMETHEUS_BEARER_TOKEN_FILE", place)],
        &Overrides::default(),
    )
    .unwrap();
    fs::remove_file(&path).unwrap();
    assert_eq!(file.http.tokens, [Secret::new("from-file")]);
    assert_eq!(environment.http.tokens, [Secret::new("from-file")]);
}

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
fn a_key_of_another_type_of_rule_is_reported_with_that_type() {
    for (rule, expected) in [
        (
            "{type: copy, value: labels.a, regexp: x}",
            "output.regexp: unknown key; it belongs to a rule of type template",
        ),
        (
            "{type: set, value: x, field: labels.a}",
            "output.field: unknown key; it belongs to a rule of type template or map",
        ),
        (
            "{type: map, field: labels.a, values: {a: b}, value: c}",
            "output.value: unknown key; it belongs to a rule of type set or copy or template",
        ),
        (
            "{type: copy, value: labels.a, template: x}",
            "output.template: unknown key; did you mean \"type: template\"?",
        ),
        (
            "{type: map, field: labels.a, values: {a: b}, defualt: c}",
            "output.defualt: unknown key; did you mean \"default\"?",
        ),
    ] {
        let errors = errors(&format!("{MINIMAL}output: {rule}"), &[]);
        assert_eq!(errors.len(), 1, "{rule}: {errors:?}");
        assert!(errors[0].ends_with(expected), "{rule}: {errors:?}");
    }
}

#[test]
fn missing_keys_and_invalid_variables_are_reported() {
    for (text, variables, expected) in [
        ("", &[][..], "connector: required but not set"),
        ("", &[], "resource: required but not set"),
        (
            "",
            &[],
            "http.bearer_token: required but not set; set it here or with PROMETHEUS_BEARER_TOKEN",
        ),
        (
            &MINIMAL.replace("connector_name: p1", "connector_name: ''"),
            &[],
            "line 4, column 1: connector_name: must not be empty",
        ),
        (
            &MINIMAL.replace("labels.instance", ".Alert.labels.instance"),
            &[],
            "did you mean \"labels.instance\"?",
        ),
        (
            &format!("{MINIMAL}extra_infos: {{a: ~}}"),
            &[],
            "extra_infos.a: must not be null",
        ),
        ("- a", &[], "the file must be a YAML mapping"),
        (
            MINIMAL,
            &[("PROMETHEUS_BEARER_TOKEN", "")],
            "environment variable PROMETHEUS_BEARER_TOKEN: is set but empty",
        ),
        (
            MINIMAL,
            &[("PROMETHEUS_BEARER_TOKEN", "two words")],
            "PROMETHEUS_BEARER_TOKEN: must consist of printable ASCII",
        ),
        (
            MINIMAL,
            &[
                ("PROMETHEUS_BEARER_TOKEN", "a"),
                ("PROMETHEUS_BEARER_TOKEN_FILE", "b"),
            ],
            "PROMETHEUS_BEARER_TOKEN_FILE: is set together with PROMETHEUS_BEARER_TOKEN; set only",
        ),
        (
            MINIMAL,
            &[("PROMETHEUS_BEARER_TOKEN_FILE", "/no/such")],
            "PROMETHEUS_BEARER_TOKEN_FILE: cannot read the file (path not shown; it may be a secret): No such file",
        ),
        (
            MINIMAL,
            &[("PROMETHEUS_BEARER_TOKEN_FILE", "hunter2")],
            "PROMETHEUS_BEARER_TOKEN_FILE: cannot read the file (path not shown",
        ),
        (
            MINIMAL,
            &[("PROMETHEUS_BEARER_TOKEN_FILE", "/etc/no/such")],
            "PROMETHEUS_BEARER_TOKEN_FILE: cannot read /etc/no/such: No such file",
        ),
        (
            &format!("{MINIMAL}amqp: {{url_file: /etc}}"),
            &[],
            "amqp.url_file: cannot read /etc: Is a directory",
        ),
        (
            MINIMAL,
            &[("CPS_AMQP_URL", "amqp://h amqp//x")],
            "CPS_AMQP_URL: the URL must begin with",
        ),
        (
            MINIMAL,
            &[("CPS_AMQP_URL", "amqp://h"), ("CPS_AMQP_URL_FILE", "b")],
            "CPS_AMQP_URL_FILE: is set together with CPS_AMQP_URL",
        ),
        (
            MINIMAL,
            &[("CPS_AMQP_URL_FILE", "/dev/null")],
            "CPS_AMQP_URL_FILE: contains no URL",
        ),
        (
            MINIMAL,
            &[("PROMETHEUS_LISTEN", "here")],
            "PROMETHEUS_LISTEN: must be HOST:PORT",
        ),
        (
            MINIMAL,
            &[("PROMETHEUS_MAX_CONNECTIONS", "many")],
            "PROMETHEUS_MAX_CONNECTIONS: must be a whole number",
        ),
        (
            MINIMAL,
            &[("CPS_AMQP_URL", " ")],
            "CPS_AMQP_URL: is set but empty",
        ),
    ] {
        let errors = errors(text, variables);
        assert!(
            errors.iter().any(|error| error.contains(expected)),
            "{expected}: {errors:#?}"
        );
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
fn tls_files_are_checked_at_load() {
    let files = |files: &str| format!("{MINIMAL}amqp: {{url: amqps://h, {files}}}");
    for (text, expected) in [
        (files("ca_file: /no/ca"), "cannot read /no/ca"),
        (files("cert_file: /no/cert"), "must be set together"),
        (
            files("ca_file: Cargo.toml"),
            "Cargo.toml contains no PEM certificate",
        ),
        (
            files("cert_file: Cargo.toml, key_file: Cargo.toml"),
            "contains no PEM certificate",
        ),
    ] {
        let errors = errors(&text, &[]);
        assert!(
            errors.iter().any(|error| error.contains(expected)),
            "{expected}: {errors:#?}"
        );
    }
}

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
            "output.value: the template fails where it uses .Feild:",
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
            "did you mean {type: copy, value: ...}?",
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
            "state: \"9\" is not a valid state; using 3 (critical)",
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
        assert!(
            !format!("{error} {error:?}").contains("hunter2"),
            "{text}: {error}"
        );
    }
    let long = MINIMAL.replace("sesame-word", "12345678901234567890123456");
    assert_eq!(
        load(&long).unwrap().http.tokens,
        [Secret::new("12345678901234567890123456")]
    );
    assert!(
        load(&format!("\u{feff}{MINIMAL}")).is_ok(),
        "a byte order mark"
    );
}

#[test]
fn no_secret_is_shown() {
    let text = MINIMAL.replace("sesame-word", "hunter2") + "amqp: {url: 'amqp://u:hunter2@h/v'}";
    let config = load(&text).unwrap();
    assert!(
        !format!("{config}{config:?}").contains("hunter2"),
        "{config}"
    );
}

#[test]
fn a_file_that_cannot_be_read_is_reported() {
    let load = |path: &str| {
        Config::load(Path::new(path), &Overrides::default(), &|_| None)
            .unwrap_err()
            .to_string()
    };
    assert!(load("/no/such.yml").contains("/no/such.yml: No such file"));
    let error = Config::from_text("a: [", Path::new("b.yml"), &Overrides::default(), &|_| None)
        .unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("b.yml: line 2, column 1: invalid YAML"),
        "{error}"
    );
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
            "labels.instance",
            "\"labels.instance\\nlabels.job\"",
            "line 5, column 25: component.value: contains a line break; using \"labels.instance\", which is before it",
        ),
    ] {
        let config = load(&MINIMAL.replace(from, to)).unwrap();
        assert_eq!(config.warnings[0].to_string(), expected);
    }
    let blank = errors(&MINIMAL.replace("p1", "' '"), &[]);
    assert_eq!(
        blank,
        ["line 4, column 1: connector_name: must not be empty"]
    );
}

#[test]
fn merge_keys_give_a_rule_its_missing_keys() {
    let text = MINIMAL.replace(
        "resource: {type: copy, value: labels.alertname}",
        "resource: {<<: *base, field: labels.alertname, value: 'alert {{ .Field }}'}",
    );
    let text = text.replace(
        "component: {type: copy, value: labels.instance}",
        "component: &base\n  type: template\n  field: labels.instance\n  value: '{{ split \":\" 0 .Field }}'",
    );
    load(&text).unwrap();
    // What is wrong with a merged value is reported at the place where it is written.
    let wrong = text.replace("type: template", "type: tmplate");
    let errors = errors(&wrong, &[]);
    assert!(
        errors[0].starts_with("line 6, column 3: component.type: unknown type \"tmplate\"")
            && errors[1].starts_with("line 6, column 3: resource.type: unknown type"),
        "{errors:#?}"
    );
}

#[test]
fn a_value_that_begins_with_an_exclamation_mark_must_be_quoted() {
    let error = load("http:\n  bearer_token: !S3cret\n").unwrap_err();
    assert_eq!(
        error.to_string(),
        "test.yml: line 2, column 17: invalid YAML: a value that begins with ! must be quoted"
    );
}

#[test]
fn a_list_of_hosts_in_a_url_is_reported() {
    let text = format!("{MINIMAL}amqp: {{url: 'amqp://u:p@h1,h2:5672/v'}}");
    let expected = "line 8, column 8: amqp.url: the URL has several hosts; set several URLs instead: amqp.url takes a list";
    assert_eq!(errors(&text, &[]), [expected]);
}

#[test]
fn long_lists_of_errors_and_warnings_are_cut() {
    let unknown = (0..1000)
        .map(|key| format!("k{key}: 1\n"))
        .collect::<Vec<String>>()
        .concat();
    let error = load(&format!("{MINIMAL}{unknown}"))
        .unwrap_err()
        .to_string();
    let lines: Vec<&str> = error.lines().collect();
    assert_eq!(
        (lines[0], lines[51], lines.len()),
        (
            "test.yml: 1000 errors; configuration rejected",
            "  and 950 more",
            52
        )
    );
    let long = errors(
        &format!("{MINIMAL}output: {{type: {}}}", "x".repeat(100_000)),
        &[],
    );
    assert!(long[0].len() < 2000, "{}", long[0].len());
    let constants = "  - labels.a\n".repeat(300);
    let config = load(&format!("{MINIMAL}output:\n{constants}")).unwrap();
    assert_eq!(config.warnings.len(), 51);
    assert_eq!(config.warnings[50].to_string(), "and 250 more");
}

#[test]
fn the_listeners_certificate_is_checked_at_load() {
    let dir = std::env::temp_dir().join(format!("listener-tls-{}", std::process::id()));
    let root = Identity::root("authority");
    root.write(&dir, "ca");
    let issue = |name: &str, days| {
        let subject = Subject {
            days,
            ..Subject::host("localhost")
        };
        root.issue(subject).write(&dir, name)
    };
    issue("good", 90);
    issue("other", 90);
    issue("short", 10);
    issue("expired", -1);
    // Only the certificates of authorities have no alternative name.
    let nameless = Subject {
        is_authority: true,
        ..Subject::host("localhost")
    };
    root.issue(nameless).write(&dir, "nameless");
    let encrypted = fs::read_to_string(issue("locked", 90).1).unwrap();
    let encrypted = openssl::pkey::PKey::private_key_from_pem(encrypted.as_bytes())
        .unwrap()
        .private_key_to_pem_pkcs8_passphrase(openssl::symm::Cipher::aes_128_cbc(), b"hunter2")
        .unwrap();
    fs::write(dir.join("locked-key.pem"), encrypted).unwrap();
    let path = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    let with =
        |text: String| MINIMAL.replace("sesame-word}", &format!("sesame-word, tls: {{{text}}}}}"));
    let pair = |cert: &str, key: &str| {
        let (cert, key) = (path(cert), path(key));
        format!("cert_file: '{cert}', key_file: '{key}'")
    };

    let config = load(&with(pair("good.pem", "good-key.pem"))).unwrap();
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    let summary = config.to_string();
    assert!(
        summary.contains("\ntls:          on, certificate expires 20"),
        "{summary}"
    );
    assert!(!config.http.tls.unwrap().verifies_clients);
    let variables = [
        ("PROMETHEUS_TLS_CERT_FILE", &*path("good.pem")),
        ("PROMETHEUS_TLS_KEY_FILE", &path("good-key.pem")),
        ("PROMETHEUS_TLS_CLIENT_CA_FILE", &path("ca.pem")),
    ];
    let config = load_with(MINIMAL, &variables, &Overrides::default()).unwrap();
    assert!(config.http.tls.unwrap().verifies_clients);

    for (name, warning) in [
        (
            "short",
            "http.tls.cert_file: the certificate expires in 10 days",
        ),
        ("expired", "http.tls.cert_file: the certificate has expired"),
        (
            "nameless",
            "http.tls.cert_file: the certificate has no host name or address as subjectAltName",
        ),
    ] {
        let config = load(&with(pair(
            &format!("{name}.pem"),
            &format!("{name}-key.pem"),
        )))
        .unwrap();
        let warnings: Vec<String> = config.warnings.iter().map(ToString::to_string).collect();
        assert!(warnings[0].contains(warning), "{warnings:?}");
    }

    let client_ca = format!(
        "{}, client_ca_file: /no/ca",
        pair("good.pem", "good-key.pem")
    );
    for (tls, variables, expected) in [
        (
            pair("good.pem", "other-key.pem"),
            &[][..],
            "http.tls.key_file: the key in ",
        ),
        (
            pair("good.pem", "good.pem"),
            &[],
            "http.tls.key_file: cannot use the key in ",
        ),
        (pair("good.pem", "locked-key.pem"), &[], "openssl pkey -in "),
        (
            pair("good-key.pem", "good-key.pem"),
            &[],
            "contains no PEM certificate",
        ),
        (
            pair("good.pem", "/no/key"),
            &[],
            "http.tls.key_file: cannot read /no/key",
        ),
        (
            client_ca,
            &[],
            "http.tls.client_ca_file: cannot read /no/ca",
        ),
        (
            format!("cert_file: {}", path("good.pem")),
            &[],
            "cert_file and key_file must be set together",
        ),
        (
            String::new(),
            &[],
            "cert_file and key_file must be set together",
        ),
        (
            String::new(),
            &variables[1..],
            "cert_file and key_file must be set together",
        ),
        ("certfile: a".to_owned(), &[], "did you mean \"cert_file\"?"),
    ] {
        let errors = errors(&with(tls), variables);
        assert!(
            errors.iter().any(|error| error.contains(expected)),
            "{expected}: {errors:#?}"
        );
        assert!(!errors.concat().contains("hunter2"));
    }
    // Its keys are commented out.
    let empty = MINIMAL.replace("sesame-word}", "sesame-word, tls: }");
    for (text, variables) in [(MINIMAL, &variables[2..]), (empty.as_str(), &[])] {
        let errors = errors(text, variables);
        assert!(errors[0].contains("must be set together"), "{errors:?}");
    }
    fs::remove_dir_all(&dir).unwrap();
}
