//! The real tools accept the files.

use std::fs;

use serde_json::json;

use super::{CONFIG, JOB, RULES, list, run_tool, text, with_https, yaml};
use crate::support::certificates::Subject;
use crate::support::connector::run;
use crate::support::tls::Authority;
use crate::support::{TOKEN, TempDir, assert_success};

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

/// The variant of the scrape job is tested with a real Prometheus.
#[test]
fn compose_has_a_valid_variant_for_https() {
    let compose = yaml(&with_https(&fs::read_to_string("compose.yml").unwrap()));
    for service in ["connector", "alertmanager"] {
        let volumes = list(&compose["services"][service]["volumes"]);
        let mounted = json!("./contrib/compose/tls:/run/tls:ro");
        assert!(volumes.contains(&mounted), "{service}: {volumes:?}");
    }

    // It has the names of the files that compose.yml describes.
    let authority = Authority::new();
    let (_, key) = authority.issue("tls", Subject::host("connector"));
    fs::write(authority.dir.join("token"), TOKEN).unwrap();
    let dir = authority.dir.to_str().unwrap();
    let environment = compose["services"]["connector"]["environment"]
        .as_object()
        .unwrap();
    let environment: Vec<(&str, String)> = environment
        .iter()
        .map(|(name, value)| {
            let value = text(value).replace("/run/tls", dir);
            (name.as_str(), value.replace("/run/secrets", dir))
        })
        .collect();
    let environment: Vec<(&str, &str)> = environment
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
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
    assert_eq!(
        webhook["http_config"]["tls_config"]["ca_file"],
        "/run/tls/ca.pem"
    );
    let path = authority.dir.join("alertmanager.yml");
    fs::write(&path, alertmanager).unwrap();
    run_tool(&["amtool", "check-config", path.to_str().unwrap()]);
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
    assert!(
        service.contains(&format!("<port protocol=\"tcp\" port=\"{port}\"/>")),
        "{service}"
    );
}

/// The examples for Prometheus in the comments of the manifest give the pod the job that the alerting rules expect.
#[test]
fn the_pod_of_kubernetes_has_the_job_of_the_rules() {
    let manifest = fs::read_to_string("contrib/kubernetes.yml").unwrap();
    let comment = manifest
        .lines()
        .map_while(|line| line.strip_prefix('#'))
        .map(|line| line.strip_prefix("   ").unwrap_or(""));
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
