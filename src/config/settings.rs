//! The settings of the broker and of the HTTP server: reads and checks the sections `amqp` and `http`, with the variables and
//! options that override them.

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

/// The token of the shipped `config.yml`. It is public, so each start warns about it.
pub const DEFAULT_TOKEN: &str = "canopsis-prometheus-change-me";

/// The keys of the section `amqp`. The variable of each is [`AMQP_PREFIX`] and the key in upper case.
pub const AMQP_KEYS: &[&str] = &[
    "url",
    "url_file",
    "exchange",
    "ca_file",
    "cert_file",
    "key_file",
];
/// The keys of the section `http`. The variable of each is [`HTTP_PREFIX`] and the key in upper case.
pub const HTTP_KEYS: &[&str] = &[
    "listen",
    "bearer_token",
    "bearer_token_file",
    "max_body_bytes",
    "max_connections",
    "answer_timeout",
];
/// The prefix of the variables for `amqp`.
pub const AMQP_PREFIX: &str = "CPS_AMQP_";
/// The prefix of the variables for `http`.
pub const HTTP_PREFIX: &str = "PROMETHEUS_";

const DEFAULT_URL: &str = "amqp://cpsrabbit:canopsis@localhost/canopsis";
const DEFAULT_EXCHANGE: &str = "canopsis.events";
const DEFAULT_PORT: u16 = 18401;
const DEFAULT_MAX_BODY_BYTES: usize = 16 << 20;
const MIN_BODY_BYTES: usize = 1024;
const MAX_BODY_BYTES: usize = 64 << 20;
const DEFAULT_MAX_CONNECTIONS: usize = 1024;
const MAX_CONNECTIONS: usize = 65_536;
const DEFAULT_ANSWER_TIMEOUT: Duration = Duration::from_secs(8);
const MIN_ANSWER_TIMEOUT: Duration = Duration::from_millis(100);
const MAX_ANSWER_TIMEOUT: Duration = Duration::from_mins(1);
/// Alertmanager gives up after its `group_interval`, at least 10 s. 1 s of it is for everything but the broker.
const RECOMMENDED_ANSWER_TIMEOUT: Duration = Duration::from_secs(9);

/// The full name of a key that is at the top level by mistake.
pub fn section_of(key: &str) -> Option<String> {
    let within =
        |section: &str, keys: &[&str]| keys.contains(&key).then(|| format!("{section}.{key}"));
    within("amqp", AMQP_KEYS).or_else(|| within("http", HTTP_KEYS))
}

/// Reads the section `amqp`.
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
        place.report(diagnostics, "contains no URL");
    }
    text.split_whitespace()
        .filter_map(|text| url(&place, text, diagnostics))
        .collect()
}

fn url(place: &SettingSource<'_>, text: &str, diagnostics: &mut Diagnostics) -> Option<AmqpUrl> {
    AmqpUrl::parse(text)
        .map_err(|error| place.report(diagnostics, format!("the URL {error}")))
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
                Some(source) => source.report(diagnostics, error.to_string()),
                None => diagnostics.add_missing("amqp", error.to_string()),
            }
        }
    } else if any_file && !settings.urls.is_empty() {
        diagnostics.warn(
            "amqp",
            "ca_file, cert_file and key_file have no effect without an amqps:// URL",
        );
    }
}

fn exchange(source: &SettingSource<'_>, diagnostics: &mut Diagnostics) -> String {
    let text = source.text().unwrap_or_default();
    if text.is_empty() || text.len() > 255 {
        source.report(diagnostics, "must be a name of 1 to 255 bytes");
    }
    text
}

/// Reads the section `http`, with `--host` and `--port`.
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
            "is still the published default; set a secret token",
        );
    }
    let bytes = MIN_BODY_BYTES..=MAX_BODY_BYTES;
    let connections = 1..=MAX_CONNECTIONS;
    http::Settings {
        listen,
        tokens,
        max_body_bytes: number(&section, "max_body_bytes", bytes, "bytes", diagnostics)
            .unwrap_or(DEFAULT_MAX_BODY_BYTES),
        max_connections: number(
            &section,
            "max_connections",
            connections,
            "connections",
            diagnostics,
        )
        .unwrap_or(DEFAULT_MAX_CONNECTIONS),
        answer_timeout: section
            .get("answer_timeout", diagnostics)
            .map_or(DEFAULT_ANSWER_TIMEOUT, |source| {
                answer_timeout(&source, diagnostics)
            }),
    }
}

fn listen(source: &SettingSource<'_>, diagnostics: &mut Diagnostics) -> Option<ListenAddress> {
    let parsed = source.text().and_then(|text| ListenAddress::parse(&text));
    if parsed.is_none() {
        source.report(
            diagnostics,
            "must be HOST:PORT, such as 0.0.0.0:18401 or [::]:18401",
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
        source.report(
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
        .filter(|timeout| (MIN_ANSWER_TIMEOUT..=MAX_ANSWER_TIMEOUT).contains(timeout));
    if timeout.is_some_and(|timeout| timeout > RECOMMENDED_ANSWER_TIMEOUT) {
        diagnostics.warn(
            &source.to_string(),
            "is over 9s: Alertmanager may give up before the response (after group_interval, at least 10 s)",
        );
    }
    timeout.unwrap_or_else(|| {
        source.report(
            diagnostics,
            "must be a duration from 100ms to 60s, such as 8s",
        );
        DEFAULT_ANSWER_TIMEOUT
    })
}

/// The accepted tokens. Those of the environment replace those of the file.
fn tokens(section: &Section<'_, '_>, diagnostics: &mut Diagnostics) -> Vec<Secret> {
    let texts = match section.get_or_file("bearer_token", diagnostics) {
        SecretSource::Missing => {
            let variable = section.variable("bearer_token");
            let message = format!("required but not set; set it here or with {variable}");
            diagnostics.add_missing("http.bearer_token", message);
            return Vec::new();
        }
        SecretSource::Conflict => return Vec::new(),
        SecretSource::Inline(source) => source.texts(diagnostics),
        // Text editors end the last line; the line end is not part of the token.
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
        source.report(diagnostics, "must not be empty");
        return None;
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        source.report(
            diagnostics,
            "must consist of printable ASCII characters without spaces, as in an HTTP header",
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
        source.report(diagnostics, "must be a path");
    }
    text.map(PathBuf::from)
}
