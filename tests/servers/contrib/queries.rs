//! The metrics and labels in the queries of the rules and the dashboard.

use std::collections::BTreeSet;

use regex::Regex;
use serde_json::Value;

use super::{DASHBOARD, list, text};

/// All panels except rows, including those of collapsed rows.
pub fn panels() -> Vec<Value> {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let all = list(&dashboard["panels"])
        .iter()
        .flat_map(|panel| [panel].into_iter().chain(list(&panel["panels"])));
    all.filter(|panel| panel["type"] != "row")
        .cloned()
        .collect()
}

/// Every query of the dashboard with its legend, including the queries of annotations.
pub fn dashboard_queries() -> Vec<(String, String)> {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let annotations = list(&dashboard["annotations"]["list"])
        .iter()
        .filter(|one| one["expr"].is_string());
    let annotations = annotations.map(|one| {
        (
            text(&one["expr"]).to_owned(),
            text(&one["textFormat"]).to_owned(),
        )
    });
    let panels = panels();
    let targets = panels.iter().flat_map(|panel| list(&panel["targets"]));
    let targets = targets.map(|one| {
        (
            text(&one["expr"]).to_owned(),
            text(&one["legendFormat"]).to_owned(),
        )
    });
    annotations.chain(targets).collect()
}

/// The metric and the label of each query variable.
pub fn variables() -> Vec<(String, String)> {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let queries = list(&dashboard["templating"]["list"])
        .iter()
        .filter(|one| one["type"] == "query");
    queries
        .map(|one| {
            assert_eq!(one["definition"], one["query"]["query"]);
            let arguments = text(&one["definition"])
                .strip_prefix("label_values(")
                .unwrap()
                .strip_suffix(')')
                .unwrap();
            let (metric, label) = arguments.rsplit_once(", ").unwrap();
            (metric.to_owned(), label.to_owned())
        })
        .collect()
}

/// Substitutes the dashboard's variables, as Grafana does.
pub fn substitute_variables(query: &str, job: &str, instance: &str) -> String {
    let filled = query
        .replace("$__rate_interval", "1m")
        .replace("$__range", "5m")
        .replace("$job", job)
        .replace("$instance", instance);
    assert!(!filled.contains('$'), "an unknown variable: {query}");
    filled
}

/// The names in a query.
#[derive(Debug, Default)]
pub struct Names {
    /// Each metric with its matchers, as label and value.
    pub metrics: Vec<(String, Vec<(String, String)>)>,
    /// The labels of `by`, `without` and `on`.
    pub grouped: BTreeSet<String>,
}

pub fn names(query: &str) -> Names {
    let tokens = Regex::new(r#""[^"]*"|[0-9][\w.]*|[A-Za-z_]\w*|[=!]~|!=|\S"#).unwrap();
    let tokens: Vec<&str> = tokens
        .find_iter(query)
        .map(|token| token.as_str())
        .collect();
    let (mut names, mut at) = (Names::default(), 0);
    let until = |from: usize, end: &str| {
        from + tokens[from..]
            .iter()
            .position(|token| *token == end)
            .unwrap()
    };
    while at < tokens.len() {
        let (token, next) = (tokens[at], tokens.get(at + 1).copied().unwrap_or_default());
        at += 1;
        match token {
            "[" => at = until(at, "]"),
            "{" => {
                let end = until(at, "}");
                let matchers = tokens[at..end].split(|token| *token == ",");
                let matchers = matchers.map(|matcher| {
                    (
                        matcher[0].to_owned(),
                        matcher[2].trim_matches('"').to_owned(),
                    )
                });
                names.metrics.last_mut().unwrap().1.extend(matchers);
                at = end;
            }
            "by" | "without" | "on" => {
                let end = until(at, ")");
                names.grouped.extend(
                    tokens[at + 1..end]
                        .iter()
                        .filter(|token| **token != ",")
                        .map(|token| (*token).to_owned()),
                );
                at = end;
            }
            "and" | "or" | "unless" => {}
            // A function or an aggregation.
            _ if ["(", "by", "without"].contains(&next)
                || !token.starts_with(|c: char| c.is_ascii_alphabetic()) => {}
            _ => names.metrics.push((token.to_owned(), Vec::new())),
        }
    }
    names
}

/// The queries in a rule's annotations.
pub fn inner_queries(rule: &Value) -> Vec<String> {
    let query = Regex::new("query \\(printf `([^`]*)`").unwrap();
    let description = text(&rule["annotations"]["description"]);
    query
        .captures_iter(description)
        .map(|found| found[1].replace("%q", "\"x\""))
        .collect()
}
