//! Maps notifications in this process: for tests that map thousands of them.

use std::path::Path;
use std::time::{Duration, Instant};

use canopsis_connector_prometheus::config::{Config, Environment, Overrides};
use canopsis_connector_prometheus::memory::Budget;
use canopsis_connector_prometheus::pipeline::{EncodedNotification, MappingReporter};
use serde_json::{Value, json};

/// The time at which notifications are mapped.
const NOW: &str = "2026-11-22T12:00:00Z";

/// A configuration, or its errors.
pub fn load(text: &str) -> Result<Config, String> {
    let (overrides, environment) = (Overrides::default(), Environment::default());
    let loaded = Config::from_text(text, Path::new("test.yml"), &overrides, &environment);
    loaded.map_err(|error| error.to_string())
}

/// The events of a notification, and the alerts without one.
pub fn encode(config: &Config, notification: &Value) -> EncodedNotification {
    let encoded = EncodedNotification::from_body(
        &config.mapping,
        &MappingReporter::unlimited(),
        &mut notification.to_string().into_bytes(),
        Budget::new(64 << 20).charge(),
        NOW.parse().unwrap(),
        Instant::now() + Duration::from_hours(1),
    );
    encoded.unwrap()
}

/// The bodies of the messages to which a notification is mapped.
pub fn bodies(config: &Config, notification: &Value) -> Vec<Vec<u8>> {
    let batch = encode(config, notification).events.batch;
    batch.iter().map(|message| message.body.to_vec()).collect()
}

/// The events of the alerts of one notification.
pub fn events(config: &Config, alerts: &Value) -> Vec<Value> {
    let notification = json!({"version": "4", "groupKey": "g", "alerts": alerts});
    let bodies = bodies(config, &notification).into_iter();
    bodies
        .map(|body| serde_json::from_slice(&body).unwrap())
        .collect()
}

/// A firing alert.
pub fn firing(labels: &Value) -> Value {
    json!({"status": "firing", "labels": labels, "startsAt": "2026-11-22T11:00:00Z", "endsAt": "0001-01-01T00:00:00Z"})
}
