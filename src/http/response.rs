//! Responses, and the one table from errors to statuses.
//!
//! Alertmanager retries after any 5xx and gives up after any 4xx, 429 included (its `notify` package). So 503 is for everything
//! that a retry can get past, and 4xx for what a person has to correct.

use std::borrow::Cow;

use serde_json::json;

use super::connection::HEAD_TIMEOUT;
use super::request::InvalidRequest;
use super::{BodyError, Unauthorized};
use crate::alertmanager::DecodeError;
use crate::mapping::AlertError;
use crate::memory::BudgetError;
use crate::pipeline::{Outcome, RejectedAlert};
use crate::publisher::DeliveryError;

/// In seconds; Alertmanager ignores it and backs off by itself.
const RETRY_AFTER: &str = "5";

/// The content type of every body except the metrics: one JSON object on one line.
const JSON: &str = "application/json";

/// A status, headers and a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// The content type of the body.
    pub content_type: &'static str,
    /// The headers that not every response has.
    pub headers: Vec<(&'static str, Cow<'static, str>)>,
    /// The body, with its line end.
    pub body: String,
}

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The path is unknown.
    #[error("no such path; send notifications to POST /webhook")]
    NotFound,
    /// The path is one that a Prometheus server posts to, which is configured to use this program as an Alertmanager.
    #[error(
        "not an Alertmanager; configure Prometheus to send to an Alertmanager, and its webhook receiver to send to /webhook"
    )]
    NotAnAlertmanager,
    /// The path exists for other methods.
    #[error("method not allowed; use {}", .0.join(" or "))]
    Method(&'static [&'static str]),
    /// The token is missing or wrong.
    #[error(transparent)]
    Unauthorized(#[from] Unauthorized),
    /// The body is compressed. Neither Alertmanager nor Grafana compresses, and a decoder would need limits for memory and time.
    #[error("unsupported Content-Encoding; send the notification uncompressed")]
    ContentEncoding,
    /// The head is invalid.
    #[error(transparent)]
    RequestHead(#[from] InvalidRequest),
    /// The head was not complete in time.
    #[error("request head not received within {HEAD_TIMEOUT:?}")]
    HeadTooSlow,
    /// The body was not read.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// The body is not a notification.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// Other notifications of its size are being mapped.
    #[error("too many notifications are being mapped")]
    MappingBusy,
    /// The events exceed the limit; the text says which.
    #[error("{0}")]
    EventsTooLarge(String),
    /// The events are not in the queue.
    #[error(transparent)]
    Delivery(#[from] DeliveryError),
    /// Events would not reach the queue now.
    #[error("not ready: {0}")]
    NotReady(String),
    /// The configuration has errors.
    #[error("configuration reload failed; still using the previous configuration")]
    Reload(Vec<String>),
    /// Reading the configuration takes longer than a response may.
    #[error("configuration reload still in progress; the log will have its result")]
    StillReloading,
    /// Every connection that may process notifications does so.
    #[error("too many notifications in progress ({0})")]
    Saturated(usize),
    /// The process is shutting down.
    #[error("the connector is shutting down")]
    Stopping,
    /// A request handler panicked.
    #[error("internal error; the connector's log has details (please report)")]
    Internal,
}

impl HttpError {
    /// The HTTP status of the response.
    pub fn status(&self) -> u16 {
        match self {
            Self::Decode(_)
            | Self::Body(BodyError::Malformed(_))
            | Self::RequestHead(
                InvalidRequest::Malformed(_)
                | InvalidRequest::Tls
                | InvalidRequest::NotTls
                | InvalidRequest::Framing(_),
            ) => 400,
            Self::Unauthorized(_) => 401,
            Self::NotFound | Self::NotAnAlertmanager => 404,
            Self::Method(_) => 405,
            Self::HeadTooSlow => 408,
            Self::Body(
                BodyError::TooLong(_) | BodyError::Memory(BudgetError::NeverFits { .. }),
            )
            | Self::EventsTooLarge(_) => 413,
            Self::ContentEncoding => 415,
            Self::RequestHead(InvalidRequest::Expectation) => 417,
            Self::RequestHead(InvalidRequest::TooLong) => 431,
            Self::Reload(_) | Self::Internal => 500,
            Self::Body(
                BodyError::Incomplete(_)
                | BodyError::TooSlow(_)
                | BodyError::Memory(BudgetError::Full { .. }),
            )
            | Self::MappingBusy
            | Self::Saturated(_)
            | Self::Delivery(_)
            | Self::NotReady(_)
            | Self::StillReloading
            | Self::Stopping => 503,
        }
    }

    /// A name for the outage behind a 503, by which its log entries are limited; `None` for what is logged each time.
    pub fn outage(&self) -> Option<&'static str> {
        match self {
            Self::Delivery(error) => Some(error.reason()),
            Self::Body(BodyError::Memory(_)) => Some("memory"),
            Self::MappingBusy => Some("mapping busy"),
            Self::Saturated(_) => Some("saturated"),
            Self::Body(BodyError::Incomplete(_)) => Some("incomplete body"),
            Self::Body(BodyError::TooSlow(_)) => Some("slow body"),
            Self::Stopping => Some("stopping"),
            _ => None,
        }
    }

    /// The response, with the headers that its status requires.
    pub fn response(&self) -> Response {
        let status = self.status();
        let headers = match self {
            Self::Unauthorized(_) => vec![("WWW-Authenticate", "Bearer".into())],
            Self::Method(allowed) => vec![("Allow", allowed.join(", ").into())],
            Self::ContentEncoding => vec![("Accept-Encoding", "identity".into())],
            _ if status == 503 => vec![("Retry-After", RETRY_AFTER.into())],
            _ => Vec::new(),
        };
        let mut body = json!({ "error": self.to_string() });
        if let Self::Reload(reasons) = self {
            body["reasons"] = json!(reasons);
        }
        Response {
            headers,
            ..Response::json(status, &body)
        }
    }
}

impl Response {
    /// 200 with a status text.
    pub fn ok(text: &str) -> Self {
        Self::json(200, &json!({ "status": text }))
    }

    /// 200 with a page of metrics.
    pub fn page(body: String, content_type: &'static str) -> Self {
        Self {
            status: 200,
            content_type,
            headers: Vec::new(),
            body,
        }
    }

    fn json(status: u16, body: &serde_json::Value) -> Self {
        Self {
            status,
            content_type: JSON,
            headers: Vec::new(),
            body: format!("{body}\n"),
        }
    }

    /// The response to a notification whose mapped events are all in the queue.
    pub fn to_notification(outcome: &Outcome) -> Self {
        let Outcome {
            published,
            rejected,
        } = outcome;
        if rejected.count == 0 {
            // Formatted without serde_json, because nearly every response is this one.
            return Self {
                status: 200,
                content_type: JSON,
                headers: Vec::new(),
                body: format!("{{\"published\":{published}}}\n"),
            };
        }
        let entry = |alert: &RejectedAlert, error: &AlertError| {
            json!({
                "alertname": alert.alertname, "fingerprint": alert.fingerprint,
                "field": error.field(), "reason": error.to_string(),
            })
        };
        let named: Vec<_> = rejected
            .named
            .iter()
            .flat_map(|alert| alert.errors.iter().map(move |error| entry(alert, error)))
            .collect();
        let summary = format!(
            "rejected {} of {} alerts; published {published}",
            rejected.count,
            rejected.count + published
        );
        let (status, key) = if outcome.is_failure() {
            (422, "error")
        } else {
            (200, "warning")
        };
        Self::json(
            status,
            &json!({ key: summary, "published": published, "rejected": named }),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_has_its_status_and_headers() {
        let incomplete = || BodyError::Incomplete(std::io::ErrorKind::TimedOut.into());
        for (error, status, header) in [
            (HttpError::NotFound, 404, None),
            (HttpError::NotAnAlertmanager, 404, None),
            (
                HttpError::Method(&["GET", "HEAD"]),
                405,
                Some(("Allow", "GET, HEAD")),
            ),
            (
                HttpError::Unauthorized(Unauthorized::Missing),
                401,
                Some(("WWW-Authenticate", "Bearer")),
            ),
            (
                HttpError::ContentEncoding,
                415,
                Some(("Accept-Encoding", "identity")),
            ),
            (HttpError::Body(BodyError::TooLong(9)), 413, None),
            (HttpError::EventsTooLarge(String::new()), 413, None),
            (
                HttpError::Body(incomplete()),
                503,
                Some(("Retry-After", "5")),
            ),
            (
                HttpError::Body(BudgetError::Full { limit: 1 }.into()),
                503,
                Some(("Retry-After", "5")),
            ),
            (
                HttpError::Body(BudgetError::NeverFits { limit: 1 }.into()),
                413,
                None,
            ),
            (HttpError::MappingBusy, 503, Some(("Retry-After", "5"))),
            (HttpError::Saturated(8), 503, Some(("Retry-After", "5"))),
            (HttpError::Body(BodyError::Malformed("x")), 400, None),
            (HttpError::RequestHead(InvalidRequest::Tls), 400, None),
            (HttpError::RequestHead(InvalidRequest::TooLong), 431, None),
            (
                HttpError::RequestHead(InvalidRequest::Expectation),
                417,
                None,
            ),
            (HttpError::HeadTooSlow, 408, None),
            (HttpError::Decode(DecodeError::FromPrometheus), 400, None),
            (
                HttpError::Delivery(DeliveryError::Stopped),
                503,
                Some(("Retry-After", "5")),
            ),
            (
                HttpError::NotReady(String::new()),
                503,
                Some(("Retry-After", "5")),
            ),
            (HttpError::Reload(Vec::new()), 500, None),
            (HttpError::StillReloading, 503, Some(("Retry-After", "5"))),
            (HttpError::Stopping, 503, Some(("Retry-After", "5"))),
            (HttpError::Internal, 500, None),
        ] {
            let response = error.response();
            let first = response
                .headers
                .first()
                .map(|(name, value)| (*name, &**value));
            assert_eq!((response.status, first), (status, header), "{error:?}");
            assert!(
                response.body.starts_with("{\"error\":\"") && response.body.ends_with("}\n"),
                "{}",
                response.body
            );
        }
    }
}
