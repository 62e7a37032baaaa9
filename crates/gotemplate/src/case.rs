//! Go's mapping of letter case: each character to one character, where Rust's may give several.

/// `unicode.ToUpper`: `ß` stays.
pub fn upper(c: char) -> char {
    let mut full = c.to_uppercase();
    if full.len() == 1 {
        return full.next().unwrap_or(c);
    }
    // The full mapping has several characters; Unicode's simple mapping is then the character itself, but for the
    // Greek letters with an iota below.
    let simple = match u32::from(c) {
        code @ (0x1F80..=0x1F87 | 0x1F90..=0x1F97 | 0x1FA0..=0x1FA7) => code + 8,
        code @ (0x1FB3 | 0x1FC3 | 0x1FF3) => code + 9,
        code => code,
    };
    char::from_u32(simple).unwrap_or(c)
}

/// `unicode.ToLower`: `İ` gives `i`, a final sigma stays `σ`.
pub fn lower(c: char) -> char {
    // Only U+0130 has a full mapping of several characters; the first one is its simple mapping.
    c.to_lowercase().next().unwrap_or(c)
}

#[cfg(test)]
mod tests {
    #[test]
    fn case_is_mapped_one_to_one() {
        for (text, upper, lower) in [
            ("straße", "STRAßE", "straße"),
            ("İstanbul", "İSTANBUL", "istanbul"),
            ("ΟΔΟΣ", "ΟΔΟΣ", "οδοσ"),
            ("ᾳ ᾀ ᾖ ŉ", "ᾼ ᾈ ᾞ ŉ", "ᾳ ᾀ ᾖ ŉ"),
            ("Température 日本", "TEMPÉRATURE 日本", "température 日本"),
        ] {
            assert_eq!(text.chars().map(super::upper).collect::<String>(), upper);
            assert_eq!(text.chars().map(super::lower).collect::<String>(), lower);
        }
    }
}
