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
        let regex = Regexp::new(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"));
        assert_eq!(
            regex.regex.find(text).map(|found| found.as_str()),
            found,
            "{pattern} on {text:?}"
        );
    }
}

#[test]
fn refuses_what_go_refuses() {
    let patterns = r"
        ( ) [a a** a*+ a+?? * (?x)a (?=a) (?!a) (?<=a)b (?P=n) \1 \8 \Z \y \C [\b] [z-a] [a--b] [a-\d]
        a{1001} [[:nosuch:]] \ \pX \p{Letter} \p{greek} \p{Alphabetic} \p{sc=Greek} \x{110000} \x4
        (?P<n>a)(?P<n>b) (?P<n (?P<a.b>x) (?
    ";
    for pattern in patterns.split_whitespace() {
        assert!(Regexp::new(pattern).is_err(), "{pattern}");
    }
}

#[test]
fn the_cache_is_bounded_shares_and_remembers_failures() {
    let mut cache = Cache::default();
    for number in 0..1000 {
        cache.insert(&format!("a{number}"), Regexp::new("a"));
        assert!(cache.patterns.len() <= Cache::MAX_PATTERNS && cache.bytes <= Cache::MAX_BYTES);
    }
    for number in 0..1000 {
        cache.insert(
            &format!("{number:03}{}", "a".repeat(8000)),
            Regexp::new("("),
        );
        assert!(cache.bytes <= Cache::MAX_BYTES);
    }
    cache.insert(&"a".repeat(Cache::MAX_BYTES + 1), Regexp::new("a"));
    assert!(cache.bytes <= Cache::MAX_BYTES);
    assert!(Regexp::cached("(").is_err() && Regexp::cached("(").is_err());
    let [one, two] = [0, 1].map(|_| Regexp::cached("shared").unwrap());
    assert!(Arc::ptr_eq(&one.regex, &two.regex));
}

#[test]
fn a_pattern_that_takes_much_memory_is_refused() {
    for pattern in [r"(\pL{1000}){100}", r"\pL{1000}"] {
        let error = Regexp::new(pattern).unwrap_err();
        assert_eq!(error, RegexpError::TooLarge(MAX_COMPILED_BYTES));
    }
    let many_states = "(?:a?a?a?a?a?a?a?a?){1000}";
    assert!(Regexp::new(many_states).is_ok());
    let error = Regexp::cached(many_states).unwrap_err();
    assert_eq!(error, RegexpError::TooLarge(MAX_COMPUTED_BYTES));
}

#[test]
fn patterns_take_memory_from_one_budget() {
    let count = |pattern: &str| {
        let mut budget = RegexpBudget::default();
        let compiled = (0..5000).map(|_| budget.compile(pattern));
        compiled.take_while(Result::is_ok).count()
    };
    assert_eq!(count("^[^:]+$"), 1024);
    assert!((128..512).contains(&count(r"\pL")), "{}", count(r"\pL"));
    assert_eq!(count(r"\pL{20}"), 16);

    let mut budget = RegexpBudget::default();
    let too_large = Err(RegexpError::TooLarge(MAX_COMPILED_BYTES));
    // What can't be compiled takes from it, too, because it takes the same time.
    let attempts = (0..5000).map(|_| budget.compile(r"\pL{1000}").map(|_| ()));
    assert_eq!(
        attempts.take_while(|attempt| *attempt == too_large).count(),
        16
    );
    let error = budget.compile("a").unwrap_err();
    assert_eq!(error, RegexpError::OverBudget);
    let mut budget = RegexpBudget::default();
    assert_eq!(
        budget.compile("(").map(|_| ()),
        Err(RegexpError::Syntax("unclosed group".into()))
    );
    // Before its size is known, this one would take hundreds of megabytes.
    let long = format!("(?i){}", r"\pL".repeat(80_000));
    assert_eq!(budget.compile(&long).map(|_| ()), too_large);
    assert_eq!(Regexp::new(&long).map(|_| ()), too_large);
    assert!(Regexp::cached(&long).is_err());
    assert!(budget.compile(&"host-1.example|".repeat(500)).is_ok());
}

#[test]
fn groups_are_a_map_of_texts() {
    let regexp = Regexp::new("(?P<z>a)|(?P<b>b)|(c)").unwrap();
    let groups = regexp.groups("xby").unwrap();
    let entries = format!("{:?}", groups.entries());
    assert_eq!(groups.0, [("b", "b"), ("z", "")], "{entries}");
    assert!(groups.get("nosuch").is_none() && groups.holds_text());
    assert!(regexp.groups("x").is_none());
    assert_eq!(regexp.names().collect::<Vec<_>>(), ["z", "b"]);
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
        let regexp = Regexp::new("(?P<n>a)(b)").unwrap();
        let replaced = regexp.replace_all("xaby", new, &mut Meter::new(&|| false));
        assert_eq!(replaced, Ok(expected.as_bytes().to_vec()), "{new}");
    }
}
