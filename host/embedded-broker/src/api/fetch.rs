//! Reading: Fetch, with long polling. Sessions are not kept: each request names all its partitions.

use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::fetch_request::FetchPartition;
use kafka_protocol::messages::fetch_response::{AbortedTransaction, FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::{BrokerId, FetchRequest, FetchResponse, ProducerId, TopicName};
use tokio::time::Instant;
use uuid::Uuid;

use super::{Shared, blocking, isolation, storage};
use crate::storage::log::{self, Isolation, Log, ReadError, Waiter};
use crate::topics::Topic;
use crate::wire::connection::Answer;

/// How many bytes of records an answer holds at most, whatever the client asks for; one batch may be larger.
const ANSWER_MAX: usize = 8 << 20;

/// How long a request may wait for records.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// What a client wants of one topic.
struct Wanted {
    name: TopicName,
    id: Uuid,
    topic: Result<Arc<Topic>, ResponseError>,
    partitions: Vec<FetchPartition>,
}

impl Wanted {
    fn logs(&self) -> impl Iterator<Item = (&FetchPartition, Result<&Arc<Log>, ResponseError>)> {
        self.partitions.iter().map(|wanted| {
            let log = match &self.topic {
                Ok(topic) => topic.partition(wanted.partition).ok_or(ResponseError::UnknownTopicOrPartition),
                Err(error) => Err(*error),
            };
            (wanted, log)
        })
    }
}

/// Answers a Fetch request once there is enough, or its time is over.
pub(super) async fn answer(shared: &Arc<Shared>, request: FetchRequest, version: i16) -> Answer {
    let deadline =
        Instant::now() + WAIT_MAX.min(Duration::from_millis(request.max_wait_ms.max(0).unsigned_abs().into()));
    let max_bytes = usize::try_from(request.max_bytes).unwrap_or(0).min(ANSWER_MAX);
    let min_bytes = usize::try_from(request.min_bytes).unwrap_or(0).min(max_bytes);
    let isolation = isolation(request.isolation_level);
    let wanted: Arc<[Wanted]> = request.topics.into_iter().map(|topic| find(shared, topic, version)).collect();
    loop {
        // Watched before it is read, so that nothing comes unseen in between.
        let waiter = Waiter::new();
        let waits = min_bytes > 0 && Instant::now() < deadline;
        if waits {
            for log in wanted.iter().flat_map(Wanted::logs).filter_map(|(_, log)| log.ok()) {
                log.watch(&waiter);
            }
        }
        let (found, bytes, settled) = if nothing_new(&wanted, isolation) {
            (Vec::new(), 0, false)
        } else {
            let wanted = Arc::clone(&wanted);
            blocking(move || read_all(&wanted, max_bytes, isolation)).await
        };
        let enough = settled || bytes >= min_bytes || !waits;
        if enough {
            return respond(&wanted, found, isolation, version);
        }
        let missing = i64::try_from(min_bytes - bytes).unwrap_or(i64::MAX);
        waiter.wants(missing);
        if tokio::time::timeout_at(deadline, waiter.enough()).await.is_err() && bytes > 0 {
            return respond(&wanted, found, isolation, version);
        }
    }
}

fn find(shared: &Shared, topic: kafka_protocol::messages::fetch_request::FetchTopic, version: i16) -> Wanted {
    let (found, unknown) = if version >= 13 {
        (shared.topics.get_by_id(topic.topic_id), ResponseError::UnknownTopicId)
    } else {
        (shared.topics.get(&topic.topic), ResponseError::UnknownTopicOrPartition)
    };
    Wanted { name: topic.topic, id: topic.topic_id, topic: found.ok_or(unknown), partitions: topic.partitions }
}

/// Whether a look at the ends of the logs tells that there is nothing to read and nothing to complain of.
fn nothing_new(wanted: &[Wanted], isolation: Isolation) -> bool {
    let at_end = |log: &Log, offset| (log.limit(isolation)..=log.end_offset()).contains(&offset);
    let mut all = wanted.iter().flat_map(Wanted::logs);
    all.all(|(wanted, log)| log.is_ok_and(|log| at_end(log, wanted.fetch_offset)) && check_epoch(wanted).is_ok())
}

/// What was read of a partition.
type Read = Result<log::Read, ResponseError>;

/// Reads all partitions in their order, within the bounds; says how many bytes came, and whether there is something that
/// the client should hear of at once.
fn read_all(wanted: &[Wanted], max_bytes: usize, isolation: Isolation) -> (Vec<Read>, usize, bool) {
    let (mut bytes, mut settled) = (0, false);
    let mut found = Vec::with_capacity(wanted.iter().map(|wanted| wanted.partitions.len()).sum());
    for (wanted, log) in wanted.iter().flat_map(Wanted::logs) {
        let room = usize::try_from(wanted.partition_max_bytes).unwrap_or(0).min(max_bytes - max_bytes.min(bytes));
        let read =
            check_epoch(wanted).and(log).and_then(|log| read(log, wanted.fetch_offset, room, bytes == 0, isolation));
        match &read {
            Ok(read) => bytes += read.records.len(),
            Err(_) => settled = true,
        }
        found.push(read);
    }
    (found, bytes, settled)
}

fn read(log: &Log, offset: i64, room: usize, at_least_one: bool, isolation: Isolation) -> Read {
    if room == 0 && !at_least_one {
        return Ok(log::Read::default());
    }
    log.read(offset, room, at_least_one, isolation).map_err(|error| match error {
        ReadError::OutOfRange => ResponseError::OffsetOutOfRange,
        ReadError::Damaged | ReadError::File(_) => storage(&error),
    })
}

/// The one leader has epoch 0.
fn check_epoch(wanted: &FetchPartition) -> Result<(), ResponseError> {
    if wanted.current_leader_epoch > 0 { Err(ResponseError::UnknownLeaderEpoch) } else { Ok(()) }
}

fn respond(wanted: &[Wanted], found: Vec<Read>, isolation: Isolation, version: i16) -> Answer {
    let mut found = found.into_iter();
    let topics = wanted.iter().map(|topic| {
        let partitions = topic.logs().map(|(wanted, log)| {
            let read = found.next().unwrap_or(Ok(log::Read::default()));
            let error = super::code(&read);
            let read = read.unwrap_or_default();
            let aborted = (isolation == Isolation::Committed).then(|| aborted(&read));
            let data = PartitionData::default()
                .with_partition_index(wanted.partition)
                .with_error_code(error)
                .with_preferred_read_replica(BrokerId(-1))
                .with_aborted_transactions(aborted)
                .with_records(Some(read.records));
            match log {
                Ok(log) => {
                    // The stable one first: both move on, and it must not lie after the end.
                    let stable = log.limit(Isolation::Committed);
                    let data = data.with_high_watermark(log.end_offset()).with_last_stable_offset(stable);
                    if version >= 5 { data.with_log_start_offset(log.start_offset()) } else { data }
                }
                Err(error) => data.with_error_code(error.code()).with_high_watermark(-1).with_last_stable_offset(-1),
            }
        });
        let partitions = partitions.collect();
        FetchableTopicResponse::default()
            .with_topic(topic.name.clone())
            .with_topic_id(topic.id)
            .with_partitions(partitions)
    });
    Answer::new(FetchResponse::default().with_responses(topics.collect()))
}

/// The aborted transactions among what was read: a client leaves their records out.
fn aborted(read: &log::Read) -> Vec<AbortedTransaction> {
    let told = read.aborted.iter().map(|aborted| {
        let producer_id = ProducerId(aborted.producer_id);
        AbortedTransaction::default().with_producer_id(producer_id).with_first_offset(aborted.first_offset)
    });
    told.collect()
}
