//! What holds for every template and pattern: no panic, no limit exceeded.

use std::collections::BTreeMap;

use gotemplate::{Regexp, Template, Value};
use proptest::prelude::*;

/// Characters that parsers care about, and any others.
fn noise() -> impl Strategy<Value = String> {
    let special: Vec<char> = "{}[]()<>.*+?|\\^$:;,\"'`#@%&!-_/= \n\t\0aé日1"
        .chars()
        .collect();
    let character = prop_oneof![proptest::char::any(), proptest::sample::select(special)];
    proptest::collection::vec(character, 0..40).prop_map(|chars| chars.into_iter().collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn templates_and_patterns_compile_or_are_refused(text in noise(), field in noise()) {
        if let Ok(regexp) = Regexp::new(&text) {
            regexp.replace_all(&field, &text);
        }
        for source in [format!("{{{{ {text} }}}}"), text] {
            if let Ok(template) = Template::parse(&source) {
                let data = BTreeMap::from([("Field".to_owned(), Value::from(field.as_str()))]);
                let _ = template.render(&Value::from(data));
            }
        }
    }

    #[test]
    fn a_quoted_pattern_matches_itself(text in noise()) {
        let text = text.replace('\\', "/");
        let regexp = Regexp::new(&format!("^\\Q{text}\\E$")).unwrap();
        prop_assert!(regexp.is_match(&text));
    }
}
