//! Notifications that take much memory or time.

use super::{assert_bounded, assert_survives, connector_with};
use crate::support::broker::Admin;
use crate::support::connector::{Connector, MAPPING, config, copying_mapping};
use crate::support::http::{Peer, webhook_head};
use crate::support::load::{post_all, statuses};
use crate::support::tls::Authority;
use crate::support::{notification, wait_until, with_external_url};

on_both_listeners!(large_bodies_with_a_token_do_not_exhaust_memory,);

fn large_bodies_with_a_token_do_not_exhaust_memory(authority: Option<&Authority>) {
    // A debug build on a busy machine takes more than 8 s for 700,000 alerts.
    let (connector, admin) = connector_with(authority, "answer_timeout: 60s", &[]);
    let mut stalled: Vec<Peer> = (0..100).map(|_| connector.connect()).collect();
    for peer in &mut stalled {
        let head = webhook_head("Content-Length: 16000000\r\n");
        peer.send(head).unwrap();
        // As much as the socket accepts without blocking.
        peer.socket().set_nonblocking(true).unwrap();
        let _ = peer.send(vec![b' '; 4 << 20]);
    }
    assert_survives(&connector, "100 stalled bodies");
    drop(stalled);

    let body = |alerts: &str, rest: &str| format!(r#"{{"version":"4","alerts":[{alerts}]{rest}"#);
    let labels = (0..1_000_000).map(|number| format!("\"{number:x}\":\"\""));
    let labels = labels.collect::<Vec<_>>().join(",");
    let with_labels = format!(r#"{{"status":"firing","labels":{{{labels}}}}}"#);
    let firing = r#"{"status":"firing"},"#.repeat(700_000);
    for (what, body, status) in [
        (
            "JSON nested 100,000 deep",
            body("", &format!(r#","x":{}"#, "[".repeat(100_000))),
            400,
        ),
        (
            "17 MiB",
            body("", &format!(r#","x":"{}"}}"#, "y".repeat(17 << 20))),
            413,
        ),
        // Bodies whose decoded form is much larger.
        (
            "a list of 8 million numbers under an unknown key",
            body("", &format!(r#","x":[{}0]}}"#, "0,".repeat(8_000_000))),
            200,
        ),
        ("700,000 empty alerts", body(&(firing + "{}"), "}"), 400),
        ("a million labels", body(&with_labels, "}"), 422),
    ] {
        assert_eq!(connector.post(&body).status, status, "{what}");
        assert_survives(&connector, what);
    }
    let logged = connector.log().len();
    assert!(logged < 4 << 20, "{logged} bytes of log");

    admin.drain();
    let names: Vec<String> = (0..20_000).map(|number| number.to_string()).collect();
    let response = connector.post(&notification(&names));
    // A broker on a slow machine may not confirm all of them in time, which is not what this tests.
    assert!(matches!(response.status, 200 | 503), "{}", response.body);
    wait_until("the broker has them", || {
        !admin.drain().is_empty() || response.status == 503
    });
    assert_survives(&connector, "20,000 alerts in a body");
}

#[test]
fn a_mapping_that_multiplies_values_does_not_exhaust_memory() {
    let admin = Admin::fresh();
    let connector = Connector::ready(&admin.url(), "", &copying_mapping("externalURL"));
    let names: Vec<String> = (0..1000).map(|number| number.to_string()).collect();
    let response = connector.post(&with_external_url(&names, &"x".repeat(200 << 10)));
    response.assert(413, "a rule copies a large value into every event");
    assert!(admin.drain().is_empty());
    assert_survives(&connector, "events that would be 200 MB");
}

#[test]
fn rejected_alerts_use_no_memory_while_others_wait() {
    // No broker: mapped events wait until their deadline.
    let url = "amqp://cpsrabbit:canopsis@127.0.0.1:1/v0";
    let text = config(url, "answer_timeout: 20s", MAPPING);
    let mut connector = Connector::with(&text, &["--log-level", "info"]);
    let refused = "{\"status\":\"firing\"},".repeat(10_000);
    let body = notification(&["mapped"]).replace("\"alerts\":[", &format!("\"alerts\":[{refused}"));
    let senders = post_all(&connector, std::iter::repeat_n(body, 100));
    assert_eq!(statuses(senders), [503; 100]);
    // One entry a minute for each reason; a slow machine takes minutes, and has other reasons besides.
    assert!(connector.log().matches("status=503").count() < 10);
    assert_bounded(&connector, "rejected alerts");
    connector.terminate();
    assert_eq!(connector.wait().code(), Some(0));
}

#[test]
fn a_template_that_would_run_for_minutes_ends_with_the_time_for_the_response() {
    // Each character is a match, for which the whole rest of the text is searched. That is less than MAX_STEPS steps and no output,
    // so that only the deadline ends it; a single replacement takes seconds, and is ended, too.
    let slow = "{{ $x := replace \".*[^A-Z]|[A-Z]\" \"\" .Field }}".repeat(50);
    let mapping = MAPPING.replace(
        "output: {type: copy, value: annotations.summary}",
        &format!("output: {{type: template, field: annotations.summary, value: '{slow}done'}}"),
    );
    let admin = Admin::fresh();
    let mut connector = Connector::ready(&admin.url(), "answer_timeout: 100ms", &mapping);
    // The first alert of the notification takes no time, and is not published either.
    let body = notification(&["quick", "slow"]);
    let (quick, slow) = body.rsplit_once("it is down").unwrap();
    let body = format!("{quick}{}{slow}", "A".repeat(16 << 10));
    let response = connector.client().with_timeout(5).post(&body);
    let reason = "timed out while mapping alerts to events";
    response.unwrap().assert(503, reason);
    // More of them than notifications that are mapped at once.
    let senders = post_all(&connector, std::iter::repeat_n(body, 20));
    assert_eq!(connector.get("/-/healthy").status, 200);
    assert_eq!(statuses(senders), [503; 20]);
    connector.reload(&config(&admin.url(), "", &mapping));
    assert_survives(&connector, "slow templates");
    assert_eq!(admin.drain_resources(), ["slow templates"]);
}
