//! What a rule may read: an alert, its notification, and when that arrived.

use std::time::Instant;

use jiff::Timestamp;

use super::dot::{AlertData, NotificationData, OtherKeys};
use crate::alertmanager::{Alert, Notification};

/// A notification, for the rules of all its alerts.
#[derive(Debug)]
pub struct NotificationContext<'a> {
    pub(super) notification: &'a Notification<'a>,
    pub(super) received_at: Timestamp,
    deadline: Option<Instant>,
    others: OtherKeys,
}

/// One alert of a notification.
#[derive(Debug)]
pub struct Context<'a> {
    pub(super) alert: &'a Alert<'a>,
    pub(super) shared: &'a NotificationContext<'a>,
    others: OtherKeys,
}

impl<'a> NotificationContext<'a> {
    /// The context of a notification that arrived at some time.
    pub fn new(notification: &'a Notification<'a>, received_at: Timestamp) -> Self {
        Self {
            notification,
            received_at,
            deadline: None,
            others: OtherKeys::new(),
        }
    }

    /// Templates fail once this time has passed.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Instant) -> Self {
        self.deadline = Some(deadline);
        self
    }

    pub(super) fn is_late(&self) -> bool {
        self.deadline
            .is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// The context of one of its alerts.
    pub fn with_alert(&'a self, alert: &'a Alert<'a>) -> Context<'a> {
        Context {
            alert,
            shared: self,
            others: OtherKeys::new(),
        }
    }
}

impl Context<'_> {
    pub(super) fn alert_data(&self) -> AlertData<'_> {
        AlertData {
            alert: self.alert,
            others: &self.others,
        }
    }

    pub(super) fn notification_data(&self) -> NotificationData<'_> {
        NotificationData {
            notification: self.shared.notification,
            others: &self.shared.others,
        }
    }
}
