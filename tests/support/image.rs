//! Builds the container image from the Dockerfile with the base images of `scripts/base-images`, and runs containers. Uses a separate
//! storage in the build directory, which caches base images and layers between runs.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::Value;

use super::{ProcessGroup, assert_success, temp_path, wait_until, wait_within};

pub const VERSION: &str = "v9.8-rc7";
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
pub const SOURCE: &str = "https://git.example/connector";
pub const CREATED: &str = "2026-11-22T14:10:49Z";
pub const DIGEST: &str = "sha256:0123";

/// Where the images of the tests are.
pub const TESTS: &str = "localhost/ccp-test";

const NAME: &str = "localhost/ccp-test/connector";

/// A read-only file system and no privileges. The ulimits are those that a nested container can set.
const RESTRICTIONS: &str = "--network=host --read-only --read-only-tmpfs=false --cap-drop=all --security-opt=no-new-privileges \
                            --ulimit=nofile=1024:20000 --ulimit=nproc=4096:4096";

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
            let settings = format!(
                "VERSION={VERSION} COMMIT={COMMIT} SOURCE={SOURCE} CREATED={CREATED} BUSYBOX_DIGEST={DIGEST}"
            );
            let built = image.build(NAME, &settings);
            built.map_err(|log| format!("the image was not built:\n{log}"))?;
            Ok(image)
        });
        made.as_ref().unwrap_or_else(|error| panic!("{error}"))
    }

    /// Makes the base images, unless they exist.
    fn prepare() -> Result<Self, String> {
        for tool in ["buildah", "debootstrap", "podman", "runc"] {
            let find = Command::new("sh")
                .args(["-c", &format!("command -v {tool}")])
                .output();
            if !find.unwrap().status.success() {
                return Err(format!(
                    "{tool} must be installed (scripts/install-missing {tool}), and in root's PATH"
                ));
            }
        }
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("image-test");
        let image = Self { dir };
        run(&format!("scripts/base-images {}", image.dir.display()))
            .map_err(|log| format!("the base images were not made:\n{log}"))?;
        // Removes layers of earlier sources; layers of the last day stay as a cache.
        image.podman("image prune --force --filter until=24h");
        Ok(image)
    }

    /// Builds the Dockerfile. Returns the output, as the error if the build fails.
    pub fn build(&self, tag: &str, settings: &str) -> Result<String, String> {
        // Cargo's registry has all crates, because cargo built this test.
        let volumes = "--volume $(rustc --print sysroot):/usr/local/rust:ro \
                       --volume ${CARGO_HOME:-$HOME/.cargo}/registry:/usr/local/cargo/registry:ro";
        let bases = format!(
            "RUST_IMAGE={TESTS}/rust BUSYBOX_IMAGE={TESTS}/busybox CERTS_IMAGE={TESTS}/certs {settings}"
        );
        let arguments: String = bases
            .split_whitespace()
            .flat_map(|setting| [" --build-arg=", setting])
            .collect();
        let buildah = format!("BUILDAH_ISOLATION=chroot buildah {}", self.storage());
        let options = format!("--format=docker --layers --network=host {volumes}{arguments}");
        let built = run(&format!("{buildah} bud {options} --tag {tag} ."));
        // The containers of the build stages would stay mounted.
        run(&format!("{buildah} rm --all")).unwrap();
        built
    }

    /// The output of `podman image inspect`.
    pub fn inspect(&self) -> Value {
        self.inspect_any(NAME)
    }

    /// The size of the base image in bytes.
    pub fn base_size(&self) -> u64 {
        let inspected = self.inspect_any(&format!("{TESTS}/busybox"));
        inspected["Size"].as_u64().unwrap()
    }

    fn inspect_any(&self, name: &str) -> Value {
        let images = self.podman(&format!("image inspect {name}"));
        let images: Value = serde_json::from_str(&images).unwrap();
        images[0].clone()
    }

    /// Runs a restricted container to its end.
    pub fn run(&self, options: &str, arguments: &str) -> Output {
        self.try_podman(&format!(
            "run --rm {RESTRICTIONS} {options} {NAME} {arguments}"
        ))
    }

    /// Starts a restricted container, and waits until the connector listens. The options must set the address to this port of
    /// 127.0.0.1.
    pub fn start(&'static self, port: u16, options: &str) -> Container {
        let path = temp_path("container");
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let log = path.with_extension("log").to_str().unwrap().to_owned();
        let podman = self.podman_command();
        let command = format!("{podman} run --name {name} {RESTRICTIONS} {options} {NAME}");
        let cleanup = format!("{podman} rm --force --time 0 {name} >/dev/null 2>&1; rm -f {log}");
        let words: Vec<&str> = command.split_whitespace().collect();
        let process = ProcessGroup::start(&words, &log, &cleanup);
        let container = Container {
            image: self,
            name,
            log,
            _process: process,
            address: ([127, 0, 0, 1], port).into(),
        };
        let what = format!("a container listens; see {}", container.log);
        wait_until(&what, || container.log().contains("listening"));
        container
    }

    fn storage(&self) -> String {
        let dir = self.dir.display();
        format!("--root {dir}/storage --runroot {dir}/run")
    }

    /// It works without systemd. With runc, because crun fails with cgroup version 1.
    fn podman_command(&self) -> String {
        let (storage, dir) = (self.storage(), self.dir.display());
        let options = "--runtime=runc --cgroup-manager=cgroupfs --events-backend=none";
        format!("podman {storage} --tmpdir {dir}/tmp {options}")
    }

    fn try_podman(&self, arguments: &str) -> Output {
        let command = format!("{} {arguments}", self.podman_command());
        let mut words = command.split_whitespace();
        let mut command = Command::new(words.next().unwrap());
        command.args(words).output().unwrap()
    }

    fn podman(&self, arguments: &str) -> String {
        let output = self.try_podman(arguments);
        assert_success(&output, &format!("podman {arguments}"));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }
}

/// Runs a shell command that takes minutes and ends with the test. Returns its output, as the error if it fails.
fn run(command: &str) -> Result<String, String> {
    let (log, status) = (temp_path("log"), temp_path("status"));
    let script = format!("{command}; echo $? >$0.new; mv $0.new $0");
    let words = ["nice", "sh", "-c", &script, status.to_str().unwrap()];
    let process = ProcessGroup::start(&words, log.to_str().unwrap(), "");
    let what = format!("{command} ends; see {}", log.display());
    wait_within(BUILD_TIMEOUT, &what, || status.exists());
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
        let check = format!("healthcheck run {}", self.name);
        self.image.try_podman(&check).status.success()
    }

    /// Stops the container with the image's stop signal, and returns its exit code.
    pub fn stop(&self) -> String {
        self.image.podman(&format!("stop --time 60 {}", self.name));
        self.image.podman(&format!("wait {}", self.name))
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the container's log:\n{}---", self.log());
        }
    }
}
