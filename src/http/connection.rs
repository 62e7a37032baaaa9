//! One connection: request heads in, responses out, each within its time limit.
//!
//! Knows bytes and the framing of HTTP/1.1, and nothing of TLS, routes, tokens or notifications.

use std::io::{self, Read};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::request::{self, RequestHead};
use super::stream::{Stream, is_timeout};
use super::{HttpError, Response};

/// From the start of a connection to the end of the first head, TLS handshake included; from the first byte of a later head to
/// its last byte.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// For a whole response.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// After the last response, input is still read and discarded for this time and up to this size: closing a socket with
/// unread input sends a reset, which can destroy the response before the sender has read it.
const LINGER_TIMEOUT: Duration = Duration::from_secs(5);
const MAX_LINGER_BYTES: usize = 64 << 20;

/// The first read goes to a buffer of this size on the stack, so that an idle connection holds no heap memory. A request with
/// one alert fits.
const FIRST_READ_BYTES: usize = 4 << 10;

const READ_BYTES: usize = 16 << 10;

/// A connection with the input that has been read and not been consumed.
#[derive(Debug)]
pub struct Connection {
    pub(super) stream: Stream,
    pub(super) buffer: Vec<u8>,
    date: Date,
}

impl Connection {
    /// A connection whose first request is next.
    pub fn new(stream: Stream) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
            date: Date::default(),
        }
    }

    /// Waits for the first byte of the next request.
    pub fn wait_for_request(&mut self, deadline: Instant) -> io::Result<()> {
        if self.buffer.is_empty() {
            self.release_buffer();
            let mut first = [0; FIRST_READ_BYTES];
            let count = self.stream.read(&mut first, deadline)?;
            self.buffer.extend_from_slice(&first[..count]);
        }
        Ok(())
    }

    /// Reads the head of the request that has begun. After an I/O error no response is possible.
    pub fn read_head(&mut self, deadline: Instant) -> io::Result<Result<RequestHead, HttpError>> {
        let mut seen = 0;
        loop {
            // Parsing again is useless before another line is complete.
            if self.buffer[seen..].contains(&b'\n')
                || self.buffer.len() >= request::MAX_BYTES
                || seen == 0
            {
                match request::parse(&self.buffer) {
                    Ok(Some((head, length))) => {
                        self.buffer.drain(..length);
                        return Ok(Ok(head));
                    }
                    Ok(None) => {}
                    Err(error) => return Ok(Err(error.into())),
                }
            }
            seen = self.buffer.len();
            match self.fill(deadline) {
                Ok(()) => {}
                Err(error) if is_timeout(&error) => return Ok(Err(HttpError::HeadTooSlow)),
                Err(error) => return Err(error),
            }
        }
    }

    /// Writes a response, without its body where the request was a HEAD.
    pub fn write(
        &mut self,
        response: &Response,
        keep_alive: bool,
        with_body: bool,
    ) -> io::Result<()> {
        let mut bytes = format!(
            concat!(
                "HTTP/1.1 {} {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nDate: {}\r\nServer: ",
                env!("CARGO_PKG_NAME"),
                "\r\n"
            ),
            response.status,
            reason_phrase(response.status),
            response.content_type,
            response.body.len(),
            self.date.now(),
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
        self.stream.write_all(bytes, Instant::now() + WRITE_TIMEOUT)
    }

    /// Closes the connection at once.
    pub fn end(self) {
        let _ = self.stream.end_output();
    }

    /// Closes the connection after the sender has had time to read the last response.
    pub fn close(self) {
        let Ok(mut socket) = self.stream.end_output() else {
            return;
        };
        socket.set_deadline(Instant::now() + LINGER_TIMEOUT);
        let mut discarded = vec![0; READ_BYTES];
        let mut drained = 0;
        while drained < MAX_LINGER_BYTES {
            match socket.read(&mut discarded) {
                Ok(count) if count > 0 => drained += count,
                _ => return,
            }
        }
    }

    /// Appends at least a byte to the buffer.
    pub(super) fn fill(&mut self, deadline: Instant) -> io::Result<()> {
        self.stream
            .read_into(&mut self.buffer, READ_BYTES, deadline)?;
        Ok(())
    }

    /// Frees the buffer if it is empty: a connection that waits holds no memory.
    pub(super) fn release_buffer(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = Vec::new();
        }
    }
}

/// The value of the `Date` header, formatted once a second.
#[derive(Debug, Default)]
struct Date {
    second: i64,
    text: String,
}

impl Date {
    fn now(&mut self) -> &str {
        let now = Timestamp::now();
        if self.text.is_empty() || self.second != now.as_second() {
            (self.second, self.text) = (
                now.as_second(),
                now.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string(),
            );
        }
        &self.text
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
