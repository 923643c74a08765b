//! The settings of topics and of the broker as clients see them: told, and for now never changed.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::create_topics_response::CreatableTopicConfigs;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{DescribeConfigsResourceResult, DescribeConfigsResult};
use kafka_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::{
    DescribeConfigsRequest, DescribeConfigsResponse, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::produce::MESSAGE_MAX;
use super::{NODE, Shared, text};
use crate::settings::DEFAULT_RETENTION;
use crate::storage::log::SEGMENT_BYTES;
use crate::wire::connection::Answer;

/// The kinds of things that have settings.
const TOPIC: i8 = 2;
const BROKER: i8 = 4;

/// Where every value comes from: the default.
const DEFAULT: i8 = 5;

/// The settings of every topic, with the types that the protocol numbers.
fn of_topics() -> [(&'static str, String, i8); 8] {
    let (text, int, long, list) = (2, 3, 5, 7);
    [
        ("cleanup.policy", "delete".to_owned(), list),
        ("compression.type", "producer".to_owned(), text),
        ("max.message.bytes", MESSAGE_MAX.to_string(), int),
        ("message.timestamp.type", "CreateTime".to_owned(), text),
        ("min.insync.replicas", "1".to_owned(), int),
        ("retention.bytes", "-1".to_owned(), long),
        ("retention.ms", DEFAULT_RETENTION.as_millis().to_string(), long),
        ("segment.bytes", SEGMENT_BYTES.to_string(), int),
    ]
}

/// Whether a topic may be created with a setting: only with the value that it has anyway.
pub(super) fn check(name: &str, value: Option<&str>) -> Result<(), String> {
    let Some((_, has, _)) = of_topics().into_iter().find(|(known, ..)| *known == name) else {
        let known = of_topics().map(|(known, ..)| known).join(", ");
        return Err(format!("unknown setting `{name}` (known: {known})"));
    };
    match value {
        Some(value) if value != has => {
            Err(format!("`{name}` = `{value}` is not supported yet by the embedded broker, expected `{has}`"))
        }
        _ => Ok(()),
    }
}

/// The settings of a topic that was just created.
pub(super) fn of_created_topic() -> Vec<CreatableTopicConfigs> {
    let settings = of_topics().into_iter().map(|(name, value, _)| {
        CreatableTopicConfigs::default()
            .with_name(StrBytes::from_static_str(name))
            .with_value(Some(text(value)))
            .with_read_only(true)
            .with_config_source(DEFAULT)
    });
    settings.collect()
}

/// Answers a DescribeConfigs request.
pub(super) fn describe(shared: &Shared, request: DescribeConfigsRequest) -> Answer {
    let results = request.resources.into_iter().map(|wanted| {
        let outcome = settings_of(shared, &wanted);
        let result = DescribeConfigsResult::default().with_resource_type(wanted.resource_type);
        let result = match outcome {
            Ok(settings) => {
                let keys = wanted.configuration_keys.as_deref().unwrap_or_default();
                let asked = |name: &str| keys.is_empty() || keys.iter().any(|key| **key == *name);
                let settings = settings.into_iter().filter(|(name, ..)| asked(name)).map(|(name, value, kind)| {
                    DescribeConfigsResourceResult::default()
                        .with_name(StrBytes::from_static_str(name))
                        .with_value(Some(text(value)))
                        .with_read_only(true)
                        .with_config_source(DEFAULT)
                        .with_config_type(kind)
                });
                result.with_configs(settings.collect())
            }
            Err((error, message)) => result.with_error_code(error.code()).with_error_message(Some(text(message))),
        };
        result.with_resource_name(wanted.resource_name)
    });
    Answer::new(DescribeConfigsResponse::default().with_results(results.collect()))
}

type Settings = Vec<(&'static str, String, i8)>;

fn settings_of(shared: &Shared, wanted: &DescribeConfigsResource) -> Result<Settings, (ResponseError, String)> {
    match wanted.resource_type {
        TOPIC if shared.topics.get(&wanted.resource_name).is_some() => Ok(of_topics().into()),
        TOPIC => Err((ResponseError::UnknownTopicOrPartition, "there is no such topic".to_owned())),
        BROKER if *wanted.resource_name == *NODE.0.to_string() => {
            let on_demand = ("auto.create.topics.enable", shared.create_topics_on_demand.to_string(), 1);
            Ok(vec![on_demand, ("message.max.bytes", MESSAGE_MAX.to_string(), 3)])
        }
        kind => {
            Err((ResponseError::InvalidRequest, format!("no settings of kind {kind} named `{}`", wanted.resource_name)))
        }
    }
}

/// Answers an IncrementalAlterConfigs request: by refusing it.
pub(super) fn alter(request: IncrementalAlterConfigsRequest) -> Answer {
    let responses = request.resources.into_iter().map(|wanted| {
        AlterConfigsResourceResponse::default()
            .with_error_code(ResponseError::InvalidConfig.code())
            .with_error_message(Some(StrBytes::from_static_str("settings can't be changed yet in the embedded broker")))
            .with_resource_type(wanted.resource_type)
            .with_resource_name(wanted.resource_name)
    });
    Answer::new(IncrementalAlterConfigsResponse::default().with_responses(responses.collect()))
}
