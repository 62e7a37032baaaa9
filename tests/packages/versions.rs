//! The versions of commits, and how rpm orders them.

use std::fs;
use std::path::Path;

use super::version;
use crate::support::copy_program;
use crate::support::packaging::{DATE, Dir, commit, repository, rpm_order, run, run_failing, tag};

/// Whether a version is `BASE.COMMITS-gID`, as `v3.1-g9eca`; git chooses the number of digits of the id.
pub fn is_after(version: &str, base: &str, commits: u32) -> bool {
    let id = version.strip_prefix(&format!("{base}.{commits}-g"));
    id.is_some_and(|id| id.len() >= 4 && id.chars().all(|c| c.is_ascii_hexdigit()))
}

#[test]
fn every_commit_has_a_version_and_rpm_orders_them_by_history() {
    let dir = Dir::new("versions");
    repository(dir.path(), "scripts/version");
    let untagged = version(dir.path(), "upstream");
    assert!(is_after(&untagged, "v0", 1), "{untagged}");
    let mut history = vec![version(dir.path(), "rpm")];
    for name in ["v3", "v4-preview1", "v4-rc1", "v4-rc2", "v4", "v5"] {
        commit(dir.path());
        tag(dir.path(), name);
        assert_eq!(version(dir.path(), "upstream"), name);
        history.push(version(dir.path(), "rpm"));
        // Ten, because 9 must sort before 10.
        for commits in 1..=10 {
            commit(dir.path());
            let upstream = version(dir.path(), "upstream");
            assert!(is_after(&upstream, name, commits), "{upstream}");
            history.push(version(dir.path(), "rpm"));
        }
    }
    for exact in ["3", "4~preview1", "4~rc1", "4~rc2", "4", "5"] {
        let is_there = history.iter().any(|version| version == exact);
        assert!(is_there, "{exact} in {history:?}");
    }
    let mut after_candidate = history
        .iter()
        .filter(|version| version.starts_with("4~rc1.10_g"));
    assert!(after_candidate.next().is_some(), "{history:?}");
    for pair in history.windows(2) {
        assert_eq!(rpm_order(&pair[0], &pair[1]), -1, "{pair:?}");
    }
    // A lightweight tag, as GitLab's web interface makes for a release.
    commit(dir.path());
    run(dir.path(), "git tag v6");
    assert_eq!(version(dir.path(), "upstream"), "v6");
    run(dir.path(), "git tag --delete v6");
    // A candidate that became the release: several tags on one commit, annotated and lightweight.
    tag(dir.path(), "v6-rc9");
    tag(dir.path(), "v6-rc10");
    assert_eq!(version(dir.path(), "upstream"), "v6-rc10");
    run(dir.path(), "git tag v6");
    assert_eq!(version(dir.path(), "upstream"), "v6");
    commit(dir.path());
    assert!(is_after(&version(dir.path(), "upstream"), "v6", 1));
    for wrong in ["v7_beta", "v7-RC1", "v7-hotfix"] {
        commit(dir.path());
        tag(dir.path(), wrong);
        let expected = format!("\"{wrong}\" is not a valid version, such as v3");
        assert_fails(dir.path(), "", &expected);
    }
    assert_fails(dir.path(), "deb", "unknown form \"deb\"");
}

/// Asserts that `scripts/version` fails with this reason.
#[track_caller]
fn assert_fails(repository: &Path, form: &str, expected: &str) {
    let reason = run_failing(repository, &format!("scripts/version {form}"));
    assert!(reason.contains(expected), "{reason}");
}

#[test]
fn an_archive_has_its_version_and_a_shallow_clone_has_none() {
    let dir = Dir::new("origin");
    repository(dir.path(), "scripts/version");
    tag(dir.path(), "v3");
    commit(dir.path());
    let commit_id = version(dir.path(), "commit");
    assert_eq!(commit_id, run(dir.path(), "git rev-parse HEAD"));
    assert_eq!(version(dir.path(), "date"), DATE);

    let clone = Dir::new("shallow");
    let origin = dir.path().display();
    run(
        clone.path(),
        &format!("git clone -q --depth=1 'file://{origin}' ."),
    );
    assert_fails(clone.path(), "", "git fetch --unshallow --tags");
    run(clone.path(), "git fetch -q --unshallow --tags");
    assert!(is_after(&version(clone.path(), "upstream"), "v3", 1));

    fs::write(clone.join(".version"), "v7-rc2\n").unwrap();
    assert_eq!(version(clone.path(), "upstream"), "v7-rc2");
    assert_eq!(version(clone.path(), "rpm"), "7~rc2");
    assert_fails(clone.path(), "commit", ".commit is missing");
    fs::write(clone.join(".commit"), "abc\n").unwrap();
    fs::remove_dir_all(clone.join(".git")).unwrap();
    assert_eq!(version(clone.path(), "upstream"), "v7-rc2");
    assert_eq!(version(clone.path(), "commit"), "abc");
    fs::remove_file(clone.join(".version")).unwrap();
    let reason = "neither a file .version nor a git repository has the version";
    assert_fails(clone.path(), "", reason);
    // An enclosing repository does not count.
    fs::create_dir_all(dir.join("inner/scripts")).unwrap();
    copy_program("scripts/version", &dir.join("inner/scripts/version"));
    assert_fails(&dir.join("inner"), "", reason);
}
