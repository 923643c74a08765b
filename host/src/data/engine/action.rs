//! What the engine decides: for the driver to carry out, in order, before the next input.

use std::ops::Range;

use super::input::{LaneId, Now, Refused, Seq};

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Run the events just delivered through their routes; `count` of them, numbered from `first`. Answered by
    /// [`Input::Answered`](super::Input::Answered), whole or in parts.
    Process {
        /// Of which partition.
        lane: LaneId,
        /// The number of the first.
        first: Seq,
        /// How many.
        count: u32,
        /// Which of them, counted from 0, are not to be run: an operator said so, and each route that takes one fails with a
        /// letter.
        skip: Range<u32>,
    },
    /// Drop the events just delivered: the partition isn't taking any. They are delivered again, here or elsewhere.
    Discard {
        /// Of which partition.
        lane: LaneId,
    },
    /// Known before `Process`, which follows in the same step: this was refused of this event before. Of an output, its route
    /// fails with that, and doesn't produce it again; a letter goes without more of its event.
    Refused {
        /// Of which partition.
        lane: LaneId,
        /// The event.
        seq: Seq,
        /// What the report gave, with the number that its route has now.
        refused: Refused,
    },
    /// Write a dead letter for this event and route: part of the `Emit` that follows in the same step and covers the event.
    Letter {
        /// Of which partition.
        lane: LaneId,
        /// The event.
        seq: Seq,
        /// The route that failed.
        route: u16,
        /// Calls of this route that failed for this event, the last one included.
        attempts: u32,
    },
    /// Produce the outputs and letters of these events, in their order. Each message is reported, and counts as many as
    /// `Answered` said and `Letter` added. Where a producer's queue is full, produce the rest later, or say `Blocked`.
    Emit {
        /// Of which partition.
        lane: LaneId,
        /// The first event.
        first: Seq,
        /// How many.
        count: u32,
    },
    /// Pause the partition, and drop all its events in hand that no `Emit` has covered. What is in flight settles.
    Park {
        /// Which.
        lane: LaneId,
        /// Where it stopped, so far: `Resume` says where it goes on, which may be earlier.
        offset: i64,
        /// It doesn't go on before this, unless something else allows it to.
        until: Now,
        /// Why, for logs and metrics.
        cause: Cause,
    },
    /// Seek to `offset` and resume the partition: nothing of it is in flight.
    Resume {
        /// Which.
        lane: LaneId,
        /// From where.
        offset: i64,
    },
    /// As `Park`, but it doesn't resume before it is assigned anew, or, if a route's policy says so, before the routes are
    /// others.
    Halted {
        /// Which.
        lane: LaneId,
        /// The event that stopped it, or where the next one would be.
        offset: i64,
        /// The route whose policy says so; none for an unreadable partition.
        route: Option<u16>,
    },
    /// Commit these positions; [`Input::CommitDone`](super::Input::CommitDone) says how it ended. Never two at a time. Exactly
    /// once: with the transaction, in which nothing is in flight; where it fails, or nobody knows,
    /// [`Input::Aborted`](super::Input::Aborted) says so instead.
    Commit {
        /// Each lane's next offset. Never empty.
        positions: Vec<(LaneId, i64)>,
    },
    /// Exactly once: abort the transaction; [`Input::Aborted`](super::Input::Aborted) answers. Until then, events in hand are
    /// neither answered nor delivered.
    Abort {
        /// Why, for logs and metrics.
        cause: Cause,
    },
    /// Give the partition up: forget it, unassign it. What is still in flight for it is of no interest.
    Release {
        /// Which.
        lane: LaneId,
    },
    /// The drain has ended. No further action but `Release` follows.
    Drained {
        /// Whether everything that was emitted was acknowledged, and committed.
        clean: bool,
    },
}

/// Why a partition waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// A route failed transiently.
    Retry {
        /// The route that makes it wait longest.
        route: u16,
        /// How often it failed for this event.
        failures: u32,
    },
    /// An output was refused for good: its event runs again, and knows.
    Refused,
    /// An output, or a letter, failed otherwise.
    Failed,
    /// An output topic is over its bound.
    Blocked,
    /// The producer is gone.
    ProducerLost,
    /// A partition that had a part in the transaction is another member's.
    Lost,
    /// Too much of a route failed: it is tried with one event, once it is time.
    Breaker {
        /// The route.
        route: u16,
        /// How often this event failed on it for good; 0 where it stands before one that was not judged.
        failures: u32,
    },
    /// An operator paused it.
    Paused,
    /// Nothing holds it any more: it is about to go on.
    Again,
}

/// How a partition stands, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It takes events.
    Running,
    /// It takes one event, with which a route is tried again.
    Probing {
        /// Where it stood.
        at: i64,
    },
    /// It waits.
    Waiting {
        /// Not longer than this.
        until: Now,
        /// For what.
        cause: Cause,
    },
    /// It doesn't go on by itself.
    Halted {
        /// The route whose policy says so; none for an unreadable partition.
        route: Option<u16>,
    },
    /// An operator paused it, and it might go on otherwise.
    Paused,
    /// It is about to be released.
    Closing,
}
