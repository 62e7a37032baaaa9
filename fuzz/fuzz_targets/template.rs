//! Any text as a template: it is refused, or it ends within its limits.
#![no_main]

use std::collections::BTreeMap;

use gotemplate::{MAX_TEXT_BYTES, Template};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, &str)| {
    let (source, text) = input;
    let Ok(template) = Template::parse(source) else {
        return;
    };
    let data = BTreeMap::from([
        ("Field".to_owned(), text.to_owned()),
        ("a".to_owned(), source.to_owned()),
    ]);
    if let Ok(output) = template.render(&data, &|| false) {
        // Each byte that belongs to no character becomes three.
        assert!(output.len() <= 3 * MAX_TEXT_BYTES);
    }
});
