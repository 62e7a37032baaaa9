//! What the log and the metrics say of alerts. It decides nothing about them.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};

use log::Level;
use parking_lot::Mutex;

use crate::alertmanager::{Notification, Status};
use crate::logging::{LogLimiter, LogRate};
use crate::mapping::{AlertError, Mapping, Warning};
use crate::metrics::{AlertMetrics, Metrics, unix_seconds};
use crate::text::shorten;

use super::groups::{EntityGroups, Group};

/// Counts and logs what happens to alerts.
pub struct MappingReporter {
    metrics: AlertMetrics,
    /// For log lines that repeat with every notification.
    log_limiter: Option<LogLimiter>,
    /// What groups say of entities, once it is in the queue.
    pub(super) groups: Mutex<EntityGroups>,
    group_hash: RandomState,
}

/// An alert, for people.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subject<'a> {
    /// The label `alertname`, or empty.
    pub alertname: &'a str,
    pub fingerprint: &'a str,
}

/// What the metrics count of a notification. Its failed attempts are not counted: Alertmanager sends it again.
#[derive(Debug, Default)]
pub(super) struct AlertCounts {
    pub firing: u64,
    pub resolved: u64,
    pub truncated: u64,
    pub lowered_by_group: usize,
    /// By the field that is at fault.
    pub rejected: BTreeMap<&'static str, u64>,
    /// By the field that events lack.
    pub dropped: BTreeMap<String, u64>,
}

impl AlertCounts {
    pub fn received(&mut self, status: Status) {
        match status {
            Status::Firing => self.firing += 1,
            Status::Resolved => self.resolved += 1,
        }
    }
}

impl MappingReporter {
    /// For a service: each field is logged once a minute, with the number of suppressed lines.
    pub fn new(metrics: AlertMetrics) -> Self {
        Self {
            metrics,
            log_limiter: Some(LogLimiter::default()),
            groups: Mutex::default(),
            group_hash: RandomState::new(),
        }
    }

    /// For `--dry-run`: every line about an alert is logged.
    pub fn unlimited() -> Self {
        Self {
            log_limiter: None,
            ..Self::new(Metrics::default().alerts)
        }
    }

    /// Creates the counters of a mapping's fields at 0, so that their first increase is seen.
    pub fn preregister(&self, mapping: &Mapping) {
        for (name, _) in &mapping.extra_infos {
            self.metrics.dropped.add(name.as_str().to_owned(), 0);
        }
    }

    /// A valid notification has arrived.
    pub(super) fn notified(&self, notification: &Notification<'_>) {
        self.metrics.last_notification.set(unix_seconds());
        if notification.truncated_alerts == 0 {
            return;
        }
        if let Some(suppressed) = self.should_log("max_alerts") {
            log::warn!(
                receiver:% = shorten(&notification.receiver), suppressed;
                "Alertmanager truncated the notification (max_alerts): {} alerts never reach Canopsis",
                notification.truncated_alerts
            );
        }
    }

    pub(super) fn warned(&self, alert: Subject<'_>, warning: &Warning) {
        self.log(Level::Warn, alert, &warning.field, &warning.reason);
    }

    pub(super) fn rejected(&self, alert: Subject<'_>, error: &AlertError) {
        let message = format!("alert rejected: {error}");
        self.log(Level::Error, alert, error.field(), &message);
    }

    /// Firing alerts of a notification disappear behind others of their entity that have the same state. The summary of
    /// `--dry-run` has all of them.
    pub(super) fn hidden(&self, alerts: usize, entity: &str) {
        let limiter = self.log_limiter.as_ref();
        if let Some(suppressed) =
            limiter.and_then(|limiter| limiter.allow("entity", LogRate::REPEATED))
        {
            log::warn!(
                entity:% = shorten(entity), merged = alerts, suppressed;
                "firing alerts of one entity have the same state, and are one alarm in Canopsis: the event of one of them is \
                 published; to separate them, add a label to the rule of resource"
            );
        }
    }

    /// The group of a notification.
    pub(super) fn group(&self, notification: &Notification<'_>) -> Group {
        let names = (&notification.group_key, &notification.receiver);
        Group(self.group_hash.hash_one(names))
    }

    /// A group lowers or closes the alarm of another one.
    pub(super) fn shared_by_groups(&self, notification: &Notification<'_>, entity: &str) {
        if let Some(suppressed) = self.should_log("group") {
            let labels = serde_json::to_string(&notification.group_labels).unwrap_or_default();
            log::warn!(
                entity:% = shorten(entity), group_labels:% = shorten(&labels), suppressed;
                "this group lowers the alarm of another group: alerts of one entity are in several groups, and each closes the \
                 alarm of the others; remove from group_by the labels that the entity lacks, or add them to the rule of resource"
            );
        }
    }

    fn log(&self, level: Level, alert: Subject<'_>, field: &str, message: &str) {
        if let Some(suppressed) = self.should_log(field) {
            log::log!(
                level,
                alertname:% = shorten(alert.alertname), fingerprint:% = shorten(alert.fingerprint), field, suppressed;
                "{message}"
            );
        }
    }

    /// Whether a line about this may be logged; if so, how many were suppressed since the last one.
    fn should_log(&self, what: &str) -> Option<u64> {
        let limiter = self.log_limiter.as_ref();
        limiter.map_or(Some(0), |limiter| limiter.allow(what, LogRate::REPEATED))
    }

    /// Counts a notification that is delivered. `hidden` alerts of it are merged into others of the same state.
    pub(super) fn count(&self, counts: &AlertCounts, hidden: usize) {
        let metrics = &self.metrics;
        metrics.received.add(Status::Firing.as_str(), counts.firing);
        metrics
            .received
            .add(Status::Resolved.as_str(), counts.resolved);
        // A sender chooses the number: the counter must not overflow.
        metrics.truncated.add(counts.truncated.min(u32::MAX.into()));
        metrics.sharing.add(hidden as u64);
        metrics.lowered.add(counts.lowered_by_group as u64);
        for (field, alerts) in &counts.rejected {
            metrics.rejected.add(*field, *alerts);
        }
        for (field, events) in &counts.dropped {
            metrics.dropped.add(field.clone(), *events);
        }
    }
}
