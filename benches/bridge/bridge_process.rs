//! The process of a bridge under test: the connector, or one of `benches/peers`. It ends when the value is dropped.

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::cpu_times::process_cpu_time;
use crate::support::{
    ProcessGroup, TOKEN, free_port, status_bytes, temp_path, threads, wait_until,
};

/// Its `Environment=` lines apply to every bridge, so that all run as the service does.
const UNIT: &str = include_str!("../../canopsis-connector-prometheus.service");

pub struct BridgeProcess {
    process: ProcessGroup,
    pub address: SocketAddr,
}

impl BridgeProcess {
    /// The connector with the shipped configuration.
    pub fn connector(binary: &str, url: &str) -> Self {
        Self::start(&[binary, "--config", "benches/config.yml"], url)
    }

    /// The connector with HTTPS and this certificate.
    pub fn https_connector(binary: &str, url: &str, certificate: &(PathBuf, PathBuf)) -> Self {
        let cert = format!("PROMETHEUS_TLS_CERT_FILE={}", certificate.0.display());
        let key = format!("PROMETHEUS_TLS_KEY_FILE={}", certificate.1.display());
        Self::start(
            &["env", &cert, &key, binary, "--config", "benches/config.yml"],
            url,
        )
    }

    /// The bridge in Python, in the venv of `scripts/bench-peers`.
    pub fn python(peers: &Path, url: &str) -> Self {
        let python = peers.join("python/bin/python");
        Self::start(
            &[python.to_str().unwrap(), "benches/peers/python/bridge.py"],
            url,
        )
    }

    /// The bridge in Node.js, as installed by `scripts/bench-peers`.
    pub fn node(peers: &Path, url: &str) -> Self {
        Self::start(
            &["node", peers.join("node/bridge.mjs").to_str().unwrap()],
            url,
        )
    }

    /// The bridge in Go, as built by `scripts/bench-peers`.
    pub fn go(peers: &Path, url: &str) -> Self {
        Self::start(&[peers.join("go/bridge").to_str().unwrap()], url)
    }

    /// Starts the process and waits until it listens.
    fn start(command: &[&str], url: &str) -> Self {
        let bridge = Self::spawn(command, url);
        wait_until(&format!("{command:?} listens"), || {
            TcpStream::connect(bridge.address).is_ok()
        });
        bridge
    }

    fn spawn(command: &[&str], url: &str) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let settings = [
            format!("CPS_AMQP_URL={url}"),
            format!("PROMETHEUS_LISTEN={address}"),
            format!("PROMETHEUS_BEARER_TOKEN={TOKEN}"),
        ];
        let mut env_command = vec!["env"];
        env_command.extend(
            UNIT.lines()
                .filter_map(|line| line.strip_prefix("Environment=")),
        );
        env_command.extend(settings.iter().map(String::as_str));
        env_command.extend(command);
        let log = temp_path("bench-log");
        let log = log.to_str().unwrap();
        Self {
            process: ProcessGroup::start(&env_command, log, &format!("rm -f {log}")),
            address,
        }
    }

    /// The time from the connector's start to its first accepted connection, measured by a client.
    pub fn time_to_listen(binary: &str, url: &str) -> Duration {
        let start = Instant::now();
        let bridge = Self::spawn(&[binary, "--config", "benches/config.yml"], url);
        while TcpStream::connect(bridge.address).is_err() {
            assert!(
                start.elapsed() < Duration::from_secs(10),
                "the connector does not listen"
            );
            std::thread::sleep(Duration::from_micros(100));
        }
        start.elapsed()
    }

    pub fn cpu_time(&self) -> Duration {
        process_cpu_time(&self.process.pid.to_string())
    }

    /// The CPU time used after `before`, an earlier [`BridgeProcess::cpu_time`].
    pub fn cpu_time_since(&self, before: Duration) -> Duration {
        self.cpu_time().saturating_sub(before)
    }

    /// A line of `/proc/PID/status` (`VmRSS:`, `VmHWM:`), in bytes.
    pub fn memory(&self, name: &str) -> usize {
        status_bytes(self.process.pid, name)
    }

    pub fn threads(&self) -> usize {
        threads(self.process.pid)
    }
}
