//! Nothing gets in without a token, and nothing with a wrong one.

use crate::support::connector::{Connector, config_without_broker};
use crate::support::{TOKEN, notification};

/// The paths with their methods, and whether they require a token.
const ROUTES: [(&str, &str, bool); 8] = [
    ("POST", "/webhook", true),
    ("PUT", "/webhook", true),
    ("POST", "//webhook/", true),
    ("POST", "/-/reload", true),
    ("GET", "/metrics", false),
    ("GET", "/-/healthy", false),
    ("GET", "/-/ready", false),
    ("GET", "/-/ready/", false),
];

fn status(connector: &Connector, method: &str, path: &str, token: Option<&str>) -> u16 {
    let header = token.map(|token| format!("Authorization: Bearer {token}"));
    let headers: Vec<&str> = header.as_deref().into_iter().collect();
    let body = notification(&["a"]);
    let body = if path.contains("webhook") { &*body } else { "" };
    let response = connector
        .client()
        .send(method, path, &headers, body.as_bytes());
    response.unwrap().status
}

#[test]
fn a_wrong_token_is_refused_on_every_path() {
    let text = config_without_broker();
    let connector = Connector::with(&text, &["--stdout"]);
    // The last byte differs, or is missing, or there is one too many.
    let (start, _) = TOKEN.split_at(TOKEN.len() - 1);
    let wrong = [format!("{start}!"), start.to_owned(), format!("{TOKEN}!")];
    for (method, path, is_required) in ROUTES {
        let right = status(&connector, method, path, Some(TOKEN));
        assert_eq!(right, 200, "{method} {path} with the token");
        let without = status(&connector, method, path, None);
        let expected = if is_required { 401 } else { 200 };
        assert_eq!(without, expected, "{method} {path} without a token");
        for token in &wrong {
            let status = status(&connector, method, path, Some(token));
            assert_eq!(status, 401, "{method} {path} lets {token} in");
        }
    }
    assert_eq!(status(&connector, "GET", "/unknown", Some("wrong")), 401);
}

#[test]
fn a_sender_that_is_forgotten_while_the_token_is_replaced_is_seen() {
    const OLD: &str = "token-before-the-rotation";
    let with = |tokens: &str| {
        let setting = format!("bearer_token: {tokens}");
        config_without_broker().replace(&format!("bearer_token: {TOKEN}"), &setting)
    };
    let mut connector = Connector::with(&with(OLD), &["--stdout"]);
    let used = |connector: &Connector, position: u8| {
        let name = format!("http_requests_with_later_token_total{{position=\"{position}\"}}");
        // Without a token: another one than the first would be counted.
        connector.send("GET", "/metrics", &[]).metric(&name)
    };
    assert_eq!(status(&connector, "POST", "/webhook", Some(OLD)), 200);
    assert_eq!(used(&connector, 2), 0);

    connector.reload(&with(&format!("[{TOKEN}, {OLD}, third-token]")));
    assert_eq!(used(&connector, 3), 0, "before its first use");
    for (token, expected) in [(TOKEN, 0), (OLD, 1), (OLD, 2), (TOKEN, 2), ("x", 2)] {
        status(&connector, "POST", "/webhook", Some(token));
        assert_eq!(used(&connector, 2), expected, "after {token}");
    }
    assert_eq!(used(&connector, 3), 0);
    let log = connector.log();
    let entries = log.lines().filter(|line| line.contains("position="));
    let entries: Vec<&str> = entries.collect();
    assert_eq!(entries.len(), 1, "once an hour: {entries:?}");
    assert!(entries[0].contains("peer=127.0.0.1:"), "{entries:?}");
    assert!(entries[0].contains("position=2"), "{entries:?}");
    assert!(!log.contains(OLD), "a token in the log");

    connector.reload(&with(TOKEN));
    assert_eq!(status(&connector, "POST", "/webhook", Some(OLD)), 401);
    assert_eq!(status(&connector, "POST", "/webhook", Some(TOKEN)), 200);
}
