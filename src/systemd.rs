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
pub struct Notifier {
    /// The loops that have to be alive, with their names.
    heartbeats: Heartbeats,
    last_status: String,
    /// `None` without a watchdog.
    feed_interval: Option<Duration>,
    next_feed: Instant,
    log_limiter: LogLimiter,
}

impl Notifier {
    /// Notifies systemd that the service is ready.
    pub fn start(status: &str, heartbeats: Heartbeats) -> Self {
        let last_status = visible(status).into_owned();
        notify(&[NotifyState::Ready, NotifyState::Status(&last_status)]);
        Self {
            heartbeats,
            last_status,
            feed_interval: sd_notify::watchdog_enabled().map(|timeout| timeout / FEEDS),
            next_feed: Instant::now(),
            log_limiter: LogLimiter::default(),
        }
    }

    /// How long the main thread may sleep before it calls [`Notifier::tick`]; `None` for ever, where systemd is not there.
    pub fn interval(&self) -> Option<Duration> {
        std::env::var_os("NOTIFY_SOCKET")?;
        let intervals = self.feed_interval.into_iter();
        intervals.chain([STATUS_INTERVAL]).min()
    }

    /// Sends what is due. The status stays on one line: it may quote the broker, and a second line would be an instruction to
    /// systemd.
    pub fn tick(&mut self, status: &str) {
        let (now, status) = (Instant::now(), visible(status));
        if status != self.last_status {
            notify(&[NotifyState::Status(&status)]);
            self.last_status = status.into_owned();
        }
        let Some(interval) = self.feed_interval.filter(|_| now >= self.next_feed) else {
            return;
        };
        self.next_feed = now + interval;
        match self.heartbeats.silent(now) {
            None => notify(&[NotifyState::Watchdog]),
            Some(name) => {
                if let Some(suppressed) = self.log_limiter.allow(name, LogRate::REPEATED) {
                    error!(suppressed; "watchdog self-check failed: the {name} loop does not respond");
                }
            }
        }
    }
}

/// The configuration is being loaded; to be followed by [`reloaded`].
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(error) => warn!("sd_notify failed: {error}"),
    }
}

/// The reload has ended, with success or without.
pub fn reloaded() {
    notify(&[NotifyState::Ready]);
}

/// The service is shutting down.
pub fn stopping() {
    notify(&[
        NotifyState::Stopping,
        NotifyState::Status("shutting down: finishing in-flight requests"),
    ]);
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
        let status = "blocked: go away\nWATCHDOG=trigger";
        let mut notifier = Notifier::start(status, Heartbeats::default());
        let shown = "blocked: go away\\nWATCHDOG=trigger";
        assert_eq!(notifier.last_status, shown);
        notifier.tick("");
        notifier.tick(status);
        assert_eq!(notifier.last_status, shown);
    }
}
