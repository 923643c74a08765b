//! A host with one route through one plugin, and the commands that an operator gives it.

use std::fs;

use midplane_tests::binary::{self, Finished};
use midplane_tests::wait::{DEADLINE, wait_for};
use midplane_tests::{Broker, Folder, Host, Record, plugins, records};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde_json::Value;

/// What a group may promise.
pub(crate) const GUARANTEES: [&str; 2] = ["at-least-once", "exactly-once"];

/// The folder of a host, and its names on a broker.
pub(crate) struct Case<'b> {
    pub(crate) broker: &'b Broker,
    folder: Folder,
    pub(crate) input: String,
    pub(crate) output: String,
    pub(crate) letters: String,
    pub(crate) group: String,
}

impl<'b> Case<'b> {
    /// A route `tried` from so many partitions through the plugin `subject`, which does what its events order. `failure` is
    /// what its table of that name says beside where its letters go.
    pub(crate) fn new(broker: &'b Broker, guarantee: &str, partitions: i32, failure: &str) -> Self {
        let input = broker.topic("in", partitions);
        let [output, letters] = ["out", "letters"].map(|stem| broker.topic(stem, 1));
        let group = broker.unique("hands");
        // A member that a busy machine gives no time is not missed: repetitions would be right.
        let folder = Folder::new(&format!(
            "{}client = {{ 'session.timeout.ms' = '300000' }}\n[plugins]\ndirectory = 'plugins'\npoll_interval = '100ms'\n[groups.{group}]\nshards = 1\nguarantee = '{guarantee}'\n\
             [routes.tried]\nfrom = '{input}'\nto = '{output}'\nthrough = 'subject'\ngroup = '{group}'\n\
             failure = {{ dead_letter = '{letters}', {failure} }}\n",
            broker.toml()
        ));
        fs::create_dir(folder.path().join("plugins")).expect("a folder");
        let case = Self { broker, folder, input, output, letters, group };
        case.deploy("faulty");
        case
    }

    /// Has one text stand in the config in place of another.
    pub(crate) fn rewrite(&self, from: &str, to: &str) {
        let config = fs::read_to_string(self.folder.config()).expect("a config");
        assert!(config.contains(from), "`{from}` is in the config");
        self.folder.write(&config.replace(from, to));
    }

    /// Makes a built plugin the one that the route runs.
    pub(crate) fn deploy(&self, plugin: &str) {
        let (half, file) = (self.folder.path().join("half"), self.folder.path().join("plugins").join("subject.wasm"));
        fs::copy(plugins::wasm(plugin), &half).and_then(|_| fs::rename(&half, &file)).expect("writable");
    }

    pub(crate) fn start(&self) -> Host {
        self.folder.start()
    }

    /// Writes events that order this to a partition.
    pub(crate) fn produce(&self, partition: i32, values: &[&str]) {
        self.broker.produce(&self.input, values.iter().map(|value| Record::of(value).to(partition)));
    }

    /// Has the command line do something about the host.
    pub(crate) fn command(&self, args: &[&str]) -> Finished {
        let config = self.folder.config();
        let config = config.to_str().expect("a path of text");
        binary::run(&[args, &["--config", config]].concat())
    }

    /// The name of a partition of the input, as commands take it.
    pub(crate) fn partition(&self, partition: i32) -> String {
        format!("{}/{partition}", self.input)
    }

    /// What `partition list` says.
    pub(crate) fn list(&self) -> Value {
        let text = self.command(&["partition", "list", "--output", "json"]).success();
        serde_json::from_str(&text).expect("JSON")
    }

    /// What `partition list` says of a partition.
    pub(crate) fn look(&self, partition: i32) -> Option<Value> {
        let list = self.list();
        let partitions = list["partitions"].as_array().expect("a list").clone();
        partitions.into_iter().find(|it| it["topic"] == *self.input && it["partition"] == partition)
    }

    /// Waits until a partition is in a state, and more holds of it.
    pub(crate) fn wait_for(&self, partition: i32, state: &str, holds: impl Fn(&Value) -> bool) -> Value {
        wait_for(&format!("partition {partition} is {state}"), DEADLINE, || {
            self.look(partition).filter(|view| view["state"] == state && holds(view))
        })
    }

    /// Waits for so many outputs.
    pub(crate) fn outputs(&self, count: usize) -> Vec<Record> {
        self.broker.consume(&self.output, count)
    }

    /// Everything that is there.
    pub(crate) fn all(&self, topic: &str) -> Vec<Record> {
        self.broker.consume_all(topic)
    }

    /// Waits until the group has committed everything.
    pub(crate) fn wait_for_end(&self) {
        let what = "everything is committed";
        midplane_tests::wait_until(what, DEADLINE, || self.broker.lag(&self.group, &self.input) == 0);
    }

    /// What the group has committed of a partition.
    pub(crate) fn committed(&self, partition: i32) -> Option<i64> {
        records::committed(self.broker.servers(), &self.group, &self.input)[&partition].0
    }

    /// Commits an offset for the group, which nobody is in, and what is to be remembered with it.
    pub(crate) fn commit(&self, partition: i32, offset: i64, metadata: &str) {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", self.broker.servers())
            .set("group.id", &self.group)
            .create()
            .expect("a consumer");
        let mut list = TopicPartitionList::new();
        let mut item = list.add_partition(&self.input, partition);
        item.set_offset(Offset::Offset(offset)).expect("an offset");
        item.set_metadata(metadata);
        consumer.commit(&list, CommitMode::Sync).expect("the broker commits");
    }
}

/// The values, as text.
pub(crate) fn texts(records: &[Record]) -> Vec<&str> {
    records.iter().map(Record::text).collect()
}

/// What a letter says: the event's offset, the kind, the plugin, and how often it was called.
pub(crate) fn said(letter: &Record) -> (String, String, String, String) {
    let text = |name: &str| letter.header_text(&format!("midplane-error-{name}")).unwrap_or_default().to_owned();
    (text("offset"), text("kind"), text("plugin"), text("attempts"))
}

/// The same, of all of them.
pub(crate) fn all_said(letters: &[Record]) -> Vec<(String, String, String, String)> {
    letters.iter().map(said).collect()
}

/// What a letter is to say.
pub(crate) fn says(offset: i64, kind: &str, plugin: &str, attempts: u32) -> (String, String, String, String) {
    (offset.to_string(), kind.to_owned(), plugin.to_owned(), attempts.to_string())
}
