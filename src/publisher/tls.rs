//! TLS to the broker: the trusted authorities, and the connector's own certificate.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use native_tls::{Certificate, Identity, TlsConnector};

/// PEM files, all optional. They are read for each connection, so that a renewed certificate is used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// The authorities to trust instead of the system's.
    pub ca: Option<PathBuf>,
    /// The client certificate, with its chain.
    pub cert: Option<PathBuf>,
    /// The client certificate's key: PKCS#8, not encrypted.
    pub key: Option<PathBuf>,
}

/// Why the files can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read.
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
        source: native_tls::Error,
    },
    /// The CA file holds no certificate.
    #[error("{} contains no PEM certificate", .0.display())]
    NoCertificate(PathBuf),
    /// Only one of certificate and key is given.
    #[error("cert_file and key_file must be set together")]
    IncompleteIdentity,
    /// A key in another format.
    #[error(
        "the key in {path} is not unencrypted PKCS#8; convert it with: openssl pkcs8 -topk8 -nocrypt -in {path} -out NEW",
        path = .0.display()
    )]
    KeyFormat(PathBuf),
    /// OpenSSL failed.
    #[error("cannot set up TLS: {0}")]
    Library(native_tls::Error),
}

impl TlsError {
    /// The file concerned, if any.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Read { path, .. }
            | Self::Content { path, .. }
            | Self::NoCertificate(path)
            | Self::KeyFormat(path) => Some(path),
            Self::IncompleteIdentity | Self::Library(_) => None,
        }
    }
}

impl TlsFiles {
    /// Reads the files. Certificates and host names are always verified.
    pub fn connector(&self) -> Result<TlsConnector, TlsError> {
        let mut builder = TlsConnector::builder();
        if let Some(path) = &self.ca {
            let pem = read(path)?;
            let what = "the certificates";
            let authorities =
                Certificate::stack_from_pem(&pem).map_err(|source| TlsError::Content {
                    what,
                    path: path.clone(),
                    source,
                })?;
            if authorities.is_empty() {
                return Err(TlsError::NoCertificate(path.clone()));
            }
            builder.disable_built_in_roots(true);
            for authority in authorities {
                builder.add_root_certificate(authority);
            }
        }
        match (&self.cert, &self.key) {
            (None, None) => {}
            (Some(cert), Some(key)) => {
                let key_pem = read(key)?;
                if !String::from_utf8_lossy(&key_pem).contains("-----BEGIN PRIVATE KEY-----") {
                    return Err(TlsError::KeyFormat(key.clone()));
                }
                let identity = Identity::from_pkcs8(&read(cert)?, &key_pem).map_err(|source| {
                    TlsError::Content {
                        what: "the certificate and its key",
                        path: cert.clone(),
                        source,
                    }
                })?;
                builder.identity(identity);
            }
            _ => return Err(TlsError::IncompleteIdentity),
        }
        builder.build().map_err(TlsError::Library)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|source| TlsError::Read {
        path: path.to_owned(),
        source,
    })
}
