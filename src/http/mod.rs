//! The HTTP server: listens, authenticates senders, and answers each request.
//!
//! Only [`server`] and the modules below it know sockets. They turn input into a [`request::RequestHead`], which [`Application`]
//! answers with a [`Response`]. It reads the body from the [`connection`].

use std::fmt;
use std::time::Duration;

mod application;
mod auth;
mod body;
mod connection;
mod permits;
pub mod request;
mod response;
mod routes;
mod server;
mod slots;
mod stream;
mod tls;

pub use application::{ActiveConfig, Application};
pub use auth::{DEFAULT_TOKEN, Token, Unauthorized};
pub use response::{HttpError, Response};

pub use server::{ListenError, Server};
pub use tls::{HandshakeError, ServerTls};

/// The configuration of the server.
#[derive(Debug, Clone)]
pub struct ServerSettings {
    /// Where to listen.
    pub listen: ListenAddress,
    /// For TLS on every connection; `None` for plain HTTP.
    pub tls: Option<ServerTls>,
    /// The accepted tokens; at least one.
    pub tokens: Vec<Token>,
    /// Whether `GET /metrics` requires a token.
    pub metrics_require_token: bool,
    /// A longer body is answered 413.
    pub max_body_bytes: usize,
    /// How many connections may be open at once; at least 2.
    pub max_connections: usize,
    /// How long a notification may wait for RabbitMQ without a confirm for it.
    pub answer_timeout: Duration,
}

impl ServerSettings {
    /// Whether TLS is on, and until when its certificate is valid.
    pub fn tls_summary(&self) -> String {
        let tls = self.tls.as_ref();
        tls.map_or_else(|| "off".to_owned(), ServerTls::summary)
    }
}

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenAddress {
    /// A name or an address, without brackets; empty for every address of both families.
    pub host: String,
    /// 0 stands for any free port.
    pub port: u16,
}

impl ListenAddress {
    /// Parses `HOST:PORT`. An IPv6 address is in brackets; without a host (`:18401`) it is every address.
    pub fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.trim().rsplit_once(':')?;
        let port = port.parse().ok()?;
        let host = match host.strip_prefix('[').map(|host| host.strip_suffix(']')) {
            Some(bracketed) => bracketed.filter(|host| !host.is_empty())?,
            None if host.contains(':') => return None,
            None => host,
        };
        Some(Self {
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

#[cfg(test)]
mod tests {
    use super::ListenAddress;

    #[test]
    fn listen_addresses_are_parsed() {
        for (text, parsed) in [
            ("0.0.0.0:18401", Some(("0.0.0.0", 18401))),
            ("[::]:80", Some(("::", 80))),
            (":18401", Some(("", 18401))),
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
