//! The facts of a run, as values. Whoever ran it collects them; nothing here judges.

use std::collections::BTreeMap;

use midplane::config::model::Guarantee;

use super::origin::{Maker, Origin, Place, Product};
use crate::Record;
use crate::usage::Usage;

/// What a group has committed, by partition of the input: the next offset to read.
pub type Positions = BTreeMap<i32, i64>;

/// A run: the events of one input topic through one group.
#[derive(Debug, Clone)]
pub struct Run {
    /// What was promised.
    pub guarantee: Guarantee,
    /// All events that went in, acknowledged.
    pub events: Vec<Event>,
    /// What the group had committed, in the order in which it was asked.
    pub committed: Vec<Positions>,
    /// What the group had committed when something took its unfinished work away (a kill, a lost session), in that order:
    /// at least once, from there on events may be repeated.
    pub interruptions: Vec<Positions>,
    /// What could be read while nobody wrote, the last one when all was over.
    pub looks: Vec<Look>,
    /// How many hosts have numbered generations, each by itself: of several, numbers say nothing about time.
    pub numberings: usize,
    /// What processes held before the fault, and once it was healed.
    pub usages: Vec<(Usage, Usage)>,
}

/// An event, and what is to become of it.
#[derive(Debug, Clone)]
pub struct Event {
    /// Where it is.
    pub place: Place,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Each product with the number of its topic. None: it is dropped, or not taken.
    pub products: Vec<(usize, Product)>,
}

/// What could be read at a time when no host wrote and no transaction was open.
#[derive(Debug, Clone)]
pub struct Look {
    /// What the group had committed, asked before the topics were read.
    pub committed: Positions,
    /// All topics that hosts write to, read committed.
    pub topics: Vec<Topic>,
}

/// A topic that hosts write to.
#[derive(Debug, Clone)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// How many partitions it has.
    pub partitions: i32,
    /// What it holds; each partition in its order.
    pub records: Vec<Found>,
}

/// A record that was read.
#[derive(Debug, Clone)]
pub struct Found {
    /// The partition that it was read from.
    pub at: i32,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Which event it was made of.
    pub origin: Origin,
    /// What made it; letters don't say.
    pub maker: Option<Maker>,
}

impl Found {
    /// What the checker wants to know of a record that was read.
    ///
    /// # Panics
    /// When it is neither an output nor a letter.
    pub fn of(record: &Record) -> Self {
        let origin = Origin::of(record);
        let maker = (origin.product != Product::Letter).then(|| Maker::of(record));
        Self { at: record.partition.expect("it was read"), key: record.key.clone(), origin, maker }
    }
}

impl Run {
    /// Where each partition of the input ends.
    pub fn ends(&self) -> Positions {
        let mut ends = Positions::new();
        for event in &self.events {
            let end = ends.entry(event.place.partition).or_default();
            *end = (event.place.offset + 1).max(*end);
        }
        ends
    }
}
