//! The version, which the build script takes from `scripts/version`.

/// The version as in tags and file names: `v3`, or `v3.1-g9eca` one commit later.
pub const VERSION: &str = env!("CONNECTOR_VERSION");

/// The abbreviated hash of the commit.
pub const COMMIT: &str = env!("CONNECTOR_COMMIT");

/// The version of the compiler.
pub const RUSTC: &str = env!("CONNECTOR_RUSTC");

/// The output of `--version`.
pub fn long() -> String {
    let name = env!("CARGO_PKG_NAME");
    format!("{name} {VERSION} (commit {COMMIT}, rustc {RUSTC})")
}
