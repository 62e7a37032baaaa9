//! The tests of the program as a whole, with the real binary. One binary, in which the module says what a test needs and when it runs:
//!
//! | module | needs | run by |
//! | --- | --- | --- |
//! | `offline` | nothing but the binary | `make check`, and each build of a package |
//! | `release` | the binary that `make build` makes | `make check`, and each build of a package |
//! | `servers` | RabbitMQ, Alertmanager, Prometheus | `make check` |
//! | `faults` | RabbitMQ, and minutes | `make faults` |
//! | `packages` | root, and tools that build images and packages | `make check-packages` |
//! | `cluster` | root, and RabbitMQ 4 | `make check-cluster` |
//!
//! `cargo test --test integration NAME` runs the tests that have NAME in their path.

mod cluster;
mod faults;
mod offline;
mod packages;
mod release;
mod servers;
mod support;
