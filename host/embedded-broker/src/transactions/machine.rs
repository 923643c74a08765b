//! All transactions as a state machine: requests and the time go in, facts come out, and only applying a fact changes
//! anything: what is replayed from a journal and what is decided anew end up the same. It never waits, reads no clock and
//! writes to no log.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use kafka_protocol::error::ResponseError;

use crate::groups::offsets::{Committed, Partition};
use crate::storage::batch::Outcome;

/// Milliseconds since the start of 1970.
pub(crate) type Millis = u64;

/// The last epoch that a producer is given: the one after it is left for fencing.
const EPOCH_MAX: i16 = i16::MAX - 1;

/// A producer: an id, and how often it was given anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Producer {
    pub(crate) id: i64,
    pub(crate) epoch: i16,
}

/// Something that happened to the transactions of an id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fact {
    pub(crate) transactional_id: String,
    pub(crate) event: Event,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// A producer got the id. Whoever had it before and did not hear of that may ask again as `previous`.
    Assigned { producer: Producer, previous: Option<Producer>, timeout: Millis },
    /// Partitions and groups became part of the transaction, which this may have begun.
    Added { at: Millis, partitions: Vec<Partition>, groups: Vec<String> },
    /// An offset will be committed with the transaction.
    Pending { group: String, partition: Partition, offset: Committed },
    /// How the transaction ends is settled, and by which producer its markers are: a newer one than that which began it,
    /// when that is fenced.
    Prepared { outcome: Outcome, producer: Producer, previous: Option<Producer> },
    /// It has ended in all logs, and its offsets are committed.
    Ended { outcome: Outcome },
}

/// What is part of a transaction that has not ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Open {
    /// When it began.
    pub(crate) since: Millis,
    pub(crate) partitions: BTreeSet<Partition>,
    pub(crate) groups: BTreeSet<String>,
    pub(crate) pending: BTreeMap<(String, Partition), Committed>,
}

/// Where a transactional id is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    /// Its producer has not begun a transaction yet.
    Empty,
    /// A transaction is open.
    Ongoing(Open),
    /// A transaction ends: how, is settled.
    Prepared(Outcome, Open),
    /// The last transaction has ended.
    Ended(Outcome),
}

/// A transactional id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Transaction {
    pub(crate) producer: Producer,
    pub(crate) previous: Option<Producer>,
    pub(crate) timeout: Millis,
    pub(crate) state: State,
}

/// What to do about a producer that wants a transactional id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Init {
    /// It has it already: it did not hear the last answer.
    Same(Producer),
    /// First the open transaction ends, then it is asked again, with the same words.
    Abort(Fact),
    /// First the transaction that is ending must have ended.
    Finish,
    /// It gets this one.
    Assign { producer: Producer, previous: Option<Producer> },
    /// It gets an id that nobody had before, in its first epoch.
    AssignNewId { previous: Option<Producer> },
}

/// What to do about a producer that ends its transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// It ends so.
    Prepare(Fact),
    /// It was settled so before, and must end now.
    Finish,
    /// It has ended so before: the answer was lost.
    Done,
}

/// All transactional ids.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Machine {
    known: BTreeMap<String, Transaction>,
}

impl Machine {
    /// A producer wants a transactional id; it says whom it takes itself for, when it had the id before.
    pub(crate) fn init(&self, transactional_id: &str, claimed: Option<Producer>) -> Result<Init, ResponseError> {
        let Some(transaction) = self.known.get(transactional_id) else {
            return Ok(Init::AssignNewId { previous: None });
        };
        let current = transaction.producer;
        let again = claimed.is_some() && claimed == transaction.previous;
        if claimed.is_some_and(|claimed| claimed != current) && !again {
            return Err(ResponseError::ProducerFenced);
        }
        match &transaction.state {
            State::Ongoing(_) => {
                let producer = Producer { epoch: current.epoch + 1, ..current };
                let event = Event::Prepared { outcome: Outcome::Abort, producer, previous: claimed };
                Ok(Init::Abort(Fact { transactional_id: transactional_id.to_owned(), event }))
            }
            State::Prepared(..) => Ok(Init::Finish),
            State::Empty | State::Ended(_) if again && current.epoch <= EPOCH_MAX => Ok(Init::Same(current)),
            State::Empty | State::Ended(_) if current.epoch >= EPOCH_MAX => Ok(Init::AssignNewId { previous: claimed }),
            State::Empty | State::Ended(_) => {
                let producer = Producer { epoch: current.epoch + 1, ..current };
                Ok(Init::Assign { producer, previous: claimed })
            }
        }
    }

    /// Partitions, or groups whose offsets will follow, become part of a transaction; nothing when they are already.
    pub(crate) fn add(
        &self,
        transactional_id: &str,
        producer: Producer,
        (mut partitions, mut groups): (Vec<Partition>, Vec<String>),
        now: Millis,
    ) -> Result<Option<Fact>, ResponseError> {
        match &self.check(transactional_id, producer)?.state {
            State::Prepared(..) => return Err(ResponseError::ConcurrentTransactions),
            State::Ongoing(open) => {
                partitions.retain(|partition| !open.partitions.contains(partition));
                groups.retain(|group| !open.groups.contains(group));
            }
            State::Empty | State::Ended(_) => {}
        }
        if partitions.is_empty() && groups.is_empty() {
            return Ok(None);
        }
        let event = Event::Added { at: now, partitions, groups };
        Ok(Some(Fact { transactional_id: transactional_id.to_owned(), event }))
    }

    /// Offsets of a group, which must be part of the transaction, are to be committed with it.
    pub(crate) fn add_offsets(
        &self,
        transactional_id: &str,
        producer: Producer,
        group: &str,
        offsets: Vec<(Partition, Committed)>,
    ) -> Result<Vec<Fact>, ResponseError> {
        match &self.check(transactional_id, producer)?.state {
            State::Prepared(..) => return Err(ResponseError::ConcurrentTransactions),
            State::Ongoing(open) if open.groups.contains(group) => {}
            _ => return Err(ResponseError::InvalidTxnState),
        }
        let fact = |(partition, offset)| Fact {
            transactional_id: transactional_id.to_owned(),
            event: Event::Pending { group: group.to_owned(), partition, offset },
        };
        Ok(offsets.into_iter().map(fact).collect())
    }

    /// A producer ends its transaction.
    pub(crate) fn end(
        &self,
        transactional_id: &str,
        producer: Producer,
        outcome: Outcome,
    ) -> Result<End, ResponseError> {
        let transaction = self.check(transactional_id, producer)?;
        match &transaction.state {
            State::Ongoing(_) => {
                let event = Event::Prepared { outcome, producer, previous: transaction.previous };
                Ok(End::Prepare(Fact { transactional_id: transactional_id.to_owned(), event }))
            }
            State::Prepared(settled, _) if *settled == outcome => Ok(End::Finish),
            State::Ended(before) if *before == outcome => Ok(End::Done),
            State::Empty | State::Prepared(..) | State::Ended(_) => Err(ResponseError::InvalidTxnState),
        }
    }

    /// Whether a producer is who has a transactional id.
    pub(crate) fn check(&self, transactional_id: &str, producer: Producer) -> Result<&Transaction, ResponseError> {
        let transaction = self.known.get(transactional_id).filter(|known| known.producer.id == producer.id);
        let transaction = transaction.ok_or(ResponseError::InvalidProducerIdMapping)?;
        if transaction.producer.epoch != producer.epoch {
            return Err(ResponseError::ProducerFenced);
        }
        Ok(transaction)
    }

    /// When [`Machine::overdue`] has something to tell next.
    pub(crate) fn next_deadline(&self) -> Option<Millis> {
        self.known.values().filter_map(Transaction::deadline).min()
    }

    /// The transactions whose time is over: they are aborted, and their producers fenced.
    pub(crate) fn overdue(&self, now: Millis) -> Vec<Fact> {
        let due = self.known.iter().filter(|(_, known)| known.deadline().is_some_and(|deadline| deadline <= now));
        let abort = due.map(|(transactional_id, known)| {
            let producer = Producer { epoch: known.producer.epoch + 1, ..known.producer };
            let event = Event::Prepared { outcome: Outcome::Abort, producer, previous: None };
            Fact { transactional_id: transactional_id.clone(), event }
        });
        abort.collect()
    }

    /// The ids whose transaction has yet to end as settled.
    pub(crate) fn prepared(&self) -> Vec<String> {
        let prepared = self.known.iter().filter(|(_, known)| matches!(known.state, State::Prepared(..)));
        prepared.map(|(transactional_id, _)| transactional_id.clone()).collect()
    }

    /// The partitions whose committed offset of a group may change any moment: a transaction that has not ended will.
    pub(crate) fn unstable(&self, group: &str) -> HashSet<Partition> {
        let open = self.known.values().filter_map(Transaction::open).filter(|open| open.groups.contains(group));
        let pending = open.flat_map(|open| open.pending.keys().filter(|(of, _)| of == group));
        pending.map(|(_, partition)| *partition).collect()
    }

    /// A transactional id.
    pub(crate) fn get(&self, transactional_id: &str) -> Option<&Transaction> {
        self.known.get(transactional_id)
    }

    /// All transactional ids.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&str, &Transaction)> {
        self.known.iter().map(|(transactional_id, known)| (transactional_id.as_str(), known))
    }

    /// Forgets offsets to be committed that are committed now, so that it isn't done twice.
    pub(crate) fn forget_pending(&mut self, transactional_id: &str) {
        if let Some(State::Prepared(_, open)) = self.known.get_mut(transactional_id).map(|known| &mut known.state) {
            open.pending.clear();
        }
    }

    /// Has transactions that begin in the future begin now: the clock was set back.
    pub(crate) fn clamp(&mut self, now: Millis) {
        for known in self.known.values_mut() {
            if let State::Ongoing(open) = &mut known.state {
                open.since = open.since.min(now);
            }
        }
    }

    /// Lets something have happened; nothing when it can't have.
    pub(crate) fn apply(&mut self, fact: Fact) -> Option<()> {
        let Fact { transactional_id, event } = fact;
        if let Event::Assigned { producer, previous, timeout } = event {
            let state = State::Empty;
            self.known.insert(transactional_id, Transaction { producer, previous, timeout, state });
            return Some(());
        }
        let known = self.known.get_mut(&transactional_id)?;
        let state = std::mem::replace(&mut known.state, State::Empty);
        known.state = match (event, state) {
            (Event::Added { partitions, groups, .. }, State::Ongoing(mut open)) => {
                open.partitions.extend(partitions);
                open.groups.extend(groups);
                State::Ongoing(open)
            }
            (Event::Added { at, partitions, groups }, State::Empty | State::Ended(_)) => {
                // It knows its epoch: from now on, who claims the one before is someone else.
                known.previous = None;
                let (partitions, groups) = (partitions.into_iter().collect(), groups.into_iter().collect());
                State::Ongoing(Open { since: at, partitions, groups, pending: BTreeMap::new() })
            }
            (Event::Pending { group, partition, offset }, State::Ongoing(mut open)) => {
                open.pending.insert((group, partition), offset);
                State::Ongoing(open)
            }
            (Event::Prepared { outcome, producer, previous }, State::Ongoing(open)) => {
                (known.producer, known.previous) = (producer, previous);
                State::Prepared(outcome, open)
            }
            (Event::Ended { outcome }, _) => State::Ended(outcome),
            _ => return None,
        };
        Some(())
    }
}

impl Transaction {
    /// What is part of it, while it has not ended.
    pub(crate) fn open(&self) -> Option<&Open> {
        match &self.state {
            State::Ongoing(open) | State::Prepared(_, open) => Some(open),
            State::Empty | State::Ended(_) => None,
        }
    }

    /// When it is aborted, if it has not ended by then.
    pub(crate) fn deadline(&self) -> Option<Millis> {
        match &self.state {
            State::Ongoing(open) => Some(open.since.saturating_add(self.timeout)),
            _ => None,
        }
    }
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
