//! Certificates and keys in PEM files, and what OpenSSL reports, for TLS with RabbitMQ and with senders.
//!
//! Knows files and OpenSSL. Which side connects, and what it demands of the other one, is up to the modules that use this one.
//! Cipher suites are never set here, so that the system's policy (`update-crypto-policies` on RHEL) applies.

use std::io;
use std::path::{Path, PathBuf};

use openssl::asn1::Asn1Time;
use openssl::error::ErrorStack;
use openssl::pkey::{PKey, Private};
use openssl::ssl::{HandshakeError, SslContextBuilder, SslVersion};
use openssl::x509::store::{X509Store, X509StoreBuilder};
use openssl::x509::{X509, X509VerifyResult};

use crate::files;

/// The bundle of a distribution has 250 KiB.
const MAX_FILE_BYTES: usize = 4 << 20;

/// Why TLS cannot be set up. Holds nothing of the content of files.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be used: which one, what is wrong with it, and what to do.
    #[error("{1}")]
    File(PathBuf, String),
    /// Only one of certificate and key is given.
    #[error("cert_file and key_file must be set together")]
    IncompleteIdentity,
    /// OpenSSL failed.
    #[error("cannot set up TLS: {}", reasons(.0))]
    Library(#[from] ErrorStack),
}

impl TlsError {
    fn file(path: &Path, reason: String) -> Self {
        Self::File(path.to_owned(), reason)
    }

    fn content(path: &Path, what: &str, stack: &ErrorStack) -> Self {
        let (file, reasons) = (path.display(), reasons(stack));
        Self::file(path, format!("cannot use {what} in {file}: {reasons}"))
    }
}

/// What OpenSSL gives as the reasons of a failure, without the names of its source files.
pub fn reasons(stack: &ErrorStack) -> String {
    let errors = stack.errors().iter();
    let reasons: Vec<&str> = errors.filter_map(openssl::error::Error::reason).collect();
    if reasons.is_empty() {
        "OpenSSL error".to_owned()
    } else {
        reasons.join(": ")
    }
}

/// The cause of a failed handshake: an error of the socket, or what OpenSSL reports.
pub fn handshake_error<S>(error: HandshakeError<S>) -> io::Error {
    let (verified, error) = match error {
        HandshakeError::SetupFailure(stack) => return io::Error::other(reasons(&stack)),
        HandshakeError::Failure(stream) | HandshakeError::WouldBlock(stream) => {
            (stream.ssl().verify_result(), stream.into_error())
        }
    };
    match error.ssl_error() {
        Some(stack) if verified == X509VerifyResult::OK => io::Error::other(reasons(stack)),
        Some(stack) => io::Error::other(format!("{} ({verified})", reasons(stack))),
        None => error.into_io_error().unwrap_or_else(io::Error::other),
    }
}

/// The error of a read or write after the handshake, without the names of OpenSSL's source files.
pub fn stream_error(error: io::Error) -> io::Error {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    match inner.and_then(openssl::ssl::Error::ssl_error) {
        Some(stack) => io::Error::other(reasons(stack)),
        None => error,
    }
}

/// Permits TLS 1.2 and higher versions. A higher minimum of the system's stays.
pub fn require_tls_1_2(context: &mut SslContextBuilder) -> Result<(), TlsError> {
    if context.min_proto_version() != Some(SslVersion::TLS1_3) {
        context.set_min_proto_version(Some(SslVersion::TLS1_2))?;
    }
    Ok(())
}

/// The facts about a certificate that are used after it is loaded.
#[derive(Debug, Clone, Copy)]
pub struct OwnCertificate {
    /// When the first certificate of the chain expires, as Unix time.
    pub expires_at: i64,
    /// Whether it names a host or an address as `subjectAltName`.
    pub has_alternative_name: bool,
}

/// Uses a certificate, with its chain, and the key that belongs to it.
pub fn use_identity(
    context: &mut SslContextBuilder,
    cert: &Path,
    key: &Path,
) -> Result<OwnCertificate, TlsError> {
    let (chain, private) = (certificates(cert)?, private_key(key)?);
    let is_of_key = |certificate: &X509| {
        let public = certificate.public_key();
        public.is_ok_and(|public| public.public_eq(&private))
    };
    let unusable = |stack| TlsError::content(cert, "the certificate", &stack);
    let (cert_path, key_path) = (cert.display(), key.display());
    match chain.iter().position(is_of_key) {
        Some(0) => use_chain(context, &chain, &private).map_err(unusable),
        Some(index) => {
            let position = index + 1;
            let reason = format!(
                "the key in {key_path} belongs to certificate {position} in {cert_path}, not to the first one; put certificate {position} first, and those of its issuers after it"
            );
            Err(TlsError::file(cert, reason))
        }
        None => {
            chain[0].public_key().map_err(unusable)?;
            let reason =
                format!("the key in {key_path} does not belong to the certificate in {cert_path}");
            Err(TlsError::file(key, reason))
        }
    }
}

/// Where the system's policy rejects a certificate (a short key, SHA-1), this fails.
fn use_chain(
    context: &mut SslContextBuilder,
    chain: &[X509],
    key: &PKey<Private>,
) -> Result<OwnCertificate, ErrorStack> {
    context.set_certificate(&chain[0])?;
    context.set_private_key(key)?;
    for issuer in &chain[1..] {
        context.add_extra_chain_cert(issuer.clone())?;
    }
    let mut expires_at = i64::MAX;
    for certificate in chain {
        let since_1970 = Asn1Time::from_unix(0)?.diff(certificate.not_after())?;
        let seconds = i64::from(since_1970.days) * 86_400 + i64::from(since_1970.secs);
        expires_at = expires_at.min(seconds);
    }
    let mut names = chain[0].subject_alt_names().into_iter().flatten();
    let has_alternative_name =
        names.any(|name| name.dnsname().is_some() || name.ipaddress().is_some());
    Ok(OwnCertificate {
        expires_at,
        has_alternative_name,
    })
}

/// The authorities in a file, to verify the other side with.
pub fn authorities(path: &Path) -> Result<X509Store, TlsError> {
    let mut store = X509StoreBuilder::new()?;
    for authority in certificates(path)? {
        store.add_cert(authority)?;
    }
    Ok(store.build())
}

/// The certificates in a file; at least one.
fn certificates(path: &Path) -> Result<Vec<X509>, TlsError> {
    let certificates = X509::stack_from_pem(&read(path)?)
        .map_err(|stack| TlsError::content(path, "the certificates", &stack))?;
    if certificates.is_empty() {
        let reason = format!("{} contains no PEM certificate", path.display());
        return Err(TlsError::file(path, reason));
    }
    Ok(certificates)
}

fn private_key(path: &Path) -> Result<PKey<Private>, TlsError> {
    let pem = read(path)?;
    let mut is_encrypted = false;
    // Without the callback, OpenSSL would ask for a passphrase on the terminal.
    let key = PKey::private_key_from_pem_callback(&pem, |_| {
        is_encrypted = true;
        Ok(0)
    });
    key.map_err(|stack| {
        if is_encrypted {
            let file = path.display();
            let reason = format!(
                "the key in {file} is encrypted; decrypt it with: openssl pkey -in {file} -out NEW"
            );
            TlsError::file(path, reason)
        } else {
            TlsError::content(path, "the key", &stack)
        }
    })
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    files::read(path, MAX_FILE_BYTES)
        .map_err(|error| TlsError::file(path, format!("cannot read {}: {error}", path.display())))
}
