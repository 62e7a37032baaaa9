//! Versions, the image, the release archive, the packages and the unit, built from temporary repositories with copies of this project, so that
//! the tags and the history of the working copy do not matter.

mod archive;
mod image;
mod install;
mod rpm;
mod versions;

use std::path::Path;

use crate::support::packaging::run;

const CONFIG: &str = "etc/canopsis-connectors/prometheus/config.yml";

fn version(repository: &Path, form: &str) -> String {
    run(repository, &["scripts/version", form])
}
