//! One partition: which of its events are in flight, and up to where they are settled. Counts; decides nothing.

use std::collections::VecDeque;
use std::ops::Range;

use super::action::Cause;
use super::input::{Now, Seq};
use super::memory::Memory;

/// Set in [`Event::pending`] while the event can't settle: it wasn't answered yet, or one of its messages failed.
const OPEN: u32 = 1 << 31;

/// An event that is not settled, or stands behind one that isn't.
#[derive(Debug, Clone, Copy)]
struct Event {
    offset: i64,
    /// Messages in flight, and [`OPEN`].
    pending: u32,
}

/// Whether a partition takes events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// It does.
    Running,
    /// It will: once nothing is in flight, at the given time or later.
    Parked {
        /// Not before.
        until: Now,
        /// What for.
        cause: Cause,
    },
    /// It doesn't, unless an earlier event must run again.
    Halted {
        /// The route that said so: others would make it go on.
        route: Option<u16>,
    },
    /// It never will again: it is to be released, or the host drains.
    Closed,
}

/// One assigned partition.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) state: State,
    /// Whether an operator has paused it.
    pub(super) paused: bool,
    /// Whether it waited for a breaker, and its next event tries whether the route works again.
    pub(super) probing: bool,
    /// The offsets of events that are not run, but get letters.
    pub(super) skip: Range<i64>,
    /// What became of the events below was counted for breakers.
    pub(super) counted: i64,
    /// When to release it, drained or not, if it is to be released.
    pub(super) release_by: Option<Now>,
    /// What its events failed with before.
    pub(super) memory: Memory,
    /// Failures of the producer since an event settled last.
    pub(super) stumbles: u32,
    /// Exactly once: the first event that a message failed of, and wasn't committed since.
    pub(super) suspect: Option<i64>,
    /// How many transactions were given up since then because of this lane.
    pub(super) faults: u32,
    /// Whether the one that is open, or is being given up, is one of those.
    pub(super) at_fault: bool,
    /// Whether the engine's list of positions to commit has it.
    pub(super) dirty: bool,
    /// Whether the engine's list of lanes to look after has it.
    pub(super) watched: bool,
    /// Whether events that were emitted were given up, and not run again since.
    pub(super) interrupted: bool,
    /// Whether messages of it were emitted into the transaction that is open.
    pub(super) in_transaction: bool,
    /// Where it was begun to be read.
    begin: i64,
    /// The broker's, and what it was asked to make of it.
    pub(super) committed: i64,
    pub(super) committing: Option<i64>,
    /// From the first that is not settled on.
    events: VecDeque<Event>,
    /// The number of the first of `events`.
    base: Seq,
    /// The number that no event has had yet. Where the lane runs, `base + events.len()`.
    next: Seq,
    /// The number of the next event to be answered.
    answered: Seq,
    /// Messages in flight.
    in_flight: u64,
    /// Where reading goes on when nothing is unsettled.
    position: i64,
    /// Everything below is settled.
    settled: i64,
}

impl Lane {
    /// A lane that reads from a position on, and numbers its events from `next` on.
    pub(super) fn new(position: i64, committed: bool, next: Seq) -> Self {
        assert!(position >= 0, "a lane starts at an offset, not at {position}");
        Self {
            state: State::Running,
            paused: false,
            probing: false,
            skip: position..position,
            counted: position,
            release_by: None,
            memory: Memory::default(),
            stumbles: 0,
            suspect: None,
            faults: 0,
            at_fault: false,
            dirty: false,
            watched: false,
            interrupted: false,
            in_transaction: false,
            begin: position,
            committed: if committed { position } else { -1 },
            committing: None,
            events: VecDeque::new(),
            base: next,
            next,
            answered: next,
            in_flight: 0,
            position,
            settled: position,
        }
    }

    /// The number that the next event gets.
    pub(super) fn next(&self) -> Seq {
        self.next
    }

    /// Everything below is settled: what may be committed.
    pub(super) fn settled(&self) -> i64 {
        self.settled
    }

    /// Whether the broker doesn't know yet what is settled.
    pub(super) fn is_uncommitted(&self) -> bool {
        self.settled > self.committed
    }

    /// Where reading goes on when nothing is unsettled.
    pub(super) fn position(&self) -> i64 {
        self.position
    }

    /// Whether nothing is in flight, and the broker knows what is settled: what a lane is closed for.
    pub(super) fn is_drained(&self) -> bool {
        self.is_still() && !self.is_uncommitted()
    }

    /// How many events are not settled, or stand behind one that isn't.
    pub(super) fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether no message is in flight.
    pub(super) fn is_still(&self) -> bool {
        self.in_flight == 0
    }

    /// Whether every event that was emitted is settled.
    pub(super) fn is_clean(&self) -> bool {
        self.events.is_empty() && !self.interrupted
    }

    /// Where the lane goes on after a stop.
    pub(super) fn restart_offset(&self) -> i64 {
        self.events.front().map_or(self.position, |event| event.offset)
    }

    /// The offset of an event that is not settled.
    pub(super) fn offset(&self, seq: Seq) -> Option<i64> {
        self.index(seq).map(|index| self.events[index].offset)
    }

    fn index(&self, seq: Seq) -> Option<usize> {
        let index = seq.checked_sub(self.base)? as usize;
        (index < self.events.len()).then_some(index)
    }

    /// Takes events on, unanswered. Returns the number of the first.
    pub(super) fn deliver(&mut self, offsets: &[i64]) -> Seq {
        let first = self.next;
        for &offset in offsets {
            assert!(offset >= self.position, "delivered offset {offset} after position {}", self.position);
            self.position = offset + 1;
            self.events.push_back(Event { offset, pending: OPEN });
        }
        self.next += offsets.len() as u64;
        first
    }

    /// The client stands at the partition's end.
    pub(super) fn end(&mut self, offset: i64) {
        self.position = self.position.max(offset);
    }

    /// Whether an answer is still wanted. One is not when the lane stopped after the events were handed out.
    pub(super) fn expects_answer(&self, first: Seq) -> bool {
        let unanswered = self.base + self.events.len() as u64 - self.answered;
        if self.state != State::Running || unanswered == 0 || first < self.answered {
            return false;
        }
        assert_eq!(first, self.answered, "events are answered in order");
        true
    }

    /// Whether every event that it took was answered.
    pub(super) fn is_answered(&self) -> bool {
        self.answered >= self.base + self.events.len() as u64
    }

    /// Notes how many messages each of the next events produces.
    pub(super) fn answer(&mut self, messages: &[u32]) {
        let start = (self.answered - self.base) as usize;
        assert!(messages.len() <= self.events.len() - start, "more answers than events in hand");
        let mut sum = 0;
        for (event, &count) in self.events.range_mut(start..).zip(messages) {
            assert!(count < OPEN, "{count} messages for one event");
            event.pending = count;
            sum += u64::from(count);
        }
        self.in_flight += sum;
        self.answered += messages.len() as u64;
    }

    /// How many messages of these events are in flight.
    pub(super) fn messages(&self, first: Seq, count: u32) -> u64 {
        let start = (first - self.base) as usize;
        self.events.range(start..start + count as usize).map(|event| u64::from(event.pending & !OPEN)).sum()
    }

    /// How many of the events from a number on lie below an offset.
    pub(super) fn below(&self, first: Seq, offset: i64) -> u32 {
        let start = (first - self.base) as usize;
        self.events.range(start..).take_while(|event| event.offset < offset).count() as u32
    }

    /// One more message for an event that was just answered.
    pub(super) fn add_message(&mut self, seq: Seq) {
        self.events[(seq - self.base) as usize].pending += 1;
        self.in_flight += 1;
    }

    /// A message of an event is in the log. True if that may have settled events.
    #[inline]
    pub(super) fn ack(&mut self, seq: Seq) -> bool {
        let index = seq.wrapping_sub(self.base) as usize;
        let Some(event) = self.events.get_mut(index) else {
            return false;
        };
        assert!(event.pending & !OPEN != 0, "a report for event {seq}, which has no message in flight");
        event.pending -= 1;
        self.in_flight -= 1;
        index == 0 && event.pending == 0
    }

    /// A message of an event failed: the event won't settle before it has run again. None if that is of no interest.
    pub(super) fn fail(&mut self, seq: Seq) -> Option<i64> {
        let index = self.index(seq)?;
        let event = &mut self.events[index];
        assert!(event.pending & !OPEN != 0, "a report for event {seq}, which has no message in flight");
        event.pending = (event.pending - 1) | OPEN;
        self.in_flight -= 1;
        Some(event.offset)
    }

    /// Takes the settled events off the front. True if what is settled grew.
    pub(super) fn settle(&mut self) -> bool {
        let before = self.settled;
        while let Some(event) = self.events.front()
            && event.pending == 0
        {
            self.settled = event.offset + 1;
            self.events.pop_front();
            self.base += 1;
        }
        if self.events.is_empty() {
            self.settled = self.position;
        }
        assert!(self.settled >= before, "settled up to {before}, then only to {}", self.settled);
        let grew = self.settled > before;
        if grew {
            self.stumbles = 0;
        }
        grew
    }

    /// Exactly once: a message of an event failed, which makes the transaction fail.
    pub(super) fn suspect(&mut self, offset: i64) {
        self.suspect = Some(self.suspect.map_or(offset, |before| before.min(offset)));
        if !std::mem::replace(&mut self.at_fault, true) {
            self.faults = self.faults.saturating_add(1);
        }
    }

    /// Exactly once: the events below an offset are committed.
    pub(super) fn trust_below(&mut self, offset: i64) {
        if self.suspect.is_some_and(|suspect| suspect < offset) {
            (self.suspect, self.faults) = (None, 0);
        }
    }

    /// Forgets what is known of the events below an offset: they won't run again.
    pub(super) fn forget_below(&mut self, offset: i64) {
        self.memory.forget_below(offset);
    }

    /// Forgets the events that were not answered: they will be delivered again.
    pub(super) fn drop_unanswered(&mut self) {
        self.truncate(self.answered);
    }

    /// Forgets the events from a number on: they will be delivered again.
    pub(super) fn truncate(&mut self, seq: Seq) {
        let Some(index) = self.index(seq.max(self.base)) else {
            return;
        };
        self.position = self.events[index].offset;
        let dropped: u64 = self.events.range(index..).map(|event| u64::from(event.pending & !OPEN)).sum();
        self.in_flight -= dropped;
        self.events.truncate(index);
        self.answered = self.answered.min(self.base + index as u64);
    }

    /// Forgets what is in flight: nothing of it will be reported.
    pub(super) fn abandon(&mut self) {
        self.interrupted = true;
        self.position = self.restart_offset();
        self.events.clear();
        self.in_flight = 0;
        self.renumber();
    }

    /// Goes back to what the group has, or to the beginning: nothing that was emitted since counts. Whether there was anything to go
    /// back from.
    pub(super) fn rewind(&mut self, committed: Option<i64>) -> bool {
        self.committed = committed.unwrap_or(-1);
        self.trust_below(self.committed);
        let position = committed.unwrap_or(self.begin);
        let behind = self.settled != position;
        if !behind && !self.in_transaction {
            return false;
        }
        self.interrupted |= behind || self.answered > self.base;
        self.in_transaction = false;
        (self.position, self.settled, self.in_flight) = (position, position, 0);
        self.events.clear();
        self.renumber();
        true
    }

    /// Starts anew, with nothing in flight, at [`Lane::restart_offset`].
    pub(super) fn restart(&mut self) {
        assert!(self.is_still(), "a lane restarts when nothing is in flight");
        self.position = self.restart_offset();
        self.events.clear();
        self.interrupted = false;
        self.state = State::Running;
        self.renumber();
    }

    fn renumber(&mut self) {
        self.base = self.next;
        self.answered = self.next;
    }
}
