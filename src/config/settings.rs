//! Broker, HTTP and token settings: from the file, the environment and the command line to checked values.

use std::fs;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use super::document::{At, Node};
use super::mistakes::Mistakes;
use super::{Environment, Overrides};
use crate::amqp_url::AmqpUrl;
use crate::http::{self, Listen};
use crate::publisher::{self, TlsFiles};
use crate::secret::Secret;

/// The token of the shipped `config.yml`: it works, and is warned about at every start.
pub const DEFAULT_TOKEN: &str = "canopsis-prometheus-change-me";

/// Environment: several broker URLs, separated by white space.
pub const ENV_AMQP_URL: &str = "CPS_AMQP_URL";
/// Environment: the token.
pub const ENV_TOKEN: &str = "PROMETHEUS_BEARER_TOKEN";
/// Environment: a file that holds the token.
pub const ENV_TOKEN_FILE: &str = "PROMETHEUS_BEARER_TOKEN_FILE";

const AMQP_KEYS: &[&str] = &["url", "exchange", "ca_file", "cert_file", "key_file"];
const HTTP_KEYS: &[&str] =
    &["listen", "bearer_token", "bearer_token_file", "max_body_bytes", "max_connections", "answer_timeout"];

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
    let within = |section: &str, keys: &[&str]| keys.contains(&key).then(|| format!("{section}.{key}"));
    within("amqp", AMQP_KEYS).or_else(|| within("http", HTTP_KEYS))
}

/// `amqp` and `CPS_AMQP_URL`.
pub fn amqp(root: &At<'_>, environment: Environment<'_>, mistakes: &mut Mistakes) -> publisher::Settings {
    let section = section(root, "amqp", AMQP_KEYS, mistakes);
    let get = |key: &str| section.as_ref().and_then(|section| section.get(key));
    let urls = match from_environment(environment, ENV_AMQP_URL, mistakes) {
        Some(text) => text
            .split_whitespace()
            .filter_map(|url| parse_url(url, &mut |why| mistakes.add_elsewhere(ENV_AMQP_URL, why)))
            .collect(),
        None => match get("url") {
            Some(at) => texts(&at, mistakes)
                .iter()
                .filter_map(|(at, url)| parse_url(url.trim(), &mut |why| mistakes.add(at, why)))
                .collect(),
            None => AmqpUrl::parse(DEFAULT_URL).into_iter().collect(),
        },
    };
    let exchange = get("exchange").map_or_else(|| DEFAULT_EXCHANGE.to_owned(), |at| exchange(&at, mistakes));
    let file = |key: &str, mistakes: &mut Mistakes| get(key).and_then(|at| path_text(&at, mistakes));
    let tls =
        TlsFiles { ca: file("ca_file", mistakes), cert: file("cert_file", mistakes), key: file("key_file", mistakes) };
    let settings = publisher::Settings { urls, exchange, tls };
    check_tls(&settings, section.as_ref(), mistakes);
    settings
}

fn check_tls(settings: &publisher::Settings, section: Option<&At<'_>>, mistakes: &mut Mistakes) {
    let any_file = settings.tls != TlsFiles::default();
    if settings.urls.iter().any(|url| url.tls) {
        if let Err(error) = settings.tls.connector() {
            match section {
                Some(section) => mistakes.add(section, error.to_string()),
                None => mistakes.add_elsewhere("amqp", error.to_string()),
            }
        }
    } else if any_file && !settings.urls.is_empty() {
        mistakes.warn("amqp", "ca_file, cert_file and key_file are for amqps:// URLs, and there is none");
    }
}

fn parse_url(text: &str, wrong: &mut dyn FnMut(String)) -> Option<AmqpUrl> {
    AmqpUrl::parse(text).map_err(|error| wrong(format!("the URL {error}"))).ok()
}

fn exchange(at: &At<'_>, mistakes: &mut Mistakes) -> String {
    let text = at.text().unwrap_or_default();
    if text.is_empty() || text.len() > 255 {
        mistakes.add(at, "must be the name of an exchange, 1 to 255 bytes");
    }
    text
}

/// `http`, the token's environment variables, `--host` and `--port`.
pub fn http(
    root: &At<'_>,
    environment: Environment<'_>,
    overrides: &Overrides,
    mistakes: &mut Mistakes,
) -> http::Settings {
    let section = section(root, "http", HTTP_KEYS, mistakes);
    let get = |key: &str| section.as_ref().and_then(|section| section.get(key));
    let mut listen = get("listen")
        .and_then(|at| listen(&at, mistakes))
        .unwrap_or_else(|| Listen { host: "0.0.0.0".to_owned(), port: DEFAULT_PORT });
    if let Some(host) = &overrides.host {
        listen.host.clone_from(host);
    }
    if let Some(port) = overrides.port {
        listen.port = port;
    }
    let tokens = tokens(section.as_ref(), environment, mistakes);
    if tokens.iter().any(|token| token.expose() == DEFAULT_TOKEN) {
        mistakes.warn(
            "http.bearer_token",
            "is the default one, which everybody knows: whoever reaches the port can send alerts; set your own",
        );
    }
    http::Settings {
        listen,
        tokens,
        max_body_bytes: get("max_body_bytes").map_or(DEFAULT_BODY_BYTES, |at| {
            number(&at, 1024..=MOST_BODY_BYTES, "bytes", mistakes).unwrap_or(DEFAULT_BODY_BYTES)
        }),
        max_connections: get("max_connections").map_or(DEFAULT_CONNECTIONS, |at| {
            number(&at, 1..=MOST_CONNECTIONS, "connections", mistakes).unwrap_or(DEFAULT_CONNECTIONS)
        }),
        answer_timeout: get("answer_timeout").map_or(DEFAULT_ANSWER, |at| answer_timeout(&at, mistakes)),
    }
}

fn listen(at: &At<'_>, mistakes: &mut Mistakes) -> Option<Listen> {
    let parsed = at.text().and_then(|text| Listen::parse(&text));
    if parsed.is_none() {
        mistakes.add(at, "must be HOST:PORT, as 0.0.0.0:18401 or [::]:18401");
    }
    parsed
}

fn number(at: &At<'_>, range: RangeInclusive<usize>, unit: &str, mistakes: &mut Mistakes) -> Option<usize> {
    let number = match at.node {
        Node::Scalar(Value::Number(number)) => number.as_u64().and_then(|number| usize::try_from(number).ok()),
        _ => None,
    };
    let number = number.filter(|number| range.contains(number));
    if number.is_none() {
        mistakes.add(at, format!("must be a whole number of {unit}, {} to {}", range.start(), range.end()));
    }
    number
}

fn answer_timeout(at: &At<'_>, mistakes: &mut Mistakes) -> Duration {
    let parsed = at.text().and_then(|text| text.parse::<jiff::SignedDuration>().ok());
    let timeout = parsed
        .and_then(|duration| Duration::try_from(duration).ok())
        .filter(|timeout| (SHORTEST_ANSWER..=LONGEST_ANSWER).contains(timeout));
    if timeout.is_some_and(|timeout| timeout > ADVISED_ANSWER) {
        mistakes.warn(
            &at.to_string(),
            "is over 9s: Alertmanager may give up (after its group_interval, 10 s at least) before the answer comes",
        );
    }
    timeout.unwrap_or_else(|| {
        mistakes.add(at, "must be a duration from 100ms to 60s, as 8s");
        DEFAULT_ANSWER
    })
}

/// The tokens that let a sender in. Those of the environment replace those of the file.
fn tokens(section: Option<&At<'_>>, environment: Environment<'_>, mistakes: &mut Mistakes) -> Vec<Secret> {
    let text = from_environment(environment, ENV_TOKEN, mistakes);
    let file = from_environment(environment, ENV_TOKEN_FILE, mistakes);
    if text.is_some() && file.is_some() {
        mistakes.add_elsewhere(ENV_TOKEN, format!("and {ENV_TOKEN_FILE} are both set: set one"));
    }
    let mut found = Vec::new();
    if let Some(text) = text {
        found.extend(token(text, &mut |why| mistakes.add_elsewhere(ENV_TOKEN, why)));
        return found;
    }
    if let Some(file) = file {
        found.extend(token_file(&file, &mut |why| {
            mistakes.add_elsewhere(ENV_TOKEN_FILE, why);
        }));
        return found;
    }
    let get = |key: &str| section.and_then(|section| section.get(key));
    match (get("bearer_token"), get("bearer_token_file")) {
        (None, None) => mistakes.add_elsewhere(
            "http.bearer_token",
            format!("is missing: nobody gets in without a token; set it here, or http.bearer_token_file, {ENV_TOKEN} or {ENV_TOKEN_FILE}"),
        ),
        (Some(_), Some(at)) => mistakes.add(&at, "and http.bearer_token are both set: set one"),
        (Some(at), None) => {
            for (at, text) in texts(&at, mistakes) {
                found.extend(token(text, &mut |why| mistakes.add(&at, why)));
            }
        }
        (None, Some(at)) => {
            if let Some(file) = at.text() {
                found.extend(token_file(&file, &mut |why| mistakes.add(&at, why)));
            } else {
                mistakes.add(&at, "must be the path of a file");
            }
        }
    }
    found
}

fn token(text: String, wrong: &mut dyn FnMut(&str)) -> Option<Secret> {
    if text.is_empty() {
        wrong("is an empty token: nobody gets in without one");
        return None;
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        wrong("holds a token with white space or characters beyond ASCII, which an HTTP header can't carry");
        return None;
    }
    Some(Secret::new(text))
}

fn token_file(path: &str, wrong: &mut dyn FnMut(&str)) -> Option<Secret> {
    match fs::read_to_string(path) {
        // A text editor's last line end is not a part of the token.
        Ok(text) => token(text.trim_end_matches(['\r', '\n']).to_owned(), wrong),
        Err(error) => {
            wrong(&format!("can't read {path}: {error}"));
            None
        }
    }
}

fn from_environment(environment: Environment<'_>, name: &str, mistakes: &mut Mistakes) -> Option<String> {
    match environment(name)? {
        Ok(text) if text.trim().is_empty() => {
            mistakes.add_elsewhere(name, "is set, but empty: unset it, or give it a value");
            None
        }
        Ok(text) => Some(text),
        Err(_) => {
            mistakes.add_elsewhere(name, "is not UTF-8");
            None
        }
    }
}

fn section<'d>(root: &At<'d>, name: &str, known: &[&str], mistakes: &mut Mistakes) -> Option<At<'d>> {
    let section = root.get(name)?;
    mistakes.check_keys(&section, known);
    Some(section)
}

/// A text, or a list of at least one.
fn texts<'d>(at: &At<'d>, mistakes: &mut Mistakes) -> Vec<(At<'d>, String)> {
    let places = if matches!(at.node, Node::List(_)) { at.items() } else { vec![at.clone()] };
    if places.is_empty() {
        mistakes.add(at, "is an empty list");
    }
    let mut found = Vec::new();
    for place in places {
        match place.text() {
            Some(text) => found.push((place, text)),
            None => mistakes.add(&place, "must be a text"),
        }
    }
    found
}

fn path_text(at: &At<'_>, mistakes: &mut Mistakes) -> Option<PathBuf> {
    let text = at.text().filter(|text| !text.is_empty());
    if text.is_none() {
        mistakes.add(at, "must be the path of a file");
    }
    text.map(PathBuf::from)
}
