//! The tables of options, variables, keys, functions, metrics and statuses.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufReader, Write};
use std::net::TcpStream;

use canopsis_connector_prometheus::config::{AMQP, EVENT_KEYS, HTTP, LOG_FORMAT, LOG_LEVEL, TLS};
use canopsis_connector_prometheus::mapping::path::roots;

use super::{CONFIG, FORMAT_MAN, MAN};
use crate::support::connector::{
    Connector, MAPPING, config, config_without_broker, run, run_with_config,
};
use crate::support::documents::{code_spans, document, section, user_documents};
use crate::support::http::{Response, read_response};
use crate::support::{TIMEOUT, TOKEN, TempFile, notification};

/// The distinct long options in a text.
fn options(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
    let options = words.filter(|word| word.starts_with("--") && word.len() > 3);
    options.map(str::to_owned).collect()
}

/// The distinct environment variables of the program in a text.
fn variables(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let is_ours = |word: &&str| word.starts_with(AMQP.prefix) || word.starts_with(HTTP.prefix);
    let variables = words.filter(|word| is_ours(word) && !word.ends_with('_'));
    variables.map(str::to_owned).collect()
}

/// Every variable that the program reads.
fn known_variables() -> BTreeSet<String> {
    let mut known = BTreeSet::new();
    for section in [AMQP, HTTP, TLS] {
        known.extend(section.keys.iter().map(|key| section.variable(key)));
    }
    assert!(known.remove("PROMETHEUS_TLS"), "a section");
    known.extend([LOG_LEVEL, LOG_FORMAT].map(str::to_owned));
    known
}

fn help() -> String {
    run_with_config("", "--help", "").stdout
}

/// The rows of the tables in a text: their cells.
fn rows(text: &str) -> Vec<Vec<&str>> {
    let rows = text.lines().filter_map(|line| line.strip_prefix("| "));
    rows.map(|row| row.split(" | ").map(str::trim).collect())
        .collect()
}

/// The texts between the backquotes of a cell.
fn names(cell: &str) -> Vec<String> {
    cell.split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

#[test]
fn documented_names_match_the_program() {
    let (page, help) = (document("docs/configuration.md"), help());
    let (_, of_options) = page.split_once("| option | meaning |").unwrap();
    let of_options = of_options.split("\n\n").next().unwrap();
    let keys = |heading: &str| {
        let rows = rows(section(&page, heading)).into_iter();
        rows.flat_map(|cells| names(cells[0]))
            .collect::<BTreeSet<String>>()
    };
    let prefixed = |prefix: &str, keys: &[&str]| -> BTreeSet<String> {
        keys.iter().map(|key| format!("{prefix}{key}")).collect()
    };
    let mut http = prefixed("http.", HTTP.keys);
    assert!(http.remove("http.tls"), "a section");
    http.extend(prefixed("http.tls.", TLS.keys));
    for (place, documented, known) in [
        ("options in the page", options(of_options), options(&help)),
        (
            "options in the manual",
            options(section(MAN, "# OPTIONS")),
            options(&help),
        ),
        ("variables in the page", variables(&page), known_variables()),
        ("variables in the manual", variables(MAN), known_variables()),
        (
            "keys of amqp",
            keys("## RabbitMQ: `amqp`"),
            prefixed("amqp.", AMQP.keys),
        ),
        ("keys of http", keys("## HTTP server: `http`"), http),
        (
            "keys of the event",
            keys("## The event"),
            prefixed("", EVENT_KEYS),
        ),
    ] {
        assert_eq!(documented, known, "{place}");
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
    let keys = [AMQP.keys, HTTP.keys, EVENT_KEYS].concat();
    for key in &keys {
        let bold = format!("*{key}*");
        assert!(FORMAT_MAN.contains(&bold), "{key} in the manual");
        let is_in_config =
            CONFIG.contains(&format!("{key}:")) || ["author", "timestamp"].contains(key);
        assert!(is_in_config, "{key} in config.yml");
    }
    for heading in ["# RABBITMQ: amqp", "# HTTP SERVER: http", "# EVENTS"] {
        let lines = section(FORMAT_MAN, heading).lines();
        for line in lines.filter(|line| line.starts_with('*')) {
            for word in line.split(", ") {
                let is_known = keys.contains(&word.trim_matches('*'));
                assert!(is_known, "{word} in the manual is unknown");
            }
        }
    }
}

#[test]
fn no_document_names_an_unknown_variable() {
    let mut texts = user_documents();
    texts.insert("--help".to_owned(), help());
    for file in ["sysconfig", "config.yml", "contrib/kubernetes.yml"] {
        texts.insert(file.to_owned(), document(file));
    }
    let known = known_variables();
    for (name, text) in texts {
        let named = variables(&text);
        let unknown: Vec<_> = named.difference(&known).collect();
        assert!(unknown.is_empty(), "{name}: {unknown:?}");
    }
}

#[test]
fn documented_paths_and_functions_match_the_program() {
    let page = document("docs/mapping.md");
    let bold = |name: &str| FORMAT_MAN.contains(&format!("*{name}*"));
    for root in roots() {
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
    let connector = Connector::with(&config_without_broker(), &["--stdout"]);
    // Histograms of requests appear with the first one.
    connector.get("/-/healthy");
    let page = connector.get("/metrics").body;
    let mut exposed = BTreeMap::new();
    for line in page.lines() {
        if let Some(row) = line.strip_prefix("# TYPE ") {
            let (name, kind) = row.split_once(' ').unwrap();
            exposed.insert(name.to_owned(), kind.to_owned());
        }
    }
    let operations = document("docs/operations.md");
    let mut documented = BTreeMap::new();
    for cells in rows(section(&operations, "## Metrics")) {
        let names = names(cells[0]).into_iter();
        documented.extend(names.map(|name| (name, cells[1].to_owned())));
    }
    assert_eq!(documented, exposed);
    // Every metric that another document names.
    for (name, text) in user_documents() {
        for span in code_spans(&text) {
            let metric = span.split(['{', ' ']).next().unwrap();
            if metric.starts_with("canopsis_connector_") && metric != "canopsis_connector_" {
                assert!(exposed.contains_key(metric), "{name}: {metric}");
            }
        }
    }
}

#[test]
fn documented_statuses_match_the_program() {
    let source = include_str!("../../../src/http/response.rs");
    let (_, table) = source.split_once("fn classify(&self)").unwrap();
    let table = table.split("\n    }\n").next().unwrap();
    let statuses = table
        .split('(')
        .filter_map(|rest| rest.split_once(", ")?.0.parse().ok());
    let mut known: BTreeSet<u16> = statuses.collect();
    // The responses to a notification that has been mapped.
    known.extend([200, 422]);
    let page = document("docs/http-api.md");
    let rows = rows(section(&page, "## Responses")).into_iter();
    let documented: BTreeSet<u16> = rows.filter_map(|cells| cells[0].parse().ok()).collect();
    assert_eq!(documented, known);
}

/// A request and the response to it: the status, a part of the body, and the change of a valid notification, from a part of it to
/// another. The part `ALL` is the whole request, `BODY` its body, and `LONG` as long as a head may be. `\r\n` and `\ufeff` are characters.
const REQUESTS: &str = r#"
200 | {"published":1} | POST | PUT
200 | {"published":1} | Bearer | bEARER
200 | {"published":1} | HTTP/1.1\r\nHost: h | HTTP/1.0
200 | {"published":1} | Content-Length | Content-Encoding: identity\r\nContent-Length
200 | {"published":1} | /webhook | /webhook?x=y
200 | {"published":1} | /webhook | HTTP://h:18401//webhook/?x=y
200 | {"published":0} | BODY | {"version":"4","alerts":[]}
200 | {"status":"healthy"} | ALL | GET /-/healthy HTTP/1.1\r\nHost: h\r\n\r\n
400 | unsupported HTTP version | ALL | GET / HTTP/2.0\r\nHost: h\r\n\r\n
400 | Host header missing | ALL | GET / HTTP/1.1\r\nX: h\r\n\r\n
400 | both Content-Length and | Content-Length | Transfer-Encoding: chunked\r\nContent-Length
400 | notification version \"3\" | "4" | "3"
400 | not an Alertmanager notification | BODY | noise
400 | EOF while parsing | BODY |
400 | as a Prometheus server sends it | BODY | [{"labels":{}}]
400 | UTF-8 byte order mark | BODY | \ufeffBODY
400 | PROXY protocol | POST | PROXY TCP4 192.0.2.1 192.0.2.2 5000 18401\r\nPOST
401 | a valid bearer token is required | TOKEN | other
401 | a valid bearer token is required | Bearer | Basic
401 | a valid bearer token is required | Authorization | X
401 | a valid bearer token is required | Authorization: Bearer TOKEN | Content-Encoding: gzip
401 | a valid bearer token is required | /webhook HTTP/1.1\r\nHost: h\r\nAuthorization | /-/reload HTTP/1.1\r\nHost: h\r\nX
404 | POST /webhook | ALL | GET /nothing HTTP/1.1\r\nHost: h\r\n\r\n
404 | no such path | /webhook | http://h
404 | no such path | /webhook | /webhook/x
404 | not an Alertmanager | ALL | POST /api/v2/alerts HTTP/1.1\r\nHost: h\r\n\r\n
405 | POST | POST | DELETE
405 | GET | ALL | POST /-/healthy HTTP/1.1\r\nHost: h\r\n\r\n
413 | exceeds 2048 bytes | BODY | 2049-BYTES
415 | unsupported Content-Encoding | Content-Length | Content-Encoding: gzip\r\nContent-Length
417 | Expect | Content-Length | Expect: something\r\nContent-Length
422 | labels.instance is absent | "instance" | "other"
431 | 16384 | ALL | GET /LONG HTTP/1.1\r\n
"#;

/// Sends a request as it is, on a new connection.
fn exchange(connector: &Connector, request: &str) -> Response {
    let stream = TcpStream::connect(connector.address).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    let mut stream = BufReader::new(stream);
    stream.get_mut().write_all(request.as_bytes()).unwrap();
    read_response(&mut stream).unwrap_or_else(|error| panic!("{request:?}: {error}"))
}

/// `docs/http-api.md`, "Responses": each status that needs no server. `src/http/request.rs` tests what a malformed head is.
#[test]
fn requests_get_the_documented_status() {
    let config = config("amqp://127.0.0.1:1", "max_body_bytes: 2048", MAPPING);
    let connector = Connector::with(&config, &["--stdout"]);
    let body = notification(&["A"]);
    let request = |from: &str, to: &str| {
        let part = |text: &str| {
            let text = text.replace(r"\r\n", "\r\n").replace(r"\ufeff", "\u{feff}");
            text.replace("LONG", &"x".repeat(16 << 10))
                .replace("2049-BYTES", &"x".repeat(2049))
                .replace("BODY", &body)
        };
        let head = "POST /webhook HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer TOKEN\r\nContent-Length: LENGTH";
        let text = format!("{head}\r\n\r\n{body}");
        let text = if from == "ALL" {
            part(to)
        } else {
            assert!(text.contains(&part(from)), "{from} is not in {text}");
            text.replace(&part(from), &part(to))
        };
        let length = text
            .split_once("\r\n\r\n")
            .map_or(0, |(_, body)| body.len());
        text.replace("TOKEN", TOKEN)
            .replace("LENGTH", &length.to_string())
    };
    let mut published = 0;
    for row in REQUESTS.lines().skip(1) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let [status, part, from, to] = cells[..] else {
            panic!("{row}")
        };
        let request = request(from, to);
        let response = exchange(&connector, &request);
        assert_eq!(
            response.status.to_string(),
            status,
            "{row}: {}",
            response.body
        );
        assert!(response.body.contains(part), "{row}: {}", response.body);
        let header = match response.status {
            401 => ("www-authenticate", "Bearer"),
            405 if request.starts_with("POST") => ("allow", "GET, HEAD"),
            405 => ("allow", "POST, PUT"),
            415 => ("accept-encoding", "identity"),
            _ => ("content-type", "application/json"),
        };
        for (name, value) in [header, ("content-type", "application/json")] {
            assert_eq!(response.header(name), Some(value), "{row}");
        }
        published += usize::from(part == "{\"published\":1}");
    }
    assert_eq!(published, 6);
    // A response to HEAD has no body.
    let mut stream = TcpStream::connect(connector.address).unwrap();
    let head = "HEAD /-/healthy HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    let response = std::io::read_to_string(stream).unwrap();
    let has_no_body = response.ends_with("\r\n\r\n");
    assert!(
        response.starts_with("HTTP/1.1 200 ") && has_no_body,
        "{response}"
    );
    // A rejected notification does not end its connection.
    let mut client = connector.client();
    for body in ["noise", &body] {
        let response = client.post(body).unwrap();
        assert_eq!(response.header("connection"), None, "{}", response.body);
    }
    connector.rewrite("http: {}\n");
    assert_eq!(
        exchange(&connector, &request("/webhook", "/-/reload")).status,
        500
    );
    let events = connector.into_stdout();
    assert_eq!(events.lines().count(), published + 1, "{events}");
}

#[test]
fn an_empty_variable_is_an_error_except_tz() {
    let path = TempFile::new(&config_without_broker());
    let check = |name: &str| run(&["-c", &path, "--check"], &[(name, "")], "").status;
    assert!(check("TZ").success());
    for name in known_variables() {
        assert!(!check(&name).success(), "{name}");
    }
}
