//! Takes messages out of a queue until an event has a state, and prints that one with its routing key, as indented JSON. Appends all of
//! them to a file, one a line. For `scripts/demo`.
//!
//!     queue-get URL QUEUE STATE FILE

use std::error::Error;
use std::fs::File;
use std::io::Write;
use std::time::Duration;

use amiquip::{Connection, ConsumerMessage, ConsumerOptions, QueueDeclareOptions};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, queue, state, file] = arguments.as_slice() else {
        return Err("usage: queue-get URL QUEUE STATE FILE".into());
    };
    let state: u64 = state.parse()?;
    let mut file = File::options().create(true).append(true).open(file)?;
    let mut connection = Connection::insecure_open(url)?;
    let channel = connection.open_channel(None)?;
    let durable = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    let queue = channel.queue_declare(queue.as_str(), durable)?;
    let consumer = queue.consume(ConsumerOptions::default())?;
    loop {
        let delivery = match consumer.receiver().recv_timeout(Duration::from_mins(1))? {
            ConsumerMessage::Delivery(delivery) => delivery,
            other => return Err(format!("consumer ended: {other:?}").into()),
        };
        let event: serde_json::Value = serde_json::from_slice(&delivery.body)?;
        writeln!(file, "{event}")?;
        let routing_key = delivery.routing_key.clone();
        consumer.ack(delivery)?;
        if event["state"] == state {
            println!("routing key: {routing_key}\n{event:#}\n");
            return Ok(());
        }
    }
}
