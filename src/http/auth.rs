//! Checks bearer tokens (RFC 6750) in constant time. The only place where a sender is authenticated.

use subtle::{Choice, ConstantTimeEq};

use crate::secret::Secret;

/// Whether an `Authorization` header holds one of the tokens. The time that this takes reveals the length of the tokens at
/// most.
pub fn is_authorized(header: Option<&str>, tokens: &[Secret]) -> bool {
    let Some((scheme, given)) = header.and_then(|header| header.trim().split_once(' ')) else {
        return false;
    };
    if !scheme.eq_ignore_ascii_case("bearer") {
        return false;
    }
    let given = given.trim_start().as_bytes();
    let any = tokens.iter().fold(Choice::from(0), |any, token| {
        any | given.ct_eq(token.expose().as_bytes())
    });
    bool::from(any)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_exact_token_is_authorized() {
        let tokens = [Secret::new("old-token"), Secret::new("new")];
        for (header, authorized) in [
            (Some("Bearer new"), true),
            (Some("bearer old-token"), true),
            (Some("BEARER  new "), true),
            (None, false),
            (Some(""), false),
            (Some("Bearer"), false),
            (Some("Bearer "), false),
            (Some("Bearer ne"), false),
            (Some("Bearer new2"), false),
            (Some("Bearer new old-token"), false),
            (Some("Basic new"), false),
            (Some("new"), false),
        ] {
            assert_eq!(is_authorized(header, &tokens), authorized, "{header:?}");
        }
        assert!(!is_authorized(Some("Bearer "), &[]));
    }
}
