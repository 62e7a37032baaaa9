//! The settings of the broker and of the HTTP server: reads and checks the sections `amqp` and `http`, with the variables and
//! options that override them.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::diagnostics::{Diagnostics, Place};
use super::source::{SecretSource, Section, Setting};
use super::{Environment, Overrides};
use crate::amqp_url::AmqpUrl;
use crate::http::{self, DEFAULT_TOKEN, ListenAddress, ServerTls};
use crate::publisher::{self, TlsFiles};
use crate::secret::Secret;
use crate::tls::TlsError;
use jiff::Timestamp;
use yamldoc::NodeRef;

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
    "metrics_require_token",
    "tls",
];
/// The keys of the section `http.tls`. The variable of each is [`TLS_PREFIX`] and the key in upper case.
pub const TLS_KEYS: &[&str] = &["cert_file", "key_file", "client_ca_file"];
/// The prefix of the variables for `amqp`.
pub const AMQP_PREFIX: &str = "CPS_AMQP_";
/// The prefix of the variables for `http`.
pub const HTTP_PREFIX: &str = "PROMETHEUS_";
/// The prefix of the variables for `http.tls`.
pub const TLS_PREFIX: &str = "PROMETHEUS_TLS_";

const DEFAULT_URL: &str = "amqp://cpsrabbit:canopsis@localhost/canopsis";
const DEFAULT_EXCHANGE: &str = "canopsis.events";
/// The maximal length of an AMQP short string.
const MAX_EXCHANGE_BYTES: usize = 255;
const DEFAULT_PORT: u16 = 18401;
const DEFAULT_MAX_BODY_BYTES: usize = 16 << 20;
const MIN_BODY_BYTES: usize = 1024;
const MAX_BODY_BYTES: usize = 64 << 20;
const DEFAULT_MAX_CONNECTIONS: usize = 1024;
/// One for a notification, and one for everything else.
const MIN_CONNECTIONS: usize = 2;

/// Each takes about 26 KiB beside the memory budget: 4,096 and the budget stay below 256 MiB.
const MAX_CONNECTIONS: usize = 4096;
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
) -> publisher::BrokerSettings {
    let known = ("amqp", AMQP_PREFIX, AMQP_KEYS);
    let mut section = Section::find(Some(root), known, environment, diagnostics);
    let settings = publisher::BrokerSettings {
        urls: urls(&mut section),
        exchange: section
            .value("exchange", exchange, "a name of 1 to 255 bytes")
            .unwrap_or_else(|| DEFAULT_EXCHANGE.to_owned()),
        tls: TlsFiles {
            ca: path(&mut section, "ca_file"),
            cert: path(&mut section, "cert_file"),
            key: path(&mut section, "key_file"),
        },
    };
    check_tls(&settings, &mut section);
    settings
}

fn exchange(setting: &Setting<'_>) -> Option<String> {
    let name = setting.text()?;
    (name.len() <= MAX_EXCHANGE_BYTES).then(|| name.to_owned())
}

fn urls(section: &mut Section<'_, '_>) -> Vec<AmqpUrl> {
    // In a file or a variable, several URLs are separated by white space.
    let (setting, text) = match section.secret("url") {
        SecretSource::Missing => return AmqpUrl::parse(DEFAULT_URL).into_iter().collect(),
        SecretSource::Conflict => return Vec::new(),
        SecretSource::Inline(setting @ Setting::File(_)) => {
            let texts = section.texts(setting);
            let urls = texts
                .iter()
                .filter_map(|(setting, text)| url(section, setting, text.trim()));
            return urls.collect();
        }
        SecretSource::Inline(setting @ Setting::Environment(..)) => {
            let text = setting.text().map(str::to_owned);
            (setting, text)
        }
        SecretSource::File(setting) => {
            let text = section.contents(&setting);
            (setting, text)
        }
    };
    let Some(text) = text else { return Vec::new() };
    if text.trim().is_empty() {
        section.error(&setting, "contains no URL");
    }
    let urls = text
        .split_whitespace()
        .filter_map(|text| url(section, &setting, text));
    urls.collect()
}

fn url(section: &mut Section<'_, '_>, setting: &Setting<'_>, text: &str) -> Option<AmqpUrl> {
    AmqpUrl::parse(text)
        .map_err(|error| section.error(setting, format!("the URL {error}")))
        .ok()
}

fn check_tls(settings: &publisher::BrokerSettings, section: &mut Section<'_, '_>) {
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
            let place = section.place(key, "amqp");
            section.diagnostics.error(place, error.to_string());
        }
    } else if any_file && !settings.urls.is_empty() {
        section.diagnostics.warn(
            Place::missing("amqp"),
            "ca_file, cert_file and key_file have no effect without an amqps:// URL",
        );
    }
}

/// Reads the section `http`, with `--host` and `--port`.
pub fn http(
    root: &NodeRef<'_>,
    environment: Environment<'_>,
    overrides: &Overrides,
    diagnostics: &mut Diagnostics,
) -> http::ServerSettings {
    let tls = tls(root.get("http").as_ref(), environment, diagnostics);
    let known = ("http", HTTP_PREFIX, HTTP_KEYS);
    let mut section = Section::find(Some(root), known, environment, diagnostics);
    let address = |setting: &Setting<'_>| ListenAddress::parse(setting.text()?);
    let requirement = "HOST:PORT, such as 0.0.0.0:18401 or [::]:18401";
    let mut listen = section
        .value("listen", address, requirement)
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
    let bytes = MIN_BODY_BYTES..=MAX_BODY_BYTES;
    let connections = MIN_CONNECTIONS..=MAX_CONNECTIONS;
    http::ServerSettings {
        listen,
        tls,
        tokens: tokens(&mut section),
        metrics_require_token: section
            .value("metrics_require_token", boolean, "true or false")
            .unwrap_or(false),
        max_body_bytes: number(&mut section, "max_body_bytes", bytes, "bytes")
            .unwrap_or(DEFAULT_MAX_BODY_BYTES),
        max_connections: number(&mut section, "max_connections", connections, "connections")
            .unwrap_or(DEFAULT_MAX_CONNECTIONS),
        answer_timeout: answer_timeout(&mut section),
    }
}

/// Reads the section `http.tls`, and the files. A part of it without the rest is an error: it must not turn TLS off.
fn tls(
    http: Option<&NodeRef<'_>>,
    environment: Environment<'_>,
    diagnostics: &mut Diagnostics,
) -> Option<ServerTls> {
    let known = ("tls", TLS_PREFIX, TLS_KEYS);
    let entries = http.map(NodeRef::entries).unwrap_or_default();
    // Its keys may be commented out, and the section itself not.
    let is_empty = entries
        .iter()
        .any(|(key, node)| *key == "tls" && node.is_null());
    let mut section = Section::find(http, known, environment, diagnostics);
    if !is_empty && !section.is_present(TLS_KEYS) {
        return None;
    }
    let [cert, key, client_ca] =
        ["cert_file", "key_file", "client_ca_file"].map(|key| path(&mut section, key));
    let loaded = match (&cert, &key) {
        (Some(cert), Some(key)) => ServerTls::load(cert, key, client_ca.as_deref()),
        _ => Err(TlsError::IncompleteIdentity),
    };
    match loaded {
        Ok(tls) => {
            for warning in tls.warnings(Timestamp::now().as_second()) {
                let place = section.place("cert_file", "http.tls");
                section.diagnostics.warn(place, warning);
            }
            Some(tls)
        }
        Err(error) => {
            let key = match error.path() {
                Some(path) if Some(path) == key.as_deref() => "key_file",
                Some(path) if Some(path) == client_ca.as_deref() => "client_ca_file",
                _ => "cert_file",
            };
            let place = section.place(key, "http.tls");
            section.diagnostics.error(place, error.to_string());
            None
        }
    }
}

fn boolean(setting: &Setting<'_>) -> Option<bool> {
    match setting.text()? {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

fn number(
    section: &mut Section<'_, '_>,
    key: &str,
    range: RangeInclusive<usize>,
    unit: &str,
) -> Option<usize> {
    let requirement = format!(
        "a whole number of {unit}, {} to {}",
        range.start(),
        range.end()
    );
    let number = |setting: &Setting<'_>| setting.number().filter(|number| range.contains(number));
    section.value(key, number, &requirement)
}

fn answer_timeout(section: &mut Section<'_, '_>) -> Duration {
    let parse = |setting: &Setting<'_>| {
        let duration: jiff::SignedDuration = setting.text()?.parse().ok()?;
        let timeout = Duration::try_from(duration).ok()?;
        (MIN_ANSWER_TIMEOUT..=MAX_ANSWER_TIMEOUT)
            .contains(&timeout)
            .then_some(timeout)
    };
    let requirement = "a duration from 100ms to 60s, such as 8s";
    let timeout = section
        .value("answer_timeout", parse, requirement)
        .unwrap_or(DEFAULT_ANSWER_TIMEOUT);
    if timeout > RECOMMENDED_ANSWER_TIMEOUT
        && let Some(setting) = section.get("answer_timeout")
    {
        section.diagnostics.warn(
            &setting,
            "is over 9s: Alertmanager may give up before the response (after group_interval, at least 10 s)",
        );
    }
    timeout
}

/// The accepted tokens. Those of the environment replace those of the file.
fn tokens(section: &mut Section<'_, '_>) -> Vec<Secret> {
    let texts = match section.secret("bearer_token") {
        SecretSource::Missing => {
            let variable = section.variable("bearer_token");
            let message = format!("required but not set; set it here or with {variable}");
            let place = Place::missing("http.bearer_token");
            section.diagnostics.error(place, message);
            return Vec::new();
        }
        SecretSource::Conflict => return Vec::new(),
        SecretSource::Inline(setting) => section.texts(setting),
        // Text editors end the last line; the line end is not part of the token.
        SecretSource::File(setting) => match section.contents(&setting) {
            Some(text) => vec![(setting, text.trim_end_matches(['\r', '\n']).to_owned())],
            None => Vec::new(),
        },
    };
    let tokens = texts
        .into_iter()
        .filter_map(|(setting, text)| token(section, &setting, text));
    tokens.collect()
}

fn token(section: &mut Section<'_, '_>, setting: &Setting<'_>, text: String) -> Option<Secret> {
    if text.is_empty() {
        section.error(setting, "must not be empty");
        return None;
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        let message =
            "must consist of printable ASCII characters without spaces, as in an HTTP header";
        section.error(setting, message);
        return None;
    }
    if text == DEFAULT_TOKEN {
        let variable = section.variable("bearer_token");
        let message = format!(
            "is still the published default, which is accepted from loopback addresses only; set a secret token here or with {variable}"
        );
        section.diagnostics.warn(setting, message);
    }
    Some(Secret::new(text))
}

fn path(section: &mut Section<'_, '_>, key: &str) -> Option<PathBuf> {
    section.value(key, |setting| setting.text().map(PathBuf::from), "a path")
}
