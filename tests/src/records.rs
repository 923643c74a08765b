//! Records as tests write and read them, through the safe client: slow, and independent of the client code under test.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};

use crate::wait::{DEADLINE, wait_for};

/// One record of a topic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    /// Where it is; when written, where it goes, or none for "by the key".
    pub partition: Option<i32>,
    /// Its offset, once read.
    pub offset: i64,
    /// Milliseconds since the Unix epoch; none when written means now.
    pub timestamp: Option<i64>,
    /// Its key, if any.
    pub key: Option<Vec<u8>>,
    /// Its value, if any.
    pub value: Option<Vec<u8>>,
    /// Its headers, in their order.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Record {
    /// A record with a key and a value.
    pub fn new(key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        Self { key: Some(key.as_ref().to_vec()), value: Some(value.as_ref().to_vec()), ..Self::default() }
    }

    /// A record with a value alone.
    pub fn of(value: impl AsRef<[u8]>) -> Self {
        Self { value: Some(value.as_ref().to_vec()), ..Self::default() }
    }

    /// The same with one more header.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.to_owned(), Some(value.as_ref().to_vec())));
        self
    }

    /// The same for one partition.
    #[must_use]
    pub fn to(mut self, partition: i32) -> Self {
        self.partition = Some(partition);
        self
    }

    /// The key as text; empty where there is none.
    ///
    /// # Panics
    /// When it isn't text.
    pub fn key_text(&self) -> &str {
        std::str::from_utf8(self.key.as_deref().unwrap_or_default()).expect("a key of text")
    }

    /// The value as text; empty where there is none.
    ///
    /// # Panics
    /// When it isn't text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(self.value.as_deref().unwrap_or_default()).expect("a value of text")
    }

    /// The last header of a name, as text.
    ///
    /// # Panics
    /// When it isn't text.
    pub fn header_text(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().rev().find(|(found, _)| found == name)?;
        Some(std::str::from_utf8(value.as_deref().unwrap_or_default()).expect("a header of text"))
    }
}

impl From<&BorrowedMessage<'_>> for Record {
    fn from(message: &BorrowedMessage<'_>) -> Self {
        let headers = message.headers().map(|headers| {
            headers.iter().map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec))).collect()
        });
        Self {
            partition: Some(message.partition()),
            offset: message.offset(),
            timestamp: message.timestamp().to_millis(),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            headers: headers.unwrap_or_default(),
        }
    }
}

pub(crate) fn client(servers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", servers).set("client.id", "midplane-tests");
    config
}

/// Writes records, and returns when the broker has them all.
///
/// # Panics
/// When it doesn't take one of them in time.
pub fn produce(servers: &str, topic: &str, records: impl IntoIterator<Item = Record>) {
    produce_in(servers, topic, records, 10_000);
}

/// As [`produce`], in batches of so many records at most: a broker gives away whole batches.
///
/// # Panics
/// When the broker doesn't take one of them in time.
pub fn produce_in(servers: &str, topic: &str, records: impl IntoIterator<Item = Record>, batch: usize) {
    let producer: BaseProducer = client(servers)
        .set("batch.num.messages", batch.to_string())
        .set("enable.idempotence", "true")
        .set("partitioner", "murmur2_random")
        .set("linger.ms", "5")
        .set("message.max.bytes", "100000000")
        .create()
        .expect("a producer");
    for record in records {
        let mut next = BaseRecord::<[u8], [u8]>::to(topic);
        next.key = record.key.as_deref();
        next.payload = record.value.as_deref();
        next.partition = record.partition;
        next.timestamp = record.timestamp;
        next.headers = (!record.headers.is_empty()).then(|| owned_headers(&record.headers));
        while let Err((error, again)) = producer.send(next) {
            assert!(
                matches!(error, KafkaError::MessageProduction(rdkafka::types::RDKafkaErrorCode::QueueFull)),
                "{error}"
            );
            next = again;
            producer.poll(Duration::from_millis(100));
        }
        producer.poll(Duration::ZERO);
    }
    producer.flush(DEADLINE).expect("the broker takes every record");
}

fn owned_headers(headers: &[(String, Option<Vec<u8>>)]) -> OwnedHeaders {
    headers.iter().fold(OwnedHeaders::new(), |list, (key, value)| {
        list.insert(rdkafka::message::Header { key, value: value.as_deref() })
    })
}

/// Reads a topic from its beginning until the reader says that it is enough, or the deadline has passed.
fn read(
    servers: &str,
    topic: &str,
    deadline: Duration,
    mut enough: impl FnMut(&[Record], &BTreeMap<i32, bool>) -> bool,
) -> Vec<Record> {
    let consumer: BaseConsumer = client(servers)
        .set("group.id", "midplane-tests-reader")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("isolation.level", "read_committed")
        .create()
        .expect("a consumer");
    let mut at_end: BTreeMap<i32, bool> = partitions(&consumer, topic).into_iter().map(|id| (id, false)).collect();
    let mut list = TopicPartitionList::new();
    for &partition in at_end.keys() {
        list.add_partition_offset(topic, partition, Offset::Beginning).expect("an offset");
    }
    consumer.assign(&list).expect("an assignment");
    let end = Instant::now() + deadline;
    let mut records = Vec::new();
    while !enough(&records, &at_end) && Instant::now() < end {
        match consumer.poll(Duration::from_millis(100)) {
            None => {}
            Some(Ok(message)) => {
                at_end.insert(message.partition(), false);
                records.push(Record::from(&message));
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                at_end.insert(partition, true);
            }
            Some(Err(error)) => panic!("`{topic}` can't be read: {error}"),
        }
    }
    records
}

/// Reads a topic from its beginning until so many records came. Records of a partition are in its order.
///
/// # Panics
/// When fewer came within the deadline.
pub fn consume(servers: &str, topic: &str, count: usize, deadline: Duration) -> Vec<Record> {
    let records = read(servers, topic, deadline, |records, _| records.len() >= count);
    assert!(records.len() >= count, "{} of {count} records of `{topic}` within {deadline:?}", records.len());
    records
}

/// Reads everything that a topic holds now. Records of a partition are in its order.
///
/// # Panics
/// When the end wasn't reached in time.
pub fn consume_all(servers: &str, topic: &str) -> Vec<Record> {
    let mut ended = false;
    let records = read(servers, topic, DEADLINE, |_, at_end| {
        ended = at_end.values().all(|&ended| ended);
        ended
    });
    assert!(ended, "`{topic}` was not read to its end within {DEADLINE:?}");
    records
}

fn partitions(consumer: &BaseConsumer, topic: &str) -> Vec<i32> {
    let metadata = consumer.fetch_metadata(Some(topic), DEADLINE).expect("the broker answers");
    let found = metadata.topics().first().expect("one topic was asked for");
    assert!(!found.partitions().is_empty(), "no topic `{topic}`");
    found.partitions().iter().map(rdkafka::metadata::MetadataPartition::id).collect()
}

/// Asks where a group stands, again and again, by the same client.
pub struct Committed {
    consumer: BaseConsumer,
}

impl std::fmt::Debug for Committed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Committed").finish_non_exhaustive()
    }
}

impl Committed {
    /// Of this group.
    ///
    /// # Panics
    /// When there can't be a client.
    pub fn of(servers: &str, group: &str) -> Self {
        Self { consumer: client(servers).set("group.id", group).create().expect("a consumer") }
    }

    /// What the group has committed of these partitions, where it has. Positions that an open transaction moves are waited
    /// for, and so is a broker that is away.
    ///
    /// # Panics
    /// When the broker doesn't say in time.
    pub fn ask(&self, topic: &str, partitions: impl IntoIterator<Item = i32>) -> BTreeMap<i32, Option<i64>> {
        let mut list = TopicPartitionList::new();
        for partition in partitions {
            list.add_partition(topic, partition);
        }
        // A group's coordinator moves, or loads, for a moment, on a broker that is starved.
        let offsets = wait_for("the group's coordinator answers", DEADLINE, || {
            let offsets = self.consumer.committed_offsets(list.clone(), DEADLINE);
            let may_pass = |error: &KafkaError| {
                use RDKafkaErrorCode::{BrokerTransportFailure, CoordinatorLoadInProgress, NotCoordinator};
                let code = error.rdkafka_error_code();
                matches!(code, Some(BrokerTransportFailure | CoordinatorLoadInProgress | NotCoordinator))
            };
            if offsets.as_ref().is_err_and(may_pass) { None } else { Some(offsets.expect("the group's offsets")) }
        });
        let offset = |element: &TopicPartitionListElem<'_>| match element.offset() {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        };
        offsets.elements().iter().map(|element| (element.partition(), offset(element))).collect()
    }
}

/// How many partitions of a topic have a leader, as far as the broker knows; none where it doesn't answer.
pub fn leaders(servers: &str, topic: &str) -> Option<usize> {
    let consumer: BaseConsumer = client(servers).create().expect("a consumer");
    let metadata = consumer.fetch_metadata(Some(topic), DEADLINE).ok()?;
    let partitions =
        metadata.topics().iter().filter(|found| found.name() == topic).flat_map(|found| found.partitions());
    Some(partitions.filter(|partition| partition.leader() >= 0).count())
}

/// For each partition, the offset that a group committed, if it did, and the end of the partition.
///
/// # Panics
/// When the broker doesn't say.
pub fn committed(servers: &str, group: &str, topic: &str) -> BTreeMap<i32, (Option<i64>, i64)> {
    let asked = Committed::of(servers, group);
    let offsets = asked.ask(topic, partitions(&asked.consumer, topic));
    let end = |partition| asked.consumer.fetch_watermarks(topic, partition, DEADLINE).expect("the partition's end").1;
    offsets.into_iter().map(|(partition, offset)| (partition, (offset, end(partition)))).collect()
}

/// Waits until no transaction is open in a topic: whatever will ever be read of what was written can be read.
///
/// # Panics
/// When one stays open, or the broker doesn't say.
pub fn wait_for_rest(servers: &str, topic: &str) {
    let consumer = |isolation: &str| -> BaseConsumer {
        let mut config = client(servers);
        config.set("group.id", "midplane-tests-reader").set("isolation.level", isolation).create().expect("a consumer")
    };
    let (committed, all) = (consumer("read_committed"), consumer("read_uncommitted"));
    for partition in partitions(&all, topic) {
        let end = |consumer: &BaseConsumer| consumer.fetch_watermarks(topic, partition, DEADLINE).expect("the end").1;
        wait_for(&format!("{topic}/{partition} is at rest"), DEADLINE, || (end(&committed) == end(&all)).then_some(()));
    }
}

/// How many records a group has not committed yet.
///
/// # Panics
/// When the broker doesn't say.
pub fn lag(servers: &str, group: &str, topic: &str) -> i64 {
    committed(servers, group, topic).values().map(|(offset, end)| end - offset.unwrap_or(0)).sum()
}

/// How many records the partitions of a topic hold together, control records included. Of thousands of partitions too.
///
/// # Panics
/// When the broker doesn't say.
pub fn len(servers: &str, topic: &str) -> i64 {
    let consumer: BaseConsumer = client(servers).set("group.id", "midplane-tests-reader").create().expect("a consumer");
    let bounds = |partition| consumer.fetch_watermarks(topic, partition, DEADLINE).expect("the partition's end");
    partitions(&consumer, topic).into_iter().map(bounds).map(|(first, end)| end - first).sum()
}
