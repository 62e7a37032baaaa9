//! What a new user does, as the documents show it, with real servers.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::broker::{Admin, Broker};
use crate::support::connector::{BINARY, Connector};
use crate::support::documents::{document, marked, only, quick_start};
use crate::support::http::Client;
use crate::support::{
    ProcessGroup, TOKEN, TempDir, assert_success, free_port, notification, wait_until,
};
use serde_json::{Value, json};

/// A separate system for the commands of the documents: names and paths of the examples are replaced, and `PATH` begins with a
/// `canopsis-connector-prometheus` that uses its configuration and port by default, and with a `systemctl` that starts it.
struct Sandbox {
    dir: TempDir,
    broker: &'static Broker,
    vhost: String,
    port: u16,
}

const DIRECTORY: &str = "/etc/canopsis-connectors/prometheus";

impl Sandbox {
    fn new() -> Self {
        let dir = TempDir::new("documents");
        fs::create_dir(dir.path().join("bin")).unwrap();
        let broker = Broker::shared();
        let sandbox = Self {
            vhost: broker.fresh_vhost(),
            broker,
            port: free_port(),
            dir,
        };
        let program = format!(
            "#!/bin/sh\nexec {BINARY} --config {}/config.yml --host 127.0.0.1 --port {} \"$@\"\n",
            sandbox.dir.path().display(),
            sandbox.port
        );
        let path = "bin/canopsis-connector-prometheus";
        sandbox.dir.program(path, &program);
        let systemctl = "#!/bin/sh\nexec canopsis-connector-prometheus\n";
        sandbox.dir.program("bin/systemctl", systemctl);
        sandbox
    }

    fn replaced(&self, text: &str) -> String {
        text.replace(DIRECTORY, self.dir.path().to_str().unwrap())
            .replace(
                "rabbitmq.example/canopsis",
                &format!("127.0.0.1:{}/{}", self.broker.port, self.vhost),
            )
            .replace("127.0.0.1:18401", &format!("127.0.0.1:{}", self.port))
            .replace("THE-TOKEN", TOKEN)
            .replace(
                "connector.example:18401",
                &format!("127.0.0.1:{}", self.port),
            )
    }

    fn write(&self, name: &str, text: &str) -> String {
        self.dir.file(name, text)
    }

    fn path_variable(&self) -> String {
        let path = std::env::var("PATH").unwrap();
        format!("{}/bin:{path}", self.dir.path().display())
    }

    /// Runs a script in the directory, and returns its standard output.
    fn run(&self, script: &str) -> String {
        let output = Command::new("sh")
            .args(["-ec", &self.replaced(script)])
            .current_dir(self.dir.path())
            .env("PATH", self.path_variable())
            .env("TOKEN", TOKEN)
            .output()
            .unwrap();
        let (stdout, stderr) = (
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        );
        assert!(output.status.success(), "{script}\n{stdout}\n{stderr}");
        stdout
    }

    /// Starts a script that does not end, and returns the path of its output.
    fn start(&self, script: &str) -> (ProcessGroup, PathBuf) {
        let log = self.dir.path().join("service.log");
        let path = format!("PATH={}", self.path_variable());
        let script = self.replaced(script);
        let command = ["env", &path, "sh", "-ec", &script];
        let group = ProcessGroup::start(&command, log.to_str().unwrap(), "");
        (group, log)
    }

    /// Starts an Alertmanager with a block of the documents, and returns its port.
    fn start_alertmanager(&self, block: &str) -> (ProcessGroup, u16) {
        let config = self
            .replaced(&marked(block)[0].text)
            .replace(
                "/etc/prometheus/canopsis-ca.pem",
                self.dir.path().join("ca.pem").to_str().unwrap(),
            )
            // Instead of the default of 30 s.
            .replace(
                "  receiver: canopsis\n",
                "  receiver: canopsis\n  group_wait: 0s\n",
            );
        let file = self.write("alertmanager.yml", &config);
        let port = free_port();
        let options = [
            format!("--config.file={file}"),
            format!("--storage.path={}/alertmanager", self.dir.path().display()),
            format!("--web.listen-address=127.0.0.1:{port}"),
        ];
        let command = [
            "prometheus-alertmanager",
            &options[0],
            &options[1],
            &options[2],
            "--cluster.listen-address=",
        ];
        let log = self.dir.path().join("alertmanager.log");
        let process = ProcessGroup::start(&command, log.to_str().unwrap(), "");
        wait_until("Alertmanager is ready", || {
            Client::new(([127, 0, 0, 1], port).into())
                .send("GET", "/-/ready", &[], b"")
                .is_ok_and(|response| response.status == 200)
        });
        (process, port)
    }

    fn admin(&self) -> Admin {
        self.broker.admin(&self.vhost)
    }
}

/// The next event in the queue.
fn next_event(admin: &Admin) -> Value {
    let mut received = Vec::new();
    wait_until("an event arrives in the queue", || {
        received = admin.drain();
        !received.is_empty()
    });
    assert_eq!(received.len(), 1, "{received:?}");
    received.remove(0).event
}

#[test]
fn the_quick_start_brings_an_alert_into_the_queue() {
    let sandbox = Sandbox::new();
    sandbox.write("config.yml", &sandbox.replaced(&quick_start()));
    let (_service, log) = sandbox.start(&marked("quick start, start")[0].text);
    let readme = document("README.md");
    let line = "connected to RabbitMQ broker=amqp://cpsrabbit@rabbitmq.example:5672/canopsis exchange=canopsis.events";
    assert!(readme.contains(&format!("`{line}`")));
    let logged = line.replace(
        "rabbitmq.example:5672/canopsis",
        &format!("127.0.0.1:{}/{}", sandbox.broker.port, sandbox.vhost),
    );
    let read = |path: &Path| fs::read_to_string(path).unwrap_or_default();
    wait_until(&format!("{logged:?} in the log"), || {
        read(&log).contains(&logged)
    });
    assert!(read(&log).contains("config.yml is valid"), "{}", read(&log));

    let printed = sandbox.run(&marked("quick start, alert")[0].text);
    assert_eq!(printed, "{\"published\":1}\n");
    assert!(readme.contains("`{\"published\":1}`"));
    let admin = sandbox.admin();
    let event = next_event(&admin);
    let expected = json!({
        "connector": "prometheus", "connector_name": "prod", "component": "test", "resource": "Test instance=test", "state": 3,
        "output": "a test",
    });
    assert!(readme.contains("the resource `Test instance=test` on the component `test`"));
    for (key, value) in expected.as_object().unwrap() {
        assert_eq!(&event[key], value, "{key}");
    }
    for block in marked("readiness") {
        assert!(sandbox.run(&block.text).contains("\"ready\""));
    }

    // The whole path: Alertmanager with the block of the README, and an alert by amtool.
    let (_alertmanager, port) = sandbox.start_alertmanager("quick start, Alertmanager");
    let amtool = &marked("quick start, amtool")[0].text;
    sandbox.run(&amtool.replace("localhost:9093", &format!("127.0.0.1:{port}")));
    assert_eq!(next_event(&admin)["component"], "other");
}

/// The commands prepare a RabbitMQ so that an event of the connector is in the queue.
#[test]
fn a_trial_needs_no_canopsis() {
    let sandbox = Sandbox::new();
    let program = format!("#!/bin/sh\nexec {}", sandbox.broker.ctl_command());
    sandbox.dir.program("bin/rabbitmqctl", &program);
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
        sandbox.broker.port,
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
    sandbox.write("config.yml", &sandbox.replaced(&config));
    let (_service, log) =
        sandbox.start("canopsis-connector-prometheus --check; exec canopsis-connector-prometheus");
    wait_until("the connector is connected", || {
        fs::read_to_string(&log).is_ok_and(|log| log.contains("connected to RabbitMQ"))
    });
    let logged = fs::read_to_string(&log).unwrap();
    assert!(logged.contains("certificate expires"), "{logged}");
    let curl = marked("quick start, alert").remove(0).text;
    let https = curl
        .replace("http://127", "https://127")
        .replace("curl ", "curl --cacert ca.pem ");
    assert_eq!(sandbox.run(&https), "{\"published\":1}\n");
    let admin = sandbox.admin();
    assert_eq!(next_event(&admin)["component"], "test");
    assert!(sandbox.run(&curl).contains("use https://"));
    assert!(
        sandbox
            .run(&only("show the certificate"))
            .contains("CN = connector.example")
    );
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
    sandbox.write(
        "prometheus-rules.yml",
        &document("contrib/prometheus-rules.yml"),
    );
    sandbox.write("prometheus.yml", &prometheus);
    sandbox.run("promtool check config prometheus.yml");
    let (_alertmanager, port) = sandbox.start_alertmanager("HTTPS, Alertmanager");
    sandbox.run(&format!(
        "amtool alert add alertname=Https instance=test --alertmanager.url=http://127.0.0.1:{port}"
    ));
    assert_eq!(next_event(&admin)["resource"], "Https instance=test");
}

/// Both spellings of the token that `docs/migration.md` names.
#[test]
fn alertmanager_accepts_both_spellings_of_the_token() {
    let sandbox = Sandbox::new();
    for spelling in ["bearer_token: x", "authorization: {credentials: x}"] {
        let config = format!(
            "route: {{receiver: a}}\nreceivers:\n- name: a\n  webhook_configs:\n  - url: http://a/webhook\n    http_config: \
             {{{spelling}}}\n"
        );
        let file = sandbox.write("alertmanager.yml", &config);
        let output = Command::new("amtool")
            .args(["check-config", &file])
            .output()
            .unwrap();
        assert!(output.status.success(), "{spelling}");
    }
}

#[test]
fn the_licences_are_those_of_the_linked_crates() {
    let output = Command::new("scripts/licenses")
        .arg("--check")
        .output()
        .unwrap();
    assert_success(&output, "scripts/licenses");
}

/// Each row of the table in `docs/troubleshooting.md` whose fault can be caused here: the log has the words of its first cell.
#[test]
fn faults_of_the_connection_are_logged_as_documented() {
    let broker = Broker::shared();
    let mut tls_broker = Broker::prepare();
    tls_broker.make_certificates();
    tls_broker.run();
    let vhost = broker.fresh_vhost();
    broker.admin(&vhost).delete_exchange();
    let (port, tls_port) = (broker.port, tls_broker.port);
    // Accepts connections and does not answer, as Alertmanager's port; accepts, and answers as another protocol; closes.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent_port = silent.local_addr().unwrap().port();
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let other_port = other.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in other.incoming().flatten() {
            let _ = std::io::Write::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    let closing = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let closing_port = closing.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in closing.incoming().flatten() {
            let _ = std::io::Read::read_exact(&mut stream, &mut [0; 8]);
        }
    });
    let faults = [
        (
            format!("amqp://cpsrabbit:canopsis@127.0.0.1:{}/v0", free_port()),
            "cannot connect to RabbitMQ: ... Connection refused",
        ),
        (
            format!("amqp://cpsrabbit:wrong@127.0.0.1:{port}/v0"),
            "probably a wrong user or password",
        ),
        (
            format!("amqp://cpsrabbit:canopsis@127.0.0.1:{port}/none"),
            "NOT_ALLOWED - vhost ... not found",
        ),
        (
            format!("amqps://cpsrabbit:canopsis@127.0.0.1:{port}/v0"),
            "TLS handshake failed: ... (no TLS on this port? amqps:// usually has port 5671)",
        ),
        (
            format!("amqp://cpsrabbit:canopsis@127.0.0.1:{tls_port}/v0"),
            "the server requires TLS: use amqps://",
        ),
        (
            format!("amqps://cpsrabbit:canopsis@localhost:{tls_port}/v0"),
            "certificate verify failed",
        ),
        (
            format!("amqp://cpsrabbit:canopsis@127.0.0.1:{other_port}/v0"),
            "the server does not speak AMQP; this may not be the AMQP port (5672, 5671 with TLS)",
        ),
        (
            format!("amqp://cpsrabbit:canopsis@127.0.0.1:{silent_port}/v0"),
            "no answer for 5s; this may not be the AMQP port (5672, 5671 with TLS), or the node is frozen",
        ),
        (
            format!("amqp://cpsrabbit:canopsis@127.0.0.1:{closing_port}/v0"),
            "the server closed the connection; this may not be the AMQP port (5672, 5671 with TLS), or it requires TLS: use amqps://",
        ),
        (broker.url(&vhost), "cannot use the exchange: ... NOT_FOUND"),
    ];
    let page = document("docs/troubleshooting.md");
    let mut connectors: Vec<(Connector, &str)> = faults
        .iter()
        .map(|(url, message)| {
            assert!(page.contains(&format!("`{message}`")), "{message}");
            (Connector::on(url), *message)
        })
        .collect();
    for (connector, message) in &mut connectors {
        for part in message.split(" ... ") {
            connector.wait_for_log(part.trim_end_matches(" ..."));
        }
    }
    drop(silent);
}
