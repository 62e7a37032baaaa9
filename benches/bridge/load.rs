//! Senders as Alertmanager is one: each keeps a connection and posts a notification at a time. Lean, for it shares two cores
//! with what it measures: the request is made once, and an answer is looked at for its status and its end.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{TOKEN, payload};

/// A thread of a sender needs no more.
const STACK_BYTES: usize = 64 << 10;

/// A notification that is posted again and again.
pub struct Notifications {
    request: Arc<Vec<u8>>,
    /// In each.
    pub alerts: usize,
}

impl Notifications {
    /// A captured notification, with so many alerts, each of another host.
    pub fn of(alerts: usize) -> Self {
        let mut notification: serde_json::Value = serde_json::from_str(&payload("firing-one")).unwrap();
        let alert = notification["alerts"][0].clone();
        let of_host = |number: usize| {
            let mut alert = alert.clone();
            alert["labels"]["instance"] = json!(format!("node{number:05}:9100"));
            alert["fingerprint"] = json!(format!("86714e72{number:08x}"));
            alert
        };
        notification["alerts"] = (0..alerts).map(of_host).collect();
        let body = notification.to_string();
        let request = format!(
            "POST /webhook HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: Alertmanager/0.25.0\r\nContent-Length: {}\r\n\
             Authorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\nAccept-Encoding: gzip\r\n\r\n{body}",
            body.len()
        );
        Self { request: Arc::new(request.into_bytes()), alerts }
    }

    /// Posts it on so many connections, so many times on each; the whole time, and that of each until its answer.
    pub fn post(&self, address: SocketAddr, connections: usize, posts: usize) -> (Duration, Vec<Duration>) {
        let ready = Arc::new(Barrier::new(connections + 1));
        let senders: Vec<_> = (0..connections)
            .map(|_| {
                let (request, ready) = (Arc::clone(&self.request), Arc::clone(&ready));
                let send = move || send(address, &request, posts, &ready);
                std::thread::Builder::new().stack_size(STACK_BYTES).spawn(send).unwrap()
            })
            .collect();
        ready.wait();
        let start = Instant::now();
        let latencies = senders.into_iter().flat_map(|sender| sender.join().unwrap()).collect();
        (start.elapsed(), latencies)
    }
}

fn send(address: SocketAddr, request: &[u8], posts: usize, ready: &Barrier) -> Vec<Duration> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut buffer = [0; 4096];
    ready.wait();
    let mut latencies = Vec::with_capacity(posts);
    for _ in 0..posts {
        let start = Instant::now();
        stream.write_all(request).unwrap();
        let mut filled = 0;
        while !is_whole(&buffer[..filled]) {
            match stream.read(&mut buffer[filled..]).unwrap() {
                0 => panic!("the connection ended: {}", String::from_utf8_lossy(&buffer[..filled])),
                count => filled += count,
            }
        }
        latencies.push(start.elapsed());
        assert!(buffer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&buffer[..filled]));
    }
    latencies
}

/// Whether an answer has come to its end, which its Content-Length tells.
fn is_whole(answer: &[u8]) -> bool {
    let Some(head) = answer.windows(4).position(|window| window == b"\r\n\r\n") else { return false };
    let text = String::from_utf8_lossy(&answer[..head]).to_ascii_lowercase();
    let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a Content-Length");
    answer.len() >= head + 4 + length.trim().parse::<usize>().unwrap()
}
