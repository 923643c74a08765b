//! The driver's side of transactions: committing them, giving them up, and finding out where the group stands.

use midplane::data::engine::{Input, LaneId};

use super::broker::Reader;
use super::bug::Bug;
use super::env::Env;
use super::host::Host;

impl Host {
    /// Commits the transaction with its positions, as far as that can be known.
    pub(super) fn commit_transaction(&mut self, env: &mut Env) {
        let (lost, unanswered) = (env.fails(), env.fails());
        let writer = self.writer;
        let commit = self.commit.as_mut().expect("a commit is in flight");
        let positions: Vec<(usize, Reader, i64)> =
            commit.positions.iter().map(|&(_, partition, reader, position)| (partition, reader, position)).collect();
        let apart = env.has(Bug::CommitsPositionsApart);
        let done = !lost
            && if apart {
                positions.iter().all(|&(index, reader, position)| env.broker.commit(index, reader, position))
            } else {
                env.broker.commit_transaction(writer, &positions)
            };
        let all = commit.positions.iter().map(|position| position.0).collect();
        if done && !unanswered || env.has(Bug::UnknownIsCommitted) || env.has(Bug::CommitAlwaysAccepted) {
            commit.accepted = Some(all);
            for (id, _, reader, position) in commit.positions.clone() {
                if let Some(lane) = self.lanes[id.0 as usize].as_mut().filter(|lane| lane.reader == reader) {
                    lane.accepted = position;
                }
            }
            self.hurried = false;
            env.stats.transactions += 1;
            env.stats.commits += positions.len() as u64;
        } else {
            commit.unknown = true;
            // Its end may still be on the way.
            if lost && env.random.chance(300) {
                env.broker.stray(writer, positions);
            }
        }
    }

    /// Settles the producer, reads back where the group stands, and tells the engine.
    pub(super) fn settle(&mut self, env: &mut Env) {
        let suspect = self.commit.take().is_some_and(|commit| commit.unknown);
        self.aborting = false;
        self.hurried = false;
        self.vanish(env);
        self.reports.iter_mut().for_each(std::collections::VecDeque::clear);
        if !env.has(Bug::KeepsAborted) {
            env.broker.abort(self.writer);
        }
        if (suspect || env.random.chance(100)) && !env.has(Bug::KeepsSuspect) {
            env.broker.fence(self.writer);
            self.writer = env.broker.new_writer();
        }
        env.stats.aborts += 1;
        let mut positions = Vec::new();
        for id in self.ids() {
            let draining = self.drain_by.is_some();
            let lane = self.lane(id);
            let found = match env.bug {
                Some(Bug::RewindsFromMemory) => Some(lane.accepted.max(lane.start)),
                _ => env.broker.partitions[lane.partition].committed,
            };
            let position = found.unwrap_or(lane.start);
            lane.outbox.clear();
            lane.blocked_since = None;
            lane.accepted = lane.accepted.max(found.unwrap_or(-1));
            if lane.paused || draining || lane.release_by.is_some() {
                lane.drop_hand();
                lane.ledger.rewound(position, &env.broker.partitions[lane.partition]);
            }
            positions.push((id, found));
        }
        self.rewinding = true;
        self.step(Input::Aborted { positions: &positions }, env);
        self.rewinding = false;
    }

    /// Whether routes may change: between two transactions, with nothing in hand. If not, the engine is asked for it.
    pub(super) fn is_between(&mut self, env: &mut Env) -> bool {
        let idle = |id: &LaneId| self.lanes[id.0 as usize].as_ref().is_some_and(|lane| lane.hand.is_empty());
        let in_hand = !self.ids().iter().all(idle);
        if env.has(Bug::SwapsWithin) {
            return !in_hand && self.engine.takes_events();
        }
        if !self.engine.is_between_transactions() {
            self.hurried = true;
            self.step(Input::Barrier, env);
            return false;
        }
        !in_hand
    }
}
