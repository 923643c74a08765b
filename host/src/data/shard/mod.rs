//! A shard: one thread of one group, with its own consumer, producer and plugin instances. Moves events along their path
//! and carries out what the engine decides; decides nothing about them itself, and never waits for the control plane.
//!
//! One turn of its loop: commands, what happened to the group, what the broker acknowledged, what the time demands, then
//! the newest generation, and a batch of events under it. Nothing in it sleeps but the wait for events, and that ends when there is something else to do.

mod account;
mod carry;
mod counts;
mod cutover;
mod failures;
mod filters;
mod group;
mod hands;
mod health;
mod part;
mod process;
mod produce;
mod said;
mod skip;
mod throttle;
mod transaction;
mod trials;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::time::{Duration, Instant};

pub use self::account::{Account, Condition, PartitionAccount};
use self::carry::Flow;
use self::failures::Failures;
pub use self::failures::{Failed, FailureCounts, OutOfRange, Retried};
pub use self::filters::{FilterCounts, Filtered};
pub use self::hands::{Granted, Wish};
pub use self::health::Health;
use self::process::Calls;
use self::said::Said;
use self::throttle::Throttles;
pub use self::throttle::{Throttled, ThrottledTimes};
use self::transaction::{Patience, Settling};
use super::engine::{Engine, Now, Settings as EngineSettings};
use super::handover::Handover;
use super::lane::Lanes;
use super::program::Program;
use super::sink::Sink;
use crate::config::model::{Backoff, Guarantee};
use crate::kafka::{self, Batch, Connection, Consumer, ConsumerSettings, Partition, ProducerSettings, TopicId};

/// Events in one drain: more of them don't stay in the processor's caches.
const DRAIN_EVENTS_MAX: usize = 1_024;
/// Bytes of keys and values in one drain.
const DRAIN_BYTES_MAX: usize = 4 << 20;
/// How long to wait for events while messages are in flight, whose reports don't end the wait.
const BUSY_WAIT: Duration = Duration::from_millis(2);
/// How long to wait for events while there is nothing else: a command waits as long at most.
const IDLE_WAIT: Duration = Duration::from_millis(50);

/// What a shard is started with.
pub struct Settings {
    /// Names it to whoever reads the log: `GROUP/NUMBER`.
    pub name: String,
    /// Where.
    pub connection: Connection,
    /// Names its clients to the broker; unique among all members.
    pub client_id: String,
    /// The name under which its producer writes transactions: of this group, host and shard, and of nobody else.
    pub transactional_id: String,
    /// Bytes that its consumer prefetches.
    pub consumer_buffer_bytes: usize,
    /// Bytes that its producer holds.
    pub producer_buffer_bytes: usize,
    /// The largest record that is tried.
    pub record_bytes_max: usize,
    /// The largest batch of records that is written.
    pub batch_bytes_max: usize,
    /// What it follows, now and later.
    pub handover: Arc<Handover>,
    /// Where it counts what fails.
    pub failures: FailureCounts,
    /// Where it counts what filters say.
    pub filtered: FilterCounts,
    /// Where it counts for how long the broker holds its clients back.
    pub throttled: ThrottledTimes,
}

/// What a shard is told by the control plane.
#[derive(Debug)]
pub enum Command {
    /// Stop, settle, commit, and end, until the deadline at the latest.
    Drain {
        /// How long that may take.
        timeout: Duration,
    },
    /// Do what an operator wants of a partition.
    Wish {
        /// Which.
        partition: Partition,
        /// What.
        wish: Wish,
        /// Takes what became of it.
        reply: Sender<Granted>,
    },
    /// Compare the topics that partitions are of with what the broker says that they are.
    Compare {
        /// The topics' ids, by name.
        ids: Arc<HashMap<String, TopicId>>,
    },
    /// Close the breakers of these routes, by id.
    Trust {
        /// Which.
        routes: BTreeSet<String>,
    },
}

/// How a shard ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// Whether everything that was produced was acknowledged, and committed.
    pub clean: bool,
}

/// A running shard, from its own thread's view.
pub struct Shard {
    program: Arc<Program>,
    /// The newest of what was handed over that this shard follows.
    version: u64,
    /// The newest for which nothing was in flight any more, where that was waited for.
    dry: Option<u64>,
    batch: Batch,
    calls: Calls,
    flow: Flow,
}

impl Shard {
    /// Makes the clients and joins the group. Needs no broker yet. To be called on the shard's own thread, which the
    /// plugins' instances never leave.
    ///
    /// # Errors
    /// Where a client setting is refused.
    pub fn start(settings: Settings, commands: Receiver<Command>, health: Arc<Health>) -> Result<Self, kafka::Error> {
        let Settings { name, connection, client_id, handover, failures, filtered, throttled, .. } = settings;
        let (version, first) = handover.newer(0).expect("something was handed over before there was a shard");
        let program = Arc::clone(&first.program);
        let consumer = Consumer::new(&ConsumerSettings {
            connection: connection.clone(),
            group: program.group.clone(),
            client_id: client_id.clone(),
            buffer_bytes: settings.consumer_buffer_bytes,
        })?;
        let transactional = program.guarantee == Guarantee::ExactlyOnce;
        let written = ProducerSettings {
            connection,
            client_id,
            transactional_id: transactional.then_some(settings.transactional_id),
            buffer_bytes: settings.producer_buffer_bytes,
            record_bytes_max: settings.record_bytes_max,
            batch_bytes_max: settings.batch_bytes_max,
        };
        let sink = Sink::new(written, &first.outputs)?;
        if first.topics.is_empty() {
            // There is nothing to join the group for, before a pattern matches.
            health.assigned();
        } else {
            consumer.subscribe(first.topics.iter().map(String::as_str))?;
        }
        health.follows(program.generation);
        let flow = Flow {
            name,
            engine: Engine::new(engine_settings(&program)),
            lanes: Lanes::default(),
            sink,
            started: Instant::now(),
            happenings: VecDeque::new(),
            coming: Vec::new(),
            going: Vec::new(),
            resumes: Vec::new(),
            retired: Vec::new(),
            returning: Vec::new(),
            starts: Arc::clone(&first.starts),
            topics: first.topics.clone(),
            missing: BTreeSet::new(),
            draining: false,
            settling: transactional.then_some(Settling::Begin),
            taken_over_in_vain: 0,
            patience: Patience::default(),
            fenced_at: None,
            read_back_said: None,
            ranges: Vec::new(),
            drained: None,
            topic_ids: HashMap::new(),
            handover,
            paused: Arc::default(),
            pauses_seen: 0,
            open_breakers: Vec::new(),
            failures: Failures::new(failures),
            throttles: Throttles::new(&throttled, &program.group),
            said: Said::default(),
            commands,
            health,
            consumer,
        };
        let (batch, calls) = (flow.consumer.batch(), Calls::new(&program, filtered));
        Ok(Self { program, version, dry: None, batch, calls, flow })
    }

    /// Runs until it is drained.
    ///
    /// # Errors
    /// Where a client can't go on. What was not committed is read again by whoever gets the partitions.
    pub fn run(mut self) -> Result<Ended, kafka::Error> {
        let ended = self.turn_until_drained().and_then(|clean| self.end(clean));
        if ended.is_err()
            && let Err(error) = self.flow.answer_group()
        {
            tracing::debug!(shard = self.flow.name, %error, "The group is left without its answers.");
        }
        ended
    }

    /// Turns, until the drain has ended. Whether it was clean.
    fn turn_until_drained(&mut self) -> Result<bool, kafka::Error> {
        loop {
            self.flow.attend(&self.program)?;
            if let Some(clean) = self.flow.drained {
                return Ok(clean);
            }
            self.reach_boundary()?;
            if !self.flow.takes_events() {
                self.flow.wait_for_reports(BUSY_WAIT)?;
                continue;
            }
            let wait = self.flow.wait();
            self.flow.consumer.drain(&mut self.batch, DRAIN_EVENTS_MAX, DRAIN_BYTES_MAX, wait);
            let run = self.flow.lanes.newest_run();
            // After the wait, so that what was published meanwhile is not one batch late.
            self.cut_over()?;
            self.work_off(run)?;
        }
    }

    /// Leaves the group, so that others take over at once.
    fn end(&mut self, clean: bool) -> Result<Ended, kafka::Error> {
        self.batch.clear();
        if !clean {
            self.flow.give_up_at_the_end()?;
            self.flow.sink.purge();
        }
        self.flow.leave()?;
        self.calls.filters.say(&self.program);
        let counts = self.flow.sink.counts();
        tracing::info!(
            shard = self.flow.name,
            group = self.program.group,
            events = self.calls.events(),
            outputs = counts.outputs,
            letters = counts.letters,
            clean,
            "The shard has stopped."
        );
        Ok(Ended { clean })
    }
}

fn engine_settings(program: &Program) -> EngineSettings {
    EngineSettings {
        guarantee: program.guarantee,
        commit_interval: program.commit_interval,
        revoke_timeout: Duration::from_secs(5),
        blocked_wait: Duration::from_millis(250),
        // Each takes 16 bytes.
        events_max: 1 << 18,
        transaction_timeout: kafka::settings::TRANSACTION_TIMEOUT,
        failed_wait: Backoff { first: Duration::from_millis(250), max: Duration::from_secs(5), jitter: 0.2 },
        // Different for every shard of every host, so that they don't come back all at once.
        seed: std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), &program.group),
    }
}

/// Time since the shard's start, as the engine counts it.
fn since(started: Instant) -> Now {
    started.elapsed()
}
