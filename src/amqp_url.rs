//! AMQP URLs: `amqp://user:password@host:port/vhost`, parsed and checked, with the password hidden.
//!
//! The format is that of RabbitMQ's URI specification and its query parameters. The AMQP library's own parser rejects common
//! variations with misleading messages, and its errors show the password.

use std::fmt;

use percent_encoding::percent_decode_str;
use url::Url;

use crate::secret::Secret;

/// The maximal length of a virtual host's name: that of an AMQP short string.
const MAX_SHORT_STRING_BYTES: usize = 255;

const DEFAULT_HEARTBEAT_SECONDS: u16 = 10;

/// The address of a broker, and the login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AmqpUrl {
    /// Whether the scheme is `amqps`.
    pub tls: bool,
    /// A name or an address, without brackets.
    pub host: String,
    /// The TCP port.
    pub port: u16,
    /// The login.
    pub login: Login,
    /// The virtual host.
    pub vhost: String,
    /// The proposed heartbeat interval in seconds; the broker may choose a shorter one. 0 proposes none.
    pub heartbeat: u16,
    /// The URL with its defaults, without the password and the query.
    shown: String,
}

/// How the connector authenticates to the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Login {
    /// With user and password.
    Plain {
        /// The user.
        user: String,
        /// The password.
        password: Secret,
    },
    /// With the TLS client certificate (`?auth_mechanism=external`).
    External,
}

/// Why a URL is invalid. Never shows a part of it that could be a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Not a valid URL.
    #[error(
        "is invalid ({0}); percent-encode special characters in the password, such as # as %23"
    )]
    Syntax(url::ParseError),
    /// Another scheme.
    #[error("must begin with amqp:// or amqps://")]
    Scheme,
    /// No host.
    #[error("has no host")]
    Host,
    /// A list of hosts, as some other AMQP clients accept it.
    #[error("has several hosts; set several URLs instead: amqp.url takes a list")]
    SeveralHosts,
    /// A user, password or virtual host that is not UTF-8 once decoded.
    #[error("contains percent-encoded bytes that are not UTF-8")]
    Encoding,
    /// More than one path segment.
    #[error(
        "has more than one path segment; in the name of a virtual host, percent-encode / as %2F"
    )]
    Path,
    /// Too long for AMQP.
    #[error("has a virtual host longer than {MAX_SHORT_STRING_BYTES} bytes")]
    VhostTooLong,
    /// An `@` after the host: probably special characters in the password that are not percent-encoded.
    #[error(
        "has an @ after the host; in the password, percent-encode / as %2F, ? as %3F, # as %23 and @ as %40"
    )]
    StrayAt,
    /// A query parameter that is unknown, or has an invalid value.
    #[error(
        "has an unknown or invalid query parameter; valid are heartbeat=SECONDS and auth_mechanism=plain|external"
    )]
    Query,
}

impl AmqpUrl {
    /// Parses a URL. The defaults are RabbitMQ's: port 5672 or 5671, user and password `guest`, virtual host `/`.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        let (scheme, rest) = text.split_once("://").ok_or(UrlError::Scheme)?;
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "amqp" => false,
            "amqps" => true,
            _ => return Err(UrlError::Scheme),
        };
        let (authority, after) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        if after.contains('@') {
            return Err(UrlError::StrayAt);
        }
        let (_, host_and_port) = authority.rsplit_once('@').unwrap_or(("", authority));
        if host_and_port.contains(',') {
            return Err(UrlError::SeveralHosts);
        }
        let url = Url::parse(text).map_err(UrlError::Syntax)?;
        if url.fragment().is_some() {
            return Err(UrlError::Syntax(url::ParseError::InvalidDomainCharacter));
        }
        let encoded_host = url.host_str().unwrap_or_default();
        let host = decode(encoded_host)?.trim_matches(['[', ']']).to_owned();
        if host.is_empty() {
            return Err(UrlError::Host);
        }
        let path = url.path().strip_prefix('/').unwrap_or_default();
        let path = match path.strip_suffix('/').unwrap_or(path) {
            "" => "%2F",
            path => path,
        };
        if path.contains('/') {
            return Err(UrlError::Path);
        }
        let vhost = decode(path)?;
        if vhost.len() > MAX_SHORT_STRING_BYTES {
            return Err(UrlError::VhostTooLong);
        }
        let (heartbeat, external) = query(&url)?;
        let port = url.port().unwrap_or(if tls { 5671 } else { 5672 });
        if port == 0 {
            return Err(UrlError::Syntax(url::ParseError::InvalidPort));
        }
        let (user, password) = match (url.username(), url.password()) {
            ("", None) => ("guest", "guest"),
            (user, password) => (user, password.unwrap_or_default()),
        };
        let address = format!("{encoded_host}:{port}/{path}");
        let (login, shown) = if external {
            (Login::External, format!("{}://{address}", url.scheme()))
        } else {
            let login = Login::Plain {
                user: decode(user)?,
                password: Secret::new(decode(password)?),
            };
            (login, format!("{}://{user}@{address}", url.scheme()))
        };
        Ok(Self {
            tls,
            host,
            port,
            login,
            vhost,
            heartbeat,
            shown,
        })
    }
}

fn decode(text: &str) -> Result<String, UrlError> {
    String::from_utf8(percent_decode_str(text).collect()).map_err(|_| UrlError::Encoding)
}

fn query(url: &Url) -> Result<(u16, bool), UrlError> {
    let (mut heartbeat, mut external) = (DEFAULT_HEARTBEAT_SECONDS, false);
    for (name, value) in url.query_pairs() {
        match (&*name, value.to_ascii_lowercase().as_str()) {
            ("heartbeat", seconds) => {
                heartbeat = seconds.parse().map_err(|_| UrlError::Query)?;
            }
            ("auth_mechanism", "external") => external = true,
            ("auth_mechanism", "plain") => external = false,
            _ => return Err(UrlError::Query),
        }
    }
    Ok((heartbeat, external))
}

impl fmt::Display for AmqpUrl {
    /// The URL in the encoding of its parser, with its defaults and without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::tests::rows;

    #[test]
    fn addresses() {
        // The URL; as it is shown, the virtual host, the user and the password.
        for (text, expected) in rows(
            "
            amqp://cpsrabbit:canopsis@localhost/canopsis
                amqp://cpsrabbit@localhost:5672/canopsis | canopsis | cpsrabbit | canopsis
            amqp://u:p@localhost/canopsis/
                amqp://u@localhost:5672/canopsis | canopsis | u | p
            AMQP://localhost
                amqp://guest@localhost:5672/%2F | / | guest | guest
            amqp://localhost/
                amqp://guest@localhost:5672/%2F | / | guest | guest
            amqp://localhost/%2f
                amqp://guest@localhost:5672/%2f | / | guest | guest
            amqps://u:p%40s%23@[::1]:1234/a%2Fb?heartbeat=5
                amqps://u@[::1]:1234/a%2Fb | a/b | u | p@s#
            amqp://u:p@h/%2Fteam%2Fa
                amqp://u@h:5672/%2Fteam%2Fa | /team/a | u | p
            amqp://a%40b%3A:p@h/50%25%20%23%3F
                amqp://a%40b%3A@h:5672/50%25%20%23%3F | 50% #? | a@b: | p
            amqp://u:p@ss@h/v
                amqp://u@h:5672/v | v | u | p@ss
            amqps://h/v?auth_mechanism=EXTERNAL
                amqps://h:5671/v | v
            ",
        ) {
            let url = AmqpUrl::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            let mut found = vec![url.to_string(), url.vhost];
            if let Login::Plain { user, password } = url.login {
                found.extend([user, password.expose().to_owned()]);
            }
            assert_eq!(found.join(" | "), expected, "{text}");
        }
        assert_eq!(AmqpUrl::parse("amqp://h?heartbeat=5").unwrap().heartbeat, 5);
    }

    #[test]
    fn a_list_of_hosts_is_recognized() {
        for (text, expected) in [
            ("amqp://h1,h2:5672/v", Err(UrlError::SeveralHosts)),
            ("amqp://u:p@h1:5672,h2:5672/v", Err(UrlError::SeveralHosts)),
            ("amqp://u:a,b@h/a,b", Ok("amqp://u@h:5672/a,b".to_owned())),
        ] {
            let shown = AmqpUrl::parse(text).map(|url| url.to_string());
            assert_eq!(shown, expected, "{text}");
        }
    }

    #[test]
    fn no_error_and_no_display_shows_the_password() {
        for text in [
            "http://u:hunter2@h/v",
            "u:hunter2@h/v",
            "amqp://u:hunter2#x@h/v",
            "amqp://u:hunter2/x@h/v",
            "amqp://u:hunter2@h/a/b",
            "amqp://u:hunter2@",
            "amqp://u:hunter2%ff@h/v",
            "amqp://u:hunter2@h:99999/v",
            "amqp://u:hunter2@h:0/v",
            "amqp://u:hunter2@h/v?frame_max=1",
            "amqp://u:hunter2@h/v?heartbeat=x",
            "amqp://u:hunter2?@h/v",
            "amqp://u:12/hunter2@h",
            "amqp://u:12?hunter2@h/v",
            "amqp://u:12#hunter2@h/v",
            "amqp://u:/hunter2@h",
            "amqp://u:@h/v?hunter2=1",
            "amqp://u:hunter2@h1,h2/v",
            "amqp://u:hunter2@h1:5672,h2:5672/v",
        ] {
            let error = AmqpUrl::parse(text).unwrap_err();
            assert!(
                !format!("{error} {error:?}").contains("hunter2"),
                "{text}: {error}"
            );
        }
        let url = AmqpUrl::parse("amqp://u:hunter2@h/v").unwrap();
        assert!(!format!("{url} {url:?}").contains("hunter2"));
    }
}
