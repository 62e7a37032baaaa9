//! What a new user does, as the documents show it, with real servers.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;

use crate::support::alertmanager::Alertmanager;
use crate::support::broker::{Admin, Broker};
use crate::support::connector::{BINARY, Connector, MAPPING, config};
use crate::support::documents::{command, document, marked, only, quick_start};
use crate::support::{
    ProcessGroup, TOKEN, TempDir, TempFile, assert_success, free_port, notification, serve,
    wait_until,
};
use serde_json::{Value, json};

/// A separate system for the commands of the documents: names and paths of the examples are replaced, and `PATH` begins with a
/// `canopsis-connector-prometheus` that uses its configuration and port by default, and with a `systemctl` that starts it.
struct Sandbox {
    dir: TempDir,
    admin: Admin,
    port: u16,
}

const DIRECTORY: &str = "/etc/canopsis-connectors/prometheus";

impl Sandbox {
    fn new() -> Self {
        let sandbox = Self {
            dir: TempDir::new("documents"),
            admin: Admin::fresh(),
            port: free_port(),
        };
        let (dir, port) = (sandbox.dir.path().display(), sandbox.port);
        let options = format!("--config {dir}/config.yml --host 127.0.0.1 --port {port}");
        sandbox.program(
            "canopsis-connector-prometheus",
            &format!("{BINARY} {options} \"$@\""),
        );
        sandbox.program("systemctl", "canopsis-connector-prometheus");
        sandbox
    }

    /// A program that executes a command.
    fn program(&self, name: &str, command: &str) {
        fs::create_dir_all(self.dir.path().join("bin")).unwrap();
        let script = format!("#!/bin/sh\nexec {command}\n");
        self.dir.program(&format!("bin/{name}"), &script);
    }

    fn replaced(&self, text: &str) -> String {
        let address = format!("127.0.0.1:{}", self.port);
        text.replace(DIRECTORY, self.dir.path().to_str().unwrap())
            .replace("rabbitmq.example/canopsis", &self.authority())
            .replace("127.0.0.1:18401", &address)
            .replace("connector.example:18401", &address)
            .replace("THE-TOKEN", TOKEN)
    }

    /// The port and the virtual host of the broker.
    fn authority(&self) -> String {
        format!("127.0.0.1:{}/{}", self.admin.port, self.admin.vhost)
    }

    fn write(&self, name: &str, text: &str) -> String {
        self.dir.file(name, &self.replaced(text))
    }

    /// Runs a script in the directory, and returns its standard output.
    fn run(&self, script: &str) -> String {
        let script = self.replaced(script);
        let output = command(&self.dir, &script)
            .env("TOKEN", TOKEN)
            .output()
            .unwrap();
        assert_success(&output, &script);
        String::from_utf8(output.stdout).unwrap()
    }

    /// Starts the service with a script that does not end, and waits until its log has a text. Returns the log.
    fn start(&self, script: &str, expected: &str) -> (ProcessGroup, String) {
        let (dir, path) = (self.dir.path().display(), std::env::var("PATH").unwrap());
        let (log, path) = (
            format!("{dir}/service.log"),
            format!("PATH={dir}/bin:{path}"),
        );
        let command = ["env", &path, "sh", "-ec", &self.replaced(script)];
        let group = ProcessGroup::start(&command, &log, "");
        let read = || fs::read_to_string(&log).unwrap_or_default();
        wait_until(&format!("{expected:?} in the log"), || {
            read().contains(expected)
        });
        (group, read())
    }

    /// Starts an Alertmanager with a block of the documents.
    fn start_alertmanager(&self, block: &str) -> Alertmanager {
        let ca = self.dir.path().join("ca.pem");
        let config = marked(block)[0]
            .text
            .replace("/etc/prometheus/canopsis-ca.pem", ca.to_str().unwrap())
            // Instead of the default of 30 s.
            .replace(
                "  receiver: canopsis\n",
                "  receiver: canopsis\n  group_wait: 0s\n",
            );
        Alertmanager::with_config("", &self.replaced(&config))
    }

    /// The next event in the queue.
    fn next_event(&self) -> Value {
        let mut received = Vec::new();
        wait_until("an event arrives in the queue", || {
            received = self.admin.drain();
            !received.is_empty()
        });
        assert_eq!(received.len(), 1, "{received:?}");
        received.remove(0).event
    }
}

#[test]
fn the_quick_start_brings_an_alert_into_the_queue() {
    let sandbox = Sandbox::new();
    sandbox.write("config.yml", &quick_start());
    let readme = document("README.md");
    let line = "connected to RabbitMQ broker=amqp://cpsrabbit@rabbitmq.example:5672/canopsis exchange=canopsis.events";
    let logged = line.replace("rabbitmq.example:5672/canopsis", &sandbox.authority());
    let (_service, log) = sandbox.start(&marked("quick start, start")[0].text, &logged);
    assert!(log.contains("config.yml is valid"), "{log}");

    let printed = sandbox.run(&marked("quick start, alert")[0].text);
    assert_eq!(printed, "{\"published\":1}\n");
    let event = sandbox.next_event();
    let expected = json!({
        "connector": "prometheus", "connector_name": "prod", "component": "test", "resource": "Test instance=test", "state": 3,
        "output": "a test",
    });
    for shown in [
        &format!("`{line}`"),
        "`{\"published\":1}`",
        "the resource `Test instance=test` on the component `test`",
    ] {
        assert!(readme.contains(shown), "{shown}");
    }
    for (key, value) in expected.as_object().unwrap() {
        assert_eq!(&event[key], value, "{key}");
    }
    for block in marked("readiness") {
        assert!(sandbox.run(&block.text).contains("\"ready\""));
    }

    // The whole path: Alertmanager with the block of the README, and an alert by amtool.
    let alertmanager = sandbox.start_alertmanager("quick start, Alertmanager");
    let amtool = &marked("quick start, amtool")[0].text;
    sandbox.run(&amtool.replace("localhost:9093", &alertmanager.address.to_string()));
    assert_eq!(sandbox.next_event()["component"], "other");
}

/// The commands prepare a RabbitMQ so that an event of the connector is in the queue.
#[test]
fn a_trial_needs_no_canopsis() {
    let sandbox = Sandbox::new();
    sandbox.program("rabbitmqctl", &Broker::shared().ctl_command());
    let (vhost, user) = ("trial of the documents", "trial");
    let script = only("trial, RabbitMQ")
        .replace("-p canopsis", &format!("-p '{vhost}'"))
        .replace("add_vhost canopsis", &format!("add_vhost '{vhost}'"))
        .replace("\"canopsis\"", &format!("\"{vhost}\""))
        .replace("cpsrabbit", user);
    let (before, list) = script.trim_end().rsplit_once('\n').unwrap();
    sandbox.run(before);
    let url = format!(
        "amqp://{user}:canopsis@127.0.0.1:{}/{}",
        sandbox.admin.port,
        vhost.replace(' ', "%20")
    );
    let connector = Connector::on(&url);
    assert_eq!(connector.post(&notification(&["Trial"])).status, 200);
    let queues = sandbox.run(list);
    assert!(queues.contains("Engine_fifo\t1"), "{queues}");
}

#[test]
fn https_is_set_up_as_documented() {
    let sandbox = Sandbox::new();
    let certificate = marked("HTTPS, certificate").remove(0).text;
    sandbox.run(&certificate.replace("DNS:connector.example", "IP:127.0.0.1"));
    let config = quick_start().replace("http:\n", &marked("HTTPS, configuration")[0].text);
    sandbox.write("config.yml", &config);
    let script = "canopsis-connector-prometheus --check; exec canopsis-connector-prometheus";
    let (_service, log) = sandbox.start(script, "connected to RabbitMQ");
    assert!(log.contains("certificate expires"), "{log}");
    let curl = marked("quick start, alert").remove(0).text;
    let https = curl
        .replace("http://127", "https://127")
        .replace("curl ", "curl --cacert ca.pem ");
    assert_eq!(sandbox.run(&https), "{\"published\":1}\n");
    assert_eq!(sandbox.next_event()["component"], "test");
    assert!(sandbox.run(&curl).contains("use https://"));
    let shown = sandbox.run(&only("show the certificate"));
    assert!(shown.contains("CN = connector.example"), "{shown}");
    // The example for Prometheus, with the lines that the document says to uncomment.
    let mut prometheus = document("contrib/prometheus-scrape.yml");
    for line in [
        "scheme: https",
        "tls_config:",
        "  ca_file: canopsis-ca.pem",
        "authorization:",
        "  credentials_file: canopsis-token",
    ] {
        let commented = format!("\n    # {line}\n");
        assert!(prometheus.contains(&commented), "{commented:?}");
        prometheus = prometheus.replace(&commented, &format!("\n    {line}\n"));
    }
    sandbox.run("cp ca.pem canopsis-ca.pem");
    sandbox.write("canopsis-token", TOKEN);
    let rules = document("contrib/prometheus-rules.yml");
    sandbox.write("prometheus-rules.yml", &rules);
    sandbox.write("prometheus.yml", &prometheus);
    sandbox.run("promtool check config prometheus.yml");
    let alertmanager = sandbox.start_alertmanager("HTTPS, Alertmanager");
    let url = format!("--alertmanager.url=http://{}", alertmanager.address);
    sandbox.run(&format!(
        "amtool alert add alertname=Https instance=test {url}"
    ));
    assert_eq!(sandbox.next_event()["resource"], "Https instance=test");
}

/// Both spellings of the token that `docs/migration.md` names.
#[test]
fn alertmanager_accepts_both_spellings_of_the_token() {
    for spelling in ["bearer_token: x", "authorization: {credentials: x}"] {
        let config = TempFile::new(&format!(
            "route: {{receiver: a}}\nreceivers:\n- name: a\n  webhook_configs:\n  - url: http://a/webhook\n    http_config: \
             {{{spelling}}}\n"
        ));
        let checked = Command::new("amtool")
            .args(["check-config", &config])
            .output();
        assert_success(&checked.unwrap(), spelling);
    }
}

#[test]
fn the_licences_are_those_of_the_linked_crates() {
    let checked = Command::new("scripts/licenses").arg("--check").output();
    assert_success(&checked.unwrap(), "scripts/licenses");
}

/// Broker URLs without `://cpsrabbit:`, and what `docs/troubleshooting.md` says the log has.
const FAULTS: &str = "
amqp canopsis@127.0.0.1:CLOSED/v0 | cannot connect to RabbitMQ: ... Connection refused
amqp wrong@127.0.0.1:PLAIN/v0 | probably a wrong user or password
amqp canopsis@127.0.0.1:PLAIN/none | NOT_ALLOWED - vhost ... not found
amqp canopsis@127.0.0.1:PLAIN/EMPTY | cannot use the exchange: ... NOT_FOUND
amqps canopsis@127.0.0.1:PLAIN/v0 | TLS handshake failed: ... (no TLS on this port? amqps:// usually has port 5671)
amqp canopsis@127.0.0.1:SECURE/v0 | the server requires TLS: use amqps://
amqps canopsis@localhost:SECURE/v0 | certificate verify failed
amqp canopsis@127.0.0.1:OTHER/v0 | the server does not speak AMQP; this may not be the AMQP port (5672, 5671 with TLS)
amqp canopsis@127.0.0.1:SILENT/v0 | no answer for 5s; this may not be the AMQP port (5672, 5671 with TLS), or the node is frozen
amqp canopsis@127.0.0.1:CLOSING/v0 | the server closed the connection; this may not be the AMQP port (5672, 5671 with TLS), or it requires TLS: use amqps://
";

/// Each row of the table in `docs/troubleshooting.md` whose fault can be caused here: the log has the words of its first cell.
#[test]
fn faults_of_the_connection_are_logged_as_documented() {
    let admin = Admin::fresh();
    admin.delete_exchange();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut faults = FAULTS.replace("EMPTY", &admin.vhost);
    for (name, port) in [
        ("CLOSED", free_port()),
        ("PLAIN", admin.port),
        ("SECURE", Broker::shared_with_tls().port),
        // As Alertmanager's port.
        ("SILENT", silent.local_addr().unwrap().port()),
        (
            "OTHER",
            serve(|mut stream| drop(stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n"))),
        ),
        (
            "CLOSING",
            serve(|mut stream| drop(stream.read_exact(&mut [0; 8]))),
        ),
    ] {
        faults = faults.replace(name, &port.to_string());
    }
    let page = document("docs/troubleshooting.md");
    let rows = faults.trim().lines();
    let connectors: Vec<(Connector, &str)> = rows
        .map(|row| {
            let (url, message) = row.split_once(" | ").unwrap();
            assert!(page.contains(&format!("`{message}`")), "{message}");
            let text = config(&url.replace(' ', "://cpsrabbit:"), "", MAPPING);
            (Connector::with(&text, &[]), message)
        })
        .collect();
    for (mut connector, message) in connectors {
        for part in message.split(" ... ") {
            connector.wait_for_log(part);
        }
    }
}
