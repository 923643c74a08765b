//! What the task runner and tests have in common: the Apache Kafka of the tests, and processes that are watched.

pub mod kafka;
pub mod process;
pub mod workspace;

/// Why a task failed, for people.
pub type Failure = String;
