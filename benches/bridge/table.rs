//! Markdown tables, and the statistics for them.

use std::fmt;
use std::time::Duration;

pub struct Table(Vec<String>);

impl Table {
    pub fn new(columns: &[&str]) -> Self {
        Self(vec![line(columns), line(&vec!["---"; columns.len()])])
    }

    pub fn row(&mut self, cells: &[String]) {
        self.0.push(line(cells));
    }
}

fn line<S: AsRef<str>>(cells: &[S]) -> String {
    let cells: Vec<&str> = cells.iter().map(AsRef::as_ref).collect();
    format!("| {} |", cells.join(" | "))
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

pub fn median(numbers: &mut [f64]) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

pub fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    sorted[(sorted.len() - 1) * percent / 100]
}
