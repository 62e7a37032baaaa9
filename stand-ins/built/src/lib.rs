//! A substitute for built 0.5 with one caller, the build script of amiquip 0.4, which uses four constants.

use std::io;
use std::path::Path;
use std::process::Command;
use std::{env, fs};

/// Writes the constants to `built.rs` in `OUT_DIR`.
pub fn write_built_file() -> io::Result<()> {
    let rustc = Command::new(variable("RUSTC")?).arg("-V").output()?;
    if !rustc.status.success() {
        return Err(io::Error::other(format!("rustc -V: {}", rustc.status)));
    }
    let constants = [
        ("PKG_NAME", variable("CARGO_PKG_NAME")?),
        ("PKG_VERSION", variable("CARGO_PKG_VERSION")?),
        ("CFG_OS", variable("CARGO_CFG_TARGET_OS")?),
        (
            "RUSTC_VERSION",
            String::from_utf8_lossy(&rustc.stdout).trim().to_owned(),
        ),
    ];
    let lines = constants.map(|(name, value)| format!("pub const {name}: &str = {value:?};\n"));
    fs::write(
        Path::new(&variable("OUT_DIR")?).join("built.rs"),
        lines.concat(),
    )
}

fn variable(name: &str) -> io::Result<String> {
    env::var(name).map_err(|error| io::Error::other(format!("{name}: {error}")))
}
