//! Values, and where they come from.

use super::mistakes::SecretFile;
use super::*;

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
    assert_eq!(config.http.tokens, [crate::http::Token::new("sesame-word")]);
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
}

#[test]
fn command_line_over_environment_over_file() {
    let text = MINIMAL.replace(
        "{bearer_token: sesame-word}",
        "{bearer_token: sesame-word, listen: '127.0.0.1:1'}",
    ) + "amqp: {url: [amqp://a:b@one/v, amqps://two]}";
    let urls = |config: Config| {
        let urls = config.publisher.urls.iter().map(ToString::to_string);
        urls.collect::<Vec<_>>()
    };
    let expected = ["amqp://a@one:5672/v", "amqps://guest@two:5671/%2F"];
    assert_eq!(urls(load(&text).unwrap()), expected);
    let variables = [
        ("CPS_AMQP_URL", " amqp://three\n amqp://four "),
        ("PROMETHEUS_BEARER_TOKEN", "other"),
    ];
    let overrides = Overrides {
        host: Some("::1".to_owned()),
        port: Some(2),
    };
    let config = load_with(&text, &variables, &overrides).unwrap();
    assert_eq!(config.http.tokens, [crate::http::Token::new("other")]);
    assert_eq!(config.http.listen.to_string(), "[::1]:2");
    let expected = ["amqp://guest@three:5672/%2F", "amqp://guest@four:5672/%2F"];
    assert_eq!(urls(config), expected);
    let any_port = Overrides {
        port: Some(0),
        ..Overrides::default()
    };
    let config = load_with(&text, &[], &any_port).unwrap();
    assert_eq!(config.http.listen.to_string(), "127.0.0.1:0");
}

#[test]
fn every_key_of_the_settings_has_a_variable_whose_line_end_does_not_count() {
    for end in ["", "\r", "\r\n"] {
        let file = SecretFile::new("url", format!("amqp://in-a-file amqp://second{end}"));
        let variables = [
            ("CPS_AMQP_URL_FILE", file.path()),
            ("CPS_AMQP_EXCHANGE", "other"),
            ("CPS_AMQP_CA_FILE", "/ca"),
            ("CPS_AMQP_CERT_FILE", "/cert"),
            ("CPS_AMQP_KEY_FILE", "/key"),
            ("PROMETHEUS_LISTEN", "[::1]:9"),
            ("PROMETHEUS_BEARER_TOKEN", "token-x"),
            ("PROMETHEUS_MAX_BODY_BYTES", "2048"),
            ("PROMETHEUS_MAX_CONNECTIONS", "7"),
            ("PROMETHEUS_ANSWER_TIMEOUT", "3s"),
            ("PROMETHEUS_METRICS_REQUIRE_TOKEN", "true"),
        ];
        let ended = variables.map(|(name, value)| (name, format!("{value}{end}")));
        let ended: Vec<_> = ended
            .iter()
            .map(|(name, value)| (*name, &**value))
            .collect();
        let config = load_with(MINIMAL, &ended, &Overrides::default()).unwrap();
        assert_eq!(config.warnings.len(), 1, "no TLS: {:?}", config.warnings);
        let from_the_file = load(&with(&format!("amqp: {{url_file: {}}}", file.path()))).unwrap();
        for config in [&config, &from_the_file] {
            let hosts = config.publisher.urls.iter().map(|url| &*url.host);
            assert_eq!(hosts.collect::<Vec<_>>(), ["in-a-file", "second"]);
        }
        let (http, tls) = (config.http, config.publisher.tls);
        let files = [tls.ca, tls.cert, tls.key];
        assert_eq!(
            files,
            ["/ca", "/cert", "/key"].map(|path| Some(PathBuf::from(path)))
        );
        assert_eq!(config.publisher.exchange, "other");
        assert_eq!(http.listen.to_string(), "[::1]:9");
        assert_eq!(http.tokens, [crate::http::Token::new("token-x")]);
        let limits = (
            http.max_body_bytes,
            http.max_connections,
            http.answer_timeout.as_secs(),
        );
        assert_eq!(limits, (2048, 7, 3));
        assert!(http.metrics_require_token);
        // Other tests set the remaining three: the URL, the token's file, and TLS.
        assert_eq!(AMQP.keys.len() + HTTP.keys.len(), variables.len() + 3);
    }
}

#[test]
fn the_shipped_file_is_valid_and_warns_about_its_token() {
    let config = load(include_str!("../../../config.yml")).unwrap();
    assert_eq!(
        config.http.tokens,
        [crate::http::Token::new(http::DEFAULT_TOKEN)]
    );
    let warnings: Vec<String> = config.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(
        warnings[0].contains("column 3: http.bearer_token: is a published placeholder"),
        "{warnings:?}"
    );
}

#[test]
fn merge_keys_give_a_rule_its_missing_keys() {
    let text = MINIMAL.replace(
        "resource: {type: copy, value: labels.alertname}",
        "resource: {<<: *base, field: labels.alertname, value: 'alert {{ .Field }}'}",
    );
    let text = text.replace(
        "component: {type: copy, value: receiver}",
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
