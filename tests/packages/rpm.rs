//! The RPM: its header, its files, and the program and the unit in it.

use std::fs;
use std::path::{Path, PathBuf};

use super::install::documents;
use super::{CONFIG, version};
use crate::support::copy_program;
use crate::support::packaging::{NAME, as_root, command, run, without_network};

/// Without network. Debian's rpm has no database of installed packages (`--nodeps`) and no systemd macros (`--load`).
pub fn build_rpm(tree: &Path) -> (PathBuf, PathBuf) {
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

pub fn assert_rpm_header(rpm: &Path, source_rpm: &Path) {
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

    let header = ask(&["--queryformat", "%{URL} %{LICENSE}"]);
    assert!(
        header.starts_with(
            "https://git.canopsis.net/canopsis-connectors/connector-prometheus MIT AND "
        ),
        "{header}"
    );
    // The newest entry has the version; releases before it would follow.
    let changelog = ask(&["--changelog"]);
    let version = ask(&["--queryformat", "%{VERSION}-1"]);
    assert!(
        changelog.lines().next().unwrap().ends_with(&version) && changelog.contains("CHANGELOG.md"),
        "{changelog}"
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

pub fn assert_rpmlint_is_clean(top: &Path, tree: &Path, rpm: &Path) {
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
pub fn install_rpm(root: &Path, rpm: &Path) {
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

pub fn assert_hardened_without_build_paths(binary: &Path, build_dir: &Path) {
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
pub fn assert_same_binary_as_from_git(packaged: &Path, clone: &Path) {
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

pub fn assert_runs(binary: &Path, root: &Path, version: &str, top: &Path) {
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

pub fn assert_unit_is_valid(root: &Path) {
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
