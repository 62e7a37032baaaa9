//! make install.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::{CONFIG, packaged_files};
use crate::support::documents::{dead_links, documents};
use crate::support::packaging::{Dir, NAME, copy_project, listing, run};

#[test]
fn make_install_installs_every_file_and_keeps_a_configuration() {
    let dir = Dir::new("install");
    copy_project(dir.path());
    fs::create_dir_all(dir.join("target/release")).unwrap();
    fs::write(dir.join("target/release").join(NAME), "#!/bin/sh\n").unwrap();
    run(
        dir.path(),
        &format!("chmod 0700 target/release/{NAME}; make -s man"),
    );
    let make = |umask: &str, target: &str, root: &str| {
        let options = format!("DESTDIR=\"$PWD\"/{root} PREFIX=/opt/bridge");
        run(
            dir.path(),
            &format!("umask {umask}; make -s {target} {options}"),
        );
        listing(&dir.join(root))
    };
    let mut expected: Vec<String> = packaged_files("/opt/bridge")
        .iter()
        .map(|line| line.split(' ').collect::<Vec<_>>())
        .filter(|words| words[0].starts_with('-'))
        .map(|words| format!("{} {}", words[0], words.last().unwrap()))
        .collect();
    expected.sort_by_key(|line| line.split_once(' ').unwrap().1.to_owned());
    let assert_complete = |installed: Vec<String>| {
        let (dirs, files): (Vec<String>, Vec<String>) = installed
            .into_iter()
            .partition(|line| line.starts_with('d'));
        assert_eq!(files, expected);
        for line in dirs {
            let dir = line
                .strip_prefix("drwxr-xr-x ")
                .unwrap_or_else(|| panic!("{line}"));
            let is_needed = files.iter().any(|file| file.contains(&format!(" {dir}/")));
            assert!(is_needed, "{dir} is empty");
        }
    };
    assert_complete(make("077", "install", "strict"));
    assert_complete(make("000", "install", "loose"));
    let root = dir.join("strict");
    assert_no_dead_links(&root.join(format!("opt/bridge/share/doc/{NAME}")));
    let unit = root.join(format!("opt/bridge/lib/systemd/system/{NAME}.service"));
    let unit = fs::read_to_string(unit).unwrap();
    let start = format!("\nExecStart=/opt/bridge/bin/{NAME} $ARGS\n");
    assert!(
        unit.contains(&start) && !unit.contains("/usr/bin"),
        "{unit}"
    );

    let kept = [CONFIG.to_owned(), format!("etc/sysconfig/{NAME}")];
    for file in &kept {
        fs::write(root.join(file), "edited\n").unwrap();
    }
    assert_complete(make("022", "install", "strict"));
    for file in &kept {
        assert_eq!(fs::read_to_string(root.join(file)).unwrap(), "edited\n");
    }

    let left = make("022", "uninstall", "strict");
    let files = left.iter().filter(|line| !line.starts_with('d'));
    let expected = kept.map(|path| format!("-rw-r----- /{path}"));
    assert_eq!(
        files.collect::<Vec<_>>(),
        expected.iter().collect::<Vec<_>>()
    );
    assert!(
        !left
            .iter()
            .any(|line| line.contains(&format!("share/doc/{NAME}")))
    );
}

/// Documents link only to what is installed beside them.
fn assert_no_dead_links(installed: &Path) {
    let names = documents().into_keys();
    let texts =
        names.filter_map(|name| Some((fs::read_to_string(installed.join(&name)).ok()?, name)));
    let documents: BTreeMap<String, String> = texts.map(|(text, name)| (name, text)).collect();
    assert!(documents.len() > 12, "{documents:?}");
    let dead = dead_links(installed, &documents);
    assert!(dead.is_empty(), "{dead:#?}");
}
