//! A RabbitMQ 4 cluster of three nodes with a quorum queue: what is answered 200 survives the loss of nodes, of the queue's leader,
//! and of the majority.
//!
//! `make check-cluster` runs it: it needs root, and the directory that `scripts/rabbitmq-4-root` makes, in `RABBITMQ_4_ROOT`.

use std::process::Command;
use std::thread;

use crate::support::broker::{Broker, QUEUE};
use crate::support::connector::{Connector, MAPPING, amqp_config};
use crate::support::load::Load;
use crate::support::wait_until;
use amiquip::{AmqpValue, FieldTable};

const NODES: usize = 3;
const SENDERS: usize = 4;
const VHOST: &str = "v0";

struct Cluster {
    root: String,
    nodes: Vec<Broker>,
}

impl Cluster {
    /// Starts the nodes, and replaces the queue with a quorum queue that has a replica on each.
    fn start() -> Self {
        let root = std::env::var("RABBITMQ_4_ROOT")
            .expect("RABBITMQ_4_ROOT names the directory that scripts/rabbitmq-4-root has made");
        let mut nodes = [(); NODES].map(|()| Broker::prepare());
        let ports = nodes.each_ref().map(|node| node.port.to_string());
        let epmd = nodes[0].epmd;
        for node in &mut nodes {
            node.epmd = epmd;
            node.environment = vec![
                format!("CHROOT={root}"),
                format!("CLUSTER={}", ports.join(" ")),
            ];
            node.launch();
        }
        let nodes = nodes.into();
        let cluster = Self { root, nodes };
        (0..NODES).for_each(|node| cluster.wait_until_running(node));
        let quorum = AmqpValue::LongString("quorum".to_owned());
        let arguments = FieldTable::from([("x-queue-type".to_owned(), quorum)]);
        cluster.nodes[0].admin(VHOST).redeclare_queue(arguments);
        cluster
    }

    fn wait_until_running(&self, node: usize) {
        let arguments = ["await_startup", "--timeout", "5"];
        let status = || self.command(node, &arguments).is_some();
        wait_until(&format!("node {node} of the cluster runs"), status);
    }

    /// Runs nodes that were killed.
    fn run(&mut self, nodes: &[usize]) {
        for node in nodes {
            self.nodes[*node].launch();
        }
        for node in nodes {
            self.wait_until_running(*node);
        }
    }

    /// The node whose replica of the queue is the leader, asked from another one.
    fn leader(&self, asked: usize) -> usize {
        let arguments = ["list_queues", "--quiet", "--vhost", VHOST, "name", "leader"];
        let queues = self.command(asked, &arguments).unwrap();
        let line = queues.lines().find(|line| line.starts_with(QUEUE)).unwrap();
        let leader = line.split('\t').nth(1).unwrap();
        let is_it = |node: &Broker| leader.contains(&node.port.to_string());
        self.nodes.iter().position(is_it).unwrap()
    }

    /// Runs rabbitmqctl; its output, if it succeeds.
    fn command(&self, node: usize, arguments: &[&str]) -> Option<String> {
        let node = &self.nodes[node];
        let output = Command::new("chroot")
            .args([&self.root, "rabbitmqctl", "--node"])
            .arg(format!("private-{}@localhost", node.port))
            .args(arguments)
            .env("HOME", "/root")
            .env("ERL_EPMD_PORT", node.epmd.to_string())
            .env("RABBITMQ_ERLANG_COOKIE", "cluster-of-the-tests")
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        output.status.success().then_some(text)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in &self.nodes {
            if thread::panicking() {
                let log = node.log();
                let lines: Vec<&str> = log.lines().collect();
                let last = lines.len().saturating_sub(15);
                eprintln!("--- node {}:\n{}", node.port, lines[last..].join("\n"));
            }
        }
    }
}

#[test]
#[ignore = "needs RabbitMQ 4: make check-cluster"]
fn answered_200_survives_the_loss_of_nodes_of_the_leader_and_of_the_majority() {
    let mut cluster = Cluster::start();
    let urls = cluster.nodes.iter().map(|node| node.url(VHOST));
    let urls = urls.collect::<Vec<_>>().join("', '");
    let text = amqp_config(&format!("url: ['{urls}']"), "", MAPPING);
    let mut connector = Connector::with(&text, &["--log-level", "info"]);
    connector.wait_until_ready();
    let load = Load::start(connector.address, SENDERS);
    load.wait_for_more(50);

    // The first URL's node is the one that the connector is connected to.
    cluster.nodes[0].kill();
    connector.wait_for_log("lost connection to RabbitMQ");
    load.wait_for_more(50);
    cluster.run(&[0]);
    load.wait_for_more(50);

    let leader = cluster.leader(0);
    cluster.nodes[leader].kill();
    load.wait_for_more(50);
    cluster.run(&[leader]);
    load.wait_for_more(50);

    // Without a majority nothing is confirmed.
    for node in [0, 1] {
        cluster.nodes[node].kill();
    }
    connector.wait_for_log("timed out after");
    cluster.run(&[0, 1]);
    load.wait_for_more(50);

    let load = load.stop();
    let received = cluster.nodes[0].admin(VHOST).drain_resources();
    let what = "a cluster loses nodes, the leader and the majority";
    load.assert_no_loss(what, &received);
}
