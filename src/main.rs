//! The program. Everything else is in the library, where tests, fuzz targets and benchmarks can use it.

#![forbid(unsafe_code)]
#![warn(clippy::unwrap_used, clippy::expect_used)]

use std::ffi::OsString;
use std::process::ExitCode;

use canopsis_connector_prometheus::text::visible;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    match canopsis_connector_prometheus::service::run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Each line has its own errors, which may repeat any text.
            for (number, line) in error.to_string().lines().enumerate() {
                let prefix = if number == 0 {
                    concat!(env!("CARGO_PKG_NAME"), ": ")
                } else {
                    ""
                };
                eprintln!("{prefix}{}", visible(line));
            }
            ExitCode::from(error.exit_status())
        }
    }
}
