//! A private RabbitMQ node with Canopsis's topology in several virtual hosts.

use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use amiquip::{
    AmqpValue, Channel, Connection, ExchangeDeclareOptions, ExchangeType, FieldTable,
    QueueDeclareOptions,
};
use serde_json::Value;

use super::certificates::{Identity, Subject};
use super::{ProcessGroup, assert_success, free_port, temp_path, wait_until};

pub const EXCHANGE: &str = "canopsis.events";
pub const QUEUE: &str = "Engine_fifo";

/// The virtual hosts of the shared node: one for each test. Each costs about 40 ms at the start.
const SHARED_VHOSTS: usize = 96;

pub struct Broker {
    pub dir: PathBuf,
    pub port: u16,
    dist: u16,
    pub epmd: u16,
    /// For scripts/rabbitmq-node, `NAME=VALUE`.
    pub environment: Vec<String>,
    node: Option<ProcessGroup>,
    vhosts: usize,
    vhosts_taken: AtomicUsize,
}

impl Broker {
    /// The node that all tests share, unless they stop or change it.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Broker> = OnceLock::new();
        SHARED.get_or_init(|| {
            let mut broker = Self::prepare();
            broker.vhosts = SHARED_VHOSTS;
            broker.run();
            broker
        })
    }

    /// A node for TLS that tests share. It requires client certificates; `tls` in its directory has `client`, and `server-auth`, which
    /// is none for clients.
    pub fn shared_with_tls() -> &'static Self {
        static SHARED: OnceLock<Broker> = OnceLock::new();
        SHARED.get_or_init(|| {
            let mut broker = Self::prepare();
            let (tls, root) = (broker.dir.join("tls"), Identity::root("test authority"));
            root.write(&tls, "ca");
            for name in ["server", "client", "server-auth"] {
                let for_servers_only = name == "server-auth";
                let subject = Subject {
                    for_servers_only,
                    // The other certificates of the tests have EC keys.
                    rsa: !for_servers_only,
                    ..Subject::host("localhost")
                };
                root.issue(subject).write(&tls, name);
            }
            broker.run();
            broker
        })
    }

    /// A virtual host that no other test uses.
    pub fn fresh_vhost(&self) -> String {
        let number = self.vhosts_taken.fetch_add(1, Ordering::SeqCst);
        assert!(number < self.vhosts, "raise SHARED_VHOSTS");
        format!("v{number}")
    }

    /// A private node with one virtual host, `v0`.
    pub fn start() -> Self {
        let mut broker = Self::prepare();
        broker.run();
        broker
    }

    /// A node that is not running yet.
    pub fn prepare() -> Self {
        Self {
            dir: temp_path("broker"),
            port: free_port(),
            dist: free_port(),
            epmd: free_port(),
            environment: Vec::new(),
            node: None,
            vhosts: 1,
            vhosts_taken: AtomicUsize::new(0),
        }
    }

    /// Starts or restarts the node, and waits until it accepts connections.
    pub fn run(&mut self) {
        self.launch();
        let log = self.log_path();
        let what = format!("a RabbitMQ node starts (rabbitmq-server must be installed); see {log}");
        wait_until(&what, || {
            assert!(self.node.as_ref().unwrap().is_running(), "{}", self.log());
            TcpStream::connect(("127.0.0.1", self.port)).is_ok()
        });
    }

    /// Starts or restarts the node.
    pub fn launch(&mut self) {
        std::fs::create_dir_all(&self.dir).unwrap();
        let (dir, log) = (self.dir.to_str().unwrap().to_owned(), self.log_path());
        let ports = [self.port, self.dist, self.epmd].map(|port| port.to_string());
        let vhosts = (0..self.vhosts).map(|number| format!("v{number}"));
        let mut words = vec!["env".to_owned()];
        words.extend(self.environment.clone());
        words.extend(["scripts/rabbitmq-node".to_owned(), dir.clone()]);
        words.extend(ports.clone());
        words.extend(vhosts);
        let command: Vec<&str> = words.iter().map(String::as_str).collect();
        // epmd is a daemon that survives its node. The file keep prevents the removal of the directory between two runs.
        let cleanup = format!(
            "for try in 1 2 3 4 5; do ERL_EPMD_PORT={} epmd -kill >/dev/null 2>&1 && break; sleep 0.1; done; \
             [ -e {dir}/keep ] || rm -rf {dir}",
            ports[2]
        );
        self.keep_directory(|broker| {
            broker.node = Some(ProcessGroup::start(&command, &log, &cleanup));
        });
    }

    fn log_path(&self) -> String {
        self.dir.join("node.log").to_str().unwrap().to_owned()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap()
    }

    /// Kills the node with SIGKILL and keeps its data.
    pub fn kill(&mut self) {
        self.keep_directory(|broker| broker.node = None);
    }

    fn keep_directory(&mut self, act: impl FnOnce(&mut Self)) {
        let file = self.dir.join("keep");
        std::fs::write(&file, "").unwrap();
        act(self);
        std::fs::remove_file(file).unwrap();
    }

    /// Stops the node's processes until [`Broker::thaw`].
    pub fn freeze(&self) {
        self.node.as_ref().unwrap().freeze();
    }

    pub fn thaw(&self) {
        self.node.as_ref().unwrap().thaw();
    }

    /// A command for the shell that runs rabbitmqctl on the node, with the script's arguments.
    pub fn ctl_command(&self) -> String {
        let dirs = "/usr/lib/rabbitmq/bin/rabbitmqctl /usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin/rabbitmqctl";
        format!(
            "env HOME={} ERL_EPMD_PORT={} RABBITMQ_CONF_ENV_FILE=/dev/null $(ls {dirs} 2>/dev/null | head -n 1) \
             -n private-{}@localhost \"$@\"",
            self.dir.display(),
            self.epmd,
            self.port
        )
    }

    /// Runs rabbitmqctl on the node.
    pub fn ctl(&self, arguments: &[&str]) {
        let output = std::process::Command::new("sh")
            .args(["-c", &self.ctl_command(), "ctl"])
            .args(arguments)
            .output()
            .unwrap();
        assert_success(&output, &format!("rabbitmqctl {arguments:?}"));
    }

    /// See [`url`].
    pub fn url(&self, vhost: &str) -> String {
        url(self.port, vhost)
    }

    pub fn admin(&self, vhost: &str) -> Admin {
        Admin::connect(self.port, vhost)
    }
}

/// The URL for the connector of a broker, or of a relay before it. The user may only publish.
pub fn url(port: u16, vhost: &str) -> String {
    format!("amqp://cpsrabbit:canopsis@127.0.0.1:{port}/{vhost}")
}

/// A message from the queue.
#[derive(Debug)]
pub struct ReceivedMessage {
    pub event: Value,
    pub delivery: amiquip::Delivery,
}

impl ReceivedMessage {
    pub fn resource(&self) -> String {
        self.event["resource"].as_str().unwrap().to_owned()
    }
}

/// A connection with all permissions in one virtual host.
pub struct Admin {
    pub port: u16,
    pub vhost: String,
    pub channel: Channel,
    _connection: Connection,
}

impl Admin {
    pub fn connect(port: u16, vhost: &str) -> Self {
        let url = format!("amqp://admin:admin@127.0.0.1:{port}/{vhost}");
        let mut connection = Connection::insecure_open(&url).unwrap();
        Self {
            port,
            vhost: vhost.to_owned(),
            channel: connection.open_channel(None).unwrap(),
            _connection: connection,
        }
    }

    /// In a virtual host of the shared node that no other test uses.
    pub fn fresh() -> Self {
        let broker = Broker::shared();
        broker.admin(&broker.fresh_vhost())
    }

    /// The URL for the connector.
    pub fn url(&self) -> String {
        url(self.port, &self.vhost)
    }

    /// Takes all messages from Canopsis's queue. Does not end while senders fill the queue faster.
    pub fn drain(&self) -> Vec<ReceivedMessage> {
        self.take(usize::MAX)
    }

    /// Takes at most `limit` messages from Canopsis's queue.
    pub fn take(&self, limit: usize) -> Vec<ReceivedMessage> {
        let mut all = Vec::new();
        while all.len() < limit
            && let Some(get) = self.channel.basic_get(QUEUE, true).unwrap()
        {
            all.push(ReceivedMessage {
                event: serde_json::from_slice(&get.delivery.body).unwrap(),
                delivery: get.delivery,
            });
        }
        all
    }

    /// Takes all messages from Canopsis's queue, and returns the resource of each, in their order.
    pub fn drain_resources(&self) -> Vec<String> {
        let messages = self.drain();
        messages.iter().map(ReceivedMessage::resource).collect()
    }

    pub fn unbind(&self) {
        self.channel
            .queue_unbind(QUEUE, EXCHANGE, "#", FieldTable::new())
            .unwrap();
    }

    pub fn bind(&self) {
        self.channel
            .queue_bind(QUEUE, EXCHANGE, "#", FieldTable::new())
            .unwrap();
    }

    pub fn delete_exchange(&self) {
        self.channel.exchange_delete(EXCHANGE, false).unwrap();
    }

    /// Declares Canopsis's exchange, and binds its queue.
    pub fn declare_exchange(&self) {
        let options = ExchangeDeclareOptions {
            durable: true,
            ..ExchangeDeclareOptions::default()
        };
        self.channel
            .exchange_declare(ExchangeType::Topic, EXCHANGE, options)
            .unwrap();
        self.bind();
    }

    /// Lets Canopsis's queue refuse messages beyond a number.
    pub fn limit_queue(&self, length: i32) {
        let overflow = AmqpValue::LongString("reject-publish".to_owned());
        self.redeclare_queue(FieldTable::from([
            ("x-max-length".to_owned(), AmqpValue::LongInt(length)),
            ("x-overflow".to_owned(), overflow),
        ]));
    }

    /// Deletes Canopsis's queue, and declares it with these arguments.
    pub fn redeclare_queue(&self, arguments: FieldTable) {
        self.channel
            .queue_delete(QUEUE, amiquip::QueueDeleteOptions::default())
            .unwrap();
        let options = QueueDeclareOptions {
            durable: true,
            arguments,
            ..QueueDeclareOptions::default()
        };
        self.channel.queue_declare(QUEUE, options).unwrap();
        self.bind();
    }
}
