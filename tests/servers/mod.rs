//! Each capability, with a real RabbitMQ and the real senders.

mod alertmanager;
mod contrib;
mod delivery;
mod documents;
mod log;
mod memory;
mod metrics;
mod permissions;
mod process_group;
mod senders;
mod service;
mod stand_ins;
mod tls;
mod tokens;
mod webhook;
