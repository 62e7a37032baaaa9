//! Links, quoted messages, limits, and names of files.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::support::documents::{blocks, code_spans, dead_links, document, documents, section};
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

/// The parts between the placeholders of all text literals in a directory's sources, without their tests.
fn fragments(dir: &Path, fragments: &mut BTreeSet<String>) {
    let literal = Regex::new(r#"'"'|//.*|"((?:[^"\\]|\\(?s:.))*)""#).unwrap();
    let placeholder = Regex::new(r"\{[^{}]*\}|\n").unwrap();
    let line_end = Regex::new(r"\\\n\s*").unwrap();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.file_stem().is_some_and(|stem| stem == "tests") {
            continue;
        }
        if path.is_dir() {
            self::fragments(&path, fragments);
        } else {
            let text = fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
            for found in literal.captures_iter(code) {
                let text = found.get(1).map_or("", |text| text.as_str());
                let text = line_end.replace_all(text, "").replace("\\\"", "\"");
                let parts = placeholder.split(&text).filter(|part| part.len() > 1);
                fragments.extend(parts.map(str::to_owned));
            }
        }
    }
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
    let mut known: BTreeSet<String> = FOREIGN.map(str::to_owned).into();
    fragments(Path::new("src"), &mut known);
    let troubleshooting = document("docs/troubleshooting.md");
    let http = document("docs/http-api.md");
    let french = document("docs/fr.md");
    let mut checked = 0;
    for page in [
        &troubleshooting,
        section(&http, "## Responses"),
        section(&french, "## Diagnostiquer"),
    ] {
        for span in code_spans(page) {
            let is_message = span.contains(' ')
                && ![
                    "curl ",
                    "send_resolved: ",
                    "ss ",
                    "journalctl ",
                    "docker ",
                    "make ",
                    "chgrp ",
                    "chmod ",
                    "amtool ",
                    "rabbitmq-diagnostics ",
                    "rabbitmqctl ",
                    "systemctl ",
                ]
                .iter()
                .any(|command| span.starts_with(command))
                && !span.contains(": [")
                && !span.contains('}');
            if !is_message {
                continue;
            }
            for part in span.split("...") {
                assert!(
                    is_explained(part.trim(), true, &known),
                    "{span:?}: {part:?} is not in src/"
                );
            }
            checked += 1;
        }
    }
    assert!(checked > 60, "{checked}");
}

/// Limits in the documents (page and words), and the constants that they come from (file and line).
const LIMITS: &[(&str, &str, &str, &str)] = &[
    (
        "docs/reliability.md",
        "| 128 MiB from the first byte",
        "src/service.rs",
        "MEMORY_LIMIT: usize = 128 << 20;",
    ),
    (
        "docs/reliability.md",
        "a quarter of it only for notifications of up to 64 KiB",
        "src/memory.rs",
        "RESERVED_PART: usize = 4;",
    ),
    (
        "docs/reliability.md",
        "| 8 fewer (half of them",
        "src/http/slots.rs",
        "RESERVED: usize = 8;",
    ),
    (
        "docs/reliability.md",
        "| 16 KiB, 100 lines, 10 s |",
        "src/http/request.rs",
        "MAX_HEADERS: usize = 100;",
    ),
    (
        "docs/reliability.md",
        "| 16 KiB, 100 lines, 10 s |",
        "src/http/connection.rs",
        "HEAD_TIMEOUT: Duration = Duration::from_secs(10);",
    ),
    (
        "docs/reliability.md",
        "(16 MiB), 30 s |",
        "src/http/body.rs",
        "BODY_TIMEOUT: Duration = Duration::from_secs(30);",
    ),
    (
        "docs/reliability.md",
        "| 50,000 alerts |",
        "src/alertmanager/mod.rs",
        "MAX_ALERTS: usize = 50_000;",
    ),
    (
        "docs/reliability.md",
        "| 1 MiB encoded |",
        "src/event.rs",
        "MAX_EVENT_BYTES: usize = 1 << 20;",
    ),
    (
        "docs/reliability.md",
        "at least 8 MiB and at most 64 MiB",
        "src/pipeline/mod.rs",
        "MIN_BATCH: usize = 8 << 20;",
    ),
    (
        "docs/reliability.md",
        "| 1,000 messages, 8 MiB;",
        "src/publisher/ledger/window.rs",
        "MAX_MESSAGES: usize = 1000;",
    ),
    (
        "docs/reliability.md",
        "| an idle connection | 6 minutes |",
        "src/http/server.rs",
        "IDLE_TIMEOUT: Duration = Duration::from_mins(6);",
    ),
    (
        "docs/reliability.md",
        "| writing a response | 10 s |",
        "src/http/connection.rs",
        "WRITE_TIMEOUT: Duration = Duration::from_secs(10);",
    ),
    (
        "docs/reliability.md",
        "| 256 KiB; 16 KiB for `replace` |",
        "src/alertmanager/mod.rs",
        "MAX_OBJECT: usize = 256 << 10;",
    ),
    (
        "docs/reliability.md",
        "5 s to connect, 10 s until the channel is open, 30 s",
        "src/publisher/connection.rs",
        "OPEN_LIMIT: Duration = Duration::from_secs(10);",
    ),
    (
        "docs/reliability.md",
        "remembers this for two minutes",
        "src/publisher/ledger/parking.rs",
        "PARKING_LIMIT: Duration = Duration::from_mins(2);",
    ),
    (
        "docs/reliability.md",
        "up to 2 MiB of such records",
        "src/publisher/ledger/parking.rs",
        "MAX_PARKED_BYTES: usize = 2 << 20;",
    ),
    (
        "docs/http-api.md",
        "`Retry-After: 5`",
        "src/http/response.rs",
        "RETRY_AFTER: &str = \"5\";",
    ),
    (
        "docs/http-api.md",
        "names the first 50",
        "src/pipeline/mod.rs",
        "MAX_NAMED: usize = 50;",
    ),
    (
        "docs/http-api.md",
        "no result after 9 s",
        "src/reload.rs",
        "RESULT_TIMEOUT: Duration = Duration::from_secs(9);",
    ),
    (
        "docs/reliability.md",
        "| 4,096 each |",
        "src/alertmanager/labels.rs",
        "MAX_ENTRIES: usize = 4096;",
    ),
    (
        "docs/configuration.md",
        "1024 to 67108864",
        "src/config/settings.rs",
        "MAX_BODY_BYTES: usize = 64 << 20;",
    ),
    (
        "docs/configuration.md",
        "2 to 4096",
        "src/config/settings.rs",
        "MAX_CONNECTIONS: usize = 4096;",
    ),
    (
        "docs/configuration.md",
        "Above `9s` a warning",
        "src/config/settings.rs",
        "RECOMMENDED_ANSWER_TIMEOUT: Duration = Duration::from_secs(9);",
    ),
    (
        "docs/configuration.md",
        "less than 64 above it",
        "src/reload.rs",
        "RESERVED_FILES: usize = 64;",
    ),
    (
        "docs/reliability.md",
        "1,000 rules",
        "src/config/rules.rs",
        "MAX_RULES: usize = 1000;",
    ),
];

#[test]
fn documented_limits_are_those_of_the_program() {
    for (page, claim, file, constant) in LIMITS {
        let text = document(page)
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ");
        assert!(text.contains(claim), "{page}: {claim:?}");
        assert!(
            document(file).contains(constant),
            "{file}: {constant:?}, for {claim:?}"
        );
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
fn the_documented_compilers_are_those_of_the_project() {
    let page = document("docs/installation.md");
    let oldest = env!("CARGO_PKG_RUST_VERSION");
    let toolchain = document("rust-toolchain.toml");
    let (_, channel) = toolchain.split_once("channel = \"").unwrap();
    let pinned = channel.split('"').next().unwrap();
    let newest = pinned.rsplit_once('.').unwrap().0;
    assert!(page.contains(&format!("`rust-toolchain.toml`, {pinned}")));
    assert!(page.contains(&format!("Rust {oldest} to {newest};")));
}
