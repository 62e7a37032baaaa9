//! An HTTP/1.1 client that keeps its connection, as Alertmanager does.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use openssl::ssl::{SslConnector, SslMethod, SslVersion};
use serde_json::Value;

use super::{TIMEOUT, TOKEN};

#[derive(Debug, Clone)]
pub struct Response {
    pub status: u16,
    /// The status line and the headers.
    pub head: String,
    pub body: String,
}

impl Response {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let find = |line: &'_ str| {
            line.split_once(": ")
                .is_some_and(|(known, _)| known.eq_ignore_ascii_case(name))
        };
        self.head
            .lines()
            .find(|line| find(line))
            .and_then(|line| line.split_once(": "))
            .map(|(_, value)| value)
    }
}

/// A connection, in plain or through TLS.
pub trait Stream: Read + Write + Send {}

impl<S: Read + Write + Send> Stream for S {}

/// What a client uses for TLS.
#[derive(Clone)]
pub struct Tls {
    pub connector: SslConnector,
    /// The name that the server's certificate must have.
    pub host: String,
}

impl Tls {
    /// Trusts these authorities (PEM), and expects this name.
    pub fn trusting(ca: &Path, host: &str) -> Self {
        Self::with(ca, host, None, None)
    }

    /// With a certificate and its key (PEM), and with at most this version.
    pub fn with(
        ca: &Path,
        host: &str,
        identity: Option<&(PathBuf, PathBuf)>,
        version: Option<SslVersion>,
    ) -> Self {
        let mut connector = SslConnector::builder(SslMethod::tls_client()).unwrap();
        connector.set_ca_file(ca).unwrap();
        if let Some((cert, key)) = identity {
            connector.set_certificate_chain_file(cert).unwrap();
            connector
                .set_private_key_file(key, openssl::ssl::SslFiletype::PEM)
                .unwrap();
        }
        connector.set_max_proto_version(version).unwrap();
        Self {
            connector: connector.build(),
            host: host.to_owned(),
        }
    }

    /// Does the handshake.
    pub fn connect(&self, stream: TcpStream) -> io::Result<Box<dyn Stream>> {
        match self.connector.connect(&self.host, stream) {
            Ok(stream) => Ok(Box::new(stream)),
            Err(error) => Err(io::Error::other(error.to_string())),
        }
    }
}

pub struct Client {
    address: SocketAddr,
    tls: Option<Tls>,
    connection: Option<BufReader<Box<dyn Stream>>>,
    timeout: Duration,
}

impl Client {
    pub fn new(address: SocketAddr) -> Self {
        Self {
            address,
            tls: None,
            connection: None,
            timeout: TIMEOUT,
        }
    }

    /// Speaks TLS where it is given.
    pub fn with_tls(address: SocketAddr, tls: Option<Tls>) -> Self {
        Self {
            tls,
            ..Self::new(address)
        }
    }

    /// Sets the timeout of each read.
    pub fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = timeout;
    }

    /// Posts a notification with the right token.
    pub fn post(&mut self, body: &str) -> io::Result<Response> {
        let authorization = format!("Authorization: Bearer {TOKEN}");
        self.send(
            "POST",
            "/webhook",
            &[&authorization, "Content-Type: application/json"],
            body.as_bytes(),
        )
    }

    /// Sends a request and reads its response. After an error, the next request uses a new connection.
    pub fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[&str],
        body: &[u8],
    ) -> io::Result<Response> {
        let response = self.try_send(method, path, headers, body);
        let is_over = |response: &Response| response.header("connection") == Some("close");
        if response.as_ref().map_or(true, is_over) {
            self.connection = None;
        }
        response
    }

    fn try_send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[&str],
        body: &[u8],
    ) -> io::Result<Response> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => {
                let stream = TcpStream::connect(self.address)?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(self.timeout))?;
                let stream: Box<dyn Stream> = match &self.tls {
                    Some(tls) => tls.connect(stream)?,
                    None => Box::new(stream),
                };
                none.insert(BufReader::new(stream))
            }
        };
        let mut request = format!("{method} {path} HTTP/1.1\r\nHost: test\r\n");
        for header in headers {
            request.push_str(&format!("{header}\r\n"));
        }
        if !body.is_empty() || method == "POST" {
            request.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        let mut bytes = (request + "\r\n").into_bytes();
        bytes.extend_from_slice(body);
        // A server that rejects a long body may respond and close before it has read all of it.
        let written = connection.get_mut().write_all(&bytes);
        read_response(connection).map_err(|error| written.err().unwrap_or(error))
    }
}

/// Reads one response, whose body has a Content-Length or is empty.
pub fn read_response(connection: &mut impl BufRead) -> io::Result<Response> {
    let mut head = String::new();
    loop {
        let mut line = String::new();
        if connection.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if line == "\r\n" {
            break;
        }
        head.push_str(&line.replace("\r\n", "\n"));
    }
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .unwrap();
    let mut response = Response {
        status,
        head,
        body: String::new(),
    };
    let length = response
        .header("content-length")
        .and_then(|length| length.parse().ok())
        .unwrap_or(0);
    let mut body = vec![0; length];
    connection.read_exact(&mut body)?;
    response.body = String::from_utf8(body).unwrap();
    Ok(response)
}
