//! Texts that nobody has replaced by a value: `${PASSWORD}`, `<token>`, `CHANGE-ME`. Files and variables are read as they are, so
//! that they arrive unchanged.

use std::sync::LazyLock;

use gotemplate::Regexp;

/// Placeholders of shells, templates and documents, as they are shown, with their patterns.
const FORMS: [(&str, &str); 9] = [
    ("${...}", r"\$\{[^}]+\}"),
    ("$(...)", r"\$\([^)]+\)"),
    ("{{...}}", r"\{\{.+\}\}"),
    ("#{...}", r"#\{[^}]+\}#?"),
    ("%(...)", r"%\([^)]+\)s?"),
    ("<...>", r"<[A-Za-z_][\w .-]*>"),
    // %C3%A9 is a letter.
    (
        "%...%",
        r"%(?:[A-Z_][A-Z0-9_]{2,}|[G-Zg-z_]\w\w+|[A-Za-z_][G-Zg-z_]\w+)%",
    ),
    // A part of a URL, or all of another text.
    ("$NAME", r"(?:^|[/:@?&=])\$[A-Z_][A-Z0-9_]*(?:$|[/:@?&=])"),
    ("__...__", r"(?:^|[/:@?&=])__[A-Z0-9_]+__(?:$|[/:@?&=])"),
];

/// What documents and examples write, in lower case and without separators. Long enough that no random text contains one.
const WORDS: &str = "changeme changeit changethis replaceme replacewith replacethis insertyour yourtoken yoursecret yourpassword \
                     thetoken tokenexample exampletoken sometoken placeholder longrandomword";

/// The forms, each with the patterns of a text that contains it, and of one that is nothing else.
static PATTERNS: LazyLock<Vec<(&str, Regexp, Regexp)>> = LazyLock::new(|| {
    let compiled = FORMS.iter().filter_map(|(shown, pattern)| {
        let whole = Regexp::new(&format!("^(?:{pattern})$")).ok()?;
        Some((*shown, Regexp::new(pattern).ok()?, whole))
    });
    compiled.collect()
});

/// How the first placeholder in a text is shown: without the text in it, which may be part of a secret.
pub fn find(text: &str) -> Option<&'static str> {
    let form = PATTERNS
        .iter()
        .find(|(_, pattern, _)| pattern.is_match(text));
    form.map(|(shown, ..)| *shown).or_else(|| find_word(text))
}

/// Whether a text is nothing but a placeholder, so that everyone can guess it.
pub fn is_placeholder(text: &str) -> bool {
    let is_blank_out = |c: char| matches!(c, 'x' | 'X' | '*' | '.' | '?');
    let is_form = || PATTERNS.iter().any(|(_, _, whole)| whole.is_match(text));
    text.chars().all(is_blank_out) || is_form() || find_word(text).is_some()
}

fn find_word(text: &str) -> Option<&'static str> {
    let plain = text.to_lowercase().replace(['-', '_', '.', ' '], "");
    WORDS.split(' ').find(|word| plain.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_found_in_urls_and_tokens() {
        for (text, start) in [
            ("${PROMETHEUS_BEARER_TOKEN}", "${...}"),
            ("amqp://${RABBIT_USER}:x@h/v", "${...}"),
            ("amqp://u:p@${HOST:-rabbitmq}:5672/v", "${...}"),
            ("${{ secrets.TOKEN }}", "${...}"),
            ("amqp://u:$(RABBIT_PASSWORD)@h/v", "$(...)"),
            ("$(cat /run/secrets/token)", "$(...)"),
            ("amqp://u:%RABBIT_PASSWORD%@h/v", "%...%"),
            ("%token%", "%...%"),
            ("amqp://%40:%40@%ADMIN_HOST%/v", "%...%"),
            ("amqp://<user>:<password>@<host>/canopsis", "<...>"),
            ("<your token here>", "<...>"),
            ("{{ .Values.token }}", "{{...}}"),
            ("amqp://u:{{rabbit_password}}@h/v", "{{...}}"),
            ("#{Token}#", "#{...}"),
            ("%(token)s", "%(...)"),
            ("__TOKEN__", "__...__"),
            ("amqp://u:__RABBIT_PASSWORD__@h/v", "__...__"),
            ("$TOKEN", "$NAME"),
            ("amqp://u:$RABBIT_PASSWORD@h/v", "$NAME"),
            ("CHANGE-ME", "changeme"),
            ("change_me", "changeme"),
            ("amqp://u:ChangeMe@h/v", "changeme"),
            ("REPLACE-WITH-TOKEN", "replacewith"),
            ("your-token-here", "yourtoken"),
            ("THE-TOKEN", "thetoken"),
            ("token_example", "tokenexample"),
        ] {
            assert_eq!(find(text), Some(start), "{text}");
        }
        let placeholders = "${A} $(A) %A_B% <a> {{a}} __A__ $A changeme! xxxxxx *** ...";
        for text in placeholders.split(' ') {
            assert!(is_placeholder(text), "{text}");
        }
    }

    #[test]
    fn what_a_generator_makes_is_no_placeholder() {
        let others = "
            amqp://cpsrabbit:canopsis@localhost/canopsis amqp://u:p%40s%23@[::1]:5672/%2Fteam%2Fa
            amqp://u:%C3%A9t%C3%A9%20a@h/v amqp://u:%E2%82%AC%41@h/v amqp://u:pa$$w0rd@h/v
            amqp://u:a$b@h/v?heartbeat=5 $ecret a<b x>y<z 100% 5f2b8c aGVsbG8+d29ybGQ/Zm9v sesame-word a__b__c
            canopsis.events /run/secrets/token /etc/__pycache__ 0.0.0.0:18401 8s q7$(x q7%(x q${x
        ";
        for text in others.split_whitespace().chain([""]) {
            assert_eq!(find(text), None, "{text}");
        }
        assert_eq!(PATTERNS.len(), FORMS.len());
        // Part of a text that is long enough.
        for text in ["q7$(Lx)f", "Zk<ab>9", "p%xyz%d", "q${x}9f"] {
            assert!(find(text).is_some() && !is_placeholder(text), "{text}");
        }
    }
}
