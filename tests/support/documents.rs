//! Reads the documents: their code blocks, links and headings.
//!
//! A comment before each code block says which test runs it (`<!-- test: NAME -->`), or why none does (`<!-- not run: REASON -->`).

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

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

/// The code blocks of a document.
pub fn blocks(document: &str, text: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut open: Option<(usize, Block)> = None;
    let mut previous = "";
    for (number, line) in (1..).zip(text.lines()) {
        let trimmed = line.trim_start();
        let indentation = line.len() - trimmed.len();
        if let Some((indent, mut block)) = open.take() {
            if trimmed == "```" {
                blocks.push(block);
            } else {
                let content = line.get(indent..).unwrap_or_default();
                block.text.push_str(content);
                block.text.push('\n');
                open = Some((indent, block));
            }
        } else if trimmed.starts_with("```") {
            let marker = previous
                .trim()
                .strip_prefix("<!-- ")
                .and_then(|rest| rest.strip_suffix(" -->"));
            let block = Block {
                line: number,
                marker: marker.map(str::to_owned),
                text: String::new(),
            };
            open = Some((indentation, block));
        }
        previous = line;
    }
    assert!(open.is_none(), "{document}: an unclosed code block");
    blocks
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
    let mut changed = 0;
    for line in marked("quick start, configuration")[0].text.lines() {
        let Some((key, _)) = line.split_once(": ") else {
            continue;
        };
        let mut lines = config
            .lines()
            .filter(|old| old.starts_with(&format!("{key}: ")));
        let (old, None) = (lines.next().unwrap_or_default(), lines.next()) else {
            panic!("config.yml has {key:?} more than once");
        };
        assert!(!old.is_empty(), "config.yml has no {key:?}");
        config = config.replace(&format!("\n{old}\n"), &format!("\n{line}\n"));
        changed += 1;
    }
    assert_eq!(changed, 3);
    config
}

/// The text without its code blocks.
pub fn prose(text: &str) -> String {
    let mut inside = false;
    let mut prose = String::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            inside = !inside;
        } else if !inside {
            prose.push_str(line);
            prose.push('\n');
        }
    }
    prose
}

/// The texts between backquotes, outside of code blocks.
pub fn code_spans(text: &str) -> Vec<String> {
    prose(text)
        .split("\n\n")
        .flat_map(|paragraph| {
            paragraph
                .split('`')
                .skip(1)
                .step_by(2)
                .map(|span| span.replace('\n', " "))
                .collect::<Vec<String>>()
        })
        .collect()
}

/// The targets of the links.
pub fn links(text: &str) -> Vec<String> {
    prose(text)
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')'))
        .map(|(target, _)| target.to_owned())
        .collect()
}

/// The anchors of the headings, as GitLab and GitHub make them.
pub fn anchors(text: &str) -> Vec<String> {
    let headings = prose(text);
    let headings = headings.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|line| {
            let title = line.trim_start_matches('#').trim().to_lowercase();
            title
                .chars()
                .filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c))
                .map(|c| if c == ' ' { '-' } else { c })
                .collect()
        })
        .collect()
}

/// The links that lead nowhere: of a set of documents below a directory, where other files may be linked, too.
pub fn dead_links(dir: &Path, documents: &BTreeMap<String, String>) -> Vec<String> {
    let mut dead = Vec::new();
    for (name, text) in documents {
        for link in links(text) {
            if link.contains("://") {
                continue;
            }
            let (path, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = if path.is_empty() {
                dir.join(name)
            } else {
                dir.join(name).with_file_name("").join(path)
            };
            let is_there = if anchor.is_empty() {
                target.exists()
            } else {
                fs::read_to_string(&target)
                    .is_ok_and(|text| anchors(&text).iter().any(|known| known == anchor))
            };
            if !is_there {
                dead.push(format!("{name}: {link}"));
            }
        }
    }
    dead
}
