//! Compiles into the binary which version it is, as `scripts/version` tells it, and by which compiler it was built.

use std::path::Path;
use std::process::Command;

fn main() {
    let version = told("upstream").unwrap_or_else(|| "v0-unknown".to_owned());
    let commit = told("commit").unwrap_or_else(|| "unknown".to_owned());
    println!("cargo::rustc-env=CONNECTOR_VERSION={version}");
    println!(
        "cargo::rustc-env=CONNECTOR_COMMIT={}",
        commit.get(..12).unwrap_or(&commit)
    );
    println!("cargo::rustc-env=CONNECTOR_RUSTC={}", rustc());
    // Only what is there: a file that is missing would have everything compiled anew each time.
    let from_git = ["HEAD", "logs/HEAD", "packed-refs", "refs/tags"]
        .iter()
        .filter_map(|name| git_path(name));
    let files = ["scripts/version", ".version", ".commit"]
        .iter()
        .map(|&name| name.to_owned())
        .chain(from_git);
    for file in files.filter(|file| Path::new(file).exists()) {
        println!("cargo::rerun-if-changed={file}");
    }
}

/// What the script says. Where it can't tell, a plain build goes on; what makes packages asks the script itself, and ends.
fn told(form: &str) -> Option<String> {
    let output = Command::new("sh")
        .args(["scripts/version", form])
        .output()
        .ok()?;
    if !output.status.success() {
        println!(
            "cargo::warning={}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
        return None;
    }
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The compiler's version alone: `rustc 1.95.0 (59807616e 2026-04-14)` -> `1.95.0`.
fn rustc() -> String {
    let compiler = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(compiler).arg("--version").output();
    let text = output
        .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
        .unwrap_or_default();
    text.split_whitespace()
        .nth(1)
        .unwrap_or("unknown")
        .to_owned()
}

fn git_path(name: &str) -> Option<String> {
    if !Path::new(".git").exists() {
        return None;
    }
    let output = Command::new("git")
        .args(["-c", "safe.directory=*", "rev-parse", "--git-path", name])
        .output()
        .ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
