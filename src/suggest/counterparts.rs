//! What the names of other programs' templates are here. People paste templates of Alertmanager, Prometheus, Grafana and Helm.

/// What to write instead of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counterpart {
    /// An expression, with its parameters in capitals.
    Is(&'static str),
    /// Something else, as a sentence's end.
    Instead(&'static str),
    /// Nothing.
    None,
}

use Counterpart::{Instead, Is, None};

const REGEXP: Counterpart = Instead("use the rule's regexp and .RegexMatch");

/// Functions, variables with their dollar sign, and fields with a dot.
const COUNTERPARTS: &[(&str, Counterpart)] = &[
    // Alertmanager and Prometheus.
    ("toUpper upper", Is("uppercase TEXT")),
    ("toLower lower", Is("lowercase TEXT")),
    ("trimSpace trimAll", Is("trim TEXT")),
    ("join", Is("strjoin LIST SEPARATOR")),
    (
        "reReplaceAll regexReplaceAll nospace",
        Is("replace REGEXP NEW TEXT"),
    ),
    ("match regexMatch regexFind regexFindAll", REGEXP),
    ("stripPort", Is("split \":\" 0 TEXT")),
    ("toJson toRawJson toPrettyJson", Is("json VALUE")),
    ("date", Is("formattedDate LAYOUT TIME")),
    (
        "tz dateInZone date_in_zone",
        Is("localtime LAYOUT ZONE TIME"),
    ),
    ("externalURL", Is(".Notification.externalURL")),
    (
        "args first graphLink humanize humanize1024 humanizeDuration humanizePercentage \
         humanizeTimestamp label now parseDuration pathPrefix query safeHtml since sortByLabel \
         stringSlice stripDomain strvalue tableLink title tmpl toDuration toTime value",
        None,
    ),
    // Helm and Sprig.
    ("default", Is("or (index MAP KEY) DEFAULT")),
    ("coalesce", Is("or VALUE OTHER")),
    ("empty", Is("not VALUE")),
    ("ternary", Instead("use {{if}} and {{else}}")),
    ("quote", Is("printf \"%q\" TEXT")),
    ("squote", Is("printf \"'%s'\" TEXT")),
    ("cat toString", Is("print VALUE")),
    ("trunc", Is("substrLeft TEXT COUNT")),
    ("contains", Is("ge (strpos TEXT PART) 0")),
    ("hasPrefix", Is("eq (strpos TEXT PREFIX) 0")),
    ("hasSuffix", REGEXP),
    ("trimPrefix trimSuffix", Is("replace REGEXP \"\" TEXT")),
    ("splitList splitn", Is("split SEPARATOR INDEX TEXT")),
    ("hasKey", Is("map_has_key MAP KEY")),
    ("get dig", Is("index MAP KEY")),
    ("mul", Is("mult NUMBER NUMBER")),
    ("kindOf typeOf", Is("printf \"%T\" VALUE")),
    ("include tpl", Instead("use {{define}} and {{template}}")),
    (
        "abbrev ago atoi b64dec b64enc camelcase ceil dict duration env expandenv fail float64 \
         floor fromJson fromYaml has indent int int64 kebabcase keys last list lookup max md5sum \
         min mod nindent repeat required round sha1sum sha256sum snakecase sortAlpha toYaml tuple \
         uniq untitle values wrap",
        None,
    ),
    // Variables of Prometheus and Grafana.
    ("$labels $externalLabels", Is(".Alert.labels")),
    ("$annotations", Is(".Alert.annotations")),
    ("$externalURL", Is(".Notification.externalURL")),
    ("$values", Is(".Alert.values")),
    ("$value .Value", Instead("put the value into an annotation")),
    (".ExternalLabels", Is(".Alert.labels")),
    (".Alerts", Is(".Alert")),
];

/// Where the other fields of Alertmanager, Prometheus and Grafana are here: each is the last word, in another case.
const FIELDS: &str = "\
    .Alert.labels .Alert.annotations .Alert.status .Alert.startsAt .Alert.endsAt .Alert.generatorURL .Alert.fingerprint \
    .Notification.receiver .Notification.groupKey .Notification.groupLabels .Notification.commonLabels \
    .Notification.commonAnnotations .Notification.externalURL .Notification.truncatedAlerts .Alert.values \
    .Alert.valueString .Alert.silenceURL .Alert.dashboardURL .Alert.panelURL";

/// What to write instead of a name that another program's templates have. The case of a field does not matter.
pub fn counterpart(name: &str) -> Option<Counterpart> {
    let is_meant =
        |known: &str| name == known || name.starts_with('.') && name.eq_ignore_ascii_case(known);
    let mut rows = COUNTERPARTS.iter();
    let row = rows.find(|(names, _)| names.split(' ').any(is_meant));
    let field = || FIELDS.split(' ').find(|path| is_meant(field_of(path)));
    row.map_or_else(|| field().map(Is), |(_, counterpart)| Some(*counterpart))
}

/// The last word of a path, with its dot.
fn field_of(path: &str) -> &str {
    path.rfind('.').map_or(path, |dot| &path[dot..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mapping::shapes;
    use gotemplate::{NameKind, RegexpBudget, Template};

    #[test]
    fn every_counterpart_exists_and_no_other_name_does() {
        let dot = shapes::dot(Option::None, Option::None);
        let parse = |text: &str| {
            Template::parse_for(
                &format!("{{{{ {text} }}}}"),
                &dot,
                &mut RegexpBudget::default(),
            )
        };
        let fields = FIELDS.split(' ').map(|path| (field_of(path), Is(path)));
        let all: Vec<_> = COUNTERPARTS.iter().copied().chain(fields).collect();
        for (names, counterpart) in &all {
            if let Is(expression) = counterpart {
                let is_parameter = |word: &str| {
                    word.len() > 1 && word.bytes().all(|byte| byte.is_ascii_uppercase())
                };
                let words = expression.split_inclusive([' ', '(', ')']);
                let words = words.map(|word| {
                    let bare = word.trim_end_matches([' ', '(', ')']);
                    let shown = if is_parameter(bare) {
                        ".Alert.other"
                    } else {
                        bare
                    };
                    format!("{shown}{}", &word[bare.len()..])
                });
                let template = parse(&words.collect::<String>())
                    .unwrap_or_else(|error| panic!("{expression}: {error}"));
                let mut faults = template.analysis().faults().iter();
                assert!(faults.all(|fault| !fault.always), "{expression}");
            }
            for name in names.split(' ') {
                let unknown = match parse(name) {
                    Err(error) => error
                        .unknown
                        .unwrap_or_else(|| panic!("{name}: {}", error.message)),
                    Ok(template) => template.analysis().faults()[0].unknown.clone().unwrap(),
                };
                assert_ne!(unknown.kind, NameKind::PossibleField, "{name}");
                assert_eq!(unknown.name, name.trim_start_matches('.'));
            }
        }
        let mut names: Vec<&str> = all.iter().flat_map(|(names, _)| names.split(' ')).collect();
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
    }
}
