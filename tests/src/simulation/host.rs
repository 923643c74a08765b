//! A host: the engine, and a driver that does what the shard does, over the model of the log. Everything that the
//! driver could do next is a method, so that the schedule decides when it happens.

use std::collections::VecDeque;
use std::time::Duration;

use midplane::config::model::{Backoff, Guarantee};
use midplane::data::engine::{
    Action, Engine, Input, LaneId, Now, OnFailure, Outcome, Refusal, Refused, Report, Seq, Settings,
};

use super::breaker::Breaker;
use super::broker::{Message, Reader, Writer};
use super::bug::Bug;
use super::env::Env;
use super::lane::Lane;

/// Messages that a topic's queue takes.
const QUEUE_MAX: usize = 5;
/// How long a topic is over its bound before the engine hears of it.
const BLOCKED_AFTER: Duration = Duration::from_millis(60);
/// Short, so that transactions often take too long.
const TRANSACTION_TIMEOUT: Duration = Duration::from_millis(200);
/// Between commits.
pub(super) const COMMIT_INTERVAL: Duration = Duration::from_millis(20);
const REVOKE_TIMEOUT: Duration = Duration::from_millis(150);

/// Between retries of plugins.
pub(super) const BACKOFF: Backoff =
    Backoff { first: Duration::from_millis(20), max: Duration::from_millis(100), jitter: 0.2 };

/// A process of the group.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) name: usize,
    pub(super) engine: Engine,
    pub(super) lanes: Vec<Option<Lane>>,
    /// By channel: what the producer holds.
    pub(super) queues: Vec<VecDeque<Sent>>,
    /// By channel: reports that wait to be served.
    pub(super) reports: Vec<VecDeque<Report>>,
    /// By route of the script, the number that the engine knows it by: each generation has its own.
    pub(super) numbers: Vec<u16>,
    pub(super) commit: Option<Commit>,
    /// The producer, as the broker tells it from others: a new one takes its place where it is suspect.
    pub(super) writer: Writer,
    /// Whether the transaction is to be given up.
    pub(super) aborting: bool,
    /// Whether the engine is being told where the group stands.
    pub(super) rewinding: bool,
    /// Whether it was told to be between two transactions.
    pub(super) hurried: bool,
    /// Counts the swaps: what a transaction is made by.
    pub(super) generation: u64,
    /// The next commit begins no sooner, unless lanes are closing.
    pub(super) commit_from: Now,
    /// The next commit begins no sooner: one has failed.
    pub(super) retry_from: Now,
    /// The offsets that the present step delivers.
    pub(super) delivering: Vec<i64>,
    pub(super) drain_by: Option<Now>,
    /// By route of the script, what must hold of its breaker.
    pub(super) breakers: Vec<Breaker>,
    /// Whether an operator has paused what it reads.
    pub(super) paused: bool,
    /// Whether the drain has ended, and how.
    pub(super) ended: Option<bool>,
}

/// A message in the producer.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) message: Message,
    pub(super) generation: u64,
    pub(super) lane: LaneId,
    pub(super) seq: Seq,
    pub(super) reader: Reader,
}

/// A commit in flight.
#[derive(Debug)]
pub(super) struct Commit {
    pub(super) positions: Vec<(LaneId, usize, Reader, i64)>,
    /// Known once the broker has answered.
    pub(super) accepted: Option<Vec<LaneId>>,
    /// Whether nobody knows what became of it, or it failed: the transaction is settled otherwise.
    pub(super) unknown: bool,
}

impl Host {
    pub(super) fn new(name: usize, env: &mut Env) -> Self {
        let revoke_timeout = if env.has(Bug::ReleasesBeforeDrained) { Duration::ZERO } else { REVOKE_TIMEOUT };
        let engine = Engine::new(Settings {
            guarantee: env.guarantee,
            commit_interval: COMMIT_INTERVAL,
            revoke_timeout,
            blocked_wait: Duration::from_millis(30),
            events_max: [2, 10, usize::MAX][env.random.below(3)],
            transaction_timeout: TRANSACTION_TIMEOUT,
            failed_wait: BACKOFF,
            seed: env.random.bits(),
        });
        let channels = env.script.channels();
        Self {
            name,
            engine,
            lanes: Vec::new(),
            queues: (0..channels).map(|_| VecDeque::new()).collect(),
            reports: (0..channels).map(|_| VecDeque::new()).collect(),
            numbers: (0..env.script.routes.len() as u16).collect(),
            commit: None,
            writer: env.broker.new_writer(),
            aborting: false,
            rewinding: false,
            hurried: false,
            generation: 0,
            commit_from: Now::ZERO,
            retry_from: Now::ZERO,
            delivering: Vec::new(),
            drain_by: None,
            breakers: env.script.routes.iter().map(|_| Breaker::default()).collect(),
            paused: false,
            ended: None,
        }
    }

    /// Tells the engine, and carries out what it decides.
    pub(super) fn step(&mut self, input: Input<'_>, env: &mut Env) {
        env.note(self.name, format_args!("{input:?}"));
        let mut actions = Vec::new();
        self.engine.step(input, env.now, &mut actions);
        for action in actions {
            env.note(self.name, format_args!("    {action:?}"));
            self.carry_out(action, env);
        }
    }

    pub(super) fn lane(&mut self, id: LaneId) -> &mut Lane {
        self.lanes[id.0 as usize].as_mut().expect("the engine speaks of lanes that were assigned")
    }

    /// The numbers of the lanes.
    pub(super) fn ids(&self) -> Vec<LaneId> {
        let numbered = self.lanes.iter().zip(0..);
        numbered.filter(|(lane, _)| lane.is_some()).map(|(_, id)| LaneId(id)).collect()
    }

    /// The lane of a reader.
    pub(super) fn lane_of(&self, reader: Reader) -> Option<LaneId> {
        let reads = |lane: &Option<Lane>| lane.as_ref().is_some_and(|lane| lane.reader == reader);
        Some(LaneId(self.lanes.iter().position(reads)? as u32))
    }

    pub(super) fn assign(&mut self, index: usize, env: &mut Env) {
        let place = self.lanes.iter().position(Option::is_none).unwrap_or_else(|| {
            self.lanes.push(None);
            self.lanes.len() - 1
        });
        env.readers += 1;
        let partition = &mut env.broker.partitions[index];
        partition.reader = Some(env.readers);
        let (position, committed) = (partition.committed.unwrap_or(0), partition.committed.is_some());
        self.lanes[place] = Some(Lane::new(index, env.readers, position, committed));
        let lane = LaneId(place as u32);
        env.note(self.name, format_args!("partition {index} is lane {place}"));
        self.step(Input::Assigned { lane, position, committed }, env);
        if self.paused && !env.has(Bug::PauseForgetsNew) {
            self.step(Input::Paused { lanes: &[lane] }, env);
        }
    }

    pub(super) fn revoke(&mut self, lanes: &[LaneId], env: &mut Env) {
        for &id in lanes {
            let now = env.now;
            let lane = self.lane(id);
            lane.release_by.get_or_insert(now + REVOKE_TIMEOUT);
            lane.drop_hand();
        }
        self.step(Input::Revoked { lanes }, env);
    }

    pub(super) fn lose(&mut self, id: LaneId, env: &mut Env) {
        self.lane(id).lost = true;
        env.stats.lost += 1;
        self.step(Input::Lost { lanes: &[id] }, env);
    }

    pub(super) fn drain(&mut self, deadline: Now, env: &mut Env) {
        self.drain_by = Some(deadline);
        self.lanes.iter_mut().flatten().for_each(Lane::drop_hand);
        self.step(Input::Drain { deadline }, env);
    }

    pub(super) fn fetch(&mut self, id: LaneId, max: usize, env: &mut Env) -> bool {
        let lane = self.lane(id);
        if lane.paused {
            return false;
        }
        let partition = &env.broker.partitions[lane.partition];
        let next = partition.events.partition_point(|event| event.offset < lane.position);
        let offsets = partition.events[next..].iter().map(|event| event.offset).take(max);
        lane.fetched.extend(offsets);
        let before = lane.position;
        lane.position = lane.fetched.back().map_or(before, |last| last + 1).max(before);
        lane.position > before
    }

    /// Hands records to the engine, or the end.
    pub(super) fn deliver(&mut self, id: LaneId, max: usize, env: &mut Env) -> bool {
        if !self.engine.takes_events() {
            return false;
        }
        let early = env.has(Bug::EndsEarly);
        let draining = self.drain_by.is_some();
        let lane = self.lane(id);
        let partition = &env.broker.partitions[lane.partition];
        let at_end = partition.events.last().is_none_or(|last| last.offset < lane.position);
        if (lane.fetched.is_empty() || early) && at_end && !lane.paused && lane.end != partition.end {
            lane.end = partition.end;
            lane.position = partition.end;
            if !early && !draining && lane.release_by.is_none() {
                lane.ledger.end(lane.end);
            }
            let offset = lane.end;
            self.step(Input::End { lane: id, offset }, env);
            return true;
        }
        if lane.fetched.is_empty() {
            return false;
        }
        let count = max.min(lane.fetched.len());
        self.delivering = lane.fetched.drain(..count).collect();
        let offsets = self.delivering.clone();
        self.step(Input::Delivered { lane: id, offsets: &offsets }, env);
        true
    }

    /// Produces what was emitted, as far as the queues take it.
    pub(super) fn produce(&mut self, id: LaneId, env: &mut Env) -> bool {
        let mut progress = false;
        while let Some(lane) = &mut self.lanes[id.0 as usize]
            && let Some(event) = lane.outbox.front_mut()
        {
            let (seq, offset) = (event.seq, event.offset);
            let Some(message) = event.messages.pop_front() else {
                // There has to be room before each event is looked at, also before those that produce nothing.
                if !event.begun && self.queues.iter().any(|queue| queue.len() >= QUEUE_MAX) {
                    return self.wait_for_queue(id, seq, offset, env) || progress;
                }
                lane.outbox.pop_front();
                continue;
            };
            if self.queues[message.channel].len() >= QUEUE_MAX {
                event.messages.push_front(message);
                return self.wait_for_queue(id, seq, offset, env) || progress;
            }
            progress = true;
            lane.blocked_since = None;
            let reader = lane.reader;
            event.begun = true;
            let generation = self.generation;
            self.queues[message.channel].push_back(Sent { message, generation, lane: id, seq, reader });
            if env.has(Bug::AckedWhenProduced) {
                self.step(Input::Reports(&[Report { lane: id, seq, outcome: Outcome::Acked }]), env);
            }
        }
        progress
    }

    fn wait_for_queue(&mut self, id: LaneId, seq: Seq, offset: i64, env: &mut Env) -> bool {
        let lane = self.lane(id);
        let since = *lane.blocked_since.get_or_insert(env.now);
        if env.now < since + BLOCKED_AFTER {
            return false;
        }
        lane.blocked_since = None;
        let begun = lane.outbox.front().is_some_and(|event| event.begun);
        lane.outbox.clear();
        // What produces nothing is settled as soon as it is emitted.
        lane.ledger.truncated(offset.max(lane.ledger.settled()));
        env.stats.blocked += 1;
        self.step(Input::Blocked { lane: id, seq, begun }, env);
        true
    }

    /// The broker handles the next message of a channel.
    pub(super) fn work(&mut self, channel: usize, env: &mut Env) -> bool {
        if env.broker.blocked[channel] {
            return false;
        }
        let Some(sent) = self.queues[channel].pop_front() else { return false };
        let Sent { message, lane, seq, .. } = sent;
        let outcome = if env.broker.refuses(&message) {
            let reason = if message.part == 0 { Refusal::TooLarge } else { Refusal::Rejected };
            Outcome::Refused(Refused { route: 0, output: message.route as u16, reason })
        } else if env.fails() {
            if env.random.chance(300) {
                self.append(&sent, env);
            }
            Outcome::Failed
        } else {
            self.append(&sent, env);
            Outcome::Acked
        };
        env.note(self.name, format_args!("{message:?}: {outcome:?}"));
        self.reports[channel].push_back(Report { lane, seq, outcome });
        true
    }

    fn append(&self, sent: &Sent, env: &mut Env) {
        env.broker.append(self.writer, env.guarantee, sent);
    }

    /// Serves reports of a channel.
    pub(super) fn report(&mut self, channel: usize, max: usize, env: &mut Env) -> bool {
        let count = max.min(self.reports[channel].len());
        let mut reports: Vec<Report> = self.reports[channel].drain(..count).collect();
        for report in &mut reports {
            let acked = report.outcome == Outcome::Acked;
            *if acked { &mut env.stats.acked } else { &mut env.stats.failed } += 1;
            if let Some(lane) = &mut self.lanes[report.lane.0 as usize] {
                lane.ledger.reported(report.seq, acked);
            }
            match &mut report.outcome {
                Outcome::Refused(_) if env.has(Bug::RefusedIsAcked) => report.outcome = Outcome::Acked,
                // The number that the route has now.
                Outcome::Refused(refused) => refused.route = self.numbers[usize::from(refused.output)],
                Outcome::Failed if env.has(Bug::FailedIsAcked) => report.outcome = Outcome::Acked,
                _ => {}
            }
        }
        if count > 0 && !env.has(Bug::AckedWhenProduced) {
            self.step(Input::Reports(&reports), env);
        }
        count > 0
    }

    /// The commit in flight comes a step further.
    pub(super) fn advance_commit(&mut self, env: &mut Env) -> bool {
        if self.aborting || self.commit.as_ref().is_some_and(|commit| commit.unknown) {
            self.settle(env);
            return true;
        }
        let Some(commit) = &mut self.commit else { return false };
        if env.guarantee == Guarantee::ExactlyOnce && commit.accepted.is_none() {
            self.commit_transaction(env);
            return true;
        }
        if let Some(accepted) = commit.accepted.take() {
            let assigned = |reader: Reader| self.lanes.iter().flatten().any(|lane| lane.reader == reader);
            let failed = |&(id, _, reader, _): &_| !accepted.contains(&id) && assigned(reader);
            if commit.positions.iter().any(failed) {
                self.retry_from = env.now + COMMIT_INTERVAL;
            }
            self.commit = None;
            self.step(Input::CommitDone { accepted: &accepted }, env);
            return true;
        }
        let (lost, unanswered) = (env.fails(), env.fails());
        let mut accepted = Vec::new();
        for &(lane, partition, reader, position) in &commit.positions {
            if !lost && env.broker.commit(partition, reader, position) {
                accepted.push(lane);
            }
        }
        if unanswered {
            accepted.clear();
        }
        if env.has(Bug::CommitAlwaysAccepted) {
            accepted = commit.positions.iter().map(|position| position.0).collect();
        }
        env.stats.commits += accepted.len() as u64;
        for &(id, _, reader, position) in &commit.positions {
            if let Some(lane) = self.lanes[id.0 as usize].as_mut().filter(|lane| lane.reader == reader)
                && accepted.contains(&id)
            {
                lane.accepted = position;
            }
        }
        commit.accepted = Some(accepted);
        true
    }

    /// Other routes from here on: here, the same ones under other numbers. What is in hand is answered before.
    pub(super) fn swap(&mut self, env: &mut Env) {
        if env.guarantee == Guarantee::ExactlyOnce && !self.is_between(env) {
            return;
        }
        for lane in self.ids() {
            while self.lanes[lane.0 as usize].as_ref().is_some_and(|lane| !lane.hand.is_empty()) {
                self.answer(lane, usize::MAX, env);
            }
        }
        let most = self.numbers.len() + 2;
        let mut free: Vec<u16> = (0..most as u16).collect();
        let numbers: Vec<u16> = self.numbers.iter().map(|_| free.remove(env.random.below(free.len()))).collect();
        let mut now = vec![None; most];
        for (&before, &after) in self.numbers.iter().zip(&numbers) {
            now[usize::from(before)] = match env.bug {
                Some(Bug::SwapForgets) => None,
                Some(Bug::SwapKeepsNumbers) => Some(before),
                _ => Some(after),
            };
        }
        self.numbers = numbers;
        for route in 0..env.script.routes.len() {
            self.close_breaker(route);
        }
        self.generation += 1;
        env.stats.swaps += 1;
        self.step(Input::Swapped { routes: &now }, env);
    }

    /// The producer is replaced: of what it held some got through, and some reports come late.
    pub(super) fn lose_producer(&mut self, env: &mut Env) {
        if env.guarantee == Guarantee::ExactlyOnce {
            env.stats.producers_lost += 1;
            return self.settle(env);
        }
        self.vanish(env);
        for lane in self.lanes.iter_mut().flatten() {
            lane.outbox.clear();
            lane.blocked_since = None;
            lane.ledger.abandoned();
        }
        env.stats.producers_lost += 1;
        self.step(Input::ProducerLost, env);
    }

    /// What the producer holds gets through in part, and is gone.
    pub(super) fn vanish(&mut self, env: &mut Env) {
        for (channel, queue) in self.queues.iter_mut().enumerate() {
            let through = if env.broker.blocked[channel] { 0 } else { env.random.below(queue.len() + 1) };
            for sent in queue.drain(..).take(through) {
                if !env.broker.refuses(&sent.message) {
                    env.broker.append(self.writer, env.guarantee, &sent);
                }
            }
        }
    }

    /// Retry as the route says, give or take a bug.
    pub(super) fn retry(attempts: u32, env: &Env) -> OnFailure<'static> {
        let attempts = match env.bug {
            Some(Bug::AttemptTooFew) => (attempts - 1).max(1),
            Some(Bug::AttemptTooMany) => attempts + 1,
            Some(Bug::IgnoresRetry) => return OnFailure::Drop,
            _ => attempts,
        };
        OnFailure::Retry { attempts, backoff: &BACKOFF }
    }

    /// What the engine says was done, in one place for all actions.
    fn carry_out(&mut self, action: Action, env: &mut Env) {
        match action {
            Action::Process { lane, first, count, skip } => self.take(lane, first, count, skip, env),
            Action::Discard { .. } => self.delivering.clear(),
            Action::Refused { lane, seq, refused } => {
                let route = self.numbers.iter().position(|number| *number == refused.route);
                if let Some(route) = route.filter(|_| !env.has(Bug::ForgetsRefusal)) {
                    self.lane(lane).refused.entry(seq).or_default().push(route as u16);
                }
            }
            Action::Letter { lane, seq, route, attempts } => {
                let route = self.numbers.iter().position(|number| *number == route).expect("a route that there is");
                self.write_letter(lane, seq, route, attempts, env);
            }
            Action::Emit { lane, first, count } => self.emit(lane, first, count, env),
            Action::Park { lane, offset, until, cause } => self.park(lane, offset, until, cause, env),
            Action::Resume { lane, offset } => self.resume(lane, offset, env),
            Action::Halted { lane, .. } => self.halt(lane, env),
            Action::Commit { positions } => self.begin_commit(positions, env),
            Action::Abort { .. } => self.aborting = true,
            Action::Release { lane } => self.release(lane, env),
            Action::Drained { clean } => self.drained(clean, env),
        }
    }
}
