//! Tables of a text and what is expected of it.

/// The rows of a table: the text of a line, and what is expected of it, below it.
pub fn rows(table: &str) -> Vec<(&str, &str)> {
    let lines = table.lines().map(str::trim).filter(|line| !line.is_empty());
    let lines: Vec<&str> = lines.collect();
    lines.chunks(2).map(|row| (row[0], row[1])).collect()
}
