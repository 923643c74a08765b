//! The client of the Kafka protocol: librdkafka in batches. Owns all unsafe code over it; knows nothing of routes or
//! plugins.
//!
//! A shard has a [`Consumer`] and a [`Producer`], and uses them from its thread alone.

pub mod batch;
mod blame;
pub mod consumer;
mod describe;
pub mod error;
pub mod headers;
mod message;
mod native;
pub mod producer;
pub mod settings;
pub mod start;
pub mod topics;
mod transaction;
// Elsewhere the C library waits for so long, and not until a time.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod wait;

pub use batch::{Batch, Entry, Place, Record, TopicKey};
pub use consumer::{Committed, Consumer, Happening, Partition};
pub use describe::{Cleanup, TopicId, TopicSettings};
pub use error::{Code, Error};
pub use headers::{HeadersRef, OwnedHeaders};
pub use message::headers_of;
pub use native::Throttled;
pub use producer::{Outgoing, ProduceError, Producer, Report, Topic};
pub use settings::{AdminSettings, Connection, ConsumerSettings, ProducerSettings};
pub use topics::{NewTopic, TopicInfo, Topics};
pub use transaction::{Ending, TransactionError};
