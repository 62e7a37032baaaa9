//! The real binary.

use std::fs::Permissions;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};

use super::http::{Client, Reply};
use super::{TOKEN, copy_program, scratch, signal, wait_until};

pub const BINARY: &str = env!("CARGO_BIN_EXE_canopsis-connector-prometheus");

/// A mapping by which a test's alerts become events.
pub const MAPPING: &str = "
connector: prometheus
connector_name: p1
component: {type: copy, value: labels.instance}
resource: {type: copy, value: labels.alertname}
state: {type: map, field: labels.severity, values: {critical: 3, warning: 1}, default: 3}
output: {type: copy, value: annotations.summary}
";

pub struct Connector {
    child: Child,
    pub address: SocketAddr,
    log: Arc<Mutex<String>>,
    /// Reads the log until its end.
    logging: Option<std::thread::JoinHandle<()>>,
    stdout: Option<std::thread::JoinHandle<String>>,
    config: PathBuf,
}

/// A copy of the binary where any user may run it: the build may be in a directory that only its owner may enter.
pub fn for_anybody() -> PathBuf {
    let path = scratch("binary");
    copy_program(BINARY, &path);
    std::fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    path
}

/// Writes a configuration for the tests' token, and listening on a free port of 127.0.0.1.
pub fn config(url: &str, extra_http: &str, rest: &str) -> String {
    format!(
        "amqp: {{url: '{url}'}}\nhttp: {{listen: '127.0.0.1:0', bearer_token: {TOKEN}, {extra_http}}}\n{rest}\n"
    )
}

/// Runs the binary to its end.
pub fn run(arguments: &[&str], environment: &[(&str, &str)], input: &str) -> Output {
    use std::io::Write;
    let mut command = Command::new(BINARY);
    clean(&mut command)
        .args(arguments)
        .envs(environment.iter().copied());
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A program that does not want any input may have ended already.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

/// Whatever the tests were started by must not count.
fn clean(command: &mut Command) -> &mut Command {
    let is_ours = |name: &str| {
        name.starts_with("CPS_AMQP_")
            || name.starts_with("PROMETHEUS_")
            || [
                "JOURNAL_STREAM",
                "NOTIFY_SOCKET",
                "WATCHDOG_USEC",
                "WATCHDOG_PID",
            ]
            .contains(&name)
    };
    for (name, _) in std::env::vars().filter(|(name, _)| is_ours(name)) {
        command.env_remove(name);
    }
    command
}

impl Connector {
    /// Starts the binary on a broker with the tests' mapping, and waits until it listens.
    pub fn on(url: &str) -> Self {
        Self::with(&config(url, "", MAPPING), &[])
    }

    /// Starts the binary with any configuration and arguments, and waits until it listens.
    pub fn with(config: &str, arguments: &[&str]) -> Self {
        Self::under(&["env"], BINARY, config, arguments)
    }

    /// As [`Connector::with`], started by a command that sets limits and then becomes the binary.
    pub fn under(wrapper: &[&str], binary: &str, config: &str, arguments: &[&str]) -> Self {
        let path = scratch("config").with_extension("yml");
        std::fs::write(&path, config).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        let mut command = Command::new(wrapper[0]);
        clean(&mut command)
            .args(&wrapper[1..])
            .arg(binary)
            .arg("--config")
            .arg(&path)
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
        let (stderr, written) = (child.stderr.take().unwrap(), Arc::clone(&log));
        let logging = std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                written.lock().unwrap().push_str(&(line + "\n"));
            }
        });
        let stdout = child.stdout.take().unwrap();
        let stdout = std::thread::spawn(move || std::io::read_to_string(stdout).unwrap());
        let mut connector = Self {
            child,
            address: ([127, 0, 0, 1], 0).into(),
            log,
            logging: Some(logging),
            stdout: Some(stdout),
            config: path,
        };
        connector.wait_for_log("address");
        let log = connector.log();
        let address = log
            .split("address")
            .nth(1)
            .unwrap()
            .trim_start_matches(['=', '"', ':'])
            .split([' ', '"', '\n'])
            .next()
            .unwrap();
        connector.address = address.parse().unwrap();
        connector
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

    /// Asks with the right token: `/-/ready` tells more then.
    pub fn get(&self, path: &str) -> Reply {
        let authorization = format!("Authorization: Bearer {TOKEN}");
        Client::new(self.address)
            .send("GET", path, &[&authorization], b"")
            .unwrap()
    }

    /// Posts a notification with the right token.
    pub fn post(&self, body: &str) -> Reply {
        Client::new(self.address).post(body).unwrap()
    }

    /// As [`Connector::post`], where a connection may be refused.
    pub fn try_post(&self, body: &str) -> std::io::Result<Reply> {
        Client::new(self.address).post(body)
    }

    /// Resident now, in bytes.
    pub fn memory(&self) -> usize {
        super::status_bytes(self.pid(), "VmRSS:")
    }

    /// The most that has ever been resident, in bytes.
    pub fn peak_memory(&self) -> usize {
        super::status_bytes(self.pid(), "VmHWM:")
    }

    /// Changes the configuration's file.
    pub fn rewrite(&self, config: &str) {
        std::fs::write(&self.config, config).unwrap();
    }

    /// Changes the configuration's file, and has it read again. Waits until the log says what came of it.
    pub fn reload(&mut self, config: &str) {
        let outcomes = |log: &str| {
            log.matches("configuration reloaded").count()
                + log.matches("configuration reload failed").count()
        };
        let before = outcomes(&self.log());
        self.rewrite(config);
        signal(self.pid(), "HUP");
        wait_until("the configuration is read again", || {
            outcomes(&self.log()) > before
        });
    }

    pub fn terminate(&self) {
        signal(self.pid(), "TERM");
    }

    /// Waits for the end, of the process and of its log.
    pub fn wait(&mut self) -> ExitStatus {
        let status = self.child.wait().unwrap();
        if let Some(logging) = self.logging.take() {
            logging.join().unwrap();
        }
        status
    }

    /// Waits for the end, and gives what was written on standard output.
    pub fn into_stdout(mut self) -> String {
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
        let _ = std::fs::remove_file(&self.config);
        if std::thread::panicking() {
            eprintln!("--- the connector's log:\n{}---", self.log());
            return;
        }
        // Whatever the test did: no secret of the tests is in the log.
        for secret in [TOKEN, "hunter2", "cpsrabbit:canopsis", "\"canopsis\""] {
            assert!(!self.log().contains(secret), "{secret} in the log");
        }
    }
}
