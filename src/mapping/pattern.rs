//! A regexp with the names of its groups, as templates see what it matches.

use std::collections::BTreeMap;
use std::sync::Arc;

use gotmpl::Value as TemplateValue;
use regex::Regex;

/// A compiled regexp.
#[derive(Debug)]
pub struct Pattern {
    regex: Regex,
    /// The groups that have a name, by their numbers.
    names: Vec<(usize, Arc<str>)>,
}

impl Pattern {
    /// Its groups' names, in their order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(|(_, name)| &**name)
    }

    /// Whether it matches anywhere in a text.
    pub fn is_match(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }

    /// The named groups of the first match; one that takes no part in it is the empty text.
    pub fn groups(&self, text: &str) -> Option<TemplateValue> {
        let captures = self.regex.captures(text)?;
        let mut groups = BTreeMap::new();
        for (number, name) in &self.names {
            let text = captures.get(*number).map_or("", |group| group.as_str());
            groups.insert(Arc::clone(name), TemplateValue::from(text));
        }
        Some(TemplateValue::Map(Arc::new(groups)))
    }
}

impl From<Regex> for Pattern {
    fn from(regex: Regex) -> Self {
        let names = (0..)
            .zip(regex.capture_names())
            .filter_map(|(number, name)| Some((number, Arc::from(name?))));
        Self {
            names: names.collect(),
            regex,
        }
    }
}
