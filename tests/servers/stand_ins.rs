//! The crates of `stand-ins/` generate the same code as the originals.

use std::path::Path;
use std::process::Command;

/// The checksum of the code that handlebars 1.1.0 generates for amq-protocol 1.4.0.
const PROTOCOL_SHA256: &str = "4567f499801a7150f275f7ebf595dbeb190b59ab3704f0f2898f23108c6c7a2f";

#[test]
fn the_generated_protocol_equals_that_of_handlebars() {
    let built =
        Path::new(env!("CARGO_BIN_EXE_canopsis-connector-prometheus")).with_file_name("build");
    let packages = std::fs::read_dir(&built)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let rendered: Vec<_> = packages
        .map(|package| package.join("out/protocol.rs"))
        .filter(|file| file.exists())
        .collect();
    assert!(!rendered.is_empty(), "nothing in {}", built.display());
    for file in rendered {
        let output = Command::new("sha256sum").arg(&file).output().unwrap();
        let sum = String::from_utf8(output.stdout).unwrap();
        assert_eq!(
            sum.split(' ').next(),
            Some(PROTOCOL_SHA256),
            "{}",
            file.display()
        );
    }
}
