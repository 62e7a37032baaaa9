//! TLS with RabbitMQ.

use crate::support::broker::Broker;
use crate::support::connector::{Connector, MAPPING, config};
use crate::support::{notification, wait_until};

#[test]
fn only_a_broker_with_a_trusted_certificate_gets_events() {
    let mut broker = Broker::prepare();
    let tls = broker.make_certificates();
    let file = |name: &str| tls.join(name).to_str().unwrap().to_owned();
    broker.run();
    let text = |host: &str, files: &str| {
        let url = format!("amqps://cpsrabbit:canopsis@{host}:{}/v0", broker.port);
        let settings = format!("amqp: {{url: '{url}', {files}}}");
        config("x", "answer_timeout: 1s", MAPPING).replacen("amqp: {url: 'x'}", &settings, 1)
    };
    // A DNS name that is not in the certificate.
    let hosts = "127.0.0.1 localhost\n127.0.0.1 rabbit.test\n";
    let connect = |host: &str, files: &str| Connector::with_hosts(hosts, &text(host, files));
    let authority = format!("ca_file: '{}'", file("ca.pem"));
    let identity = format!(
        "cert_file: '{}', key_file: '{}'",
        file("client.pem"),
        file("client-key.pem")
    );

    let wrong_identity = identity.replace("client", "server-auth");

    let good = connect("localhost", &format!("{authority}, {identity}"));
    good.wait_until_ready();
    assert_eq!(good.post(&notification(&["a"])).status, 200);

    for (what, bad, reason) in [
        (
            "another address",
            connect("127.0.0.1", &format!("{authority}, {identity}")),
            "certificate verify failed",
        ),
        (
            "another name",
            connect("rabbit.test", &format!("{authority}, {identity}")),
            "certificate verify failed",
        ),
        (
            "an authority that the system does not trust",
            connect("localhost", &identity),
            "certificate verify failed",
        ),
        (
            "no client certificate",
            connect("localhost", &authority),
            "certificate required (RabbitMQ requires a client certificate that it trusts: set amqp.cert_file and amqp.key_file",
        ),
        (
            "a client certificate for servers",
            connect("localhost", &format!("{authority}, {wrong_identity}")),
            "the certificate needs clientAuth",
        ),
    ] {
        wait_until(what, || {
            let ready = bad.get("/-/ready");
            assert_ne!(ready.status, 200, "{what} is accepted");
            ready.body.contains(reason)
        });
        assert!(!bad.log().contains(".c:"), "{what}: a source file");
        assert!(!bad.log().contains("no TLS on this port?"), "{what}");
        assert_eq!(bad.post(&notification(&["b"])).status, 503, "{what}");
    }

    let plain = Broker::shared().port;
    for (what, url, hint) in [
        (
            "amqp:// on the port for TLS",
            format!("amqp://cpsrabbit:canopsis@localhost:{}/v0", broker.port),
            "use amqps://",
        ),
        (
            "amqps:// on the port without TLS",
            format!("amqps://cpsrabbit:canopsis@localhost:{plain}/v0"),
            "no TLS on this port?",
        ),
    ] {
        let text = config(&url, "", MAPPING);
        let bad = Connector::with(&text, &[]);
        wait_until(what, || bad.get("/-/ready").body.contains(hint));
    }
}
