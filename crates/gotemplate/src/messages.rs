//! The hint and the shortening that error messages share.

/// Longer words are not compared: that takes time by their length.
const MAX_WORD_BYTES: usize = 64;

/// `; did you mean "x"?`, or nothing where no known word is near.
pub fn did_you_mean(word: &str, known: &[&str]) -> String {
    if word.len() > MAX_WORD_BYTES {
        return String::new();
    }
    let word = word.to_lowercase();
    known
        .iter()
        .map(|candidate| {
            let distance = strsim::osa_distance(&word, &candidate.to_lowercase());
            (distance, candidate)
        })
        .filter(|(distance, candidate)| *distance <= 1 + candidate.chars().count() / 4)
        .min_by_key(|(distance, _)| *distance)
        .map_or_else(String::new, |(_, candidate)| {
            format!("; did you mean \"{candidate}\"?")
        })
}

/// At most the first 96 characters of a text.
pub fn shorten(text: &str) -> String {
    const MAX_CHARACTERS: usize = 96;
    let mut short: String = text.chars().take(MAX_CHARACTERS).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}
