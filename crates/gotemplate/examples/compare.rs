//! Reads cases with Go's answers (JSON, from `oracle/`), and counts how this crate's answers agree with them.
//!
//! Ends with status 1 where a text differs, or where one side refuses or fails what the other does not; a template that Go
//! takes and that fails whenever it is run may be refused.

use std::collections::BTreeMap;
use std::io;
use std::process::ExitCode;

#[path = "../tests/support/mod.rs"]
mod support;

use support::{Answer, Case};

fn main() -> io::Result<ExitCode> {
    let cases: Vec<Case> = serde_json::from_reader(io::stdin().lock())?;
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    let mut differences = 0;
    for case in &cases {
        let kind = match (case.of_go(), case.of_crate()) {
            (Answer::Text(go), Answer::Text(own)) if go == own => "same text",
            (Answer::Text(_), Answer::Text(_)) => "OTHER TEXT",
            (Answer::Text(_), Answer::Refused(_)) => "REFUSED, Go renders",
            (Answer::Text(_), Answer::Failed(_)) => "FAILS, Go renders",
            (Answer::Refused(_), Answer::Refused(_)) => "both refuse",
            (Answer::Refused(_), _) => "TAKEN, Go refuses",
            (Answer::Failed(_), Answer::Failed(_)) => "both fail",
            (Answer::Failed(_), Answer::Refused(_)) => "refused at load, Go fails when run",
            (Answer::Failed(_), Answer::Text(_)) => "TEXT, Go fails",
        };
        *kinds.entry(kind).or_default() += 1;
        if let Some(difference) = case.difference() {
            differences += 1;
            eprintln!("{difference}");
        }
    }
    for (kind, count) in &kinds {
        println!("{count:6}  {kind}");
    }
    println!("{differences} of {} cases differ", cases.len());
    Ok(if differences > 0 {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}
