//! Notifications and callers for the tests, and tests of single properties.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use super::*;
use crate::event::tests::event;
use crate::event::{Event, State};
use crate::memory::Budget;
use crate::publisher::batch::tests::batch_of;
use crate::publisher::caller::{AnswerTimeout, Wait};

mod model;

/// The entities of each notification's events. One entity comes in several notifications.
const NOTIFICATIONS: [&[usize]; 8] = [
    &[0],
    &[0],
    &[1, 2, 0],
    &[0, 1, 3, 2],
    &[3, 5],
    &[2],
    &[4, 1],
    &[
        9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31,
        32, 33, 34, 35, 36, 37, 38, 39, 40,
    ],
];

/// The broker closes the channel over the first event of this notification.
const POISON: usize = 6;

const TIMEOUT: AnswerTimeout = AnswerTimeout {
    without_progress: Duration::from_secs(3),
    in_all: Duration::from_secs(4),
};

fn new_batch(notification: usize) -> Batch {
    let resources: Vec<String> = NOTIFICATIONS[notification]
        .iter()
        .map(usize::to_string)
        .collect();
    batch_of((0..).zip(&resources).map(|(index, resource)| Event {
        output: Some(format!("{notification} {index}").into()),
        ..event(resource, State::Major)
    }))
}

static BATCHES: LazyLock<Vec<Batch>> =
    LazyLock::new(|| (0..NOTIFICATIONS.len()).map(new_batch).collect());

fn batch(notification: usize) -> Batch {
    BATCHES[notification].clone()
}

/// An event: its notification, and its index there.
type Id = (usize, usize);

static IDS: LazyLock<HashMap<Vec<u8>, Id>> = LazyLock::new(|| {
    let ids = |notification| {
        let batch = batch(notification);
        let body = move |index| batch.get(index).unwrap().body.to_vec();
        (0..NOTIFICATIONS[notification].len())
            .map(move |index| (body(index), (notification, index)))
    };
    (0..NOTIFICATIONS.len()).flat_map(ids).collect()
});

static IDENTITIES: LazyLock<Vec<Identity>> = LazyLock::new(|| {
    (0..NOTIFICATIONS.len())
        .map(|n| batch(n).identity())
        .collect()
});

/// The other end of a [`Caller`].
#[derive(Debug)]
struct Waiter {
    wait: Arc<Wait>,
    /// `None` once it is gone.
    receiver: Option<oneshot::Receiver<Verdict>>,
    verdict: OnceCell<Verdict>,
}

impl Waiter {
    fn new(now: Instant) -> (Caller, Self) {
        let (verdict, receiver) = oneshot::channel();
        let wait = Arc::new(Wait::new(TIMEOUT, now));
        let waiter = Self {
            wait: Arc::clone(&wait),
            receiver: Some(receiver),
            verdict: OnceCell::new(),
        };
        (Caller { verdict, wait }, waiter)
    }

    fn is_gone(&self) -> bool {
        self.receiver.is_none()
    }

    fn leave(&mut self) {
        self.receiver = None;
    }

    fn verdict(&self) -> Option<&Verdict> {
        if let Some(Ok(verdict)) = self.receiver.as_ref().map(oneshot::Receiver::try_recv) {
            self.verdict.set(verdict).unwrap();
        }
        self.verdict.get()
    }

    fn waits(&self) -> bool {
        !self.is_gone() && self.verdict().is_none()
    }
}

fn submit(ledger: &mut Ledger, batch: Batch, now: Instant) -> Waiter {
    let (caller, waiter) = Waiter::new(now);
    let charge = Budget::new(64 << 20).charge();
    ledger.submit(batch.identity(), (batch, charge), caller, now);
    waiter
}

/// Adds a parked delivery without a batch.
fn park(ledger: &mut Ledger, number: u64, events: usize, now: Instant) {
    let delivery = Delivery::new(events, now);
    ledger.deliveries.insert(Identity([number, 0]), delivery);
    ledger.limit_parked();
}

#[test]
fn deliveries_take_turns_message_by_message() {
    let (mut ledger, now) = (Ledger::default(), Instant::now());
    ledger.opened();
    let _callers = [7, 4, 5, 2].map(|notification| submit(&mut ledger, batch(notification), now));
    let order: Vec<usize> = std::iter::from_fn(|| {
        let (_, message) = ledger.publish_next(now)?;
        Some(IDS[message.body].0)
    })
    .take(11)
    .collect();
    assert_eq!(order, [7, 4, 5, 2, 7, 4, 2, 7, 2, 7, 7]);
}

#[test]
fn parked_deliveries_take_a_bounded_amount_of_memory() {
    let (mut ledger, now) = (Ledger::default(), Instant::now());
    let events = 1_000;
    for number in 0..10_000 {
        park(
            &mut ledger,
            number,
            events,
            now + Duration::from_micros(number),
        );
    }
    let stats = ledger.stats();
    let each = Delivery::new(events, now).parked_bytes();
    assert_eq!(stats.parked, MAX_PARKED_BYTES / each);
    assert!(
        !ledger.deliveries.contains_key(&Identity([0, 0])),
        "the oldest is forgotten"
    );
    assert!(ledger.deliveries.contains_key(&Identity([9_999, 0])));
}

#[test]
fn parking_forgets_the_oldest_beyond_the_limit_but_none_with_a_message_in_flight() {
    let (mut ledger, now) = (Ledger::default(), Instant::now());
    ledger.opened();
    let mut caller = submit(&mut ledger, batch(0), now);
    assert!(ledger.publish_next(now).is_some());
    caller.leave();
    ledger.scan(now);
    // Of an attempt before.
    ledger.heard(IDENTITIES[0]);
    let later = now + SCAN_INTERVAL;
    let mut number = 0;
    while ledger.parked_bytes() + 1_000 < MAX_PARKED_BYTES {
        number += 1;
        park(&mut ledger, number, 500, later);
    }
    let mut callers: Vec<Waiter> = (1..NOTIFICATIONS.len())
        .map(|notification| submit(&mut ledger, batch(notification), later))
        .collect();
    callers.iter_mut().for_each(Waiter::leave);
    ledger.scan(later);
    assert!(ledger.turns.is_empty() && ledger.parked_bytes() <= MAX_PARKED_BYTES);
    assert!(
        ledger.deliveries.contains_key(&IDENTITIES[0]),
        "its confirm is still to come"
    );
    ledger.confirmed(1, false, true, later);
    assert!(ledger.deliveries[&IDENTITIES[0]].is_settled());
}

#[test]
fn large_messages_fill_the_window_before_their_number_does() {
    let (mut ledger, now) = (Ledger::default(), Instant::now());
    ledger.opened();
    let resources = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];
    let batch = batch_of(resources.map(|resource| Event {
        output: Some("x".repeat(1_000_000).into()),
        ..event(resource, State::Ok)
    }));
    let _caller = submit(&mut ledger, batch, now);
    let published = (0..10).filter(|_| ledger.publish_next(now).is_some());
    assert_eq!(published.count(), 8, "8 MiB");
    ledger.confirmed(1, false, true, now);
    assert!(ledger.publish_next(now).is_some());
}
