//! TLS with RabbitMQ.

use crate::support::broker::Broker;
use crate::support::connector::{Connector, MAPPING, amqp_config};
use crate::support::{notification, wait_until};

#[test]
fn only_a_broker_with_a_trusted_certificate_gets_events() {
    let broker = Broker::shared_with_tls();
    let tls = broker.dir.join("tls");
    let file = |name: &str| tls.join(name).to_str().unwrap().to_owned();
    let identity = |name: &str| {
        let (cert, key) = (format!("{name}.pem"), format!("{name}-key.pem"));
        format!("cert_file: '{}', key_file: '{}'", file(&cert), file(&key))
    };
    let authority = format!("ca_file: '{}'", file("ca.pem"));
    let both = format!("{authority}, {}", identity("client"));
    let for_servers = format!("{authority}, {}", identity("server-auth"));
    // A DNS name that is not in the certificate.
    let hosts = "127.0.0.1 localhost\n127.0.0.1 rabbit.test\n";
    let connect = |host: &str, files: &str| {
        let url = format!("amqps://cpsrabbit:canopsis@{host}:{}/v0", broker.port);
        let amqp = format!("url: '{url}', {files}");
        Connector::with_hosts(hosts, &amqp_config(&amqp, "answer_timeout: 1s", MAPPING))
    };

    let good = connect("localhost", &both);
    good.wait_until_ready();
    assert_eq!(good.post(&notification(&["a"])).status, 200);

    let not_verified = "certificate verify failed";
    for (what, host, files, reason) in [
        ("another address", "127.0.0.1", &both, not_verified),
        ("another name", "rabbit.test", &both, not_verified),
        (
            "an authority that the system does not trust",
            "localhost",
            &identity("client"),
            not_verified,
        ),
        (
            "no client certificate",
            "localhost",
            &authority,
            "certificate required (RabbitMQ requires a client certificate that it trusts: set amqp.cert_file and amqp.key_file",
        ),
        (
            "a client certificate for servers",
            "localhost",
            &for_servers,
            "the certificate needs clientAuth",
        ),
    ] {
        let bad = connect(host, files);
        wait_until(what, || {
            let ready = bad.get("/-/ready");
            assert_ne!(ready.status, 200, "{what} is accepted");
            ready.body.contains(reason)
        });
        assert!(!bad.log().contains(".c:"), "{what}: a source file");
        assert!(!bad.log().contains("no TLS on this port?"), "{what}");
        assert_eq!(bad.post(&notification(&["b"])).status, 503, "{what}");
    }
}
