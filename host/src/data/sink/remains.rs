//! Where transactions that are over may still be open. Kafka 4.3 and 4.4 end one without its marker in a partition that has no
//! leader at that moment (KAFKA-20734): all brokers that have it are down, or the only broker has just begun again. What stands
//! there belongs to whatever the same producer ends there next, under whichever epoch: what was given up becomes visible with the
//! next commit, beside what ran again in its place. So a transaction that comes across such remains is aborted, and runs again.
//! It isn't where what was committed is left beside them, which the abort would take away. Asks and aborts nothing itself.

use std::collections::{BTreeMap, BTreeSet};

/// An output topic, by number, and a partition of it.
pub(super) type Place = (u16, i32);

/// What is known of a producer's transactions, over all the producers that had its name in this process.
#[derive(Debug, Default)]
pub(super) struct Remains {
    /// Where the transaction writes that is open, and from which offset on, if that is known.
    written: BTreeMap<Place, Option<i64>>,
    /// The last of those: records come in runs of one partition.
    last: Option<Place>,
    /// How the transaction is to end.
    end: End,
    /// Where transactions wrote that were not committed.
    given_up: BTreeSet<Place>,
    /// Where those that were committed wrote last, or may have been, and from which offset on.
    committed: BTreeMap<Place, i64>,
}

/// How a transaction is to end.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum End {
    #[default]
    Open,
    /// The broker was asked to commit it.
    Commit,
    /// It is aborted so that what a former one left is.
    Abort,
}

impl Remains {
    /// The transaction has a record there, or may have; at this offset, if it is one.
    pub(super) fn wrote(&mut self, place: Place, offset: i64) {
        // A record that never had a partition was never sent.
        if self.last != Some(place) && place.1 >= 0 {
            self.last = Some(place);
            self.written.entry(place).or_insert(Some(offset).filter(|offset| *offset >= 0));
        }
    }

    /// The broker is asked to commit the transaction: whatever it answers, it may have done so.
    pub(super) fn commits(&mut self) {
        self.end = End::Commit;
    }

    /// The transaction was committed.
    pub(super) fn committed(&mut self) {
        let begun = std::mem::take(&mut self.written).into_iter();
        self.committed.extend(begun.filter_map(|(place, offset)| Some((place, offset?))));
        (self.last, self.end) = (None, End::Open);
    }

    /// The transaction was aborted. With it goes what it came across, if it was for that.
    pub(super) fn aborted(&mut self) {
        if self.end == End::Abort {
            self.given_up.retain(|place| !self.written.contains_key(place));
            self.written.clear();
        }
        self.given_up();
    }

    /// The transaction, if there is one, was given up with its producer.
    pub(super) fn given_up(&mut self) {
        if self.end == End::Commit {
            return self.committed();
        }
        self.given_up.extend(std::mem::take(&mut self.written).into_keys());
        (self.last, self.end) = (None, End::Open);
    }

    /// Where the transaction writes, if it may have come across remains. The broker has to be asked what is open there.
    pub(super) fn may_be_met(&self) -> Option<Vec<Place>> {
        let meets = self.given_up.iter().any(|place| self.written.contains_key(place));
        meets.then(|| self.written.keys().copied().collect())
    }

    /// Whether the transaction may have come across remains, and is to be aborted for that: `open` says from which offset on there
    /// is something open in each partition that it writes to, of whomever.
    pub(super) fn are_met(&mut self, open: impl Iterator<Item = (Place, i64)>) -> bool {
        let (mut met, mut committed) = (false, false);
        for (place, open) in open {
            let before = self.written.get(&place).copied().flatten().is_none_or(|begun| open < begun);
            met |= before && self.given_up.contains(&place);
            committed |= self.committed.get(&place).is_some_and(|begun| open <= *begun);
        }
        if met && !committed {
            self.end = End::Abort;
        } else {
            self.given_up.retain(|place| !self.written.contains_key(place));
        }
        met && !committed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One that was given up, and wrote to partition 1 of topic 0 from offset 10 on; and one that is open, and writes from 20 on.
    fn after(end: impl FnOnce(&mut Remains)) -> Remains {
        let mut remains = Remains::default();
        remains.wrote((0, 1), 10);
        end(&mut remains);
        remains.wrote((0, 1), 20);
        remains.wrote((0, 1), 21);
        remains
    }

    /// Whether the one that is open is to be aborted, where there is something open from these offsets on.
    fn are_met(remains: &mut Remains, open: &[i64]) -> bool {
        let Some(places) = remains.may_be_met() else { return false };
        assert_eq!(places.len(), open.len());
        remains.are_met(places.into_iter().zip(open.iter().copied()))
    }

    #[test]
    fn what_was_given_up_is_met_where_it_is_open_until_that_is_aborted() {
        let mut remains = after(Remains::given_up);
        assert!(are_met(&mut remains, &[10]));
        // It couldn't be.
        remains.given_up();
        remains.wrote((0, 1), 30);
        assert!(are_met(&mut remains, &[10]));
        remains.aborted();
        remains.wrote((0, 1), 40);
        assert_eq!(remains.may_be_met(), None);
    }

    #[test]
    fn what_the_broker_has_ended_is_not_met() {
        let mut remains = after(Remains::given_up);
        assert!(!are_met(&mut remains, &[20]));
        remains.committed();
        remains.wrote((0, 1), 30);
        assert_eq!(remains.may_be_met(), None, "it was looked at");
    }

    #[test]
    fn what_is_elsewhere_is_not_met() {
        let mut remains = Remains::default();
        remains.wrote((0, 1), 10);
        remains.wrote((0, -1), -1);
        remains.aborted();
        for place in [(0, -1), (0, 2), (1, 1)] {
            remains.wrote(place, 20);
        }
        assert_eq!(remains.may_be_met(), None);
        remains.committed();
        remains.wrote((0, 1), 30);
        assert!(are_met(&mut remains, &[10]), "it is kept in mind");
    }

    #[test]
    fn what_was_or_may_have_been_committed_is_not_taken_away() {
        assert_eq!(after(Remains::committed).may_be_met(), None);
        let doubtful = |remains: &mut Remains| {
            remains.commits();
            remains.given_up();
        };
        assert_eq!(after(doubtful).may_be_met(), None);
        // Another one was given up after it, here or in another partition.
        // Something of another producer's may be older.
        for (place, open) in [((0, 1), [10].as_slice()), ((0, 2), &[10, 15]), ((0, 2), &[9, 15])] {
            let mut remains = Remains::default();
            remains.wrote((0, 1), 10);
            doubtful(&mut remains);
            remains.wrote(place, 15);
            remains.given_up();
            remains.wrote((0, 1), 20);
            remains.wrote(place, 21);
            assert!(!are_met(&mut remains, open), "{place:?}");
        }
    }

    #[test]
    fn without_an_offset_whatever_is_open_may_be_older() {
        let mut remains = Remains::default();
        remains.wrote((0, 1), -1);
        remains.given_up();
        remains.wrote((0, 1), -1);
        assert!(are_met(&mut remains, &[20]));
    }
}
