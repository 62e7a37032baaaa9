//! Parses arbitrary bytes as a request head: the result is an error, incomplete, or a head within the limits, and does not depend on
//! the bytes after the head.
#![no_main]

use canopsis_connector_prometheus::http::request;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(Some((read, length))) = request::parse(bytes) {
        assert!(length <= bytes.len() && length <= request::MAX_BYTES);
        assert_eq!(request::parse(&bytes[..length]), Ok(Some((read, length))));
    }
});
