//! What the host knows of itself: the live generation, whether its shards turn, whether it is ready. Written by the run and
//! the shards, read by the admin surface; decides nothing.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::Serialize;

use super::config_view::rollout_word;
use super::generation;
use super::metrics::Metrics;
use super::overview::Overview;
use super::partitions::{Partitions, ShardAccount};
use super::prepare::Live;
use super::rollout::Ending;
use super::stopped::StoppedView;
use crate::data::trial::Counts;
use crate::data::{self, shard::Health};
use crate::digest;

/// A shard that has not turned for so long does not turn: twice what a plugin's `configure` may take of its thread.
const TURN_MAX: Duration = Duration::from_secs(20);

/// How often it is looked whether shards have answered.
const ANSWER_INTERVAL: Duration = Duration::from_millis(5);

/// The status of this host; clones share it.
#[derive(Debug, Clone)]
pub struct Status(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    listen: Listen,
    generation: Mutex<Option<Arc<Generation>>>,
    refused: Mutex<Option<Refused>>,
    metrics: Metrics,
    trial: Mutex<Option<LastTrial>>,
    overview: Mutex<Option<Arc<Overview>>>,
    pauses: Mutex<BTreeMap<String, String>>,
    shards: Mutex<Vec<(String, Weak<Health>)>>,
    /// The shards that ended by themselves, with those that were started in their place.
    stopped: Mutex<Vec<(StoppedView, Weak<Health>)>>,
    broker_answers: AtomicBool,
    stopping: AtomicBool,
}

/// Where this host listens, real ports included.
#[derive(Debug, Clone, Serialize)]
pub struct Listen {
    /// The admin surface's `host:port`.
    pub admin: String,
    /// The embedded broker's `host:port`; none where the events live on Kafka.
    pub broker: Option<String>,
}

/// The generation that is live.
#[derive(Debug)]
pub struct Generation {
    /// Counted per host, over restarts.
    pub number: u64,
    /// Of its manifest, in hex.
    pub hash: String,
    /// Of the config's bytes, in hex.
    pub config_sha256: String,
    /// By name.
    pub plugins: BTreeMap<String, Plugin>,
}

/// A plugin's version that is live.
#[derive(Debug)]
pub struct Plugin {
    /// The version, in hex.
    pub sha256: String,
    /// The size of its file.
    pub bytes: u64,
    /// When this process loaded it.
    pub loaded_at: Timestamp,
    /// A version on trial beside it.
    pub candidate: Option<generation::Candidate>,
}

/// `GET /api/v1/generation`
#[derive(Debug, Serialize)]
pub struct Report {
    generation: u64,
    hash: String,
    config_sha256: String,
    plugins: BTreeMap<String, PluginReport>,
    listen: Listen,
    last_refused: Option<Refused>,
    last_trial: Option<LastTrial>,
}

#[derive(Debug, Serialize)]
struct PluginReport {
    sha256: String,
    bytes: u64,
    loaded_at: String,
    candidate: Option<Candidate>,
}

/// A version on trial beside the live one, and what was counted of it so far.
#[derive(Debug, Serialize)]
struct Candidate {
    sha256: String,
    mode: &'static str,
    share: f64,
    #[serde(flatten)]
    counts: TrialCounts,
}

#[derive(Debug, Clone, Serialize)]
struct TrialCounts {
    events: u64,
    failures: u64,
    differences: u64,
    /// Of one event, in the mean; and what it was in the slowest of the calls.
    latency_us: u64,
    latency_us_max: u64,
    /// Events that ran alone, and those of them that took longer than `latency_max`.
    timed: u64,
    slow: u64,
}

impl TrialCounts {
    fn of(counts: &Counts) -> Self {
        Self {
            events: counts.events,
            failures: counts.failures,
            differences: counts.differences,
            latency_us: counts.latency().as_micros() as u64,
            latency_us_max: counts.call_max.as_micros() as u64,
            timed: counts.timed,
            slow: counts.slow,
        }
    }
}

impl Candidate {
    fn of(candidate: &generation::Candidate) -> Self {
        Self {
            sha256: digest::hex(&candidate.plugin.sha256),
            mode: rollout_word(candidate.rollout.mode),
            share: candidate.rollout.share,
            counts: TrialCounts::of(&candidate.trial.counts()),
        }
    }
}

/// The trial that ended last.
#[derive(Debug, Clone, Serialize)]
struct LastTrial {
    at: String,
    plugin: String,
    sha256: String,
    outcome: &'static str,
    reason: String,
    sample: Option<LastSample>,
    #[serde(flatten)]
    counts: TrialCounts,
}

/// An event that went wrong in it.
#[derive(Debug, Clone, Serialize)]
struct LastSample {
    origin: String,
    reason: String,
}

/// A reload that was refused.
#[derive(Debug, Clone, Serialize)]
struct Refused {
    at: String,
    error: String,
}

impl Generation {
    /// As the admin surface tells it.
    pub fn of(live: &Live) -> Self {
        let generation = &live.generation;
        let plugin = |(name, plugin): (&String, &Arc<data::plugin::Plugin>)| {
            let loaded_at = Timestamp::try_from(live.loaded_at[name]).unwrap_or(Timestamp::UNIX_EPOCH);
            let candidate = generation.candidates.get(name).cloned();
            let (sha256, bytes) = (digest::hex(&plugin.sha256), plugin.size as u64);
            (name.clone(), Plugin { sha256, bytes, loaded_at, candidate })
        };
        Self {
            number: generation.number,
            hash: digest::hex(&generation.hash),
            config_sha256: digest::hex(&generation.config.sha256),
            plugins: generation.plugins.iter().map(plugin).collect(),
        }
    }
}

impl Status {
    /// A host that has just started: healthy, not ready.
    pub fn new(listen: Listen) -> Self {
        Self(Arc::new(Inner {
            listen,
            generation: Mutex::default(),
            refused: Mutex::default(),
            metrics: Metrics::default(),
            trial: Mutex::default(),
            overview: Mutex::default(),
            pauses: Mutex::default(),
            shards: Mutex::default(),
            stopped: Mutex::default(),
            broker_answers: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
        }))
    }

    /// Says which generation is live. Its shards are there already ([`Status::shard`]): else the host would look ready
    /// before they are.
    pub fn serves(&self, generation: Generation) {
        self.0.metrics.serves(generation.number);
        let candidates =
            generation.plugins.iter().filter_map(|(name, plugin)| Some((name, plugin.candidate.as_ref()?)));
        self.0.metrics.tries(candidates);
        *lock(&self.0.generation) = Some(Arc::new(generation));
    }

    /// Says what operators are to be shown of the host.
    pub fn overview(&self, overview: Arc<Overview>) {
        *lock(&self.0.overview) = Some(overview);
    }

    /// What operators are shown of the host, if a generation serves.
    pub fn current_overview(&self) -> Option<Arc<Overview>> {
        lock(&self.0.overview).clone()
    }

    /// Says which routes are paused, each with since when.
    pub fn pauses(&self, pauses: BTreeMap<String, String>) {
        *lock(&self.0.pauses) = pauses;
    }

    /// Asks every shard for an account of itself, and waits for the answers: at most this long.
    pub async fn accounts(&self, patience: Duration) -> Vec<ShardAccount> {
        let asked: Vec<_> = self.shards().map(|(name, health)| (name, health.ask(), health)).collect();
        let deadline = Instant::now() + patience;
        while asked.iter().any(|(_, question, health)| !health.has_answered(*question)) && Instant::now() < deadline {
            tokio::time::sleep(ANSWER_INTERVAL).await;
        }
        let account = |(shard, question, health): (String, u64, Arc<Health>)| {
            let fresh = health.has_answered(question);
            ShardAccount { shard, account: health.account(), fresh }
        };
        asked.into_iter().map(account).collect()
    }

    /// How the partitions of this host stand.
    pub async fn partitions(&self, patience: Duration) -> Partitions {
        let accounts = self.accounts(patience).await;
        Partitions::of(&accounts, &lock(&self.0.pauses), self.stopped())
    }

    /// Says which shards have ended by themselves, each with the health of the one that was started in its place, if one was.
    pub fn shards_stopped(&self, stopped: Vec<(StoppedView, Weak<Health>)>) {
        *lock(&self.0.stopped) = stopped;
    }

    /// The shards that have ended by themselves, until others in their place have partitions.
    fn stopped(&self) -> Vec<StoppedView> {
        let stopped = lock(&self.0.stopped);
        let again = |health: &Weak<Health>| health.upgrade().is_some_and(|health| health.is_assigned());
        stopped.iter().filter(|(_, health)| !again(health)).map(|(view, _)| view.clone()).collect()
    }

    /// Says what was refused last, and why; nothing once that is out of the way.
    pub fn refused(&self, error: Option<String>) {
        self.0.metrics.refused(error.is_some());
        *lock(&self.0.refused) = error.map(|error| Refused { at: Timestamp::now().to_string(), error });
    }

    /// Says how a trial has ended.
    pub fn trial_ended(&self, ending: &Ending) {
        self.0.metrics.trial_ended(ending);
        let sample = ending.sample.as_ref();
        *lock(&self.0.trial) = Some(LastTrial {
            at: Timestamp::now().to_string(),
            plugin: ending.plugin.clone(),
            sha256: digest::hex(&ending.candidate),
            outcome: ending.conclusion.as_str(),
            reason: ending.reason.clone(),
            sample: sample.map(|it| LastSample { origin: it.origin.clone(), reason: it.reason.clone() }),
            counts: TrialCounts::of(&ending.counts),
        });
    }

    /// The host's numbers.
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// Says whether the broker answers.
    pub fn broker_answers(&self, answers: bool) {
        self.0.broker_answers.store(answers, Ordering::Relaxed);
    }

    /// Says that the host drains: it is not ready any more, and will not be again.
    pub fn stops(&self) {
        self.0.stopping.store(true, Ordering::Relaxed);
    }

    /// Looks after one more shard, until the shard drops its health.
    pub fn shard(&self, name: String, health: &Arc<Health>) {
        let mut shards = lock(&self.0.shards);
        shards.retain(|(_, health)| health.strong_count() > 0);
        shards.push((name, Arc::downgrade(health)));
    }

    /// Why the host is not healthy; nothing when it is.
    pub fn unhealthy(&self) -> Vec<String> {
        let stuck = |(name, health): (String, Arc<Health>)| {
            let idle = health.since_turn();
            (idle > TURN_MAX).then(|| format!("shard {name} has not turned for {} s", idle.as_secs()))
        };
        self.shards().filter_map(stuck).collect()
    }

    /// Why the host is not ready; nothing when it is.
    pub fn unready(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        if self.0.stopping.load(Ordering::Relaxed) {
            reasons.push("the host is draining".to_owned());
        }
        let serves = lock(&self.0.generation).is_some();
        if !serves {
            reasons.push("no generation serves yet".to_owned());
        }
        if !self.0.broker_answers.load(Ordering::Relaxed) {
            let said = if serves { "the broker does not answer" } else { "the broker has not answered yet" };
            reasons.push(said.to_owned());
        }
        reasons.extend(self.stopped().iter().map(StoppedView::text));
        let waiting = self.shards().filter(|(_, health)| !health.is_assigned());
        reasons.extend(waiting.map(|(name, _)| format!("shard {name} has no assignment yet")));
        reasons
    }

    /// The live generation, if there is one.
    pub fn report(&self) -> Option<Report> {
        let generation = lock(&self.0.generation).clone()?;
        let plugin = |plugin: &Plugin| PluginReport {
            sha256: plugin.sha256.clone(),
            bytes: plugin.bytes,
            loaded_at: plugin.loaded_at.to_string(),
            candidate: plugin.candidate.as_ref().map(Candidate::of),
        };
        Some(Report {
            generation: generation.number,
            hash: generation.hash.clone(),
            config_sha256: generation.config_sha256.clone(),
            plugins: generation.plugins.iter().map(|(name, value)| (name.clone(), plugin(value))).collect(),
            listen: self.0.listen.clone(),
            last_refused: lock(&self.0.refused).clone(),
            last_trial: lock(&self.0.trial).clone(),
        })
    }

    fn shards(&self) -> impl Iterator<Item = (String, Arc<Health>)> {
        let shards = lock(&self.0.shards).clone();
        shards.into_iter().filter_map(|(name, health)| Some((name, health.upgrade()?)))
    }
}

/// What is locked here is replaced whole, so a panic elsewhere leaves nothing half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> Status {
        Status::new(Listen { admin: "127.0.0.1:8090".into(), broker: None })
    }

    fn generation() -> Generation {
        Generation { number: 1, hash: String::new(), config_sha256: String::new(), plugins: BTreeMap::new() }
    }

    #[test]
    fn a_shard_that_does_not_turn_is_not_healthy() {
        let status = status();
        let (busy, stuck) = (Arc::new(Health::default()), Arc::new(Health::turned_ago(Duration::from_secs(25))));
        status.shard("payments/0".to_owned(), &busy);
        assert_eq!(status.unhealthy(), Vec::<String>::new());
        status.shard("payments/1".to_owned(), &stuck);
        assert_eq!(status.unhealthy(), ["shard payments/1 has not turned for 25 s"]);
        drop(stuck);
        assert_eq!(status.unhealthy(), Vec::<String>::new());
    }

    #[test]
    fn a_host_is_ready_when_all_its_shards_are() {
        let status = status();
        let shards = ["payments/0", "payments/1"].map(|name| {
            let health = Arc::new(Health::default());
            status.shard(name.to_owned(), &health);
            health
        });
        status.serves(generation());
        status.broker_answers(true);
        shards[0].assigned();
        assert_eq!(status.unready(), ["shard payments/1 has no assignment yet"]);
        shards[1].assigned();
        assert_eq!(status.unready(), Vec::<String>::new());
        status.broker_answers(false);
        assert_eq!(status.unready(), ["the broker does not answer"]);
        status.broker_answers(true);
        status.stops();
        assert_eq!(status.unready(), ["the host is draining"]);
    }
}
