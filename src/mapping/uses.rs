//! What a template names of its dot, held against what its rule gives it: where it comes to a name that is not there, it fails.

use super::path::Path;
use super::pattern::Pattern;
use crate::suggest::{did_you_mean, slip_of};

/// What a template's dot may hold.
const PARTS: &[&str] = &["Field", "RegexMatch", "Alert", "Notification"];

/// What `.Alert` holds besides whatever a sender adds; `true` where it is a map. Source: Alertmanager's documentation of its webhook.
pub const ALERT: [(&str, bool); 7] = [
    ("status", false),
    ("labels", true),
    ("annotations", true),
    ("startsAt", false),
    ("endsAt", false),
    ("generatorURL", false),
    ("fingerprint", false),
];

/// What `.Notification` holds, in the same way.
pub const NOTIFICATION: [(&str, bool); 9] = [
    ("version", false),
    ("status", false),
    ("groupKey", false),
    ("receiver", false),
    ("externalURL", false),
    ("truncatedAlerts", false),
    ("groupLabels", true),
    ("commonLabels", true),
    ("commonAnnotations", true),
];

/// The names that a template looks up in its dot, one below the other: `Alert` and `labels` in `.Alert.labels`. Never none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Use(Vec<String>);

/// A part of a rule that its template may need.
#[derive(Debug, Clone, Copy)]
pub enum Offered<T> {
    /// The rule has it.
    Here(T),
    /// The rule does not have it.
    Missing,
    /// It is written there, and faulty: nothing is known of it.
    Faulty,
}

/// What a rule gives its template.
#[derive(Debug, Clone, Copy)]
pub struct Offer<'r> {
    /// Its `field`.
    pub field: Offered<&'r Path>,
    /// Its `regexp`.
    pub regexp: Offered<&'r Pattern>,
}

impl<'r, T, E> From<&'r Result<Option<T>, E>> for Offered<&'r T> {
    fn from(part: &'r Result<Option<T>, E>) -> Self {
        match part {
            Ok(Some(part)) => Self::Here(part),
            Ok(None) => Self::Missing,
            Err(_) => Self::Faulty,
        }
    }
}

impl Use {
    /// Of a chain of names in the whole dot; none of a chain without any.
    pub fn of<S: AsRef<str>>(names: &[S]) -> Option<Self> {
        (!names.is_empty())
            .then(|| Self(names.iter().map(|name| name.as_ref().to_owned()).collect()))
    }

    /// Of a chain of names in another dot, where no name is known: these are names of the whole one, in all likelihood.
    pub fn of_another<S: AsRef<str>>(names: &[S]) -> Option<Self> {
        let first = names.first()?.as_ref();
        ["Field", "RegexMatch"]
            .contains(&first)
            .then(|| Self(vec![first.to_owned()]))
    }

    /// Why this can't be had of the offer; `None` where it may be there.
    pub fn fault(&self, offer: &Offer<'_>) -> Option<String> {
        let name = |depth: usize| self.0.get(depth).map(String::as_str);
        let fails = |depth: usize, why: String| {
            Some(format!(
                "the template fails where it uses .{}: {why}",
                self.0[..=depth].join(".")
            ))
        };
        let nothing_below = |depth: usize| {
            let above = || {
                format!(
                    ".{} is a text, and has nothing below it",
                    self.0[..depth].join(".")
                )
            };
            name(depth).and_then(|_| fails(depth, above()))
        };
        match (name(0)?, name(1)) {
            ("Field", _) => match offer.field {
                Offered::Missing => fails(0, "the rule has no field".to_owned()),
                Offered::Here(path) => nothing_below(if path.is_map() { 2 } else { 1 }),
                Offered::Faulty => None,
            },
            ("RegexMatch", group) => match (offer.regexp, group) {
                (Offered::Missing, _) => fails(0, "the rule has no regexp".to_owned()),
                (Offered::Here(pattern), Some(group)) => {
                    let names: Vec<&str> = pattern.names().collect();
                    if names.contains(&group) {
                        return nothing_below(2);
                    }
                    let known = if names.is_empty() {
                        "none"
                    } else {
                        &names.join(", ")
                    };
                    let hint = did_you_mean(group, &names);
                    fails(
                        1,
                        format!("the regexp has no such group (named: {known}){hint}"),
                    )
                }
                _ => None,
            },
            ("Alert" | "Notification", None) => None,
            ("Notification", Some("alerts")) => {
                fails(1, "it is without its alerts; .Alert is the one".to_owned())
            }
            (part, Some(key)) if part == "Alert" || part == "Notification" => {
                let known: &[_] = if part == "Alert" {
                    &ALERT
                } else {
                    &NOTIFICATION
                };
                if let Some((_, is_map)) = known.iter().find(|(name, _)| *name == key) {
                    return nothing_below(if *is_map { 3 } else { 2 });
                }
                let meant = misspelt(key, known)?;
                fails(
                    1,
                    format!("Alertmanager does not send it; did you mean \"{meant}\"?"),
                )
            }
            (part, _) => {
                let hint = of_alertmanager(part).unwrap_or_else(|| did_you_mean(part, PARTS));
                fails(
                    0,
                    format!("no template has it (known: {}){hint}", PARTS.join(", ")),
                )
            }
        }
    }
}

/// Only what is clearly a slip of the pen: whoever sends notifications may add other keys to them.
fn misspelt(key: &str, known: &[(&str, bool)]) -> Option<String> {
    let same = known
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(key));
    let names: Vec<String> = known.iter().map(|(name, _)| (*name).to_owned()).collect();
    same.map(|(name, _)| (*name).to_owned())
        .or_else(|| slip_of(key, &names, 1))
}

/// `.Labels` and its like, as Alertmanager's own templates have them.
fn of_alertmanager(part: &str) -> Option<String> {
    [("Alert", &ALERT[..]), ("Notification", &NOTIFICATION[..])]
        .into_iter()
        .find_map(|(whole, known)| {
            let (name, _) = known
                .iter()
                .find(|(name, _)| name.eq_ignore_ascii_case(part))?;
            Some(format!("; did you mean \"{whole}.{name}\"?"))
        })
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
        let nothing = Offer {
            field: Offered::Missing,
            regexp: Offered::Missing,
        };
        let matched = Offer {
            field: Offered::Here(&text),
            regexp: Offered::Here(&pattern),
        };
        let nameless = Offer {
            regexp: Offered::Here(&without_names),
            ..matched
        };
        let whole = Offer {
            field: Offered::Here(&map),
            ..nothing
        };
        let faulty = Offer {
            field: Offered::Faulty,
            regexp: Offered::Faulty,
        };
        for (template, offer, faults) in [
            ("{{ .Alert.labels.x }}{{ .Notification }}", nothing, &[][..]),
            // A sender may add what Alertmanager does not have.
            (
                "{{ .Alert.state }}{{ .Notification.state }}{{ .Notification.group.a.b.c }}",
                nothing,
                &[],
            ),
            (
                "{{ .Field }}",
                nothing,
                &["the template fails where it uses .Field: the rule has no field"],
            ),
            ("{{ .Field.job }}", whole, &[]),
            (
                "{{ .Field.job.x }}",
                whole,
                &["uses .Field.job.x: .Field.job is a text, and has nothing below it"],
            ),
            (
                "{{ .Field.job }}",
                matched,
                &["uses .Field.job: .Field is a text, and has nothing below it"],
            ),
            ("{{ .Field.job }}{{ .RegexMatch.x }}", faulty, &[]),
            ("{{ .RegexMatch.host }}{{ .RegexMatch }}", matched, &[]),
            (
                "{{ .RegexMatch.host }}",
                nothing,
                &["uses .RegexMatch: the rule has no regexp"],
            ),
            (
                "{{ if true }}{{ .RegexMatch.hsot }}{{ end }}",
                matched,
                &[
                    "uses .RegexMatch.hsot: the regexp has no such group (named: host, port); did you mean \"host\"?",
                ],
            ),
            ("{{ .RegexMatch.a }}", nameless, &["(named: none)"]),
            (
                "{{ .RegexMatch.host.x }}",
                matched,
                &[".RegexMatch.host is a text"],
            ),
            (
                "{{ .Feild.x }}",
                matched,
                &[
                    "uses .Feild: no template has it (known: Field, RegexMatch, Alert, Notification); did you mean \"Field\"?",
                ],
            ),
            (
                "{{ $.Labels.job | lowercase }}",
                matched,
                &["Notification); did you mean \"Alert.labels\"?"],
            ),
            (
                "{{ .CommonLabels.job }}",
                matched,
                &["Notification); did you mean \"Notification.commonLabels\"?"],
            ),
            (
                "{{ .Alert.Labels.job }} {{ .Alert.lables.job }}",
                nothing,
                &[
                    "uses .Alert.Labels: Alertmanager does not send it; did you mean \"labels\"?",
                    "uses .Alert.lables:",
                ],
            ),
            (
                "{{ .Alert.startsAt.Format \"15:04\" }}",
                nothing,
                &["uses .Alert.startsAt.Format: .Alert.startsAt is a"],
            ),
            (
                "{{ len .Notification.alerts }}",
                nothing,
                &["uses .Notification.alerts: it is without its alerts"],
            ),
            // Where the dot is another.
            (
                "{{ with .Alert.labels }}{{ .job }}{{ else }}{{ .Alret }}{{ end }}",
                nothing,
                &["uses .Alret:"],
            ),
            (
                "{{ range .Alert.labels }}{{ .x }}{{ $.y }}{{ end }}{{ .z }}",
                nothing,
                &["uses .y:", "uses .z:"],
            ),
            (
                "{{ with .Alert }}{{ .Field }}{{ end }}",
                nothing,
                &["the rule has no field"],
            ),
            (
                "{{ block \"t\" . }}{{ .RegexMatch.x }}{{ end }}",
                nothing,
                &["the rule has no regexp"],
            ),
            (
                "{{ define \"t\" }}{{ .x }}{{ $.y }}{{ end }}{{ template \"t\" .Alert }}",
                nothing,
                &[],
            ),
            (
                "{{ with $x := .Alert }}{{ $x.nosuch }}{{ end }}",
                nothing,
                &[],
            ),
            ("{{ $ := .Alert }}{{ $.nosuch }}", nothing, &[]),
            (
                "{{ if true }}{{ $ = .Alert }}{{ end }}{{ $.nosuch }}",
                nothing,
                &[],
            ),
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
