//! What a sender reads: one exhaustive table from what went wrong to a status.
//!
//! Alertmanager tries again after any 5xx and gives up at once after any 4xx, 429 too. So whatever may be better later
//! is 503, and 4xx is left for what only a person can mend.

use std::borrow::Cow;

use serde_json::json;

use super::BodyError;
use super::connection::HEAD_LIMIT;
use super::request::InvalidRequest;
use crate::alertmanager::DecodeError;
use crate::mapping::FieldError;
use crate::pipeline::{Outcome, RejectedAlert};
use crate::publisher::DeliveryError;

/// Seconds; for senders that heed it. Alertmanager has a clock of its own.
const RETRY_AFTER: &str = "5";

/// What most bodies are: one object, one line.
const JSON: &str = "application/json";

/// A status, headers and a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// Of the body.
    pub content_type: &'static str,
    /// Besides those of every answer.
    pub headers: Vec<(&'static str, Cow<'static, str>)>,
    /// The body, with its line end.
    pub body: String,
}

/// Why a request is not done.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// No such route.
    #[error("there is nothing here: notifications are taken at POST /webhook")]
    NotFound,
    /// What a Prometheus server posts to, taking this for an Alertmanager.
    #[error(
        "this is no Alertmanager: point Prometheus at an Alertmanager, and that Alertmanager's webhook receiver at /webhook here"
    )]
    NotAnAlertmanager,
    /// The route exists for other methods.
    #[error("this takes {} only", .0.join(", "))]
    Method(&'static [&'static str]),
    /// No token, or a wrong one.
    #[error(
        "a valid bearer token is needed (Authorization: Bearer ...); in Alertmanager: http_config.authorization.credentials of the receiver"
    )]
    Unauthorized,
    /// The head says nothing that can be trusted.
    #[error(transparent)]
    RequestHead(#[from] InvalidRequest),
    /// The head takes too long.
    #[error("the request's head did not arrive within {HEAD_LIMIT:?}")]
    HeadTooSlow,
    /// The body can't be had.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// The body is no notification.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The events would be too large; says so.
    #[error("{0}")]
    EventsTooLarge(String),
    /// The events are not in the queue.
    #[error(transparent)]
    Delivery(#[from] DeliveryError),
    /// No connection to a broker that takes events.
    #[error("not ready: {0}")]
    NotReady(String),
    /// The configuration is faulty, and the one before stays in use.
    #[error("the configuration is not reloaded; the one before stays in use")]
    Reload(Vec<String>),
    /// Reading the configuration takes long.
    #[error("the configuration is still being read; the log will say what came of it")]
    StillReloading,
    /// The process is about to end.
    #[error("the connector is stopping")]
    Stopping,
    /// A defect.
    #[error("internal error; the connector's log says more")]
    Internal,
}

impl HttpError {
    /// The HTTP status: the one table.
    pub fn status(&self) -> u16 {
        match self {
            Self::Decode(_)
            | Self::Body(BodyError::Malformed(_))
            | Self::RequestHead(
                InvalidRequest::Malformed(_) | InvalidRequest::Tls | InvalidRequest::Framing(_),
            ) => 400,
            Self::Unauthorized => 401,
            Self::NotFound | Self::NotAnAlertmanager => 404,
            Self::Method(_) => 405,
            Self::HeadTooSlow => 408,
            Self::Body(BodyError::TooLong(_)) | Self::EventsTooLarge(_) => 413,
            Self::RequestHead(InvalidRequest::Expectation) => 417,
            Self::RequestHead(InvalidRequest::TooLong) => 431,
            Self::Reload(_) | Self::Internal => 500,
            Self::Body(BodyError::Incomplete(_) | BodyError::TooSlow(_) | BodyError::Busy)
            | Self::Delivery(_)
            | Self::NotReady(_)
            | Self::StillReloading
            | Self::Stopping => 503,
        }
    }

    /// The answer, with the headers that its status asks for.
    pub fn answer(&self) -> Response {
        let status = self.status();
        let headers = match self {
            Self::Unauthorized => vec![("WWW-Authenticate", "Bearer".into())],
            Self::Method(allowed) => vec![("Allow", allowed.join(", ").into())],
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
    /// 200 with a few words.
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

    /// What came of a notification whose mapped events are all in the queue.
    pub fn of(outcome: &Outcome) -> Self {
        let Outcome { published, refused } = outcome;
        if refused.count == 0 {
            // Written by hand, as nearly every answer is this one.
            let body = format!("{{\"published\":{published}}}\n");
            return Self {
                status: 200,
                content_type: JSON,
                headers: Vec::new(),
                body,
            };
        }
        let name = |alert: &RejectedAlert, refusal: &FieldError| json!({ "alertname": alert.alertname, "fingerprint": alert.fingerprint, "field": refusal.field, "reason": refusal.reason });
        let named: Vec<_> = refused
            .named
            .iter()
            .flat_map(|alert| {
                alert
                    .refusals
                    .iter()
                    .map(move |refusal| name(alert, refusal))
            })
            .collect();
        let error = format!(
            "{} of {} alerts can't be mapped, the others are published",
            refused.count,
            refused.count + published
        );
        Self::json(
            422,
            &json!({ "error": error, "published": published, "refused": named }),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_problem_has_its_status_and_headers() {
        let incomplete = || BodyError::Incomplete(std::io::ErrorKind::TimedOut.into());
        for (problem, status, header) in [
            (HttpError::NotFound, 404, None),
            (HttpError::NotAnAlertmanager, 404, None),
            (
                HttpError::Method(&["GET", "HEAD"]),
                405,
                Some(("Allow", "GET, HEAD")),
            ),
            (
                HttpError::Unauthorized,
                401,
                Some(("WWW-Authenticate", "Bearer")),
            ),
            (HttpError::Body(BodyError::TooLong(9)), 413, None),
            (HttpError::EventsTooLarge(String::new()), 413, None),
            (
                HttpError::Body(incomplete()),
                503,
                Some(("Retry-After", "5")),
            ),
            (
                HttpError::Body(BodyError::Busy),
                503,
                Some(("Retry-After", "5")),
            ),
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
                HttpError::Delivery(DeliveryError::Nacked),
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
            let answer = problem.answer();
            let first = answer
                .headers
                .first()
                .map(|(name, value)| (*name, &**value));
            assert_eq!((answer.status, first), (status, header), "{problem:?}");
            assert!(
                answer.body.starts_with("{\"error\":\"") && answer.body.ends_with("}\n"),
                "{}",
                answer.body
            );
        }
    }
}
