//! The release archive.

use std::path::{Path, PathBuf};
use std::{fs, thread};

use super::rpm::{
    assert_hardened_without_build_paths, assert_rpm_header, assert_rpmlint_is_clean, assert_runs,
    assert_same_binary_as_from_git, assert_unit_is_valid, build_rpm, install_rpm,
};
use super::version;
use super::versions::is_after;
use crate::support::packaging::{Dir, NAME, commit, copy_project, is_root, run, tag};

/// Takes minutes, because it compiles the optimized binary twice. One test for all properties of the packages.
#[test]
fn the_archive_is_reproducible_and_gives_a_package_that_runs() {
    let dir = Dir::new("package");
    let (one, two) = (dir.join("one"), dir.join("another-clone/of-it"));
    fs::create_dir_all(&one).unwrap();
    copy_project(&one);
    tag(&one, "v9");
    commit(&one);
    let version = version(&one, "upstream");
    assert!(is_after(&version, "v9", 1), "{version}");

    let archive = assert_reproducible_archive(&one, &two, &version);
    assert_archive_content(&archive, &version);
    let tree = one.join("dist/build/el-9-x86_64");
    assert_builder_commands(&one, &tree, &version);
    let (rpm, source_rpm) = thread::scope(|scope| {
        let from_git = scope.spawn(|| run(&two, "make build"));
        let rpms = build_rpm(&tree);
        from_git.join().unwrap();
        rpms
    });
    assert_rpm_header(&rpm, &source_rpm);
    assert_rpmlint_is_clean(&one, &tree, &rpm);

    let root = dir.join("root");
    install_rpm(&root, &rpm);
    let binary = root.join("usr/bin").join(NAME);
    assert_hardened_without_build_paths(&binary, dir.path());
    assert_same_binary_as_from_git(&binary, &two);
    assert_runs(&binary, &root, &version, &one);
    assert_unit_is_valid(&root);
}

/// From two clones in different directories, with different owners and umasks.
fn assert_reproducible_archive(one: &Path, two: &Path, version: &str) -> PathBuf {
    fs::create_dir_all(two).unwrap();
    run(two, &format!("git clone -q '{}' .", one.display()));
    if is_root() {
        run(two, "chown -R 65534:65534 .");
    }
    let name = format!("dist/build/{NAME}-{version}.tar.gz");
    thread::scope(|scope| {
        scope.spawn(|| run(one, "make -s -C dist prep-rpm"));
        let printed = run(two, "umask 077; make -s dist");
        assert_eq!(printed, name);
    });
    let [first, second] = [one, two].map(|clone| fs::read(clone.join(&name)).unwrap());
    assert!(first == second, "two archives of the same commit differ");
    one.join(name)
}

fn assert_archive_content(archive: &Path, version: &str) {
    let tar = |options: &str| run(archive.parent().unwrap(), &format!("tar {options}"));
    let archive = archive.file_name().unwrap().to_str().unwrap();
    let listed = tar(&format!(
        "--list --verbose --numeric-owner --file {archive}"
    ));
    let top = format!("{NAME}-{version}");
    let modes = ["drwxr-xr-x", "-rwxr-xr-x", "-rw-r--r--", "lrwxrwxrwx"];
    for line in listed.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(words[1], "0/0", "{line}");
        assert!(words[5].starts_with(&top), "{line}");
        assert!(modes.contains(&words[0]), "{line}");
    }
    let holds = |path: &str| {
        let end = format!(" {top}/{path}");
        listed.lines().any(|line| line.ends_with(&end))
    };
    let needed = format!(
        ".version .commit .date .cargo/config.toml Cargo.lock scripts/version LICENSE {NAME}.spec man/{NAME}.8 man/{NAME}.yml.5"
    );
    for path in needed.split(' ') {
        assert!(holds(path), "{path}");
    }
    assert!(listed.contains(&format!("{top}/vendor/amiquip-")));
    assert!(!holds(".git/") && !listed.contains("/.git/") && !holds("target/"));
    let file = |path: &str| {
        tar(&format!(
            "--extract --to-stdout --file {archive} {top}/{path}"
        ))
    };
    assert_eq!(file(".version"), version);
    let spec = file(&format!("{NAME}.spec"));
    let has_version = spec.contains(&format!("global Version_safe {version}"));
    assert!(has_version && !spec.contains('@'), "{spec}");
    // The labels of an image that is built from the archive without arguments.
    let dockerfile = file("Dockerfile");
    for (argument, value) in [("VERSION", version), ("COMMIT", &file(".commit"))] {
        let line = format!("ARG {argument}=\"{value}\"");
        let count = dockerfile.lines().filter(|other| *other == line).count();
        assert_eq!(count, 2, "{line}: the build and the labels");
    }
    assert!(!dockerfile.contains("ARG CREATED=\"\""));
    for tool in ["cargo", "rust"] {
        let expected = format!(
            "BuildRequires: {tool} >= {}",
            env!("CARGO_PKG_RUST_VERSION")
        );
        let mut lines = spec.lines().map(|line| line.split_whitespace());
        assert!(
            lines.any(|words| words.eq(expected.split(' '))),
            "{expected} in {spec}"
        );
    }
}

/// With `make --dry-run`, because a container engine may not be available.
fn assert_builder_commands(top: &Path, tree: &Path, version: &str) {
    let rpm_version = self::version(top, "rpm");
    let dry_run = "make --dry-run -C dist rpm DOCKER=engine MOCK_IMAGE=builder";
    let commands = run(top, dry_run);
    for target in ["el-8-x86_64", "el-9-x86_64"] {
        let tree = tree.with_file_name(target);
        let archive = format!("SOURCES/{NAME}-{version}.tar.gz");
        for file in [archive, format!("SPECS/{NAME}.spec")] {
            assert!(tree.join(&file).exists(), "{target}/{file}");
        }
        let from = commands.find(&format!(
            "engine run --rm --privileged --network bridge --volume mock-cache:/var/cache/mock --volume '{}:",
            tree.display()
        ));
        let command = &commands[from.unwrap_or_else(|| panic!("{target} in {commands}"))..];
        let defines = format!(
            "builder \\\n\t{target} --define 'Version_safe {version}' --define 'Version {rpm_version}'"
        );
        assert!(command.contains(&defines), "{command}");
    }
    // The versions can be overridden on the command line.
    let defines = "--define 'Version_safe v7-rc1' --define 'Version 7~rc1' --define 'dist .el9'";
    let query = "rpmspec --query --srpm --queryformat '%{nvr} %{source}'";
    let names = run(tree, &format!("{query} {defines} SPECS/{NAME}.spec"));
    assert_eq!(names, format!("{NAME}-7~rc1-1.el9 {NAME}-v7-rc1.tar.gz"));
}
