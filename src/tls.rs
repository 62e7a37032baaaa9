//! Certificates and keys in PEM files, and what OpenSSL reports, for TLS with RabbitMQ and with senders.
//!
//! Knows files and OpenSSL. Which side connects, and what it demands of the other one, is up to the modules that use this one.
//! Cipher suites are never set here, so that the system's policy (`update-crypto-policies` on RHEL) applies.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use openssl::asn1::Asn1Time;
use openssl::error::ErrorStack;
use openssl::pkey::{PKey, Private};
use openssl::ssl::{HandshakeError, SslContextBuilder, SslVersion};
use openssl::x509::store::{X509Store, X509StoreBuilder};
use openssl::x509::{X509, X509VerifyResult};

/// A path may lead to a device that has no end. The bundle of a distribution has 250 KiB.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// Why the files cannot be used. Holds nothing of their content.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A file's content is invalid.
    #[error("cannot use {what} in {}: {source}", path.display())]
    Content {
        /// The expected content.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        source: OpensslError,
    },
    /// The file contains no certificate.
    #[error("{} contains no PEM certificate", .0.display())]
    NoCertificate(PathBuf),
    /// The key has a passphrase, which nobody could enter.
    #[error("the key in {path} is encrypted; decrypt it with: openssl pkey -in {path} -out NEW", path = .0.display())]
    EncryptedKey(PathBuf),
    /// The key belongs to another certificate.
    #[error("the key in {} does not belong to the certificate in {}", key.display(), cert.display())]
    KeyMismatch {
        /// The file with the certificate.
        cert: PathBuf,
        /// The file with the key.
        key: PathBuf,
    },
    /// The key belongs to a certificate behind the first, such as behind that of its authority.
    #[error(
        "the key in {} belongs to certificate {position} in {}, not to the first one; put certificate {position} first, and those of its issuers after it",
        key.display(), cert.display()
    )]
    CertificateOrder {
        /// The file with the certificates.
        cert: PathBuf,
        /// The file with the key.
        key: PathBuf,
        /// The certificate of the key; 1 is the first.
        position: usize,
    },
    /// Only one of certificate and key is given.
    #[error("cert_file and key_file must be set together")]
    IncompleteIdentity,
    /// OpenSSL failed.
    #[error("cannot set up TLS: {0}")]
    Library(#[from] OpensslError),
}

impl TlsError {
    /// The file concerned, if any.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Read { path, .. }
            | Self::Content { path, .. }
            | Self::NoCertificate(path)
            | Self::KeyMismatch { key: path, .. }
            | Self::CertificateOrder { cert: path, .. }
            | Self::EncryptedKey(path) => Some(path),
            Self::IncompleteIdentity | Self::Library(_) => None,
        }
    }
}

/// What OpenSSL gives as the reasons of a failure, without the names of its source files.
#[derive(Debug)]
pub struct OpensslError(ErrorStack);

impl From<ErrorStack> for OpensslError {
    fn from(stack: ErrorStack) -> Self {
        Self(stack)
    }
}

impl From<ErrorStack> for TlsError {
    fn from(stack: ErrorStack) -> Self {
        Self::Library(OpensslError(stack))
    }
}

impl std::error::Error for OpensslError {}

impl fmt::Display for OpensslError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut reasons = self
            .0
            .errors()
            .iter()
            .filter_map(openssl::error::Error::reason);
        f.write_str(reasons.next().unwrap_or("OpenSSL error"))?;
        reasons.try_for_each(|reason| write!(f, ": {reason}"))
    }
}

/// The cause of a failed handshake: an error of the socket, or what OpenSSL reports.
pub fn handshake_error<S>(error: HandshakeError<S>) -> io::Error {
    let (verified, error) = match error {
        HandshakeError::SetupFailure(stack) => return io::Error::other(OpensslError(stack)),
        HandshakeError::Failure(stream) | HandshakeError::WouldBlock(stream) => {
            (stream.ssl().verify_result(), stream.into_error())
        }
    };
    match (error.ssl_error(), verified) {
        (Some(stack), X509VerifyResult::OK) => io::Error::other(OpensslError(stack.clone())),
        (Some(stack), verified) => {
            io::Error::other(format!("{} ({verified})", OpensslError(stack.clone())))
        }
        (None, _) => error.into_io_error().unwrap_or_else(io::Error::other),
    }
}

/// The error of a read or write after the handshake, without the names of OpenSSL's source files.
pub fn stream_error(error: io::Error) -> io::Error {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    match inner.and_then(openssl::ssl::Error::ssl_error) {
        Some(stack) => io::Error::other(OpensslError(stack.clone())),
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
    let (cert, key) = (cert.to_owned(), key.to_owned());
    match chain.iter().position(is_of_key) {
        Some(0) => use_chain(context, &chain, &private)
            .map_err(|stack| unusable("the certificate", &cert, stack)),
        Some(index) => Err(TlsError::CertificateOrder {
            cert,
            key,
            position: index + 1,
        }),
        None => {
            let first = chain[0].public_key();
            first.map_err(|stack| unusable("the certificate", &cert, stack))?;
            Err(TlsError::KeyMismatch { cert, key })
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
    let names = chain[0].subject_alt_names();
    let has_alternative_name = names
        .iter()
        .flatten()
        .any(|name| name.dnsname().is_some() || name.ipaddress().is_some());
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
    match X509::stack_from_pem(&read(path)?) {
        Ok(certificates) if certificates.is_empty() => {
            Err(TlsError::NoCertificate(path.to_owned()))
        }
        result => result.map_err(|stack| unusable("the certificates", path, stack)),
    }
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
            TlsError::EncryptedKey(path.to_owned())
        } else {
            unusable("the key", path, stack)
        }
    })
}

fn unusable(what: &'static str, path: &Path, stack: ErrorStack) -> TlsError {
    TlsError::Content {
        what,
        path: path.to_owned(),
        source: OpensslError(stack),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let read = || {
        let mut bytes = Vec::new();
        let mut file = File::open(path)?.take(MAX_FILE_BYTES);
        file.read_to_end(&mut bytes)?;
        if file.limit() == 0 {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(bytes)
    };
    read().map_err(|source| TlsError::Read {
        path: path.to_owned(),
        source,
    })
}
