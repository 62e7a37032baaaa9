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
    let annotations = list(&dashboard["annotations"]["list"]).iter();
    let annotations = annotations.filter(|one| one["expr"].is_string());
    let panels = panels();
    let targets = panels.iter().flat_map(|panel| list(&panel["targets"]));
    let queries = annotations.map(|one| (one, "textFormat"));
    let queries = queries.chain(targets.map(|one| (one, "legendFormat")));
    queries
        .map(|(one, legend)| (text(&one["expr"]).to_owned(), text(&one[legend]).to_owned()))
        .collect()
}

/// The metric and the label of each query variable.
pub fn variables() -> Vec<(String, String)> {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let variables = list(&dashboard["templating"]["list"]).iter();
    let queries = variables.filter(|one| one["type"] == "query");
    let arguments = queries.map(|one| {
        assert_eq!(one["definition"], one["query"]["query"]);
        let arguments = text(&one["definition"]).strip_prefix("label_values(");
        let arguments = arguments.unwrap().strip_suffix(')').unwrap();
        let (metric, label) = arguments.rsplit_once(", ").unwrap();
        (metric.to_owned(), label.to_owned())
    });
    arguments.collect()
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
pub struct Names {
    /// Each metric with its matchers, as label and value.
    pub metrics: Vec<(String, Vec<(String, String)>)>,
    /// The labels of `by`, `without` and `on`.
    pub grouped: BTreeSet<String>,
}

pub fn names(query: &str) -> Names {
    let regex = |text: &str| Regex::new(text).unwrap();
    let mut grouped = BTreeSet::new();
    let grouping = regex(r"(?-u:\b)(?:by|without|on)\s*\(([^)]*)\)");
    for labels in grouping.captures_iter(query) {
        grouped.extend(labels[1].split(',').map(|label| label.trim().to_owned()));
    }
    let rest = grouping.replace_all(query, "");
    let rest = regex(r"\[[^]]*\]|(?-u:\b)(?:and|or|unless)(?-u:\b)").replace_all(&rest, "");
    let matcher = regex(r#"(\w+)\s*[=!~]+\s*"([^"]*)""#);
    let mut metrics = Vec::new();
    // What a bracket follows is a function or an aggregation.
    for found in regex(r"(?-u:\b)([A-Za-z_]\w*)(\{[^}]*\})?(\s*\()?").captures_iter(&rest) {
        if found.get(3).is_none() {
            let matchers = found.get(2).map_or("", |braces| braces.as_str());
            let matchers = matcher.captures_iter(matchers);
            let matchers = matchers.map(|pair| (pair[1].to_owned(), pair[2].to_owned()));
            metrics.push((found[1].to_owned(), matchers.collect()));
        }
    }
    Names { metrics, grouped }
}

/// The queries in a rule's annotations.
pub fn inner_queries(rule: &Value) -> Vec<String> {
    let query = Regex::new("query \\(printf `([^`]*)`").unwrap();
    let queries = query.captures_iter(text(&rule["annotations"]["description"]));
    queries
        .map(|found| found[1].replace("%q", "\"x\""))
        .collect()
}
