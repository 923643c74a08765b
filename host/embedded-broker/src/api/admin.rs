//! Topics created, grown and deleted by clients.

use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreateTopicsRequest, CreateTopicsResponse, DeleteTopicsRequest,
    DeleteTopicsResponse, TopicName,
};

use super::{NODE, Shared, blocking, configs, storage, text};
use crate::topics::{Refused, Topic};
use crate::wire::connection::Answer;

/// Why a topic was not changed, as clients are told.
type Failure = (ResponseError, String);

fn failure(refused: Refused) -> Failure {
    let error = match &refused {
        Refused::Exists(_) => ResponseError::TopicAlreadyExists,
        Refused::Unknown => ResponseError::UnknownTopicOrPartition,
        Refused::Name { .. } => ResponseError::InvalidTopicException,
        Refused::Partitions(_) => ResponseError::InvalidPartitions,
        Refused::Storage(error) => storage(error),
    };
    (error, refused.to_string())
}

/// Answers a CreateTopics request.
pub(super) async fn create_topics(shared: &Arc<Shared>, request: CreateTopicsRequest, version: i16) -> Answer {
    let shared = Arc::clone(shared);
    let topics = blocking(move || {
        let create = |wanted: CreatableTopic| {
            let created = create(&shared, &wanted, request.validate_only);
            respond(wanted.name, created, version)
        };
        request.topics.into_iter().map(create).collect()
    })
    .await;
    Answer::new(CreateTopicsResponse::default().with_topics(topics))
}

fn create(shared: &Shared, wanted: &CreatableTopic, dry_run: bool) -> Result<Arc<Topic>, Failure> {
    for config in &wanted.configs {
        let value = config.value.as_deref();
        configs::check(&config.name, value).map_err(|message| (ResponseError::InvalidConfig, message))?;
    }
    let partitions = if wanted.assignments.is_empty() {
        if !matches!(wanted.replication_factor, -1 | 1) {
            let message = format!("replication factor {}, expected 1: there is one broker", wanted.replication_factor);
            return Err((ResponseError::InvalidReplicationFactor, message));
        }
        if wanted.num_partitions == -1 { 1 } else { u32::try_from(wanted.num_partitions).unwrap_or(0) }
    } else {
        if wanted.assignments.iter().any(|assigned| assigned.broker_ids != [NODE]) {
            let message = format!("expected every partition on broker {} alone", NODE.0);
            return Err((ResponseError::InvalidReplicaAssignment, message));
        }
        wanted.assignments.len() as u32
    };
    shared.topics.create(&wanted.name.0, partitions, dry_run).map_err(failure)
}

fn respond(name: TopicName, created: Result<Arc<Topic>, Failure>, version: i16) -> CreatableTopicResult {
    let result = CreatableTopicResult::default().with_name(name);
    match created {
        Err((error, message)) => result.with_error_code(error.code()).with_error_message(Some(text(message))),
        Ok(topic) => {
            let result = if version >= 7 { result.with_topic_id(topic.id) } else { result };
            if version < 5 {
                return result;
            }
            result
                .with_num_partitions(topic.partitions.len() as i32)
                .with_replication_factor(1)
                .with_configs(Some(configs::of_created_topic()))
        }
    }
}

/// Answers a DeleteTopics request: by name, or since version 6 by id too.
pub(super) async fn delete_topics(shared: &Arc<Shared>, request: DeleteTopicsRequest, version: i16) -> Answer {
    let named = request.topic_names.into_iter().map(|name| DeleteTopicState::default().with_name(Some(name)));
    let wanted: Vec<DeleteTopicState> = request.topics.into_iter().chain(named).collect();
    let shared = Arc::clone(shared);
    let responses = blocking(move || wanted.into_iter().map(|wanted| delete(&shared, wanted, version)).collect()).await;
    Answer::new(DeleteTopicsResponse::default().with_responses(responses))
}

fn delete(shared: &Shared, wanted: DeleteTopicState, version: i16) -> DeletableTopicResult {
    let (found, unknown) = match &wanted.name {
        Some(name) => (shared.topics.get(&name.0), ResponseError::UnknownTopicOrPartition),
        None => (shared.topics.get_by_id(wanted.topic_id), ResponseError::UnknownTopicId),
    };
    let outcome = found.ok_or((unknown, Refused::Unknown.to_string())).and_then(|topic| {
        let topic = shared.topics.delete(topic.id).map_err(failure)?;
        let forgotten = shared.coordinator.delete_topic(topic.id);
        forgotten.map_err(|error| (storage(&error), error.to_string()))?;
        Ok(topic)
    });
    let result = DeletableTopicResult::default();
    match outcome {
        Ok(topic) => {
            let result = result.with_name(Some(TopicName(text(topic.name.clone()))));
            if version >= 6 { result.with_topic_id(topic.id) } else { result }
        }
        Err((error, message)) => {
            let result = result.with_name(wanted.name).with_error_code(error.code());
            let result = if version >= 5 { result.with_error_message(Some(text(message))) } else { result };
            if version >= 6 { result.with_topic_id(wanted.topic_id) } else { result }
        }
    }
}

/// Answers a CreatePartitions request.
pub(super) async fn create_partitions(shared: &Arc<Shared>, request: CreatePartitionsRequest) -> Answer {
    let shared = Arc::clone(shared);
    let results = blocking(move || {
        let grow = request.topics.into_iter().map(|wanted| {
            let partitions = u32::try_from(wanted.count).unwrap_or(0);
            let outcome = shared.topics.grow(&wanted.name.0, partitions, request.validate_only).map_err(failure);
            let result = CreatePartitionsTopicResult::default().with_name(wanted.name);
            match outcome {
                Ok(_) => result,
                Err((error, message)) => result.with_error_code(error.code()).with_error_message(Some(text(message))),
            }
        });
        grow.collect()
    })
    .await;
    Answer::new(CreatePartitionsResponse::default().with_results(results))
}
