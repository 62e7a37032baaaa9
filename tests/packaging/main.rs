//! Versions, the release archive, the packages and the unit, built from temporary repositories with copies of this project, so that
//! the tags and the history of the working copy do not matter.

mod archive;
mod install;
mod rpm;
#[path = "../support/mod.rs"]
mod support;
mod versions;

use std::path::Path;

use support::packaging::run;

const CONFIG: &str = "etc/canopsis-connectors/prometheus/config.yml";

fn version(repository: &Path, form: &str) -> String {
    run(repository, &["scripts/version", form])
}
