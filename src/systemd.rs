//! Notifies systemd (`sd_notify(3)`): ready, status, reloading, stopping, and the watchdog. Does nothing where `NOTIFY_SOCKET` is
//! not set.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use log::warn;
use sd_notify::NotifyState;

use crate::logging::one_line;

/// How often the status is compared; it is sent when it has changed.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);

/// Checks per watchdog timeout, so that a single failed one is harmless.
const CHECKS: u32 = 4;

/// Longer than any request may take: 30 s for its body, and 60 s (the highest `http.answer_timeout`) for its response.
const MAX_REQUEST_TIME: Duration = Duration::from_mins(2);

/// What is known of the service.
pub struct Service<Status, Accepted, Saturated> {
    /// The address under which it is reached from here.
    pub address: SocketAddr,
    /// Its status in a line.
    pub status: Status,
    /// How many connections it has accepted so far.
    pub accepted: Accepted,
    /// Whether every connection slot is working, none for longer than a given time.
    pub is_saturated: Saturated,
}

/// Notifies systemd that the service is ready, and keeps it informed until the handle is dropped.
pub fn start<S, A, F>(service: Service<S, A, F>) -> io::Result<Notifier>
where
    S: Fn() -> String + Send + 'static,
    A: Fn() -> u64 + Send + 'static,
    F: Fn(Duration) -> bool + Send + 'static,
{
    let (stop, stopped) = bounded(0);
    if std::env::var_os("NOTIFY_SOCKET").is_some() {
        notify(&[NotifyState::Ready, NotifyState::Status(&service.status())]);
        thread::Builder::new()
            .name("systemd".to_owned())
            .spawn(move || service.run(&stopped))?;
    }
    Ok(Notifier { _stop: stop })
}

/// Keeps systemd informed while it exists.
pub struct Notifier {
    _stop: Sender<()>,
}

impl Notifier {
    /// The configuration is being loaded; to be followed by [`Notifier::reloaded`].
    pub fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => notify(&[NotifyState::Reloading, now]),
            Err(error) => warn!("sd_notify failed: {error}"),
        }
    }

    /// The reload has ended, with success or without.
    pub fn reloaded(&self) {
        notify(&[NotifyState::Ready]);
    }

    /// The service is shutting down.
    pub fn stopping(self) {
        notify(&[
            NotifyState::Stopping,
            NotifyState::Status("shutting down: finishing in-flight requests"),
        ]);
    }
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        warn!("sd_notify failed: {error}");
    }
}

impl<S: Fn() -> String, A: Fn() -> u64, F: Fn(Duration) -> bool> Service<S, A, F> {
    /// On one line: it may quote the broker, and a second line would be an instruction to systemd.
    fn status(&self) -> String {
        one_line(&(self.status)())
    }

    fn run(self, stopped: &Receiver<()>) {
        let pause = sd_notify::watchdog_enabled().map(|timeout| timeout / CHECKS);
        let mut next_check = Instant::now();
        let mut sent = String::new();
        let mut accepted = (self.accepted)();
        loop {
            let status = self.status();
            if status != sent {
                notify(&[NotifyState::Status(&status)]);
                sent = status;
            }
            if let Some(pause) = pause.filter(|_| Instant::now() >= next_check) {
                next_check = Instant::now() + pause;
                match self.check(pause, &mut accepted) {
                    Ok(()) => notify(&[NotifyState::Watchdog]),
                    Err(error) => warn!("watchdog self-check failed: {error}"),
                }
            }
            let sleep = pause.map_or(STATUS_INTERVAL, |_| {
                STATUS_INTERVAL.min(next_check.saturating_duration_since(Instant::now()))
            });
            if stopped.recv_timeout(sleep) == Err(RecvTimeoutError::Disconnected) {
                return;
            }
        }
    }

    /// Whether the service works: it responds to a request, or has accepted other connections since the last check (`accepted`
    /// counts them), or is saturated. A flood of connections must not get it killed.
    fn check(&self, limit: Duration, accepted: &mut u64) -> io::Result<()> {
        let responded = self.request(limit / 2);
        // The connection of this check is one of them.
        *accepted += 1;
        let now = (self.accepted)();
        match responded {
            Err(error) if now <= *accepted && !(self.is_saturated)(MAX_REQUEST_TIME) => Err(error),
            _ => {
                *accepted = now;
                Ok(())
            }
        }
    }

    fn request(&self, limit: Duration) -> io::Result<()> {
        let mut socket = TcpStream::connect_timeout(&self.address, limit)?;
        socket.set_read_timeout(Some(limit))?;
        socket.set_write_timeout(Some(limit))?;
        let sent = socket
            .write_all(b"GET /-/healthy HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        match sent.and_then(|()| socket.read(&mut [0; 64])) {
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                ) =>
            {
                Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("no response within {limit:?}"),
                ))
            }
            // A response, or an eviction.
            Ok(_) | Err(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    const LIMIT: Duration = Duration::from_millis(200);

    /// Checks a service that had accepted ten connections at the last check, and `now` connections now.
    fn check(address: SocketAddr, now: u64, saturated: bool) -> io::Result<()> {
        let service = Service {
            address,
            status: String::new,
            accepted: || now,
            is_saturated: |_| saturated,
        };
        service.check(LIMIT, &mut 10)
    }

    #[test]
    fn a_service_that_responds_or_closes_is_alive_and_a_silent_one_is_not() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(
            check(address, 11, false).unwrap_err().kind(),
            io::ErrorKind::TimedOut
        );
        assert!(check(address, 12, false).is_ok(), "it accepts others");
        assert!(check(address, 10, true).is_ok(), "it is saturated");
        let closing = thread::spawn(move || {
            // The connections of the cases without a response came first.
            (0..4).for_each(|_| drop(listener.accept().unwrap()));
        });
        assert!(check(address, 10, false).is_ok());
        closing.join().unwrap();
        assert!(check(address, 10, false).is_err(), "connection refused");
    }

    #[test]
    fn the_status_stays_on_one_line() {
        let status = || "blocked: go away\nWATCHDOG=trigger".to_owned();
        let service = Service {
            address: ([127, 0, 0, 1], 1).into(),
            status,
            accepted: || 0,
            is_saturated: |_| false,
        };
        assert_eq!(service.status(), "blocked: go away\\nWATCHDOG=trigger");
    }
}
