//! Tells systemd how the service is (`sd_notify(3)`): ready, its status, reloading, stopping; and, where a watchdog is set, that it
//! still answers. Started by anything else (no `NOTIFY_SOCKET`), nothing here does anything.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use log::warn;
use sd_notify::NotifyState;

/// How often the status is looked at; it is told when it has changed.
const TICK: Duration = Duration::from_secs(1);

/// Probes in a watchdog's time: one that fails is not the end.
const PROBES: u32 = 4;

/// The service, as it is seen from here.
pub struct Service<Status, Accepted> {
    /// Where it listens.
    pub address: SocketAddr,
    /// How it is, in a line.
    pub status: Status,
    /// How many connections it has accepted so far.
    pub accepted: Accepted,
}

/// Says that the service is ready, and goes on telling how it is until the handle is dropped.
pub fn ready<S, A>(service: Service<S, A>) -> io::Result<Notifier>
where
    S: Fn() -> String + Send + 'static,
    A: Fn() -> u64 + Send + 'static,
{
    let (stop, stopped) = bounded(0);
    if std::env::var_os("NOTIFY_SOCKET").is_some() {
        tell(&[NotifyState::Ready, NotifyState::Status(&(service.status)())]);
        thread::Builder::new().name("systemd".to_owned()).spawn(move || service.attend(&stopped))?;
    }
    Ok(Notifier { _stop: stop })
}

/// Keeps systemd informed while it exists.
pub struct Notifier {
    _stop: Sender<()>,
}

impl Notifier {
    /// The configuration is being read again; follow it by [`Notifier::reloaded`].
    pub fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => tell(&[NotifyState::Reloading, now]),
            Err(error) => warn!("can't tell systemd of the reload: {error}"),
        }
    }

    /// The configuration has been read again, with success or without.
    pub fn reloaded(&self) {
        tell(&[NotifyState::Ready]);
    }

    /// The service is about to end.
    pub fn stopping(self) {
        tell(&[NotifyState::Stopping, NotifyState::Status("stopping: what is under way is finished first")]);
    }
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        warn!("can't tell systemd: {error}");
    }
}

impl<S: Fn() -> String, A: Fn() -> u64> Service<S, A> {
    fn attend(self, stopped: &Receiver<()>) {
        let pause = sd_notify::watchdog_enabled().map(|limit| limit / PROBES);
        let mut next_probe = Instant::now();
        let mut told = String::new();
        loop {
            let status = (self.status)();
            if status != told {
                tell(&[NotifyState::Status(&status)]);
                told = status;
            }
            if let Some(pause) = pause.filter(|_| Instant::now() >= next_probe) {
                next_probe = Instant::now() + pause;
                match self.probe(pause) {
                    Ok(()) => tell(&[NotifyState::Watchdog]),
                    Err(error) => warn!("no answer to a request of the watchdog's own: {error}"),
                }
            }
            let sleep = pause.map_or(TICK, |_| TICK.min(next_probe.saturating_duration_since(Instant::now())));
            if stopped.recv_timeout(sleep) == Err(RecvTimeoutError::Disconnected) {
                return;
            }
        }
    }

    /// Whether the service still does its work. A flood of connections may keep a probe from its answer, and must not have the
    /// service killed for it: a service that accepts, or that closes connections for the sake of others, is alive.
    fn probe(&self, limit: Duration) -> io::Result<()> {
        let before = (self.accepted)();
        let mut socket = match TcpStream::connect_timeout(&self.address, limit) {
            Ok(socket) => socket,
            Err(_) if (self.accepted)() != before => return Ok(()),
            Err(error) => return Err(error),
        };
        socket.set_read_timeout(Some(limit))?;
        socket.set_write_timeout(Some(limit))?;
        let asked = socket.write_all(b"GET /-/healthy HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        match asked.and_then(|()| socket.read(&mut [0; 64])) {
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                Err(io::Error::new(io::ErrorKind::TimedOut, format!("silent for {limit:?}")))
            }
            // Answered; or closed for the sake of another.
            Ok(_) | Err(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::net::TcpListener;

    use super::*;

    const LIMIT: Duration = Duration::from_millis(200);

    fn probe(address: SocketAddr, accepted: impl Fn() -> u64) -> io::Result<()> {
        Service { address, status: String::new, accepted }.probe(LIMIT)
    }

    #[test]
    fn a_service_that_answers_or_closes_is_alive_and_a_silent_one_is_not() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(probe(address, || 0).unwrap_err().kind(), io::ErrorKind::TimedOut);
        let closing = thread::spawn(move || {
            drop(listener.accept().unwrap());
            // The connection of the silent case came first.
            drop(listener.accept().unwrap());
        });
        assert!(probe(address, || 0).is_ok());
        closing.join().unwrap();
        assert!(probe(address, || 0).is_err(), "nobody listens");
        let accepted = Cell::new(0);
        let count = || {
            accepted.set(accepted.get() + 1);
            accepted.get()
        };
        assert!(probe(address, count).is_ok(), "it accepts others");
    }
}
