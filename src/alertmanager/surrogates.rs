//! Lone surrogates in the escapes of JSON strings: `\ud83d` without the other half of its pair.
//!
//! `serde_json` refuses them. Go's decoder, for which senders write, reads each as U+FFFD: a sender that shortens a text in the
//! middle of an emoji must not lose its alert.

use memchr::memmem;

/// The bytes of an escape such as `\ud83d`.
const ESCAPE_BYTES: usize = 6;

const REPLACEMENT: &[u8; ESCAPE_BYTES] = b"\\ufffd";

/// Replaces each lone surrogate in JSON by `\ufffd`, which is as long.
pub fn replace_lone_surrogates(json: &mut [u8]) {
    let escape = memmem::Finder::new(b"\\u");
    let mut start = 0;
    while let Some(found) = escape.find(&json[start..]) {
        let at = start + found;
        start = at + 1;
        // Nearly every escape is another one.
        if !matches!(json.get(at + 2), Some(b'd' | b'D')) {
            continue;
        }
        let before = json[..at].iter().rev();
        let is_escaped = before.take_while(|byte| **byte == b'\\').count() % 2 == 1;
        let second = at + ESCAPE_BYTES;
        match code_unit(&json[at..]).filter(|_| !is_escaped) {
            Some(0xd800..=0xdbff) if is_low(&json[second..]) => start = second + ESCAPE_BYTES,
            Some(0xd800..=0xdfff) => json[at..second].copy_from_slice(REPLACEMENT),
            _ => {}
        }
    }
}

/// Whether the text begins with the second half of a pair.
fn is_low(json: &[u8]) -> bool {
    matches!(code_unit(json), Some(0xdc00..=0xdfff))
}

/// The UTF-16 code unit of the escape with which the text begins.
fn code_unit(json: &[u8]) -> Option<u16> {
    let digits = json.strip_prefix(b"\\u")?.get(..4)?;
    let digits = std::str::from_utf8(digits).ok()?;
    // The parser would take a sign, too.
    let is_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hex.then(|| u16::from_str_radix(digits, 16).ok())?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn replaced(json: &str) -> String {
        let mut bytes = json.as_bytes().to_vec();
        replace_lone_surrogates(&mut bytes);
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn lone_surrogates_are_replaced_as_go_reads_them() {
        for (json, expected) in [
            (r#""x\ud83dy""#, r#""x\ufffdy""#),
            (r#""\uDE00""#, r#""\ufffd""#),
            (r#""\ud83d\ude00""#, r#""\ud83d\ude00""#),
            (r#""\uD83D\uDE00""#, r#""\uD83D\uDE00""#),
            (r#""\ud83d\ud83d\ude00""#, r#""\ufffd\ud83d\ude00""#),
            (r#""\ude00\ud83d""#, r#""\ufffd\ufffd""#),
            (r#""\ud83d\u0041""#, r#""\ufffd\u0041""#),
            (r#""\ud83d\n\ude00""#, r#""\ufffd\n\ufffd""#),
            // The backslash is escaped: this is text.
            (r#""\\ud83d""#, r#""\\ud83d""#),
            (r#""\\\ud83d""#, r#""\\\ufffd""#),
            (r#""\ud83d\\ude00""#, r#""\ufffd\\ude00""#),
            (r#""\ud7ff\ue000""#, r#""\ud7ff\ue000""#),
            // Not an escape: the parser refuses it.
            (r#""\ud83""#, r#""\ud83""#),
            (r#""\u+d83""#, r#""\u+d83""#),
            (r"\ud83d", r"\ufffd"),
            (r"\ud83d\ude0", r"\ufffd\ude0"),
            (r"\u", r"\u"),
            ("", ""),
        ] {
            assert_eq!(replaced(json), expected, "{json}");
        }
    }

    proptest! {
        /// Every string of UTF-16 is then a string for the parser: that of a lossy conversion.
        #[test]
        fn every_escaped_string_is_decoded(
            units in proptest::collection::vec(
                prop_oneof![any::<u16>(), 0xd7fe_u16..0xe002, Just(0x5c)],
                0..20,
            ),
            is_escaped in proptest::collection::vec(any::<bool>(), 20),
        ) {
            let mut json = String::from("\"");
            for (unit, is_escaped) in units.iter().zip(is_escaped) {
                let plain = char::from_u32(u32::from(*unit)).filter(char::is_ascii_alphanumeric);
                match plain {
                    _ if *unit == 0x5c && !is_escaped => json.push_str(r"\\"),
                    Some(c) if !is_escaped => json.push(c),
                    _ => json.push_str(&format!("\\u{unit:04x}")),
                }
            }
            json.push('"');
            let decoded: String = serde_json::from_str(&replaced(&json)).unwrap();
            prop_assert_eq!(decoded, String::from_utf16_lossy(&units));
        }
    }
}
