//! Exactly once: how large the shard's one transaction gets, when it ends, and what becomes of it when it can't.

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
    /// When something was emitted into it first.
    opened: Now,
    /// How many messages were emitted into it.
    messages: u64,
    /// How many may be, where that has to be bounded: the broker took too long for more.
    messages_max: Option<u64>,
}

/// How long a lane waits at most that a transaction failed with, for the sake of the others.
const FAULT_WAIT_MAX: Now = Now::from_secs(30);
/// More than so many messages are never in one transaction, bounded or not: what a producer holds is bounded, too.
const MESSAGES_MAX: u64 = 100_000;

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
    /// So many messages were emitted.
    pub(super) fn emit(&mut self, messages: u64, now: Now) {
        if self.stage == Stage::Idle {
            (self.stage, self.opened) = (Stage::Open, now);
        }
        self.messages += messages;
        self.urgent |= self.room() == 0;
    }

    /// How many more messages it may have.
    fn room(&self) -> u64 {
        self.messages_max.unwrap_or(u64::MAX).saturating_sub(self.messages)
    }

    /// It was committed: the next one may be larger, or has to be smaller, so that each takes between a quarter and a half of the
    /// time that the broker waits for it.
    fn adapt(&mut self, now: Now, timeout: Now) {
        let took = now.saturating_sub(self.opened);
        if took > timeout / 2 {
            self.messages_max = Some((self.messages * 3 / 4).max(1));
        } else if took < timeout / 4 && self.room() == 0 {
            let larger = self.messages_max.map(|max| max + max / 4 + 1);
            self.messages_max = larger.filter(|max| *max < MESSAGES_MAX);
        }
    }

    /// It was given up, and may have been too large.
    fn shrink(&mut self) {
        self.messages_max = Some((self.messages / 2).max(1));
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

    fn end(&mut self) {
        (self.stage, self.urgent, self.ending, self.messages) = (Stage::Idle, false, false, 0);
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

    /// How many more events may be emitted into the transaction, at least one: where the broker is slow, the rest has to wait for the
    /// next one.
    pub fn room(&self) -> usize {
        usize::try_from(self.transaction.room()).unwrap_or(usize::MAX).max(1)
    }

    /// Exactly once: the first event of a lane that a message failed of. It goes into a transaction alone, so that what stands in its
    /// way is in nobody else's. An event behind it does so, where it isn't there any more.
    pub fn suspect(&self, lane: LaneId) -> Option<i64> {
        self.lanes.get(lane)?.suspect
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
    pub(super) fn committed(&mut self, accepted: &[LaneId], now: Now) {
        for id in self.commits.end() {
            assert!(accepted.contains(&id), "a transaction is committed whole");
            let lane = self.lanes.known(id);
            lane.committed = lane.committing.take().expect("it was part of the commit");
            lane.forget_below(lane.committed);
            lane.trust_below(lane.committed);
        }
        for id in self.lanes.ids(|lane| lane.in_transaction) {
            self.lanes.known(id).in_transaction = false;
        }
        self.transaction.adapt(now, self.settings.transaction_timeout);
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
        let cause = match self.transaction.stage {
            Stage::Aborting(cause) => cause,
            _ => Cause::Failed,
        };
        if matches!(cause, Cause::Failed) && self.transaction.messages > 0 {
            self.transaction.shrink();
        }
        self.transaction.end();
        // Who makes transactions fail leaves others most of the time, however long it takes to fail.
        let fault_wait = (now.saturating_sub(self.transaction.opened) * 2).min(FAULT_WAIT_MAX);
        let others_until = self.until_again(cause, now);
        for &(id, committed) in positions {
            let Self { lanes, settings, random, .. } = self;
            let Some(lane) = lanes.get_mut(id) else { continue };
            let rewound = lane.rewind(committed);
            // Others go on sooner than the one that keeps failing.
            let until = match std::mem::take(&mut lane.at_fault) {
                true => {
                    let wait = backoff::wait(&settings.failed_wait, lane.faults, random);
                    others_until.max(now + wait.max(fault_wait))
                }
                false => others_until,
            };
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
