//! Any body, through the decoder and the shipped mapping: it is rejected, or every event has what Canopsis requires.
#![no_main]

use std::collections::HashSet;
use std::path::Path;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use canopsis_connector_prometheus::alertmanager::{Notification, replace_lone_surrogates};
use canopsis_connector_prometheus::config::{Config, Environment, Overrides};
use canopsis_connector_prometheus::memory::Budget;
use canopsis_connector_prometheus::pipeline::{EncodedNotification, MappingReporter};
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;

static CONFIG: LazyLock<Config> = LazyLock::new(|| {
    let text = include_str!("../../config.yml");
    Config::from_text(
        text,
        Path::new("config.yml"),
        &Overrides::default(),
        &Environment::default(),
    )
    .expect("the shipped file is valid")
});

fuzz_target!(|body: &[u8]| {
    let deadline = Instant::now() + Duration::from_secs(3600);
    let encoded = EncodedNotification::from_body(
        &CONFIG.mapping,
        &MappingReporter::unlimited(),
        body.to_vec(),
        Budget::new(usize::MAX).charge(),
        Timestamp::UNIX_EPOCH,
        deadline,
    );
    let Ok(encoded) = encoded else { return };
    let mut body = body.to_vec();
    replace_lone_surrogates(&mut body);
    let notification = Notification::decode(&body).expect("it has been decoded before");
    let (published, merged) = (encoded.events.batch.len(), encoded.events.merged);
    assert_eq!(
        published + merged + encoded.rejected.count,
        notification.alerts().count()
    );
    let mut entities = HashSet::new();
    for message in encoded.events.batch.iter() {
        let json: serde_json::Value =
            serde_json::from_slice(message.body).expect("an event is JSON");
        for name in ["connector", "connector_name", "component", "resource"] {
            assert!(json[name].as_str().is_some_and(|name| !name.is_empty()));
        }
        let state = json["state"].as_u64().expect("a state is a number");
        assert!(state <= 3);
        let name = |key: &str| json[key].as_str().unwrap_or_default();
        let entity = format!("{}/{}", name("resource"), name("component"));
        assert!(entities.insert(entity), "an entity has two events");
        assert!(message.routing_key.len() <= 255);
    }
});
