//! The client of the Kafka protocol: librdkafka in batches. Owns all unsafe code over it; knows nothing of routes or
//! plugins.

pub mod headers;

pub use headers::HeadersRef;
