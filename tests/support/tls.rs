//! HTTPS in tests: an authority, the certificates that it issued, and clients that trust it.

use std::path::PathBuf;

use super::certificates::{Identity, Subject};
use super::http::Tls;
use super::temp_path;

/// A directory with an authority and the certificates that it issued, removed at the end of the test.
pub struct Authority {
    pub dir: PathBuf,
    pub root: Identity,
}

impl Authority {
    /// Issues the certificate `server` for localhost.
    pub fn new() -> Self {
        let dir = temp_path("certificates");
        let root = Identity::root("test authority");
        root.write(&dir, "ca");
        let authority = Self { dir, root };
        authority.issue("server", Subject::host("localhost"));
        authority
    }

    pub fn ca(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// The paths of a new certificate, `NAME.pem`, and its key, `NAME-key.pem`.
    pub fn issue(&self, name: &str, subject: Subject<'_>) -> (PathBuf, PathBuf) {
        self.root.issue(subject).write(&self.dir, name)
    }

    /// A client that trusts this authority.
    pub fn tls(&self) -> Tls {
        Tls::trusting(&self.ca(), "localhost")
    }

    /// The setting `http.tls` with a certificate and more keys.
    pub fn setting(&self, name: &str, more: &str) -> String {
        let dir = self.dir.display();
        format!("tls: {{cert_file: '{dir}/{name}.pem', key_file: '{dir}/{name}-key.pem', {more}}}")
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}
