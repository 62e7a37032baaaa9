//! Takes messages out of a queue and prints each with its routing key, as indented JSON. For `scripts/demo`.
//!
//!     queue-get URL QUEUE COUNT

use std::error::Error;
use std::time::Duration;

use amiquip::{Connection, ConsumerMessage, ConsumerOptions, QueueDeclareOptions};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, queue, count] = arguments.as_slice() else {
        return Err("usage: queue-get URL QUEUE COUNT".into());
    };
    let mut connection = Connection::insecure_open(url)?;
    let channel = connection.open_channel(None)?;
    let durable = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    let queue = channel.queue_declare(queue.as_str(), durable)?;
    let consumer = queue.consume(ConsumerOptions::default())?;
    for _ in 0..count.parse::<usize>()? {
        match consumer.receiver().recv_timeout(Duration::from_mins(1))? {
            ConsumerMessage::Delivery(delivery) => {
                let event: serde_json::Value = serde_json::from_slice(&delivery.body)?;
                println!("routing key: {}\n{event:#}\n", delivery.routing_key);
                consumer.ack(delivery)?;
            }
            other => return Err(format!("consumer ended: {other:?}").into()),
        }
    }
    Ok(())
}
