//! Broker, HTTP and token settings: from the file, the environment and the command line to checked values.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::diagnostics::Diagnostics;
use super::document::NodeRef;
use super::source::{SecretSource, Section, SettingSource};
use super::{Environment, Overrides};
use crate::amqp_url::AmqpUrl;
use crate::http::{self, ListenAddress};
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

/// The broker.
pub fn amqp(
    root: &NodeRef<'_>,
    environment: Environment<'_>,
    diagnostics: &mut Diagnostics,
) -> publisher::Settings {
    let section = section(
        root,
        "amqp",
        AMQP_PREFIX,
        AMQP_KEYS,
        environment,
        diagnostics,
    );
    let settings = publisher::Settings {
        urls: urls(&section, diagnostics),
        exchange: section.get("exchange", diagnostics).map_or_else(
            || DEFAULT_EXCHANGE.to_owned(),
            |source| exchange(&source, diagnostics),
        ),
        tls: TlsFiles {
            ca: path(&section, "ca_file", diagnostics),
            cert: path(&section, "cert_file", diagnostics),
            key: path(&section, "key_file", diagnostics),
        },
    };
    check_tls(&settings, &section, diagnostics);
    settings
}

fn urls(section: &Section<'_, '_>, diagnostics: &mut Diagnostics) -> Vec<AmqpUrl> {
    let (place, text) = match section.get_or_file("url", diagnostics) {
        SecretSource::Missing => return AmqpUrl::parse(DEFAULT_URL).into_iter().collect(),
        SecretSource::Conflict => return Vec::new(),
        SecretSource::Inline(place @ SettingSource::File(_)) => {
            let texts = place.texts(diagnostics);
            return texts
                .iter()
                .filter_map(|(place, text)| url(place, text.trim(), diagnostics))
                .collect();
        }
        SecretSource::Inline(place @ SettingSource::Environment(..)) => {
            let text = place.text();
            (place, text)
        }
        SecretSource::File(place) => {
            let text = place.contents(diagnostics);
            (place, text)
        }
    };
    let Some(text) = text else { return Vec::new() };
    if text.trim().is_empty() {
        place.wrong(diagnostics, "holds no URL");
    }
    text.split_whitespace()
        .filter_map(|text| url(&place, text, diagnostics))
        .collect()
}

fn url(place: &SettingSource<'_>, text: &str, diagnostics: &mut Diagnostics) -> Option<AmqpUrl> {
    AmqpUrl::parse(text)
        .map_err(|error| place.wrong(diagnostics, format!("the URL {error}")))
        .ok()
}

fn check_tls(
    settings: &publisher::Settings,
    section: &Section<'_, '_>,
    diagnostics: &mut Diagnostics,
) {
    let any_file = settings.tls != TlsFiles::default();
    if settings.urls.iter().any(|url| url.tls) {
        if let Err(error) = settings.tls.connector() {
            let key = match &error {
                TlsError::IncompleteIdentity if settings.tls.key.is_some() => "key_file",
                TlsError::IncompleteIdentity => "cert_file",
                error if error.path().is_some() && error.path() == settings.tls.key.as_deref() => {
                    "key_file"
                }
                error if error.path().is_some() && error.path() == settings.tls.cert.as_deref() => {
                    "cert_file"
                }
                _ => "ca_file",
            };
            match section.get(key, diagnostics) {
                Some(source) => source.wrong(diagnostics, error.to_string()),
                None => diagnostics.add_elsewhere("amqp", error.to_string()),
            }
        }
    } else if any_file && !settings.urls.is_empty() {
        diagnostics.warn(
            "amqp",
            "ca_file, cert_file and key_file are for amqps:// URLs, and there is none",
        );
    }
}

fn exchange(source: &SettingSource<'_>, diagnostics: &mut Diagnostics) -> String {
    let text = source.text().unwrap_or_default();
    if text.is_empty() || text.len() > 255 {
        source.wrong(
            diagnostics,
            "must be the name of an exchange, 1 to 255 bytes",
        );
    }
    text
}

/// The sender's side, with `--host` and `--port`.
pub fn http(
    root: &NodeRef<'_>,
    environment: Environment<'_>,
    overrides: &Overrides,
    diagnostics: &mut Diagnostics,
) -> http::Settings {
    let section = section(
        root,
        "http",
        HTTP_PREFIX,
        HTTP_KEYS,
        environment,
        diagnostics,
    );
    let mut listen = section
        .get("listen", diagnostics)
        .and_then(|source| listen(&source, diagnostics))
        .unwrap_or_else(|| ListenAddress {
            host: "0.0.0.0".to_owned(),
            port: DEFAULT_PORT,
        });
    if let Some(host) = &overrides.host {
        listen.host.clone_from(host);
    }
    if let Some(port) = overrides.port {
        listen.port = port;
    }
    let tokens = tokens(&section, diagnostics);
    if tokens.iter().any(|token| token.expose() == DEFAULT_TOKEN) {
        diagnostics.warn(
            "http.bearer_token",
            "is the default one, which everybody knows: whoever reaches the port can send alerts; set your own",
        );
    }
    let bytes = 1024..=MOST_BODY_BYTES;
    let connections = 1..=MOST_CONNECTIONS;
    http::Settings {
        listen,
        tokens,
        max_body_bytes: number(&section, "max_body_bytes", bytes, "bytes", diagnostics)
            .unwrap_or(DEFAULT_BODY_BYTES),
        max_connections: number(
            &section,
            "max_connections",
            connections,
            "connections",
            diagnostics,
        )
        .unwrap_or(DEFAULT_CONNECTIONS),
        answer_timeout: section
            .get("answer_timeout", diagnostics)
            .map_or(DEFAULT_ANSWER, |source| {
                answer_timeout(&source, diagnostics)
            }),
    }
}

fn listen(source: &SettingSource<'_>, diagnostics: &mut Diagnostics) -> Option<ListenAddress> {
    let parsed = source.text().and_then(|text| ListenAddress::parse(&text));
    if parsed.is_none() {
        source.wrong(
            diagnostics,
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
    diagnostics: &mut Diagnostics,
) -> Option<usize> {
    let source = section.get(key, diagnostics)?;
    let number = source.number().filter(|number| range.contains(number));
    if number.is_none() {
        source.wrong(
            diagnostics,
            format!(
                "must be a whole number of {unit}, {} to {}",
                range.start(),
                range.end()
            ),
        );
    }
    number
}

fn answer_timeout(source: &SettingSource<'_>, diagnostics: &mut Diagnostics) -> Duration {
    let parsed = source
        .text()
        .and_then(|text| text.trim().parse::<jiff::SignedDuration>().ok());
    let timeout = parsed
        .and_then(|duration| Duration::try_from(duration).ok())
        .filter(|timeout| (SHORTEST_ANSWER..=LONGEST_ANSWER).contains(timeout));
    if timeout.is_some_and(|timeout| timeout > ADVISED_ANSWER) {
        diagnostics.warn(
            &source.to_string(),
            "is over 9s: Alertmanager may give up (after its group_interval, 10 s at least) before the answer comes",
        );
    }
    timeout.unwrap_or_else(|| {
        source.wrong(diagnostics, "must be a duration from 100ms to 60s, as 8s");
        DEFAULT_ANSWER
    })
}

/// The tokens that let a sender in. Those of the environment replace those of the file.
fn tokens(section: &Section<'_, '_>, diagnostics: &mut Diagnostics) -> Vec<Secret> {
    let texts = match section.get_or_file("bearer_token", diagnostics) {
        SecretSource::Missing => {
            let (token, file) = (
                section.variable("bearer_token"),
                section.variable("bearer_token_file"),
            );
            diagnostics.add_elsewhere(
                "http.bearer_token",
                format!("is missing: nobody gets in without a token; set it here, or http.bearer_token_file, {token} or {file}"),
            );
            return Vec::new();
        }
        SecretSource::Conflict => return Vec::new(),
        SecretSource::Inline(source) => source.texts(diagnostics),
        // A text editor's last line end is not a part of the token.
        SecretSource::File(source) => match source.contents(diagnostics) {
            Some(text) => vec![(source, text.trim_end_matches(['\r', '\n']).to_owned())],
            None => Vec::new(),
        },
    };
    texts
        .into_iter()
        .filter_map(|(source, text)| token(&source, text, diagnostics))
        .collect()
}

fn token(
    source: &SettingSource<'_>,
    text: String,
    diagnostics: &mut Diagnostics,
) -> Option<Secret> {
    if text.is_empty() {
        source.wrong(diagnostics, "is an empty token: nobody gets in without one");
        return None;
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        source.wrong(
            diagnostics,
            "holds a token with white space or characters beyond ASCII, which an HTTP header can't carry",
        );
        return None;
    }
    Some(Secret::new(text))
}

fn section<'d, 'e>(
    root: &NodeRef<'d>,
    name: &'static str,
    prefix: &'static str,
    known: &[&str],
    environment: Environment<'e>,
    diagnostics: &mut Diagnostics,
) -> Section<'d, 'e> {
    let at = root.get(name);
    if let Some(at) = &at {
        diagnostics.check_keys(at, known);
    }
    Section {
        prefix,
        at,
        environment,
    }
}

fn path(section: &Section<'_, '_>, key: &str, diagnostics: &mut Diagnostics) -> Option<PathBuf> {
    let source = section.get(key, diagnostics)?;
    let text = source.text().filter(|text| !text.is_empty());
    if text.is_none() {
        source.wrong(diagnostics, "must be the path of a file");
    }
    text.map(PathBuf::from)
}
