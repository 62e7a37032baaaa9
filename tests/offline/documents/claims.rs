//! Links, quoted messages, limits, and names of files.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::support::documents::{
    blocks, code_spans, dead_links, document, documents, files_below, section,
};
use regex::Regex;

#[test]
fn no_link_is_dead() {
    let dead = dead_links(Path::new("."), &documents());
    assert!(dead.is_empty(), "{dead:#?}");
}

/// Parts of messages that come from others: the operating system, RabbitMQ, OpenSSL, amiquip, systemd.
const FOREIGN: [&str; 17] = [
    "Permission denied",
    "PRECONDITION_FAILED",
    "unknown ca",
    "peer did not return a certificate",
    "unsupported protocol",
    "Address already in use",
    "Connection refused",
    "NOT_ALLOWED - vhost",
    "access to vhost",
    "access to exchange",
    "access to topic",
    "ACCESS_REFUSED",
    "312 NO_ROUTE",
    "NOT_FOUND",
    "certificate verify failed",
    "217/USER",
    "not found",
];

/// The parts between the placeholders of all text literals in the sources, without their tests.
fn fragments() -> BTreeSet<String> {
    let literal = Regex::new(r#"'"'|//.*|"((?:[^"\\]|\\(?s:.))*)""#).unwrap();
    let placeholder = Regex::new(r"\{[^{}]*\}|\n").unwrap();
    let line_end = Regex::new(r"\\\n\s*").unwrap();
    let tests = Regex::new(r"#\[cfg\(test\)\]\n(#.*\n)?(pub )?mod tests \{").unwrap();
    let mut fragments = BTreeSet::new();
    for path in files_below(Path::new("src")) {
        if path.to_str().unwrap().contains("/tests") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let code = tests.split(&text).next().unwrap();
        for found in literal.captures_iter(code) {
            let text = found.get(1).map_or("", |text| text.as_str());
            let text = line_end.replace_all(text, "").replace("\\\"", "\"");
            let parts = placeholder.split(&text).filter(|part| part.len() > 1);
            fragments.extend(parts.map(str::to_owned));
        }
    }
    fragments
}

/// Whether a text consists of fragments and of values between them. It may begin inside a fragment, and end inside one.
fn is_explained(text: &str, begins: bool, fragments: &BTreeSet<String>) -> bool {
    let is_rest =
        |fragment: &String| fragment.starts_with(text) || begins && fragment.contains(text);
    if text.is_empty() || fragments.iter().any(is_rest) {
        return true;
    }
    let ends = |fragment: &String| {
        let ends = (0..fragment.len()).filter(|at| fragment.is_char_boundary(*at));
        let ends = ends.take(if begins { usize::MAX } else { 1 });
        let rest = ends
            .filter_map(|at| text.strip_prefix(&fragment[at..]))
            .min_by_key(|rest| rest.len());
        rest.map(str::len)
    };
    let lengths: BTreeSet<usize> = fragments.iter().filter_map(ends).collect();
    let rests = lengths
        .into_iter()
        .map(|length| &text[text.len() - length..]);
    // Numbers, addresses and names in capitals; not a word of the message.
    let end = text
        .find([' ', ':', ';', ',', ')', '"'])
        .unwrap_or(text.len())
        .max(1);
    let is_value = !text[..end].chars().all(|c| c.is_ascii_lowercase());
    let after_value = is_value.then(|| &text[end..]);
    rests
        .chain(after_value)
        .any(|rest| is_explained(rest, false, fragments))
}

/// The messages that operators search for are those of the program.
#[test]
fn quoted_messages_are_those_of_the_program() {
    let mut known = fragments();
    known.extend(FOREIGN.map(str::to_owned));
    let commands = "curl send_resolved: ss journalctl docker make chgrp chmod amtool rabbitmq-diagnostics rabbitmqctl systemctl";
    let commands: Vec<&str> = commands.split(' ').collect();
    let mut checked = 0;
    for (page, heading) in [
        ("docs/troubleshooting.md", ""),
        ("docs/http-api.md", "## Responses"),
        ("docs/fr.md", "## Diagnostiquer"),
    ] {
        let page = document(page);
        let text = if heading.is_empty() {
            &page
        } else {
            section(&page, heading)
        };
        for span in code_spans(text) {
            let first = span.split_once(' ').map(|(first, _)| first);
            let is_message = first.is_some_and(|first| !commands.contains(&first));
            if !is_message || span.contains(": [") || span.contains('}') {
                continue;
            }
            for part in span.split("...") {
                let is_explained = is_explained(part.trim(), true, &known);
                assert!(is_explained, "{span:?}: {part:?} is not in src/");
            }
            checked += 1;
        }
    }
    assert!(checked > 60, "{checked}");
}

/// Limits in the documents: a page, and below it what it says, and the constant that this comes from.
const LIMITS: &str = r#"
docs/reliability.md
    | 128 MiB from the first byte
        src/service.rs: MEMORY_LIMIT: usize = 128 << 20;
    a quarter of it only for notifications of up to 64 KiB
        src/memory.rs: RESERVED_PART: usize = 4;
    | 8 fewer (half of them
        src/http/slots.rs: RESERVED: usize = 8;
    | 16 KiB, 100 lines, 10 s |
        src/http/request.rs: MAX_HEADERS: usize = 100;
    | 16 KiB, 100 lines, 10 s |
        src/http/connection.rs: HEAD_TIMEOUT: Duration = Duration::from_secs(10);
    (16 MiB), 30 s |
        src/http/body.rs: BODY_TIMEOUT: Duration = Duration::from_secs(30);
    | 50,000 alerts |
        src/alertmanager/mod.rs: MAX_ALERTS: usize = 50_000;
    | 1 MiB encoded |
        src/event.rs: MAX_EVENT_BYTES: usize = 1 << 20;
    at least 8 MiB and at most 64 MiB
        src/pipeline/mod.rs: MIN_BATCH: usize = 8 << 20;
    | 1,000 messages, 8 MiB;
        src/publisher/ledger/window.rs: MAX_MESSAGES: usize = 1000;
    | an idle connection | 6 minutes |
        src/http/server.rs: IDLE_TIMEOUT: Duration = Duration::from_mins(6);
    | writing a response | 10 s |
        src/http/connection.rs: WRITE_TIMEOUT: Duration = Duration::from_secs(10);
    | 256 KiB; 16 KiB for `replace` |
        src/alertmanager/mod.rs: MAX_OBJECT: usize = 256 << 10;
    5 s to connect, 10 s until the channel is open, 30 s
        src/publisher/connection.rs: OPEN_LIMIT: Duration = Duration::from_secs(10);
    remembers this for two minutes
        src/publisher/ledger/mod.rs: PARKING_LIMIT: Duration = Duration::from_mins(2);
    up to 2 MiB of such records
        src/publisher/ledger/mod.rs: MAX_PARKED_BYTES: usize = 2 << 20;
    | 4,096 each |
        src/alertmanager/labels.rs: MAX_ENTRIES: usize = 4096;
    1,000 rules
        src/config/rules.rs: MAX_RULES: usize = 1000;
docs/http-api.md
    `Retry-After: 5`
        src/http/response.rs: RETRY_AFTER: &str = "5";
    names the first 50
        src/pipeline/mod.rs: MAX_NAMED: usize = 50;
    no result after 9 s
        src/reload.rs: RESULT_TIMEOUT: Duration = Duration::from_secs(9);
docs/configuration.md
    1024 to 67108864
        src/config/settings.rs: BODY_BYTES: RangeInclusive<usize> = 1024..=64 << 20;
    2 to 4096
        src/config/settings.rs: CONNECTIONS: RangeInclusive<usize> = 2..=4096;
    Above `9s` a warning
        src/config/settings.rs: RECOMMENDED_ANSWER_TIMEOUT: Duration = Duration::from_secs(9);
    less than 64 above it
        src/reload.rs: RESERVED_FILES: usize = 64;
"#;

#[test]
fn documented_limits_are_those_of_the_program() {
    let (mut page, mut claim) = ("", "");
    for line in LIMITS.lines().skip(1) {
        let text = line.trim_start();
        match line.len() - text.len() {
            0 => page = text,
            4 => claim = text,
            _ => {
                let words = document(page)
                    .split_whitespace()
                    .collect::<Vec<_>>()
                    .join(" ");
                assert!(words.contains(claim), "{page}: {claim:?}");
                let (file, constant) = text.split_once(": ").unwrap();
                assert!(document(file).contains(constant), "{line}, for {claim:?}");
            }
        }
    }
}

#[test]
fn named_targets_and_files_exist() {
    let makefile = document("Makefile");
    let modules: BTreeSet<String> = ["offline", "servers", "faults", "packages"]
        .iter()
        .flat_map(|group| fs::read_dir(Path::new("tests").join(group)).unwrap())
        .map(|entry| entry.unwrap().path())
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    for (name, text) in documents() {
        let commands = blocks(&name, &text).into_iter().map(|block| block.text);
        for span in code_spans(&text).into_iter().chain(commands) {
            for line in span.lines() {
                let words: Vec<&str> = line.split_whitespace().collect();
                if let ["cargo", "test", "--test", "integration", "--", filters @ ..]
                | ["...", "--", filters @ ..] = &words[..]
                {
                    for filter in filters {
                        assert!(modules.contains(*filter), "{name}: no module {filter}");
                    }
                }
                if let ["make", target, ..] = words[..]
                    && target.chars().all(|c| c.is_ascii_lowercase() || c == '-')
                {
                    let rule = format!("\n{target}:");
                    assert!(makefile.contains(&rule), "{name}: make {target}");
                }
            }
            let is_path = ["src/", "tests/", "scripts/", "contrib/", "crates/", "docs/"]
                .iter()
                .any(|dir| span.starts_with(dir));
            if is_path && !span.contains(['{', '*', ' ', '\n']) {
                let beside = Path::new(&name).with_file_name(&span);
                assert!(
                    Path::new(&span).exists() || beside.exists(),
                    "{name}: {span}"
                );
            }
        }
    }
}

/// `docs/installation.md` names what an old systemd ignores: all of it is in the unit.
#[test]
fn ignored_directives_are_those_of_the_unit() {
    let unit = include_str!("../../../canopsis-connector-prometheus.service");
    let page = document("docs/installation.md");
    let (_, paragraph) = page.split_once("**EL 8** has systemd 239").unwrap();
    let paragraph = paragraph.split("\n\n").next().unwrap();
    let directives: Vec<String> = code_spans(paragraph)
        .into_iter()
        .filter(|span| span.starts_with("Pro") || span.starts_with("Private"))
        .collect();
    assert_eq!(directives.len(), 6, "{directives:?}");
    for directive in directives {
        assert!(unit.contains(&format!("\n{directive}=")), "{directive}");
    }
}

#[test]
fn the_versions_of_rust_are_those_of_the_project() {
    let (oldest, toolchain) = (
        env!("CARGO_PKG_RUST_VERSION"),
        document("rust-toolchain.toml"),
    );
    let (_, channel) = toolchain.split_once("channel = \"").unwrap();
    let pinned = channel.split('"').next().unwrap();
    let newest = pinned.rsplit_once('.').unwrap().0;
    let image = format!("docker.io/library/rust:{pinned}-bookworm\n");
    for (file, part) in [
        (
            "docs/installation.md",
            format!("`rust-toolchain.toml`, {pinned}"),
        ),
        (
            "docs/installation.md",
            format!("Rust {oldest} to {newest};"),
        ),
        ("Dockerfile", format!("ARG RUST_IMAGE={image}")),
        (".gitlab-ci.yml", format!("  RUST_IMAGE: {image}")),
    ] {
        assert!(document(file).contains(&part), "{file}: {part}");
    }
}
