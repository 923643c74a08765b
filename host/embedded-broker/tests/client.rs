//! The broker under a real client, librdkafka: what is written is read, groups share, and nothing that was acknowledged is
//! lost.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use midplane_embedded_broker::{Broker, Settings, TopicSettings};
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Headers, Message, OwnedHeaders, OwnedMessage};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

#[path = "client/transactions.rs"]
mod transactions;
#[path = "client/versions.rs"]
mod versions;

/// How long anything may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(60);

async fn start(folder: &Path, topics: &[(&str, u32)]) -> Broker {
    let topics =
        topics.iter().map(|&(name, partitions)| (name.to_owned(), TopicSettings { partitions, compacted: false }));
    let settings = Settings {
        listen: "127.0.0.1:0".parse().unwrap(),
        data_directory: folder.to_owned(),
        topics: topics.collect(),
        ..Settings::default()
    };
    Broker::start(settings).await.expect("starts")
}

fn config(servers: &str, more: &[(&str, &str)]) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", servers);
    for (name, value) in more {
        config.set(*name, *value);
    }
    config
}

fn producer(servers: &str, more: &[(&str, &str)]) -> BaseProducer {
    config(servers, more).create().unwrap()
}

/// A consumer of a topic from its start, in no group.
fn reader(servers: &str, topic: &str, partitions: i32) -> BaseConsumer {
    let consumer: BaseConsumer =
        config(servers, &[("group.id", "unused"), ("enable.auto.commit", "false")]).create().unwrap();
    let mut all = TopicPartitionList::new();
    for partition in 0..partitions {
        all.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
    }
    consumer.assign(&all).unwrap();
    consumer
}

fn read(consumer: &BaseConsumer, count: usize) -> Vec<OwnedMessage> {
    let deadline = Instant::now() + PATIENCE;
    let mut found = Vec::new();
    while found.len() < count {
        assert!(Instant::now() < deadline, "only {} of {count} came", found.len());
        if let Some(message) = consumer.poll(Duration::from_millis(100)) {
            found.push(message.expect("a record").detach());
        }
    }
    found
}

fn send(producer: &BaseProducer, topic: &str, values: impl IntoIterator<Item = String>) {
    for value in values {
        loop {
            match producer.send(BaseRecord::<(), _>::to(topic).partition(0).payload(&value)) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                    producer.poll(Duration::from_millis(10));
                }
                Err((error, _)) => panic!("{error}"),
            }
        }
    }
    producer.flush(PATIENCE).expect("all acknowledged");
}

fn values(messages: &[OwnedMessage]) -> Vec<String> {
    messages.iter().map(|message| String::from_utf8(message.payload().unwrap().to_vec()).unwrap()).collect()
}

/// Runs what blocks apart from the broker's tasks.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_come_back_as_they_were_sent_with_every_compression() {
    let folder = tempfile::tempdir().unwrap();
    let broker = start(folder.path(), &[("t", 1)]).await;
    let servers = broker.bootstrap_servers();
    blocking(move || {
        for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
            let producer = producer(&servers, &[("compression.codec", codec), ("linger.ms", "20")]);
            for n in 0..20 {
                let text = format!("{codec} {n} {}", "x".repeat(100));
                let headers = OwnedHeaders::new()
                    .insert(Header { key: "codec", value: Some(codec) })
                    .insert(Header { key: "codec", value: None::<&str> });
                let record = BaseRecord::to("t").timestamp(1000 + n).headers(headers);
                let sent = if n == 0 {
                    producer.send(record.key("k").payload(""))
                } else {
                    producer.send(record.key("").payload(&text))
                };
                sent.map_err(|(error, _)| error).unwrap();
            }
            producer.send(BaseRecord::<(), ()>::to("t")).map_err(|(error, _)| error).unwrap();
            producer.flush(PATIENCE).unwrap();
        }
        let found = read(&reader(&servers, "t", 1), 5 * 21);
        for (n, message) in found.iter().enumerate() {
            assert_eq!(message.offset(), n as i64);
            if n % 21 == 20 {
                assert_eq!((message.key(), message.payload()), (None, None));
                continue;
            }
            assert_eq!(message.timestamp().to_millis(), Some(1000 + (n % 21) as i64));
            let headers: Vec<_> = message.headers().unwrap().iter().map(|header| (header.key, header.value)).collect();
            let codec = ["none", "gzip", "snappy", "lz4", "zstd"][n / 21];
            assert_eq!(headers, [("codec", Some(codec.as_bytes())), ("codec", None)]);
        }
        assert_eq!(found[0].key(), Some(&b"k"[..]));
        assert_eq!(found[0].payload(), Some(&b""[..]));
    })
    .await;
    broker.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_large_or_unknown_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let broker = start(folder.path(), &[("t", 1)]).await;
    let servers = broker.bootstrap_servers();
    blocking(move || {
        let consumer: BaseConsumer = config(&servers, &[]).create().unwrap();
        let missing = consumer.fetch_metadata(Some("missing"), PATIENCE).unwrap();
        assert!(missing.topics()[0].error().is_some() && missing.topics()[0].partitions().is_empty());
        let all = consumer.fetch_metadata(None, PATIENCE).unwrap();
        assert_eq!(all.topics().iter().map(|topic| topic.name()).collect::<Vec<_>>(), ["t"]);
        use rdkafka::producer::{DeliveryResult, ProducerContext};
        struct Outcome(std::sync::mpsc::Sender<Option<KafkaError>>);
        impl rdkafka::ClientContext for Outcome {}
        impl ProducerContext for Outcome {
            type DeliveryOpaque = ();
            fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
                self.0.send(result.as_ref().err().map(|(error, _)| error.clone())).unwrap();
            }
        }
        let (sender, outcomes) = std::sync::mpsc::channel();
        let large: BaseProducer<Outcome> =
            config(&servers, &[("message.max.bytes", "9000000")]).create_with_context(Outcome(sender)).unwrap();
        large.send(BaseRecord::<(), _>::to("t").payload(&vec![7_u8; 2_000_000])).map_err(|(error, _)| error).unwrap();
        large.flush(PATIENCE).unwrap();
        let outcome = outcomes.recv_timeout(PATIENCE).unwrap().and_then(|error| error.rdkafka_error_code());
        assert_eq!(outcome, Some(RDKafkaErrorCode::MessageSizeTooLarge));
    })
    .await;
    broker.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_are_made_grown_described_and_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let broker = start(folder.path(), &[]).await;
    let servers = broker.bootstrap_servers();
    let admin: AdminClient<DefaultClientContext> = config(&servers, &[]).create().unwrap();
    let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
    let new = |name, partitions| NewTopic::new(name, partitions, TopicReplication::Fixed(1));
    let made = admin.create_topics(&[new("a", 2), new("b", 1)], &options).await.unwrap();
    assert_eq!(made, [Ok("a".to_owned()), Ok("b".to_owned())]);
    let again =
        admin.create_topics(&[new("a", 2), new("c", 1).set("cleanup.policy", "compact")], &options).await.unwrap();
    assert_eq!(again[0], Err(("a".to_owned(), RDKafkaErrorCode::TopicAlreadyExists)));
    assert_eq!(again[1], Err(("c".to_owned(), RDKafkaErrorCode::InvalidConfig)));
    let grown = admin.create_partitions(&[NewPartitions::new("a", 5)], &options).await.unwrap();
    assert_eq!(grown, [Ok("a".to_owned())]);
    let described = admin.describe_configs([&ResourceSpecifier::Topic("a")], &options).await.unwrap();
    let settings = described.into_iter().next().unwrap().unwrap();
    let policy = settings.get("cleanup.policy").and_then(|entry| entry.value.clone());
    assert_eq!(policy.as_deref(), Some("delete"));
    assert_eq!(admin.delete_topics(&["b"], &options).await.unwrap(), [Ok("b".to_owned())]);
    broker.shutdown().await.unwrap();
    let broker = start(folder.path(), &[("a", 3)]).await;
    let servers = broker.bootstrap_servers();
    let partitions = blocking(move || {
        let consumer: BaseConsumer = config(&servers, &[]).create().unwrap();
        let metadata = consumer.fetch_metadata(None, PATIENCE).unwrap();
        metadata.topics().iter().map(|topic| (topic.name().to_owned(), topic.partitions().len())).collect::<Vec<_>>()
    })
    .await;
    assert_eq!(partitions, [("a".to_owned(), 5)], "never shrunk");
    broker.shutdown().await.unwrap();
}

/// A member of a group that keeps what it was assigned.
fn member(servers: &str) -> BaseConsumer {
    let settings = [
        ("group.id", "g"),
        ("partition.assignment.strategy", "cooperative-sticky"),
        ("enable.auto.commit", "false"),
        ("auto.offset.reset", "earliest"),
        ("heartbeat.interval.ms", "100"),
        ("session.timeout.ms", "6000"),
    ];
    let consumer: BaseConsumer = config(servers, &settings).create().unwrap();
    consumer.subscribe(&["t"]).unwrap();
    consumer
}

fn assigned(consumer: &BaseConsumer) -> BTreeSet<i32> {
    consumer.assignment().unwrap().elements().iter().map(|element| element.partition()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_members_share_and_one_takes_over() {
    let folder = tempfile::tempdir().unwrap();
    let broker = start(folder.path(), &[("t", 4)]).await;
    let servers = broker.bootstrap_servers();
    blocking(move || {
        let until = |members: &[&BaseConsumer], expected: &[usize]| {
            let deadline = Instant::now() + PATIENCE;
            while members.iter().map(|member| assigned(member).len()).collect::<Vec<_>>() != expected {
                assert!(
                    Instant::now() < deadline,
                    "{:?}",
                    members.iter().map(|member| assigned(member)).collect::<Vec<_>>()
                );
                for member in members {
                    assert!(member.poll(Duration::from_millis(20)).is_none_or(|message| message.is_ok()));
                }
            }
        };
        let first = member(&servers);
        until(&[&first], &[4]);
        let second = member(&servers);
        until(&[&first, &second], &[2, 2]);
        assert_eq!(assigned(&first).union(&assigned(&second)).count(), 4);
        let groups = first.fetch_group_list(Some("g"), PATIENCE).unwrap();
        assert_eq!((groups.groups()[0].state(), groups.groups()[0].members().len()), ("Stable", 2));
        drop(first);
        until(&[&second], &[4]);
    })
    .await;
    broker.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn committed_offsets_and_records_survive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let broker = start(folder.path(), &[("t", 1)]).await;
    let servers = broker.bootstrap_servers();
    blocking(move || {
        send(&producer(&servers, &[]), "t", (0..100).map(|n| n.to_string()));
        let consumer = member(&servers);
        read(&consumer, 40);
        let mut offsets = TopicPartitionList::new();
        offsets.add_partition_offset("t", 0, Offset::Offset(40)).unwrap();
        offsets.find_partition("t", 0).unwrap().set_metadata("a note");
        consumer.commit(&offsets, CommitMode::Sync).unwrap();
        let outsider: BaseConsumer = config(&servers, &[("group.id", "g")]).create().unwrap();
        let refused = outsider.commit(&offsets, CommitMode::Sync).unwrap_err();
        assert_eq!(refused.rdkafka_error_code(), Some(RDKafkaErrorCode::UnknownMemberId));
    })
    .await;
    broker.shutdown().await.unwrap();
    let broker = start(folder.path(), &[("t", 1)]).await;
    let servers = broker.bootstrap_servers();
    blocking(move || {
        let outsider: BaseConsumer = config(&servers, &[("group.id", "g")]).create().unwrap();
        let mut asked = TopicPartitionList::new();
        asked.add_partition("t", 0);
        let committed = outsider.committed_offsets(asked.clone(), PATIENCE).unwrap();
        let found = committed.find_partition("t", 0).unwrap();
        assert_eq!((found.offset(), found.metadata()), (Offset::Offset(40), "a note"));
        let found = values(&read(&member(&servers), 60));
        assert_eq!(found, (40..100).map(|n| n.to_string()).collect::<Vec<_>>());
        asked.find_partition("t", 0).unwrap().set_offset(Offset::Offset(0)).unwrap();
        let by_time = outsider.offsets_for_times(asked, PATIENCE).unwrap();
        assert_eq!(by_time.find_partition("t", 0).unwrap().offset(), Offset::Offset(0));
        assert_eq!(outsider.fetch_watermarks("t", 0, PATIENCE).unwrap(), (0, 100));
    })
    .await;
    broker.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_requests_cost_only_their_connection() {
    use std::io::{Read, Write};
    let folder = tempfile::tempdir().unwrap();
    let broker = start(folder.path(), &[("t", 1)]).await;
    let (address, servers) = (broker.address(), broker.bootstrap_servers());
    blocking(move || {
        let announced_too_long = [0x7f, 0xff, 0xff, 0xff].to_vec();
        let unknown_key = [&[0, 0, 0, 8], &[0x03, 0xe7, 0, 0][..], &[0, 0, 0, 1]].concat();
        // Metadata, version 1, a null client id, and two billion topics.
        let countless = [&[0, 0, 0, 14, 0, 3, 0, 1, 0, 0, 0, 1][..], &[0xff, 0xff, 0x7f, 0xff, 0xff, 0xff]].concat();
        for bytes in [announced_too_long, unknown_key, countless] {
            let mut stream = std::net::TcpStream::connect(address).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.write_all(&bytes).unwrap();
            let answered = stream.read(&mut [0; 16]);
            let closed = match &answered {
                Ok(bytes) => *bytes == 0,
                Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
            };
            assert!(closed, "{bytes:?} was answered: {answered:?}");
        }
        send(&producer(&servers, &[]), "t", ["still here".to_owned()]);
        assert_eq!(values(&read(&reader(&servers, "t", 1), 1)), ["still here"]);
    })
    .await;
    broker.shutdown().await.unwrap();
}

const CHILD_FOLDER: &str = "EMBEDDED_BROKER_TEST_FOLDER";
const CHILD_PORT: &str = "EMBEDDED_BROKER_TEST_PORT";

/// Not a test of its own: the broker of the test below, in a process that can be killed.
#[test]
fn child() {
    let Some(folder) = std::env::var_os(CHILD_FOLDER) else { return };
    let port: u16 = std::env::var(CHILD_PORT).unwrap().parse().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let settings = Settings {
            listen: ([127, 0, 0, 1], port).into(),
            data_directory: folder.into(),
            topics: [("t", 1), ("u", 2)]
                .map(|(name, partitions)| (name.to_owned(), TopicSettings { partitions, compacted: false }))
                .into(),
            ..Settings::default()
        };
        let broker = Broker::start(settings).await.expect("starts");
        eprintln!("listens on {}", broker.address());
        std::future::pending::<()>().await;
    });
}

/// A broker in a process of its own, killed when dropped.
struct Process(Child, String);

impl Process {
    fn start(folder: &Path, port: u16) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture", "--test-threads=1"])
            .env(CHILD_FOLDER, folder)
            .env(CHILD_PORT, port.to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = lines.map_while(Result::ok).find_map(|line| Some(line.strip_prefix("listens on ")?.to_owned()));
        Self(child, address.expect("the child listens"))
    }

    fn port(&self) -> u16 {
        self.1.rsplit_once(':').unwrap().1.parse().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// An idempotent producer goes on over kills of the broker: each record is there once, in order, however often the
/// broker died with requests at hand.
#[test]
fn a_killed_broker_loses_nothing_and_stores_nothing_twice() {
    let folder = tempfile::tempdir().unwrap();
    let mut process = Process::start(folder.path(), 0);
    let port = process.port();
    let producer = producer(
        &process.1,
        &[("enable.idempotence", "true"), ("linger.ms", "1"), ("reconnect.backoff.max.ms", "100")],
    );
    let mut sent = 0_usize;
    let mut kills = Vec::new();
    for _ in 0..3 {
        let until = sent + 20_000;
        while sent < until {
            let value = sent.to_string();
            match producer.send(BaseRecord::<(), _>::to("t").partition(0).payload(&value)) {
                Ok(()) => sent += 1,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                    producer.poll(Duration::from_millis(1));
                }
                Err((error, _)) => panic!("{error}"),
            }
        }
        kills.push(producer.in_flight_count());
        drop(process);
        process = Process::start(folder.path(), port);
    }
    assert!(kills.iter().any(|&at_hand| at_hand > 0), "the broker died with records at hand: {kills:?}");
    producer.flush(PATIENCE).expect("all acknowledged");
    let found = values(&read(&reader(&process.1, "t", 1), sent));
    let mut seen = BTreeMap::<&str, usize>::new();
    for value in &found {
        *seen.entry(value).or_default() += 1;
    }
    assert_eq!(seen.len(), sent, "each once");
    assert!(found.iter().enumerate().all(|(n, value)| *value == n.to_string()), "in order");
    let second = tokio::runtime::Runtime::new().unwrap().block_on(async {
        let settings = Settings { data_directory: folder.path().to_owned(), ..Settings::default() };
        Broker::start(settings).await.expect_err("locked").to_string()
    });
    assert!(second.contains(folder.path().to_str().unwrap()) && second.contains("in use"), "{second}");
}
