//! Metrics of the process under the names that are the same for all exporters, read from `/proc/self` (proc(5)) at each scrape.

use std::fmt;
use std::fs;
use std::str::FromStr;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::unix_seconds;

/// Clock ticks per second in `/proc/self/stat`: 100 in Linux's user-space interface, whatever the kernel's own tick (times(2)).
const TICKS_PER_SECOND: f64 = 100.0;

/// The start time; all else is read when it is collected.
#[derive(Debug)]
pub struct Process {
    started: f64,
}

impl Process {
    /// Takes the current time for the start of the process: create it early.
    pub fn new() -> Self {
        Self {
            started: unix_seconds(),
        }
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let descriptors = fs::read_dir("/proc/self/fd")
            .ok()
            .and_then(|entries| u32::try_from(entries.count()).ok());
        if let Some(seconds) = cpu_seconds(&stat) {
            let counter = ConstCounter::new(seconds);
            let help = "User and system CPU time spent, in seconds";
            counter.encode(encoder.encode_descriptor(
                "process_cpu_seconds",
                help,
                None,
                counter.metric_type(),
            )?)?;
        }
        for (name, help, value) in [
            (
                "process_start_time_seconds",
                "Unix time of the process's start",
                Some(self.started),
            ),
            (
                "process_resident_memory_bytes",
                "Resident memory in bytes",
                kibibytes(&status, "VmRSS:"),
            ),
            (
                "process_virtual_memory_bytes",
                "Virtual memory in bytes",
                kibibytes(&status, "VmSize:"),
            ),
            (
                "process_threads",
                "Number of threads",
                field(&status, "Threads:"),
            ),
            (
                "process_open_fds",
                "Open file descriptors",
                descriptors.map(f64::from),
            ),
            (
                "process_max_fds",
                "Limit of open file descriptors",
                max_open_files(),
            ),
        ] {
            if let Some(value) = value {
                let gauge = ConstGauge::new(value);
                gauge.encode(encoder.encode_descriptor(
                    name,
                    help,
                    None,
                    gauge.metric_type(),
                )?)?;
            }
        }
        Ok(())
    }
}

/// The soft limit of open file descriptors; `None` where `/proc` does not show one.
pub fn max_open_files<N: FromStr>() -> Option<N> {
    field(
        &fs::read_to_string("/proc/self/limits").ok()?,
        "Max open files",
    )
}

/// `utime` and `stime`, fields 14 and 15. Field 2, a name in parentheses, may itself contain spaces and parentheses.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    Some((ticks()? + ticks()?) / TICKS_PER_SECOND)
}

/// The first number after a name at the start of a line.
fn field<N: FromStr>(text: &str, name: &str) -> Option<N> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

fn kibibytes(text: &str, name: &str) -> Option<f64> {
    field(text, name).map(|kibibytes: f64| kibibytes * 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_parsed_from_proc() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 4 0 12345 1000 200";
        assert_eq!(cpu_seconds(stat), Some(3.0));
        let status = "Name:\tx\nVmRSS:\t    2 kB\nThreads:\t4\n";
        assert_eq!(
            (kibibytes(status, "VmRSS:"), field(status, "Threads:")),
            (Some(2048.0), Some(4.0))
        );
        assert_eq!(
            field(
                "Max open files            1024                 4096                 files",
                "Max open files"
            ),
            Some(1024.0)
        );
        assert_eq!(
            (field::<f64>("", "Threads:"), cpu_seconds("")),
            (None, None)
        );
    }
}
