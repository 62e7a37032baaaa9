use super::*;

#[test]
fn matches_as_go_does() {
    // pattern, text, what Go's FindString gives (None: no match)
    for (pattern, text, found) in [
        (r"\w+", "été", Some("t")),
        (r"[^\w]", "é", Some("é")),
        (r"[\W]+", "aé日", Some("é日")),
        (r"\d+", "٣4", Some("4")),
        (r"a\sb", "a\u{a0}b", None),
        (r"a\sb", "a\u{b}b", None),
        (r"\bt\b", "été", Some("t")),
        (r"\Bt", "at", Some("t")),
        (r"[[a]+", "x[a]", Some("[a")),
        (r"[a&&b]+", "&ab", Some("&ab")),
        (r"[+--b]+", "a,b-", Some(",b-")),
        (r"[]a]+", "]a", Some("]a")),
        (r"[^]a]", "]ab", Some("b")),
        (r"[\d-x]+", "4-x", Some("4-x")),
        (r"[a-]+", "a-", Some("a-")),
        (r"[[:alpha:]_]+", "1ab_", Some("ab_")),
        (r"[[:^alpha:]]", "a1", Some("1")),
        (r"\Qa.b\E+", "a.bb", Some("a.bb")),
        (r"\Q[", "x[", Some("[")),
        (r"\101\x42\x{43}", "ABC", Some("ABC")),
        (r"a{,2}", "a{,2}", Some("a{,2}")),
        (r"x{", "x{", Some("x{")),
        (r"a{2}?", "aaa", Some("aa")),
        (r"\<a\>\_\-\/", "<a>_-/", Some("<a>_-/")),
        (r"\pL\p{Greek}\P{L}\p{^L}", "aα12", Some("aα12")),
        (r"(?i)É", "é", Some("é")),
        (r"(?s).", "\n", Some("\n")),
        (r".", "\n", None),
        (r"(?U)a+", "aaa", Some("a")),
        (r"(?P<n>a)(?<m>b)(?:c)", "abc", Some("abc")),
        (r"^a$", "a\n", None),
        (r"(?m)^b$", "a\nb\nc", Some("b")),
        (r"a b#c", "a b#c", Some("a b#c")),
        (r"a\ b", "a b", Some("a b")),
    ] {
        let regexp = Regexp::new(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"));
        assert_eq!(
            regexp.regex.find(text).map(|found| found.as_str()),
            found,
            "{pattern} on {text:?}"
        );
    }
}

#[test]
fn refuses_what_go_refuses() {
    for pattern in [
        "(",
        ")",
        "[a",
        "a**",
        "a*+",
        "a+??",
        "*",
        "(?x)a",
        "(?=a)",
        "(?!a)",
        "(?<=a)b",
        "(?P=n)",
        r"\1",
        r"\8",
        r"\Z",
        r"\y",
        r"\C",
        r"[\b]",
        r"[z-a]",
        r"[a--b]",
        r"[a-\d]",
        "a{1001}",
        "[[:nosuch:]]",
        r"\",
        r"\pX",
        r"\x{110000}",
        r"\x4",
        "(?P<n>a)(?P<n>b)",
        "(?P<n",
        "(?P<a.b>x)",
        "(?",
    ] {
        assert!(Regexp::new(pattern).is_err(), "{pattern}");
    }
}

#[test]
fn the_cache_is_bounded_and_remembers_failures() {
    for number in 0..2 * MAX_CACHED_PATTERNS {
        assert!(cached(&format!("a{{{}}}", number % 500)).is_some());
    }
    assert!(cached("(").is_none() && cached("(").is_none());
}

#[test]
fn replaces_as_go_does() {
    // Answered by Go 1.19's regexp.MustCompile(`(?P<n>a)(b)`).ReplaceAllString("xaby", NEW).
    for (new, expected) in [
        ("$1-$2", "xa-by"),
        ("${n}$n", "xaay"),
        ("$1é", "xy"),
        ("${1}é", "xaéy"),
        ("$1x", "xy"),
        ("$$1", "x$1y"),
        ("${n-x}", "x${n-x}y"),
        ("${1 }", "x${1 }y"),
        ("${}", "x${}y"),
        ("$", "x$y"),
        ("$01", "xy"),
        ("$0", "xaby"),
        ("${2", "x${2y"),
        ("$9", "xy"),
        ("none", "xnoney"),
    ] {
        assert_eq!(
            Regexp::new("(?P<n>a)(b)").unwrap().replace_all("xaby", new),
            expected,
            "{new}"
        );
    }
}

#[test]
fn a_pattern_that_needs_much_memory_is_refused() {
    let error = Regexp::new("((a{100}){100}){100}").unwrap_err();
    assert_eq!(error.to_string(), "larger than 1048576 bytes when compiled");
}
