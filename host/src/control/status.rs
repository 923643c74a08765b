//! What the host knows of itself: the live generation, whether its shards turn, whether it is ready. Written by the run and
//! the shards, read by the admin surface; decides nothing.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::Serialize;

/// A shard that has not turned for so long does not turn: twice what a plugin's `configure` may take of its thread.
const TURN_MAX: Duration = Duration::from_secs(20);

/// The status of this host; clones share it.
#[derive(Debug, Clone)]
pub struct Status(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    started: Instant,
    listen: Listen,
    generation: Mutex<Option<Arc<Generation>>>,
    shards: Mutex<Vec<Weak<ShardInner>>>,
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
}

#[derive(Debug, Serialize)]
struct PluginReport {
    sha256: String,
    bytes: u64,
    loaded_at: String,
    candidate: Option<Candidate>,
}

/// A version on trial beside the live one. Versions change at a restart only, so far: there is never one.
#[derive(Debug, Serialize)]
struct Candidate {
    sha256: String,
    mode: String,
    share: f64,
}

/// A reload that was refused. There are no reloads, so far: there is never one.
#[derive(Debug, Serialize)]
struct Refused {
    at: String,
    error: String,
}

impl Status {
    /// A host that has just started: healthy, not ready.
    pub fn new(listen: Listen) -> Self {
        Self(Arc::new(Inner {
            started: Instant::now(),
            listen,
            generation: Mutex::default(),
            shards: Mutex::default(),
            broker_answers: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
        }))
    }

    /// Says which generation is live. Its shards are there already ([`Status::shard`]): else the host would look ready
    /// before they are.
    pub fn serves(&self, generation: Generation) {
        *lock(&self.0.generation) = Some(Arc::new(generation));
    }

    /// Says whether the broker answers.
    pub fn broker_answers(&self, answers: bool) {
        self.0.broker_answers.store(answers, Ordering::Relaxed);
    }

    /// Says that the host drains: it is not ready any more, and will not be again.
    pub fn stops(&self) {
        self.0.stopping.store(true, Ordering::Relaxed);
    }

    /// A shard's own handle. The shard counts until the handle is dropped.
    pub fn shard(&self, group: &str, index: usize) -> Shard {
        let shard = Arc::new(ShardInner {
            name: format!("{group}/{index}"),
            started: self.0.started,
            turned_ms: AtomicU64::new(millis(self.0.started, Instant::now())),
            assigned: AtomicBool::new(false),
        });
        let mut shards = lock(&self.0.shards);
        shards.retain(|shard| shard.strong_count() > 0);
        shards.push(Arc::downgrade(&shard));
        Shard(shard)
    }

    /// Why the host is not healthy; nothing when it is.
    pub fn unhealthy(&self) -> Vec<String> {
        self.unhealthy_at(Instant::now())
    }

    fn unhealthy_at(&self, now: Instant) -> Vec<String> {
        let limit = u64::try_from(TURN_MAX.as_millis()).unwrap_or(u64::MAX);
        let now = millis(self.0.started, now);
        self.shards()
            .filter_map(|shard| {
                let idle_ms = now.saturating_sub(shard.turned_ms.load(Ordering::Relaxed));
                (idle_ms > limit).then(|| format!("shard {} has not turned for {} s", shard.name, idle_ms / 1000))
            })
            .collect()
    }

    /// Why the host is not ready; nothing when it is.
    pub fn unready(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        if self.0.stopping.load(Ordering::Relaxed) {
            reasons.push("the host is draining".to_owned());
        }
        if lock(&self.0.generation).is_none() {
            reasons.push("no generation serves yet".to_owned());
        }
        if !self.0.broker_answers.load(Ordering::Relaxed) {
            reasons.push("the broker has not answered yet".to_owned());
        }
        let waiting = self.shards().filter(|shard| !shard.assigned.load(Ordering::Relaxed));
        reasons.extend(waiting.map(|shard| format!("shard {} has no assignment yet", shard.name)));
        reasons
    }

    /// The live generation, if there is one.
    pub fn report(&self) -> Option<Report> {
        let generation = lock(&self.0.generation).clone()?;
        let plugin = |plugin: &Plugin| PluginReport {
            sha256: plugin.sha256.clone(),
            bytes: plugin.bytes,
            loaded_at: plugin.loaded_at.to_string(),
            candidate: None,
        };
        Some(Report {
            generation: generation.number,
            hash: generation.hash.clone(),
            config_sha256: generation.config_sha256.clone(),
            plugins: generation.plugins.iter().map(|(name, value)| (name.clone(), plugin(value))).collect(),
            listen: self.0.listen.clone(),
            last_refused: None,
        })
    }

    fn shards(&self) -> impl Iterator<Item = Arc<ShardInner>> {
        let shards = lock(&self.0.shards).clone();
        shards.into_iter().filter_map(|shard| shard.upgrade())
    }
}

/// What one shard says of itself, at most once for each of its turns.
#[derive(Debug)]
pub struct Shard(Arc<ShardInner>);

#[derive(Debug)]
struct ShardInner {
    name: String,
    started: Instant,
    turned_ms: AtomicU64,
    assigned: AtomicBool,
}

impl Shard {
    /// Says that the shard's loop has come round.
    pub fn turned(&self, now: Instant) {
        self.0.turned_ms.store(millis(self.0.started, now), Ordering::Relaxed);
    }

    /// Says that the group has given the shard its partitions, perhaps none.
    pub fn assigned(&self) {
        self.0.assigned.store(true, Ordering::Relaxed);
    }
}

fn millis(from: Instant, to: Instant) -> u64 {
    u64::try_from(to.saturating_duration_since(from).as_millis()).unwrap_or(u64::MAX)
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
        let (busy, stuck) = (status.shard("payments", 0), status.shard("payments", 1));
        let later = Instant::now() + TURN_MAX + Duration::from_secs(5);
        busy.turned(later);
        assert_eq!(status.unhealthy(), Vec::<String>::new());
        assert_eq!(status.unhealthy_at(later), ["shard payments/1 has not turned for 25 s"]);
        drop(stuck);
        assert_eq!(status.unhealthy_at(later), Vec::<String>::new());
    }

    #[test]
    fn a_host_is_ready_when_all_its_shards_are() {
        let status = status();
        let (one, two) = (status.shard("payments", 0), status.shard("payments", 1));
        status.serves(generation());
        status.broker_answers(true);
        one.assigned();
        assert_eq!(status.unready(), ["shard payments/1 has no assignment yet"]);
        two.assigned();
        assert_eq!(status.unready(), Vec::<String>::new());
        status.broker_answers(false);
        assert_eq!(status.unready(), ["the broker has not answered yet"]);
        status.broker_answers(true);
        status.stops();
        assert_eq!(status.unready(), ["the host is draining"]);
    }
}
