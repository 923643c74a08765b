//! Where partitions stand whose last entry was no record, so that a rebalance doesn't make the client pass a record over; and
//! which of them the client has ended to fetch. Never reads or commits anything.

use std::time::Duration;

use super::{Batch, Code, Consumer, Entry, List, partition_code, partition_topic};

/// How long the client's own thread may take to note a position: it does no I/O for that.
const STRAIGHTEN_TIMEOUT: Duration = Duration::from_secs(5);

impl Consumer {
    /// Remembers where partitions stand whose last entry is no record.
    pub(super) fn note(&mut self, batch: &Batch) {
        let mut last = None;
        for entry in batch.iter() {
            let place = entry.place();
            let is_record = matches!(entry, Entry::Record(_));
            let this = Some((place.topic_key(), place.partition(), is_record));
            // Records come in runs of one partition: only the first of a run has news.
            if is_record && std::mem::replace(&mut last, this) == this {
                continue;
            }
            last = this;
            let position = if is_record { None } else { Some(place.offset()).filter(|offset| *offset >= 0) };
            self.stands(place.topic(), place.partition(), position);
            if matches!(entry, Entry::Error { code: Code::AUTO_OFFSET_RESET, .. }) {
                let name = self.name(place.topic());
                self.stopped.insert((name, place.partition()));
            }
        }
    }

    /// What was known of a partition is about an assignment that is over.
    pub(super) fn forget(&mut self, topic: &str, partition: i32) {
        self.stands(topic, partition, None);
        if !self.stopped.is_empty() {
            let name = self.name(topic);
            self.stopped.remove(&(name, partition));
        }
    }

    pub(super) fn stands(&mut self, topic: &str, partition: i32, position: Option<i64>) {
        if position.is_none() && self.ended.is_empty() {
            return;
        }
        let key = (self.name(topic), partition);
        match position {
            Some(position) => self.ended.insert(key, position),
            None => self.ended.remove(&key),
        };
    }

    /// Sets librdkafka's own idea of where partitions stand right, where the ends and errors that it delivered have spoiled it:
    /// it counts each as if it had been a record at its offset. When a rebalance has been answered, it fetches the partitions
    /// that stay from there, one too far: the next record is left out, or the offset is out of range. They are paused until
    /// the answer, so that nothing is fetched in between.
    pub(super) fn straighten(&mut self) {
        if !self.rebalancing || self.ended.is_empty() {
            return;
        }
        let places = self.ended.iter().map(|((topic, partition), offset)| (&**topic, *partition, *offset));
        let result = List::of(places).and_then(|list| self.seek_list(&list, STRAIGHTEN_TIMEOUT).map(|()| list));
        match result {
            // One that stands still after an error can't be sought, and won't be fetched.
            Ok(list) => {
                for item in list.elements() {
                    if let Some(code) = partition_code(item).error() {
                        let topic = &*partition_topic(item);
                        tracing::debug!(topic, partition = item.partition, %code, "A partition stays where it stands.");
                    }
                }
            }
            Err(error) => tracing::warn!(%error, "Partitions couldn't be put where they stand."),
        }
    }
}
