//! What a valid config is: the values that the control and data planes are built from. Nothing in here can be wrong;
//! whatever could be was refused by the validation that made it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::public_key::PublicKey;
use crate::data::filter::Filter;

/// A whole config, includes and defaults applied.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file that was named on the command line.
    pub path: PathBuf,
    /// SHA-256 over the bytes of the file and of what it includes.
    pub sha256: [u8; 32],
    /// `[host]`
    pub host: Host,
    /// `[broker]` or `[embedded_broker]`
    pub broker: Broker,
    /// `[admin]`
    pub admin: Admin,
    /// `[plugins]`
    pub plugins: Plugins,
    /// `[plugin.NAME]`; a plugin that a route names and that has no table of its own is here with the defaults.
    pub plugin: BTreeMap<String, PluginSettings>,
    /// In the order of first mention.
    pub groups: Vec<Group>,
    /// In the order of the file; [`Group::routes`] are indexes into this.
    pub routes: Vec<Arc<Route>>,
    /// Names of groups that are dropped deliberately; none of them has routes.
    pub retired: Vec<String>,
}

impl Config {
    /// The shards of one of its groups on a machine of so many cores, before anybody knows how many partitions there are:
    /// the cores are divided among the groups.
    pub fn shards(&self, group: &Group, cores: usize) -> usize {
        group.shards.map_or_else(|| (cores / self.groups.len().max(1)).max(1), NonZeroUsize::get)
    }
}

/// `[host]`
#[derive(Debug, Clone)]
pub struct Host {
    /// Absolute, or relative to the working directory: never to the config's folder any more.
    pub data_directory: PathBuf,
    /// Set by hand, if it was.
    pub instance: Option<String>,
    /// How long a stop may take before it counts as not clean.
    pub drain_timeout: Duration,
    /// How many generations are kept for rollback.
    pub generations: usize,
    /// The stack of a call of a plugin.
    pub stack_bytes: usize,
}

impl Host {
    /// Where compiled plugins are kept.
    pub fn compile_cache(&self) -> PathBuf {
        self.data_directory.join("compiled")
    }
}

/// The largest stack that a plugin's call can be given.
pub const STACK_BYTES_MAX: usize = 16 << 20;

/// Where the events live.
#[derive(Debug, Clone)]
pub enum Broker {
    /// `[broker]`
    Kafka(Kafka),
    /// `[embedded_broker]`, or neither table
    Embedded(Embedded),
}

/// `[broker]`
#[derive(Clone)]
pub struct Kafka {
    /// `host:port,host:port`
    pub bootstrap_servers: String,
    /// Settings for librdkafka, none of those that Midplane owns. Values may be secrets: this type's `Debug` hides them.
    pub client: BTreeMap<String, String>,
    /// Whether missing output and dead-letter topics are made.
    pub create_topics: bool,
}

impl std::fmt::Debug for Kafka {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kafka")
            .field("bootstrap_servers", &self.bootstrap_servers)
            .field("client", &self.client.keys())
            .field("create_topics", &self.create_topics)
            .finish()
    }
}

/// `[embedded_broker]`
#[derive(Debug, Clone)]
pub struct Embedded {
    /// Port 0 is any free one.
    pub listen: SocketAddr,
    /// `host:port` that clients are told; the address listened on where none.
    pub advertise: Option<String>,
    /// Its folder.
    pub data_directory: PathBuf,
    /// How long records are kept.
    pub retention: Duration,
    /// Topics that the table lists. Topics that routes name are made too, with one partition.
    pub topics: BTreeMap<String, EmbeddedTopic>,
}

/// One of `[embedded_broker].topics`.
#[derive(Debug, Clone)]
pub struct EmbeddedTopic {
    /// At least 1.
    pub partitions: i32,
    /// Whether only the newest record of a key is kept.
    pub compacted: bool,
}

/// `[admin]`
#[derive(Debug, Clone)]
pub struct Admin {
    /// Loopback, unless there is a token.
    pub listen: SocketAddr,
    /// The token itself, read from its file.
    pub token: Option<Secret>,
}

/// A value that no log and no message ever shows.
#[derive(Clone)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// `[plugins]`
#[derive(Debug, Clone)]
pub struct Plugins {
    /// Every `*.wasm` in it is a plugin, named after its file.
    pub directory: PathBuf,
    /// How often the directory is compared with what is live.
    pub poll_interval: Duration,
    /// Whose signatures are trusted. Where there are none, plugins need not be signed.
    pub public_keys: Vec<PublicKey>,
}

/// `[plugin.NAME]`, what concerns loading and running it. Its `config` is already merged into [`Stage::config`].
#[derive(Debug, Clone, PartialEq)]
pub struct PluginSettings {
    /// The only version that may be loaded.
    pub sha256: Option<[u8; 32]>,
    /// What it may use.
    pub limits: Limits,
    /// What it may see.
    pub grants: Grants,
    /// How a new version takes over.
    pub rollout: Rollout,
}

/// `[plugin.NAME.rollout]`
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rollout {
    /// Whether a new version is tried first, and how.
    pub mode: RolloutMode,
    /// The share of the keys whose events a canary gets; above 0, at most 1.
    pub share: f64,
    /// Events that must have gone well.
    pub events: u64,
    /// Time that must have gone well.
    pub time: Duration,
    /// The share of failures that is tolerated, 0 to 1.
    pub errors_max: f64,
    /// The latency of one event that is tolerated.
    pub latency_max: Duration,
    /// The share of differing outputs that is tolerated in the shadow, 0 to 1.
    pub differences_max: f64,
}

/// `mode`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RolloutMode {
    /// It takes over at once.
    Direct,
    /// It gets the events, its outputs are compared and thrown away.
    Shadow,
    /// It serves a share of the keys.
    Canary,
}

/// What a plugin may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Limits {
    /// Of the guest's CPU time, for one event.
    pub deadline: Duration,
    /// Bytes of linear memory of one instance.
    pub memory_bytes: usize,
    /// Bytes of outputs of one event.
    pub output_bytes: usize,
    /// Outputs of one event.
    pub outputs: usize,
    /// Table elements of one instance.
    pub table_elements: usize,
    /// Bytes of log a second.
    pub log_bytes_per_second: usize,
}

impl Limits {
    /// What a config says that says nothing of it.
    pub const DEFAULT: Self = Self {
        deadline: Duration::from_millis(100),
        memory_bytes: 64 << 20,
        output_bytes: 8 << 20,
        outputs: 10_000,
        table_elements: 100_000,
        log_bytes_per_second: 64 << 10,
    };
}

/// What a plugin may see beyond its events.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Grants {
    /// The real clocks.
    pub clock: bool,
    /// Real randomness.
    pub random: bool,
    /// Environment variables of the host, by name.
    pub env: Vec<String>,
}

/// A consumer group and the routes that stand and fall with it.
#[derive(Debug, Clone)]
pub struct Group {
    /// The group id, as it is.
    pub name: String,
    /// What is promised.
    pub guarantee: Guarantee,
    /// How long settled events wait for their commit.
    pub commit_interval: Duration,
    /// Set by hand, if it was.
    pub shards: Option<NonZeroUsize>,
    /// Where a group that has no offsets at all begins.
    pub start: Start,
    /// What happens where a committed offset isn't there any more.
    pub out_of_range: OutOfRange,
    /// Indexes into [`Config::routes`], ascending. Never empty.
    pub routes: Vec<usize>,
}

/// `guarantee`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guarantee {
    /// After a crash the tail that was not committed is repeated.
    AtLeastOnce,
    /// Readers of committed records see each output once.
    ExactlyOnce,
}

impl std::fmt::Display for Guarantee {
    /// As in the config.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::AtLeastOnce => "at-least-once",
            Self::ExactlyOnce => "exactly-once",
        })
    }
}

/// `start`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// The first event that is there.
    Earliest,
    /// The first event that comes.
    Latest,
    /// The first event at or after a time, in milliseconds since the Unix epoch.
    At(i64),
}

/// `out_of_range`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutOfRange {
    /// The partition stops and says so.
    Halt,
    /// The first event that is there.
    Earliest,
    /// The first event that comes.
    Latest,
}

/// One rule.
#[derive(Debug, Clone)]
pub struct Route {
    /// Its table's name.
    pub name: String,
    /// What letters, state and metrics hang on.
    pub id: String,
    /// The id that it had before, whose state and letters it takes over.
    pub was: Option<String>,
    /// Never empty.
    pub from: Vec<Selector>,
    /// None: all events.
    pub filter: Option<Arc<Filter>>,
    /// What an error of the filter other than an absent field means.
    pub on_filter_error: OnFilterError,
    /// Empty: filter and forward.
    pub through: Vec<Stage>,
    /// Port to topic. Without plugins, the only port is `default`.
    pub to: BTreeMap<String, String>,
    /// Index into [`Config::groups`].
    pub group: usize,
    /// Whether outputs carry `midplane-origin`.
    pub provenance: bool,
    /// Whether it may feed itself.
    pub allow_loop: bool,
    /// What becomes of events that fail.
    pub failure: FailurePolicy,
}

/// What a route reads.
#[derive(Debug, Clone)]
pub enum Selector {
    /// A topic by its name.
    Topic(String),
    /// All topics that match, resolved by the host.
    Pattern(regex::Regex),
}

/// One plugin of a chain.
#[derive(Clone)]
pub struct Stage {
    /// Its name in the plugin directory.
    pub plugin: String,
    /// What `configure` gets: a JSON object, the plugin's table with the route's keys over it. Values may be secrets: this
    /// type's `Debug` hides them.
    pub config: serde_json::Value,
}

impl std::fmt::Debug for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let keys: Vec<&String> = self.config.as_object().map(|config| config.keys().collect()).unwrap_or_default();
        f.debug_struct("Stage").field("plugin", &self.plugin).field("config", &keys).finish()
    }
}

/// `on_filter_error`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFilterError {
    /// A dead letter of kind `filter`.
    DeadLetter,
    /// As if it didn't match.
    Drop,
    /// As if it matched.
    Match,
}

/// `[routes.NAME.failure]`
#[derive(Debug, Clone)]
pub struct FailurePolicy {
    /// Calls for one event, the first included, when it fails transiently. At least 1.
    pub attempts: u32,
    /// Between the calls.
    pub backoff: Backoff,
    /// When too much fails; none: never.
    pub breaker: Option<Breaker>,
    /// What a permanent failure means.
    pub on_permanent: OnPermanent,
    /// The topic of its letters.
    pub dead_letter: String,
}

/// `backoff`
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Backoff {
    /// After the first failure; doubled from then on.
    pub first: Duration,
    /// At most.
    pub max: Duration,
    /// The share of a wait that is random, 0 to 1.
    pub jitter: f64,
}

/// `breaker`
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Breaker {
    /// The share of events that fail for good which is too much, 0 to 1.
    pub failures: f64,
    /// Of how many of the last events. At least 1.
    pub events: u32,
    /// How long partitions wait before one event of each tries whether it still fails.
    pub probe: Duration,
}

/// `on_permanent`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnPermanent {
    /// A letter, and on.
    DeadLetter,
    /// Counted, and on.
    Drop,
    /// The partition stops, for the whole group.
    Halt,
}
