//! The client of the Kafka protocol: librdkafka in batches. Owns all unsafe code over it; knows nothing of routes or
//! plugins.

pub mod headers;
mod message;

pub use headers::HeadersRef;
pub use message::headers_of;
