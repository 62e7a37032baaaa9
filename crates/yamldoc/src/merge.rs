//! Merge keys.

use std::collections::HashSet;

use crate::{Key, Node, SyntaxError};

/// Resolves merge keys (`<<`) as YAML 1.1 does: a mapping's own keys come first, then those of earlier mappings.
pub(crate) fn merge(node: &mut Node) -> Result<(), SyntaxError> {
    let entries = match node {
        Node::Scalar(..) => return Ok(()),
        Node::List(items) => return items.iter_mut().try_for_each(|(_, node)| merge(node)),
        Node::Map(entries) => entries,
    };
    entries.iter_mut().try_for_each(|(_, node)| merge(node))?;
    let is_merge = |(key, _): &mut (Key, Node)| key.text == "<<";
    let sources: Vec<_> = entries.extract_if(.., is_merge).collect();
    let own = entries.iter().map(|(key, _)| key.text.clone());
    let mut seen: HashSet<String> = if sources.is_empty() {
        HashSet::new()
    } else {
        own.collect()
    };
    for (Key { position, .. }, source) in sources {
        let maps = match source {
            Node::List(items) => items.into_iter().map(|(_, item)| item).collect(),
            single => vec![single],
        };
        for map in maps {
            let Node::Map(merged) = map else {
                let message = "a merge key (<<) takes a mapping or a list of mappings";
                return Err(SyntaxError::new(position, message));
            };
            let new = merged
                .into_iter()
                .filter(|(key, _)| seen.insert(key.text.clone()));
            entries.extend(new);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::{Document, NodeRef, Position};

    #[test]
    fn merge_keys_are_resolved_as_in_yaml_1_1() {
        // The example of https://yaml.org/type/merge.html.
        let text = "- &CENTER {x: 1, y: 2}\n- &LEFT {x: 0, y: 2}\n- &BIG {r: 10}\n- &SMALL {r: 1}\n\
                    - {x: 1, y: 2, r: 10}\n- {<<: *CENTER, r: 10}\n- {<<: [*CENTER, *BIG]}\n- {<<: [*BIG, *LEFT, *SMALL], x: 1}\n\
                    - {<<: {<<: *BIG, x: 1}, y: 2}\n";
        let document = Document::parse(text).unwrap();
        let sorted = |node: &NodeRef<'_>| {
            let mut entries: Vec<String> = node
                .entries()
                .iter()
                .map(|(key, value)| format!("{key}={}", value.text().unwrap()))
                .collect();
            entries.sort();
            entries
        };
        for item in &document.root().items()[4..] {
            assert_eq!(sorted(item), ["r=10", "x=1", "y=2"], "{}", item.path);
        }
        for (text, column) in [("{a: 1, <<: 2}", 8), ("{<<: [{}, 1]}", 2), ("{<<: }", 2)] {
            let error = Document::parse(text).unwrap_err();
            assert_eq!(error.position, Some(Position { line: 1, column }), "{text}");
            assert!(error.message.contains("merge key (<<)"), "{error:?}");
        }
    }
}
