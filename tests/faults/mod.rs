//! Faults of RabbitMQ and of the network, overload, and hostile input. They take minutes.

mod alarms;
mod brokers;
mod hostile;
mod order;
mod outages;
mod overload;
mod saturation;
mod watchdog;
