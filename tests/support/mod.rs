//! What the tests share: a real RabbitMQ node, the real binary, a plain HTTP client. Everything that a test starts ends with
//! it, also when it is killed.
#![allow(dead_code, missing_docs)]

pub mod alertmanager;
pub mod broker;
pub mod connector;
pub mod http;
pub mod image;
pub mod load;
pub mod packaging;
pub mod relay;

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// The token of the tests' configurations.
pub const TOKEN: &str = "sesame-of-the-tests";

/// How long anything may take before a test gives up on it. No test measures time; this only ends those that hang.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// Waits until a condition holds.
pub fn wait_until(what: &str, condition: impl FnMut() -> bool) {
    wait_within(PATIENCE, what, condition);
}

/// As [`wait_until`], where the time is a part of the promise.
pub fn wait_within(limit: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A program, and all that it starts, that ends when this is dropped, or when the test's process ends in any way: a shell
/// beside it waits for the end of its standard input.
pub struct Kept {
    keeper: Child,
    life: Option<ChildStdin>,
    /// Also its process group's.
    pub pid: u32,
}

impl Kept {
    /// Starts a command with its output in a file; `afterwards` is a shell command that cleans up.
    pub fn start(command: &[&str], log: &str, afterwards: &str) -> Self {
        let script = format!(
            "setsid sh -c 'echo $$; log=$1; shift; exec \"$@\" </dev/null >>\"$log\" 2>&1' kept \"$@\" & pid=$!; cat >/dev/null; \
             kill -s KILL -- -$pid 2>/dev/null; wait $pid 2>/dev/null; {afterwards}"
        );
        let mut keeper = Command::new("sh")
            .args(["-c", &script, "keeper", log])
            .args(command)
            // What ends the tests' whole group (Ctrl-C, timeout) must not end it before it has done its work.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // It says its number once it leads a process group.
        let mut line = String::new();
        BufReader::new(keeper.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        Self {
            life: keeper.stdin.take(),
            keeper,
            pid: line.trim().parse().unwrap(),
        }
    }

    /// Stops the program and its process group, and waits until nothing of it runs any more.
    pub fn freeze(&self) {
        signal_group(self.pid, "STOP");
        // The signal is sent to one thread of a process, and the others go on until that one has had a processor: a broker on a
        // busy machine still confirms what comes meanwhile.
        wait_until("everything has stopped", || {
            let states = thread_states(self.pid);
            !states.is_empty() && states.chars().all(|state| matches!(state, 'T' | 'Z'))
        });
    }

    /// Lets it go on.
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

/// Sends a signal to all of a process group.
pub fn signal_group(group: u32, name: &str) {
    assert!(
        kill(&["-s", name, "--", &format!("-{group}")]),
        "no process to send {name}"
    );
}

/// Whether there is any process of a group.
pub fn group_runs(group: u32) -> bool {
    kill(&["-0", "--", &format!("-{group}")])
}

/// The state of each thread of a process group, a letter each: see proc(5), `/proc/PID/stat`.
fn thread_states(group: u32) -> String {
    let entries = |path: &str| {
        std::fs::read_dir(path)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
    };
    // The state, the parent, and the process group.
    let state_of = |thread: &Path| {
        let mut fields = stat(thread)?;
        (fields.get(2)?.parse() == Ok(group)).then(|| fields.swap_remove(0))
    };
    let processes = entries("/proc").filter(|process| state_of(process).is_some());
    let threads = processes.flat_map(|process| entries(&format!("{}/task", process.display())));
    threads.filter_map(|thread| state_of(&thread)).collect()
}

/// What `stat` says of a process or a thread, from its state on: see proc(5), where that is field 3. `None` where it has ended.
pub fn stat(process: &Path) -> Option<Vec<String>> {
    let line = std::fs::read_to_string(process.join("stat")).ok()?;
    // The name before it, in parentheses, may hold anything.
    Some(
        line.rsplit_once(')')?
            .1
            .split_whitespace()
            .map(str::to_owned)
            .collect(),
    )
}

/// Sends a signal to one process.
pub fn signal(pid: u32, name: &str) {
    assert!(kill(&["-s", name, &pid.to_string()]), "no process {pid}");
}

impl Drop for Kept {
    fn drop(&mut self) {
        drop(self.life.take());
        let _ = self.keeper.wait();
    }
}

/// What `/proc/PID/status` says of a process under a name (`VmRSS:`, `VmHWM:`), in bytes.
pub fn status_bytes(pid: u32, name: &str) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<usize>()
        .unwrap()
        << 10
}

/// How many threads a process has.
pub fn threads(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/task"))
        .unwrap()
        .count()
}

/// Copies a program that is to be run. Were it written by this process, whatever another test starts at that moment would have it
/// open for writing, too, and it could not be run ("Text file busy").
pub fn copy_program(from: &str, to: &Path) {
    let copied = Command::new("cp")
        .args(["--preserve=mode", "--", from])
        .arg(to)
        .status()
        .unwrap();
    assert!(
        copied.success(),
        "{from} can't be copied to {}",
        to.display()
    );
}

/// A fresh directory's path; nothing is made.
pub fn scratch(name: &str) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::SeqCst);
    std::env::temp_dir().join(format!("ccp-{name}-{}-{number}", std::process::id()))
}

/// A port that is free now, below those that the kernel gives to outgoing connections.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let start = std::process::id().wrapping_mul(97);
    loop {
        let offset = start.wrapping_add(NEXT.fetch_add(1, Ordering::SeqCst)) % 12_000;
        let port = 20_000 + u16::try_from(offset).unwrap();
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// A captured notification of a real Alertmanager.
pub fn payload(name: &str) -> String {
    std::fs::read_to_string(format!("tests/data/payloads/{name}.json")).unwrap()
}

/// A notification with a firing alert for each name.
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
