//! The publisher's thread: connects the ledger to a broker connection, and reconnects.
//!
//! It decides when to connect and when a connection is given up. What is published, and every verdict, is the ledger's
//! decision.

use std::io;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use amiquip::{Confirm, ConnectionBlockedNotification, Return};
use crossbeam_channel::{Receiver, Sender, at, bounded, never, select, tick, unbounded};
use log::{Level, debug, error, info, log, warn};
use parking_lot::Mutex;

use super::backoff::Backoff;
use super::batch::Identity;
use super::connection::BrokerConnection;
use super::error::CloseReason;
use super::ledger::{Ledger, MAX_MESSAGES, SCAN_INTERVAL, STALL_LIMIT};
use super::status::{BrokerStatus, Refusals};
use super::watchdog::in_background;
use super::{BrokerSettings, Publisher, PublisherCommand};
use crate::liveness::Heartbeat;
use crate::logging::{LogLimiter, LogRate};
use crate::metrics::BrokerMetrics;

/// While messages are in flight, a new notification waits this long for others, which are then published in the same burst:
/// a tenth more throughput with 64 senders. A single sender does not wait: nothing is in flight when its next one comes.
const GATHER_TIME: Duration = Duration::from_micros(100);

/// The time for outstanding confirms before a connection with outdated settings is closed.
const DRAIN_LIMIT: Duration = Duration::from_secs(3);

/// For calls that have no result: they panicked, or got no thread. Both are in the log.
const NO_RESULT: &str = "no thread could be started, or internal error; see the log";

/// The connection's state.
enum Link {
    /// Until this time.
    Down(Instant),
    /// A connection, or why none of the broker's addresses can be used.
    Opening(Receiver<Result<BrokerConnection, Vec<String>>>),
    Up(Box<BrokerConnection>),
    /// Why the channel ended, and the connection with another one.
    Closing(Receiver<(CloseReason, Option<BrokerConnection>)>),
}

/// The thread's state.
struct PublisherThread {
    settings: BrokerSettings,
    commands: Receiver<PublisherCommand>,
    heard: Receiver<Identity>,
    is_stopping: bool,
    link: Link,
    /// Where the connection leads to.
    broker: String,
    /// Of the current channel, also while it is closed.
    confirms: Receiver<Confirm>,
    returns: Receiver<Return>,
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
    /// When to call [`Self::scan`].
    scans: Receiver<Instant>,
    /// The ids of the current channel's messages begin with it; those of other channels do not.
    id_prefix: String,
    status: Arc<Mutex<BrokerStatus>>,
    metrics: BrokerMetrics,
    heartbeat: Heartbeat,
}

impl Publisher {
    /// Starts the thread, which connects, and reconnects until it is stopped.
    pub fn start(
        settings: BrokerSettings,
        metrics: BrokerMetrics,
        heartbeat: Heartbeat,
    ) -> io::Result<Self> {
        let (commands, inbox) = unbounded();
        let (heard, heard_inbox) = unbounded();
        let (ended, stopped) = bounded(0);
        let status: Arc<Mutex<BrokerStatus>> = Arc::default();
        let now = Instant::now();
        let thread = PublisherThread {
            settings,
            commands: inbox,
            heard: heard_inbox,
            is_stopping: false,
            link: Link::Down(now),
            broker: String::new(),
            confirms: never(),
            returns: never(),
            outdated_since: None,
            url_index: 0,
            backoff: Backoff::default(),
            outage_since: None,
            log_limiter: LogLimiter::default(),
            refusals: Refusals::default(),
            ledger: Ledger::default(),
            scans: tick(SCAN_INTERVAL),
            id_prefix: String::new(),
            status: Arc::clone(&status),
            metrics: metrics.clone(),
            heartbeat,
        };
        thread::Builder::new()
            .name("publisher".to_owned())
            .spawn(move || thread.run(ended))?;
        Ok(Self {
            commands,
            heard,
            status,
            metrics,
            stopped,
        })
    }
}

impl PublisherThread {
    /// Runs until it is stopped, which the channel's end shows. A panic costs the connection and the callers' verdicts, not the
    /// thread.
    fn run(mut self, _ended: Sender<()>) {
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
        let is_open = matches!(self.link, Link::Up(_) | Link::Closing(_));
        self.is_stopping && !self.ledger.has_callers() && !is_open
    }

    /// Does what is due, and waits for the next event.
    fn step(&mut self) {
        self.heartbeat.beat();
        while let Ok(command) = self.commands.try_recv() {
            self.execute(Some(command));
        }
        self.drive_link(Instant::now());
        let (mut confirms, mut blocked) = (never(), never());
        let (mut opened, mut ended, mut retry) = (never(), never(), never());
        match &self.link {
            Link::Down(retry_at) => retry = at(*retry_at),
            Link::Opening(result) => opened = result.clone(),
            Link::Up(connection) => {
                (confirms, blocked) = (self.confirms.clone(), connection.blocked.clone());
            }
            Link::Closing(result) => ended = result.clone(),
        }
        select! {
            recv(confirms) -> confirm => match confirm {
                Ok(first) => self.handle_confirms(Some(first)),
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
            recv(opened) -> result => match result {
                Ok(Ok(connection)) => self.opened(connection),
                Ok(Err(reasons)) => self.not_opened(reasons),
                Err(_) => self.not_opened(vec![NO_RESULT.to_owned()]),
            },
            recv(ended) -> result => {
                let no_result = |_| (CloseReason::Connection(NO_RESULT.to_owned()), None);
                let (reason, reopened) = result.unwrap_or_else(no_result);
                self.channel_ended(&reason, reopened);
            }
            recv(retry) -> _ => {}
            // What has a limit of some seconds may take until the next scan longer.
            recv(self.scans) -> _ => self.scan(Instant::now()),
        }
    }

    fn execute(&mut self, command: Option<PublisherCommand>) {
        let now = Instant::now();
        match command {
            Some(PublisherCommand::Submit(identity, content, caller)) => {
                // It may be the repetition of a notification whose sender has got the response.
                self.take_heard();
                let settled = self.ledger.submit(identity, content, caller, now);
                self.metrics.settled_before_retry.add(settled as u64);
            }
            Some(PublisherCommand::Reconfigure(settings)) => {
                (self.settings, self.url_index) = (settings, 0);
                self.outdated_since = Some(now);
                if let Link::Down(retry_at) = &mut self.link {
                    *retry_at = now;
                }
            }
            Some(PublisherCommand::Stop) => self.is_stopping = true,
            // Every handle is dropped.
            None => (self.is_stopping, self.commands) = (true, never()),
        }
    }

    fn take_heard(&mut self) {
        for identity in self.heard.try_iter() {
            self.ledger.heard(identity);
        }
    }

    /// What is due each second.
    fn scan(&mut self, now: Instant) {
        self.take_heard();
        self.ledger.scan(now);
        self.metrics.set_ledger(self.ledger.stats());
        let is_shown = matches!(*self.status.lock(), BrokerStatus::Refused(_));
        if is_shown && !self.refusals.is_refused(now) {
            self.set_status(BrokerStatus::Connected);
        }
    }

    /// Opens a connection, publishes on it, or ends it.
    fn drive_link(&mut self, now: Instant) {
        let is_drained = |since| since + DRAIN_LIMIT <= now || self.ledger.in_flight() == 0;
        let reason = match &self.link {
            Link::Down(retry_at) if *retry_at <= now => return self.connect(),
            Link::Up(_) if self.is_stopping && !self.ledger.has_callers() => {
                Some(CloseReason::Intended("the connector is shutting down"))
            }
            Link::Up(_) if self.outdated_since.is_some_and(is_drained) => {
                Some(CloseReason::Intended("broker settings have changed"))
            }
            Link::Up(_) if self.ledger.stalls_at().is_some_and(|time| time <= now) => {
                let reason = format!("no confirm for {STALL_LIMIT:?}");
                Some(CloseReason::Connection(reason))
            }
            Link::Up(_) if self.outdated_since.is_none() => match self.fill_window() {
                Ok(()) => return,
                Err(reason) => reason,
            },
            _ => return,
        };
        self.end_session(reason);
    }

    fn connect(&mut self) {
        let urls = &self.settings.urls;
        let url = urls[self.url_index % urls.len()].clone();
        debug!(broker:% = url; "connecting");
        let settings = self.settings.clone();
        let open = move || BrokerConnection::open(&url, &settings);
        (self.link, self.outdated_since) = (Link::Opening(in_background(open)), None);
    }

    /// Publishes what the ledger has for now. An error is why that failed, if amiquip has reported it.
    fn fill_window(&mut self) -> Result<(), Option<CloseReason>> {
        let Link::Up(connection) = &self.link else {
            return Ok(());
        };
        let _one_write = connection.write_gate.hold();
        while let Some((tag, message)) = self.ledger.publish_next(Instant::now()) {
            let id = format!("{}{tag}", self.id_prefix);
            connection.publish(message, id)?;
        }
        Ok(())
    }

    /// Records the confirms that were received: no more than there can be messages in flight.
    fn handle_confirms(&mut self, first: Option<Confirm>) {
        let (confirms, returns) = (self.confirms.clone(), self.returns.clone());
        let (now, others) = (Instant::now(), confirms.try_iter().take(MAX_MESSAGES));
        for confirm in first.into_iter().chain(others) {
            // A returned message comes before its ack, through another receiver: it is there by now.
            if !returns.try_iter().all(|returned| self.returned(&returned)) {
                // Then no ack can be trusted.
                self.confirms = never();
                let reason = "RabbitMQ returned a message that was not published on it";
                return self.end_session(Some(CloseReason::Connection(reason.to_owned())));
            }
            let is_ack = matches!(confirm, Confirm::Ack(_));
            let (Confirm::Ack(payload) | Confirm::Nack(payload)) = confirm;
            let (tag, multiple) = (payload.delivery_tag, payload.multiple);
            for duration in self.ledger.confirmed(tag, multiple, is_ack, now) {
                self.metrics.confirms.observe(duration.as_secs_f64());
            }
            if is_ack {
                self.backoff.reset();
                self.refusals.confirmed_at = Some(now);
            }
        }
    }

    /// False if the message was not published on this channel.
    fn returned(&mut self, returned: &Return) -> bool {
        let id = returned.properties.message_id().as_deref();
        let tag = id.and_then(|id| id.strip_prefix(&self.id_prefix)?.parse().ok());
        let reason = format!("{} {}", returned.reply_code, returned.reply_text);
        tag.is_some_and(|tag| self.ledger.returned(tag, reason))
    }

    fn blocked(&mut self, notice: &ConnectionBlockedNotification) {
        let is_blocked = matches!(notice, ConnectionBlockedNotification::Blocked(_));
        self.ledger.set_blocked(is_blocked, Instant::now());
        match notice {
            ConnectionBlockedNotification::Blocked(reason) => {
                self.set_status(BrokerStatus::Blocked(reason.clone()));
                error!(in_flight = self.ledger.in_flight(); "RabbitMQ has blocked publishing: {reason}");
            }
            ConnectionBlockedNotification::Unblocked => {
                self.set_status(BrokerStatus::Connected);
                info!(waiting = self.ledger.stats().to_settle; "RabbitMQ unblocked; publishing resumed");
            }
        }
    }

    fn opened(&mut self, connection: BrokerConnection) {
        self.metrics.attempts.add("success", 1);
        self.start_channel(connection);
        // Otherwise the settings have changed meanwhile, and the connection is closed again.
        if self.outdated_since.is_none() {
            self.set_status(BrokerStatus::Connected);
            match self.outage_since.take() {
                Some(since) => {
                    let seconds = since.elapsed().as_secs_f64();
                    info!(broker:% = self.broker, outage_seconds:% = format!("{seconds:.1}"), waiting = self.ledger.stats().to_settle; "reconnected to RabbitMQ");
                }
                None => {
                    info!(broker:% = self.broker, exchange:% = self.settings.exchange; "connected to RabbitMQ");
                }
            }
        }
    }

    fn start_channel(&mut self, connection: BrokerConnection) {
        let since_epoch = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        self.id_prefix = format!("{:x}-{:x}-", since_epoch.as_nanos(), std::process::id());
        self.ledger.opened();
        self.broker.clone_from(&connection.name);
        (self.confirms, self.returns) = connection.confirmations.clone();
        self.link = Link::Up(Box::new(connection));
    }

    fn not_opened(&mut self, reasons: Vec<String>) {
        for reason in reasons {
            self.metrics.attempts.add("failure", 1);
            self.disconnected(&reason);
            if let Some(suppressed) = self.log_limiter.allow(&reason, LogRate::REPEATED) {
                warn!(suppressed; "cannot connect to RabbitMQ: {reason}; retrying");
            } else {
                debug!("cannot connect to RabbitMQ: {reason}");
            }
        }
        self.retry();
    }

    /// Tries the next URL; once all have been tried, after a pause. New settings are tried at once, from their first URL on.
    fn retry(&mut self) {
        let now = Instant::now();
        self.outage_since.get_or_insert(now);
        let mut retry_at = now;
        if self.outdated_since.is_none() {
            self.url_index += 1;
            if self.url_index.is_multiple_of(self.settings.urls.len()) {
                let pause = self.backoff.next(now);
                debug!(milliseconds = pause.as_millis(); "pause before the next connection");
                retry_at += pause;
            }
        }
        self.link = Link::Down(retry_at);
    }

    fn disconnected(&self, reason: &str) {
        self.set_status(BrokerStatus::Disconnected(reason.to_owned()));
    }

    fn set_status(&self, status: BrokerStatus) {
        let is_blocked = matches!(status, BrokerStatus::Blocked(_));
        self.metrics.connected.set(status.is_connected().into());
        self.metrics.blocked.set(is_blocked.into());
        *self.status.lock() = status;
    }

    /// The channel is no longer used. What it has received still counts. Where the broker has closed it over a message, another
    /// one is opened on the same connection: nothing else is wrong with that.
    fn end_session(&mut self, reason: Option<CloseReason>) {
        let retry_at = Instant::now();
        match mem::replace(&mut self.link, Link::Down(retry_at)) {
            Link::Up(connection) => {
                let is_over_message = matches!(reason, None | Some(CloseReason::Channel { .. }));
                let may_reopen = is_over_message && self.ledger.in_flight() > 0;
                if !may_reopen {
                    self.disconnected("closing the connection");
                }
                let end = move || connection.end_channel(reason, may_reopen);
                self.link = Link::Closing(in_background(end));
            }
            other => self.link = other,
        }
    }

    fn channel_ended(&mut self, reason: &CloseReason, reopened: Option<BrokerConnection>) {
        let now = Instant::now();
        self.link = Link::Down(now);
        self.handle_confirms(None);
        let in_flight = self.ledger.channel_ended(reason, now);
        if let Some(connection) = reopened {
            self.start_channel(connection);
            let mut level = Level::Warn;
            if reason.is_access_refused() {
                // The notification has its verdict, or will have it soon: the response to it is logged.
                level = Level::Debug;
                self.refusals.refused_at = Some(now);
                if self.refusals.is_refused(now) {
                    self.set_status(BrokerStatus::Refused(reason.to_string()));
                }
            }
            log!(level, broker:% = self.broker, in_flight; "RabbitMQ closed the channel, opened another one: {reason}");
        } else if let CloseReason::Intended(reason) = reason {
            self.disconnected(reason);
            info!(broker:% = self.broker, in_flight; "connection closed: {reason}");
        } else {
            error!(broker:% = self.broker, in_flight; "lost connection to RabbitMQ: {reason}");
            self.disconnected(&format!("{}: {reason}", self.broker));
            self.retry();
        }
    }
}
