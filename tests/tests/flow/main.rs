//! Events from topics through plugins to topics, in the real program, on the embedded broker and on Apache Kafka. Each file
//! is a subject; what a single module decides is tested beside that module.

mod backlog;
mod exactly_once;
mod headers;
mod hosts;
mod logs;
mod routes;
mod start;

/// How many events the large tests send, at least.
const EVENTS: usize = 100_000;
