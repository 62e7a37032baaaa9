//! Reads the body of a request, within its limits of size, time and memory.

use std::io::{self, BufRead, Read};
use std::sync::Arc;
use std::time::Duration;

use super::HttpError;
use super::connection::Connection;
use super::request::{Framing, RequestHead};
use super::stream::is_timeout;
use crate::memory::{Budget, Charge};

/// From the head to the last byte of the body.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// A body's memory grows by at least this, and else doubles: it is charged for what has arrived, not for what was announced.
const MIN_GROWTH: usize = 16 << 10;

const MAX_CHUNK_LINE_BYTES: u64 = 256;
const MAX_TRAILER_LINES: usize = 64;

/// A body, and the charge for its memory.
#[derive(Debug)]
pub struct Body {
    /// What was received, without the framing.
    pub bytes: Vec<u8>,
    /// For the memory of the bytes.
    pub charge: Charge,
}

impl Connection {
    /// Reads the body of the current request. Fails as soon as it is known to be longer than `limit` bytes.
    pub fn read_body(
        &mut self,
        head: &RequestHead,
        limit: usize,
        budget: &Arc<Budget>,
    ) -> Result<Body, HttpError> {
        if matches!(head.framing, Framing::Length(length) if length > limit) {
            return Err(HttpError::BodyTooLong(limit));
        }
        let framing = self.body.take();
        let framing = framing.ok_or(HttpError::BodyMalformed("read twice"))?;
        if head.expects_continue && self.reader.buffer().is_empty() {
            let interim = self.write_all(b"HTTP/1.1 100 Continue\r\n\r\n");
            interim.map_err(HttpError::BodyIncomplete)?;
        }
        self.set_timeout(BODY_TIMEOUT);
        let mut body = Body {
            bytes: Vec::new(),
            charge: budget.charge(),
        };
        match framing {
            Framing::Length(length) => self.take(length, &mut body)?,
            Framing::Chunked => self.read_chunks(limit, &mut body)?,
        }
        self.body = Some(Framing::Length(0));
        Ok(body)
    }

    /// Whether the next byte belongs to the next request: the body has been read, or what is left of it is in the buffer, and is
    /// skipped. The rest of an unread body is not waited for.
    pub fn skip_body(&mut self) -> bool {
        match self.body.take() {
            Some(Framing::Length(length)) if length <= self.reader.buffer().len() => {
                self.reader.consume(length);
                true
            }
            _ => false,
        }
    }

    fn read_chunks(&mut self, limit: usize, body: &mut Body) -> Result<(), HttpError> {
        loop {
            let line = self.read_line()?;
            let size = match httparse::parse_chunk_size(&line) {
                // It takes a line without a number for 0.
                Ok(httparse::Status::Complete((_, size))) if line[0].is_ascii_hexdigit() => size,
                _ => return Err(HttpError::BodyMalformed("invalid chunk size")),
            };
            let size = usize::try_from(size).unwrap_or(usize::MAX);
            if size == 0 {
                break;
            }
            if size > limit - body.bytes.len() {
                return Err(HttpError::BodyTooLong(limit));
            }
            self.take(size, body)?;
            if self.read_line()? != b"\r\n" {
                return Err(HttpError::BodyMalformed("chunk longer than its size"));
            }
        }
        for _ in 0..MAX_TRAILER_LINES {
            if self.read_line()? == b"\r\n" {
                return Ok(());
            }
        }
        Err(HttpError::BodyMalformed("too many trailer lines"))
    }

    /// Appends `count` bytes to the body.
    fn take(&mut self, mut count: usize, body: &mut Body) -> Result<(), HttpError> {
        while count > 0 {
            let old = body.bytes.len();
            let more = old.max(MIN_GROWTH).min(count);
            body.charge.grow(more)?;
            body.bytes.reserve_exact(more);
            body.bytes.resize(old + more, 0);
            let read = self.reader.read_exact(&mut body.bytes[old..]);
            read.map_err(read_error)?;
            count -= more;
        }
        Ok(())
    }

    /// Reads a line, with its CR LF.
    fn read_line(&mut self) -> Result<Vec<u8>, HttpError> {
        let mut line = Vec::new();
        let mut input = (&mut self.reader).take(MAX_CHUNK_LINE_BYTES);
        let read = input.read_until(b'\n', &mut line);
        read.map_err(read_error)?;
        match *line {
            [.., b'\r', b'\n'] => Ok(line),
            [.., b'\n'] => Err(HttpError::BodyMalformed("line does not end with CR LF")),
            _ => Err(HttpError::BodyMalformed("chunk size line too long")),
        }
    }
}

fn read_error(error: io::Error) -> HttpError {
    if is_timeout(&error) {
        HttpError::BodyTooSlow
    } else {
        HttpError::BodyIncomplete(error)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{Shutdown, TcpListener, TcpStream};
    use std::thread;

    use super::super::request;
    use super::super::slots::ConnectionSlots;
    use super::*;

    /// What is read of a request, its body limited to 1 MiB, and whether another one may follow.
    fn read(request: &[u8], budget: &Arc<Budget>) -> (Result<Body, HttpError>, bool) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut sender = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let request = request.to_vec();
        let sending = thread::spawn(move || {
            // The reader may close before everything is sent.
            let _ = sender.write_all(&request);
            let _ = sender.shutdown(Shutdown::Write);
            sender
        });
        let mut connection = accepted(&listener);
        let head = connection.read_head().unwrap().unwrap();
        let body = connection.read_body(&head, 1 << 20, budget);
        let is_finished = connection.skip_body();
        drop(connection);
        drop(sending.join().unwrap());
        (body, is_finished)
    }

    fn accepted(listener: &TcpListener) -> Connection {
        let (socket, peer) = listener.accept().unwrap();
        let socket = Arc::new(socket);
        let slot = Arc::new(ConnectionSlots::new(2)).take(&socket).unwrap();
        Connection::new(socket, peer, slot)
    }

    fn with_length(length: usize, body: &[u8]) -> Vec<u8> {
        let head = format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n");
        [head.as_bytes(), body].concat()
    }

    fn chunked(chunks: &[&[u8]]) -> Vec<u8> {
        let mut request =
            b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        for chunk in chunks {
            request.extend(format!("{:x}\r\n", chunk.len()).bytes());
            request.extend([chunk, &b"\r\n"[..]].concat());
        }
        [&*request, b"0\r\n\r\n"].concat()
    }

    #[test]
    fn all_memory_of_a_body_is_charged_however_it_is_framed() {
        let (small, large) = (vec![b'x'; 1000], vec![b'x'; 1 << 20]);
        let parts: Vec<&[u8]> = large.chunks(70_000).collect();
        for (what, request, expected) in [
            ("nothing", with_length(0, b""), &b""[..]),
            ("all in the buffer", with_length(1000, &small), &small),
            ("more than the buffer", with_length(1 << 20, &large), &large),
            ("one chunk", chunked(&[&small]), &small),
            ("chunks", chunked(&parts), &large),
            ("bytes as chunks", chunked(&[&[b'x'][..]; 1000]), &small),
        ] {
            let budget = Budget::new(usize::MAX);
            let (body, is_finished) = read(&request, &budget);
            let body = body.unwrap();
            assert_eq!(body.bytes, expected, "{what}");
            assert!(is_finished, "{what}: the next request is lost");
            let (charged, held) = (budget.used(), body.bytes.capacity());
            assert!(
                charged >= held,
                "{what}: {charged} charged for {held} bytes"
            );
            assert_eq!(body.charge.bytes(), charged, "{what}");
            // Memory is not charged for more than it may be.
            assert!(charged <= 2 * expected.len(), "{what}: {charged}");
            drop(body);
            assert_eq!(budget.used(), 0, "{what}: the charge is not given back");
        }
    }

    #[test]
    fn what_is_not_a_whole_body_is_refused_and_ends_the_connection() {
        let body = vec![b'x'; 200_000];
        let start = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
        let cut = |rest: &str| format!("{start}{rest}").into_bytes();
        for (what, request, error) in [
            (
                "more than the memory",
                with_length(200_000, &body),
                "notification needs more than",
            ),
            (
                "chunks, more than the memory",
                chunked(&[&body]),
                "notification needs more than",
            ),
            (
                "longer than the limit",
                with_length((1 << 20) + 1, b"x"),
                "body exceeds",
            ),
            (
                "one chunk that is longer",
                cut("100001\r\nx"),
                "body exceeds",
            ),
            (
                "chunks that are longer",
                chunked(&[&body[..70_000]; 16]),
                "body exceeds",
            ),
            (
                "the end is missing",
                with_length(1000, b"x"),
                "body not received completely",
            ),
            (
                "the last chunk is missing",
                cut("1\r\nx\r\n"),
                "body not received completely",
            ),
        ] {
            let limit = if what.contains("memory") {
                64 << 10
            } else {
                usize::MAX
            };
            let budget = Budget::new(limit);
            let (result, is_finished) = read(&request, &budget);
            let found = result.expect_err(what).to_string();
            assert!(found.starts_with(error), "{what}: {found}");
            assert!(!is_finished, "{what}: its rest would be the next request");
            assert_eq!(budget.used(), 0, "{what}: the charge is not given back");
        }
    }

    #[test]
    fn a_chunk_size_is_a_hexadecimal_number() {
        for line in [
            "\r\n",
            "+1\r\n",
            "-1\r\n",
            "0x1\r\n",
            "g\r\n",
            " \r\n",
            "1 1\r\n",
            "1\t\u{0}\r\n",
            "\u{b2}\r\n",
            "1\n",
            ";x\r\n",
        ] {
            let request = format!(
                "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n{line}x\r\n0\r\n\r\n"
            );
            let (result, is_finished) = read(request.as_bytes(), &Budget::new(1 << 20));
            assert!(
                matches!(result, Err(HttpError::BodyMalformed(_))),
                "{line:?}: {result:?}"
            );
            assert!(!is_finished, "{line:?}");
        }
    }

    #[test]
    fn memory_is_charged_for_what_has_arrived_and_not_for_what_is_announced() {
        let budget = Budget::new(64 << 10);
        let (result, _) = read(&with_length(1 << 20, b"x"), &budget);
        // It fits, as one byte of it has come.
        assert!(
            matches!(result, Err(HttpError::BodyIncomplete(_))),
            "{result:?}"
        );
    }

    #[test]
    fn a_request_follows_the_end_of_the_body_before_it() {
        let next = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";
        let chunked = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3 ;x=y\r\nabc\r\n0\r\nA: b\r\n\r\n";
        for (request, is_read) in [
            (with_length(3, b"abc"), true),
            (with_length(3, b"abc"), false),
            (with_length(0, b""), false),
            (chunked.to_vec(), true),
        ] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let mut sender = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            sender.write_all(&[&*request, next].concat()).unwrap();
            let mut connection = accepted(&listener);
            let head = connection.read_head().unwrap().unwrap();
            if is_read {
                let body = connection.read_body(&head, 3, &Budget::new(1 << 20));
                assert_eq!(body.unwrap().bytes, b"abc");
            }
            assert!(connection.skip_body());
            let (head, _) = request::parse(connection.reader.buffer()).unwrap().unwrap();
            assert_eq!(head.method, "GET");
        }
    }
}
