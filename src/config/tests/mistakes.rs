//! Mistakes that are valid YAML, in the settings.

use std::fs;

use super::*;

/// The errors and warnings of a configuration, in the words of the command line.
pub fn reported(text: &str, variables: &[(&str, &str)]) -> Vec<String> {
    match load_with(text, variables, &Overrides::default()) {
        Ok(config) => {
            let warnings = config.warnings.iter();
            warnings
                .map(|warning| format!("warning: {warning}"))
                .collect()
        }
        Err(error) => {
            let error = error.to_string();
            error
                .lines()
                .skip(1)
                .map(|line| line.trim().to_owned())
                .collect()
        }
    }
}

/// A file that is removed with its guard.
pub struct SecretFile(PathBuf);

impl SecretFile {
    pub fn new(name: &str, content: impl AsRef<[u8]>) -> Self {
        let path = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
        fs::write(&path, content).unwrap();
        Self(path)
    }

    pub fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for SecretFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[test]
fn several_urls_are_separated_by_white_space_or_are_a_list() {
    let hosts = |config: &Config| {
        let hosts = config.publisher.urls.iter().map(|url| url.host.clone());
        hosts.collect::<Vec<_>>().join(" ")
    };
    for text in [
        "amqp://a/v amqp://b/v",
        " amqp://a/v\r\n\tamqp://b/v\r\n",
        "\u{feff}amqp://a/v\namqp://b/v\n",
    ] {
        let file = SecretFile::new("urls", text);
        let in_file = load(&format!("{MINIMAL}amqp: {{url_file: '{}'}}", file.path())).unwrap();
        let in_variable =
            load_with(MINIMAL, &[("CPS_AMQP_URL", text)], &Overrides::default()).unwrap();
        assert_eq!(
            (&*hosts(&in_file), &*hosts(&in_variable)),
            ("a b", "a b"),
            "{text:?}"
        );
    }
    // A list without dashes is one text for YAML.
    for list in [
        "\n    amqp://a/v\n    amqp://b/v",
        " |\n    amqp://a/v\n    amqp://b/v",
        "\n  - amqp://a/v\n  - amqp://b/v",
    ] {
        let config = load(&format!("{MINIMAL}amqp:\n  url:{list}\n")).unwrap();
        assert_eq!(hosts(&config), "a b", "{list}");
    }
    for text in [
        "amqp://u:p@a/v, amqp://u:p@b/v",
        "amqp://u:p@a/v; amqp://u:p@b/v",
        "amqp://a/v ,amqp://b/v",
        "amqp://a/v , amqp://b/v",
        "amqp://a/v ;\namqp://b/v",
        "amqp://u:p@a/v,amqp://u:p@b/v",
        "amqp://a;amqps://b",
        "amqp://a,",
        "amqp://a/v;",
        ",amqp://a",
    ] {
        let file = SecretFile::new("separators", text);
        let path = file.path();
        for (amqp, variables, place) in [
            (
                format!("url: '{text}'"),
                &[][..],
                "line 8, column 8: amqp.url",
            ),
            (
                format!("url: ['amqp://h', '{text}']"),
                &[],
                "line 8, column 26: amqp.url[1]",
            ),
            (
                format!("url_file: '{path}'"),
                &[],
                "line 8, column 8: amqp.url_file",
            ),
            (
                String::new(),
                &[("CPS_AMQP_URL", text)],
                "environment variable CPS_AMQP_URL",
            ),
            (
                String::new(),
                &[("CPS_AMQP_URL_FILE", path)],
                "environment variable CPS_AMQP_URL_FILE",
            ),
        ] {
            let expected = format!(
                "{place}: has a comma or a semicolon between values; separate them with white space, or write a YAML list"
            );
            let reported = reported(&with(&format!("amqp: {{{amqp}}}")), variables);
            assert_eq!(reported, [expected], "{text:?}");
        }
    }
    // Where they are part of a value.
    load(&format!("{MINIMAL}amqp: {{url: 'amqp://u:a,b;c@h/a,b'}}")).unwrap();
}

#[test]
fn several_tokens_are_a_list() {
    for (token, expected) in rows(
        r#"
        'new, old'
            printable ASCII characters without spaces, as in an HTTP header; several tokens are a YAML list: [NEW, OLD]
        'new old'
            several tokens are a YAML list…
        'new,old'
            warning: line 2, column 8: http.bearer_token: has a comma or a semicolon, which is part of the token…
        [new, 'old;']
            warning: line 2, column 28: http.bearer_token[1]: has a comma or a semicolon…
        '"new"'
            warning: line 2, column 8: http.bearer_token: is in quotation marks, which are part of the token…
        'néw'
            printable ASCII…
        "new\u200b"
            printable ASCII…
        {a: b}
            must be a string or a list of strings
        []
            must be a string or a list of strings
        [new, ~]
            must be a string or a list of strings
        [new, ' ']
            http.bearer_token[1]: must not be empty
        "#,
    ) {
        let reported = reported(&MINIMAL.replace("sesame-word", token), &[]);
        assert_is(&reported, expected, token);
    }
    for content in [
        "from-file\r\n",
        "\u{feff}from-file",
        " from-file\n\n",
        "from-file",
    ] {
        let file = SecretFile::new("tokens", content);
        let path = file.path();
        let in_file = MINIMAL.replace(
            "bearer_token: sesame-word",
            &format!("bearer_token_file: {path}"),
        );
        let variable = [("PROMETHEUS_BEARER_TOKEN_FILE", path)];
        for (text, variables) in [(&*in_file, &[][..]), (MINIMAL, &variable)] {
            let config = load_with(text, variables, &Overrides::default()).unwrap();
            let expected = [crate::http::Token::new("from-file")];
            assert_eq!(config.http.tokens, expected, "{content:?}");
        }
    }
    let several = load(&MINIMAL.replace("sesame-word", "[one, two, three]")).unwrap();
    let expected = ["one", "two", "three"].map(crate::http::Token::new);
    assert_eq!(several.http.tokens, expected);
}

#[test]
fn a_placeholder_that_nothing_expands_is_reported_with_its_place() {
    let url_file = SecretFile::new("placeholder-url", "amqp://u:${PASSWORD}@h/v");
    let token_file = SecretFile::new("placeholder-token", "abc${TOKEN}def");
    let (url_file, token_file) = (url_file.path(), token_file.path());
    let check = |text: &str, variables: &[(&str, &str)], place: &str| {
        let reported = reported(text, variables);
        let expected = format!("warning: {place}: contains a placeholder (…");
        assert_contains(&reported, &expected, &format!("{text} {variables:?}"));
        let shows_secret = reported.concat().contains("PASS");
        assert!(!shows_secret, "a part of a secret: {reported:?}");
    };
    for (line, place) in rows(
        "
        amqp: {url: 'amqp://${USER}:${PASS}@h/v'}
            line 8, column 8: amqp.url
        amqp: {url: [amqp://a, 'amqp://u:%PASSWORD%@h/v']}
            line 8, column 24: amqp.url[1]
        amqp: {url: 'amqp://<user>:<password>@h/v'}
            line 8, column 8: amqp.url
        amqp: {url: 'amqp://u:CHANGE-ME@h/v'}
            line 8, column 8: amqp.url
        amqp: {exchange: '{{ .Values.exchange }}'}
            line 8, column 8: amqp.exchange
        amqp: {url_file: '/no/${DIR}/url'}
            line 8, column 8: amqp.url_file
        amqp: {url: amqps://h, ca_file: '$(CA)'}
            line 8, column 24: amqp.ca_file
        http: {bearer_token: sesame-word, listen: '${HOST}:18401'}
            line 7, column 35: http.listen
        http: {bearer_token: sesame-word, max_connections: $MAX}
            line 7, column 35: http.max_connections
        http: {bearer_token: abc$(TOKEN)def}
            line 7, column 8: http.bearer_token
        ",
    ) {
        check(&with(line), &[], place);
    }
    for (name, value) in [
        ("PROMETHEUS_BEARER_TOKEN", "abc%TOKEN%def"),
        ("PROMETHEUS_BEARER_TOKEN_FILE", token_file),
        ("PROMETHEUS_LISTEN", "<host>:18401"),
    ] {
        check(
            MINIMAL,
            &[(name, value)],
            &format!("environment variable {name}"),
        );
    }
    let with_url_file = with(&format!("amqp: {{url_file: '{url_file}'}}"));
    check(&with_url_file, &[], "line 8, column 8: amqp.url_file");
    let published = "${PROMETHEUS_BEARER_TOKEN} <token> CHANGE-ME THE-TOKEN token_example $(TOKEN) {{.token}} %TOKEN%";
    for token in published.split(' ') {
        let reported = reported(&MINIMAL.replace("sesame-word", &format!("'{token}'")), &[]);
        let expected = "warning: line 2, column 8: http.bearer_token: is a published placeholder…";
        assert_is(&reported, expected, token);
        assert_is(&reported, "accepted from loopback addresses only…", token);
    }
}

#[test]
fn the_tokens_of_documents_and_examples_are_published() {
    let mut texts = vec![
        include_str!("../../../README.md").to_owned(),
        include_str!("../../../config.yml").to_owned(),
    ];
    for directory in ["docs", "contrib", "man", "examples"] {
        let entries = fs::read_dir(directory).unwrap();
        let files = entries.filter_map(|entry| fs::read_to_string(entry.unwrap().path()).ok());
        texts.extend(files);
    }
    let mut tokens = 0;
    for line in texts.iter().flat_map(|text| text.lines()) {
        for key in ["bearer_token: ", "credentials: ", "  token: "] {
            let Some((start, value)) = line.split_once(key) else {
                continue;
            };
            let value = value
                .split([' ', ',', '}', '`'])
                .next()
                .unwrap_or_default()
                .trim_matches(['\'', '"']);
            if start.ends_with("http.")
                || value.is_empty()
                || value.starts_with(['[', '$', '{', '.'])
            {
                continue;
            }
            assert!(
                crate::http::Token::new(value).is_published,
                "{value} is accepted from everywhere: {line}"
            );
            tokens += 1;
        }
    }
    assert!(tokens > 5, "{tokens}");
}

#[test]
fn a_setting_that_needs_another_one_is_reported() {
    for (line, expected) in rows(
        "
        amqp: {url: 'amqps://h/v?auth_mechanism=external'}
            line 8, column 8: amqp.url: auth_mechanism=external is a login with a client certificate: set cert_file and key_file
        amqp: {url: [amqp://a, 'amqps://h/v?auth_mechanism=EXTERNAL'], ca_file: /etc/hostname}
            auth_mechanism=external is a login with a client certificate: set cert_file and key_file
        amqp: {url: 'amqp://h/v?auth_mechanism=external'}
            warning: line 8, column 8: amqp.url: auth_mechanism=external is a login with a client certificate, which requires amqps://
        amqp: {url: amqps://h, key_file: a}
            cert_file and key_file must be set together
        amqp: {cert_file: a, key_file: b}
            warning: amqp: ca_file, cert_file and key_file have no effect without an amqps:// URL
        ",
    ) {
        assert_contains(&reported(&with(line), &[]), expected, line);
    }
    let variable = [("CPS_AMQP_URL", "amqps://h?auth_mechanism=external")];
    let expected = "environment variable CPS_AMQP_URL: auth_mechanism=external…";
    assert_contains(&reported(MINIMAL, &variable), expected, "a variable");
}

#[test]
fn a_misspelt_variable_is_reported_with_the_right_name() {
    let variables = [
        ("CPS_AMQP_URI", "amqp://u:hunter2@h"),
        ("PROMETHEUS_BEARER_TOKENS", "hunter2"),
        ("PROMETHEUS_PORT", "tcp://10.0.0.1:9090"),
        ("PROMETHEUS_SERVICE_HOST", "10.0.0.1"),
        ("PROMETHEUS_LOG_LEVEL", "info"),
        ("HOME", "/"),
    ];
    assert_eq!(
        reported(MINIMAL, &variables),
        [
            "warning: environment variable CPS_AMQP_URI: is not read; did you mean CPS_AMQP_URL?",
            "warning: environment variable PROMETHEUS_BEARER_TOKENS: is not read; did you mean PROMETHEUS_BEARER_TOKEN?",
        ]
    );
}

#[test]
fn a_file_in_another_encoding_is_reported_with_its_line() {
    for (content, expected) in [
        (
            &b"a: 1\nb: \xe9t\xe9\n"[..],
            "line 2 is not UTF-8 (perhaps Latin-1); save the file as UTF-8",
        ),
        (b"\xff\xfea\0:\0 \0", "line 1 is not UTF-8 (UTF-16)"),
        (b"\xfe\xff\0a\0:", "line 1 is not UTF-8 (UTF-16)"),
    ] {
        let file = SecretFile::new("encoding", content);
        let error = Config::load(&file.0, &Overrides::default(), &Environment::default())
            .unwrap_err()
            .to_string();
        assert!(error.contains(expected), "{error}");
        let secret = reported(
            &format!("{MINIMAL}amqp: {{url_file: '{}'}}", file.path()),
            &[],
        );
        assert!(secret[0].contains(expected), "{secret:?}");
    }
}

#[test]
fn numbers_and_lists_in_the_wrong_place_are_reported() {
    let http = |setting: &str| with(&format!("http: {{bearer_token: sesame-word, {setting}}}"));
    let quoted = load(&http("max_connections: '7'")).unwrap();
    assert_eq!(quoted.http.max_connections, 7);
    for (setting, expected) in rows(
        "
        max_connections: 0x10
            http.max_connections: must be a whole number of connections, 2 to 4096
        max_connections: 1e3
            must be a whole number…
        max_connections: [7]
            must be one value, neither a list nor a mapping
        listen: [':1', ':2']
            must be one value…
        listen: ':1, :2'
            must be HOST:PORT…
        answer_timeout: {s: 8}
            must be one value…
        metrics_require_token: yes
            must be true or false
        metrics_require_token: ' '
            must not be empty
        ",
    ) {
        assert_is(&reported(&http(setting), &[]), expected, setting);
    }
}
