//! What a sender reads: one exhaustive table from what went wrong to a status.
//!
//! Alertmanager tries again after any 5xx and gives up at once after any 4xx, 429 too. So whatever may be better later
//! is 503, and 4xx is left for what only a person can mend.

use serde_json::json;

use super::BodyError;
use super::connection::HEAD_LIMIT;
use super::head::HeadError;
use crate::bridge::{Outcome, Refused};
use crate::mapping::Refusal;
use crate::notification::DecodeError;
use crate::publisher::DeliveryError;

/// Seconds; for senders that heed it. Alertmanager has a clock of its own.
const RETRY_AFTER: &str = "5";

/// As many refused alerts are named in one answer; all of them are counted and logged.
const MOST_NAMED: usize = 50;

/// A status, headers and a body: JSON, one object, one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// Besides those of every answer.
    pub headers: Vec<(&'static str, &'static str)>,
    /// The body, with its line end.
    pub body: String,
}

/// Why a request is not done.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// No such route.
    #[error("there is nothing here: notifications are taken at POST /webhook")]
    NotFound,
    /// What a Prometheus server posts to, taking this for an Alertmanager.
    #[error(
        "this is no Alertmanager: point Prometheus at an Alertmanager, and that Alertmanager's webhook receiver at /webhook here"
    )]
    NotAnAlertmanager,
    /// The route exists for other methods.
    #[error("this takes {0} only")]
    Method(&'static str),
    /// No token, or a wrong one.
    #[error("a valid bearer token is needed: set http_config.authorization.credentials in Alertmanager's receiver")]
    Unauthorized,
    /// The head says nothing that can be trusted.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// The head takes too long.
    #[error("the request's head did not arrive within {HEAD_LIMIT:?}")]
    HeadTooSlow,
    /// The body can't be had.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// The body is no notification.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The events are not in the queue.
    #[error(transparent)]
    Delivery(#[from] DeliveryError),
    /// No connection to a broker that takes events.
    #[error("not ready: {0}")]
    NotReady(String),
    /// The process is about to end.
    #[error("the connector is stopping")]
    Stopping,
    /// A defect.
    #[error("internal error; the connector's log says more")]
    Internal,
}

impl Problem {
    fn status(&self) -> u16 {
        match self {
            Self::Decode(_)
            | Self::Body(BodyError::Malformed(_))
            | Self::Head(HeadError::Malformed(_) | HeadError::Tls | HeadError::Framing(_)) => 400,
            Self::Unauthorized => 401,
            Self::NotFound | Self::NotAnAlertmanager => 404,
            Self::Method(_) => 405,
            Self::HeadTooSlow => 408,
            Self::Body(BodyError::TooLong(_)) => 413,
            Self::Head(HeadError::Expectation) => 417,
            Self::Head(HeadError::TooLong) => 431,
            Self::Internal => 500,
            Self::Body(BodyError::Incomplete(_) | BodyError::TooSlow(_) | BodyError::Busy)
            | Self::Delivery(_)
            | Self::NotReady(_)
            | Self::Stopping => 503,
        }
    }

    /// The answer, with the headers that its status asks for.
    pub fn answer(&self) -> Answer {
        let status = self.status();
        let headers = match self {
            Self::Unauthorized => vec![("WWW-Authenticate", "Bearer")],
            Self::Method(allowed) => vec![("Allow", *allowed)],
            _ if status == 503 => vec![("Retry-After", RETRY_AFTER)],
            _ => Vec::new(),
        };
        Answer { status, headers, body: line(&json!({ "error": self.to_string() })) }
    }
}

impl Answer {
    /// 200 with a few words.
    pub fn ok(text: &str) -> Self {
        Self { status: 200, headers: Vec::new(), body: line(&json!({ "status": text })) }
    }

    /// What came of a notification whose mapped events are all in the queue.
    pub fn of(outcome: &Outcome) -> Self {
        let Outcome { published, refused } = outcome;
        if refused.is_empty() {
            return Self { status: 200, headers: Vec::new(), body: line(&json!({ "published": published })) };
        }
        let name = |alert: &Refused, refusal: &Refusal| json!({ "fingerprint": alert.fingerprint, "field": refusal.field, "reason": refusal.reason });
        let named: Vec<_> = refused
            .iter()
            .take(MOST_NAMED)
            .flat_map(|alert| alert.refusals.iter().map(move |refusal| name(alert, refusal)))
            .collect();
        let error = format!(
            "{} of {} alerts can't be mapped, the others are published",
            refused.len(),
            refused.len() + published
        );
        let body = line(&json!({ "error": error, "published": published, "refused": named }));
        Self { status: 422, headers: Vec::new(), body }
    }
}

fn line(value: &serde_json::Value) -> String {
    format!("{value}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_problem_has_its_status_and_headers() {
        let incomplete = || BodyError::Incomplete(std::io::ErrorKind::TimedOut.into());
        for (problem, status, header) in [
            (Problem::NotFound, 404, None),
            (Problem::NotAnAlertmanager, 404, None),
            (Problem::Method("POST"), 405, Some(("Allow", "POST"))),
            (Problem::Unauthorized, 401, Some(("WWW-Authenticate", "Bearer"))),
            (Problem::Body(BodyError::TooLong(9)), 413, None),
            (Problem::Body(incomplete()), 503, Some(("Retry-After", "5"))),
            (Problem::Body(BodyError::Busy), 503, Some(("Retry-After", "5"))),
            (Problem::Body(BodyError::Malformed("x")), 400, None),
            (Problem::Head(HeadError::Tls), 400, None),
            (Problem::Head(HeadError::TooLong), 431, None),
            (Problem::Head(HeadError::Expectation), 417, None),
            (Problem::HeadTooSlow, 408, None),
            (Problem::Decode(DecodeError::FromPrometheus), 400, None),
            (Problem::Delivery(DeliveryError::Nacked), 503, Some(("Retry-After", "5"))),
            (Problem::NotReady(String::new()), 503, Some(("Retry-After", "5"))),
            (Problem::Stopping, 503, Some(("Retry-After", "5"))),
            (Problem::Internal, 500, None),
        ] {
            let answer = problem.answer();
            assert_eq!((answer.status, answer.headers.first().copied()), (status, header), "{problem:?}");
            assert!(answer.body.starts_with("{\"error\":\"") && answer.body.ends_with("\"}\n"), "{}", answer.body);
        }
    }
}
