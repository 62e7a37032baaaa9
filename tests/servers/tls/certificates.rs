//! Whose certificates are accepted, and their rotation.

use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use openssl::asn1::Asn1Time;
use openssl::ssl::SslVersion;

use super::{curl, https_connector, s_client};
use crate::support::broker::Admin;
use crate::support::certificates::{Identity, Subject};
use crate::support::connector::{Connector, MAPPING, config};
use crate::support::http::{Client, Tls};
use crate::support::tls::Authority;
use crate::support::{notification, wait_until};

#[test]
fn senders_verify_the_certificate() {
    let (authority, other) = (Authority::new(), Identity::root("another authority"));
    let other_ca = other.write(authority.dir.path(), "other-ca").0;
    let ca = authority.ca();
    let host = Subject::host("localhost");
    authority.issue("rsa", host.with_rsa());
    authority.issue("expired", host.valid_for(-1));
    authority.issue("elsewhere", Subject::host("elsewhere.example"));
    let intermediate = authority.root.issue(Subject::authority("intermediate"));
    let issued = intermediate.issue(host);
    issued.write(authority.dir.path(), "chain");
    let admin = Admin::fresh();

    for (name, trusted, is_accepted) in [
        ("server", &ca, true),
        ("rsa", &ca, true),
        ("chain", &ca, true),
        ("server", &other_ca, false),
        ("expired", &ca, false),
        ("elsewhere", &ca, false),
    ] {
        let text = config(&admin.url(), &authority.setting(name, ""), MAPPING);
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
        for client in [s_client, curl] {
            let (is_healthy, output) = client(&connector, trusted, &[]);
            assert_eq!(is_healthy, is_accepted, "{name}: {output}");
        }
        let log = connector.log();
        let is_expired = log.contains("the certificate has expired");
        assert_eq!(is_expired, name == "expired", "{log}");
    }
    assert_eq!(admin.drain().len(), 3);
}

#[test]
fn a_client_certificate_is_required_where_its_authority_is_set() {
    let (authority, other) = (Authority::new(), Identity::root("another authority"));
    let sender = Subject::host("sender.example");
    let good = authority.issue("client", sender);
    let expired = authority.issue("old", sender.valid_for(-1));
    let foreign = other.issue(sender).write(authority.dir.path(), "foreign");
    let ca = authority.ca();
    let client_ca = format!("client_ca_file: '{}'", ca.display());
    let mut connector = https_connector(&authority, &Admin::fresh(), &client_ca);

    for version in [SslVersion::TLS1_2, SslVersion::TLS1_3] {
        let with = |identity| Some(Tls::with(&ca, "localhost", identity, Some(version)));
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
            let posted = connector.try_post(&notification(&["b"]));
            assert!(posted.is_err(), "{reason}");
            connector.wait_for_log(reason);
        }
    }
    let (cert, key) = (good.0.to_str().unwrap(), good.1.to_str().unwrap());
    for (is_healthy, output) in [
        curl(&connector, &ca, &["--cert", cert, "--key", key]),
        s_client(&connector, &ca, &["-cert", cert, "-key", key]),
    ] {
        assert!(is_healthy, "{output}");
    }
    let (is_healthy, output) = curl(&connector, &ca, &[]);
    assert!(!is_healthy, "{output}");
}

fn expiry(connector: &Connector) -> i64 {
    connector.metric("tls_certificate_expiry_timestamp_seconds")
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
    let admin = Admin::fresh();
    let mut connector = https_connector(&authority, &admin, "");
    connector.wait_until_ready();
    let text = std::fs::read_to_string(connector.config_path()).unwrap();
    let (stop, sent) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
    );
    let (address, host) = (connector.address, Subject::host("localhost"));
    // Half of the senders keep their connection, the others open one for each notification.
    let senders = [0, 1, 2, 3].map(|number| {
        let (stop, sent, tls) = (Arc::clone(&stop), Arc::clone(&sent), authority.tls());
        std::thread::spawn(move || {
            let new_client = || Client::with_tls(address, Some(tls.clone()));
            let mut client = new_client();
            let mut names = (0..).map(|count| format!("{number}-{count}"));
            while !stop.load(Ordering::SeqCst) {
                if number % 2 == 0 {
                    client = new_client();
                }
                let name = names.next().unwrap();
                let response = client.post(&notification(&[name])).unwrap();
                assert_eq!(response.status, 200, "{}", response.body);
                sent.fetch_add(1, Ordering::SeqCst);
            }
        })
    });
    let more_is_sent = || {
        let before = sent.load(Ordering::SeqCst);
        wait_until("more is sent", || sent.load(Ordering::SeqCst) > before + 20);
    };
    let mut last = expiry(&connector);
    for days in [120, 150, 180] {
        authority.issue("server", host.valid_for(days));
        connector.reload(&text);
        more_is_sent();
        let now = expiry(&connector);
        assert_eq!((now - last + 43_200) / 86_400, 30);
        let seen = seen_expiry(&connector, &authority);
        assert_eq!(seen, now, "another certificate than the metric says");
        last = now;
    }
    let log = connector.log();
    let expiries = log.split("tls=\"on, certificate expires ").skip(1);
    let dates: Vec<&str> = expiries.map(|rest| &rest[..10]).collect();
    assert!(dates.len() == 4 && dates.is_sorted(), "{dates:?}");
    assert!(dates[0] < dates[1], "{dates:?}");
    // The new certificate with the old key, as between two copies: nothing of it is used.
    let key_path = authority.dir.path().join("server-key.pem");
    let key = std::fs::read_to_string(&key_path).unwrap();
    authority.issue("server", host.valid_for(10));
    std::fs::write(&key_path, &key).unwrap();
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
    assert_eq!(admin.drain().len(), sent.load(Ordering::SeqCst));
    for line in key.lines() {
        assert!(!connector.log().contains(line), "a line of the key");
    }

    // From TLS to plain HTTP: for new connections, too.
    connector.reload(&config(&admin.url(), "", MAPPING));
    connector.tls = None;
    assert_eq!(connector.post(&notification(&["plain"])).status, 200);
    assert_eq!(expiry(&connector), 0);
}
