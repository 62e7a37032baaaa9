//! Senders that behave as Alertmanager: each keeps a connection and posts one notification at a time. They share the processors
//! with the bridge under test, so they use little CPU time: one thread for all connections, requests prepared in advance, and of a
//! response only the status and the length are parsed.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Poll, PollOpt, Ready, Token};
use serde_json::json;

use crate::support::http::{Stream, Tls};
use crate::support::{TOKEN, payload};

/// Notifications of one size, each posted repeatedly on its own connection.
pub struct Load {
    /// Alerts per notification.
    pub alerts: usize,
    /// For HTTPS.
    pub tls: Option<Tls>,
}

impl Load {
    /// Notifications with this number of alerts, each of another host.
    pub fn with_alerts(alerts: usize) -> Self {
        Self { alerts, tls: None }
    }

    /// Each connection has its own hosts: the connector publishes a notification once that two senders post at the same time.
    fn request(&self, connection: usize) -> Vec<u8> {
        let mut notification: serde_json::Value =
            serde_json::from_str(&payload("firing-one")).unwrap();
        let alert = notification["alerts"][0].clone();
        let alert_of_host = |number: usize| {
            let mut alert = alert.clone();
            alert["labels"]["instance"] = json!(format!("n{connection:03}{number:05}:9100"));
            alert["fingerprint"] = json!(format!("86714e72{number:08x}"));
            alert
        };
        notification["alerts"] = (0..self.alerts).map(alert_of_host).collect();
        let body = notification.to_string();
        let request = format!(
            "POST /webhook HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: Alertmanager/0.25.0\r\nContent-Length: {}\r\n\
             Authorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\nAccept-Encoding: gzip\r\n\r\n{body}",
            body.len()
        );
        request.into_bytes()
    }

    /// Posts it `posts` times on each connection. Returns the total time, and the time of each post to its response.
    pub fn post(
        &self,
        address: SocketAddr,
        connections: usize,
        posts: usize,
    ) -> (Duration, Vec<Duration>) {
        let poll = Poll::new().unwrap();
        let mut senders: Vec<Sender> = (0..connections)
            .map(|number| {
                // Connects before the measured time starts.
                let socket = std::net::TcpStream::connect(address).unwrap();
                socket.set_nodelay(true).unwrap();
                let stream = socket.try_clone().unwrap();
                let stream: Box<dyn Stream> = match &self.tls {
                    Some(tls) => tls.connect(stream).unwrap(),
                    None => Box::new(stream),
                };
                // Makes all copies non-blocking.
                let socket = TcpStream::from_stream(socket).unwrap();
                poll.register(
                    &socket,
                    Token(number),
                    Ready::readable() | Ready::writable(),
                    PollOpt::edge(),
                )
                .unwrap();
                Sender {
                    _socket: socket,
                    stream,
                    posts,
                    posted_at: Instant::now(),
                    sent: 0,
                    response: Vec::with_capacity(1024),
                }
            })
            .collect();
        let (mut latencies, mut events) = (
            Vec::with_capacity(connections * posts),
            Events::with_capacity(1024),
        );
        let requests: Vec<Vec<u8>> = (0..connections)
            .map(|number| self.request(number))
            .collect();
        let start = Instant::now();
        for sender in &mut senders {
            sender.posted_at = start;
        }
        while latencies.len() < connections * posts {
            poll.poll(&mut events, None).unwrap();
            for event in &events {
                senders[event.token().0].advance(&requests[event.token().0], &mut latencies);
            }
        }
        (start.elapsed(), latencies)
    }
}

struct Sender {
    /// What is polled.
    _socket: TcpStream,
    stream: Box<dyn Stream>,
    /// Remaining posts, including the one in flight.
    posts: usize,
    posted_at: Instant,
    /// Bytes of the request that are written.
    sent: usize,
    response: Vec<u8>,
}

impl Sender {
    /// Writes and reads until that would block.
    fn advance(&mut self, request: &[u8], latencies: &mut Vec<Duration>) {
        while self.posts > 0 {
            while self.sent < request.len() {
                match self.stream.write(&request[self.sent..]) {
                    Ok(count) => self.sent += count,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                    Err(error) => panic!("{error}"),
                }
            }
            let mut buffer = [0; 4096];
            match self.stream.read(&mut buffer) {
                Ok(0) => panic!(
                    "connection closed: {}",
                    String::from_utf8_lossy(&self.response)
                ),
                Ok(count) => self.response.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => panic!("{error}"),
            }
            if is_complete(&self.response) {
                assert!(
                    self.response.starts_with(b"HTTP/1.1 200 "),
                    "{}",
                    String::from_utf8_lossy(&self.response)
                );
                let now = Instant::now();
                latencies.push(now - self.posted_at);
                (self.posted_at, self.sent) = (now, 0);
                self.posts -= 1;
                self.response.clear();
            }
        }
    }
}

/// Whether the response is complete according to its Content-Length.
fn is_complete(response: &[u8]) -> bool {
    let Some(head) = response.windows(4).position(|window| window == b"\r\n\r\n") else {
        return false;
    };
    let is_length =
        |line: &&[u8]| line.len() > 15 && line[..15].eq_ignore_ascii_case(b"content-length:");
    let line = response[..head]
        .split(|byte| *byte == b'\n')
        .find(is_length)
        .expect("a Content-Length");
    let length: usize = std::str::from_utf8(&line[15..])
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    response.len() >= head + 4 + length
}
