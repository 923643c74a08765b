//! Committed offsets: OffsetCommit and OffsetFetch.

use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{
    OffsetCommitRequest, OffsetCommitResponse, OffsetFetchRequest, OffsetFetchResponse, TopicName,
};

use super::{Shared, blocking, code, storage, text};
use crate::groups::offsets::{Committed, Partition};
use crate::wire::connection::Answer;

/// How long the metadata of an offset may be, in bytes.
const METADATA_MAX: usize = 4096;

/// Answers an OffsetCommit request.
pub(super) async fn commit(shared: &Arc<Shared>, request: OffsetCommitRequest) -> Answer {
    let (group, member) = (request.group_id.0.to_string(), request.member_id.to_string());
    let allowed = if group.is_empty() {
        Err(ResponseError::InvalidGroupId)
    } else {
        shared.coordinator.may_commit(&group, &member, request.generation_id_or_member_epoch)
    };
    let mut offsets: Vec<(Partition, Committed)> = Vec::new();
    let topics: Vec<_> = request
        .topics
        .into_iter()
        .map(|wanted| {
            let topic = shared.topics.get(&wanted.name);
            let partitions = wanted.partitions.into_iter().map(|wanted| {
                let metadata = wanted.committed_metadata.unwrap_or_default().to_string();
                let known = topic.as_ref().filter(|topic| topic.partition(wanted.partition_index).is_some());
                let outcome = match (allowed, known) {
                    (Err(error), _) => Err(error),
                    (Ok(()), None) => Err(ResponseError::UnknownTopicOrPartition),
                    (Ok(()), Some(_)) if metadata.len() > METADATA_MAX => Err(ResponseError::OffsetMetadataTooLarge),
                    (Ok(()), Some(topic)) => {
                        let leader_epoch = wanted.committed_leader_epoch;
                        let committed = Committed { offset: wanted.committed_offset, leader_epoch, metadata };
                        offsets.push(((topic.id, wanted.partition_index), committed));
                        Ok(())
                    }
                };
                (wanted.partition_index, outcome)
            });
            (wanted.name, partitions.collect::<Vec<_>>())
        })
        .collect();
    let stored = if offsets.is_empty() {
        Ok(())
    } else {
        let shared = Arc::clone(shared);
        blocking(move || shared.coordinator.commit(&group, offsets).map_err(|error| storage(&error))).await
    };
    let topics = topics.into_iter().map(|(name, partitions)| {
        let partitions = partitions.into_iter().map(|(index, outcome)| {
            let outcome = outcome.and(stored);
            OffsetCommitResponsePartition::default().with_partition_index(index).with_error_code(code(&outcome))
        });
        OffsetCommitResponseTopic::default().with_name(name).with_partitions(partitions.collect())
    });
    Answer::new(OffsetCommitResponse::default().with_topics(topics.collect()))
}

/// What is answered of a partition: its index, and what was committed.
type Found = (i32, Option<Committed>);

/// Answers an OffsetFetch request: of one group, or since version 8 of several.
pub(super) fn fetch(shared: &Shared, request: OffsetFetchRequest, version: i16) -> Answer {
    let response = OffsetFetchResponse::default();
    if version >= 8 {
        let groups = request.groups.into_iter().map(|wanted| {
            let topics =
                wanted.topics.map(|topics| topics.into_iter().map(|topic| (topic.name, topic.partition_indexes)));
            let found = committed(shared, &wanted.group_id.0, topics.map(Iterator::collect));
            let topics = found.into_iter().map(|(name, partitions)| {
                let partitions = partitions.into_iter().map(|(index, found)| {
                    let (offset, leader_epoch, metadata) = plain(found);
                    OffsetFetchResponsePartitions::default()
                        .with_partition_index(index)
                        .with_committed_offset(offset)
                        .with_committed_leader_epoch(leader_epoch)
                        .with_metadata(Some(text(metadata)))
                });
                OffsetFetchResponseTopics::default().with_name(name).with_partitions(partitions.collect())
            });
            OffsetFetchResponseGroup::default().with_topics(topics.collect()).with_group_id(wanted.group_id)
        });
        return Answer::new(response.with_groups(groups.collect()));
    }
    let topics = request.topics.map(|topics| topics.into_iter().map(|topic| (topic.name, topic.partition_indexes)));
    let found = committed(shared, &request.group_id.0, topics.map(Iterator::collect));
    let topics = found.into_iter().map(|(name, partitions)| {
        let partitions = partitions.into_iter().map(|(index, found)| {
            let (offset, leader_epoch, metadata) = plain(found);
            let response = OffsetFetchResponsePartition::default()
                .with_partition_index(index)
                .with_committed_offset(offset)
                .with_metadata(Some(text(metadata)));
            if version >= 5 { response.with_committed_leader_epoch(leader_epoch) } else { response }
        });
        OffsetFetchResponseTopic::default().with_name(name).with_partitions(partitions.collect())
    });
    Answer::new(response.with_topics(topics.collect()))
}

fn plain(found: Option<Committed>) -> (i64, i32, String) {
    found.map_or((-1, -1, String::new()), |found| (found.offset, found.leader_epoch, found.metadata))
}

/// What a group committed for the topics asked for; for all of them, when none is named.
fn committed(shared: &Shared, group: &str, topics: Option<Vec<(TopicName, Vec<i32>)>>) -> Vec<(TopicName, Vec<Found>)> {
    let Some(topics) = topics else {
        let mut found: Vec<(TopicName, Vec<Found>)> = Vec::new();
        for ((id, index), committed) in shared.coordinator.committed(group, None) {
            let Some(topic) = shared.topics.get_by_id(id) else { continue };
            match found.last_mut().filter(|(name, _)| *name.0 == *topic.name) {
                Some((_, partitions)) => partitions.push((index, Some(committed))),
                None => found.push((TopicName(text(topic.name.clone())), vec![(index, Some(committed))])),
            }
        }
        return found;
    };
    let look = |(name, indexes): (TopicName, Vec<i32>)| {
        let topic = shared.topics.get(&name.0);
        let found = indexes.into_iter().map(|index| {
            let partition = topic.as_ref().map(|topic| [(topic.id, index)]);
            let committed = partition.map(|partition| shared.coordinator.committed(group, Some(&partition)));
            (index, committed.and_then(|found| found.into_iter().next()).map(|(_, committed)| committed))
        });
        let found = found.collect();
        (name, found)
    };
    topics.into_iter().map(look).collect()
}
