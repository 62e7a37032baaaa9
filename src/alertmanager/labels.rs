//! Labels and annotations: a sorted map of strings that borrows from the body and costs one allocation.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde::ser::{Serialize, Serializer};

/// Alerts seldom have more labels: one allocation is enough for them.
const TYPICAL_ENTRIES: usize = 8;

/// The most entries of one map. Real alerts have dozens; an entry of 6 bytes in the body takes 48 in memory.
const MAX_ENTRIES: usize = 4096;

/// Label or annotation names with their values, sorted by name as Alertmanager writes them; each name once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labels<'b>(Vec<(Cow<'b, str>, Cow<'b, str>)>);

impl<'b> Labels<'b> {
    /// From entries in any order. Of a repeated name the last value counts, as for Go's decoder. A null, here `None`, is an absent
    /// entry.
    pub fn new(mut entries: Vec<(Cow<'b, str>, Option<Cow<'b, str>>)>) -> Self {
        if !entries.is_sorted_by(|(one, _), (other, _)| one < other) {
            entries = BTreeMap::from_iter(entries).into_iter().collect();
        }
        // In the same memory: both kinds of entries have the same size.
        let present = entries
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)));
        Self(present.collect())
    }

    /// The value of a name. An alert has a few labels: to compare their lengths is faster than to search.
    pub fn get(&self, name: &str) -> Option<&str> {
        let (_, value) = self.0.iter().find(|(known, _)| known == name)?;
        Some(value)
    }

    /// Names and values, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The length of all names and values, in bytes.
    pub fn text_len(&self) -> usize {
        self.iter()
            .map(|(name, value)| name.len() + value.len())
            .sum()
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for Labels<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

/// A string, borrowed from the body where it contains no escapes.
#[derive(serde::Deserialize)]
pub struct JsonString<'b>(#[serde(borrow)] pub Cow<'b, str>);

impl<'de: 'b, 'b> Deserialize<'de> for Labels<'b> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(LabelsVisitor)
    }
}

/// Derived code would hold every entry that a sender writes; this one counts them.
struct LabelsVisitor;

impl<'de> Visitor<'de> for LabelsVisitor {
    type Value = Labels<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of strings")
    }

    /// Go writes a nil map as null.
    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Labels::default())
    }

    /// The error that this replaces quotes the whole string.
    fn visit_str<E: Error>(self, _: &str) -> Result<Self::Value, E> {
        Err(E::custom("expected a map of strings"))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::with_capacity(TYPICAL_ENTRIES);
        while let Some((JsonString(name), value)) =
            map.next_entry::<_, Option<JsonString<'de>>>()?
        {
            if entries.len() == MAX_ENTRIES {
                let reason = format_args!("more than {MAX_ENTRIES} labels or annotations");
                return Err(A::Error::custom(reason));
            }
            entries.push((name, value.map(|JsonString(value)| value)));
        }
        Ok(Labels::new(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_sorted_and_the_last_of_a_name_counts() {
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
                    .map(|(name, value)| (name.into(), Some(value.into())))
                    .collect(),
            );
            assert_eq!(labels.iter().collect::<Vec<_>>(), sorted);
            for (name, value) in sorted {
                assert_eq!(labels.get(name), Some(value));
            }
            assert_eq!(labels.get("nosuch"), None);
        }
    }

    #[test]
    fn a_null_is_an_absent_entry() {
        for (json, present) in [
            ("null", &[][..]),
            (r#"{"a":null}"#, &[]),
            (r#"{"b":null,"a":"1","c":""}"#, &[("a", "1"), ("c", "")]),
            (r#"{"a":"1","a":null,"b":null,"b":"2"}"#, &[("b", "2")]),
        ] {
            let labels: Labels<'_> = serde_json::from_str(json).unwrap();
            assert_eq!(labels.iter().collect::<Vec<_>>(), present, "{json}");
        }
        let wrong = serde_json::from_str::<Labels<'_>>(r#"{"a":1}"#).unwrap_err();
        assert!(wrong.to_string().contains("expected a string"), "{wrong}");
    }

    #[test]
    fn entries_are_not_copied_to_remove_nulls() {
        let entries = vec![("a".into(), Some("1".into())), ("b".into(), None)];
        let allocated = entries.as_ptr() as usize;
        let labels = Labels::new(entries);
        assert_eq!(labels.0.as_ptr() as usize, allocated);
    }
}
