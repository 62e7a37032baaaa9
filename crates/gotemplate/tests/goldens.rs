//! What Go itself answers, measured with Go 1.19: every text must be the same, and what Go refuses must be refused.

mod support;

use std::io::Read;

use flate2::read::GzDecoder;
use support::{Answer, Case};

/// Chosen cases, one for each function and rule.
const CHOSEN: &str = include_str!("template-goldens.json");

/// `oracle 2026 900`, 2027 and 2028, one after the other.
const RANDOM: &[u8] = include_bytes!("random-goldens.json.gz");

fn assert_agreement(cases: &[Case]) {
    let differences: Vec<String> = cases.iter().filter_map(Case::difference).collect();
    assert!(
        differences.is_empty(),
        "{} of {} cases differ:\n{}",
        differences.len(),
        cases.len(),
        differences[..differences.len().min(10)].join("\n")
    );
}

#[test]
fn chosen_templates_give_the_text_of_go() {
    let cases: Vec<Case> = serde_json::from_str(CHOSEN).unwrap();
    assert_eq!(cases.len(), 68);
    assert_agreement(&cases);
}

#[test]
fn random_templates_give_the_text_of_go() {
    let mut text = String::new();
    GzDecoder::new(RANDOM).read_to_string(&mut text).unwrap();
    let cases: Vec<Case> = serde_json::Deserializer::from_str(&text)
        .into_iter::<Vec<Case>>()
        .flat_map(Result::unwrap)
        .collect();
    assert_eq!(cases.len(), 2700);
    assert_agreement(&cases);
    let texts = cases
        .iter()
        .filter(|case| matches!(case.of_go(), Answer::Text(text) if !text.is_empty()));
    assert!(texts.count() > 1000);
}

#[test]
fn a_difference_is_seen() {
    let case = |template: &str, output: Option<&str>, error: Option<&str>| Case {
        name: "wrong".to_owned(),
        field: serde_json::json!({"a": "b"}),
        regexp: String::new(),
        template: template.to_owned(),
        output: output.map(str::to_owned),
        error: error.map(Into::into),
    };
    for (template, output, error) in [
        ("{{ .Field.a }}", Some("c"), None),
        ("{{ .Field.a }}", None, Some("unexpected")),
        ("{{ .Field.a }}", None, Some("executing")),
        ("{{ .Field.x }}", Some(""), None),
        ("{{ .Field.x", None, Some("executing 1")),
        ("{{ if .Field.x }}{{ end }}", None, Some("unexpected")),
        ("{{ nosuch }}", Some("x"), None),
    ] {
        let case = case(template, output, error);
        let is_refusal_of_a_failure = template == "{{ .Field.x";
        assert_eq!(
            case.difference().is_none(),
            is_refusal_of_a_failure,
            "{case:?}"
        );
    }
}
