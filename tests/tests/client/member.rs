//! A member of a group that does what a shard does: answers rebalances, and keeps what it reads.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use midplane::kafka::{Batch, Code, Consumer, Entry, Happening, Partition, start};
use midplane_tests::Broker;

use crate::{PATIENCE, TICK, consumer_settings};

/// An answer to a commit: its token, what went wrong, and each partition's.
pub(crate) type Answer = (usize, Option<Code>, Vec<(Partition, i64, Option<Code>)>);

/// What a record was, kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) value: String,
}

/// A member of a group that does what a shard does: answers rebalances, and keeps what it reads.
pub(crate) struct Member {
    pub(crate) consumer: Consumer,
    pub(crate) batch: Batch,
    pub(crate) assigned: BTreeSet<Partition>,
    pub(crate) records: Vec<Kept>,
    pub(crate) ends: BTreeMap<i32, i64>,
    pub(crate) errors: Vec<(Code, i32)>,
    pub(crate) committed: Vec<Answer>,
    /// How often it was assigned something, perhaps nothing.
    pub(crate) rounds: usize,
    /// Overrides where partitions begin.
    begin: Option<i64>,
}

impl Member {
    pub(crate) fn new(broker: &Broker, group: &str, topics: &[&str]) -> Self {
        Self::beginning(broker, group, topics, None)
    }

    pub(crate) fn beginning(broker: &Broker, group: &str, topics: &[&str], begin: Option<i64>) -> Self {
        let consumer = Consumer::new(&consumer_settings(broker, group)).expect("settings");
        consumer.subscribe(topics.iter().copied()).expect("subscribed");
        let batch = consumer.batch();
        Self {
            consumer,
            batch,
            assigned: BTreeSet::new(),
            records: Vec::new(),
            ends: BTreeMap::new(),
            errors: Vec::new(),
            committed: Vec::new(),
            rounds: 0,
            begin,
        }
    }

    pub(crate) fn turn(&mut self) {
        while let Some(happening) = self.consumer.poll(Duration::ZERO) {
            self.answer(happening);
        }
        self.consumer.drain(&mut self.batch, 1000, 1 << 20, TICK);
        for entry in self.batch.iter() {
            let place = entry.place();
            let here = self
                .assigned
                .iter()
                .any(|(topic, partition)| (&**topic, *partition) == (place.topic(), place.partition()));
            match entry {
                Entry::Record(record) if here => self.records.push(Kept {
                    topic: place.topic().to_owned(),
                    partition: record.partition(),
                    offset: record.offset(),
                    value: String::from_utf8_lossy(record.value().unwrap_or_default()).into_owned(),
                }),
                Entry::End(place) if here => {
                    self.ends.insert(place.partition(), place.offset());
                }
                Entry::Error { code, place, .. } => self.errors.push((code, place.partition())),
                _ => {}
            }
        }
    }

    pub(crate) fn answer(&mut self, happening: Happening) {
        match happening {
            Happening::Assign(partitions) => {
                self.rounds += 1;
                let positions = start::positions(
                    &mut self.consumer,
                    &partitions,
                    &HashMap::new(),
                    |_| String::new(),
                    true,
                    PATIENCE,
                )
                .expect("positions");
                let begin = self.begin;
                let places = positions.iter().map(|at| (&*at.topic, at.partition, begin.unwrap_or(at.offset)));
                self.consumer.assign(places).expect("assigned");
                self.assigned.extend(partitions);
            }
            Happening::Revoke { partitions, .. } => {
                self.assigned.retain(|partition| !partitions.contains(partition));
                let places = partitions.iter().map(|(topic, partition)| (&**topic, *partition));
                self.consumer.unassign(places).expect("unassigned");
            }
            Happening::Committed { token, .. } if token == start::TOKEN => {}
            Happening::Committed { token, error, offsets } => self.committed.push((token, error, offsets)),
            Happening::Error { .. } => {}
        }
    }

    #[track_caller]
    pub(crate) fn until(&mut self, what: &str, mut condition: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !condition(self) {
            assert!(Instant::now() < deadline, "in vain: {what}; {} records, ends {:?}", self.records.len(), self.ends);
            self.turn();
        }
    }

    pub(crate) fn values(&self, partition: i32) -> Vec<&str> {
        self.records.iter().filter(|kept| kept.partition == partition).map(|kept| kept.value.as_str()).collect()
    }

    pub(crate) fn leave(mut self) {
        assert!(self.consumer.leave(PATIENCE).expect("leaving"), "the group is left");
    }
}
