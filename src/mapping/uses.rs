//! What a template names of its dot, held against what its rule gives it: what isn't there makes the template fail at every alert.

use super::path::Path;
use super::pattern::Pattern;
use crate::suggest::did_you_mean;

/// What a template's dot may hold.
const PARTS: &[&str] = &["Field", "RegexMatch", "Alert", "Notification"];

/// What `.Alert` holds, after Alertmanager's documentation of its webhook, and besides whatever else a sender adds.
pub const ALERT: [&str; 7] = ["status", "labels", "annotations", "startsAt", "endsAt", "generatorURL", "fingerprint"];

/// What `.Notification` holds; the same source.
pub const NOTIFICATION: [&str; 9] = [
    "version",
    "status",
    "groupKey",
    "receiver",
    "externalURL",
    "truncatedAlerts",
    "groupLabels",
    "commonLabels",
    "commonAnnotations",
];

/// A name that a template looks up in its dot, and one below it, as in `.Alert.labels`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Use {
    /// The first name.
    pub part: String,
    /// The second, if there is one.
    pub entry: Option<String>,
}

/// What a rule gives its template; `None` for what is written there, but faulty.
#[derive(Debug, Clone, Copy)]
pub struct Offer<'r> {
    /// The rule's field, if it has one.
    pub field: Option<Option<&'r Path>>,
    /// The rule's regexp, if it has one.
    pub regexp: Option<Option<&'r Pattern>>,
}

impl Use {
    /// Of a chain of names; none of a chain without any.
    pub fn of<S: AsRef<str>>(names: &[S]) -> Option<Self> {
        let mut names = names.iter().map(|name| name.as_ref().to_owned());
        Some(Self { part: names.next()?, entry: names.next() })
    }

    /// Why this can't be had of the offer; `None` where it may be there.
    pub fn fault(&self, offer: &Offer<'_>) -> Option<String> {
        let part = &self.part;
        let why = match (part.as_str(), &self.entry) {
            ("Field", entry) => match (offer.field, entry) {
                (Some(None), _) => "but the rule has no field".to_owned(),
                (Some(Some(path)), Some(_)) if !path.is_map() => format!("but {path} is a text"),
                _ => return None,
            },
            ("RegexMatch", entry) => match (offer.regexp, entry) {
                (Some(None), _) => "but the rule has no regexp".to_owned(),
                (Some(Some(pattern)), Some(name)) => {
                    let names: Vec<&str> = pattern.names().collect();
                    if names.contains(&name.as_str()) {
                        return None;
                    }
                    let known = if names.is_empty() { "none" } else { &names.join(", ") };
                    format!("but the regexp has no such group (named: {known}){}", did_you_mean(name, &names))
                }
                _ => return None,
            },
            ("Alert", Some(name)) => not_sent(name, &ALERT)?,
            ("Notification", Some(name)) => not_sent(name, &NOTIFICATION)?,
            ("Alert" | "Notification", None) => return None,
            (_, _) => format!("which no template has (known: {}){}", PARTS.join(", "), did_you_mean(part, PARTS)),
        };
        let entry = self.entry.as_ref().map_or_else(String::new, |entry| format!(".{entry}"));
        Some(format!("the template will fail: it uses .{part}{entry}, {why}"))
    }
}

/// Only a name that is probably misspelt: others may be there, as whoever sends notifications may add to them.
fn not_sent(name: &str, known: &[&str]) -> Option<String> {
    let hint = did_you_mean(name, known);
    (!known.contains(&name) && !hint.is_empty()).then(|| format!("which Alertmanager does not send{hint}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mapping::goregexp;
    use crate::mapping::strict;

    #[test]
    fn what_a_rule_does_not_give_is_told() {
        let text = Path::parse("labels.instance").unwrap();
        let map = Path::parse("labels").unwrap();
        let pattern = Pattern::from(goregexp::compile("(?P<host>[^:]+):(?P<port>.*)").unwrap());
        let without_names = Pattern::from(goregexp::compile("a(b)").unwrap());
        let nothing = Offer { field: Some(None), regexp: Some(None) };
        let matched = Offer { field: Some(Some(&text)), regexp: Some(Some(&pattern)) };
        let nameless = Offer { regexp: Some(Some(&without_names)), ..matched };
        let whole = Offer { field: Some(Some(&map)), ..nothing };
        let faulty = Offer { field: None, regexp: None };
        for (template, offer, faults) in [
            ("{{ .Alert.labels.x }}{{ .Notification }}{{ .Alert.added_by_a_proxy }}", nothing, &[][..]),
            ("{{ .Field }}", nothing, &["the template will fail: it uses .Field, but the rule has no field"]),
            ("{{ .Field.job }}", whole, &[]),
            ("{{ .Field.job }}", matched, &["uses .Field.job, but labels.instance is a text"]),
            ("{{ .Field.job }}{{ .RegexMatch.x }}", faulty, &[]),
            ("{{ .RegexMatch.host }}", matched, &[]),
            ("{{ .RegexMatch.host }}", nothing, &["but the rule has no regexp"]),
            (
                "{{ if true }}{{ .RegexMatch.hsot }}{{ end }}",
                matched,
                &[
                    "uses .RegexMatch.hsot, but the regexp has no such group (named: host, port); did you mean \"host\"?",
                ],
            ),
            ("{{ .RegexMatch.a }}", nameless, &["(named: none)"]),
            (
                "{{ .Feild }}",
                matched,
                &[
                    "uses .Feild, which no template has (known: Field, RegexMatch, Alert, Notification); did you mean \"Field\"?",
                ],
            ),
            ("{{ $.labels.job | lowercase }}", matched, &["uses .labels.job, which no template has (known: Field,"]),
            (
                "{{ .Alert.Labels.job }} {{ .Notification.groupkey }}",
                nothing,
                &["which Alertmanager does not send; did you mean \"labels\"?", "did you mean \"groupKey\"?"],
            ),
            // Where the dot is another.
            ("{{ with .Alert.labels }}{{ .job }}{{ else }}{{ .Alret }}{{ end }}", nothing, &["uses .Alret,"]),
            ("{{ range .Alert.labels }}{{ .x }}{{ $.y }}{{ end }}{{ .z }}", nothing, &["uses .y,", "uses .z,"]),
            ("{{ define \"t\" }}{{ .x }}{{ $.y }}{{ end }}{{ template \"t\" .Alert }}", nothing, &[]),
            ("{{ with $x := .Alert }}{{ $x.nosuch }}{{ end }}", nothing, &[]),
        ] {
            let uses = strict::check(template).unwrap().uses;
            let told: Vec<String> = uses.iter().filter_map(|used| used.fault(&offer)).collect();
            assert_eq!(told.len(), faults.len(), "{template}: {told:?}");
            for (told, fault) in told.iter().zip(faults) {
                assert!(told.contains(fault), "{template}: {told}");
            }
        }
    }
}
