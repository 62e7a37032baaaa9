//! What one would write by hand with the same AMQP library as it comes: a loop that publishes messages that are ready, with the same
//! properties, on the same kind of connection, and counts the confirms. No HTTP, no mapping, no deadlines, one thread.

use std::collections::VecDeque;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use amiquip::{
    AmqpProperties, Auth, Channel, Confirm, Connection, ConnectionOptions, ConnectionTuning,
    Publish, Return,
};
use crossbeam_channel::Receiver;

use crate::support::broker::{EXCHANGE, ReceivedMessage};
use canopsis_connector_prometheus::amqp_url::{AmqpUrl, Login};

pub struct Bare {
    channel: Channel,
    confirms: Receiver<Confirm>,
    returns: Receiver<Return>,
    _connection: Connection,
    published: u64,
    /// The delivery tag of the first slot of `open`.
    first_tag: u64,
}

impl Bare {
    pub fn open(url: &str) -> Self {
        let url = AmqpUrl::parse(url).unwrap();
        let socket = TcpStream::connect((url.host.as_str(), url.port)).unwrap();
        // Without it one message at a time is twelve times slower: the comparison would be with a straw man.
        socket.set_nodelay(true).unwrap();
        let Login::Plain { user, password } = &url.login else {
            panic!("a login by password")
        };
        let auth = Auth::Plain {
            username: user.clone(),
            password: password.expose().to_owned(),
        };
        let options = ConnectionOptions::default()
            .auth(auth)
            .virtual_host(url.vhost.clone());
        let stream = mio::net::TcpStream::from_stream(socket).unwrap();
        let mut connection =
            Connection::insecure_open_stream(stream, options, ConnectionTuning::default()).unwrap();
        let channel = connection.open_channel(None).unwrap();
        let returns = channel.listen_for_returns().unwrap();
        let confirms = channel.listen_for_publisher_confirms().unwrap();
        channel.enable_publisher_confirms().unwrap();
        Self {
            channel,
            confirms,
            returns,
            _connection: connection,
            published: 0,
            first_tag: 1,
        }
    }

    /// Publishes so many messages, with so many unconfirmed at most; the whole time, and that of each until its confirm.
    pub fn publish(
        &mut self,
        messages: &[ReceivedMessage],
        count: usize,
        window: usize,
    ) -> (Duration, Vec<Duration>) {
        let start = Instant::now();
        let mut latencies = Vec::with_capacity(count);
        let mut open: VecDeque<Option<Instant>> = VecDeque::new();
        let (mut sent, mut unconfirmed) = (0, 0);
        let mut texts = messages.iter().cycle();
        while latencies.len() < count {
            while sent < count && unconfirmed < window {
                let message = texts.next().unwrap();
                open.push_back(Some(Instant::now()));
                self.publish_one(message);
                sent += 1;
                unconfirmed += 1;
            }
            let mut next = Some(self.confirms.recv().unwrap());
            while let Some(confirm) = next {
                assert!(self.returns.try_recv().is_err(), "a message was returned");
                let Confirm::Ack(ack) = confirm else {
                    panic!("a message was refused")
                };
                let end = usize::try_from(ack.delivery_tag - self.first_tag).unwrap();
                let begin = if ack.multiple { 0 } else { end };
                for slot in open.range_mut(begin..=end) {
                    if let Some(since) = slot.take() {
                        latencies.push(since.elapsed());
                        unconfirmed -= 1;
                    }
                }
                while let Some(None) = open.front() {
                    open.pop_front();
                    self.first_tag += 1;
                }
                next = self.confirms.try_recv().ok();
            }
        }
        (start.elapsed(), latencies)
    }

    fn publish_one(&mut self, message: &ReceivedMessage) {
        let properties = AmqpProperties::default()
            .with_content_type("application/json".to_owned())
            .with_delivery_mode(2)
            .with_app_id("canopsis-connector-prometheus".to_owned())
            .with_message_id(format!("18bcd2f4a1b2c3d4-7f3-{}", self.published));
        self.published += 1;
        let publish = Publish {
            body: &message.body,
            routing_key: message.routing_key.clone(),
            mandatory: true,
            immediate: false,
            properties,
        };
        self.channel.basic_publish(EXCHANGE, publish).unwrap();
    }
}
