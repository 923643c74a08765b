//! What a change would do, told before it is made: the live config and plugins against others. Pure; whoever asks has read
//! the files and asked the broker.

mod begins;
mod plugins;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

pub use self::begins::{Begin, BeginPartition, Origin, wanted};
pub use self::plugins::{PluginChange, PluginPlan, TrialPlan, versions};

use super::config_view::{ConfigView, RouteView, Settings, Value};
use super::overview::{Held, Overview};
use crate::config;
use crate::config::model::Config;

/// What only a new process can take up: tables, and single keys of others.
const RESTART_TABLES: &[&str] = &["host", "broker", "embedded_broker"];
const RESTART_KEYS: &[&str] = &["admin.listen"];

/// What would be live.
#[derive(Debug, Clone)]
pub struct Next {
    /// The config.
    pub config: ConfigView,
    /// Of its bytes, in hex.
    pub config_sha256: String,
    /// The versions in its plugin directory, in hex.
    pub directory: BTreeMap<String, String>,
    /// The ports that those plugins describe that would become live from there.
    pub ports: BTreeMap<String, Vec<String>>,
}

/// What the broker says.
#[derive(Debug, Clone, Default)]
pub struct OnBroker {
    /// The topics that there are, with the number of their partitions.
    pub topics: BTreeMap<String, i32>,
    /// Where groups stand: for all of [`wanted`].
    pub positions: Vec<Position>,
}

/// Where a group stands with a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// The group.
    pub group: String,
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// What the group committed, if it did.
    pub committed: Option<i64>,
    /// The first offset that is there.
    pub begin: i64,
    /// The next offset to be written.
    pub end: i64,
    /// Where the group's `start` leads.
    pub start: i64,
}

/// What would happen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The live generation that was compared with.
    pub generation: u64,
    /// Of its manifest, in hex.
    pub hash: String,
    /// The host's name.
    pub instance: String,
    /// A hold that the config's bytes don't end: all the rest waits for `midplane resume`.
    pub held: Option<Held>,
    /// Why a reload would be refused, whole.
    pub refused: Vec<String>,
    /// Keys outside of routes.
    pub settings: Vec<KeyChange>,
    /// Routes that are added, changed or removed.
    pub routes: Vec<RoutePlan>,
    /// Routes that stay come in another order, and so do their outputs of one event.
    pub reordered: bool,
    /// Plugins whose version changes, or would without a decision.
    pub plugins: Vec<PluginPlan>,
    /// Groups that come and go.
    pub groups: Vec<GroupPlan>,
    /// Where routes begin to read what they didn't read before.
    pub begins: Vec<Begin>,
    /// Topics that are named and don't exist.
    pub topics: Vec<TopicPlan>,
    /// Ports that plugins may write to and that lead nowhere.
    pub unbound: Vec<Unbound>,
    /// Whether the config's bytes are those of the live generation.
    pub same_bytes: bool,
}

/// A key that is set to something else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyChange {
    /// As the file has it, with dots in between.
    pub key: String,
    /// None: it is not there.
    pub from: Option<Value>,
    /// None: it is there no more.
    pub to: Option<Value>,
}

/// What becomes of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// It comes.
    Added,
    /// It stays, otherwise than before.
    Changed,
    /// It goes.
    Removed,
}

/// A route that doesn't stay as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoutePlan {
    /// Its table's name.
    pub name: String,
    /// What becomes of it.
    pub change: Change,
    /// Of its keys, those that differ: all, where it comes or goes.
    pub keys: Vec<KeyChange>,
}

/// A group that comes or goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupPlan {
    /// Its name.
    pub name: String,
    /// Added or removed.
    pub change: Change,
    /// Of one that comes: whether it has offsets from an earlier time.
    pub seen: bool,
}

/// A topic that doesn't exist.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicPlan {
    /// Its name.
    pub topic: String,
    /// What for.
    pub role: TopicRole,
    /// Whether the host makes it.
    pub made: bool,
}

/// What a topic is to a config.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TopicRole {
    /// Routes write to it.
    Output,
    /// Routes write their letters to it.
    DeadLetter,
    /// Routes read it, once it is there.
    Input,
}

/// A port without a topic: events written to it become dead letters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unbound {
    /// The route.
    pub route: String,
    /// The plugin.
    pub plugin: String,
    /// Its port.
    pub port: String,
}

/// What would happen to the host if a reload took up `next`. Without a broker, nothing is said of topics, nor of where routes
/// begin.
pub fn plan(live: &Overview, next: &Next, broker: Option<&OnBroker>) -> Plan {
    let topics = broker.map(|broker| missing_topics(&next.config, broker)).unwrap_or_default();
    let groups = groups(&live.config, &next.config, broker);
    Plan {
        generation: live.generation,
        hash: live.hash.clone(),
        instance: live.instance.clone(),
        held: live.held.clone().filter(|held| held.config_sha256 == next.config_sha256),
        refused: refusals(&live.config, &next.config, &topics),
        settings: settings(&live.config, &next.config),
        routes: routes(&live.config, &next.config),
        reordered: reordered(&live.config, &next.config),
        plugins: plugins::plan(live, next),
        groups,
        begins: broker.map(|broker| begins::plan(&live.config, &next.config, broker)).unwrap_or_default(),
        topics,
        unbound: unbound(next),
        same_bytes: live.config_sha256 == next.config_sha256,
    }
}

impl Plan {
    /// Whether a reload would change anything.
    pub fn changes(&self) -> bool {
        self.held.is_none() && self.differs()
    }

    /// Whether anything is otherwise than it is live, held or not.
    pub fn differs(&self) -> bool {
        let versions = self.plugins.iter().any(|plugin| plugin.change != PluginChange::HeldBack);
        versions || self.reordered || !self.settings.is_empty() || !self.routes.is_empty() || !self.groups.is_empty()
    }
}

/// The keys in which a config differs so that only a restart takes it up, as the file has them. Empty: a reload does.
pub fn restart_needed(live: &Config, next: &Config) -> Vec<String> {
    restart_keys(&ConfigView::of(live), &ConfigView::of(next))
}

/// As [`restart_needed`].
pub fn restart_keys(live: &ConfigView, next: &ConfigView) -> Vec<String> {
    let has_table = |settings: &Settings, table: &str| settings.keys().any(|key| table_of(key) == table);
    let mut keys = BTreeSet::new();
    for key in live.settings.keys().chain(next.settings.keys()).filter(|key| needs_restart(key)) {
        if live.settings.get(key) == next.settings.get(key) {
            continue;
        }
        // A table that comes or goes is one change, not one for each of its keys.
        let table = table_of(key);
        let whole = !has_table(&live.settings, table) || !has_table(&next.settings, table);
        keys.insert(if whole { table } else { key }.to_owned());
    }
    keys.into_iter().collect()
}

fn needs_restart(key: &str) -> bool {
    RESTART_TABLES.contains(&table_of(key)) || RESTART_KEYS.contains(&key)
}

fn table_of(key: &str) -> &str {
    key.split_once('.').map_or(key, |(table, _)| table)
}

/// Groups that run, have no routes any more, none of them moved to another one, and that nobody says are to be dropped.
pub fn dropped(live: &ConfigView, next: &ConfigView) -> Vec<String> {
    let moved = |group: &String| {
        let mut before = next.routes.iter().filter_map(|route| begins::before(live, route));
        before.any(|before| before.group == *group)
    };
    let gone = live.groups.keys().filter(|group| !next.groups.contains_key(*group) && !next.retired.contains(group));
    gone.filter(|group| !moved(group)).cloned().collect()
}

/// Each reason for which a reload would be refused, as a sentence.
fn refusals(live: &ConfigView, next: &ConfigView, topics: &[TopicPlan]) -> Vec<String> {
    let restarts = restart_keys(live, next).into_iter().map(|key| format!("`{key}` needs a restart to change"));
    let dropped = dropped(live, next).into_iter().map(|group| {
        format!(
            "group `{group}` has no routes any more; if it is to be dropped, say so: `[groups.{}] retired = true`",
            config::toml_key(&group)
        )
    });
    let missing: BTreeSet<&str> = topics
        .iter()
        .filter(|topic| topic.role != TopicRole::Input && !topic.made)
        .map(|topic| topic.topic.as_str())
        .collect();
    let missing = (!missing.is_empty()).then(|| {
        let names = missing.into_iter().collect::<Vec<_>>().join(" ");
        format!(
            "topics that routes write to do not exist; make them with `midplane topic create {names}`, or set \
             `create_topics = true` in [broker]"
        )
    });
    restarts.chain(dropped).chain(missing).collect()
}

/// What differs between two tables.
fn differences(from: &Settings, to: &Settings, prefix: &str) -> Vec<KeyChange> {
    let keys: BTreeSet<&String> = from.keys().chain(to.keys()).collect();
    keys.into_iter()
        .filter(|key| from.get(*key) != to.get(*key))
        .map(|key| KeyChange { key: format!("{prefix}{key}"), from: from.get(key).cloned(), to: to.get(key).cloned() })
        .collect()
}

/// Keys outside of routes. Tables of plugins and groups that come or go are no change of their own.
fn settings(live: &ConfigView, next: &ConfigView) -> Vec<KeyChange> {
    let mut changes = differences(&live.settings, &next.settings, "");
    let tables = [("plugin", &live.plugin, &next.plugin), ("groups", &live.groups, &next.groups)];
    for (table, live, next) in tables {
        for (name, from) in live {
            let Some(to) = next.get(name) else { continue };
            changes.extend(differences(from, to, &format!("{table}.{name}.")));
        }
    }
    changes
}

/// Those of next first, in their order, then those that are removed.
fn routes(live: &ConfigView, next: &ConfigView) -> Vec<RoutePlan> {
    let find = |view: &ConfigView, name: &str| view.routes.iter().find(|route| route.name == name).map(RouteView::keys);
    let none = Settings::new();
    let mut plans = Vec::new();
    for route in &next.routes {
        let (from, to) = (find(live, &route.name), route.keys());
        let change = if from.is_some() { Change::Changed } else { Change::Added };
        let keys = differences(from.as_ref().unwrap_or(&none), &to, "");
        if !keys.is_empty() {
            plans.push(RoutePlan { name: route.name.clone(), change, keys });
        }
    }
    for route in live.routes.iter().filter(|route| find(next, &route.name).is_none()) {
        let keys = differences(&route.keys(), &none, "");
        plans.push(RoutePlan { name: route.name.clone(), change: Change::Removed, keys });
    }
    plans
}

fn reordered(live: &ConfigView, next: &ConfigView) -> bool {
    let common = |of: &ConfigView, other: &ConfigView| -> Vec<String> {
        let there = |name: &String| other.routes.iter().any(|route| route.name == *name);
        of.routes.iter().map(|route| route.name.clone()).filter(there).collect()
    };
    common(live, next) != common(next, live)
}

fn groups(live: &ConfigView, next: &ConfigView, broker: Option<&OnBroker>) -> Vec<GroupPlan> {
    let added = next.groups.keys().filter(|group| !live.groups.contains_key(*group)).map(|group| GroupPlan {
        name: group.clone(),
        change: Change::Added,
        seen: broker.is_some_and(|broker| begins::is_seen(broker, group)),
    });
    let removed = live.groups.keys().filter(|group| !next.groups.contains_key(*group)).map(|group| GroupPlan {
        name: group.clone(),
        change: Change::Removed,
        seen: true,
    });
    added.chain(removed).collect()
}

/// By role, then by name.
fn missing_topics(next: &ConfigView, broker: &OnBroker) -> Vec<TopicPlan> {
    let makes = match next.settings.get("broker.create_topics") {
        Some(value) => *value == Value::Shown("true".to_owned()),
        // The embedded broker makes whatever is named.
        None => true,
    };
    let embedded = !next.settings.contains_key("broker.create_topics");
    let mut named: BTreeSet<(TopicRole, &str)> = BTreeSet::new();
    for route in &next.routes {
        named.extend(route.to.values().map(|topic| (TopicRole::Output, topic.as_str())));
        named.insert((TopicRole::DeadLetter, &route.dead_letter));
        named.extend(begins::named(route).map(|topic| (TopicRole::Input, topic)));
    }
    let absent = named.into_iter().filter(|(_, topic)| !broker.topics.contains_key(*topic));
    let plan = |(role, topic): (TopicRole, &str)| TopicPlan {
        topic: topic.to_owned(),
        role,
        made: if role == TopicRole::Input { embedded } else { makes },
    };
    absent.map(plan).collect()
}

fn unbound(next: &Next) -> Vec<Unbound> {
    let mut unbound = Vec::new();
    for route in &next.config.routes {
        for (number, stage) in route.through.iter().enumerate() {
            let is_last = number + 1 == route.through.len();
            for port in next.ports.get(&stage.plugin).into_iter().flatten() {
                let leads = route.to.contains_key(port) || (port == "default" && !is_last);
                let found = Unbound { route: route.name.clone(), plugin: stage.plugin.clone(), port: port.clone() };
                if !leads && !unbound.contains(&found) {
                    unbound.push(found);
                }
            }
        }
    }
    unbound
}
