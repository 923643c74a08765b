//! How the clients are set: what an operator may add, and what Midplane decides itself and nobody may override.
//!
//! The figures are measured ones: small buffers keep the working set in the caches, and with small buffers a consumer
//! that waits out the default `fetch.queue.backoff.ms` of one second stands still most of the time.

use std::collections::BTreeMap;
use std::time::Duration;

/// What every client of one broker has in common.
#[derive(Clone)]
pub struct Connection {
    /// `host:port,host:port`
    pub bootstrap: String,
    /// Settings of librdkafka's by the operator (security, sockets). Those that Midplane decides win over them.
    pub client: BTreeMap<String, String>,
}

impl Connection {
    /// Whether an operator has records compressed: then only the broker can tell whether one is too large.
    pub fn compresses(&self) -> bool {
        ["compression.type", "compression.codec"]
            .iter()
            .any(|name| self.client.get(*name).is_some_and(|it| it != "none"))
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("bootstrap", &self.bootstrap).field("client", &self.client.keys()).finish()
    }
}

/// What a [`super::Consumer`] needs.
#[derive(Debug, Clone)]
pub struct ConsumerSettings {
    /// Where.
    pub connection: Connection,
    /// The consumer group, as it is.
    pub group: String,
    /// Unique for each member, else assignments are shuffled with each rebalance.
    pub client_id: String,
    /// How much is fetched ahead for the whole shard; one fetch a broker comes on top.
    pub buffer_bytes: usize,
}

/// What a [`super::Producer`] needs.
#[derive(Debug, Clone)]
pub struct ProducerSettings {
    /// Where.
    pub connection: Connection,
    /// Names it to the broker.
    pub client_id: String,
    /// Its name as one that writes transactions, which it takes over from whoever had it; none for one that doesn't.
    pub transactional_id: Option<String>,
    /// How much waits to be sent, at most; then [`super::ProduceError::Full`].
    pub buffer_bytes: usize,
    /// The largest record that is tried; what a topic takes is the topic's own setting.
    pub record_bytes_max: usize,
    /// The largest batch that records are gathered into: a topic refuses a batch that is larger than it takes whole, the
    /// small records in it too. A record that is larger goes alone.
    pub batch_bytes_max: usize,
}

/// What [`super::Topics`] needs.
#[derive(Debug, Clone)]
pub struct AdminSettings {
    /// Where.
    pub connection: Connection,
    /// Names it to the broker.
    pub client_id: String,
}

/// 8 MiB: more costs more CPU for the same events.
pub const CONSUMER_BUFFER_BYTES: usize = 8 << 20;
/// 16 MiB: more costs more CPU for the same events.
pub const PRODUCER_BUFFER_BYTES: usize = 16 << 20;
/// How long a transaction may take: shorter than a session, so that what a host leaves behind that has gone is not waited for
/// longer than for the host.
pub const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(8);
/// How long the client of a transactional producer waits before it sends a request again that wasn't answered: an end of a
/// transaction that took less was sent once. It waits 20% less than this at times.
pub const RETRY_BACKOFF: Duration = Duration::from_millis(250);
/// How long the broker may take for one request of a transactional producer's. Calls that can't be bounded otherwise last as long.
const CALL_TIMEOUT: Duration = Duration::from_secs(3);
/// After how long without a word a transactional producer's connection is closed. Where a group's coordinator was refused a few
/// times, or has gone for good, adding positions to a transaction waits without end, and looks again only when a connection
/// comes or goes (2.12.1, `rd_kafka_coord_req`). So idle ones go, later than any transaction ends. Where nothing was written
/// for longer, the next transaction connects anew, and a broker that takes 200 ms for that makes it a suspect one.
const CONNECTION_IDLE: Duration = Duration::from_secs(15);
/// The largest record tried by default: the topic's `max.message.bytes` decides long before.
pub const RECORD_BYTES_MAX: usize = 64 << 20;

/// 1 MB: more costs more memory for the same events.
pub const BATCH_BYTES_MAX: usize = 1_000_000;

type Pairs = BTreeMap<String, String>;

fn with(connection: &Connection, client_id: &str, defaults: &[(&str, String)], owned: &[(&str, &str)]) -> Pairs {
    let mut pairs: Pairs = defaults.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    pairs.extend(connection.client.iter().map(|(name, value)| (name.clone(), value.clone())));
    pairs.insert("bootstrap.servers".to_owned(), connection.bootstrap.clone());
    pairs.insert("client.id".to_owned(), client_id.to_owned());
    pairs.extend(owned.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    pairs
}

const BATCH_SIZE: &str = "batch.size";

/// What an operator may override, for all kinds of clients.
fn common() -> Vec<(&'static str, String)> {
    vec![
        // A broker that is back is found within a second or two; the default is up to ten.
        ("reconnect.backoff.max.ms", "2000".to_owned()),
        ("socket.keepalive.enable", "true".to_owned()),
        // A typing error in a route makes no topic.
        ("allow.auto.create.topics", "false".to_owned()),
    ]
}

impl ConsumerSettings {
    pub(super) fn pairs(&self) -> Pairs {
        let bytes = self.buffer_bytes.max(64 << 10);
        let mut defaults = common();
        defaults.extend([
            ("session.timeout.ms", "10000".to_owned()),
            ("heartbeat.interval.ms", "3000".to_owned()),
            // Partitions that are added are seen within this time.
            ("topic.metadata.refresh.interval.ms", "10000".to_owned()),
            ("fetch.queue.backoff.ms", "10".to_owned()),
            ("fetch.error.backoff.ms", "100".to_owned()),
            // A fetch that leaves a busy partition out, whose records are still queued, holds up the next one while there is
            // nothing in all others: not for half a second.
            ("fetch.wait.max.ms", "100".to_owned()),
            // Each fetch costs something for each partition that is assigned, so that one busy among many idle ones takes
            // larger bites. `fetch.max.bytes` bounds them all together.
            ("fetch.message.max.bytes", bytes.clamp(1 << 20, 4 << 20).to_string()),
            ("queued.max.messages.kbytes", (bytes >> 10).to_string()),
            // A response with less than this is a whole one: a fetch over thousands of partitions stays bounded. A record
            // that is larger comes alone.
            ("fetch.max.bytes", bytes.clamp(1 << 20, 64 << 20).to_string()),
        ]);
        let owned = [
            ("group.id", self.group.as_str()),
            // The new protocol of groups has errors under exactly-once, and librdkafka's of it ends clients.
            ("group.protocol", "classic"),
            ("partition.assignment.strategy", "cooperative-sticky"),
            // Where to begin is decided by the host, once, and committed.
            ("auto.offset.reset", "error"),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            // Its offset passes control records, which are never delivered.
            ("enable.partition.eof", "true"),
            ("isolation.level", "read_committed"),
            ("check.crcs", "true"),
        ];
        with(&self.connection, &self.client_id, &defaults, &owned)
    }
}

impl ProducerSettings {
    /// The largest batch that records are gathered into: an operator may ask for smaller ones, but not for larger ones than
    /// the topics take.
    pub fn batch_bytes(&self) -> usize {
        let asked = self.connection.client.get(BATCH_SIZE).and_then(|bytes| bytes.parse().ok());
        asked.unwrap_or(BATCH_BYTES_MAX).min(self.batch_bytes_max).max(1)
    }

    pub(super) fn pairs(&self) -> Pairs {
        let mut defaults = common();
        defaults.extend([
            ("linger.ms", "5".to_owned()),
            (BATCH_SIZE, BATCH_BYTES_MAX.to_string()),
            ("batch.num.messages", "10000".to_owned()),
            // The producer counts bytes by itself, keys included, and lets a record pass alone that is larger than the buffer.
            (
                "queue.buffering.max.kbytes",
                ((self.buffer_bytes + self.record_bytes_max) >> 10).max(1 << 10).to_string(),
            ),
            ("queue.buffering.max.messages", "100000".to_owned()),
            ("message.max.bytes", self.record_bytes_max.clamp(1_000_000, 1_000_000_000).to_string()),
        ]);
        let timeout = TRANSACTION_TIMEOUT.as_millis().to_string();
        let backoff = RETRY_BACKOFF.as_millis().to_string();
        let call = CALL_TIMEOUT.as_millis().to_string();
        let idle = CONNECTION_IDLE.as_millis().to_string();
        let mut owned = vec![
            ("enable.idempotence", "true"),
            ("acks", "all"),
            // Java's: the same key meets its partition, whoever wrote it.
            ("partitioner", "murmur2_random"),
        ];
        match &self.transactional_id {
            // Never: a record that times out leaves a gap, and sent again it comes too late.
            None => owned.push(("message.timeout.ms", "0")),
            // What times out is aborted with the rest.
            Some(id) => owned.extend([
                ("transactional.id", id.as_str()),
                ("transaction.timeout.ms", &timeout),
                ("message.timeout.ms", &timeout),
                ("socket.timeout.ms", &call),
                ("connections.max.idle.ms", &idle),
                ("retry.backoff.ms", &backoff),
                ("retry.backoff.max.ms", "1000"),
            ]),
        }
        let mut pairs = with(&self.connection, &self.client_id, &defaults, &owned);
        // What is no number the client refuses.
        if pairs[BATCH_SIZE].parse::<usize>().is_ok() {
            pairs.insert(BATCH_SIZE.to_owned(), self.batch_bytes().to_string());
        }
        pairs
    }
}

impl AdminSettings {
    pub(super) fn pairs(&self) -> Pairs {
        with(&self.connection, &self.client_id, &common(), &[("isolation.level", "read_committed")])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn consumer(client: &[(&str, &str)]) -> Pairs {
        let client = client.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        ConsumerSettings {
            connection: Connection { bootstrap: "127.0.0.1:1".to_owned(), client },
            group: "g".to_owned(),
            client_id: "c".to_owned(),
            buffer_bytes: CONSUMER_BUFFER_BYTES,
        }
        .pairs()
    }

    #[test]
    fn an_operator_overrides_what_is_a_default_and_nothing_that_is_owned() {
        let check = |name: &str, value: &str, expected: &str| {
            assert_eq!(consumer(&[(name, value)])[name], expected, "{name}");
        };
        check("session.timeout.ms", "6000", "6000");
        check("security.protocol", "ssl", "ssl");
        check("auto.offset.reset", "latest", "error");
        check("isolation.level", "read_uncommitted", "read_committed");
        check("bootstrap.servers", "elsewhere:1", "127.0.0.1:1");
    }

    #[test]
    fn batches_are_no_larger_than_any_topic_takes() {
        let check = |asked: Option<&str>, batch_bytes_max: usize, expected: &str| {
            let asked = asked.map(|bytes| ("batch.size".to_owned(), bytes.to_owned()));
            let client = asked.into_iter().collect();
            let settings = ProducerSettings {
                connection: Connection { bootstrap: "127.0.0.1:1".to_owned(), client },
                client_id: "c".to_owned(),
                transactional_id: None,
                buffer_bytes: PRODUCER_BUFFER_BYTES,
                record_bytes_max: RECORD_BYTES_MAX,
                batch_bytes_max,
            };
            assert_eq!(settings.pairs()["batch.size"], expected);
        };
        check(None, usize::MAX, "1000000");
        check(None, 2000, "2000");
        check(Some("500"), 2000, "500");
        check(Some("3000"), 2000, "2000");
        check(Some("3000"), usize::MAX, "3000");
    }

    #[test]
    fn secrets_are_not_shown() {
        let client = BTreeMap::from([("sasl.password".to_owned(), "hunter2".to_owned())]);
        let shown = format!("{:?}", Connection { bootstrap: "b:1".to_owned(), client });
        assert!(shown.contains("sasl.password") && !shown.contains("hunter2"), "{shown}");
    }
}
