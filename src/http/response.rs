//! Responses, and the one table from errors to statuses.
//!
//! Alertmanager retries after any 5xx and gives up after any 4xx, 429 included (its `notify` package). So 503 is for everything
//! that a retry can get past, and 4xx for what a person has to correct.

use std::borrow::Cow;
use std::io;

use serde_json::json;

use super::Unauthorized;
use super::body::BODY_TIMEOUT;
use super::connection::HEAD_TIMEOUT;
use super::request::InvalidRequest;
use crate::memory::BudgetError;
use crate::pipeline::{Outcome, PipelineError};
use crate::publisher::DeliveryError;
use crate::text::visible;

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
    /// The body is longer than the configuration allows.
    #[error("body exceeds {0} bytes (http.max_body_bytes)")]
    BodyTooLong(usize),
    /// The connection ended before the body did.
    #[error("body not received completely: {0}")]
    BodyIncomplete(io::Error),
    /// The body was not complete in time.
    #[error("body not received within {BODY_TIMEOUT:?}")]
    BodyTooSlow,
    /// The chunked encoding of the body is invalid.
    #[error("invalid chunked body: {0}")]
    BodyMalformed(&'static str),
    /// There is no memory for the body.
    #[error(transparent)]
    Memory(#[from] BudgetError),
    /// The events are not in the queue.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    /// Other notifications of its size are being mapped.
    #[error("too many notifications are being mapped")]
    MappingBusy,
    /// Events would not reach the queue now.
    #[error("not ready: {0}")]
    NotReady(String),
    /// The configuration was not reloaded: it has errors, one a line.
    #[error("configuration reload failed; still using the previous configuration")]
    ReloadRejected(Vec<String>),
    /// There is no result yet: the reload takes longer than a response may.
    #[error("configuration reload still in progress; the log will have its result")]
    ReloadUnfinished,
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

/// How often an error is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLimit {
    /// Each time.
    Unlimited,
    /// At one rate for everything that a sender without a token can cause.
    Anonymous,
    /// At a rate for each kind of outage, which each request repeats.
    Outage(&'static str),
    /// At debug level only: a probe asks for it regularly, or the main thread logs it with the reasons (a failed reload).
    Debug,
}

impl HttpError {
    /// The HTTP status of the response, and how often the error is logged.
    pub fn classify(&self) -> (u16, LogLimit) {
        use LogLimit::{Anonymous, Debug, Outage, Unlimited};
        match self {
            Self::RequestHead(
                InvalidRequest::Malformed(_)
                | InvalidRequest::ProxyProtocol
                | InvalidRequest::Tls
                | InvalidRequest::NotTls
                | InvalidRequest::Framing(_),
            ) => (400, Anonymous),
            Self::RequestHead(InvalidRequest::Expectation) => (417, Anonymous),
            Self::RequestHead(InvalidRequest::TooLong) => (431, Anonymous),
            Self::Unauthorized(_) => (401, Anonymous),
            Self::NotFound | Self::NotAnAlertmanager => (404, Anonymous),
            Self::Method(_) => (405, Anonymous),
            Self::HeadTooSlow => (408, Anonymous),
            Self::BodyMalformed(_) | Self::Pipeline(PipelineError::Decode(_)) => (400, Unlimited),
            Self::BodyTooLong(_) | Self::Pipeline(PipelineError::TooLarge(_)) => (413, Unlimited),
            Self::ContentEncoding => (415, Unlimited),
            Self::ReloadRejected(_) => (500, Debug),
            Self::Internal => (500, Unlimited),
            Self::ReloadUnfinished => (503, Unlimited),
            Self::Memory(error) | Self::Pipeline(PipelineError::Memory(error)) => match error {
                BudgetError::NeverFits(_) => (413, Outage("memory")),
                BudgetError::Full(_) => (503, Outage("memory")),
            },
            Self::BodyIncomplete(_) => (503, Outage("incomplete body")),
            Self::BodyTooSlow => (503, Outage("slow body")),
            // The fault of one notification: the entries on an outage must not suppress it.
            Self::Pipeline(PipelineError::Delivery(DeliveryError::ChannelClosed(..))) => {
                (503, Outage("channel closed"))
            }
            Self::Pipeline(PipelineError::Delivery(error)) => (503, Outage(error.reason())),
            Self::MappingBusy => (503, Outage("mapping busy")),
            Self::Saturated(_) => (503, Outage("saturated")),
            Self::Stopping => (503, Outage("stopping")),
            Self::NotReady(_) => (503, Debug),
        }
    }

    /// The response, with the headers that its status requires.
    pub fn response(&self) -> Response {
        let (status, _) = self.classify();
        let headers = match self {
            Self::Unauthorized(_) => vec![("WWW-Authenticate", "Bearer".into())],
            Self::Method(allowed) => vec![("Allow", allowed.join(", ").into())],
            Self::ContentEncoding => vec![("Accept-Encoding", "identity".into())],
            _ if status == 503 => vec![("Retry-After", RETRY_AFTER.into())],
            _ => Vec::new(),
        };
        let mut body = json!({ "error": visible(&self.to_string()) });
        if let Self::ReloadRejected(reasons) = self {
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

    /// A response without further headers.
    pub fn new(status: u16, content_type: &'static str, body: String) -> Self {
        Self {
            status,
            content_type,
            headers: Vec::new(),
            body,
        }
    }

    fn json(status: u16, body: &serde_json::Value) -> Self {
        Self::new(status, JSON, format!("{body}\n"))
    }

    /// The response to a notification whose mapped events are all in the queue.
    pub fn to_notification(outcome: &Outcome) -> Self {
        let (published, rejected) = (outcome.published, outcome.rejected.count);
        let mut body = json!({ "published": published });
        if outcome.merged > 0 {
            body["merged"] = json!(outcome.merged);
        }
        if rejected == 0 {
            return Self::json(200, &body);
        }
        let mut entries = Vec::new();
        for alert in &outcome.rejected.named {
            for error in &alert.errors {
                entries.push(json!({
                    "alertname": alert.alertname, "fingerprint": alert.fingerprint,
                    "field": error.field(), "reason": error.to_string(),
                }));
            }
        }
        body["rejected"] = entries.into();
        let (status, key) = if outcome.is_failure() {
            (422, "error")
        } else {
            (200, "warning")
        };
        let alerts = rejected + outcome.merged + published;
        let summary = format!("rejected {rejected} of {alerts} alerts; published {published}");
        body[key] = summary.into();
        Self::json(status, &body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alertmanager::DecodeError;
    use crate::publisher::Progress;

    #[test]
    fn each_error_has_its_status_and_headers() {
        const LATER: Option<(&str, &str)> = Some(("Retry-After", "5"));
        let full = BudgetError::Full(1);
        let never = BudgetError::NeverFits(1);
        let incomplete = HttpError::BodyIncomplete(io::ErrorKind::TimedOut.into());
        let decode = PipelineError::Decode(DecodeError::FromPrometheus);
        let delivery = PipelineError::Delivery(DeliveryError::Stopped);
        let unauthorized = Some(("WWW-Authenticate", "Bearer"));
        for (error, status, header) in [
            (HttpError::NotFound, 404, None),
            (HttpError::NotAnAlertmanager, 404, None),
            (
                HttpError::Method(&["GET", "HEAD"]),
                405,
                Some(("Allow", "GET, HEAD")),
            ),
            (Unauthorized::Missing.into(), 401, unauthorized),
            (
                HttpError::ContentEncoding,
                415,
                Some(("Accept-Encoding", "identity")),
            ),
            (HttpError::BodyTooLong(9), 413, None),
            (PipelineError::TooLarge(9).into(), 413, None),
            (incomplete, 503, LATER),
            (full.into(), 503, LATER),
            (never.into(), 413, None),
            (HttpError::MappingBusy, 503, LATER),
            (HttpError::Saturated(8), 503, LATER),
            (HttpError::BodyMalformed("x"), 400, None),
            (InvalidRequest::Tls.into(), 400, None),
            (InvalidRequest::ProxyProtocol.into(), 400, None),
            (InvalidRequest::TooLong.into(), 431, None),
            (InvalidRequest::Expectation.into(), 417, None),
            (HttpError::HeadTooSlow, 408, None),
            (decode.into(), 400, None),
            (delivery.into(), 503, LATER),
            (HttpError::NotReady(String::new()), 503, LATER),
            (HttpError::ReloadRejected(Vec::new()), 500, None),
            (HttpError::ReloadUnfinished, 503, LATER),
            (HttpError::Stopping, 503, LATER),
            (HttpError::Internal, 500, None),
        ] {
            let response = error.response();
            let first = response.headers.first();
            let first = first.map(|(name, value)| (*name, &**value));
            assert_eq!((response.status, first), (status, header), "{error:?}");
            let body = &response.body;
            let is_json = body.starts_with("{\"error\":\"") && body.ends_with("}\n");
            assert!(is_json, "{body}");
        }
    }

    #[test]
    fn what_needs_no_token_and_what_an_outage_repeats_is_logged_within_limits() {
        use LogLimit::{Anonymous, Debug, Outage, Unlimited};
        let full = || BudgetError::Full(1);
        let stopped = DeliveryError::Stopped;
        let reason = stopped.reason();
        let progress = Progress {
            confirmed: 0,
            of: 1,
        };
        // The metrics have the same name for it as for an outage.
        let closed = DeliveryError::ChannelClosed(String::new(), progress);
        assert_eq!(closed.reason(), reason);
        for (error, limit) in [
            (HttpError::NotFound, Anonymous),
            (HttpError::Method(&["GET"]), Anonymous),
            (Unauthorized::Wrong.into(), Anonymous),
            (InvalidRequest::TooLong.into(), Anonymous),
            (HttpError::HeadTooSlow, Anonymous),
            (HttpError::ContentEncoding, Unlimited),
            (full().into(), Outage("memory")),
            (PipelineError::from(full()).into(), Outage("memory")),
            (PipelineError::from(stopped).into(), Outage(reason)),
            (PipelineError::from(closed).into(), Outage("channel closed")),
            (HttpError::Saturated(8), Outage("saturated")),
            (HttpError::NotReady(String::new()), Debug),
        ] {
            assert_eq!(error.classify().1, limit, "{error:?}");
        }
    }
}
