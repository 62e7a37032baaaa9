//! Warns of fields that a template looks up and its rule does not provide: rendering fails when it gets there.

use gotemplate::{Dot, FieldRef, Regexp};

use super::path::Path;
use crate::suggest::{did_you_mean, slip_of};

/// The fields of a template's dot.
const DOT_FIELDS: &[&str] = &["Field", "RegexMatch", "Alert", "Notification"];

/// The keys of `.Alert` in Alertmanager's format, and whether each is a map. A sender may add others. Source: Alertmanager's
/// documentation of its webhook.
pub const ALERT: [(&str, bool); 7] = [
    ("status", false),
    ("labels", true),
    ("annotations", true),
    ("startsAt", false),
    ("endsAt", false),
    ("generatorURL", false),
    ("fingerprint", false),
];

/// The keys of `.Notification`, likewise.
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

/// An optional part of a rule that its template may need.
#[derive(Debug, Clone, Copy)]
pub enum RulePart<T> {
    /// The rule has it.
    Present(T),
    /// The rule lacks it.
    Missing,
    /// The rule has it, and it is invalid.
    Invalid,
}

/// The parts of a rule that its template may need.
#[derive(Debug, Clone, Copy)]
pub struct RuleInputs<'r> {
    /// `field`
    pub field: RulePart<&'r Path>,
    /// `regexp`
    pub regexp: RulePart<&'r Regexp>,
}

impl<'r, T, E> From<&'r Result<Option<T>, E>> for RulePart<&'r T> {
    fn from(part: &'r Result<Option<T>, E>) -> Self {
        match part {
            Ok(Some(part)) => Self::Present(part),
            Ok(None) => Self::Missing,
            Err(_) => Self::Invalid,
        }
    }
}

/// Why looking up a field fails with these inputs; `None` if it may succeed.
pub fn fault(field: &FieldRef, inputs: &RuleInputs<'_>) -> Option<String> {
    let name = |depth: usize| field.names.get(depth).map(String::as_str);
    let first = name(0)?;
    // In an inner dot other names may exist; these two are most likely meant as those of the root.
    if field.dot == Dot::Inner && !["Field", "RegexMatch"].contains(&first) {
        return None;
    }
    let fails = |depth: usize, why: String| {
        let path = field.names[..=depth].join(".");
        Some(format!("the template fails where it uses .{path}: {why}"))
    };
    let nothing_below = |depth: usize| {
        let parent = || field.names[..depth].join(".");
        name(depth).and_then(|_| fails(depth, format!(".{} is a text, not a map", parent())))
    };
    match (first, name(1)) {
        ("Field", second) => match inputs.field {
            RulePart::Missing => fails(0, "the rule has no field".to_owned()),
            RulePart::Present(_) if second.is_none() => None,
            // As far as an inner dot's name shows, it is the first one only.
            RulePart::Present(_) if field.dot == Dot::Inner => None,
            RulePart::Present(path) => nothing_below(if path.is_map() { 2 } else { 1 }),
            RulePart::Invalid => None,
        },
        ("RegexMatch", group) => match (inputs.regexp, group) {
            (RulePart::Missing, _) => fails(0, "the rule has no regexp".to_owned()),
            (RulePart::Present(regexp), Some(group)) if field.dot == Dot::Root => {
                let names: Vec<&str> = regexp.names().collect();
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
                    format!("the regexp has no such group (named groups: {known}){hint}"),
                )
            }
            _ => None,
        },
        ("Alert" | "Notification", None) => None,
        ("Notification", Some("alerts")) => {
            fails(1, "it comes without its alerts; use .Alert".to_owned())
        }
        ("Alert", Some(key)) => unknown_key(key, &ALERT, &fails, &nothing_below),
        ("Notification", Some(key)) => unknown_key(key, &NOTIFICATION, &fails, &nothing_below),
        (other, _) => {
            let hint = of_alertmanager(other).unwrap_or_else(|| did_you_mean(other, DOT_FIELDS));
            let known = DOT_FIELDS.join(", ");
            fails(0, format!("no such field (known: {known}){hint}"))
        }
    }
}

/// A key of `.Alert` or `.Notification`: warns only of an obvious misspelling, as a sender may add keys.
fn unknown_key(
    key: &str,
    known: &[(&str, bool)],
    fails: &impl Fn(usize, String) -> Option<String>,
    nothing_below: &impl Fn(usize) -> Option<String>,
) -> Option<String> {
    if let Some((_, is_map)) = known.iter().find(|(name, _)| *name == key) {
        return nothing_below(if *is_map { 3 } else { 2 });
    }
    let meant = misspelt(key, known)?;
    fails(
        1,
        format!("Alertmanager does not send it; did you mean \"{meant}\"?"),
    )
}

/// The known key that differs in case only, or in one letter.
fn misspelt(key: &str, known: &[(&str, bool)]) -> Option<String> {
    let same = known
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(key));
    let names: Vec<String> = known.iter().map(|(name, _)| (*name).to_owned()).collect();
    same.map(|(name, _)| (*name).to_owned())
        .or_else(|| slip_of(key, &names, 1))
}

/// Fields of Alertmanager's own templates, such as `.Labels`.
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
    use gotemplate::Template;

    #[test]
    fn a_field_that_the_rule_lacks_is_a_fault() {
        let text = Path::parse("labels.instance").unwrap();
        let map = Path::parse("labels").unwrap();
        let pattern = Regexp::new("(?P<host>[^:]+):(?P<port>.*)").unwrap();
        let without_names = Regexp::new("a(b)").unwrap();
        let nothing = RuleInputs {
            field: RulePart::Missing,
            regexp: RulePart::Missing,
        };
        let matched = RuleInputs {
            field: RulePart::Present(&text),
            regexp: RulePart::Present(&pattern),
        };
        let nameless = RuleInputs {
            regexp: RulePart::Present(&without_names),
            ..matched
        };
        let whole = RuleInputs {
            field: RulePart::Present(&map),
            ..nothing
        };
        let faulty = RuleInputs {
            field: RulePart::Invalid,
            regexp: RulePart::Invalid,
        };
        for (template, inputs, faults) in [
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
                &["uses .Field.job.x: .Field.job is a text, not a map"],
            ),
            (
                "{{ .Field.job }}",
                matched,
                &["uses .Field.job: .Field is a text, not a map"],
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
                    "uses .RegexMatch.hsot: the regexp has no such group (named groups: host, port); did you mean \"host\"?",
                ],
            ),
            ("{{ .RegexMatch.a }}", nameless, &["(named groups: none)"]),
            (
                "{{ .RegexMatch.host.x }}",
                matched,
                &[".RegexMatch.host is a text"],
            ),
            (
                "{{ .Feild.x }}",
                matched,
                &[
                    "uses .Feild: no such field (known: Field, RegexMatch, Alert, Notification); did you mean \"Field\"?",
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
                "{{ .Alert.startsAt.Format }}",
                nothing,
                &["uses .Alert.startsAt.Format: .Alert.startsAt is a"],
            ),
            (
                "{{ len .Notification.alerts }}",
                nothing,
                &["uses .Notification.alerts: it comes without its alerts"],
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
            let template = Template::parse(template).unwrap();
            let fields = template.analysis().fields().iter();
            let found: Vec<String> = fields.filter_map(|field| fault(field, &inputs)).collect();
            assert_eq!(found.len(), faults.len(), "{template:?}: {found:?}");
            for (found, fault) in found.iter().zip(faults) {
                assert!(found.contains(fault), "{template:?}: {found}");
            }
        }
    }
}
