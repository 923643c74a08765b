//! The engine of one shard: decides what is settled, what to commit, what to retry, park, rewind, halt, drain and release.
//!
//! A deterministic state machine, `step(input, now, actions)`: no I/O, no clock, no randomness but a seeded generator. It
//! never sees a record's bytes, a topic's name or a plugin. The shard drives it over librdkafka, the simulator over a model
//! of the log; what a driver must do for each [`Action`] stands there, and is all that it may rely on.
//!
//! # The path of an event
//! `Delivered → Process → Answered → Letter, Emit → Reports → Commit → CommitDone`. An event is *settled* when all
//! messages produced for it, outputs and letters, were acknowledged. A lane's committable position is contiguous in the order
//! of delivery, not in numbers: the position after the settled prefix or, when nothing is outstanding, the client's own,
//! which passes gaps and control records.
//!
//! # One way to stop
//! Whatever stops a lane (a transient failure, a refused or failed message, a full output topic) stops it the same way: it
//! takes no events, drops those that were not emitted, lets what is in flight settle, waits, and goes on from the first
//! event that is not settled. So no event is ever in flight twice, and a rewind repeats a suffix but never skips.
//!
//! # Guarantee
//! At least once: positions are committed when their events are settled. Exactly once: outputs, letters and positions are one
//! transaction of the shard. Before it ends nothing more is emitted, so that everything in it settles; what fails gives all
//! of it up, and each lane goes on where the group stands, as the driver has read it back. What is settled, parked and drained
//! is the same in both.

mod action;
mod answer;
pub(crate) mod backoff;
mod breaker;
mod commit;
mod input;
mod lane;
mod lanes;
mod memory;
mod operator;
#[cfg(test)]
mod tests;
mod transaction;

use std::time::Duration;

pub use action::{Action, Cause, Standing};
pub use input::{Input, LaneId, Now, OnFailure, Outcome, Refusal, Refused, Report, RouteFailure, Seq, Take};

use crate::config::model::{Backoff, Guarantee};
use answer::Answer;
use backoff::Random;
use breaker::Breakers;
use commit::Commits;
use lane::{Lane, State};
use lanes::Lanes;
use transaction::Transaction;

/// What an engine is built with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What is promised.
    pub guarantee: Guarantee,
    /// How long settled events wait for their commit, at most, as long as commits are quick.
    pub commit_interval: Duration,
    /// How long a revoked lane may take to drain.
    pub revoke_timeout: Duration,
    /// How long a lane waits whose output topic is over its bound.
    pub blocked_wait: Duration,
    /// Events that a lane holds before it waits: those of a message that isn't acknowledged, and all behind it, settled or not.
    pub events_max: usize,
    /// How long a lane waits whose messages failed for a reason that may pass, or whose producer is gone.
    pub failed_wait: Backoff,
    /// Exactly once: how long the broker waits for the end of a transaction.
    pub transaction_timeout: Duration,
    /// For the jitter of waits.
    pub seed: u64,
}

/// The engine of one shard.
#[derive(Debug)]
pub struct Engine {
    settings: Settings,
    random: Random,
    lanes: Lanes,
    /// The lanes that wait for something other than events: parked, to be released, or drained.
    watched: Vec<LaneId>,
    commits: Commits,
    breakers: Breakers,
    transaction: Transaction,
    drain: Drain,
}

/// Whether the host stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Drain {
    No,
    Until(Now),
    Done,
}

impl Engine {
    /// An engine without lanes.
    pub fn new(settings: Settings) -> Self {
        let random = Random::new(settings.seed);
        let commits = Commits::new(settings.commit_interval);
        let (lanes, breakers, transaction) = (Lanes::default(), Breakers::default(), Transaction::default());
        Self { settings, random, lanes, watched: Vec::new(), commits, breakers, transaction, drain: Drain::No }
    }

    /// Takes note of what happened, and appends what is to be done about it, in order. `now` never falls.
    ///
    /// # Panics
    /// When the driver breaks the protocol: that is a bug of the host's, and going on would lose events.
    pub fn step(&mut self, input: Input<'_>, now: Now, actions: &mut Vec<Action>) {
        match input {
            Input::Assigned { lane, position, committed } => self.assigned(lane, position, committed),
            Input::Delivered { lane, offsets } => self.delivered(lane, offsets, now, actions),
            Input::End { lane, offset } => self.end(lane, offset),
            Input::Answered { lane, first, messages, failures, takes } => {
                self.answered(lane, Answer { first, messages, failures, takes }, now, actions);
            }
            Input::Reports(reports) => self.reports(reports, now, actions),
            Input::Blocked { lane, seq, begun } => self.blocked(lane, seq, begun, now, actions),
            Input::CommitDone { accepted } => self.commit_done(accepted, now),
            Input::Aborted { positions } => self.aborted(positions, now, actions),
            Input::Barrier => self.transaction.hurry(),
            Input::Revoked { lanes } => self.revoked(lanes, now),
            Input::Lost { lanes } => lanes.iter().for_each(|&lane| self.release(lane, actions)),
            Input::Unreadable { lane } => self.unreadable(lane, actions),
            Input::Swapped { routes } => self.swapped(routes, now),
            Input::Paused { lanes } => self.paused(lanes, now, actions),
            Input::Unpaused { lanes } => self.unpaused(lanes),
            Input::Again { lanes } => self.again(lanes, now),
            Input::Skip { lane, to } => self.skip(lane, to, now),
            Input::Trusted { routes } => routes.iter().for_each(|&route| self.close_breaker(route)),
            Input::ProducerLost => self.producer_lost(now, actions),
            Input::Drain { deadline } => self.start_drain(deadline),
            Input::Tick => {}
        }
        self.advance(now, actions);
    }

    /// When to step again at the latest, with [`Input::Tick`] if there is nothing else to say.
    pub fn next_wakeup(&self) -> Option<Now> {
        let lanes = self.watched.iter().filter_map(|&id| {
            let lane = self.lanes.get(id)?;
            let resume = match lane.state {
                State::Parked { until, .. } if can_go_on(lane, &self.transaction) => Some(until),
                _ => None,
            };
            resume.into_iter().chain(lane.release_by).min()
        });
        let drain = match self.drain {
            Drain::Until(deadline) => Some(deadline),
            Drain::No | Drain::Done => None,
        };
        let commit = self.commits.due().filter(|_| self.takes_events());
        lanes.chain(commit).chain(drain).min()
    }

    /// Which run of an event this is, from 1: one more than the transient failures that stopped its lane. For an event that
    /// isn't in hand any more, 1.
    pub fn attempt(&self, lane: LaneId, seq: Seq) -> u32 {
        let Some(lane) = self.lanes.get(lane) else {
            return 1;
        };
        if lane.memory.is_empty() {
            return 1;
        }
        let event = lane.offset(seq).and_then(|offset| lane.memory.get(offset));
        event.map_or(1, |event| event.stops + 1)
    }

    /// Where a lane goes on: with the next event that it gets, or with the first that it has to run again.
    pub fn position(&self, lane: LaneId) -> Option<i64> {
        let lane = self.lanes.get(lane)?;
        Some(match lane.state {
            State::Running => lane.position(),
            State::Parked { .. } | State::Halted { .. } | State::Closed => lane.restart_offset(),
        })
    }

    /// The first event of a lane that isn't settled, or the next that it gets.
    pub fn unsettled(&self, lane: LaneId) -> Option<i64> {
        Some(self.lanes.get(lane)?.restart_offset())
    }

    /// Whether a lane takes events.
    pub fn runs(&self, lane: LaneId) -> bool {
        self.lanes.get(lane).is_some_and(|lane| lane.state == State::Running)
    }

    /// Whether the group has all that a lane was given, and all of that is settled.
    pub fn is_committed(&self, lane: LaneId) -> bool {
        self.lanes.get(lane).is_some_and(|lane| lane.is_clean() && lane.is_drained() && !lane.in_transaction)
    }

    fn assigned(&mut self, id: LaneId, position: i64, committed: bool) {
        let lane = self.lanes.insert(id, position, committed);
        if self.drain != Drain::No {
            lane.state = State::Closed;
        }
        self.commits.note(id, lane);
    }

    fn delivered(&mut self, id: LaneId, offsets: &[i64], now: Now, actions: &mut Vec<Action>) {
        let Some(lane) = self.lanes.get_mut(id).filter(|lane| lane.state == State::Running) else {
            actions.push(Action::Discard { lane: id });
            return;
        };
        if !lane.is_still() && lane.len() >= self.settings.events_max {
            actions.push(Action::Discard { lane: id });
            self.park(id, now + self.settings.blocked_wait, Cause::Blocked, actions);
            return;
        }
        let first = lane.deliver(offsets);
        if !lane.memory.is_empty() {
            let refused = lane.memory.refusals_among(offsets);
            actions.extend(refused.map(|(index, refused)| Action::Refused {
                lane: id,
                seq: first + index as u64,
                refused,
            }));
        }
        let below = |bound: i64| offsets.partition_point(|offset| *offset < bound) as u32;
        let skip = below(lane.skip.start)..below(lane.skip.end);
        actions.push(Action::Process { lane: id, first, count: offsets.len() as u32, skip });
    }

    fn end(&mut self, id: LaneId, offset: i64) {
        if let Some(lane) = self.lanes.get_mut(id).filter(|lane| lane.state == State::Running) {
            lane.end(offset);
            self.settle(id);
        }
    }

    fn reports(&mut self, reports: &[Report], now: Now, actions: &mut Vec<Action>) {
        for report in reports {
            let Some(lane) = self.lanes.get_mut(report.lane) else {
                continue;
            };
            match report.outcome {
                Outcome::Acked => {
                    if lane.ack(report.seq) && lane.settle() {
                        self.settled(report.lane);
                    }
                }
                Outcome::Refused(refused) => {
                    if let Some(offset) = lane.fail(report.seq) {
                        lane.memory.entry(offset).add_refusal(refused);
                        match self.settings.guarantee {
                            Guarantee::AtLeastOnce => self.park(report.lane, now, Cause::Refused, actions),
                            Guarantee::ExactlyOnce => self.give_up(Cause::Refused, actions),
                        }
                    }
                }
                Outcome::Failed => {
                    if let Some(offset) = lane.fail(report.seq) {
                        match self.settings.guarantee {
                            Guarantee::AtLeastOnce => self.stumble(report.lane, now, Cause::Failed, actions),
                            Guarantee::ExactlyOnce => {
                                lane.suspect(offset);
                                self.give_up(Cause::Failed, actions);
                            }
                        }
                    }
                }
            }
        }
    }

    fn blocked(&mut self, id: LaneId, seq: Seq, begun: bool, now: Now, actions: &mut Vec<Action>) {
        let until = now + self.settings.blocked_wait;
        // An event that produces nothing is settled, and those behind it were not produced either.
        let Some(lane) = self.lanes.get_mut(id).filter(|lane| seq < lane.next()) else { return };
        if begun && self.settings.guarantee == Guarantee::ExactlyOnce {
            // Half an event is in the transaction.
            self.give_up(Cause::Blocked, actions);
            return;
        }
        lane.truncate(seq);
        self.park(id, until, Cause::Blocked, actions);
    }

    fn producer_lost(&mut self, now: Now, actions: &mut Vec<Action>) {
        for id in self.lanes.ids(|lane| !lane.is_still()) {
            self.lanes.known(id).abandon();
            self.stumble(id, now, Cause::ProducerLost, actions);
        }
    }

    /// The memory of lanes follows the routes' numbers; lanes that a route's policy halted, or a breaker holds, are tried again.
    fn swapped(&mut self, routes: &[Option<u16>], now: Now) {
        self.breakers.reset();
        for id in self.lanes.ids(|_| true) {
            let lane = self.lanes.known(id);
            assert!(lane.state != State::Running || lane.is_answered(), "routes change between two batches");
            lane.memory.renumber(routes);
            lane.probing = false;
            match &mut lane.state {
                State::Halted { route: Some(_) } => self.unhalt(id, now),
                // By its number, the route may be another one now.
                State::Parked { until, cause: cause @ (Cause::Breaker { .. } | Cause::Retry { .. }) } => {
                    if let Cause::Breaker { .. } = cause {
                        *until = now;
                    }
                    *cause = Cause::Again;
                }
                _ => {}
            }
        }
    }

    fn unreadable(&mut self, id: LaneId, actions: &mut Vec<Action>) {
        if self.lanes.get(id).is_some_and(|lane| matches!(lane.state, State::Running | State::Parked { .. })) {
            self.halt(id, None, actions);
        }
    }

    /// Stops a lane for good, before its first event that was not answered.
    fn halt(&mut self, id: LaneId, route: Option<u16>, actions: &mut Vec<Action>) {
        let lane = self.lanes.known(id);
        lane.drop_unanswered();
        lane.state = State::Halted { route };
        actions.push(Action::Halted { lane: id, offset: lane.position(), route });
        self.settle(id);
    }

    /// Parks a lane whose messages failed for a reason that may pass: longer each time, until an event settles again.
    fn stumble(&mut self, id: LaneId, now: Now, cause: Cause, actions: &mut Vec<Action>) {
        let lane = self.lanes.known(id);
        if !matches!(lane.state, State::Parked { .. }) {
            lane.stumbles = lane.stumbles.saturating_add(1);
        }
        let wait = backoff::wait(&self.settings.failed_wait, lane.stumbles.max(1), &mut self.random);
        self.park(id, now + wait, cause, actions);
    }

    /// Stops a lane until a time, or for longer if it waits already. A lane that is closed stays so.
    fn park(&mut self, id: LaneId, until: Now, cause: Cause, actions: &mut Vec<Action>) {
        let lane = self.lanes.known(id);
        match lane.state {
            State::Running | State::Halted { .. } => {
                lane.drop_unanswered();
                lane.state = State::Parked { until, cause };
                actions.push(Action::Park { lane: id, offset: lane.position(), until, cause });
                self.watch(id);
            }
            State::Parked { until: already, .. } if until > already => lane.state = State::Parked { until, cause },
            State::Parked { .. } => {}
            State::Closed => {}
        }
        self.settle(id);
    }

    /// Takes note of what has settled.
    fn settle(&mut self, id: LaneId) {
        self.lanes.known(id).settle();
        self.settled(id);
    }

    /// What is known of settled events is needed no more; unless they may have to run again, all the same.
    fn settled(&mut self, id: LaneId) {
        let lane = self.lanes.known(id);
        if self.settings.guarantee == Guarantee::AtLeastOnce {
            lane.forget_below(lane.settled());
        }
        self.commits.note(id, lane);
    }

    fn revoked(&mut self, lanes: &[LaneId], now: Now) {
        let release_by = now + self.settings.revoke_timeout;
        for &id in lanes {
            if let Some(lane) = self.lanes.get_mut(id).filter(|lane| lane.release_by.is_none()) {
                lane.release_by = Some(release_by);
                self.close(id);
            }
        }
    }

    fn start_drain(&mut self, deadline: Now) {
        if self.drain != Drain::No {
            return;
        }
        self.drain = Drain::Until(deadline);
        for id in self.lanes.ids(|_| true) {
            self.close(id);
        }
    }

    fn close(&mut self, id: LaneId) {
        let lane = self.lanes.known(id);
        lane.drop_unanswered();
        lane.state = State::Closed;
        self.watch(id);
        self.settle(id);
    }

    fn watch(&mut self, id: LaneId) {
        let lane = self.lanes.known(id);
        if !std::mem::replace(&mut lane.watched, true) {
            self.watched.push(id);
        }
    }

    fn release(&mut self, id: LaneId, actions: &mut Vec<Action>) {
        if self.lanes.get(id).is_some_and(|lane| lane.in_transaction) {
            // Who has the partition now runs these events again.
            self.give_up(Cause::Lost, actions);
        }
        if self.lanes.remove(id) {
            self.commits.forget(id);
            self.watched.retain(|&watched| watched != id);
            actions.push(Action::Release { lane: id });
        }
    }

    /// What time, or what was just noted, has made possible: resuming, releasing, committing, the end of a drain.
    fn advance(&mut self, now: Now, actions: &mut Vec<Action>) {
        let mut drained = false;
        let mut index = 0;
        while index < self.watched.len() {
            let id = self.watched[index];
            let lane = self.lanes.known(id);
            match lane.state {
                State::Parked { until, cause } if until <= now && can_go_on(lane, &self.transaction) => {
                    actions.push(Action::Resume { lane: id, offset: lane.restart_offset() });
                    lane.restart();
                    lane.probing |= matches!(cause, Cause::Breaker { .. });
                }
                State::Closed if lane.release_by.is_some_and(|by| by <= now || lane.is_drained()) => {
                    self.release(id, actions);
                    continue;
                }
                State::Closed => drained |= lane.is_still() || lane.in_transaction,
                State::Running | State::Parked { .. } | State::Halted { .. } => {}
            }
            if matches!(lane.state, State::Running | State::Halted { .. }) {
                lane.watched = false;
                self.watched.swap_remove(index);
            } else {
                index += 1;
            }
        }
        self.commit(drained, now, actions);
        self.advance_drain(now, actions);
    }

    fn commit(&mut self, soon: bool, now: Now, actions: &mut Vec<Action>) {
        if self.settings.guarantee == Guarantee::ExactlyOnce && !self.may_end(soon, now) {
            return;
        }
        if let Some(positions) = self.commits.begin(soon || self.transaction.is_urgent(), now, &mut self.lanes) {
            self.transaction.commits(self.settings.guarantee);
            actions.push(Action::Commit { positions });
        }
    }

    fn commit_done(&mut self, accepted: &[LaneId], now: Now) {
        if self.settings.guarantee == Guarantee::ExactlyOnce {
            return self.committed(accepted, now);
        }
        for id in self.commits.end() {
            let lane = self.lanes.known(id);
            let position = lane.committing.take().expect("it was part of the commit");
            if accepted.contains(&id) {
                lane.committed = position;
            } else {
                self.commits.delay(now);
            }
            self.commits.note(id, lane);
        }
    }

    fn advance_drain(&mut self, now: Now, actions: &mut Vec<Action>) {
        let Drain::Until(deadline) = self.drain else {
            return;
        };
        let drained = self.lanes.iter().all(Lane::is_drained) && !self.transaction.is_given_up();
        if now >= deadline || drained {
            let clean = self.lanes.iter().all(|lane| lane.is_drained() && lane.is_clean());
            self.drain = Drain::Done;
            actions.push(Action::Drained { clean });
        }
    }
}

/// Whether nothing but time keeps a lane that waits.
fn can_go_on(lane: &Lane, transaction: &Transaction) -> bool {
    lane.is_still() && !lane.paused && !transaction.is_given_up()
}
