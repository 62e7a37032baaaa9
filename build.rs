//! Passes the version and the commit, as printed by `scripts/version`, and the compiler's version to the compilation.

use std::path::Path;
use std::process::Command;

fn main() {
    let version = script_version("upstream").unwrap_or_else(|| "v0-unknown".to_owned());
    let commit = script_version("commit").unwrap_or_else(|| "unknown".to_owned());
    println!("cargo::rustc-env=CONNECTOR_VERSION={version}");
    println!(
        "cargo::rustc-env=CONNECTOR_COMMIT={}",
        commit.get(..12).unwrap_or(&commit)
    );
    println!("cargo::rustc-env=CONNECTOR_RUSTC={}", rustc());
    // Only files that exist: cargo would rerun this on every build for a missing one.
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

/// The output of the script. Without it a plain build continues; packaging runs the script itself, and fails there.
fn script_version(form: &str) -> Option<String> {
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

/// The number in the compiler's version: `rustc 1.95.0 (59807616e 2026-04-14)` -> `1.95.0`.
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
