//! Suggestions for misspelt words, and for names of other programs.

mod counterparts;

use gotemplate::{NameKind, UnknownName};

use counterparts::{Counterpart, counterpart};

/// Longer words than any known one are not compared: that takes time by their length.
const MAX_WORD_BYTES: usize = 64;

/// The known word that a misspelt one most likely means, in any case; `None` where none is near.
///
/// A word is near within one edit, or one for each four letters of the shorter word, but not more than `max_edits`: a suggestion
/// that differs in more is a guess.
pub fn nearest<'k>(
    word: &str,
    known: impl IntoIterator<Item = &'k str>,
    max_edits: usize,
) -> Option<&'k str> {
    if word.len() > MAX_WORD_BYTES {
        return None;
    }
    let lower = word.to_lowercase();
    let letters = lower.chars().count();
    let near = |candidate: &'k str| {
        let edits = strsim::osa_distance(&lower, &candidate.to_lowercase());
        let quarter = letters.min(candidate.chars().count()) / 4;
        (edits <= quarter.clamp(1, max_edits) && edits < letters).then_some((edits, candidate))
    };
    let near = known.into_iter().filter_map(near);
    let (_, candidate) = near.min_by_key(|(edits, _)| *edits)?;
    Some(candidate)
}

/// `; did you mean "x"?` for the nearest known word; empty where none is near.
pub fn did_you_mean<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> String {
    let nearest = nearest(word, known, usize::MAX);
    nearest.map_or_else(String::new, |meant| format!("; did you mean \"{meant}\"?"))
}

/// What to write instead of a name that a template uses and that nothing has: what it is called here, or the nearest known name.
/// Empty where neither is known.
pub fn for_template(unknown: &UnknownName) -> String {
    let known = || unknown.known.iter().map(String::as_str);
    let name = unknown.name.as_str();
    let counterpart = match unknown.kind {
        // Only its case is wrong.
        _ if known().any(|known| known.eq_ignore_ascii_case(name)) => None,
        NameKind::Function | NameKind::Variable => counterpart(name),
        NameKind::Field | NameKind::PossibleField => {
            let field = format!(".{name}");
            // A sender's own key, such as Grafana's .Alert.values, may be written as its counterpart.
            let is_right = |found: &Counterpart| {
                unknown.kind == NameKind::PossibleField
                    && matches!(found, Counterpart::Is(path) if path.ends_with(&field))
            };
            counterpart(&field).filter(|found| !is_right(found))
        }
        NameKind::Template | NameKind::TimeZone => None,
    };
    match counterpart {
        Some(Counterpart::Is(expression)) => format!("; here it is {expression}"),
        Some(Counterpart::Instead(advice)) => format!("; {advice} instead"),
        Some(Counterpart::None) => "; it has no counterpart here".to_owned(),
        None => did_you_mean(name, known()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_word_is_suggested_and_a_far_one_is_not() {
        let known = [
            "bearer_token",
            "bearer_token_file",
            "listen",
            "startsAt",
            "json",
            "slice",
            "urlquery",
            "url",
        ];
        for (word, meant) in [
            ("bearer_tokn", Some("bearer_token")),
            ("bearer_tokens", Some("bearer_token")),
            ("Listen", Some("listen")),
            ("lisetn", Some("listen")),
            ("startsat", Some("startsAt")),
            ("startAt", Some("startsAt")),
            ("uri", Some("url")),
            ("jsno", Some("json")),
            ("port", None),
            ("u", None),
            // Functions of other template languages.
            ("join", None),
            ("since", None),
            ("query", None),
            ("title", None),
            (&"x".repeat(100_000), None),
        ] {
            assert_eq!(nearest(word, known, usize::MAX), meant, "{word:.20}");
        }
        assert_eq!(did_you_mean("lsten", known), "; did you mean \"listen\"?");
        assert_eq!(did_you_mean("port", known), "");
    }
}
