//! The process itself, under the names that all exporters give these metrics; read from `/proc/self` at each scrape (proc(5)).

use std::fmt;
use std::fs;
use std::str::FromStr;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::seconds_now;

/// Of the times in `/proc/self/stat`, in a second: fixed in Linux's interface for programs, whatever the kernel's own clock.
const TICKS: f64 = 100.0;

/// See the module.
#[derive(Debug)]
pub struct Process {
    started: f64,
}

impl Process {
    /// To be made at the process's start.
    pub fn new() -> Self {
        Self {
            started: seconds_now(),
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
                "When the process was started",
                Some(self.started),
            ),
            (
                "process_resident_memory_bytes",
                "Resident memory",
                kibibytes(&status, "VmRSS:"),
            ),
            (
                "process_virtual_memory_bytes",
                "Virtual memory",
                kibibytes(&status, "VmSize:"),
            ),
            ("process_threads", "Threads", field(&status, "Threads:")),
            (
                "process_open_fds",
                "Open file descriptors",
                descriptors.map(f64::from),
            ),
            (
                "process_max_fds",
                "File descriptors that may be open at once",
                soft_limit("Max open files"),
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

/// How many file descriptors the process may have (its soft limit), where that is known.
pub fn max_open_files() -> Option<usize> {
    soft_limit("Max open files")
}

fn soft_limit<N: FromStr>(name: &str) -> Option<N> {
    field(&fs::read_to_string("/proc/self/limits").ok()?, name)
}

/// The fields 14 and 15; the second one, a name in brackets, may hold spaces and brackets.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    Some((ticks()? + ticks()?) / TICKS)
}

/// The first number behind a name at the beginning of a line.
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
    fn proc_is_read() {
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
