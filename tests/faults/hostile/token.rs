//! Published tokens.

use std::process::Command;

use canopsis_connector_prometheus::http::DEFAULT_TOKEN;

use crate::support::connector::{BINARY, Connector, config_without_broker};
use crate::support::{TOKEN, notification};

#[test]
fn the_default_token_is_refused_from_other_hosts() {
    // A network of its own, with an address that is not a loopback one.
    let script = "ip link set lo up && ip address add 192.0.2.1/32 dev lo && exec \"$@\"";
    let namespace = ["unshare", "--net", "sh", "-c", script, "sh"];
    let text = config_without_broker()
        .replace(TOKEN, DEFAULT_TOKEN)
        .replace("127.0.0.1:0", "[::]:0");
    let mut connector = Connector::with_wrapper(&namespace, BINARY, &text, &["--stdout"]);
    let network = format!("--net=/proc/{}/ns/net", connector.pid());
    let header = format!("Authorization: Bearer {DEFAULT_TOKEN}");
    let body = notification(&["a"]);
    let request = |host: &str, path: &str| {
        let url = format!("http://{host}:{}{path}", connector.address.port());
        let output = Command::new("nsenter")
            .args([&network, "curl", "--silent", "--header", &header])
            .args(["--write-out", "%{http_code}", "--data", &body, &url])
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    for host in ["127.0.0.1", "[::1]"] {
        assert!(request(host, "/webhook").ends_with("200"), "{host}");
    }
    for path in "/webhook /-/reload /-/ready /metrics /-/healthy /".split(' ') {
        let answer = request("192.0.2.1", path);
        assert!(answer.ends_with("401"), "{path}: {answer}");
    }
    let reason = "a published token is accepted from loopback addresses only; set a secret one in http.bearer_token or PROMETHEUS_BEARER_TOKEN";
    connector.wait_for_log(reason);
    connector.wait_for_log("peer=192.0.2.1:");
}
