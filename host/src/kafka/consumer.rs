//! A member of a consumer group: one per shard, used from the shard's thread alone.
//!
//! All partitions' queues are forwarded into one of the shard's own, which is read in batches; the client's own queue
//! carries what else happens (rebalances, results of commits, errors) and is polled beside it. Decides nothing: where to
//! begin, what to commit and when to give a partition back is the driver's.

mod ends;
mod leave;
mod offsets;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::bindings as rdsys;

use super::batch::{Batch, Entry};
use super::error::{Code, Error};
use super::native::{
    Client, Event, Kind, List, Queue, Throttled, c_string, partition_code, partition_metadata, partition_topic,
    take_error, timeout_ms,
};
use super::settings::ConsumerSettings;
use leave::Leaving;
pub use offsets::Committed;
pub(super) use offsets::look_up;

/// The events that a consumer's queue carries.
const EVENTS: i32 = rdsys::RD_KAFKA_EVENT_REBALANCE | rdsys::RD_KAFKA_EVENT_OFFSET_COMMIT | rdsys::RD_KAFKA_EVENT_ERROR;

/// How many records are read at first where a batch is bounded by bytes and their size isn't known yet.
const FIRST_READ: usize = 64;

/// A topic's partition.
pub type Partition = (Arc<str>, i32);

/// Something other than a record that the driver has to know of.
#[derive(Debug)]
pub enum Happening {
    /// These partitions come: answer with [`Consumer::assign`], with where to begin for each. The group waits for the
    /// answer, and nothing is fetched for this member meanwhile.
    Assign(Vec<Partition>),
    /// These partitions go: answer with [`Consumer::unassign`]. What is in hand of them is to be settled and committed
    /// before, unless they are `lost`: then others have them already, and a commit would be refused.
    Revoke {
        /// Which.
        partitions: Vec<Partition>,
        /// Whether this member isn't their owner any more.
        lost: bool,
    },
    /// The answer to [`Consumer::commit`].
    Committed {
        /// What was handed in with it.
        token: usize,
        /// Why nothing was committed, where nothing was. Where it is `None`, look at each partition's.
        error: Option<Code>,
        /// What was committed, and what went wrong with it.
        offsets: Vec<(Partition, i64, Option<Code>)>,
    },
    /// The client says that something is wrong. It goes on trying by itself, unless it is `fatal`.
    Error {
        /// What.
        code: Code,
        /// Whether this client can't go on.
        fatal: bool,
        /// librdkafka's words.
        message: String,
    },
}

/// A member of a group. Not for sharing among threads: [`Happening`]s and records come to whoever polls.
pub struct Consumer {
    /// Topics' names, each once, however often it is assigned.
    names: HashSet<Arc<str>>,
    /// Records that came through `events` and not through `records`; the next drain begins with them.
    strays: Vec<Event>,
    /// Where partitions stand whose last entry was no record; see [`Self::straighten`].
    ended: HashMap<Partition, i64>,
    /// What the client has been told to fetch, and not to leave since.
    assigned: HashSet<Partition>,
    /// Partitions that the client fetches no more, since their offset is out of range.
    stopped: HashSet<Partition>,
    /// Whether a rebalance waits for its answer.
    rebalancing: bool,
    /// Rebalances, results of commits, errors.
    events: Queue,
    /// Records, errors and ends of all partitions assigned.
    records: Queue,
    leaving: Leaving,
    client: Arc<Client>,
    /// Keys and values of a record, on average: sizes the first read of a batch that is bounded by bytes.
    record_bytes: usize,
    /// Keeps `Consumer` on one thread at a time.
    _not_sync: std::marker::PhantomData<std::cell::Cell<()>>,
}

impl Consumer {
    /// A member that has not joined yet: see [`Self::subscribe`]. Needs no broker.
    ///
    /// # Errors
    /// Where a setting is refused.
    pub fn new(settings: &ConsumerSettings) -> Result<Self, Error> {
        let client = Client::new(Kind::Consumer, settings.pairs(), EVENTS)?;
        // SAFETY: the client is live. Errors that concern no group then come through the queue that is polled.
        unsafe { rdsys::rd_kafka_poll_set_consumer(client.raw()) };
        let events =
            Queue::consumer(&client).ok_or_else(|| Error::Client { message: "the group has no name".to_owned() })?;
        Ok(Self {
            names: HashSet::new(),
            strays: Vec::new(),
            ended: HashMap::new(),
            assigned: HashSet::new(),
            stopped: HashSet::new(),
            rebalancing: false,
            events,
            records: Queue::new(&client),
            leaving: Leaving::No,
            client,
            record_bytes: 0,
            _not_sync: std::marker::PhantomData,
        })
    }

    /// Joins the group for these topics, in place of any before; leaves it where there are none. Topics that don't exist are
    /// reported as errors, and joined when they appear. Names that begin with `^` would be patterns of libc's: topics' names
    /// never do.
    ///
    /// # Errors
    /// Where a name can't be one, or the client can't go on.
    pub fn subscribe<'a>(&self, topics: impl IntoIterator<Item = &'a str>) -> Result<(), Error> {
        let mut topics = topics.into_iter().peekable();
        if topics.peek().is_none() {
            // SAFETY: the client is live.
            let code = unsafe { rdsys::rd_kafka_unsubscribe(self.client.raw()) };
            return self.check("unsubscribe", code.into());
        }
        let mut list = List::new(0);
        for topic in topics {
            list.add(&c_string(topic)?, -1, i64::from(rdsys::RD_KAFKA_OFFSET_INVALID));
        }
        // SAFETY: the client and the list are live; the list is copied.
        let code = unsafe { rdsys::rd_kafka_subscribe(self.client.raw(), list.raw()) };
        self.check("subscribe", code.into())
    }

    /// What happened, waited for at most this long; `None` where nothing did. To be called at least each few seconds, and
    /// until it says `None`, also while nothing is drained.
    ///
    /// A record that comes this way (none should) is kept, and the next [`Self::drain`] begins with it.
    pub fn poll(&mut self, timeout: Duration) -> Option<Happening> {
        let deadline = Instant::now() + timeout;
        let mut wait = timeout;
        loop {
            let event = self.events.poll(wait)?;
            if let Some(happening) = self.happening(event) {
                return Some(happening);
            }
            wait = deadline.saturating_duration_since(Instant::now());
        }
    }

    /// For how long the broker has held this client back, for its quota, since this was asked last.
    pub fn take_throttled(&self) -> Throttled {
        self.client.take_throttled()
    }

    fn happening(&mut self, event: Event) -> Option<Happening> {
        match event.kind() {
            rdsys::RD_KAFKA_EVENT_REBALANCE => Some(self.rebalance(&event)),
            rdsys::RD_KAFKA_EVENT_OFFSET_COMMIT => {
                let offsets = event.partitions().iter();
                let offsets = offsets
                    .map(|item| {
                        ((self.name(&partition_topic(item)), item.partition), item.offset, partition_code(item).error())
                    })
                    .collect();
                Some(Happening::Committed { token: event.token(), error: event.code().error(), offsets })
            }
            rdsys::RD_KAFKA_EVENT_ERROR => {
                Some(Happening::Error { code: event.code(), fatal: event.is_fatal(), message: event.message() })
            }
            rdsys::RD_KAFKA_EVENT_FETCH => {
                tracing::debug!("A record came through the client's own queue.");
                self.strays.push(event);
                None
            }
            kind => {
                tracing::debug!(kind, "An event of the client's that nobody asked for.");
                None
            }
        }
    }

    fn rebalance(&mut self, event: &Event) -> Happening {
        self.rebalancing = true;
        let partitions = event.partitions().iter();
        let partitions = partitions.map(|item| (self.name(&partition_topic(item)), item.partition)).collect();
        if event.code() == Code::from(rdsys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS) {
            return Happening::Assign(partitions);
        }
        // SAFETY: the client is live.
        let lost = unsafe { rdsys::rd_kafka_assignment_lost(self.client.raw()) } != 0;
        Happening::Revoke { partitions, lost }
    }

    fn name(&mut self, topic: &str) -> Arc<str> {
        if let Some(name) = self.names.get(topic) {
            return Arc::clone(name);
        }
        let name: Arc<str> = Arc::from(topic);
        self.names.insert(Arc::clone(&name));
        name
    }

    /// Answers [`Happening::Assign`]: all of its partitions, each with the offset to begin at.
    ///
    /// # Errors
    /// Where the client refuses: the partitions are then not fetched, and the member rejoins only after an
    /// [`Self::unassign`] or a new member takes its place.
    pub fn assign<'a>(
        &mut self,
        partitions: impl ExactSizeIterator<Item = (&'a str, i32, i64)> + Clone,
    ) -> Result<(), Error> {
        self.straighten();
        // Before the assignment: the client forwards to its own queue unless it finds a partition forwarded already. And
        // each time: when a fetch stops, the client clears the target but not the mark that says "by the application", so
        // that a partition that comes again would fill a queue that nobody reads.
        for (topic, partition, _) in partitions.clone() {
            let queue = Queue::partition(&self.client, &c_string(topic)?, partition);
            let queue = queue.ok_or_else(|| Error::Partition {
                action: "assign",
                topic: topic.to_owned(),
                partition,
                code: Code::UNKNOWN_PARTITION,
            })?;
            // SAFETY: both queues are live, and of one client.
            unsafe { rdsys::rd_kafka_queue_forward(queue.raw(), self.records.raw()) };
            self.forget(topic, partition);
        }
        let list = List::of(partitions.clone())?;
        // SAFETY: the client and the list are live; the list is copied, and the error is ours.
        let result = unsafe { take_error(rdsys::rd_kafka_incremental_assign(self.client.raw(), list.raw())) };
        self.surface("assign", result)?;
        self.rebalancing = false;
        for (topic, partition, _) in partitions {
            let name = self.name(topic);
            self.assigned.insert((name, partition));
        }
        // A pause outlives the assignment that it was made in: a partition that was paused when it went, and that comes back,
        // would never be fetched. One that isn't paused is left alone.
        // SAFETY: the client and the list are live.
        let code = unsafe { rdsys::rd_kafka_resume_partitions(self.client.raw(), list.raw()) };
        self.check("resume", code.into())
    }

    /// Answers [`Happening::Revoke`], lost or not: all of its partitions, also those that were never assigned. Records of them that are still in a batch, or that
    /// a drain still delivers, are not this member's any more.
    ///
    /// # Errors
    /// Where the client refuses.
    pub fn unassign<'a>(
        &mut self,
        partitions: impl ExactSizeIterator<Item = (&'a str, i32)> + Clone,
    ) -> Result<(), Error> {
        // The client refuses the whole where it was never told of one of them: those that go before it was known where they
        // begin.
        let mut known = Vec::with_capacity(partitions.len());
        for (topic, partition) in partitions {
            self.forget(topic, partition);
            let name = self.name(topic);
            if self.assigned.remove(&(name, partition)) {
                known.push((topic, partition));
            }
        }
        self.straighten();
        let list = self.list_of(known.into_iter())?;
        // SAFETY: the client and the list are live; the list is copied, and the error is ours.
        let result = unsafe { take_error(rdsys::rd_kafka_incremental_unassign(self.client.raw(), list.raw())) };
        self.surface("unassign", result)?;
        self.rebalancing = false;
        Ok(())
    }

    /// A batch for this consumer's records.
    pub fn batch(&self) -> Batch {
        Batch::new(&self.client)
    }

    /// Fills a batch, in place of what it held: at most so many entries, and no more reads once it holds so many bytes. Waits
    /// at most this long for the first entry, and for no other. Returns how many there are.
    ///
    /// Bounded by bytes as far as can be known before a record is read: by the average of those before.
    ///
    /// # Panics
    /// Where the batch is another consumer's.
    pub fn drain(&mut self, batch: &mut Batch, events_max: usize, bytes_max: usize, timeout: Duration) -> usize {
        assert!(batch.is_of(&self.client), "a batch is filled by the consumer that made it");
        batch.clear();
        batch.adopt(&mut self.strays);
        if batch.is_empty() && !self.read(batch, events_max, bytes_max) && !timeout.is_zero() {
            // The call waits until it has as many as it was asked for: ask for one, then for what else is there.
            batch.read(self.records.raw(), 1, timeout_ms(timeout));
        }
        while !batch.is_empty() && self.read(batch, events_max, bytes_max) {}
        if !batch.is_empty() {
            self.record_bytes = batch.bytes().div_ceil(batch.len());
        }
        if batch.is_mixed() || !self.ended.is_empty() {
            self.note(batch);
        }
        batch.len()
    }

    /// One more read, if there is room. Whether there may be more.
    fn read(&self, batch: &mut Batch, events_max: usize, bytes_max: usize) -> bool {
        let bytes = bytes_max.saturating_sub(batch.bytes());
        let room = events_max.saturating_sub(batch.len());
        if room == 0 || bytes == 0 {
            return false;
        }
        let average = if batch.is_empty() { self.record_bytes } else { batch.bytes().div_ceil(batch.len()) };
        let fitting = if average == 0 { FIRST_READ } else { bytes.div_ceil(average) };
        let room = room.min(fitting).max(1);
        batch.read(self.records.raw(), room, 0) == room
    }

    /// Stops fetching these partitions, and drops what is prefetched of them: nothing of them is delivered from here on.
    ///
    /// # Errors
    /// Where the client doesn't know one of them.
    pub fn pause<'a>(&self, partitions: impl ExactSizeIterator<Item = (&'a str, i32)>) -> Result<(), Error> {
        let list = self.list_of(partitions)?;
        // SAFETY: the client and the list are live.
        let code = unsafe { rdsys::rd_kafka_pause_partitions(self.client.raw(), list.raw()) };
        self.check("pause", code.into())?;
        check_list("pause", &list)
    }

    /// Fetches a paused partition again, from this offset: no record that was fetched before is delivered from here on.
    ///
    /// # Errors
    /// Where the partition isn't assigned, or the client doesn't answer in time.
    pub fn resume_at(&mut self, topic: &str, partition: i32, offset: i64, timeout: Duration) -> Result<(), Error> {
        let name = self.name(topic);
        if self.stopped.contains(&(name, partition)) {
            return self.restart(topic, partition, offset);
        }
        self.seek(topic, partition, offset, timeout)?;
        self.resume(topic, partition)
    }

    /// Goes on at this offset, paused or not: no record that was fetched before is delivered from here on.
    ///
    /// # Errors
    /// Where the partition isn't assigned, or the client doesn't answer in time.
    pub fn seek(&mut self, topic: &str, partition: i32, offset: i64, timeout: Duration) -> Result<(), Error> {
        let list = List::of([(topic, partition, offset)].into_iter())?;
        self.seek_list(&list, timeout)?;
        self.stands(topic, partition, None);
        check_list("seek", &list)
    }

    fn seek_list(&self, list: &List, timeout: Duration) -> Result<(), Error> {
        // A timeout of 0 would be "don't wait", and then errors are nobody's.
        let timeout = timeout_ms(timeout).max(1);
        // SAFETY: the client and the list are live, and the error is ours.
        let result = unsafe { take_error(rdsys::rd_kafka_seek_partitions(self.client.raw(), list.raw(), timeout)) };
        self.surface("seek", result)
    }

    /// Goes on at this offset with a partition that stands still after [`Code::AUTO_OFFSET_RESET`]: such a one can't be
    /// sought, it is given back and taken again, without the group noticing.
    ///
    /// # Errors
    /// Where the client refuses.
    pub fn restart(&mut self, topic: &str, partition: i32, offset: i64) -> Result<(), Error> {
        self.unassign([(topic, partition)].into_iter())?;
        // Giving back ends with the client's own thread clearing where the partition's queue is forwarded to. A pause waits
        // for its turn on that thread: what is forwarded after it stays.
        self.pause([(topic, partition)].into_iter())?;
        self.assign([(topic, partition, offset)].into_iter())?;
        self.resume(topic, partition)
    }

    fn resume(&self, topic: &str, partition: i32) -> Result<(), Error> {
        let list = self.list_of([(topic, partition)].into_iter())?;
        // SAFETY: the client and the list are live.
        let code = unsafe { rdsys::rd_kafka_resume_partitions(self.client.raw(), list.raw()) };
        self.check("resume", code.into())?;
        check_list("resume", &list)
    }

    fn list_of<'a>(&self, partitions: impl ExactSizeIterator<Item = (&'a str, i32)>) -> Result<List, Error> {
        let invalid = i64::from(rdsys::RD_KAFKA_OFFSET_INVALID);
        List::of(partitions.map(|(topic, partition)| (topic, partition, invalid)))
    }

    pub(super) fn raw(&self) -> *mut rdsys::rd_kafka_t {
        self.client.raw()
    }

    fn surface(&self, action: &'static str, result: Result<(), (Code, String)>) -> Result<(), Error> {
        let Err((code, message)) = result else {
            return Ok(());
        };
        tracing::debug!(action, reason = message, "The consumer says no.");
        Err(self.client.fatal().unwrap_or(Error::Refused { action, code }))
    }

    fn check(&self, action: &'static str, code: Code) -> Result<(), Error> {
        match code {
            Code::NONE => Ok(()),
            Code::FATAL => Err(self.client.fatal().unwrap_or(Error::Refused { action, code })),
            code => Err(Error::Refused { action, code }),
        }
    }
}

/// Whether a call to the broker was answered, and well.
pub(super) fn answered(action: &'static str, code: Code, timeout: Duration) -> Result<(), Error> {
    let timeout_ms = timeout.as_millis().try_into().unwrap_or(u64::MAX);
    match code {
        Code::NONE => Ok(()),
        Code::TIMED_OUT | Code::TRANSPORT | Code::WAIT_COORDINATOR => {
            Err(Error::Unreachable { action, timeout_ms, code })
        }
        code => Err(Error::Refused { action, code }),
    }
}

fn check_list(action: &'static str, list: &List) -> Result<(), Error> {
    list.elements().iter().try_for_each(|item| check_item(action, item))
}

pub(super) fn check_item(action: &'static str, item: &rdsys::rd_kafka_topic_partition_t) -> Result<(), Error> {
    match partition_code(item).error() {
        None => Ok(()),
        Some(code) => {
            Err(Error::Partition { action, topic: partition_topic(item).into_owned(), partition: item.partition, code })
        }
    }
}
