//! Time and allocations of decoding, mapping and encoding with the shipped `config.yml`, without HTTP and AMQP.
//!
//!     cargo bench --bench mapping

#![allow(missing_docs)]

use std::time::{Duration, Instant};

use canopsis_connector_prometheus::config::{Config, Environment, Overrides};
use canopsis_connector_prometheus::mapping::Mapping;
use canopsis_connector_prometheus::memory::Budget;
use canopsis_connector_prometheus::metrics::Metrics;
use canopsis_connector_prometheus::pipeline::{EncodedNotification, MappingReporter};
use divan::{AllocProfiler, Bencher};

#[global_allocator]
static ALLOCATIONS: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

fn mapping() -> Mapping {
    Config::load(
        "config.yml".as_ref(),
        &Overrides::default(),
        &Environment::default(),
    )
    .unwrap()
    .mapping
}

/// A captured notification with copies of its alert.
fn body(alerts: usize) -> Vec<u8> {
    let text = std::fs::read_to_string("tests/data/payloads/firing-one.json").unwrap();
    let mut notification: serde_json::Value = serde_json::from_str(&text).unwrap();
    let alert = notification["alerts"][0].clone();
    notification["alerts"] = vec![alert; alerts].into();
    notification.to_string().into_bytes()
}

/// The time is that of the whole notification: divide it by the alerts.
#[divan::bench(args = [1, 10, 100, 1000, 10_000])]
fn alerts(bencher: Bencher<'_, '_>, alerts: usize) {
    let (mapping, reporter, mut body) = (
        mapping(),
        MappingReporter::new(Metrics::default().alerts),
        body(alerts),
    );
    let budget = Budget::new(usize::MAX);
    let deadline = Instant::now() + Duration::from_hours(1);
    bencher
        .counter(divan::counter::ItemsCount::new(alerts))
        .bench_local(|| {
            let mut charge = budget.charge();
            charge.grow(body.len()).unwrap();
            EncodedNotification::from_body(
                &mapping,
                &reporter,
                divan::black_box(&mut body),
                charge,
                jiff::Timestamp::UNIX_EPOCH,
                deadline,
            )
            .unwrap()
        });
}
