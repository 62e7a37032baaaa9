//! Versions, the image, the release archive, the packages and the unit, built from temporary repositories with copies of this project, so that
//! the tags and the history of the working copy do not matter.

mod archive;
mod image;
mod install;
mod rpm;
mod versions;

use std::fs;
use std::path::Path;

use crate::support::packaging::{NAME, run};

const CONFIG: &str = "etc/canopsis-connectors/prometheus/config.yml";

fn version(repository: &Path, form: &str) -> String {
    run(repository, &format!("scripts/version {form}"))
}

/// What a package with this prefix has, in the order of the paths: mode, owner, group, rpm's flags and path. A flag is "c" for the
/// configuration, "n" for noreplace, "d" for documentation, "l" for a licence.
fn packaged_files(prefix: &str) -> Vec<String> {
    let documents = format!("{prefix}/share/doc/{NAME}");
    // All of these directories.
    let of_dirs = ["contrib", "docs"].map(|dir| {
        let entries = fs::read_dir(dir).unwrap();
        let mut files: Vec<String> = entries
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.is_file())
            .map(|path| format!("-rw-r--r-- root root d {documents}/{}", path.display()))
            .collect();
        files.sort();
        format!(
            "drwxr-xr-x root root {documents}/{dir}\n{}",
            files.join("\n")
        )
    });
    let of_dirs = of_dirs.join("\n");
    let files = format!(
        "drwxr-xr-x root root /etc/canopsis-connectors
        drwxr-xr-x root root /etc/canopsis-connectors/prometheus
        -rw-r----- root canopsis cn /{CONFIG}
        -rw-r----- root root cn /etc/sysconfig/{NAME}
        -rwxr-xr-x root root {prefix}/bin/{NAME}
        -rw-r--r-- root root {prefix}/lib/systemd/system/{NAME}.service
        drwxr-xr-x root root {documents}
        -rw-r--r-- root root d {documents}/ARCHITECTURE.md
        -rw-r--r-- root root d {documents}/CHANGELOG.md
        -rw-r--r-- root root d {documents}/CONTRIBUTING.md
        -rw-r--r-- root root d {documents}/README.md
        -rw-r--r-- root root d {documents}/SECURITY.md
        -rw-r--r-- root root d {documents}/config.yml
        {of_dirs}
        drwxr-xr-x root root {prefix}/share/licenses/{NAME}
        -rw-r--r-- root root l {prefix}/share/licenses/{NAME}/LICENSE
        -rw-r--r-- root root l {prefix}/share/licenses/{NAME}/THIRD-PARTY-LICENSES
        -rw-r--r-- root root d {prefix}/share/man/man5/{NAME}.yml.5
        -rw-r--r-- root root d {prefix}/share/man/man8/{NAME}.8"
    );
    files.lines().map(|line| line.trim().to_owned()).collect()
}
