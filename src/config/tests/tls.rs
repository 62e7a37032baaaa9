//! Certificates and keys.

use std::fs;

use super::*;

#[path = "../../../tests/support/certificates.rs"]
#[allow(dead_code, missing_docs)]
mod certificates;

use certificates::{Identity, Subject};

/// What is said of half a pair.
const TOGETHER: &str = "cert_file and key_file must be set together";

#[test]
fn tls_files_are_checked_at_load() {
    for (files, expected) in [
        ("ca_file: /no/ca", "cannot read /no/ca…"),
        ("cert_file: /no/cert", TOGETHER),
        (
            "ca_file: Cargo.toml",
            "Cargo.toml contains no PEM certificate",
        ),
        (
            "cert_file: Cargo.toml, key_file: Cargo.toml",
            "contains no PEM certificate",
        ),
    ] {
        let errors = errors(&with(&format!("amqp: {{url: amqps://h, {files}}}")), &[]);
        assert_contains(&errors, expected, files);
    }
}

#[test]
fn the_listeners_certificate_is_checked_at_load() {
    let dir = std::env::temp_dir().join(format!("listener-tls-{}", std::process::id()));
    let root = Identity::root("authority");
    root.write(&dir, "ca");
    let issue = |name: &str, days| {
        let subject = Subject {
            days,
            ..Subject::host("localhost")
        };
        root.issue(subject).write(&dir, name)
    };
    issue("good", 90);
    issue("other", 90);
    issue("short", 10);
    issue("expired", -1);
    let intermediate = root.issue(Subject {
        days: 20,
        is_authority: true,
        ..Subject::host("intermediate")
    });
    let issued = intermediate.issue(Subject::host("localhost"));
    issued.write(&dir, "chain");
    // Only the certificates of authorities have no alternative name.
    let nameless = Subject {
        is_authority: true,
        ..Subject::host("localhost")
    };
    root.issue(nameless).write(&dir, "nameless");
    let parts =
        ["ca.pem", "nameless.pem", "good.pem"].map(|name| fs::read(dir.join(name)).unwrap());
    fs::write(dir.join("reversed.pem"), parts.concat()).unwrap();
    let encrypted = fs::read_to_string(issue("locked", 90).1).unwrap();
    let encrypted = openssl::pkey::PKey::private_key_from_pem(encrypted.as_bytes())
        .unwrap()
        .private_key_to_pem_pkcs8_passphrase(openssl::symm::Cipher::aes_128_cbc(), b"hunter2")
        .unwrap();
    fs::write(dir.join("locked-key.pem"), encrypted).unwrap();
    let path = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    let with =
        |text: String| MINIMAL.replace("sesame-word}", &format!("sesame-word, tls: {{{text}}}}}"));
    let pair = |cert: &str, key: &str| {
        let (cert, key) = (path(cert), path(key));
        format!("cert_file: '{cert}', key_file: '{key}'")
    };

    let config = load(&with(pair("good.pem", "good-key.pem"))).unwrap();
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    let summary = config.to_string();
    assert!(
        summary.contains("\ntls:          on, certificate expires 20"),
        "{summary}"
    );
    let of_clients = "client certificates are required";
    assert!(!summary.contains(of_clients), "{summary}");
    let variables = [
        ("PROMETHEUS_TLS_CERT_FILE", &*path("good.pem")),
        ("PROMETHEUS_TLS_KEY_FILE", &path("good-key.pem")),
        ("PROMETHEUS_TLS_CLIENT_CA_FILE", &path("ca.pem")),
    ];
    let config = load_with(MINIMAL, &variables, &Overrides::default()).unwrap();
    let summary = config.to_string();
    assert!(summary.contains(of_clients), "{summary}");

    for (name, warning) in [
        ("short", "the certificate expires in 10 days"),
        ("expired", "the certificate has expired…"),
        ("chain", "the certificate expires in 20 days"),
        (
            "nameless",
            "the certificate has no host name or address as subjectAltName: Alertmanager, Prometheus and Grafana refuse it, as \
             they ignore the common name; issue it again with subjectAltName=DNS:NAME, where NAME is the host in the senders' URL",
        ),
    ] {
        let warnings = warnings(&with(pair(
            &format!("{name}.pem"),
            &format!("{name}-key.pem"),
        )));
        assert_contains(&warnings, &format!("http.tls.cert_file: {warning}"), name);
    }

    let without_ca = format!(
        "{}, client_ca_file: /no/ca",
        pair("good.pem", "good-key.pem")
    );
    let without_key = format!("cert_file: {}", path("good.pem"));
    let of_pairs = rows(
        "
        good.pem other-key.pem
            http.tls.key_file: the key in…
        reversed.pem good-key.pem
            http.tls.cert_file: the key in…
        reversed.pem good-key.pem
            reversed.pem, not to the first one; put certificate 3 first…
        reversed.pem other-key.pem
            does not belong to the certificate in…
        good.pem good.pem
            http.tls.key_file: cannot use the key in…
        good.pem locked-key.pem
            openssl pkey -in…
        good-key.pem good-key.pem
            contains no PEM certificate
        good.pem /no/key
            http.tls.key_file: cannot read /no/key…
        ",
    );
    let of_pairs = of_pairs.into_iter().map(|(files, expected)| {
        let (cert, key) = files.split_once(' ').unwrap();
        (pair(cert, key), expected)
    });
    let others = [
        (without_ca, "http.tls.client_ca_file: cannot read /no/ca…"),
        (without_key, TOGETHER),
        (String::new(), TOGETHER),
        ("certfile: a".to_owned(), "did you mean \"cert_file\"?"),
    ];
    for (tls, expected) in of_pairs.chain(others) {
        let errors = errors(&with(tls.clone()), &[]);
        assert_contains(&errors, expected, &tls);
        assert!(!errors.concat().contains("hunter2"));
    }
    let without_cert = errors(&with(String::new()), &variables[1..]);
    assert_contains(&without_cert, TOGETHER, "a key and no certificate");
    // Its keys are commented out.
    let empty = MINIMAL.replace("sesame-word}", "sesame-word, tls: }");
    for (text, variables) in [(MINIMAL, &variables[2..]), (empty.as_str(), &[])] {
        let errors = errors(text, variables);
        assert!(errors[0].contains("must be set together"), "{errors:?}");
    }
    fs::remove_dir_all(&dir).unwrap();
}
