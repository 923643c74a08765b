//! `midplane topic`: a Kafka client for people and scripts, so that neither needs another tool to try a route.

mod admin;
mod consume;
mod produce;
pub(super) mod record;

use std::collections::BTreeSet;

use clap::{Args, Subcommand};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::metadata::{Metadata, MetadataPartition, MetadataTopic};

use super::{Exit, Failure};

/// `midplane topic`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  midplane topic create payments --partitions 4
  midplane topic produce payments <events.jsonl
  midplane topic consume payments --from-beginning --max-events 10 --output json
  midplane topic list --bootstrap-servers localhost:9092")]
pub(super) struct TopicArgs {
    #[command(subcommand)]
    command: TopicCommand,
}

#[derive(Debug, Subcommand)]
enum TopicCommand {
    /// List topics and their partitions
    List(admin::ListArgs),
    /// Create topics
    Create(admin::CreateArgs),
    /// Delete topics and all their events
    Delete(admin::DeleteArgs),
    /// Write events, one a line of standard input
    Produce(produce::ProduceArgs),
    /// Read events, one a line of standard output
    Consume(consume::ConsumeArgs),
}

/// How a listing is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Output {
    /// For people
    #[default]
    Text,
    /// For programs
    Json,
}

pub(super) fn run(args: &TopicArgs) -> Result<Exit, Failure> {
    match &args.command {
        TopicCommand::List(args) => admin::list(args),
        TopicCommand::Create(args) => admin::create(args),
        TopicCommand::Delete(args) => admin::delete(args),
        TopicCommand::Produce(args) => produce::run(args),
        TopicCommand::Consume(args) => consume::run(args),
    }
}

/// `NAME=VALUE`
fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE".to_owned()),
    }
}

/// The partitions of a topic that was asked for.
///
/// # Errors
/// When there is no such topic, or the broker doesn't show it.
fn exists(metadata: &Metadata, topic: &str) -> Result<BTreeSet<i32>, Failure> {
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    let error = found.and_then(MetadataTopic::error).map(RDKafkaErrorCode::from);
    let partitions: BTreeSet<i32> =
        found.into_iter().flat_map(MetadataTopic::partitions).map(MetadataPartition::id).collect();
    match error {
        None if !partitions.is_empty() => Ok(partitions),
        None | Some(RDKafkaErrorCode::UnknownTopicOrPartition) => Err(Failure::failed(format!(
            "no topic `{topic}`; `midplane topic list` shows those that there are, `midplane topic create {topic}` makes it"
        ))),
        Some(error) => Err(Failure::failed(format!("the topic `{topic}` can't be used: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_split_at_the_first_sign() {
        assert_eq!(pair("cleanup.policy=compact"), Ok(("cleanup.policy".to_owned(), "compact".to_owned())));
        assert_eq!(pair("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert!(pair("compact").is_err());
        assert!(pair("=compact").is_err());
    }
}
