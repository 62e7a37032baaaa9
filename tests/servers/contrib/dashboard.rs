//! The dashboard is consistent.

use std::collections::BTreeSet;

use regex::Regex;
use serde_json::{Value, json};

use super::queries::{dashboard_queries, names, panels, substitute_variables};
use super::{DASHBOARD, list, run_tool, text};
use crate::support::TempDir;

#[test]
fn the_dashboard_is_consistent() {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    assert!(dashboard["id"].is_null() && text(&dashboard["uid"]).len() <= 40);
    let all: Vec<Value> = list(&dashboard["panels"])
        .iter()
        .filter(|one| one["type"] == "row")
        .cloned()
        .collect();
    let titles: Vec<&str> = all.iter().map(|row| text(&row["title"])).collect();
    assert_eq!(
        titles,
        [
            "Is it up?",
            "Does it deliver?",
            "Is it overloaded?",
            "Who sends?",
            "What is rejected?",
            "Which alerts share an alarm?",
            "The process"
        ]
    );

    let (panels, mut places) = (panels(), Vec::new());
    for panel in all.iter().chain(&panels) {
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|key| panel["gridPos"][key].as_u64().unwrap());
        assert!(w > 0 && h > 0 && x + w <= 24, "{}", panel["title"]);
        for (other, (left, top, right, bottom)) in &places {
            assert!(
                x >= *right || x + w <= *left || y >= *bottom || y + h <= *top,
                "{} on {other}",
                panel["title"]
            );
        }
        places.push((panel["title"].clone(), (x, y, x + w, y + h)));
    }
    let ids: BTreeSet<u64> = all
        .iter()
        .chain(&panels)
        .map(|panel| panel["id"].as_u64().unwrap())
        .collect();
    assert_eq!(ids.len(), all.len() + panels.len());

    for panel in &panels {
        let (title, defaults) = (text(&panel["title"]), &panel["fieldConfig"]["defaults"]);
        assert!(
            text(&panel["description"]).len() > 20,
            "{title} has no description"
        );
        assert!(
            defaults["unit"].is_string() && !list(&defaults["thresholds"]["steps"]).is_empty(),
            "{title}"
        );
        assert!(!list(&panel["targets"]).is_empty(), "{title}");
        for source in [panel].into_iter().chain(list(&panel["targets"])) {
            assert_eq!(source["datasource"]["uid"], "${datasource}", "{title}");
        }
    }
    let variables: Vec<&str> = list(&dashboard["templating"]["list"])
        .iter()
        .map(|one| text(&one["name"]))
        .collect();
    assert_eq!(variables, ["datasource", "job", "instance"]);
    let window = Regex::new(r"\[([^]]*)\]").unwrap();
    for (query, legend) in dashboard_queries() {
        assert!(
            legend.contains("{{instance}}"),
            "{query}: no instance in the legend"
        );
        // Every metric is restricted to the selected jobs and instances.
        let names = names(&query);
        for (metric, matchers) in names.metrics {
            for label in ["job", "instance"] {
                let chosen = (label.to_owned(), format!("${label}"));
                assert!(
                    matchers.contains(&chosen),
                    "{metric} has no matcher of {label} in {query}"
                );
            }
        }
        for found in window.captures_iter(&query) {
            assert!(
                ["$__rate_interval", "$__range"].contains(&&found[1]),
                "{query}"
            );
        }
    }

    // promtool checks expressions only in rules.
    let rules: Vec<Value> = dashboard_queries()
        .iter()
        .zip(0..)
        .map(|((query, _), number)| json!({"record": format!("query:{number}"), "expr": substitute_variables(query, ".*", ".*")}))
        .collect();
    let groups = json!({"groups": [{"name": "queries", "rules": rules}]});
    let dir = TempDir::new("queries");
    let path = dir.file("queries.yml", &groups.to_string());
    run_tool(&["promtool", "check", "rules", &path]);
}
