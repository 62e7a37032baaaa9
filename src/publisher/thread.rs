//! The publisher's thread: keeps a connection, publishes in order, and tells each batch what became of it.

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
use super::status::Status;
use super::watchdog::CallWatchdog;
use super::window::{InFlight, MOST_MESSAGES};
use super::{DeliveryError, Job, Settings};
use crate::metrics;

/// How long the thread sleeps at most when nothing happens.
const LONGEST_SLEEP: Duration = Duration::from_mins(1);

/// While the broker has something to do, who comes next waits so long for others: what is published `together` costs both sides less.
/// One sender alone, whose messages have been confirmed, waits for nobody.
const GATHERING: Duration = Duration::from_micros(100);

/// So many different reasons of one outage are remembered, so as not to log them again.
const MOST_TOLD: usize = 16;

/// A batch on its way.
struct Pending {
    job: Job,
    /// The next message to publish on this connection.
    next: usize,
    confirmed: Vec<bool>,
    unconfirmed: usize,
    /// The sequence number of its first message.
    first_sequence: u64,
    /// Whether any of it has been published on this connection.
    partly_published: bool,
}

/// Why a connection's use has ended.
enum SessionEnd {
    /// All is done, and nothing more will come.
    Done,
    /// The library or the broker ended it.
    Lost,
    /// A publish failed or hung.
    Failed(BrokerError),
    /// The broker no longer confirms.
    Stalled,
}

/// See the module.
pub struct PublisherThread {
    settings: Settings,
    watchdog: CallWatchdog,
    status: Arc<Status>,
    metrics: metrics::BrokerMetrics,
    backoff: Backoff,
    /// Which of the URLs is tried next.
    url: usize,
    outage: Option<Outage>,
    inbox: Receiver<Job>,
    stop: Receiver<()>,
    stopping: bool,
    jobs: BTreeMap<u64, Pending>,
    /// Batches that have messages to publish, in order.
    queue: VecDeque<u64>,
    next_job: u64,
    next_sequence: u64,
    /// No batch's deadline is earlier.
    next_deadline: Option<Instant>,
    /// Makes message ids unique among all runs of the connector.
    instance: String,
}

/// A time without a connection.
struct Outage {
    since: Instant,
    /// What has been logged, so that it is not logged again and again.
    told: Vec<String>,
}

impl Outage {
    fn begin() -> Self {
        Self {
            since: Instant::now(),
            told: Vec::new(),
        }
    }
}

impl PublisherThread {
    pub(super) fn new(
        settings: Settings,
        inbox: Receiver<Job>,
        stop: Receiver<()>,
        status: Arc<Status>,
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
            url: 0,
            outage: None,
            inbox,
            stop,
            stopping: false,
            jobs: BTreeMap::new(),
            queue: VecDeque::new(),
            next_job: 0,
            next_sequence: 0,
            next_deadline: None,
            instance: format!("{started:x}-{:x}", std::process::id()),
        })
    }

    /// Runs until it is told to stop. A panic of the AMQP library costs the connection, not the thread.
    pub(super) fn run(mut self) {
        while !self.is_done() {
            if catch_unwind(AssertUnwindSafe(|| self.connect_and_serve())).is_err() {
                error!("the publisher panicked; it connects again");
                self.lost("the AMQP library panicked");
                self.wait_before_next_attempt();
            }
        }
        debug!("publisher stopped");
    }

    fn is_done(&self) -> bool {
        self.stopping && self.jobs.is_empty()
    }

    /// One attempt to connect, and all that comes of it.
    fn connect_and_serve(&mut self) {
        let url = self.settings.urls[self.url % self.settings.urls.len()].clone();
        debug!(broker:% = url; "connecting");
        let link = match BrokerConnection::open(
            &url,
            &self.settings.exchange,
            &self.settings.tls,
            &self.watchdog,
        ) {
            Ok(link) => link,
            Err(error) => {
                self.metrics.attempted(false);
                self.attempt_failed(&format!("{url}: {error}"));
                // The next URL at once; a pause only after a whole round.
                self.url += 1;
                if self.url.is_multiple_of(self.settings.urls.len()) {
                    self.wait_before_next_attempt();
                }
                return;
            }
        };
        self.metrics.attempted(true);
        self.connected(&url.to_string());
        let mut session = Session::default();
        let end = self.serve(&link, &mut session);
        let waiting = session.window.len();
        let stalled = matches!(end, SessionEnd::Stalled);
        let reason = match (end, link.close(&self.watchdog)) {
            (SessionEnd::Done, _) => {
                self.status
                    .away(Some("the connector is stopping".to_owned()));
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
        error!(broker:% = url, in_flight = waiting; "lost the broker: {reason}");
        self.lost(&format!("{url}: {reason}"));
        self.url += 1;
        self.wait_before_next_attempt();
    }

    fn attempt_failed(&mut self, reason: &str) {
        self.status.away(Some(reason.to_owned()));
        let outage = self.outage.get_or_insert_with(Outage::begin);
        if outage.told.iter().any(|told| told == reason) {
            debug!("no connection to the broker: {reason}");
        } else {
            warn!("no connection to the broker: {reason}; trying again");
            if outage.told.len() == MOST_TOLD {
                outage.told.clear();
            }
            outage.told.push(reason.to_owned());
        }
    }

    fn connected(&mut self, url: &str) {
        self.status.connected();
        match self.outage.take() {
            Some(outage) => {
                let seconds = outage.since.elapsed().as_secs_f64();
                info!(broker:% = url, away_seconds:% = format!("{seconds:.1}"), waiting = self.jobs.len(); "connected to the broker again");
            }
            None => {
                info!(broker:% = url, exchange:% = self.settings.exchange; "connected to the broker");
            }
        }
    }

    /// What was in flight is published again on the next connection, while its deadline stands.
    fn lost(&mut self, reason: &str) {
        self.status.away(Some(reason.to_owned()));
        self.status.in_flight(0);
        self.outage.get_or_insert_with(Outage::begin);
        self.queue.clear();
        for (id, pending) in &mut self.jobs {
            // From the first unconfirmed one on, so that the order within a notification is kept.
            pending.next = pending
                .confirmed
                .iter()
                .position(|confirmed| !confirmed)
                .unwrap_or(0);
            for confirmed in &mut pending.confirmed[pending.next..] {
                *confirmed = false;
            }
            pending.unconfirmed = pending.confirmed.len() - pending.next;
            pending.partly_published = false;
            self.queue.push_back(*id);
        }
        self.expire();
    }

    /// Takes batches in and lets them expire until it is time.
    fn wait_before_next_attempt(&mut self) {
        let until = Instant::now() + self.backoff.next();
        while !self.is_done() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let sleep = left.min(self.until_next_deadline());
            let stop = if self.stopping {
                never()
            } else {
                self.stop.clone()
            };
            select! {
                recv(self.inbox) -> job => self.accept(job.ok()),
                recv(stop) -> _ => self.stopping = true,
                default(sleep) => {}
            }
            self.expire();
        }
    }

    /// Publishes and settles until the connection ends or all is done.
    fn serve(&mut self, link: &BrokerConnection, session: &mut Session) -> SessionEnd {
        loop {
            // What has come in while nobody looked.
            while let Ok(job) = self.inbox.try_recv() {
                self.accept(Some(job));
            }
            self.expire();
            if self.is_done() {
                return SessionEnd::Done;
            }
            if let Err(error) = self.fill_window(link, session) {
                return SessionEnd::Failed(error);
            }
            self.status.in_flight(session.window.len());
            let stall = session.time_until_stall(Instant::now());
            if stall.is_some_and(|left| left.is_zero()) {
                return SessionEnd::Stalled;
            }
            let sleep = self
                .until_next_deadline()
                .min(stall.unwrap_or(LONGEST_SLEEP));
            let stop = if self.stopping {
                never()
            } else {
                self.stop.clone()
            };
            select! {
                recv(link.confirms) -> confirm => match confirm {
                    Ok(confirm) if self.settle_all(confirm, link, session) => {}
                    _ => return SessionEnd::Lost,
                },
                recv(link.blocked) -> notice => match notice {
                    Ok(notice) => self.blocked(&notice, session),
                    Err(_) => return SessionEnd::Lost,
                },
                recv(self.inbox) -> job => {
                    self.accept(job.ok());
                    if session.window.len() > 0 {
                        thread::sleep(GATHERING);
                    }
                }
                recv(stop) -> _ => self.stopping = true,
                default(sleep) => {}
            }
        }
    }

    fn accept(&mut self, job: Option<Job>) {
        let Some(job) = job else {
            // Nobody is left who could hand anything in.
            self.stopping = true;
            self.inbox = never();
            return;
        };
        let count = job.batch.len();
        self.next_deadline = Some(
            self.next_deadline
                .map_or(job.deadline, |next| next.min(job.deadline)),
        );
        let pending = Pending {
            next: 0,
            confirmed: vec![false; count],
            unconfirmed: count,
            first_sequence: self.next_sequence,
            partly_published: false,
            job,
        };
        self.next_sequence += u64::try_from(count).unwrap_or(0);
        self.jobs.insert(self.next_job, pending);
        self.queue.push_back(self.next_job);
        self.next_job += 1;
    }

    /// Gives up the batches whose deadline has passed.
    fn expire(&mut self) {
        let now = Instant::now();
        if self.next_deadline.is_none_or(|next| now < next) {
            return;
        }
        let status = self.status.describe();
        self.jobs.retain(|_, pending| {
            let stands = pending.job.deadline > now;
            if !stands {
                pending
                    .job
                    .teller
                    .tell(Err(DeliveryError::Deadline(status.clone())));
            }
            stands
        });
        self.next_deadline = self.jobs.values().map(|pending| pending.job.deadline).min();
    }

    fn until_next_deadline(&self) -> Duration {
        let until = |deadline: Instant| deadline.saturating_duration_since(Instant::now());
        self.next_deadline.map_or(LONGEST_SLEEP, until)
    }

    fn fill_window(
        &mut self,
        link: &BrokerConnection,
        session: &mut Session,
    ) -> Result<(), BrokerError> {
        let _together = link.hold_writes();
        while !session.blocked
            && let Some(id) = self.queue.front().copied()
        {
            let Some(pending) = self.jobs.get_mut(&id) else {
                self.queue.pop_front();
                continue;
            };
            let Some(message) = pending.job.batch.get(pending.next) else {
                self.queue.pop_front();
                continue;
            };
            let bytes = message.body.len();
            if !session.window.has_room(bytes) {
                break;
            }
            let sequence = pending.first_sequence + u64::try_from(pending.next).unwrap_or(0);
            let message_id = format!("{}-{sequence}", self.instance);
            link.publish(&self.settings.exchange, message, message_id, &self.watchdog)?;
            session.window.push(InFlight {
                job: id,
                index: pending.next,
                sequence,
                bytes,
                since: Instant::now(),
            });
            pending.next += 1;
            pending.partly_published = true;
        }
        Ok(())
    }

    /// Settles a confirm, and those that have come behind it, as many as can be open. False where the broker returned a message
    /// that is none of ours: then no ack can be trusted.
    fn settle_all(
        &mut self,
        first: Confirm,
        link: &BrokerConnection,
        session: &mut Session,
    ) -> bool {
        let behind = std::iter::from_fn(|| link.confirms.try_recv().ok()).take(MOST_MESSAGES);
        for confirm in std::iter::once(first).chain(behind) {
            // A returned message comes before its ack, on a channel of its own: what was returned up to this ack is there.
            while let Ok(returned) = link.returns.try_recv() {
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
            self.metrics.confirmed(message.since.elapsed());
            let returned = session.returned.remove(&message.sequence);
            let Some(pending) = self.jobs.get_mut(&message.job) else {
                continue;
            };
            let failure = match returned {
                Some(reason) => Some(DeliveryError::Returned(reason)),
                None if !acked => Some(DeliveryError::Nacked),
                None => None,
            };
            if let Some(failure) = failure {
                self.finish(message.job, Err(failure));
                continue;
            }
            self.backoff.reset();
            if !std::mem::replace(&mut pending.confirmed[message.index], true) {
                pending.unconfirmed -= 1;
            }
            if pending.unconfirmed == 0 {
                self.finish(message.job, Ok(()));
            }
        }
    }

    fn finish(&mut self, job: u64, verdict: Result<(), DeliveryError>) {
        if let Some(pending) = self.jobs.remove(&job) {
            if let Err(error) = &verdict {
                debug!(events = pending.job.batch.len(); "a batch failed: {error}");
            }
            // Who waited may have gone away at its deadline.
            pending.job.teller.tell(verdict);
        }
    }

    /// Fails the batches of which anything has been published on a channel that the broker has closed over it.
    fn fail_in_flight(&mut self, failure: &DeliveryError) {
        let partly_published: Vec<u64> = self
            .jobs
            .iter()
            .filter(|(_, pending)| pending.partly_published)
            .map(|(id, _)| *id)
            .collect();
        for id in partly_published {
            self.finish(id, Err(failure.clone()));
        }
    }

    fn blocked(&self, notice: &ConnectionBlockedNotification, session: &mut Session) {
        match notice {
            ConnectionBlockedNotification::Blocked(reason) => {
                session.blocked = true;
                self.status.blocked(reason);
                error!(in_flight = session.window.len(); "the broker has blocked publishing: {reason}");
            }
            ConnectionBlockedNotification::Unblocked => {
                session.blocked = false;
                session.unblocked_at = Some(Instant::now());
                self.status.connected();
                info!(waiting = self.jobs.len(); "the broker takes events again");
            }
        }
    }
}
