//! Certificates and keys for tests, made by OpenSSL.

use std::path::{Path, PathBuf};

use openssl::asn1::Asn1Time;
use openssl::bn::{BigNum, MsbOption};
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::x509::extension::{BasicConstraints, ExtendedKeyUsage, SubjectAlternativeName};
use openssl::x509::{X509, X509Builder, X509Name};

const DAY: i64 = 86_400;

/// A certificate, its issuers up to the one below the root, and its key.
pub struct Identity {
    chain: Vec<X509>,
    key: PKey<Private>,
}

/// What a certificate is issued for.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    /// A host name or an IP address.
    pub name: &'a str,
    /// From now; negative: expired.
    pub days: i64,
    pub rsa: bool,
    pub is_authority: bool,
    /// Clients must not use it.
    pub for_servers_only: bool,
}

impl<'a> Subject<'a> {
    pub fn host(name: &'a str) -> Self {
        Self {
            name,
            days: 90,
            rsa: false,
            is_authority: false,
            for_servers_only: false,
        }
    }

    pub fn valid_for(self, days: i64) -> Self {
        Self { days, ..self }
    }

    pub fn with_rsa(self) -> Self {
        Self { rsa: true, ..self }
    }

    pub fn authority(name: &'a str) -> Self {
        let is_authority = true;
        Self {
            is_authority,
            ..Self::host(name)
        }
    }
}

fn new_key(rsa: bool) -> PKey<Private> {
    if rsa {
        return PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
    }
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap()
}

fn named(common_name: &str) -> X509Name {
    let mut name = X509Name::builder().unwrap();
    name.append_entry_by_nid(Nid::COMMONNAME, common_name)
        .unwrap();
    name.build()
}

impl Identity {
    /// A certificate authority that signs its own certificate.
    pub fn root(name: &str) -> Self {
        let key = new_key(false);
        let cert = sign(Subject::authority(name), &key, &named(name), &key);
        let chain = vec![cert];
        Self { chain, key }
    }

    /// A certificate that this authority signs.
    pub fn issue(&self, subject: Subject<'_>) -> Self {
        let key = new_key(subject.rsa);
        let own = &self.chain[0];
        let cert = sign(subject, &key, own.subject_name(), &self.key);
        let is_root = own.issued(own) == openssl::x509::X509VerifyResult::OK;
        let issuers = if is_root { &[] } else { self.chain.as_slice() };
        let chain = [&[cert], issuers].concat();
        Self { chain, key }
    }

    /// The certificates in PEM.
    pub fn cert_pem(&self) -> String {
        let pem = |cert: &X509| String::from_utf8(cert.to_pem().unwrap()).unwrap();
        self.chain.iter().map(pem).collect()
    }

    /// The key in PEM (PKCS#8).
    pub fn key_pem(&self) -> String {
        String::from_utf8(self.key.private_key_to_pem_pkcs8().unwrap()).unwrap()
    }

    /// Writes `NAME.pem` and `NAME-key.pem`, and returns their paths.
    pub fn write(&self, dir: &Path, name: &str) -> (PathBuf, PathBuf) {
        std::fs::create_dir_all(dir).unwrap();
        let path = |end: &str| dir.join(format!("{name}{end}"));
        let paths = (path(".pem"), path("-key.pem"));
        std::fs::write(&paths.0, self.cert_pem()).unwrap();
        std::fs::write(&paths.1, self.key_pem()).unwrap();
        paths
    }
}

fn sign(
    subject: Subject<'_>,
    key: &PKey<Private>,
    issuer: &openssl::x509::X509NameRef,
    issuer_key: &PKey<Private>,
) -> X509 {
    let now = i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_secs()).unwrap();
    let at = |seconds| Asn1Time::from_unix(seconds).unwrap();
    let mut serial = BigNum::new().unwrap();
    serial.rand(120, MsbOption::MAYBE_ZERO, false).unwrap();
    let mut cert = X509Builder::new().unwrap();
    cert.set_version(2).unwrap();
    cert.set_serial_number(&serial.to_asn1_integer().unwrap())
        .unwrap();
    cert.set_subject_name(&named(subject.name)).unwrap();
    cert.set_issuer_name(issuer).unwrap();
    cert.set_not_before(&at(now - 100 * DAY)).unwrap();
    cert.set_not_after(&at(now + subject.days * DAY + DAY / 2))
        .unwrap();
    cert.set_pubkey(key).unwrap();
    let mut constraints = BasicConstraints::new();
    if subject.is_authority {
        constraints.critical().ca();
    }
    cert.append_extension(constraints.build().unwrap()).unwrap();
    if !subject.is_authority {
        let mut names = SubjectAlternativeName::new();
        match subject.name.parse::<std::net::IpAddr>() {
            Ok(_) => names.ip(subject.name),
            Err(_) => names.dns(subject.name),
        };
        let names = names.build(&cert.x509v3_context(None, None)).unwrap();
        cert.append_extension(names).unwrap();
    }
    if subject.for_servers_only {
        let usage = ExtendedKeyUsage::new().server_auth().build().unwrap();
        cert.append_extension(usage).unwrap();
    }
    cert.sign(issuer_key, MessageDigest::sha256()).unwrap();
    cert.build()
}
