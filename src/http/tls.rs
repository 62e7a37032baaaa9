//! TLS with senders: the certificate and the demands of the listener, and the handshake.
//!
//! Knows certificates, and nothing of HTTP. OpenSSL allocates what a handshake message
//! announces, up to 128 KiB, before anything of it has arrived: the number of handshakes is limited (`slots.rs`). Sessions are
//! not resumed, so that neither side keeps any, and a changed certificate or authority counts for every new connection.

use std::io;
use std::path::Path;

use jiff::Timestamp;
use openssl::ssl::{
    Ssl, SslContext, SslMethod, SslMode, SslOptions, SslSessionCacheMode, SslStream, SslVerifyMode,
};

use super::connection::HEAD_TIMEOUT;
use super::stream::{DeadlineSocket, is_timeout};
use crate::tls::{self, OwnCertificate, TlsError};

/// A warning is due this long before a certificate expires.
const EXPIRY_WARNING_SECONDS: i64 = 30 * 86_400;

const NO_ALTERNATIVE_NAME: &str = "the certificate has no host name or address as subjectAltName: Alertmanager, Prometheus and Grafana refuse it, as they \
    ignore the common name; issue it again with subjectAltName=DNS:NAME, where NAME is the host in the senders' URL";

/// The listener's side of TLS. Copies share it.
#[derive(Debug, Clone)]
pub struct ServerTls {
    context: SslContext,
    /// The certificate that it presents.
    pub certificate: OwnCertificate,
}

/// Why TLS was not established.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The handshake was not complete at the deadline.
    #[error("TLS handshake not complete within {HEAD_TIMEOUT:?}")]
    TooSlow,
    /// The handshake failed.
    #[error("TLS handshake failed: {0}{hint}", hint = hint(&.0.to_string()))]
    Failed(io::Error),
}

impl ServerTls {
    /// Reads the certificate with its chain, and its key. With the authorities of clients, every client has to present a
    /// certificate that one of them has issued.
    pub fn load(cert: &Path, key: &Path, client_ca: Option<&Path>) -> Result<Self, TlsError> {
        let mut context = SslContext::builder(SslMethod::tls_server())?;
        tls::require_tls_1_2(&mut context)?;
        context.set_options(SslOptions::NO_RENEGOTIATION | SslOptions::NO_TICKET);
        context.set_session_cache_mode(SslSessionCacheMode::OFF);
        context.set_num_tickets(0)?;
        // An idle connection holds no buffers.
        context.set_mode(SslMode::RELEASE_BUFFERS);
        let certificate = tls::use_identity(&mut context, cert, key)?;
        if let Some(path) = client_ca {
            context.set_cert_store(tls::authorities(path)?);
            context.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
        }
        Ok(Self {
            context: context.build(),
            certificate,
        })
    }

    /// Until when its certificate is valid, and whether it requires those of clients.
    pub fn summary(&self) -> String {
        // A time beyond the calendar's end is not worth an error.
        let expiry = Timestamp::from_second(self.certificate.expires_at).unwrap_or(Timestamp::MAX);
        let of_clients = if self.context.verify_mode().contains(SslVerifyMode::PEER) {
            ", client certificates are required"
        } else {
            ""
        };
        format!("on, certificate expires {expiry}{of_clients}")
    }

    /// Why senders refuse the certificate, or will soon. `now` is a Unix time.
    pub fn warnings(&self, now: i64) -> Vec<String> {
        let mut warnings = Vec::from_iter(expiry_warning(self.certificate.expires_at, now));
        if !self.certificate.has_alternative_name {
            warnings.push(NO_ALTERNATIVE_NAME.to_owned());
        }
        warnings
    }

    /// Does the handshake, until the socket's deadline.
    pub fn accept(
        &self,
        socket: DeadlineSocket,
    ) -> Result<SslStream<DeadlineSocket>, HandshakeError> {
        let ssl = Ssl::new(&self.context).map_err(io::Error::from);
        let accepted = ssl.and_then(|ssl| ssl.accept(socket).map_err(tls::handshake_error));
        accepted.map_err(|error| {
            if is_timeout(&error) {
                HandshakeError::TooSlow
            } else {
                HandshakeError::Failed(error)
            }
        })
    }
}

/// What to change after a failure, in parentheses.
fn hint(reason: &str) -> &'static str {
    // The alerts with which OpenSSL, Go and Java refuse a certificate.
    let refusals = [
        "alert unknown ca",
        "alert bad certificate",
        "alert certificate expired",
        "alert certificate unknown",
    ];
    if refusals.iter().any(|alert| reason.contains(alert)) {
        " (the sender refuses the certificate: check http.tls.cert_file, and ca_file and the host name in the sender's configuration)"
    } else if reason.contains("did not return a certificate") {
        " (http.tls.client_ca_file requires a client certificate: set cert_file and key_file in the sender's tls_config)"
    } else if reason.contains("certificate verify failed") {
        " (the client certificate is not valid for http.tls.client_ca_file)"
    } else {
        ""
    }
}

/// A warning where a certificate has expired or soon will; both times are Unix times.
fn expiry_warning(expires_at: i64, now: i64) -> Option<String> {
    let left = expires_at - now;
    if left <= 0 {
        Some("the certificate has expired; senders that verify it cannot connect".to_owned())
    } else if left <= EXPIRY_WARNING_SECONDS {
        Some(format!("the certificate expires in {} days", left / 86_400))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_that_expires_within_30_days_is_warned_about() {
        let day = 86_400;
        for (left, warning) in [
            (-1, Some("the certificate has expired; senders")),
            (0, Some("the certificate has expired; senders")),
            (1, Some("the certificate expires in 0 days")),
            (29 * day, Some("the certificate expires in 29 days")),
            (30 * day, Some("the certificate expires in 30 days")),
            (30 * day + 1, None),
        ] {
            let text = expiry_warning(1_000_000_000 + left, 1_000_000_000);
            assert_eq!(text.is_some(), warning.is_some(), "{left}: {text:?}");
            assert!(
                text.unwrap_or_default()
                    .starts_with(warning.unwrap_or_default())
            );
        }
    }

    #[test]
    fn a_failed_handshake_names_what_to_change() {
        for (reason, part) in [
            ("tlsv1 alert unknown ca", "check http.tls.cert_file"),
            ("sslv3 alert bad certificate", "check http.tls.cert_file"),
            (
                "sslv3 alert certificate expired",
                "check http.tls.cert_file",
            ),
            (
                "peer did not return a certificate",
                "cert_file and key_file",
            ),
            (
                "certificate verify failed (certificate has expired)",
                "client_ca_file",
            ),
            ("unsupported protocol", ""),
        ] {
            assert_eq!(hint(reason).is_empty(), part.is_empty(), "{reason}");
            assert!(hint(reason).contains(part), "{reason}");
        }
    }
}
