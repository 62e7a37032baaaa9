//! Senders as Alertmanager is one: each keeps a connection and posts a notification at a time. Lean, for it shares two cores
//! with what it measures: one thread serves all of them, the requests are made beforehand, and an answer is looked at for its
//! status and its end.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Poll, PollOpt, Ready, Token};
use serde_json::json;

use crate::support::{TOKEN, payload};

/// Notifications of one size, each posted again and again on its own connection.
pub struct Notifications {
    /// In each.
    pub alerts: usize,
}

impl Notifications {
    /// With so many alerts, each of another host.
    pub fn of(alerts: usize) -> Self {
        Self { alerts }
    }

    /// A captured notification. Each connection has its own hosts: the connector publishes a notification once that two senders
    /// post at the same time.
    fn request(&self, connection: usize) -> Vec<u8> {
        let mut notification: serde_json::Value =
            serde_json::from_str(&payload("firing-one")).unwrap();
        let alert = notification["alerts"][0].clone();
        let of_host = |number: usize| {
            let mut alert = alert.clone();
            alert["labels"]["instance"] = json!(format!("n{connection:03}{number:05}:9100"));
            alert["fingerprint"] = json!(format!("86714e72{number:08x}"));
            alert
        };
        notification["alerts"] = (0..self.alerts).map(of_host).collect();
        let body = notification.to_string();
        let request = format!(
            "POST /webhook HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: Alertmanager/0.25.0\r\nContent-Length: {}\r\n\
             Authorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\nAccept-Encoding: gzip\r\n\r\n{body}",
            body.len()
        );
        request.into_bytes()
    }

    /// Posts it on so many connections, so many times on each; the whole time, and that of each until its answer.
    pub fn post(
        &self,
        address: SocketAddr,
        connections: usize,
        posts: usize,
    ) -> (Duration, Vec<Duration>) {
        let poll = Poll::new().unwrap();
        let mut senders: Vec<Sender> = (0..connections)
            .map(|number| {
                // Connected before the time counts.
                let stream = std::net::TcpStream::connect(address).unwrap();
                stream.set_nodelay(true).unwrap();
                let stream = TcpStream::from_stream(stream).unwrap();
                poll.register(
                    &stream,
                    Token(number),
                    Ready::readable() | Ready::writable(),
                    PollOpt::edge(),
                )
                .unwrap();
                Sender {
                    stream,
                    request: self.request(number),
                    posts,
                    since: Instant::now(),
                    sent: 0,
                    answer: Vec::with_capacity(1024),
                }
            })
            .collect();
        let (mut latencies, mut events) = (
            Vec::with_capacity(connections * posts),
            Events::with_capacity(1024),
        );
        let start = Instant::now();
        for sender in &mut senders {
            sender.since = start;
        }
        while latencies.len() < connections * posts {
            poll.poll(&mut events, None).unwrap();
            for event in &events {
                senders[event.token().0].go_on(&mut latencies);
            }
        }
        (start.elapsed(), latencies)
    }
}

/// One connection.
struct Sender {
    stream: TcpStream,
    request: Vec<u8>,
    /// What is still to be posted, that which is under way included.
    posts: usize,
    since: Instant,
    /// So many bytes of the request are on their way.
    sent: usize,
    answer: Vec<u8>,
}

impl Sender {
    /// Does what can be done without waiting.
    fn go_on(&mut self, latencies: &mut Vec<Duration>) {
        while self.posts > 0 {
            while self.sent < self.request.len() {
                match self.stream.write(&self.request[self.sent..]) {
                    Ok(count) => self.sent += count,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                    Err(error) => panic!("{error}"),
                }
            }
            let mut buffer = [0; 4096];
            match self.stream.read(&mut buffer) {
                Ok(0) => panic!(
                    "the connection ended: {}",
                    String::from_utf8_lossy(&self.answer)
                ),
                Ok(count) => self.answer.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => panic!("{error}"),
            }
            if is_whole(&self.answer) {
                assert!(
                    self.answer.starts_with(b"HTTP/1.1 200 "),
                    "{}",
                    String::from_utf8_lossy(&self.answer)
                );
                let now = Instant::now();
                latencies.push(now - self.since);
                (self.since, self.sent) = (now, 0);
                self.posts -= 1;
                self.answer.clear();
            }
        }
    }
}

/// Whether an answer has come to its end, which its Content-Length tells.
fn is_whole(answer: &[u8]) -> bool {
    let Some(head) = answer.windows(4).position(|window| window == b"\r\n\r\n") else {
        return false;
    };
    let is_length =
        |line: &&[u8]| line.len() > 15 && line[..15].eq_ignore_ascii_case(b"content-length:");
    let line = answer[..head]
        .split(|byte| *byte == b'\n')
        .find(is_length)
        .expect("a Content-Length");
    let length: usize = std::str::from_utf8(&line[15..])
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    answer.len() >= head + 4 + length
}
