//! Malformed, malicious and excessive input: nothing is published without the token, and no input stops, blocks or bloats the process.

/// Runs each test with a listener for plain HTTP, and with one for HTTPS.
macro_rules! on_both_listeners {
    ($($test:ident),+ $(,)?) => {
        mod plain {
            $(#[test]
            fn $test() {
                super::$test(None);
            })+
        }

        mod https {
            $(#[test]
            fn $test() {
                super::$test(Some(&crate::support::tls::Authority::new()));
            })+
        }
    };
}

mod bodies;
mod connections;
mod requests;
mod token;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::support::broker::Broker;
use crate::support::connector::{Connector, MAPPING, config};
use crate::support::http::Stream;
use crate::support::notification;
use crate::support::tls::Authority;

/// The limit for the resident memory. The most of a debug build was 95 MiB: with HTTPS, and 100 bodies that stall.
const MAX_MEMORY: usize = 128 << 20;

fn connector(authority: Option<&Authority>) -> (Connector, String) {
    connector_with(authority, "", &[])
}

/// A connector with these settings of the section `http` and these arguments, and its virtual host.
fn connector_with(
    authority: Option<&Authority>,
    http: &str,
    arguments: &[&str],
) -> (Connector, String) {
    let vhost = Broker::shared().fresh_vhost();
    let tls = authority.map_or_else(String::new, |authority| authority.setting("server", ""));
    let text = config(
        &Broker::shared().url(&vhost),
        &format!("{tls}, {http}"),
        MAPPING,
    )
    .replace(", , ", ", ");
    let mut connector = Connector::with(&text, arguments);
    connector.tls = authority.map(Authority::tls);
    connector.wait_until_ready();
    (connector, vhost)
}

/// Asserts that the process still accepts a notification within 5 s, and that its memory is below [`MAX_MEMORY`].
fn assert_survives(connector: &Connector, what: &str) {
    let mut client = connector.client();
    client.set_timeout(Duration::from_secs(5));
    let response = client
        .post(&notification(&[what]))
        .unwrap_or_else(|error| panic!("after {what}: {error}"));
    assert_eq!(response.status, 200, "after {what}: {}", response.body);
    assert!(
        connector.peak_memory() < MAX_MEMORY,
        "after {what}: {} bytes",
        connector.peak_memory()
    );
}

/// A connection to a connector, after the TLS handshake where there is one.
struct Peer {
    socket: TcpStream,
    stream: Box<dyn Stream>,
}

fn connect(connector: &Connector) -> Peer {
    let socket = TcpStream::connect(connector.address).unwrap();
    socket
        .set_read_timeout(Some(crate::support::TIMEOUT))
        .unwrap();
    let stream = socket.try_clone().unwrap();
    let stream: Box<dyn Stream> = match &connector.tls {
        Some(tls) => tls.connect(stream).unwrap(),
        None => Box::new(stream),
    };
    Peer { socket, stream }
}

impl Read for Peer {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.stream.read(buffer)
    }
}

impl Write for Peer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.stream.flush()
    }
}
