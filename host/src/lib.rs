//! Midplane: a WebAssembly-plugin event router for Kafka.
//!
//! The modules in the order in which a process meets them: the command line ([`cli`]) reads the file ([`config`]), the
//! control plane ([`control`]) builds a generation of it and runs the data plane ([`data`]), which moves events through
//! librdkafka ([`kafka`]). `host/ARCHITECTURE.md` is the map.

pub mod cli;
pub mod config;
pub mod control;
pub mod data;
pub mod dead_letters;
pub mod digest;
pub mod kafka;
