//! The real tools accept the files.

use std::fs;

use serde_json::json;

use super::{CONFIG, JOB, list, run_tool, text, with_https, yaml};
use crate::support::certificates::Subject;
use crate::support::connector::run;
use crate::support::tls::Authority;
use crate::support::{TOKEN, TempDir, assert_success};

#[test]
fn the_tools_accept_the_files() {
    for (command, printed) in [
        ("promtool check rules contrib/prometheus-rules.yml", ""),
        ("promtool check rules contrib/prometheus-watchdog.yml", ""),
        (
            "promtool test rules contrib/prometheus-rules-test.yml",
            "SUCCESS",
        ),
        (
            "promtool check config contrib/prometheus-scrape.yml",
            "1 rule files found",
        ),
        ("amtool check-config contrib/alertmanager.yml", ""),
    ] {
        let command: Vec<&str> = command.split(' ').collect();
        let output = run_tool(&command);
        assert!(output.contains(printed), "{command:?}: {output}");
    }
}

/// The variant of the scrape job is tested with a real Prometheus.
#[test]
fn compose_has_a_valid_variant_for_https() {
    let compose = with_https(&fs::read_to_string("compose.yml").unwrap());
    for service in ["connector", "alertmanager"] {
        let volumes = yaml(&compose)["services"][service]["volumes"].clone();
        let mounted = json!("./contrib/compose/tls:/run/tls:ro");
        assert!(list(&volumes).contains(&mounted), "{service}: {volumes}");
    }

    // It has the names of the files that compose.yml describes.
    let authority = Authority::new();
    let (_, key) = authority.issue("tls", Subject::host("connector"));
    authority.dir.file("token", TOKEN);
    let dir = authority.dir.path().to_str().unwrap();
    let compose = yaml(
        &compose
            .replace("/run/tls", dir)
            .replace("/run/secrets", dir),
    );
    let variables = &compose["services"]["connector"]["environment"];
    let variables = variables.as_object().unwrap().iter();
    let environment: Vec<(&str, &str)> = variables
        .map(|(name, value)| (name.as_str(), text(value)))
        .collect();
    let check = || run(&["-c", "config.yml", "--check"], &environment, "");
    assert_success(&check(), "--check");
    fs::remove_file(key).unwrap();
    let errors = String::from_utf8(check().stderr).unwrap();
    assert!(errors.contains("tls-key.pem"), "{errors}");

    let alertmanager = fs::read_to_string("contrib/compose/alertmanager.yml").unwrap();
    let alertmanager = with_https(&alertmanager).replace("http://connector", "https://connector");
    let webhook = &yaml(&alertmanager)["receivers"][0]["webhook_configs"][0];
    assert_eq!(webhook["url"], "https://connector:18401/webhook");
    let ca_file = &webhook["http_config"]["tls_config"]["ca_file"];
    assert_eq!(ca_file, "/run/tls/ca.pem");
    let path = authority.dir.file("alertmanager.yml", &alertmanager);
    run_tool(&["amtool", "check-config", &path]);
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
fn the_firewall_opens_the_port_of_the_configuration() {
    let listen = yaml(CONFIG)["http"]["listen"].clone();
    let port = text(&listen).rsplit_once(':').unwrap().1;
    let service = fs::read_to_string("contrib/firewalld.xml").unwrap();
    let opened = format!("<port protocol=\"tcp\" port=\"{port}\"/>");
    assert!(service.contains(&opened), "{service}");
}

/// The examples for Prometheus in the comments of the manifest give the pod the job that the alerting rules expect.
#[test]
fn the_pod_of_kubernetes_has_the_job_of_the_rules() {
    let manifest = fs::read_to_string("contrib/kubernetes.yml").unwrap();
    let comment = manifest.lines().map_while(|line| line.strip_prefix('#'));
    let comment = comment.map(|line| line.strip_prefix("   ").unwrap_or(""));
    let comment = comment.collect::<Vec<_>>().join("\n");
    let block = |start: &str| {
        let (_, rest) = comment.split_once(start).unwrap();
        format!("{start}{}", rest.split("\n\n").next().unwrap())
    };
    let monitor = yaml(&block("apiVersion:"));
    let job_label = text(&monitor["spec"]["jobLabel"]);
    assert_eq!(monitor["spec"]["selector"]["matchLabels"][job_label], JOB);
    let labels = format!("      labels: {{{job_label}: {JOB}}}\n    spec:");
    assert!(manifest.contains(&labels), "the pod has no {job_label}");

    let dir = TempDir::new("scrape");
    let job = block("- job_name:");
    // Debian's Prometheus is built without the discovery of Kubernetes.
    let discovery = "kubernetes_sd_configs: [{role: pod}]";
    assert!(job.contains(discovery));
    let known = job.replace(discovery, "static_configs: [{targets: [a]}]");
    let path = dir.file("prometheus.yml", &format!("scrape_configs:\n{known}\n"));
    run_tool(&["promtool", "check", "config", &path]);
    assert_eq!(yaml(&job)[0]["job_name"], JOB);
}
