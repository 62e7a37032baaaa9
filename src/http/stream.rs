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

/// A socket, with a deadline for its reads and writes. At the deadline, or up to a second later, they fail with `WouldBlock`,
/// after which OpenSSL can still write: the sender gets its response.
#[derive(Debug, Clone)]
pub struct DeadlineSocket {
    socket: Arc<TcpStream>,
    deadline: Instant,
    /// As they are set on the socket.
    timeouts: [Option<Duration>; 2],
}

/// Which of a socket's timeouts counts for an act, as its index.
#[derive(Debug, Clone, Copy)]
enum Timeout {
    Read,
    Write,
}

impl DeadlineSocket {
    /// Wraps a socket, with a time limit for all reads and writes from now on.
    pub fn new(socket: Arc<TcpStream>, timeout: Duration) -> Self {
        Self {
            socket,
            deadline: Instant::now() + timeout,
            timeouts: [None; 2],
        }
    }

    /// Reads or writes until the deadline. A signal does not end it.
    fn until_deadline<T>(
        &mut self,
        timeout: Timeout,
        mut act: impl FnMut(&mut &TcpStream) -> io::Result<T>,
    ) -> io::Result<T> {
        loop {
            let left = self.deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            // Setting a timeout costs as much as a read. In whole seconds, that of the last request fits the next one.
            let left = Some(Duration::from_secs(left.as_secs() + 1));
            if self.timeouts[timeout as usize] != left {
                match timeout {
                    Timeout::Read => self.socket.set_read_timeout(left)?,
                    Timeout::Write => self.socket.set_write_timeout(left)?,
                }
                self.timeouts[timeout as usize] = left;
            }
            match act(&mut &*self.socket) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
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
        match self.until_deadline(Timeout::Read, |socket| socket.peek(&mut first))? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(first[0]),
        }
    }
}

impl Read for DeadlineSocket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.until_deadline(Timeout::Read, |socket| socket.read(buffer))
    }
}

impl Write for DeadlineSocket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.until_deadline(Timeout::Write, |socket| socket.write(bytes))
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
    /// The socket below it.
    pub fn socket(&mut self) -> &mut DeadlineSocket {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => stream.get_mut(),
        }
    }

    /// Limits the time of all reads and writes from now on.
    pub fn set_timeout(&mut self, timeout: Duration) {
        self.socket().deadline = Instant::now() + timeout;
    }

    /// Writes all bytes before the deadline.
    pub fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.write_all(bytes),
            Self::Tls(stream) => stream.write_all(bytes).map_err(tls::stream_error),
        }
    }

    /// Whether the sender has closed its side and everything before that has been read. Does not block.
    pub fn is_closed_by_peer(&mut self) -> bool {
        match (self.socket().peek(), self) {
            (Err(error), _) => error.kind() != io::ErrorKind::WouldBlock,
            (Ok(count), Self::Plain(_)) => count == 0,
            // The bytes may be the alert that ends the connection, so OpenSSL decrypts them. At the end of the socket's input it
            // may hold some that was there before, such as the next request.
            (Ok(_), Self::Tls(stream)) => without_blocking(stream, |stream| {
                stream
                    .ssl_peek(&mut [0])
                    .is_err_and(|error| error.code() != ErrorCode::WANT_READ)
            })
            .unwrap_or(true),
        }
    }

    /// Ends the output, and returns the socket to read the rest of the input from, for a limited time. Does not block: TLS's
    /// alert is sent if the kernel takes it.
    pub fn end_output(mut self, timeout: Duration) -> io::Result<DeadlineSocket> {
        let socket = Arc::clone(&self.socket().socket);
        if let Self::Tls(mut stream) = self {
            let _ = without_blocking(&mut stream, SslStream::shutdown)?;
        }
        socket.shutdown(Shutdown::Write)?;
        Ok(DeadlineSocket::new(socket, timeout))
    }
}

impl Read for Stream {
    /// Fails at the end of the input: whatever is read is incomplete then.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = match self {
            Self::Plain(socket) => socket.read(buffer),
            Self::Tls(stream) => stream.read(buffer).map_err(tls::stream_error),
        };
        match read {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            read => read,
        }
    }
}

/// Calls OpenSSL with a socket that does not block. Its deadline does not matter then, but a passed one would hide the end.
fn without_blocking<T>(
    stream: &mut SslStream<DeadlineSocket>,
    call: impl FnOnce(&mut SslStream<DeadlineSocket>) -> T,
) -> io::Result<T> {
    let socket = Arc::clone(&stream.get_ref().socket);
    stream.get_mut().deadline = Instant::now() + Duration::from_secs(1);
    socket.set_nonblocking(true)?;
    let result = call(stream);
    socket.set_nonblocking(false)?;
    Ok(result)
}

/// Whether a read or write failed at its deadline.
pub fn is_timeout(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn reads_and_writes_end_at_the_deadline() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let _sender = listener.accept().unwrap();
        let limit = Duration::from_secs(10);
        let mut socket = DeadlineSocket::new(Arc::new(stream), limit);
        socket.write_all(b"x").unwrap();
        let set = socket.socket.write_timeout().unwrap().unwrap();
        assert!(
            set <= limit && set + Duration::from_secs(5) > limit,
            "{set:?}"
        );
        socket.deadline = Instant::now() + Duration::from_millis(1);
        assert!(is_timeout(&socket.read(&mut [0]).unwrap_err()));
        // A timeout of zero would be no limit.
        socket.deadline = Instant::now();
        for result in [
            socket.read(&mut [0]),
            socket.write(b"x"),
            socket.peek_first().map(usize::from),
        ] {
            assert!(is_timeout(&result.unwrap_err()));
        }
    }
}
