//! The ledger against a model of a broker that keeps a queue, and loses acks, messages, connections and senders.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::sync::LazyLock;

use proptest::collection::vec;
use proptest::prelude::*;

use super::parking::MAX_PARKED_BYTES;
use super::*;
use crate::event::{Event, Name, State};
use crate::memory::Budget;
use crate::publisher::error::Progress;

/// The entities of each notification's events. One entity comes in several notifications, and twice in one of them.
const NOTIFICATIONS: [&[usize]; 8] = [
    &[0],
    &[0],
    &[1, 2, 0],
    &[0, 1, 0, 2],
    &[3, 3],
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

/// How many events of the same notification and entity come before this one: they are in ascending order of state.
fn older(notification: usize, index: usize) -> impl Iterator<Item = usize> {
    let entities = NOTIFICATIONS[notification];
    (0..index).filter(move |older| entities[*older] == entities[index])
}

fn new_batch(notification: usize) -> Batch {
    let mut batch = Batch::default();
    for (index, entity) in NOTIFICATIONS[notification].iter().enumerate() {
        let name = |text| Name::new(text).unwrap();
        let event = Event {
            connector: name("c"),
            connector_name: name("n"),
            component: name("host"),
            resource: Name::new(entity.to_string()).unwrap(),
            state: [State::Ok, State::Major][older(notification, index).count()],
            output: Some(format!("{notification} {index}").into()),
            long_output: None,
            author: None,
            timestamp: None,
            tags: None,
            extra: Vec::new(),
        };
        batch.push(&event, "", "").unwrap();
    }
    batch
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

#[derive(Debug)]
struct Caller {
    /// `None` once it is gone.
    receiver: Option<oneshot::Receiver<Verdict>>,
    verdict: OnceCell<Verdict>,
}

impl Caller {
    fn new() -> (VerdictSender, Self) {
        let (sender, receiver) = oneshot::channel();
        let caller = Self {
            receiver: Some(receiver),
            verdict: OnceCell::new(),
        };
        (sender, caller)
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

#[derive(Debug, Clone, Copy)]
enum Fate {
    Queue,
    Return,
    Nack,
}

#[derive(Debug, Clone)]
enum Step {
    Submit(usize),
    Publish(usize),
    /// The broker handles the next messages.
    Handle(usize, Fate),
    /// The broker confirms one of the messages it has handled, or all up to it.
    Confirm(usize, bool),
    /// A confirm for a tag that is settled, or not given yet.
    Stale(usize, bool, bool),
    /// The connection is lost; so many messages still arrive.
    Lose(usize),
    Open,
    Block(bool),
    /// A caller is gone, or (`false`) only its sender, which shows when it gets its verdict.
    Leave(usize, bool),
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let fate = prop_oneof![8 => Just(Fate::Queue), 1 => Just(Fate::Return), 1 => Just(Fate::Nack)];
    let step = prop_oneof![
        6 => (0..NOTIFICATIONS.len()).prop_map(Step::Submit),
        6 => prop_oneof![4 => 1_usize..6, 1 => Just(50)].prop_map(Step::Publish),
        6 => (prop_oneof![4 => 1_usize..6, 1 => Just(50)], fate).prop_map(|(count, fate)| Step::Handle(count, fate)),
        6 => (any::<usize>(), any::<bool>()).prop_map(|(which, multiple)| Step::Confirm(which, multiple)),
        1 => (any::<usize>(), any::<bool>(), any::<bool>()).prop_map(|(tag, multiple, is_ack)| Step::Stale(tag, multiple, is_ack)),
        1 => (0_usize..6).prop_map(Step::Lose),
        2 => Just(Step::Open),
        1 => prop_oneof![1 => Just(true), 2 => Just(false)].prop_map(Step::Block),
        2 => (any::<usize>(), any::<bool>()).prop_map(|(which, is_caller)| Step::Leave(which, is_caller)),
        2 => prop_oneof![5 => 0_u64..1_500, 1 => 1_500_u64..5_000, 1 => Just(130_000)].prop_map(Step::Wait),
    ];
    vec(step, 1..60)
}

#[derive(Debug)]
struct Submission {
    notification: usize,
    at: Instant,
    caller: Caller,
    sender_is_gone: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Handled {
    Queued(usize),
    Returned,
    Nacked,
}

/// What is known of an event since its notification was last forgotten.
#[derive(Debug, Clone, Default)]
struct Known {
    /// Its place in the order of submission.
    order: usize,
    /// The ledger has got an ack for a copy that is in the queue.
    is_acked: bool,
    /// The ledger has called it settled.
    is_settled: bool,
    /// Places of its copies in the queue.
    copies: Vec<usize>,
    is_in_flight: bool,
}

struct Model {
    now: Instant,
    ledger: Ledger,
    budget: Budget,
    submissions: Vec<Submission>,
    is_open: bool,
    is_blocked: bool,
    next_tag: u64,
    /// Published and not handled.
    wire: VecDeque<(u64, Id)>,
    /// Handled and not confirmed.
    handled: Vec<(u64, Id, Handled)>,
    queue_len: usize,
    known: HashMap<Id, Known>,
    next_order: usize,
    /// When an event of each notification was settled last, and how many are.
    progress: Vec<(Instant, usize)>,
    /// Since when each notification has had no caller.
    parked_at: Vec<Option<Instant>>,
    /// What the broker has done to an event of each notification.
    was_refused: Vec<(bool, bool)>,
    /// Events of notifications whose verdict `Ok` was heard: entity, order, last place in the queue.
    done: Vec<(usize, usize, usize)>,
}

impl Model {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            now,
            ledger: Ledger::default(),
            budget: Budget::new(64 << 20),
            submissions: Vec::new(),
            is_open: false,
            is_blocked: false,
            next_tag: 1,
            wire: VecDeque::new(),
            handled: Vec::new(),
            queue_len: 0,
            known: HashMap::new(),
            next_order: 0,
            progress: vec![(now, 0); NOTIFICATIONS.len()],
            parked_at: vec![None; NOTIFICATIONS.len()],
            was_refused: vec![(false, false); NOTIFICATIONS.len()],
            done: Vec::new(),
        }
    }

    fn delivery(&self, notification: usize) -> Option<&Delivery> {
        self.ledger.deliveries.get(&IDENTITIES[notification])
    }

    fn waits(&self, notification: usize) -> bool {
        let waits = |submission: &Submission| {
            submission.notification == notification && submission.caller.waits()
        };
        self.submissions.iter().any(waits)
    }

    fn apply(&mut self, step: &Step) {
        match *step {
            Step::Submit(notification) => self.submit(notification),
            Step::Publish(count) => {
                let _ = (0..count).all(|_| self.publish());
            }
            Step::Handle(count, fate) => (0..count).for_each(|_| self.handle(fate)),
            Step::Confirm(which, multiple) => self.confirm(which, multiple),
            Step::Stale(tag, multiple, is_ack) => self.stale(tag, multiple, is_ack),
            Step::Lose(arriving) => self.lose(arriving),
            Step::Open => self.open(),
            Step::Block(is_blocked) => self.block(is_blocked),
            Step::Leave(which, is_caller) => self.leave(which, is_caller),
            Step::Wait(milliseconds) => self.wait(milliseconds),
        }
        self.check();
    }

    fn submit(&mut self, notification: usize) {
        let batch = batch(notification);
        let charge = self.budget.charge(batch.bytes()).unwrap();
        let states = self
            .delivery(notification)
            .map(|delivery| delivery.states.clone());
        let is_live = self.delivery(notification).is_some_and(Delivery::is_live);
        for index in 0..batch.len() {
            let state = states
                .as_ref()
                .map_or(EventState::ToDo, |states| states[index]);
            if !is_live && state == EventState::ToDo {
                self.next_order += 1;
                self.known.entry((notification, index)).or_default().order = self.next_order;
            }
        }
        let settled = self.known_settled(notification);
        let (verdict, caller) = Caller::new();
        let reported = self
            .ledger
            .submit(batch, charge, verdict, TIMEOUT, self.now);
        assert_eq!(reported, settled, "events settled before");
        if settled == NOTIFICATIONS[notification].len() {
            assert_eq!(
                caller.verdict(),
                Some(&Ok(())),
                "a settled one is answered at once"
            );
        }
        self.submissions.push(Submission {
            notification,
            at: self.now,
            caller,
            sender_is_gone: false,
        });
    }

    fn known_settled(&self, notification: usize) -> usize {
        let settled = |index: &usize| {
            self.known
                .get(&(notification, *index))
                .is_some_and(|known| known.is_settled)
        };
        (0..NOTIFICATIONS[notification].len())
            .filter(settled)
            .count()
    }

    fn forget(&mut self, notification: usize) {
        self.known.retain(|id, _| id.0 != notification);
        self.progress[notification] = (self.now, 0);
        self.was_refused[notification] = (false, false);
        self.parked_at[notification] = None;
    }

    /// Publishes a message, if the ledger wants to.
    fn publish(&mut self) -> bool {
        let before = self.ledger.stats();
        let is_suspicious = !self.ledger.suspects.is_empty();
        let publication = self.ledger.publish_next(self.now);
        let Some(publication) = publication else {
            let has_room = self.is_open && !self.is_blocked && before.in_flight < before.window;
            if has_room && (self.ledger.suspects.is_empty() || before.in_flight == 0) {
                for notification in 0..NOTIFICATIONS.len() {
                    // One that is held back may be the oldest of an entity, whose others have to wait, too.
                    let to_do = !self.holds_back()
                        && self
                            .delivery(notification)
                            .is_some_and(|delivery| delivery.states.contains(&EventState::ToDo));
                    assert!(
                        !(to_do && self.waits(notification)),
                        "nothing to do, and {notification} waits"
                    );
                }
            }
            return false;
        };
        let id = IDS[publication.message.body];
        assert_eq!(publication.tag, self.next_tag);
        assert!(
            self.is_open && !self.is_blocked,
            "published without a channel, or while blocked"
        );
        assert!(
            before.in_flight < before.window.max(1),
            "published beyond the window"
        );
        assert!(
            !is_suspicious || before.in_flight == 0,
            "a suspect is published alone"
        );
        assert!(self.waits(id.0), "published without a caller");
        let known = self.known.get_mut(&id).unwrap();
        assert!(!known.is_settled, "a settled event is published again");
        assert!(
            !std::mem::replace(&mut known.is_in_flight, true),
            "published twice on one channel"
        );
        self.wire.push_back((self.next_tag, id));
        self.next_tag += 1;
        true
    }

    /// An event waits for an older one of its notification and entity.
    fn holds_back(&self) -> bool {
        let is_unsettled = |state| matches!(state, EventState::InFlight | EventState::Acked);
        (0..NOTIFICATIONS.len()).any(|notification| {
            self.delivery(notification).is_some_and(|delivery| {
                let states = &delivery.states;
                (0..states.len()).any(|index| {
                    states[index] == EventState::ToDo
                        && older(notification, index).any(|older| is_unsettled(states[older]))
                })
            })
        })
    }

    fn handle(&mut self, fate: Fate) {
        let Some((tag, id)) = self.wire.pop_front() else {
            return;
        };
        if id == (POISON, 0) {
            self.end(CloseReason::Channel("406 too large".to_owned()));
            return;
        }
        let handled = match fate {
            Fate::Queue => Handled::Queued(self.enqueue(id)),
            Fate::Return => {
                assert!(self.ledger.returned(tag, "312 NO_ROUTE".to_owned()));
                Handled::Returned
            }
            Fate::Nack => Handled::Nacked,
        };
        self.handled.push((tag, id, handled));
    }

    fn enqueue(&mut self, id: Id) -> usize {
        let place = self.queue_len;
        self.queue_len += 1;
        // Messages of a forgotten delivery may arrive late.
        if let Some(known) = self.known.get_mut(&id) {
            known.copies.push(place);
        }
        place
    }

    fn confirm(&mut self, which: usize, multiple: bool) {
        if self.handled.is_empty() {
            return;
        }
        let (tag, id, handled) = self.handled[which % self.handled.len()];
        if handled == Handled::Nacked {
            self.handled.retain(|(other, ..)| *other != tag);
            self.was_refused[id.0].0 = true;
            self.known.get_mut(&id).unwrap().is_in_flight = false;
            self.ledger.confirmed(tag, false, false, self.now);
            return;
        }
        // An ack for several covers neither what is nacked nor what is not handled yet.
        let multiple = multiple
            && !self
                .handled
                .iter()
                .any(|(other, _, handled)| *other < tag && *handled == Handled::Nacked);
        let is_covered = |other: u64| other == tag || multiple && other < tag;
        for (_, id, handled) in self.handled.iter().filter(|(other, ..)| is_covered(*other)) {
            let known = self.known.get_mut(id).unwrap();
            known.is_in_flight = false;
            match handled {
                Handled::Returned => self.was_refused[id.0].1 = true,
                _ => known.is_acked = true,
            }
        }
        self.handled.retain(|(other, ..)| !is_covered(*other));
        self.ledger.confirmed(tag, multiple, true, self.now);
    }

    fn stale(&mut self, tag: usize, multiple: bool, is_ack: bool) {
        let unconfirmed = |tag: u64| {
            self.handled.iter().any(|(other, ..)| *other == tag)
                || self.wire.iter().any(|(other, _)| *other == tag)
        };
        let is_future = tag.is_multiple_of(2);
        let tag = if is_future {
            self.next_tag + tag as u64 % 1000
        } else {
            tag as u64 % self.next_tag
        };
        if unconfirmed(tag) || (multiple && (is_future || (0..tag).any(unconfirmed))) {
            return;
        }
        let before = self.ledger.stats();
        assert!(
            self.ledger
                .confirmed(tag, multiple, is_ack, self.now)
                .is_empty()
        );
        assert_eq!(self.ledger.stats(), before);
        if is_future || self.next_tag == 1 {
            assert!(!self.ledger.returned(tag, String::new()));
        }
    }

    fn lose(&mut self, arriving: usize) {
        for _ in 0..arriving {
            match self.wire.pop_front() {
                Some((_, id)) if id != (POISON, 0) => drop(self.enqueue(id)),
                _ => break,
            }
        }
        self.end(CloseReason::Connection("lost".to_owned()));
    }

    fn end(&mut self, reason: CloseReason) {
        let in_flight = self.ledger.in_flight();
        assert_eq!(self.ledger.lost(reason, self.now), in_flight);
        (self.is_open, self.is_blocked, self.next_tag) = (false, false, 1);
        self.wire.clear();
        self.handled.clear();
        for known in self.known.values_mut() {
            known.is_in_flight = false;
        }
    }

    fn open(&mut self) {
        if !self.is_open {
            self.ledger.opened(self.now);
            (self.is_open, self.next_tag) = (true, 1);
        }
    }

    fn block(&mut self, is_blocked: bool) {
        if self.is_open {
            self.is_blocked = is_blocked;
            self.ledger.set_blocked(is_blocked, self.now);
        }
    }

    fn leave(&mut self, which: usize, is_caller: bool) {
        if self.submissions.is_empty() {
            return;
        }
        let index = which % self.submissions.len();
        let submission = &mut self.submissions[index];
        submission.sender_is_gone = true;
        if is_caller {
            submission.caller.leave();
        }
    }

    fn wait(&mut self, milliseconds: u64) {
        self.now += Duration::from_millis(milliseconds);
        self.ledger.tick(&BrokerStatus::default, self.now);
        for submission in &self.submissions {
            if submission.caller.waits() {
                assert!(
                    self.now < self.deadline(submission),
                    "no verdict by the deadline"
                );
            }
        }
    }

    fn deadline(&self, submission: &Submission) -> Instant {
        let progress = submission.at.max(self.progress[submission.notification].0);
        (progress + TIMEOUT.without_progress).min(submission.at + TIMEOUT.in_all)
    }

    /// What has to hold after each step.
    fn check(&mut self) {
        self.note_settled();
        self.check_verdicts();
        self.check_parked();
        self.check_order();
        self.check_ledger();
    }

    fn note_settled(&mut self) {
        for notification in 0..NOTIFICATIONS.len() {
            let Some(states) = self
                .delivery(notification)
                .map(|delivery| delivery.states.clone())
            else {
                continue;
            };
            for (index, state) in states.iter().enumerate() {
                // What is reinstated after an unheard verdict is known already.
                let known = self.known.entry((notification, index)).or_default();
                assert!(
                    !known.is_settled || *state == EventState::Settled,
                    "no longer settled"
                );
                if *state == EventState::Settled {
                    assert!(known.is_acked, "settled without an ack");
                    known.is_settled = true;
                }
            }
            let settled = self.known_settled(notification);
            if settled > self.progress[notification].1 {
                self.progress[notification] = (self.now, settled);
            }
        }
    }

    fn check_verdicts(&mut self) {
        let answered = |submission: &mut Submission| submission.caller.verdict().is_some();
        let answered: Vec<Submission> = self.submissions.extract_if(.., answered).collect();
        self.submissions
            .retain(|submission| !submission.caller.is_gone());
        let mut heard = Vec::new();
        for submission in answered {
            let notification = submission.notification;
            let verdict = submission.caller.verdict().unwrap().clone();
            let events = NOTIFICATIONS[notification].len();
            let settled = self.known_settled(notification);
            // Settled behind the event that failed, at the same moment.
            let progress_is_right = |progress: Progress| {
                assert!(progress.of == events && progress.confirmed <= settled);
            };
            match verdict {
                Ok(()) => {
                    for index in 0..events {
                        let known = &self.known[&(notification, index)];
                        assert!(
                            known.is_acked && !known.copies.is_empty(),
                            "Ok without being in the queue"
                        );
                        for older in older(notification, index) {
                            let older = self.known[&(notification, older)].copies.last();
                            assert!(
                                older < known.copies.last(),
                                "an older state of an entity is the last one"
                            );
                        }
                    }
                    heard.push((notification, submission.sender_is_gone));
                }
                Err(DeliveryError::Nacked(progress)) => {
                    assert!(self.was_refused[notification].0, "the nack of another one");
                    progress_is_right(progress);
                }
                Err(DeliveryError::Returned { progress, .. }) => {
                    assert!(
                        self.was_refused[notification].1,
                        "the return of another one"
                    );
                    progress_is_right(progress);
                }
                Err(DeliveryError::ChannelClosed { progress, .. }) => {
                    assert_eq!(
                        notification, POISON,
                        "the channel was closed over another one"
                    );
                    progress_is_right(progress);
                }
                Err(DeliveryError::Timeout { progress, .. }) => {
                    assert!(
                        self.deadline(&submission) <= self.now,
                        "timed out too early"
                    );
                    assert_eq!((progress.of, progress.confirmed), (events, settled));
                }
                Err(other) => panic!("unexpected: {other}"),
            }
        }
        heard.sort_unstable();
        let mut heard = heard.into_iter().peekable();
        while let Some((notification, mut all_gone)) = heard.next() {
            while let Some((_, is_gone)) = heard.next_if(|(other, _)| *other == notification) {
                all_gone &= is_gone;
            }
            assert!(
                self.delivery(notification).is_none(),
                "heard, and not forgotten"
            );
            let events = NOTIFICATIONS[notification].len();
            if all_gone {
                self.ledger
                    .unheard(IDENTITIES[notification], events, self.now);
                self.note_settled();
                continue;
            }
            for (index, entity) in NOTIFICATIONS[notification].iter().enumerate() {
                let known = &self.known[&(notification, index)];
                let last = *known.copies.last().unwrap();
                self.done.push((*entity, known.order, last));
            }
            self.forget(notification);
        }
    }

    /// What was not heard is remembered for the time of a retry.
    fn check_parked(&mut self) {
        for notification in 0..NOTIFICATIONS.len() {
            match self.delivery(notification).map(Delivery::is_live) {
                Some(true) => self.parked_at[notification] = None,
                Some(false) => {
                    self.parked_at[notification].get_or_insert(self.now);
                }
                None if self.known.keys().any(|id| id.0 == notification) => {
                    let parked_at = self.parked_at[notification].expect("forgotten while live");
                    assert!(self.now >= parked_at + PARKING_LIMIT, "forgotten too early");
                    self.forget(notification);
                }
                None => {}
            }
        }
    }

    fn check_order(&mut self) {
        self.done.sort_unstable();
        for pair in self.done.windows(2) {
            let ((entity, _, place), (other, _, later)) = (pair[0], pair[1]);
            assert!(
                entity != other || place < later,
                "an older event of an entity is the last one"
            );
        }
    }

    /// What the ledger keeps is consistent.
    fn check_ledger(&self) {
        let ledger = &self.ledger;
        let (mut live, mut waiting, mut parked, mut bytes) = (0, 0, 0, 0);
        let (mut queued, mut taking_turns) = (0, 0);
        for (identity, delivery) in &ledger.deliveries {
            let count = |state| {
                delivery
                    .states
                    .iter()
                    .filter(|other| **other == state)
                    .count()
            };
            assert_eq!(delivery.settled, count(EventState::Settled));
            assert_eq!(
                delivery.unsettled,
                count(EventState::InFlight) + count(EventState::Acked)
            );
            queued += delivery.unsettled;
            if let Some((batch, charge)) = &delivery.content {
                assert_eq!(charge.bytes(), batch.bytes());
                bytes += charge.bytes();
                live += 1;
                waiting += delivery.states.len() - delivery.settled;
                queued += count(EventState::ToDo);
                let turns = ledger.turns.iter().filter(|turn| *turn == identity);
                let expected = usize::from(count(EventState::ToDo) > 0);
                assert_eq!(turns.count(), expected, "turns");
                taking_turns += expected;
            } else {
                parked += delivery.parked_bytes();
                assert!(delivery.waiting.is_empty());
            }
        }
        assert_eq!(
            (ledger.live, ledger.waiting, ledger.parked_bytes),
            (live, waiting, parked)
        );
        assert_eq!(self.budget.used(), bytes, "the budget");
        assert_eq!(ledger.turns.len(), taking_turns, "a turn of a parked one");
        assert_eq!(
            ledger.entities.values().map(VecDeque::len).sum::<usize>(),
            queued
        );
        for events in ledger.entities.values() {
            let states: Vec<EventState> = events
                .iter()
                .map(|event| ledger.deliveries[&event.delivery].states[event.index as usize])
                .collect();
            assert_ne!(states.first(), None);
            assert_ne!(states.first(), Some(&EventState::Acked), "to be settled");
            assert!(
                states.is_sorted_by_key(|state| *state == EventState::ToDo),
                "to do comes last"
            );
        }
        assert_eq!(ledger.in_flight(), self.wire.len() + self.handled.len());
    }

    /// On a broker that works, every notification that is sent again gets through, but the poisonous one.
    fn heal(&mut self) {
        // Who has lost its sender notices it within a second.
        for submission in &mut self.submissions {
            if submission.sender_is_gone {
                submission.caller.leave();
            }
        }
        for round in 0.. {
            assert!(round < 100, "retries do not converge");
            let mut is_done = true;
            for notification in 0..NOTIFICATIONS.len() {
                let is_known =
                    self.known.keys().any(|id| id.0 == notification) && notification != POISON;
                if is_known && !self.waits(notification) {
                    self.apply(&Step::Submit(notification));
                }
                is_done &= !is_known && !self.waits(notification);
            }
            if is_done {
                break;
            }
            self.apply(&Step::Open);
            self.apply(&Step::Block(false));
            self.apply(&Step::Wait(1));
            while self.publish() {}
            self.check();
            self.apply(&Step::Handle(50, Fate::Queue));
            while !self.handled.is_empty() {
                self.confirm(0, false);
            }
            self.check();
        }
        self.apply(&Step::Lose(0));
        self.apply(&Step::Wait(20_000));
        self.apply(&Step::Wait(130_000));
        assert!(self.ledger.deliveries.is_empty() && self.ledger.entities.is_empty());
        assert_eq!(self.budget.used(), 0);
        assert_eq!(self.ledger.next_tick(), None);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_broker_and_the_senders_do(steps in steps()) {
        let mut model = Model::new();
        for step in &steps {
            model.apply(step);
        }
        model.heal();
    }
}

fn submit(ledger: &mut Ledger, batch: Batch, now: Instant) -> Caller {
    let ((verdict, caller), charge) = (Caller::new(), Budget::new(64 << 20).charge(0));
    ledger.submit(batch, charge.unwrap(), verdict, TIMEOUT, now);
    caller
}

#[test]
fn deliveries_take_turns_message_by_message() {
    let (mut ledger, now) = (Ledger::default(), Instant::now());
    ledger.opened(now);
    let _callers = [7, 4, 5, 2].map(|notification| submit(&mut ledger, batch(notification), now));
    let order: Vec<usize> = std::iter::from_fn(|| {
        let publication = ledger.publish_next(now)?;
        Some(IDS[publication.message.body].0)
    })
    .take(11)
    .collect();
    // The second event of 4 has another state, and is held back until the first one is settled.
    assert_eq!(order, [7, 4, 5, 2, 7, 2, 7, 2, 7, 7, 7]);
}

#[test]
fn parked_deliveries_take_a_bounded_amount_of_memory() {
    let (mut ledger, now) = (Ledger::default(), Instant::now());
    let events = 1_000;
    for number in 0..10_000_u32 {
        ledger.unheard(
            Identity([u64::from(number), 0]),
            events,
            now + Duration::from_micros(number.into()),
        );
    }
    let stats = ledger.stats();
    let each = Delivery::new(events, EventState::Settled, now).parked_bytes();
    assert_eq!(stats.parked, MAX_PARKED_BYTES / each);
    assert!(
        !ledger.deliveries.contains_key(&Identity([0, 0])),
        "the oldest is forgotten"
    );
    assert!(ledger.deliveries.contains_key(&Identity([9_999, 0])));
}
