//! What was probably meant by a misspelt word.

/// `; did you mean "x"?`, or nothing where no known word is near.
pub fn did_you_mean(word: &str, known: &[&str]) -> String {
    let word = word.to_lowercase();
    known
        .iter()
        .map(|candidate| (strsim::osa_distance(&word, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.chars().count() / 4)
        .min_by_key(|(distance, _)| *distance)
        .map_or_else(String::new, |(_, candidate)| format!("; did you mean \"{candidate}\"?"))
}

#[cfg(test)]
mod tests {
    use super::did_you_mean;

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
