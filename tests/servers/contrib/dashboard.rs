//! The dashboard is consistent.

use std::collections::BTreeSet;

use regex::Regex;
use serde_json::Value;

use super::queries::{dashboard_queries, names, panels};
use super::{DASHBOARD, list, text};

#[test]
fn the_dashboard_is_consistent() {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    assert!(dashboard["id"].is_null() && text(&dashboard["uid"]).len() <= 40);
    let rows = list(&dashboard["panels"]).iter();
    let rows: Vec<&Value> = rows.filter(|one| one["type"] == "row").collect();
    let titles: Vec<&str> = rows.iter().map(|row| text(&row["title"])).collect();
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
    let mut ids = BTreeSet::new();
    for panel in rows.into_iter().chain(&panels) {
        let title = &panel["title"];
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}");
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|key| panel["gridPos"][key].as_u64().unwrap());
        assert!(w > 0 && h > 0 && x + w <= 24, "{title}");
        for (other, (left, top, right, bottom)) in &places {
            let is_apart = x >= *right || x + w <= *left || y >= *bottom || y + h <= *top;
            assert!(is_apart, "{title} on {other}");
        }
        places.push((title, (x, y, x + w, y + h)));
    }

    for panel in &panels {
        let (title, defaults) = (text(&panel["title"]), &panel["fieldConfig"]["defaults"]);
        let description = text(&panel["description"]);
        assert!(description.len() > 20, "{title} has no description");
        assert!(defaults["unit"].is_string(), "{title}");
        assert!(
            !list(&defaults["thresholds"]["steps"]).is_empty(),
            "{title}"
        );
        assert!(!list(&panel["targets"]).is_empty(), "{title}");
        for source in [panel].into_iter().chain(list(&panel["targets"])) {
            assert_eq!(source["datasource"]["uid"], "${datasource}", "{title}");
        }
    }
    let variables = list(&dashboard["templating"]["list"]).iter();
    let variables: Vec<&str> = variables.map(|one| text(&one["name"])).collect();
    assert_eq!(variables, ["datasource", "job", "instance"]);
    let window = Regex::new(r"\[([^]]*)\]").unwrap();
    for (query, legend) in dashboard_queries() {
        assert!(legend.contains("{{instance}}"), "{legend} of {query}");
        // Every metric is restricted to the selected jobs and instances.
        let names = names(&query);
        for (metric, matchers) in names.metrics {
            for label in ["job", "instance"] {
                let chosen = (label.to_owned(), format!("${label}"));
                let is_chosen = matchers.contains(&chosen);
                assert!(is_chosen, "{metric} has no matcher of {label} in {query}");
            }
        }
        for found in window.captures_iter(&query) {
            let is_known = ["$__rate_interval", "$__range"].contains(&&found[1]);
            assert!(is_known, "{query}");
        }
    }
}
