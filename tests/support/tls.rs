//! HTTPS in tests: an authority, the certificates that it issued, and clients that trust it.

use std::path::PathBuf;

use super::TempDir;
use super::certificates::{Identity, Subject};
use super::http::Tls;

/// A directory with an authority and the certificates that it issued, removed at the end of the test.
pub struct Authority {
    pub dir: TempDir,
    pub root: Identity,
}

impl Authority {
    /// Issues the certificate `server` for localhost.
    pub fn new() -> Self {
        let dir = TempDir::new("certificates");
        let root = Identity::root("test authority");
        root.write(dir.path(), "ca");
        let authority = Self { dir, root };
        authority.issue("server", Subject::host("localhost"));
        authority
    }

    pub fn ca(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// The paths of a new certificate, `NAME.pem`, and its key, `NAME-key.pem`.
    pub fn issue(&self, name: &str, subject: Subject<'_>) -> (PathBuf, PathBuf) {
        self.root.issue(subject).write(self.dir.path(), name)
    }

    /// A client that trusts this authority.
    pub fn tls(&self) -> Tls {
        Tls::trusting(&self.ca(), "localhost")
    }

    /// The setting `http.tls` with a certificate and more keys.
    pub fn setting(&self, name: &str, more: &str) -> String {
        let dir = self.dir.path().display();
        format!("tls: {{cert_file: '{dir}/{name}.pem', key_file: '{dir}/{name}-key.pem', {more}}}")
    }
}
