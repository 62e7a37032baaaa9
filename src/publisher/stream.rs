//! The stream under amiquip: the socket, TLS where required, the check of what the broker sends, and the gate for writes.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};

use amiquip::IoStream;
use mio::{Evented, Poll, PollOpt, Ready, Token};
use openssl::ssl::SslStream;

use super::frames::FrameCheck;
use super::tls::TlsConnector;
use super::write_gate::WriteGate;
use crate::tls;

/// A socket whose write errors show only as the end of what can be read: amiquip would stop reading at a write error, and
/// lose the confirms that have already arrived.
#[derive(Debug)]
struct Socket {
    inner: mio::net::TcpStream,
    has_failed: bool,
}

impl Socket {
    fn new(socket: TcpStream) -> io::Result<Self> {
        Ok(Self {
            inner: mio::net::TcpStream::from_stream(socket)?,
            has_failed: false,
        })
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buffer)
    }
}

impl Write for Socket {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        if self.has_failed {
            return Ok(buffer.len());
        }
        match self.inner.write(buffer) {
            Err(error) if !is_temporary(&error) => {
                self.has_failed = true;
                // In case the broker would wait for more: it closes the connection now.
                let _ = self.inner.shutdown(Shutdown::Write);
                Ok(buffer.len())
            }
            result => result,
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

fn is_temporary(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}

/// The socket, with TLS or without.
trait Transport: Read + Write + Send {
    fn socket(&self) -> &mio::net::TcpStream;
}

impl Transport for Socket {
    fn socket(&self) -> &mio::net::TcpStream {
        &self.inner
    }
}

impl Transport for SslStream<Socket> {
    fn socket(&self) -> &mio::net::TcpStream {
        &self.get_ref().inner
    }
}

/// What amiquip reads and writes.
pub struct BoundedStream {
    transport: Box<dyn Transport>,
    check: FrameCheck,
    write_gate: WriteGate,
}

impl BoundedStream {
    /// Without TLS.
    pub fn plain(socket: TcpStream, write_gate: WriteGate) -> io::Result<Self> {
        Ok(Self::over(Socket::new(socket)?, write_gate))
    }

    /// With TLS. The handshake blocks; the caller limits the time.
    pub fn tls(
        socket: TcpStream,
        connector: &TlsConnector,
        host: &str,
        write_gate: WriteGate,
    ) -> io::Result<Self> {
        let duplicate = socket.try_clone()?;
        let socket = Socket::new(socket)?;
        // mio has made it non-blocking, which holds for all duplicates.
        duplicate.set_nonblocking(false)?;
        let stream = connector.connect(host, socket)?;
        duplicate.set_nonblocking(true)?;
        Ok(Self::over(stream, write_gate))
    }

    fn over(transport: impl Transport + 'static, write_gate: WriteGate) -> Self {
        Self {
            transport: Box::new(transport),
            check: FrameCheck::default(),
            write_gate,
        }
    }
}

impl IoStream for BoundedStream {}

impl Read for BoundedStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let refused = |refusal| io::Error::new(io::ErrorKind::InvalidData, refusal);
        // A refusal must not wait for more bytes.
        self.check.accept(&[]).map_err(refused)?;
        let count = self.transport.read(buffer).map_err(tls::stream_error)?;
        self.check.accept(&buffer[..count]).map_err(refused)
    }
}

impl Write for BoundedStream {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.write_gate.wait();
        self.transport.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.transport.flush()
    }
}

impl Evented for BoundedStream {
    fn register(
        &self,
        poll: &Poll,
        token: Token,
        interest: Ready,
        options: PollOpt,
    ) -> io::Result<()> {
        self.transport
            .socket()
            .register(poll, token, interest, options)
    }

    fn reregister(
        &self,
        poll: &Poll,
        token: Token,
        interest: Ready,
        options: PollOpt,
    ) -> io::Result<()> {
        self.transport
            .socket()
            .reregister(poll, token, interest, options)
    }

    fn deregister(&self, poll: &Poll) -> io::Result<()> {
        self.transport.socket().deregister(poll)
    }
}
