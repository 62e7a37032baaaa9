//! The whole bridge, measured: the real release binary between a load of HTTP and a RabbitMQ node of its own, beside a bare
//! AMQP loop and beside bridges in other languages. Prints Markdown; `scripts/bench` runs it.
//!
//! Nothing here is compared with a figure of another run: the machine may be shared. What is compared is measured in turn,
//! A B A B, and each pair gives a ratio of its own; the medians are printed. Each run also has to balance: as many events in
//! the queue as alerts were answered with 200.
//!
//!     cargo bench --bench bridge -- [--pairs N] [--peers DIR] [--connector FILE] [storm|single|latency|peers|footprint|growth]...
//!
//! `--connector` names the binary that is measured: the one that cargo builds along with this has what only tests need.

#![allow(missing_docs)]
#![allow(
    clippy::cast_precision_loss,
    reason = "no count or size here is beyond 2^52"
)]

mod bare;
mod clocks;
mod load;
mod subject;
#[path = "../../tests/support/mod.rs"]
mod support;
mod table;

use std::path::PathBuf;
use std::time::Duration;

use bare::Bare;
use clocks::Clocks;
use load::Notifications;
use subject::Subject;
use support::broker::{Admin, Broker, ReceivedMessage};
use support::connector::BINARY;
use support::wait_until;
use table::{Table, median, percentile};

/// The connector's own window, and so that of the bare loop in a storm.
const WINDOW: usize = 1000;

/// So much is in flight where the number of connections is not what is measured.
const IN_FLIGHT: usize = 1600;

/// A table, or several.
type Part = fn(&Bench);

/// What runs are made on.
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
    let mut wanted = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--pairs" => bench.pairs = arguments.next().unwrap().parse().unwrap(),
            "--connector" => bench.connector = arguments.next().unwrap(),
            "--peers" => bench.peers = Some(arguments.next().unwrap().into()),
            // Cargo's own.
            "--bench" => {}
            _ => wanted.push(argument),
        }
    }
    let parts: [(&str, Part); 6] = [
        ("storm", Bench::storm),
        ("single", Bench::single),
        ("latency", Bench::latency),
        ("peers", Bench::peers),
        ("footprint", Bench::footprint),
        ("growth", Bench::growth),
    ];
    for name in &wanted {
        assert!(
            parts.iter().any(|(known, _)| known == name),
            "no such part: {name}"
        );
    }
    for (name, part) in parts {
        if wanted.is_empty() || wanted.iter().any(|wanted| wanted == name) {
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

    fn connector(&self) -> Subject {
        self.warm(Subject::connector(&self.connector, &self.url()))
    }

    /// A bridge that has done everything for the first time; nothing of that is left in the queue.
    fn warm(&self, subject: Subject) -> Subject {
        let notifications = Notifications::of(100);
        self.run(500, || notifications.post(subject.address, 1, 5).0);
        subject
    }

    /// A run that has to balance; how long it took.
    fn run(&self, events: usize, run: impl FnOnce() -> Duration) -> Duration {
        let time = run();
        let mut counted = 0;
        // What is confirmed is on disk; the queue's own count may be a moment behind.
        wait_until("every event that was answered 200 is in the queue", || {
            counted += self.admin.purge();
            counted >= events
        });
        assert_eq!(counted, events, "events in the queue");
        time
    }

    /// The messages that the connector makes of a notification, to be published by others, too.
    fn messages(&self, connector: &Subject, notification: &Notifications) -> Vec<ReceivedMessage> {
        notification.post(connector.address, 1, 1);
        let mut messages = Vec::new();
        wait_until("the events are in the queue", || {
            messages.extend(self.admin.drain());
            messages.len() >= notification.alerts
        });
        assert_eq!(messages.len(), notification.alerts);
        messages
    }

    /// Events per second of the bare loop and of the connector, in turn; and who had the processors.
    fn in_turn(
        &self,
        connections: usize,
        notifications: &Notifications,
        posts: usize,
        window: usize,
    ) {
        let connector = self.connector();
        let messages = self.messages(&connector, notifications);
        let mut bare = Bare::open(&self.url());
        let events = connections * posts * notifications.alerts;
        let mut table = Table::new(&[
            "pair",
            "bare loop, events/s",
            "connector, alerts/s",
            "ratio",
        ]);
        let (mut ratios, mut clocks) = (Vec::new(), (Clocks::default(), Clocks::default()));
        for pair in 0..=self.pairs {
            let alone = self.run(events, || {
                clocks
                    .0
                    .during(&connector, || bare.publish(&messages, events, window).0)
            });
            let bridged = self.run(events, || {
                clocks.1.during(&connector, || {
                    notifications.post(connector.address, connections, posts).0
                })
            });
            let (alone, bridged) = (rate(events, alone), rate(events, bridged));
            if pair == 0 {
                // The first pair warms up.
                clocks = (Clocks::default(), Clocks::default());
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
            Clocks::table(&clocks.0, &clocks.1, events * self.pairs)
        );
    }

    fn storm(&self) {
        let (connections, alerts) = (16, 100);
        println!(
            "### Storm: {connections} connections, {alerts} alerts a notification; bare loop with window {WINDOW}\n"
        );
        self.in_turn(connections, &Notifications::of(alerts), 20, WINDOW);
    }

    fn single(&self) {
        let connections = 64;
        println!(
            "### Single alerts: {connections} connections, one alert a notification; bare loop with window {connections}\n"
        );
        self.in_turn(connections, &Notifications::of(1), 200, connections);
    }

    fn latency(&self) {
        println!("### Latency: one connection, one alert at a time; bare loop with window 1\n");
        let (connector, notifications, count) = (self.connector(), Notifications::of(1), 1000);
        let messages = self.messages(&connector, &notifications);
        let mut bare = Bare::open(&self.url());
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
                let (time, latencies) = notifications.post(connector.address, 1, count);
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
            println!("(no peers: --peers DIR says where scripts/bench-peers has put them)\n");
            return;
        };
        for (connections, alerts, posts) in [(16, 100, 20), (64, 1, 100)] {
            println!(
                "### Other bridges: {connections} connections, alerts a notification: {alerts}\n"
            );
            let notifications = Notifications::of(alerts);
            let subjects = [
                ("connector", self.connector()),
                ("Python", self.warm(Subject::python(dir, &self.url()))),
                ("Node", self.warm(Subject::node(dir, &self.url()))),
            ];
            let events = connections * posts * alerts;
            let mut rates = vec![(Vec::new(), Vec::new(), Vec::new()); subjects.len()];
            for turn in 0..=self.pairs {
                let mut first = None;
                for ((_, subject), rates) in subjects.iter().zip(&mut rates) {
                    let before = subject.cpu();
                    let time = self.run(events, || {
                        notifications.post(subject.address, connections, posts).0
                    });
                    let per_cpu = rate(events, subject.cpu_since(before));
                    let first = *first.get_or_insert(per_cpu);
                    if turn > 0 {
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
            for ((name, subject), (throughput, per_cpu, multiple)) in
                subjects.iter().zip(&mut rates)
            {
                table.row(&[
                    (*name).to_owned(),
                    round(median(throughput)),
                    round(median(per_cpu)),
                    format!("{:.1}", median(multiple)),
                    mib(subject.memory("VmHWM:")),
                ]);
            }
            println!("Medians of {} turns.\n\n{table}", self.pairs);
        }
    }

    fn footprint(&self) {
        println!("### Footprint\n");
        let mut table = Table::new(&["what", "figure"]);
        let mut starts: Vec<f64> = (0..21)
            .map(|_| Subject::time_to_listen(&self.connector, &self.url()).as_secs_f64() * 1000.0)
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
        let notifications = Notifications::of(100);
        for _ in 0..3 {
            self.run(32_000, || notifications.post(connector.address, 16, 20).0);
        }
        table.row(&[
            "resident, peak of 3 storms".to_owned(),
            mib(connector.memory("VmHWM:")),
        ]);
        table.row(&[
            "resident, after them".to_owned(),
            mib(connector.memory("VmRSS:")),
        ]);
        let ones = Notifications::of(1);
        self.run(5000, || ones.post(connector.address, 1000, 5).0);
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
        println!("### Growth: alerts in a notification, about {IN_FLIGHT} of them in flight\n");
        let mut table = Table::new(&[
            "alerts",
            "connections",
            "alerts/s",
            "CPU of the connector, per alert",
        ]);
        for alerts in [1, 10, 100, 1000, 10_000] {
            let connections = (IN_FLIGHT / alerts).clamp(1, 1000);
            self.grown(&mut table, alerts, connections);
        }
        println!("Medians of {} runs.\n\n{table}", self.pairs);
        println!("### Growth: connections, 10 alerts a notification\n");
        let mut table = Table::new(&[
            "alerts",
            "connections",
            "alerts/s",
            "CPU of the connector, per alert",
        ]);
        for connections in [1, 10, 100, 1000] {
            self.grown(&mut table, 10, connections);
        }
        println!("Medians of {} runs.\n\n{table}", self.pairs);
    }

    fn grown(&self, table: &mut Table, alerts: usize, connections: usize) {
        let (connector, notifications) = (self.connector(), Notifications::of(alerts));
        let posts = 20_000_usize.div_ceil(alerts * connections);
        let events = alerts * connections * posts;
        let (mut rates, mut costs) = (Vec::new(), Vec::new());
        for turn in 0..=self.pairs {
            let before = connector.cpu();
            let time = self.run(events, || {
                notifications.post(connector.address, connections, posts).0
            });
            if turn > 0 {
                rates.push(rate(events, time));
                costs.push(connector.cpu_since(before).as_secs_f64() * 1e6 / events as f64);
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
