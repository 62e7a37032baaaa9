//! The RPM: its header, its files, and the program and the unit in it.

use std::fs;
use std::path::{Path, PathBuf};

use super::{CONFIG, packaged_files, version};
use crate::support::copy_program;
use crate::support::packaging::{NAME, is_root, run, without_network};

/// Without network. Debian's rpm has no database of installed packages (`--nodeps`) and no systemd macros (`--load`).
pub fn build_rpm(tree: &Path) -> (PathBuf, PathBuf) {
    let macros = fs::canonicalize("tests/data/rpm-macros").unwrap();
    // --nocheck: cargo test runs the tests of %check already.
    let options = format!("-ba --nodeps --nocheck '--load={}'", macros.display());
    let defines = format!("--define '_topdir {}' --define 'dist .el9'", tree.display());
    let build = format!("rpmbuild {options} {defines} SPECS/{NAME}.spec");
    run(tree, &format!("{} {build}", without_network()));
    let only = |dir: &str| {
        let entries = fs::read_dir(tree.join(dir)).unwrap();
        let mut found = entries.map(|entry| entry.unwrap().path());
        let first = found.next().unwrap();
        assert_eq!(found.next(), None, "more than one package in {dir}");
        first
    };
    (only("RPMS/x86_64"), only("SRPMS"))
}

pub fn assert_rpm_header(rpm: &Path, source_rpm: &Path) {
    let query = |package: &Path, options: &str| {
        let script = format!("rpm --query --package '{}' {options}", package.display());
        run(Path::new("."), &script)
    };
    let ask = |format: &str| query(rpm, &format!("--queryformat '{format}'"));
    let listing = ask(
        "[%{FILEMODES:perms} %{FILEUSERNAME} %{FILEGROUPNAME} %{FILEFLAGS:fflags} %{FILENAMES}\n]",
    );
    // Some systems' rpm compresses manual pages.
    let lines = listing.lines().map(|line| line.replace("  ", " "));
    let files: Vec<String> = lines
        .map(|line| line.trim_end_matches(".gz").to_owned())
        .collect();
    let mut expected = packaged_files("/usr");
    let at = expected
        .iter()
        .position(|line| line.contains("/systemd/"))
        .unwrap();
    let firewalld = [
        "drwxr-xr-x root root /usr/lib/firewalld".to_owned(),
        "drwxr-xr-x root root /usr/lib/firewalld/services".to_owned(),
        format!("-rw-r--r-- root root /usr/lib/firewalld/services/{NAME}.xml"),
    ];
    expected.splice(at..at, firewalld);
    assert_eq!(files, expected);

    let header = ask("%{URL} %{LICENSE}");
    let project = "https://git.canopsis.net/canopsis-connectors/connector-prometheus";
    assert!(
        header.starts_with(&format!("{project} MIT AND ")),
        "{header}"
    );
    // The newest entry has the version; releases before it would follow.
    let changelog = query(rpm, "--changelog");
    let newest = changelog.lines().next().unwrap();
    let has_version = newest.ends_with(&ask("%{VERSION}-1"));
    assert!(
        has_version && changelog.contains("CHANGELOG.md"),
        "{changelog}"
    );

    let requires = ask("[%{REQUIRENAME} %{REQUIREFLAGS:deptype}\n]");
    for required in [
        "canopsis-common manual\n",
        "canopsis-common pre\n",
        "systemd post\n",
        "systemd preun\n",
        "systemd postun\n",
        "libssl.so.",
        "libcrypto.so.",
        "libc.so.",
    ] {
        let is_there = format!("\n{requires}\n").contains(&format!("\n{required}"));
        assert!(is_there, "{required} in {requires}");
    }
    for (script, call) in [
        ("POSTIN", "--no-reload preset"),
        ("PREUN", "--no-reload disable --now"),
        ("POSTUN", "try-restart"),
    ] {
        let script = ask(&format!("%{{{script}}}"));
        let call = format!("systemctl {call} {NAME}.service");
        assert!(script.contains(&call), "{call} in {script}");
    }
    let sources = query(source_rpm, "--list");
    let count = sources.lines().count();
    assert_eq!(count, 2, "expected the spec and the archive: {sources}");
}

pub fn assert_rpmlint_is_clean(top: &Path, tree: &Path, rpm: &Path) {
    let (spec, rpm) = (tree.join(format!("SPECS/{NAME}.spec")), rpm.display());
    let lint = format!("rpmlint --config rpmlint.toml '{}' '{rpm}'", spec.display());
    let findings = run(top, &lint);
    assert!(findings.contains("0 errors, 0 warnings"), "{findings}");
}

/// Without scriptlets, because the root has no shell.
pub fn install_rpm(root: &Path, rpm: &Path) {
    fs::create_dir(root).unwrap();
    // rpm calls chroot.
    let prefix = if is_root() {
        ""
    } else {
        "unshare --map-root-user"
    };
    let options = "--dbpath /var/lib/rpm --nodeps --noscripts --install";
    let (root, rpm) = (root.display(), rpm.display());
    run(
        Path::new("."),
        &format!("{prefix} rpm --root '{root}' {options} '{rpm}'"),
    );
}

pub fn assert_hardened_without_build_paths(binary: &Path, build_dir: &Path) {
    let dump = run(
        Path::new("."),
        &format!("readelf --wide --all '{}'", binary.display()),
    );
    let line = |words: &[&str]| {
        let mut lines = dump.lines();
        lines.any(|line| words.iter().all(|word| line.contains(word)))
    };
    for words in [
        &["Type:", "DYN"][..],
        &["(FLAGS_1)", "NOW", "PIE"],
        &["(FLAGS)", "BIND_NOW"],
        &["GNU_RELRO"],
        &["Requesting program interpreter", "ld-linux"],
        &["(NEEDED)", "libssl.so"],
        &["(NEEDED)", "libcrypto.so"],
        &["GNU_STACK", " RW "],
    ] {
        assert!(line(words), "{words:?} in {dump}");
    }
    for words in [&["GNU_STACK", "RWE"][..], &[".symtab"], &[".debug_"]] {
        assert!(!line(words), "{words:?} in {dump}");
    }
    let bytes = fs::read(binary).unwrap();
    let mut paths = vec![build_dir.to_str().unwrap().to_owned()];
    paths.extend(["/registry/src/", "/rpmbuild/"].map(str::to_owned));
    paths.extend(std::env::var("CARGO_HOME"));
    for path in paths {
        let is_there = memchr::memmem::find(&bytes, path.as_bytes()).is_some();
        assert!(!is_there, "{path} is in the binary");
    }
}

/// Without the section `.comment`, which rpm's post-processing removes from the packaged binary.
pub fn assert_same_binary_as_from_git(packaged: &Path, clone: &Path) {
    let built = clone.join("target/release").join(NAME);
    let plain = |binary: &Path| {
        let binary = binary.display();
        run(
            clone,
            &format!("objcopy --remove-section=.comment '{binary}' plain"),
        );
        fs::read(clone.join("plain")).unwrap()
    };
    let is_same = plain(packaged) == plain(&built);
    assert!(
        is_same,
        "the binaries built from the archive and from git differ"
    );
}

pub fn assert_runs(binary: &Path, root: &Path, version: &str, top: &Path) {
    let binary = binary.display();
    let printed = run(root, &format!("'{binary}' --version"));
    let commit = self::version(top, "commit");
    let expected = format!("{NAME} {version} (commit {}", &commit[..12]);
    assert!(printed.starts_with(&expected), "{printed}");
    let printed = run(root, &format!("'{binary}' --config {CONFIG} --check"));
    let expected = format!("{CONFIG} is valid");
    assert!(printed.starts_with(&expected), "{printed}");
}

pub fn assert_unit_is_valid(root: &Path) {
    // The units and the program that the unit refers to, which the otherwise empty root lacks.
    for target in "basic multi-user network-online shutdown sysinit".split(' ') {
        let unit = root.join(format!("usr/lib/systemd/system/{target}.target"));
        fs::write(unit, "[Unit]\n").unwrap();
    }
    fs::create_dir_all(root.join("bin")).unwrap();
    copy_program("/bin/kill", &root.join("bin/kill"));

    let unit = format!("'--root={}' {NAME}.service", root.display());
    let verify = "systemd-analyze verify --man=no --recursive-errors=yes";
    let findings = run(Path::new("."), &format!("{verify} {unit} 2>&1 >/dev/null"));
    assert_eq!(findings, "");
    // The exposure of 1.2 of 10, in tenths.
    let security = "systemd-analyze security --offline=true --threshold=12";
    run(Path::new("."), &format!("{security} {unit}"));
}
