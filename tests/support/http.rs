//! An HTTP/1.1 client that keeps its connection, as Alertmanager does.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use openssl::ssl::{SslConnector, SslMethod, SslStream, SslVersion};
use serde_json::Value;

use super::{AUTHORIZATION, TIMEOUT};

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
        let headers = self.head.lines().filter_map(|line| line.split_once(": "));
        headers
            .filter(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
            .next()
    }

    /// A whole number on the page of the metrics: `NAME` or `NAME{LABELS}`, without the connector's prefix.
    pub fn metric(&self, name: &str) -> i64 {
        let is_own = !name.starts_with("process_");
        let prefix = if is_own { "canopsis_connector_" } else { "" };
        let sample = format!("{prefix}{name} ");
        let mut lines = self.body.lines();
        let value = lines.find_map(|line| line.strip_prefix(&sample));
        let value = value.unwrap_or_else(|| panic!("no {sample:?} in {}", self.body));
        value.trim_end_matches(".0").parse().unwrap()
    }

    /// Asserts the status, and that the body contains a text.
    #[track_caller]
    pub fn assert(&self, status: u16, text: &str) {
        let is_expected = self.status == status && self.body.contains(text);
        assert!(is_expected, "{status} with {text:?} is expected: {self:?}");
    }
}

/// A connection, in plain or through TLS.
pub trait Stream: Read + Write + Send {
    fn socket(&self) -> &TcpStream;
}

impl Stream for TcpStream {
    fn socket(&self) -> &TcpStream {
        self
    }
}

impl Stream for SslStream<TcpStream> {
    fn socket(&self) -> &TcpStream {
        self.get_ref()
    }
}

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

/// A connection to a server, on which a test writes what it likes.
pub struct Peer(BufReader<Box<dyn Stream>>);

impl Peer {
    /// Connects, and does the TLS handshake where there is one. The timeout is that of each read.
    pub fn connect(address: SocketAddr, tls: Option<&Tls>, timeout: Duration) -> io::Result<Self> {
        let socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(timeout))?;
        let stream: Box<dyn Stream> = match tls {
            Some(tls) => tls.connect(socket)?,
            None => Box::new(socket),
        };
        Ok(Self(BufReader::new(stream)))
    }

    pub fn socket(&self) -> &TcpStream {
        self.0.get_ref().socket()
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.0.get_mut().write_all(bytes.as_ref())
    }

    /// Reads one response.
    pub fn response(&mut self) -> io::Result<Response> {
        read_response(&mut self.0)
    }

    /// What comes until the server closes the connection, or before the error.
    pub fn rest(&mut self) -> Result<Vec<u8>, (Vec<u8>, io::Error)> {
        let mut rest = Vec::new();
        match self.0.read_to_end(&mut rest) {
            Ok(_) => Ok(rest),
            Err(error) => Err((rest, error)),
        }
    }
}

/// A request to the webhook with the token, up to its body. The lines end with CR LF.
pub fn webhook_head(lines: &str) -> String {
    format!("POST /webhook HTTP/1.1\r\nHost: h\r\n{AUTHORIZATION}\r\n{lines}\r\n")
}

/// A notification as a whole request.
pub fn webhook_request(body: &str) -> String {
    webhook_head(&format!("Content-Length: {}\r\n", body.len())) + body
}

pub struct Client {
    address: SocketAddr,
    tls: Option<Tls>,
    connection: Option<Peer>,
    timeout: Duration,
}

impl Client {
    pub fn new(address: SocketAddr) -> Self {
        Self::with_tls(address, None)
    }

    /// Speaks TLS where it is given.
    pub fn with_tls(address: SocketAddr, tls: Option<Tls>) -> Self {
        Self {
            address,
            tls,
            connection: None,
            timeout: TIMEOUT,
        }
    }

    /// Sets the timeout of each read.
    pub fn with_timeout(mut self, seconds: u64) -> Self {
        self.timeout = Duration::from_secs(seconds);
        self
    }

    /// Posts a notification with the right token.
    pub fn post(&mut self, body: &str) -> io::Result<Response> {
        let headers = [AUTHORIZATION, "Content-Type: application/json"];
        self.send("POST", "/webhook", &headers, body.as_bytes())
    }

    /// Sends a request and reads its response. After an error, the next request uses a new connection.
    pub fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[&str],
        body: &[u8],
    ) -> io::Result<Response> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => Peer::connect(self.address, self.tls.as_ref(), self.timeout)?,
        };
        let mut request = format!("{method} {path} HTTP/1.1\r\nHost: test\r\n");
        for header in headers {
            request.push_str(&format!("{header}\r\n"));
        }
        if !body.is_empty() || method == "POST" {
            request.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        // A server that rejects a long body may respond and close before it has read all of it.
        let written = connection.send([request.as_bytes(), b"\r\n", body].concat());
        let response = connection.response();
        let response = response.map_err(|error| written.err().unwrap_or(error))?;
        if response.header("connection") != Some("close") {
            self.connection = Some(connection);
        }
        Ok(response)
    }
}

/// Reads one response, whose body has a Content-Length or is empty.
pub fn read_response(connection: &mut impl BufRead) -> io::Result<Response> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if connection.read_line(&mut head)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let mut response = Response {
        status: head.split(' ').nth(1).unwrap().parse().unwrap(),
        head,
        body: String::new(),
    };
    let length = response.header("content-length").unwrap_or("0");
    let mut body = vec![0; length.parse().unwrap()];
    connection.read_exact(&mut body)?;
    response.body = String::from_utf8(body).unwrap();
    Ok(response)
}
