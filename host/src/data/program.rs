//! What the shards of a group follow: made whole by the control plane, read by every shard, changed by none.

use std::sync::Arc;
use std::time::Duration;

use super::plugin::Prepared;
use super::route::{Index, Plan};
use crate::config::model::OutOfRange;

/// A group's part of a generation.
pub struct Program {
    /// The group's id.
    pub group: String,
    /// The generation's number.
    pub generation: u64,
    /// The first digits of its hash: goes with every commit.
    pub generation_hash: String,
    /// The routes, in the order of the config; the engine's and the answers' route numbers are indexes into this.
    pub plans: Vec<Plan>,
    /// Which of them read a topic.
    pub index: Index,
    /// Output and dead-letter topics, by number.
    pub topics: Vec<String>,
    /// The plugins, bound to configs and ports, by the number that stages name.
    pub prepared: Vec<Arc<Prepared>>,
    /// How long settled events wait for their commit.
    pub commit_interval: Duration,
    /// What happens where a committed offset isn't there any more.
    pub out_of_range: OutOfRange,
}

impl Program {
    /// What a commit says beside the offset, versioned, so that later hosts can tell what they read.
    pub fn commit_metadata(&self) -> String {
        format!(r#"{{"v":1,"generation":"{}"}}"#, self.generation_hash)
    }
}
