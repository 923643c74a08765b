//! A config, plugins and topics with names of their own on a broker that others use too; a host that runs on them; versions of
//! the plugin that marks its outputs.

use std::fs;
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use midplane_tests::http::{self, Answer};
use midplane_tests::wait::wait_until;
use midplane_tests::{Broker, Host, Record, Scope, plugins, records};
use serde_json::Value;

use crate::load::PARTITIONS;

/// For whatever waits for several reloads, or for all events, on a machine that does ten other things.
pub(crate) const PATIENCE: Duration = Duration::from_secs(240);

/// A config in which one route takes `in~` to `out~`, through the plugin that marks its outputs.
pub(crate) fn marked(route: &str, shards: usize) -> String {
    format!(
        r#"
        [groups."group~"]
        shards = {shards}

        [routes.{route}]
        from = "in~"
        through = "marker"
        to = "out~"
        group = "group~"
        failure = {{ dead_letter = "letters~" }}
        "#
    )
}

/// What a config begins with so that a member that is killed is missed soon.
pub(crate) fn impatient(broker: &Broker) -> &'static str {
    match broker.is_embedded() {
        true => "client = { 'session.timeout.ms' = '1500', 'heartbeat.interval.ms' = '300' }\n",
        false => "client = { 'session.timeout.ms' = '6000', 'heartbeat.interval.ms' = '1000' }\n",
    }
}

/// A folder with a config and a plugin directory, for one broker.
pub(crate) struct Setting<'b> {
    scope: Scope<'b>,
}

impl<'b> Deref for Setting<'b> {
    type Target = Scope<'b>;

    fn deref(&self) -> &Scope<'b> {
        &self.scope
    }
}

impl<'b> Setting<'b> {
    /// The config begins within the broker's table.
    pub(crate) fn new(broker: &'b Broker, config: &str) -> Self {
        Self::of(Scope::new(broker), config)
    }

    fn of(scope: Scope<'b>, config: &str) -> Self {
        let setting = Self { scope };
        setting.configure(config);
        setting
    }

    /// As [`Setting::new`], with the topics that a load flows through.
    pub(crate) fn flowing(broker: &'b Broker, config: &str) -> Self {
        let setting = Self::new(broker, config);
        setting.create("in", PARTITIONS);
        setting.create("out", PARTITIONS);
        setting.create("letters", 1);
        setting
    }

    /// One more folder with the same names, and a config of its own.
    pub(crate) fn another(&self, config: &str) -> Self {
        Self::of(self.scope.another(), config)
    }

    /// Writes another config.
    pub(crate) fn configure(&self, config: &str) {
        self.scope.configure("", config);
    }

    /// Waits until so many records are in the topic `STEM~`.
    pub(crate) fn wait_for(&self, stem: &str, count: usize) -> Vec<Record> {
        records::consume(self.broker.servers(), &self.name(stem), count, PATIENCE)
    }

    /// Waits until the group `GROUP~` has committed all of the topic `STEM~`.
    pub(crate) fn wait_settled(&self, group: &str, stem: &str) {
        let (group, topic) = (self.name(group), self.name(stem));
        wait_until(&format!("{group} has committed all of {topic}"), PATIENCE, || self.broker.lag(&group, &topic) == 0);
    }

    /// Starts a host, and waits until it is ready.
    pub(crate) fn start(&self) -> Running {
        Running::ready(self.folder.start())
    }

    /// Starts a host that shows by the memory that it holds how much it needs: without an allocator of its own, and with one
    /// heap for all threads.
    pub(crate) fn start_plain(&self) -> Running {
        Running::ready(self.folder.start_program(PLAIN.as_ref(), &[("GLIBC_TUNABLES", "glibc.malloc.arena_max=1")]))
    }
}

/// The program that [`Setting::start_plain`] starts.
const PLAIN: &str = env!("CARGO_BIN_EXE_plain-midplane");

/// A host that is asked often: its address is looked up once.
pub(crate) struct Running {
    pub(crate) host: Host,
    pub(crate) admin: String,
    /// The newest generation that it began with, or answered a reload with.
    known: AtomicU64,
}

impl Running {
    /// A host whose admin surface listens, or will soon.
    pub(crate) fn of(host: Host) -> Self {
        Self { admin: host.admin(), host, known: AtomicU64::new(0) }
    }

    /// A host that is ready.
    fn ready(host: Host) -> Self {
        let running = Self::of(host);
        running.known.store(running.number(), Ordering::Relaxed);
        running
    }

    /// What it says of its generation.
    pub(crate) fn generation(&self) -> Value {
        let answer = http::get(&self.admin, "/api/v1/generation").expect("the admin surface answers");
        assert_eq!(answer.code, 200, "{}", answer.body);
        answer.json()
    }

    /// The number of its generation.
    pub(crate) fn number(&self) -> u64 {
        self.generation()["generation"].as_u64().expect("a number")
    }

    /// The live version of a plugin: its first digits, as outputs have them.
    pub(crate) fn version(&self, plugin: &str) -> u32 {
        version_of(self.generation()["plugins"][plugin]["sha256"].as_str().expect("a version"))
    }

    /// Asks it to reload, and waits for the answer.
    pub(crate) fn reload(&self) -> Answer {
        http::post(&self.admin, "/api/v1/reload", "").expect("the admin surface answers")
    }

    /// Asks it to reload what is to become another generation, and gives that one's number.
    #[track_caller]
    pub(crate) fn reload_to_another(&self) -> u64 {
        let answer = self.reload();
        assert_eq!(answer.code, 200, "{}", answer.body);
        // Whoever watches the files may have been sooner, and nothing is left to change.
        let number = answer.json()["generation"].as_u64().expect("a number");
        let known = self.known.swap(number, Ordering::Relaxed);
        assert!(number > known, "{number} after {known}");
        number
    }

    /// Stops it, which must be a clean end. Gives its log, to be kept as long as anything may fail.
    pub(crate) fn stop(self) -> Log {
        let (code, log) = self.host.finish();
        let log = Log(log);
        assert_eq!(code, Some(0), "a host ends well");
        log
    }
}

/// What a host logged, which is shown where its test fails afterwards.
pub(crate) struct Log(Vec<String>);

impl Drop for Log {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the log of a host that was stopped:\n{}", self.0.join("\n"));
        }
    }
}

/// The first digits of a version, as a number.
pub(crate) fn version_of(sha256: &str) -> u32 {
    u32::from_str_radix(&sha256[..8], 16).expect("hexadecimal digits")
}

/// Versions of the plugin that marks its outputs, each with its number as the mark.
pub(crate) struct Marker {
    built: Vec<u8>,
    at: usize,
}

impl Marker {
    /// The digits of a mark follow this.
    const STEM: &'static [u8] = b"marker-000000000";

    pub(crate) fn new() -> Self {
        let built = fs::read(plugins::wasm("marker")).expect("the plugin's file");
        let places: Vec<_> = built.windows(Self::STEM.len()).enumerate().filter(|(_, it)| *it == Self::STEM).collect();
        assert_eq!(places.len(), 1, "the mark stands in the plugin's file once");
        let at = places[0].0;
        Self { built, at }
    }

    /// The version with this mark: its bytes, and the first digits of its name.
    pub(crate) fn version(&self, mark: u32) -> (Vec<u8>, u32) {
        let mut bytes = self.built.clone();
        bytes[self.at..self.at + Self::STEM.len()].copy_from_slice(format!("marker-{mark:09}").as_bytes());
        let version = version_of(&midplane::digest::hex(&midplane::digest::of(&bytes)));
        (bytes, version)
    }
}
