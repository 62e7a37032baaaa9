//! Whose certificates are accepted, and their rotation.

use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use openssl::asn1::Asn1Time;
use openssl::ssl::SslVersion;

use super::{curl, https_connector, s_client};
use crate::support::broker::Broker;
use crate::support::certificates::{Identity, Subject};
use crate::support::connector::{Connector, MAPPING, config};
use crate::support::http::{Client, Tls};
use crate::support::tls::Authority;
use crate::support::{notification, wait_until};

#[test]
fn senders_verify_the_certificate() {
    let (authority, other) = (Authority::new(), Identity::root("another authority"));
    let other_ca = other.write(&authority.dir, "other-ca").0;
    let ca = authority.ca();
    authority.issue(
        "rsa",
        Subject {
            rsa: true,
            ..Subject::host("localhost")
        },
    );
    authority.issue(
        "expired",
        Subject {
            days: -1,
            ..Subject::host("localhost")
        },
    );
    authority.issue("elsewhere", Subject::host("elsewhere.example"));
    let intermediate = authority.root.issue(Subject {
        is_authority: true,
        ..Subject::host("intermediate")
    });
    intermediate
        .issue(Subject::host("localhost"))
        .write(&authority.dir, "chain");
    let vhost = Broker::shared().fresh_vhost();

    for (name, trusted, is_accepted) in [
        ("server", &ca, true),
        ("rsa", &ca, true),
        ("chain", &ca, true),
        ("server", &other_ca, false),
        ("expired", &ca, false),
        ("elsewhere", &ca, false),
    ] {
        let text = config(
            &Broker::shared().url(&vhost),
            &authority.setting(name, ""),
            MAPPING,
        );
        let mut connector = Connector::with(&text, &[]);
        connector.tls = Some(Tls::trusting(trusted, "localhost"));
        let posted = || connector.try_post(&notification(&[name]));
        if is_accepted {
            connector.wait_until_ready();
            assert_eq!(posted().unwrap().status, 200, "{name}");
        } else {
            assert!(posted().is_err(), "{name}");
            connector.wait_for_log("TLS handshake failed");
        }
        let (succeeded, output) = s_client(&connector, trusted, &[]);
        assert_eq!(
            succeeded && output.contains("healthy"),
            is_accepted,
            "{name}: {output}"
        );
        let (succeeded, output) = curl(&connector, trusted, &[]);
        assert_eq!(
            succeeded && output.contains("healthy"),
            is_accepted,
            "{name}: {output}"
        );
        assert_eq!(
            connector.log().contains("the certificate has expired"),
            name == "expired",
            "{}",
            connector.log()
        );
    }
    let received = Broker::shared().admin(&vhost).drain();
    assert_eq!(received.len(), 3);
}

#[test]
fn a_client_certificate_is_required_where_its_authority_is_set() {
    let (authority, other) = (Authority::new(), Identity::root("another authority"));
    let good = authority.issue("client", Subject::host("sender.example"));
    let expired = authority.issue(
        "old",
        Subject {
            days: -1,
            ..Subject::host("sender.example")
        },
    );
    let foreign = other
        .issue(Subject::host("sender.example"))
        .write(&authority.dir, "foreign");
    let client_ca = format!("client_ca_file: '{}'", authority.ca().display());
    let mut connector = https_connector(&authority, &Broker::shared().fresh_vhost(), &client_ca);

    for version in [SslVersion::TLS1_2, SslVersion::TLS1_3] {
        let with = |identity| {
            Some(Tls::with(
                &authority.ca(),
                "localhost",
                identity,
                Some(version),
            ))
        };
        connector.tls = with(Some(&good));
        connector.wait_until_ready();
        assert_eq!(connector.post(&notification(&["a"])).status, 200);
        for (identity, reason) in [
            (
                None,
                "peer did not return a certificate (http.tls.client_ca_file requires",
            ),
            (
                Some(&expired),
                "certificate verify failed (certificate has expired)",
            ),
            (
                Some(&foreign),
                "certificate verify failed (unable to get local issuer certificate)",
            ),
        ] {
            connector.tls = with(identity);
            assert!(
                connector.try_post(&notification(&["b"])).is_err(),
                "{reason}"
            );
            connector.wait_for_log(reason);
        }
    }
    let (cert, key) = (good.0.to_str().unwrap(), good.1.to_str().unwrap());
    let (succeeded, output) = curl(&connector, &authority.ca(), &["--cert", cert, "--key", key]);
    assert!(succeeded && output.contains("healthy"), "{output}");
    let (succeeded, output) = curl(&connector, &authority.ca(), &[]);
    assert!(!succeeded, "{output}");
    let (succeeded, output) = s_client(&connector, &authority.ca(), &["-cert", cert, "-key", key]);
    assert!(succeeded && output.contains("healthy"), "{output}");
}

fn expiry(connector: &Connector) -> i64 {
    let page = connector.get("/metrics").body;
    let name = "canopsis_connector_tls_certificate_expiry_timestamp_seconds ";
    let value = page
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .unwrap();
    value.parse().unwrap()
}

/// The end of the certificate that a sender sees on a new connection, as Unix time.
fn seen_expiry(connector: &Connector, authority: &Authority) -> i64 {
    let socket = TcpStream::connect(connector.address).unwrap();
    let stream = authority.tls().connector.connect("localhost", socket);
    let certificate = stream.unwrap().ssl().peer_certificate().unwrap();
    let start = Asn1Time::from_unix(0).unwrap();
    let since = start.diff(certificate.not_after()).unwrap();
    i64::from(since.days) * 86_400 + i64::from(since.secs)
}

#[test]
fn certificates_are_rotated_by_a_reload_under_load() {
    let authority = Authority::new();
    let vhost = Broker::shared().fresh_vhost();
    let mut connector = https_connector(&authority, &vhost, "");
    connector.wait_until_ready();
    let text = std::fs::read_to_string(connector.config_path()).unwrap();
    let (stop, sent, address) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
        connector.address,
    );
    // Half of the senders keep their connection, the others open one for each notification.
    let senders: Vec<_> = (0..4)
        .map(|number| {
            let (stop, sent, tls) = (Arc::clone(&stop), Arc::clone(&sent), authority.tls());
            std::thread::spawn(move || {
                let mut client = Client::with_tls(address, Some(tls.clone()));
                let mut names = (0..).map(|count| format!("{number}-{count}"));
                while !stop.load(Ordering::SeqCst) {
                    if number % 2 == 0 {
                        client = Client::with_tls(address, Some(tls.clone()));
                    }
                    let name = names.next().unwrap();
                    let response = client.post(&notification(&[name])).unwrap();
                    assert_eq!(response.status, 200, "{}", response.body);
                    sent.fetch_add(1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    let more_is_sent = || {
        let before = sent.load(Ordering::SeqCst);
        wait_until("more is sent", || sent.load(Ordering::SeqCst) > before + 20);
    };
    let mut last = expiry(&connector);
    for days in [120, 150, 180] {
        authority.issue(
            "server",
            Subject {
                days,
                ..Subject::host("localhost")
            },
        );
        connector.reload(&text);
        more_is_sent();
        let now = expiry(&connector);
        assert_eq!((now - last + 43_200) / 86_400, 30);
        let seen = seen_expiry(&connector, &authority);
        assert_eq!(
            seen, now,
            "another certificate is served than the metric says"
        );
        last = now;
    }
    // The new certificate with the old key, as between two copies: nothing of it is used.
    let key = std::fs::read(authority.dir.join("server-key.pem")).unwrap();
    authority.issue(
        "server",
        Subject {
            days: 10,
            ..Subject::host("localhost")
        },
    );
    std::fs::write(authority.dir.join("server-key.pem"), key).unwrap();
    connector.reload(&text);
    connector.wait_for_log("does not belong to the certificate in");
    connector.wait_for_log("configuration reload failed; still using the previous configuration");
    more_is_sent();
    assert_eq!(expiry(&connector), last);
    assert_eq!(seen_expiry(&connector, &authority), last);
    stop.store(true, Ordering::SeqCst);
    for sender in senders {
        sender.join().unwrap();
    }
    let received = Broker::shared().admin(&vhost).drain().len();
    assert_eq!(received, sent.load(Ordering::SeqCst));
    let key = std::fs::read_to_string(authority.dir.join("server-key.pem")).unwrap();
    for line in key.lines() {
        assert!(!connector.log().contains(line), "a line of the key");
    }

    // From TLS to plain HTTP: for new connections, too.
    connector.reload(&config(&Broker::shared().url(&vhost), "", MAPPING));
    connector.tls = None;
    assert_eq!(connector.post(&notification(&["plain"])).status, 200);
    assert_eq!(expiry(&connector), 0);
}
