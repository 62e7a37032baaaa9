//! A RabbitMQ 4 cluster of three nodes with a quorum queue: what is answered 200 survives the loss of nodes, of the queue's leader,
//! and of the majority.
//!
//! `make check-cluster` runs it: it needs root, and the directory that `scripts/rabbitmq-4-root` makes, in `RABBITMQ_4_ROOT`.

use std::path::PathBuf;
use std::process::Command;
use std::thread;

use crate::support::broker::{Admin, QUEUE};
use crate::support::connector::{Connector, MAPPING, config};
use crate::support::load::Load;
use crate::support::{ProcessGroup, free_port, temp_path, wait_until};
use amiquip::{AmqpValue, FieldTable};

const NODES: usize = 3;
const SENDERS: usize = 4;
const VHOST: &str = "v0";

struct Cluster {
    root: String,
    epmd: u16,
    nodes: Vec<Node>,
}

struct Node {
    dir: PathBuf,
    port: u16,
    dist: u16,
    process: Option<ProcessGroup>,
}

impl Cluster {
    /// Starts the nodes, and replaces the queue with a quorum queue that has a replica on each.
    fn start() -> Self {
        let root = std::env::var("RABBITMQ_4_ROOT")
            .expect("RABBITMQ_4_ROOT names the directory that scripts/rabbitmq-4-root has made");
        let node = |_| Node {
            dir: temp_path("cluster"),
            port: free_port(),
            dist: free_port(),
            process: None,
        };
        let mut cluster = Self {
            root,
            epmd: free_port(),
            nodes: (0..NODES).map(node).collect(),
        };
        (0..NODES).for_each(|node| cluster.run(node));
        (0..NODES).for_each(|node| cluster.wait_until_running(node));
        let arguments = FieldTable::from([(
            "x-queue-type".to_owned(),
            AmqpValue::LongString("quorum".to_owned()),
        )]);
        Admin::connect(cluster.nodes[0].port, VHOST).redeclare_queue(arguments);
        cluster
    }

    fn run(&mut self, node: usize) {
        let ports: Vec<String> = self
            .nodes
            .iter()
            .map(|node| node.port.to_string())
            .collect();
        let Node {
            dir, port, dist, ..
        } = &self.nodes[node];
        std::fs::create_dir_all(dir).unwrap();
        let dir = dir.to_str().unwrap();
        let command = [
            "env",
            &format!("CHROOT={}", self.root),
            &format!("CLUSTER={}", ports.join(" ")),
            "scripts/rabbitmq-node",
            dir,
            &port.to_string(),
            &dist.to_string(),
            &self.epmd.to_string(),
            VHOST,
        ];
        self.nodes[node].process = Some(ProcessGroup::start(&command, &format!("{dir}/log"), ":"));
    }

    fn wait_until_running(&self, node: usize) {
        let status = || {
            self.command(node, "rabbitmqctl", &["await_startup", "--timeout", "5"])
                .is_some()
        };
        wait_until(&format!("node {node} of the cluster runs"), status);
    }

    fn kill(&mut self, node: usize) {
        self.nodes[node].process = None;
    }

    fn index_of(&self, port: &str) -> usize {
        let is_it = |node: &Node| port.contains(&node.port.to_string());
        self.nodes.iter().position(is_it).unwrap()
    }

    /// The node whose replica of the queue is the leader, asked from another one.
    fn leader(&self, asked: usize) -> usize {
        let arguments = ["list_queues", "--quiet", "--vhost", VHOST, "name", "leader"];
        let queues = self.command(asked, "rabbitmqctl", &arguments).unwrap();
        let line = queues.lines().find(|line| line.starts_with(QUEUE)).unwrap();
        self.index_of(line.split('\t').nth(1).unwrap())
    }

    /// Runs one of RabbitMQ's tools; its output, if it succeeds.
    fn command(&self, node: usize, tool: &str, arguments: &[&str]) -> Option<String> {
        let output = Command::new("chroot")
            .args([&self.root, tool, "--node"])
            .arg(format!("private-{}@localhost", self.nodes[node].port))
            .args(arguments)
            .env("HOME", "/root")
            .env("ERL_EPMD_PORT", self.epmd.to_string())
            .env("RABBITMQ_ERLANG_COOKIE", "cluster-of-the-tests")
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        output.status.success().then_some(text)
    }

    fn url(&self) -> String {
        let url =
            |node: &Node| format!("amqp://cpsrabbit:canopsis@127.0.0.1:{}/{VHOST}", node.port);
        self.nodes.iter().map(url).collect::<Vec<_>>().join("', '")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            if thread::panicking() {
                let log = std::fs::read_to_string(node.dir.join("log")).unwrap_or_default();
                let lines: Vec<&str> = log.lines().collect();
                let last = lines.len().saturating_sub(15);
                eprintln!("--- node {}:\n{}", node.port, lines[last..].join("\n"));
            }
            node.process = None;
            let _ = std::fs::remove_dir_all(&node.dir);
        }
        let _ = Command::new("chroot")
            .args([&self.root, "epmd", "-kill"])
            .env("ERL_EPMD_PORT", self.epmd.to_string())
            .output();
    }
}

#[test]
#[ignore = "needs RabbitMQ 4: make check-cluster"]
fn answered_200_survives_the_loss_of_nodes_of_the_leader_and_of_the_majority() {
    let mut cluster = Cluster::start();
    let text = config(&cluster.url(), "", MAPPING)
        .replacen("{url: '", "{url: ['", 1)
        .replacen("'}", "']}", 1);
    let mut connector = Connector::with(&text, &["--log-level", "info"]);
    connector.wait_until_ready();
    let load = Load::start(connector.address, SENDERS);
    load.wait_for_more(50);

    // The first URL's node is the one that the connector is connected to.
    cluster.kill(0);
    connector.wait_for_log("lost connection to RabbitMQ");
    load.wait_for_more(50);
    cluster.run(0);
    cluster.wait_until_running(0);
    load.wait_for_more(50);

    let leader = cluster.leader(0);
    cluster.kill(leader);
    load.wait_for_more(50);
    cluster.run(leader);
    cluster.wait_until_running(leader);
    load.wait_for_more(50);

    // Without a majority nothing is confirmed.
    for node in [0, 1] {
        cluster.kill(node);
    }
    connector.wait_for_log("timed out after");
    for node in [0, 1] {
        cluster.run(node);
    }
    for node in [0, 1] {
        cluster.wait_until_running(node);
    }
    load.wait_for_more(50);

    let load = load.stop();
    let received = Admin::connect(cluster.nodes[0].port, VHOST).drain_resources();
    load.assert_no_loss(
        "a cluster loses nodes, the leader and the majority",
        &received,
    );
}
