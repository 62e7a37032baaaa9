//! The files in `contrib/`: the real tools accept them, they use only metrics that the real binary exposes, and a real Prometheus has
//! data for every panel of the dashboard.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use regex::Regex;
use serde_json::{Value, json};
use support::broker::Broker;
use support::connector::{Connector, MAPPING, config, run};
use support::documents::{anchors, document};
use support::http::Client;
use support::{ProcessGroup, assert_success, free_port, notification, temp_path, wait_until};

/// Where the runbooks are: the `URL` of the package.
const PROJECT: &str = "https://git.canopsis.net/canopsis-connectors/connector-prometheus";
const CONFIG: &str = include_str!("../config.yml");
const DASHBOARD: &str = include_str!("../contrib/grafana-dashboard.json");
const RULES: [&str; 2] = [
    "contrib/prometheus-rules.yml",
    "contrib/prometheus-watchdog.yml",
];
const TESTS: &str = include_str!("../contrib/prometheus-rules-test.yml");
const SCRAPE: &str = include_str!("../contrib/prometheus-scrape.yml");
const JOB: &str = "canopsis-connector-prometheus";

/// Runs a tool that must succeed, and returns its output.
fn run_tool(command: &[&str]) -> String {
    let output = Command::new(command[0])
        .args(&command[1..])
        .output()
        .unwrap_or_else(|error| {
            panic!(
                "{}: {error}; it comes with prometheus or prometheus-alertmanager",
                command[0]
            )
        });
    let printed = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(output.status.success(), "{command:?}: {printed}");
    printed
}

fn yaml(text: &str) -> Value {
    serde_yaml::from_str(text).unwrap()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value
        .as_str()
        .unwrap_or_else(|| panic!("not a string: {value}"))
}

/// All alerting rules.
fn rules() -> Vec<Value> {
    let files = RULES.map(|path| yaml(&fs::read_to_string(path).unwrap()));
    files
        .iter()
        .flat_map(|file| list(&file["groups"]))
        .flat_map(|group| list(&group["rules"]))
        .cloned()
        .collect()
}

/// All checks of `prometheus-rules-test.yml`.
fn checks() -> Vec<Value> {
    list(&yaml(TESTS)["tests"])
        .iter()
        .flat_map(|test| list(&test["alert_rule_test"]))
        .cloned()
        .collect()
}

/// All panels except rows, including those of collapsed rows.
fn panels() -> Vec<Value> {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let all = list(&dashboard["panels"])
        .iter()
        .flat_map(|panel| [panel].into_iter().chain(list(&panel["panels"])));
    all.filter(|panel| panel["type"] != "row")
        .cloned()
        .collect()
}

/// Every query of the dashboard with its legend, including the queries of annotations.
fn dashboard_queries() -> Vec<(String, String)> {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let annotations = list(&dashboard["annotations"]["list"])
        .iter()
        .filter(|one| one["expr"].is_string());
    let annotations = annotations.map(|one| {
        (
            text(&one["expr"]).to_owned(),
            text(&one["textFormat"]).to_owned(),
        )
    });
    let panels = panels();
    let targets = panels.iter().flat_map(|panel| list(&panel["targets"]));
    let targets = targets.map(|one| {
        (
            text(&one["expr"]).to_owned(),
            text(&one["legendFormat"]).to_owned(),
        )
    });
    annotations.chain(targets).collect()
}

/// The metric and the label of each query variable.
fn variables() -> Vec<(String, String)> {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let queries = list(&dashboard["templating"]["list"])
        .iter()
        .filter(|one| one["type"] == "query");
    queries
        .map(|one| {
            assert_eq!(one["definition"], one["query"]["query"]);
            let arguments = text(&one["definition"])
                .strip_prefix("label_values(")
                .unwrap()
                .strip_suffix(')')
                .unwrap();
            let (metric, label) = arguments.rsplit_once(", ").unwrap();
            (metric.to_owned(), label.to_owned())
        })
        .collect()
}

/// Substitutes the dashboard's variables, as Grafana does.
fn substitute_variables(query: &str, job: &str, instance: &str) -> String {
    let filled = query
        .replace("$__rate_interval", "1m")
        .replace("$__range", "5m")
        .replace("$job", job)
        .replace("$instance", instance);
    assert!(!filled.contains('$'), "an unknown variable: {query}");
    filled
}

/// The names in a query.
#[derive(Debug, Default)]
struct Names {
    /// Each metric with its matchers, as label and value.
    metrics: Vec<(String, Vec<(String, String)>)>,
    /// The labels of `by`, `without` and `on`.
    grouped: BTreeSet<String>,
}

fn names(query: &str) -> Names {
    let tokens = Regex::new(r#""[^"]*"|[0-9][\w.]*|[A-Za-z_]\w*|[=!]~|!=|\S"#).unwrap();
    let tokens: Vec<&str> = tokens
        .find_iter(query)
        .map(|token| token.as_str())
        .collect();
    let (mut names, mut at) = (Names::default(), 0);
    let until = |from: usize, end: &str| {
        from + tokens[from..]
            .iter()
            .position(|token| *token == end)
            .unwrap()
    };
    while at < tokens.len() {
        let (token, next) = (tokens[at], tokens.get(at + 1).copied().unwrap_or_default());
        at += 1;
        match token {
            "[" => at = until(at, "]"),
            "{" => {
                let end = until(at, "}");
                let matchers = tokens[at..end].split(|token| *token == ",");
                let matchers = matchers.map(|matcher| {
                    (
                        matcher[0].to_owned(),
                        matcher[2].trim_matches('"').to_owned(),
                    )
                });
                names.metrics.last_mut().unwrap().1.extend(matchers);
                at = end;
            }
            "by" | "without" | "on" => {
                let end = until(at, ")");
                names.grouped.extend(
                    tokens[at + 1..end]
                        .iter()
                        .filter(|token| **token != ",")
                        .map(|token| (*token).to_owned()),
                );
                at = end;
            }
            "and" | "or" | "unless" => {}
            // A function or an aggregation.
            _ if ["(", "by", "without"].contains(&next)
                || !token.starts_with(|c: char| c.is_ascii_alphabetic()) => {}
            _ => names.metrics.push((token.to_owned(), Vec::new())),
        }
    }
    names
}

/// Every metric of a page with its labels and their values, and the metric and labels that Prometheus adds.
fn exposed(page: &str) -> BTreeMap<String, BTreeMap<String, BTreeSet<String>>> {
    let label = Regex::new(r#"(\w+)="([^"]*)""#).unwrap();
    let mut all: BTreeMap<String, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
    for sample in page
        .lines()
        .filter(|line| !line.starts_with('#'))
        .chain(["up 1"])
    {
        let labels = all
            .entry(sample.split(['{', ' ']).next().unwrap().to_owned())
            .or_default();
        labels.entry("instance".to_owned()).or_default();
        labels
            .entry("job".to_owned())
            .or_default()
            .insert(JOB.to_owned());
        for found in label.captures_iter(sample) {
            labels
                .entry(found[1].to_owned())
                .or_default()
                .insert(found[2].to_owned());
        }
    }
    all
}

/// The queries in a rule's annotations.
fn inner_queries(rule: &Value) -> Vec<String> {
    let query = Regex::new("query \\(printf `([^`]*)`").unwrap();
    let description = text(&rule["annotations"]["description"]);
    query
        .captures_iter(description)
        .map(|found| found[1].replace("%q", "\"x\""))
        .collect()
}

#[test]
fn the_tools_accept_the_files() {
    for path in RULES {
        run_tool(&["promtool", "check", "rules", path]);
    }
    let printed = run_tool(&[
        "promtool",
        "test",
        "rules",
        "contrib/prometheus-rules-test.yml",
    ]);
    assert!(printed.contains("SUCCESS"), "{printed}");
    let printed = run_tool(&[
        "promtool",
        "check",
        "config",
        "contrib/prometheus-scrape.yml",
    ]);
    assert!(printed.contains("1 rule files found"), "{printed}");
    run_tool(&["amtool", "check-config", "contrib/alertmanager.yml"]);
}

#[test]
fn the_contact_point_of_grafana_sends_to_the_webhook() {
    let file = yaml(&fs::read_to_string("contrib/grafana-contact-point.yml").unwrap());
    let receiver = &file["contactPoints"][0]["receivers"][0];
    assert_eq!(receiver["type"], "webhook");
    assert_eq!(receiver["disableResolveMessage"], false);
    let settings = &receiver["settings"];
    assert!(text(&settings["url"]).ends_with(":18401/webhook"));
    assert_eq!(settings["authorization_scheme"], "Bearer");
}

#[test]
fn every_alert_is_tested_firing_and_silent() {
    let checks = checks();
    let names: BTreeSet<String> = rules()
        .iter()
        .map(|rule| text(&rule["alert"]).to_owned())
        .collect();
    assert_eq!(
        names.len(),
        rules().len(),
        "two alerts with the same name are one entity in Canopsis"
    );
    for name in &names {
        let (firing, silent): (Vec<&Value>, Vec<&Value>) = checks
            .iter()
            .filter(|check| check["alertname"] == **name)
            .partition(|check| !list(&check["exp_alerts"]).is_empty());
        assert!(!firing.is_empty(), "{name} has no test that fires it");
        assert!(
            !silent.is_empty() || name == "Watchdog",
            "{name} has no test in which it is silent"
        );
    }
    let tested: BTreeSet<String> = checks
        .iter()
        .map(|check| text(&check["alertname"]).to_owned())
        .collect();
    assert_eq!(tested, names);
}

#[test]
fn every_alert_has_a_severity_a_summary_and_a_runbook() {
    let states = yaml(CONFIG)["state"][1]["values"].clone();
    for rule in rules() {
        let name = text(&rule["alert"]);
        assert!(
            states.get(text(&rule["labels"]["severity"])).is_some(),
            "{name}: config.yml does not map its severity"
        );
        assert!(!text(&rule["annotations"]["summary"]).is_empty(), "{name}");
        if name == "Watchdog" {
            continue;
        }
        let link = text(&rule["annotations"]["runbook_url"]);
        let (page, anchor) = link
            .strip_prefix(&format!("{PROJECT}/-/blob/main/"))
            .and_then(|path| path.split_once('#'))
            .unwrap_or_else(|| panic!("{name}: {link}"));
        assert!(
            anchors(&document(page)).iter().any(|known| known == anchor),
            "{name}: {link}"
        );
    }
}

#[test]
fn alerts_map_to_distinct_events_with_their_states() {
    let checks = checks();
    let mut alerts: Vec<Value> = Vec::new();
    for check in &checks {
        for alert in list(&check["exp_alerts"]) {
            let mut labels = alert["exp_labels"].clone();
            labels["alertname"] = check["alertname"].clone();
            let alert = json!({
                "status": "firing", "labels": labels, "annotations": alert["exp_annotations"], "fingerprint": "f",
                "startsAt": "2026-11-22T14:10:49Z", "endsAt": "0001-01-01T00:00:00Z", "generatorURL": "",
            });
            // Several checks may expect the same alert.
            if !alerts.contains(&alert) {
                alerts.push(alert);
            }
        }
    }
    let mut notification: Value = serde_json::from_str(&notification::<&str>(&[])).unwrap();
    notification["alerts"] = json!(alerts);
    let output = run(
        &["-c", "config.yml", "--dry-run", "-"],
        &[],
        &notification.to_string(),
    );
    assert_success(&output, "--dry-run");
    let events: Vec<Value> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(events.len(), alerts.len());
    let mut entities = BTreeSet::new();
    for (event, alert) in events.iter().zip(&alerts) {
        let labels = &alert["labels"];
        let state = match text(&labels["severity"]) {
            "critical" => 3,
            "major" => 2,
            "info" => 0,
            _ => 1,
        };
        assert_eq!(event["state"], state, "{event}");
        // Not truncated.
        assert_eq!(event["output"], alert["annotations"]["description"]);
        assert_eq!(event["resource"], labels["alertname"]);
        let component = labels
            .get("instance")
            .or(labels.get("job"))
            .map_or("prometheus", text);
        assert_eq!(event["component"], component, "{event}");
        assert!(
            entities.insert((event["resource"].to_string(), component)),
            "two alerts for one alarm: {event}"
        );
    }
    let watchdog = events
        .iter()
        .find(|event| event["resource"] == "Watchdog")
        .unwrap();
    assert_eq!(
        (&watchdog["component"], &watchdog["state"]),
        (&json!("prometheus"), &json!(0))
    );
}

#[test]
fn alerts_of_a_failed_delivery_go_to_another_receiver() {
    let route = |labels: &[&str]| {
        let command = [
            "amtool",
            "config",
            "routes",
            "test",
            "--config.file=contrib/alertmanager.yml",
        ];
        let output = Command::new(command[0])
            .args(&command[1..])
            .args(labels)
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    for rule in rules() {
        let name = text(&rule["alert"]);
        let labels: Vec<String> = rule["labels"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(label, value)| format!("{label}={}", text(value)))
            .chain([format!("alertname={name}")])
            .collect();
        let cut_off = rule["labels"]["canopsis"] == "cut-off";
        let expected = if cut_off {
            "beside-canopsis,canopsis"
        } else {
            "canopsis"
        };
        assert_eq!(
            route(&labels.iter().map(String::as_str).collect::<Vec<_>>()),
            expected,
            "{name}"
        );
        let closed = [
            "Down",
            "NotScraped",
            "BrokerLost",
            "BrokerBlocked",
            "EventsReturned",
            "EventsNacked",
            "NoAlertsReceived",
        ];
        if closed.iter().any(|end| name.ends_with(end)) {
            assert!(cut_off, "{name} can't reach Canopsis through the connector");
        }
    }
    assert_eq!(
        route(&["alertname=InstanceDown", "severity=critical"]),
        "canopsis"
    );
}

#[test]
fn the_firewall_opens_the_port_of_the_configuration() {
    let listen = yaml(CONFIG)["http"]["listen"].clone();
    let port = text(&listen).rsplit_once(':').unwrap().1;
    let service = fs::read_to_string("contrib/firewalld.xml").unwrap();
    assert!(
        service.contains(&format!("<port protocol=\"tcp\" port=\"{port}\"/>")),
        "{service}"
    );
}

#[test]
fn the_dashboard_is_consistent() {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    assert!(dashboard["id"].is_null() && text(&dashboard["uid"]).len() <= 40);
    let all: Vec<Value> = list(&dashboard["panels"])
        .iter()
        .filter(|one| one["type"] == "row")
        .cloned()
        .collect();
    let titles: Vec<&str> = all.iter().map(|row| text(&row["title"])).collect();
    assert_eq!(
        titles,
        [
            "Is it up?",
            "Does it deliver?",
            "Is it overloaded?",
            "Who sends?",
            "What is rejected?",
            "Which alerts share an alarm?",
            "The process"
        ]
    );

    let (panels, mut places) = (panels(), Vec::new());
    for panel in all.iter().chain(&panels) {
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|key| panel["gridPos"][key].as_u64().unwrap());
        assert!(w > 0 && h > 0 && x + w <= 24, "{}", panel["title"]);
        for (other, (left, top, right, bottom)) in &places {
            assert!(
                x >= *right || x + w <= *left || y >= *bottom || y + h <= *top,
                "{} on {other}",
                panel["title"]
            );
        }
        places.push((panel["title"].clone(), (x, y, x + w, y + h)));
    }
    let ids: BTreeSet<u64> = all
        .iter()
        .chain(&panels)
        .map(|panel| panel["id"].as_u64().unwrap())
        .collect();
    assert_eq!(ids.len(), all.len() + panels.len());

    for panel in &panels {
        let (title, defaults) = (text(&panel["title"]), &panel["fieldConfig"]["defaults"]);
        assert!(
            text(&panel["description"]).len() > 20,
            "{title} has no description"
        );
        assert!(
            defaults["unit"].is_string() && !list(&defaults["thresholds"]["steps"]).is_empty(),
            "{title}"
        );
        assert!(!list(&panel["targets"]).is_empty(), "{title}");
        for source in [panel].into_iter().chain(list(&panel["targets"])) {
            assert_eq!(source["datasource"]["uid"], "${datasource}", "{title}");
        }
    }
    let variables: Vec<&str> = list(&dashboard["templating"]["list"])
        .iter()
        .map(|one| text(&one["name"]))
        .collect();
    assert_eq!(variables, ["datasource", "job", "instance"]);
    let window = Regex::new(r"\[([^]]*)\]").unwrap();
    for (query, legend) in dashboard_queries() {
        assert!(
            legend.contains("{{instance}}"),
            "{query}: no instance in the legend"
        );
        // Every metric is restricted to the selected jobs and instances.
        let names = names(&query);
        for (metric, matchers) in names.metrics {
            for label in ["job", "instance"] {
                let chosen = (label.to_owned(), format!("${label}"));
                assert!(
                    matchers.contains(&chosen),
                    "{metric} has no matcher of {label} in {query}"
                );
            }
        }
        for found in window.captures_iter(&query) {
            assert!(
                ["$__rate_interval", "$__range"].contains(&&found[1]),
                "{query}"
            );
        }
    }

    // promtool checks expressions only in rules.
    let rules: Vec<Value> = dashboard_queries()
        .iter()
        .zip(0..)
        .map(|((query, _), number)| json!({"record": format!("query:{number}"), "expr": substitute_variables(query, ".*", ".*")}))
        .collect();
    let path = temp_path("queries").with_extension("yml");
    let groups = json!({"groups": [{"name": "queries", "rules": rules}]});
    fs::write(&path, groups.to_string()).unwrap();
    run_tool(&["promtool", "check", "rules", path.to_str().unwrap()]);
    fs::remove_file(&path).unwrap();
}

/// A real Prometheus with `contrib/prometheus-scrape.yml` that scrapes this connector every second.
struct Prometheus {
    _process: ProcessGroup,
    port: u16,
}

impl Prometheus {
    fn start(connector: &Connector) -> Self {
        let (dir, port) = (temp_path("prometheus"), free_port());
        fs::create_dir_all(&dir).unwrap();
        for path in RULES {
            fs::copy(path, dir.join(path.rsplit_once('/').unwrap().1)).unwrap();
        }
        let mut config = SCRAPE.to_owned();
        for (from, to) in [
            ("connector.example:18401", connector.address.to_string()),
            // No Alertmanager listens there.
            (
                "alertmanager.example:9093",
                format!("127.0.0.1:{}", free_port()),
            ),
            (" 30s", " 1s".to_owned()),
            (
                "# - prometheus-watchdog.yml",
                "- prometheus-watchdog.yml".to_owned(),
            ),
        ] {
            assert!(config.contains(from), "{from} in prometheus-scrape.yml");
            config = config.replace(from, &to);
        }
        let dir = dir.to_str().unwrap();
        fs::write(format!("{dir}/prometheus.yml"), config).unwrap();
        let command = [
            "prometheus",
            &format!("--config.file={dir}/prometheus.yml"),
            &format!("--storage.tsdb.path={dir}/data"),
            &format!("--web.listen-address=127.0.0.1:{port}"),
        ];
        let process =
            ProcessGroup::start(&command, &format!("{dir}/log"), &format!("rm -rf {dir}"));
        let prometheus = Self {
            _process: process,
            port,
        };
        wait_until("Prometheus starts (prometheus must be installed)", || {
            prometheus.get("/-/ready").is_ok()
        });
        prometheus
    }

    /// The body of a 200 response. With HTTP/1.0, whose responses are never chunked.
    fn get(&self, path: &str) -> Result<String, String> {
        let exchange = || -> std::io::Result<String> {
            let mut connection = TcpStream::connect(("127.0.0.1", self.port))?;
            connection.set_read_timeout(Some(support::TIMEOUT))?;
            connection
                .write_all(format!("GET {path} HTTP/1.0\r\nHost: test\r\n\r\n").as_bytes())?;
            let mut response = String::new();
            connection.read_to_string(&mut response)?;
            Ok(response)
        };
        let response = exchange().map_err(|error| error.to_string())?;
        let (head, body) = response.split_once("\r\n\r\n").ok_or("no response")?;
        if head.split(' ').nth(1) == Some("200") {
            Ok(body.to_owned())
        } else {
            Err(response)
        }
    }

    fn api(&self, path: &str) -> Value {
        let body = self
            .get(&format!("/api/v1/{path}"))
            .unwrap_or_else(|error| panic!("{path}: {error}"));
        serde_json::from_str::<Value>(&body).unwrap()["data"].clone()
    }

    /// The current result of an instant query.
    fn query(&self, query: &str) -> Vec<Value> {
        let query = utf8_percent_encode(query, NON_ALPHANUMERIC);
        list(&self.api(&format!("query?query={query}"))["result"]).to_vec()
    }
}

/// A connector that gets every kind of request, so that every metric has samples.
struct BusyConnector {
    connector: Connector,
}

impl BusyConnector {
    fn start() -> Self {
        let broker = Broker::shared();
        let mapping = format!("{MAPPING}\ntimestamp: {{type: copy, value: labels.severity}}\n");
        let connector = Connector::with(
            &config(&broker.url(&broker.fresh_vhost()), "", &mapping),
            &[],
        );
        connector.wait_until_ready();
        Self { connector }
    }

    fn send_requests(&self) {
        assert_eq!(self.connector.post(&notification(&["A", "B"])).status, 200);
        let nameless = notification(&["A"]).replace("\"instance\"", "\"other\"");
        assert_eq!(self.connector.post(&nameless).status, 422);
        let mut unauthenticated = Client::new(self.connector.address);
        assert_eq!(
            unauthenticated
                .send("POST", "/webhook", &[], b"{}")
                .unwrap()
                .status,
            401
        );
    }
}

#[test]
fn queries_use_only_exposed_metrics_and_labels() {
    let busy = BusyConnector::start();
    busy.send_requests();
    let page = Client::new(busy.connector.address)
        .send("GET", "/metrics", &[], b"")
        .unwrap()
        .body;
    let exposed = exposed(&page);
    let check = |query: &str| {
        let names = names(query);
        for (metric, matchers) in &names.metrics {
            let labels = exposed
                .get(metric)
                .unwrap_or_else(|| panic!("{metric} is not exposed; in {query}"));
            for label in names
                .grouped
                .iter()
                .chain(matchers.iter().map(|(label, _)| label))
            {
                assert!(
                    labels.contains_key(label),
                    "{metric} has no label {label}; in {query}"
                );
            }
            // A status code has samples only after its first response; all other label values exist from the start.
            let fixed = matchers
                .iter()
                .filter(|(label, _)| !["code", "instance"].contains(&&**label));
            for (label, values) in fixed.filter(|(_, values)| !values.starts_with('$')) {
                for value in values.split('|') {
                    assert!(
                        labels[label].contains(value),
                        "{metric} never has {label}={value}; in {query}"
                    );
                }
            }
        }
        names
    };
    for rule in rules() {
        let mut queries = vec![text(&rule["expr"]).to_owned()];
        queries.extend(inner_queries(&rule));
        for query in queries {
            let names = check(&query);
            assert!(!names.metrics.is_empty() || query == "vector(1)", "{query}");
        }
    }
    for (metric, label) in variables() {
        let names = check(&metric);
        assert!(
            exposed[&names.metrics[0].0].contains_key(&label),
            "{label} of {metric}"
        );
    }
    let shown = Regex::new(r"\{\{(\w+)\}\}").unwrap();
    for (query, legend) in dashboard_queries() {
        let names = check(&query);
        for label in shown
            .captures_iter(&legend)
            .map(|found| found[1].to_owned())
        {
            let is_present = if names.grouped.is_empty() {
                names
                    .metrics
                    .iter()
                    .all(|(metric, _)| exposed[metric].contains_key(&label))
            } else {
                names.grouped.contains(&label)
            };
            assert!(is_present, "{label} of {legend:?} is not in {query}");
        }
    }
}

#[test]
fn a_real_prometheus_evaluates_every_rule_and_fills_every_panel() {
    let busy = BusyConnector::start();
    let prometheus = Prometheus::start(&busy.connector);
    let address = busy.connector.address.to_string();
    wait_until("the connector is scraped", || {
        let up = prometheus.query(&format!("up{{job=\"{JOB}\",instance=\"{address}\"}}"));
        up.first().is_some_and(|sample| sample["value"][1] == "1")
    });
    wait_until("all rules are evaluated without an error", || {
        let groups = prometheus.api("rules")["groups"].clone();
        let rules: Vec<&Value> = list(&groups)
            .iter()
            .flat_map(|group| list(&group["rules"]))
            .collect();
        rules.len() == self::rules().len() && rules.iter().all(|rule| rule["health"] == "ok")
    });
    for (metric, label) in variables() {
        let values = prometheus.query(&substitute_variables(&metric, JOB, &address));
        let expected = if label == "job" { JOB } else { &address };
        assert_eq!(values[0]["metric"][&label], expected, "{metric}");
    }
    for (query, _) in dashboard_queries() {
        let query = substitute_variables(&query, JOB, &address);
        wait_until(&query, || {
            busy.send_requests();
            !prometheus.query(&query).is_empty()
        });
    }
    let alerts = || list(&prometheus.api("alerts")["alerts"]).to_vec();
    wait_until("an alert fires, and names the field", || {
        alerts().iter().any(|alert| {
            alert["labels"]["alertname"] == "CanopsisConnectorAlertsRejected"
                && alert["state"] == "firing"
                && text(&alert["annotations"]["description"])
                    .contains("without a value: component.")
        })
    });
    let critical: Vec<Value> = alerts()
        .into_iter()
        .filter(|alert| alert["labels"]["severity"] == "critical")
        .collect();
    assert!(
        critical.iter().all(|alert| alert["state"] != "firing"),
        "{critical:?}"
    );
}
