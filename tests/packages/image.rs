//! The container image, built from the Dockerfile and run with restricted privileges.

use std::path::Path;

use crate::support::broker::Broker;
use crate::support::connector::MAPPING;
use crate::support::http::Client;
use crate::support::image::{COMMIT, CREATED, Container, DIGEST, Image, SOURCE, VERSION};
use crate::support::{
    TOKEN, TempDir, assert_success, free_port, notification, payload, wait_until,
};
use serde_json::{Value, json};

/// Where the project is: the `URL` of the package.
const PROJECT: &str = "https://git.canopsis.net/canopsis-connectors/connector-prometheus";

/// The size without busybox:glibc, in bytes: the binary 3.4 MB, OpenSSL 5.4 MB, libgcc and the certificates 0.3 MB. The official base
/// image has 4.5 MB, the substitute of `scripts/base-images` 4.0 MB.
const SIZE_LIMIT: u64 = 9_200_000;

/// Podman's option for a read-only mount.
fn volume(from: &str, to: &str) -> String {
    format!("--volume={from}:{to}:ro")
}

#[test]
fn the_image_has_its_metadata_and_runs_as_its_user() {
    let image = Image::shared();
    let inspected = image.inspect();
    let config = &inspected["Config"];
    assert_eq!(config["User"], "18401:18401");
    assert_eq!(
        config["Entrypoint"],
        json!(["/usr/bin/canopsis-connector-prometheus"])
    );
    assert_eq!(config["StopSignal"], "SIGTERM");
    assert_eq!(config["ExposedPorts"], json!({"18401/tcp": {}}));
    assert_eq!(
        inspected["Healthcheck"]["Test"],
        json!(["CMD", "/usr/bin/healthcheck"]),
        "{inspected:#}"
    );
    for (name, value) in [
        ("title", "canopsis-connector-prometheus"),
        (
            "description",
            "Turns Prometheus Alertmanager notifications into Canopsis events on RabbitMQ",
        ),
        ("vendor", "The maintainers of canopsis-connector-prometheus"),
        ("url", PROJECT),
        ("documentation", &format!("{PROJECT}/-/blob/main/README.md")),
        ("version", VERSION),
        ("revision", COMMIT),
        ("created", CREATED),
        ("source", SOURCE),
        ("base.name", "localhost/ccp-test/busybox"),
        ("base.digest", DIGEST),
    ] {
        assert_eq!(
            config["Labels"][format!("org.opencontainers.image.{name}")],
            value
        );
    }
    let licenses = &config["Labels"]["org.opencontainers.image.licenses"];
    let spec = std::fs::read_to_string("canopsis-connector-prometheus.spec").unwrap();
    let (_, of_binary) = spec.split_once("\nLicense:        ").unwrap();
    let of_binary = of_binary.lines().next().unwrap();
    assert!(
        licenses
            .as_str()
            .unwrap()
            .starts_with(&format!("{of_binary} AND ")),
        "{licenses}"
    );
    let output = image.run(
        &["--entrypoint=/bin/ls"],
        &["/usr/share/licenses/canopsis-connector-prometheus"],
    );
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        "LICENSE\nOpenSSL\nTHIRD-PARTY-LICENSES\nlibgcc\n"
    );
    let size = inspected["Size"].as_u64().unwrap() - image.base_size();
    assert!(
        size <= SIZE_LIMIT,
        "{size} bytes are more than {SIZE_LIMIT}"
    );

    let output = image.run(&[], &["--version"]);
    let version = String::from_utf8(output.stdout).unwrap();
    assert!(
        version.contains(&format!(" {VERSION} (commit {}", &COMMIT[..12])),
        "{version:?}"
    );
    // The shipped configuration is at the default path and readable for the image's user.
    let output = image.run(&[], &["--check"]);
    assert_success(&output, "--check");
    // The health check fails without a running connector.
    let output = image.run(&["--entrypoint=/usr/bin/healthcheck"], &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&output.stderr)
            .contains("healthcheck: the connector is not running")
    );
}

#[test]
fn the_image_is_not_built_without_a_version() {
    if Path::new(".version").exists() {
        return; // a release archive has a version
    }
    let image = Image::shared();
    let log = image.build("localhost/ccp-test/none", &[]).unwrap_err();
    assert!(
        log.contains("version: neither a file .version nor a git repository has the version"),
        "{log}"
    );
    let log = image
        .build("localhost/ccp-test/none", &[("VERSION", VERSION)])
        .unwrap_err();
    assert!(log.contains("version: .commit is missing"), "{log}");
}

#[test]
fn a_container_delivers_every_notification_and_stops_on_sigterm() {
    // Uses the topology of compose.yml, to test that file as well.
    let broker = Broker::shared();
    let definitions = Path::new("contrib/compose/definitions.json")
        .canonicalize()
        .unwrap();
    broker.ctl(&["import_definitions", definitions.to_str().unwrap()]);
    let admin = broker.admin("canopsis");

    let dir = TempDir::new("image");
    let token = dir.file("token", &format!("{TOKEN}\n"));
    let url = format!("--env=CPS_AMQP_URL={}", broker.url("canopsis"));
    let file = "--env=PROMETHEUS_BEARER_TOKEN_FILE=/run/secrets/token";
    let port = free_port();
    let listen = format!("--env=PROMETHEUS_LISTEN=127.0.0.1:{port}");
    // Docker may set a proxy in every container; the health check must not use it.
    let proxy = "--env=http_proxy=http://127.0.0.1:9";
    let container = Image::shared().start(
        port,
        &[
            &url,
            file,
            &listen,
            proxy,
            &volume(&token, "/run/secrets/token"),
        ],
    );
    let mut client = Client::new(container.address);
    wait_until("the container is ready", || {
        client.send("GET", "/-/ready", &[], b"").unwrap().status == 200
    });
    assert!(container.is_healthy());

    let wrong = client.send(
        "POST",
        "/webhook",
        &["Authorization: Bearer guessed"],
        payload("firing-one").as_bytes(),
    );
    assert_eq!(wrong.unwrap().status, 401);
    let mut sent = 0;
    for file in std::fs::read_dir("tests/data/payloads").unwrap() {
        let body = std::fs::read_to_string(file.unwrap().path()).unwrap();
        let alerts: Value = serde_json::from_str(&body).unwrap();
        sent += alerts["alerts"].as_array().unwrap().len();
        let response = client.post(&body).unwrap();
        assert_eq!(response.status, 200, "{}", response.body);
    }
    let received = admin.drain();
    assert_eq!(received.len(), sent);
    assert!(
        received
            .iter()
            .all(|one| one.event["connector"] == "prometheus"),
        "{received:?}"
    );

    assert_eq!(container.stop(), "0");
    assert!(container.log().contains("stopped"), "{}", container.log());
    for secret in [TOKEN, "cpsrabbit:canopsis"] {
        assert!(!container.log().contains(secret), "{secret} in the log");
    }
}

#[test]
fn tls_works_with_a_ca_file_and_with_the_bundled_certificates() {
    let mut broker = Broker::prepare();
    let tls = broker.make_certificates();
    broker.run();
    let url = format!(
        "--env=CPS_AMQP_URL=amqps://cpsrabbit:canopsis@localhost:{}/v0",
        broker.port
    );
    let token = format!("--env=PROMETHEUS_BEARER_TOKEN={TOKEN}");
    let mount = |from: &str, to: &str| volume(tls.join(from).to_str().unwrap(), to);
    let (cert, key) = (
        mount("client.pem", "/tls/client.pem"),
        mount("client-key.pem", "/tls/client-key.pem"),
    );
    let talk = |container: &Container| {
        let mut client = Client::new(container.address);
        wait_until("the container is ready", || {
            client.send("GET", "/-/ready", &[], b"").unwrap().status == 200
        });
        assert_eq!(client.post(&notification(&["a"])).unwrap().status, 200);
        assert!(container.is_healthy());
    };

    // Certificates from the configuration file.
    let port = free_port();
    let files = "ca_file: /tls/ca.pem, cert_file: /tls/client.pem, key_file: /tls/client-key.pem";
    let config = format!("amqp: {{{files}}}\nhttp: {{listen: '127.0.0.1:{port}'}}\n{MAPPING}");
    let dir = TempDir::new("image");
    let file = dir.file("config.yml", &config);
    let config = volume(&file, "/etc/canopsis-connectors/prometheus/config.yml");
    talk(&Image::shared().start(
        port,
        &[
            &url,
            &token,
            &config,
            &cert,
            &key,
            &mount("ca.pem", "/tls/ca.pem"),
        ],
    ));

    // Certificates from the environment, and the CA in the image's bundle, which OpenSSL reads by default.
    let port = free_port();
    let listen = format!("--env=PROMETHEUS_LISTEN=127.0.0.1:{port}");
    let files = [
        "--env=CPS_AMQP_CERT_FILE=/tls/client.pem",
        "--env=CPS_AMQP_KEY_FILE=/tls/client-key.pem",
    ];
    let bundle = mount("ca.pem", "/etc/ssl/certs/ca-certificates.crt");
    talk(&Image::shared().start(
        port,
        &[
            &url, &token, &listen, files[0], files[1], &cert, &key, &bundle,
        ],
    ));
}

#[test]
fn the_rust_version_is_the_same_everywhere() {
    let toolchain = std::fs::read_to_string("rust-toolchain.toml").unwrap();
    let (_, channel) = toolchain.split_once("channel = \"").unwrap();
    let channel = channel.split('"').next().unwrap();
    let image = format!("docker.io/library/rust:{channel}-bookworm");
    assert!(
        std::fs::read_to_string("Dockerfile")
            .unwrap()
            .contains(&format!("ARG RUST_IMAGE={image}\n"))
    );
    assert!(
        std::fs::read_to_string(".gitlab-ci.yml")
            .unwrap()
            .contains(&format!("  RUST_IMAGE: {image}\n"))
    );
}
