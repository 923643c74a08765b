//! Writing: Produce, in transactions or outside of any.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::produce_request::PartitionProduceData;
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{ProduceRequest, ProduceResponse};

use super::{Shared, blocking, storage, text};
use crate::storage::batch::{Header, Wrong};
use crate::storage::log::{AppendError, Appended};
use crate::storage::producers::Sequence;
use crate::topics::Topic;
use crate::transactions::machine::Producer;
use crate::wire::connection::{Answer, Closed};

/// How large a batch may be, in bytes: Kafka's `max.message.bytes`.
pub(super) const MESSAGE_MAX: usize = 1_048_588;

/// Why a batch is refused, with a word on it where the code alone doesn't tell.
type Refused = (ResponseError, Option<&'static str>);

/// Answers a Produce request, unless it wants no answer.
pub(super) async fn answer(shared: &Arc<Shared>, request: ProduceRequest) -> Result<Option<Answer>, Closed> {
    let acks = request.acks;
    let refused = refuse(&request);
    let shared = Arc::clone(shared);
    let responses = blocking(move || {
        let now = shared.clock.now();
        let transactional_id = request.transactional_id.as_ref().map(|id| id.0.as_str());
        let topics = request.topic_data.into_iter().map(|data| {
            let topic = shared.topics.get(&data.name.0);
            let append = |partition: PartitionProduceData| match refused {
                Some(refused) => respond(partition.index, Err(refused)),
                None => {
                    let appended = append(&shared, topic.as_deref(), &partition, transactional_id, now);
                    respond(partition.index, appended)
                }
            };
            let partitions = data.partition_data.into_iter().map(append).collect();
            TopicProduceResponse::default().with_name(data.name).with_partition_responses(partitions)
        });
        topics.collect::<Vec<_>>()
    })
    .await;
    if acks == 0 {
        return Ok(None);
    }
    Ok(Some(Answer::new(ProduceResponse::default().with_responses(responses))))
}

/// What is wrong with a request as a whole.
fn refuse(request: &ProduceRequest) -> Option<Refused> {
    let known = matches!(request.acks, -1..=1);
    (!known).then_some((ResponseError::InvalidRequiredAcks, None))
}

fn append(
    shared: &Shared,
    topic: Option<&Topic>,
    data: &PartitionProduceData,
    transactional_id: Option<&str>,
    now: SystemTime,
) -> Result<Appended, Refused> {
    let log = topic.and_then(|topic| topic.partition(data.index));
    let log = log.ok_or((ResponseError::UnknownTopicOrPartition, None))?;
    let bytes: &Bytes = data.records.as_ref().ok_or((ResponseError::InvalidRecord, Some("no records")))?;
    if bytes.len() > MESSAGE_MAX {
        return Err((ResponseError::MessageTooLarge, None));
    }
    let header = Header::read_produced(bytes).map_err(|wrong| match wrong {
        Wrong::Old => {
            (ResponseError::UnsupportedForMessageFormat, Some("record batches before version 2 are not supported"))
        }
        Wrong::Short | Wrong::Corrupt => (ResponseError::CorruptMessage, None),
        Wrong::Inconsistent => (ResponseError::InvalidRecord, Some("expected one batch of records, numbered from 0")),
    })?;
    if header.is_transactional() && transactional_id.is_none() {
        return Err((ResponseError::TransactionalIdAuthorizationFailed, Some("expected a transactional id")));
    }
    log.append(&header, bytes, now).map_err(|error| match error {
        AppendError::Sequence(Sequence::OldDuplicate) => (ResponseError::DuplicateSequenceNumber, None),
        AppendError::Sequence(Sequence::Fenced) => (ResponseError::InvalidProducerEpoch, None),
        AppendError::Sequence(_) => (ResponseError::OutOfOrderSequenceNumber, None),
        AppendError::Transaction => {
            let producer = Producer { id: header.producer_id, epoch: header.producer_epoch };
            let why = transactional_id.map(|id| shared.transactions.why_refused(id, producer));
            (why.unwrap_or(ResponseError::InvalidTxnState), None)
        }
        AppendError::Deleted => (ResponseError::UnknownTopicOrPartition, None),
        AppendError::File(error) => (storage(&error), None),
    })
}

fn respond(index: i32, outcome: Result<Appended, Refused>) -> PartitionProduceResponse {
    let response = PartitionProduceResponse::default().with_index(index);
    match outcome {
        Ok(appended) => response.with_base_offset(appended.base_offset).with_log_start_offset(appended.start_offset),
        Err((error, message)) => response
            .with_error_code(error.code())
            .with_base_offset(-1)
            .with_log_start_offset(-1)
            .with_error_message(message.map(text)),
    }
}
