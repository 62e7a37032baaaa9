//! Versions, and handshakes that stall or are none.

use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::{https_connector, s_client, s_client_with_input};
use crate::support::broker::Admin;
use crate::support::certificates::Subject;
use crate::support::connector::{Connector, MAPPING, config};
use crate::support::http::Peer;
use crate::support::tls::Authority;
use crate::support::{TIMEOUT, notification, wait_until};

#[test]
fn old_versions_renegotiation_and_resumption_are_refused() {
    let authority = Authority::new();
    // RSA, for which every version has cipher suites.
    authority.issue("server", Subject::host("localhost").with_rsa());
    let mut connector = https_connector(&authority, &Admin::fresh(), "");
    for (version, is_accepted) in [
        ("-tls1_3", true),
        ("-tls1_2", true),
        ("-tls1_1", false),
        ("-tls1", false),
    ] {
        // Security level 0: otherwise the client itself would refuse old versions.
        let arguments = [version, "-cipher", "ALL:@SECLEVEL=0"];
        let (is_healthy, output) = s_client(&connector, &authority.ca(), &arguments);
        assert_eq!(is_healthy, is_accepted, "{version}: {output}");
    }
    connector.wait_for_log("TLS handshake failed: unsupported protocol");

    // s_client renegotiates at a line with the letter R.
    let ca = authority.ca();
    let (succeeded, output) = s_client_with_input(&connector, &ca, &["-tls1_2"], "R\n");
    assert!(output.contains("RENEGOTIATING"), "{output}");
    assert!(output.contains("no renegotiation"), "{output}");
    assert!(!succeeded, "{output}");

    for version in ["-tls1_3", "-tls1_2"] {
        let arguments = [version, "-reconnect"];
        let (_, output) = s_client_with_input(&connector, &ca, &arguments, "Q\n");
        assert!(output.contains("New, TLS"), "{output}");
        assert!(!output.contains("Reused, TLS"), "{output}");
        assert!(!output.contains("session ticket:"), "{output}");
    }
    connector.wait_until_ready();
}

#[test]
fn a_wrong_scheme_is_answered_and_the_log_says_what_to_change() {
    let authority = Authority::new();
    let admin = Admin::fresh();
    let mut with_tls = https_connector(&authority, &admin, "");
    let address = with_tls.address;
    for request in ["GET /-/healthy HTTP/1.1\r\n\r\n", "G", "\u{15}\u{3}\u{1}"] {
        let mut stream = Peer::connect(address, None, TIMEOUT).unwrap();
        stream.send(request).unwrap();
        stream.response().unwrap().assert(400, "use https://");
    }
    with_tls.wait_for_log("plain HTTP on a port with TLS: use https:// in the URL");

    let mut plain = Connector::on(&admin.url());
    plain.tls = Some(authority.tls());
    assert!(plain.try_post(&notification(&["a"])).is_err());
    let hint = "TLS handshake on a plain HTTP port: use http:// in the URL, or set http.tls";
    plain.wait_for_log(hint);
}

/// The start of a handshake: a record with a `ClientHello` that announces this length.
fn client_hello(length: u32) -> Vec<u8> {
    let [_, high, middle, low] = length.to_be_bytes();
    vec![0x16, 3, 1, 0, 6, 1, high, middle, low, 3, 3]
}

#[test]
fn stalled_and_dripping_handshakes_keep_no_sender_out() {
    let authority = Authority::new();
    for max_connections in [1024, 64] {
        let tls = authority.setting("server", "");
        let http = format!("{tls}, max_connections: {max_connections}");
        let text = config(&Admin::fresh().url(), &http, MAPPING);
        let mut connector = Connector::with(&text, &["--log-level", "info"]);
        connector.tls = Some(authority.tls());
        connector.wait_until_ready();
        let stop = Arc::new(AtomicBool::new(false));
        let address = connector.address;
        let mut held = Vec::new();
        for number in 0..600 {
            let mut stream = TcpStream::connect(address).unwrap();
            let start = match number % 3 {
                0 => Vec::new(),
                // The largest that OpenSSL does not refuse at once, and nothing of it.
                1 => client_hello(131_396),
                // A record of 16 KiB, of which one byte at a time arrives, for longer than the test waits.
                _ => vec![0x16, 3, 1, 0x40, 0, 1, 0, 0x3f, 0xfc, 3, 3],
            };
            stream.write_all(&start).unwrap();
            held.push(stream);
        }
        let mut dripping: Vec<TcpStream> = (held.iter().skip(2).step_by(3))
            .map(|stream| stream.try_clone().unwrap())
            .collect();
        let drip = {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || {
                while !stop.load(Ordering::SeqCst) {
                    for stream in &mut dripping {
                        let _ = stream.write_all(&[0]);
                    }
                    std::thread::sleep(Duration::from_millis(100));
                }
            })
        };
        for name in ["a", "b", "c"] {
            let mut client = connector.client().with_timeout(5);
            let response = client.post(&notification(&[name])).unwrap();
            assert_eq!(response.status, 200, "{}", response.body);
        }
        // Single bytes do not extend the time.
        wait_until("every handshake has ended", || connector.threads() < 20);
        connector.wait_for_log("TLS handshake not complete within 10s");
        stop.store(true, Ordering::SeqCst);
        drip.join().unwrap();
        let logged = connector.log().len();
        assert!(logged < 1 << 20, "{logged} bytes of log");
        let peak = connector.peak_memory();
        // 256 handshakes of 196 KiB, and the same again in a debug build.
        assert!(peak < 100 << 20, "{peak} bytes");
    }
}

#[test]
fn handshakes_that_are_none_or_announce_too_much_are_closed_at_once() {
    let authority = Authority::new();
    let connector = https_connector(&authority, &Admin::fresh(), "");
    let refused = [
        client_hello(131_397),
        vec![0x16, 3, 1, 0, 4, 11, 0, 0, 0],
        [client_hello(4), vec![0xff; 600]].concat(),
    ];
    for (number, start) in (1..).zip(refused) {
        let mut stream = Peer::connect(connector.address, None, TIMEOUT).unwrap();
        stream.send(&start).unwrap();
        // A reset where it was closed with unread input.
        let (Ok(rest) | Err((rest, _))) = stream.rest();
        // At most OpenSSL's alert.
        assert!(rest.len() < 10, "{start:?}: {rest:?}");
        wait_until("the failure is logged", || {
            connector.log().matches("TLS handshake failed: ").count() == number
        });
    }
    assert_eq!(connector.metric("tls_handshake_failures_total"), 3);
    connector.wait_until_ready();
}
