//! Temporary git repositories, and the tools that build packages from them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::temp_path;

pub const NAME: &str = "canopsis-connector-prometheus";

/// The time of every commit, so that builds are reproducible.
pub const DATE: &str = "1795000000";

/// A temporary directory, removed on drop. It is in the build directory, because it may hold a build, for which a /tmp in memory is
/// too small.
pub struct Dir(PathBuf);

impl Dir {
    pub fn new(name: &str) -> Self {
        let path =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(temp_path(name).file_name().unwrap());
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

/// A command without the variables that cargo, make or git set for this test.
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
    for role in ["AUTHOR", "COMMITTER"] {
        command
            .env(format!("GIT_{role}_NAME"), "test")
            .env(format!("GIT_{role}_EMAIL"), "test@localhost");
        command.env(format!("GIT_{role}_DATE"), format!("{DATE} +0000"));
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

/// Runs a command that must succeed, and returns its standard output.
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

/// Runs a command that must fail, and returns its standard error.
pub fn run_failing(dir: &Path, words: &[&str]) -> String {
    let output = output(dir, words);
    assert!(
        !output.status.success(),
        "{words:?} in {} succeeded: {}",
        dir.display(),
        text(&output.stdout)
    );
    text(&output.stderr)
}

/// Creates a repository of one commit with copies of these files of this project.
pub fn repository(path: &Path, files: &[&str]) {
    // With cp, because some are programs: see copy_program.
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

/// Creates a repository with all files of this project, including uncommitted changes.
pub fn copy_project(path: &Path) {
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

/// Compares two versions with rpm's own function: -1, 0 or 1.
pub fn rpm_order(a: &str, b: &str) -> i32 {
    let expression = format!("%{{lua:print(rpm.vercmp('{a}', '{b}'))}}");
    run(Path::new("."), &["rpm", "--eval", &expression])
        .parse()
        .unwrap()
}

/// Every file and directory below a root with its mode, sorted: `0755 /usr/bin/x`; directories end with `/`.
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

/// The first of these command prefixes that this system permits.
fn permitted(prefixes: &[&[&'static str]]) -> Option<Vec<&'static str>> {
    let works = |prefix: &&&[&'static str]| {
        let words: Vec<&str> = prefix.iter().copied().chain(["true"]).collect();
        command(Path::new("."), &words)
            .output()
            .is_ok_and(|output| output.status.success())
    };
    prefixes.iter().find(works).map(|prefix| prefix.to_vec())
}

/// The prefix of a command that runs without network, if the system permits one.
pub fn without_network() -> Vec<&'static str> {
    permitted(&[
        &["unshare", "--net"],
        &["unshare", "--net", "--map-root-user"],
    ])
    .unwrap_or_else(|| {
        eprintln!("cannot create a network namespace: the build has network access");
        Vec::new()
    })
}

/// The prefix of a command that calls chroot.
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
