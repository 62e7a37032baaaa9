//! Notifications that take much memory or time.

use std::io::Write;
use std::time::Duration;

use super::{MAX_MEMORY, Peer, assert_survives, connect, connector_with};
use crate::support::broker::Broker;
use crate::support::connector::{Connector, MAPPING, config};
use crate::support::load::{post_all, statuses};
use crate::support::tls::Authority;
use crate::support::{TOKEN, notification, wait_until};

on_both_listeners!(large_bodies_with_a_token_do_not_exhaust_memory,);

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
