//! What has to hold after each step, whatever the broker and the senders have done.

use super::*;

impl Model {
    pub(super) fn check(&mut self) {
        self.note_settled();
        self.check_verdicts();
        self.check_parked();
        self.suspected.retain(|id| {
            self.ledger
                .deliveries
                .get(&IDENTITIES[id.0])
                .is_some_and(Delivery::is_live)
        });
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
        let answered = |submission: &mut Attempt| submission.caller.verdict().is_some();
        let answered: Vec<Attempt> = self.submissions.extract_if(.., answered).collect();
        self.submissions
            .retain(|submission| !submission.caller.is_gone());
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
                    }
                    let delivery = self.delivery(notification);
                    assert!(
                        delivery.is_some_and(|one| !one.is_live() && one.is_settled()),
                        "forgotten before it was heard"
                    );
                    if !submission.sender_is_gone {
                        self.heard.push(notification);
                    }
                }
                Err(DeliveryError::Nacked(progress)) => {
                    assert!(self.was_refused[notification].0, "the nack of another one");
                    progress_is_right(progress);
                }
                Err(DeliveryError::Returned(_, progress)) => {
                    assert!(
                        self.was_refused[notification].1,
                        "the return of another one"
                    );
                    progress_is_right(progress);
                }
                Err(DeliveryError::ChannelClosed(_, progress)) => {
                    assert_eq!(
                        notification, POISON,
                        "the channel was closed over another one"
                    );
                    progress_is_right(progress);
                }
                Err(other) => panic!("unexpected: {other}"),
            }
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
        let (mut live, mut to_settle, mut parked, mut bytes) = (0, 0, 0, 0);
        let mut queued = 0;
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
                delivery.in_doubt,
                count(EventState::InFlight) + count(EventState::Acked)
            );
            queued += delivery.in_doubt;
            if let Some((batch, charge)) = &delivery.content {
                assert_eq!(charge.bytes(), batch.bytes());
                bytes += charge.bytes();
                live += 1;
                to_settle += delivery.states.len() - delivery.settled;
                queued += count(EventState::ToDo);
                let turns = ledger.turns.iter().filter(|turn| *turn == identity);
                assert_eq!(turns.count(), 1, "turns");
                assert!(
                    !ledger.nothing_to_do || count(EventState::ToDo) == 0,
                    "an event is to do"
                );
                assert!(!delivery.is_settled(), "settled, and without a verdict");
            } else {
                parked += delivery.parked_bytes();
                assert!(delivery.callers.is_empty());
            }
        }
        let numbers = ledger.stats();
        assert_eq!((numbers.live, numbers.to_settle), (live, to_settle));
        assert_eq!(numbers.parked, ledger.deliveries.len() - live);
        assert_eq!(ledger.has_callers(), live > 0, "a stop waits for callers");
        let may_stall = numbers.in_flight > 0 && !self.is_blocked;
        assert_eq!(ledger.stalls_at().is_some(), may_stall, "a stall");
        assert_eq!(ledger.parked_bytes(), parked);
        assert_eq!(self.budget.used(), bytes, "the budget");
        assert_eq!(ledger.turns.len(), live, "a turn of a parked one");
        assert_eq!(
            ledger.entities.values().map(VecDeque::len).sum::<usize>(),
            queued
        );
        for events in ledger.entities.values() {
            let states: Vec<EventState> = events
                .iter()
                .map(|event| ledger.deliveries[&event.delivery].states[event.index])
                .collect();
            assert_ne!(states.first(), None);
            assert_ne!(states.first(), Some(&EventState::Acked), "to be settled");
            assert!(
                states.is_sorted_by_key(|state| *state == EventState::ToDo),
                "to do comes last"
            );
        }
        assert_eq!(ledger.in_flight(), self.wire.len() + self.handled.len());
        for submission in &self.submissions {
            if submission.caller.waits() {
                let settled = self.known_settled(submission.notification);
                assert_eq!(submission.caller.wait.settled(), settled, "progress");
            }
        }
    }
}
