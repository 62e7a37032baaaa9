//! The rules of `config.yml` and of `contrib/kubernetes.yml`, on the alerts in `tests/data/alerts`: labels as public rule sets and
//! exporters give them, with invented hosts. Each group of a file has the `labels` of all its alerts, and what each alert has instead
//! or besides. Its alerts are different problems, but one with the key `same` is the problem of the group's first alert: in another
//! `severity`, from another `replica` of Prometheus, or after a `restart` of the exporter.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use canopsis_connector_prometheus::config::Config;
use serde_json::{Value, json};

use crate::support::connector::{run_with_config, shipped_config};
use crate::support::mapping::{self, firing, load};
use crate::support::{TOKEN, payload};

/// The kinds of `same` whose alerts share the entity of the problem.
const KINDS: [&str; 3] = ["severity", "replica", "restart"];

/// The most characters of a resource on average, so that a list of alarms can be read.
const MEAN_RESOURCE: usize = 85;

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Clone)]
struct Entity {
    component: String,
    resource: String,
}

struct Alert {
    labels: Value,
    /// The position of its group among all groups, and of its problem in the group.
    problem: (usize, usize),
    /// Why it is the problem of the group's first alert.
    same: Option<String>,
    /// The position in its group.
    position: usize,
}

fn alerts() -> Vec<Alert> {
    let files = fs::read_dir("tests/data/alerts").unwrap();
    let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    let groups = files.iter().flat_map(|file| {
        let text = fs::read_to_string(file).unwrap();
        serde_json::from_str::<Vec<Value>>(&text).unwrap()
    });
    let mut alerts = Vec::new();
    for (group, value) in groups.enumerate() {
        for (position, own) in value["alerts"].as_array().unwrap().iter().enumerate() {
            let mut labels = value["labels"].as_object().unwrap().clone();
            labels.extend(own.as_object().unwrap().clone());
            let same = labels.remove("same");
            let same = same.map(|kind| kind.as_str().unwrap().to_owned());
            let problem = if same.is_some() { 0 } else { position };
            alerts.push(Alert {
                labels: labels.into(),
                problem: (group, problem),
                same,
                position,
            });
        }
    }
    alerts
}

/// The two files: their names and texts.
fn configurations() -> [(&'static str, String); 2] {
    let manifest = include_str!("../../contrib/kubernetes.yml");
    let (_, rest) = manifest.split_once("config.yml: |\n").unwrap();
    let lines = rest.lines().map_while(|line| line.strip_prefix("    "));
    let kubernetes = lines.collect::<Vec<_>>().join("\n");
    let kubernetes = format!("http: {{bearer_token: {TOKEN}}}\n{kubernetes}\n");
    let shipped = shipped_config("amqp://127.0.0.1:1");
    [("config.yml", shipped), ("kubernetes.yml", kubernetes)]
}

/// The events of alerts by their positions, from one notification. Those of one entity are merged.
fn events(config: &Config, alerts: &[(usize, &Value)]) -> BTreeMap<usize, Value> {
    let alerts = alerts.iter().map(|(position, labels)| {
        let mut alert = firing(labels);
        alert["fingerprint"] = json!(position.to_string());
        alert
    });
    let events = mapping::events(config, &alerts.collect()).into_iter();
    let by_position = events.map(|event| {
        let position = event["prom_fingerprint"].as_str().unwrap().parse();
        (position.unwrap(), event)
    });
    by_position.collect()
}

fn entity(event: &Value) -> Entity {
    let text = |key: &str| event[key].as_str().unwrap().to_owned();
    Entity {
        component: text("component"),
        resource: text("resource"),
    }
}

/// The entity of each alert. A notification has one alert of each group, because those of one entity are merged there.
fn entities(config: &Config, alerts: &[Alert]) -> Vec<Entity> {
    let mut found = BTreeMap::new();
    let rounds = alerts.iter().map(|alert| alert.position).max().unwrap();
    for round in 0..=rounds {
        let of_round = alerts
            .iter()
            .enumerate()
            .filter(|(_, alert)| alert.position == round);
        let of_round: Vec<_> = of_round
            .map(|(index, alert)| (index, &alert.labels))
            .collect();
        let events = events(config, &of_round);
        for (index, labels) in of_round {
            let event = events.get(&index).unwrap_or_else(|| {
                panic!("rejected, or shares an entity with another group: {labels}")
            });
            found.insert(index, entity(event));
        }
    }
    found.into_values().collect()
}

#[test]
fn different_problems_have_different_entities() {
    let alerts = alerts();
    let groups: BTreeSet<usize> = alerts.iter().map(|alert| alert.problem.0).collect();
    assert!(groups.len() > 60, "{}", groups.len());
    for (file, config) in configurations() {
        let entities = entities(&load(&config).unwrap(), &alerts);
        let mut problems: BTreeMap<&Entity, BTreeSet<(usize, usize)>> = BTreeMap::new();
        for (entity, alert) in entities.iter().zip(&alerts) {
            problems.entry(entity).or_default().insert(alert.problem);
        }
        let merged: Vec<_> = problems.iter().filter(|(_, of)| of.len() > 1).collect();
        assert!(
            merged.is_empty(),
            "{file}: problems that would be one alarm: {merged:#?}"
        );

        let first =
            |problem: (usize, usize)| alerts.iter().position(|alert| alert.problem == problem);
        for (entity, alert) in entities.iter().zip(&alerts) {
            let Some(kind) = &alert.same else { continue };
            assert!(KINDS.contains(&kind.as_str()), "{kind}");
            let problem = &entities[first(alert.problem).unwrap()];
            assert_eq!(entity, problem, "{file}: one problem, after another {kind}");
        }
    }
}

#[test]
fn names_are_short_and_without_slashes_and_secrets() {
    let alerts = alerts();
    for (file, config) in configurations() {
        let entities = entities(&load(&config).unwrap(), &alerts);
        for Entity {
            component,
            resource,
        } in &entities
        {
            assert!(
                !component.contains('/') && component.trim() == component,
                "{component:?}"
            );
            assert!(!resource.contains("  "), "{resource:?}");
            for name in [component, resource] {
                assert!(
                    !name.contains("pa:ss") && !name.contains("secret"),
                    "{name}"
                );
            }
        }
        let length = |entity: &Entity| entity.resource.chars().count();
        let mean = entities.iter().map(length).sum::<usize>() / entities.len();
        let longest = entities.iter().map(length).max().unwrap();
        // Canopsis's statistics lose an entity above 500.
        assert!(
            mean <= MEAN_RESOURCE && longest < 400,
            "{file}: mean {mean}, longest {longest}"
        );
    }
}

#[test]
fn names_are_what_an_operator_calls_the_thing() {
    let exporter = r#""job": "kube-state-metrics", "instance": "10.4.0.9:8080", "container": "kube-state-metrics", "pod": "kps-kube-state-metrics-7f-aa""#;
    let cases = [
        (
            r#""instance": "db-1.example:9100", "job": "node", "device": "/dev/sda1", "mountpoint": "/srv""#.to_owned(),
            ("db-1.example", "A device=/dev/sda1 mountpoint=/srv"),
        ),
        (format!(r#"{exporter}, "namespace": "shop", "deployment": "web""#), ("shop", "A deployment=web")),
        (format!(r#"{exporter}, "namespace": "monitoring", "node": "node-a""#), ("node-a", "A namespace=monitoring")),
        (
            r#""instance": "cache-1.example:9122", "job": "redis""#.to_owned(),
            ("cache-1.example", "A instance=cache-1.example:9122 job=redis"),
        ),
        (
            r#""instance": "https://u:p@www.example:8443/a", "job": "blackbox""#.to_owned(),
            ("www.example", "A instance=https://www.example:8443/a job=blackbox"),
        ),
        (
            r#""namespace": "mq", "pod": "mq-0", "instance": "10.4.0.8:15692", "job": "mq", "service": "mq", "queue": "mail""#.to_owned(),
            ("mq", "A pod=mq-0 queue=mail service=mq"),
        ),
        (r#""job": "team/app""#.to_owned(), ("team-app", "A job=team/app")),
        (r#""grafana_folder": "Hosts", "rulename": "Disk""#.to_owned(), ("Hosts", "A grafana_folder=Hosts rulename=Disk")),
    ];
    let texts = cases
        .iter()
        .map(|(labels, _)| format!(r#"{{"alertname": "A", {labels}}}"#));
    let labels: Vec<Value> = texts
        .map(|json| serde_json::from_str(&json).unwrap())
        .collect();
    let numbered: Vec<_> = labels.iter().enumerate().collect();
    for (file, config) in configurations() {
        let events = events(&load(&config).unwrap(), &numbered);
        for ((_, (component, resource)), event) in cases.iter().zip(events.values()) {
            let found = (&event["component"], &event["resource"]);
            assert_eq!(found, (&json!(component), &json!(resource)), "{file}");
        }
        assert_eq!(events.len(), cases.len(), "{file}");
    }
}

#[test]
fn the_component_is_the_host_of_the_instance() {
    let cases = [
        ("", "prometheus"),
        ("db-1.example:9100", "db-1.example"),
        ("10.0.0.1", "10.0.0.1"),
        ("https://shop.example/health?x=1", "shop.example"),
        ("https://user@shop.example:8443", "shop.example"),
        ("http://[2001:db8::1]:8080/", "2001:db8::1"),
        ("[2001:db8::2]:9100", "2001:db8::2"),
        ("[2001:db8::3]", "2001:db8::3"),
        ("2001:db8::4", "2001:db8::4"),
        ("https://", "prometheus"),
    ];
    let name = |instance: &str| format!("of {instance}");
    let labels =
        cases.map(|(instance, _)| json!({"alertname": name(instance), "instance": instance}));
    let numbered: Vec<_> = labels.iter().enumerate().collect();
    for (file, config) in configurations() {
        let events = events(&load(&config).unwrap(), &numbered);
        for ((instance, component), event) in cases.iter().zip(events.values()) {
            assert_eq!(event["component"], *component, "{file}: {instance:?}");
        }
        assert_eq!(events.len(), cases.len(), "{file}");
    }
}

#[test]
fn severities_of_any_spelling_have_their_state() {
    let mut cases = vec![("A", Value::Null, 3), ("WatchdogMissing", Value::Null, 3)];
    for (state, severities) in [
        (0, "info information informational none ok"),
        (1, "minor warning warn low notice"),
        (2, "major"),
        (3, "critical page error high emergency disaster unheard-of"),
    ] {
        for severity in severities.split(' ') {
            let mut capital = severity.to_owned();
            capital[..1].make_ascii_uppercase();
            for spelling in [severity.to_owned(), severity.to_uppercase(), capital] {
                cases.push(("A", json!(spelling), state));
            }
        }
    }
    let switches = "Watchdog DeadMansSwitch DeadMan'sSwitch DeadManSwitch AlertingDeadMansSwitch InfoInhibitor";
    cases.extend(
        switches
            .split(' ')
            .map(|switch| (switch, json!("critical"), 0)),
    );
    let of_cases = (0..).zip(&cases).map(|(case, (alertname, severity, _))| {
        json!({"alertname": alertname, "severity": severity, "case": format!("c{case}")})
    });
    let labels: Vec<Value> = of_cases.collect();
    let numbered: Vec<_> = labels.iter().enumerate().collect();
    for (file, config) in configurations() {
        let events = events(&load(&config).unwrap(), &numbered);
        assert_eq!(events.len(), cases.len(), "{file}");
        for (case, event) in cases.iter().zip(events.values()) {
            assert_eq!(event["state"], case.2, "{file}: {case:?}");
        }
    }
}

#[test]
fn both_files_have_the_same_rules() {
    let [shipped, kubernetes] = configurations().map(|(file, config)| {
        let checked = run_with_config(&config, "--check", "");
        assert_eq!(
            (checked.status, checked.stderr.as_str()),
            (Some(0), ""),
            "{file}"
        );
        let (_, rules) = config.split_once("\ncomponent:\n").unwrap();
        let (rules, _) = rules.split_once("\noutput:").unwrap();
        let rules = rules.lines().map(str::trim_end);
        let rules = rules.filter(|line| !line.is_empty() && !line.starts_with('#'));
        rules.map(str::to_owned).collect::<Vec<String>>()
    });
    assert!(shipped.len() > 50);
    assert_eq!(
        shipped, kubernetes,
        "the mapping of Kubernetes differs from config.yml"
    );
}

#[test]
fn the_example_of_perf_data_fits_grafana() {
    let [(_, config), _] = configurations();
    let config = config.replace("# perf_data:", "perf_data:");
    let sent = payload("grafana-firing-and-resolved");
    let printed = run_with_config(&config, "--dry-run -", &sent);
    assert_eq!(printed.stderr, "Summary of 2 alerts: 2 events\n");
    let events = printed.events();
    let measures: Vec<&Value> = events.iter().map(|event| &event["perf_data"]).collect();
    assert_eq!(measures, [&json!("B=22.500"), &Value::Null]);
}
