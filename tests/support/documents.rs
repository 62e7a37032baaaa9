//! Reads the documents: their code blocks, links and headings.
//!
//! A comment before each code block says which test runs it (`<!-- test: NAME -->`), or why none does (`<!-- not run: REASON -->`).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use regex::{NoExpand, Regex};

use super::TempDir;

/// A fenced code block.
#[derive(Debug, Clone)]
pub struct Block {
    /// The line of its fence, counted from 1.
    pub line: usize,
    /// The text of the comment before it.
    pub marker: Option<String>,
    /// Without the indentation of its fence.
    pub text: String,
}

/// Every Markdown file that users or developers read, with its text.
pub fn documents() -> BTreeMap<String, String> {
    let mut documents = BTreeMap::new();
    for dir in [".", "docs", "crates/gotemplate", "stand-ins"] {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "md") {
                let name = path.strip_prefix("./").unwrap_or(&path);
                let text = fs::read_to_string(&path).unwrap();
                documents.insert(name.to_str().unwrap().to_owned(), text);
            }
        }
    }
    documents
}

/// The documents that are installed with the package, without those for developers.
pub fn user_documents() -> BTreeMap<String, String> {
    let mut documents = documents();
    documents.retain(|name, _| {
        name == "README.md" || name.starts_with("docs/") && name != "docs/development.md"
    });
    documents
}

/// The files in a directory and in those below it.
pub fn files_below(dir: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    paths
        .flat_map(|path| {
            if path.is_dir() {
                files_below(&path)
            } else {
                vec![path]
            }
        })
        .collect()
}

/// A document's text.
pub fn document(name: &str) -> String {
    fs::read_to_string(name).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The part of a text below a heading, up to the next heading of the same level.
pub fn section<'t>(text: &'t str, heading: &str) -> &'t str {
    let (_, rest) = text
        .split_once(&format!("\n{heading}\n"))
        .unwrap_or_else(|| panic!("no {heading:?}"));
    let (level, _) = heading.split_once(' ').unwrap();
    rest.split(&format!("\n{level} ")).next().unwrap()
}

/// The text of a document outside of its code blocks, and the code blocks.
fn parts(document: &str, text: &str) -> (String, Vec<Block>) {
    let block = Regex::new(r"(?ms)^( *)```\w*\n(.*?)^ *```$").unwrap();
    let blocks = block.captures_iter(text).map(|found| {
        let before = &text[..found.get(0).unwrap().start()];
        let comment = before.lines().last().unwrap_or_default().trim();
        let marker = comment.strip_prefix("<!-- ");
        let marker = marker.and_then(|rest| rest.strip_suffix(" -->"));
        let indentation = Regex::new(&format!("(?m)^{}", &found[1])).unwrap();
        Block {
            line: before.lines().count() + 1,
            marker: marker.map(str::to_owned),
            text: indentation.replace_all(&found[2], "").into_owned(),
        }
    });
    let prose = block.replace_all(text, "").into_owned();
    assert!(!prose.contains("```"), "{document}: an unclosed code block");
    (prose, blocks.collect())
}

/// The code blocks of a document.
pub fn blocks(document: &str, text: &str) -> Vec<Block> {
    parts(document, text).1
}

/// The text without its code blocks.
fn prose(text: &str) -> String {
    parts("", text).0
}

/// The code blocks of the users' documents that a test of this name runs, in their order.
pub fn marked(name: &str) -> Vec<Block> {
    let marker = format!("test: {name}");
    let found: Vec<Block> = user_documents()
        .iter()
        .flat_map(|(document, text)| blocks(document, text))
        .filter(|block| block.marker.as_deref() == Some(&marker))
        .collect();
    assert!(!found.is_empty(), "no code block is marked {marker:?}");
    found
}

/// The only code block of this name.
pub fn only(name: &str) -> String {
    let mut found = marked(name);
    assert_eq!(found.len(), 1, "{name}");
    found.remove(0).text
}

/// The shipped `config.yml` with the lines that the quick start changes.
pub fn quick_start() -> String {
    let mut config = document("config.yml");
    let block = &marked("quick start, configuration")[0].text;
    let changed: Vec<_> = block
        .lines()
        .filter_map(|line| Some((line, line.split_once(": ")?.0)))
        .collect();
    assert_eq!(changed.len(), 3, "{changed:?}");
    for (line, key) in changed {
        let old = Regex::new(&format!("(?m)^{key}: .*$")).unwrap();
        assert_eq!(old.find_iter(&config).count(), 1, "{key:?} in config.yml");
        config = old.replace(&config, NoExpand(line)).into_owned();
    }
    config
}

/// A script of the documents in a directory, whose programs in `bin` are used before others.
pub fn command(dir: &TempDir, script: &str) -> Command {
    let (dir, path) = (dir.path(), std::env::var("PATH").unwrap());
    let mut command = Command::new("sh");
    command.args(["-ec", script]).current_dir(dir);
    command.env("PATH", format!("{}/bin:{path}", dir.display()));
    command
}

/// The texts between backquotes, outside of code blocks.
pub fn code_spans(text: &str) -> Vec<String> {
    let prose = prose(text);
    let spans = prose
        .split("\n\n")
        .flat_map(|paragraph| paragraph.split('`').skip(1).step_by(2));
    spans.map(|span| span.replace('\n', " ")).collect()
}

/// The anchors of the headings, as GitLab and GitHub make them.
pub fn anchors(text: &str) -> Vec<String> {
    let prose = prose(text);
    let headings = prose.lines().filter(|line| line.starts_with('#'));
    let titles = headings.map(|line| line.trim_start_matches('#').trim().to_lowercase());
    let dropped = |c: char| !c.is_alphanumeric() && ![' ', '-', '_'].contains(&c);
    titles
        .map(|title| title.replace(dropped, "").replace(' ', "-"))
        .collect()
}

/// The links that lead nowhere: of a set of documents below a directory, where other files may be linked, too.
pub fn dead_links(dir: &Path, documents: &BTreeMap<String, String>) -> Vec<String> {
    let mut dead = Vec::new();
    for (name, text) in documents {
        let prose = prose(text);
        let links = prose
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split_once(')'));
        for (link, _) in links.filter(|(link, _)| !link.contains("://")) {
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let mut target = dir.join(name);
            if !path.is_empty() {
                target = target.with_file_name(path);
            }
            let has_anchor = |text: String| anchors(&text).iter().any(|known| known == anchor);
            let is_there = anchor.is_empty() || fs::read_to_string(&target).is_ok_and(has_anchor);
            if !target.exists() || !is_there {
                dead.push(format!("{name}: {link}"));
            }
        }
    }
    dead
}
