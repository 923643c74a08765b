//! Transactions as clients see them: producers get their ids, say what is part of a transaction, and end it. What that
//! leads to, the state machine decides.

use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnTopicResult,
};
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddOffsetsToTxnResponse, AddPartitionsToTxnRequest, AddPartitionsToTxnResponse,
    EndTxnRequest, EndTxnResponse, InitProducerIdRequest, InitProducerIdResponse, ProducerId,
};

use super::{Shared, blocking, code, storage};
use crate::groups::offsets::Partition;
use crate::storage::batch::Outcome;
use crate::transactions::machine::{Millis, Producer};
use crate::wire::connection::Answer;

/// How long a transaction may take: Kafka's default for `transaction.max.timeout.ms`.
const TIMEOUT: std::ops::RangeInclusive<i32> = 1..=900_000;

/// Answers an InitProducerId request: a producer gets its id, alone or with a transactional one.
pub(super) async fn init(shared: &Arc<Shared>, request: InitProducerIdRequest, version: i16) -> Answer {
    let shared = Arc::clone(shared);
    let outcome = blocking(move || assign(&shared, &request)).await.map_err(|error| fenced(error, version >= 4));
    let response = InitProducerIdResponse::default().with_error_code(code(&outcome));
    let Producer { id, epoch } = outcome.unwrap_or(Producer { id: -1, epoch: -1 });
    Answer::new(response.with_producer_id(ProducerId(id)).with_producer_epoch(epoch))
}

fn assign(shared: &Shared, request: &InitProducerIdRequest) -> Result<Producer, ResponseError> {
    let claimed = match (request.producer_id.0, request.producer_epoch) {
        (-1, -1) => None,
        (id @ 0.., epoch @ 0..) => Some(Producer { id, epoch }),
        _ => return Err(ResponseError::InvalidRequest),
    };
    let Some(transactional_id) = &request.transactional_id else {
        let id = shared.topics.new_producer_id().map_err(|error| storage(&error))?;
        return Ok(Producer { id, epoch: 0 });
    };
    if transactional_id.0.is_empty() {
        return Err(ResponseError::InvalidRequest);
    }
    if !TIMEOUT.contains(&request.transaction_timeout_ms) {
        return Err(ResponseError::InvalidTransactionTimeout);
    }
    let timeout = Millis::from(request.transaction_timeout_ms.unsigned_abs());
    shared.transactions.init(&transactional_id.0, timeout, claimed)
}

/// A partition as a client names it, and which it is, if it is there.
type Looked = (i32, Option<Partition>);

/// Answers an AddPartitionsToTxn request: all partitions, or none.
pub(super) async fn add_partitions(shared: &Arc<Shared>, request: AddPartitionsToTxnRequest, version: i16) -> Answer {
    let topics = request.v3_and_below_topics.into_iter().map(|topic| {
        let found = shared.topics.get(&topic.name);
        let look = |index| {
            let known = found.as_ref().filter(|found| found.partition(index).is_some());
            (index, known.map(|found| (found.id, index)))
        };
        (topic.name, topic.partitions.into_iter().map(look).collect())
    });
    let topics: Vec<(_, Vec<Looked>)> = topics.collect();
    let all: Option<Vec<Partition>> = topics.iter().flat_map(|(_, found)| found).map(|(_, known)| *known).collect();
    let outcome = match all {
        None => Err(ResponseError::OperationNotAttempted),
        Some(partitions) => {
            let shared = Arc::clone(shared);
            let producer =
                Producer { id: request.v3_and_below_producer_id.0, epoch: request.v3_and_below_producer_epoch };
            let transactional_id = request.v3_and_below_transactional_id;
            blocking(move || shared.transactions.add_partitions(&transactional_id.0, producer, partitions)).await
        }
    };
    let outcome = outcome.map_err(|error| fenced(error, version >= 2));
    let topics = topics.into_iter().map(|(name, found)| {
        let partitions = found.into_iter().map(|(index, known)| {
            let outcome = known.ok_or(ResponseError::UnknownTopicOrPartition).and(outcome);
            let result = AddPartitionsToTxnPartitionResult::default().with_partition_index(index);
            result.with_partition_error_code(code(&outcome))
        });
        let partitions = partitions.collect();
        AddPartitionsToTxnTopicResult::default().with_name(name).with_results_by_partition(partitions)
    });
    Answer::new(AddPartitionsToTxnResponse::default().with_results_by_topic_v3_and_below(topics.collect()))
}

/// Answers an AddOffsetsToTxn request: offsets of the group may follow.
pub(super) async fn add_group(shared: &Arc<Shared>, request: AddOffsetsToTxnRequest, version: i16) -> Answer {
    let producer = Producer { id: request.producer_id.0, epoch: request.producer_epoch };
    let (transactional_id, group) = (request.transactional_id, request.group_id.0.to_string());
    let outcome = if group.is_empty() {
        Err(ResponseError::InvalidGroupId)
    } else {
        let shared = Arc::clone(shared);
        blocking(move || shared.transactions.add_group(&transactional_id.0, producer, group)).await
    };
    let outcome = outcome.map_err(|error| fenced(error, version >= 2));
    Answer::new(AddOffsetsToTxnResponse::default().with_error_code(code(&outcome)))
}

/// Answers an EndTxn request once the transaction has ended for all who read.
pub(super) async fn end(shared: &Arc<Shared>, request: EndTxnRequest, version: i16) -> Answer {
    let producer = Producer { id: request.producer_id.0, epoch: request.producer_epoch };
    let outcome = if request.committed { Outcome::Commit } else { Outcome::Abort };
    let shared = Arc::clone(shared);
    let ended = blocking(move || shared.transactions.end(&request.transactional_id.0, producer, outcome)).await;
    let ended = ended.map_err(|error| fenced(error, version >= 2));
    Answer::new(EndTxnResponse::default().with_error_code(code(&ended)))
}

/// Older versions of the requests don't know that a producer can be fenced: its epoch is the wrong one there.
fn fenced(error: ResponseError, known: bool) -> ResponseError {
    match error {
        ResponseError::ProducerFenced if !known => ResponseError::InvalidProducerEpoch,
        error => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fenced_producer_is_told_so_as_its_version_can() {
        let check = |error, known, expected| assert_eq!(fenced(error, known), expected);
        check(ResponseError::ProducerFenced, true, ResponseError::ProducerFenced);
        check(ResponseError::ProducerFenced, false, ResponseError::InvalidProducerEpoch);
        check(ResponseError::InvalidTxnState, false, ResponseError::InvalidTxnState);
    }
}
