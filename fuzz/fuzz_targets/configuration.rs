//! Any text as a configuration: it is refused with reasons of a limited length, or its summary can be printed.
#![no_main]

use std::path::Path;

use canopsis_connector_prometheus::config::{Config, ConfigError, Overrides};
use libfuzzer_sys::fuzz_target;

/// More than the message of one error, with its path.
const MAX_ERROR_BYTES: usize = 64 << 10;

fuzz_target!(|text: &str| {
    // The keys whose values are files that would be read.
    if text.contains("_file") {
        return;
    }
    // The environment has the token, so that the file needs none.
    let environment = [("PROMETHEUS_BEARER_TOKEN", "sesame-word")].into_iter().collect();
    let path = Path::new("config.yml");
    match Config::from_text(text, path, &Overrides::default(), &environment) {
        Ok(config) => assert!(config.to_string().contains("connector:")),
        Err(ConfigError::Invalid { errors, .. }) => {
            assert!(!errors.is_empty(), "the file is refused without a reason");
            for error in errors {
                assert!(error.to_string().len() < MAX_ERROR_BYTES);
            }
        }
        Err(ConfigError::Syntax { error, .. }) => assert!(!error.message.is_empty()),
        Err(ConfigError::Read { .. }) => unreachable!("nothing is read"),
    }
});
