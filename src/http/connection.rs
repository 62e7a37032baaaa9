//! One connection: request heads in, responses out, each within its time limit.
//!
//! Knows bytes, sockets and the framing of HTTP/1.1, and nothing of routes, tokens or notifications.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::Response;
use super::request::{self, InvalidRequest, RequestHead};

/// From the first byte of a head (or the start of the connection) to its last byte.
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

/// A socket timeout that is longer than required by at most this much is left as it is: setting it costs as much as a read.
const TIMEOUT_SLACK: Duration = Duration::from_secs(1);

/// A connection with the input that has been read and not been consumed.
#[derive(Debug)]
pub struct Connection {
    socket: Arc<TcpStream>,
    pub(super) buffer: Vec<u8>,
    /// The timeouts that are set on the socket.
    read_timeout: Option<Duration>,
    write_timeout: Option<Duration>,
    date: Date,
}

/// Why no request head was read.
#[derive(Debug)]
pub enum ReadRequestError {
    /// The connection has ended: there is no one to respond to.
    Closed(io::Error),
    /// The input is not a valid request.
    Invalid(InvalidRequest),
    /// The head was not complete within [`HEAD_TIMEOUT`].
    TooSlow,
}

impl Connection {
    /// Wraps an accepted socket.
    pub fn new(socket: Arc<TcpStream>) -> Self {
        Self {
            socket,
            buffer: Vec::new(),
            read_timeout: None,
            write_timeout: None,
            date: Date::default(),
        }
    }

    /// Waits for the first byte of the next request.
    pub fn wait_for_request(&mut self, timeout: Duration) -> io::Result<()> {
        if self.buffer.is_empty() {
            self.release_buffer();
            let mut first = [0; FIRST_READ_BYTES];
            let count = self.read(&mut first, timeout)?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.buffer.extend_from_slice(&first[..count]);
        }
        Ok(())
    }

    /// Reads the head of the request that has begun.
    pub fn read_head(&mut self) -> Result<RequestHead, ReadRequestError> {
        let deadline = Instant::now() + HEAD_TIMEOUT;
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
                        return Ok(head);
                    }
                    Ok(None) => {}
                    Err(error) => return Err(ReadRequestError::Invalid(error)),
                }
            }
            seen = self.buffer.len();
            match self.fill(deadline) {
                Ok(0) => {
                    let error = io::ErrorKind::UnexpectedEof.into();
                    return Err(ReadRequestError::Closed(error));
                }
                Ok(_) => {}
                Err(error) if is_timeout(&error) => return Err(ReadRequestError::TooSlow),
                Err(error) => return Err(ReadRequestError::Closed(error)),
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

    pub(super) fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let deadline = Instant::now() + WRITE_TIMEOUT;
        while !bytes.is_empty() {
            let left = time_until(deadline)?;
            ensure_timeout(&mut self.write_timeout, left, |timeout| {
                self.socket.set_write_timeout(timeout)
            })?;
            match (&*self.socket).write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Closes the connection after the sender has had time to read the last response.
    pub fn close(mut self) {
        if self.socket.shutdown(Shutdown::Write).is_err() {
            return;
        }
        let deadline = Instant::now() + LINGER_TIMEOUT;
        let mut drained = 0;
        while drained < MAX_LINGER_BYTES {
            self.buffer.clear();
            match self.fill(deadline) {
                Ok(count) if count > 0 => drained += count,
                _ => return,
            }
        }
    }

    /// Appends at least a byte to the buffer; 0 at the end of the input.
    pub(super) fn fill(&mut self, deadline: Instant) -> io::Result<usize> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let result = self.read_into(&mut buffer, READ_BYTES, deadline);
        self.buffer = buffer;
        result
    }

    /// Appends at least a byte and at most `count` bytes; 0 at the end of the input.
    pub(super) fn read_into(
        &mut self,
        bytes: &mut Vec<u8>,
        count: usize,
        deadline: Instant,
    ) -> io::Result<usize> {
        let old = bytes.len();
        bytes.resize(old + count, 0);
        let result = time_until(deadline).and_then(|left| self.read(&mut bytes[old..], left));
        bytes.truncate(old + result.as_ref().copied().unwrap_or(0));
        result
    }

    /// Frees the buffer if it is empty: a connection that waits holds no memory.
    pub(super) fn release_buffer(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = Vec::new();
        }
    }

    /// Whether the sender has closed its side and everything before that has been read. Does not block.
    pub(super) fn is_closed_by_peer(&self) -> bool {
        let peeked = self
            .socket
            .set_nonblocking(true)
            .and_then(|()| self.socket.peek(&mut [0]));
        let restored = self.socket.set_nonblocking(false);
        match peeked {
            Ok(count) => count == 0 || restored.is_err(),
            Err(error) => error.kind() != io::ErrorKind::WouldBlock || restored.is_err(),
        }
    }

    fn read(&mut self, buffer: &mut [u8], timeout: Duration) -> io::Result<usize> {
        ensure_timeout(&mut self.read_timeout, timeout, |timeout| {
            self.socket.set_read_timeout(timeout)
        })?;
        loop {
            match (&*self.socket).read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
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

/// Sets a timeout, unless the current one is neither shorter nor more than [`TIMEOUT_SLACK`] longer.
fn ensure_timeout(
    current: &mut Option<Duration>,
    required: Duration,
    apply: impl FnOnce(Option<Duration>) -> io::Result<()>,
) -> io::Result<()> {
    let excess = current.and_then(|current| current.checked_sub(required));
    if excess.is_some_and(|excess| excess <= TIMEOUT_SLACK) {
        return Ok(());
    }
    apply(Some(required))?;
    *current = Some(required);
    Ok(())
}

fn time_until(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    // A socket timeout of zero means no limit.
    if left.is_zero() {
        Err(io::ErrorKind::TimedOut.into())
    } else {
        Ok(left)
    }
}

pub(super) fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_set_where_the_current_one_is_too_short_or_much_too_long() {
        let (limit, nanosecond) = (Duration::from_secs(10), Duration::from_nanos(1));
        for (current, is_set) in [
            (None, true),
            (Some(limit), false),
            (Some(limit + TIMEOUT_SLACK), false),
            (Some(limit + TIMEOUT_SLACK + nanosecond), true),
            (Some(Duration::from_secs(9)), true),
            (Some(Duration::from_mins(6)), true),
        ] {
            let (mut after, mut applied) = (current, None);
            ensure_timeout(&mut after, limit, |timeout| {
                applied = timeout;
                Ok(())
            })
            .unwrap();
            assert_eq!(applied, is_set.then_some(limit), "{current:?}");
            assert_eq!(
                after,
                if is_set { Some(limit) } else { current },
                "{current:?}"
            );
        }
        let mut failed = None;
        let result = ensure_timeout(&mut failed, limit, |_| {
            Err(io::ErrorKind::InvalidInput.into())
        });
        assert!(result.is_err());
        assert_eq!(failed, None);
    }
}
