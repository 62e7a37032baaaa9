//! What the log and the metrics say of alerts. It decides nothing about them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use log::Level;

use crate::alertmanager::{Notification, Status};
use crate::event::SharedEntity;
use crate::logging::{LogLimiter, LogRate};
use crate::mapping::{AlertError, Mapping, Warning};
use crate::metrics::{AlertMetrics, Metrics};
use crate::publisher::Message;
use crate::text::shorten;

/// Counts and logs what happens to alerts.
pub struct MappingReporter {
    metrics: AlertMetrics,
    /// For log lines that repeat with every notification.
    log_limiter: Option<LogLimiter>,
}

/// An alert, for people.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subject<'a> {
    /// The label `alertname`, or empty.
    pub alertname: &'a str,
    pub fingerprint: &'a str,
}

/// What Canopsis attaches an alarm to.
#[derive(serde::Deserialize)]
struct EntityNames<'e> {
    #[serde(borrow)]
    component: Cow<'e, str>,
    #[serde(borrow)]
    resource: Cow<'e, str>,
}

/// What the metrics count of a notification. Its failed attempts are not counted: Alertmanager sends it again.
#[derive(Debug, Default)]
pub(super) struct AlertCounts {
    firing: u64,
    resolved: u64,
    pub truncated: u64,
    pub sharing_entity: usize,
    rejected: BTreeMap<&'static str, u64>,
    dropped: BTreeMap<String, u64>,
}

impl AlertCounts {
    pub fn received(&mut self, status: Status) {
        match status {
            Status::Firing => self.firing += 1,
            Status::Resolved => self.resolved += 1,
        }
    }

    pub fn rejected(&mut self, error: &AlertError) {
        *self.rejected.entry(error.field()).or_default() += 1;
    }

    pub fn warned(&mut self, warning: Warning) {
        if warning.dropped {
            *self.dropped.entry(warning.field).or_default() += 1;
        }
    }
}

impl MappingReporter {
    /// For a service: each field is logged once a minute, with the number of suppressed lines.
    pub fn new(metrics: AlertMetrics) -> Self {
        Self {
            metrics,
            log_limiter: Some(LogLimiter::default()),
        }
    }

    /// For `--dry-run`: every line is logged.
    pub fn unlimited() -> Self {
        Self {
            metrics: Metrics::new().alerts,
            log_limiter: None,
        }
    }

    /// Creates the counters of a mapping's fields at 0, so that their first increase is seen.
    pub fn preregister(&self, mapping: &Mapping) {
        for (name, _) in &mapping.extra_infos {
            self.metrics.preregister(name.as_str());
        }
    }

    /// A valid notification has arrived.
    pub(super) fn notified(&self, notification: &Notification<'_>) {
        self.metrics.notified();
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
        self.log(
            Level::Warn,
            alert,
            &warning.field,
            format_args!("{}", warning.reason),
        );
    }

    pub(super) fn rejected(&self, alert: Subject<'_>, error: &AlertError) {
        self.log(
            Level::Error,
            alert,
            error.field(),
            format_args!("alert rejected: {error}"),
        );
    }

    /// Several alerts of a notification have the same entity. The message is one of their events.
    pub(super) fn shared(&self, entity: SharedEntity, message: Message<'_>) {
        let Some(suppressed) = self.should_log("entity") else {
            return;
        };
        // The names are in the event only: an entity's hash is all that is kept of them.
        let Ok(names) = serde_json::from_slice::<EntityNames<'_>>(message.body) else {
            return;
        };
        log::warn!(
            component:% = shorten(&names.component), resource:% = shorten(&names.resource), suppressed;
            "{} alerts of one notification share an entity: they are one alarm, in their worst state; to separate them, add a label to the rule of resource",
            entity.events
        );
    }

    fn log(&self, level: Level, alert: Subject<'_>, field: &str, message: fmt::Arguments<'_>) {
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

    /// Counts a notification that is delivered.
    pub(super) fn count(&self, counts: &AlertCounts) {
        self.metrics.received("firing", counts.firing);
        self.metrics.received("resolved", counts.resolved);
        self.metrics.truncated(counts.truncated);
        self.metrics.sharing_entity(counts.sharing_entity);
        for (field, alerts) in &counts.rejected {
            self.metrics.rejected(field, *alerts);
        }
        for (field, events) in &counts.dropped {
            self.metrics.dropped(field, *events);
        }
    }
}
