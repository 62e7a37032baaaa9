//! One connection: requests in, responses out, each within its time limit.
//!
//! Knows bytes and the framing of HTTP/1.1, and nothing of TLS, routes, tokens or notifications.

use std::io::{self, BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;

use super::request::{self, Framing, RequestHead};
use super::slots::SlotGuard;
use super::stream::{DeadlineSocket, Stream, is_timeout};
use super::{HttpError, Response};

/// From the start of a connection to the end of the first head, TLS handshake included; from the first byte of a later head to
/// its last byte.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// For a whole response.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// After the last response, input is still read and discarded for this time and up to this size: closing a socket with
/// unread input sends a reset, which can destroy the response before the sender has read it.
pub const LINGER_TIMEOUT: Duration = Duration::from_secs(5);
const MAX_LINGER_BYTES: u64 = 64 << 20;

/// The input of a connection is read in steps of this size, unless it is a body. A request with one alert fits.
const BUFFER_BYTES: usize = 4 << 10;

/// A connection, with its slot and the input that has been read and not been consumed.
#[derive(Debug)]
pub struct Connection {
    pub(super) reader: BufReader<Stream>,
    /// What is left of the body of the current request. `None` where it is not known where the next request begins.
    pub(super) body: Option<Framing>,
    /// The address of the sender.
    pub peer: SocketAddr,
    /// Given back once it is closed.
    pub slot: SlotGuard,
}

impl Connection {
    /// A connection whose first request is next, without TLS.
    pub fn new(socket: Arc<TcpStream>, peer: SocketAddr, slot: SlotGuard) -> Self {
        let stream = Stream::Plain(DeadlineSocket::new(socket, HEAD_TIMEOUT));
        Self {
            reader: BufReader::with_capacity(BUFFER_BYTES, stream),
            body: None,
            peer,
            slot,
        }
    }

    /// Limits the time of all reads from now on, until a response is written.
    pub fn set_timeout(&mut self, timeout: Duration) {
        self.reader.get_mut().set_timeout(timeout);
    }

    /// Waits for the first byte of the next request.
    pub fn wait_for_request(&mut self) -> io::Result<()> {
        self.reader.fill_buf().map(drop)
    }

    /// Reads the head of the request that has begun. After an I/O error no response is possible.
    pub fn read_head(&mut self) -> io::Result<Result<RequestHead, HttpError>> {
        let mut bytes = Vec::new();
        loop {
            let input = match self.reader.fill_buf() {
                Ok(input) => input,
                Err(error) if is_timeout(&error) => return Ok(Err(HttpError::HeadTooSlow)),
                Err(error) => return Err(error),
            };
            let (seen, new) = (bytes.len(), input.len());
            bytes.extend_from_slice(input);
            // Parsing again is useless before another line is complete.
            if seen == 0 || bytes[seen..].contains(&b'\n') || bytes.len() >= request::MAX_BYTES {
                match request::parse(&bytes) {
                    Ok(Some((head, length))) => {
                        self.reader.consume(length - seen);
                        self.body = Some(head.framing);
                        return Ok(Ok(head));
                    }
                    Ok(None) => {}
                    Err(error) => return Ok(Err(error.into())),
                }
            }
            self.reader.consume(new);
        }
    }

    /// Writes a response, without its body where the request was a HEAD.
    pub fn write(
        &mut self,
        response: &Response,
        keep_alive: bool,
        with_body: bool,
    ) -> io::Result<()> {
        let date = DateTimePrinter::new().timestamp_to_rfc9110_string(&Timestamp::now());
        let mut bytes = format!(
            "HTTP/1.1 {} {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nDate: {}\r\nServer: {}\r\n",
            response.status,
            reason_phrase(response.status),
            response.content_type,
            response.body.len(),
            date.unwrap_or_default(),
            env!("CARGO_PKG_NAME"),
        );
        for (name, value) in &response.headers {
            bytes.push_str(&format!("{name}: {value}\r\n"));
        }
        bytes.push_str(if keep_alive {
            "\r\n"
        } else {
            "Connection: close\r\n\r\n"
        });
        if with_body {
            bytes.push_str(&response.body);
        }
        self.write_all(bytes.as_bytes())
    }

    pub(super) fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.set_timeout(WRITE_TIMEOUT);
        self.reader.get_mut().write_all(bytes)
    }

    /// Whether the sender has closed the connection.
    pub fn is_sender_gone(&mut self) -> bool {
        self.reader.get_mut().is_closed_by_peer()
    }

    /// Closes the connection. The sender has some time to read the last response before that.
    pub fn close(self, linger: Duration) {
        if let Ok(socket) = self.reader.into_inner().end_output(linger) {
            let _ = io::copy(&mut socket.take(MAX_LINGER_BYTES), &mut io::sink());
        }
    }
}

fn reason_phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        422 => "Unprocessable Content",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "Unknown",
    }
}
