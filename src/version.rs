//! Which version this is: told by `scripts/version` when it was compiled.

/// As in file names and tags: `v3`, or `v3.1-g9eca` one commit after it.
pub const VERSION: &str = env!("CONNECTOR_VERSION");

/// The commit's id, shortened.
pub const COMMIT: &str = env!("CONNECTOR_COMMIT");

/// The compiler's version.
pub const RUSTC: &str = env!("CONNECTOR_RUSTC");

/// What `--version` prints.
pub const LONG: &str = concat!(
    env!("CARGO_PKG_NAME"),
    " ",
    env!("CONNECTOR_VERSION"),
    " (commit ",
    env!("CONNECTOR_COMMIT"),
    ", rustc ",
    env!("CONNECTOR_RUSTC"),
    ")"
);
