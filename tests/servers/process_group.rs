//! A test of the test support: processes that a test started end with it, even if its process group is killed, as with Ctrl-C.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use crate::support::{ProcessGroup, group_runs, signal_group, wait_until};

/// The variable that is set for the killed process, which runs this same test.
const VICTIM: &str = "VICTIM_OF_THE_TEST";

/// The killed process; the drop kills it also after a failed assertion.
struct Victim(Child);

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_killed_test_leaves_no_process_behind() {
    if std::env::var_os(VICTIM).is_some() {
        let kept = ProcessGroup::start(&["sleep", "1000"], "/dev/null", ":");
        println!("started {}", kept.pid);
        loop {
            std::thread::park();
        }
    }
    for signal in ["INT", "TERM", "KILL"] {
        // A background job ignores SIGINT, and its children inherit that.
        let victim = Command::new("env")
            .arg("--default-signal=INT,TERM")
            .arg(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "servers::process_group::a_killed_test_leaves_no_process_behind",
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
            .expect("the victim prints a PID");
        assert!(group_runs(started));
        signal_group(victim.0.id(), signal);
        victim.0.wait().unwrap();
        wait_until("the victim's child process ends", || !group_runs(started));
    }
}
