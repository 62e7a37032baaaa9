//! Malformed, incomplete and unusual requests.

use std::io::{BufReader, Read, Write};

use super::{assert_survives, connect, connector};
use crate::support::broker::Broker;
use crate::support::connector::Connector;
use crate::support::http::read_response;
use crate::support::tls::Authority;
use crate::support::{TOKEN, notification};

on_both_listeners!(
    malformed_requests_are_rejected_and_their_connections_closed,
    chunked_bodies_and_expect_continue_are_accepted,
    an_incomplete_head_times_out,
);

/// Sends bytes until the server stops reading. Returns the status of the response (0 without one), and whether the server then
/// closed the connection.
fn send_raw(connector: &Connector, bytes: &[u8]) -> (u16, bool) {
    let mut stream = connect(connector);
    // The server may close before everything is sent.
    let _ = stream.write_all(bytes);
    let mut reader = BufReader::new(stream);
    let status = read_response(&mut reader).map_or(0, |response| response.status);
    let mut rest = Vec::new();
    let closed = reader.read_to_end(&mut rest).is_ok_and(|_| rest.is_empty());
    (status, closed)
}

fn malformed_requests_are_rejected_and_their_connections_closed(authority: Option<&Authority>) {
    let (connector, vhost) = connector(authority);
    let head =
        |lines: &str| format!("POST /webhook HTTP/1.1\r\nHost: h\r\n{lines}\r\n\r\n").into_bytes();
    let with_token = |lines: &str| head(&format!("Authorization: Bearer {TOKEN}\r\n{lines}"));
    let followed = |mut head: Vec<u8>, body: &[u8]| {
        head.extend_from_slice(body);
        head
    };
    let body = notification(&["smuggled"]);
    let smuggled = format!(
        "POST /webhook HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut survivors: Vec<String> = Vec::new();
    for (what, bytes, status) in [
        (
            "a huge length, no token",
            head("Content-Length: 900000000000000"),
            401,
        ),
        (
            "a huge length",
            with_token("Content-Length: 900000000000000"),
            413,
        ),
        (
            "a length of 30 digits",
            with_token(&format!("Content-Length: {}", "9".repeat(30))),
            413,
        ),
        ("a negative length", with_token("Content-Length: -1"), 400),
        (
            "a doubled length",
            with_token("Content-Length: 2\r\nContent-Length: 2"),
            400,
        ),
        (
            "a non-numeric length",
            followed(with_token("Content-Length: abc"), smuggled.as_bytes()),
            400,
        ),
        (
            "another version, as h2c begins",
            followed(
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
                smuggled.as_bytes(),
            ),
            400,
        ),
        (
            "both framings",
            followed(
                with_token("Content-Length: 2\r\nTransfer-Encoding: chunked"),
                b"0\r\n\r\n",
            ),
            400,
        ),
        (
            "another encoding",
            with_token("Transfer-Encoding: gzip, chunked"),
            400,
        ),
        (
            "a huge chunk",
            followed(
                with_token("Transfer-Encoding: chunked"),
                b"FFFFFFFFFFFF\r\nx",
            ),
            413,
        ),
        (
            "a chunk size of 20 digits",
            followed(
                with_token("Transfer-Encoding: chunked"),
                b"FFFFFFFFFFFFFFFFFFFF\r\n",
            ),
            400,
        ),
        (
            "a negative chunk",
            followed(with_token("Transfer-Encoding: chunked"), b"-1\r\nx"),
            400,
        ),
        (
            "an endless chunk line",
            followed(with_token("Transfer-Encoding: chunked"), &[b'1'; 5000]),
            400,
        ),
        (
            "chunks that overlap",
            followed(
                with_token("Transfer-Encoding: chunked"),
                b"1\r\nxx\r\n0\r\n\r\n",
            ),
            400,
        ),
        (
            "endless trailers",
            followed(
                with_token("Transfer-Encoding: chunked"),
                &[b"0\r\n".as_slice(), &b"a: b\r\n".repeat(1000)].concat(),
            ),
            400,
        ),
        (
            "an endless header line",
            followed(
                b"GET / HTTP/1.1\r\nHost: h\r\nX: ".to_vec(),
                &vec![b'a'; 50 << 20],
            ),
            431,
        ),
        ("an endless request line", vec![b'a'; 50 << 20], 431),
        (
            "200,000 headers",
            followed(
                b"GET / HTTP/1.1\r\nHost: h\r\n".to_vec(),
                &b"a: b\r\n".repeat(200_000),
            ),
            431,
        ),
        ("noise", vec![0xde; 5000], 400),
        (
            "a TLS hello",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
            400,
        ),
        (
            "two tokens",
            head(&format!(
                "Authorization: Bearer {TOKEN}\r\nAuthorization: Bearer x\r\nContent-Length: 0"
            )),
            400,
        ),
        ("another version", b"GET / HTTP/3.0\r\n\r\n".to_vec(), 400),
        (
            "an unknown expectation",
            with_token("Expect: tea\r\nContent-Length: 2"),
            417,
        ),
    ] {
        assert_eq!(send_raw(&connector, &bytes), (status, true), "{what}");
        assert_survives(&connector, what);
        survivors.push(what.to_owned());
    }
    assert_eq!(
        Broker::shared().admin(&vhost).drain_resources(),
        survivors,
        "these and no others"
    );
}

fn chunked_bodies_and_expect_continue_are_accepted(authority: Option<&Authority>) {
    let (connector, vhost) = connector(authority);
    let body = notification(&["chunked"]);
    let (one, other) = body.split_at(100);
    let mut stream = BufReader::new(connect(&connector));
    let lines = format!("POST /webhook HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {TOKEN}\r\n");
    let chunks = format!(
        "64;a=b\r\n{one}\r\n{:X}\r\n{other}\r\n0\r\nTrailer: x\r\n\r\n",
        other.len()
    );
    stream
        .get_mut()
        .write_all(format!("{lines}Transfer-Encoding: chunked\r\n\r\n{chunks}").as_bytes())
        .unwrap();
    assert_eq!(read_response(&mut stream).unwrap().status, 200);
    let head = format!(
        "{lines}Expect: 100-continue\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.get_mut().write_all(head.as_bytes()).unwrap();
    assert_eq!(read_response(&mut stream).unwrap().status, 100);
    stream.get_mut().write_all(body.as_bytes()).unwrap();
    assert_eq!(read_response(&mut stream).unwrap().status, 200);
    // Two pipelined requests get their responses in order.
    let both = format!(
        "GET /-/healthy HTTP/1.1\r\nHost: h\r\n\r\n{lines}Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.get_mut().write_all(both.as_bytes()).unwrap();
    assert!(read_response(&mut stream).unwrap().body.contains("healthy"));
    assert!(
        read_response(&mut stream)
            .unwrap()
            .body
            .contains("published")
    );
    assert_eq!(
        Broker::shared().admin(&vhost).drain_resources(),
        ["chunked"; 3]
    );
}

fn an_incomplete_head_times_out(authority: Option<&Authority>) {
    let (connector, _) = connector(authority);
    let mut stream = BufReader::new(connect(&connector));
    stream
        .get_mut()
        .write_all(b"GET /-/healthy HTTP/1.1\r\n")
        .unwrap();
    assert_eq!(read_response(&mut stream).unwrap().status, 408);
    let mut silent = connect(&connector);
    assert_eq!(
        silent.read(&mut [0]).unwrap(),
        0,
        "closed without a response"
    );
}
