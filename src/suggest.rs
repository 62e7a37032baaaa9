//! Suggestions for misspelt words.

/// Longer words than any known one are not compared: that takes time by their length.
const MAX_WORD_BYTES: usize = 64;

/// `; did you mean "x"?` for the nearest known word; empty where none is near.
///
/// A word is near within one edit, and one more for each four letters.
pub fn did_you_mean(word: &str, known: &[&str]) -> String {
    if word.len() > MAX_WORD_BYTES {
        return String::new();
    }
    let word = word.to_lowercase();
    known
        .iter()
        .map(|candidate| {
            (
                strsim::osa_distance(&word, &candidate.to_lowercase()),
                candidate,
            )
        })
        .filter(|(distance, candidate)| *distance <= 1 + candidate.chars().count() / 4)
        .min_by_key(|(distance, _)| *distance)
        .map_or_else(String::new, |(_, candidate)| {
            format!("; did you mean \"{candidate}\"?")
        })
}

/// The known word that a misspelt one is nearest to, within a number of edits; `None` where it is itself known.
pub fn slip_of(word: &str, known: &[String], max_edits: usize) -> Option<String> {
    let distance = |candidate: &&String| strsim::osa_distance(word, candidate);
    let nearest = known.iter().min_by_key(distance)?;
    (1..=max_edits)
        .contains(&distance(&nearest))
        .then(|| nearest.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_word_is_not_a_slip() {
        let known = ["CPS_AMQP_URL", "CPS_AMQP_URL_FILE", "PROMETHEUS_LISTEN"].map(str::to_owned);
        for (word, meant) in [
            ("CPS_AMQP_URL", None),
            ("CPS_AMPQ_URL", Some("CPS_AMQP_URL")),
            ("PROMETHEUS_LISTN", Some("PROMETHEUS_LISTEN")),
            ("PROMETHEUS_PORT", None),
            ("HOME", None),
        ] {
            assert_eq!(slip_of(word, &known, 2).as_deref(), meant, "{word}");
        }
        assert_eq!(slip_of("x", &[], 2), None);
    }

    #[test]
    fn a_near_word_is_suggested_and_a_far_one_is_not() {
        let known = ["bearer_token", "bearer_token_file", "listen", "startsAt"];
        for (word, hint) in [
            ("bearer_tokn", "; did you mean \"bearer_token\"?"),
            ("Listen", "; did you mean \"listen\"?"),
            ("lisetn", "; did you mean \"listen\"?"),
            ("startsat", "; did you mean \"startsAt\"?"),
            ("port", ""),
        ] {
            assert_eq!(did_you_mean(word, &known), hint, "{word}");
        }
    }
}
