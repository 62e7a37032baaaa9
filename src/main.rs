//! The program. Everything else is in the library, where tests, fuzz targets and benchmarks can use it.

#![forbid(unsafe_code)]
#![warn(clippy::unwrap_used, clippy::expect_used)]

use std::process::ExitCode;

use canopsis_connector_prometheus::service;
use canopsis_connector_prometheus::text::visible;

fn main() -> ExitCode {
    let Err(error) = service::run() else {
        return ExitCode::SUCCESS;
    };
    let mut prefix = concat!(env!("CARGO_PKG_NAME"), ": ");
    // Each line has its own errors, which may repeat any text.
    for line in error.to_string().lines() {
        eprintln!("{prefix}{}", visible(line));
        prefix = "";
    }
    ExitCode::from(error.exit_status())
}
