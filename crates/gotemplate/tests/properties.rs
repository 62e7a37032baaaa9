//! For any text as a template, and any text as its data: no panic, and no end of the process.

use std::collections::BTreeMap;

use gotemplate::{MAX_TEXT_BYTES, Regexp, Template};
use proptest::prelude::*;

/// Pieces that make most of a sequence a template, or nearly one.
const PIECES: [&[&str]; 2] = [
    &[
        "{{", "}}", "{{- ", " -}}", "{{/*", "*/}}", "if ", "else", "end", "range ", "with ",
        "define ", "block ", "break", "continue", "nil", "true", ".", ".Field", ".text", "$", "$x",
        " := ", " = ", ", ", "|", " | ", "(", ")", " ", "\n", "\u{a0}", "\"a\"", "\"\\", "`",
        "'c'", "1", "1.5", "-0x1e3", "1e400", "1_0", "1i", "printf ", "print ", "len ", "index ",
        "slice ", "eq ", "lt ", "and ", "or ", "not ", "html ", "js ", "call ", "trim ", "split ",
        "replace ", "json ", "substr ", "strpos ", "strjoin ", "pairs ", "add ", "div ",
        "\"UTC\" ", "é", "日",
    ],
    &[
        "template ",
        "\"%[2]*.*d%v\" ",
        "\"%#+09.3q\" ",
        "urlquery ",
        "uppercase ",
        "\"(a|b)*\" ",
        "json_unquote ",
        "regex_map_key ",
        "substrRight ",
        "localtime ",
        "\"Mon Jan 2 15:04:05.000 MST 2006\" ",
        "\"2026-11-22T14:10:49Z\" ",
    ],
];

fn template() -> impl Strategy<Value = String> {
    let pieces = prop::collection::vec(prop::sample::select(PIECES.concat()), 0..40);
    let action = prop::collection::vec(prop::sample::select(PIECES.concat()), 0..12)
        .prop_map(|pieces| format!("{{{{ {} }}}}", pieces.concat()));
    prop_oneof![
        pieces.prop_map(|pieces| pieces.concat()),
        prop::collection::vec(action, 1..4).prop_map(|actions| actions.concat()),
        any::<String>(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_template_is_refused_or_ends(source in template(), text in any::<String>()) {
        match Template::parse(&source) {
            Err(error) => {
                prop_assert!(error.location.line <= 1 + source.matches('\n').count());
                prop_assert!(!error.message.is_empty());
            }
            Ok(template) => {
                let data = BTreeMap::from([("text".to_owned(), text.clone()), ("Field".to_owned(), text)]);
                if let Ok(text) = template.render(&data, &|| false) {
                    prop_assert!(text.len() <= 3 * MAX_TEXT_BYTES);
                }
            }
        }
    }

    #[test]
    fn text_without_braces_stays_as_it_is(source in "[^{]*") {
        let template = Template::parse(&source).unwrap();
        prop_assert_eq!(template.render(&BTreeMap::new(), &|| false), Ok(source));
    }

    #[test]
    fn any_pattern_is_refused_or_matches(pattern in "[\\[\\]a-c\\\\^&~{},0-9:()?*+|$.PpQEdwsxnL<>-]{0,12}", text in any::<String>()) {
        if let Ok(regexp) = Regexp::new(&pattern) {
            prop_assert_eq!(regexp.groups(&text).is_some(), regexp.is_match(&text));
        }
    }

    #[test]
    fn a_quoted_pattern_matches_itself(text in any::<String>()) {
        let text = text.replace('\\', "/");
        let regexp = Regexp::new(&format!("^\\Q{text}\\E$")).unwrap();
        prop_assert!(regexp.is_match(&text));
    }
}
