//! Notifies systemd (`sd_notify(3)`): ready, status, reloading, stopping, and the watchdog. Does nothing where `NOTIFY_SOCKET` is
//! not set.
//!
//! The main thread calls it. The watchdog is fed while every loop that does the work is alive by its own heartbeat.

use std::time::{Duration, Instant};

use log::{error, warn};
use sd_notify::NotifyState;

use crate::liveness::Heartbeats;
use crate::logging::{LogLimiter, LogRate};
use crate::text::visible;

/// How often the status is compared, and sent when it has changed.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);

/// The watchdog is fed this often within its timeout, so that one delay is harmless.
const FEEDS: u32 = 4;

/// Keeps systemd informed.
pub struct Notifier<S> {
    /// The status in a line.
    status: S,
    /// The loops that have to be alive, with their names.
    heartbeats: Heartbeats,
    /// `None` where systemd is not there.
    schedule: Option<Schedule>,
    log_limiter: LogLimiter,
}

/// What is sent, and when.
struct Schedule {
    last_status: String,
    feed_interval: Option<Duration>,
    next_feed: Instant,
}

impl<S: Fn() -> String> Notifier<S> {
    /// Notifies systemd that the service is ready.
    pub fn start(status: S, heartbeats: Heartbeats) -> Self {
        let mut notifier = Self {
            status,
            heartbeats,
            schedule: None,
            log_limiter: LogLimiter::default(),
        };
        if std::env::var_os("NOTIFY_SOCKET").is_some() {
            let status = notifier.status();
            notify(&[NotifyState::Ready, NotifyState::Status(&status)]);
            notifier.schedule = Some(Schedule {
                last_status: status,
                feed_interval: sd_notify::watchdog_enabled().map(|timeout| timeout / FEEDS),
                next_feed: Instant::now(),
            });
        }
        notifier
    }

    /// How long the main thread may sleep before it calls [`Notifier::tick`]; `None` for ever.
    pub fn interval(&self) -> Option<Duration> {
        let schedule = self.schedule.as_ref()?;
        Some(
            schedule
                .feed_interval
                .map_or(STATUS_INTERVAL, |interval| interval.min(STATUS_INTERVAL)),
        )
    }

    /// Sends what is due.
    pub fn tick(&mut self) {
        let (now, status) = (Instant::now(), self.status());
        let silent = self.heartbeats.silent(now);
        let Some(schedule) = &mut self.schedule else {
            return;
        };
        if status != schedule.last_status {
            notify(&[NotifyState::Status(&status)]);
            schedule.last_status = status;
        }
        let Some(interval) = schedule.feed_interval.filter(|_| now >= schedule.next_feed) else {
            return;
        };
        schedule.next_feed = now + interval;
        match silent {
            None => notify(&[NotifyState::Watchdog]),
            Some(name) => {
                if let Some(suppressed) = self.log_limiter.allow(name, LogRate::REPEATED) {
                    error!(suppressed; "watchdog self-check failed: the {name} loop does not respond");
                }
            }
        }
    }

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

    /// On one line: it may quote the broker, and a second line would be an instruction to systemd.
    fn status(&self) -> String {
        visible(&(self.status)()).into_owned()
    }
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        warn!("sd_notify failed: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_stays_on_one_line() {
        let status = || "blocked: go away\nWATCHDOG=trigger".to_owned();
        let notifier = Notifier::start(status, Heartbeats::default());
        assert_eq!(notifier.status(), "blocked: go away\\nWATCHDOG=trigger");
    }
}
