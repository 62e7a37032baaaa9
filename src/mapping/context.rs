//! What a rule may read: an alert, its notification, and when that arrived.

use std::fmt;

use jiff::Timestamp;

use super::dot::OtherKeys;
use crate::alertmanager::{Alert, Notification};

/// A notification, for the rules of all its alerts.
pub struct NotificationContext<'a> {
    pub(super) notification: &'a Notification<'a>,
    pub(super) received_at: Timestamp,
    /// Whether the time for mapping is over.
    pub(super) is_late: &'a dyn Fn() -> bool,
    pub(super) others: OtherKeys,
}

/// One alert of a notification.
#[derive(Debug)]
pub struct Context<'a> {
    pub(super) alert: &'a Alert<'a>,
    pub(super) shared: &'a NotificationContext<'a>,
    pub(super) others: OtherKeys,
}

impl<'a> NotificationContext<'a> {
    /// The context of a notification that arrived at some time. Once `is_late` is true, templates are not rendered any
    /// more; the event of such an alert is incomplete and must not be used.
    pub fn new(
        notification: &'a Notification<'a>,
        received_at: Timestamp,
        is_late: &'a dyn Fn() -> bool,
    ) -> Self {
        Self {
            notification,
            received_at,
            is_late,
            others: OtherKeys::new(),
        }
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

impl fmt::Debug for NotificationContext<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.notification.fmt(f)
    }
}
