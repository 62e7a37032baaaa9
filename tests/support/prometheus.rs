//! A real Prometheus.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::http::Peer;
use super::{ProcessGroup, TIMEOUT, TempDir, free_port, wait_until};

pub struct Prometheus {
    _process: ProcessGroup,
    port: u16,
    _dir: TempDir,
}

impl Prometheus {
    /// Starts one in a directory with its configuration, `prometheus.yml`.
    pub fn start(dir: TempDir) -> Self {
        let (path, port) = (dir.path().display(), free_port());
        let command = [
            "prometheus",
            &format!("--config.file={path}/prometheus.yml"),
            &format!("--storage.tsdb.path={path}/data"),
            &format!("--web.listen-address=127.0.0.1:{port}"),
        ];
        let (log, cleanup) = (format!("{path}/log"), format!("rm -rf {path}"));
        let prometheus = Self {
            _process: ProcessGroup::start(&command, &log, &cleanup),
            port,
            _dir: dir,
        };
        wait_until("Prometheus starts (prometheus must be installed)", || {
            prometheus.get("/-/ready").is_some()
        });
        prometheus
    }

    /// The body of a 200 response. With HTTP/1.0, whose responses are never chunked.
    fn get(&self, path: &str) -> Option<String> {
        let address = ([127, 0, 0, 1], self.port).into();
        let mut peer = Peer::connect(address, None, TIMEOUT).ok()?;
        let request = format!("GET {path} HTTP/1.0\r\nHost: test\r\n\r\n");
        peer.send(request).ok()?;
        let response = String::from_utf8(peer.rest().ok()?).unwrap();
        let (head, body) = response.split_once("\r\n\r\n")?;
        (head.split(' ').nth(1) == Some("200")).then(|| body.to_owned())
    }

    pub fn api(&self, path: &str) -> Value {
        let body = self.get(&format!("/api/v1/{path}"));
        let body = body.unwrap_or_else(|| panic!("{path} is not answered 200"));
        serde_json::from_str::<Value>(&body).unwrap()["data"].clone()
    }

    /// The current result of an instant query.
    pub fn query(&self, query: &str) -> Vec<Value> {
        let query = utf8_percent_encode(query, NON_ALPHANUMERIC);
        let data = self.api(&format!("query?query={query}"));
        data["result"].as_array().unwrap().clone()
    }
}
