//! TLS to the broker: the trusted authorities, and the connector's own certificate.

use std::io;
use std::io::{Read, Write};
use std::net::IpAddr;
use std::path::PathBuf;

use openssl::error::ErrorStack;
use openssl::ssl::{Ssl, SslContext, SslMethod, SslStream, SslVerifyMode};
use openssl::x509::verify::X509CheckFlags;

use crate::tls::{self, TlsError};

/// PEM files, all optional. They are read for each connection, so that a renewed certificate is used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// The authorities to trust instead of the system's.
    pub ca: Option<PathBuf>,
    /// The client certificate, with its chain.
    pub cert: Option<PathBuf>,
    /// The client certificate's key, not encrypted.
    pub key: Option<PathBuf>,
}

/// Starts TLS with brokers.
pub struct TlsConnector(SslContext);

impl TlsFiles {
    /// Reads the files. Certificates and host names are always verified.
    pub fn connector(&self) -> Result<TlsConnector, TlsError> {
        let mut context = SslContext::builder(SslMethod::tls_client())?;
        tls::require_tls_1_2(&mut context)?;
        context.set_verify(SslVerifyMode::PEER);
        match &self.ca {
            Some(path) => context.set_cert_store(tls::authorities(path)?),
            None => context.set_default_verify_paths()?,
        }
        match (&self.cert, &self.key) {
            (None, None) => {}
            (Some(cert), Some(key)) => {
                tls::use_identity(&mut context, cert, key)?;
            }
            _ => return Err(TlsError::IncompleteIdentity),
        }
        Ok(TlsConnector(context.build()))
    }
}

impl TlsConnector {
    /// Does the handshake with the host, whose name or address must be in its certificate.
    pub fn connect<S: Read + Write>(&self, host: &str, stream: S) -> io::Result<SslStream<S>> {
        let ssl = self.session(host);
        let ssl = ssl.map_err(|stack| io::Error::other(tls::reasons(&stack)))?;
        ssl.connect(stream).map_err(tls::handshake_error)
    }

    fn session(&self, host: &str) -> Result<Ssl, ErrorStack> {
        let mut ssl = Ssl::new(&self.0)?;
        if let Ok(address) = host.parse::<IpAddr>() {
            ssl.param_mut().set_ip(address)?;
        } else {
            ssl.set_hostname(host)?;
            ssl.param_mut().set_host(host)?;
        }
        ssl.param_mut()
            .set_hostflags(X509CheckFlags::NO_PARTIAL_WILDCARDS);
        Ok(ssl)
    }
}
