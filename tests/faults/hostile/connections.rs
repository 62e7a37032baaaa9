//! Too many connections, senders that stall, and limits of the system.

use std::net::TcpListener;
use std::process::Command;
use std::thread;
use std::time::Duration;

use super::{assert_survives, connector, connector_with};
use crate::support::broker::Admin;
use crate::support::connector::{BINARY, Connector, MAPPING, config, copy_for_other_users};
use crate::support::http::Peer;
use crate::support::tls::Authority;
use crate::support::{notification, raise_file_limit, wait_until};

on_both_listeners!(
    idle_connections_do_not_block_other_senders,
    senders_that_do_not_read_block_no_others_and_do_not_flood_the_log,
);

fn idle_connections_do_not_block_other_senders(authority: Option<&Authority>) {
    raise_file_limit(4096);
    let (connector, _) = connector(authority);
    let mut held: Vec<Peer> = (0..900).map(|_| connector.connect()).collect();
    for stream in &mut held[..300] {
        stream.send("POST /webhook HTTP/1.1\r\nHost: h").unwrap();
    }
    assert_survives(&connector, "900 connections held");
    // More than max_connections: the oldest ones are closed.
    held.extend((0..600).map(|_| connector.connect()));
    assert_survives(&connector, "1500 connections held");
    drop(held);
    wait_until("the threads are gone", || connector.threads() < 20);
    assert_survives(&connector, "1500 connections closed");
}

fn senders_that_do_not_read_block_no_others_and_do_not_flood_the_log(
    authority: Option<&Authority>,
) {
    let arguments = ["--log-level", "info"];
    let (mut connector, _) = connector_with(authority, "max_connections: 32", &arguments);
    // One alone keeps its connection until a write takes too long.
    let mut alone = connector.connect();
    let page = "GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n";
    alone.send(page.repeat(2000)).unwrap();
    wait_until("the write times out", || {
        connector.metric("http_connections") == 1
    });
    // Each requests more responses than fit into the kernel's buffers, and reads none. Half of them request unknown paths.
    let health = "GET /-/healthy HTTP/1.1\r\nHost: h\r\n\r\n".repeat(200_000);
    let nothing = format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "x".repeat(8000)).repeat(1000);
    let mut held = Vec::new();
    for number in 0..64 {
        let mut stream = connector.connect();
        let limit = Some(Duration::from_millis(200));
        stream.socket().set_write_timeout(limit).unwrap();
        let _ = stream.send(if number % 2 == 0 { &health } else { &nothing });
        held.push(stream);
    }
    assert_survives(&connector, "64 senders that do not read");
    let logged = connector.log().len();
    assert!(logged < 1 << 20, "{logged} bytes of log");
    connector.terminate();
    assert_eq!(connector.wait().code(), Some(0));
    let is_delayed = connector.log().contains("got no response");
    assert!(!is_delayed, "a sender delayed the shutdown");
}

fn wait_until_it_accepts(connector: &Connector, alert: &str) {
    wait_until(&format!("it accepts the alert {alert:?}"), || {
        let response = connector.try_post(&notification(&[alert]));
        response.is_ok_and(|response| response.status == 200)
    });
}

#[test]
fn the_service_survives_a_lack_of_file_descriptors() {
    let text = config(&Admin::fresh().url(), "", MAPPING);
    let mut connector = Connector::with_wrapper(&["prlimit", "--nofile=24"], BINARY, &text, &[]);
    connector.wait_until_ready();
    let held: Vec<Peer> = (0..100).map(|_| connector.connect()).collect();
    connector.wait_for_log("cannot accept a connection: Too many open files");
    wait_until_it_accepts(&connector, "held");
    drop(held);
    connector.wait_for_log("accepting connections again");
    assert_survives(&connector, "file descriptors came back");
}

#[test]
fn the_service_survives_a_lack_of_threads() {
    let text = config(&Admin::fresh().url(), "", MAPPING);
    // The limit does not apply to root, and counts all threads of a user: this user has no others.
    let as_other_user = "setpriv --reuid=54321 --clear-groups prlimit --nproc=12";
    let as_other_user: Vec<&str> = as_other_user.split(' ').collect();
    let path = copy_for_other_users();
    let binary = path.to_str().unwrap();
    let mut connector = Connector::with_wrapper(&as_other_user, binary, &text, &[]);
    connector.wait_until_ready();
    let held: Vec<Peer> = (0..50).map(|_| connector.connect()).collect();
    connector.wait_for_log("cannot accept a connection: Resource temporarily unavailable");
    wait_until_it_accepts(&connector, "held");
    drop(held);
    wait_until_it_accepts(&connector, "after");
    assert_survives(&connector, "threads came back");
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn a_lack_of_threads_for_calls_to_the_broker_is_logged() {
    // It closes each connection at once: a call begins, and ends.
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    thread::spawn(move || server.incoming().for_each(drop));
    let text = config(&format!("amqp://127.0.0.1:{port}"), "", MAPPING);
    let path = copy_for_other_users();
    let as_other_user = ["setpriv", "--reuid=54322", "--clear-groups"];
    let binary = path.to_str().unwrap();
    let mut connector = Connector::with_wrapper(&as_other_user, binary, &text, &[]);
    connector.wait_for_log("cannot connect to RabbitMQ");
    let tasks = format!("/proc/{}/task", connector.pid());
    let is_lasting = |name: &String| {
        !["dialer", "amiquip"]
            .iter()
            .any(|other| name.starts_with(other))
    };
    let names = std::fs::read_dir(tasks).unwrap().filter_map(|task| {
        let name = task.unwrap().path().join("comm");
        std::fs::read_to_string(name).ok()
    });
    // For the lasting threads, and the one that calls, without another one that limits the time of the call.
    let limit = names.filter(is_lasting).count() + 1;
    let limit = [
        format!("--pid={}", connector.pid()),
        format!("--nproc={limit}"),
    ];
    let mut lower = Command::new(as_other_user[0]);
    lower.args(&as_other_user[1..]).arg("prlimit").args(limit);
    assert!(lower.status().unwrap().success());
    connector.wait_for_log("cannot start a thread that limits the time of calls to RabbitMQ");
    std::fs::remove_file(&path).unwrap();
}
