//! All transactions of the broker: hands requests to the state machine, has what it decides written to the journal, and
//! carries it out in the logs and the groups' offsets. It owns the lock; decisions are the machine's.
//!
//! How a transaction ends is in the journal before its first marker is in a log, and that it has ended only once all
//! markers and offsets are in theirs. Whatever lies in between is done at the next start, and doing it twice does nothing.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use kafka_protocol::error::ResponseError;
use tokio::sync::Notify;

use super::journal::Journal;
use super::machine::{End, Event, Fact, Init, Machine, Millis, Open, Producer, State};
use crate::Error;
use crate::clock::Clock;
use crate::groups::coordinator::Coordinator as Groups;
use crate::groups::offsets::{Committed, Partition};
use crate::storage::batch::Outcome;
use crate::storage::log::Log;
use crate::topics::Topics;

/// How long a transaction that could not be ended is left alone before it is tried again.
const RETRY: Millis = 1000;

/// All transactions, and where they take place.
#[derive(Debug)]
pub(crate) struct Coordinator {
    topics: Arc<Topics>,
    groups: Arc<Groups>,
    /// Held while a transaction ends, so that nobody sees it half ended.
    running: Mutex<Running>,
    /// Told when there is something to do earlier than thought.
    changed: Notify,
    clock: Clock,
}

#[derive(Debug)]
struct Running {
    machine: Machine,
    journal: Journal,
    /// When time is looked at next.
    wakes: Option<Millis>,
}

impl Running {
    /// Lets things have happened, durably.
    fn record(&mut self, facts: Vec<Fact>) -> Result<(), Error> {
        self.journal.append(&facts)?;
        for fact in facts {
            let applied = self.machine.apply(fact);
            debug_assert!(applied.is_some(), "decided by the machine itself");
        }
        self.journal.shorten(&self.machine)
    }
}

/// A time in whole milliseconds. Rounded up: what is due at a deadline is due once the timer of that deadline has fired.
fn millis(at: SystemTime) -> Millis {
    at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_micros().div_ceil(1000) as Millis
}

impl Coordinator {
    /// Opens the journal of a data folder, ends what was about to end, and lets go on what was open. Blocks on the file
    /// system.
    pub(crate) fn open(folder: &Path, topics: Arc<Topics>, groups: Arc<Groups>, clock: Clock) -> Result<Self, Error> {
        let (journal, mut machine) = Journal::open(folder)?;
        machine.clamp(millis(clock.now()));
        let running = Mutex::new(Running { machine, journal, wakes: None });
        let coordinator = Self { topics, groups, running, changed: Notify::new(), clock };
        coordinator.recover()?;
        Ok(coordinator)
    }

    fn recover(&self) -> Result<(), Error> {
        let mut running = self.running();
        for transactional_id in running.machine.prepared() {
            tracing::info!(
                transactional_id,
                "Transaction brought to the end that was settled before the broker stopped."
            );
            self.finish(&mut running, &transactional_id)?;
        }
        let mut open = HashSet::new();
        for (_, known) in running.machine.all() {
            for &partition in known.open().into_iter().flat_map(|open| &open.partitions) {
                open.insert((partition, known.producer.id));
                if let Some(log) = self.log(partition) {
                    log.admit(known.producer.id, known.producer.epoch);
                }
            }
        }
        for topic in self.topics.all() {
            for (index, log) in (0..).zip(&topic.partitions) {
                for (id, epoch) in log.open_transactions() {
                    if !open.contains(&((topic.id, index), id)) {
                        // The machine lost power, and with it what the journal said of this.
                        tracing::warn!(
                            topic = topic.name,
                            partition = index,
                            "Transaction aborted: its journal is lost."
                        );
                        log.end_transaction((id, epoch), Outcome::Abort, self.clock.now())?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Gives a producer a transactional id. An open transaction of the producer before it is aborted. Blocks on the file
    /// system.
    pub(crate) fn init(
        &self,
        transactional_id: &str,
        timeout: Millis,
        claimed: Option<Producer>,
    ) -> Result<Producer, ResponseError> {
        let mut running = self.running();
        loop {
            let event = match running.machine.init(transactional_id, claimed)? {
                Init::Same(producer) => return Ok(producer),
                Init::Abort(fact) => {
                    self.settle(&mut running, transactional_id, Some(fact))?;
                    continue;
                }
                Init::Finish => {
                    self.settle(&mut running, transactional_id, None)?;
                    continue;
                }
                Init::Assign { producer, previous } => Event::Assigned { producer, previous, timeout },
                Init::AssignNewId { previous } => {
                    let producer = Producer { id: self.topics.new_producer_id().map_err(failed)?, epoch: 0 };
                    Event::Assigned { producer, previous, timeout }
                }
            };
            running.record(vec![Fact { transactional_id: transactional_id.to_owned(), event }]).map_err(failed)?;
            let known = running.machine.get(transactional_id);
            return known.map(|known| known.producer).ok_or(ResponseError::CoordinatorNotAvailable);
        }
    }

    /// Makes partitions part of a transaction: its producer may write to them. Blocks on the file system.
    pub(crate) fn add_partitions(
        &self,
        transactional_id: &str,
        producer: Producer,
        partitions: Vec<Partition>,
    ) -> Result<(), ResponseError> {
        let mut running = self.running();
        self.add(&mut running, transactional_id, producer, (partitions.clone(), Vec::new()))?;
        // Still under the lock: it can't have ended in between.
        for log in partitions.into_iter().filter_map(|partition| self.log(partition)) {
            log.admit(producer.id, producer.epoch);
        }
        Ok(())
    }

    /// Makes a group part of a transaction: offsets may be committed for it. Blocks on the file system.
    pub(crate) fn add_group(
        &self,
        transactional_id: &str,
        producer: Producer,
        group: String,
    ) -> Result<(), ResponseError> {
        self.add(&mut self.running(), transactional_id, producer, (Vec::new(), vec![group]))
    }

    fn add(
        &self,
        running: &mut Running,
        transactional_id: &str,
        producer: Producer,
        more: (Vec<Partition>, Vec<String>),
    ) -> Result<(), ResponseError> {
        let Some(fact) = running.machine.add(transactional_id, producer, more, millis(self.clock.now()))? else {
            return Ok(());
        };
        let recorded = running.record(vec![fact]);
        let deadline = running.machine.get(transactional_id).and_then(|known| known.deadline());
        if deadline.is_some_and(|deadline| running.wakes.is_none_or(|wakes| deadline < wakes)) {
            self.changed.notify_one();
        }
        recorded.map_err(failed)
    }

    /// Keeps offsets of a group, to be committed with the transaction. Blocks on the file system.
    pub(crate) fn add_offsets(
        &self,
        transactional_id: &str,
        producer: Producer,
        group: &str,
        offsets: Vec<(Partition, Committed)>,
    ) -> Result<(), ResponseError> {
        let mut running = self.running();
        let facts = running.machine.add_offsets(transactional_id, producer, group, offsets)?;
        running.record(facts).map_err(failed)
    }

    /// Ends a transaction: once this returns, it has ended for everyone. Blocks on the file system.
    pub(crate) fn end(
        &self,
        transactional_id: &str,
        producer: Producer,
        outcome: Outcome,
    ) -> Result<(), ResponseError> {
        let mut running = self.running();
        match running.machine.end(transactional_id, producer, outcome)? {
            End::Prepare(fact) => self.settle(&mut running, transactional_id, Some(fact)),
            End::Finish => self.settle(&mut running, transactional_id, None),
            End::Done => Ok(()),
        }
    }

    /// Settles how a transaction ends, where it isn't yet, and ends it so. What fails here is tried again until it is
    /// done, whether the client comes back or not.
    fn settle(&self, running: &mut Running, transactional_id: &str, how: Option<Fact>) -> Result<(), ResponseError> {
        let recorded = how.map_or(Ok(()), |fact| running.record(vec![fact]));
        recorded.and_then(|()| self.finish(running, transactional_id)).map_err(|error| {
            self.changed.notify_one();
            failed(error)
        })
    }

    /// Why a log refused a batch of a transaction.
    pub(crate) fn why_refused(&self, transactional_id: &str, producer: Producer) -> ResponseError {
        match self.running().machine.check(transactional_id, producer) {
            Err(ResponseError::ProducerFenced) => ResponseError::InvalidProducerEpoch,
            Err(error) => error,
            Ok(_) => ResponseError::InvalidTxnState,
        }
    }

    /// Which offsets of a group a transaction that hasn't ended will change. Whoever reads committed offsets too asks this
    /// first: then what it reads is no older than this answer.
    pub(crate) fn unstable(&self, group: &str) -> HashSet<Partition> {
        self.running().machine.unstable(group)
    }

    /// Has everything written to disk.
    pub(crate) fn close(&self) -> Result<(), Error> {
        self.running().journal.sync()
    }

    /// Lets time pass for the transactions, for ever.
    pub(crate) async fn run(self: Arc<Self>) {
        loop {
            let tick = Arc::clone(&self);
            // A panic in there is reported by the runtime; what it was about is tried again.
            let next = tokio::task::spawn_blocking(move || tick.tick()).await;
            let next = next.unwrap_or_else(|_| Some(millis(self.clock.now()) + RETRY));
            match next.map(|at| self.clock.instant(SystemTime::UNIX_EPOCH + Duration::from_millis(at))) {
                Some(next) => {
                    let _ = tokio::time::timeout_at(next, self.changed.notified()).await;
                }
                None => self.changed.notified().await,
            }
        }
    }

    /// Aborts transactions whose time is over, and ends those that could not end before; says when to look again. Blocks
    /// on the file system.
    fn tick(&self) -> Option<Millis> {
        let now = millis(self.clock.now());
        let mut running = self.running();
        let overdue = running.machine.overdue(now);
        for fact in &overdue {
            let transactional_id = &fact.transactional_id;
            tracing::warn!(transactional_id, "Transaction aborted, and its producer fenced: it took too long.");
        }
        let recorded = if overdue.is_empty() { Ok(()) } else { running.record(overdue) };
        let prepared = running.machine.prepared();
        let ended = prepared.iter().map(|transactional_id| self.finish(&mut running, transactional_id));
        let failures = ended.chain([recorded]).filter_map(|outcome| outcome.map_err(failed).err()).count();
        let next = running.machine.next_deadline();
        running.wakes = if failures > 0 { Some(now + RETRY) } else { next };
        running.wakes
    }

    /// Ends a transaction as settled: in the logs, then in the offsets, then in the journal. Does nothing when it isn't
    /// settled.
    fn finish(&self, running: &mut Running, transactional_id: &str) -> Result<(), Error> {
        let Some(known) = running.machine.get(transactional_id) else { return Ok(()) };
        let State::Prepared(outcome, open) = &known.state else { return Ok(()) };
        let (outcome, producer, now) = (*outcome, known.producer, self.clock.now());
        for log in open.partitions.iter().filter_map(|&partition| self.log(partition)) {
            log.end_transaction((producer.id, producer.epoch), outcome, now)?;
        }
        let offsets = match outcome {
            Outcome::Commit => self.offsets_of(open),
            Outcome::Abort => BTreeMap::new(),
        };
        self.groups.commit_transaction(offsets, || {
            running.machine.forget_pending(transactional_id);
            let event = Event::Ended { outcome };
            running.record(vec![Fact { transactional_id: transactional_id.to_owned(), event }])
        })
    }

    /// What a transaction commits, by group; without that of topics that are gone.
    fn offsets_of(&self, open: &Open) -> BTreeMap<String, Vec<(Partition, Committed)>> {
        let mut offsets = BTreeMap::<String, Vec<_>>::new();
        for ((group, partition), committed) in &open.pending {
            if self.topics.get_by_id(partition.0).is_some() {
                offsets.entry(group.clone()).or_default().push((*partition, committed.clone()));
            }
        }
        offsets
    }

    fn log(&self, (topic, index): Partition) -> Option<Arc<Log>> {
        self.topics.get_by_id(topic)?.partition(index).cloned()
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Logs what only the operator can mend; clients are told to come again.
fn failed(error: Error) -> ResponseError {
    tracing::error!(error = &error as &dyn std::error::Error, "Transaction held up: the file system refused.");
    ResponseError::CoordinatorNotAvailable
}

#[cfg(test)]
#[path = "coordinator_tests.rs"]
mod tests;
