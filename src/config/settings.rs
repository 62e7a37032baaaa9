//! Broker, HTTP and token settings: from the file, the environment and the command line to checked values.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::document::At;
use super::mistakes::Mistakes;
use super::source::{self, Given, Section, Source};
use super::{Environment, Overrides};
use crate::amqp_url::AmqpUrl;
use crate::http::{self, Listen};
use crate::publisher::{self, TlsError, TlsFiles};
use crate::secret::Secret;

/// The token of the shipped `config.yml`: it works, and is warned about at every start.
pub const DEFAULT_TOKEN: &str = "canopsis-prometheus-change-me";

/// The keys of the section `amqp`; each has its variable, as [`AMQP_PREFIX`] and the key in capitals.
pub const AMQP_KEYS: &[&str] = &[
    "url",
    "url_file",
    "exchange",
    "ca_file",
    "cert_file",
    "key_file",
];
/// The keys of the section `http`; each has its variable, as [`HTTP_PREFIX`] and the key in capitals.
pub const HTTP_KEYS: &[&str] = &[
    "listen",
    "bearer_token",
    "bearer_token_file",
    "max_body_bytes",
    "max_connections",
    "answer_timeout",
];
/// Of the variables for `amqp`.
pub const AMQP_PREFIX: &str = "CPS_AMQP_";
/// Of the variables for `http`.
pub const HTTP_PREFIX: &str = "PROMETHEUS_";

const DEFAULT_URL: &str = "amqp://cpsrabbit:canopsis@localhost/canopsis";
const DEFAULT_EXCHANGE: &str = "canopsis.events";
const DEFAULT_PORT: u16 = 18401;
const DEFAULT_BODY_BYTES: usize = 16 << 20;
const MOST_BODY_BYTES: usize = 64 << 20;
const DEFAULT_CONNECTIONS: usize = 1024;
const MOST_CONNECTIONS: usize = 65_536;
const DEFAULT_ANSWER: Duration = Duration::from_secs(8);
const SHORTEST_ANSWER: Duration = Duration::from_millis(100);
const LONGEST_ANSWER: Duration = Duration::from_mins(1);
/// Alertmanager's shortest retry window is 10 s: an answer should come well before its end.
const ADVISED_ANSWER: Duration = Duration::from_secs(9);

/// The hint for a key that stands in the wrong section.
pub fn section_of(key: &str) -> Option<String> {
    let within =
        |section: &str, keys: &[&str]| keys.contains(&key).then(|| format!("{section}.{key}"));
    within("amqp", AMQP_KEYS).or_else(|| within("http", HTTP_KEYS))
}

/// Every variable of the environment that is read for the sections.
pub fn variables() -> impl Iterator<Item = String> {
    let names = |prefix: &'static str, keys: &'static [&'static str]| {
        keys.iter().map(move |key| source::variable(prefix, key))
    };
    names(AMQP_PREFIX, AMQP_KEYS).chain(names(HTTP_PREFIX, HTTP_KEYS))
}

/// The broker.
pub fn amqp(
    root: &At<'_>,
    environment: Environment<'_>,
    mistakes: &mut Mistakes,
) -> publisher::Settings {
    let section = section(root, "amqp", AMQP_PREFIX, AMQP_KEYS, environment, mistakes);
    let settings = publisher::Settings {
        urls: urls(&section, mistakes),
        exchange: section.get("exchange", mistakes).map_or_else(
            || DEFAULT_EXCHANGE.to_owned(),
            |source| exchange(&source, mistakes),
        ),
        tls: TlsFiles {
            ca: path(&section, "ca_file", mistakes),
            cert: path(&section, "cert_file", mistakes),
            key: path(&section, "key_file", mistakes),
        },
    };
    check_tls(&settings, &section, mistakes);
    settings
}

fn urls(section: &Section<'_, '_>, mistakes: &mut Mistakes) -> Vec<AmqpUrl> {
    let (place, text) = match section.get_or_file("url", mistakes) {
        Given::Nowhere => return AmqpUrl::parse(DEFAULT_URL).into_iter().collect(),
        Given::Twice => return Vec::new(),
        Given::Here(place @ Source::File(_)) => {
            let texts = place.texts(mistakes);
            return texts
                .iter()
                .filter_map(|(place, text)| url(place, text.trim(), mistakes))
                .collect();
        }
        Given::Here(place @ Source::Environment(..)) => {
            let text = place.text();
            (place, text)
        }
        Given::InFile(place) => {
            let text = place.contents(mistakes);
            (place, text)
        }
    };
    let Some(text) = text else { return Vec::new() };
    if text.trim().is_empty() {
        place.wrong(mistakes, "holds no URL");
    }
    text.split_whitespace()
        .filter_map(|text| url(&place, text, mistakes))
        .collect()
}

fn url(place: &Source<'_>, text: &str, mistakes: &mut Mistakes) -> Option<AmqpUrl> {
    AmqpUrl::parse(text)
        .map_err(|error| place.wrong(mistakes, format!("the URL {error}")))
        .ok()
}

fn check_tls(settings: &publisher::Settings, section: &Section<'_, '_>, mistakes: &mut Mistakes) {
    let any_file = settings.tls != TlsFiles::default();
    if settings.urls.iter().any(|url| url.tls) {
        if let Err(error) = settings.tls.connector() {
            let key = match &error {
                TlsError::HalfAnIdentity if settings.tls.key.is_some() => "key_file",
                TlsError::HalfAnIdentity => "cert_file",
                error if error.path().is_some() && error.path() == settings.tls.key.as_deref() => {
                    "key_file"
                }
                error if error.path().is_some() && error.path() == settings.tls.cert.as_deref() => {
                    "cert_file"
                }
                _ => "ca_file",
            };
            match section.get(key, mistakes) {
                Some(source) => source.wrong(mistakes, error.to_string()),
                None => mistakes.add_elsewhere("amqp", error.to_string()),
            }
        }
    } else if any_file && !settings.urls.is_empty() {
        mistakes.warn(
            "amqp",
            "ca_file, cert_file and key_file are for amqps:// URLs, and there is none",
        );
    }
}

fn exchange(source: &Source<'_>, mistakes: &mut Mistakes) -> String {
    let text = source.text().unwrap_or_default();
    if text.is_empty() || text.len() > 255 {
        source.wrong(mistakes, "must be the name of an exchange, 1 to 255 bytes");
    }
    text
}

/// The sender's side, with `--host` and `--port`.
pub fn http(
    root: &At<'_>,
    environment: Environment<'_>,
    overrides: &Overrides,
    mistakes: &mut Mistakes,
) -> http::Settings {
    let section = section(root, "http", HTTP_PREFIX, HTTP_KEYS, environment, mistakes);
    let mut listen = section
        .get("listen", mistakes)
        .and_then(|source| listen(&source, mistakes))
        .unwrap_or_else(|| Listen {
            host: "0.0.0.0".to_owned(),
            port: DEFAULT_PORT,
        });
    if let Some(host) = &overrides.host {
        listen.host.clone_from(host);
    }
    if let Some(port) = overrides.port {
        listen.port = port;
    }
    let tokens = tokens(&section, mistakes);
    if tokens.iter().any(|token| token.expose() == DEFAULT_TOKEN) {
        mistakes.warn(
            "http.bearer_token",
            "is the default one, which everybody knows: whoever reaches the port can send alerts; set your own",
        );
    }
    let bytes = 1024..=MOST_BODY_BYTES;
    let connections = 1..=MOST_CONNECTIONS;
    http::Settings {
        listen,
        tokens,
        max_body_bytes: number(&section, "max_body_bytes", bytes, "bytes", mistakes)
            .unwrap_or(DEFAULT_BODY_BYTES),
        max_connections: number(
            &section,
            "max_connections",
            connections,
            "connections",
            mistakes,
        )
        .unwrap_or(DEFAULT_CONNECTIONS),
        answer_timeout: section
            .get("answer_timeout", mistakes)
            .map_or(DEFAULT_ANSWER, |source| answer_timeout(&source, mistakes)),
    }
}

fn listen(source: &Source<'_>, mistakes: &mut Mistakes) -> Option<Listen> {
    let parsed = source.text().and_then(|text| Listen::parse(&text));
    if parsed.is_none() {
        source.wrong(
            mistakes,
            "must be HOST:PORT, as 0.0.0.0:18401 or [::]:18401",
        );
    }
    parsed
}

fn number(
    section: &Section<'_, '_>,
    key: &str,
    range: RangeInclusive<usize>,
    unit: &str,
    mistakes: &mut Mistakes,
) -> Option<usize> {
    let source = section.get(key, mistakes)?;
    let number = source.number().filter(|number| range.contains(number));
    if number.is_none() {
        source.wrong(
            mistakes,
            format!(
                "must be a whole number of {unit}, {} to {}",
                range.start(),
                range.end()
            ),
        );
    }
    number
}

fn answer_timeout(source: &Source<'_>, mistakes: &mut Mistakes) -> Duration {
    let parsed = source
        .text()
        .and_then(|text| text.trim().parse::<jiff::SignedDuration>().ok());
    let timeout = parsed
        .and_then(|duration| Duration::try_from(duration).ok())
        .filter(|timeout| (SHORTEST_ANSWER..=LONGEST_ANSWER).contains(timeout));
    if timeout.is_some_and(|timeout| timeout > ADVISED_ANSWER) {
        mistakes.warn(
            &source.to_string(),
            "is over 9s: Alertmanager may give up (after its group_interval, 10 s at least) before the answer comes",
        );
    }
    timeout.unwrap_or_else(|| {
        source.wrong(mistakes, "must be a duration from 100ms to 60s, as 8s");
        DEFAULT_ANSWER
    })
}

/// The tokens that let a sender in. Those of the environment replace those of the file.
fn tokens(section: &Section<'_, '_>, mistakes: &mut Mistakes) -> Vec<Secret> {
    let texts = match section.get_or_file("bearer_token", mistakes) {
        Given::Nowhere => {
            let (token, file) = (
                section.variable("bearer_token"),
                section.variable("bearer_token_file"),
            );
            mistakes.add_elsewhere(
                "http.bearer_token",
                format!("is missing: nobody gets in without a token; set it here, or http.bearer_token_file, {token} or {file}"),
            );
            return Vec::new();
        }
        Given::Twice => return Vec::new(),
        Given::Here(source) => source.texts(mistakes),
        // A text editor's last line end is not a part of the token.
        Given::InFile(source) => match source.contents(mistakes) {
            Some(text) => vec![(source, text.trim_end_matches(['\r', '\n']).to_owned())],
            None => Vec::new(),
        },
    };
    texts
        .into_iter()
        .filter_map(|(source, text)| token(&source, text, mistakes))
        .collect()
}

fn token(source: &Source<'_>, text: String, mistakes: &mut Mistakes) -> Option<Secret> {
    if text.is_empty() {
        source.wrong(mistakes, "is an empty token: nobody gets in without one");
        return None;
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        source.wrong(
            mistakes,
            "holds a token with white space or characters beyond ASCII, which an HTTP header can't carry",
        );
        return None;
    }
    Some(Secret::new(text))
}

fn section<'d, 'e>(
    root: &At<'d>,
    name: &'static str,
    prefix: &'static str,
    known: &[&str],
    environment: Environment<'e>,
    mistakes: &mut Mistakes,
) -> Section<'d, 'e> {
    let at = root.get(name);
    if let Some(at) = &at {
        mistakes.check_keys(at, known);
    }
    Section {
        prefix,
        at,
        environment,
    }
}

fn path(section: &Section<'_, '_>, key: &str, mistakes: &mut Mistakes) -> Option<PathBuf> {
    let source = section.get(key, mistakes)?;
    let text = source.text().filter(|text| !text.is_empty());
    if text.is_none() {
        source.wrong(mistakes, "must be the path of a file");
    }
    text.map(PathBuf::from)
}
