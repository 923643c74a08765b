//! `midplane topic produce`: lines of standard input become events, and exit code 0 means that the broker has all of them.

use std::io::BufRead;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use clap::Args;
use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};

use super::super::connect::{ConnectArgs, Context, Endpoint};
use super::super::{Exit, Failure};

/// How long a full queue is given to take the next line.
const QUEUE_WAIT: Duration = Duration::from_millis(100);

/// `midplane topic produce`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  echo '{\"amount\": 12}' | midplane topic produce payments
  echo 'card-7|{\"amount\": 12}' | midplane topic produce payments --key-separator '|'
  midplane topic produce payments --header ce_type=payment.captured <events.jsonl")]
pub(super) struct ProduceArgs {
    #[command(flatten)]
    connect: ConnectArgs,

    /// The topic
    topic: String,

    /// What comes before it in a line is the event's key; a line without it has none
    #[arg(long, value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    key_separator: Option<String>,

    /// A header of every event; repeatable
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = super::pair)]
    headers: Vec<(String, String)>,

    /// The partition of every event; default: by the key, as Java's clients do
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,
}

pub(super) fn run(args: &ProduceArgs) -> Result<Exit, Failure> {
    let endpoint = args.connect.endpoint()?;
    super::exists(&endpoint.metadata(Some(&args.topic))?, &args.topic)?;
    let producer = connect(&endpoint)?;
    let headers = args.headers.iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
        headers.insert(Header { key, value: Some(value.as_bytes()) })
    });
    let headers = (!args.headers.is_empty()).then_some(headers);
    let sent = send_lines(args, &producer, headers.as_ref(), std::io::stdin().lock());
    // Whatever stopped the reading, what was read before it is delivered, or said not to be.
    producer.flush(endpoint.timeout()).map_err(|error| delivery_failure(&endpoint, &producer, &error))?;
    let context = producer.context();
    if let Some(error) = context.first_failure() {
        return Err(delivery_failure(&endpoint, &producer, &error));
    }
    sent?;
    Ok(Exit::Done)
}

fn connect(endpoint: &Endpoint) -> Result<ThreadedProducer<Deliveries>, Failure> {
    let mut config: ClientConfig = endpoint.client();
    config
        .set("enable.idempotence", "true")
        .set("partitioner", "murmur2_random")
        // Lines without a key are spread over the partitions one by one: a few of them would else all land on one.
        .set("sticky.partitioning.linger.ms", "0")
        // What is too large is the broker's to say, and differs between topics.
        .set("message.max.bytes", "100000000")
        .set("message.timeout.ms", endpoint.timeout().as_millis().max(1).to_string());
    config.create_with_context(Deliveries::default()).map_err(Failure::usage)
}

/// Sends until the input ends or an event fails, and waits where the client's queue is full.
fn send_lines(
    args: &ProduceArgs,
    producer: &ThreadedProducer<Deliveries>,
    headers: Option<&OwnedHeaders>,
    mut input: impl BufRead,
) -> Result<(), Failure> {
    let mut line = Vec::new();
    for number in 1_u64.. {
        line.clear();
        if input.read_until(b'\n', &mut line)? == 0 || producer.context().first_failure().is_some() {
            break;
        }
        let (key, value) = split(line.strip_suffix(b"\n").unwrap_or(&line), args.key_separator.as_deref());
        let mut record = BaseRecord::<[u8], [u8]>::to(&args.topic).payload(value);
        record.key = key;
        record.partition = args.partition;
        record.headers = headers.cloned();
        while let Err((error, again)) = producer.send(record) {
            if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                return Err(Failure::failed(format!("line {number} can't be sent: {error}")));
            }
            record = again;
            producer.poll(QUEUE_WAIT);
        }
    }
    Ok(())
}

/// A line's key, if it has one, and its value.
fn split<'a>(line: &'a [u8], separator: Option<&str>) -> (Option<&'a [u8]>, &'a [u8]) {
    let Some(separator) = separator.map(str::as_bytes) else {
        return (None, line);
    };
    match line.windows(separator.len()).position(|window| window == separator) {
        Some(at) => (Some(&line[..at]), &line[at + separator.len()..]),
        None => (None, line),
    }
}

fn delivery_failure(endpoint: &Endpoint, producer: &ThreadedProducer<Deliveries>, error: &KafkaError) -> Failure {
    let context = producer.context();
    let (delivered, failed) = (context.delivered.load(Ordering::Relaxed), context.failed.load(Ordering::Relaxed));
    let said = format!("{delivered} events were delivered, {failed} were not");
    match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::MessageTimedOut | RDKafkaErrorCode::OperationTimedOut) => {
            endpoint.unreachable(&context.client, &said)
        }
        _ => Failure::failed(format!("{said}: {error}")),
    }
}

/// Counts what became of the events.
#[derive(Debug, Default)]
struct Deliveries {
    client: Context,
    delivered: AtomicU64,
    failed: AtomicU64,
    first_failure: Mutex<Option<KafkaError>>,
}

impl Deliveries {
    fn first_failure(&self) -> Option<KafkaError> {
        if self.failed.load(Ordering::Acquire) == 0 {
            return None;
        }
        self.first_failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.client.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.client.error(error, reason);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        match result {
            Ok(_) => {
                self.delivered.fetch_add(1, Ordering::Relaxed);
            }
            Err((error, _)) => {
                self.first_failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| error.clone());
                self.failed.fetch_add(1, Ordering::Release);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_split_at_its_first_separator() {
        let check = |line: &str, separator: Option<&str>, key: Option<&str>, value: &str| {
            assert_eq!(split(line.as_bytes(), separator), (key.map(str::as_bytes), value.as_bytes()), "{line}");
        };
        check("a:b", None, None, "a:b");
        check("a:b:c", Some(":"), Some("a"), "b:c");
        check("a||b", Some("||"), Some("a"), "b");
        check(":b", Some(":"), Some(""), "b");
        check("a:", Some(":"), Some("a"), "");
        check("ab", Some(":"), None, "ab");
        check("", Some(":"), None, "");
    }
}
