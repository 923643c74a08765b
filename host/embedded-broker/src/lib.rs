//! A small, durable, single-node broker that speaks the Kafka protocol, for one machine: it lives in its caller's process,
//! on its caller's tokio runtime, and keeps everything in one folder. It knows nothing of routes or plugins.
//!
//! See README.md of this crate for what is supported, what is not, and what "durable" means here.

mod api;
mod broker;
mod clock;
mod error;
mod groups;
mod settings;
mod storage;
mod topics;
mod transactions;
mod wire;

pub use broker::Broker;
pub use error::Error;
pub use settings::{DEFAULT_RETENTION, PARTITIONS_MAX, Settings, TopicSettings};
