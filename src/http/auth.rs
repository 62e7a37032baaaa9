//! Checks bearer tokens (RFC 6750) in constant time. The only place where a sender is authenticated by its token.

use std::net::IpAddr;

use subtle::{ConditionallySelectable, ConstantTimeEq};

use crate::placeholder::is_placeholder;
use crate::secret::Secret;

/// The token of the shipped `config.yml`.
pub const DEFAULT_TOKEN: &str = "canopsis-prometheus-change-me";

/// Other tokens of the documents and examples.
const PUBLISHED_TOKENS: [&str; 5] = [
    "NEW",
    "OLD",
    "TOKEN",
    "a-secret",
    "a-token-that-everybody-knows",
];

/// A token that senders may present.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    text: Secret,
    /// Whether everyone knows or guesses it, so that it is accepted from loopback addresses only.
    pub is_published: bool,
}

impl Token {
    /// Wraps a token, and finds out whether it is a secret at all.
    pub fn new(text: impl Into<String>) -> Self {
        let text = text.into();
        Self {
            is_published: PUBLISHED_TOKENS.contains(&&*text) || is_placeholder(&text),
            text: Secret::new(text),
        }
    }
}

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
    /// The token is published, and the sender is on another host.
    #[error(
        "a published token is accepted from loopback addresses only; set a secret one in http.bearer_token or PROMETHEUS_BEARER_TOKEN, and in Alertmanager"
    )]
    PublishedToken,
}

/// The position of the token that an `Authorization` header holds; 1 is the first. All tokens are compared, so that the time
/// that this takes reveals their lengths at most.
pub fn authorize(
    header: Option<&str>,
    tokens: &[Token],
    peer: IpAddr,
) -> Result<u64, Unauthorized> {
    let header = header.ok_or(Unauthorized::Missing)?;
    let (scheme, given) = header.trim().split_once(' ').ok_or(Unauthorized::Wrong)?;
    let given = given.trim_start();
    let (mut position, mut is_published) = (0, 0);
    for (number, token) in (1..).zip(tokens) {
        let is_equal = given.as_bytes().ct_eq(token.text.expose().as_bytes());
        position.conditional_assign(&number, is_equal);
        is_published.conditional_assign(&u8::from(token.is_published), is_equal);
    }
    if !scheme.eq_ignore_ascii_case("bearer") || position == 0 {
        Err(Unauthorized::Wrong)
    } else if is_published == 1 && !peer.to_canonical().is_loopback() {
        Err(Unauthorized::PublishedToken)
    } else {
        Ok(position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REMOTE: &str = "192.0.2.1";

    fn authorize_from(
        peer: &str,
        header: Option<&str>,
        tokens: &[Token],
    ) -> Result<u64, Unauthorized> {
        authorize(header, tokens, peer.parse().unwrap())
    }

    #[test]
    fn only_an_exact_token_is_authorized() {
        let tokens = ["old-token-of-28-characters-1", "new", "third"].map(Token::new);
        for (header, position) in [
            ("Bearer old-token-of-28-characters-1", 1),
            ("Bearer new", 2),
            ("bearer third", 3),
            ("BEARER  new ", 2),
        ] {
            let result = authorize_from(REMOTE, Some(header), &tokens);
            assert_eq!(result, Ok(position), "{header:?}");
        }
        for header in [
            "",
            "Bearer",
            "Bearer ",
            "Bearer ne",
            "Bearer new2",
            "Bearer NEW",
            "Bearer new old-token-of-28-characters-1",
            "Bearer new,third",
            // It differs only at the end, or is longer or shorter.
            "Bearer old-token-of-28-characters-2",
            "Bearer old-token-of-28-characters-",
            "Bearer old-token-of-28-characters-11",
            "Bearer old-token",
            "Basic new",
            "Bearer: new",
            "new",
            "Bearer \u{fffd}",
        ] {
            let result = authorize_from(REMOTE, Some(header), &tokens);
            assert_eq!(result, Err(Unauthorized::Wrong), "{header:?}");
        }
        for peer in [REMOTE, "127.0.0.1"] {
            let missing = authorize_from(peer, None, &tokens);
            assert_eq!(missing, Err(Unauthorized::Missing), "{peer}");
        }
    }

    #[test]
    fn a_refusal_says_what_to_set() {
        let setting = "in Alertmanager, set http_config.authorization.credentials";
        for (error, hint) in [
            (Unauthorized::Missing, setting),
            (Unauthorized::Wrong, setting),
            (
                Unauthorized::PublishedToken,
                "set a secret one in http.bearer_token",
            ),
        ] {
            assert!(error.to_string().contains(hint), "{error}");
        }
    }

    #[test]
    fn without_tokens_nothing_is_authorized() {
        for header in ["Bearer ", "Bearer x", "Bearer 0", "x"] {
            for peer in [REMOTE, "127.0.0.1"] {
                let result = authorize_from(peer, Some(header), &[]);
                assert_eq!(result, Err(Unauthorized::Wrong), "{header:?}");
            }
        }
    }

    proptest::proptest! {
        /// Whatever byte of a token is changed, inserted or missing.
        #[test]
        fn a_token_that_differs_in_one_byte_is_wrong(
            token in "[!-~]{1,80}", place: usize, other in "[!-~]",
        ) {
            let tokens = [Token::new("another"), Token::new(&*token)];
            let authorized = |token: &str| {
                authorize_from("127.0.0.1", Some(&format!("Bearer {token}")), &tokens)
            };
            let expected = if token == "another" { 1 } else { 2 };
            proptest::prop_assert_eq!(authorized(&token), Ok(expected));
            let (before, after) = token.split_at(place % token.len());
            let near = [
                format!("{before}{other}{}", &after[1..]),
                format!("{before}{other}{after}"),
                format!("{before}{}", &after[1..]),
                format!("{token}{other}"),
            ];
            for near in near {
                let is_wrong = authorized(&near) == Err(Unauthorized::Wrong);
                proptest::prop_assert_eq!(is_wrong, near != token && near != "another", "{}", near);
            }
        }
    }

    #[test]
    fn a_published_token_is_accepted_from_loopback_addresses_only() {
        for token in [
            DEFAULT_TOKEN,
            "CHANGE-ME",
            "THE-TOKEN",
            "token_example",
            "${TOKEN}",
            "a-secret",
        ] {
            accepted_from_loopback_addresses_only(token);
        }
    }

    fn accepted_from_loopback_addresses_only(token: &str) {
        let tokens = [Token::new(token), Token::new("own")];
        assert!(tokens[0].is_published && !tokens[1].is_published);
        let header = format!("Bearer {token}");
        for (peer, result) in [
            ("127.0.0.1", Ok(1)),
            ("127.9.9.9", Ok(1)),
            ("::1", Ok(1)),
            ("::ffff:127.0.0.1", Ok(1)),
            (REMOTE, Err(Unauthorized::PublishedToken)),
            ("10.0.0.1", Err(Unauthorized::PublishedToken)),
            ("::ffff:10.0.0.1", Err(Unauthorized::PublishedToken)),
            ("::", Err(Unauthorized::PublishedToken)),
            ("0.0.0.0", Err(Unauthorized::PublishedToken)),
            ("fe80::1", Err(Unauthorized::PublishedToken)),
        ] {
            assert_eq!(
                authorize_from(peer, Some(&header), &tokens),
                result,
                "{peer}"
            );
            assert_eq!(
                authorize_from(peer, Some("Bearer own"), &tokens),
                Ok(2),
                "{peer}"
            );
            let others = &tokens[1..];
            let wrong = Err(Unauthorized::Wrong);
            assert_eq!(authorize_from(peer, Some(&header), others), wrong, "{peer}");
        }
    }
}
