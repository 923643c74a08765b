//! A config with names of its own on a broker that others use too, and what is asked again and again of its outcome.

use std::fs;
use std::ops::Deref;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use midplane_tests::checker::{Origin, Product};
use midplane_tests::wait::wait_until;
use midplane_tests::{Broker, Host, Record, Scope, plugins, records};

/// For all of a test's events, on a machine that does ten other things.
pub(crate) const PATIENCE: Duration = Duration::from_secs(240);

/// One route through the plugin that does what its events order, in one shard.
pub(crate) const FAULTY: &str = r#"
[groups."group~"]
shards = 1

[routes.faulty]
from = "in~"
through = "faulty"
to = "out~"
group = "group~"
failure = { dead_letter = "letters~" }
"#;

/// The prefix of the headers that a letter adds.
const ERROR: &str = "midplane-error-";

/// A folder with a config and plugins, for one broker.
pub(crate) struct Case<'b> {
    scope: Scope<'b>,
}

impl<'b> Deref for Case<'b> {
    type Target = Scope<'b>;

    fn deref(&self) -> &Scope<'b> {
        &self.scope
    }
}

impl<'b> Case<'b> {
    /// Every fixture that the config names is there as a plugin, `chatty` is `faulty` once more.
    pub(crate) fn new(broker: &'b Broker, config: &str) -> Self {
        let case = Self { scope: Scope::new(broker) };
        case.configure(config);
        for (name, built) in
            [("chatty", "faulty"), ("faulty", "faulty"), ("faulty-typed", "faulty-typed"), ("sleeper", "sleeper")]
        {
            if config.contains(&format!("\"{name}\"")) {
                fs::copy(plugins::wasm(built), case.plugin(name)).expect("a copy");
            }
        }
        case
    }

    /// Another config, for the next host.
    pub(crate) fn configure(&self, config: &str) {
        self.scope.configure("create_topics = true", config);
    }

    /// Waits until so many records are in the topic `STEM~`.
    pub(crate) fn wait_for(&self, stem: &str, count: usize) -> Vec<Record> {
        records::consume(self.broker.servers(), &self.name(stem), count, PATIENCE)
    }

    /// What the group `group~` has committed of a partition of `in~`.
    pub(crate) fn committed(&self, partition: i32) -> Option<i64> {
        let all = records::committed(self.broker.servers(), &self.name("group"), &self.name("in"));
        all[&partition].0
    }

    /// Waits until the group `group~` has committed this offset of a partition of `in~`.
    pub(crate) fn wait_for_commit(&self, partition: i32, offset: i64) {
        let what = format!("offset {offset} of partition {partition} is committed");
        wait_until(&what, PATIENCE, || self.committed(partition) == Some(offset));
    }

    /// Waits until the group `group~` has committed all of `in~`.
    pub(crate) fn wait_for_end(&self) {
        let (group, topic) = (self.name("group"), self.name("in"));
        wait_until("everything is committed", PATIENCE, || self.broker.lag(&group, &topic) == 0);
    }

    /// Runs a host until everything is committed, and stops it.
    pub(crate) fn run(&self) -> Vec<String> {
        let host = self.folder.start();
        self.wait_for_end();
        stop(host)
    }

    /// Compares a letter with the event that it is about, header by header.
    #[track_caller]
    pub(crate) fn check_letter(&self, letter: &Record, event: &Record, expected: &Expected<'_>) {
        assert_eq!((&letter.key, &letter.value, letter.timestamp), (&event.key, &event.value, event.timestamp));
        self.check_letter_headers(letter, event, expected, &[]);
    }

    /// Compares a letter's headers: the event's own first, unchanged, then those of the contract, and `more`.
    #[track_caller]
    pub(crate) fn check_letter_headers(
        &self,
        letter: &Record,
        event: &Record,
        expected: &Expected<'_>,
        more: &[(&str, &str)],
    ) {
        let (own, added) = letter.headers.split_at(event.headers.len());
        assert_eq!(own, event.headers);
        let mut added: Vec<_> = added
            .iter()
            .map(|(name, value)| {
                let name = name.strip_prefix(ERROR).unwrap_or_else(|| panic!("a letter gained the header `{name}`"));
                (name, std::str::from_utf8(value.as_deref().unwrap_or_default()).expect("text"))
            })
            .collect();
        added.sort_unstable();
        let text = |name: &str| added.iter().find(|(found, _)| *found == name).map_or("", |(_, value)| *value);
        let (message, timestamp) = (text("message").to_owned(), text("timestamp").to_owned());
        assert!(!message.is_empty(), "a letter without a message");
        let written: u64 = timestamp.parse().expect("milliseconds");
        assert!((now_ms() - 3_600_000..=now_ms()).contains(&written), "{written}");
        let (topic, mut attempts) = (self.name("in"), expected.attempts.to_string());
        if expected.kind == "deadline" && text("attempts").parse::<u32>().is_ok_and(|found| found > expected.attempts) {
            // A plugin that the machine gives no time to use its deadline up fails transiently before, however often.
            text("attempts").clone_into(&mut attempts);
        }
        let (partition, offset) = (event.partition.unwrap_or_default().to_string(), event.offset.to_string());
        let version = expected.plugin.map(|plugin| self.version(plugin));
        let mut wanted = vec![
            ("attempts", attempts.as_str()),
            ("kind", expected.kind),
            ("message", &message),
            ("offset", &offset),
            ("partition", &partition),
            ("route", expected.route),
            ("timestamp", &timestamp),
            ("topic", &topic),
        ];
        wanted.extend(expected.plugin.map(|plugin| ("plugin", plugin)));
        wanted.extend(version.as_deref().map(|version| ("plugin-version", version)));
        wanted.extend(more);
        wanted.sort_unstable();
        assert_eq!(added, wanted);
    }

    /// The version of a plugin: the SHA-256 of its file.
    pub(crate) fn version(&self, plugin: &str) -> String {
        midplane::digest::hex(&midplane::digest::of(&fs::read(self.plugin(plugin)).expect("the plugin's file")))
    }
}

/// What a letter is to say.
pub(crate) struct Expected<'a> {
    pub(crate) kind: &'a str,
    pub(crate) route: &'a str,
    pub(crate) plugin: Option<&'a str>,
    pub(crate) attempts: u32,
}

/// Stops a host, which must be a clean end. Gives its log.
pub(crate) fn stop(host: Host) -> Vec<String> {
    let (code, log) = host.finish();
    assert_eq!(code, Some(0), "{}", log.join("\n"));
    log
}

/// Records with these values for one partition, all with the same key.
pub(crate) fn orders<'a>(partition: i32, values: &'a [&'a str]) -> impl Iterator<Item = Record> + 'a {
    values.iter().map(move |value| Record::new(format!("key-{partition}"), value).to(partition))
}

/// Bytes that don't compress.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..length).map(|_| next()).collect()
}

/// Text that compresses by half at most.
pub(crate) fn hex_noise(length: usize) -> String {
    noise(length / 2).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The values, as text.
pub(crate) fn texts(records: &[Record]) -> Vec<&str> {
    records.iter().map(Record::text).collect()
}

/// Where the event of an output was: partition, offset, and the output's index.
pub(crate) fn origin(output: &Record) -> (i32, i64, u32) {
    let Origin { place, product } = Origin::of(output);
    let Product::Output(index) = product else { panic!("a letter: {output:?}") };
    (place.partition, place.offset, index)
}

/// The time, in milliseconds since the Unix epoch.
pub(crate) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
