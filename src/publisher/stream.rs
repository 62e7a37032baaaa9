//! The stream under amiquip: the socket, TLS where required, the check of what the broker sends, and the gate for writes.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;

use amiquip::IoStream;
use mio::unix::EventedFd;
use mio::{Evented, Poll, PollOpt, Ready, Token};
use openssl::ssl::Ssl;

use super::frames::FrameCheck;
use super::write_gate::WriteGate;
use crate::tls;

/// The errors of a socket that does not block, or is interrupted.
const TEMPORARY: [io::ErrorKind; 2] = [io::ErrorKind::WouldBlock, io::ErrorKind::Interrupted];

/// A socket whose write errors show only as the end of what can be read: amiquip would stop reading at a write error, and
/// lose the confirms that have already arrived.
#[derive(Debug)]
struct Socket(Arc<TcpStream>);

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*self.0).read(buffer)
    }
}

impl Write for Socket {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match (&*self.0).write(buffer) {
            Err(error) if !TEMPORARY.contains(&error.kind()) => {
                // In case the broker would wait for more: it closes the connection now. What is written later fails, too.
                let _ = self.0.shutdown(Shutdown::Write);
                Ok(buffer.len())
            }
            result => result,
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The socket, with TLS or without.
trait Transport: Read + Write + Send {}

impl<T: Read + Write + Send> Transport for T {}

/// What amiquip reads and writes.
pub struct BoundedStream {
    socket: Arc<TcpStream>,
    transport: Box<dyn Transport>,
    check: FrameCheck,
    write_gate: Arc<WriteGate>,
}

impl BoundedStream {
    /// Over a connected socket, with TLS where there is a session for it. The handshake blocks; the caller limits the time.
    pub fn open(
        socket: &Arc<TcpStream>,
        session: Option<Ssl>,
        write_gate: Arc<WriteGate>,
    ) -> io::Result<Self> {
        let inner = Socket(Arc::clone(socket));
        let transport: Box<dyn Transport> = match session {
            Some(ssl) => Box::new(ssl.connect(inner).map_err(tls::handshake_error)?),
            None => Box::new(inner),
        };
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket: Arc::clone(socket),
            transport,
            check: FrameCheck::default(),
            write_gate,
        })
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
        EventedFd(&self.socket.as_raw_fd()).register(poll, token, interest, options)
    }

    fn reregister(
        &self,
        poll: &Poll,
        token: Token,
        interest: Ready,
        options: PollOpt,
    ) -> io::Result<()> {
        EventedFd(&self.socket.as_raw_fd()).reregister(poll, token, interest, options)
    }

    fn deregister(&self, poll: &Poll) -> io::Result<()> {
        EventedFd(&self.socket.as_raw_fd()).deregister(poll)
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn what_the_broker_has_sent_is_read_after_a_write_has_failed() {
        const HEARTBEAT: [u8; 8] = [8, 0, 0, 0, 0, 0, 0, 0xce];
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = Arc::new(TcpStream::connect(listener.local_addr().unwrap()).unwrap());
        let (mut broker, _) = listener.accept().unwrap();
        broker.write_all(&HEARTBEAT).unwrap();
        let mut received = [0; HEARTBEAT.len()];
        // Waits for it.
        socket.peek(&mut received).unwrap();
        let mut stream = BoundedStream::open(&socket, None, Arc::default()).unwrap();
        socket.shutdown(Shutdown::Write).unwrap();
        for _ in 0..2 {
            let written = stream.write(b"frame").ok();
            assert_eq!(
                written,
                Some(5),
                "amiquip stops reading, and loses confirms"
            );
        }
        stream.read_exact(&mut received).unwrap();
        assert_eq!(received, HEARTBEAT);
    }
}
