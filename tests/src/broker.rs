//! The brokers that tests run on: the embedded one, in this process and for one test alone, and Apache Kafka, which all
//! tests share and whose names are therefore unique.

use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::KafkaResult;
use rdkafka::{Offset, TopicPartitionList};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::plugins;
use crate::records::{self, Record};
use crate::wait::{DEADLINE, wait_until};

/// The environment variable that names Apache Kafka's `host:port`. `cargo verify` starts one and sets it.
pub const VARIABLE: &str = "MIDPLANE_TEST_BROKERS";

/// A running broker.
#[derive(Debug)]
pub struct Broker {
    servers: String,
    is_embedded: bool,
    /// How many nodes have a copy of what a topic holds.
    copies: i32,
    running: Option<Embedded>,
}

/// What keeps an embedded broker running. The fields are dropped in this order.
#[derive(Debug)]
struct Embedded {
    _broker: midplane_embedded_broker::Broker,
    data_directory: PathBuf,
    _runtime: Runtime,
    _folder: TempDir,
}

impl Broker {
    /// A new embedded broker, empty, on a free port.
    ///
    /// # Panics
    /// When it doesn't start.
    pub fn embedded() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let data_directory = folder.path().join("broker");
        let settings = midplane_embedded_broker::Settings {
            listen: ([127, 0, 0, 1], 0).into(),
            data_directory: data_directory.clone(),
            ..Default::default()
        };
        let broker = runtime.block_on(midplane_embedded_broker::Broker::start(settings)).expect("an embedded broker");
        let servers = broker.bootstrap_servers();
        Self {
            servers,
            is_embedded: true,
            copies: 1,
            running: Some(Embedded { _broker: broker, data_directory, _runtime: runtime, _folder: folder }),
        }
    }

    /// The Apache Kafka of this run of tests.
    ///
    /// # Panics
    /// When there is none: a test that silently passes without its broker has shown nothing.
    pub fn kafka() -> Self {
        let servers = std::env::var(VARIABLE).unwrap_or_else(|_| {
            panic!("`{VARIABLE}` names no Apache Kafka; `cargo verify` starts one, `--without-kafka` leaves these tests out")
        });
        Self { servers, is_embedded: false, copies: 1, running: None }
    }

    /// One of a test's own, which it may stop: see [`crate::own`].
    pub(crate) fn at(servers: &str, is_embedded: bool, copies: i32) -> Self {
        Self { servers: servers.to_owned(), is_embedded, copies, running: None }
    }

    /// `host:port`, for clients.
    pub fn servers(&self) -> &str {
        &self.servers
    }

    /// Whether it is the embedded one.
    pub fn is_embedded(&self) -> bool {
        self.is_embedded
    }

    /// Where it keeps its logs.
    ///
    /// # Panics
    /// When it isn't the embedded one.
    pub fn data_directory(&self) -> &Path {
        &self.running.as_ref().expect("the embedded broker's folder is known").data_directory
    }

    /// The table of a config that names this broker.
    pub fn toml(&self) -> String {
        format!("[broker]\nbootstrap_servers = \"{}\"\n", self.servers)
    }

    /// The beginning of a config on this broker and with the built plugins. What is added first goes into `[plugins]`.
    ///
    /// # Panics
    /// When the plugins aren't built.
    pub fn config(&self) -> String {
        format!("{}\n[plugins]\ndirectory = '{}'\n", self.toml(), plugins::directory().display())
    }

    /// A name that nothing else on this broker has.
    pub fn unique(&self, stem: &str) -> String {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_millis();
        format!("{stem}-{now:x}-{:x}-{:x}", process::id(), COUNTER.fetch_add(1, Ordering::Relaxed))
    }

    /// A new topic with a unique name.
    ///
    /// # Panics
    /// When it can't be made.
    pub fn topic(&self, stem: &str, partitions: i32) -> String {
        self.topic_with(stem, partitions, &[])
    }

    /// A new topic with a unique name, and settings such as `cleanup.policy`.
    ///
    /// # Panics
    /// When it can't be made.
    pub fn topic_with(&self, stem: &str, partitions: i32, settings: &[(&str, &str)]) -> String {
        let name = self.unique(stem);
        self.create(&name, partitions, settings);
        name
    }

    /// A new topic with this very name.
    ///
    /// # Panics
    /// When it can't be made.
    pub fn create(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) {
        let topic = NewTopic {
            name,
            num_partitions: partitions,
            replication: TopicReplication::Fixed(self.copies),
            config: settings.to_vec(),
        };
        for result in self.ask(|admin, options| admin.create_topics([&topic], options)) {
            result.unwrap_or_else(|(name, error)| panic!("`{name}` can't be made: {error}"));
        }
        // A node that is busy hears later of a topic than whoever made it.
        wait_until("the topic is there", DEADLINE, || {
            records::leaders(&self.servers, name) == Some(partitions as usize)
        });
    }

    /// Deletes a topic: for those so large that they would be a burden to the tests that follow.
    ///
    /// # Panics
    /// When the broker doesn't.
    pub fn delete(&self, topic: &str) {
        for result in self.ask(|admin, options| admin.delete_topics(&[topic], options)) {
            result.unwrap_or_else(|(name, error)| panic!("`{name}` can't be deleted: {error}"));
        }
        // The controller has said so; whoever leads the topic hears of it a little later, and writes to it until then.
        wait_until("the topic is gone", DEADLINE, || records::leaders(&self.servers, topic) == Some(0));
    }

    /// Gives a topic more partitions, so many in all.
    ///
    /// # Panics
    /// When the broker doesn't.
    pub fn grow(&self, topic: &str, partitions: usize) {
        let wanted = NewPartitions::new(topic, partitions);
        for result in self.ask(|admin, options| admin.create_partitions([&wanted], options)) {
            result.unwrap_or_else(|(name, error)| panic!("`{name}` doesn't grow: {error}"));
        }
        wait_until("the partitions are there", DEADLINE, || records::leaders(&self.servers, topic) == Some(partitions));
    }

    /// Gives a topic these settings; all others are as they are by default.
    ///
    /// # Panics
    /// When the broker doesn't.
    pub fn alter(&self, topic: &str, settings: &[(&str, &str)]) {
        let change = AlterConfig::new(ResourceSpecifier::Topic(topic));
        let change = settings.iter().fold(change, |change, (name, value)| change.set(name, value));
        for result in self.ask(|admin, options| admin.alter_configs([&change], options)) {
            result.unwrap_or_else(|(_, error)| panic!("`{topic}` can't be given {settings:?}: {error}"));
        }
    }

    /// Takes the records of a partition from the log that are before an offset.
    ///
    /// # Panics
    /// When the broker doesn't.
    pub fn delete_records(&self, topic: &str, partition: i32, before: i64) {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(before)).expect("an offset");
        let deleted = self.ask(|admin, options| admin.delete_records(&list, options));
        deleted.elements().iter().for_each(|element| element.error().expect("the records are deleted"));
    }

    fn ask<T, F: Future<Output = KafkaResult<T>>>(
        &self,
        question: impl FnOnce(&AdminClient<DefaultClientContext>, &AdminOptions) -> F,
    ) -> T {
        let admin: AdminClient<DefaultClientContext> =
            ClientConfig::new().set("bootstrap.servers", &self.servers).create().expect("an admin client");
        let options = AdminOptions::new().request_timeout(Some(DEADLINE)).operation_timeout(Some(DEADLINE));
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(question(&admin, &options)).expect("the broker answers")
    }

    /// See [`records::produce`].
    ///
    /// # Panics
    /// When the broker doesn't take a record in time.
    pub fn produce(&self, topic: &str, records: impl IntoIterator<Item = Record>) {
        records::produce(&self.servers, topic, records);
    }

    /// See [`records::consume`].
    ///
    /// # Panics
    /// When fewer came in time.
    pub fn consume(&self, topic: &str, count: usize) -> Vec<Record> {
        records::consume(&self.servers, topic, count, DEADLINE)
    }

    /// See [`records::consume_all`].
    ///
    /// # Panics
    /// When the end wasn't reached in time.
    pub fn consume_all(&self, topic: &str) -> Vec<Record> {
        records::consume_all(&self.servers, topic)
    }

    /// See [`records::lag`].
    ///
    /// # Panics
    /// When the broker doesn't say.
    pub fn lag(&self, group: &str, topic: &str) -> i64 {
        records::lag(&self.servers, group, topic)
    }
}
