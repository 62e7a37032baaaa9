//! Parses the head of a request: its limits, and the framing of its body.
//!
//! The syntax is checked by httparse. A head that allows two readings of where its body ends (RFC 9112, section 6.3) is
//! refused, because the second reading would smuggle a request in. This module knows no socket, route or token.

/// The longest head, in bytes.
pub const MAX_BYTES: usize = 16 << 10;

/// The most header lines in a head.
const MAX_HEADERS: usize = 100;

/// The first byte of a TLS handshake record (RFC 8446, section 5.1).
pub const TLS_HANDSHAKE: u8 = 0x16;

/// What a proxy writes before the request where it is set to: version 1 and 2 of its protocol, or a part of it.
const PROXY_PROTOCOL: [&[u8]; 2] = [b"PROXY ", b"\r\n\r\n\0\r\nQUIT\n"];

/// The parts of a head that this program uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestHead {
    /// The method, for example `GET`.
    pub method: String,
    /// The path of the request target.
    pub path: String,
    /// The value of the `Authorization` header.
    pub authorization: Option<String>,
    /// Whether the body has to be decoded first, for example with gzip.
    pub is_encoded: bool,
    /// Where the body ends.
    pub framing: Framing,
    /// Whether another request may follow.
    pub keep_alive: bool,
    /// Whether the sender waits for `100 Continue` before the body.
    pub expects_continue: bool,
}

/// Where the body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// After this number of bytes; `usize::MAX` stands for every larger number.
    Length(usize),
    /// After the last chunk.
    Chunked,
}

/// Why a head is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRequest {
    /// The syntax or the version is not that of HTTP/1.
    #[error("not an HTTP/1.1 request: {0}")]
    Malformed(&'static str),
    /// A proxy announces the sender's address first.
    #[error(
        "PROXY protocol on a port without it: turn it off in the proxy (send-proxy in HAProxy, proxy_protocol in nginx)"
    )]
    ProxyProtocol,
    /// The sender speaks TLS.
    #[error("TLS handshake on a plain HTTP port: use http:// in the URL, or set http.tls")]
    Tls,
    /// The sender does not speak TLS, and has to.
    #[error(
        "plain HTTP on a port with TLS: use https:// in the URL, and no PROXY protocol in a proxy"
    )]
    NotTls,
    /// The head has more bytes or lines than allowed.
    #[error("request head exceeds {MAX_BYTES} bytes or {MAX_HEADERS} header lines")]
    TooLong,
    /// The end of the body is ambiguous.
    #[error("invalid framing: {0}")]
    Framing(&'static str),
    /// The `Expect` header asks for something else than `100-continue`.
    #[error("unsupported Expect header: only 100-continue is supported")]
    Expectation,
}

type Headers<'h> = &'h [httparse::Header<'h>];

/// Parses a head, and returns it with its length; `None` where it is not complete yet.
pub fn parse(bytes: &[u8]) -> Result<Option<(RequestHead, usize)>, InvalidRequest> {
    if bytes.first() == Some(&TLS_HANDSHAKE) {
        return Err(InvalidRequest::Tls);
    }
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let length = match request.parse(bytes) {
        Ok(httparse::Status::Complete(length)) if length <= MAX_BYTES => length,
        Ok(httparse::Status::Partial) if bytes.len() < MAX_BYTES => return Ok(None),
        Ok(_) | Err(httparse::Error::TooManyHeaders) => return Err(InvalidRequest::TooLong),
        Err(_) if PROXY_PROTOCOL.iter().any(|start| bytes.starts_with(start)) => {
            return Err(InvalidRequest::ProxyProtocol);
        }
        Err(httparse::Error::Version) => {
            return Err(InvalidRequest::Malformed("unsupported HTTP version"));
        }
        Err(httparse::Error::HeaderName | httparse::Error::HeaderValue) => {
            return Err(InvalidRequest::Malformed("invalid header line"));
        }
        Err(_) => return Err(InvalidRequest::Malformed("invalid request line")),
    };
    let version = request.version.unwrap_or_default();
    require_host(request.headers, version)?;
    let head = RequestHead {
        method: request.method.unwrap_or_default().to_owned(),
        path: path(request.path.unwrap_or_default()).to_owned(),
        authorization: authorization(request.headers)?,
        is_encoded: is_encoded(request.headers),
        framing: framing(request.headers, version)?,
        keep_alive: keep_alive(request.headers, version),
        expects_continue: expects_continue(request.headers, version)?,
    };
    Ok(Some((head, length)))
}

/// The values of every header line with this name.
fn values<'h>(headers: Headers<'h>, name: &'static str) -> impl Iterator<Item = &'h [u8]> {
    headers
        .iter()
        .filter(move |header| header.name.eq_ignore_ascii_case(name))
        .map(|header| header.value.trim_ascii())
}

/// The items of a header whose value is a comma-separated list, on one line or on several.
fn list<'h>(headers: Headers<'h>, name: &'static str) -> impl Iterator<Item = &'h [u8]> {
    values(headers, name)
        .flat_map(|value| value.split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
}

/// The value of a header that may be there once.
fn single<'h>(
    headers: Headers<'h>,
    name: &'static str,
    repeated: InvalidRequest,
) -> Result<Option<&'h [u8]>, InvalidRequest> {
    let mut lines = values(headers, name);
    match (lines.next(), lines.next()) {
        (_, Some(_)) => Err(repeated),
        (value, None) => Ok(value),
    }
}

/// The path of a target. One in absolute form has a scheme and a host before it (RFC 9112, section 3.2.2: a server must accept
/// it), and may have no path.
fn path(target: &str) -> &str {
    let is_http =
        |scheme: &str| scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
    let path = match target.split_once("://") {
        Some((scheme, rest)) if is_http(scheme) => {
            rest.find(['/', '?', '#']).map_or("", |end| &rest[end..])
        }
        _ => target,
    };
    path.split(['?', '#']).next().unwrap_or_default()
}

/// RFC 9112, section 3.2. The name itself has no meaning here.
fn require_host(headers: Headers<'_>, version: u8) -> Result<(), InvalidRequest> {
    let is_part = |byte: &u8| byte.is_ascii_graphic() && !b"/?#@\\".contains(byte);
    let repeated = InvalidRequest::Malformed("more than one Host header");
    match single(headers, "host", repeated)? {
        None if version == 0 => Ok(()),
        None => Err(InvalidRequest::Malformed("Host header missing")),
        Some(host) if host.iter().all(is_part) => Ok(()),
        Some(_) => Err(InvalidRequest::Malformed("invalid Host header")),
    }
}

fn is_encoded(headers: Headers<'_>) -> bool {
    list(headers, "content-encoding")
        .any(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case(b"identity"))
}

fn authorization(headers: Headers<'_>) -> Result<Option<String>, InvalidRequest> {
    let repeated = InvalidRequest::Malformed("more than one Authorization header");
    let value = single(headers, "authorization", repeated)?;
    // A value that is not UTF-8 differs from a missing one, and equals no token.
    Ok(value.map(|value| String::from_utf8_lossy(value).into_owned()))
}

fn framing(headers: Headers<'_>, version: u8) -> Result<Framing, InvalidRequest> {
    let invalid = InvalidRequest::Framing;
    let not_chunked = invalid("Transfer-Encoding is not chunked");
    let lengths = invalid("more than one Content-Length header");
    let encoding = single(headers, "transfer-encoding", not_chunked)?;
    let length = single(headers, "content-length", lengths)?;
    match (encoding, length) {
        (None, None) => Ok(Framing::Length(0)),
        (Some(_), Some(_)) => Err(invalid("both Content-Length and Transfer-Encoding are set")),
        (Some(_), None) if version == 0 => Err(invalid("Transfer-Encoding in HTTP/1.0")),
        (Some(encoding), None) if encoding.eq_ignore_ascii_case(b"chunked") => Ok(Framing::Chunked),
        (Some(_), None) => Err(not_chunked),
        (None, Some(digits)) if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) => {
            Err(invalid("Content-Length is not a number"))
        }
        (None, Some(digits)) => {
            let length = std::str::from_utf8(digits).unwrap_or_default().parse();
            Ok(Framing::Length(length.unwrap_or(usize::MAX)))
        }
    }
}

fn keep_alive(headers: Headers<'_>, version: u8) -> bool {
    version == 1 && !list(headers, "connection").any(|option| option.eq_ignore_ascii_case(b"close"))
}

/// An expectation in HTTP/1.0 is ignored (RFC 9110, section 10.1.1): its sender would not understand an interim response.
fn expects_continue(headers: Headers<'_>, version: u8) -> Result<bool, InvalidRequest> {
    match values(headers, "expect").next() {
        None => Ok(false),
        Some(value) if value.eq_ignore_ascii_case(b"100-continue") => Ok(version == 1),
        Some(_) => Err(InvalidRequest::Expectation),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complete_head_is_parsed() {
        let text = b"POST /webhook?x HTTP/1.1\r\nHost: h\r\nAUTHORIZATION: Bearer t\r\nContent-Length: 12 \r\n\r\nbody";
        let (head, length) = parse(text).unwrap().unwrap();
        let expected = RequestHead {
            method: "POST".to_owned(),
            path: "/webhook".to_owned(),
            authorization: Some("Bearer t".to_owned()),
            is_encoded: false,
            framing: Framing::Length(12),
            keep_alive: true,
            expects_continue: false,
        };
        assert_eq!((head, length), (expected, text.len() - 4));
        for end in 0..text.len() - 4 {
            assert_eq!(parse(&text[..end]), Ok(None), "{end}");
        }
    }

    #[test]
    fn the_longest_head_is_accepted_and_a_longer_one_is_not() {
        let with = |length: usize| {
            let start = "GET / HTTP/1.1\r\nHost: h\r\nX: ";
            format!("{start:x<width$}\r\n\r\n", width = length - 4).into_bytes()
        };
        let (head, longer) = (with(MAX_BYTES), with(MAX_BYTES + 1));
        assert_eq!(parse(&head).unwrap().unwrap().1, MAX_BYTES);
        assert_eq!(parse(&longer), Err(InvalidRequest::TooLong));
        assert_eq!(parse(&head[..MAX_BYTES - 1]), Ok(None));
        assert_eq!(parse(&longer[..MAX_BYTES]), Err(InvalidRequest::TooLong));
    }

    #[test]
    fn headers_are_interpreted() {
        let read = |lines: &str, version: &str| {
            parse(format!("GET / HTTP/{version}\r\nHost: h\r\n{lines}\r\n").as_bytes())
        };
        for (lines, version, framing, keep_alive) in [
            ("", "1.1", Framing::Length(0), true),
            ("", "1.0", Framing::Length(0), false),
            (
                "Connection: TE, Close\r\n",
                "1.1",
                Framing::Length(0),
                false,
            ),
            (
                "Transfer-Encoding: Chunked\r\n",
                "1.1",
                Framing::Chunked,
                true,
            ),
        ] {
            let (head, _) = read(lines, version).unwrap().unwrap();
            let found = (head.framing, head.keep_alive);
            assert_eq!(found, (framing, keep_alive), "{lines}");
        }
        for (length, expected) in [
            ("900000000000000", 900_000_000_000_000),
            ("99999999999999999999999", usize::MAX),
        ] {
            let line = format!("Content-Length: {length}\r\n");
            let (head, _) = read(&line, "1.1").unwrap().unwrap();
            assert_eq!(head.framing, Framing::Length(expected), "{length}");
        }
        for (coding, is_encoded) in [
            ("", false),
            ("identity", false),
            ("Identity, IDENTITY", false),
            ("gzip", true),
            ("identity\r\nContent-Encoding: br", true),
        ] {
            let (head, _) = read(&format!("Content-Encoding: {coding}\r\n"), "1.1")
                .unwrap()
                .unwrap();
            assert_eq!(head.is_encoded, is_encoded, "{coding}");
        }
        for (version, expects_continue) in [("1.1", true), ("1.0", false)] {
            let (head, _) = read("Expect: 100-Continue\r\n", version).unwrap().unwrap();
            assert_eq!(head.expects_continue, expects_continue, "{version}");
        }
    }

    #[test]
    fn a_path_has_no_query_and_no_host() {
        for (target, path) in [
            ("/webhook", "/webhook"),
            ("/webhook?x", "/webhook"),
            ("/webhook#x?y", "/webhook"),
            ("http://h/webhook", "/webhook"),
            ("HTTPS://u@h:1/webhook?x=http://y/", "/webhook"),
            ("http://h", ""),
            ("http://h?x", ""),
            ("/http://h/webhook", "/http://h/webhook"),
            ("ftp://h/webhook", "ftp://h/webhook"),
            ("h:443", "h:443"),
            ("*", "*"),
        ] {
            let text = format!("POST {target} HTTP/1.1\r\nHost: h\r\n\r\n");
            let (head, _) = parse(text.as_bytes()).unwrap().unwrap();
            assert_eq!(head.path, path, "{target}");
        }
    }

    #[test]
    fn a_request_has_one_host() {
        const MISSING: Option<&str> = Some("Host header missing");
        const SEVERAL: Option<&str> = Some("more than one Host header");
        const INVALID: Option<&str> = Some("invalid Host header");
        for (version, lines, error) in [
            ("1.1", "Host: h:1\r\n", None),
            ("1.1", "Host: [::1]:18401\r\n", None),
            ("1.1", "Host:\r\n", None),
            ("1.0", "", None),
            ("1.1", "", MISSING),
            ("1.1", "Host: a\r\nHost: a\r\n", SEVERAL),
            ("1.0", "Host: a\r\nHost: b\r\n", SEVERAL),
            ("1.1", "Host: a b\r\n", INVALID),
            ("1.1", "Host: a/b\r\n", INVALID),
            ("1.0", "Host: user@a\r\n", INVALID),
        ] {
            let text = format!("GET / HTTP/{version}\r\n{lines}\r\n");
            let error = error.map(InvalidRequest::Malformed);
            assert_eq!(parse(text.as_bytes()).err(), error, "{text}");
        }
    }

    #[test]
    fn malformed_and_ambiguous_heads_are_refused() {
        let long = format!("GET / HTTP/1.1\r\nX: {}", "a".repeat(MAX_BYTES));
        let many = "X: a\r\n".repeat(MAX_HEADERS + 1);
        let many = format!("GET / HTTP/1.1\r\n{many}\r\n");
        for (error, heads) in [
            (InvalidRequest::TooLong, &[&*long, &*many][..]),
            (InvalidRequest::Tls, &["\u{16}\u{3}\u{1}"]),
            (
                InvalidRequest::ProxyProtocol,
                &[
                    "PROXY TCP4 192.0.2.1 192.0.2.2 5000 18401\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n",
                    "PROXY UNKNOWN\r\n",
                    "\r\n\r\n\0\r\nQUIT\n\u{21}\u{11}\0\u{c}",
                ],
            ),
            (
                InvalidRequest::Malformed("invalid request line"),
                &["GET  / HTTP/1.1\r\n\r\n", "\r\n\r\n\0\r\n"],
            ),
            (
                InvalidRequest::Malformed("unsupported HTTP version"),
                &["GET / HTTP/2.0\r\n\r\n"],
            ),
            (
                InvalidRequest::Framing("Transfer-Encoding in HTTP/1.0"),
                &["POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"],
            ),
        ] {
            for head in heads {
                assert_eq!(parse(head.as_bytes()), Err(error), "{head:.80}");
            }
        }
        for (error, headers) in [
            (InvalidRequest::Expectation, &["Expect: tea"][..]),
            (
                InvalidRequest::Framing("Content-Length is not a number"),
                &[
                    "Content-Length: -1",
                    "Content-Length: +1",
                    "Content-Length: abc",
                    "Content-Length:",
                    "Content-Length: 1, 1",
                ],
            ),
            (
                InvalidRequest::Framing("more than one Content-Length header"),
                &["Content-Length: 1\r\nContent-Length: 1"],
            ),
            (
                InvalidRequest::Framing("both Content-Length and Transfer-Encoding are set"),
                &["Content-Length: 1\r\nTransfer-Encoding: chunked"],
            ),
            (
                InvalidRequest::Framing("Transfer-Encoding is not chunked"),
                &[
                    "Transfer-Encoding: gzip, chunked",
                    "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
                    "Transfer-Encoding: identity",
                ],
            ),
            (
                InvalidRequest::Malformed("more than one Authorization header"),
                &["Authorization: a\r\nAuthorization: b"],
            ),
            (
                InvalidRequest::Malformed("invalid header line"),
                &["X: a\r\n folded", "X : a", "X: a\rb"],
            ),
        ] {
            for lines in headers {
                let head = format!("POST / HTTP/1.1\r\nHost: h\r\n{lines}\r\n\r\n");
                assert_eq!(parse(head.as_bytes()), Err(error), "{lines}");
            }
        }
    }
}
