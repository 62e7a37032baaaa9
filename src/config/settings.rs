//! The settings of the broker and of the HTTP server: reads and checks the sections `amqp` and `http`, with the variables and
//! options that override them.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::Overrides;
use super::diagnostics::{Diagnostics, Place};
use super::environment::Environment;
use super::source::{Form, Section, SectionKeys, Setting};
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
    let section = [AMQP, HTTP]
        .into_iter()
        .find(|section| section.keys.contains(&key))?;
    Some(format!("{}.{key}", section.path))
}

/// Reads the section `amqp`.
pub fn read_amqp(
    root: &NodeRef<'_>,
    environment: &Environment,
    diagnostics: &mut Diagnostics,
) -> publisher::BrokerSettings {
    let mut section = Section::new(&AMQP, root.get("amqp"), environment, diagnostics);
    let exchange = |name: &str| (name.len() <= MAX_EXCHANGE_BYTES).then(|| name.to_owned());
    let urls = urls(&mut section);
    let [ca, cert, key] = ["ca_file", "cert_file", "key_file"].map(|key| path(&mut section, key));
    let settings = publisher::BrokerSettings {
        exchange: section
            .value("exchange", exchange, "a name of 1 to 255 bytes")
            .unwrap_or_else(|| DEFAULT_EXCHANGE.to_owned()),
        tls: TlsFiles { ca, cert, key },
        urls,
    };
    check_tls(&settings, &mut section);
    settings
}

fn urls(section: &mut Section<'_, '_>) -> Vec<AmqpUrl> {
    let Some(texts) = section.texts("url", Form::Words) else {
        return AmqpUrl::parse(DEFAULT_URL).into_iter().collect();
    };
    let mut urls = Vec::new();
    for Setting { place, text } in texts {
        match AmqpUrl::parse(&text) {
            Ok(url) => urls.push(url),
            Err(error) => section.diagnostics.error(place, format!("the URL {error}")),
        }
    }
    urls
}

fn check_tls(settings: &publisher::BrokerSettings, section: &mut Section<'_, '_>) {
    let TlsFiles { ca, cert, key } = &settings.tls;
    let is_external = |url: &&AmqpUrl| url.login == Login::External;
    let place = section.place("url");
    let (secure, plain): (Vec<_>, Vec<_>) = settings.urls.iter().partition(|url| url.tls);
    if secure.iter().any(is_external) && cert.is_none() && key.is_none() {
        let message = "auth_mechanism=external is a login with a client certificate: set cert_file and key_file";
        section.diagnostics.error(place, message);
    } else if plain.iter().any(is_external) {
        let message =
            "auth_mechanism=external is a login with a client certificate, which requires amqps://";
        section.diagnostics.warn(place, message);
    }
    if !secure.is_empty() {
        if let Err(error) = settings.tls.context() {
            let files = [("key_file", key), ("cert_file", cert), ("ca_file", ca)];
            report(&error, files, section);
        }
    } else if settings.tls != TlsFiles::default() && !plain.is_empty() {
        section.diagnostics.warn(
            Place::missing("amqp"),
            "ca_file, cert_file and key_file have no effect without an amqps:// URL",
        );
    }
}

/// Reports why TLS cannot be set up: at the key of the file concerned, or of the first that is set.
fn report(error: &TlsError, files: [(&str, &Option<PathBuf>); 3], section: &mut Section<'_, '_>) {
    let is_concerned = |path: &Option<PathBuf>| match error {
        TlsError::File {
            path: concerned, ..
        } => path.as_ref() == Some(concerned),
        TlsError::IncompleteIdentity | TlsError::Library(_) => path.is_some(),
    };
    let key = files.iter().find(|(_, path)| is_concerned(path));
    let place = section.place(key.map_or("cert_file", |(key, _)| key));
    section.diagnostics.error(place, error.to_string());
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
    let mut listen = section
        .value("listen", ListenAddress::parse, requirement)
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
            .value(
                "metrics_require_token",
                |text| text.parse().ok(),
                "true or false",
            )
            .unwrap_or(false),
        max_body_bytes: number(&mut section, "max_body_bytes", bytes, "bytes")
            .unwrap_or(DEFAULT_MAX_BODY_BYTES),
        max_connections: number(&mut section, "max_connections", connections, "connections")
            .unwrap_or(DEFAULT_MAX_CONNECTIONS),
        answer_timeout: answer_timeout(&mut section),
    }
}

/// Reads the section `http.tls`, and the files. A part of it without the rest is an error: it must not turn TLS off.
fn read_tls(
    http: Option<&NodeRef<'_>>,
    environment: &Environment,
    diagnostics: &mut Diagnostics,
) -> Option<ServerTls> {
    let entries = http.map(NodeRef::entries).unwrap_or_default();
    // Its keys may be commented out, and the section itself not.
    let is_written_empty = entries
        .iter()
        .any(|(key, node)| *key == "tls" && node.is_null());
    let node = http.and_then(|http| http.get("tls"));
    let mut section = Section::new(&TLS, node, environment, diagnostics);
    if !is_written_empty && !section.is_present() {
        return None;
    }
    let [cert, key, client_ca] =
        ["cert_file", "key_file", "client_ca_file"].map(|key| path(&mut section, key));
    let loaded = match (&cert, &key) {
        (Some(cert), Some(key)) => ServerTls::load(cert, key, client_ca.as_deref()),
        _ => Err(TlsError::IncompleteIdentity),
    };
    match &loaded {
        Ok(tls) => {
            for warning in tls.warnings(Timestamp::now().as_second()) {
                let place = section.place("cert_file");
                section.diagnostics.warn(place, warning);
            }
        }
        Err(error) => {
            let files = [
                ("key_file", &key),
                ("client_ca_file", &client_ca),
                ("cert_file", &cert),
            ];
            report(error, files, &mut section);
        }
    }
    loaded.ok()
}

fn number(
    section: &mut Section<'_, '_>,
    key: &str,
    range: RangeInclusive<usize>,
    unit: &str,
) -> Option<usize> {
    let (min, max) = (range.start(), range.end());
    let requirement = format!("a whole number of {unit}, {min} to {max}");
    let parse = |text: &str| text.parse().ok().filter(|number| range.contains(number));
    section.value(key, parse, &requirement)
}

fn answer_timeout(section: &mut Section<'_, '_>) -> Duration {
    let parse = |text: &str| {
        let duration: jiff::SignedDuration = text.parse().ok()?;
        let timeout = Duration::try_from(duration).ok()?;
        (MIN_ANSWER_TIMEOUT..=MAX_ANSWER_TIMEOUT)
            .contains(&timeout)
            .then_some(timeout)
    };
    let requirement = "a duration from 100ms to 60s, such as 8s";
    let timeout = section
        .value("answer_timeout", parse, requirement)
        .unwrap_or(DEFAULT_ANSWER_TIMEOUT);
    if timeout > RECOMMENDED_ANSWER_TIMEOUT {
        let place = section.place("answer_timeout");
        section.diagnostics.warn(
            place,
            "is over 9s: Alertmanager may give up before the response (after group_interval, at least 10 s)",
        );
    }
    timeout
}

/// The accepted tokens. Those of the environment replace those of the file.
fn tokens(section: &mut Section<'_, '_>) -> Vec<Token> {
    let variable = HTTP.variable("bearer_token");
    let Some(texts) = section.texts("bearer_token", Form::List) else {
        let message = format!("required but not set; set it here or with {variable}");
        let place = Place::missing("http.bearer_token");
        section.diagnostics.error(place, message);
        return Vec::new();
    };
    let mut tokens = Vec::new();
    for setting in texts {
        let place = setting.place.clone();
        if !setting.text.bytes().all(|byte| byte.is_ascii_graphic()) {
            let message = "must consist of printable ASCII characters without spaces, as in an HTTP header; \
                           several tokens are a YAML list: [NEW, OLD]";
            section.diagnostics.error(place, message);
            continue;
        }
        let token = Token::new(setting.text.as_str());
        if token.is_published {
            let message = format!(
                "is a published placeholder: nothing is expanded here, and it is accepted from loopback addresses only; set a secret token here or with {variable}"
            );
            section.diagnostics.warn(place, message);
        } else if setting.text.contains([',', ';']) {
            let message = "has a comma or a semicolon, which is part of the token; several tokens are a YAML list: [NEW, OLD]";
            section.diagnostics.warn(place, message);
        } else if is_quoted(&setting.text) {
            let message = "is in quotation marks, which are part of the token; remove them";
            section.diagnostics.warn(place, message);
        } else {
            section.warn_of_placeholder(&setting);
        }
        tokens.push(token);
    }
    tokens
}

/// Whether a variable or a file contains the quotation marks of a shell.
fn is_quoted(text: &str) -> bool {
    ['"', '\'']
        .iter()
        .any(|quote| text.len() > 1 && text.starts_with(*quote) && text.ends_with(*quote))
}

fn path(section: &mut Section<'_, '_>, key: &str) -> Option<PathBuf> {
    section.value(key, |text| Some(PathBuf::from(text)), "a path")
}
