//! Reads the body of a request, within its limits of size, time and memory.

use std::io;
use std::time::{Duration, Instant};

use super::connection::Connection;
use super::request::{Framing, RequestHead};
use super::stream::is_timeout;
use crate::memory::{Budget, BudgetError, Charge};

/// From the head to the last byte of the body.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// A body's memory grows by at least this, and else doubles: it is charged for what has arrived, not for what was announced.
const MIN_GROWTH: usize = 16 << 10;

/// The most bytes for one call of the kernel, for which memory is zeroed before.
const MAX_READ_BYTES: usize = 64 << 10;

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
    /// There is no memory for it.
    #[error(transparent)]
    Memory(#[from] BudgetError),
}

/// A body, and the charge for its memory.
#[derive(Debug)]
pub struct Body {
    /// What was received, without the framing.
    pub bytes: Vec<u8>,
    /// For the memory of the bytes.
    pub charge: Charge,
}

impl Body {
    /// Makes sure that there is space for a byte, and for not more than `more` bytes.
    fn reserve(&mut self, more: usize) -> Result<(), BudgetError> {
        if self.bytes.len() == self.bytes.capacity() {
            let growth = self.bytes.capacity().max(MIN_GROWTH).min(more);
            self.charge.grow(growth)?;
            self.bytes.reserve_exact(growth);
        }
        Ok(())
    }
}

/// How far the body of a request has been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BodyState {
    /// Not at all.
    Unread(Framing),
    /// In part: what follows is not the next request.
    Broken,
    /// To its end.
    Finished,
}

/// The body of the current request, which can be read once.
pub struct BodyReader<'c> {
    connection: &'c mut Connection,
    state: BodyState,
    expects_continue: bool,
    deadline: Instant,
}

impl<'c> BodyReader<'c> {
    /// The body that belongs to a head.
    pub fn new(connection: &'c mut Connection, head: &RequestHead) -> Self {
        Self {
            connection,
            state: BodyState::Unread(head.framing),
            expects_continue: head.expects_continue,
            deadline: Instant::now() + BODY_TIMEOUT,
        }
    }

    /// Reads all of it. Fails as soon as it is known to be longer than `limit` bytes.
    pub fn read(&mut self, limit: usize, budget: &Budget) -> Result<Body, BodyError> {
        let BodyState::Unread(framing) = self.state else {
            return Err(BodyError::Malformed("read twice"));
        };
        if let Framing::Length(length) = framing
            && length > limit
        {
            return Err(BodyError::TooLong(limit));
        }
        self.state = BodyState::Broken;
        if std::mem::take(&mut self.expects_continue) && self.connection.buffer.is_empty() {
            let interim = self.connection.write_all(b"HTTP/1.1 100 Continue\r\n\r\n");
            interim.map_err(BodyError::Incomplete)?;
        }
        let mut body = Body {
            bytes: Vec::new(),
            charge: budget.charge(0)?,
        };
        match framing {
            // The usual case of a small notification: the buffer holds the whole body and nothing else.
            Framing::Length(length) if length == self.connection.buffer.len() => {
                body.charge.grow(self.connection.buffer.capacity())?;
                body.bytes = std::mem::take(&mut self.connection.buffer);
            }
            Framing::Length(length) => self.take(length, &mut body)?,
            Framing::Chunked => self.read_chunks(limit, &mut body)?,
        }
        self.state = BodyState::Finished;
        self.connection.release_buffer();
        Ok(body)
    }

    /// Whether the next byte belongs to the next request: the body has been read, or it is unread and already in the buffer.
    /// The rest of an unread body is not waited for.
    pub fn is_finished(&mut self) -> bool {
        if let BodyState::Unread(Framing::Length(length)) = self.state
            && length <= self.connection.buffer.len()
        {
            self.connection.buffer.drain(..length);
            self.state = BodyState::Finished;
        }
        self.state == BodyState::Finished
    }

    /// Whether the sender has closed the connection.
    pub fn is_sender_gone(&mut self) -> bool {
        self.connection.stream.is_closed_by_peer()
    }

    fn read_chunks(&mut self, limit: usize, body: &mut Body) -> Result<(), BodyError> {
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
            let Some(size) = size.and_then(|digits| usize::from_str_radix(digits, 16).ok()) else {
                return Err(BodyError::Malformed("invalid chunk size"));
            };
            if size == 0 {
                break;
            }
            if size > limit - body.bytes.len() {
                return Err(BodyError::TooLong(limit));
            }
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

    /// Appends `count` bytes to the body: the ones in the buffer, and then from the socket without another copy.
    fn take(&mut self, mut count: usize, body: &mut Body) -> Result<(), BodyError> {
        while count > 0 {
            body.reserve(count)?;
            let free = body.bytes.capacity() - body.bytes.len();
            let free = free.min(count).min(MAX_READ_BYTES);
            let Connection { stream, buffer, .. } = &mut *self.connection;
            count -= if buffer.is_empty() {
                // An empty one holds no memory while the body arrives.
                *buffer = Vec::new();
                let read = stream.read_into(&mut body.bytes, free, self.deadline);
                read.map_err(read_error)?
            } else {
                let part = free.min(buffer.len());
                body.bytes.extend(buffer.drain(..part));
                part
            };
        }
        Ok(())
    }

    /// Reads a line, and returns it without its CR LF.
    fn read_line(&mut self) -> Result<Vec<u8>, BodyError> {
        let mut line = Vec::new();
        loop {
            if self.connection.buffer.is_empty() {
                self.connection.fill(self.deadline).map_err(read_error)?;
            }
            let buffer = &mut self.connection.buffer;
            let end = buffer.iter().position(|byte| *byte == b'\n');
            line.extend(buffer.drain(..end.map_or(buffer.len(), |end| end + 1)));
            if line.len() > MAX_CHUNK_LINE_BYTES {
                return Err(BodyError::Malformed("chunk size line too long"));
            }
            if end.is_some() {
                let text = line.strip_suffix(b"\r\n");
                return text
                    .map(<[u8]>::to_vec)
                    .ok_or(BodyError::Malformed("line does not end with CR LF"));
            }
        }
    }
}

fn read_error(error: io::Error) -> BodyError {
    if is_timeout(&error) {
        BodyError::TooSlow(BODY_TIMEOUT)
    } else {
        BodyError::Incomplete(error)
    }
}
