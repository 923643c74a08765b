//! What stops a partition, who says so, and the operator's hands on it: breakers, pauses, halts, events that are skipped, topics
//! that were made anew. On every broker, and in both guarantees where that matters.

mod breaker;
mod case;
mod partition;
mod pause;
mod topic;
