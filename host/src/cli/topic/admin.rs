//! `midplane topic list|create|delete`: what there is, and what there shall be. Touches no event.

use std::io::Write;

use clap::Args;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication, TopicResult};
use rdkafka::client::Client;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use serde::Serialize;

use super::super::connect::{ConnectArgs, Context, Endpoint};
use super::super::{Exit, Failure};
use super::Output;

/// `midplane topic list`
#[derive(Debug, Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    connect: ConnectArgs,

    /// List the topics that the broker keeps for itself, too
    #[arg(long)]
    internal: bool,

    /// How the list is written
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// `midplane topic create`
#[derive(Debug, Args)]
pub(super) struct CreateArgs {
    #[command(flatten)]
    connect: ConnectArgs,

    /// The topics
    #[arg(required = true, value_name = "TOPIC")]
    topics: Vec<String>,

    /// Partitions of each: how many shards can share its events
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(i32).range(1..))]
    partitions: i32,

    /// Copies of each on a Kafka cluster; default: what the cluster says
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    replication_factor: Option<i32>,

    /// A setting of the topics, such as cleanup.policy=compact; repeatable
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = super::pair)]
    settings: Vec<(String, String)>,

    /// Topics that are there already are no failure, whatever their partitions and settings
    #[arg(long)]
    if_not_exists: bool,
}

/// `midplane topic delete`
#[derive(Debug, Args)]
pub(super) struct DeleteArgs {
    #[command(flatten)]
    connect: ConnectArgs,

    /// The topics
    #[arg(required = true, value_name = "TOPIC")]
    topics: Vec<String>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Row {
    topic: String,
    partitions: usize,
}

pub(super) fn list(args: &ListArgs) -> Result<Exit, Failure> {
    let endpoint = args.connect.endpoint()?;
    let metadata = endpoint.metadata(None)?;
    let mut rows: Vec<Row> = metadata
        .topics()
        .iter()
        .filter(|topic| args.internal || !topic.name().starts_with("__"))
        .map(|topic| Row { topic: topic.name().to_owned(), partitions: topic.partitions().len() })
        .collect();
    rows.sort_by(|a, b| a.topic.cmp(&b.topic));
    let mut out = std::io::stdout().lock();
    match args.output {
        Output::Text => out.write_all(table(&rows).as_bytes())?,
        Output::Json => writeln!(out, "{}", serde_json::to_string_pretty(&rows).map_err(Failure::failed)?)?,
    }
    Ok(Exit::Done)
}

fn table(rows: &[Row]) -> String {
    let width = rows.iter().map(|row| row.topic.chars().count()).max().unwrap_or(0).max("TOPIC".len());
    let mut text = format!("{:width$}  PARTITIONS\n", "TOPIC");
    for row in rows {
        text.push_str(&format!("{:width$}  {:>10}\n", row.topic, row.partitions));
    }
    text
}

pub(super) fn create(args: &CreateArgs) -> Result<Exit, Failure> {
    let endpoint = args.connect.endpoint()?;
    endpoint.metadata(None)?;
    let client = connect(&endpoint)?;
    let topics: Vec<NewTopic<'_>> = args
        .topics
        .iter()
        .map(|name| NewTopic {
            name,
            num_partitions: args.partitions,
            // -1 is the protocol's word for the cluster's own choice.
            replication: TopicReplication::Fixed(args.replication_factor.unwrap_or(-1)),
            config: args.settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect(),
        })
        .collect();
    let options = options(&endpoint);
    let results = wait(client.create_topics(&topics, &options))?;
    let there = |code| args.if_not_exists && code == RDKafkaErrorCode::TopicAlreadyExists;
    report(&endpoint, &client, results, "create", there)
}

pub(super) fn delete(args: &DeleteArgs) -> Result<Exit, Failure> {
    let endpoint = args.connect.endpoint()?;
    endpoint.metadata(None)?;
    let client = connect(&endpoint)?;
    let topics: Vec<&str> = args.topics.iter().map(String::as_str).collect();
    let results = wait(client.delete_topics(&topics, &options(&endpoint)))?;
    report(&endpoint, &client, results, "delete", |_| false)
}

fn connect(endpoint: &Endpoint) -> Result<AdminClient<Context>, Failure> {
    AdminClient::from_config_and_context(&endpoint.client(), Context::default()).map_err(Failure::usage)
}

fn options(endpoint: &Endpoint) -> AdminOptions {
    let timeout = Some(endpoint.timeout());
    AdminOptions::new().request_timeout(timeout).operation_timeout(timeout)
}

/// The admin client answers from a thread of its own; all that is missing is somewhere to wait.
fn wait<T>(answer: impl Future<Output = T>) -> Result<T, Failure> {
    Ok(tokio::runtime::Builder::new_current_thread().build()?.block_on(answer))
}

/// Every topic's own result: what could be done is done, and the rest is said.
fn report(
    endpoint: &Endpoint,
    client: &AdminClient<Context>,
    results: Result<Vec<TopicResult>, KafkaError>,
    verb: &str,
    fine: impl Fn(RDKafkaErrorCode) -> bool,
) -> Result<Exit, Failure> {
    let results = results.map_err(|error| unreachable_or_failed(endpoint, client.inner(), &error))?;
    let refused: Vec<String> = results
        .into_iter()
        .filter_map(Result::err)
        .filter(|(_, code)| !fine(*code))
        .map(|(topic, code)| format!("can't {verb} `{topic}`: {}", reason(code)))
        .collect();
    if refused.is_empty() { Ok(Exit::Done) } else { Err(Failure::failed(refused.join("\nmidplane: "))) }
}

fn unreachable_or_failed(endpoint: &Endpoint, client: &Client<Context>, error: &KafkaError) -> Failure {
    match error.rdkafka_error_code() {
        Some(
            RDKafkaErrorCode::OperationTimedOut
            | RDKafkaErrorCode::BrokerTransportFailure
            | RDKafkaErrorCode::AllBrokersDown,
        ) => endpoint.unreachable(client.context(), error),
        _ => Failure::failed(error),
    }
}

fn reason(code: RDKafkaErrorCode) -> String {
    match code {
        RDKafkaErrorCode::TopicAlreadyExists => "it is there already; `--if-not-exists` would let that pass".to_owned(),
        RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic => {
            "there is no such topic; `midplane topic list` shows those that there are".to_owned()
        }
        RDKafkaErrorCode::InvalidTopic => {
            "not a topic name; expected letters, digits, `.`, `_` and `-`, at most 249 of them".to_owned()
        }
        RDKafkaErrorCode::InvalidConfig => {
            "the broker refuses a setting, or has none of that name (`--set`)".to_owned()
        }
        code => code.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_as_wide_as_its_longest_name() {
        let row = |topic: &str, partitions| Row { topic: topic.to_owned(), partitions };
        assert_eq!(table(&[]), "TOPIC  PARTITIONS\n");
        assert_eq!(
            table(&[row("payments-scored", 4), row("a", 12)]),
            "TOPIC            PARTITIONS\npayments-scored           4\na                        12\n"
        );
    }
}
