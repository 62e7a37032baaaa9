//! From bytes to a notification, within limits: a body of a few megabytes must not become hundreds of them.
//!
//! serde's derived code would build whatever a sender writes. Here each alert, label and annotation is counted as it comes, and
//! what nobody knows is kept as text, up to a size. A key that comes twice counts as it came last, as for Go's decoder. Nothing
//! is copied that the body holds as it is.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::{Alert, Extra, Labels, Notification, Status};

/// As many entries a map of labels usually has at most: it is made for so many at once.
const USUAL_ENTRIES: usize = 8;

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
pub fn notification(body: &str) -> Result<Notification<'_>, serde_json::Error> {
    let limits = Limits {
        alerts: Cell::new(MOST_ALERTS),
        entries: Cell::new(MOST_ENTRIES),
        extra: Cell::new(MOST_EXTRA),
    };
    let mut deserializer = serde_json::Deserializer::from_str(body);
    let notification = seed::<Notification<'_>>(&limits).deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(notification)
}

/// Reads a `T` while counting.
struct Seed<'l, T> {
    limits: &'l Limits,
    kind: PhantomData<T>,
}

fn seed<T>(limits: &Limits) -> Seed<'_, T> {
    Seed {
        limits,
        kind: PhantomData,
    }
}

fn count<E: Error>(left: &Cell<usize>, most: usize, what: &str) -> Result<(), E> {
    let rest = left
        .get()
        .checked_sub(1)
        .ok_or_else(|| E::custom(format_args!("more than {most} {what}")))?;
    left.set(rest);
    Ok(())
}

/// A text, borrowed from the body where it holds no escapes.
#[derive(Deserialize)]
struct Text<'b>(#[serde(borrow)] Cow<'b, str>);

fn text<'de, A: MapAccess<'de>>(map: &mut A) -> Result<Cow<'de, str>, A::Error> {
    map.next_value().map(|Text(text)| text)
}

fn keep<'b>(limits: &Limits, extra: &mut Extra<'b>, key: Cow<'b, str>, value: &'b RawValue) {
    if let Some(rest) = limits
        .extra
        .get()
        .checked_sub(key.len() + value.get().len())
    {
        limits.extra.set(rest);
        extra.push((key, value));
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

deserialize_as!(Notification<'de>, deserialize_map);
deserialize_as!(Vec<Alert<'de>>, deserialize_seq);
deserialize_as!(Alert<'de>, deserialize_map);
deserialize_as!(Labels<'de>, deserialize_option);

impl<'de> Visitor<'de> for Seed<'_, Notification<'de>> {
    type Value = Notification<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a notification")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Notification<'de>, A::Error> {
        let (mut version, mut alerts) = (None, None);
        let mut notification = Notification {
            version: Cow::default(),
            status: Cow::default(),
            group_key: Cow::default(),
            receiver: Cow::default(),
            external_url: Cow::default(),
            truncated_alerts: 0,
            group_labels: Labels::default(),
            common_labels: Labels::default(),
            common_annotations: Labels::default(),
            alerts: Vec::new(),
            extra: Extra::new(),
        };
        while let Some(Text(key)) = map.next_key()? {
            match &*key {
                "version" => version = Some(text(&mut map)?),
                "status" => notification.status = text(&mut map)?,
                "groupKey" => notification.group_key = text(&mut map)?,
                "receiver" => notification.receiver = text(&mut map)?,
                "externalURL" => notification.external_url = text(&mut map)?,
                "truncatedAlerts" => notification.truncated_alerts = map.next_value()?,
                "groupLabels" => {
                    notification.group_labels =
                        map.next_value_seed(seed::<Labels<'_>>(self.limits))?;
                }
                "commonLabels" => {
                    notification.common_labels =
                        map.next_value_seed(seed::<Labels<'_>>(self.limits))?;
                }
                "commonAnnotations" => {
                    notification.common_annotations =
                        map.next_value_seed(seed::<Labels<'_>>(self.limits))?;
                }
                "alerts" => {
                    alerts = Some(map.next_value_seed(seed::<Vec<Alert<'_>>>(self.limits))?);
                }
                _ => keep(self.limits, &mut notification.extra, key, map.next_value()?),
            }
        }
        notification.version = version.ok_or_else(|| A::Error::missing_field("version"))?;
        notification.alerts = alerts.ok_or_else(|| A::Error::missing_field("alerts"))?;
        Ok(notification)
    }
}

impl<'de> Visitor<'de> for Seed<'_, Vec<Alert<'de>>> {
    type Value = Vec<Alert<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of alerts")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<Alert<'de>>, A::Error> {
        let mut alerts = Vec::new();
        while let Some(alert) = seq.next_element_seed(seed::<Alert<'_>>(self.limits))? {
            count(
                &self.limits.alerts,
                MOST_ALERTS,
                "alerts in one notification",
            )?;
            alerts.push(alert);
        }
        Ok(alerts)
    }
}

impl<'de> Visitor<'de> for Seed<'_, Alert<'de>> {
    type Value = Alert<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an alert")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Alert<'de>, A::Error> {
        let mut status: Option<Status> = None;
        let mut alert = Alert {
            status: Status::Firing,
            labels: Labels::default(),
            annotations: Labels::default(),
            starts_at: Cow::default(),
            ends_at: Cow::default(),
            generator_url: Cow::default(),
            fingerprint: Cow::default(),
            extra: Extra::new(),
        };
        while let Some(Text(key)) = map.next_key()? {
            match &*key {
                "status" => status = Some(map.next_value()?),
                "labels" => alert.labels = map.next_value_seed(seed::<Labels<'_>>(self.limits))?,
                "annotations" => {
                    alert.annotations = map.next_value_seed(seed::<Labels<'_>>(self.limits))?;
                }
                "startsAt" => alert.starts_at = text(&mut map)?,
                "endsAt" => alert.ends_at = text(&mut map)?,
                "generatorURL" => alert.generator_url = text(&mut map)?,
                "fingerprint" => alert.fingerprint = text(&mut map)?,
                _ => keep(self.limits, &mut alert.extra, key, map.next_value()?),
            }
        }
        alert.status = status.ok_or_else(|| A::Error::missing_field("status"))?;
        Ok(alert)
    }
}

impl<'de> Visitor<'de> for Seed<'_, Labels<'de>> {
    type Value = Labels<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of texts")
    }

    /// A nil map of Go is written as null.
    fn visit_none<E>(self) -> Result<Labels<'de>, E> {
        Ok(Labels::default())
    }

    fn visit_unit<E>(self) -> Result<Labels<'de>, E> {
        Ok(Labels::default())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Labels<'de>, D::Error> {
        deserializer.deserialize_map(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Labels<'de>, A::Error> {
        let mut entries = Vec::new();
        while let Some((Text(name), Text(value))) = map.next_entry()? {
            count(
                &self.limits.entries,
                MOST_ENTRIES,
                "labels and annotations in one notification",
            )?;
            if entries.is_empty() {
                entries.reserve(USUAL_ENTRIES);
            }
            entries.push((name, value));
        }
        Ok(Labels::new(entries))
    }
}
