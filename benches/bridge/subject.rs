//! A bridge that is measured: its process, from its start to its end.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::clocks::cpu_of;
use crate::support::{Kept, TOKEN, free_port, scratch, status_bytes, threads, wait_until};

/// What the service's environment is, counts for everything that is measured.
const UNIT: &str = include_str!("../../canopsis-connector-prometheus.service");

pub struct Subject {
    process: Kept,
    pub address: SocketAddr,
}

impl Subject {
    /// The connector, with the shipped configuration.
    pub fn connector(binary: &str, url: &str) -> Self {
        Self::start(&[binary, "--config", "config.yml"], url)
    }

    /// Its peer in Python, with what `scripts/bench-peers` has installed.
    pub fn python(peers: &Path, url: &str) -> Self {
        let python = peers.join("python/bin/python");
        Self::start(
            &[python.to_str().unwrap(), "benches/peers/python/bridge.py"],
            url,
        )
    }

    /// Its peer in Node.
    pub fn node(peers: &Path, url: &str) -> Self {
        Self::start(
            &["node", peers.join("node/bridge.mjs").to_str().unwrap()],
            url,
        )
    }

    /// Starts it, and waits until it listens.
    fn start(command: &[&str], url: &str) -> Self {
        let subject = Self::spawn(command, url);
        wait_until(&format!("{command:?} listens"), || {
            TcpStream::connect(subject.address).is_ok()
        });
        subject
    }

    fn spawn(command: &[&str], url: &str) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let settings = [
            format!("CPS_AMQP_URL={url}"),
            format!("PROMETHEUS_LISTEN={address}"),
            format!("PROMETHEUS_BEARER_TOKEN={TOKEN}"),
        ];
        let mut whole = vec!["env"];
        whole.extend(
            UNIT.lines()
                .filter_map(|line| line.strip_prefix("Environment=")),
        );
        whole.extend(settings.iter().map(String::as_str));
        whole.extend(command);
        let log = scratch("bench-log");
        let log = log.to_str().unwrap();
        Self {
            process: Kept::start(&whole, log, &format!("rm -f {log}")),
            address,
        }
    }

    /// How long the connector takes from its start to its first accepted connection; as seen from outside.
    pub fn time_to_listen(binary: &str, url: &str) -> Duration {
        let start = Instant::now();
        let subject = Self::spawn(&[binary, "--config", "config.yml"], url);
        while TcpStream::connect(subject.address).is_err() {
            assert!(
                start.elapsed() < Duration::from_secs(10),
                "the connector does not listen"
            );
            std::thread::sleep(Duration::from_micros(100));
        }
        start.elapsed()
    }

    /// User and system time of all its threads, those that have ended included.
    pub fn cpu(&self) -> Duration {
        cpu_of(&self.process.pid.to_string())
    }

    /// What it has used since.
    pub fn cpu_since(&self, before: Duration) -> Duration {
        self.cpu().saturating_sub(before)
    }

    /// In bytes, as `/proc/PID/status` names it.
    pub fn memory(&self, name: &str) -> usize {
        status_bytes(self.process.pid, name)
    }

    pub fn threads(&self) -> usize {
        threads(self.process.pid)
    }
}
