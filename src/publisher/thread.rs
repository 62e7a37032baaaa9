//! The publisher's thread: keeps a connection open, publishes in order, and sends each batch's verdict.

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use amiquip::{Confirm, ConnectionBlockedNotification};
use crossbeam_channel::{Receiver, never, select};
use log::{debug, error, info, warn};

use super::backoff::Backoff;
use super::connection::{BrokerConnection, BrokerError, CloseReason};
use super::session::{STALL_LIMIT, Session};
use super::status::{ConnectionState, StatusCell};
use super::watchdog::CallWatchdog;
use super::window::{InFlight, MAX_MESSAGES};
use super::{BrokerSettings, DeliveryError, Submission};
use crate::metrics;

/// The longest wait when nothing happens.
const MAX_SLEEP: Duration = Duration::from_mins(1);

/// While messages are in flight, a new batch waits this long for others, which are then published in the same burst: a
/// tenth more throughput with 64 senders. A single sender does not wait: nothing is in flight when its next batch comes.
const GATHER_TIME: Duration = Duration::from_micros(100);

/// Different reasons of one outage that are logged once each.
const MAX_LOGGED_REASONS: usize = 16;

/// A batch that has no verdict yet.
struct Delivery {
    submission: Submission,
    /// The next message to publish on this connection.
    next: usize,
    confirmed: Vec<bool>,
    unconfirmed: usize,
    /// The sequence number of its first message.
    first_sequence: u64,
    /// Some of it has been published on this connection.
    partly_published: bool,
}

/// Why a connection is no longer used.
enum SessionEnd {
    /// The connector shuts down, and every batch has its verdict.
    Done,
    /// The broker or amiquip ended it.
    Lost,
    /// A publish failed or hung.
    Failed(BrokerError),
    /// No confirm within [`STALL_LIMIT`].
    Stalled,
}

/// The thread's state.
pub struct PublisherThread {
    settings: BrokerSettings,
    watchdog: CallWatchdog,
    status: Arc<StatusCell>,
    metrics: metrics::BrokerMetrics,
    backoff: Backoff,
    /// The URL to try next.
    url_index: usize,
    outage: Option<Outage>,
    inbox: Receiver<Submission>,
    stop: Receiver<()>,
    is_stopping: bool,
    deliveries: BTreeMap<u64, Delivery>,
    /// Deliveries with messages to publish, in order.
    queue: VecDeque<u64>,
    next_delivery: u64,
    next_sequence: u64,
    /// No delivery's deadline is earlier.
    next_deadline: Option<Instant>,
    /// Makes message ids unique across runs of the connector.
    instance: String,
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

impl PublisherThread {
    pub(super) fn new(
        settings: BrokerSettings,
        inbox: Receiver<Submission>,
        stop: Receiver<()>,
        status: Arc<StatusCell>,
        metrics: metrics::BrokerMetrics,
    ) -> std::io::Result<Self> {
        let started = SystemTime::UNIX_EPOCH
            .elapsed()
            .map_or(0, |elapsed| elapsed.as_nanos());
        Ok(Self {
            settings,
            watchdog: CallWatchdog::start()?,
            status,
            metrics,
            backoff: Backoff::default(),
            url_index: 0,
            outage: None,
            inbox,
            stop,
            is_stopping: false,
            deliveries: BTreeMap::new(),
            queue: VecDeque::new(),
            next_delivery: 0,
            next_sequence: 0,
            next_deadline: None,
            instance: format!("{started:x}-{:x}", std::process::id()),
        })
    }

    /// Runs until it is stopped. A panic in amiquip ends the connection, not the thread.
    pub(super) fn run(mut self) {
        while !self.is_done() {
            if catch_unwind(AssertUnwindSafe(|| self.connect_and_serve())).is_err() {
                error!("internal error: publisher thread panicked; reconnecting (please report)");
                self.connection_lost("internal error");
                self.wait_before_next_attempt();
            }
        }
        debug!("publisher stopped");
    }

    fn is_done(&self) -> bool {
        self.is_stopping && self.deliveries.is_empty()
    }

    /// Connects once, and publishes until that connection ends.
    fn connect_and_serve(&mut self) {
        let url = self.settings.urls[self.url_index % self.settings.urls.len()].clone();
        debug!(broker:% = url; "connecting");
        let connection = match BrokerConnection::open(
            &url,
            &self.settings.exchange,
            &self.settings.tls,
            &self.watchdog,
        ) {
            Ok(connection) => connection,
            Err(error) => {
                self.metrics.attempted(false);
                self.attempt_failed(&format!("{url}: {error}"));
                // A pause only after every URL has been tried.
                self.url_index += 1;
                if self.url_index.is_multiple_of(self.settings.urls.len()) {
                    self.wait_before_next_attempt();
                }
                return;
            }
        };
        self.metrics.attempted(true);
        self.connected(&url.to_string());
        let mut session = Session::default();
        let end = self.serve(&connection, &mut session);
        let in_flight = session.window.len();
        let stalled = matches!(end, SessionEnd::Stalled);
        let reason = match (end, connection.close(&self.watchdog)) {
            (SessionEnd::Done, _) => {
                self.disconnected("the connector is shutting down");
                info!(broker:% = url; "connection closed");
                return;
            }
            (_, CloseReason::Channel(reason)) => {
                self.fail_in_flight(&DeliveryError::ChannelClosed(reason.clone()));
                reason
            }
            (SessionEnd::Failed(error @ BrokerError::TooSlow(..)), _) => error.to_string(),
            (_, CloseReason::Connection(_)) if stalled => format!("no confirm for {STALL_LIMIT:?}"),
            (_, CloseReason::Connection(reason)) => reason,
        };
        error!(broker:% = url, in_flight; "lost connection to RabbitMQ: {reason}");
        self.connection_lost(&format!("{url}: {reason}"));
        self.url_index += 1;
        self.wait_before_next_attempt();
    }

    fn disconnected(&self, reason: &str) {
        self.status
            .set_connection(ConnectionState::Disconnected(reason.to_owned()));
    }

    fn attempt_failed(&mut self, reason: &str) {
        self.disconnected(reason);
        let outage = self.outage.get_or_insert_with(Outage::begin);
        if outage.logged_reasons.iter().any(|logged| logged == reason) {
            debug!("cannot connect to RabbitMQ: {reason}");
        } else {
            warn!("cannot connect to RabbitMQ: {reason}; retrying");
            if outage.logged_reasons.len() == MAX_LOGGED_REASONS {
                outage.logged_reasons.clear();
            }
            outage.logged_reasons.push(reason.to_owned());
        }
    }

    fn connected(&mut self, url: &str) {
        self.status.set_connection(ConnectionState::Connected);
        match self.outage.take() {
            Some(outage) => {
                let seconds = outage.started_at.elapsed().as_secs_f64();
                info!(broker:% = url, outage_seconds:% = format!("{seconds:.1}"), waiting = self.deliveries.len(); "reconnected to RabbitMQ");
            }
            None => {
                info!(broker:% = url, exchange:% = self.settings.exchange; "connected to RabbitMQ");
            }
        }
    }

    /// Schedules the unconfirmed messages of live deliveries to be published again.
    fn connection_lost(&mut self, reason: &str) {
        self.disconnected(reason);
        self.status.set_in_flight(0);
        self.outage.get_or_insert_with(Outage::begin);
        self.queue.clear();
        for (id, delivery) in &mut self.deliveries {
            // From the first unconfirmed one on: the order within a notification is kept.
            delivery.next = delivery
                .confirmed
                .iter()
                .position(|confirmed| !confirmed)
                .unwrap_or(0);
            for confirmed in &mut delivery.confirmed[delivery.next..] {
                *confirmed = false;
            }
            delivery.unconfirmed = delivery.confirmed.len() - delivery.next;
            delivery.partly_published = false;
            self.queue.push_back(*id);
        }
        self.expire();
    }

    /// Accepts batches and expires them during the pause.
    fn wait_before_next_attempt(&mut self) {
        let until = Instant::now() + self.backoff.next();
        while !self.is_done() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let sleep = left.min(self.until_next_deadline());
            let stop = if self.is_stopping {
                never()
            } else {
                self.stop.clone()
            };
            select! {
                recv(self.inbox) -> submission => self.accept(submission.ok()),
                recv(stop) -> _ => self.is_stopping = true,
                default(sleep) => {}
            }
            self.expire();
        }
    }

    /// Publishes and settles until the connection ends or all is done.
    fn serve(&mut self, connection: &BrokerConnection, session: &mut Session) -> SessionEnd {
        loop {
            while let Ok(submission) = self.inbox.try_recv() {
                self.accept(Some(submission));
            }
            self.expire();
            if self.is_done() {
                return SessionEnd::Done;
            }
            if let Err(error) = self.fill_window(connection, session) {
                return SessionEnd::Failed(error);
            }
            self.status.set_in_flight(session.window.len());
            let stall = session.time_until_stall(Instant::now());
            if stall.is_some_and(|left| left.is_zero()) {
                return SessionEnd::Stalled;
            }
            let sleep = self.until_next_deadline().min(stall.unwrap_or(MAX_SLEEP));
            let stop = if self.is_stopping {
                never()
            } else {
                self.stop.clone()
            };
            select! {
                recv(connection.confirms) -> confirm => match confirm {
                    Ok(confirm) if self.settle_all(confirm, connection, session) => {}
                    _ => return SessionEnd::Lost,
                },
                recv(connection.blocked) -> notice => match notice {
                    Ok(notice) => self.blocked(&notice, session),
                    Err(_) => return SessionEnd::Lost,
                },
                recv(self.inbox) -> submission => {
                    self.accept(submission.ok());
                    if session.window.len() > 0 {
                        thread::sleep(GATHER_TIME);
                    }
                }
                recv(stop) -> _ => self.is_stopping = true,
                default(sleep) => {}
            }
        }
    }

    fn accept(&mut self, submission: Option<Submission>) {
        let Some(submission) = submission else {
            // Every handle is dropped: no submission can come.
            self.is_stopping = true;
            self.inbox = never();
            return;
        };
        let count = submission.batch.len();
        self.next_deadline = Some(
            self.next_deadline
                .map_or(submission.deadline, |next| next.min(submission.deadline)),
        );
        let delivery = Delivery {
            next: 0,
            confirmed: vec![false; count],
            unconfirmed: count,
            first_sequence: self.next_sequence,
            partly_published: false,
            submission,
        };
        self.next_sequence += u64::try_from(count).unwrap_or(0);
        self.deliveries.insert(self.next_delivery, delivery);
        self.queue.push_back(self.next_delivery);
        self.next_delivery += 1;
    }

    /// Ends the deliveries whose deadline has passed.
    fn expire(&mut self) {
        let now = Instant::now();
        if self.next_deadline.is_none_or(|next| now < next) {
            return;
        }
        let expired: Vec<u64> = self
            .deliveries
            .iter()
            .filter(|(_, delivery)| delivery.submission.deadline <= now)
            .map(|(id, _)| *id)
            .collect();
        for id in expired {
            let after = self.deliveries[&id].submission.submitted_at.elapsed();
            let status = self.status.get();
            self.finish(id, Err(DeliveryError::Timeout { after, status }));
        }
        self.next_deadline = self
            .deliveries
            .values()
            .map(|delivery| delivery.submission.deadline)
            .min();
    }

    fn until_next_deadline(&self) -> Duration {
        let until = |deadline: Instant| deadline.saturating_duration_since(Instant::now());
        self.next_deadline.map_or(MAX_SLEEP, until)
    }

    fn fill_window(
        &mut self,
        connection: &BrokerConnection,
        session: &mut Session,
    ) -> Result<(), BrokerError> {
        let _one_write = connection.hold_writes();
        while !session.is_blocked
            && let Some(id) = self.queue.front().copied()
        {
            let Some(delivery) = self.deliveries.get_mut(&id) else {
                self.queue.pop_front();
                continue;
            };
            let Some(message) = delivery.submission.batch.get(delivery.next) else {
                self.queue.pop_front();
                continue;
            };
            let bytes = message.body.len();
            if !session.window.accepts(bytes) {
                break;
            }
            let sequence = delivery.first_sequence + u64::try_from(delivery.next).unwrap_or(0);
            let message_id = format!("{}-{sequence}", self.instance);
            connection.publish(&self.settings.exchange, message, message_id, &self.watchdog)?;
            session.window.push(InFlight {
                delivery: id,
                index: delivery.next,
                sequence,
                bytes,
                published_at: Instant::now(),
            });
            delivery.next += 1;
            delivery.partly_published = true;
        }
        Ok(())
    }

    /// Settles a confirm and those behind it, at most one for each message in flight. False if the broker returned a message
    /// without an id of this connector: then no ack can be trusted.
    fn settle_all(
        &mut self,
        first: Confirm,
        connection: &BrokerConnection,
        session: &mut Session,
    ) -> bool {
        let behind = std::iter::from_fn(|| connection.confirms.try_recv().ok()).take(MAX_MESSAGES);
        for confirm in std::iter::once(first).chain(behind) {
            // A returned message comes before its ack, through another receiver: it is there by now.
            while let Ok(returned) = connection.returns.try_recv() {
                if !session.note_returned(&returned) {
                    return false;
                }
            }
            self.settle(confirm, session);
        }
        true
    }

    fn settle(&mut self, confirm: Confirm, session: &mut Session) {
        let (payload, acked) = match confirm {
            Confirm::Ack(payload) => (payload, true),
            Confirm::Nack(payload) => (payload, false),
        };
        for message in session
            .window
            .settle(payload.delivery_tag, payload.multiple)
        {
            self.metrics.confirmed(message.published_at.elapsed());
            let returned = session.returned.remove(&message.sequence);
            let Some(delivery) = self.deliveries.get_mut(&message.delivery) else {
                continue;
            };
            let failure = match returned {
                Some(reason) => Some(DeliveryError::Returned(reason)),
                None if !acked => Some(DeliveryError::Nacked),
                None => None,
            };
            if let Some(failure) = failure {
                self.finish(message.delivery, Err(failure));
                continue;
            }
            self.backoff.reset();
            if !std::mem::replace(&mut delivery.confirmed[message.index], true) {
                delivery.unconfirmed -= 1;
            }
            if delivery.unconfirmed == 0 {
                self.finish(message.delivery, Ok(()));
            }
        }
    }

    fn finish(&mut self, id: u64, verdict: Result<(), DeliveryError>) {
        if let Some(delivery) = self.deliveries.remove(&id) {
            if let Err(error) = &verdict {
                debug!(events = delivery.submission.batch.len(); "delivery failed: {error}");
            }
            // The caller may have stopped waiting at its deadline.
            let _ = delivery.submission.verdict.send(verdict);
        }
    }

    /// Fails the deliveries that are partly published on a channel that the broker has closed.
    fn fail_in_flight(&mut self, failure: &DeliveryError) {
        let partly_published: Vec<u64> = self
            .deliveries
            .iter()
            .filter(|(_, delivery)| delivery.partly_published)
            .map(|(id, _)| *id)
            .collect();
        for id in partly_published {
            self.finish(id, Err(failure.clone()));
        }
    }

    fn blocked(&self, notice: &ConnectionBlockedNotification, session: &mut Session) {
        match notice {
            ConnectionBlockedNotification::Blocked(reason) => {
                session.is_blocked = true;
                self.status
                    .set_connection(ConnectionState::Blocked(reason.clone()));
                error!(in_flight = session.window.len(); "RabbitMQ has blocked publishing: {reason}");
            }
            ConnectionBlockedNotification::Unblocked => {
                session.is_blocked = false;
                session.unblocked_at = Some(Instant::now());
                self.status.set_connection(ConnectionState::Connected);
                info!(waiting = self.deliveries.len(); "RabbitMQ unblocked; publishing resumed");
            }
        }
    }
}
