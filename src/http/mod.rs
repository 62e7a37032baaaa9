//! The sender's side: routes, tokens, limits and answers.
//!
//! Bytes and sockets are known to [`server`] and what is under it alone. Everything else here sees a [`Request`] and gives an
//! [`Response`].

use std::fmt;
use std::io;
use std::time::Duration;

mod auth;
mod budget;
mod connection;
pub mod request;
mod response;
mod routes;
mod server;
mod slots;

pub use budget::BodyBytes;
pub use response::{HttpError, Response};
pub use routes::{ReloadError, Routes, Runtime};
pub use server::{ListenError, Server};

use crate::secret::Secret;

/// Where to listen and whom to let in.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The address.
    pub listen: ListenAddress,
    /// Any of them lets a sender in; at least one.
    pub tokens: Vec<Secret>,
    /// A longer body is answered 413.
    pub max_body_bytes: usize,
    /// As many connections at once.
    pub max_connections: usize,
    /// From the body's last byte to the answer.
    pub answer_timeout: Duration,
}

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenAddress {
    /// A name or an address, without brackets.
    pub host: String,
    /// 0 takes a free one.
    pub port: u16,
}

impl ListenAddress {
    /// `HOST:PORT`; an IPv6 address in brackets; without a host (`:18401`) it is every address.
    pub fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.trim().rsplit_once(':')?;
        let port = port.parse().ok()?;
        let host = match host.strip_prefix('[').map(|host| host.strip_suffix(']')) {
            Some(bracketed) => bracketed?,
            None if host.contains(':') => return None,
            None if host.is_empty() => "0.0.0.0",
            None => host,
        };
        (!host.is_empty()).then(|| Self {
            host: host.to_owned(),
            port,
        })
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// A request whose body has not been read yet.
pub struct Request<'r> {
    /// As `GET`
    pub method: &'r str,
    /// With the query, as it was sent.
    pub target: &'r str,
    /// The `Authorization` header.
    pub authorization: Option<&'r str>,
    /// Whether the sender takes OpenMetrics.
    pub accepts_openmetrics: bool,
    /// Who sends it.
    pub peer: &'r str,
    /// The body, for those who may send one.
    pub body: &'r mut dyn Body,
}

/// A body that can be read once.
pub trait Body {
    /// Reads it whole; an error as soon as it is known to be longer than `limit` bytes.
    fn read(&mut self, limit: usize) -> Result<BodyBytes, BodyError>;
}

/// Why there is no body.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// It is longer than allowed.
    #[error("the body is longer than {0} bytes (http.max_body_bytes)")]
    TooLong(usize),
    /// The connection ended.
    #[error("the body did not arrive whole: {0}")]
    Incomplete(io::Error),
    /// It takes too long.
    #[error("the body did not arrive within {0:?}")]
    TooSlow(Duration),
    /// Its chunks make no sense.
    #[error("the body's chunks make no sense: {0}")]
    Malformed(&'static str),
    /// Too many large bodies at once.
    #[error("too many large bodies are on their way at once")]
    Busy,
}

#[cfg(test)]
mod tests {
    use super::ListenAddress;

    #[test]
    fn listen_addresses() {
        for (text, parsed) in [
            ("0.0.0.0:18401", Some(("0.0.0.0", 18401))),
            ("[::]:80", Some(("::", 80))),
            (":18401", Some(("0.0.0.0", 18401))),
            ("localhost:0", Some(("localhost", 0))),
            ("::1:80", None),
            ("localhost", None),
            ("localhost:", None),
            ("[]:1", None),
            ("a:70000", None),
        ] {
            let listen = ListenAddress::parse(text);
            assert_eq!(
                listen
                    .as_ref()
                    .map(|listen| (listen.host.as_str(), listen.port)),
                parsed,
                "{text}"
            );
        }
        assert_eq!(
            ListenAddress::parse("[::1]:80").unwrap().to_string(),
            "[::1]:80"
        );
    }
}
