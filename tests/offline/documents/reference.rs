//! The tables of options, variables, keys, functions, metrics and statuses.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::Command;

use canopsis_connector_prometheus::config::{self, AMQP, EVENT_KEYS, HTTP, TLS};
use canopsis_connector_prometheus::mapping::path::ROOTS;

use super::{CONFIG, FORMAT_MAN, MAN};
use crate::support::connector::{BINARY, Connector, MAPPING, run};
use crate::support::documents::{code_spans, document, section, user_documents};
use crate::support::{TOKEN, TempDir};

/// The distinct long options in a text.
fn options(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
    words
        .filter(|word| word.starts_with("--") && word.len() > 3)
        .collect()
}

/// The distinct environment variables of the program in a text.
fn variables(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words
        .filter(|word| word.starts_with(AMQP.prefix) || word.starts_with(HTTP.prefix))
        .filter(|word| !word.ends_with('_'))
        .collect()
}

/// Every variable that the program reads.
fn known_variables() -> BTreeSet<String> {
    let sections = [AMQP, HTTP, TLS].into_iter();
    let of_settings = sections.flat_map(|section| {
        let keys = section.keys.iter();
        keys.map(move |key| section.variable(key))
    });
    of_settings
        .filter(|name| name != "PROMETHEUS_TLS")
        .chain([config::LOG_LEVEL, config::LOG_FORMAT].map(str::to_owned))
        .collect()
}

fn help() -> String {
    String::from_utf8(Command::new(BINARY).arg("--help").output().unwrap().stdout).unwrap()
}

#[test]
fn documented_options_match_the_program() {
    let help = help();
    let page = document("docs/configuration.md");
    let (_, table) = page.split_once("| option | meaning |").unwrap();
    let table = table.split("\n\n").next().unwrap();
    assert_eq!(options(table), options(&help), "docs/configuration.md");
    let (_, section) = MAN.split_once("# OPTIONS").unwrap();
    let section = section.split("# ENVIRONMENT").next().unwrap();
    assert_eq!(options(section), options(&help), "manual");
}

#[test]
fn documented_variables_match_the_program() {
    let known = known_variables();
    let known: BTreeSet<&str> = known.iter().map(String::as_str).collect();
    assert_eq!(variables(MAN), known, "manual");
    let page = document("docs/configuration.md");
    assert_eq!(variables(&page), known, "docs/configuration.md");
    let others = user_documents();
    let others = others
        .iter()
        .map(|(name, text)| (text.as_str(), name.as_str()));
    for (text, what) in others.chain([
        (&*help(), "--help"),
        (include_str!("../../../sysconfig"), "sysconfig"),
        (CONFIG, "config.yml"),
        (
            include_str!("../../../contrib/kubernetes.yml"),
            "kubernetes.yml",
        ),
    ]) {
        let unknown: Vec<_> = variables(text)
            .into_iter()
            .filter(|name| !known.contains(name))
            .collect();
        assert!(unknown.is_empty(), "{what}: {unknown:?}");
    }
}

/// The first code span of each row of the tables in a text.
fn first_cells(text: &str) -> Vec<String> {
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.filter_map(|row| row.split_once(" |"))
        .map(|(cell, _)| format!("`{cell}"))
        .collect()
}

#[test]
fn documented_keys_match_the_program() {
    let page = document("docs/configuration.md");
    let documented = |heading: &str| -> BTreeSet<String> {
        let cells = first_cells(section(&page, heading));
        let names = cells
            .iter()
            .flat_map(|cell| cell.split('`').skip(1).step_by(2));
        names.map(str::to_owned).collect()
    };
    let known = |prefix: &str, keys: &[&str]| -> BTreeSet<String> {
        keys.iter().map(|key| format!("{prefix}{key}")).collect()
    };
    assert_eq!(documented("## RabbitMQ: `amqp`"), known("amqp.", AMQP.keys));
    let mut http = known("http.", HTTP.keys);
    assert!(http.remove("http.tls"), "a section");
    http.extend(known("http.tls.", TLS.keys));
    assert_eq!(documented("## HTTP server: `http`"), http);
    assert_eq!(documented("## The event"), known("", EVENT_KEYS));

    let in_manual: BTreeSet<String> = ["# RABBITMQ: amqp", "# HTTP SERVER: http", "# EVENTS"]
        .iter()
        .flat_map(|heading| section(FORMAT_MAN, heading).lines())
        .filter(|line| line.starts_with('*'))
        .flat_map(|line| line.split(", "))
        .map(|word| word.trim_matches('*').to_owned())
        .collect();
    for key in AMQP.keys.iter().chain(HTTP.keys).chain(EVENT_KEYS) {
        let bold = format!("*{key}*");
        assert!(FORMAT_MAN.contains(&bold), "{key} in the manual");
        assert!(
            CONFIG.contains(&format!("{key}:")) || ["author", "timestamp"].contains(key),
            "{key} in config.yml"
        );
    }
    for key in TLS.keys {
        assert!(
            FORMAT_MAN.contains(&format!("_{key}_")),
            "{key} in the manual"
        );
        assert!(
            CONFIG.contains(&format!("#   {key}:")),
            "{key} in config.yml"
        );
    }
    for key in in_manual {
        let mut all = AMQP.keys.iter().chain(HTTP.keys).chain(EVENT_KEYS);
        assert!(all.any(|known| *known == key), "{key} in the manual");
    }
}

#[test]
fn documented_paths_and_functions_match_the_program() {
    let page = document("docs/mapping.md");
    let bold = |name: &str| FORMAT_MAN.contains(&format!("*{name}*"));
    for root in ROOTS {
        assert!(page.contains(&format!("`{root}")), "{root}");
        assert!(CONFIG.contains(root), "{root} in config.yml");
        assert!(bold(root), "{root} in the manual");
    }
    for function in gotemplate::function_names() {
        assert!(page.contains(&format!("`{function}")), "{function}");
        assert!(bold(function), "{function} in the manual");
    }
}

#[test]
fn documented_metrics_match_the_program() {
    let config = format!("http: {{listen: '127.0.0.1:0', bearer_token: {TOKEN}}}\n{MAPPING}");
    let connector = Connector::with(&config, &["--stdout"]);
    // Histograms of requests appear with the first one.
    connector.get("/-/healthy");
    let page = connector.get("/metrics").body;
    let exposed: BTreeSet<(String, String)> = page
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .filter_map(|line| line.split_once(' '))
        .map(|(name, kind)| (name.to_owned(), kind.to_owned()))
        .collect();
    let operations = document("docs/operations.md");
    let table = section(&operations, "## Metrics");
    let documented: BTreeSet<(String, String)> = table
        .lines()
        .filter(|line| line.starts_with("| `"))
        .flat_map(|row| {
            let mut cells = row.trim_matches('|').split(" | ");
            let (names, kind) = (cells.next().unwrap(), cells.next().unwrap().trim());
            let names = names.split('`').skip(1).step_by(2);
            names
                .map(|name| (name.to_owned(), kind.to_owned()))
                .collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(documented, exposed);
    // Every metric that another document names.
    for (name, text) in user_documents() {
        for span in code_spans(&text) {
            let metric = span.split(['{', ' ']).next().unwrap();
            if metric.starts_with("canopsis_connector_") && metric != "canopsis_connector_" {
                assert!(
                    exposed.iter().any(|(known, _)| known == metric),
                    "{name}: {metric}"
                );
            }
        }
    }
}

#[test]
fn documented_statuses_match_the_program() {
    let source = include_str!("../../../src/http/response.rs");
    let (_, table) = source.split_once("fn classify(&self)").unwrap();
    let table = table.split("\n    }\n").next().unwrap();
    let mut known: BTreeSet<u16> = table
        .split('(')
        .filter_map(|rest| rest.split_once(", ")?.0.parse().ok())
        .collect();
    // The responses to a notification that has been mapped.
    known.extend([200, 422]);
    let page = document("docs/http-api.md");
    let documented: BTreeSet<u16> = section(&page, "## Responses")
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split_once(" |")?.0.parse().ok())
        .collect();
    assert_eq!(documented, known);
}

/// Sends a raw request, and returns the status of the response.
fn status_of(connector: &Connector, request: &str) -> u16 {
    let mut stream = TcpStream::connect(connector.address).unwrap();
    stream
        .set_read_timeout(Some(crate::support::TIMEOUT))
        .unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    line.split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .unwrap_or_else(|| panic!("{request:?}: {line:?}"))
}

/// `docs/http-api.md`, "Responses": each status that needs no server.
#[test]
fn requests_get_the_documented_status() {
    let config = format!(
        "http: {{listen: '127.0.0.1:0', bearer_token: {TOKEN}, max_body_bytes: 2048}}\n{MAPPING}"
    );
    let connector = Connector::with(&config, &["--stdout"]);
    let token = format!("Host: h\r\nAuthorization: Bearer {TOKEN}\r\n");
    let body = crate::support::notification(&["A"]);
    let rejected = body.replace("\"instance\"", "\"other\"");
    let webhook = |method: &str, headers: &str, body: &str| {
        let length = body.len();
        format!(
            "{method} /webhook HTTP/1.1\r\n{token}{headers}Content-Length: {length}\r\n\r\n{body}"
        )
    };
    let get = |path: &str, version: &str| format!("GET {path} HTTP/{version}\r\nHost: h\r\n\r\n");
    let wrong_version = body.replace("\"version\":\"4\"", "\"version\":\"3\"");
    for (request, status) in [
        (webhook("POST", "", &body), 200),
        (webhook("PUT", "", &body), 200),
        (get("/-/healthy", "1.0"), 200),
        (get("/-/healthy", "1.1").replace("GET", "HEAD"), 200),
        (get("/-/healthy", "2.0"), 400),
        ("GET /-/healthy HTTP/1.1\r\n\r\n".to_owned(), 400),
        (webhook("POST", "Transfer-Encoding: chunked\r\n", ""), 400),
        (webhook("POST", "", &wrong_version), 400),
        (webhook("POST", "", "noise"), 400),
        (webhook("POST", "", &body).replace(TOKEN, "other"), 401),
        (get("/-/reload", "1.1").replace("GET", "POST"), 401),
        (get("/nothing", "1.1"), 404),
        (get("/api/v2/alerts", "1.1").replace("GET", "POST"), 404),
        (webhook("DELETE", "", ""), 405),
        (webhook("POST", "", &" ".repeat(2049)), 413),
        (webhook("POST", "Content-Encoding: gzip\r\n", &body), 415),
        (webhook("POST", "Expect: something\r\n", &body), 417),
        (webhook("POST", "", &rejected), 422),
        (format!("GET /{} HTTP/1.1\r\n", "x".repeat(16 << 10)), 431),
    ] {
        assert_eq!(status_of(&connector, &request), status, "{request}");
    }
    connector.rewrite("http: {}\n");
    let reload = format!("POST /-/reload HTTP/1.1\r\n{token}\r\n");
    assert_eq!(status_of(&connector, &reload), 500);
}

#[test]
fn an_empty_variable_is_an_error_except_tz() {
    let dir = TempDir::new("empty");
    let path = dir.file(
        "config.yml",
        &format!("http: {{bearer_token: {TOKEN}}}\n{MAPPING}"),
    );
    let check = |name: &str| run(&["-c", &path, "--check"], &[(name, "")], "").status;
    assert!(check("TZ").success());
    for name in known_variables() {
        assert!(!check(&name).success(), "{name}");
    }
}
