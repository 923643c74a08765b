//! Exactly once: when the shard's one transaction ends, and what becomes of it when it can't.

use super::input::{LaneId, Now};
use super::lane::{Lane, State};
use super::{Action, Cause, Engine, Guarantee, backoff};

/// The transaction of a shard.
#[derive(Debug, Default)]
pub(super) struct Transaction {
    stage: Stage,
    /// Whether it is to end as soon as it can.
    urgent: bool,
    /// Whether nothing more is emitted into it: it is to end once it has settled.
    ending: bool,
    /// How often it was given up since one was committed.
    failures: u32,
}

/// How far it is.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing was emitted since the last one.
    #[default]
    Idle,
    /// Something was.
    Open,
    /// The driver commits it.
    Committing,
    /// The driver gives it up.
    Aborting(Cause),
}

impl Transaction {
    /// Something was emitted.
    pub(super) fn open(&mut self) {
        if self.stage == Stage::Idle {
            self.stage = Stage::Open;
        }
    }

    /// It is to end soon, if there is one.
    pub(super) fn hurry(&mut self) {
        self.urgent |= self.stage != Stage::Idle;
    }

    pub(super) fn is_urgent(&self) -> bool {
        self.urgent
    }

    /// Whether it was given up, and the driver hasn't said yet where the group stands.
    pub(super) fn is_given_up(&self) -> bool {
        matches!(self.stage, Stage::Aborting(_))
    }

    /// Its commit is asked for.
    pub(super) fn commits(&mut self, guarantee: Guarantee) {
        if guarantee == Guarantee::ExactlyOnce {
            self.stage = Stage::Committing;
            self.ending = false;
        }
    }

    fn is_under_way(&self) -> bool {
        matches!(self.stage, Stage::Committing | Stage::Aborting(_))
    }

    fn end(&mut self) -> Stage {
        (self.urgent, self.ending) = (false, false);
        std::mem::take(&mut self.stage)
    }
}

impl Engine {
    /// Whether it may be told of events and answers. Not while a transaction ends: what was handed out and not answered is
    /// answered later, and the driver delivers nothing meanwhile.
    pub fn takes_events(&self) -> bool {
        !self.transaction.ending && !self.transaction.is_under_way()
    }

    /// Whether nothing was emitted that isn't committed: always so where events are settled at least once.
    pub fn is_between_transactions(&self) -> bool {
        self.transaction.stage == Stage::Idle
    }

    /// Whether the transaction may be committed now. Where it is time, and something is in flight, nothing more is emitted.
    pub(super) fn may_end(&mut self, soon: bool, now: Now) -> bool {
        if self.transaction.is_under_way() {
            return false;
        }
        let due = soon || self.transaction.urgent || self.commits.due().is_some_and(|due| due <= now);
        // Each step asks this: only where it is time are all lanes looked at.
        let still = due && self.lanes.iter().all(Lane::is_still);
        self.transaction.ending = due && !still;
        still
    }

    /// The transaction is committed, with all positions.
    pub(super) fn committed(&mut self, accepted: &[LaneId]) {
        for id in self.commits.end() {
            assert!(accepted.contains(&id), "a transaction is committed whole");
            let lane = self.lanes.known(id);
            lane.committed = lane.committing.take().expect("it was part of the commit");
            lane.forget_below(lane.committed);
        }
        for id in self.lanes.ids(|lane| lane.in_transaction) {
            self.lanes.known(id).in_transaction = false;
        }
        self.transaction.end();
        self.transaction.failures = 0;
    }

    /// Gives the transaction up, if there is one that isn't ending already.
    pub(super) fn give_up(&mut self, cause: Cause, actions: &mut Vec<Action>) {
        if self.transaction.stage == Stage::Open {
            self.transaction.stage = Stage::Aborting(cause);
            self.transaction.ending = false;
            actions.push(Action::Abort { cause });
        }
    }

    /// Nothing of the transaction is in any log's committed part, and nothing of it is in flight. Each lane goes on where the
    /// group stands, which is not always where this shard knew it to stand: a commit may have happened whose answer was lost.
    pub(super) fn aborted(&mut self, positions: &[(LaneId, Option<i64>)], now: Now, actions: &mut Vec<Action>) {
        self.commits.clear(&mut self.lanes);
        let cause = match self.transaction.end() {
            Stage::Aborting(cause) => cause,
            _ => Cause::Failed,
        };
        let until = self.until_again(cause, now);
        for &(id, committed) in positions {
            let Some(lane) = self.lanes.get_mut(id) else { continue };
            let rewound = lane.rewind(committed);
            self.commits.note(id, lane);
            if !rewound {
                continue;
            }
            let offset = lane.position();
            match lane.state {
                State::Running | State::Halted { .. } => {
                    lane.state = State::Parked { until, cause };
                    actions.push(Action::Park { lane: id, offset, until, cause });
                    self.watch(id);
                }
                State::Parked { until: already, .. } if until > already => lane.state = State::Parked { until, cause },
                State::Parked { .. } | State::Closed => {}
            }
        }
    }

    /// What is known to be refused runs again at once, what was blocked as soon as may be; anything else waits longer each
    /// time.
    fn until_again(&mut self, cause: Cause, now: Now) -> Now {
        match cause {
            Cause::Refused | Cause::Lost | Cause::Paused | Cause::Again => now,
            Cause::Blocked => now + self.settings.blocked_wait,
            Cause::Retry { .. } | Cause::Breaker { .. } | Cause::Failed | Cause::ProducerLost => {
                let failures = &mut self.transaction.failures;
                *failures = failures.saturating_add(1);
                let failures = *failures;
                now + backoff::wait(&self.settings.failed_wait, failures, &mut self.random)
            }
        }
    }
}
