//! Checks bearer tokens (RFC 6750) in constant time. The only place where a sender is authenticated by its token.

use std::net::IpAddr;

use subtle::{Choice, ConstantTimeEq};

use crate::secret::Secret;

/// The token of the shipped `config.yml`. It is public, so it is accepted from loopback addresses only.
pub const DEFAULT_TOKEN: &str = "canopsis-prometheus-change-me";

/// Why a request is not authorized.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unauthorized {
    /// There is no token.
    #[error(
        "a valid bearer token is required (Authorization: Bearer ...); in Alertmanager, set http_config.authorization.credentials of the receiver"
    )]
    Missing,
    /// The token is none of the configured ones.
    #[error(
        "a valid bearer token is required, and this one is wrong; in Alertmanager, set http_config.authorization.credentials of the receiver to the connector's token"
    )]
    Wrong,
    /// The token is the published default, and the sender is on another host.
    #[error(
        "the published default token is accepted from loopback addresses only; set a secret one in http.bearer_token or PROMETHEUS_BEARER_TOKEN, and in Alertmanager"
    )]
    DefaultToken,
}

/// Whether an `Authorization` header holds one of the tokens. The time that this takes reveals the length of the tokens at
/// most.
pub fn authorize(
    header: Option<&str>,
    tokens: &[Secret],
    peer: IpAddr,
) -> Result<(), Unauthorized> {
    let header = header.ok_or(Unauthorized::Missing)?;
    let (scheme, given) = header.trim().split_once(' ').ok_or(Unauthorized::Wrong)?;
    let given = given.trim_start();
    let any = tokens.iter().fold(Choice::from(0), |any, token| {
        any | given.as_bytes().ct_eq(token.expose().as_bytes())
    });
    if !scheme.eq_ignore_ascii_case("bearer") || !bool::from(any) {
        Err(Unauthorized::Wrong)
    } else if given == DEFAULT_TOKEN && !peer.to_canonical().is_loopback() {
        Err(Unauthorized::DefaultToken)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REMOTE: &str = "192.0.2.1";

    fn authorize_from(
        peer: &str,
        header: Option<&str>,
        tokens: &[Secret],
    ) -> Result<(), Unauthorized> {
        authorize(header, tokens, peer.parse().unwrap())
    }

    #[test]
    fn only_an_exact_token_is_authorized() {
        let tokens = [Secret::new("old-token"), Secret::new("new")];
        let wrong = Err(Unauthorized::Wrong);
        for (header, result) in [
            (Some("Bearer new"), Ok(())),
            (Some("bearer old-token"), Ok(())),
            (Some("BEARER  new "), Ok(())),
            (None, Err(Unauthorized::Missing)),
            (Some(""), wrong),
            (Some("Bearer"), wrong),
            (Some("Bearer "), wrong),
            (Some("Bearer ne"), wrong),
            (Some("Bearer new2"), wrong),
            (Some("Bearer new old-token"), wrong),
            (Some("Basic new"), wrong),
            (Some("new"), wrong),
            (Some("Bearer \u{fffd}"), wrong),
        ] {
            assert_eq!(
                authorize_from(REMOTE, header, &tokens),
                result,
                "{header:?}"
            );
        }
        assert_eq!(authorize_from(REMOTE, Some("Bearer "), &[]), wrong);
    }

    #[test]
    fn the_default_token_is_accepted_from_loopback_addresses_only() {
        let tokens = [Secret::new(DEFAULT_TOKEN), Secret::new("own")];
        let header = format!("Bearer {DEFAULT_TOKEN}");
        for (peer, result) in [
            ("127.0.0.1", Ok(())),
            ("127.9.9.9", Ok(())),
            ("::1", Ok(())),
            ("::ffff:127.0.0.1", Ok(())),
            (REMOTE, Err(Unauthorized::DefaultToken)),
            ("10.0.0.1", Err(Unauthorized::DefaultToken)),
            ("::ffff:10.0.0.1", Err(Unauthorized::DefaultToken)),
            ("::", Err(Unauthorized::DefaultToken)),
            ("0.0.0.0", Err(Unauthorized::DefaultToken)),
            ("fe80::1", Err(Unauthorized::DefaultToken)),
        ] {
            assert_eq!(
                authorize_from(peer, Some(&header), &tokens),
                result,
                "{peer}"
            );
            assert_eq!(
                authorize_from(peer, Some("Bearer own"), &tokens),
                Ok(()),
                "{peer}"
            );
            let others = &tokens[1..];
            let wrong = Err(Unauthorized::Wrong);
            assert_eq!(authorize_from(peer, Some(&header), others), wrong, "{peer}");
        }
    }
}
