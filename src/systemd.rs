//! Tells systemd how the service is (`sd_notify(3)`): ready, its status, reloading, stopping; and, where a watchdog is set, that it
//! still answers. Started by anything else (no `NOTIFY_SOCKET`), nothing here does anything.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use log::warn;
use sd_notify::NotifyState;

use crate::logging::one_line;

/// How often the status is looked at; it is told when it has changed.
const TICK: Duration = Duration::from_secs(1);

/// Probes in a watchdog's time: one that fails is not the end.
const PROBES: u32 = 4;

/// Longer than any request may be worked on: 30 s for its body, 60 s (the highest `http.answer_timeout`) for its answer.
const LONGEST_WORK: Duration = Duration::from_mins(2);

/// The service, as it is seen from here.
pub struct Service<Status, Accepted, Full> {
    /// Where it listens.
    pub address: SocketAddr,
    /// How it is, in a line.
    pub status: Status,
    /// How many connections it has accepted so far.
    pub accepted: Accepted,
    /// Whether every connection that it may have is being worked on, none for longer than this.
    pub is_saturated: Full,
}

/// Says that the service is ready, and goes on telling how it is until the handle is dropped.
pub fn ready<S, A, F>(service: Service<S, A, F>) -> io::Result<Notifier>
where
    S: Fn() -> String + Send + 'static,
    A: Fn() -> u64 + Send + 'static,
    F: Fn(Duration) -> bool + Send + 'static,
{
    let (stop, stopped) = bounded(0);
    if std::env::var_os("NOTIFY_SOCKET").is_some() {
        tell(&[NotifyState::Ready, NotifyState::Status(&service.status())]);
        thread::Builder::new()
            .name("systemd".to_owned())
            .spawn(move || service.attend(&stopped))?;
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
        tell(&[
            NotifyState::Stopping,
            NotifyState::Status("stopping: what is under way is finished first"),
        ]);
    }
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        warn!("can't tell systemd: {error}");
    }
}

impl<S: Fn() -> String, A: Fn() -> u64, F: Fn(Duration) -> bool> Service<S, A, F> {
    /// On one line: a broker may have a say in it, and a line of its own would be an order to systemd.
    fn status(&self) -> String {
        one_line(&(self.status)())
    }

    fn attend(self, stopped: &Receiver<()>) {
        let pause = sd_notify::watchdog_enabled().map(|limit| limit / PROBES);
        let mut next_probe = Instant::now();
        let mut told = String::new();
        let mut accepted = (self.accepted)();
        loop {
            let status = self.status();
            if status != told {
                tell(&[NotifyState::Status(&status)]);
                told = status;
            }
            if let Some(pause) = pause.filter(|_| Instant::now() >= next_probe) {
                next_probe = Instant::now() + pause;
                match self.probe(pause, &mut accepted) {
                    Ok(()) => tell(&[NotifyState::Watchdog]),
                    Err(error) => warn!("no answer to a request of the watchdog's own: {error}"),
                }
            }
            let sleep = pause.map_or(TICK, |_| {
                TICK.min(next_probe.saturating_duration_since(Instant::now()))
            });
            if stopped.recv_timeout(sleep) == Err(RecvTimeoutError::Disconnected) {
                return;
            }
        }
    }

    /// Whether the service still does its work. A flood of connections, or senders that wait for the broker, may keep a probe from
    /// its answer, and must not have the service killed for it: it is alive if it accepts others than this, or is full of work.
    /// `accepted` is how many there were when it last was.
    fn probe(&self, limit: Duration, accepted: &mut u64) -> io::Result<()> {
        let answered = self.ask(limit / 2);
        // The probe's own connection is one of them, at some time.
        *accepted += 1;
        let now = (self.accepted)();
        match answered {
            Err(error) if now <= *accepted && !(self.is_saturated)(LONGEST_WORK) => Err(error),
            _ => {
                *accepted = now;
                Ok(())
            }
        }
    }

    fn ask(&self, limit: Duration) -> io::Result<()> {
        let mut socket = TcpStream::connect_timeout(&self.address, limit)?;
        socket.set_read_timeout(Some(limit))?;
        socket.set_write_timeout(Some(limit))?;
        let asked = socket
            .write_all(b"GET /-/healthy HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        match asked.and_then(|()| socket.read(&mut [0; 64])) {
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                ) =>
            {
                Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("silent for {limit:?}"),
                ))
            }
            // Answered; or closed for the sake of another.
            Ok(_) | Err(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    const LIMIT: Duration = Duration::from_millis(200);

    /// A probe of a service that had accepted ten connections when it was last alive, and so many now.
    fn probe(address: SocketAddr, now: u64, full: bool) -> io::Result<()> {
        let service = Service {
            address,
            status: String::new,
            accepted: || now,
            is_saturated: |_| full,
        };
        service.probe(LIMIT, &mut 10)
    }

    #[test]
    fn a_service_that_answers_or_closes_is_alive_and_a_silent_one_is_not() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(
            probe(address, 11, false).unwrap_err().kind(),
            io::ErrorKind::TimedOut
        );
        assert!(probe(address, 12, false).is_ok(), "it accepts others");
        assert!(probe(address, 10, true).is_ok(), "it is full of work");
        let closing = thread::spawn(move || {
            // The connections of the silent cases came first.
            (0..4).for_each(|_| drop(listener.accept().unwrap()));
        });
        assert!(probe(address, 10, false).is_ok());
        closing.join().unwrap();
        assert!(probe(address, 10, false).is_err(), "nobody listens");
    }

    #[test]
    fn nobody_gives_orders_to_systemd_by_the_status() {
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
