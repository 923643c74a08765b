//! The records of a topic that are there now, read once, by hand: no group, no commit. What is written meanwhile isn't read.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::{Duration, Instant};

use super::Error;
use super::place::Place;
use crate::kafka::start::Begin;
use crate::kafka::{
    Batch, Code, Connection, Consumer, ConsumerSettings, Entry, Happening, Record, TopicInfo, settings,
};

/// Records in hand at most: of these, one route's are passed through its plugins in one go.
const RECORDS_MAX: usize = 2048;
/// Keys and values in hand, about.
const BYTES_MAX: usize = 8 << 20;
/// How long to wait for records before looking whether the client has something to say.
const SLICE: Duration = Duration::from_millis(100);

/// A topic on its way from its beginning to its end.
pub(super) struct Log {
    topic: String,
    batch: Batch,
    consumer: Consumer,
    /// Where each partition ended when the reading began.
    ends: BTreeMap<i32, i64>,
    /// The partitions that weren't read to there yet.
    unread: BTreeSet<i32>,
    timeout: Duration,
}

impl Log {
    /// Of each partition the offsets within a range, as far as there are records at them.
    ///
    /// # Errors
    /// Where the broker doesn't answer in time, or refuses.
    pub(super) fn open(
        connection: &Connection,
        topic: &TopicInfo,
        within: impl Fn(i32) -> Range<i64>,
        timeout: Duration,
    ) -> Result<Self, Error> {
        let mut consumer = Consumer::new(&ConsumerSettings {
            connection: connection.clone(),
            // librdkafka reads partitions by hand only where there is a group's name; nothing is ever committed in it.
            group: "midplane-dlq".to_owned(),
            client_id: "midplane-cli".to_owned(),
            buffer_bytes: settings::CONSUMER_BUFFER_BYTES,
        })?;
        let name = topic.name.as_str();
        let wanted = (0..topic.partitions).map(|partition| (partition, within(partition)));
        let wanted: Vec<_> = wanted.filter(|(_, within)| !within.is_empty()).collect();
        let bound = |begin| {
            let places = wanted.iter().map(|(partition, _)| (name, *partition, begin));
            consumer.offsets_at(places, timeout)
        };
        let (first, next) = (bound(Begin::Earliest)?, bound(Begin::Latest)?);
        let mut begins = Vec::new();
        let mut ends = BTreeMap::new();
        for (((partition, within), first), next) in wanted.iter().zip(first).zip(next) {
            let (begin, end) = (within.start.max(first), within.end.min(next));
            if begin < end {
                begins.push((name, *partition, begin));
                ends.insert(*partition, end);
            }
        }
        if !begins.is_empty() {
            consumer.assign(begins.into_iter())?;
        }
        let (batch, unread) = (consumer.batch(), ends.keys().copied().collect());
        Ok(Self { topic: topic.name.clone(), batch, consumer, ends, unread, timeout })
    }

    /// Reads on: what was read is in [`Self::records`]. False at the end.
    ///
    /// # Errors
    /// Where the broker is silent for too long, or what it has can't be read.
    pub(super) fn read(&mut self) -> Result<bool, Error> {
        let deadline = Instant::now() + self.timeout;
        while !self.unread.is_empty() {
            if self.consumer.drain(&mut self.batch, RECORDS_MAX, BYTES_MAX, SLICE) > 0 {
                return self.note().map(|()| true);
            }
            while let Some(happening) = self.consumer.poll(Duration::ZERO) {
                match happening {
                    Happening::Error { code, fatal: true, message } => {
                        return Err(crate::kafka::Error::Fatal { code, message }.into());
                    }
                    happening => tracing::debug!(?happening, "The client reports."),
                }
            }
            if Instant::now() >= deadline {
                return Err(Error::Silent(self.timeout));
            }
        }
        Ok(false)
    }

    /// What was read last.
    pub(super) fn records(&self) -> impl Iterator<Item = Record<'_>> {
        self.batch.iter().filter_map(|entry| match entry {
            Entry::Record(record) => self.is_within(record.partition(), record.offset()).then_some(record),
            Entry::End(_) | Entry::Error { .. } => None,
        })
    }

    fn is_within(&self, partition: i32, offset: i64) -> bool {
        self.ends.get(&partition).is_some_and(|end| offset < *end)
    }

    /// Notes which partitions were read to their end.
    fn note(&mut self) -> Result<(), Error> {
        for entry in self.batch.iter() {
            let place = entry.place();
            let end = self.ends.get(&place.partition()).copied();
            match entry {
                Entry::Record(record) if end.is_some_and(|end| record.offset() + 1 < end) => {}
                Entry::End(place) if end.is_some_and(|end| place.offset() < end) => {}
                Entry::Record(_) | Entry::End(_) => {
                    self.unread.remove(&place.partition());
                }
                Entry::Error { code: Code::AUTO_OFFSET_RESET | Code::OFFSET_OUT_OF_RANGE, .. } => {
                    return Err(Error::Deleted(self.topic.clone()));
                }
                Entry::Error { code, message, .. } if code.passes_records_over() => {
                    let (topic, partition, offset) = (self.topic.clone(), place.partition(), place.offset());
                    let message = format!("{message} ({})", code.name());
                    return Err(Error::Damaged { place: Place { topic, partition, offset }, message });
                }
                Entry::Error { code, .. } if !code.may_pass() => {
                    let (topic, partition) = (self.topic.clone(), place.partition());
                    return Err(crate::kafka::Error::Partition { action: "read", topic, partition, code }.into());
                }
                // The client tries again by itself.
                Entry::Error { code, .. } => tracing::debug!(%code, "A partition can't be read for now."),
            }
        }
        Ok(())
    }
}
