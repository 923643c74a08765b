//! What the shards of a group follow: made whole by the control plane, read by every shard, changed by none.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use super::chain::Target;
use super::note::Note;
use super::plugin::Prepared;
use super::route::{Index, Plan};
use crate::config::model::{Guarantee, OutOfRange};
use crate::kafka::TopicId;
use crate::kafka::start::HELD;

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
    /// Output and dead-letter topics, by number. A number keeps its meaning for as long as the group runs, so that those of
    /// former generations, whose messages may be in flight, are here too.
    pub topics: Vec<String>,
    /// The plugins, bound to configs and ports, by the number that stages name.
    pub prepared: Vec<Arc<Prepared>>,
    /// How long settled events wait for their commit.
    pub commit_interval: Duration,
    /// What is promised.
    pub guarantee: Guarantee,
    /// What happens where a committed offset isn't there any more.
    pub out_of_range: OutOfRange,
}

impl Program {
    /// The numbers of the topics that its routes write to.
    pub fn written(&self) -> BTreeSet<u16> {
        let mut written = BTreeSet::new();
        for plan in &self.plans {
            written.insert(plan.dead_letter);
            if plan.stages.is_empty() {
                written.insert(plan.direct);
            }
            let variants = plan.trials.iter().flat_map(|trials| &trials.variants).chain([plan]);
            let targets = variants.flat_map(|plan| &plan.stages).flat_map(|stage| &stage.targets);
            written.extend(targets.filter_map(|target| match target {
                Target::Topic(topic) => Some(*topic),
                Target::Next | Target::Unbound => None,
            }));
        }
        written
    }

    /// By the number of each of its routes, the number that the same route has in another program.
    pub fn renumbered(&self, next: &Self) -> Vec<Option<u16>> {
        let mut numbers = HashMap::with_capacity(next.plans.len());
        for (plan, number) in next.plans.iter().zip(0..) {
            numbers.insert(plan.was.as_deref().unwrap_or(&plan.id), number);
        }
        // What a route is now weighs more than what another one was.
        numbers.extend(next.plans.iter().zip(0..).map(|(plan, number)| (plan.id.as_str(), number)));
        self.plans.iter().map(|plan| numbers.get(plan.id.as_str()).copied()).collect()
    }

    /// What a commit says beside the offset, of a topic whose id is known, or not.
    pub fn commit_metadata(&self, topic_id: Option<&TopicId>) -> String {
        Note::new(&self.generation_hash, topic_id).text()
    }

    /// As [`Self::commit_metadata`], of an offset that only holds a place.
    pub fn held_metadata(&self) -> String {
        self.commit_metadata(None).trim_end_matches('}').to_owned() + HELD
    }
}
