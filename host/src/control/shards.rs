//! The shards of this host: how many a group has, starting their threads, and stopping them. What they do is theirs.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::panic::AssertUnwindSafe;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::status::Status;
use super::stopped::{self, Cure, StoppedView};
use super::topics::{self, Found};
use crate::config::model;
use crate::data::handover::{Cutover, Handover, Pauses, Positions, Starts};
use crate::data::plugin::THREAD_STACK_BYTES;
use crate::data::program::Program;
use crate::data::shard::{Command, Ended, Granted, Health, Settings, Shard, Wish};
use crate::kafka::topics::TopicInfo;
use crate::kafka::{self, Connection, Partition, TopicId};

/// Beyond the drain's own deadline: to leave the group, and to end.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a shard ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// One of its clients can't go on.
    #[error("shard {shard} stopped")]
    Kafka {
        /// `GROUP/NUMBER`
        shard: String,
        /// What happened.
        source: kafka::Error,
    },
    /// A fault of the host's.
    #[error("shard {shard} panicked: {message}")]
    Panicked {
        /// `GROUP/NUMBER`
        shard: String,
        /// The panic's words.
        message: String,
    },
    /// It could not be started.
    #[error("the thread of shard {shard} could not be started")]
    Thread {
        /// `GROUP/NUMBER`
        shard: String,
        /// What the system said.
        source: std::io::Error,
    },
}

/// A shard that runs.
struct Running {
    /// Tells it from all others that there ever were.
    id: u64,
    /// Of the shard, in its group.
    number: usize,
    thread: JoinHandle<()>,
    commands: Sender<Command>,
    health: Arc<Health>,
    started: Instant,
    /// What became of the one that it was started in place of, if that ended by itself.
    before: Option<Stopped>,
}

/// A shard that ended by itself, and may be started again.
#[derive(Clone)]
struct Stopped {
    number: usize,
    /// How often in a row it has.
    ends: u32,
    /// When it is started again, if by itself.
    due: Option<Instant>,
    view: StoppedView,
}

/// A group that runs.
struct Group {
    handover: Arc<Handover>,
    shards: Vec<Running>,
    /// Those of its shards that have ended by themselves.
    stopped: Vec<Stopped>,
    /// The largest batch that its producers write: set when they are made.
    batch_bytes_max: usize,
    /// The number of its next shard.
    next_number: usize,
}

/// What a group is to run.
pub struct Wanted {
    /// What its shards follow.
    pub program: Arc<Program>,
    /// How many of them.
    pub shards: usize,
    /// Where partitions begin that the group has no offset for: those whose routes another group had.
    pub starts: Starts,
    /// The topics that it is not to begin to read yet.
    pub later: BTreeSet<String>,
}

/// All shards.
pub struct Shards {
    connection: Connection,
    instance: String,
    status: Status,
    groups: BTreeMap<String, Group>,
    running: usize,
    /// How many were ever started.
    started: u64,
    ended: UnboundedReceiver<(u64, Result<Ended, Error>)>,
    report: UnboundedSender<(u64, Result<Ended, Error>)>,
    /// The routes that are paused.
    pauses: Pauses,
}

/// How many shards a group gets: as many as it says, or its part of the machine's cores; at most one a partition.
pub fn count(group: &model::Group, groups: usize, cores: usize, partitions: usize) -> usize {
    let wanted = group.shards.map_or(cores / groups.max(1), std::num::NonZero::get);
    wanted.clamp(1, partitions.max(1))
}

impl Shards {
    /// None yet.
    pub fn new(connection: Connection, instance: String, status: Status) -> Self {
        let (report, ended) = unbounded_channel();
        let (groups, pauses) = (BTreeMap::new(), Pauses::default());
        Self { connection, instance, status, groups, running: 0, started: 0, ended, report, pauses }
    }

    /// Says which routes are paused, to the shards that there are and that come.
    pub fn pause(&mut self, pauses: Pauses) {
        for group in self.groups.values() {
            group.handover.pause(Arc::clone(&pauses));
        }
        self.pauses = pauses;
    }

    /// The topics that are read.
    pub fn read(&self) -> BTreeSet<String> {
        self.groups.values().flat_map(|group| group.handover.newest().topics.clone()).collect()
    }

    /// Has shards compare the topics that their partitions are of with these ids.
    pub fn compare_topics(&self, ids: HashMap<String, TopicId>) {
        let ids = Arc::new(ids);
        for shard in self.groups.values().flat_map(|group| &group.shards) {
            // One that has ended doesn't hear it.
            let _ = shard.commands.send(Command::Compare { ids: Arc::clone(&ids) });
        }
    }

    /// Has routes trusted again, by their ids.
    pub fn trust(&self, routes: &BTreeSet<String>) {
        for shard in self.groups.values().flat_map(|group| &group.shards) {
            // One that has ended doesn't hear it.
            let _ = shard.commands.send(Command::Trust { routes: routes.clone() });
        }
    }

    /// Tells each shard of a group what an operator wants of a partition. Where they answer, and how many.
    pub fn wish(&self, group: &str, partition: &Partition, wish: Wish) -> (Receiver<Granted>, usize) {
        let (reply, replies) = channel();
        let shards = self.groups.get(group).map(|group| group.shards.as_slice()).unwrap_or_default();
        let tell = |shard: &&Running| {
            let (partition, reply) = (partition.clone(), reply.clone());
            shard.commands.send(Command::Wish { partition, wish, reply }).is_ok()
        };
        let told = shards.iter().filter(tell).count();
        (replies, told)
    }

    /// Hands a group what it is to run, and starts or stops shards as it needs. Where `positions` is there, every shard that
    /// ran before says on it where its partitions go on.
    ///
    /// # Errors
    /// Where a thread can't be started.
    pub fn hand_over(
        &mut self,
        wanted: Wanted,
        found: &Found,
        positions: Option<Positions>,
        drain_timeout: Duration,
    ) -> Result<(), Error> {
        let Wanted { program, shards, starts, later } = wanted;
        let name = program.group.clone();
        let before = self.groups.get(&name).map(|group| group.handover.newest());
        let reads = |topic: &String| before.as_ref().is_some_and(|before| before.topics.contains(topic));
        let mut topics = topics::of_group(&program, &found.present);
        topics.retain(|topic| !later.contains(topic) || reads(topic));
        let starts =
            before.as_ref().map_or(Starts::clone(&starts), |before| still_valid(&before.starts, &starts, &topics));
        let output = |name: &String| (name.clone(), found.sizes.record_bytes_max(name, &self.connection));
        let written = program.written();
        let written = written.iter().map(|number| program.topics[usize::from(*number)].as_str());
        let batch_bytes_max = found.sizes.batch_bytes_max(written);
        let cutover = Cutover {
            topics,
            outputs: program.topics.iter().map(output).collect(),
            positions: positions.map(Mutex::new),
            program,
            starts,
        };
        match self.groups.get_mut(&name) {
            Some(group) => {
                // Who is to stop hears it before there is something newer to follow.
                drain(&mut group.shards.drain(shards.min(group.shards.len())..), drain_timeout);
                // What the broker doesn't say this time is no reason to begin anew.
                if let Some(smaller) = batch_bytes_max.filter(|bytes| *bytes < group.batch_bytes_max) {
                    // A producer's batches can't be made smaller: others take its place, through the group.
                    drain(&mut group.shards.drain(..), drain_timeout);
                    group.batch_bytes_max = smaller;
                }
                if before.is_some_and(|before| before.program.guarantee != cutover.program.guarantee) {
                    // A producer writes transactions, or doesn't: others take its place, through the group.
                    drain(&mut group.shards.drain(..), drain_timeout);
                }
                group.handover.publish(cutover);
            }
            None => {
                let handover = Handover::new(cutover, Arc::clone(&self.pauses));
                let batch_bytes_max = batch_bytes_max.unwrap_or(kafka::settings::BATCH_BYTES_MAX);
                let (shards, stopped) = (Vec::new(), Vec::new());
                let group = Group { handover, shards, stopped, batch_bytes_max, next_number: 0 };
                self.groups.insert(name.clone(), group);
            }
        }
        self.resize(&name, shards)
    }

    fn resize(&mut self, name: &str, count: usize) -> Result<(), Error> {
        let group = self.groups.get_mut(name).expect("the group runs");
        let before = group.shards.len();
        // Those that ended by themselves are first: what they are called is what somebody may have been given rights to.
        let mut stopped = std::mem::take(&mut group.stopped).into_iter();
        for _ in before..count {
            match stopped.next() {
                Some(stopped) => self.start(name, stopped.number, Some(stopped))?,
                None => {
                    let group = self.groups.get_mut(name).expect("the group runs");
                    let number = group.next_number;
                    group.next_number += 1;
                    self.start(name, number, None)?;
                }
            }
        }
        self.tell_stopped();
        match before {
            0 => tracing::info!(group = name, shards = count, "The group's shards have started."),
            before if before != count => {
                tracing::info!(group = name, shards = count, before, "The group has another number of shards.");
            }
            _ => {}
        }
        Ok(())
    }

    fn start(&mut self, group: &str, number: usize, before: Option<Stopped>) -> Result<(), Error> {
        let of = self.groups.get_mut(group).expect("the group runs");
        let (handover, batch_bytes_max) = (Arc::clone(&of.handover), of.batch_bytes_max);
        let name = format!("{group}/{number}");
        let health = Arc::new(Health::default());
        self.status.shard(name.clone(), &health);
        let settings = Settings {
            name: name.clone(),
            connection: self.connection.clone(),
            client_id: format!("midplane.{group}.{}.{number}", self.instance),
            transactional_id: format!("midplane.{group}.{}.{number}", self.instance),
            consumer_buffer_bytes: kafka::settings::CONSUMER_BUFFER_BYTES,
            producer_buffer_bytes: kafka::settings::PRODUCER_BUFFER_BYTES * 2,
            record_bytes_max: kafka::settings::RECORD_BYTES_MAX,
            batch_bytes_max,
            handover,
            failures: self.status.metrics().failures().clone(),
            filtered: self.status.metrics().filtered().clone(),
            throttled: self.status.metrics().throttled().clone(),
        };
        let (commands, receiver) = channel();
        self.started += 1;
        let id = self.started;
        let (report, shard, of_shard) = (self.report.clone(), name.clone(), Arc::clone(&health));
        let run = move || {
            let run = AssertUnwindSafe(|| Shard::start(settings, receiver, of_shard).and_then(Shard::run));
            let ended = match std::panic::catch_unwind(run) {
                Ok(ended) => ended.map_err(|source| Error::Kafka { shard, source }),
                Err(panic) => Err(Error::Panicked { shard, message: panic_message(&*panic) }),
            };
            // Nobody listens any more only where the host has given up waiting.
            let _ = report.send((id, ended));
        };
        let thread = std::thread::Builder::new().name(format!("shard-{name}")).stack_size(THREAD_STACK_BYTES);
        let thread = thread.spawn(run).map_err(|source| Error::Thread { shard: name, source })?;
        self.running += 1;
        let shard = Running { id, number, thread, commands, health, started: Instant::now(), before };
        self.groups.get_mut(group).expect("the group runs").shards.push(shard);
        Ok(())
    }

    /// Starts the shards again that have ended by themselves: somebody says so.
    ///
    /// # Errors
    /// Where a thread can't be started.
    pub fn start_stopped(&mut self) -> Result<(), Error> {
        self.start_those(|_| true)
    }

    fn start_those(&mut self, are: impl Fn(&Stopped) -> bool) -> Result<(), Error> {
        let stopped = self.groups.iter_mut().flat_map(|(name, group)| {
            let those = group.stopped.extract_if(.., |stopped| are(stopped));
            those.map(|stopped| (name.clone(), stopped)).collect::<Vec<_>>()
        });
        for (group, stopped) in stopped.collect::<Vec<_>>() {
            tracing::info!(shard = stopped.view.shard, "A shard that had stopped is started again.");
            self.start(&group, stopped.number, Some(stopped))?;
        }
        self.tell_stopped();
        Ok(())
    }

    /// Shows what has ended by itself.
    fn tell_stopped(&self) {
        let of_group = |group: &Group| {
            let alone = group.stopped.iter().map(|stopped| (stopped.view.clone(), Weak::new()));
            let again = group.shards.iter().filter_map(|shard| {
                let before = shard.before.as_ref()?;
                Some((before.view.clone(), Arc::downgrade(&shard.health)))
            });
            alone.chain(again).collect::<Vec<_>>()
        };
        self.status.shards_stopped(self.groups.values().flat_map(of_group).collect());
    }

    /// Stops a group that no route is in any more. Gives the threads that drain, for who has to wait for them.
    pub fn retire(&mut self, name: &str, drain_timeout: Duration) -> Vec<JoinHandle<()>> {
        let Some(mut group) = self.groups.remove(name) else { return Vec::new() };
        tracing::info!(group = name, shards = group.shards.len(), "The group stops: it has no routes any more.");
        self.tell_stopped();
        drain(&mut group.shards.drain(..), drain_timeout)
    }

    /// Whether every shard follows this generation, or a newer one.
    pub fn follow(&self, generation: u64) -> bool {
        let mut shards = self.groups.values().flat_map(|group| &group.shards);
        shards.all(|shard| shard.health.generation() >= generation)
    }

    /// Whether a group runs.
    pub fn runs(&self, group: &str) -> bool {
        self.groups.contains_key(group)
    }

    /// How many shards of a group run.
    pub fn count_of(&self, group: &str) -> usize {
        self.groups.get(group).map_or(0, |group| group.shards.len())
    }

    /// How many shards a group has, with those that have ended by themselves.
    pub fn count_with_stopped(&self, group: &str) -> usize {
        self.groups.get(group).map_or(0, |group| group.shards.len() + group.stopped.len())
    }

    /// How many topics a group reads.
    pub fn topics_of(&self, group: &str) -> usize {
        self.groups.get(group).map_or(0, |group| group.handover.newest().topics.len())
    }

    /// Tells the shards which topics there are, where that changes what they read.
    pub fn topics_changed(&mut self, present: &[TopicInfo]) {
        for (name, group) in &self.groups {
            let newest = group.handover.newest();
            if !newest.program.index.has_patterns() {
                continue;
            }
            let topics = topics::of_group(&newest.program, present);
            if topics != newest.topics {
                tracing::info!(group = name, topics = topics.len(), "The group reads other topics now.");
                group.handover.publish(Cutover {
                    program: Arc::clone(&newest.program),
                    topics,
                    outputs: newest.outputs.clone(),
                    positions: None,
                    starts: newest.starts.clone(),
                });
            }
        }
    }

    /// Waits until a shard ends, or is to be started again, and sees to it: of one that ended by itself the others know nothing.
    /// To be called again and again; nothing is lost where it is not waited for to the end.
    ///
    /// # Errors
    /// Where nothing but another process helps.
    pub async fn look_after(&mut self) -> Result<(), Error> {
        let due = self.groups.values().flat_map(|group| &group.stopped).filter_map(|stopped| stopped.due).min();
        let wait = async {
            match due {
                Some(due) => tokio::time::sleep_until(due.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some((id, ended)) = self.ended.recv() => {
                self.running -= 1;
                match ended {
                    Ok(Ended { clean: true }) => Ok(()),
                    Ok(Ended { clean: false }) => {
                        tracing::warn!("A shard that was stopped left something unacknowledged: it is read again.");
                        Ok(())
                    }
                    Err(error) => self.has_failed(id, error),
                }
            }
            () = wait => {
                let now = Instant::now();
                self.start_those(|stopped| stopped.due.is_some_and(|due| due <= now))
            }
        }
    }

    /// A shard has ended by itself.
    fn has_failed(&mut self, id: u64, error: Error) -> Result<(), Error> {
        let cure = Cure::of(&error);
        if cure == Cure::NewProcess {
            return Err(error);
        }
        let found = self.groups.iter_mut().find_map(|(name, group)| {
            let index = group.shards.iter().position(|shard| shard.id == id)?;
            Some((name, index, group))
        });
        let Some((name, index, group)) = found else {
            tracing::warn!(error = %error_chain(&error), "A shard that was stopped did not end as it should: what it left is read again.");
            return Ok(());
        };
        let Running { number, started, before, .. } = group.shards.remove(index);
        let ends = stopped::in_a_row(before.map_or(0, |before| before.ends), started.elapsed());
        let wait = (cure == Cure::Time).then(|| stopped::wait(ends));
        let view = StoppedView::new(name, &format!("{name}/{number}"), &error, wait);
        tracing::error!(
            shard = view.shard,
            why = view.why,
            until = view.until,
            "A shard has stopped; the others go on."
        );
        group.stopped.push(Stopped { number, ends, due: wait.map(|wait| Instant::now() + wait), view });
        self.tell_stopped();
        Ok(())
    }

    /// Drains all shards. Whether everything was acknowledged and committed in time.
    pub async fn drain(&mut self, timeout: Duration) -> bool {
        for group in self.groups.values_mut() {
            drain(&mut group.shards.drain(..), timeout);
        }
        let mut clean = true;
        let all = async {
            while self.running > 0 {
                match self.ended.recv().await {
                    Some((_, Ok(ended))) => clean &= ended.clean,
                    Some((_, Err(error))) => {
                        tracing::error!(error = %error_chain(&error), "A shard did not stop as it should.");
                        clean = false;
                    }
                    None => return,
                }
                self.running -= 1;
            }
        };
        if tokio::time::timeout(timeout + LEAVE_TIMEOUT, all).await.is_err() {
            tracing::error!(shards = self.running, "Shards did not stop in time.");
            return false;
        }
        clean
    }
}

/// Where partitions begin, with what was said of others before: they may not have been assigned since.
fn still_valid(before: &Starts, now: &Starts, topics: &[String]) -> Starts {
    let read = before.iter().filter(|((topic, _), _)| topics.iter().any(|read| **read == **topic));
    let mut starts: HashMap<_, _> = read.map(|(partition, start)| (partition.clone(), *start)).collect();
    starts.extend(now.iter().map(|(partition, start)| (partition.clone(), *start)));
    Starts::new(starts)
}

/// Tells shards to stop, and gives their threads. One that has ended already doesn't hear it.
fn drain(shards: &mut dyn Iterator<Item = Running>, timeout: Duration) -> Vec<JoinHandle<()>> {
    let stop = |shard: Running| {
        let _ = shard.commands.send(Command::Drain { timeout });
        shard.thread
    };
    shards.map(stop).collect()
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}

/// An error with what caused it, on one line.
pub fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(&format!(": {error}"));
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::{OutOfRange, Start};

    #[test]
    fn where_partitions_begin_holds_until_their_topic_is_read_no_more() {
        let starts = |list: &[(&str, i64)]| -> Starts {
            Arc::new(list.iter().map(|(topic, start)| (((*topic).into(), 0), *start)).collect())
        };
        let topics = ["a", "b", "c"].map(str::to_owned);
        let valid = still_valid(&starts(&[("a", 1), ("b", 2), ("gone", 3)]), &starts(&[("b", 20), ("c", 30)]), &topics);
        assert_eq!(valid, starts(&[("a", 1), ("b", 20), ("c", 30)]));
    }

    #[test]
    fn cores_are_divided_among_groups() {
        let check = |shards, groups, cores, partitions, expected| {
            let group = model::Group {
                name: "g".to_owned(),
                guarantee: model::Guarantee::AtLeastOnce,
                commit_interval: Duration::from_millis(100),
                shards: std::num::NonZero::new(shards),
                start: Start::Earliest,
                out_of_range: OutOfRange::Halt,
                routes: vec![0],
            };
            assert_eq!(count(&group, groups, cores, partitions), expected);
        };
        check(0, 1, 8, 100, 8);
        check(0, 3, 8, 100, 2);
        check(0, 20, 8, 100, 1);
        check(0, 1, 8, 4, 4);
        check(5, 1, 2, 100, 5);
        check(5, 1, 2, 3, 3);
        check(0, 1, 8, 0, 1);
    }
}
