//! Scratch repositories, and the tools that make packages of them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::scratch;

pub const NAME: &str = "canopsis-connector-prometheus";

/// When every commit of a scratch repository was made.
pub const DATE: &str = "1795000000";

/// A directory that ends with the test. Within the build's: a whole build, which may go in there, is too large for a /tmp in memory.
pub struct Dir(PathBuf);

impl Dir {
    pub fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(scratch(name).file_name().unwrap());
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn join(&self, path: impl AsRef<Path>) -> PathBuf {
        self.0.join(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A command with nothing in its environment that cargo, make or git have put there for this test.
pub fn command(dir: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).current_dir(dir).env_clear();
    let inherited = [
        "PATH",
        "HOME",
        "USER",
        "TMPDIR",
        "CARGO_HOME",
        "RUSTUP_HOME",
        "RUSTUP_TOOLCHAIN",
    ];
    command.envs(
        inherited
            .iter()
            .filter_map(|name| Some((name, std::env::var_os(name)?))),
    );
    for who in ["AUTHOR", "COMMITTER"] {
        command
            .env(format!("GIT_{who}_NAME"), "test")
            .env(format!("GIT_{who}_EMAIL"), "test@localhost");
        command.env(format!("GIT_{who}_DATE"), format!("{DATE} +0000"));
    }
    command
}

fn output(dir: &Path, words: &[&str]) -> Output {
    command(dir, words)
        .output()
        .unwrap_or_else(|error| panic!("{} must be installed: {error}", words[0]))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end().to_owned()
}

/// Runs a command that must succeed; gives what it printed.
pub fn run(dir: &Path, words: &[&str]) -> String {
    let output = output(dir, words);
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(
        output.status.success(),
        "{words:?} in {}: {}\n{stdout}\n{stderr}",
        dir.display(),
        output.status
    );
    stdout
}

/// Runs a command that must fail; gives what it said on standard error.
pub fn refused(dir: &Path, words: &[&str]) -> String {
    let output = output(dir, words);
    assert!(
        !output.status.success(),
        "{words:?} in {} succeeded: {}",
        dir.display(),
        text(&output.stdout)
    );
    text(&output.stderr)
}

/// A repository of one commit with these files, a path being relative to this project's top.
pub fn repository(path: &Path, files: &[&str]) {
    // By another process, for the sake of the programs among them: see copy_program.
    let mut copy = vec![
        "cp",
        "--no-dereference",
        "--preserve=mode",
        "--parents",
        "--",
    ];
    copy.extend(files);
    copy.push(path.to_str().unwrap());
    run(Path::new("."), &copy);
    run(path, &["git", "init", "-q", "--initial-branch=main"]);
    run(path, &["git", "add", "--all", "--force"]);
    run(path, &["git", "commit", "-q", "--message=all"]);
}

/// All files of this project as they are now, committed or not.
pub fn whole_project(path: &Path) {
    let listed = run(
        Path::new("."),
        &[
            "git",
            "-c",
            "safe.directory=*",
            "ls-files",
            "-co",
            "--exclude-standard",
        ],
    );
    repository(
        path,
        &listed
            .lines()
            .filter(|file| fs::symlink_metadata(file).is_ok())
            .collect::<Vec<_>>(),
    );
}

pub fn tag(repository: &Path, name: &str) {
    run(
        repository,
        &["git", "tag", "--annotate", "--message=test", name],
    );
}

pub fn commit(repository: &Path) {
    run(
        repository,
        &["git", "commit", "-q", "--allow-empty", "--message=more"],
    );
}

/// How rpm itself orders two versions: -1, 0 or 1.
pub fn rpm_order(a: &str, b: &str) -> i32 {
    let asked = format!("%{{lua:print(rpm.vercmp('{a}', '{b}'))}}");
    run(Path::new("."), &["rpm", "--eval", &asked])
        .parse()
        .unwrap()
}

/// Every file and directory below a root, sorted: "0755 /usr/bin/x", with "/" behind a directory.
pub fn listing(root: &Path) -> Vec<String> {
    fn walk(root: &Path, dir: &Path, found: &mut Vec<(String, u32)>) {
        for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
            let path = entry.path();
            let metadata = entry.metadata().unwrap();
            let shown = path.strip_prefix(root).unwrap().display().to_string();
            if metadata.is_dir() {
                found.push((format!("/{shown}/"), metadata.permissions().mode() & 0o7777));
                walk(root, &path, found);
            } else {
                found.push((format!("/{shown}"), metadata.permissions().mode() & 0o7777));
            }
        }
    }
    let mut found = Vec::new();
    walk(root, root, &mut found);
    found.sort();
    found
        .into_iter()
        .map(|(path, mode)| format!("{mode:04o} {path}"))
        .collect()
}

/// The first of these prefixes under which a command may run here.
fn permitted(prefixes: &[&[&'static str]]) -> Option<Vec<&'static str>> {
    let works = |prefix: &&&[&'static str]| {
        let words: Vec<&str> = prefix.iter().copied().chain(["true"]).collect();
        command(Path::new("."), &words)
            .output()
            .is_ok_and(|output| output.status.success())
    };
    prefixes.iter().find(works).map(|prefix| prefix.to_vec())
}

/// What stands before a command that is to have no network, where the system allows that.
pub fn without_network() -> Vec<&'static str> {
    permitted(&[
        &["unshare", "--net"],
        &["unshare", "--net", "--map-root-user"],
    ])
    .unwrap_or_else(|| {
        eprintln!("no network namespace may be made here: the build could reach the network");
        Vec::new()
    })
}

/// What stands before a command that calls chroot.
pub fn as_root() -> Vec<&'static str> {
    if is_root() {
        Vec::new()
    } else {
        vec!["unshare", "--map-root-user"]
    }
}

pub fn is_root() -> bool {
    run(Path::new("."), &["id", "-u"]) == "0"
}
