//! Operators' orders about routes and partitions of this host: pauses, which are kept over restarts, and what is to be done with
//! partitions that stopped. None of them makes a generation; the shards carry them out.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::blocking;
use super::decisions::Decisions;
use super::order::{Done, Order, Refusal, RefusalKind};
use super::partitions::ShardAccount;
use super::reload::Reloader;
use super::shards::Shards;
use crate::config::model::{Config, Route};
use crate::data::shard::{Condition, Granted, PartitionAccount, Wish};
use crate::kafka::Partition;

/// How long shards may take to say where they are, and to do what they are told.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a pause is waited for: what is in flight settles.
const PAUSE_TIMEOUT: Duration = Duration::from_secs(10);
/// How often it is looked whether it has.
const PAUSE_INTERVAL: Duration = Duration::from_millis(20);

/// A partition that an order is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its topic.
    pub topic: String,
    /// Its number.
    pub partition: i32,
    /// The group that reads it; none where there is no other.
    pub group: Option<String>,
}

impl Target {
    fn is(&self, shard: &ShardAccount, account: &PartitionAccount) -> bool {
        *account.partition.0 == *self.topic
            && account.partition.1 == self.partition
            && self.group.as_ref().is_none_or(|group| group == shard.group())
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

impl Reloader {
    /// Carries an order out, if it is one of those that make no generation.
    pub(super) async fn lend_a_hand(&mut self, order: &Order) -> Option<Result<Done, Refusal>> {
        let message = match order {
            Order::PauseRoute { route } => self.pause(route).await,
            Order::ResumeRoute { route } => self.resume(route).await,
            Order::Partition { target, wish } => self.partition(target, *wish).await,
            _ => return None,
        };
        match &message {
            Ok(done) => tracing::info!(done, "An order about routes or partitions is carried out."),
            Err(refusal) => tracing::warn!(error = refusal.message, "An order about routes or partitions is refused."),
        }
        let generation = self.live.generation.number;
        Some(message.map(|message| Done { generation, changed: false, message }))
    }

    async fn pause(&mut self, name: &str) -> Result<String, Refusal> {
        let route = find(&self.live.generation.config, name)?;
        if self.decisions.paused.contains_key(&route.id) {
            return Err(conflict(format!("route `{name}` is paused already")));
        }
        let mut decisions = self.decisions.clone();
        decisions.paused.insert(route.id.clone(), jiff::Timestamp::now().to_string());
        self.decide(decisions, &format!("route {name} was paused")).await?;
        let draining = self.wait_for_pause(&route).await;
        let group = &self.live.generation.config.groups[route.group].name;
        let others = if self.live.generation.config.groups[route.group].routes.len() > 1 {
            ", for all routes of the group"
        } else {
            ""
        };
        let settled = match draining {
            0 => "all before is committed".to_owned(),
            count => format!("of {count} of them messages are still in flight"),
        };
        Ok(format!(
            "route `{name}` is paused on this host: group `{group}` takes nothing more of the partitions that it reads{others}; {settled}"
        ))
    }

    async fn resume(&mut self, name: &str) -> Result<String, Refusal> {
        let found = find(&self.live.generation.config, name);
        let mut names: BTreeSet<String> = [name.to_owned()].into();
        if let Ok(route) = &found {
            names.extend([route.id.clone()].into_iter().chain(route.was.clone()));
        }
        let mut decisions = self.decisions.clone();
        let before = decisions.paused.len();
        decisions.paused.retain(|route, _| !names.contains(route));
        let was_paused = decisions.paused.len() < before;
        if !was_paused {
            found?;
        }
        self.shards.trust(&names);
        if !was_paused {
            return Ok(format!("route `{name}` was not paused; if its breaker was open, it is closed"));
        }
        self.decide(decisions, &format!("route {name} was resumed")).await?;
        Ok(format!("route `{name}` goes on where it stood"))
    }

    /// Keeps what was decided, and tells the shards.
    async fn decide(&mut self, decisions: Decisions, why: &str) -> Result<(), Refusal> {
        let kept = self.keep(None, &decisions, why).await;
        kept.map_err(|error| Refusal::new(RefusalKind::Refused, error.to_string()))?;
        self.decisions = decisions;
        self.shards.pause(pauses(&self.decisions));
        self.tell();
        Ok(())
    }

    /// Waits until what a paused route reads stands still, and is committed. How many partitions don't yet.
    async fn wait_for_pause(&self, route: &Route) -> usize {
        let group = &self.live.generation.config.groups[route.group].name;
        let program = self.live.programs.iter().find(|program| program.group == *group);
        let reads = |topic: &str| {
            let program = program.expect("programs are made of groups");
            program.index.routes(topic).iter().any(|number| program.plans[usize::from(*number)].id == route.id)
        };
        let deadline = Instant::now() + PAUSE_TIMEOUT;
        loop {
            let accounts = self.host.status.accounts(ANSWER_TIMEOUT).await;
            let of_group = accounts.iter().filter(|shard| shard.group() == group);
            let partitions = of_group.flat_map(|shard| &shard.account.partitions);
            let moving = partitions.filter(|it| reads(&it.partition.0) && !is_settled(it)).count();
            if moving == 0 || Instant::now() >= deadline {
                return moving;
            }
            tokio::time::sleep(PAUSE_INTERVAL).await;
        }
    }

    async fn partition(&mut self, target: &Target, wish: Wish) -> Result<String, Refusal> {
        let accounts = self.host.status.accounts(ANSWER_TIMEOUT).await;
        let found: Vec<(&ShardAccount, &PartitionAccount)> = accounts
            .iter()
            .flat_map(|shard| shard.account.partitions.iter().map(move |account| (shard, account)))
            .filter(|(shard, account)| target.is(shard, account))
            .collect();
        let stopped: Vec<_> =
            found.iter().filter(|(_, account)| account.condition != Condition::Running).copied().collect();
        match (found.as_slice(), stopped.as_slice()) {
            ([], _) => {
                return Err(unknown(format!(
                    "this host doesn't read partition {target}{}; `midplane partition list` shows those that it has",
                    target.group.as_ref().map_or(String::new(), |group| format!(" in group `{group}`"))
                )));
            }
            (_, []) => return Err(conflict(format!("partition {target} has not stopped: there is nothing to do"))),
            (_, [_, _, ..]) if matches!(wish, Wish::Skip { .. }) => {
                let groups: Vec<_> = stopped.iter().map(|(shard, _)| format!("`{}`", shard.group())).collect();
                return Err(conflict(format!(
                    "partition {target} has stopped in groups {}: name one with `--group`",
                    groups.join(", ")
                )));
            }
            _ => {}
        }
        let partition: Partition = (Arc::from(target.topic.as_str()), target.partition);
        let wishes = stopped.iter().map(|(shard, account)| (shard.group().to_owned(), wish.meant_at(account.position)));
        let wishes: Vec<(String, Wish)> = wishes.collect();
        let mut granted = Vec::new();
        for (group, wish) in wishes {
            let of_group = grant(&self.shards, &group, &partition, wish).await;
            granted.push((group, of_group));
        }
        sum_up(target, granted)
    }
}

/// What became of a wish in each group. Where one of them could not grant it, that is a refusal, which says what the others did.
fn sum_up(target: &Target, granted: Vec<(String, Granted)>) -> Result<String, Refusal> {
    let refuses = |granted: &Granted| matches!(granted, Granted::Elsewhere | Granted::Refused(_));
    let is_refused = granted.iter().any(|(_, granted)| refuses(granted));
    let lines = granted.into_iter().map(|(group, granted)| {
        let of = format!("partition {target} of group `{group}`");
        match granted {
            Granted::Done(message) => format!("{of}: {message}"),
            Granted::Runs => format!("{of} runs again by itself"),
            Granted::Elsewhere => format!("{of} has just gone to another host"),
            Granted::Refused(why) => format!("{of}: refused: {why}"),
        }
    });
    let text = lines.collect::<Vec<_>>().join("\n");
    if is_refused { Err(conflict(text)) } else { Ok(text) }
}

/// Has the shards of a group do what an operator wants of one of their partitions: one of them has it.
async fn grant(shards: &Shards, group: &str, partition: &Partition, wish: Wish) -> Granted {
    let replies = shards.wish(group, partition, wish);
    blocking(move || {
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        for _ in 0..replies.1 {
            match replies.0.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(Granted::Elsewhere) => {}
                Ok(granted) => return granted,
                Err(_) => {
                    let message = format!("its shard has not answered within {ANSWER_TIMEOUT:?}, and may do it yet");
                    return Granted::Refused(message);
                }
            }
        }
        Granted::Elsewhere
    })
    .await
}

/// Whether a partition takes nothing more, and the group has all that it took.
fn is_settled(account: &PartitionAccount) -> bool {
    let stands = !matches!(account.condition, Condition::Running | Condition::Waiting | Condition::Breaker);
    stands && account.committed == Some(account.position)
}

/// A route by its name, or its id.
fn find(config: &Config, name: &str) -> Result<Arc<Route>, Refusal> {
    let route = config.routes.iter().find(|route| route.name == name);
    let route = route.or_else(|| config.routes.iter().find(|route| route.id == name));
    route.cloned().ok_or_else(|| {
        const FEW: usize = 20;
        let mut known: Vec<_> = config.routes.iter().take(FEW).map(|route| route.name.as_str()).collect();
        if config.routes.len() > FEW {
            known.push("…");
        }
        unknown(format!("there is no route `{name}` (known: {})", known.join(", ")))
    })
}

/// The routes that are paused, as shards hear of them.
pub(super) fn pauses(decisions: &Decisions) -> Arc<BTreeSet<String>> {
    Arc::new(decisions.paused.keys().cloned().collect())
}

fn conflict(message: impl Into<String>) -> Refusal {
    Refusal::new(RefusalKind::Conflict, message)
}

fn unknown(message: impl Into<String>) -> Refusal {
    Refusal::new(RefusalKind::Unknown, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_each_group_did_is_said_whatever_another_one_refuses() {
        let target = Target { topic: "in".to_owned(), partition: 3, group: None };
        let check = |granted: &[(&str, Granted)], expected: Result<&str, &str>| {
            let granted = granted.iter().map(|(group, granted)| ((*group).to_owned(), granted.clone())).collect();
            let summed = sum_up(&target, granted).map_err(|refusal| refusal.message);
            assert_eq!(summed.as_deref().map_err(String::as_str), expected);
        };
        let done = Granted::Done("it goes on at offset 7".to_owned());
        let went_on = "partition in/3 of group `a`: it goes on at offset 7";
        check(&[("a", done.clone())], Ok(went_on));
        let runs = "partition in/3 of group `b` runs again by itself";
        check(&[("a", done.clone()), ("b", Granted::Runs)], Ok(&format!("{went_on}\n{runs}")));
        let refused = ("b", Granted::Refused("route `r` is paused".to_owned()));
        let why = "partition in/3 of group `b`: refused: route `r` is paused";
        check(&[("a", done.clone()), refused.clone()], Err(&format!("{went_on}\n{why}")));
        check(&[refused, ("a", done)], Err(&format!("{why}\n{went_on}")));
        check(&[("c", Granted::Elsewhere)], Err("partition in/3 of group `c` has just gone to another host"));
    }
}
