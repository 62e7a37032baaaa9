//! Reads the body of a request, within its limits of size, time and memory.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::budget::{BodyBytes, Budget};
use super::connection::{Connection, is_timeout};
use super::request::{Framing, RequestHead};

/// From the head to the last byte of the body.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

const MAX_CHUNK_LINE_BYTES: usize = 256;
const MAX_TRAILER_LINES: usize = 64;

/// Why a body was not read.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// It is longer than the configuration allows.
    #[error("body exceeds {0} bytes (http.max_body_bytes)")]
    TooLong(usize),
    /// The connection ended before the body did.
    #[error("body not received completely: {0}")]
    Incomplete(io::Error),
    /// It did not arrive in time.
    #[error("body not received within {0:?}")]
    TooSlow(Duration),
    /// Its chunked encoding is invalid.
    #[error("invalid chunked body: {0}")]
    Malformed(&'static str),
    /// The memory for large bodies is in use.
    #[error("too many large bodies in progress")]
    Busy,
}

/// The body of the current request, which can be read once.
pub struct BodyReader<'c> {
    connection: &'c mut Connection,
    budget: &'c Arc<Budget>,
    on_complete: &'c mut dyn FnMut(),
    remaining: Framing,
    expects_continue: bool,
    deadline: Instant,
}

impl BodyReader<'_> {
    /// The sender has closed its connection.
    pub fn sender_is_gone(&self) -> bool {
        let socket = self.connection.socket();
        let _ = socket.set_nonblocking(true);
        let peeked = socket.peek(&mut [0]);
        let _ = socket.set_nonblocking(false);
        match peeked {
            Ok(count) => count == 0,
            Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
        }
    }
}

impl<'c> BodyReader<'c> {
    /// The body that belongs to a head; `on_complete` is called once all of it has been read.
    pub fn new(
        connection: &'c mut Connection,
        head: &RequestHead,
        budget: &'c Arc<Budget>,
        on_complete: &'c mut dyn FnMut(),
    ) -> Self {
        Self {
            connection,
            budget,
            on_complete,
            remaining: head.framing,
            expects_continue: head.expects_continue,
            deadline: Instant::now() + BODY_TIMEOUT,
        }
    }

    /// Reads all of it. Fails as soon as it is known to be longer than `limit` bytes.
    pub fn read(&mut self, limit: usize) -> Result<BodyBytes, BodyError> {
        let framing = self.remaining;
        let length = match framing {
            Framing::Length(length) => usize::try_from(length)
                .ok()
                .filter(|length| *length <= limit),
            Framing::Chunked => Some(0),
        };
        let length = length.ok_or(BodyError::TooLong(limit))?;
        // After a failure below, what follows is not the next request.
        self.remaining = Framing::Length(u64::MAX);
        self.send_continue()?;
        let mut body = BodyBytes::new(self.budget);
        match framing {
            // The usual case of a small notification: the buffer holds the whole body and nothing else.
            Framing::Length(_) if length == self.connection.buffer.len() => {
                let complete = std::mem::take(&mut self.connection.buffer);
                body = BodyBytes::of(self.budget, complete).ok_or(BodyError::Busy)?;
            }
            Framing::Length(_) => self.take(length, &mut body)?,
            Framing::Chunked => self.read_chunks(limit, &mut body)?,
        }
        self.remaining = Framing::Length(0);
        if self.connection.buffer.is_empty() {
            // A connection that waits for the broker holds no buffer, either.
            self.connection.buffer = Vec::new();
        }
        (self.on_complete)();
        Ok(body)
    }

    /// Whether the next byte belongs to the next request: the body has been read, or it is unread and already in the buffer.
    /// The rest of an unread body is not waited for.
    pub fn is_finished(&mut self) -> bool {
        if let Framing::Length(length) = self.remaining
            && let Ok(length) = usize::try_from(length)
            && length <= self.connection.buffer.len()
        {
            self.connection.buffer.drain(..length);
            self.remaining = Framing::Length(0);
        }
        self.remaining == Framing::Length(0)
    }

    fn read_chunks(&mut self, limit: usize, body: &mut BodyBytes) -> Result<(), BodyError> {
        loop {
            let line = self.read_line()?;
            let digits = line
                .split(|byte| *byte == b';')
                .next()
                .unwrap_or_default()
                .trim_ascii();
            let size = std::str::from_utf8(digits)
                .ok()
                .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
            let Some(size) = size.and_then(|digits| u64::from_str_radix(digits, 16).ok()) else {
                return Err(BodyError::Malformed("invalid chunk size"));
            };
            if size == 0 {
                break;
            }
            let size = usize::try_from(size)
                .ok()
                .filter(|size| *size <= limit - body.len())
                .ok_or(BodyError::TooLong(limit))?;
            self.take(size, body)?;
            if !self.read_line()?.is_empty() {
                return Err(BodyError::Malformed("chunk longer than its size"));
            }
        }
        for _ in 0..MAX_TRAILER_LINES {
            if self.read_line()?.is_empty() {
                return Ok(());
            }
        }
        Err(BodyError::Malformed("too many trailer lines"))
    }

    fn send_continue(&mut self) -> Result<(), BodyError> {
        if std::mem::take(&mut self.expects_continue) && self.connection.buffer.is_empty() {
            self.connection
                .write_all(b"HTTP/1.1 100 Continue\r\n\r\n")
                .map_err(BodyError::Incomplete)?;
        }
        Ok(())
    }

    /// Moves `count` bytes from the connection into the body.
    fn take(&mut self, mut count: usize, body: &mut BodyBytes) -> Result<(), BodyError> {
        while count > 0 {
            self.fill_if_empty()?;
            let part = count.min(self.connection.buffer.len());
            if !body.push(&self.connection.buffer[..part]) {
                return Err(BodyError::Busy);
            }
            self.connection.buffer.drain(..part);
            count -= part;
        }
        Ok(())
    }

    /// Reads a line, and returns it without its CR LF.
    fn read_line(&mut self) -> Result<Vec<u8>, BodyError> {
        let mut line = Vec::new();
        loop {
            self.fill_if_empty()?;
            let buffer = &mut self.connection.buffer;
            let end = buffer
                .iter()
                .position(|byte| *byte == b'\n')
                .map(|end| end + 1);
            line.extend(buffer.drain(..end.unwrap_or(buffer.len())));
            if line.len() > MAX_CHUNK_LINE_BYTES {
                return Err(BodyError::Malformed("chunk size line too long"));
            }
            if end.is_some() {
                let Some(text) = line.strip_suffix(b"\r\n") else {
                    return Err(BodyError::Malformed("line does not end with CR LF"));
                };
                return Ok(text.to_vec());
            }
        }
    }

    fn fill_if_empty(&mut self) -> Result<(), BodyError> {
        if !self.connection.buffer.is_empty() {
            return Ok(());
        }
        match self.connection.fill(self.deadline) {
            Ok(0) => Err(BodyError::Incomplete(io::ErrorKind::UnexpectedEof.into())),
            Ok(_) => Ok(()),
            Err(error) if is_timeout(&error) => Err(BodyError::TooSlow(BODY_TIMEOUT)),
            Err(error) => Err(BodyError::Incomplete(error)),
        }
    }
}
