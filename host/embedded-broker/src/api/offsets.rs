//! Where a log starts, ends, and reaches a time: ListOffsets and OffsetForLeaderEpoch.

use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_protocol::messages::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
use kafka_protocol::messages::{
    ListOffsetsRequest, ListOffsetsResponse, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
};

use super::{Shared, blocking, code, isolation, storage};
use crate::storage::log::{Isolation, Log};
use crate::wire::connection::Answer;

/// Times that stand for something else.
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const NEWEST: i64 = -3;

/// Answers a ListOffsets request.
pub(super) async fn list(shared: &Arc<Shared>, request: ListOffsetsRequest, version: i16) -> Answer {
    let shared = Arc::clone(shared);
    let isolation = isolation(request.isolation_level);
    let topics = blocking(move || {
        let topics = request.topics.into_iter().map(|wanted| {
            let topic = shared.topics.get(&wanted.name);
            let partitions = wanted.partitions.into_iter().map(|wanted| {
                let log = topic.as_ref().and_then(|topic| topic.partition(wanted.partition_index));
                let found = match log {
                    Some(log) => look(log, wanted.timestamp, isolation),
                    None => Err(ResponseError::UnknownTopicOrPartition),
                };
                let (offset, timestamp) = found.unwrap_or((-1, -1));
                let response = ListOffsetsPartitionResponse::default()
                    .with_partition_index(wanted.partition_index)
                    .with_error_code(code(&found))
                    .with_offset(offset)
                    .with_timestamp(timestamp);
                if version >= 4 { response.with_leader_epoch(if found.is_ok() { 0 } else { -1 }) } else { response }
            });
            let partitions = partitions.collect();
            ListOffsetsTopicResponse::default().with_name(wanted.name).with_partitions(partitions)
        });
        topics.collect()
    })
    .await;
    Answer::new(ListOffsetsResponse::default().with_topics(topics))
}

/// Where a log reaches a time; nowhere, as long as it does so only where the reader may not look.
fn look(log: &Log, timestamp: i64, isolation: Isolation) -> Result<(i64, i64), ResponseError> {
    let found = match timestamp {
        LATEST => return Ok((log.limit(isolation), -1)),
        EARLIEST => return Ok((log.start_offset(), -1)),
        NEWEST => log.find_newest(),
        0.. => log.find_timestamp(timestamp),
        _ => return Err(ResponseError::UnsupportedVersion),
    };
    let found = found.map(|found| found.filter(|(offset, _)| *offset < log.limit(isolation)));
    found.map(|found| found.unwrap_or((-1, -1))).map_err(|error| storage(&error))
}

/// Answers an OffsetForLeaderEpoch request: there is one epoch, 0, and it ends where the log ends.
pub(super) fn for_leader_epoch(shared: &Shared, request: OffsetForLeaderEpochRequest) -> Answer {
    let topics = request.topics.into_iter().map(|wanted| {
        let topic = shared.topics.get(&wanted.topic);
        let partitions = wanted.partitions.into_iter().map(|wanted| {
            let log = topic.as_ref().and_then(|topic| topic.partition(wanted.partition));
            let end = EpochEndOffset::default().with_partition(wanted.partition);
            match log {
                None => end.with_error_code(ResponseError::UnknownTopicOrPartition.code()),
                Some(_) if wanted.current_leader_epoch > 0 => {
                    end.with_error_code(ResponseError::UnknownLeaderEpoch.code())
                }
                Some(log) if wanted.leader_epoch == 0 => end.with_leader_epoch(0).with_end_offset(log.end_offset()),
                Some(_) => end,
            }
        });
        let partitions = partitions.collect();
        OffsetForLeaderTopicResult::default().with_topic(wanted.topic).with_partitions(partitions)
    });
    Answer::new(OffsetForLeaderEpochResponse::default().with_topics(topics.collect()))
}
