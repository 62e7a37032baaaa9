//! The bytes of a connection, in plain or through TLS, with a deadline for each act.
//!
//! Knows sockets and OpenSSL's streams, and nothing of HTTP. A deadline holds for all reads and writes of the socket together,
//! so that a sender cannot extend it with single bytes, also in the middle of a TLS record or handshake.

use std::io::{self, Read, Write};
use std::mem::MaybeUninit;
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use openssl::ssl::{ErrorCode, SslStream};
use socket2::SockRef;

use crate::tls;

/// A socket timeout that is longer than required by at most this much is left as it is: setting it costs as much as a read.
const TIMEOUT_SLACK: Duration = Duration::from_secs(1);

/// A socket, with a deadline for its reads and writes. At the deadline they fail with `WouldBlock`, after which OpenSSL can
/// still write: the sender gets its response.
#[derive(Debug)]
pub struct DeadlineSocket {
    socket: Arc<TcpStream>,
    deadline: Instant,
    read_timeout: SocketTimeout,
    write_timeout: SocketTimeout,
}

impl DeadlineSocket {
    /// Wraps a socket. The deadline has passed.
    pub fn new(socket: Arc<TcpStream>) -> Self {
        Self {
            socket,
            deadline: Instant::now(),
            read_timeout: SocketTimeout::new(TcpStream::set_read_timeout),
            write_timeout: SocketTimeout::new(TcpStream::set_write_timeout),
        }
    }

    /// Sets the deadline of all reads and writes from now on.
    pub fn set_deadline(&mut self, deadline: Instant) {
        self.deadline = deadline;
    }

    /// The number of bytes, up to one, that a read would return now: 0 at the end of the input, `WouldBlock` where none have
    /// arrived. One system call: every notification needs it.
    fn peek(&self) -> io::Result<usize> {
        let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
        SockRef::from(&*self.socket).recv_with_flags(&mut [MaybeUninit::uninit()], flags)
    }

    /// The first byte of the input, which stays there.
    pub fn peek_first(&mut self) -> io::Result<u8> {
        let mut first = [0];
        let count = uninterrupted(|| {
            self.read_timeout.set_until(self.deadline, &self.socket)?;
            self.socket.peek(&mut first)
        })?;
        match count {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(first[0]),
        }
    }
}

impl Read for DeadlineSocket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        uninterrupted(|| {
            self.read_timeout.set_until(self.deadline, &self.socket)?;
            (&*self.socket).read(buffer)
        })
    }
}

impl Write for DeadlineSocket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        uninterrupted(|| {
            self.write_timeout.set_until(self.deadline, &self.socket)?;
            (&*self.socket).write(bytes)
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a sender's bytes pass through.
#[derive(Debug)]
pub enum Stream {
    /// Nothing.
    Plain(DeadlineSocket),
    /// TLS, after the handshake.
    Tls(SslStream<DeadlineSocket>),
}

impl Stream {
    fn socket(&self) -> &DeadlineSocket {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => stream.get_ref(),
        }
    }

    fn set_deadline(&mut self, deadline: Instant) {
        match self {
            Self::Plain(socket) => socket.set_deadline(deadline),
            Self::Tls(stream) => stream.get_mut().set_deadline(deadline),
        }
    }

    /// Reads at least a byte before the deadline. Fails at the end of the input.
    pub fn read(&mut self, buffer: &mut [u8], deadline: Instant) -> io::Result<usize> {
        self.set_deadline(deadline);
        let count = match self {
            Self::Plain(socket) => socket.read(buffer),
            Self::Tls(stream) => stream.read(buffer).map_err(tls::stream_error),
        }?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(count)
    }

    /// As [`Stream::read`], but appends at most `count` bytes.
    pub fn read_into(
        &mut self,
        bytes: &mut Vec<u8>,
        count: usize,
        deadline: Instant,
    ) -> io::Result<usize> {
        let old = bytes.len();
        bytes.resize(old + count, 0);
        let result = self.read(&mut bytes[old..], deadline);
        bytes.truncate(old + result.as_ref().copied().unwrap_or(0));
        result
    }

    /// Writes all bytes before the deadline.
    pub fn write_all(&mut self, bytes: &[u8], deadline: Instant) -> io::Result<()> {
        self.set_deadline(deadline);
        match self {
            Self::Plain(socket) => socket.write_all(bytes),
            Self::Tls(stream) => stream.write_all(bytes).map_err(tls::stream_error),
        }
    }

    /// Whether the sender has closed its side and everything before that has been read. Does not block.
    pub fn is_closed_by_peer(&mut self) -> bool {
        match (self.socket().peek(), self) {
            (Err(error), _) => error.kind() != io::ErrorKind::WouldBlock,
            // OpenSSL may hold input that was on the socket before the end, such as the next request.
            (Ok(0), Self::Tls(stream)) => stream.ssl().pending() == 0,
            (Ok(count), Self::Plain(_)) => count == 0,
            // The bytes may be the alert that ends the connection, so OpenSSL decrypts them.
            (Ok(_), Self::Tls(stream)) => without_blocking(stream, |stream| {
                stream
                    .ssl_peek(&mut [0])
                    .is_err_and(|error| error.code() != ErrorCode::WANT_READ)
            })
            .unwrap_or(true),
        }
    }

    /// Ends the output, and returns the socket to read the rest of the input from. Does not block: TLS's alert is sent if the
    /// kernel takes it.
    pub fn end_output(self) -> io::Result<DeadlineSocket> {
        let socket = Arc::clone(&self.socket().socket);
        if let Self::Tls(mut stream) = self {
            let _ = without_blocking(&mut stream, SslStream::shutdown)?;
        }
        socket.shutdown(Shutdown::Write)?;
        Ok(DeadlineSocket::new(socket))
    }
}

/// Calls OpenSSL with a socket that does not block. Its deadline does not matter then, but a passed one would hide the end.
fn without_blocking<T>(
    stream: &mut SslStream<DeadlineSocket>,
    call: impl FnOnce(&mut SslStream<DeadlineSocket>) -> T,
) -> io::Result<T> {
    let socket = Arc::clone(&stream.get_ref().socket);
    stream
        .get_mut()
        .set_deadline(Instant::now() + TIMEOUT_SLACK);
    socket.set_nonblocking(true)?;
    let result = call(stream);
    socket.set_nonblocking(false)?;
    Ok(result)
}

/// A signal does not end a read or write.
fn uninterrupted<T>(mut act: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match act() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// The timeout of a socket's reads, or of its writes.
#[derive(Debug)]
struct SocketTimeout {
    set: fn(&TcpStream, Option<Duration>) -> io::Result<()>,
    current: Option<Duration>,
}

impl SocketTimeout {
    fn new(set: fn(&TcpStream, Option<Duration>) -> io::Result<()>) -> Self {
        Self { set, current: None }
    }

    /// Makes it the time until a deadline. Fails with `WouldBlock` where that has passed: a timeout of zero means no limit.
    fn set_until(&mut self, deadline: Instant, socket: &TcpStream) -> io::Result<()> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if !is_close(self.current, left) {
            (self.set)(socket, Some(left))?;
            self.current = Some(left);
        }
        Ok(())
    }
}

/// Whether a timeout is neither shorter than required nor more than [`TIMEOUT_SLACK`] longer.
fn is_close(timeout: Option<Duration>, required: Duration) -> bool {
    let excess = timeout.and_then(|timeout| timeout.checked_sub(required));
    excess.is_some_and(|excess| excess <= TIMEOUT_SLACK)
}

/// Whether a read or write failed at its deadline.
pub fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_timeout_is_set_where_the_current_one_is_too_short_or_much_too_long() {
        let (limit, nanosecond) = (Duration::from_secs(10), Duration::from_nanos(1));
        for (current, is_left) in [
            (None, false),
            (Some(limit), true),
            (Some(limit + TIMEOUT_SLACK), true),
            (Some(limit + TIMEOUT_SLACK + nanosecond), false),
            (Some(Duration::from_secs(9)), false),
            (Some(Duration::from_mins(6)), false),
        ] {
            assert_eq!(is_close(current, limit), is_left, "{current:?}");
        }
    }

    #[test]
    fn the_timeout_of_the_socket_follows_the_deadline() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let mut timeout = SocketTimeout::new(TcpStream::set_read_timeout);
        let passed = timeout.set_until(Instant::now(), &stream).unwrap_err();
        assert!(is_timeout(&passed) && stream.read_timeout().unwrap().is_none());
        for seconds in [360, 10, 30] {
            let limit = Duration::from_secs(seconds);
            timeout.set_until(Instant::now() + limit, &stream).unwrap();
            let set = stream.read_timeout().unwrap().unwrap();
            assert!(set <= limit && set + TIMEOUT_SLACK > limit, "{set:?}");
        }
    }
}
