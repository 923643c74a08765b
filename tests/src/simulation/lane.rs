//! What a driver keeps of a lane: what was fetched, what is in hand, what waits to be produced.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ops::Range;
use std::time::Duration;

use midplane::data::engine::Seq;

use super::broker::{Message, Reader};
use super::ledger::Ledger;

/// A lane of a host.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) partition: usize,
    pub(super) reader: Reader,
    pub(super) start: i64,
    pub(super) ledger: Ledger,
    /// Where the client fetches next.
    pub(super) position: i64,
    pub(super) paused: bool,
    pub(super) halted: bool,
    pub(super) fetched: VecDeque<i64>,
    /// Delivered, not yet emitted.
    pub(super) hand: VecDeque<(Seq, i64)>,
    /// Answered in the present step.
    pub(super) prepared: BTreeMap<Seq, Prepared>,
    /// Emitted, not yet produced.
    pub(super) outbox: VecDeque<Emitted>,
    pub(super) blocked_since: Option<Duration>,
    /// What the engine said was refused before.
    pub(super) refused: HashMap<Seq, Vec<u16>>,
    /// Calls by offset and route, those whose answers were dropped included.
    pub(super) calls: HashMap<(i64, usize), u32>,
    /// Stops at an event that was called, by offset; and those for a retry.
    pub(super) stops: HashMap<i64, u32>,
    pub(super) retries: HashMap<i64, u32>,
    /// Calls that a breaker stopped the event for, by offset and route.
    pub(super) held_back: HashMap<(i64, usize), u32>,
    /// The events in hand that failed, by number, and on which routes.
    pub(super) failing: BTreeMap<Seq, Vec<usize>>,
    /// The events that went on before, and count no more.
    pub(super) counted: BTreeSet<i64>,
    /// The route whose breaker it waits for.
    pub(super) waits_for: Option<usize>,
    /// Whether it waited for one, and may try.
    pub(super) may_probe: bool,
    /// The events that are not to be run: their offsets, one range for each time that somebody said so.
    pub(super) skip: Vec<Range<i64>>,
    /// Those of them in hand.
    pub(super) skips: Range<Seq>,
    /// The end that was reported last.
    pub(super) end: i64,
    /// The last position that the broker is known to have accepted.
    pub(super) accepted: i64,
    /// It doesn't resume before this.
    pub(super) parked_until: Duration,
    pub(super) release_by: Option<Duration>,
    pub(super) lost: bool,
}

/// An event that was answered.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) messages: Vec<Message>,
    /// Routes that failed, and have neither a letter nor leave to drop the event.
    pub(super) unresolved: Vec<usize>,
    /// Routes that failed, and drop the event.
    pub(super) dropped: Vec<usize>,
}

/// An event that was emitted.
#[derive(Debug)]
pub(super) struct Emitted {
    pub(super) seq: Seq,
    pub(super) offset: i64,
    pub(super) messages: VecDeque<Message>,
    /// Whether some of it was produced.
    pub(super) begun: bool,
}

impl Lane {
    pub(super) fn new(partition: usize, reader: Reader, position: i64, committed: bool) -> Self {
        Self {
            partition,
            reader,
            start: position,
            ledger: Ledger::new(position),
            position,
            paused: false,
            halted: false,
            fetched: VecDeque::new(),
            hand: VecDeque::new(),
            prepared: BTreeMap::new(),
            outbox: VecDeque::new(),
            blocked_since: None,
            refused: HashMap::new(),
            calls: HashMap::new(),
            stops: HashMap::new(),
            retries: HashMap::new(),
            held_back: HashMap::new(),
            failing: BTreeMap::new(),
            counted: BTreeSet::new(),
            waits_for: None,
            may_probe: false,
            skip: Vec::new(),
            skips: 0..0,
            end: -1,
            accepted: if committed { position } else { -1 },
            parked_until: Duration::ZERO,
            release_by: None,
            lost: false,
        }
    }

    /// Drops what no `Emit` has covered.
    pub(super) fn drop_hand(&mut self) {
        self.hand.clear();
        self.prepared.clear();
        self.failing.clear();
        self.refused.clear();
        self.ledger.stopped();
    }

    /// Seeks.
    pub(super) fn seek(&mut self, offset: i64) {
        self.fetched.clear();
        self.position = offset;
        self.end = -1;
        self.paused = false;
        self.halted = false;
    }
}
