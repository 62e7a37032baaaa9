//! Who has the processors while a bridge is measured: the kernel's own accounts, proc(5).

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::subject::Subject;
use crate::support::stat;
use crate::table::Table;

/// Of the times in `/proc`.
const TICKS: u64 = 100;

/// Of all processors together, since whenever, or between two such moments.
#[derive(Clone, Copy, Default)]
pub struct Clocks {
    /// Whatever works.
    busy: Duration,
    /// Nobody does, or somebody waits for the disk.
    idle: Duration,
    /// This process: the senders, or the bare loop.
    own: Duration,
    connector: Duration,
}

impl Clocks {
    fn now(connector: &Subject) -> Self {
        let stat = fs::read_to_string("/proc/stat").unwrap();
        // user nice system idle iowait irq softirq steal: the last is what the host took. What guests take is in user.
        let ticks: Vec<u64> = stat
            .lines()
            .next()
            .unwrap()
            .split_whitespace()
            .skip(1)
            .map(|field| field.parse().unwrap())
            .collect();
        let of = |fields: &[usize]| since_ticks(fields.iter().map(|field| ticks[*field]).sum());
        Self {
            busy: of(&[0, 1, 2, 5, 6]),
            idle: of(&[3, 4]),
            own: cpu_of("self"),
            connector: connector.cpu(),
        }
    }

    /// Runs something, and adds what has gone by meanwhile.
    pub fn during<T>(&mut self, connector: &Subject, run: impl FnOnce() -> T) -> T {
        let before = Self::now(connector);
        let result = run();
        let after = Self::now(connector);
        self.busy += after.busy.saturating_sub(before.busy);
        self.idle += after.idle.saturating_sub(before.idle);
        self.own += after.own.saturating_sub(before.own);
        self.connector += after.connector.saturating_sub(before.connector);
        result
    }

    /// So much of each for one event, of the bare loop's runs and of the connector's.
    pub fn table(bare: &Self, bridged: &Self, events: usize) -> Table {
        let mut table = Table::new(&[
            "processor time per event",
            "bridge",
            "senders",
            "RabbitMQ and all else",
            "nobody",
        ]);
        let each = |time: Duration| format!("{:.0} us", time.as_secs_f64() * 1e6 / events as f64);
        let rest = |clocks: &Self| each(clocks.busy.saturating_sub(clocks.own + clocks.connector));
        table.row(&[
            "bare loop".to_owned(),
            each(bare.own),
            String::new(),
            rest(bare),
            each(bare.idle),
        ]);
        table.row(&[
            "connector".to_owned(),
            each(bridged.connector),
            each(bridged.own),
            rest(bridged),
            each(bridged.idle),
        ]);
        table
    }
}

/// User and system time of all the threads of a process, those that have ended included.
pub fn cpu_of(pid: &str) -> Duration {
    let fields = stat(&Path::new("/proc").join(pid)).unwrap();
    since_ticks(fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap())
}

/// A count of ticks as a time.
fn since_ticks(ticks: u64) -> Duration {
    Duration::from_millis(ticks * 1000 / TICKS)
}
