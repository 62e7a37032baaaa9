//! Turns Prometheus Alertmanager notifications into Canopsis events on RabbitMQ.
//!
//! Data flows one way: HTTP, notification, mapping, event, publisher, response. `ARCHITECTURE.md` has a diagram, and an order
//! in which to read the modules.

#![forbid(unsafe_code)]
#![warn(clippy::unwrap_used, clippy::expect_used)]

pub mod alertmanager;
pub mod allocator;
pub mod amqp_url;
pub mod cli;
pub mod config;
pub mod event;
pub mod files;
pub mod http;
pub mod input;
pub mod liveness;
pub mod logging;
pub mod mapping;
pub mod memory;
pub mod metrics;
pub mod perf_data;
pub mod pipeline;
pub mod placeholder;
pub mod publisher;
pub mod reload;
pub mod secret;
pub mod service;
pub mod suggest;
pub mod systemd;
pub mod text;
pub mod tls;
pub mod version;
