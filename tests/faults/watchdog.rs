//! systemd ends a connector whose publisher does not work any more.

use std::time::{Duration, Instant};

use crate::support::broker::Broker;
use crate::support::connector::{MAPPING, config};
use crate::support::systemd::Systemd;

#[test]
fn a_blocked_publisher_is_not_reported_as_alive() {
    let mut broker = Broker::start();
    let systemd = Systemd::new();
    // Standard error is read up to the entry that the connector is connected, and is a pipe that fills up from then on.
    let script = "exec \"$@\" 2> >(grep -E --max-count=2 --line-buffered 'listening|connected to' >&2; exec sleep 600)";
    let wrapper = ["bash", "-c", script, "bash"];
    let text = config(&broker.url("v0"), "", MAPPING);
    let connector = systemd.start_under(&wrapper, &text);
    systemd.wait_for(&["WATCHDOG=1"]);
    // Each request is logged, until the pipe is full.
    let mut client = connector.client().with_timeout(3);
    while client.send("GET", "/-/healthy", &[], b"").is_ok() {}
    // The publisher's thread logs it, and the main thread does not.
    broker.kill();
    let deadline = Instant::now() + Duration::from_mins(2);
    while systemd.is_notified_of("WATCHDOG=1") {
        assert!(
            Instant::now() < deadline,
            "the watchdog is fed while the publisher is blocked"
        );
    }
}
