//! Servers in the place of RabbitMQ, and limits of RabbitMQ, that must not stop, block or bloat the connector.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use crate::support::broker::{Admin, Broker};
use crate::support::connector::{BINARY, Connector, MAPPING, amqp_config, config, copying_mapping};
use crate::support::frame_relay::{self, HEARTBEAT, Handlers, close_channel};
use crate::support::load::Load;
use crate::support::tls::Authority;
use crate::support::{notification, serve, wait_until, with_external_url};
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
    serve(move |stream| {
        let _ = match &tls {
            Some(acceptor) => match acceptor.accept(stream) {
                Ok(stream) => answer(stream, bytes),
                Err(_) => Ok(()),
            },
            None => answer(stream, bytes),
        };
    })
}

fn acceptor(authority: &Authority) -> Arc<SslAcceptor> {
    let mut acceptor = SslAcceptor::mozilla_intermediate(SslMethod::tls()).unwrap();
    let file = |name: &str| authority.dir.path().join(name);
    let (cert, key) = (file("server.pem"), file("server-key.pem"));
    acceptor.set_certificate_chain_file(cert).unwrap();
    acceptor
        .set_private_key_file(key, SslFiletype::PEM)
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
            let ca = authority.ca();
            let amqp = format!("url: '{url}', ca_file: '{}'", ca.display());
            let text = amqp_config(&amqp, "answer_timeout: 500ms", MAPPING);
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
    for bytes in [&HUGE_FRAME[..], &HUGE_MESSAGE[..]] {
        // The first connection gets them in the place of its first confirm.
        let connect = move |number| {
            Handlers::to_client(move |frame, mut client| {
                let is_confirm = frame_relay::acked_tag(frame).is_some();
                let is_replaced = is_confirm && number == 0;
                client.write_all(if is_replaced { bytes } else { frame })
            })
        };
        let url = frame_relay::url(&Admin::fresh(), connect);
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
    let limit = "application:set_env(rabbit, max_message_size, 100000).";
    broker.ctl(&["eval", limit]);
    let mapping = copying_mapping("externalURL");
    let connector = Connector::ready(&broker.url("v0"), "", &mapping);
    let load = Load::start(connector.address, 8);
    for round in 0..5 {
        load.wait_for_more(20);
        let body = with_external_url(&[format!("large{round}")], &"x".repeat(200_000));
        let response = connector.post(&body);
        response.assert(503, "message size");
    }
    let result = load.stop();
    let received = broker.admin("v0").drain_resources();
    result.assert_no_loss("an event above max_message_size", &received);
    assert_eq!(result.statuses.keys().collect::<Vec<_>>(), [&200]);
}

#[test]
fn every_address_of_a_host_name_is_tried() {
    let admin = Admin::fresh();
    let connections = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&connections);
    // It accepts connections, and never sends a byte.
    let port = serve(move |stream| {
        counter.fetch_add(1, Ordering::SeqCst);
        let _ = std::io::copy(&mut &stream, &mut std::io::sink());
    });
    let second = format!("127.0.0.2:{port}");
    frame_relay::start(&second, admin.port, |_| Handlers::default());
    let url = admin.url();
    let url = url.replace(
        &format!("127.0.0.1:{}", admin.port),
        &format!("rabbit.test:{port}"),
    );
    let text = config(&url, "answer_timeout: 30s", MAPPING);
    let hosts = "127.0.0.1 rabbit.test\n127.0.0.2 rabbit.test\n";
    let connector = Connector::with_hosts(hosts, &text);
    connector.wait_until_ready();
    assert!(connections.load(Ordering::SeqCst) > 0, "the first is tried");
    assert_eq!(connector.post(&notification(&["a"])).status, 200);
    assert_eq!(admin.drain().len(), 1);
}

#[test]
fn a_connection_with_a_return_of_another_one_is_replaced() {
    let admin = Admin::fresh();
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
        Handlers::new(to_broker, to_client)
    };
    let url = frame_relay::url(&admin, connect);
    let mut connector = Connector::on(&format!("{url}?heartbeat=2"));
    assert_eq!(connector.post(&notification(&["a", "b"])).status, 200);
    let received = admin.drain_resources();
    assert_eq!(received, ["a", "b"], "answered 200, and not in the queue");
    assert_eq!(connections.load(Ordering::SeqCst), 2, "no reconnect");
    connector.wait_for_log("RabbitMQ returned a message that was not published on it");
}

/// As a node that becomes slow: what it has said of the event still counts.
#[test]
fn a_refused_event_has_its_verdict_where_no_other_channel_opens() {
    let admin = Admin::fresh();
    let connect = |number| {
        if number > 0 {
            return Handlers::default();
        }
        let published = Arc::new(AtomicBool::new(false));
        let is_published = Arc::clone(&published);
        // The message gives way to a heartbeat, which the broker answers.
        let to_broker = move |frame: &[u8], mut broker: &TcpStream| {
            published.fetch_or(frame_relay::is_publish(frame), Ordering::SeqCst);
            let is_passed_on = !published.load(Ordering::SeqCst);
            broker.write_all(if is_passed_on { frame } else { &HEARTBEAT })
        };
        let mut is_closed = false;
        let to_client = move |frame: &[u8], mut client: &TcpStream| {
            if !is_published.load(Ordering::SeqCst) {
                return client.write_all(frame);
            }
            if !std::mem::replace(&mut is_closed, true) {
                // Messages are published on the second channel.
                client.write_all(&close_channel(&[1, 0, 2], 406, "PRECONDITION_FAILED"))?;
            }
            client.write_all(&HEARTBEAT)
        };
        Handlers::new(to_broker, to_client)
    };
    let url = frame_relay::url(&admin, connect) + "?heartbeat=2";
    let mut connector = Connector::on(&url);
    let refused = connector.post(&notification(&["a"]));
    refused.assert(503, "closed the channel because of an event: 406");
    connector.wait_for_log("lost connection to RabbitMQ: 406 PRECONDITION_FAILED");
    connector.wait_until_ready();
    assert_eq!(connector.post(&notification(&["a"])).status, 200);
    assert_eq!(admin.drain_resources(), ["a"]);
}

/// Without heartbeats, nothing else shows that the broker hangs.
#[test]
fn a_connection_on_which_nothing_is_confirmed_is_replaced() {
    let broker = Broker::shared();
    let vhost = broker.fresh_vhost();
    let connect = |number| {
        let to_client = move |frame: &[u8], mut client: &TcpStream| {
            if number == 0 && frame_relay::acked_tag(frame).is_some() {
                return Ok(());
            }
            client.write_all(frame)
        };
        Handlers {
            to_client: Box::new(to_client),
            ..Handlers::default()
        }
    };
    let relay = frame_relay::start("127.0.0.1:0", broker.port, connect);
    let url = format!("amqp://cpsrabbit:canopsis@{relay}/{vhost}?heartbeat=0");
    let mut connector = Connector::with(&config(&url, "answer_timeout: 60s", MAPPING), &[]);
    let response = connector.post(&notification(&["a"]));
    assert_eq!(response.status, 200, "not given up: {}", response.body);
    connector.wait_for_log("lost connection to RabbitMQ: no confirm for 30s");
}

/// Each session confirms an event, so that no failure follows another one.
#[test]
fn a_confirm_resets_the_pause_before_the_next_connection() {
    const CUTS: usize = 8;
    let connect = move |number| {
        Handlers::to_client(move |frame, mut client| {
            client.write_all(frame)?;
            if number < CUTS && frame_relay::acked_tag(frame).is_some() {
                // The client reads it before it sees the end.
                thread::sleep(std::time::Duration::from_millis(50));
                return Err(std::io::ErrorKind::ConnectionAborted.into());
            }
            Ok(())
        })
    };
    let connector = Connector::on(&frame_relay::url(&Admin::fresh(), connect));
    let started = Instant::now();
    for number in 0..=CUTS {
        let response = connector.post(&notification(&[format!("{number}")]));
        assert_eq!(response.status, 200, "{}", response.body);
    }
    let log = connector.log();
    // The numbers behind each occurrence of a text.
    let numbers = |text: &str| -> Vec<f64> {
        let rests = log.split(text).skip(1);
        let numbers = rests.map(|rest| rest.split([' ', '\n']).next().unwrap());
        numbers.map(|number| number.parse().unwrap()).collect()
    };
    let pauses = numbers("pause before the next connection milliseconds=");
    assert!(pauses.len() >= CUTS, "{pauses:?}");
    assert!(
        pauses.iter().all(|pause| *pause <= 200.0),
        "the back-off is not reset by a confirm: pauses of {pauses:?} ms"
    );
    let outages: f64 = numbers("outage_seconds=").iter().sum();
    let elapsed = started.elapsed().as_secs_f64();
    // Each is rounded to a tenth.
    assert!(
        outages <= elapsed + 1.0,
        "outages of {outages} s within {elapsed} s"
    );
}
