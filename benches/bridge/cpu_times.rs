//! CPU time during a measurement, by process, from `/proc` (see proc(5)).

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::bridge_process::BridgeProcess;
use crate::support::stat;
use crate::table::Table;

/// `USER_HZ`, the clock ticks per second of the times in `/proc`.
const TICKS_PER_SECOND: u64 = 100;

/// Summed over all processors.
#[derive(Clone, Copy, Default)]
pub struct CpuTimes {
    busy: Duration,
    /// Including the wait for disks.
    idle: Duration,
    /// Of this process: the senders, or the bare loop.
    own: Duration,
    connector: Duration,
}

impl CpuTimes {
    fn now(connector: &BridgeProcess) -> Self {
        let stat = fs::read_to_string("/proc/stat").unwrap();
        // user nice system idle iowait irq softirq steal. steal (time of other virtual machines) counts as neither.
        let ticks: Vec<u64> = stat
            .lines()
            .next()
            .unwrap()
            .split_whitespace()
            .skip(1)
            .map(|field| field.parse().unwrap())
            .collect();
        let sum = |fields: &[usize]| from_ticks(fields.iter().map(|field| ticks[*field]).sum());
        Self {
            busy: sum(&[0, 1, 2, 5, 6]),
            idle: sum(&[3, 4]),
            own: process_cpu_time("self"),
            connector: connector.cpu_time(),
        }
    }

    /// Calls `run`, and adds the CPU time of that period.
    pub fn measure<T>(&mut self, connector: &BridgeProcess, run: impl FnOnce() -> T) -> T {
        let before = Self::now(connector);
        let result = run();
        let after = Self::now(connector);
        self.busy += after.busy.saturating_sub(before.busy);
        self.idle += after.idle.saturating_sub(before.idle);
        self.own += after.own.saturating_sub(before.own);
        self.connector += after.connector.saturating_sub(before.connector);
        result
    }

    /// The CPU time per event, of the bare loop's runs and of the connector's.
    pub fn table(bare: &Self, bridged: &Self, events: usize) -> Table {
        let mut table = Table::new(&[
            "CPU time per event",
            "bridge",
            "senders",
            "RabbitMQ and others",
            "idle",
        ]);
        let per_event =
            |time: Duration| format!("{:.0} us", time.as_secs_f64() * 1e6 / events as f64);
        let others =
            |times: &Self| per_event(times.busy.saturating_sub(times.own + times.connector));
        table.row(&[
            "bare loop".to_owned(),
            per_event(bare.own),
            String::new(),
            others(bare),
            per_event(bare.idle),
        ]);
        table.row(&[
            "connector".to_owned(),
            per_event(bridged.connector),
            per_event(bridged.own),
            others(bridged),
            per_event(bridged.idle),
        ]);
        table
    }
}

/// User and system time of all threads of a process, including those that have ended.
pub fn process_cpu_time(pid: &str) -> Duration {
    let fields = stat(&Path::new("/proc").join(pid)).unwrap();
    from_ticks(fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap())
}

fn from_ticks(ticks: u64) -> Duration {
    Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND)
}
