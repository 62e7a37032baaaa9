//! Malformed, malicious and excessive input: nothing is published without the token, and no input stops, blocks or bloats the process.

mod support;

use std::io::{BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use canopsis_connector_prometheus::http::DEFAULT_TOKEN;
use support::broker::Broker;
use support::connector::{BINARY, Connector, MAPPING, config, copy_for_other_users};
use support::http::{Stream, read_response};
use support::load::{post_all, statuses};
use support::tls::Authority;
use support::{TOKEN, notification, raise_file_limit, wait_until};

/// The limit for the resident memory, which leaves a margin below the unit's `MemoryMax=512M`.
const MAX_MEMORY: usize = 200 << 20;

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
                super::$test(Some(&super::Authority::new()));
            })+
        }
    };
}

on_both_listeners!(
    malformed_requests_are_rejected_and_their_connections_closed,
    chunked_bodies_and_expect_continue_are_accepted,
    idle_connections_do_not_block_other_senders,
    senders_that_do_not_read_block_no_others_and_do_not_flood_the_log,
    an_incomplete_head_times_out,
    large_bodies_with_a_token_do_not_exhaust_memory,
);

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
    socket.set_read_timeout(Some(support::TIMEOUT)).unwrap();
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

/// Sends bytes until the server stops reading. Returns the status of the response (0 without one), and whether the server then
/// closed the connection.
fn send_raw(connector: &Connector, bytes: &[u8]) -> (u16, bool) {
    let mut stream = connect(connector);
    // The server may close before everything is sent.
    let _ = stream.write_all(bytes);
    let mut reader = BufReader::new(stream);
    let status = read_response(&mut reader).map_or(0, |response| response.status);
    let mut rest = Vec::new();
    let closed = reader.read_to_end(&mut rest).is_ok_and(|_| rest.is_empty());
    (status, closed)
}

fn malformed_requests_are_rejected_and_their_connections_closed(authority: Option<&Authority>) {
    let (connector, vhost) = connector(authority);
    let head =
        |lines: &str| format!("POST /webhook HTTP/1.1\r\nHost: h\r\n{lines}\r\n\r\n").into_bytes();
    let with_token = |lines: &str| head(&format!("Authorization: Bearer {TOKEN}\r\n{lines}"));
    let followed = |mut head: Vec<u8>, body: &[u8]| {
        head.extend_from_slice(body);
        head
    };
    let body = notification(&["smuggled"]);
    let smuggled = format!(
        "POST /webhook HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut survivors: Vec<String> = Vec::new();
    for (what, bytes, status) in [
        (
            "a huge length, no token",
            head("Content-Length: 900000000000000"),
            401,
        ),
        (
            "a huge length",
            with_token("Content-Length: 900000000000000"),
            413,
        ),
        (
            "a length of 30 digits",
            with_token(&format!("Content-Length: {}", "9".repeat(30))),
            413,
        ),
        ("a negative length", with_token("Content-Length: -1"), 400),
        (
            "a doubled length",
            with_token("Content-Length: 2\r\nContent-Length: 2"),
            400,
        ),
        (
            "a non-numeric length",
            followed(with_token("Content-Length: abc"), smuggled.as_bytes()),
            400,
        ),
        (
            "another version, as h2c begins",
            followed(
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
                smuggled.as_bytes(),
            ),
            400,
        ),
        (
            "both framings",
            followed(
                with_token("Content-Length: 2\r\nTransfer-Encoding: chunked"),
                b"0\r\n\r\n",
            ),
            400,
        ),
        (
            "another encoding",
            with_token("Transfer-Encoding: gzip, chunked"),
            400,
        ),
        (
            "a huge chunk",
            followed(
                with_token("Transfer-Encoding: chunked"),
                b"FFFFFFFFFFFF\r\nx",
            ),
            413,
        ),
        (
            "a chunk size of 20 digits",
            followed(
                with_token("Transfer-Encoding: chunked"),
                b"FFFFFFFFFFFFFFFFFFFF\r\n",
            ),
            400,
        ),
        (
            "a negative chunk",
            followed(with_token("Transfer-Encoding: chunked"), b"-1\r\nx"),
            400,
        ),
        (
            "an endless chunk line",
            followed(with_token("Transfer-Encoding: chunked"), &[b'1'; 5000]),
            400,
        ),
        (
            "chunks that overlap",
            followed(
                with_token("Transfer-Encoding: chunked"),
                b"1\r\nxx\r\n0\r\n\r\n",
            ),
            400,
        ),
        (
            "endless trailers",
            followed(
                with_token("Transfer-Encoding: chunked"),
                &[b"0\r\n".as_slice(), &b"a: b\r\n".repeat(1000)].concat(),
            ),
            400,
        ),
        (
            "an endless header line",
            followed(
                b"GET / HTTP/1.1\r\nHost: h\r\nX: ".to_vec(),
                &vec![b'a'; 50 << 20],
            ),
            431,
        ),
        ("an endless request line", vec![b'a'; 50 << 20], 431),
        (
            "200,000 headers",
            followed(
                b"GET / HTTP/1.1\r\nHost: h\r\n".to_vec(),
                &b"a: b\r\n".repeat(200_000),
            ),
            431,
        ),
        ("noise", vec![0xde; 5000], 400),
        (
            "a TLS hello",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
            400,
        ),
        (
            "two tokens",
            head(&format!(
                "Authorization: Bearer {TOKEN}\r\nAuthorization: Bearer x\r\nContent-Length: 0"
            )),
            400,
        ),
        ("another version", b"GET / HTTP/3.0\r\n\r\n".to_vec(), 400),
        (
            "an unknown expectation",
            with_token("Expect: tea\r\nContent-Length: 2"),
            417,
        ),
    ] {
        assert_eq!(send_raw(&connector, &bytes), (status, true), "{what}");
        assert_survives(&connector, what);
        survivors.push(what.to_owned());
    }
    assert_eq!(
        Broker::shared().admin(&vhost).drain_resources(),
        survivors,
        "these and no others"
    );
}

fn chunked_bodies_and_expect_continue_are_accepted(authority: Option<&Authority>) {
    let (connector, vhost) = connector(authority);
    let body = notification(&["chunked"]);
    let (one, other) = body.split_at(100);
    let mut stream = BufReader::new(connect(&connector));
    let lines = format!("POST /webhook HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {TOKEN}\r\n");
    let chunks = format!(
        "64;a=b\r\n{one}\r\n{:X}\r\n{other}\r\n0\r\nTrailer: x\r\n\r\n",
        other.len()
    );
    stream
        .get_mut()
        .write_all(format!("{lines}Transfer-Encoding: chunked\r\n\r\n{chunks}").as_bytes())
        .unwrap();
    assert_eq!(read_response(&mut stream).unwrap().status, 200);
    let head = format!(
        "{lines}Expect: 100-continue\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.get_mut().write_all(head.as_bytes()).unwrap();
    assert_eq!(read_response(&mut stream).unwrap().status, 100);
    stream.get_mut().write_all(body.as_bytes()).unwrap();
    assert_eq!(read_response(&mut stream).unwrap().status, 200);
    // Two pipelined requests get their responses in order.
    let both = format!(
        "GET /-/healthy HTTP/1.1\r\nHost: h\r\n\r\n{lines}Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.get_mut().write_all(both.as_bytes()).unwrap();
    assert!(read_response(&mut stream).unwrap().body.contains("healthy"));
    assert!(
        read_response(&mut stream)
            .unwrap()
            .body
            .contains("published")
    );
    assert_eq!(
        Broker::shared().admin(&vhost).drain_resources(),
        ["chunked"; 3]
    );
}

fn idle_connections_do_not_block_other_senders(authority: Option<&Authority>) {
    raise_file_limit(4096);
    let (connector, _) = connector(authority);
    let mut held: Vec<Peer> = (0..900).map(|_| connect(&connector)).collect();
    for stream in &mut held[..300] {
        stream
            .write_all(b"POST /webhook HTTP/1.1\r\nHost: h")
            .unwrap();
    }
    assert_survives(&connector, "900 connections held");
    // More than max_connections: the longest idle ones are closed.
    held.extend((0..600).map(|_| connect(&connector)));
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
    // Each requests more responses than fit into the kernel's buffers, and reads none. Half of them request unknown paths.
    let health = "GET /-/healthy HTTP/1.1\r\nHost: h\r\n\r\n".repeat(200_000);
    let nothing = format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "x".repeat(8000)).repeat(1000);
    let mut held = Vec::new();
    for number in 0..64 {
        let mut stream = connect(&connector);
        stream
            .socket
            .set_write_timeout(Some(Duration::from_millis(200)))
            .unwrap();
        let _ = stream.write_all(if number % 2 == 0 {
            health.as_bytes()
        } else {
            nothing.as_bytes()
        });
        held.push(stream);
    }
    assert_survives(&connector, "64 senders that do not read");
    assert!(
        connector.log().len() < 1 << 20,
        "{} bytes of log",
        connector.log().len()
    );
    connector.terminate();
    assert_eq!(connector.wait().code(), Some(0));
    assert!(
        !connector.log().contains("got no response"),
        "a sender delayed the shutdown"
    );
}

fn an_incomplete_head_times_out(authority: Option<&Authority>) {
    let (connector, _) = connector(authority);
    let mut stream = BufReader::new(connect(&connector));
    stream
        .get_mut()
        .write_all(b"GET /-/healthy HTTP/1.1\r\n")
        .unwrap();
    assert_eq!(read_response(&mut stream).unwrap().status, 408);
    let mut silent = connect(&connector);
    assert_eq!(
        silent.read(&mut [0]).unwrap(),
        0,
        "closed without a response"
    );
}

fn large_bodies_with_a_token_do_not_exhaust_memory(authority: Option<&Authority>) {
    // A debug build on a busy machine takes more than 8 s for 700,000 alerts.
    let (connector, vhost) = connector_with(authority, "answer_timeout: 60s", &[]);
    let mut stalled: Vec<Peer> = (0..100).map(|_| connect(&connector)).collect();
    for stream in &mut stalled {
        let head = format!(
            "POST /webhook HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 16000000\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        // As much as the socket accepts without blocking.
        stream.socket.set_nonblocking(true).unwrap();
        let _ = stream.write_all(&vec![b' '; 4 << 20]);
    }
    assert_survives(&connector, "100 stalled bodies");
    drop(stalled);

    let nested = format!(
        "{{\"version\":\"4\",\"alerts\":[],\"x\":{}",
        "[".repeat(100_000)
    );
    assert_eq!(connector.post(&nested).status, 400);
    assert_survives(&connector, "JSON nested 100,000 deep");

    let long = format!(
        "{{\"version\":\"4\",\"alerts\":[],\"x\":\"{}\"}}",
        "y".repeat(17 << 20)
    );
    assert_eq!(connector.post(&long).status, 413);
    assert_survives(&connector, "17 MiB");

    // Bodies whose decoded form is much larger.
    let list = format!(
        "{{\"version\":\"4\",\"alerts\":[],\"x\":[{}0]}}",
        "0,".repeat(8_000_000)
    );
    assert_eq!(connector.post(&list).status, 200);
    assert_survives(
        &connector,
        "a list of 8 million numbers under an unknown key",
    );
    let alerts = format!(
        "{{\"version\":\"4\",\"alerts\":[{}{{}}]}}",
        "{\"status\":\"firing\"},".repeat(700_000)
    );
    assert_eq!(connector.post(&alerts).status, 400);
    assert_survives(&connector, "700,000 empty alerts");
    let labels: Vec<String> = (0..1_000_000)
        .map(|number| format!("\"{number:x}\":\"\""))
        .collect();
    let labels = format!(
        "{{\"version\":\"4\",\"alerts\":[{{\"status\":\"firing\",\"labels\":{{{}}}}}]}}",
        labels.join(",")
    );
    assert_eq!(connector.post(&labels).status, 422);
    assert_survives(&connector, "a million labels");
    assert!(
        connector.log().len() < 4 << 20,
        "{} bytes of log",
        connector.log().len()
    );

    Broker::shared().admin(&vhost).drain();
    let many: Vec<String> = (0..20_000)
        .map(|number| format!("alert-{number}"))
        .collect();
    let body = notification(&many);
    let response = connector.post(&body);
    // A broker on a slow machine may not confirm all of them in time, which is not what this tests.
    assert!(matches!(response.status, 200 | 503), "{}", response.body);
    wait_until("the broker has them", || {
        let received = Broker::shared().admin(&vhost).drain().len();
        received > 0 || response.status == 503
    });
    assert_survives(&connector, "20,000 alerts in a body");
}

#[test]
fn the_service_survives_a_lack_of_file_descriptors() {
    let vhost = Broker::shared().fresh_vhost();
    let text = config(&Broker::shared().url(&vhost), "", MAPPING);
    let mut connector = Connector::with_wrapper(&["prlimit", "--nofile=24"], BINARY, &text, &[]);
    connector.wait_until_ready();
    let held: Vec<Peer> = (0..100).map(|_| connect(&connector)).collect();
    connector.wait_for_log("cannot accept a connection: Too many open files");
    wait_until("it still accepts notifications", || {
        connector
            .try_post(&notification(&["held"]))
            .is_ok_and(|response| response.status == 200)
    });
    drop(held);
    connector.wait_for_log("accepting connections again");
    assert_survives(&connector, "file descriptors came back");
}

#[test]
fn the_service_survives_a_lack_of_threads() {
    let vhost = Broker::shared().fresh_vhost();
    let text = config(&Broker::shared().url(&vhost), "", MAPPING);
    // The limit does not apply to root, and counts all threads of a user: this user has no others.
    let as_other_user = [
        "setpriv",
        "--reuid=54321",
        "--clear-groups",
        "prlimit",
        "--nproc=12",
    ];
    let binary = copy_for_other_users();
    let mut connector =
        Connector::with_wrapper(&as_other_user, binary.to_str().unwrap(), &text, &[]);
    connector.wait_until_ready();
    let held: Vec<Peer> = (0..50).map(|_| connect(&connector)).collect();
    connector.wait_for_log("cannot accept a connection: Resource temporarily unavailable");
    wait_until("it still accepts notifications", || {
        connector
            .try_post(&notification(&["held"]))
            .is_ok_and(|response| response.status == 200)
    });
    drop(held);
    wait_until("it accepts notifications again", || {
        connector
            .try_post(&notification(&["after"]))
            .is_ok_and(|response| response.status == 200)
    });
    assert_survives(&connector, "threads came back");
    std::fs::remove_file(&binary).unwrap();
}

#[test]
fn a_mapping_that_multiplies_values_does_not_exhaust_memory() {
    let vhost = Broker::shared().fresh_vhost();
    let mapping = format!(
        "{MAPPING}\nextra_infos_prefix: x_\nextra_infos: {{from: {{type: copy, value: externalURL}}}}\n"
    );
    let connector = Connector::with(&config(&Broker::shared().url(&vhost), "", &mapping), &[]);
    connector.wait_until_ready();
    let names: Vec<String> = (0..1000).map(|number| number.to_string()).collect();
    let url = format!("\"externalURL\":\"{}\"", "x".repeat(200 << 10));
    let body = notification(&names).replace("\"externalURL\":\"\"", &url);
    let response = connector.post(&body);
    assert_eq!(response.status, 413, "{}", response.body);
    assert!(
        response
            .body
            .contains("a rule copies a large value into every event"),
        "{}",
        response.body
    );
    assert!(Broker::shared().admin(&vhost).drain().is_empty());
    assert_survives(&connector, "events that would be 200 MB");
}

#[test]
fn rejected_alerts_use_no_memory_while_others_wait() {
    // No broker: mapped events wait until their deadline.
    let url = "amqp://cpsrabbit:canopsis@127.0.0.1:1/v0";
    let mut connector = Connector::with(
        &config(url, "answer_timeout: 20s", MAPPING),
        &["--log-level", "info"],
    );
    let refused = "{\"status\":\"firing\"},".repeat(10_000);
    let body = notification(&["mapped"]).replace("\"alerts\":[", &format!("\"alerts\":[{refused}"));
    let senders = post_all(&connector, std::iter::repeat_n(body, 100));
    assert_eq!(statuses(senders), [503; 100]);
    // One entry a minute for each reason; a slow machine takes minutes, and has other reasons besides.
    assert!(connector.log().matches("status=503").count() < 10);
    assert!(
        connector.peak_memory() < MAX_MEMORY,
        "{} bytes",
        connector.peak_memory()
    );
    connector.terminate();
    assert_eq!(connector.wait().code(), Some(0));
}

#[test]
fn a_template_that_would_run_for_minutes_ends_with_the_time_for_the_response() {
    // Each character is a match, for which the rest of the text is searched in vain. That is less than MAX_STEPS steps and no output,
    // so that only the deadline ends it; a single replacement takes seconds, and is ended, too.
    let slow = "{{ $x := replace \".*[^A-Z]|[A-Z]\" \"\" .Field }}".repeat(50);
    let mapping = MAPPING.replace(
        "output: {type: copy, value: annotations.summary}",
        &format!("output: {{type: template, field: annotations.summary, value: '{slow}done'}}"),
    );
    let vhost = Broker::shared().fresh_vhost();
    let url = Broker::shared().url(&vhost);
    let mut connector = Connector::with(&config(&url, "answer_timeout: 100ms", &mapping), &[]);
    connector.wait_until_ready();
    // The first alert of the notification takes no time, and is not published either.
    let body = notification(&["quick", "slow"]);
    let (quick, slow) = body.rsplit_once("it is down").unwrap();
    let body = format!("{quick}{}{slow}", "A".repeat(16 << 10));
    let mut client = connector.client();
    client.set_timeout(Duration::from_secs(5));
    let response = client.post(&body).unwrap();
    assert_eq!(response.status, 503, "{}", response.body);
    assert_eq!(
        response.json()["error"],
        "timed out while mapping alerts to events"
    );
    // More of them than notifications that are mapped at once.
    let senders = post_all(&connector, std::iter::repeat_n(body, 20));
    assert_eq!(connector.get("/-/healthy").status, 200);
    assert_eq!(statuses(senders), [503; 20]);
    connector.reload(&config(&url, "", &mapping));
    assert_survives(&connector, "slow templates");
    assert_eq!(
        Broker::shared().admin(&vhost).drain_resources(),
        ["slow templates"]
    );
}

#[test]
fn the_default_token_is_refused_from_other_hosts() {
    // A network of its own, with an address that is not a loopback one.
    let script = "ip link set lo up && ip address add 192.0.2.1/32 dev lo && exec \"$@\"";
    let namespace = ["unshare", "--net", "sh", "-c", script, "sh"];
    let text = config("amqp://127.0.0.1:1", "", MAPPING)
        .replace(TOKEN, DEFAULT_TOKEN)
        .replace("127.0.0.1:0", "[::]:0");
    let mut connector = Connector::with_wrapper(&namespace, BINARY, &text, &["--stdout"]);
    let (network, port) = (
        format!("--net=/proc/{}/ns/net", connector.pid()),
        connector.address.port(),
    );
    let request = |host: &str, path: &str| {
        let (header, url) = (
            format!("Authorization: Bearer {DEFAULT_TOKEN}"),
            format!("http://{host}:{port}{path}"),
        );
        let body = notification(&["a"]);
        let curl = [
            "curl",
            "--silent",
            "--header",
            &header,
            "--write-out",
            "%{http_code}",
        ];
        let output = Command::new("nsenter")
            .arg(&network)
            .args(curl)
            .args(["--data", &body, &url])
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    for host in ["127.0.0.1", "[::1]"] {
        assert!(request(host, "/webhook").ends_with("200"), "{host}");
    }
    for path in [
        "/webhook",
        "/-/reload",
        "/-/ready",
        "/metrics",
        "/-/healthy",
        "/",
    ] {
        let answer = request("192.0.2.1", path);
        assert!(answer.ends_with("401"), "{path}: {answer}");
    }
    connector.wait_for_log(
        "the published default token is accepted from loopback addresses only; set a secret one in http.bearer_token or PROMETHEUS_BEARER_TOKEN",
    );
    assert!(
        connector.log().contains("peer=[::ffff:192.0.2.1]"),
        "{}",
        connector.log()
    );
}
