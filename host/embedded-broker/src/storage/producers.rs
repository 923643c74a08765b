//! What a partition remembers of idempotent producers, so that a batch sent twice is stored once. It is rebuilt from the
//! log, never asks for the time, and never holds more producers than its bound.

use std::collections::{HashMap, VecDeque};

use bytes::{Buf, BufMut};

use super::batch::Header;

/// How many batches are remembered of a producer: as many as a client keeps in flight.
const BATCHES: usize = 5;

/// How many producers are remembered; the one that was quiet longest is forgotten first.
const PRODUCERS_MAX: usize = 1024;

/// What to do with a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sequence {
    /// It comes next.
    Next,
    /// It was stored before, at this offset.
    Duplicate(i64),
    /// It was stored so long ago that its offset is forgotten.
    OldDuplicate,
    /// Something before it is missing.
    Gap,
    /// The producer was replaced by one with a newer epoch.
    Fenced,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Batch {
    first: i32,
    last: i32,
    base_offset: i64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Producer {
    epoch: i16,
    batches: VecDeque<Batch>,
}

/// The producers of a partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Producers {
    known: HashMap<i64, Producer>,
}

impl Producers {
    /// Judges a batch by what came before it. A producer that isn't known may start anywhere: what it sent before may
    /// have been deleted with its segments.
    pub(crate) fn judge(&self, header: &Header) -> Sequence {
        let Some(producer) = self.known.get(&header.producer_id).filter(|_| header.producer_id >= 0) else {
            return Sequence::Next;
        };
        if header.producer_epoch < producer.epoch {
            return Sequence::Fenced;
        }
        if header.producer_epoch > producer.epoch {
            return if header.base_sequence == 0 { Sequence::Next } else { Sequence::Gap };
        }
        let Some(newest) = producer.batches.back() else {
            // Nothing came in this epoch yet, which a transaction's end began here.
            return if header.base_sequence == 0 { Sequence::Next } else { Sequence::Gap };
        };
        let (first, last) = (header.base_sequence, header.last_sequence());
        if let Some(same) = producer.batches.iter().find(|batch| batch.first == first && batch.last == last) {
            return Sequence::Duplicate(same.base_offset);
        }
        let expected = newest.last.checked_add(1).unwrap_or(0);
        if first == expected {
            Sequence::Next
        } else if first < expected && last <= newest.last {
            Sequence::OldDuplicate
        } else {
            Sequence::Gap
        }
    }

    /// Remembers a batch that was stored at the header's base offset.
    pub(crate) fn stored(&mut self, header: &Header) {
        if header.producer_id < 0 {
            return;
        }
        let batch =
            Batch { first: header.base_sequence, last: header.last_sequence(), base_offset: header.base_offset };
        let fresh = || Producer { epoch: header.producer_epoch, batches: VecDeque::with_capacity(BATCHES) };
        let producer = self.known.entry(header.producer_id).or_insert_with(fresh);
        if producer.epoch != header.producer_epoch {
            *producer = fresh();
        }
        if producer.batches.len() == BATCHES {
            producer.batches.pop_front();
        }
        producer.batches.push_back(batch);
        if self.known.len() > PRODUCERS_MAX {
            let quiet = |producer: &Producer| producer.batches.back().map_or(0, |batch| batch.base_offset);
            if let Some(&oldest) = self.known.iter().min_by_key(|(_, producer)| quiet(producer)).map(|(id, _)| id) {
                self.known.remove(&oldest);
            }
        }
    }

    /// Takes note of an epoch that the end of a transaction tells of: older ones are fenced from now on.
    pub(crate) fn ended(&mut self, header: &Header) {
        if let Some(producer) = self.known.get_mut(&header.producer_id)
            && producer.epoch < header.producer_epoch
        {
            *producer = Producer { epoch: header.producer_epoch, batches: VecDeque::with_capacity(BATCHES) };
        }
    }

    /// Writes all of it.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.put_u32(self.known.len() as u32);
        for (&id, producer) in &self.known {
            out.put_i64(id);
            out.put_i16(producer.epoch);
            out.put_u8(producer.batches.len() as u8);
            for batch in &producer.batches {
                out.put_i32(batch.first);
                out.put_i32(batch.last);
                out.put_i64(batch.base_offset);
            }
        }
    }

    /// Reads what [`Producers::encode`] wrote; nothing when it isn't that.
    pub(crate) fn decode(bytes: &mut &[u8]) -> Option<Self> {
        let mut known = HashMap::new();
        for _ in 0..bytes.try_get_u32().ok()? {
            let id = bytes.try_get_i64().ok()?;
            let mut producer = Producer { epoch: bytes.try_get_i16().ok()?, batches: VecDeque::with_capacity(BATCHES) };
            for _ in 0..bytes.try_get_u8().ok()? {
                let (first, last) = (bytes.try_get_i32().ok()?, bytes.try_get_i32().ok()?);
                producer.batches.push_back(Batch { first, last, base_offset: bytes.try_get_i64().ok()? });
            }
            known.insert(id, producer);
        }
        Some(Self { known })
    }
}

#[cfg(test)]
mod tests {
    use super::super::batch::tests::{Made, make};
    use super::*;

    fn header(id: i64, epoch: i16, sequence: i32, records: i32, offset: i64) -> Header {
        let batch = make(Made { records, producer: Some((id, epoch, sequence)), ..Made::default() });
        Header { base_offset: offset, ..Header::read_produced(&batch).unwrap() }
    }

    #[test]
    fn sequences_are_judged() {
        let mut producers = Producers::default();
        producers.stored(&header(7, 0, 0, 10, 100));
        producers.stored(&header(7, 0, 10, 5, 200));
        let check = |id, epoch, sequence, records, expected| {
            assert_eq!(
                producers.judge(&header(id, epoch, sequence, records, 0)),
                expected,
                "{id} {epoch} {sequence} {records}"
            );
        };
        check(7, 0, 15, 1, Sequence::Next);
        check(7, 0, 16, 1, Sequence::Gap);
        check(7, 0, 0, 10, Sequence::Duplicate(100));
        check(7, 0, 10, 5, Sequence::Duplicate(200));
        check(7, 0, 3, 2, Sequence::OldDuplicate);
        check(7, 0, 12, 9, Sequence::Gap);
        check(7, 1, 0, 1, Sequence::Next);
        check(7, 1, 3, 1, Sequence::Gap);
        check(8, 0, 42, 1, Sequence::Next);
        producers.stored(&header(7, 1, 0, 1, 300));
        assert_eq!(producers.judge(&header(7, 0, 15, 1, 0)), Sequence::Fenced);
    }

    #[test]
    fn the_end_of_a_transaction_fences_older_epochs_and_forgets_no_sequence_of_its_own() {
        let mut producers = Producers::default();
        let ended = |epoch| Header { producer_epoch: epoch, base_sequence: -1, ..header(7, 0, 0, 1, 0) };
        producers.ended(&ended(0));
        assert_eq!(producers.judge(&header(7, 0, 5, 1, 0)), Sequence::Next, "it is not known");
        producers.stored(&header(7, 0, 0, 10, 100));
        producers.ended(&ended(0));
        assert_eq!(producers.judge(&header(7, 0, 10, 1, 0)), Sequence::Next);
        producers.ended(&ended(1));
        assert_eq!(producers.judge(&header(7, 0, 10, 1, 0)), Sequence::Fenced);
        assert_eq!(producers.judge(&header(7, 1, 10, 1, 0)), Sequence::Gap);
        assert_eq!(producers.judge(&header(7, 1, 0, 1, 0)), Sequence::Next);
    }

    #[test]
    fn only_the_last_batches_and_a_bounded_number_of_producers_are_kept() {
        let mut producers = Producers::default();
        for n in 0..6 {
            producers.stored(&header(7, 0, n, 1, i64::from(n)));
        }
        assert_eq!(producers.judge(&header(7, 0, 0, 1, 0)), Sequence::OldDuplicate);
        assert_eq!(producers.judge(&header(7, 0, 1, 1, 0)), Sequence::Duplicate(1));
        for n in 0..PRODUCERS_MAX as i64 {
            producers.stored(&header(1000 + n, 0, 0, 1, 100 + n));
        }
        assert_eq!(producers.known.len(), PRODUCERS_MAX);
        assert!(!producers.known.contains_key(&7));
    }

    #[test]
    fn what_is_written_is_read() {
        let mut producers = Producers::default();
        producers.stored(&header(7, 3, 0, 10, 100));
        producers.stored(&header(9, 0, 5, 1, 110));
        let mut bytes = Vec::new();
        producers.encode(&mut bytes);
        assert_eq!(Producers::decode(&mut bytes.as_slice()), Some(producers));
        assert_eq!(Producers::decode(&mut &bytes[..bytes.len() - 1]), None);
    }
}
