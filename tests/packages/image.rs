//! The container image, built from the Dockerfile and run with restricted privileges.

use std::path::Path;

use crate::support::broker::Broker;
use crate::support::connector::MAPPING;
use crate::support::documents::document;
use crate::support::http::Client;
use crate::support::image::{COMMIT, CREATED, Container, DIGEST, Image, SOURCE, TESTS, VERSION};
use crate::support::{TOKEN, TempDir, free_port, notification, payload, wait_until};
use serde_json::{Value, json};

/// Where the project is: the `URL` of the package.
const PROJECT: &str = "https://git.canopsis.net/canopsis-connectors/connector-prometheus";

/// The size without busybox:glibc, in bytes: the binary 3.4 MB, OpenSSL 5.4 MB, libgcc and the certificates 0.3 MB. The official base
/// image has 4.5 MB, the substitute of `scripts/base-images` 4.0 MB.
const SIZE_LIMIT: u64 = 9_200_000;

const LABEL: &str = "org.opencontainers.image";

/// Docker may set a proxy in every container; the health check must not use it.
const PROXY: &str = "--env=http_proxy=http://127.0.0.1:9";

/// Waits until a container accepts notifications, and returns a client of it.
fn client(container: &Container) -> Client {
    let mut client = Client::new(container.address);
    wait_until("the container is ready", || {
        client.send("GET", "/-/ready", &[], b"").unwrap().status == 200
    });
    assert!(container.is_healthy());
    client
}

#[test]
fn the_image_has_its_metadata_and_runs_as_its_user() {
    let image = Image::shared();
    let inspected = image.inspect();
    let config = &inspected["Config"];
    for (key, expected) in [
        ("User", json!("18401:18401")),
        (
            "Entrypoint",
            json!(["/usr/bin/canopsis-connector-prometheus"]),
        ),
        ("StopSignal", json!("SIGTERM")),
        ("ExposedPorts", json!({"18401/tcp": {}})),
    ] {
        assert_eq!(config[key], expected, "{key}");
    }
    let health_check = &inspected["Healthcheck"]["Test"];
    assert_eq!(
        health_check,
        &json!(["CMD", "/usr/bin/healthcheck"]),
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
        ("base.name", &format!("{TESTS}/busybox")),
        ("base.digest", DIGEST),
    ] {
        assert_eq!(config["Labels"][format!("{LABEL}.{name}")], value);
    }
    let licenses = config["Labels"][format!("{LABEL}.licenses")].as_str();
    let spec = document("canopsis-connector-prometheus.spec");
    let (_, of_binary) = spec.split_once("\nLicense:        ").unwrap();
    let expected = format!("{} AND ", of_binary.lines().next().unwrap());
    assert!(licenses.unwrap().starts_with(&expected), "{licenses:?}");
    let size = inspected["Size"].as_u64().unwrap() - image.base_size();
    assert!(
        size <= SIZE_LIMIT,
        "{size} bytes are more than {SIZE_LIMIT}"
    );

    let directory = "/usr/share/licenses/canopsis-connector-prometheus";
    let listed = image.run("--entrypoint=/bin/ls", directory);
    assert_eq!(
        listed.stdout,
        b"LICENSE\nOpenSSL\nTHIRD-PARTY-LICENSES\nlibgcc\n"
    );

    let version = format!("connector-prometheus {VERSION} (commit {}", &COMMIT[..12]);
    let (health_check, not_running) = (
        "--entrypoint=/usr/bin/healthcheck",
        "healthcheck: the connector is not running",
    );
    for (options, arguments, status, expected) in [
        ("", "--version", 0, version.as_str()),
        // The shipped configuration is at the default path and readable for the image's user.
        ("", "--check", 0, "is valid"),
        // The health check fails without a running connector.
        (health_check, "", 1, not_running),
    ] {
        let output = image.run(options, arguments);
        let printed = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert_eq!(output.status.code(), Some(status), "{printed}");
        assert!(printed.contains(expected), "{printed}");
    }
}

#[test]
fn the_image_is_not_built_without_a_version() {
    if Path::new(".version").exists() {
        return; // a release archive has a version
    }
    let no_version = "version: neither a file .version nor a git repository has the version";
    for (settings, reason) in [
        (String::new(), no_version),
        (format!("VERSION={VERSION}"), "version: .commit is missing"),
    ] {
        let log = Image::shared()
            .build(&format!("{TESTS}/none"), &settings)
            .unwrap_err();
        assert!(log.contains(reason), "{log}");
    }
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
    let port = free_port();
    let container = Image::shared().start(
        port,
        &format!(
            "--env=CPS_AMQP_URL={} --env=PROMETHEUS_BEARER_TOKEN_FILE=/run/secrets/token --volume={token}:/run/secrets/token:ro \
             --env=PROMETHEUS_LISTEN=127.0.0.1:{port} {PROXY}",
            broker.url("canopsis"),
        ),
    );
    let mut client = client(&container);

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
    for message in received {
        assert_eq!(message.event["connector"], "prometheus", "{message:?}");
    }

    assert_eq!(container.stop(), "0");
    assert!(container.log().contains("stopped"), "{}", container.log());
    for secret in [TOKEN, "cpsrabbit:canopsis"] {
        assert!(!container.log().contains(secret), "{secret} in the log");
    }
}

#[test]
fn tls_works_with_a_ca_file_and_with_the_bundled_certificates() {
    let broker = Broker::shared_with_tls();
    let tls = broker.dir.join("tls");
    let dir = TempDir::new("image");
    let files = "ca_file: /tls/ca.pem, cert_file: /tls/client.pem, key_file: /tls/client-key.pem";
    let tls = tls.display();
    // Certificates from the configuration file; certificates from the environment, and the CA in the image's bundle, which OpenSSL
    // reads by default.
    for from_file in [true, false] {
        let port = free_port();
        let options = if from_file {
            let http = format!("http: {{listen: '127.0.0.1:{port}'}}");
            let config = dir.file(
                "config.yml",
                &format!("amqp: {{{files}}}\n{http}\n{MAPPING}"),
            );
            format!(
                "--volume={config}:/etc/canopsis-connectors/prometheus/config.yml:ro --volume={tls}/ca.pem:/tls/ca.pem:ro"
            )
        } else {
            format!(
                "--env=PROMETHEUS_LISTEN=127.0.0.1:{port} --env=CPS_AMQP_CERT_FILE=/tls/client.pem \
                 --env=CPS_AMQP_KEY_FILE=/tls/client-key.pem --volume={tls}/ca.pem:/etc/ssl/certs/ca-certificates.crt:ro"
            )
        };
        let all = format!(
            "{options} --env=CPS_AMQP_URL=amqps://cpsrabbit:canopsis@localhost:{}/v0 --env=PROMETHEUS_BEARER_TOKEN={TOKEN} \
             --volume={tls}/client.pem:/tls/client.pem:ro --volume={tls}/client-key.pem:/tls/client-key.pem:ro",
            broker.port
        );
        let container = Image::shared().start(port, &all);
        let response = client(&container).post(&notification(&["a"])).unwrap();
        assert_eq!(response.status, 200, "{all}");
    }
}
