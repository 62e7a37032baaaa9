//! Any body, through the decoder and the shipped mapping: it is refused, or every event has what Canopsis needs.
#![no_main]

use std::path::Path;
use std::sync::LazyLock;

use canopsis_connector_prometheus::bridge;
use canopsis_connector_prometheus::config::{Config, Overrides};
use canopsis_connector_prometheus::notification::Notification;
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;

static CONFIG: LazyLock<Config> = LazyLock::new(|| {
    let text = include_str!("../../config.yml").to_owned();
    Config::from_text(text, Path::new("config.yml"), &Overrides::default(), &|_| None).expect("the shipped file is valid")
});

fuzz_target!(|body: &[u8]| {
    let Ok(notification) = Notification::decode(body) else { return };
    let mapped = bridge::map(&CONFIG.mapping, &notification, Timestamp::UNIX_EPOCH);
    assert_eq!(mapped.events.len() + mapped.refused.len(), notification.alerts.len());
    for event in &mapped.events {
        let json: serde_json::Value = serde_json::to_value(event).expect("an event is JSON");
        for name in ["connector", "connector_name", "component", "resource"] {
            assert!(json[name].as_str().is_some_and(|name| !name.is_empty()));
        }
        assert!(json["state"].as_u64().is_some_and(|state| state <= 3));
        let mut key = String::new();
        event.write_routing_key(&mut key);
        assert!(key.len() <= 255);
    }
});
