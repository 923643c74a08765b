//! What an operator is shown of this host's partitions: how each stands, why, and since when, those that stopped first. Values
//! alone, as `GET /api/v1/partitions` writes them and the command line reads them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::stopped::StoppedView;
pub use crate::data::shard::Condition;
use crate::data::shard::{Account, PartitionAccount};

/// `GET /api/v1/partitions`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partitions {
    /// Those that stopped first.
    pub partitions: Vec<PartitionView>,
    /// The shards that have ended by themselves: nobody on this host reads what was theirs.
    #[serde(default)]
    pub stopped: Vec<StoppedView>,
    /// The routes that operators have paused on this host.
    pub paused: Vec<PausedView>,
    /// The breakers that are open.
    pub breakers: Vec<BreakerView>,
    /// Shards that didn't answer in time: of their partitions this is what they said before, if anything.
    pub silent: Vec<String>,
}

/// A partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionView {
    /// The group that reads it.
    pub group: String,
    /// Its topic.
    pub topic: String,
    /// Its number.
    pub partition: i32,
    /// `GROUP/NUMBER`: who has it.
    pub shard: String,
    /// How it stands.
    pub state: Condition,
    /// Why, where it doesn't run.
    pub why: Option<String>,
    /// Since when.
    pub since: Option<String>,
    /// When it goes on, at the latest, where that is known.
    pub until: Option<String>,
    /// Which call of its event the next one is, where it has failed.
    pub attempt: Option<u32>,
    /// The route that stopped it, by id.
    pub route: Option<String>,
    /// The plugin that failed.
    pub plugin: Option<String>,
    /// The kind of the failure, as letters have it.
    pub kind: Option<String>,
    /// What the failure said.
    pub message: Option<String>,
    /// The next event, or the one that it stands at.
    pub position: i64,
    /// What the group has committed of it.
    pub committed: Option<i64>,
    /// How much is behind the committed offset, as far as the client has heard of the log's end.
    pub lag: Option<i64>,
}

/// A route that is paused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PausedView {
    /// Its id.
    pub route: String,
    /// Since when.
    pub since: String,
}

/// A breaker that is open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BreakerView {
    /// The route's id.
    pub route: String,
    /// `GROUP/NUMBER`: each shard has its own.
    pub shard: String,
    /// When a partition tries the route next.
    pub next_try: String,
}

/// A shard's account, whose it is, and whether it is of now.
#[derive(Debug, Clone)]
pub struct ShardAccount {
    /// `GROUP/NUMBER`
    pub shard: String,
    /// What it said.
    pub account: Arc<Account>,
    /// Whether it answered this time.
    pub fresh: bool,
}

impl ShardAccount {
    /// The group of the shard.
    pub fn group(&self) -> &str {
        self.shard.rsplit_once('/').map_or(&*self.shard, |(group, _)| group)
    }
}

impl Partitions {
    /// All that the shards said, what is paused, by route, and which shards have ended.
    pub fn of(accounts: &[ShardAccount], paused: &BTreeMap<String, String>, stopped: Vec<StoppedView>) -> Self {
        let views = accounts.iter().flat_map(|shard| shard.account.partitions.iter().map(|it| view(shard, it)));
        let mut partitions: Vec<_> = views.collect();
        partitions.sort_by(|a, b| {
            let key = |view: &PartitionView| (view.state, view.group.clone(), view.topic.clone(), view.partition);
            key(a).cmp(&key(b))
        });
        let breakers = accounts.iter().flat_map(|shard| {
            let open = shard.account.open_breakers.iter();
            open.map(|(route, next)| BreakerView {
                route: route.clone(),
                shard: shard.shard.clone(),
                next_try: time(*next),
            })
        });
        let paused = paused.iter().map(|(route, since)| PausedView { route: route.clone(), since: since.clone() });
        let silent = accounts.iter().filter(|shard| !shard.fresh).map(|shard| shard.shard.clone());
        Self { partitions, stopped, paused: paused.collect(), breakers: breakers.collect(), silent: silent.collect() }
    }
}

fn view(shard: &ShardAccount, account: &PartitionAccount) -> PartitionView {
    let failure = account.failure.as_ref();
    let begun = account.committed.unwrap_or(account.position);
    PartitionView {
        group: shard.group().to_owned(),
        topic: account.partition.0.to_string(),
        partition: account.partition.1,
        shard: shard.shard.clone(),
        state: account.condition,
        why: Some(account.why.clone()).filter(|why| !why.is_empty()),
        since: account.since.map(time),
        until: account.until.map(time),
        attempt: account.attempt,
        route: account.route.clone().or_else(|| failure.map(|known| known.route.clone())),
        plugin: failure.and_then(|known| known.plugin.clone()),
        kind: failure.map(|known| known.failure.kind.as_str().to_owned()),
        message: failure.map(|known| known.failure.message.clone()),
        position: account.position,
        committed: account.committed,
        lag: account.end.map(|end| (end - begun).max(0)),
    }
}

/// To the second: for people.
pub(super) fn time(at: SystemTime) -> String {
    let at = jiff::Timestamp::try_from(at).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    at.round(jiff::Unit::Second).unwrap_or(at).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stopped_comes_first() {
        let account = |number: i32, condition| PartitionAccount {
            partition: ("in".into(), number),
            condition,
            why: String::new(),
            since: None,
            until: None,
            attempt: None,
            route: None,
            failure: None,
            position: 7,
            committed: Some(5),
            end: Some(9),
        };
        let conditions = [Condition::Running, Condition::Waiting, Condition::Halted, Condition::Running];
        let partitions = conditions.into_iter().zip(0..).map(|(condition, number)| account(number, condition));
        let account = Account { partitions: partitions.collect(), open_breakers: Vec::new() };
        let shard = ShardAccount { shard: "a/b/0".to_owned(), account: Arc::new(account), fresh: false };
        let partitions = Partitions::of(&[shard], &BTreeMap::new(), Vec::new());
        let seen = partitions.partitions.iter().map(|view| (view.partition, view.state, view.lag));
        let expected =
            [(2, Condition::Halted), (1, Condition::Waiting), (0, Condition::Running), (3, Condition::Running)]
                .map(|(a, b)| (a, b, Some(4)));
        assert_eq!(seen.collect::<Vec<_>>(), expected);
        assert_eq!((partitions.partitions[0].group.as_str(), &*partitions.silent), ("a/b", &["a/b/0".to_owned()][..]));
    }
}
