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
    copy_and_tag_project(&one);
    let version = version(&one, "upstream");
    assert!(is_after(&version, "v9", 1), "{version}");

    let archive = assert_reproducible_archive(&one, &two, &version);
    assert_archive_content(&archive, &version);
    let tree = one.join("dist/build/el-9-x86_64");
    assert_builder_commands(&one, &tree, &version);
    let (rpm, source_rpm) = thread::scope(|scope| {
        let from_git = scope.spawn(|| run(&two, &["make", "build"]));
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

fn copy_and_tag_project(path: &Path) {
    fs::create_dir_all(path).unwrap();
    copy_project(path);
    tag(path, "v9");
    commit(path);
}

/// From two clones in different directories, with different owners and umasks.
fn assert_reproducible_archive(one: &Path, two: &Path, version: &str) -> PathBuf {
    fs::create_dir_all(two).unwrap();
    run(two, &["git", "clone", "-q", one.to_str().unwrap(), "."]);
    if is_root() {
        run(two, &["chown", "-R", "65534:65534", "."]);
    }
    let name = format!("dist/build/{NAME}-{version}.tar.gz");
    thread::scope(|scope| {
        scope.spawn(|| run(one, &["make", "-s", "-C", "dist", "prep-rpm"]));
        let printed = run(two, &["sh", "-c", "umask 077; make -s dist"]);
        assert_eq!(printed, name);
    });
    let bytes = fs::read(one.join(&name)).unwrap();
    assert!(
        bytes == fs::read(two.join(&name)).unwrap(),
        "two archives of the same commit differ"
    );
    one.join(name)
}

fn assert_archive_content(archive: &Path, version: &str) {
    let archive = archive.to_str().unwrap();
    let here = Path::new(".");
    let listed = run(
        here,
        &[
            "tar",
            "--list",
            "--verbose",
            "--numeric-owner",
            "--file",
            archive,
        ],
    );
    let top = format!("{NAME}-{version}");
    for line in listed.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(words[1], "0/0", "{line}");
        assert!(words[5].starts_with(&top), "{line}");
        assert!(
            ["drwxr-xr-x", "-rwxr-xr-x", "-rw-r--r--", "lrwxrwxrwx"].contains(&words[0]),
            "{line}"
        );
    }
    let holds = |path: &str| {
        listed
            .lines()
            .any(|line| line.ends_with(&format!(" {top}/{path}")))
    };
    let pages = [
        format!("man/{NAME}.8"),
        format!("man/{NAME}.yml.5"),
        format!("{NAME}.spec"),
    ];
    let others = [
        ".version",
        ".commit",
        ".date",
        ".cargo/config.toml",
        "Cargo.lock",
        "scripts/version",
        "LICENSE",
    ];
    for path in others.into_iter().chain(pages.iter().map(String::as_str)) {
        assert!(holds(path), "{path}");
    }
    assert!(listed.contains(&format!("{top}/vendor/amiquip-")));
    assert!(!holds(".git/") && !listed.contains("/.git/") && !holds("target/"));
    let file = |path: &str| {
        run(
            here,
            &[
                "tar",
                "--extract",
                "--to-stdout",
                "--file",
                archive,
                &format!("{top}/{path}"),
            ],
        )
    };
    assert_eq!(file(".version"), version);
    let spec = file(&pages[2]);
    assert!(
        !spec.contains('@') && spec.contains(&format!("global Version_safe {version}")),
        "{spec}"
    );
    // The labels of an image that is built from the archive without arguments.
    let dockerfile = file("Dockerfile");
    for (argument, value) in [("VERSION", version), ("COMMIT", &file(".commit"))] {
        let line = format!("ARG {argument}=\"{value}\"");
        let count = dockerfile.lines().filter(|other| *other == line).count();
        assert_eq!(count, 2, "{line}: the build and the labels");
    }
    assert!(!dockerfile.contains("ARG CREATED=\"\""));
    let rust = env!("CARGO_PKG_RUST_VERSION");
    for tool in ["cargo", "rust"] {
        assert!(
            spec.lines().any(|line| line.split_whitespace().eq([
                "BuildRequires:",
                tool,
                ">=",
                rust
            ])),
            "{spec}"
        );
    }
}

/// With `make --dry-run`, because a container engine may not be available.
fn assert_builder_commands(top: &Path, tree: &Path, version: &str) {
    let rpm_version = self::version(top, "rpm");
    let commands = run(
        top,
        &[
            "make",
            "--dry-run",
            "-C",
            "dist",
            "rpm",
            "DOCKER=engine",
            "MOCK_IMAGE=builder",
        ],
    );
    for target in ["el-8-x86_64", "el-9-x86_64"] {
        let tree = tree.with_file_name(target);
        assert!(
            tree.join(format!("SOURCES/{NAME}-{version}.tar.gz"))
                .exists()
        );
        assert!(tree.join(format!("SPECS/{NAME}.spec")).exists());
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
    let spec = tree.join(format!("SPECS/{NAME}.spec"));
    let defined = [
        "--define",
        "Version_safe v7-rc1",
        "--define",
        "Version 7~rc1",
        "--define",
        "dist .el9",
    ];
    let mut words = vec![
        "rpmspec",
        "--query",
        "--srpm",
        "--queryformat",
        "%{nvr} %{source}",
    ];
    words.extend(defined);
    words.push(spec.to_str().unwrap());
    assert_eq!(
        run(top, &words),
        format!("{NAME}-7~rc1-1.el9 {NAME}-v7-rc1.tar.gz")
    );
}
