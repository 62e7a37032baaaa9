//! The baseline: a single-threaded loop with the same AMQP library that publishes ready-made messages with the connector's
//! properties and counts confirms. It has no HTTP, no mapping and no deadlines.

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

pub struct BareLoop {
    channel: Channel,
    confirms: Receiver<Confirm>,
    returns: Receiver<Return>,
    _connection: Connection,
    published: u64,
    /// The delivery tag of the oldest unconfirmed message, the first of `unconfirmed` in [`BareLoop::publish`].
    first_tag: u64,
}

impl BareLoop {
    pub fn open(url: &str) -> Self {
        let url = AmqpUrl::parse(url).unwrap();
        let socket = TcpStream::connect((url.host.as_str(), url.port)).unwrap();
        // With Nagle's algorithm, one message at a time is 12 times slower, which would flatter the connector.
        socket.set_nodelay(true).unwrap();
        let Login::Plain { user, password } = &url.login else {
            panic!("the URL has no password")
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

    /// Publishes `count` messages with at most `window` unconfirmed. Returns the total time, and each message's time to its confirm.
    pub fn publish(
        &mut self,
        messages: &[ReceivedMessage],
        count: usize,
        window: usize,
    ) -> (Duration, Vec<Duration>) {
        let start = Instant::now();
        let mut latencies = Vec::with_capacity(count);
        // `None` once confirmed: confirms may come out of order.
        let mut unconfirmed: VecDeque<Option<Instant>> = VecDeque::new();
        let (mut sent, mut in_flight) = (0, 0);
        let mut next_message = messages.iter().cycle();
        while latencies.len() < count {
            while sent < count && in_flight < window {
                let message = next_message.next().unwrap();
                unconfirmed.push_back(Some(Instant::now()));
                self.publish_one(message);
                sent += 1;
                in_flight += 1;
            }
            let mut next = Some(self.confirms.recv().unwrap());
            while let Some(confirm) = next {
                assert!(self.returns.try_recv().is_err(), "a message was returned");
                let Confirm::Ack(ack) = confirm else {
                    panic!("a message was nacked")
                };
                let end = usize::try_from(ack.delivery_tag - self.first_tag).unwrap();
                let begin = if ack.multiple { 0 } else { end };
                for published_at in unconfirmed.range_mut(begin..=end) {
                    if let Some(published_at) = published_at.take() {
                        latencies.push(published_at.elapsed());
                        in_flight -= 1;
                    }
                }
                while let Some(None) = unconfirmed.front() {
                    unconfirmed.pop_front();
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
            body: &message.delivery.body,
            routing_key: message.delivery.routing_key.clone(),
            mandatory: true,
            immediate: false,
            properties,
        };
        self.channel.basic_publish(EXCHANGE, publish).unwrap();
    }
}
