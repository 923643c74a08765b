//! Committed offsets: OffsetCommit, TxnOffsetCommit and OffsetFetch.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use kafka_protocol::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use kafka_protocol::messages::{
    OffsetCommitRequest, OffsetCommitResponse, OffsetFetchRequest, OffsetFetchResponse, TopicName,
    TxnOffsetCommitRequest, TxnOffsetCommitResponse,
};

use super::{Shared, blocking, code, storage, text};
use crate::groups::offsets::{Committed, Partition};
use crate::topics::Topic;
use crate::transactions::machine::Producer;
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
    let mut offsets = Vec::new();
    let topics: Vec<_> = request
        .topics
        .into_iter()
        .map(|wanted| {
            let topic = shared.topics.get(&wanted.name);
            let partitions = wanted.partitions.into_iter().map(|wanted| {
                let (index, leader_epoch) = (wanted.partition_index, wanted.committed_leader_epoch);
                let metadata = wanted.committed_metadata.unwrap_or_default().to_string();
                let committed = Committed { offset: wanted.committed_offset, leader_epoch, metadata };
                (index, allowed.and_then(|()| keep(&mut offsets, topic.as_deref(), index, committed)))
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

/// Answers a TxnOffsetCommit request: the offsets count once the transaction is committed.
pub(super) async fn commit_with_transaction(shared: &Arc<Shared>, request: TxnOffsetCommitRequest) -> Answer {
    let group = request.group_id.0.to_string();
    let allowed = if group.is_empty() {
        Err(ResponseError::InvalidGroupId)
    } else {
        shared.coordinator.may_commit_with_transaction(&group, &request.member_id, request.generation_id)
    };
    let mut offsets = Vec::new();
    let topics: Vec<_> = request
        .topics
        .into_iter()
        .map(|wanted| {
            let topic = shared.topics.get(&wanted.name);
            let partitions = wanted.partitions.into_iter().map(|wanted| {
                let (index, leader_epoch) = (wanted.partition_index, wanted.committed_leader_epoch);
                let metadata = wanted.committed_metadata.unwrap_or_default().to_string();
                let committed = Committed { offset: wanted.committed_offset, leader_epoch, metadata };
                (index, allowed.and_then(|()| keep(&mut offsets, topic.as_deref(), index, committed)))
            });
            (wanted.name, partitions.collect::<Vec<_>>())
        })
        .collect();
    let producer = Producer { id: request.producer_id.0, epoch: request.producer_epoch };
    let (shared, transactional_id) = (Arc::clone(shared), request.transactional_id);
    let kept = blocking(move || shared.transactions.add_offsets(&transactional_id.0, producer, &group, offsets)).await;
    let kept = kept.map_err(|error| match error {
        // No version of this request knows the newer error.
        ResponseError::ProducerFenced => ResponseError::InvalidProducerEpoch,
        error => error,
    });
    let topics = topics.into_iter().map(|(name, partitions)| {
        let partitions = partitions.into_iter().map(|(index, outcome)| {
            let outcome = outcome.and(kept);
            TxnOffsetCommitResponsePartition::default().with_partition_index(index).with_error_code(code(&outcome))
        });
        TxnOffsetCommitResponseTopic::default().with_name(name).with_partitions(partitions.collect())
    });
    Answer::new(TxnOffsetCommitResponse::default().with_topics(topics.collect()))
}

/// Keeps an offset that is to be committed, if it can be.
fn keep(
    offsets: &mut Vec<(Partition, Committed)>,
    topic: Option<&Topic>,
    index: i32,
    committed: Committed,
) -> Result<(), ResponseError> {
    let topic = topic.filter(|topic| topic.partition(index).is_some());
    let topic = topic.ok_or(ResponseError::UnknownTopicOrPartition)?;
    if committed.metadata.len() > METADATA_MAX {
        return Err(ResponseError::OffsetMetadataTooLarge);
    }
    offsets.push(((topic.id, index), committed));
    Ok(())
}

/// What is answered of a partition: its index, and what was committed.
type Found = (i32, Result<Option<Committed>, ResponseError>);

/// The partitions whose offset may change any moment, where a client asks not to be told of those.
type Unstable = HashSet<Partition>;

/// Answers an OffsetFetch request: of one group, or since version 8 of several.
pub(super) async fn fetch(shared: &Arc<Shared>, request: OffsetFetchRequest, version: i16) -> Answer {
    // Asked for first: what is read afterwards has what was committed meanwhile.
    let unstable = if request.require_stable { unstable(shared, &request).await } else { HashMap::new() };
    let none = Unstable::new();
    let unstable = |group: &str| unstable.get(group).unwrap_or(&none);
    let response = OffsetFetchResponse::default();
    if version >= 8 {
        let groups = request.groups.into_iter().map(|wanted| {
            let group = &wanted.group_id.0;
            let topics =
                wanted.topics.map(|topics| topics.into_iter().map(|topic| (topic.name, topic.partition_indexes)));
            let found = committed(shared, group, topics.map(Iterator::collect), unstable(group));
            let topics = found.into_iter().map(|(name, partitions)| {
                let partitions = partitions.into_iter().map(|(index, found)| {
                    let (offset, leader_epoch, metadata, error) = plain(found);
                    OffsetFetchResponsePartitions::default()
                        .with_partition_index(index)
                        .with_committed_offset(offset)
                        .with_committed_leader_epoch(leader_epoch)
                        .with_metadata(Some(text(metadata)))
                        .with_error_code(error)
                });
                OffsetFetchResponseTopics::default().with_name(name).with_partitions(partitions.collect())
            });
            OffsetFetchResponseGroup::default().with_topics(topics.collect()).with_group_id(wanted.group_id)
        });
        return Answer::new(response.with_groups(groups.collect()));
    }
    let group = &request.group_id.0;
    let topics = request.topics.map(|topics| topics.into_iter().map(|topic| (topic.name, topic.partition_indexes)));
    let found = committed(shared, group, topics.map(Iterator::collect), unstable(group));
    let topics = found.into_iter().map(|(name, partitions)| {
        let partitions = partitions.into_iter().map(|(index, found)| {
            let (offset, leader_epoch, metadata, error) = plain(found);
            let response = OffsetFetchResponsePartition::default()
                .with_partition_index(index)
                .with_committed_offset(offset)
                .with_metadata(Some(text(metadata)))
                .with_error_code(error);
            if version >= 5 { response.with_committed_leader_epoch(leader_epoch) } else { response }
        });
        OffsetFetchResponseTopic::default().with_name(name).with_partitions(partitions.collect())
    });
    Answer::new(response.with_topics(topics.collect()))
}

/// What is unstable in the groups that a request asks for.
async fn unstable(shared: &Arc<Shared>, request: &OffsetFetchRequest) -> HashMap<String, Unstable> {
    let several = request.groups.iter().map(|wanted| &wanted.group_id);
    let groups: Vec<String> = several.chain([&request.group_id]).map(|group| group.0.to_string()).collect();
    let shared = Arc::clone(shared);
    let look = move |group: String| {
        let unstable = shared.transactions.unstable(&group);
        (group, unstable)
    };
    blocking(move || groups.into_iter().map(look).collect()).await
}

fn plain(found: Result<Option<Committed>, ResponseError>) -> (i64, i32, String, i16) {
    let error = code(&found);
    let found = found.ok().flatten();
    let (offset, leader_epoch, metadata) =
        found.map_or((-1, -1, String::new()), |found| (found.offset, found.leader_epoch, found.metadata));
    (offset, leader_epoch, metadata, error)
}

/// What a group committed for the topics asked for; for all of them, when none is named.
fn committed(
    shared: &Shared,
    group: &str,
    topics: Option<Vec<(TopicName, Vec<i32>)>>,
    unstable: &Unstable,
) -> Vec<(TopicName, Vec<Found>)> {
    let stable = |partition: Partition, committed: Option<Committed>| {
        if unstable.contains(&partition) { Err(ResponseError::UnstableOffsetCommit) } else { Ok(committed) }
    };
    let Some(topics) = topics else {
        let mut found: Vec<(TopicName, Vec<Found>)> = Vec::new();
        for ((id, index), committed) in shared.coordinator.committed(group, None) {
            let Some(topic) = shared.topics.get_by_id(id) else { continue };
            let committed = (index, stable((id, index), Some(committed)));
            match found.last_mut().filter(|(name, _)| *name.0 == *topic.name) {
                Some((_, partitions)) => partitions.push(committed),
                None => found.push((TopicName(text(topic.name.clone())), vec![committed])),
            }
        }
        return found;
    };
    let look = |(name, indexes): (TopicName, Vec<i32>)| {
        let topic = shared.topics.get(&name.0);
        let found = indexes.into_iter().map(|index| {
            let Some(partition) = topic.as_ref().map(|topic| (topic.id, index)) else { return (index, Ok(None)) };
            let committed = shared.coordinator.committed(group, Some(&[partition])).pop();
            (index, stable(partition, committed.map(|(_, committed)| committed)))
        });
        let found = found.collect();
        (name, found)
    };
    topics.into_iter().map(look).collect()
}
