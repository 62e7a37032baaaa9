//! What a rule may read: an alert, its notification, and when that arrived.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use gotemplate::{Value as TemplateValue, from_json};
use jiff::Timestamp;
use serde_json::Value;

use super::rule::labels_to_template_value;
use crate::alertmanager::{Alert, Entries, Notification};

/// The JSON of the keys that only templates read: in memory it takes up to 64 times as much. What is beyond is absent.
const MAX_OTHER_KEYS: usize = 64 << 10;

/// A notification, for the rules of all its alerts.
pub struct NotificationContext<'a> {
    pub(super) notification: &'a Notification<'a>,
    pub(super) received_at: Timestamp,
    /// Whether the time for mapping is over.
    pub(super) is_late: &'a dyn Fn() -> bool,
    value: OnceCell<TemplateValue>,
}

/// One alert of a notification.
pub struct Context<'a> {
    pub(super) alert: &'a Alert<'a>,
    pub(super) shared: &'a NotificationContext<'a>,
    value: OnceCell<TemplateValue>,
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
            value: OnceCell::new(),
        }
    }

    /// The context of one of its alerts.
    pub fn with_alert(&'a self, alert: &'a Alert<'a>) -> Context<'a> {
        Context {
            alert,
            shared: self,
            value: OnceCell::new(),
        }
    }
}

impl Context<'_> {
    /// `.Alert`: the whole alert in its JSON shape. Built once, and only for mappings that use it.
    pub(super) fn alert_value(&self) -> &TemplateValue {
        self.value.get_or_init(|| {
            let alert = self.alert;
            object(
                &alert.entries(),
                [
                    ("status", TemplateValue::from(alert.status.as_str())),
                    ("labels", labels_to_template_value(&alert.labels)),
                    ("annotations", labels_to_template_value(&alert.annotations)),
                    ("startsAt", TemplateValue::from(&*alert.starts_at)),
                    ("endsAt", TemplateValue::from(&*alert.ends_at)),
                    ("generatorURL", TemplateValue::from(&*alert.generator_url)),
                    ("fingerprint", TemplateValue::from(&*alert.fingerprint)),
                ],
            )
        })
    }

    /// `.Notification`: the notification without its alerts, in its JSON shape. Built once for all alerts.
    pub(super) fn notification_value(&self) -> &TemplateValue {
        self.shared.value.get_or_init(|| {
            let notification = self.shared.notification;
            let truncated = i64::try_from(notification.truncated_alerts).unwrap_or(i64::MAX);
            let mut entries = notification.entries();
            entries.remove("alerts");
            object(
                &entries,
                [
                    ("version", TemplateValue::from(notification.version())),
                    ("status", TemplateValue::from(&*notification.status)),
                    ("groupKey", TemplateValue::from(&*notification.group_key)),
                    ("receiver", TemplateValue::from(&*notification.receiver)),
                    (
                        "externalURL",
                        TemplateValue::from(&*notification.external_url),
                    ),
                    ("truncatedAlerts", TemplateValue::Int(truncated)),
                    (
                        "groupLabels",
                        labels_to_template_value(&notification.group_labels),
                    ),
                    (
                        "commonLabels",
                        labels_to_template_value(&notification.common_labels),
                    ),
                    (
                        "commonAnnotations",
                        labels_to_template_value(&notification.common_annotations),
                    ),
                ],
            )
        })
    }
}

/// The known keys, which are present even where the JSON lacks them, and the others up to [`MAX_OTHER_KEYS`]. A null is
/// absent: reading below it is an error in Go, as is reading what is absent. So is a value that is nested too deeply for the
/// parser.
fn object<const N: usize>(
    entries: &Entries<'_>,
    known: [(&str, TemplateValue); N],
) -> TemplateValue {
    let mut object = BTreeMap::from(known.map(|(key, value)| (Arc::from(key), value)));
    let mut left = MAX_OTHER_KEYS;
    for (key, json) in entries {
        let rest = left.checked_sub(key.len() + json.get().len());
        let (Some(rest), false) = (rest, object.contains_key(key.as_str())) else {
            continue;
        };
        left = rest;
        match serde_json::from_str(json.get()) {
            Ok(Value::Null) | Err(_) => {}
            Ok(value) => {
                object.insert(Arc::from(key.as_str()), from_json(&value));
            }
        }
    }
    TemplateValue::Map(Arc::new(object))
}
