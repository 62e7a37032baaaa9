//! Builds the container image from the Dockerfile with the base images of `scripts/base-images`, and runs containers. Uses a separate
//! storage in the build directory, which caches base images and layers between runs.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::Value;

use super::{ProcessGroup, TIMEOUT, assert_success, temp_path, wait_within};

pub const VERSION: &str = "v9.8-rc7";
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
pub const SOURCE: &str = "https://git.example/connector";
pub const CREATED: &str = "2026-11-22T14:10:49Z";
pub const DIGEST: &str = "sha256:0123";

const NAME: &str = "localhost/ccp-test/connector";

/// For debootstrap and a release build of all crates on a small machine.
const BUILD_TIMEOUT: Duration = Duration::from_mins(15);

pub struct Image {
    dir: PathBuf,
}

impl Image {
    /// The image that all tests of one file share. It is built once; if that fails, all of them fail.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Result<Image, String>> = OnceLock::new();
        let made = SHARED.get_or_init(|| {
            let image = Self::prepare()?;
            let settings = [
                ("VERSION", VERSION),
                ("COMMIT", COMMIT),
                ("SOURCE", SOURCE),
                ("CREATED", CREATED),
                ("BUSYBOX_DIGEST", DIGEST),
            ];
            image
                .build(NAME, &settings)
                .map_err(|log| format!("the image was not built:\n{log}"))?;
            Ok(image)
        });
        made.as_ref().unwrap_or_else(|error| panic!("{error}"))
    }

    /// Makes the base images, unless they exist.
    fn prepare() -> Result<Self, String> {
        for tool in ["buildah", "debootstrap", "podman", "runc"] {
            let there = Command::new("sh")
                .args(["-c", "command -v \"$1\" >/dev/null", "sh", tool])
                .status()
                .unwrap();
            if !there.success() {
                return Err(format!(
                    "{tool} must be installed (scripts/install-missing {tool}), and in root's PATH"
                ));
            }
        }
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("image-test");
        let image = Self { dir };
        run(&["scripts/base-images", image.dir.to_str().unwrap()])
            .map_err(|log| format!("the base images were not made:\n{log}"))?;
        // Removes layers of earlier sources; layers of the last day stay as a cache.
        image.podman(&["image", "prune", "--force", "--filter", "until=24h"]);
        Ok(image)
    }

    /// Builds the Dockerfile. Returns the output, as the error if the build fails.
    pub fn build(&self, tag: &str, settings: &[(&str, &str)]) -> Result<String, String> {
        let home = std::env::var("CARGO_HOME")
            .unwrap_or_else(|_| format!("{}/.cargo", std::env::var("HOME").unwrap()));
        let sysroot = Command::new("rustc")
            .args(["--print", "sysroot"])
            .output()
            .unwrap();
        let toolchain = format!(
            "{}:/usr/local/rust:ro",
            String::from_utf8(sysroot.stdout).unwrap().trim()
        );
        // Cargo's registry has all crates, because cargo built this test.
        let crates = format!("{home}/registry:/usr/local/cargo/registry:ro");
        let mut command = vec![
            "env".to_owned(),
            "BUILDAH_ISOLATION=chroot".to_owned(),
            "buildah".to_owned(),
        ];
        command.extend(self.storage());
        command.extend(
            [
                "bud",
                "--format=docker",
                "--layers",
                "--network=host",
                "--volume",
                &toolchain,
                "--volume",
                &crates,
            ]
            .map(str::to_owned),
        );
        let bases = [
            ("RUST_IMAGE", "rust"),
            ("BUSYBOX_IMAGE", "busybox"),
            ("CERTS_IMAGE", "certs"),
        ];
        command.extend(
            bases.map(|(name, base)| format!("--build-arg={name}=localhost/ccp-test/{base}")),
        );
        command.extend(
            settings
                .iter()
                .map(|(name, value)| format!("--build-arg={name}={value}")),
        );
        command.extend(["--tag", tag, "."].map(str::to_owned));
        let built = run(&command.iter().map(String::as_str).collect::<Vec<_>>());
        // The containers of the build stages would stay mounted.
        let mut remove = Command::new("buildah");
        assert!(
            remove
                .args(self.storage())
                .args(["rm", "--all"])
                .output()
                .unwrap()
                .status
                .success()
        );
        built
    }

    /// The output of `podman image inspect`.
    pub fn inspect(&self) -> Value {
        self.inspect_any(NAME)
    }

    /// The size of the base image in bytes.
    pub fn base_size(&self) -> u64 {
        self.inspect_any("localhost/ccp-test/busybox")["Size"]
            .as_u64()
            .unwrap()
    }

    fn inspect_any(&self, name: &str) -> Value {
        let output = self.podman(&["image", "inspect", name]);
        let images: Value = serde_json::from_slice(&output.stdout).unwrap();
        images[0].clone()
    }

    /// Runs a restricted container to its end.
    pub fn run(&self, options: &[&str], arguments: &[&str]) -> Output {
        let restrictions = restrictions();
        let mut command = vec!["run", "--rm"];
        command.extend(restrictions.iter().map(String::as_str));
        command.extend(options.iter().chain(&[NAME]).chain(arguments));
        self.try_podman(&command)
    }

    /// Starts a restricted container, and waits until the connector listens. The options must set the address to this port of
    /// 127.0.0.1.
    pub fn start(&'static self, port: u16, options: &[&str]) -> Container {
        let path = temp_path("container");
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let log = path.with_extension("log").to_str().unwrap().to_owned();
        let mut command = self.podman_command();
        command.extend(["run", "--name", &name].map(str::to_owned));
        command.extend(restrictions());
        command.extend(options.iter().map(|&option| option.to_owned()));
        command.push(NAME.to_owned());
        let podman = self.podman_command().join(" ");
        let cleanup = format!("{podman} rm --force --time 0 {name} >/dev/null 2>&1; rm -f {log}");
        let process = ProcessGroup::start(
            &command.iter().map(String::as_str).collect::<Vec<_>>(),
            &log,
            &cleanup,
        );
        let container = Container {
            image: self,
            name,
            log,
            _process: process,
            address: ([127, 0, 0, 1], port).into(),
        };
        wait_within(
            TIMEOUT,
            &format!("a container listens; see {}", container.log),
            || container.log().contains("listening"),
        );
        container
    }

    fn storage(&self) -> [String; 4] {
        let path = |name| self.dir.join(name).to_str().unwrap().to_owned();
        [
            "--root".into(),
            path("storage"),
            "--runroot".into(),
            path("run"),
        ]
    }

    fn podman_command(&self) -> Vec<String> {
        let mut command = vec!["podman".to_owned()];
        command.extend(self.storage());
        command.extend([
            "--tmpdir".to_owned(),
            self.dir.join("tmp").to_str().unwrap().to_owned(),
        ]);
        // Works without systemd. runc, because crun fails with cgroup version 1.
        command.extend(
            [
                "--runtime=runc",
                "--cgroup-manager=cgroupfs",
                "--events-backend=none",
            ]
            .map(str::to_owned),
        );
        command
    }

    fn try_podman(&self, arguments: &[&str]) -> Output {
        let command = self.podman_command();
        Command::new(&command[0])
            .args(&command[1..])
            .args(arguments)
            .output()
            .unwrap()
    }

    fn podman(&self, arguments: &[&str]) -> Output {
        let output = self.try_podman(arguments);
        assert_success(&output, &format!("podman {arguments:?}"));
        output
    }
}

/// A read-only file system and no privileges. The ulimits are those that a nested container can set.
fn restrictions() -> Vec<String> {
    let options = "--network=host --read-only --read-only-tmpfs=false --cap-drop=all --security-opt=no-new-privileges \
                   --ulimit=nofile=1024:20000 --ulimit=nproc=4096:4096";
    options.split_whitespace().map(str::to_owned).collect()
}

/// Runs a command that takes minutes and ends with the test. Returns its output, as the error if it fails.
fn run(command: &[&str]) -> Result<String, String> {
    let (log, status) = (temp_path("log"), temp_path("status"));
    let (log_path, status_path) = (log.to_str().unwrap(), status.to_str().unwrap());
    let script =
        "status=$1; shift; \"$@\"; echo $? >\"$status.new\"; mv \"$status.new\" \"$status\"";
    let mut wrapped = vec!["nice", "sh", "-c", script, "run", status_path];
    wrapped.extend(command);
    let process = ProcessGroup::start(&wrapped, log_path, "");
    wait_within(
        BUILD_TIMEOUT,
        &format!("{command:?} ends; see {log_path}"),
        || status.exists(),
    );
    drop(process);
    let output = std::fs::read_to_string(&log).unwrap();
    let succeeded = std::fs::read_to_string(&status).unwrap().trim() == "0";
    for file in [&log, &status] {
        std::fs::remove_file(file).unwrap();
    }
    if succeeded { Ok(output) } else { Err(output) }
}

/// A running container of the image, removed at the end of the test, even if the test is killed.
pub struct Container {
    image: &'static Image,
    name: String,
    log: String,
    _process: ProcessGroup,
    pub address: SocketAddr,
}

impl Container {
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Runs the image's health check.
    pub fn is_healthy(&self) -> bool {
        self.image
            .try_podman(&["healthcheck", "run", &self.name])
            .status
            .success()
    }

    /// Stops the container with the image's stop signal, and returns its exit code.
    pub fn stop(&self) -> String {
        self.image.podman(&["stop", "--time", "60", &self.name]);
        let code = self.image.podman(&["wait", &self.name]);
        String::from_utf8(code.stdout).unwrap().trim().to_owned()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the container's log:\n{}---", self.log());
        }
    }
}
