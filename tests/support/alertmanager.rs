//! A real Alertmanager, which sends to a connector: the installed one, or that of another system.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::http::Client;
use super::{ProcessGroup, TOKEN, free_port, temp_path, wait_until};

pub struct Alertmanager {
    _process: ProcessGroup,
    client: Client,
    /// Of its API.
    pub address: SocketAddr,
}

impl Alertmanager {
    /// Starts one whose notifications go to the connector, with other settings of its route in addition.
    pub fn start(connector: SocketAddr, route: &str) -> Self {
        Self::start_in("", connector, route)
    }

    /// Like [`Alertmanager::start`], with the Alertmanager of the system below this directory, as root; the empty string is
    /// this system.
    pub fn start_in(root: &str, connector: SocketAddr, route: &str) -> Self {
        let config = format!(
            "route: {{receiver: canopsis, group_interval: 1s, repeat_interval: 1h, {route}}}\n\
             receivers:\n- name: canopsis\n  webhook_configs:\n  - url: http://{connector}/webhook\n    http_config:\n      \
             authorization: {{credentials: {TOKEN}}}\n"
        );
        Self::with_config(root, &config)
    }

    /// Starts one with the text of its configuration.
    pub fn with_config(root: &str, config: &str) -> Self {
        let (dir, port) = (temp_path("alertmanager"), free_port());
        let dir = dir.to_str().unwrap();
        let outside = format!("{root}{dir}");
        std::fs::create_dir_all(&outside).unwrap();
        std::fs::write(format!("{outside}/alertmanager.yml"), config).unwrap();
        let command = [
            "prometheus-alertmanager",
            &format!("--config.file={dir}/alertmanager.yml"),
            &format!("--storage.path={dir}/data"),
            &format!("--web.listen-address=127.0.0.1:{port}"),
            "--cluster.listen-address=",
        ];
        let chroot = if root.is_empty() {
            &[][..]
        } else {
            &["chroot", root]
        };
        let command = [chroot, &command].concat();
        let process = ProcessGroup::start(
            &command,
            &format!("{outside}/log"),
            &format!("rm -rf {outside}"),
        );
        let address = ([127, 0, 0, 1], port).into();
        wait_until(
            "Alertmanager starts (prometheus-alertmanager must be installed)",
            || {
                Client::new(address)
                    .send("GET", "/-/ready", &[], b"")
                    .is_ok_and(|response| response.status == 200)
            },
        );
        Self {
            _process: process,
            client: Client::new(address),
            address,
        }
    }

    /// Its version, for example `0.25.0`.
    pub fn version(&mut self) -> String {
        let status = self.client.send("GET", "/api/v2/status", &[], b"").unwrap();
        let version = &status.json()["versionInfo"]["version"];
        version.as_str().unwrap().to_owned()
    }

    /// Posts JSON to its API.
    fn post(&mut self, path: &str, body: &Value) {
        let headers = ["Content-Type: application/json"];
        let body = body.to_string();
        let response = self.client.send("POST", path, &headers, body.as_bytes());
        response.unwrap().assert(200, "");
    }

    /// Silences the alerts of a name.
    pub fn silence(&mut self, name: &str) {
        let silence = json!({
            "matchers": [{"name": "alertname", "value": name, "isRegex": false}],
            "startsAt": "2026-01-01T00:00:00Z", "endsAt": "2100-01-01T00:00:00Z", "createdBy": "test", "comment": "test",
        });
        self.post("/api/v2/silences", &silence);
    }

    /// Posts alerts, as a Prometheus server does. With an end in the past they are resolved.
    pub fn post_alerts(&mut self, labels: &[Value], ends_at: Option<&str>) {
        let alerts = labels.iter().map(|labels| {
            let annotations = json!({"summary": "é « ça » 🔥"});
            let starts_at = "2026-01-01T00:00:00Z";
            let mut alert =
                json!({"labels": labels, "annotations": annotations, "startsAt": starts_at});
            if let Some(ends_at) = ends_at {
                alert["endsAt"] = json!(ends_at);
            }
            alert
        });
        self.post("/api/v2/alerts", &alerts.collect());
    }
}
