//! `midplane topic consume`: a topic's events on standard output, one a line. Joins no group and commits nothing, so it
//! never takes events from a route.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::time::Duration;

use clap::Args;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{Offset, TopicPartitionList};

use super::super::connect::{ConnectArgs, Context, Endpoint};
use super::super::{Exit, Failure};
use super::Output;
use super::record::{Bytes, Header, Record};
use crate::kafka::headers_of;

/// How long the output may wait for more events before it is flushed.
const FLUSH_INTERVAL: Duration = Duration::from_millis(50);

/// `midplane topic consume`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  midplane topic consume payments                                     new events, until Ctrl-C
  midplane topic consume payments --from-beginning --until-end        what there is
  midplane topic consume payments --from-beginning --max-events 1 --output json")]
pub(super) struct ConsumeArgs {
    #[command(flatten)]
    connect: ConnectArgs,

    /// The topic
    topic: String,

    /// Begin with the first event that is there, rather than with the next that comes
    #[arg(long)]
    from_beginning: bool,

    /// Stop after so many events
    #[arg(long, value_name = "N")]
    max_events: Option<u64>,

    /// Stop when every partition was read to its end
    #[arg(long)]
    until_end: bool,

    /// Write each event's key before its value, with this text between them (`--output text`)
    #[arg(long, value_name = "TEXT")]
    key_separator: Option<String>,

    /// `text` writes values as they are, `json` whole events: {topic, partition, offset, timestamp, key, value,
    /// headers: [{name, value}]}, with what isn't UTF-8 as {"base64": …}
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

pub(super) fn run(args: &ConsumeArgs) -> Result<Exit, Failure> {
    let endpoint = args.connect.endpoint()?;
    let consumer = connect(&endpoint)?;
    let partitions = assign(args, &endpoint, &consumer)?;
    match copy(args, &consumer, partitions, &mut io::BufWriter::new(io::stdout().lock())) {
        // Whoever reads has seen enough, as `head` has.
        Err(Stop::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Exit::Done),
        Err(Stop::Output(error)) => Err(error.into()),
        Err(Stop::Client(error)) => Err(Failure::failed(error)),
        Ok(()) => Ok(Exit::Done),
    }
}

/// Why the copying ended early.
enum Stop {
    Output(io::Error),
    Client(KafkaError),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Stop::Output(error)
    }
}

fn connect(endpoint: &Endpoint) -> Result<BaseConsumer<Context>, Failure> {
    let mut config = endpoint.client();
    // librdkafka reads partitions by hand only where there is a group's name; nothing is ever committed in it.
    config
        .set("group.id", "midplane-topic-consume")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "error")
        .set("enable.partition.eof", "true")
        .set("isolation.level", "read_committed");
    config.create_with_context(Context::default()).map_err(Failure::usage)
}

/// Takes every partition of the topic, from where the arguments say.
fn assign(args: &ConsumeArgs, endpoint: &Endpoint, consumer: &BaseConsumer<Context>) -> Result<BTreeSet<i32>, Failure> {
    let topic = args.topic.as_str();
    let metadata = endpoint.metadata(Some(topic))?;
    let partitions = super::exists(&metadata, topic)?;
    let mut list = TopicPartitionList::new();
    for &partition in &partitions {
        let (first, next) = consumer
            .fetch_watermarks(topic, partition, endpoint.timeout())
            .map_err(|error| endpoint.unreachable(consumer.context(), &error))?;
        let start = if args.from_beginning { first } else { next };
        list.add_partition_offset(topic, partition, Offset::Offset(start)).map_err(Failure::failed)?;
    }
    consumer.assign(&list).map_err(Failure::failed)?;
    Ok(partitions)
}

/// Writes events until the arguments say that it is enough.
fn copy(
    args: &ConsumeArgs,
    consumer: &BaseConsumer<Context>,
    mut unread: BTreeSet<i32>,
    out: &mut impl Write,
) -> Result<(), Stop> {
    let mut events = 0;
    while args.max_events.is_none_or(|max| events < max) && !(args.until_end && unread.is_empty()) {
        match consumer.poll(FLUSH_INTERVAL) {
            None => out.flush()?,
            Some(Ok(message)) => {
                events += 1;
                write_event(args, &message, out)?;
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                unread.remove(&partition);
                out.flush()?;
            }
            Some(Err(error)) if fatal(&error) => return Err(Stop::Client(error)),
            // The client tries again by itself.
            Some(Err(error)) => tracing::warn!(%error, "Reading goes on."),
        }
    }
    out.flush()?;
    Ok(())
}

/// Whether it is of no use to go on reading.
fn fatal(error: &KafkaError) -> bool {
    use rdkafka::error::RDKafkaErrorCode::{
        AutoOffsetReset, Fatal, TopicAuthorizationFailed, UnknownPartition, UnknownTopic, UnknownTopicOrPartition,
    };
    matches!(
        error.rdkafka_error_code(),
        Some(
            AutoOffsetReset
                | Fatal
                | TopicAuthorizationFailed
                | UnknownPartition
                | UnknownTopic
                | UnknownTopicOrPartition
        )
    )
}

fn write_event(args: &ConsumeArgs, message: &BorrowedMessage<'_>, out: &mut impl Write) -> Result<(), io::Error> {
    match args.output {
        Output::Text => {
            if let Some(separator) = &args.key_separator {
                out.write_all(message.key().unwrap_or_default())?;
                out.write_all(separator.as_bytes())?;
            }
            out.write_all(message.payload().unwrap_or_default())?;
        }
        Output::Json => serde_json::to_writer(&mut *out, &record(message))?,
    }
    out.write_all(b"\n")
}

fn record<'a>(message: &'a BorrowedMessage<'_>) -> Record<'a> {
    Record {
        topic: message.topic(),
        partition: message.partition(),
        offset: message.offset(),
        timestamp: message.timestamp().to_millis(),
        key: message.key().map(Bytes),
        value: message.payload().map(Bytes),
        headers: headers_of(message)
            .iter()
            .map(|header| Header { name: Bytes(header.name), value: header.value.map(Bytes) })
            .collect(),
    }
}
