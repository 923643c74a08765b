//! Where transactions that are over may still be open. Kafka 4.3 and 4.4 end one without its marker in a partition that has no
//! leader at that moment (KAFKA-20734): all brokers that have it are down, or the only broker has just begun again. What stands
//! there belongs to whatever the same producer ends there next, under whichever epoch: a commit would make it visible beside what
//! ran again in its place. So the first transaction that writes there again is aborted, and runs again. Aborts nothing itself.

use std::collections::BTreeSet;

/// An output topic, by number, and a partition of it.
type Place = (u16, i32);

/// What is known of a producer's transactions, over all the producers that had its name in this process.
#[derive(Debug, Default)]
pub(super) struct Remains {
    /// Where the transaction writes that is open.
    written: BTreeSet<Place>,
    /// The last of those: records come in runs of one partition.
    last: Option<Place>,
    /// Whether one of its records was not written, for a reason that may be the partition's.
    has_failed: bool,
    /// Where one wrote that was given up, and nobody knows yet whether it was committed.
    in_doubt: BTreeSet<Place>,
    /// Where one may be open that was not committed.
    open: BTreeSet<Place>,
}

impl Remains {
    /// The transaction has a record there, or may have.
    pub(super) fn wrote(&mut self, place: Place) {
        if self.last != Some(place) {
            self.last = Some(place);
            // A record that never had a partition was never sent.
            self.written.extend(Some(place).filter(|(_, partition)| *partition >= 0));
        }
    }

    /// One of its records was not written, which may be so for want of a leader.
    pub(super) fn failed(&mut self) {
        self.has_failed = true;
    }

    /// The transaction was given up with its producer, and the broker ends it.
    pub(super) fn given_up(&mut self) {
        self.in_doubt.append(&mut self.written);
        self.committed();
    }

    /// It is known by now whether what was given up was committed all the same. What a commit left open is to be committed.
    pub(super) fn settled(&mut self, committed: bool) {
        let in_doubt = std::mem::take(&mut self.in_doubt);
        if !committed {
            self.open.extend(in_doubt);
        }
    }

    /// Whether the transaction would take such remains along.
    pub(super) fn are_met(&self) -> bool {
        !self.open.is_disjoint(&self.written)
    }

    /// The transaction was aborted: in every partition that it wrote to, if all was well with those.
    pub(super) fn aborted(&mut self) {
        if self.has_failed {
            self.open.append(&mut self.written);
        } else {
            self.open.retain(|place| !self.written.contains(place));
        }
        self.committed();
    }

    /// The transaction was committed.
    pub(super) fn committed(&mut self) {
        self.written.clear();
        (self.last, self.has_failed) = (None, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One that wrote to these partitions of topic 0.
    fn written(partitions: &[i32]) -> Remains {
        let mut remains = Remains::default();
        write(&mut remains, partitions);
        remains
    }

    fn write(remains: &mut Remains, partitions: &[i32]) {
        partitions.iter().for_each(|partition| remains.wrote((0, *partition)));
    }

    #[test]
    fn what_was_given_up_is_met_where_it_wrote_until_that_is_aborted() {
        let mut remains = written(&[1, 1, 2]);
        remains.given_up();
        remains.settled(false);
        write(&mut remains, &[3]);
        assert!(!remains.are_met());
        remains.committed();
        write(&mut remains, &[1, 3]);
        assert!(remains.are_met());
        remains.aborted();
        write(&mut remains, &[1]);
        assert!(!remains.are_met());
        write(&mut remains, &[2]);
        assert!(remains.are_met());
    }

    #[test]
    fn what_was_aborted_since_a_record_failed_is_met_again() {
        let mut remains = written(&[1]);
        remains.aborted();
        write(&mut remains, &[1]);
        assert!(!remains.are_met());
        remains.failed();
        remains.aborted();
        write(&mut remains, &[1]);
        assert!(remains.are_met());
        remains.aborted();
        write(&mut remains, &[1]);
        assert!(!remains.are_met());
    }

    #[test]
    fn what_was_committed_leaves_nothing() {
        let mut remains = written(&[1]);
        remains.given_up();
        write(&mut remains, &[1]);
        assert!(!remains.are_met(), "nobody knows yet");
        remains.settled(true);
        assert!(!remains.are_met());
        let mut remains = written(&[1]);
        remains.committed();
        remains.given_up();
        remains.settled(false);
        write(&mut remains, &[1]);
        assert!(!remains.are_met());
    }

    #[test]
    fn a_record_without_a_partition_is_nowhere() {
        let mut remains = written(&[-1]);
        remains.given_up();
        remains.settled(false);
        write(&mut remains, &[-1]);
        assert!(!remains.are_met());
    }
}
