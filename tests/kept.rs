//! The tests' own promise: what a test has started ends with it, also when its whole process group is killed, as Ctrl-C does.

mod support;

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use support::{Kept, group_runs, signal_group, wait_until};

/// Set for the process that is killed, which is this test once more.
const VICTIM: &str = "VICTIM_OF_THE_TEST";

/// Ends at the latest with the test, also where an assertion fails.
struct Victim(Child);

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn what_was_started_ends_with_the_process_group() {
    if std::env::var_os(VICTIM).is_some() {
        let kept = Kept::start(&["sleep", "1000"], "/dev/null", ":");
        println!("started {}", kept.pid);
        loop {
            std::thread::park();
        }
    }
    for signal in ["INT", "TERM", "KILL"] {
        // Where these tests run in the background, SIGINT is ignored, by whatever they start, too.
        let victim = Command::new("env")
            .arg("--default-signal=INT,TERM")
            .arg(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "what_was_started_ends_with_the_process_group",
                "--nocapture",
            ])
            .env(VICTIM, "1")
            .process_group(0)
            .stdout(Stdio::piped())
            .spawn();
        let mut victim = Victim(victim.unwrap());
        let mut lines = BufReader::new(victim.0.stdout.take().unwrap())
            .lines()
            .map(Result::unwrap);
        let started = lines
            .find_map(|line| line.rsplit_once("started ")?.1.parse().ok())
            .expect("a process number");
        assert!(group_runs(started));
        signal_group(victim.0.id(), signal);
        victim.0.wait().unwrap();
        wait_until("what the victim has started ends", || !group_runs(started));
    }
}
