//! make install.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::CONFIG;
use crate::support::packaging::{Dir, NAME, copy_project, listing, run};

/// A line for each installed directory below that of the documents, and for each file in it: all of `contrib/` and `docs/`.
pub fn documents(dir_line: impl Fn(&str) -> String, file_line: impl Fn(&str) -> String) -> String {
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

    run(
        dir.path(),
        &[
            "sh",
            "-c",
            "make -s uninstall DESTDIR=\"$PWD\"/strict PREFIX=/opt/bridge",
        ],
    );
    let left = listing(&dir.join("strict"));
    let left: Vec<&str> = left
        .iter()
        .filter_map(|line| line.rsplit(' ').next())
        .collect();
    let kept = left.iter().filter(|path| !path.ends_with('/'));
    assert_eq!(
        kept.copied().collect::<Vec<&str>>(),
        [format!("/{CONFIG}"), format!("/etc/sysconfig/{NAME}")]
    );
    assert!(
        !left
            .iter()
            .any(|path| path.contains(&format!("share/doc/{NAME}")))
    );
}

/// Documents link only to what is installed beside them.
fn assert_no_dead_links(installed: &Path) {
    let mut documents = BTreeMap::new();
    for name in crate::support::documents::documents().into_keys() {
        if let Ok(text) = fs::read_to_string(installed.join(&name)) {
            documents.insert(name, text);
        }
    }
    assert!(documents.len() > 12, "{documents:?}");
    let dead = crate::support::documents::dead_links(installed, &documents);
    assert!(dead.is_empty(), "{dead:#?}");
}
