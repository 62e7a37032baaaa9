//! End-to-end benchmark: the real binary between HTTP senders and a private RabbitMQ node, compared with a bare AMQP loop and with
//! bridges in other languages. Prints Markdown; `scripts/bench` runs it.
//!
//! The machine may be shared, so results of different times are not comparable: alternatives run alternately (A B A B), each pair
//! gives a ratio, and the median is printed. Each run checks that the queue holds exactly the events that were answered with 200.
//!
//!     cargo bench --bench bridge -- [--pairs N] [--peers DIR] [--connector FILE] [storm|tls|single|latency|peers|footprint|growth]...
//!
//! `--connector` sets the binary to measure. The default is the one that cargo builds for this benchmark, which has the features of
//! dev-dependencies as well.

#![allow(missing_docs)]
#![allow(
    clippy::cast_precision_loss,
    reason = "no count or size here is beyond 2^52"
)]

mod bare_loop;
mod bridge_process;
mod cpu_times;
mod load;
#[path = "../../tests/support/mod.rs"]
#[allow(dead_code, reason = "the tests use the rest")]
mod support;
mod table;

use std::path::PathBuf;
use std::time::Duration;

use bare_loop::BareLoop;
use bridge_process::BridgeProcess;
use cpu_times::CpuTimes;
use load::Load;
use support::broker::{Admin, Broker, QUEUE, ReceivedMessage};
use support::certificates::Subject;
use support::connector::BINARY;
use support::tls::Authority;
use support::wait_until;
use table::{Table, median, percentile};

/// The connector's window of unconfirmed messages, which the bare loop uses in a storm as well.
const WINDOW: usize = 1000;

/// Alerts in flight while the size of notifications varies.
const IN_FLIGHT: usize = 1600;

type Part = fn(&Bench);

struct Bench {
    broker: Broker,
    vhost: String,
    admin: Admin,
    pairs: usize,
    peers: Option<PathBuf>,
    connector: String,
}

fn main() {
    let mut bench = Bench::start();
    let mut selected = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--pairs" => bench.pairs = arguments.next().unwrap().parse().unwrap(),
            "--connector" => bench.connector = arguments.next().unwrap(),
            "--peers" => bench.peers = Some(arguments.next().unwrap().into()),
            // cargo bench passes it to every benchmark.
            "--bench" => {}
            _ => selected.push(argument),
        }
    }
    let parts: [(&str, Part); 7] = [
        ("storm", Bench::storm),
        ("tls", Bench::tls),
        ("single", Bench::single),
        ("latency", Bench::latency),
        ("peers", Bench::peers),
        ("footprint", Bench::footprint),
        ("growth", Bench::growth),
    ];
    for name in &selected {
        assert!(
            parts.iter().any(|(known, _)| known == name),
            "unknown part: {name}"
        );
    }
    for (name, part) in parts {
        if selected.is_empty() || selected.iter().any(|selected| selected == name) {
            part(&bench);
        }
    }
}

impl Bench {
    fn start() -> Self {
        let broker = Broker::start();
        let vhost = broker.fresh_vhost();
        let admin = broker.admin(&vhost);
        Self {
            broker,
            vhost,
            admin,
            pairs: 5,
            peers: None,
            connector: BINARY.to_owned(),
        }
    }

    fn url(&self) -> String {
        self.broker.url(&self.vhost)
    }

    fn connector(&self) -> BridgeProcess {
        self.warm_up(BridgeProcess::connector(&self.connector, &self.url()))
    }

    /// Sends some notifications, and removes their events from the queue.
    fn warm_up(&self, bridge: BridgeProcess) -> BridgeProcess {
        let load = Load::with_alerts(100);
        self.run(500, || load.post(bridge.address, 1, 5).0);
        bridge
    }

    /// Returns the time that `run` returns, after checking that it left exactly this number of events in the queue.
    fn run(&self, events: usize, run: impl FnOnce() -> Duration) -> Duration {
        let time = run();
        let mut counted = 0;
        // The queue's message count may lag behind the confirms.
        wait_until("every event that was answered 200 is in the queue", || {
            let purged = self.admin.channel.queue_purge(QUEUE).unwrap();
            counted += usize::try_from(purged).unwrap();
            counted >= events
        });
        assert_eq!(counted, events, "events in the queue");
        time
    }

    /// The messages that the connector publishes for one notification, for the bare loop to publish.
    fn messages(&self, connector: &BridgeProcess, load: &Load) -> Vec<ReceivedMessage> {
        load.post(connector.address, 1, 1);
        let mut messages = Vec::new();
        wait_until("the events are in the queue", || {
            messages.extend(self.admin.drain());
            messages.len() >= load.alerts
        });
        assert_eq!(messages.len(), load.alerts);
        messages
    }

    /// Events per second and CPU time of the bare loop and of the connector, run alternately.
    fn compare_throughput(&self, connections: usize, load: &Load, posts: usize, window: usize) {
        let connector = self.connector();
        let messages = self.messages(&connector, load);
        let mut bare = BareLoop::open(&self.url());
        let events = connections * posts * load.alerts;
        let mut table = Table::new(&[
            "pair",
            "bare loop, events/s",
            "connector, alerts/s",
            "ratio",
        ]);
        let mut ratios = Vec::new();
        let (mut bare_cpu, mut bridged_cpu) = (CpuTimes::default(), CpuTimes::default());
        for pair in 0..=self.pairs {
            let alone = self.run(events, || {
                bare_cpu.measure(&connector, || bare.publish(&messages, events, window).0)
            });
            let bridged = self.run(events, || {
                bridged_cpu.measure(&connector, || {
                    load.post(connector.address, connections, posts).0
                })
            });
            let (alone, bridged) = (rate(events, alone), rate(events, bridged));
            if pair == 0 {
                // The first pair warms up.
                (bare_cpu, bridged_cpu) = (CpuTimes::default(), CpuTimes::default());
            } else {
                ratios.push(bridged / alone);
                table.row(&[
                    pair.to_string(),
                    round(alone),
                    round(bridged),
                    format!("{:.3}", bridged / alone),
                ]);
            }
        }
        table.row(&[
            "median".to_owned(),
            String::new(),
            String::new(),
            format!("**{:.3}**", median(&mut ratios)),
        ]);
        println!("{table}");
        println!(
            "{}",
            CpuTimes::table(&bare_cpu, &bridged_cpu, events * self.pairs)
        );
    }

    fn storm(&self) {
        let (connections, alerts) = (16, 100);
        println!(
            "### Storm: {connections} connections, {alerts} alerts per notification; bare loop with window {WINDOW}\n"
        );
        self.compare_throughput(connections, &Load::with_alerts(alerts), 20, WINDOW);
    }

    fn tls(&self) {
        let (connections, posts, authority) = (16, 20, Authority::new());
        let plain_load = Load::with_alerts(100);
        let tls_load = Load {
            tls: Some(authority.tls()),
            ..Load::with_alerts(100)
        };
        println!(
            "### HTTPS: {connections} connections that are kept, 100 alerts per notification\n"
        );
        let events = connections * posts * plain_load.alerts;
        let plain = self.connector();
        let certificate = authority.issue("bench", Subject::host("localhost"));
        let https = BridgeProcess::https_connector(&self.connector, &self.url(), &certificate);
        let mut table = Table::new(&[
            "pair",
            "HTTP, alerts/s",
            "HTTPS, alerts/s",
            "ratio",
            "HTTP, CPU per alert",
            "HTTPS, CPU per alert",
            "ratio",
        ]);
        let mut ratios = (Vec::new(), Vec::new());
        for pair in 0..=self.pairs {
            let [plain, https] =
                [(&plain, &plain_load), (&https, &tls_load)].map(|(bridge, load)| {
                    let before = bridge.cpu_time();
                    let time = self.run(events, || load.post(bridge.address, connections, posts).0);
                    let cpu = bridge.cpu_time_since(before).as_secs_f64() * 1e6 / events as f64;
                    (rate(events, time), cpu)
                });
            // The first pair warms up.
            if pair > 0 {
                let (throughput, cpu) = (https.0 / plain.0, https.1 / plain.1);
                ratios.0.push(throughput);
                ratios.1.push(cpu);
                table.row(&[
                    pair.to_string(),
                    round(plain.0),
                    round(https.0),
                    format!("{throughput:.3}"),
                    format!("{:.1} us", plain.1),
                    format!("{:.1} us", https.1),
                    format!("{cpu:.3}"),
                ]);
            }
        }
        let mut row = vec!["median".to_owned()];
        for ratios in [&mut ratios.0, &mut ratios.1] {
            row.extend([const { String::new() }; 2]);
            row.push(format!("**{:.3}**", median(ratios)));
        }
        table.row(&row);
        println!("{table}");
    }

    fn single(&self) {
        let connections = 64;
        println!(
            "### Single alerts: {connections} connections, one alert per notification; bare loop with window {connections}\n"
        );
        self.compare_throughput(connections, &Load::with_alerts(1), 200, connections);
    }

    fn latency(&self) {
        println!("### Latency: one connection, one alert at a time; bare loop with window 1\n");
        let (connector, load, count) = (self.connector(), Load::with_alerts(1), 1000);
        let messages = self.messages(&connector, &load);
        let mut bare = BareLoop::open(&self.url());
        let mut table = Table::new(&[
            "pair",
            "bare loop, p50",
            "p99",
            "connector, p50",
            "p99",
            "difference, p50",
            "p99",
        ]);
        let mut differences = (Vec::new(), Vec::new());
        for pair in 0..=self.pairs {
            let (mut alone, mut bridged) = (Vec::new(), Vec::new());
            self.run(count, || {
                let (time, latencies) = bare.publish(&messages, count, 1);
                alone = latencies;
                time
            });
            self.run(count, || {
                let (time, latencies) = load.post(connector.address, 1, count);
                bridged = latencies;
                time
            });
            if pair == 0 {
                continue;
            }
            alone.sort();
            bridged.sort();
            let [a50, a99, b50, b99] = [(&alone, 50), (&alone, 99), (&bridged, 50), (&bridged, 99)]
                .map(|(sorted, percent)| percentile(sorted, percent).as_secs_f64() * 1000.0);
            differences.0.push(b50 - a50);
            differences.1.push(b99 - a99);
            let cells =
                [a50, a99, b50, b99, b50 - a50, b99 - a99].map(|time| format!("{time:.2} ms"));
            let mut row = vec![pair.to_string()];
            row.extend(cells);
            table.row(&row);
        }
        let (p50, p99) = (median(&mut differences.0), median(&mut differences.1));
        let mut row = vec!["median".to_owned()];
        row.extend([const { String::new() }; 4]);
        row.extend([format!("**{p50:.2} ms**"), format!("**{p99:.2} ms**")]);
        table.row(&row);
        println!("{table}");
    }

    fn peers(&self) {
        let Some(dir) = &self.peers else {
            println!("(no other bridges: set --peers DIR, the directory of scripts/bench-peers)\n");
            return;
        };
        for (connections, alerts, posts) in [(16, 100, 20), (64, 1, 100)] {
            println!(
                "### Other bridges: {connections} connections, alerts per notification: {alerts}\n"
            );
            let load = Load::with_alerts(alerts);
            let bridges = [
                ("connector", self.connector()),
                (
                    "Python",
                    self.warm_up(BridgeProcess::python(dir, &self.url())),
                ),
                ("Node", self.warm_up(BridgeProcess::node(dir, &self.url()))),
                ("Go", self.warm_up(BridgeProcess::go(dir, &self.url()))),
            ];
            let events = connections * posts * alerts;
            let mut rates = vec![(Vec::new(), Vec::new(), Vec::new()); bridges.len()];
            for round in 0..=self.pairs {
                let mut first = None;
                for ((_, bridge), rates) in bridges.iter().zip(&mut rates) {
                    let before = bridge.cpu_time();
                    let time = self.run(events, || load.post(bridge.address, connections, posts).0);
                    let per_cpu = rate(events, bridge.cpu_time_since(before));
                    let first = *first.get_or_insert(per_cpu);
                    if round > 0 {
                        rates.0.push(rate(events, time));
                        rates.1.push(per_cpu);
                        rates.2.push(first / per_cpu);
                    }
                }
            }
            let mut table = Table::new(&[
                "bridge",
                "alerts/s",
                "alerts per CPU second of the bridge",
                "the connector's, as a multiple",
                "peak resident",
            ]);
            for ((name, bridge), (throughput, per_cpu, multiple)) in bridges.iter().zip(&mut rates)
            {
                table.row(&[
                    (*name).to_owned(),
                    round(median(throughput)),
                    round(median(per_cpu)),
                    format!("{:.1}", median(multiple)),
                    mib(bridge.memory("VmHWM:")),
                ]);
            }
            println!("Medians of {} rounds.\n\n{table}", self.pairs);
        }
    }

    fn footprint(&self) {
        println!("### Footprint\n");
        let mut table = Table::new(&["what", "figure"]);
        let mut starts: Vec<f64> = (0..21)
            .map(|_| {
                BridgeProcess::time_to_listen(&self.connector, &self.url()).as_secs_f64() * 1000.0
            })
            .collect();
        table.row(&[
            "start to listening, median of 21".to_owned(),
            format!("{:.1} ms", median(&mut starts)),
        ]);
        let connector = self.connector();
        table.row(&[
            "resident, idle, connected".to_owned(),
            mib(connector.memory("VmRSS:")),
        ]);
        let storm = Load::with_alerts(100);
        for _ in 0..3 {
            self.run(32_000, || storm.post(connector.address, 16, 20).0);
        }
        table.row(&[
            "resident, peak of 3 storms".to_owned(),
            mib(connector.memory("VmHWM:")),
        ]);
        table.row(&[
            "resident, after them".to_owned(),
            mib(connector.memory("VmRSS:")),
        ]);
        let single = Load::with_alerts(1);
        self.run(5000, || single.post(connector.address, 1000, 5).0);
        table.row(&[
            "resident, peak with 1,000 connections".to_owned(),
            mib(connector.memory("VmHWM:")),
        ]);
        wait_until("the threads of 1,000 connections end", || {
            connector.threads() < 50
        });
        table.row(&[
            "resident, after 1,000 connections".to_owned(),
            mib(connector.memory("VmRSS:")),
        ]);
        let size = std::fs::metadata(&self.connector).unwrap().len();
        table.row(&["binary".to_owned(), format!("{size} bytes")]);
        println!("{table}");
    }

    fn growth(&self) {
        println!("### Growth: alerts per notification, about {IN_FLIGHT} alerts in flight\n");
        let mut table = Table::new(&[
            "alerts",
            "connections",
            "alerts/s",
            "CPU of the connector, per alert",
        ]);
        for alerts in [1, 10, 100, 1000, 10_000] {
            let connections = (IN_FLIGHT / alerts).clamp(1, 1000);
            self.measure_growth(&mut table, alerts, connections);
        }
        println!("Medians of {} runs.\n\n{table}", self.pairs);
        println!("### Growth: connections, 10 alerts per notification\n");
        let mut table = Table::new(&[
            "alerts",
            "connections",
            "alerts/s",
            "CPU of the connector, per alert",
        ]);
        for connections in [1, 10, 100, 1000] {
            self.measure_growth(&mut table, 10, connections);
        }
        println!("Medians of {} runs.\n\n{table}", self.pairs);
    }

    fn measure_growth(&self, table: &mut Table, alerts: usize, connections: usize) {
        let (connector, load) = (self.connector(), Load::with_alerts(alerts));
        let posts = 20_000_usize.div_ceil(alerts * connections);
        let events = alerts * connections * posts;
        let (mut rates, mut costs) = (Vec::new(), Vec::new());
        for round in 0..=self.pairs {
            let before = connector.cpu_time();
            let time = self.run(events, || {
                load.post(connector.address, connections, posts).0
            });
            if round > 0 {
                rates.push(rate(events, time));
                costs.push(connector.cpu_time_since(before).as_secs_f64() * 1e6 / events as f64);
            }
        }
        table.row(&[
            alerts.to_string(),
            connections.to_string(),
            round(median(&mut rates)),
            format!("{:.1} us", median(&mut costs)),
        ]);
    }
}

fn rate(events: usize, time: Duration) -> f64 {
    events as f64 / time.as_secs_f64()
}

fn round(number: f64) -> String {
    format!("{number:.0}")
}

fn mib(bytes: usize) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}
