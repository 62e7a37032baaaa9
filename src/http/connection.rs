//! One sender's connection: heads, bodies and answers as bytes on a socket, each with a deadline.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::budget::{BodyBytes, Budget};
use super::request::{self, Framing, InvalidRequest, RequestHead};
use super::{Body, BodyError, Response};

/// From a head's first bytes (or the connection's beginning) to its last.
pub const HEAD_LIMIT: Duration = Duration::from_secs(10);

/// From the head to the body's last byte.
const BODY_LIMIT: Duration = Duration::from_secs(30);

/// For the whole answer.
const WRITE_LIMIT: Duration = Duration::from_secs(10);

/// After an answer that closes the connection, what the sender still sends is read for so long, and so much of it, that the
/// answer reaches it before the reset that closing with unread bytes would cause.
const LINGER_LIMIT: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 64 << 20;

/// A request with one alert fits. It is read to the stack, so that a connection that waits holds no memory for it.
const FIRST_BYTES: usize = 4 << 10;

const READ_BYTES: usize = 16 << 10;

/// A limit may be overstepped by so much: setting the socket's timeout anew for each read costs as much as the read.
const SLACK: Duration = Duration::from_secs(1);

const MOST_CHUNK_LINE: usize = 256;
const MOST_TRAILER_LINES: usize = 64;

/// A connection, and what has been read from it and not been used.
#[derive(Debug)]
pub struct Connection {
    socket: Arc<TcpStream>,
    buffer: Vec<u8>,
    /// The socket's timeouts, as they are set.
    read_timeout: Option<Duration>,
    write_timeout: Option<Duration>,
    date: Date,
}

/// Why no request comes.
#[derive(Debug)]
pub enum ReadRequestError {
    /// The sender has closed the connection, or the time for a next request is over: nobody waits for an answer.
    Ended,
    /// What came is no request.
    Refused(InvalidRequest),
    /// The head took too long.
    TooSlow,
}

impl Connection {
    /// Takes an accepted socket.
    pub fn new(socket: Arc<TcpStream>) -> Self {
        Self {
            socket,
            buffer: Vec::new(),
            read_timeout: None,
            write_timeout: None,
            date: Date::default(),
        }
    }

    /// Reads the next head. `first_byte_timeout` is for its first byte; from there on [`HEAD_LIMIT`] counts.
    pub fn read_head(
        &mut self,
        first_byte_timeout: Duration,
    ) -> Result<RequestHead, ReadRequestError> {
        if self.buffer.is_empty() {
            // While it waits for a sender, a connection holds no buffer.
            self.buffer = Vec::new();
            match self.read_first(first_byte_timeout) {
                Ok(count) if count > 0 => {}
                _ => return Err(ReadRequestError::Ended),
            }
        }
        let deadline = Instant::now() + HEAD_LIMIT;
        let mut seen = 0;
        loop {
            // A head ends with a line: nothing to parse before one has come.
            if self.buffer[seen..].contains(&b'\n')
                || self.buffer.len() >= request::MOST_BYTES
                || seen == 0
            {
                match request::parse(&self.buffer) {
                    Ok(Some((head, length))) => {
                        self.buffer.drain(..length);
                        return Ok(head);
                    }
                    Ok(None) => {}
                    Err(error) => return Err(ReadRequestError::Refused(error)),
                }
            }
            seen = self.buffer.len();
            match self.fill(deadline) {
                Ok(0) => return Err(ReadRequestError::Ended),
                Ok(_) => {}
                Err(error) if is_timeout(&error) => return Err(ReadRequestError::TooSlow),
                Err(_) => return Err(ReadRequestError::Ended),
            }
        }
    }

    /// The body that belongs to a head.
    pub fn body<'c>(
        &'c mut self,
        head: &RequestHead,
        budget: &'c Arc<Budget>,
        whole: &'c mut dyn FnMut(),
    ) -> BodyReader<'c> {
        BodyReader {
            left: head.framing,
            expects_continue: head.expects_continue,
            budget,
            whole,
            deadline: Instant::now() + BODY_LIMIT,
            connection: self,
        }
    }

    /// Writes an answer; without its body where the request was a HEAD.
    pub fn write(
        &mut self,
        answer: &Response,
        keep_alive: bool,
        with_body: bool,
    ) -> io::Result<()> {
        let mut bytes = format!(
            concat!(
                "HTTP/1.1 {} {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nDate: {}\r\nServer: ",
                env!("CARGO_PKG_NAME"),
                "\r\n"
            ),
            answer.status,
            reason(answer.status),
            answer.content_type,
            answer.body.len(),
            self.date.now(),
        );
        for (name, value) in &answer.headers {
            bytes.push_str(&format!("{name}: {value}\r\n"));
        }
        bytes.push_str(if keep_alive {
            "\r\n"
        } else {
            "Connection: close\r\n\r\n"
        });
        if with_body {
            bytes.push_str(&answer.body);
        }
        self.write_all(bytes.as_bytes())
    }

    fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let deadline = Instant::now() + WRITE_LIMIT;
        while !bytes.is_empty() {
            let left = left_until(deadline)?;
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

    /// Closes the connection such that the last answer still arrives.
    pub fn close(mut self) {
        if self.socket.shutdown(Shutdown::Write).is_err() {
            return;
        }
        let deadline = Instant::now() + LINGER_LIMIT;
        let mut drained = 0;
        while drained < LINGER_BYTES {
            self.buffer.clear();
            match self.fill(deadline) {
                Ok(count) if count > 0 => drained += count,
                _ => return,
            }
        }
    }

    /// Waits so long for the beginning of something, and reads what there is of it into the empty buffer; 0 at the end.
    fn read_first(&mut self, first_byte_timeout: Duration) -> io::Result<usize> {
        let mut first = [0; FIRST_BYTES];
        let count = self.read(&mut first, first_byte_timeout)?;
        self.buffer.extend_from_slice(&first[..count]);
        Ok(count)
    }

    /// Reads what has come, at least a byte, into the buffer; 0 at the end.
    fn fill(&mut self, deadline: Instant) -> io::Result<usize> {
        let old = self.buffer.len();
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(old + READ_BYTES, 0);
        let result = left_until(deadline).and_then(|left| self.read(&mut buffer[old..], left));
        buffer.truncate(old + result.as_ref().copied().unwrap_or(0));
        self.buffer = buffer;
        result
    }

    /// Reads what has come, waiting for it if need be.
    fn read(&mut self, buffer: &mut [u8], first_byte_timeout: Duration) -> io::Result<usize> {
        ensure_timeout(&mut self.read_timeout, first_byte_timeout, |timeout| {
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

/// A body that is on its way.
pub struct BodyReader<'c> {
    connection: &'c mut Connection,
    budget: &'c Arc<Budget>,
    /// Called when somebody wanted the body, and has it.
    whole: &'c mut dyn FnMut(),
    left: Framing,
    expects_continue: bool,
    deadline: Instant,
}

impl BodyReader<'_> {
    /// Whether what follows is a next request: all of the body has been read, or nobody wanted it and all of it has come already.
    /// For the rest of an unwanted body nobody waits.
    pub fn is_over(&mut self) -> bool {
        if let Framing::Length(length) = self.left
            && let Ok(length) = usize::try_from(length)
            && length <= self.connection.buffer.len()
        {
            self.connection.buffer.drain(..length);
            self.left = Framing::Length(0);
        }
        self.left == Framing::Length(0)
    }

    fn read_chunks(&mut self, limit: usize, body: &mut BodyBytes) -> Result<(), BodyError> {
        loop {
            let line = self.line()?;
            let digits = line
                .split(|byte| *byte == b';')
                .next()
                .unwrap_or_default()
                .trim_ascii();
            let size = std::str::from_utf8(digits)
                .ok()
                .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
            let Some(size) = size.and_then(|digits| u64::from_str_radix(digits, 16).ok()) else {
                return Err(BodyError::Malformed("a wrong chunk size"));
            };
            if size == 0 {
                break;
            }
            let size = usize::try_from(size)
                .ok()
                .filter(|size| *size <= limit - body.len())
                .ok_or(BodyError::TooLong(limit))?;
            self.take(size, body)?;
            if !self.line()?.is_empty() {
                return Err(BodyError::Malformed("a chunk longer than its size"));
            }
        }
        for _ in 0..MOST_TRAILER_LINES {
            if self.line()?.is_empty() {
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

    /// Moves so many bytes into the body.
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

    /// A line without its end, which has to be CR LF.
    fn line(&mut self) -> Result<Vec<u8>, BodyError> {
        let mut line = Vec::new();
        loop {
            self.fill_if_empty()?;
            let buffer = &mut self.connection.buffer;
            let end = buffer
                .iter()
                .position(|byte| *byte == b'\n')
                .map(|end| end + 1);
            line.extend(buffer.drain(..end.unwrap_or(buffer.len())));
            if line.len() > MOST_CHUNK_LINE {
                return Err(BodyError::Malformed("a chunk's line is too long"));
            }
            if end.is_some() {
                let Some(text) = line.strip_suffix(b"\r\n") else {
                    return Err(BodyError::Malformed("a line without CR LF"));
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
            Err(error) if is_timeout(&error) => Err(BodyError::TooSlow(BODY_LIMIT)),
            Err(error) => Err(BodyError::Incomplete(error)),
        }
    }
}

impl Body for BodyReader<'_> {
    fn read(&mut self, limit: usize) -> Result<BodyBytes, BodyError> {
        let framing = self.left;
        let length = match framing {
            Framing::Length(length) => usize::try_from(length)
                .ok()
                .filter(|length| *length <= limit),
            Framing::Chunked => Some(0),
        };
        let length = length.ok_or(BodyError::TooLong(limit))?;
        // Whatever goes wrong from here on: nothing behind it is a next request.
        self.left = Framing::Length(u64::MAX);
        self.send_continue()?;
        let mut body = BodyBytes::new(self.budget);
        match framing {
            // Of a small notification, as nearly all are, the buffer holds the whole body and nothing else.
            Framing::Length(_) if length == self.connection.buffer.len() => {
                let whole = std::mem::take(&mut self.connection.buffer);
                body = BodyBytes::of(self.budget, whole).ok_or(BodyError::Busy)?;
            }
            Framing::Length(_) => self.take(length, &mut body)?,
            Framing::Chunked => self.read_chunks(limit, &mut body)?,
        }
        self.left = Framing::Length(0);
        if self.connection.buffer.is_empty() {
            // Nor does it hold one while it waits for the broker, unless a next request has come already.
            self.connection.buffer = Vec::new();
        }
        (self.whole)();
        Ok(body)
    }
}

/// The time of day for a head, made anew when another second has begun.
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

/// Sets a timeout, unless the one that is set will do: by no more than [`SLACK`] too long, and never too short.
fn ensure_timeout(
    set: &mut Option<Duration>,
    wanted: Duration,
    apply: impl FnOnce(Option<Duration>) -> io::Result<()>,
) -> io::Result<()> {
    if set
        .and_then(|set| set.checked_sub(wanted))
        .is_some_and(|longer| longer <= SLACK)
    {
        return Ok(());
    }
    apply(Some(wanted))?;
    *set = Some(wanted);
    Ok(())
}

fn left_until(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    // A timeout of zero would mean none.
    if left.is_zero() {
        Err(io::ErrorKind::TimedOut.into())
    } else {
        Ok(left)
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
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
    fn a_timeout_that_is_set_will_do_when_it_is_a_little_long() {
        let (limit, nanosecond) = (Duration::from_secs(10), Duration::from_nanos(1));
        for (set, is_set_anew) in [
            (None, true),
            (Some(limit), false),
            (Some(limit + SLACK), false),
            (Some(limit + SLACK + nanosecond), true),
            (Some(Duration::from_secs(9)), true),
            (Some(Duration::from_mins(6)), true),
        ] {
            let (mut now, mut applied) = (set, None);
            ensure_timeout(&mut now, limit, |timeout| {
                applied = timeout;
                Ok(())
            })
            .unwrap();
            assert_eq!(applied, is_set_anew.then_some(limit), "{set:?}");
            assert_eq!(now, if is_set_anew { Some(limit) } else { set }, "{set:?}");
        }
        let mut refused = None;
        assert!(
            ensure_timeout(&mut refused, limit, |_| Err(
                io::ErrorKind::InvalidInput.into()
            ))
            .is_err()
        );
        assert_eq!(refused, None);
    }
}
