//! The checks' own books of one lane: what is settled by the reports that the driver really had. Simple and slow on purpose.

use std::collections::BTreeMap;

use midplane::data::engine::Seq;

use super::broker::Partition;

/// The events of a lane from the first that isn't settled on.
#[derive(Debug)]
pub(super) struct Ledger {
    events: BTreeMap<i64, Entry>,
    position: i64,
    /// What was in flight is gone, and didn't run again since.
    interrupted: bool,
}

#[derive(Debug, PartialEq, Eq)]
struct Entry {
    seq: Seq,
    state: State,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    InHand,
    Emitted { remaining: u32, failed: bool },
}

impl Ledger {
    pub(super) fn new(position: i64) -> Self {
        Self { events: BTreeMap::new(), position, interrupted: false }
    }

    /// Where the lane would have to go on: everything below is settled, nothing from there on is.
    pub(super) fn settled(&self) -> i64 {
        self.events.first_key_value().map_or(self.position, |(&offset, _)| offset)
    }

    /// Where the next delivery is expected.
    pub(super) fn position(&self) -> i64 {
        self.position
    }

    pub(super) fn in_flight(&self) -> u32 {
        let remaining = |entry: &Entry| match entry.state {
            State::InHand => 0,
            State::Emitted { remaining, .. } => remaining,
        };
        self.events.values().map(remaining).sum()
    }

    /// Whether all that was emitted is settled.
    pub(super) fn is_clean(&self) -> bool {
        let in_hand = |entry: &Entry| entry.state == State::InHand;
        !self.interrupted && self.events.values().all(in_hand)
    }

    pub(super) fn delivered(&mut self, first: Seq, offsets: &[i64]) {
        for (&offset, seq) in offsets.iter().zip(first..) {
            assert!(offset >= self.position, "offset {offset} again, without a rewind");
            let state = State::InHand;
            self.events.insert(offset, Entry { seq, state });
            self.position = offset + 1;
        }
    }

    pub(super) fn end(&mut self, offset: i64) {
        self.position = self.position.max(offset);
    }

    pub(super) fn emitted(&mut self, seq: Seq, offset: i64, messages: u32) {
        let next = self.events.iter().find(|(_, entry)| entry.state == State::InHand);
        let (&next, entry) = next.expect("an event is emitted that is in hand");
        assert_eq!((next, entry.seq), (offset, seq), "the next event is emitted, none is passed over");
        let state = State::Emitted { remaining: messages, failed: false };
        self.events.insert(offset, Entry { seq, state });
        self.settle();
    }

    pub(super) fn reported(&mut self, seq: Seq, acked: bool) {
        let Some(entry) = self.events.values_mut().find(|entry| entry.seq == seq) else {
            return;
        };
        if let State::Emitted { remaining, failed } = &mut entry.state {
            *remaining -= 1;
            *failed |= !acked;
        }
        self.settle();
    }

    fn settle(&mut self) {
        let settled = State::Emitted { remaining: 0, failed: false };
        while let Some(first) = self.events.first_entry()
            && first.get().state == settled
        {
            first.remove();
        }
    }

    /// The lane stops: what wasn't emitted is dropped.
    pub(super) fn stopped(&mut self) {
        let in_hand = self.events.iter().find(|(_, entry)| entry.state == State::InHand);
        if let Some((&offset, _)) = in_hand {
            self.truncated(offset);
        }
    }

    /// What was delivered from an offset on is dropped.
    pub(super) fn truncated(&mut self, offset: i64) {
        self.events.split_off(&offset);
        self.position = offset;
    }

    /// What was in flight is gone.
    pub(super) fn abandoned(&mut self) {
        if self.in_flight() > 0 {
            self.position = self.settled();
            self.events.clear();
            self.interrupted = true;
        }
    }

    /// Nothing counts that is not committed.
    pub(super) fn rewound(&mut self, committed: i64, partition: &Partition) {
        self.interrupted |= !partition.has_none_between(committed, self.settled());
        self.events.clear();
        self.position = committed;
    }

    pub(super) fn resumed(&mut self, offset: i64) {
        assert_eq!(self.in_flight(), 0, "the lane goes on while messages are in flight");
        assert_eq!(offset, self.settled(), "the lane goes on from the first event that isn't settled");
        self.events.clear();
        self.position = offset;
        self.interrupted = false;
    }
}
