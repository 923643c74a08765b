//! A host with one plugin, of which another version is rolled out while events come.

use std::fs;
use std::ops::Range;

use midplane::digest;
use midplane_tests::wait::{DEADLINE, wait_for, wait_until};
use midplane_tests::{Broker, Folder, Host, Record, http, plugins};
use rustix::process::Signal;
use serde_json::Value;

/// Events of one go, and keys that they have in turn.
const ROUND: usize = 200;
const KEYS: usize = 41;

/// The host, its plugin directory, and its topics.
pub(crate) struct Case<'b> {
    broker: &'b Broker,
    pub(crate) host: Host,
    folder: Folder,
    input: String,
    output: String,
    letters: String,
    group: String,
    /// How many events were produced.
    pub(crate) produced: usize,
}

/// The bytes of a built plugin.
pub(crate) fn bytes(plugin: &str) -> Vec<u8> {
    fs::read(plugins::wasm(plugin)).expect("a built plugin")
}

/// Another version that does the same: with one custom section more, which nobody reads.
pub(crate) fn another(mut wasm: Vec<u8>, name: &str) -> Vec<u8> {
    let length = |text: &str| u8::try_from(text.len()).expect("a short name");
    wasm.extend([0, length(name) + 1, length(name)]);
    wasm.extend(name.as_bytes());
    wasm
}

/// A version, in hex.
pub(crate) fn version(wasm: &[u8]) -> String {
    digest::hex(&digest::of(wasm))
}

/// What `midplane-origin` says of an output.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) generation: u64,
    /// The first digits of the plugin's version.
    pub(crate) version: String,
}

pub(crate) fn origin(record: &Record) -> Origin {
    let text = record.header_text("midplane-origin").expect("outputs have an origin");
    let mut words = text.split(' ').skip(1);
    let (_, generation) = words.next().and_then(|route| route.rsplit_once('@')).expect("a route");
    let (_, version) = words.next().and_then(|plugin| plugin.rsplit_once('@')).expect("a plugin");
    Origin { generation: generation.parse().expect("a number"), version: version.to_owned() }
}

impl<'b> Case<'b> {
    /// A host whose plugin `subject` is `identity`, with a rollout.
    pub(crate) fn start(broker: &'b Broker, rollout: &str) -> Self {
        let [input, output, letters] = ["in", "out", "letters"].map(|stem| broker.topic(stem, 3));
        let group = broker.unique("rollout");
        let folder = Folder::new(&format!(
            "{}\n[plugins]\ndirectory = 'plugins'\npoll_interval = '100ms'\n[plugin.subject]\nrollout = {{ {rollout} }}\n\
             [routes.tried]\nfrom = '{input}'\nto = '{output}'\nthrough = 'subject'\ngroup = '{group}'\n\
             failure = {{ dead_letter = '{letters}' }}\n",
            broker.toml()
        ));
        fs::create_dir(folder.path().join("plugins")).expect("a folder");
        deploy(&folder, &bytes("identity"));
        let host = folder.start();
        Self { broker, host, folder, input, output, letters, group, produced: 0 }
    }

    /// Puts a version into the plugin directory.
    pub(crate) fn deploy(&self, wasm: &[u8]) {
        deploy(&self.folder, wasm);
    }

    /// Puts a version into the plugin directory, and waits until it is tried.
    pub(crate) fn deploy_candidate(&self, wasm: &[u8]) {
        self.deploy(wasm);
        let sha256 = version(wasm);
        wait_until("the version is tried", DEADLINE, || self.candidate()["sha256"] == *sha256);
    }

    /// What the admin surface says.
    pub(crate) fn report(&self) -> Value {
        self.host.get("/api/v1/generation").json()
    }

    /// What `/metrics` has under a name, but for that.
    pub(crate) fn metric(&self, name: &str) -> Vec<String> {
        let text = self.host.get("/metrics").body;
        let values = text.lines().filter_map(|line| line.strip_prefix("midplane_")?.strip_prefix(name));
        values.filter(|rest| rest.starts_with('{')).map(str::to_owned).collect()
    }

    /// The version that is tried, or null.
    pub(crate) fn candidate(&self) -> Value {
        self.report()["plugins"]["subject"]["candidate"].clone()
    }

    /// The live version.
    pub(crate) fn live(&self) -> String {
        self.report()["plugins"]["subject"]["sha256"].as_str().expect("a version").to_owned()
    }

    /// Gives an order.
    pub(crate) fn order(&self, path: &str) -> http::Answer {
        http::post(&self.host.admin(), path, "").expect("the admin surface answers")
    }

    /// Kills the host, and starts another one in its place.
    pub(crate) fn kill_and_start(&mut self) {
        self.host.signal(Signal::KILL);
        self.host.wait(DEADLINE);
        self.host = self.folder.start();
    }

    /// Produces more events. The value of each is its number, behind what `word` says of it.
    pub(crate) fn produce(&mut self, count: usize, word: impl Fn(usize) -> &'static str) {
        let numbers: Range<usize> = self.produced..self.produced + count;
        let event = |number: usize| Record::new(format!("k{}", number % KEYS), format!("{} {number}", word(number)));
        self.broker.produce(&self.input, numbers.map(event));
        self.produced += count;
    }

    /// Produces events until the trial has ended. Gives what is said of it.
    pub(crate) fn produce_until_it_ends(&mut self, word: impl Fn(usize) -> &'static str) -> Value {
        wait_for("the trial ends", DEADLINE, || {
            self.produce(ROUND, &word);
            let report = self.report();
            Some(report["last_trial"].clone()).filter(|trial| !trial.is_null())
        })
    }

    /// Stops the host once it has worked everything off. Gives the outputs and the letters.
    pub(crate) fn finish(self) -> (Vec<Record>, Vec<Record>) {
        wait_until("the lag is 0", DEADLINE, || self.broker.lag(&self.group, &self.input) == 0);
        assert_eq!(self.host.stop(), Some(0));
        (self.broker.consume_all(&self.output), self.broker.consume_all(&self.letters))
    }
}

/// By renaming, as people deploy who think of half-written files.
fn deploy(folder: &Folder, wasm: &[u8]) {
    let file = folder.path().join("plugins").join("subject.wasm");
    let half = folder.path().join("half");
    fs::write(&half, wasm).and_then(|()| fs::rename(&half, &file)).expect("writable");
}

/// The number of an event that [`Case::produce`] made.
pub(crate) fn number(record: &Record) -> usize {
    record.text().rsplit(' ').next().and_then(|number| number.parse().ok()).expect("a number")
}

/// Every event once, and those of a key in their order.
pub(crate) fn check_complete(outputs: &[Record], expected: impl Iterator<Item = usize>) {
    let mut numbers: Vec<_> = outputs.iter().map(number).collect();
    let mut last = [None; KEYS];
    for number in &numbers {
        let key = number % KEYS;
        assert!(last[key] < Some(*number), "event {number} comes behind {:?}", last[key]);
        last[key] = Some(*number);
    }
    numbers.sort_unstable();
    let expected: Vec<_> = expected.collect();
    assert_eq!(numbers.len(), expected.len());
    assert_eq!(numbers, expected);
}
