//! The keys of an alert and of its notification in Alertmanager's format: what paths and templates read. A sender may add others,
//! which only templates read. Source: Alertmanager's documentation of its webhook.

use gotemplate::{Shape, Value as TemplateValue};

use super::Context;
use crate::alertmanager::{Labels, Notification};
use crate::event::FieldValue;

/// How the value of a key is read.
#[derive(Debug, Clone, Copy)]
pub enum Field {
    /// A string.
    Text(for<'a> fn(&Context<'a>) -> &'a str),
    /// A map of strings.
    Texts(for<'a> fn(&Context<'a>) -> &'a Labels<'a>),
    /// A number.
    Count(fn(&Context<'_>) -> u64),
    /// When the notification arrived. It is in none of the tables, as the notification lacks it.
    ReceivedAt,
}

use Field::{Count, Text, Texts};

/// The keys of `.Alert`.
pub static ALERT: [(&str, Field); 7] = [
    ("status", Text(|context| context.alert.status.as_str())),
    ("labels", Texts(|context| &context.alert.labels)),
    ("annotations", Texts(|context| &context.alert.annotations)),
    ("startsAt", Text(|context| &context.alert.starts_at)),
    ("endsAt", Text(|context| &context.alert.ends_at)),
    ("generatorURL", Text(|context| &context.alert.generator_url)),
    ("fingerprint", Text(|context| &context.alert.fingerprint)),
];

/// The keys of `.Notification`.
pub static NOTIFICATION: [(&str, Field); 9] = [
    ("version", Text(|context| &group(context).version)),
    ("status", Text(|context| &group(context).status)),
    ("groupKey", Text(|context| &group(context).group_key)),
    ("receiver", Text(|context| &group(context).receiver)),
    ("externalURL", Text(|context| &group(context).external_url)),
    (
        "truncatedAlerts",
        Count(|context| group(context).truncated_alerts),
    ),
    ("groupLabels", Texts(|context| &group(context).group_labels)),
    (
        "commonLabels",
        Texts(|context| &group(context).common_labels),
    ),
    (
        "commonAnnotations",
        Texts(|context| &group(context).common_annotations),
    ),
];

fn group<'a>(context: &Context<'a>) -> &'a Notification<'a> {
    context.shared.notification
}

impl Field {
    /// What is known of the value before there is an alert.
    pub fn shape(&self) -> Shape {
        match self {
            Text(_) | Self::ReceivedAt => Shape::Text,
            Texts(_) => Shape::Texts,
            Count(_) => Shape::Int,
        }
    }

    /// The value for a rule that has a path: a string or a map.
    pub fn value<'a>(&self, context: &Context<'a>) -> FieldValue<'a> {
        match self {
            Text(field) => FieldValue::String(field(context).into()),
            Texts(field) => FieldValue::Labels(field(context)),
            Count(field) => FieldValue::String(field(context).to_string().into()),
            Self::ReceivedAt => FieldValue::String(context.shared.received_at.to_string().into()),
        }
    }

    /// The value for a template.
    pub fn template_value<'a>(&self, context: &Context<'a>) -> TemplateValue<'a> {
        match self {
            Text(field) => field(context).into(),
            Texts(field) => TemplateValue::Map(field(context)),
            // An int in Alertmanager's own code; numbers of other keys are float64, as Go decodes them.
            Count(field) => TemplateValue::Int(field(context).try_into().unwrap_or(i64::MAX)),
            Self::ReceivedAt => TemplateValue::Nil,
        }
    }
}
