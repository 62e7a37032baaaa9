//! Support for the tests: a real RabbitMQ node, the real binary, an HTTP client. Processes that a test starts end with it, even if it
//! is killed.

pub mod alertmanager;
pub mod broker;
pub mod canopsis;
pub mod certificates;
pub mod connector;
pub mod documents;
pub mod frame_relay;
pub mod http;
pub mod image;
pub mod load;
pub mod mapping;
pub mod packaging;
pub mod prometheus;
pub mod relay;
pub mod systemd;
pub mod tls;

use std::fs::Permissions;
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// The bearer token in the configurations of the tests.
pub const TOKEN: &str = "sesame-of-the-tests";

/// The header with [`TOKEN`].
pub const AUTHORIZATION: &str = "Authorization: Bearer sesame-of-the-tests";

/// The limit for every wait. No test measures time; this only ends those that hang.
pub const TIMEOUT: Duration = Duration::from_mins(1);

/// Waits until a condition holds.
pub fn wait_until(what: &str, condition: impl FnMut() -> bool) {
    wait_within(TIMEOUT, what, condition);
}

/// Like [`wait_until`], for a guarantee that includes a time.
pub fn wait_within(limit: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !condition() {
        assert!(Instant::now() < deadline, "timed out waiting: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Asserts that a command has succeeded, and shows its standard error if it has not.
#[track_caller]
pub fn assert_success(output: &Output, command: &str) {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command}: {errors}");
}

/// Raises the limit for file descriptors of this process, and of those that it starts. It is never lowered: other tests may need
/// more, and the hard limit may not be raised again.
pub fn raise_file_limit(limit: usize) {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.unwrap().split_whitespace().next().unwrap();
    if soft.parse().is_ok_and(|soft: usize| soft >= limit) {
        return;
    }
    let raised = Command::new("prlimit")
        .args(["--pid", &std::process::id().to_string()])
        .arg(format!("--nofile={limit}:"))
        .status()
        .unwrap();
    assert!(raised.success(), "{limit} file descriptors are needed");
}

/// A program in a new process group, which is killed on drop, or when the test's process ends in any way: a supervising shell kills
/// the group at the end of its own standard input.
pub struct ProcessGroup {
    supervisor: Child,
    /// `None` after the drop has closed it.
    supervisor_stdin: Option<ChildStdin>,
    /// The PID of the program, and the id of its process group.
    pub pid: u32,
}

impl ProcessGroup {
    /// Starts a command with its output in a file. `cleanup` is a shell command that runs after the group's end.
    pub fn start(command: &[&str], log: &str, cleanup: &str) -> Self {
        let script = format!(
            "setsid sh -c 'echo $$; log=$1; shift; exec \"$@\" </dev/null >>\"$log\" 2>&1' program \"$@\" & pid=$!; cat >/dev/null; \
             kill -s KILL -- -$pid 2>/dev/null; wait $pid 2>/dev/null; {cleanup}"
        );
        let mut supervisor = Command::new("sh")
            .args(["-c", &script, "supervisor", log])
            .args(command)
            // A separate group: a signal to the tests' group (Ctrl-C, timeout) must not kill the supervisor.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // The program's shell prints its PID when setsid has created the group.
        let mut line = String::new();
        BufReader::new(supervisor.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        Self {
            supervisor_stdin: supervisor.stdin.take(),
            supervisor,
            pid: line.trim().parse().unwrap(),
        }
    }

    /// Sends SIGSTOP to the process group, and waits until all its threads are stopped.
    pub fn freeze(&self) {
        signal_group(self.pid, "STOP");
        // A stop signal reaches one thread first, and the others run until that thread is scheduled: on a busy machine, a broker would
        // still confirm messages meanwhile.
        wait_until("all threads are stopped", || {
            let states = thread_states(self.pid);
            !states.is_empty() && states.chars().all(|state| matches!(state, 'T' | 'Z'))
        });
    }

    /// Sends SIGCONT to the process group.
    pub fn thaw(&self) {
        signal_group(self.pid, "CONT");
    }

    pub fn is_running(&self) -> bool {
        group_runs(self.pid)
    }
}

fn kill(arguments: &[&str]) -> bool {
    Command::new("kill")
        .args(arguments)
        .stderr(Stdio::null())
        .status()
        .unwrap()
        .success()
}

/// Sends a signal to every process of a group.
pub fn signal_group(group: u32, name: &str) {
    assert!(
        kill(&["-s", name, "--", &format!("-{group}")]),
        "no process to send {name}"
    );
}

/// Whether a process group exists.
pub fn group_runs(group: u32) -> bool {
    kill(&["-0", "--", &format!("-{group}")])
}

/// The states of all threads of a process group, one letter each (see proc(5), `/proc/PID/stat`).
fn thread_states(group: u32) -> String {
    let entries = |path: &str| {
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
        entries.map(|entry| entry.path())
    };
    // The first fields are the state, the parent's PID, and the process group.
    let state_of = |thread: &Path| {
        let mut fields = stat(thread)?;
        (fields.get(2)?.parse() == Ok(group)).then(|| fields.swap_remove(0))
    };
    let processes = entries("/proc").filter(|process| state_of(process).is_some());
    let threads = processes.flat_map(|process| entries(&format!("{}/task", process.display())));
    threads.filter_map(|thread| state_of(&thread)).collect()
}

/// The fields of `/proc/PID/stat` from the third on, the state (see proc(5)). `None` if the process or thread has ended.
pub fn stat(process: &Path) -> Option<Vec<String>> {
    let line = std::fs::read_to_string(process.join("stat")).ok()?;
    // The name, in parentheses, may contain spaces and parentheses.
    let (_, fields) = line.rsplit_once(')')?;
    Some(fields.split_whitespace().map(str::to_owned).collect())
}

/// Sends a signal to one process.
pub fn signal(pid: u32, name: &str) {
    assert!(kill(&["-s", name, &pid.to_string()]), "no process {pid}");
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        drop(self.supervisor_stdin.take());
        let _ = self.supervisor.wait();
    }
}

/// A line of `/proc/PID/status` (`VmRSS:`, `VmHWM:`), in bytes.
pub fn status_bytes(pid: u32, name: &str) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    let kib = line.split_whitespace().nth(1).unwrap();
    kib.parse::<usize>().unwrap() << 10
}

/// The number of threads of a process.
pub fn threads(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/task"))
        .unwrap()
        .count()
}

/// Copies a program with cp. If this process wrote the file, a child that another test forks at that moment would inherit the file
/// descriptor, and executing the copy would fail with "Text file busy".
pub fn copy_program(from: &str, to: &Path) {
    let copied = Command::new("cp")
        .args(["--preserve=mode", "--", from])
        .arg(to)
        .status()
        .unwrap();
    assert!(copied.success(), "cannot copy {from} to {}", to.display());
}

/// A unique path in the system's temporary directory. Creates nothing.
pub fn temp_path(name: &str) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::SeqCst);
    std::env::temp_dir().join(format!("ccp-{name}-{}-{number}", std::process::id()))
}

/// The path of a temporary file, removed on drop.
pub struct TempFile(String);

impl TempFile {
    pub fn new(text: &str) -> Self {
        let path = temp_path("file").to_str().unwrap().to_owned();
        std::fs::write(&path, text).unwrap();
        Self(path)
    }
}

impl std::ops::Deref for TempFile {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A temporary directory, removed on drop.
pub struct TempDir(PathBuf);

impl TempDir {
    pub fn new(name: &str) -> Self {
        let path = temp_path(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file, and returns its path.
    pub fn file(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Writes an executable file.
    pub fn program(&self, name: &str, text: &str) {
        let path = self.file(name, text);
        std::fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A free port below the kernel's range for outgoing connections, which starts at 32768.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let start = std::process::id().wrapping_mul(97);
    loop {
        let offset = start.wrapping_add(NEXT.fetch_add(1, Ordering::SeqCst)) % 12_000;
        let port = 20_000 + u16::try_from(offset).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Starts a server on a free port of 127.0.0.1, which handles each connection in a thread. Returns the port.
pub fn serve(handle: impl Fn(TcpStream) + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let handle = Arc::new(handle);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let handle = Arc::clone(&handle);
            thread::spawn(move || handle(stream));
        }
    });
    port
}

/// The captured notification of this name from a real Alertmanager.
pub fn payload(name: &str) -> String {
    std::fs::read_to_string(format!("tests/data/payloads/{name}.json")).unwrap()
}

/// A notification with one firing alert for each name.
pub fn notification<S: AsRef<str>>(names: &[S]) -> String {
    let alerts: Vec<Value> = names
        .iter()
        .map(|name| {
            json!({
                "status": "firing",
                "labels": {"alertname": name.as_ref(), "instance": "host:9100", "severity": "critical"},
                "annotations": {"summary": "it is down"},
                "startsAt": "2026-11-22T14:10:49Z", "endsAt": "0001-01-01T00:00:00Z",
                "generatorURL": "", "fingerprint": name.as_ref(),
            })
        })
        .collect();
    json!({
        "version": "4", "status": "firing", "receiver": "alarms", "groupKey": "{}", "alerts": alerts,
        "groupLabels": {}, "commonLabels": {}, "commonAnnotations": {}, "externalURL": "", "truncatedAlerts": 0,
    })
    .to_string()
}

/// Like [`notification`], with an `externalURL`.
pub fn with_external_url<S: AsRef<str>>(names: &[S], url: &str) -> String {
    let absent = "\"externalURL\":\"\"";
    notification(names).replace(absent, &format!("\"externalURL\":\"{url}\""))
}
