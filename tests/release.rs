//! The binary as `make build` makes it. The binary of the other tests has more features of the crate regex, which proptest requires.

use std::path::Path;

use crate::support::connector::{BINARY, run_with_input};

#[test]
fn the_release_binary_understands_each_kind_of_regexp() {
    // The tests' binary is in target/debug.
    let debug = Path::new(BINARY);
    let release = debug.parent().unwrap().with_file_name("release");
    let binary = release.join(debug.file_name().unwrap());
    assert!(binary.exists(), "run \"make build\" first");
    let mut command = std::process::Command::new(binary);
    let output = run_with_input(
        command.args(["--check", "--config", "tests/data/regexps.yml"]),
        "",
    );
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
}
