//! Malformed, incomplete and unusual requests.

use super::{assert_survives, connector};
use crate::support::connector::Connector;
use crate::support::http::{webhook_head, webhook_request};
use crate::support::notification;
use crate::support::tls::Authority;

on_both_listeners!(
    malformed_requests_are_rejected_and_their_connections_closed,
    chunked_bodies_and_expect_continue_are_accepted,
    an_incomplete_request_times_out,
);

/// Sends bytes until the server stops reading. Returns the status of the response (0 without one), and whether the server then
/// closed the connection.
fn send_raw(connector: &Connector, bytes: &[u8]) -> (u16, bool) {
    let mut peer = connector.connect();
    // The server may close before everything is sent.
    let _ = peer.send(bytes);
    let status = peer.response().map_or(0, |response| response.status);
    (status, peer.rest().is_ok_and(|rest| rest.is_empty()))
}

/// `src/http/request.rs` and `src/http/body.rs` have tables of what is malformed.
fn malformed_requests_are_rejected_and_their_connections_closed(authority: Option<&Authority>) {
    let (connector, admin) = connector(authority);
    let smuggled = webhook_request(&notification(&["smuggled"]));
    let huge = "Expect: 100-continue\r\nContent-Length: 900000000000000";
    let mut cases: Vec<(&str, Vec<u8>, u16)> = Vec::new();
    // With the token: lines of the head, and what follows it.
    for (what, lines, rest, status) in [
        ("a huge length", huge, "", 413),
        ("a negative length", "Content-Length: -1", "", 400),
        (
            "a length of letters",
            "Content-Length: abc",
            &*smuggled,
            400,
        ),
        (
            "two lengths",
            "Content-Length: 2\r\nContent-Length: 2",
            "",
            400,
        ),
        (
            "both framings",
            "Content-Length: 2\r\nTransfer-Encoding: chunked",
            "0\r\n\r\n",
            400,
        ),
        ("an encoding", "Transfer-Encoding: gzip, chunked", "", 400),
        (
            "an expectation",
            "Expect: tea\r\nContent-Length: 2",
            "",
            417,
        ),
        (
            "two tokens",
            "Authorization: Bearer x\r\nContent-Length: 0",
            "",
            400,
        ),
    ] {
        let head = webhook_head(&format!("{lines}\r\n"));
        cases.push((what, (head + rest).into_bytes(), status));
    }
    let trailers = format!("0\r\n{}", "a: b\r\n".repeat(1000));
    for (what, chunks, status) in [
        ("a huge chunk", "FFFFFFFFFFFF\r\nx", 413),
        ("a chunk size of 20 digits", "FFFFFFFFFFFFFFFFFFFF\r\n", 400),
        ("a negative chunk", "-1\r\nx", 400),
        ("an endless chunk line", &"1".repeat(5000), 400),
        ("chunks that overlap", "1\r\nxx\r\n0\r\n\r\n", 400),
        ("endless trailers", &trailers, 400),
    ] {
        let head = webhook_head("Transfer-Encoding: chunked\r\n");
        cases.push((what, (head + chunks).into_bytes(), status));
    }
    let get = "GET / HTTP/1.1\r\nHost: h\r\n";
    for (what, request, status) in [
        (
            "a huge length, no token",
            webhook_head(&format!("{huge}\r\n")).replace("Authorization", "X"),
            401,
        ),
        (
            "h2c",
            format!("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n{smuggled}"),
            400,
        ),
        (
            "a long header",
            format!("{get}X: {}", "a".repeat(50 << 20)),
            431,
        ),
        ("a long request line", "a".repeat(50 << 20), 431),
        (
            "200,000 headers",
            get.to_owned() + &"a: b\r\n".repeat(200_000),
            431,
        ),
        ("another version", "GET / HTTP/3.0\r\n\r\n".to_owned(), 400),
    ] {
        cases.push((what, request.into_bytes(), status));
    }
    let hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
    cases.push(("noise", vec![0xde; 5000], 400));
    cases.push(("a TLS hello", hello.to_vec(), 400));
    for (what, bytes, status) in &cases {
        assert_eq!(send_raw(&connector, bytes), (*status, true), "{what}");
        assert_survives(&connector, what);
    }
    let survivors: Vec<&str> = cases.iter().map(|(what, ..)| *what).collect();
    assert_eq!(admin.drain_resources(), survivors, "these and no others");
}

fn chunked_bodies_and_expect_continue_are_accepted(authority: Option<&Authority>) {
    let (connector, admin) = connector(authority);
    let body = notification(&["chunked"]);
    let (one, other) = body.split_at(100);
    let mut peer = connector.connect();
    let size = other.len();
    let chunks = format!("64;a=b\r\n{one}\r\n{size:X}\r\n{other}\r\n0\r\nTrailer: x\r\n\r\n");
    let head = webhook_head("Transfer-Encoding: chunked\r\n");
    peer.send(head + &chunks).unwrap();
    assert_eq!(peer.response().unwrap().status, 200);
    let length = format!("Content-Length: {}\r\n", body.len());
    let head = webhook_head(&format!("Expect: 100-continue\r\n{length}"));
    peer.send(head).unwrap();
    assert_eq!(peer.response().unwrap().status, 100);
    peer.send(&body).unwrap();
    assert_eq!(peer.response().unwrap().status, 200);
    // Two pipelined requests get their responses in order.
    let health = "GET /-/healthy HTTP/1.1\r\nHost: h\r\n\r\n";
    peer.send(health.to_owned() + &webhook_request(&body))
        .unwrap();
    peer.response().unwrap().assert(200, "healthy");
    peer.response().unwrap().assert(200, "published");
    assert_eq!(admin.drain_resources(), ["chunked"; 3]);
}

fn an_incomplete_request_times_out(authority: Option<&Authority>) {
    let (connector, _) = connector(authority);
    let [mut body, mut head, mut silent] = [(); 3].map(|()| connector.connect());
    body.send(webhook_head("Content-Length: 9\r\n")).unwrap();
    head.send("GET /-/healthy HTTP/1.1\r\n").unwrap();
    assert_eq!(head.response().unwrap().status, 408);
    let rest = silent.rest().unwrap();
    assert!(rest.is_empty(), "closed with a response");
    body.send("{").unwrap();
    let response = body.response().expect("the end of a body that stalls");
    response.assert(503, "body not received within 30s");
}
