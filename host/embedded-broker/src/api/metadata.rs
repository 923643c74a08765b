//! Who is there: Metadata and DescribeCluster.

use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{DescribeClusterResponse, MetadataRequest, MetadataResponse, TopicName};

use super::{Caller, NODE, Shared, blocking, storage, text};
use crate::topics::{Refused, Topic};
use crate::wire::connection::Answer;

/// Answers a Metadata request.
pub(super) async fn answer(shared: &Arc<Shared>, caller: &Caller, request: MetadataRequest, version: i16) -> Answer {
    let create = shared.create_topics_on_demand && request.allow_auto_topic_creation;
    let topics = match request.topics {
        // The oldest version says "all" by naming none.
        Some(named) if !(version == 0 && named.is_empty()) => {
            let mut topics = Vec::with_capacity(named.len());
            for wanted in named {
                topics.push(look(shared, wanted, create).await);
            }
            topics
        }
        _ => shared.topics.all().iter().map(|topic| describe(topic)).collect(),
    };
    let endpoint = shared.endpoint(caller);
    let node = MetadataResponseBroker::default()
        .with_node_id(NODE)
        .with_host(text(endpoint.host))
        .with_port(endpoint.port.into());
    let response = MetadataResponse::default()
        .with_brokers(vec![node])
        .with_cluster_id(Some(text(shared.cluster_id.to_string())))
        .with_controller_id(NODE)
        .with_topics(topics);
    Answer::new(response)
}

async fn look(shared: &Arc<Shared>, wanted: MetadataRequestTopic, create: bool) -> MetadataResponseTopic {
    let Some(name) = wanted.name else {
        return match shared.topics.get_by_id(wanted.topic_id) {
            Some(topic) => describe(&topic),
            None => MetadataResponseTopic::default()
                .with_topic_id(wanted.topic_id)
                .with_error_code(ResponseError::UnknownTopicId.code()),
        };
    };
    if let Some(topic) = shared.topics.get(&name.0) {
        return describe(&topic);
    }
    let made =
        if create { make(shared, name.0.to_string()).await } else { Err(ResponseError::UnknownTopicOrPartition) };
    match made {
        Ok(topic) => describe(&topic),
        Err(error) => MetadataResponseTopic::default().with_name(Some(name)).with_error_code(error.code()),
    }
}

async fn make(shared: &Arc<Shared>, name: String) -> Result<Arc<Topic>, ResponseError> {
    let shared = Arc::clone(shared);
    blocking(move || match shared.topics.create(&name, 1, false) {
        Ok(topic) => Ok(topic),
        Err(Refused::Exists(name)) => shared.topics.get(&name).ok_or(ResponseError::UnknownTopicOrPartition),
        Err(Refused::Storage(error)) => Err(storage(&error)),
        Err(_) => Err(ResponseError::InvalidTopicException),
    })
    .await
}

fn describe(topic: &Topic) -> MetadataResponseTopic {
    let partitions = (0..topic.partitions.len() as i32).map(|index| {
        MetadataResponsePartition::default()
            .with_partition_index(index)
            .with_leader_id(NODE)
            .with_leader_epoch(0)
            .with_replica_nodes(vec![NODE])
            .with_isr_nodes(vec![NODE])
    });
    MetadataResponseTopic::default()
        .with_name(Some(TopicName(text(topic.name.clone()))))
        .with_topic_id(topic.id)
        .with_partitions(partitions.collect())
}

/// Answers a DescribeCluster request.
pub(super) fn describe_cluster(shared: &Shared, caller: &Caller) -> Answer {
    let endpoint = shared.endpoint(caller);
    let node = DescribeClusterBroker::default()
        .with_broker_id(NODE)
        .with_host(text(endpoint.host))
        .with_port(endpoint.port.into());
    let response = DescribeClusterResponse::default()
        .with_cluster_id(text(shared.cluster_id.to_string()))
        .with_controller_id(NODE)
        .with_brokers(vec![node]);
    Answer::new(response)
}
