//! The publisher's thread: connects the ledger to a broker connection, and reconnects.
//!
//! It decides when to connect and when a connection is given up. What is published, and every verdict, is the ledger's
//! decision.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use amiquip::{Confirm, ConnectionBlockedNotification, Return};
use crossbeam_channel::{Receiver, never, select};
use log::{debug, error, info, warn};

use super::backoff::Backoff;
use super::connection::{BrokerConnection, BrokerError};
use super::dialer::{Dialer, Reply};
use super::error::CloseReason;
use super::ledger::{Ledger, STALL_LIMIT};
use super::status::{ConnectionState, StatusCell};
use super::watchdog::{CHECK_INTERVAL, CallWatchdog};
use super::{BrokerSettings, Command, VerdictSender};
use crate::liveness::Heartbeat;
use crate::metrics::BrokerMetrics;

/// The longest wait when nothing happens: the heartbeat is due.
const MAX_SLEEP: Duration = Duration::from_secs(5);

/// While messages are in flight, a new notification waits this long for others, which are then published in the same burst:
/// a tenth more throughput with 64 senders. A single sender does not wait: nothing is in flight when its next one comes.
const GATHER_TIME: Duration = Duration::from_micros(100);

/// Confirms handled before new messages are published.
const MAX_CONFIRMS: usize = 1000;

/// A connection that was open this long starts the back-off anew.
const STABLE_AFTER: Duration = Duration::from_mins(1);

/// The time for outstanding confirms before a connection is closed for new settings.
const DRAIN_LIMIT: Duration = Duration::from_secs(3);

/// Different reasons of one outage that are logged once each.
const MAX_LOGGED_REASONS: usize = 16;

/// The connection's state.
enum Link {
    Down {
        retry_at: Instant,
    },
    Opening {
        /// The settings have changed meanwhile.
        is_outdated: bool,
    },
    Up(Session),
    Closing {
        end: SessionEnd,
        name: String,
        opened_at: Instant,
    },
}

/// An open connection.
struct Session {
    connection: Box<BrokerConnection>,
    /// Where it leads to.
    name: String,
    opened_at: Instant,
    /// New settings wait: nothing is published, and the connection is closed at this time.
    drain_until: Option<Instant>,
}

/// Why a connection is no longer used.
enum SessionEnd {
    /// The broker returned a message that was not published on it. No ack can be trusted.
    UnknownReturn,
    /// The connector shuts down, and no caller waits.
    Done,
    /// The settings have changed.
    Reconfigured,
    /// The broker or amiquip ended it.
    Lost,
    /// A publish failed or hung.
    Failed(BrokerError),
    /// No confirm within [`STALL_LIMIT`].
    Stalled,
}

/// A time without a connection.
struct Outage {
    started_at: Instant,
    logged_reasons: Vec<String>,
}

impl Outage {
    fn begin() -> Self {
        Self {
            started_at: Instant::now(),
            logged_reasons: Vec::new(),
        }
    }
}

/// The thread's state.
pub struct PublisherThread {
    settings: BrokerSettings,
    commands: Receiver<Command>,
    is_stopping: bool,
    dialer: Dialer,
    watchdog: Arc<CallWatchdog>,
    link: Link,
    /// The URL to try next.
    url_index: usize,
    backoff: Backoff,
    outage: Option<Outage>,
    ledger: Ledger<VerdictSender>,
    /// Connections opened so far.
    sessions: u64,
    /// Makes message ids unique across runs of the connector.
    instance: String,
    status: Arc<StatusCell>,
    metrics: BrokerMetrics,
    heartbeat: Heartbeat,
}

impl PublisherThread {
    pub(super) fn new(
        settings: BrokerSettings,
        commands: Receiver<Command>,
        status: Arc<StatusCell>,
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
            is_stopping: false,
            dialer: Dialer::start(Arc::clone(&watchdog))?,
            watchdog,
            link: Link::Down {
                retry_at: Instant::now(),
            },
            url_index: 0,
            backoff: Backoff::default(),
            outage: None,
            ledger: Ledger::default(),
            sessions: 0,
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
                self.end_session(SessionEnd::Lost);
            }
        }
        debug!("publisher stopped");
    }

    fn is_done(&self) -> bool {
        let is_open = matches!(self.link, Link::Up(_) | Link::Closing { .. });
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
        self.ledger.tick(&|| self.status.get(), now);
        self.drive_link(now);
        self.status.set_ledger(self.ledger.stats());
        let sleep = self.time_until_due(Instant::now());
        let (confirms, blocked) = match &self.link {
            Link::Up(Session { connection, .. }) => {
                (connection.confirms.clone(), connection.blocked.clone())
            }
            _ => (never(), never()),
        };
        select! {
            recv(confirms) -> confirm => match confirm {
                Ok(confirm) if self.settle_received(confirm) => {}
                Ok(_) => self.end_session(SessionEnd::UnknownReturn),
                Err(_) => self.end_session(SessionEnd::Lost),
            },
            recv(blocked) -> notice => match notice {
                Ok(notice) => self.blocked(&notice),
                Err(_) => self.end_session(SessionEnd::Lost),
            },
            recv(self.commands) -> command => {
                self.execute(command.ok());
                if self.ledger.in_flight() > 0 {
                    thread::sleep(GATHER_TIME);
                }
            }
            recv(self.dialer.replies) -> reply => match reply {
                Ok(Reply::Opened(connection, name)) => self.opened(connection, &name),
                Ok(Reply::NotOpened(reasons)) => self.not_opened(&reasons),
                Ok(Reply::Closed { reason, returns, confirms }) => {
                    self.closed(reason, &returns, confirms);
                }
                // Only a panic in the dialer itself.
                Err(_) => thread::sleep(MAX_SLEEP),
            },
            default(sleep) => {}
        }
    }

    fn execute(&mut self, command: Option<Command>) {
        let now = Instant::now();
        match command {
            Some(Command::Submit {
                batch,
                charge,
                timeout,
                verdict,
            }) => {
                let settled = self.ledger.submit(batch, charge, verdict, timeout, now);
                self.metrics.settled_before_retry(settled);
            }
            Some(Command::Unheard { identity, events }) => {
                self.ledger.unheard(identity, events, now);
            }
            Some(Command::Reconfigure(settings)) if settings == self.settings => {}
            Some(Command::Reconfigure(settings)) => {
                (self.settings, self.url_index) = (settings, 0);
                match &mut self.link {
                    Link::Down { retry_at } => *retry_at = now,
                    Link::Opening { is_outdated } => *is_outdated = true,
                    Link::Up(session) => session.drain_until = Some(now + DRAIN_LIMIT),
                    Link::Closing { .. } => {}
                }
            }
            // Or every handle is dropped.
            Some(Command::Stop) | None => {
                self.is_stopping = true;
                if command.is_none() {
                    self.commands = never();
                }
            }
        }
    }

    /// Opens a connection, publishes on it, or ends it.
    fn drive_link(&mut self, now: Instant) {
        let end = match &self.link {
            Link::Down { retry_at } if *retry_at <= now => {
                let urls = &self.settings.urls;
                let url = urls[self.url_index % urls.len()].clone();
                debug!(broker:% = url; "connecting");
                self.dialer.open(url, self.settings.clone());
                self.link = Link::Opening { is_outdated: false };
                None
            }
            Link::Up(_) if self.is_stopping && !self.ledger.has_callers() => Some(SessionEnd::Done),
            Link::Up(session) => match session.drain_until {
                Some(until) if until <= now || self.ledger.in_flight() == 0 => {
                    Some(SessionEnd::Reconfigured)
                }
                _ if self.ledger.stalls_at().is_some_and(|time| time <= now) => {
                    Some(SessionEnd::Stalled)
                }
                Some(_) => None,
                None => self.fill_window().err().map(SessionEnd::Failed),
            },
            _ => None,
        };
        if let Some(end) = end {
            self.end_session(end);
        }
    }

    fn time_until_due(&self, now: Instant) -> Duration {
        let link = match &self.link {
            Link::Down { retry_at } => Some(*retry_at),
            Link::Up(session) => {
                let times = [session.drain_until, self.ledger.stalls_at()];
                times.into_iter().flatten().min()
            }
            Link::Opening { .. } | Link::Closing { .. } => Some(now + CHECK_INTERVAL),
        };
        let due = [link, self.ledger.next_tick()];
        due.into_iter().flatten().min().map_or(MAX_SLEEP, |due| {
            due.saturating_duration_since(now).min(MAX_SLEEP)
        })
    }

    fn fill_window(&mut self) -> Result<(), BrokerError> {
        let Link::Up(Session { connection, .. }) = &self.link else {
            return Ok(());
        };
        let _one_write = connection.hold_writes();
        while let Some(publication) = self.ledger.publish_next(Instant::now()) {
            let (tag, message) = (publication.tag, publication.message);
            let id = format!("{}-{}-{tag}", self.instance, self.sessions);
            connection.publish(&self.settings.exchange, message, id, &self.watchdog)?;
        }
        Ok(())
    }

    /// Settles a confirm and those behind it. False if the broker returned a message that is not from this session: then no
    /// ack can be trusted.
    fn settle_received(&mut self, first: Confirm) -> bool {
        let Link::Up(Session { connection, .. }) = &self.link else {
            return true;
        };
        let (confirms, returns) = (connection.confirms.clone(), connection.returns.clone());
        let others = confirms.try_iter().take(MAX_CONFIRMS);
        for confirm in std::iter::once(first).chain(others) {
            // A returned message comes before its ack, through another receiver: it is there by now.
            if !returns.try_iter().all(|returned| self.returned(&returned)) {
                return false;
            }
            self.settle(confirm);
        }
        true
    }

    fn returned(&mut self, returned: &Return) -> bool {
        let session = format!("{}-{}-", self.instance, self.sessions);
        let id = returned.properties.message_id().as_deref();
        let tag = id.and_then(|id| id.strip_prefix(&session)?.parse().ok());
        let reason = format!("{} {}", returned.reply_code, returned.reply_text);
        tag.is_some_and(|tag| self.ledger.returned(tag, reason))
    }

    fn settle(&mut self, confirm: Confirm) {
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
        }
    }

    fn blocked(&mut self, notice: &ConnectionBlockedNotification) {
        let now = Instant::now();
        match notice {
            ConnectionBlockedNotification::Blocked(reason) => {
                self.ledger.set_blocked(true, now);
                self.status
                    .set_connection(ConnectionState::Blocked(reason.clone()));
                error!(in_flight = self.ledger.in_flight(); "RabbitMQ has blocked publishing: {reason}");
            }
            ConnectionBlockedNotification::Unblocked => {
                self.ledger.set_blocked(false, now);
                self.status.set_connection(ConnectionState::Connected);
                info!(waiting = self.ledger.stats().waiting; "RabbitMQ unblocked; publishing resumed");
            }
        }
    }

    fn opened(&mut self, connection: Box<BrokerConnection>, name: &str) {
        self.metrics.attempted(true);
        let now = Instant::now();
        let is_outdated = !matches!(self.link, Link::Opening { is_outdated: false });
        self.sessions += 1;
        self.ledger.opened(now);
        self.link = Link::Up(Session {
            connection,
            name: name.to_owned(),
            opened_at: now,
            drain_until: is_outdated.then_some(now),
        });
        if is_outdated {
            return;
        }
        self.status.set_connection(ConnectionState::Connected);
        match self.outage.take() {
            Some(outage) => {
                let seconds = outage.started_at.elapsed().as_secs_f64();
                info!(broker:% = name, outage_seconds:% = format!("{seconds:.1}"), waiting = self.ledger.stats().waiting; "reconnected to RabbitMQ");
            }
            None => {
                info!(broker:% = name, exchange:% = self.settings.exchange; "connected to RabbitMQ");
            }
        }
    }

    fn not_opened(&mut self, reasons: &[String]) {
        for reason in reasons {
            self.metrics.attempted(false);
            self.disconnected(reason);
            let outage = self.outage.get_or_insert_with(Outage::begin);
            if outage.logged_reasons.contains(reason) {
                debug!("cannot connect to RabbitMQ: {reason}");
            } else {
                warn!("cannot connect to RabbitMQ: {reason}; retrying");
                if outage.logged_reasons.len() == MAX_LOGGED_REASONS {
                    outage.logged_reasons.clear();
                }
                outage.logged_reasons.push(reason.clone());
            }
        }
        let is_outdated = matches!(self.link, Link::Opening { is_outdated: true });
        self.url_index += usize::from(!is_outdated);
        // A pause only after every URL has been tried.
        let is_round_complete = self.url_index.is_multiple_of(self.settings.urls.len());
        let pause = if is_round_complete && !is_outdated {
            self.backoff.next()
        } else {
            Duration::ZERO
        };
        self.link = Link::Down {
            retry_at: Instant::now() + pause,
        };
    }

    fn disconnected(&self, reason: &str) {
        self.status
            .set_connection(ConnectionState::Disconnected(reason.to_owned()));
    }

    /// Has an open connection closed. What it has received still counts.
    fn end_session(&mut self, end: SessionEnd) {
        let retry_at = Instant::now();
        match std::mem::replace(&mut self.link, Link::Down { retry_at }) {
            Link::Up(session) => {
                self.disconnected("closing the connection");
                self.dialer.close(session.connection);
                self.link = Link::Closing {
                    end,
                    name: session.name,
                    opened_at: session.opened_at,
                };
            }
            other => self.link = other,
        }
    }

    fn closed(&mut self, reason: CloseReason, returns: &[Return], confirms: Vec<Confirm>) {
        let has_unknown_return = matches!(
            self.link,
            Link::Closing {
                end: SessionEnd::UnknownReturn,
                ..
            }
        );
        if !has_unknown_return && returns.iter().all(|returned| self.returned(returned)) {
            for confirm in confirms {
                self.settle(confirm);
            }
        }
        let now = Instant::now();
        let in_flight = self.ledger.lost(reason.clone(), now);
        let down = Link::Down { retry_at: now };
        let Link::Closing {
            end,
            name,
            opened_at,
        } = std::mem::replace(&mut self.link, down)
        else {
            return;
        };
        let reason = match (end, reason) {
            (SessionEnd::Done, _) => {
                self.disconnected("the connector is shutting down");
                return info!(broker:% = name; "connection closed");
            }
            (SessionEnd::Reconfigured, _) => {
                self.disconnected("connecting with new settings");
                return info!(broker:% = name, in_flight; "connection closed: broker settings have changed");
            }
            (_, CloseReason::Channel(reason)) => reason,
            (SessionEnd::Failed(error @ BrokerError::TooSlow(..)), _) => error.to_string(),
            (SessionEnd::Stalled, _) => format!("no confirm for {STALL_LIMIT:?}"),
            (_, CloseReason::Connection(reason)) => reason,
        };
        error!(broker:% = name, in_flight; "lost connection to RabbitMQ: {reason}");
        self.disconnected(&format!("{name}: {reason}"));
        self.outage.get_or_insert_with(Outage::begin);
        if now.saturating_duration_since(opened_at) >= STABLE_AFTER {
            self.backoff.reset();
        }
        self.url_index += 1;
        self.link = Link::Down {
            retry_at: now + self.backoff.next(),
        };
    }
}
