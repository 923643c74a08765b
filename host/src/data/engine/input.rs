//! What the engine is told: facts about the log, the plugins and the producer. Never a command how to react.

use std::time::Duration;

use crate::config::model::{Backoff, Breaker};

/// Time since a start that the driver chose: the engine has no clock of its own.
pub type Now = Duration;

/// Numbers the events of a lane in the order of their delivery. Never given twice in the life of an engine, so that a
/// late report for an event that has been rewound, or for a former lane of the same id, is known as such and ignored.
pub type Seq = u64;

/// One assigned partition for as long as it is assigned. The driver numbers its lanes, densely from 0, and may use a number
/// again once [`Action::Release`](super::Action::Release) has freed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LaneId(pub u32);

/// What happened.
#[derive(Debug, Clone, Copy)]
pub enum Input<'a> {
    /// A partition was assigned, and is read from `position` on.
    Assigned {
        /// A number that is free.
        lane: LaneId,
        /// The offset of the first event wanted.
        position: i64,
        /// Whether the group has committed this position already; else the engine commits it.
        committed: bool,
    },
    /// Records are in hand. Answered by `Process` for all of them, or by `Discard`.
    Delivered {
        /// Of which partition.
        lane: LaneId,
        /// Their offsets, rising, with gaps wherever the log has them; none below what was delivered or resumed at before.
        offsets: &'a [i64],
    },
    /// The partition's end was reached: the client's position stands at `offset`, past control records and compacted gaps.
    End {
        /// Of which partition.
        lane: LaneId,
        /// Where the next event will be, at the earliest.
        offset: i64,
    },
    /// The plugins answered for some of the events in hand: for the next ones, in order, but not necessarily for all.
    Answered {
        /// Of which partition.
        lane: LaneId,
        /// The first event that was answered.
        first: Seq,
        /// For each event, how many outputs it will produce, those of failed routes left out.
        messages: &'a [u32],
        /// What failed, by event, then by route, neither twice. Of events that `Process` said to skip, every route that takes
        /// them, each with a letter.
        failures: &'a [RouteFailure<'a>],
        /// Which of them each route took.
        takes: &'a [Take<'a>],
    },
    /// The producer reported on messages: the hot path.
    Reports(&'a [Report]),
    /// An output topic has been over its bound for long: nothing was produced for the events from `seq` on, or not all. The
    /// driver has forgotten what of them waits to be produced; reports of what it did produce of them are ignored.
    Blocked {
        /// Of which partition.
        lane: LaneId,
        /// The first event that could not be produced whole.
        seq: Seq,
        /// Whether some of it was produced.
        begun: bool,
    },
    /// The commit that was asked for last has ended.
    CommitDone {
        /// The lanes whose positions the broker accepted: none where the commit failed as a whole.
        accepted: &'a [LaneId],
    },
    /// Exactly once: the transaction was given up, or its commit failed, or nobody knows whether it did. The producer is
    /// settled: what it held is in no log's committed part, and will not be. Reports of it that come later are ignored. And the
    /// driver has forgotten what waits to be produced.
    Aborted {
        /// Where the group stands, read back from it afterwards, for each lane; none if it stands nowhere: the lane begins anew.
        positions: &'a [(LaneId, Option<i64>)],
    },
    /// Exactly once: the driver would be between two transactions, as soon as may be.
    Barrier,
    /// Partitions go to another member, once they are drained: each one's `Release` follows, within a bound. The driver drops
    /// their events in hand that no `Emit` has covered; answers for them are ignored.
    Revoked {
        /// Which.
        lanes: &'a [LaneId],
    },
    /// Partitions have gone to another member: no commit can be made any more. Each one's `Release` follows at once.
    Lost {
        /// Which.
        lanes: &'a [LaneId],
    },
    /// The partition can't be read on (its offset is out of range, its topic was made anew): it stops until it is released.
    Unreadable {
        /// Which.
        lane: LaneId,
    },
    /// The routes are others from now on, between two batches: nothing that was handed out is unanswered. Partitions that a
    /// route's policy has halted go on, and those that wait for a breaker: what made them stop may be mended.
    Swapped {
        /// By the number that a route had, the one that it has now; none where it is gone, and what is remembered of it.
        routes: &'a [Option<u16>],
    },
    /// An operator wants these partitions to stand still: they take nothing more, and what is in flight settles.
    Paused {
        /// Which.
        lanes: &'a [LaneId],
    },
    /// These may go on, for all that an operator says.
    Unpaused {
        /// Which.
        lanes: &'a [LaneId],
    },
    /// An operator wants these partitions to try again now, whatever they wait for; all but unreadable ones.
    Again {
        /// Which.
        lanes: &'a [LaneId],
    },
    /// As `Again`, and the events from where the partition stands up to an offset are not run: each route that takes one of
    /// them fails with a letter. Nothing is skipped that isn't there yet, nor where the partition doesn't stand still.
    Skip {
        /// Which.
        lane: LaneId,
        /// The first event that is run again.
        to: i64,
    },
    /// An operator trusts these routes again: their breakers close.
    Trusted {
        /// The driver's numbers.
        routes: &'a [u16],
    },
    /// At least once: the producer is gone, and all that was emitted and isn't settled with it. The driver has forgotten what waits to be
    /// produced; reports of the old producer that come later are ignored.
    ProducerLost,
    /// The host stops: what is in flight settles and is committed, then `Drained` follows. As with `Revoked`, what no `Emit`
    /// has covered is dropped.
    Drain {
        /// When to give up.
        deadline: Now,
    },
    /// Time has passed, to [`Engine::next_wakeup`](super::Engine::next_wakeup) or further.
    Tick,
}

/// One route's failure for one event.
#[derive(Debug, Clone, Copy)]
pub struct RouteFailure<'a> {
    /// Index of the event among those answered.
    pub event: u32,
    /// The driver's number of the route.
    pub route: u16,
    /// What its policy makes of this kind of failure.
    pub on: OnFailure<'a>,
}

/// Which of the events that were answered one route took.
#[derive(Debug, Clone, Copy)]
pub struct Take<'a> {
    /// The driver's number of the route.
    pub route: u16,
    /// Indexes among those answered, rising; there may be more behind them. None: all.
    pub events: Option<&'a [u32]>,
    /// When it stops, since too much of it fails; none: never.
    pub breaker: Option<&'a Breaker>,
}

impl Take<'_> {
    /// How many of the first so many events it took.
    pub(super) fn within(&self, count: u32) -> u32 {
        self.events.map_or(count, |events| events.partition_point(|event| *event < count) as u32)
    }

    /// Whether it took an event.
    pub(super) fn has(&self, event: u32) -> bool {
        self.events.is_none_or(|events| events.binary_search(&event).is_ok())
    }

    /// The first event that it took, from one on.
    pub(super) fn next(&self, from: u32) -> Option<u32> {
        match self.events {
            Some(events) => events.get(events.partition_point(|event| *event < from)).copied(),
            None => Some(from),
        }
    }
}

/// What a route's policy makes of a failure.
#[derive(Debug, Clone, Copy)]
pub enum OnFailure<'a> {
    /// A dead letter.
    Letter,
    /// Nothing: a deliberate drop.
    Drop,
    /// The partition stops before this event until it is released.
    Halt,
    /// The partition waits before this event, and runs it again; a dead letter when the attempts are spent.
    Retry {
        /// Calls for one event, the first included. At least 1.
        attempts: u32,
        /// How long to wait.
        backoff: &'a Backoff,
    },
}

/// What became of one message: an output, or a dead letter, of one event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// The event's partition.
    pub lane: LaneId,
    /// The event.
    pub seq: Seq,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is in the log.
    Acked,
    /// It isn't, and never will be: the broker would refuse it again.
    Refused(Refused),
    /// It isn't, or it isn't known to be, for a reason that may pass. Of a letter that was refused, too, unless it can be
    /// written otherwise: without its letter the event has no outcome, and its partition stands until the letter can be written.
    Failed,
}

/// What of an event a broker refuses for good, as the driver recognises it when the event runs again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// The driver's number of the route that it was for.
    pub route: u16,
    /// The driver's number of the topic that it was for.
    pub output: u16,
    /// Why.
    pub reason: Refusal,
}

/// Why a broker refuses a message for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Larger than its topic takes.
    TooLarge,
    /// Invalid in another way.
    Rejected,
    /// A letter that is larger than its topic takes, and can go without more of its event.
    LetterTooLarge {
        /// Whether it went without the event's value already.
        cut: bool,
    },
}
