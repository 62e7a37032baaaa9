//! From bytes to a notification, within limits: a body of a few megabytes must not become hundreds of them.
//!
//! serde's derived code would build whatever a sender writes. Here each alert, label and annotation is counted as it comes, and
//! what nobody knows is kept as text, up to a size. A key that comes twice counts as it came last, as for Go's decoder.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::{Alert, Extra, Labels, Notification, Status};

/// Alertmanager's groups are rarely above hundreds.
const MOST_ALERTS: usize = 50_000;

/// Labels and annotations of the whole notification.
const MOST_ENTRIES: usize = 500_000;

/// Of unknown keys and their values, in bytes, of the whole notification. What is beyond is left out: it is no error.
const MOST_EXTRA: usize = 256 << 10;

/// What may still come.
struct Limits {
    alerts: Cell<usize>,
    entries: Cell<usize>,
    extra: Cell<usize>,
}

/// Decodes a body.
pub fn notification(body: &[u8]) -> Result<Notification, serde_json::Error> {
    let limits =
        Limits { alerts: Cell::new(MOST_ALERTS), entries: Cell::new(MOST_ENTRIES), extra: Cell::new(MOST_EXTRA) };
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let notification = seed::<Notification>(&limits).deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(notification)
}

/// Reads a `T` while counting.
struct Seed<'l, T> {
    limits: &'l Limits,
    kind: PhantomData<T>,
}

fn seed<T>(limits: &Limits) -> Seed<'_, T> {
    Seed { limits, kind: PhantomData }
}

fn count<E: Error>(left: &Cell<usize>, most: usize, what: &str) -> Result<(), E> {
    let rest = left.get().checked_sub(1).ok_or_else(|| E::custom(format_args!("more than {most} {what}")))?;
    left.set(rest);
    Ok(())
}

/// A key, borrowed from the body where it holds no escapes.
#[derive(Deserialize)]
struct Key<'b>(#[serde(borrow)] Cow<'b, str>);

fn keep(limits: &Limits, extra: &mut Extra, key: Cow<'_, str>, value: Box<RawValue>) {
    if let Some(rest) = limits.extra.get().checked_sub(key.len() + value.get().len()) {
        limits.extra.set(rest);
        extra.insert(key.into_owned(), value);
    }
}

macro_rules! deserialize_as {
    ($kind:ty, $method:ident) => {
        impl<'de> DeserializeSeed<'de> for Seed<'_, $kind> {
            type Value = $kind;

            fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<$kind, D::Error> {
                deserializer.$method(self)
            }
        }
    };
}

deserialize_as!(Notification, deserialize_map);
deserialize_as!(Vec<Alert>, deserialize_seq);
deserialize_as!(Alert, deserialize_map);
deserialize_as!(Labels, deserialize_option);

impl<'de> Visitor<'de> for Seed<'_, Notification> {
    type Value = Notification;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a notification")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Notification, A::Error> {
        let (mut version, mut alerts) = (None, None);
        let mut notification = Notification {
            version: String::new(),
            status: String::new(),
            group_key: String::new(),
            receiver: String::new(),
            external_url: String::new(),
            truncated_alerts: 0,
            group_labels: Labels::new(),
            common_labels: Labels::new(),
            common_annotations: Labels::new(),
            alerts: Vec::new(),
            extra: Extra::new(),
        };
        while let Some(Key(key)) = map.next_key()? {
            match &*key {
                "version" => version = Some(map.next_value()?),
                "status" => notification.status = map.next_value()?,
                "groupKey" => notification.group_key = map.next_value()?,
                "receiver" => notification.receiver = map.next_value()?,
                "externalURL" => notification.external_url = map.next_value()?,
                "truncatedAlerts" => notification.truncated_alerts = map.next_value()?,
                "groupLabels" => notification.group_labels = map.next_value_seed(seed::<Labels>(self.limits))?,
                "commonLabels" => notification.common_labels = map.next_value_seed(seed::<Labels>(self.limits))?,
                "commonAnnotations" => {
                    notification.common_annotations = map.next_value_seed(seed::<Labels>(self.limits))?;
                }
                "alerts" => alerts = Some(map.next_value_seed(seed::<Vec<Alert>>(self.limits))?),
                _ => keep(self.limits, &mut notification.extra, key, map.next_value()?),
            }
        }
        notification.version = version.ok_or_else(|| A::Error::missing_field("version"))?;
        notification.alerts = alerts.ok_or_else(|| A::Error::missing_field("alerts"))?;
        Ok(notification)
    }
}

impl<'de> Visitor<'de> for Seed<'_, Vec<Alert>> {
    type Value = Vec<Alert>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of alerts")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<Alert>, A::Error> {
        let mut alerts = Vec::new();
        while let Some(alert) = seq.next_element_seed(seed::<Alert>(self.limits))? {
            count(&self.limits.alerts, MOST_ALERTS, "alerts in one notification")?;
            alerts.push(alert);
        }
        Ok(alerts)
    }
}

impl<'de> Visitor<'de> for Seed<'_, Alert> {
    type Value = Alert;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an alert")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Alert, A::Error> {
        let mut status: Option<Status> = None;
        let mut alert = Alert {
            status: Status::Firing,
            labels: Labels::new(),
            annotations: Labels::new(),
            starts_at: String::new(),
            ends_at: String::new(),
            generator_url: String::new(),
            fingerprint: String::new(),
            extra: Extra::new(),
        };
        while let Some(Key(key)) = map.next_key()? {
            match &*key {
                "status" => status = Some(map.next_value()?),
                "labels" => alert.labels = map.next_value_seed(seed::<Labels>(self.limits))?,
                "annotations" => alert.annotations = map.next_value_seed(seed::<Labels>(self.limits))?,
                "startsAt" => alert.starts_at = map.next_value()?,
                "endsAt" => alert.ends_at = map.next_value()?,
                "generatorURL" => alert.generator_url = map.next_value()?,
                "fingerprint" => alert.fingerprint = map.next_value()?,
                _ => keep(self.limits, &mut alert.extra, key, map.next_value()?),
            }
        }
        alert.status = status.ok_or_else(|| A::Error::missing_field("status"))?;
        Ok(alert)
    }
}

impl<'de> Visitor<'de> for Seed<'_, Labels> {
    type Value = Labels;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of texts")
    }

    /// A nil map of Go is written as null.
    fn visit_none<E>(self) -> Result<Labels, E> {
        Ok(Labels::new())
    }

    fn visit_unit<E>(self) -> Result<Labels, E> {
        Ok(Labels::new())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Labels, D::Error> {
        deserializer.deserialize_map(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Labels, A::Error> {
        let mut labels = Labels::new();
        while let Some((name, value)) = map.next_entry()? {
            count(&self.limits.entries, MOST_ENTRIES, "labels and annotations in one notification")?;
            labels.insert(name, value);
        }
        Ok(labels)
    }
}
