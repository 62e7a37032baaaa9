//! Maps a captured alert by `config.yml` so many times: what `scripts/instructions` counts.
//!
//!     map-alerts COUNT

use std::time::{Duration, Instant};

use canopsis_connector_prometheus::bridge::{Prepared, Tally};
use canopsis_connector_prometheus::config::{Config, Overrides};
use canopsis_connector_prometheus::metrics::Metrics;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let count: usize = std::env::args().nth(1).ok_or("how many?")?.parse()?;
    let config = Config::load("config.yml".as_ref(), &Overrides::default(), &|_| None)?;
    let tally = Tally::new(Metrics::new().alerts);
    let body = std::fs::read("tests/data/payloads/firing-one.json")?;
    let deadline = Instant::now() + Duration::from_hours(1);
    for _ in 0..count {
        Prepared::from_body(
            &config.mapping,
            &tally,
            std::hint::black_box(&body),
            jiff::Timestamp::UNIX_EPOCH,
            deadline,
        )?;
    }
    Ok(())
}
