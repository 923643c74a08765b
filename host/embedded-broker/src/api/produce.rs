//! Writing: Produce and InitProducerId.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::produce_request::PartitionProduceData;
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{
    InitProducerIdRequest, InitProducerIdResponse, ProduceRequest, ProduceResponse, ProducerId,
};

use super::{Shared, blocking, code, storage, text};
use crate::storage::batch::{Header, Wrong};
use crate::storage::log::{AppendError, Appended};
use crate::storage::producers::Sequence;
use crate::topics::Topic;
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
        let now = SystemTime::now();
        let topics = request.topic_data.into_iter().map(|data| {
            let topic = shared.topics.get(&data.name.0);
            let append = |partition: PartitionProduceData| match refused {
                Some(refused) => respond(partition.index, Err(refused)),
                None => respond(partition.index, append(topic.as_deref(), &partition, now)),
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
    if !matches!(request.acks, -1..=1) {
        return Some((ResponseError::InvalidRequiredAcks, None));
    }
    let transactional = request.transactional_id.is_some();
    transactional.then_some((ResponseError::TransactionalIdAuthorizationFailed, Some(NO_TRANSACTIONS)))
}

const NO_TRANSACTIONS: &str = "transactions are not supported yet by the embedded broker";

fn append(topic: Option<&Topic>, data: &PartitionProduceData, now: SystemTime) -> Result<Appended, Refused> {
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
        Wrong::Inconsistent => {
            (ResponseError::InvalidRecord, Some("expected one batch, numbered from 0, not transactional"))
        }
    })?;
    log.append(&header, bytes, now).map_err(|error| match error {
        AppendError::Sequence(Sequence::OldDuplicate) => (ResponseError::DuplicateSequenceNumber, None),
        AppendError::Sequence(Sequence::Fenced) => (ResponseError::InvalidProducerEpoch, None),
        AppendError::Sequence(_) => (ResponseError::OutOfOrderSequenceNumber, None),
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

/// Gives a producer its id; one with a transactional id is refused.
pub(super) async fn init_producer(shared: &Arc<Shared>, request: InitProducerIdRequest) -> Answer {
    let outcome = if request.transactional_id.is_some() {
        Err(ResponseError::TransactionalIdAuthorizationFailed)
    } else {
        let shared = Arc::clone(shared);
        blocking(move || shared.topics.new_producer_id().map_err(|error| storage(&error))).await
    };
    let response = InitProducerIdResponse::default().with_error_code(code(&outcome));
    Answer::new(match outcome {
        Ok(id) => response.with_producer_id(ProducerId(id)).with_producer_epoch(0),
        Err(_) => response.with_producer_id(ProducerId(-1)).with_producer_epoch(-1),
    })
}
