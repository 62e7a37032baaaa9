//! The settings of the broker and of the HTTP server: reads and checks the sections `amqp` and `http`, with the variables and
//! options that override them.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::Overrides;
use super::diagnostics::{Diagnostics, Place};
use super::environment::Environment;
use super::source::{Section, SectionKeys};
use crate::amqp_url::{AmqpUrl, Login};
use crate::http::{self, ListenAddress, ServerTls, Token};
use crate::publisher::{self, TlsFiles};
use crate::tls::TlsError;
use jiff::Timestamp;
use yamldoc::NodeRef;

/// The section `amqp`.
pub const AMQP: SectionKeys = SectionKeys {
    path: "amqp",
    prefix: "CPS_AMQP_",
    keys: &[
        "url",
        "url_file",
        "exchange",
        "ca_file",
        "cert_file",
        "key_file",
    ],
};
/// The section `http`.
pub const HTTP: SectionKeys = SectionKeys {
    path: "http",
    prefix: "PROMETHEUS_",
    keys: &[
        "listen",
        "bearer_token",
        "bearer_token_file",
        "max_body_bytes",
        "max_connections",
        "answer_timeout",
        "metrics_require_token",
        "tls",
    ],
};
/// The section `http.tls`.
pub const TLS: SectionKeys = SectionKeys {
    path: "http.tls",
    prefix: "PROMETHEUS_TLS_",
    keys: &["cert_file", "key_file", "client_ca_file"],
};

const DEFAULT_URL: &str = "amqp://cpsrabbit:canopsis@localhost/canopsis";
const DEFAULT_EXCHANGE: &str = "canopsis.events";
/// The maximal length of an AMQP short string.
const MAX_EXCHANGE_BYTES: usize = 255;
const DEFAULT_HOST: &str = "0.0.0.0";
const DEFAULT_PORT: u16 = 18401;
const DEFAULT_MAX_BODY_BYTES: usize = 16 << 20;
const BODY_BYTES: RangeInclusive<usize> = 1024..=64 << 20;
const DEFAULT_MAX_CONNECTIONS: usize = 1024;
/// At least one for a notification, and one for everything else. Each takes about 26 KiB beside the memory budget: 4,096 and the
/// budget stay below 256 MiB.
const CONNECTIONS: RangeInclusive<usize> = 2..=4096;
const DEFAULT_ANSWER_TIMEOUT: Duration = Duration::from_secs(8);
const ANSWER_TIMEOUTS: RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_mins(1);
/// Alertmanager gives up after its `group_interval`, at least 10 s. 1 s of it is for everything but the broker.
const RECOMMENDED_ANSWER_TIMEOUT: Duration = Duration::from_secs(9);

/// The full name of a key that is at the top level by mistake.
pub fn section_of(key: &str) -> Option<String> {
    let section = [AMQP, HTTP]
        .into_iter()
        .find(|section| section.keys.contains(&key))?;
    Some(format!("{}.{key}", section.path))
}

/// A key, and the path that it has.
type TlsFile = (&'static str, Option<PathBuf>);

/// Reads the section `amqp`.
pub fn read_amqp(
    root: &NodeRef<'_>,
    environment: &Environment,
    diagnostics: &mut Diagnostics,
) -> publisher::BrokerSettings {
    let mut section = Section::new(&AMQP, root.get("amqp"), environment, diagnostics);
    let exchange = |name: &str| (name.len() <= MAX_EXCHANGE_BYTES).then(|| name.to_owned());
    let urls = section.urls();
    let files = ["key_file", "cert_file", "ca_file"].map(|key| (key, section.path(key)));
    let [key, cert, ca] = files.clone().map(|(_, path)| path);
    let settings = publisher::BrokerSettings {
        exchange: section
            .value("exchange", exchange, "a name of 1 to 255 bytes")
            .unwrap_or_else(|| DEFAULT_EXCHANGE.to_owned()),
        tls: TlsFiles { ca, cert, key },
        urls,
    };
    section.check_tls(&settings, &files);
    settings
}

/// Reads the section `http`, with `--host` and `--port`.
pub fn read_http(
    root: &NodeRef<'_>,
    environment: &Environment,
    overrides: &Overrides,
    diagnostics: &mut Diagnostics,
) -> http::ServerSettings {
    let node = root.get("http");
    let tls = read_tls(node.as_ref(), environment, diagnostics);
    let mut section = Section::new(&HTTP, node, environment, diagnostics);
    let requirement = "HOST:PORT, such as 0.0.0.0:18401 or [::]:18401";
    let listen = section.value("listen", ListenAddress::parse, requirement);
    let (host, port) = listen.map_or((DEFAULT_HOST.to_owned(), DEFAULT_PORT), |listen| {
        (listen.host, listen.port)
    });
    let boolean = |text: &str| text.parse().ok();
    http::ServerSettings {
        listen: ListenAddress {
            host: overrides.host.clone().unwrap_or(host),
            port: overrides.port.unwrap_or(port),
        },
        tls,
        tokens: section.tokens(),
        metrics_require_token: section
            .value("metrics_require_token", boolean, "true or false")
            .unwrap_or(false),
        max_body_bytes: section
            .number("max_body_bytes", BODY_BYTES, "bytes")
            .unwrap_or(DEFAULT_MAX_BODY_BYTES),
        max_connections: section
            .number("max_connections", CONNECTIONS, "connections")
            .unwrap_or(DEFAULT_MAX_CONNECTIONS),
        answer_timeout: section.answer_timeout(),
    }
}

/// Reads the section `http.tls`, and the files. A part of it without the rest is an error: it must not turn TLS off.
fn read_tls(
    http: Option<&NodeRef<'_>>,
    environment: &Environment,
    diagnostics: &mut Diagnostics,
) -> Option<ServerTls> {
    // Its keys may be commented out, and the section itself not.
    let entries = http.map(NodeRef::entries).unwrap_or_default();
    let is_written = entries.iter().any(|(key, _)| *key == "tls");
    let node = http.and_then(|http| http.get("tls"));
    let mut section = Section::new(&TLS, node, environment, diagnostics);
    if !is_written && !section.has_variables() {
        return None;
    }
    let files = ["key_file", "client_ca_file", "cert_file"].map(|key| (key, section.path(key)));
    let [(_, key), (_, client_ca), (_, cert)] = &files;
    let loaded = match (cert, key) {
        (Some(cert), Some(key)) => ServerTls::load(cert, key, client_ca.as_deref()),
        _ => Err(TlsError::IncompleteIdentity),
    };
    let tls = loaded
        .map_err(|error| section.report_tls(&error, &files))
        .ok()?;
    let place = section.place("cert_file");
    for warning in tls.warnings(Timestamp::now().as_second()) {
        section.diagnostics.warn(place.clone(), warning);
    }
    Some(tls)
}

impl Section<'_, '_> {
    fn urls(&mut self) -> Vec<AmqpUrl> {
        let Some(texts) = self.texts("url") else {
            return AmqpUrl::parse(DEFAULT_URL).into_iter().collect();
        };
        let mut urls = Vec::new();
        for setting in &texts {
            self.warn_of_placeholder(setting);
            let place = || setting.place.clone();
            if setting.text.split_whitespace().any(has_separator) {
                let message = "has a comma or a semicolon between values; separate them with white space, or write a YAML list";
                self.diagnostics.error(place(), message);
                continue;
            }
            for url in setting.text.split_whitespace().map(AmqpUrl::parse) {
                match url {
                    Ok(url) => urls.push(url),
                    Err(error) => self.diagnostics.error(place(), format!("the URL {error}")),
                }
            }
        }
        urls
    }

    fn check_tls(&mut self, settings: &publisher::BrokerSettings, files: &[TlsFile]) {
        let TlsFiles { cert, key, .. } = &settings.tls;
        let is_external = |url: &&AmqpUrl| url.login == Login::External;
        let place = self.place("url");
        let (secure, plain): (Vec<_>, Vec<_>) = settings.urls.iter().partition(|url| url.tls);
        if secure.iter().any(is_external) && cert.is_none() && key.is_none() {
            let message = "auth_mechanism=external is a login with a client certificate: set cert_file and key_file";
            self.diagnostics.error(place, message);
        } else if plain.iter().any(is_external) {
            let message = "auth_mechanism=external is a login with a client certificate, which requires amqps://";
            self.diagnostics.warn(place, message);
        }
        if !secure.is_empty() {
            if let Err(error) = settings.tls.context() {
                self.report_tls(&error, files);
            }
        } else if settings.tls != TlsFiles::default() && !plain.is_empty() {
            let message = "ca_file, cert_file and key_file have no effect without an amqps:// URL";
            self.diagnostics.warn(Place::missing("amqp"), message);
        }
    }

    /// Reports why TLS cannot be set up: at the key of the file concerned, or of the first that is set.
    fn report_tls(&mut self, error: &TlsError, files: &[TlsFile]) {
        let is_concerned = |path: &Option<PathBuf>| match error {
            TlsError::File(file, _) => path.as_ref() == Some(file),
            TlsError::IncompleteIdentity | TlsError::Library(_) => path.is_some(),
        };
        let key = files.iter().find(|(_, path)| is_concerned(path));
        let place = self.place(key.map_or("cert_file", |(key, _)| key));
        self.diagnostics.error(place, error.to_string());
    }

    fn number(&mut self, key: &str, range: RangeInclusive<usize>, unit: &str) -> Option<usize> {
        let (min, max) = (range.start(), range.end());
        let requirement = format!("a whole number of {unit}, {min} to {max}");
        let parse = |text: &str| text.parse().ok().filter(|number| range.contains(number));
        self.value(key, parse, &requirement)
    }

    fn answer_timeout(&mut self) -> Duration {
        let parse = |text: &str| {
            let duration: jiff::SignedDuration = text.parse().ok()?;
            let timeout = Duration::try_from(duration).ok()?;
            ANSWER_TIMEOUTS.contains(&timeout).then_some(timeout)
        };
        let requirement = "a duration from 100ms to 60s, such as 8s";
        let timeout = self
            .value("answer_timeout", parse, requirement)
            .unwrap_or(DEFAULT_ANSWER_TIMEOUT);
        if timeout > RECOMMENDED_ANSWER_TIMEOUT {
            let message = "is over 9s: Alertmanager may give up before the response (after group_interval, at least 10 s)";
            let place = self.place("answer_timeout");
            self.diagnostics.warn(place, message);
        }
        timeout
    }

    /// The accepted tokens. Those of the environment replace those of the file.
    fn tokens(&mut self) -> Vec<Token> {
        let variable = HTTP.variable("bearer_token");
        let Some(texts) = self.texts("bearer_token") else {
            let message = format!("required but not set; set it here or with {variable}");
            let place = Place::missing("http.bearer_token");
            self.diagnostics.error(place, message);
            return Vec::new();
        };
        let mut tokens = Vec::new();
        for setting in texts {
            let place = setting.place.clone();
            if !setting.text.bytes().all(|byte| byte.is_ascii_graphic()) {
                let message = "must consist of printable ASCII characters without spaces, as in an HTTP header; \
                               several tokens are a YAML list: [NEW, OLD]";
                self.diagnostics.error(place, message);
                continue;
            }
            let token = Token::new(setting.text.as_str());
            if token.is_published {
                let message = format!(
                    "is a published placeholder: nothing is expanded here, and it is accepted from loopback addresses only; set a secret token here or with {variable}"
                );
                self.diagnostics.warn(place, message);
            } else if setting.text.contains([',', ';']) {
                let message = "has a comma or a semicolon, which is part of the token; several tokens are a YAML list: [NEW, OLD]";
                self.diagnostics.warn(place, message);
            } else if let [b'"', .., b'"'] | [b'\'', .., b'\''] = setting.text.as_bytes() {
                let message = "is in quotation marks, which are part of the token; remove them";
                self.diagnostics.warn(place, message);
            } else {
                self.warn_of_placeholder(&setting);
            }
            tokens.push(token);
        }
        tokens
    }

    fn path(&mut self, key: &str) -> Option<PathBuf> {
        self.value(key, |text| Some(PathBuf::from(text)), "a path")
    }
}

/// Whether a word has a comma or a semicolon that would be part of a URL, and was meant to separate two.
fn has_separator(word: &str) -> bool {
    let mut parts = word.split([',', ';']);
    let first = parts.next().unwrap_or_default();
    first.is_empty() || parts.any(|part| part.is_empty() || part.contains("://"))
}
