//! Metrics of the process under the names that are the same for all exporters, read from `/proc/self` (proc(5)) at each scrape.

use std::fs;
use std::str::FromStr;

use prometheus_client::registry::Registry;

use super::families::{Counter, Gauge, metrics};

/// Clock ticks per second in `/proc/self/stat`: 100 in Linux's user-space interface, whatever the kernel's own tick (times(2)).
const TICKS_PER_SECOND: f64 = 100.0;

metrics! {
    /// The process. `NaN` where `/proc` does not show a value.
    ProcessMetrics {
        cpu: Counter<Gauge<f64>>, "process_cpu_seconds_total",
            "User and system CPU time spent, in seconds";
        started: Gauge<f64>, "process_start_time_seconds", "Unix time of the process's start";
        resident: Gauge<f64>, "process_resident_memory_bytes", "Resident memory in bytes";
        virtual_memory: Gauge<f64>, "process_virtual_memory_bytes", "Virtual memory in bytes";
        threads: Gauge<f64>, "process_threads", "Number of threads";
        open_fds: Gauge<f64>, "process_open_fds", "Open file descriptors";
        max_fds: Gauge<f64>, "process_max_fds", "Limit of open file descriptors";
    }
}

impl ProcessMetrics {
    /// Updates all but the start.
    pub fn read(&self) {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        self.cpu.0.set(cpu_seconds(&stat).unwrap_or(f64::NAN));
        let open_fds = fs::read_dir("/proc/self/fd").ok();
        let open_fds = open_fds.and_then(|entries| u32::try_from(entries.count()).ok());
        for (gauge, value) in [
            (&self.resident, kibibytes(&status, "VmRSS:")),
            (&self.virtual_memory, kibibytes(&status, "VmSize:")),
            (&self.threads, field(&status, "Threads:")),
            (&self.open_fds, open_fds.map(f64::from)),
            (&self.max_fds, max_open_files()),
        ] {
            gauge.set(value.unwrap_or(f64::NAN));
        }
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
