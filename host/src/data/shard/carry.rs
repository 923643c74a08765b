//! What flows around the events: the clients, the engine, and what its decisions mean for the clients. Everything of a
//! shard but the batch in hand and the plugins that it is handed to.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use super::failures::Failures;
use super::group::out_of_range;
use super::said::Said;
use super::throttle::Throttles;
use super::transaction::{Patience, Settling};
use super::{BUSY_WAIT, Command, Health, IDLE_WAIT, since};
use crate::data::engine::{Action, Cause, Engine, Input, LaneId, Now};
use crate::data::failure::Kind;
use crate::data::handover::{Handover, Pauses, Starts};
use crate::data::lane::Lanes;
use crate::data::program::Program;
use crate::data::sink::Sink;
use crate::data::stop::Known;
use crate::kafka::{self, Consumer, Happening, Partition, TopicId};

/// How long the client may take to seek: it is asked in its own process.
const SEEK_TIMEOUT: Duration = Duration::from_secs(1);

/// How often the event failed that a partition waits with, where a person should hear of it: not of what passes by itself, and
/// of what stays more and more rarely.
fn is_lasting(cause: Cause) -> Option<u32> {
    const SOON: u32 = 4;
    match cause {
        Cause::Breaker { failures: failures @ 1.., .. } => Some(failures),
        Cause::Retry { failures: failures @ SOON.., .. } if failures.is_power_of_two() => Some(failures),
        _ => None,
    }
}

/// The clients and the engine of a shard.
pub(super) struct Flow {
    /// Of the shard: `GROUP/NUMBER`.
    pub(super) name: String,
    pub(super) engine: Engine,
    pub(super) lanes: Lanes,
    pub(super) sink: Sink,
    pub(super) started: Instant,
    /// What was polled at a time when it could not be dealt with.
    pub(super) happenings: VecDeque<Happening>,
    /// Partitions that the group gave to this shard, and that don't know yet where to begin.
    pub(super) coming: Vec<Partition>,
    /// Partitions that the group takes away, and their lanes that are not released yet.
    pub(super) going: Vec<Going>,
    /// Partitions that are to be read on from an offset, and the client was not ready.
    pub(super) resumes: Vec<(LaneId, i64)>,
    /// Partitions of topics that no route reads any more: assigned, paused and without a lane until the group takes them.
    pub(super) retired: Vec<Partition>,
    /// Partitions that were retired and are to be read again, as soon as their lanes are released.
    pub(super) returning: Vec<Partition>,
    /// Where partitions begin that the group has no offset for.
    pub(super) starts: Starts,
    /// The topics that the group was joined for.
    pub(super) topics: Vec<String>,
    /// What the client said of those that aren't there.
    pub(super) missing: BTreeSet<String>,
    /// Partitions whose offset isn't in the log, and the broker didn't say where the log begins and ends; with their runs.
    pub(super) ranges: Vec<(LaneId, u64)>,
    /// What is left to do before another transaction begins, or another event is answered.
    pub(super) settling: Option<Settling>,
    /// How long the broker is waited for.
    pub(super) patience: Patience,
    /// When the producer's name was last found taken over by somebody.
    pub(super) fenced_at: Option<Instant>,
    /// Since when the group's offsets can't be read back, or when that was said last.
    pub(super) read_back_said: Option<Instant>,
    /// How often producers could not take their name over since one could.
    pub(super) taken_over_in_vain: u32,
    /// Whether the shard was told to stop.
    pub(super) draining: bool,
    /// Whether the drain has ended, and was clean.
    pub(super) drained: Option<bool>,
    /// The ids of the topics that it was given partitions of, where the broker says them.
    pub(super) topic_ids: HashMap<Arc<str>, TopicId>,
    /// Where generations and pauses are put down.
    pub(super) handover: Arc<Handover>,
    /// What operators have paused, and its version.
    pub(super) paused: Pauses,
    pub(super) pauses_seen: u64,
    /// The routes whose breakers were found open last, by id.
    pub(super) open_breakers: Vec<String>,
    /// Counts what fails.
    pub(super) failures: Failures,
    /// What the broker said of its clients' quotas.
    pub(super) throttles: Throttles,
    /// What would be said at every turn.
    pub(super) said: Said,
    pub(super) commands: Receiver<Command>,
    pub(super) health: Arc<Health>,
    pub(super) consumer: Consumer,
}

/// One revocation on its way.
#[derive(Debug)]
pub(super) struct Going {
    pub(super) partitions: Vec<Partition>,
    pub(super) lanes: Vec<LaneId>,
}

impl Flow {
    pub(super) fn now(&self) -> Now {
        since(self.started)
    }

    /// Everything but events: commands, what happened to the group, what the broker acknowledged, what the time demands.
    /// Also between the parts of a batch, so that slow plugins delay none of it.
    pub(super) fn attend(&mut self, program: &Program) -> Result<(), kafka::Error> {
        self.health.turned(self.lanes.len());
        if let Some(question) = self.health.question() {
            self.health.answer(question, self.account(program));
        }
        self.take_commands(program)?;
        self.take_pauses(program)?;
        self.note_breakers(program);
        self.take_happenings(program)?;
        self.take_reports()?;
        self.note_throttles();
        self.settle()?;
        for (lane, run) in std::mem::take(&mut self.ranges) {
            if self.lanes.run(lane) == Some(run) {
                out_of_range(program, self, lane)?;
            }
        }
        if self.engine.next_wakeup().is_some_and(|due| due <= self.now()) {
            self.step(Input::Tick)?;
        }
        Ok(())
    }

    pub(super) fn take_commands(&mut self, program: &Program) -> Result<(), kafka::Error> {
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Drain { timeout } => {
                    self.draining = true;
                    self.step(Input::Drain { deadline: self.now() + timeout })?;
                }
                Command::Wish { partition, wish, reply } => {
                    // Whoever asked may have given up.
                    let _ = reply.send(self.grant(program, &partition, wish)?);
                }
                Command::Compare { ids } => self.compare_topics(&ids)?,
                Command::Trust { routes } => self.trust(program, &routes)?,
            }
        }
        Ok(())
    }

    /// How long to wait for events at most.
    pub(super) fn wait(&self) -> Duration {
        if !self.happenings.is_empty() {
            return Duration::ZERO;
        }
        let busy = self.sink.in_flight() > 0 || !self.resumes.is_empty();
        let wait = if busy { BUSY_WAIT } else { IDLE_WAIT };
        self.engine.next_wakeup().map_or(wait, |due| wait.min(due.saturating_sub(self.now())))
    }

    /// Tells the engine, and carries out what it says.
    pub(super) fn step(&mut self, input: Input<'_>) -> Result<(), kafka::Error> {
        let mut actions = Vec::new();
        self.engine.step(input, self.now(), &mut actions);
        self.carry(actions)
    }

    /// Tells the engine what was acknowledged or refused since the last time, and carries out what it says.
    pub(super) fn take_reports(&mut self) -> Result<(), kafka::Error> {
        self.poll_sink(Duration::ZERO)?;
        let now = since(self.started);
        let mut actions = Vec::new();
        let Self { sink, engine, .. } = self;
        sink.reports(|reports| engine.step(Input::Reports(reports), now, &mut actions));
        self.carry(actions)?;
        self.retry_resumes();
        Ok(())
    }

    /// Carries out what doesn't concern a batch in hand.
    pub(super) fn carry(&mut self, actions: Vec<Action>) -> Result<(), kafka::Error> {
        let mut actions = VecDeque::from(actions);
        while let Some(action) = actions.pop_front() {
            match action {
                Action::Park { lane, offset, until, cause } => self.park(lane, offset, until, cause),
                Action::Resume { lane, offset } => match self.made_anew(lane) {
                    // Its events are of another topic, whatever of the former one is to run again.
                    Some(why) => self.halt_unreadable(lane, why)?,
                    None => self.resume(lane, offset),
                },
                Action::Halted { lane, offset, .. } => self.halt(lane, offset),
                Action::Commit { positions } if self.sink.transactional_id().is_some() => {
                    self.commit_transaction(&positions, &mut actions)?;
                }
                Action::Abort { cause } => {
                    tracing::debug!(shard = self.name, ?cause, "The transaction is given up.");
                    self.settling = Some(Settling::given_up(self.settling));
                }
                Action::Commit { positions } => {
                    if let Err(error) = self.commit(&positions) {
                        tracing::warn!(%error, "A commit could not be asked for.");
                        let mut more = Vec::new();
                        self.engine.step(Input::CommitDone { accepted: &[] }, self.now(), &mut more);
                        actions.extend(more);
                    }
                }
                Action::Release { lane } => self.release(lane)?,
                Action::Drained { clean } => self.drained = Some(clean),
                Action::Process { .. }
                | Action::Refused { .. }
                | Action::Letter { .. }
                | Action::Emit { .. }
                | Action::Discard { .. } => {
                    unreachable!("{action:?} answers an input about events in hand")
                }
            }
        }
        Ok(())
    }

    fn park(&mut self, id: LaneId, offset: i64, until: Now, cause: Cause) {
        let wait_ms = until.saturating_sub(since(self.started)).as_millis() as u64;
        let Some(lane) = self.lanes.get_mut(id) else { return };
        let failures = &lane.stop_at(offset).failures;
        // Of those that failed for good nothing is tried again.
        let retried = failures.iter().find(|known| known.failure.kind == Kind::Transient);
        let known = retried.filter(|_| matches!(cause, Cause::Retry { .. })).or(failures.first()).cloned();
        let (topic, partition) = (lane.topic(), lane.number());
        if let (Cause::Retry { .. }, Some(known)) = (cause, &known) {
            self.failures.retry(&known.route, known.plugin.as_deref());
        }
        match (is_lasting(cause), known) {
            (Some(failures), Some(Known { route, plugin, failure, .. })) => {
                let (kind, message) = (failure.kind.as_str(), failure.message);
                tracing::warn!(
                    topic,
                    partition,
                    offset,
                    wait_ms,
                    route,
                    plugin,
                    kind,
                    reason = message,
                    failures,
                    "A partition waits for a route to work again: its event failed."
                );
            }
            _ => tracing::debug!(topic, partition, offset, wait_ms, ?cause, "A partition waits."),
        }
        if let Err(error) = self.consumer.pause([(topic, partition)].into_iter()) {
            // Not paused, it goes on delivering; the engine discards that, and the seek makes up for it.
            tracing::debug!(%error, "A partition could not be paused.");
        }
    }

    fn halt(&mut self, id: LaneId, offset: i64) {
        let Some(lane) = self.lanes.get_mut(id) else { return };
        let known = lane.stop_at(offset).failures.first().cloned();
        let (topic, partition) = (lane.topic(), lane.number());
        let known = known.map(|Known { route, plugin, failure, .. }| (route, plugin, failure.message));
        let (route, plugin, message) = known.unwrap_or_default();
        tracing::error!(
            topic,
            partition,
            offset,
            route,
            plugin,
            reason = message,
            "A partition has halted: `midplane partition list` says why."
        );
        if let Err(error) = self.consumer.pause([(topic, partition)].into_iter()) {
            tracing::debug!(%error, "A partition could not be paused.");
        }
    }

    pub(super) fn resume(&mut self, id: LaneId, offset: i64) {
        let Some(lane) = self.lanes.rewind(id, offset) else { return };
        if let Err(error) = self.consumer.resume_at(lane.topic(), lane.number(), offset, SEEK_TIMEOUT) {
            tracing::debug!(topic = lane.topic(), partition = lane.number(), offset, %error, "A partition could not be resumed yet.");
            self.resumes.push((id, offset));
        }
    }

    /// The client refuses to seek while an assignment is on its way: tried again each turn.
    fn retry_resumes(&mut self) {
        for (lane, offset) in std::mem::take(&mut self.resumes) {
            self.resume(lane, offset);
        }
    }

    fn commit(&mut self, positions: &[(LaneId, i64)]) -> Result<(), kafka::Error> {
        self.consumer.commit(self.offsets(positions).into_iter(), 0)
    }

    /// Positions as the group knows them.
    pub(super) fn offsets(&self, positions: &[(LaneId, i64)]) -> Vec<(&str, i32, i64, &str)> {
        let offset = |(id, offset): &(LaneId, i64)| {
            let lane = self.lanes.get(*id)?;
            Some((lane.topic(), lane.number(), *offset, lane.metadata.as_str()))
        };
        positions.iter().filter_map(offset).collect()
    }

    fn release(&mut self, id: LaneId) -> Result<(), kafka::Error> {
        self.resumes.retain(|(lane, _)| *lane != id);
        self.lanes.remove(id);
        for going in &mut self.going {
            going.lanes.retain(|lane| *lane != id);
        }
        self.finish_going()
    }
}
