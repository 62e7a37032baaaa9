//! Servers in the place of RabbitMQ, and limits of RabbitMQ, that must not stop, block or bloat the connector.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use crate::support::broker::Broker;
use crate::support::connector::{BINARY, Connector, MAPPING, config};
use crate::support::frame_relay::{self, HEARTBEAT, Handlers};
use crate::support::load::Load;
use crate::support::tls::Authority;
use crate::support::{notification, wait_until};
use openssl::ssl::{SslAcceptor, SslFiletype, SslMethod};

/// Starts the connector with less address space than the servers declare: to reserve that much would end it.
const LIMITED: [&str; 2] = ["prlimit", "--as=1000000000"];

/// A frame's header that declares 2 GB.
const HUGE_FRAME: [u8; 7] = [1, 0, 1, 0x7f, 0xff, 0xff, 0xff];

/// A content header whose message has 2 GB.
const HUGE_MESSAGE: [u8; 22] = [
    2, 0, 1, 0, 0, 0, 14, 0, 60, 0, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0xce,
];

const HTTP_RESPONSE: &[u8] = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n";

/// A server that sends these bytes to every client once it has got the header of the protocol.
fn answering(bytes: &'static [u8], tls: Option<Arc<SslAcceptor>>) -> u16 {
    fn answer(mut stream: impl Read + Write, bytes: &[u8]) -> std::io::Result<()> {
        stream.read_exact(&mut [0; 8])?;
        stream.write_all(bytes)?;
        std::io::copy(&mut stream, &mut std::io::sink()).map(drop)
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let tls = tls.clone();
            thread::spawn(move || match tls {
                Some(acceptor) => acceptor
                    .accept(stream)
                    .map(|stream| drop(answer(stream, bytes)))
                    .unwrap_or_default(),
                None => answer(stream, bytes).unwrap_or_default(),
            });
        }
    });
    port
}

fn acceptor(authority: &Authority) -> Arc<SslAcceptor> {
    let mut acceptor = SslAcceptor::mozilla_intermediate(SslMethod::tls()).unwrap();
    let file = |name: &str| authority.dir.join(name);
    acceptor
        .set_certificate_file(file("server.pem"), SslFiletype::PEM)
        .unwrap();
    acceptor
        .set_private_key_file(file("server-key.pem"), SslFiletype::PEM)
        .unwrap();
    Arc::new(acceptor.build())
}

#[test]
fn a_server_that_is_not_rabbitmq_is_reported_and_takes_no_memory() {
    let authority = Authority::new();
    let acceptor = acceptor(&authority);
    for (bytes, reason) in [
        (HTTP_RESPONSE, "the server does not speak AMQP"),
        (&HUGE_FRAME[..], "a frame above the negotiated size"),
        (&HUGE_MESSAGE[..], "a message above the size of any event"),
    ] {
        for tls in [Some(Arc::clone(&acceptor)), None] {
            let scheme = if tls.is_some() { "amqps" } else { "amqp" };
            let url = format!("{scheme}://u:p@localhost:{}/v", answering(bytes, tls));
            let settings = format!(
                "amqp: {{url: '{url}', ca_file: '{}'}}",
                authority.ca().display()
            );
            let text = config("x", "answer_timeout: 500ms", MAPPING).replacen(
                "amqp: {url: 'x'}",
                &settings,
                1,
            );
            let connector = Connector::with_wrapper(&LIMITED, BINARY, &text, &[]);
            wait_until(&format!("{scheme}: {reason}"), || {
                connector.get("/-/ready").body.contains(reason)
            });
            assert_eq!(connector.post(&notification(&["a"])).status, 503);
        }
    }
}

#[test]
fn a_connection_on_which_huge_frames_come_is_replaced() {
    let broker = Broker::shared();
    for bytes in [&HUGE_FRAME[..], &HUGE_MESSAGE[..]] {
        let vhost = broker.fresh_vhost();
        // The first connection gets them in the place of its first confirm.
        let connect = move |number| {
            let to_client = move |frame: &[u8], mut client: &TcpStream| {
                let is_confirm = frame_relay::acked_tag(frame).is_some();
                client.write_all(if is_confirm && number == 0 {
                    bytes
                } else {
                    frame
                })
            };
            Handlers {
                to_client: Box::new(to_client),
                ..Handlers::default()
            }
        };
        let relay = frame_relay::start("127.0.0.1:0", broker.port, connect);
        let url = format!("amqp://cpsrabbit:canopsis@{relay}/{vhost}");
        let text = config(&url, "", MAPPING);
        let connector = Connector::with_wrapper(&LIMITED, BINARY, &text, &[]);
        connector.wait_until_ready();
        let response = connector.post(&notification(&["a"]));
        assert_eq!(response.status, 200, "{}", response.body);
    }
}

#[test]
fn an_event_over_which_rabbitmq_closes_the_channel_fails_alone() {
    let broker = Broker::start();
    broker.ctl(&[
        "eval",
        "application:set_env(rabbit, max_message_size, 100000).",
    ]);
    let mapping = format!(
        "{MAPPING}\nextra_infos_prefix: x_\nextra_infos: {{large: {{type: copy, value: externalURL}}}}\n"
    );
    let connector = Connector::with(&config(&broker.url("v0"), "", &mapping), &[]);
    connector.wait_until_ready();
    let load = Load::start(connector.address, 8);
    for round in 0..15 {
        load.wait_for_more(20);
        let url = format!("\"externalURL\":\"{}\"", "x".repeat(200_000));
        let body = notification(&[format!("large{round}")]).replace("\"externalURL\":\"\"", &url);
        let response = connector.post(&body);
        assert_eq!(response.status, 503, "{}", response.body);
        assert!(response.body.contains("message size"), "{}", response.body);
    }
    let result = load.stop();
    let received = broker.admin("v0").drain_resources();
    result.assert_no_loss("an event above max_message_size", &received);
    let log = connector.log();
    let lost = log.lines().find(|line| line.contains("lost connection"));
    assert_eq!(lost, None, "more than the channel is given up");
    assert_eq!(result.statuses.keys().collect::<Vec<_>>(), [&200]);
}

#[test]
fn every_address_of_a_host_name_is_tried() {
    let broker = Broker::shared();
    let vhost = broker.fresh_vhost();
    // It accepts connections, and never sends a byte.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let connections = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&connections);
    thread::spawn(move || {
        let mut held = Vec::new();
        for stream in silent.incoming() {
            held.push(stream);
            counter.fetch_add(1, Ordering::SeqCst);
        }
    });
    let second = format!("127.0.0.2:{port}");
    frame_relay::start(&second, broker.port, |_| Handlers::default());
    let url = format!("amqp://cpsrabbit:canopsis@rabbit.test:{port}/{vhost}");
    let text = config(&url, "answer_timeout: 30s", MAPPING);
    let hosts = "127.0.0.1 rabbit.test\n127.0.0.2 rabbit.test\n";
    let connector = Connector::with_hosts(hosts, &text);
    connector.wait_until_ready();
    assert!(connections.load(Ordering::SeqCst) > 0, "the first is tried");
    assert_eq!(connector.post(&notification(&["a"])).status, 200);
    assert_eq!(broker.admin(&vhost).drain().len(), 1);
}

#[test]
fn a_connection_with_a_return_of_another_one_is_replaced() {
    let broker = Broker::shared();
    let vhost = broker.fresh_vhost();
    let connections = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&connections);
    // On the first connection the message does not reach the broker. The client gets the return of a message of another channel or
    // another run, and then acks.
    let connect = move |number| {
        counter.fetch_add(1, Ordering::SeqCst);
        if number > 0 {
            return Handlers::default();
        }
        let published = Arc::new(AtomicBool::new(false));
        let is_published = Arc::clone(&published);
        let to_broker = move |frame: &[u8], mut broker: &TcpStream| {
            if frame_relay::is_publish(frame) {
                published.store(true, Ordering::SeqCst);
            }
            if published.load(Ordering::SeqCst) {
                // The broker answers a heartbeat with one, which gives way to what the client gets.
                return broker.write_all(&HEARTBEAT);
            }
            broker.write_all(frame)
        };
        let mut is_acked = false;
        let to_client = move |frame: &[u8], mut client: &TcpStream| {
            if is_published.load(Ordering::SeqCst) && !std::mem::replace(&mut is_acked, true) {
                // The confirms are selected on the second channel.
                let like = [1, 0, 2];
                client.write_all(&frame_relay::returned(&like, "0-0-1-1"))?;
                client.write_all(&frame_relay::ack(&like, 1))?;
                client.write_all(&frame_relay::ack(&like, 2))?;
            }
            client.write_all(frame)
        };
        Handlers {
            to_broker: Box::new(to_broker),
            to_client: Box::new(to_client),
            ..Handlers::default()
        }
    };
    let relay = frame_relay::start("127.0.0.1:0", broker.port, connect);
    let url = format!("amqp://cpsrabbit:canopsis@{relay}/{vhost}?heartbeat=2");
    let connector = Connector::on(&url);
    connector.wait_until_ready();
    assert_eq!(connector.post(&notification(&["a", "b"])).status, 200);
    assert_eq!(
        broker.admin(&vhost).drain_resources(),
        ["a", "b"],
        "answered 200, and not in the queue"
    );
    assert_eq!(connections.load(Ordering::SeqCst), 2, "no reconnect");
    let log = connector.log();
    assert!(
        log.contains("RabbitMQ returned a message that was not published on it"),
        "{log}"
    );
}

/// Each session confirms an event, so that no failure follows another one.
#[test]
fn a_confirm_resets_the_pause_before_the_next_connection() {
    const CUTS: usize = 8;
    let broker = Broker::shared();
    let vhost = broker.fresh_vhost();
    let connect = move |number| {
        let to_client = move |frame: &[u8], mut client: &TcpStream| {
            client.write_all(frame)?;
            if number < CUTS && frame_relay::acked_tag(frame).is_some() {
                // The client reads it before it sees the end.
                thread::sleep(std::time::Duration::from_millis(50));
                return Err(std::io::ErrorKind::ConnectionAborted.into());
            }
            Ok(())
        };
        Handlers {
            to_client: Box::new(to_client),
            ..Handlers::default()
        }
    };
    let relay = frame_relay::start("127.0.0.1:0", broker.port, connect);
    let connector = Connector::on(&format!("amqp://cpsrabbit:canopsis@{relay}/{vhost}"));
    let started = Instant::now();
    for number in 0..=CUTS {
        let response = connector.post(&notification(&[format!("{number}")]));
        assert_eq!(response.status, 200, "{}", response.body);
    }
    let log = connector.log();
    let pauses = log.lines().filter_map(|line| {
        let (_, milliseconds) =
            line.split_once("pause before the next connection milliseconds=")?;
        Some(milliseconds.parse::<u64>().unwrap())
    });
    let pauses: Vec<u64> = pauses.collect();
    assert!(pauses.len() >= CUTS, "{pauses:?}");
    assert!(
        pauses.iter().all(|pause| *pause <= 200),
        "the back-off is not reset by a confirm: pauses of {pauses:?} ms"
    );
    let outages = log.split("outage_seconds=").skip(1).map(|rest| {
        let seconds = rest.split([' ', '\n']).next().unwrap();
        seconds.parse::<f64>().unwrap()
    });
    let (outages, elapsed) = (outages.sum::<f64>(), started.elapsed().as_secs_f64());
    // Each is rounded to a tenth.
    assert!(
        outages <= elapsed + 1.0,
        "outages of {outages} s within {elapsed} s"
    );
}
