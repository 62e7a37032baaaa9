//! TLS to the broker: the trusted authorities, and the connector's own certificate.

use std::net::IpAddr;
use std::path::PathBuf;

use openssl::ssl::{Ssl, SslContext, SslMethod, SslVerifyMode};
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

impl TlsFiles {
    /// Reads the files. Certificates and host names are always verified.
    pub fn context(&self) -> Result<SslContext, TlsError> {
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
        Ok(context.build())
    }

    /// For a handshake with the host, whose name or address must be in its certificate.
    pub fn session(&self, host: &str) -> Result<Ssl, TlsError> {
        let context = self.context()?;
        let mut ssl = Ssl::new(&context)?;
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
