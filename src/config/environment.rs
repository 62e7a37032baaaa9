//! The environment variables of the settings.

use std::collections::{BTreeMap, BTreeSet};

use super::source::trim;
use super::{AMQP, HTTP, TLS};
use crate::suggest::nearest;

/// The variable for `--log-level`.
pub const LOG_LEVEL: &str = "PROMETHEUS_LOG_LEVEL";
/// The variable for `--log-format`.
pub const LOG_FORMAT: &str = "PROMETHEUS_LOG_FORMAT";

/// The most edits between a misspelt name and the right one.
const MAX_EDITS: usize = 2;

/// The environment at one time. A value is `None` where it is not UTF-8.
#[derive(Debug, Default, Clone)]
pub struct Environment(BTreeMap<String, Option<String>>);

impl Environment {
    /// That of the process.
    pub fn of_process() -> Self {
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok())));
        Self(variables.collect())
    }

    /// The value of a variable that is set, without white space around it, such as a Windows line end; or what is wrong with it.
    pub fn get(&self, name: &str) -> Option<Result<&str, &'static str>> {
        Some(match self.0.get(name)?.as_deref().map(trim) {
            None => Err("is not UTF-8"),
            Some("") => Err("is set but empty; unset it or give it a value"),
            Some(text) => Ok(text),
        })
    }

    /// The variables that nothing reads and whose names are nearly one that is read, with that one.
    pub fn misspelt(&self) -> Vec<(&str, String)> {
        let known: Vec<String> = [&AMQP, &HTTP, &TLS]
            .iter()
            .flat_map(|section| section.keys.iter().map(|key| section.variable(key)))
            .chain([LOG_LEVEL, LOG_FORMAT].map(str::to_owned))
            .filter(|name| name != "PROMETHEUS_TLS")
            .collect();
        let names = self.0.keys().filter(|name| !known.contains(name));
        names
            .filter(|name| !is_of_kubernetes(name))
            .filter_map(|name| Some((&**name, meant(&name.to_uppercase(), &known)?.to_owned())))
            .collect()
    }
}

impl<'v> FromIterator<(&'v str, &'v str)> for Environment {
    fn from_iter<I: IntoIterator<Item = (&'v str, &'v str)>>(variables: I) -> Self {
        let variables = variables.into_iter();
        let owned = variables.map(|(name, value)| (name.to_owned(), Some(value.to_owned())));
        Self(owned.collect())
    }
}

/// Kubernetes sets such variables in each container for each service, which may be named `prometheus`.
fn is_of_kubernetes(name: &str) -> bool {
    name.contains("_SERVICE_") || name.contains("_PORT_") || name.ends_with("_PORT")
}

/// The known name that is near, or of which the name has all but some words: `PROMETHEUS_TOKEN`.
fn meant<'k>(name: &str, known: &'k [String]) -> Option<&'k str> {
    let known = || known.iter().map(String::as_str);
    let words: BTreeSet<&str> = name.split('_').collect();
    let has_most_words = |candidate: &&str| {
        let all: BTreeSet<&str> = candidate.split('_').collect();
        // The first word is the prefix.
        words.len() > 1 && words.is_subset(&all) && 2 * (words.len() - 1) >= all.len() - 1
    };
    let shortest = || known().filter(has_most_words).min_by_key(|name| name.len());
    nearest(name, known(), MAX_EDITS).or_else(shortest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_nearly_one_of_ours_is_found() {
        for (name, expected) in [
            ("CPS_AMQP_URI", Some("CPS_AMQP_URL")),
            ("CPS_AMQP_URLS", Some("CPS_AMQP_URL")),
            ("CPS_AMPQ_URL", Some("CPS_AMQP_URL")),
            ("cps_amqp_url", Some("CPS_AMQP_URL")),
            ("CPS_AMQP_EXCHNAGE", Some("CPS_AMQP_EXCHANGE")),
            ("CPS_AMQP_CERT", Some("CPS_AMQP_CERT_FILE")),
            ("CPS_AMQP_CA", Some("CPS_AMQP_CA_FILE")),
            ("PROMETHEUS_BEARER_TOKENS", Some("PROMETHEUS_BEARER_TOKEN")),
            ("PROMETHEUS_TOKEN", Some("PROMETHEUS_BEARER_TOKEN")),
            (
                "PROMETHEUS_TOKEN_FILE",
                Some("PROMETHEUS_BEARER_TOKEN_FILE"),
            ),
            (
                "PROMETHEUS_BEARER_TOKENFILE",
                Some("PROMETHEUS_BEARER_TOKEN_FILE"),
            ),
            ("PROMETEUS_LISTEN", Some("PROMETHEUS_LISTEN")),
            ("PROMETHEUS_TLS_CERT", Some("PROMETHEUS_TLS_CERT_FILE")),
            ("PROMETHEUS_LOGLEVEL", Some("PROMETHEUS_LOG_LEVEL")),
            ("PROMETHEUS_MAX_BODY_SIZE", None),
            // Kubernetes's, for services named prometheus, prometheus-bearer and cps-amqp.
            ("PROMETHEUS_PORT", None),
            ("PROMETHEUS_SERVICE_HOST", None),
            ("PROMETHEUS_SERVICE_PORT", None),
            ("PROMETHEUS_SERVICE_PORT_WEB", None),
            ("PROMETHEUS_PORT_9090_TCP", None),
            ("PROMETHEUS_PORT_9090_TCP_ADDR", None),
            ("PROMETHEUS_BEARER_SERVICE_HOST", None),
            ("CPS_AMQP_PORT", None),
            ("CPS_AMQP_SERVICE_PORT_AMQP", None),
            // Of other programs.
            ("CPS_MONGO_URL", None),
            ("CPS_API_URL", None),
            ("PROMETHEUS_MULTIPROC_DIR", None),
            ("HOME", None),
            ("PATH", None),
            ("CPS", None),
            ("", None),
        ] {
            let environment: Environment = [(name, "x")].into_iter().collect();
            let found: Vec<String> = environment
                .misspelt()
                .into_iter()
                .map(|(_, meant)| meant)
                .collect();
            assert_eq!(found, Vec::from_iter(expected), "{name}");
        }
        let long = "PROMETHEUS_LISTEN_".repeat(10_000);
        let environment: Environment = [(&*long, "x"), ("CPS_AMQP_URL", "x")].into_iter().collect();
        assert!(environment.misspelt().is_empty());
    }

    #[test]
    fn a_value_has_no_white_space_around_it() {
        let environment: Environment = [
            ("A", " x y\r\n"),
            ("B", "\u{feff}x"),
            ("C", "\r"),
            ("D", "\u{a0}\u{2003}"),
        ]
        .into_iter()
        .collect();
        let empty = Some(Err("is set but empty; unset it or give it a value"));
        for (name, value) in [
            ("A", Some(Ok("x y"))),
            ("B", Some(Ok("x"))),
            ("C", empty),
            ("D", empty),
            ("E", None),
        ] {
            assert_eq!(environment.get(name), value, "{name}");
        }
    }
}
