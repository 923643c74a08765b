//! A group's offsets: committing them, reading them back, and looking up what a time or an end of the log stands for. Which
//! offset to commit, and where to begin, is decided elsewhere.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::bindings as rdsys;

use super::super::describe::{TopicId, topic_ids};
use super::super::start::Begin;
use super::{
    Client, Code, Consumer, Error, List, Queue, answered, c_string, check_item, check_list, partition_metadata,
    partition_topic, timeout_ms,
};

/// A committed offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// `None` where nothing was ever committed.
    pub offset: Option<i64>,
    /// What was committed with it.
    pub metadata: Vec<u8>,
}

impl Consumer {
    /// Commits these positions (the next offset to read, and what to remember with it);
    /// [`Happening::Committed`](super::Happening::Committed) answers,
    /// with this token.
    ///
    /// # Errors
    /// Where it can't be asked for.
    pub fn commit<'a>(
        &self,
        offsets: impl ExactSizeIterator<Item = (&'a str, i32, i64, &'a str)>,
        token: usize,
    ) -> Result<(), Error> {
        let list = self.offsets(offsets)?;
        // SAFETY: the client, the list and the queue are live; the list is copied, and the token never dereferenced.
        let code = unsafe {
            rdsys::rd_kafka_commit_queue(self.client.raw(), list.raw(), self.events.raw(), None, token as *mut _)
        };
        self.check("commit", code.into())
    }

    /// Commits these positions and waits for the answer, at most this long. An answer that comes later is dropped.
    ///
    /// # Errors
    /// Where anything of it wasn't committed, or there was no answer in time.
    pub fn commit_sync<'a>(
        &self,
        offsets: impl ExactSizeIterator<Item = (&'a str, i32, i64, &'a str)>,
        timeout: Duration,
    ) -> Result<(), Error> {
        const ACTION: &str = "commit";
        let list = self.offsets(offsets)?;
        let answers = Queue::new(&self.client);
        // SAFETY: the client, the list and the queue are live; the list is copied. An answer that comes after the queue was
        // dropped is dropped with it: librdkafka counts the queue's owners.
        let code = unsafe {
            rdsys::rd_kafka_commit_queue(self.client.raw(), list.raw(), answers.raw(), None, std::ptr::null_mut())
        };
        self.check(ACTION, code.into())?;
        let Some(answer) = answers.poll(timeout) else {
            return Err(Error::Unreachable {
                action: ACTION,
                timeout_ms: timeout.as_millis().try_into().unwrap_or(u64::MAX),
                code: Code::TIMED_OUT,
            });
        };
        // A partition's error says more than the whole's.
        for item in answer.partitions() {
            check_item(ACTION, item)?;
        }
        self.check(ACTION, answer.code())
    }

    /// What the group has committed for these partitions.
    ///
    /// # Errors
    /// Where the broker doesn't answer in time, or refuses.
    pub fn committed<'a>(
        &mut self,
        partitions: impl ExactSizeIterator<Item = (&'a str, i32)>,
        timeout: Duration,
    ) -> Result<Vec<Committed>, Error> {
        const ACTION: &str = "read the group's offsets";
        let list = self.list_of(partitions)?;
        if list.elements().is_empty() {
            return Ok(Vec::new());
        }
        // SAFETY: the client and the list are live.
        let code = unsafe { rdsys::rd_kafka_committed(self.client.raw(), list.raw(), timeout_ms(timeout)) };
        answered(ACTION, code.into(), timeout)?;
        let mut committed = Vec::with_capacity(list.elements().len());
        for item in list.elements() {
            check_item(ACTION, item)?;
            committed.push(Committed {
                topic: self.name(&partition_topic(item)),
                partition: item.partition,
                offset: (item.offset >= 0).then_some(item.offset),
                metadata: partition_metadata(item).to_vec(),
            });
        }
        Ok(committed)
    }

    /// The offsets that these places stand for, in their order: of committed records, as this group's members see them.
    ///
    /// # Errors
    /// Where the broker doesn't answer in time, or refuses.
    pub fn offsets_at<'a>(
        &self,
        places: impl ExactSizeIterator<Item = (&'a str, i32, Begin)>,
        timeout: Duration,
    ) -> Result<Vec<i64>, Error> {
        // The protocol's special times.
        const LATEST: i64 = -1;
        const EARLIEST: i64 = -2;
        let deadline = Instant::now() + timeout;
        let list = List::of(places.map(|(topic, partition, begin)| {
            let time = match begin {
                Begin::Earliest => EARLIEST,
                Begin::Latest => LATEST,
                Begin::At(time) => time.max(0),
            };
            (topic, partition, time)
        }))?;
        look_up(&self.client, &list, timeout)?;
        // Where no record is so new, the answer is -1.
        let open = list.elements().iter().filter(|item| item.offset < 0);
        let open: Vec<_> = open.map(|item| (partition_topic(item), item.partition)).collect();
        let ends = List::of(open.iter().map(|(topic, partition)| (&**topic, *partition, LATEST)))?;
        look_up(&self.client, &ends, deadline.saturating_duration_since(Instant::now()))?;
        let mut ends = ends.elements().iter().map(|item| item.offset);
        let found = list.elements().iter().map(|item| item.offset);
        // There is an end for each that is open.
        Ok(found.map(|offset| if offset < 0 { ends.next().unwrap_or(0) } else { offset }).collect())
    }

    /// The ids of topics, of those that are there and that have one.
    ///
    /// # Errors
    /// Where the broker doesn't answer in time.
    pub fn topic_ids(&self, topics: &[&str], timeout: Duration) -> Result<HashMap<String, TopicId>, Error> {
        topic_ids(&self.client, topics, timeout)
    }

    /// Where a partition ends, as far as the client has heard of it while it was fetching.
    pub fn end_heard_of(&self, topic: &str, partition: i32) -> Option<i64> {
        let (topic, mut low, mut high) = (c_string(topic).ok()?, 0, 0);
        // SAFETY: the client is live, the name ends in NUL, and both offsets are written to.
        let code = unsafe {
            rdsys::rd_kafka_get_watermark_offsets(self.client.raw(), topic.as_ptr(), partition, &mut low, &mut high)
        };
        (Code::from(code) == Code::NONE && high >= 0).then_some(high)
    }

    pub(in crate::kafka) fn offsets<'a>(
        &self,
        offsets: impl ExactSizeIterator<Item = (&'a str, i32, i64, &'a str)>,
    ) -> Result<List, Error> {
        let mut list = List::new(offsets.len());
        for (topic, partition, offset, metadata) in offsets {
            let item = list.add(&c_string(topic)?, partition, offset);
            if metadata.is_empty() {
                continue;
            }
            // SAFETY: the client is live. The element takes the memory over, which is as long as what is copied, and of the
            // allocator that frees it.
            unsafe {
                let memory = rdsys::rd_kafka_mem_malloc(self.client.raw(), metadata.len());
                std::ptr::copy_nonoverlapping(metadata.as_ptr(), memory.cast(), metadata.len());
                item.metadata = memory;
                item.metadata_size = metadata.len();
            }
        }
        Ok(list)
    }
}

/// Has the broker say which offset each time of a list stands for, of records that can be read where only what is committed is.
pub(in crate::kafka) fn look_up(client: &Client, list: &List, timeout: Duration) -> Result<(), Error> {
    const ACTION: &str = "look offsets up";
    if list.elements().is_empty() {
        return Ok(());
    }
    let milliseconds = timeout_ms(timeout).max(1);
    // SAFETY: the client and the list are live.
    let code = unsafe { rdsys::rd_kafka_offsets_for_times(client.raw(), list.raw(), milliseconds) };
    answered(ACTION, code.into(), timeout)?;
    check_list(ACTION, list)
}
