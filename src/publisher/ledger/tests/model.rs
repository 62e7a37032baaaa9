//! The ledger against a model of a broker that keeps a queue, and loses acks, messages, connections and senders.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

mod invariants;

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
    /// The connection is lost; this number of messages still arrives.
    Lose(usize),
    Open,
    Block(bool),
    /// A caller is gone, or (`false`) only its sender, which shows when it gets its verdict.
    Leave(usize, bool),
    /// The ledger learns that a sender gets its response.
    Hear(usize),
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
        3 => any::<usize>().prop_map(Step::Hear),
        2 => prop_oneof![5 => 0_u64..1_500, 1 => 1_500_u64..5_000, 1 => Just(130_000)].prop_map(Step::Wait),
    ];
    vec(step, 1..60)
}

#[derive(Debug)]
struct Attempt {
    notification: usize,
    at: Instant,
    caller: Waiter,
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
    budget: Arc<Budget>,
    submissions: Vec<Attempt>,
    is_open: bool,
    is_blocked: bool,
    next_tag: u64,
    /// Published and not handled.
    wire: VecDeque<(u64, Id)>,
    /// Handled and not confirmed.
    handled: Vec<(u64, Id, Handled)>,
    queue_len: usize,
    known: HashMap<Id, Known>,
    /// Were in flight with others when the broker closed the channel, and have had a caller and no confirm since.
    suspected: Vec<Id>,
    next_order: usize,
    /// When an event of each notification was settled last, and how many are.
    progress: Vec<(Instant, usize)>,
    /// Since when each notification has had no caller.
    parked_at: Vec<Option<Instant>>,
    /// What the broker has done to an event of each notification.
    was_refused: Vec<(bool, bool)>,
    /// Notifications whose verdict `Ok` was heard, which the ledger has not learned yet.
    heard: Vec<usize>,
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
            suspected: Vec::new(),
            next_order: 0,
            progress: vec![(now, 0); NOTIFICATIONS.len()],
            parked_at: vec![None; NOTIFICATIONS.len()],
            was_refused: vec![(false, false); NOTIFICATIONS.len()],
            heard: Vec::new(),
            done: Vec::new(),
        }
    }

    fn delivery(&self, notification: usize) -> Option<&Delivery> {
        self.ledger.deliveries.get(&IDENTITIES[notification])
    }

    fn waits(&self, notification: usize) -> bool {
        let waits = |submission: &Attempt| {
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
            Step::Hear(which) => self.hear(which),
            Step::Wait(milliseconds) => self.wait(milliseconds),
        }
        self.check();
    }

    fn submit(&mut self, notification: usize) {
        let batch = batch(notification);
        let mut charge = self.budget.charge();
        charge.grow(batch.bytes()).unwrap();
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
        let (caller, waiter) = Waiter::new(self.now);
        let identity = IDENTITIES[notification];
        let reported = self
            .ledger
            .submit(identity, (batch, charge), caller, self.now);
        assert_eq!(reported, settled, "events settled before");
        if settled == NOTIFICATIONS[notification].len() {
            assert_eq!(
                waiter.verdict(),
                Some(&Ok(())),
                "a settled one is answered at once"
            );
        }
        self.submissions.push(Attempt {
            notification,
            at: self.now,
            caller: waiter,
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
        let Some((tag, message)) = publication else {
            let has_room = self.is_open && !self.is_blocked && before.in_flight < before.window;
            if has_room && (self.ledger.suspects.is_empty() || before.in_flight == 0) {
                for notification in 0..NOTIFICATIONS.len() {
                    let to_do = self
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
        let id = IDS[message.body];
        assert_eq!(tag, self.next_tag);
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
        let is_in_flight = |id: &Id| self.known[id].is_in_flight;
        assert!(
            !self.suspected.iter().any(is_in_flight),
            "published beside a suspect"
        );
        assert!(
            !self.suspected.contains(&id) || before.in_flight == 0,
            "a suspect beside others"
        );
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

    fn handle(&mut self, fate: Fate) {
        let Some((tag, id)) = self.wire.pop_front() else {
            return;
        };
        if id == (POISON, 0) {
            self.end(&CloseReason::Channel {
                code: 406,
                message: "too large".to_owned(),
            });
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
            self.suspected.retain(|other| *other != id);
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
            self.suspected.retain(|other| other != id);
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
        self.end(&CloseReason::Connection("lost".to_owned()));
    }

    fn end(&mut self, reason: &CloseReason) {
        let in_flight = self.ledger.in_flight();
        if in_flight > 1 && matches!(reason, CloseReason::Channel { .. }) {
            let lost = self.known.iter().filter(|(_, known)| known.is_in_flight);
            self.suspected.extend(lost.map(|(id, _)| *id));
        }
        assert_eq!(self.ledger.channel_ended(reason, self.now), in_flight);
        (self.is_open, self.is_blocked, self.next_tag) = (false, false, 1);
        self.wire.clear();
        self.handled.clear();
        for known in self.known.values_mut() {
            known.is_in_flight = false;
        }
    }

    fn open(&mut self) {
        if !self.is_open {
            self.ledger.opened();
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

    /// Callers whose time is up give up, and the ledger looks for those that are gone.
    fn wait(&mut self, milliseconds: u64) {
        self.now += Duration::from_millis(milliseconds);
        for index in 0..self.submissions.len() {
            let submission = &self.submissions[index];
            let is_over = submission.caller.wait.pause(self.now).is_none();
            assert_eq!(
                is_over,
                self.now >= self.deadline(submission),
                "the deadline"
            );
            if is_over {
                self.submissions[index].caller.leave();
            }
        }
        self.ledger.scan(self.now);
        for notification in 0..NOTIFICATIONS.len() {
            let is_live = self.delivery(notification).is_some_and(Delivery::is_live);
            assert!(!is_live || self.waits(notification), "not parked in time");
        }
    }

    fn hear(&mut self, which: usize) {
        if self.heard.is_empty() {
            return;
        }
        let notification = self.heard.swap_remove(which % self.heard.len());
        let is_settled = |delivery: &Delivery| !delivery.is_live() && delivery.is_settled();
        let was_settled = self.delivery(notification).is_some_and(is_settled);
        self.ledger.heard(IDENTITIES[notification]);
        if !was_settled {
            // Forgotten already, or submitted again.
            return;
        }
        assert!(
            self.delivery(notification).is_none(),
            "heard, and not forgotten"
        );
        for (index, entity) in NOTIFICATIONS[notification].iter().enumerate() {
            let known = &self.known[&(notification, index)];
            let last = *known.copies.last().unwrap();
            self.done.push((*entity, known.order, last));
        }
        self.forget(notification);
    }

    fn deadline(&self, submission: &Attempt) -> Instant {
        let progress = submission.at.max(self.progress[submission.notification].0);
        (progress + TIMEOUT.without_progress).min(submission.at + TIMEOUT.in_all)
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
            while !self.heard.is_empty() {
                self.hear(0);
            }
        }
        self.apply(&Step::Lose(0));
        self.apply(&Step::Wait(20_000));
        self.apply(&Step::Wait(130_000));
        assert!(self.ledger.deliveries.is_empty() && self.ledger.entities.is_empty());
        assert_eq!(self.budget.used(), 0);
    }
}

proptest! {
    // 10,240. PROPTEST_CASES changes it for all property tests alike.
    #![proptest_config(ProptestConfig { cases: 40 * ProptestConfig::default().cases, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_broker_and_the_senders_do(steps in steps()) {
        let mut model = Model::new();
        for step in &steps {
            model.apply(step);
        }
        model.heal();
    }
}
