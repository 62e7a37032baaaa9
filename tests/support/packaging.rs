//! Temporary git repositories, and the tools that build packages from them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

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

/// A shell script without the variables that cargo, make or git set for this test.
pub fn command(dir: &Path, script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-ec", script]).current_dir(dir).env_clear();
    for name in "PATH HOME USER TMPDIR CARGO_HOME RUSTUP_HOME RUSTUP_TOOLCHAIN".split(' ') {
        command.envs(std::env::var_os(name).map(|value| (name, value)));
    }
    for role in ["AUTHOR", "COMMITTER"] {
        command
            .env(format!("GIT_{role}_NAME"), "test")
            .env(format!("GIT_{role}_EMAIL"), "test@localhost")
            .env(format!("GIT_{role}_DATE"), format!("{DATE} +0000"));
    }
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end().to_owned()
}

/// Runs a script that must succeed, and returns its standard output.
pub fn run(dir: &Path, script: &str) -> String {
    let output = command(dir, script).output().unwrap();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    let (dir, status) = (dir.display(), output.status);
    assert!(
        status.success(),
        "{script} in {dir}: {status}\n{stdout}\n{stderr}"
    );
    stdout
}

/// Runs a script that must fail, and returns its standard error.
pub fn run_failing(dir: &Path, script: &str) -> String {
    let output = command(dir, script).output().unwrap();
    let (dir, stdout) = (dir.display(), text(&output.stdout));
    assert!(
        !output.status.success(),
        "{script} in {dir} succeeded: {stdout}"
    );
    text(&output.stderr)
}

/// Creates a repository of one commit with copies of these files of this project.
pub fn repository(path: &Path, files: &str) {
    let to = path.display();
    // With cp, because some are programs: see copy_program.
    let copy = format!("cp --no-dereference --preserve=mode --parents -- {files} '{to}'");
    run(Path::new("."), &copy);
    run(
        path,
        "git init -q --initial-branch=main; git add --all --force",
    );
    run(path, "git commit -q --message=all");
}

/// Creates a repository with all files of this project, including uncommitted changes.
pub fn copy_project(path: &Path) {
    let list = "git -c safe.directory='*' ls-files -co --exclude-standard";
    let listed = run(Path::new("."), list);
    let files = listed
        .lines()
        .filter(|file| fs::symlink_metadata(file).is_ok());
    repository(path, &files.collect::<Vec<_>>().join(" "));
}

pub fn tag(repository: &Path, name: &str) {
    run(
        repository,
        &format!("git tag --annotate --message=test {name}"),
    );
}

pub fn commit(repository: &Path) {
    run(repository, "git commit -q --allow-empty --message=more");
}

/// Compares two versions with rpm's own function: -1, 0 or 1.
pub fn rpm_order(a: &str, b: &str) -> i32 {
    let script = format!("rpm --eval \"%{{lua:print(rpm.vercmp('{a}', '{b}'))}}\"");
    run(Path::new("."), &script).parse().unwrap()
}

/// Every file and directory below a root with its mode, sorted by the path: `-rwxr-xr-x /usr/bin/x`.
pub fn listing(root: &Path) -> Vec<String> {
    let script = "find . -mindepth 1 -printf '%M /%P\\n' | LC_ALL=C sort --key=2";
    run(root, script).lines().map(str::to_owned).collect()
}

/// The prefix of a command that runs without network, if the system permits one.
pub fn without_network() -> &'static str {
    let prefixes = ["unshare --net", "unshare --net --map-root-user"];
    let permitted = prefixes.into_iter().find(|prefix| {
        let tried = command(Path::new("."), &format!("{prefix} true")).output();
        tried.unwrap().status.success()
    });
    permitted.unwrap_or_else(|| {
        eprintln!("cannot create a network namespace: the build has network access");
        ""
    })
}

pub fn is_root() -> bool {
    run(Path::new("."), "id -u") == "0"
}
