//! The publisher's thread: connects the ledger to a broker connection, and reconnects.
//!
//! It decides when to connect and when a connection is given up. What is published, and every verdict, is the ledger's
//! decision.

use std::iter;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use amiquip::{Confirm, ConnectionBlockedNotification, Return};
use crossbeam_channel::{Receiver, never, select};
use log::{debug, error, info, warn};
use parking_lot::Mutex;

use super::backoff::Backoff;
use super::batch::Identity;
use super::connection::{BrokerConnection, Confirmations};
use super::dialer::{Dialer, Reply};
use super::error::{ACCESS_REFUSED, CloseReason};
use super::ledger::{Ledger, SCAN_INTERVAL, STALL_LIMIT};
use super::status::{BrokerStatus, Refusals};
use super::watchdog::CallWatchdog;
use super::{BrokerSettings, PublisherCommand};
use crate::liveness::Heartbeat;
use crate::logging::{LogLimiter, LogRate};
use crate::metrics::BrokerMetrics;

/// While messages are in flight, a new notification waits this long for others, which are then published in the same burst:
/// a tenth more throughput with 64 senders. A single sender does not wait: nothing is in flight when its next one comes.
const GATHER_TIME: Duration = Duration::from_micros(100);

/// Confirms handled before new messages are published.
const MAX_CONFIRMS: usize = 1000;

/// A connection that was open this long starts the back-off anew.
const STABLE_AFTER: Duration = Duration::from_mins(1);

/// The time for outstanding confirms before a connection with outdated settings is closed.
const DRAIN_LIMIT: Duration = Duration::from_secs(3);

/// The connection's state.
enum Link {
    Down {
        retry_at: Instant,
    },
    Opening,
    Up(Box<BrokerConnection>, Session),
    /// With the reason; `None` where only amiquip knows it.
    Closing(Option<CloseReason>, Session),
}

/// What is known of an open connection.
struct Session {
    /// Where it leads to.
    name: String,
    opened_at: Instant,
}

/// The thread's state.
pub struct PublisherThread {
    settings: BrokerSettings,
    commands: Receiver<PublisherCommand>,
    heard: Receiver<Identity>,
    is_stopping: bool,
    dialer: Dialer,
    watchdog: Arc<CallWatchdog>,
    link: Link,
    /// When the settings have changed, if the connection was requested before. Nothing is published on it, and it is closed.
    outdated_since: Option<Instant>,
    /// The URL to try next.
    url_index: usize,
    backoff: Backoff,
    /// Since when there has been no connection, unless a change of the settings is the reason.
    outage_since: Option<Instant>,
    log_limiter: LogLimiter,
    refusals: Refusals,
    ledger: Ledger,
    next_scan: Instant,
    /// Channels opened so far.
    channels: u64,
    /// Makes message ids unique across runs of the connector.
    instance: String,
    status: Arc<Mutex<BrokerStatus>>,
    metrics: BrokerMetrics,
    heartbeat: Heartbeat,
}

impl PublisherThread {
    pub(super) fn new(
        settings: BrokerSettings,
        commands: Receiver<PublisherCommand>,
        heard: Receiver<Identity>,
        status: Arc<Mutex<BrokerStatus>>,
        metrics: BrokerMetrics,
        heartbeat: Heartbeat,
    ) -> std::io::Result<Self> {
        let started = SystemTime::UNIX_EPOCH
            .elapsed()
            .map_or(0, |elapsed| elapsed.as_nanos());
        let watchdog = Arc::new(CallWatchdog::default());
        Ok(Self {
            settings,
            commands,
            heard,
            is_stopping: false,
            dialer: Dialer::start(Arc::clone(&watchdog))?,
            watchdog,
            link: Link::Down {
                retry_at: Instant::now(),
            },
            outdated_since: None,
            url_index: 0,
            backoff: Backoff::default(),
            outage_since: None,
            log_limiter: LogLimiter::default(),
            refusals: Refusals::default(),
            ledger: Ledger::default(),
            next_scan: Instant::now(),
            channels: 0,
            instance: format!("{started:x}-{:x}", std::process::id()),
            status,
            metrics,
            heartbeat,
        })
    }

    /// Runs until it is stopped. A panic costs the connection and the callers' verdicts, not the thread.
    pub(super) fn run(mut self) {
        while !self.is_done() {
            if catch_unwind(AssertUnwindSafe(|| self.step())).is_err() {
                error!("internal error: publisher thread panicked; reconnecting (please report)");
                self.ledger = Ledger::default();
                self.end_session(None);
            }
        }
        debug!("publisher stopped");
    }

    fn is_done(&self) -> bool {
        let is_open = matches!(self.link, Link::Up(..) | Link::Closing(..));
        self.is_stopping && !self.ledger.has_callers() && !is_open
    }

    /// Does what is due, and waits for the next event.
    fn step(&mut self) {
        self.heartbeat.beat();
        self.watchdog.check();
        while let Ok(command) = self.commands.try_recv() {
            self.execute(Some(command));
        }
        let now = Instant::now();
        if self.next_scan <= now {
            self.scan(now);
        }
        self.drive_link(now);
        let sleep = self.time_until_due(Instant::now());
        let (Confirmations { confirms, returns }, blocked) = match &self.link {
            Link::Up(connection, _) => (
                connection.confirmations().clone(),
                connection.blocked.clone(),
            ),
            _ => (Confirmations::none(), never()),
        };
        select! {
            recv(confirms) -> confirm => match confirm {
                Ok(first) => {
                    let others = confirms.try_iter().take(MAX_CONFIRMS);
                    if !self.handle_confirms(iter::once(first).chain(others), &returns) {
                        self.end_session(Some(CloseReason::UnknownReturn));
                    }
                }
                Err(_) => self.end_session(None),
            },
            recv(blocked) -> notice => match notice {
                Ok(notice) => self.blocked(&notice),
                Err(_) => self.end_session(None),
            },
            recv(self.commands) -> command => {
                self.execute(command.ok());
                if self.ledger.in_flight() > 0 {
                    thread::sleep(GATHER_TIME);
                }
            }
            recv(self.dialer.replies) -> reply => match reply {
                Ok(Reply::Opened(connection, name)) => self.opened(connection, &name),
                Ok(Reply::NotOpened(reasons)) => self.not_opened(reasons),
                Ok(Reply::Closed { reason, received, reopened }) => {
                    self.closed(reason, &received, reopened);
                }
                // Only a panic in the dialer itself.
                Err(_) => thread::sleep(SCAN_INTERVAL),
            },
            default(sleep) => {}
        }
    }

    fn execute(&mut self, command: Option<PublisherCommand>) {
        let now = Instant::now();
        match command {
            Some(PublisherCommand::Submit(submission)) => {
                // It may be the repetition of a notification whose sender has got the response.
                self.take_heard();
                let settled = self.ledger.submit(submission, now);
                self.metrics.settled_before_retry(settled);
            }
            Some(PublisherCommand::Reconfigure(settings)) if settings == self.settings => {}
            Some(PublisherCommand::Reconfigure(settings)) => {
                (self.settings, self.url_index) = (settings, 0);
                self.outdated_since = Some(now);
                if let Link::Down { retry_at } = &mut self.link {
                    *retry_at = now;
                }
            }
            // Or every handle is dropped.
            Some(PublisherCommand::Stop) | None => {
                self.is_stopping = true;
                if command.is_none() {
                    self.commands = never();
                }
            }
        }
    }

    fn take_heard(&mut self) {
        for identity in self.heard.try_iter() {
            self.ledger.heard(identity);
        }
    }

    /// What is due each second.
    fn scan(&mut self, now: Instant) {
        self.next_scan = now + SCAN_INTERVAL;
        self.take_heard();
        self.ledger.scan(now);
        self.metrics.set_ledger(self.ledger.stats());
        self.show_refusal(now);
    }

    /// Opens a connection, publishes on it, or ends it.
    fn drive_link(&mut self, now: Instant) {
        let is_drained = |since| since + DRAIN_LIMIT <= now || self.ledger.in_flight() == 0;
        let end = match &self.link {
            Link::Down { retry_at } if *retry_at <= now => {
                let urls = &self.settings.urls;
                let url = urls[self.url_index % urls.len()].clone();
                debug!(broker:% = url; "connecting");
                self.dialer.open(url, self.settings.clone());
                (self.link, self.outdated_since) = (Link::Opening, None);
                None
            }
            Link::Up(..) if self.is_stopping && !self.ledger.has_callers() => {
                Some(Some(CloseReason::Stopped))
            }
            Link::Up(..) if self.outdated_since.is_some_and(is_drained) => {
                Some(Some(CloseReason::Reconfigured))
            }
            Link::Up(..) if self.ledger.stalls_at().is_some_and(|time| time <= now) => {
                let reason = format!("no confirm for {STALL_LIMIT:?}");
                Some(Some(CloseReason::Connection(reason)))
            }
            Link::Up(..) if self.outdated_since.is_none() => self.fill_window().err(),
            _ => None,
        };
        if let Some(reason) = end {
            self.end_session(reason);
        }
    }

    /// At most until the next scan: what has a limit of some seconds may take a second longer.
    fn time_until_due(&self, now: Instant) -> Duration {
        let due = match &self.link {
            Link::Down { retry_at } => self.next_scan.min(*retry_at),
            _ => self.next_scan,
        };
        due.saturating_duration_since(now)
    }

    /// Publishes what the ledger has for now. An error is why that failed, if amiquip has reported it.
    fn fill_window(&mut self) -> Result<(), Option<CloseReason>> {
        let Link::Up(connection, _) = &self.link else {
            return Ok(());
        };
        let _one_write = connection.hold_writes();
        while let Some(publication) = self.ledger.publish_next(Instant::now()) {
            let (tag, message) = (publication.tag, publication.message);
            let id = format!("{}-{}-{tag}", self.instance, self.channels);
            connection.publish(&self.settings.exchange, message, id)?;
        }
        Ok(())
    }

    /// Records confirms. False if the broker returned a message that is not from this channel: then no ack can be trusted.
    fn handle_confirms(
        &mut self,
        confirms: impl Iterator<Item = Confirm>,
        returns: &Receiver<Return>,
    ) -> bool {
        for confirm in confirms {
            // A returned message comes before its ack, through another receiver: it is there by now.
            if !returns.try_iter().all(|returned| self.returned(&returned)) {
                return false;
            }
            let (payload, is_ack) = match confirm {
                Confirm::Ack(payload) => (payload, true),
                Confirm::Nack(payload) => (payload, false),
            };
            let (tag, multiple) = (payload.delivery_tag, payload.multiple);
            for duration in self.ledger.confirmed(tag, multiple, is_ack, Instant::now()) {
                self.metrics.confirmed(duration);
            }
            if is_ack {
                self.backoff.reset();
                let now = Instant::now();
                self.refusals.confirmed(now);
                self.show_refusal(now);
            }
        }
        true
    }

    fn returned(&mut self, returned: &Return) -> bool {
        let session = format!("{}-{}-", self.instance, self.channels);
        let id = returned.properties.message_id().as_deref();
        let tag = id.and_then(|id| id.strip_prefix(&session)?.parse().ok());
        let reason = format!("{} {}", returned.reply_code, returned.reply_text);
        tag.is_some_and(|tag| self.ledger.returned(tag, reason))
    }

    fn blocked(&mut self, notice: &ConnectionBlockedNotification) {
        let now = Instant::now();
        match notice {
            ConnectionBlockedNotification::Blocked(reason) => {
                self.ledger.set_blocked(true, now);
                self.set_status(BrokerStatus::Blocked(reason.clone()));
                error!(in_flight = self.ledger.in_flight(); "RabbitMQ has blocked publishing: {reason}");
            }
            ConnectionBlockedNotification::Unblocked => {
                self.ledger.set_blocked(false, now);
                self.set_status(BrokerStatus::Connected);
                info!(waiting = self.ledger.stats().to_settle; "RabbitMQ unblocked; publishing resumed");
            }
        }
    }

    fn opened(&mut self, connection: Box<BrokerConnection>, name: &str) {
        self.metrics.attempted(true);
        let now = Instant::now();
        let session = Session {
            name: name.to_owned(),
            opened_at: now,
        };
        // Before anything that might panic: a link that stays `Opening` would wait forever for the dialer.
        self.start_channel(connection, session, now);
        // Otherwise the settings have changed meanwhile, and the connection is closed again.
        if self.outdated_since.is_none() {
            self.set_status(BrokerStatus::Connected);
            match self.outage_since.take() {
                Some(since) => {
                    let seconds = since.elapsed().as_secs_f64();
                    info!(broker:% = name, outage_seconds:% = format!("{seconds:.1}"), waiting = self.ledger.stats().to_settle; "reconnected to RabbitMQ");
                }
                None => {
                    info!(broker:% = name, exchange:% = self.settings.exchange; "connected to RabbitMQ");
                }
            }
        }
    }

    fn start_channel(&mut self, connection: Box<BrokerConnection>, session: Session, now: Instant) {
        self.channels += 1;
        self.ledger.opened(now);
        self.link = Link::Up(connection, session);
    }

    fn not_opened(&mut self, reasons: Vec<String>) {
        self.outage_since.get_or_insert_with(Instant::now);
        for reason in reasons {
            self.metrics.attempted(false);
            self.disconnected(&reason);
            match self.log_limiter.allow(&reason, LogRate::REPEATED) {
                Some(suppressed) => {
                    warn!(suppressed; "cannot connect to RabbitMQ: {reason}; retrying");
                }
                None => debug!("cannot connect to RabbitMQ: {reason}"),
            }
        }
        let is_outdated = self.outdated_since.is_some();
        self.url_index += usize::from(!is_outdated);
        // A pause only after every URL has been tried.
        let is_round_complete = self.url_index.is_multiple_of(self.settings.urls.len());
        let pause = if is_round_complete && !is_outdated {
            self.next_pause()
        } else {
            Duration::ZERO
        };
        self.link = Link::Down {
            retry_at: Instant::now() + pause,
        };
    }

    fn disconnected(&self, reason: &str) {
        self.set_status(BrokerStatus::Disconnected(reason.to_owned()));
    }

    fn set_status(&self, status: BrokerStatus) {
        let (is_connected, is_blocked) = (status.is_connected(), status.is_blocked());
        self.metrics.set_connection(is_connected, is_blocked);
        *self.status.lock() = status;
    }

    /// The channel is no longer used. What it has received still counts. Where the broker has closed it over a message, another
    /// one is opened on the same connection: nothing else is wrong with that.
    fn end_session(&mut self, reason: Option<CloseReason>) {
        let retry_at = Instant::now();
        match std::mem::replace(&mut self.link, Link::Down { retry_at }) {
            Link::Up(connection, session) => {
                let is_over_message = matches!(reason, None | Some(CloseReason::Channel { .. }));
                if is_over_message && self.ledger.in_flight() > 0 {
                    let exchange = self.settings.exchange.clone();
                    self.dialer.reopen(connection, exchange, reason.clone());
                } else {
                    self.disconnected("closing the connection");
                    self.dialer.close(connection);
                }
                self.link = Link::Closing(reason, session);
            }
            other => self.link = other,
        }
    }

    fn closed(
        &mut self,
        found: CloseReason,
        received: &Confirmations,
        reopened: Option<Box<BrokerConnection>>,
    ) {
        let now = Instant::now();
        let down = Link::Down { retry_at: now };
        let Link::Closing(known, session) = std::mem::replace(&mut self.link, down) else {
            return;
        };
        if known != Some(CloseReason::UnknownReturn) {
            self.handle_confirms(received.confirms.try_iter(), &received.returns);
        }
        let reason = match (known, found) {
            (Some(known), CloseReason::Connection(_)) => known,
            (_, found) => found,
        };
        let in_flight = self.ledger.channel_ended(&reason, now);
        let name = session.name.clone();
        if let Some(connection) = reopened {
            self.start_channel(connection, session, now);
            return self.channel_closed(&name, &reason, in_flight, now);
        }
        match reason {
            CloseReason::Stopped => {
                self.disconnected("the connector is shutting down");
                return info!(broker:% = name; "connection closed");
            }
            CloseReason::Reconfigured => {
                self.disconnected("connecting with new settings");
                return info!(broker:% = name, in_flight; "connection closed: {reason}");
            }
            _ => {}
        }
        error!(broker:% = name, in_flight; "lost connection to RabbitMQ: {reason}");
        self.disconnected(&format!("{name}: {reason}"));
        self.outage_since.get_or_insert(now);
        if self.outdated_since.is_some() {
            // The new settings are tried at once, from their first URL on.
            return;
        }
        if now.saturating_duration_since(session.opened_at) >= STABLE_AFTER {
            self.backoff.reset();
        }
        self.url_index += 1;
        self.link = Link::Down {
            retry_at: now + self.next_pause(),
        };
    }

    fn next_pause(&mut self) -> Duration {
        let pause = self.backoff.next();
        debug!(milliseconds = pause.as_millis(); "pause before the next connection");
        pause
    }

    /// The broker has closed a channel over a message, whose notification has its verdict or will have it soon.
    fn channel_closed(&mut self, name: &str, reason: &CloseReason, in_flight: usize, now: Instant) {
        if !matches!(
            reason,
            CloseReason::Channel {
                code: ACCESS_REFUSED,
                ..
            }
        ) {
            return warn!(broker:% = name, in_flight; "RabbitMQ closed the channel, opened another one: {reason}");
        }
        // The response to the notification is logged.
        debug!(broker:% = name, in_flight; "RabbitMQ closed the channel, opened another one: {reason}");
        self.refusals.refused(now);
        if self.refusals.is_refused(now) {
            self.set_status(BrokerStatus::Refused(reason.to_string()));
        }
    }

    /// Ends the status that events are refused.
    fn show_refusal(&mut self, now: Instant) {
        if !self.refusals.is_refused(now) && self.status.lock().is_refused() {
            self.set_status(BrokerStatus::Connected);
        }
    }
}
