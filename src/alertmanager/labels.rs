//! Labels and annotations: a map from names to texts that borrows from the body, and costs one allocation.

use std::borrow::Cow;

use serde::ser::{Serialize, SerializeMap, Serializer};

/// Label or annotation names to their values, sorted by name as Alertmanager itself writes them; each name once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labels<'b>(Vec<(Cow<'b, str>, Cow<'b, str>)>);

impl<'b> Labels<'b> {
    /// From entries in any order; of those with the same name the last one counts, as for Go's decoder.
    pub fn new(mut entries: Vec<(Cow<'b, str>, Cow<'b, str>)>) -> Self {
        if !entries.is_sorted_by(|(one, _), (other, _)| one < other) {
            // A stable sort: the last one stays the last of its name.
            entries.sort_by(|(one, _), (other, _)| one.cmp(other));
            entries.dedup_by(|later, kept| {
                let same = later.0 == kept.0;
                if same {
                    std::mem::swap(later, kept);
                }
                same
            });
        }
        Self(entries)
    }

    /// A label's value.
    pub fn get(&self, name: &str) -> Option<&str> {
        let index = self
            .0
            .binary_search_by(|(known, _)| (**known).cmp(name))
            .ok()?;
        Some(&self.0[index].1)
    }

    /// Names and values, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for Labels<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.len()))?;
        self.iter()
            .try_for_each(|(name, value)| map.serialize_entry(name, value))?;
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_sorted_and_the_last_of_a_name_counts() {
        for (entries, sorted) in [
            (vec![], vec![]),
            (
                vec![("a", "1"), ("b", "2"), ("c", "")],
                vec![("a", "1"), ("b", "2"), ("c", "")],
            ),
            (vec![("b", "2"), ("a", "1")], vec![("a", "1"), ("b", "2")]),
            (vec![("a", "1"), ("a", "2")], vec![("a", "2")]),
            (
                vec![
                    ("b", "1"),
                    ("a", "1"),
                    ("b", "2"),
                    ("a", "2"),
                    ("b", "3"),
                    ("", "x"),
                ],
                vec![("", "x"), ("a", "2"), ("b", "3")],
            ),
        ] {
            let labels = Labels::new(
                entries
                    .into_iter()
                    .map(|(name, value)| (name.into(), value.into()))
                    .collect(),
            );
            assert_eq!(labels.iter().collect::<Vec<_>>(), sorted);
            for (name, value) in sorted {
                assert_eq!(labels.get(name), Some(value));
            }
            assert_eq!(labels.get("nosuch"), None);
        }
    }
}
