//! Runs the real binary, as a service or to its end.

use std::fs::Permissions;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use serde_json::Value;

use super::http::{Client, Peer, Response, Tls};
use super::{
    AUTHORIZATION, TIMEOUT, TOKEN, TempDir, TempFile, copy_program, signal, temp_path, wait_until,
};

pub const BINARY: &str = env!("CARGO_BIN_EXE_canopsis-connector-prometheus");

/// A mapping for the alerts of [`notification`](super::notification).
pub const MAPPING: &str = "
connector: prometheus
connector_name: p1
component: {type: copy, value: labels.instance}
resource: {type: copy, value: labels.alertname}
state: {type: map, field: labels.severity, values: {critical: 3, warning: 1}, default: 3}
output: {type: copy, value: annotations.summary}
";

/// A thread that posts one notification.
pub type Sender = JoinHandle<std::io::Result<Response>>;

pub struct Connector {
    /// How to speak with it; `None` for plain HTTP.
    pub tls: Option<Tls>,
    child: Child,
    pub address: SocketAddr,
    log: Arc<Mutex<String>>,
    /// Copies standard error to `log`.
    log_reader: Option<JoinHandle<()>>,
    stdout: Option<JoinHandle<String>>,
    config: TempFile,
}

/// Copies the binary to a path where other users can execute it: the build directory may be accessible only to its owner.
pub fn copy_for_other_users() -> PathBuf {
    let path = temp_path("binary");
    copy_program(BINARY, &path);
    std::fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    path
}

/// The text of a configuration with the tests' token that listens on a free port of 127.0.0.1.
pub fn config(url: &str, extra_http: &str, rest: &str) -> String {
    amqp_config(&format!("url: '{url}'"), extra_http, rest)
}

/// Like [`config`], with all settings of the section `amqp`.
pub fn amqp_config(amqp: &str, extra_http: &str, rest: &str) -> String {
    format!(
        "amqp: {{{amqp}}}\nhttp: {{listen: '127.0.0.1:0', bearer_token: {TOKEN}, {extra_http}}}\n{rest}\n"
    )
}

/// A configuration with [`MAPPING`] that no broker is needed for.
pub fn config_without_broker() -> String {
    config("amqp://127.0.0.1:1", "", MAPPING)
}

/// Like [`config_without_broker`], with a component that always has a value: nothing is warned of.
pub fn config_without_warning() -> String {
    let rule = "{type: copy, value: labels.instance}";
    config_without_broker().replace(rule, &format!("[{rule}, unknown]"))
}

/// [`MAPPING`] with a rule that copies a value as it is, `x_copied`.
pub fn copying_mapping(path: &str) -> String {
    let rule = format!("copied: {{type: copy, value: {path}}}");
    format!("{MAPPING}\nextra_infos_prefix: x_\nextra_infos: {{{rule}}}\n")
}

/// The shipped configuration, with this broker and the token of the tests.
pub fn shipped_config(url: &str) -> String {
    include_str!("../../config.yml")
        .replace("amqp://cpsrabbit:canopsis@localhost/canopsis", url)
        .replace("canopsis-prometheus-change-me", TOKEN)
}

/// Runs the binary to its end.
pub fn run(arguments: &[&str], environment: &[(&str, &str)], input: &str) -> Output {
    let mut command = Command::new(BINARY);
    clear_environment(&mut command)
        .args(arguments)
        .envs(environment.iter().copied());
    run_with_input(&mut command, input)
}

/// What the binary printed until its end.
pub struct Printed {
    pub status: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Printed {
    /// The events on standard output, one a line.
    #[track_caller]
    pub fn events(&self) -> Vec<Value> {
        let lines = self.stdout.lines();
        let event = |line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
        lines.map(event).collect()
    }
}

/// Runs the binary to its end with these arguments, separated by spaces, and this configuration, which is named `config.yml` in what is
/// printed.
pub fn run_with_config(config: &str, arguments: &str, input: &str) -> Printed {
    let config = TempFile::new(config);
    let words = ["--config", &config].into_iter();
    let words: Vec<&str> = words.chain(arguments.split_whitespace()).collect();
    let output = run(&words, &[], input);
    let text = |bytes| {
        String::from_utf8(bytes)
            .unwrap()
            .replace(&*config, "config.yml")
    };
    Printed {
        status: output.status.code(),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    }
}

/// Runs a command to its end.
pub fn run_with_input(command: &mut Command, input: &str) -> Output {
    use std::io::Write;
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Fails if the program has ended without reading its input.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

/// Removes the variables that the program reads from the environment.
fn clear_environment(command: &mut Command) -> &mut Command {
    let is_ours = |name: &str| {
        name.starts_with("CPS_AMQP_")
            || name.starts_with("PROMETHEUS_")
            || name.starts_with("WATCHDOG_")
            || ["JOURNAL_STREAM", "NOTIFY_SOCKET"].contains(&name)
    };
    for (name, _) in std::env::vars().filter(|(name, _)| is_ours(name)) {
        command.env_remove(name);
    }
    command
}

impl Connector {
    /// Starts the binary with [`MAPPING`], and waits until it is connected to RabbitMQ.
    pub fn on(url: &str) -> Self {
        Self::ready(url, "", MAPPING)
    }

    /// Starts the binary with [`config`], and waits until it is connected to RabbitMQ.
    pub fn ready(url: &str, http: &str, mapping: &str) -> Self {
        let connector = Self::with(&config(url, http, mapping), &[]);
        connector.wait_until_ready();
        connector
    }

    /// Starts the binary with this configuration and these arguments, and waits until it listens.
    pub fn with(config: &str, arguments: &[&str]) -> Self {
        Self::with_wrapper(&["env"], BINARY, config, arguments)
    }

    /// Like [`Connector::with`], started through a command that sets limits and then executes the binary.
    pub fn with_wrapper(wrapper: &[&str], binary: &str, config: &str, arguments: &[&str]) -> Self {
        let path = TempFile::new(config);
        std::fs::set_permissions(&*path, Permissions::from_mode(0o644)).unwrap();
        let mut command = Command::new(wrapper[0]);
        clear_environment(&mut command)
            .args(&wrapper[1..])
            .arg(binary)
            .arg("--config")
            .arg(&*path)
            .args(arguments);
        if !arguments.contains(&"--log-level") {
            command.args(["--log-level", "debug"]);
        }
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let (stderr, shared_log) = (child.stderr.take().unwrap(), Arc::clone(&log));
        let log_reader = std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                shared_log.lock().unwrap().push_str(&(line + "\n"));
            }
        });
        let stdout = child.stdout.take().unwrap();
        let stdout = std::thread::spawn(move || std::io::read_to_string(stdout).unwrap());
        let mut connector = Self {
            child,
            address: ([127, 0, 0, 1], 0).into(),
            log,
            log_reader: Some(log_reader),
            stdout: Some(stdout),
            config: path,
            tls: None,
        };
        connector.wait_for_log("listening");
        let log = connector.log();
        let line = log.lines().find(|line| line.contains("listening"));
        let (_, address) = line.unwrap().split_once("address").unwrap();
        let address = address.trim_start_matches(['=', '"', ':']);
        let address = address.split([' ', '"', '\n']).next().unwrap();
        connector.address = address.parse().unwrap();
        connector
    }

    /// Like [`Connector::with`], in a mount namespace whose hosts file has these lines.
    pub fn with_hosts(hosts: &str, config: &str) -> Self {
        let dir = TempDir::new("hosts");
        let hosts = dir.file("hosts", hosts);
        let mount = format!("mount --bind {hosts} /etc/hosts && exec \"$@\"");
        let wrapper = ["unshare", "--mount", "sh", "-c", &mount, "sh"];
        Self::with_wrapper(&wrapper, BINARY, config, &[])
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    pub fn wait_for_log(&mut self, text: &str) {
        wait_until(&format!("{text:?} in the log"), || {
            let log = self.log();
            assert!(
                self.child.try_wait().unwrap().is_none() || log.contains(text),
                "the connector ended: {log}"
            );
            log.contains(text)
        });
    }

    pub fn wait_until_ready(&self) {
        wait_until("the connector is ready", || {
            self.get("/-/ready").status == 200
        });
    }

    /// Sends a request without a body, on a new connection.
    pub fn send(&self, method: &str, path: &str, headers: &[&str]) -> Response {
        self.client().send(method, path, headers, b"").unwrap()
    }

    /// Sends a GET request with the token, with which `/-/ready` includes the reason.
    pub fn get(&self, path: &str) -> Response {
        self.send("GET", path, &[AUTHORIZATION])
    }

    /// A number on `/metrics`: see [`Response::metric`].
    pub fn metric(&self, name: &str) -> i64 {
        self.get("/metrics").metric(name)
    }

    /// Asks for a reload over HTTP.
    pub fn post_reload(&self) -> Response {
        self.send("POST", "/-/reload", &[AUTHORIZATION])
    }

    /// A new connection to it.
    pub fn connect(&self) -> Peer {
        Peer::connect(self.address, self.tls.as_ref(), TIMEOUT).unwrap()
    }

    /// A client of this connector.
    pub fn client(&self) -> Client {
        Client::with_tls(self.address, self.tls.clone())
    }

    /// Posts a notification with the token.
    pub fn post(&self, body: &str) -> Response {
        self.client().post(body).unwrap()
    }

    /// Like [`Connector::post`], but returns connection errors.
    pub fn try_post(&self, body: &str) -> std::io::Result<Response> {
        self.client().post(body)
    }

    /// Posts a notification from a thread, on its own connection.
    pub fn post_in_background(&self, body: String) -> Sender {
        let mut client = self.client();
        std::thread::spawn(move || client.post(&body))
    }

    /// How many notifications it has begun to process.
    pub fn received(&self) -> usize {
        self.log().matches("notification received").count()
    }

    /// The resident memory in bytes.
    pub fn memory(&self) -> usize {
        super::status_bytes(self.pid(), "VmRSS:")
    }

    /// The peak of the resident memory in bytes.
    pub fn peak_memory(&self) -> usize {
        super::status_bytes(self.pid(), "VmHWM:")
    }

    /// The path of its configuration.
    pub fn config_path(&self) -> &str {
        &self.config
    }

    /// Replaces the configuration file.
    pub fn rewrite(&self, config: &str) {
        std::fs::write(&*self.config, config).unwrap();
    }

    /// Replaces the configuration file and reloads it. Waits until the log has the outcome.
    pub fn reload(&mut self, config: &str) {
        let outcomes = |log: &str| {
            log.matches("configuration reloaded").count()
                + log.matches("configuration reload failed").count()
        };
        let before = outcomes(&self.log());
        self.rewrite(config);
        signal(self.pid(), "HUP");
        wait_until("the reload ends", || outcomes(&self.log()) > before);
    }

    pub fn terminate(&self) {
        signal(self.pid(), "TERM");
    }

    /// Waits for the end of the process and of its log.
    pub fn wait(&mut self) -> ExitStatus {
        wait_until("the connector ends", || {
            self.child.try_wait().unwrap().is_some()
        });
        let status = self.child.wait().unwrap();
        if let Some(log_reader) = self.log_reader.take() {
            log_reader.join().unwrap();
        }
        status
    }

    /// Ends the process, and returns its standard output.
    pub fn into_stdout(mut self) -> String {
        self.terminate();
        self.wait();
        self.stdout.take().unwrap().join().unwrap()
    }

    pub fn threads(&self) -> usize {
        super::threads(self.pid())
    }
}

impl Drop for Connector {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the connector's log:\n{}---", self.log());
            return;
        }
        // In every test, no secret may be in the log.
        for secret in [
            TOKEN,
            "hunter2",
            "cpsrabbit:canopsis",
            "\"canopsis\"",
            "PRIVATE KEY",
        ] {
            assert!(!self.log().contains(secret), "{secret} in the log");
        }
    }
}
