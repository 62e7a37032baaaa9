//! The part of systemd that a service talks to.

use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::connector::{BINARY, Connector};
use super::{TIMEOUT, temp_path};

/// The connector is killed if it does not report within this time.
const WATCHDOG: Duration = Duration::from_secs(4);

/// Receives what a service sends to systemd.
pub struct Systemd {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Systemd {
    pub fn new() -> Self {
        let path = temp_path("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        Self { socket, path }
    }

    /// Starts a connector as systemd would, by a command that then becomes the binary.
    pub fn start_under(&self, wrapper: &[&str], config: &str) -> Connector {
        let notify = format!("NOTIFY_SOCKET={}", self.path.display());
        let watchdog = format!("WATCHDOG_USEC={}", WATCHDOG.as_micros());
        let environment = ["env", &notify, &watchdog];
        let command = [wrapper, &environment].concat();
        Connector::with_wrapper(&command, BINARY, config, &[])
    }

    pub fn next(&self) -> String {
        let mut message = [0; 4096];
        self.socket.set_read_timeout(Some(TIMEOUT)).unwrap();
        let length = self
            .socket
            .recv(&mut message)
            .expect("a notification for systemd");
        String::from_utf8(message[..length].to_vec()).unwrap()
    }

    /// Whether a message with this text comes within the time of the watchdog.
    pub fn is_notified_of(&self, text: &str) -> bool {
        let deadline = Instant::now() + WATCHDOG;
        let mut message = [0; 4096];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            self.socket.set_read_timeout(Some(left)).unwrap();
            if let Ok(length) = self.socket.recv(&mut message)
                && String::from_utf8_lossy(&message[..length]).contains(text)
            {
                return true;
            }
        }
    }

    /// Skips messages until one contains all of the texts. Those for the watchdog never end.
    pub fn wait_for(&self, texts: &[&str]) -> String {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let message = self.next();
            if texts.iter().all(|text| message.contains(text)) {
                return message;
            }
            assert!(Instant::now() < deadline, "no message with {texts:?}");
        }
    }
}

impl Drop for Systemd {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}
