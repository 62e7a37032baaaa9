//! Certificates and keys.

use std::fs;

use super::*;

#[path = "../../../tests/support/certificates.rs"]
#[allow(dead_code, missing_docs)]
mod certificates;

use certificates::{Identity, Subject};

#[test]
fn tls_files_are_checked_at_load() {
    let files = |files: &str| format!("{MINIMAL}amqp: {{url: amqps://h, {files}}}");
    for (text, expected) in [
        (files("ca_file: /no/ca"), "cannot read /no/ca"),
        (files("cert_file: /no/cert"), "must be set together"),
        (
            files("ca_file: Cargo.toml"),
            "Cargo.toml contains no PEM certificate",
        ),
        (
            files("cert_file: Cargo.toml, key_file: Cargo.toml"),
            "contains no PEM certificate",
        ),
    ] {
        let errors = errors(&text, &[]);
        assert!(
            errors.iter().any(|error| error.contains(expected)),
            "{expected}: {errors:#?}"
        );
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
    assert!(!config.http.tls.unwrap().verifies_clients);
    let variables = [
        ("PROMETHEUS_TLS_CERT_FILE", &*path("good.pem")),
        ("PROMETHEUS_TLS_KEY_FILE", &path("good-key.pem")),
        ("PROMETHEUS_TLS_CLIENT_CA_FILE", &path("ca.pem")),
    ];
    let config = load_with(MINIMAL, &variables, &Overrides::default()).unwrap();
    assert!(config.http.tls.unwrap().verifies_clients);

    for (name, warning) in [
        (
            "short",
            "http.tls.cert_file: the certificate expires in 10 days",
        ),
        ("expired", "http.tls.cert_file: the certificate has expired"),
        (
            "chain",
            "http.tls.cert_file: the certificate expires in 20 days",
        ),
        (
            "nameless",
            "http.tls.cert_file: the certificate has no host name or address as subjectAltName",
        ),
        ("nameless", "issue it again with subjectAltName=DNS:NAME"),
    ] {
        let config = load(&with(pair(
            &format!("{name}.pem"),
            &format!("{name}-key.pem"),
        )))
        .unwrap();
        let warnings: Vec<String> = config.warnings.iter().map(ToString::to_string).collect();
        let is_warned = warnings.iter().any(|found| found.contains(warning));
        assert!(is_warned, "{name}: {warnings:?}");
    }

    let client_ca = format!(
        "{}, client_ca_file: /no/ca",
        pair("good.pem", "good-key.pem")
    );
    for (tls, variables, expected) in [
        (
            pair("good.pem", "other-key.pem"),
            &[][..],
            "http.tls.key_file: the key in ",
        ),
        (
            pair("reversed.pem", "good-key.pem"),
            &[],
            "reversed.pem, not to the first one; put certificate 3 first",
        ),
        (
            pair("reversed.pem", "other-key.pem"),
            &[],
            "does not belong to the certificate in ",
        ),
        (
            pair("good.pem", "good.pem"),
            &[],
            "http.tls.key_file: cannot use the key in ",
        ),
        (pair("good.pem", "locked-key.pem"), &[], "openssl pkey -in "),
        (
            pair("good-key.pem", "good-key.pem"),
            &[],
            "contains no PEM certificate",
        ),
        (
            pair("good.pem", "/no/key"),
            &[],
            "http.tls.key_file: cannot read /no/key",
        ),
        (
            client_ca,
            &[],
            "http.tls.client_ca_file: cannot read /no/ca",
        ),
        (
            format!("cert_file: {}", path("good.pem")),
            &[],
            "cert_file and key_file must be set together",
        ),
        (
            String::new(),
            &[],
            "cert_file and key_file must be set together",
        ),
        (
            String::new(),
            &variables[1..],
            "cert_file and key_file must be set together",
        ),
        ("certfile: a".to_owned(), &[], "did you mean \"cert_file\"?"),
    ] {
        let errors = errors(&with(tls), variables);
        assert!(
            errors.iter().any(|error| error.contains(expected)),
            "{expected}: {errors:#?}"
        );
        assert!(!errors.concat().contains("hunter2"));
    }
    // Its keys are commented out.
    let empty = MINIMAL.replace("sesame-word}", "sesame-word, tls: }");
    for (text, variables) in [(MINIMAL, &variables[2..]), (empty.as_str(), &[])] {
        let errors = errors(text, variables);
        assert!(errors[0].contains("must be set together"), "{errors:?}");
    }
    fs::remove_dir_all(&dir).unwrap();
}
