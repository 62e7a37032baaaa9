//! Versions, the release archive, the packages and the unit, built from temporary repositories with copies of this project, so that
//! the tags and the history of the working copy do not matter.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

use support::copy_program;
use support::packaging::{
    Dir, NAME, as_root, command, commit, copy_project, is_root, listing, repository, rpm_order,
    run, run_failing, tag, without_network,
};

const CONFIG: &str = "etc/canopsis-connectors/prometheus/config.yml";

fn version(repository: &Path, form: &str) -> String {
    run(repository, &["scripts/version", form])
}

/// Whether a version is `BASE.COMMITS-gID`, as `v3.1-g9eca`; git chooses the number of digits of the id.
fn is_after(version: &str, base: &str, commits: u32) -> bool {
    let id = version.strip_prefix(&format!("{base}.{commits}-g"));
    id.is_some_and(|id| id.len() >= 4 && id.chars().all(|c| c.is_ascii_hexdigit()))
}

#[test]
fn every_commit_has_a_version_and_rpm_orders_them_by_history() {
    let dir = Dir::new("versions");
    repository(dir.path(), &["scripts/version"]);
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
        assert!(
            history.iter().any(|version| version == exact),
            "{exact} in {history:?}"
        );
    }
    assert!(
        history
            .iter()
            .any(|version| version.starts_with("4~rc1.10_g")),
        "{history:?}"
    );
    for pair in history.windows(2) {
        assert_eq!(rpm_order(&pair[0], &pair[1]), -1, "{pair:?}");
    }
    // A lightweight tag, as GitLab's web interface makes for a release.
    commit(dir.path());
    run(dir.path(), &["git", "tag", "v6"]);
    assert_eq!(version(dir.path(), "upstream"), "v6");
    run(dir.path(), &["git", "tag", "--delete", "v6"]);
    // A candidate that became the release: several tags on one commit, annotated and lightweight.
    tag(dir.path(), "v6-rc9");
    tag(dir.path(), "v6-rc10");
    assert_eq!(version(dir.path(), "upstream"), "v6-rc10");
    run(dir.path(), &["git", "tag", "v6"]);
    assert_eq!(version(dir.path(), "upstream"), "v6");
    commit(dir.path());
    assert!(is_after(&version(dir.path(), "upstream"), "v6", 1));
    for wrong in ["v7_beta", "v7-RC1", "v7-hotfix"] {
        commit(dir.path());
        tag(dir.path(), wrong);
        let reason = run_failing(dir.path(), &["scripts/version"]);
        assert!(
            reason.contains(&format!("\"{wrong}\" is not a valid version, such as v3")),
            "{reason}"
        );
    }
    assert!(run_failing(dir.path(), &["scripts/version", "deb"]).contains("unknown form \"deb\""));
}

#[test]
fn rpm_orders_versions_as_the_scheme_requires() {
    let ascending = [
        "3",
        "3.9_g9eca",
        "3.10_g0000",
        "4~preview2",
        "4~rc1",
        "4~rc1.1_gabcd",
        "4",
        "4.1_g9eca",
        "5",
    ];
    for pair in ascending.windows(2) {
        assert_eq!(rpm_order(pair[0], pair[1]), -1, "{pair:?}");
    }
}

#[test]
fn an_archive_has_its_version_and_a_shallow_clone_has_none() {
    let dir = Dir::new("origin");
    repository(dir.path(), &["scripts/version"]);
    tag(dir.path(), "v3");
    commit(dir.path());
    let commit_id = version(dir.path(), "commit");
    assert_eq!(commit_id, run(dir.path(), &["git", "rev-parse", "HEAD"]));
    assert_eq!(version(dir.path(), "date"), support::packaging::DATE);

    let clone = Dir::new("shallow");
    let origin = format!("file://{}", dir.path().display());
    run(
        clone.path(),
        &["git", "clone", "-q", "--depth=1", &origin, "."],
    );
    assert!(
        run_failing(clone.path(), &["scripts/version"]).contains("git fetch --unshallow --tags")
    );
    run(
        clone.path(),
        &["git", "fetch", "-q", "--unshallow", "--tags"],
    );
    assert!(is_after(&version(clone.path(), "upstream"), "v3", 1));

    fs::write(clone.join(".version"), "v7-rc2\n").unwrap();
    assert_eq!(
        (
            version(clone.path(), "upstream"),
            version(clone.path(), "rpm")
        ),
        ("v7-rc2".into(), "7~rc2".into())
    );
    assert!(
        run_failing(clone.path(), &["scripts/version", "commit"]).contains(".commit is missing")
    );
    fs::write(clone.join(".commit"), "abc\n").unwrap();
    fs::remove_dir_all(clone.join(".git")).unwrap();
    assert_eq!(
        (
            version(clone.path(), "upstream"),
            version(clone.path(), "commit")
        ),
        ("v7-rc2".into(), "abc".into())
    );
    fs::remove_file(clone.join(".version")).unwrap();
    let reason = run_failing(clone.path(), &["scripts/version"]);
    assert!(
        reason.contains("neither a file .version nor a git repository has the version"),
        "{reason}"
    );
    // An enclosing repository does not count.
    fs::create_dir_all(dir.join("inner/scripts")).unwrap();
    copy_program("scripts/version", &dir.join("inner/scripts/version"));
    assert_eq!(
        run_failing(&dir.join("inner"), &["scripts/version"]),
        reason
    );
}

/// A line for each installed directory below that of the documents, and for each file in it: all of `contrib/` and `docs/`.
fn documents(dir_line: impl Fn(&str) -> String, file_line: impl Fn(&str) -> String) -> String {
    let mut lines = Vec::new();
    for dir in ["contrib", "docs"] {
        lines.push(dir_line(dir));
        let entries = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let mut files: Vec<String> = entries
            .filter(|path| path.is_file())
            .map(|path| file_line(path.to_str().unwrap()))
            .collect();
        files.sort();
        lines.append(&mut files);
    }
    lines.join("\n")
}

#[test]
fn make_install_installs_every_file_and_keeps_a_configuration() {
    let dir = Dir::new("install");
    copy_project(dir.path());
    fs::create_dir_all(dir.join("target/release")).unwrap();
    fs::write(dir.join("target/release").join(NAME), "#!/bin/sh\n").unwrap();
    run(
        dir.path(),
        &["chmod", "0700", &format!("target/release/{NAME}")],
    );
    run(dir.path(), &["make", "-s", "man"]);
    let install = |umask: &str, root: &str| {
        let script =
            format!("umask {umask}; make -s install DESTDIR=\"$PWD\"/{root} PREFIX=/opt/bridge");
        run(dir.path(), &["sh", "-c", &script]);
    };
    install("077", "strict");
    let documents = documents(
        |dir| format!("0755 /opt/bridge/share/doc/{NAME}/{dir}/"),
        |file| format!("0644 /opt/bridge/share/doc/{NAME}/{file}"),
    );
    let files = format!(
        "0755 /etc/
        0755 /etc/canopsis-connectors/
        0755 /etc/canopsis-connectors/prometheus/
        0640 /etc/canopsis-connectors/prometheus/config.yml
        0755 /etc/sysconfig/
        0640 /etc/sysconfig/{NAME}
        0755 /opt/
        0755 /opt/bridge/
        0755 /opt/bridge/bin/
        0755 /opt/bridge/bin/{NAME}
        0755 /opt/bridge/lib/
        0755 /opt/bridge/lib/systemd/
        0755 /opt/bridge/lib/systemd/system/
        0644 /opt/bridge/lib/systemd/system/{NAME}.service
        0755 /opt/bridge/share/
        0755 /opt/bridge/share/doc/
        0755 /opt/bridge/share/doc/{NAME}/
        0644 /opt/bridge/share/doc/{NAME}/ARCHITECTURE.md
        0644 /opt/bridge/share/doc/{NAME}/CHANGELOG.md
        0644 /opt/bridge/share/doc/{NAME}/CONTRIBUTING.md
        0644 /opt/bridge/share/doc/{NAME}/README.md
        0644 /opt/bridge/share/doc/{NAME}/SECURITY.md
        0644 /opt/bridge/share/doc/{NAME}/config.yml
{documents}
        0755 /opt/bridge/share/licenses/
        0755 /opt/bridge/share/licenses/{NAME}/
        0644 /opt/bridge/share/licenses/{NAME}/LICENSE
        0644 /opt/bridge/share/licenses/{NAME}/THIRD-PARTY-LICENSES
        0755 /opt/bridge/share/man/
        0755 /opt/bridge/share/man/man5/
        0644 /opt/bridge/share/man/man5/{NAME}.yml.5
        0755 /opt/bridge/share/man/man8/
        0644 /opt/bridge/share/man/man8/{NAME}.8"
    );
    let files: Vec<&str> = files.lines().map(str::trim).collect();
    assert_eq!(listing(&dir.join("strict")), files);
    install("000", "loose");
    assert_eq!(listing(&dir.join("loose")), files);
    assert_no_dead_links(&dir.join(format!("strict/opt/bridge/share/doc/{NAME}")));
    let unit = fs::read_to_string(dir.join(format!(
        "strict/opt/bridge/lib/systemd/system/{NAME}.service"
    )))
    .unwrap();
    assert!(
        unit.contains(&format!("\nExecStart=/opt/bridge/bin/{NAME} $ARGS\n")),
        "{unit}"
    );
    assert!(!unit.contains("/usr/bin"), "{unit}");

    let config = dir.join("strict").join(CONFIG);
    fs::write(&config, "edited\n").unwrap();
    fs::write(
        dir.join(format!("strict/etc/sysconfig/{NAME}")),
        "ARGS=edited\n",
    )
    .unwrap();
    install("022", "strict");
    assert_eq!(fs::read_to_string(config).unwrap(), "edited\n");
    assert_eq!(
        fs::read_to_string(dir.join(format!("strict/etc/sysconfig/{NAME}"))).unwrap(),
        "ARGS=edited\n"
    );
    assert_eq!(listing(&dir.join("strict")), files);
}

/// Documents link only to what is installed beside them.
fn assert_no_dead_links(installed: &Path) {
    let mut documents = BTreeMap::new();
    for name in support::documents::documents().into_keys() {
        if let Ok(text) = fs::read_to_string(installed.join(&name)) {
            documents.insert(name, text);
        }
    }
    assert!(documents.len() > 12, "{documents:?}");
    let dead = support::documents::dead_links(installed, &documents);
    assert!(dead.is_empty(), "{dead:#?}");
}

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

/// Without network. Debian's rpm has no database of installed packages (`--nodeps`) and no systemd macros (`--load`).
fn build_rpm(tree: &Path) -> (PathBuf, PathBuf) {
    let macros = fs::canonicalize("tests/data/rpm-macros").unwrap();
    let (macros, top) = (
        format!("--load={}", macros.display()),
        format!("_topdir {}", tree.display()),
    );
    let spec = format!("SPECS/{NAME}.spec");
    let mut words = without_network();
    // --nocheck: cargo test runs the tests of %check already.
    words.extend([
        "rpmbuild",
        "-ba",
        "--nodeps",
        "--nocheck",
        &macros,
        "--define",
        &top,
        "--define",
        "dist .el9",
        &spec,
    ]);
    run(tree, &words);
    let only = |dir: &str| {
        let mut found = fs::read_dir(tree.join(dir))
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let first = found.next().unwrap();
        assert_eq!(found.next(), None, "more than one package in {dir}");
        first
    };
    (only("RPMS/x86_64"), only("SRPMS"))
}

fn assert_rpm_header(rpm: &Path, source_rpm: &Path) {
    let ask = |words: &[&str]| {
        let mut all = vec!["rpm", "--query", "--package", rpm.to_str().unwrap()];
        all.extend(words);
        run(Path::new("."), &all)
    };
    let files = ask(&[
        "--queryformat",
        "[%{FILEMODES:perms} %{FILEUSERNAME} %{FILEGROUPNAME} %{FILEFLAGS:fflags} %{FILENAMES}\n]",
    ]);
    // Some systems' rpm compresses manual pages.
    let files: Vec<String> = files
        .lines()
        .map(|line| line.replace("  ", " ").trim_end_matches(".gz").to_owned())
        .collect();
    // Flags: "c" configuration, "n" noreplace, "d" documentation, "l" licence.
    let documents = documents(
        |dir| format!("drwxr-xr-x root root /usr/share/doc/{NAME}/{dir}"),
        |file| format!("-rw-r--r-- root root d /usr/share/doc/{NAME}/{file}"),
    );
    let expected = format!(
        "drwxr-xr-x root root /etc/canopsis-connectors
        drwxr-xr-x root root /etc/canopsis-connectors/prometheus
        -rw-r----- root canopsis cn /etc/canopsis-connectors/prometheus/config.yml
        -rw-r----- root root cn /etc/sysconfig/{NAME}
        -rwxr-xr-x root root /usr/bin/{NAME}
        drwxr-xr-x root root /usr/lib/firewalld
        drwxr-xr-x root root /usr/lib/firewalld/services
        -rw-r--r-- root root /usr/lib/firewalld/services/{NAME}.xml
        -rw-r--r-- root root /usr/lib/systemd/system/{NAME}.service
        drwxr-xr-x root root /usr/share/doc/{NAME}
        -rw-r--r-- root root d /usr/share/doc/{NAME}/ARCHITECTURE.md
        -rw-r--r-- root root d /usr/share/doc/{NAME}/CHANGELOG.md
        -rw-r--r-- root root d /usr/share/doc/{NAME}/CONTRIBUTING.md
        -rw-r--r-- root root d /usr/share/doc/{NAME}/README.md
        -rw-r--r-- root root d /usr/share/doc/{NAME}/SECURITY.md
        -rw-r--r-- root root d /usr/share/doc/{NAME}/config.yml
{documents}
        drwxr-xr-x root root /usr/share/licenses/{NAME}
        -rw-r--r-- root root l /usr/share/licenses/{NAME}/LICENSE
        -rw-r--r-- root root l /usr/share/licenses/{NAME}/THIRD-PARTY-LICENSES
        -rw-r--r-- root root d /usr/share/man/man5/{NAME}.yml.5
        -rw-r--r-- root root d /usr/share/man/man8/{NAME}.8"
    );
    assert_eq!(
        files,
        expected.lines().map(str::trim).collect::<Vec<&str>>()
    );

    let requires = ask(&[
        "--queryformat",
        "[%{REQUIRENAME} %{REQUIREFLAGS:deptype}\n]",
    ]);
    for required in [
        "canopsis-common manual",
        "canopsis-common pre",
        "systemd post",
        "systemd preun",
        "systemd postun",
    ] {
        assert!(
            requires.lines().any(|line| line == required),
            "{required} in {requires}"
        );
    }
    for library in ["libssl.so.", "libcrypto.so.", "libc.so."] {
        assert!(
            requires.lines().any(|line| line.starts_with(library)),
            "{library} in {requires}"
        );
    }
    let unit = format!("{NAME}.service");
    let scripts = ask(&["--queryformat", "%{POSTIN}\u{1f}%{PREUN}\u{1f}%{POSTUN}"]);
    let scripts: Vec<&str> = scripts.split('\u{1f}').collect();
    for (script, call) in scripts.iter().zip([
        format!("systemctl --no-reload preset {unit}"),
        format!("systemctl --no-reload disable --now {unit}"),
        format!("systemctl try-restart {unit}"),
    ]) {
        assert!(script.contains(&call), "{call} in {script}");
    }
    let sources = run(
        Path::new("."),
        &[
            "rpm",
            "--query",
            "--list",
            "--package",
            source_rpm.to_str().unwrap(),
        ],
    );
    assert_eq!(
        sources.lines().count(),
        2,
        "expected the spec and the archive: {sources}"
    );
}

fn assert_rpmlint_is_clean(top: &Path, tree: &Path, rpm: &Path) {
    let spec = tree.join(format!("SPECS/{NAME}.spec"));
    let words = [
        "rpmlint",
        "--config",
        "rpmlint.toml",
        spec.to_str().unwrap(),
        rpm.to_str().unwrap(),
    ];
    let findings = run(top, &words);
    assert!(findings.contains("0 errors, 0 warnings"), "{findings}");
}

/// Without scriptlets, because the root has no shell.
fn install_rpm(root: &Path, rpm: &Path) {
    fs::create_dir(root).unwrap();
    let mut words = as_root();
    let into = [
        "rpm",
        "--root",
        root.to_str().unwrap(),
        "--dbpath",
        "/var/lib/rpm",
        "--nodeps",
        "--noscripts",
    ];
    words.extend(into);
    words.extend(["--install", rpm.to_str().unwrap()]);
    run(Path::new("."), &words);
}

fn assert_hardened_without_build_paths(binary: &Path, build_dir: &Path) {
    let dump = run(
        Path::new("."),
        &["readelf", "--wide", "--all", binary.to_str().unwrap()],
    );
    let line = |words: &[&str]| {
        dump.lines()
            .any(|line| words.iter().all(|word| line.contains(word)))
    };
    for words in [
        &["Type:", "DYN"][..],
        &["(FLAGS_1)", "NOW", "PIE"],
        &["(FLAGS)", "BIND_NOW"],
        &["GNU_RELRO"],
        &["Requesting program interpreter", "ld-linux"],
        &["(NEEDED)", "libssl.so"],
        &["(NEEDED)", "libcrypto.so"],
    ] {
        assert!(line(words), "{words:?} in {dump}");
    }
    let stack = dump
        .lines()
        .find(|line| line.trim_start().starts_with("GNU_STACK"))
        .unwrap();
    assert!(stack.contains(" RW ") && !stack.contains("RWE"), "{stack}");
    assert!(
        !line(&[".symtab"]) && !line(&[".debug_"]),
        "the binary has symbols"
    );
    let bytes = fs::read(binary).unwrap();
    let mut paths = vec![
        build_dir.to_str().unwrap().to_owned(),
        "/registry/src/".to_owned(),
        "/rpmbuild/".to_owned(),
    ];
    paths.extend(std::env::var("CARGO_HOME"));
    for path in paths {
        let found = bytes
            .windows(path.len())
            .any(|window| window == path.as_bytes());
        assert!(!found, "{path} is in the binary");
    }
}

/// Without the section `.comment`, which rpm's post-processing removes from the packaged binary.
fn assert_same_binary_as_from_git(packaged: &Path, clone: &Path) {
    let built = clone.join("target/release").join(NAME);
    let plain = built.with_extension("plain");
    for (from, to) in [(&built, &plain), (&packaged.to_owned(), &built)] {
        let (from, to) = (from.to_str().unwrap(), to.to_str().unwrap());
        run(clone, &["objcopy", "--remove-section=.comment", from, to]);
    }
    assert!(
        fs::read(plain).unwrap() == fs::read(built).unwrap(),
        "the binaries built from the archive and from git differ"
    );
}

fn assert_runs(binary: &Path, root: &Path, version: &str, top: &Path) {
    let printed = run(root, &[binary.to_str().unwrap(), "--version"]);
    let commit = self::version(top, "commit");
    assert!(
        printed.starts_with(&format!("{NAME} {version} (commit {}", &commit[..12])),
        "{printed}"
    );
    let printed = run(
        root,
        &[binary.to_str().unwrap(), "--config", CONFIG, "--check"],
    );
    assert!(
        printed.starts_with(&format!("{CONFIG} is valid")),
        "{printed}"
    );
}

fn assert_unit_is_valid(root: &Path) {
    write_unit_dependencies(root);
    let (unit, root) = (
        format!("{NAME}.service"),
        format!("--root={}", root.display()),
    );
    let verify = [
        "systemd-analyze",
        "verify",
        "--man=no",
        "--recursive-errors=yes",
        &root,
        &unit,
    ];
    let output = command(Path::new("."), &verify).output().unwrap();
    let findings = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && findings.is_empty(), "{findings}");
    // The exposure of 1.2 of 10, in tenths.
    run(
        Path::new("."),
        &[
            "systemd-analyze",
            "security",
            "--offline=true",
            "--threshold=12",
            &root,
            &unit,
        ],
    );
}

/// Creates the units and the program that the unit refers to, which the otherwise empty root lacks.
fn write_unit_dependencies(root: &Path) {
    for target in [
        "basic",
        "multi-user",
        "network-online",
        "shutdown",
        "sysinit",
    ] {
        fs::write(
            root.join(format!("usr/lib/systemd/system/{target}.target")),
            "[Unit]\n",
        )
        .unwrap();
    }
    fs::create_dir_all(root.join("bin")).unwrap();
    copy_program("/bin/kill", &root.join("bin/kill"));
}
