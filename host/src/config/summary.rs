//! What would run, in the words of the config: what came from the environment or from files stays as it is written there.

use serde::Serialize;

use super::document::RouteTable;
use super::model::{Broker, OutOfRange, Start};
use super::plugins::{Available, Found};
use super::units::{print_duration, print_size};
use super::validate::group_of;
use super::{Loaded, Severity};
use crate::kafka::settings::{CONSUMER_BUFFER_BYTES, PRODUCER_BUFFER_BYTES};

/// Threads of one client of librdkafka, with one broker and with a few.
const CLIENT_THREADS: (usize, usize) = (5, 9);
/// What a shard has: a consumer and a producer.
const CLIENTS_PER_SHARD: usize = 2;
/// What a shard's clients hold at most.
const BUFFER_BYTES: u64 = (CONSUMER_BUFFER_BYTES + PRODUCER_BUFFER_BYTES) as u64;

/// What would run.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// SHA-256 of what was read, in hexadecimal digits.
    pub config_sha256: String,
    /// Kafka or the embedded broker, and where.
    pub broker: String,
    /// In the order of the config.
    pub routes: Vec<RouteSummary>,
    /// In the order of first mention.
    pub groups: Vec<GroupSummary>,
    /// Those that routes use.
    pub plugins: Vec<PluginSummary>,
    /// What all of it takes.
    pub resources: Resources,
}

/// One route.
#[derive(Debug, Clone, Serialize)]
pub struct RouteSummary {
    /// Its name.
    pub name: String,
    /// Its group.
    pub group: String,
    /// Topics and patterns.
    pub from: Vec<String>,
    /// The filter.
    #[serde(rename = "where")]
    pub filter: Option<String>,
    /// Plugins.
    pub through: Vec<String>,
    /// Port and topic.
    pub to: Vec<(String, String)>,
    /// The topic of its dead letters.
    pub dead_letter: String,
}

/// One group.
#[derive(Debug, Clone, Serialize)]
pub struct GroupSummary {
    /// Its name.
    pub name: String,
    /// Threads on this machine, unless there are fewer partitions.
    pub shards: usize,
    /// Whether that was said, or follows from the cores.
    pub shards_are_set: bool,
    /// Where it begins.
    pub start: String,
    /// What happens where an offset isn't there any more.
    pub out_of_range: &'static str,
    /// What is promised.
    pub guarantee: String,
    /// How long settled events wait for their commit.
    pub commit_interval: String,
    /// The names of its routes.
    pub routes: Vec<String>,
}

/// One plugin.
#[derive(Debug, Clone, Serialize)]
pub struct PluginSummary {
    /// Its name.
    pub name: String,
    /// Its version, in hexadecimal digits.
    pub sha256: Option<String>,
    /// What it may write to.
    pub ports: Vec<String>,
    /// CPU time for one event.
    pub deadline: String,
    /// Of one instance.
    pub memory: String,
}

/// What it takes on this machine.
#[derive(Debug, Clone, Serialize)]
pub struct Resources {
    /// Of this machine.
    pub cores: usize,
    /// Threads of the data plane.
    pub shards: usize,
    /// Kafka clients.
    pub clients: usize,
    /// Of shards and clients: at least, at most.
    pub threads: (usize, usize),
    /// To each broker of the cluster.
    pub connections_per_broker: usize,
    /// What the clients' buffers hold at most.
    pub buffer_bytes: u64,
}

impl Loaded {
    /// What would run on a machine of so many cores.
    pub fn summary(&self, available: &Available, cores: usize) -> Summary {
        let groups: Vec<_> = (0..self.config.groups.len()).map(|index| self.group(index, cores)).collect();
        let shards: usize = groups.iter().map(|group| group.shards).sum();
        let clients = shards * CLIENTS_PER_SHARD;
        Summary {
            config_sha256: hex(&self.config.sha256),
            broker: self.broker(),
            routes: self.document.routes.iter().map(route).collect(),
            plugins: self.plugins(available),
            groups,
            resources: Resources {
                cores,
                shards,
                clients,
                threads: (shards + clients * CLIENT_THREADS.0, shards + clients * CLIENT_THREADS.1),
                connections_per_broker: clients,
                buffer_bytes: shards as u64 * BUFFER_BYTES,
            },
        }
    }

    fn broker(&self) -> String {
        match (&self.config.broker, &self.document.broker) {
            (Broker::Embedded(embedded), _) => format!("embedded, on {}", embedded.listen),
            (Broker::Kafka(_), Some(table)) => format!("Kafka at {}", table.written_servers),
            (Broker::Kafka(_), None) => "Kafka".to_owned(),
        }
    }

    fn group(&self, index: usize, cores: usize) -> GroupSummary {
        let group = &self.config.groups[index];
        let written = |route: usize| self.document.routes[route].group.as_ref().map(|group| group.written.clone());
        GroupSummary {
            name: group.routes.first().and_then(|route| written(*route)).unwrap_or_else(|| group.name.clone()),
            shards: self.config.shards(group, cores),
            shards_are_set: group.shards.is_some(),
            start: match group.start {
                Start::Earliest => "earliest".to_owned(),
                Start::Latest => "latest".to_owned(),
                Start::At(time) => {
                    jiff::Timestamp::from_millisecond(time).map_or_else(|_| time.to_string(), |time| time.to_string())
                }
            },
            out_of_range: match group.out_of_range {
                OutOfRange::Halt => "halt",
                OutOfRange::Earliest => "earliest",
                OutOfRange::Latest => "latest",
            },
            guarantee: group.guarantee.to_string(),
            commit_interval: print_duration(group.commit_interval),
            routes: group.routes.iter().map(|route| self.document.routes[*route].name.text.clone()).collect(),
        }
    }

    fn plugins(&self, available: &Available) -> Vec<PluginSummary> {
        let mut summaries: Vec<PluginSummary> = Vec::new();
        for stage in self.document.routes.iter().flat_map(|route| &route.through) {
            let name = &stage.plugin.value;
            let Some(settings) = self.config.plugin.get(name).filter(|_| {
                // A chain may name a plugin more than once.
                summaries.iter().all(|summary| summary.name != stage.plugin.written)
            }) else {
                continue;
            };
            let described = match available.plugins.get(name) {
                Some(Found::Described(described)) => Some(described),
                _ => None,
            };
            summaries.push(PluginSummary {
                name: stage.plugin.written.clone(),
                sha256: described.map(|described| hex(&described.sha256)),
                ports: described.map(|described| described.ports.clone()).unwrap_or_default(),
                deadline: print_duration(settings.limits.deadline),
                memory: print_size(settings.limits.memory_bytes as u64),
            });
        }
        summaries
    }
}

fn route(table: &RouteTable) -> RouteSummary {
    RouteSummary {
        name: table.name.text.clone(),
        group: table.group.as_ref().map_or_else(|| group_of(table).to_owned(), |group| group.written.clone()),
        from: table.from.iter().map(|selector| selector.written.clone()).collect(),
        filter: table.filter_written.clone(),
        through: table.through.iter().map(|stage| stage.plugin.written.clone()).collect(),
        to: table.to.iter().map(|binding| (binding.port.text.clone(), binding.topic.written.clone())).collect(),
        dead_letter: table.failure.dead_letter.written.clone(),
    }
}

impl Resources {
    /// What an operator should think about before it runs.
    pub fn warnings(&self) -> Vec<String> {
        const THREADS_MAX: usize = 1000;
        let mut warnings = Vec::new();
        if self.shards > 4 * self.cores {
            warnings.push(format!(
                "{} shards share {} cores: fewer groups, or `shards` in `[groups.NAME]`, would waste less",
                self.shards, self.cores
            ));
        }
        if self.threads.1 > THREADS_MAX {
            warnings.push(format!("up to {} threads: the system may limit them (`ulimit -u`)", self.threads.1));
        }
        warnings
    }
}

impl Summary {
    /// As people read it.
    pub fn to_text(&self) -> String {
        let mut lines = vec![format!("broker   {}", self.broker), format!("config   {}", &self.config_sha256[..16])];
        for route in &self.routes {
            lines.push(String::new());
            lines.push(format!("route    {}", route.name));
            let mut field = |name: &str, value: String| lines.push(format!("  {name:<13}{value}"));
            field("from", route.from.join(", "));
            if let Some(filter) = &route.filter {
                field("where", filter.trim().replace('\n', "\n               "));
            }
            if !route.through.is_empty() {
                field("through", route.through.join(" -> "));
            }
            for (port, topic) in &route.to {
                field("to", if port == "default" { topic.clone() } else { format!("{topic} ({port})") });
            }
            field("dead letters", route.dead_letter.clone());
        }
        lines.push(String::new());
        for group in &self.groups {
            let shards = if group.shards_are_set { "" } else { " (at most one a partition)" };
            lines.push(format!(
                "group    {}: {} shards{shards}, {}, commits each {}, starts at {}; routes: {}",
                group.name,
                group.shards,
                group.guarantee,
                group.commit_interval,
                group.start,
                group.routes.join(", ")
            ));
        }
        for plugin in &self.plugins {
            let version = plugin.sha256.as_deref().map_or("unknown", |sha256| &sha256[..8]);
            lines.push(format!(
                "plugin   {} {version}: ports {}; {} and {} an event",
                plugin.name,
                plugin.ports.join(", "),
                plugin.deadline,
                plugin.memory
            ));
        }
        lines.push(String::new());
        lines.extend(self.resources.lines());
        lines.join("\n") + "\n"
    }
}

impl Resources {
    fn lines(&self) -> Vec<String> {
        let mut lines = vec![
            format!("clients  {} (a consumer and a producer for each of {} shards)", self.clients, self.shards),
            format!("threads  {} to {}", self.threads.0, self.threads.1),
            format!("sockets  {} to each broker", self.connections_per_broker),
            format!("buffers  up to {}", print_size(self.buffer_bytes)),
        ];
        lines.extend(self.warnings().into_iter().map(|warning| format!("{}: {warning}", Severity::Warning.as_str())));
        lines
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
