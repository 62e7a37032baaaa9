//! Property tests: for every input, parsers do not panic, do not reveal secrets, and respect their limits.

use canopsis_connector_prometheus::amqp_url::AmqpUrl;
use canopsis_connector_prometheus::config::Config;
use canopsis_connector_prometheus::event::{Event, Name, Names, ROUTING_KEY_BYTES, State};
use canopsis_connector_prometheus::http::request;
use canopsis_connector_prometheus::mapping::path::Path;
use canopsis_connector_prometheus::pipeline::RejectedAlerts;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::support::mapping::{encode, firing, load};

fn config(lines: &str) -> Result<Config, String> {
    load(&format!(
        "http: {{bearer_token: t}}\nconnector: c\nconnector_name: n\nstate: 1\nresource: r\n{lines}\n"
    ))
}

/// A YAML double-quoted string.
fn quoted(text: &str) -> String {
    let escaped = text.chars().map(|c| format!("\\U{:08x}", u32::from(c)));
    format!("\"{}\"", escaped.collect::<Vec<_>>().concat())
}

/// The event of an alert, or why it is rejected.
fn map(config: &Config, labels: &Value) -> Result<Value, RejectedAlerts> {
    let encoded = encode(config, &json!({"version": "4", "alerts": [firing(labels)]}));
    let event = encoded.events.batch.iter().next();
    let event = event.map(|message| serde_json::from_slice(message.body).unwrap());
    event.ok_or(encoded.rejected)
}

/// Texts of characters with a meaning for one of the parsers, and of others.
fn special_text() -> impl Strategy<Value = String> {
    let special = "{}[]()<>.*+?|\\^$:;,\"'`#@%&!-_/= \n\t\0aé日1".chars();
    let special = proptest::sample::select(special.collect::<Vec<_>>());
    let chars = proptest::collection::vec(prop_oneof![proptest::char::any(), special], 0..40);
    chars.prop_map(|chars| chars.into_iter().collect())
}

/// What YAML is made of, in any order: collections, anchors, aliases, merge keys, tags, block scalars, and parts of a mapping.
fn yaml() -> impl Strategy<Value = String> {
    const SHORT: &[&str] = &[
        "[", "]", "{", "}", "{a: ", ",", ": ", "- ", "? ", "\n", "\n  ", "\n    ", "\t", "# ",
        "&a ", "*a", "<<: ", "<<: *a", "!t ", "!!str ", "!!int ", "|\n", ">\n", "'", "\"", "---\n",
        "...\n", "a", "1.10", "~", "true", "\nhttp: ", "hunter2",
    ];
    const LONG: &[&str] = &[
        "%TAG ! x\n",
        "\ncomponent: ",
        "\nextra_infos: ",
        "{type: copy, value: labels.a}",
        "{type: template, value: '{{ .Field }}'}",
        "{bearer_token: ",
        "\nbearer_token: ",
    ];
    let parts = proptest::sample::select([SHORT, LONG].concat());
    proptest::collection::vec(parts, 0..60).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_url_never_shows_its_password(scheme in "amqps?", user in "[a-z]{0,5}", password in special_text(), rest in special_text()) {
        const SECRET: &str = "hunter2";
        let text = format!("{scheme}://{user}:{password}{SECRET}@host{rest}");
        match AmqpUrl::parse(&text) {
            // A / ? or # ends the authority, so the password is no longer one: then the URL is rejected because of its @.
            Ok(url) => prop_assert!(!format!("{url} {url:?}").contains(SECRET), "{text:?}: {url}"),
            Err(error) => prop_assert!(!format!("{error} {error:?}").contains(SECRET), "{text:?}: {error}"),
        }
    }

    #[test]
    fn a_valid_path_displays_unchanged(text in special_text(), root in proptest::sample::select(vec!["labels", "annotations", "status", "x"])) {
        let text = format!("{root}.{text}");
        if let Ok(path) = Path::parse(&text) {
            prop_assert_eq!(path.to_string(), text);
        }
    }

    #[test]
    fn a_constant_is_copied_unchanged(text in special_text()) {
        let config = config(&format!("component: x\noutput: {{type: set, value: {}}}", quoted(&text)));
        if text.trim().is_empty() && !text.is_empty() {
            prop_assert!(config.unwrap_err().contains("is blank"));
            return Ok(());
        }
        let event = map(&config.unwrap(), &json!({})).unwrap();
        let expected = if text.is_empty() { Value::Null } else { Value::from(text) };
        prop_assert_eq!(&event["output"], &expected);
    }

    #[test]
    fn any_file_is_accepted_or_rejected_and_its_secrets_not_shown(text in prop_oneof![special_text(), yaml()]) {
        let _ = load(&text);
        for text in [
            format!("http: {{bearer_token: hunter2}}\n{}", text.replace("hunter2", "x")),
            format!("{}\nbearer_token: hunter2\n", text.replace("hunter2", "x")),
        ] {
            if let Err(error) = load(&text) {
                prop_assert!(!error.contains("hunter2"), "{error}");
            }
        }
    }

    #[test]
    fn an_event_has_its_required_fields_or_is_rejected(value in special_text(), length in 1_usize..20) {
        let config = config(&format!(
            "component: {{type: copy, value: labels.a}}\noutput: {{type: copy, value: labels.a}}\noutput_length: {length}"
        ))
        .unwrap();
        match map(&config, &json!({ "a": value })) {
            Ok(event) => {
                let name = Name::new(&value).unwrap();
                prop_assert_eq!(event["component"].as_str().unwrap(), name.as_str());
                let cut: String = value.chars().take(length).collect();
                prop_assert_eq!(event["output"].as_str().unwrap(), cut);
            }
            Err(rejected) => prop_assert!(value.trim().is_empty(), "{rejected:?}"),
        }
    }

    #[test]
    fn a_routing_key_fits_and_is_a_prefix_of_the_full_key(component in "\\PC{1,300}", resource in "\\PC{1,300}") {
        let names = ["c", "n", &component, &resource].map(Name::new);
        let [Some(connector), Some(connector_name), Some(component), Some(resource)] = names else {
            return Ok(());
        };
        let (mut key, whole) = (String::new(), format!("c.n.check.resource.{}.{}", component.as_str(), resource.as_str()));
        let Ok(names) = Names::new([connector, connector_name, component, resource]) else {
            return Ok(());
        };
        let event = Event {
            names, state: State::Ok, output: None, long_output: None, author: None, timestamp: None, tags: None, perf_data: None,
            extra: Vec::new(),
        };
        event.write_routing_key(&mut key);
        prop_assert!(whole.starts_with(&key));
        prop_assert!(key.len() <= ROUTING_KEY_BYTES);
        prop_assert!(key.len() == whole.len() || key.len() > ROUTING_KEY_BYTES - 4);
    }

    #[test]
    fn a_head_is_incomplete_until_its_end(lines in special_text(), end in 0_usize..100) {
        let text = format!("POST /webhook HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nX: {lines}\r\n\r\nabc");
        let whole = request::parse(text.as_bytes());
        if let Ok(Some((_, length))) = &whole {
            prop_assert!(*length <= text.len() - 3);
            let part = request::parse(&text.as_bytes()[..end.min(length - 1)]);
            prop_assert!(matches!(part, Ok(None)), "{part:?}");
        }
        let _ = request::parse(lines.as_bytes());
    }
}
