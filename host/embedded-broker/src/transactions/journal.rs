//! The facts about transactions on disk: appended before they take effect, and rewritten as few as say the same. It never
//! judges them.

use std::path::Path;

use bytes::{Buf, BufMut};

use super::machine::{Event, Fact, Machine, Producer, State};
use crate::Error;
use crate::groups::offsets::{Committed, Partition};
use crate::storage::batch::Outcome;
use crate::storage::journal::{self, field};

/// How many partitions and how many groups, whose names may be long, stand in one fact; more make several.
const PARTITIONS_MAX: usize = 1000;
const GROUPS_MAX: usize = 16;

/// The tags of the journal's facts.
const ASSIGNED: u8 = 1;
const ADDED: u8 = 2;
const PENDING: u8 = 3;
const PREPARED: u8 = 4;
const ENDED: u8 = 5;

/// The journal of all transactions.
#[derive(Debug)]
pub(super) struct Journal {
    journal: journal::Journal,
}

impl Journal {
    /// Opens the journal of a data folder; gives what its facts amount to.
    pub(super) fn open(folder: &Path) -> Result<(Self, Machine), Error> {
        let mut machine = Machine::default();
        let journal =
            journal::Journal::open(&folder.join("transactions.journal"), |fact| machine.apply(decode(fact)?))?;
        let mut journal = Self { journal };
        journal.rewrite(&machine)?;
        Ok((journal, machine))
    }

    /// Appends facts in one write. Blocks on the file system.
    pub(super) fn append(&mut self, facts: &[Fact]) -> Result<(), Error> {
        let encoded: Vec<_> = facts.iter().flat_map(|fact| encode(&fact.transactional_id, &fact.event)).collect();
        self.journal.append(encoded.iter().map(Vec::as_slice))
    }

    /// Drops what no longer matters, when that is much. Blocks on the file system.
    pub(super) fn shorten(&mut self, machine: &Machine) -> Result<(), Error> {
        if self.journal.is_long() { self.rewrite(machine) } else { Ok(()) }
    }

    /// Has the system write it to disk.
    pub(super) fn sync(&self) -> Result<(), Error> {
        self.journal.sync()
    }

    fn rewrite(&mut self, machine: &Machine) -> Result<(), Error> {
        let facts = machine.all().flat_map(|(transactional_id, known)| {
            let facts = known.events().into_iter();
            facts.flat_map(move |event| encode(transactional_id, &event))
        });
        self.journal.rewrite(facts)
    }
}

impl super::machine::Transaction {
    /// The shortest story that leads to where it is.
    fn events(&self) -> Vec<Event> {
        let Self { producer, previous, timeout, state } = self;
        let (producer, previous) = (*producer, *previous);
        let mut events = vec![Event::Assigned { producer, previous, timeout: *timeout }];
        if let Some(open) = self.open() {
            events.push(Event::Added {
                at: open.since,
                partitions: open.partitions.iter().copied().collect(),
                groups: open.groups.iter().cloned().collect(),
            });
            events.extend(open.pending.iter().map(|((group, partition), offset)| Event::Pending {
                group: group.clone(),
                partition: *partition,
                offset: offset.clone(),
            }));
        }
        match *state {
            State::Prepared(outcome, _) => events.push(Event::Prepared { outcome, producer, previous }),
            State::Ended(outcome) => events.push(Event::Ended { outcome }),
            State::Empty | State::Ongoing(_) => {}
        }
        events
    }
}

/// What stands in the journal for an event: mostly one fact, several for many partitions.
fn encode(transactional_id: &str, event: &Event) -> Vec<Vec<u8>> {
    let start = |tag: u8| {
        let mut out = vec![tag];
        field::put_str(&mut out, transactional_id);
        out
    };
    match event {
        Event::Assigned { producer, previous, timeout } => {
            let mut out = start(ASSIGNED);
            put_producers(&mut out, *producer, *previous);
            out.put_u64(*timeout);
            vec![out]
        }
        Event::Added { at, partitions, groups } => {
            let (mut partitions, mut groups) = (partitions.chunks(PARTITIONS_MAX), groups.chunks(GROUPS_MAX));
            let facts = partitions.len().max(groups.len());
            let added = (0..facts).map(|_| {
                let mut out = start(ADDED);
                out.put_u64(*at);
                put_partitions(&mut out, partitions.next().unwrap_or_default());
                put_texts(&mut out, groups.next().unwrap_or_default());
                out
            });
            added.collect()
        }
        Event::Pending { group, partition, offset } => {
            let mut out = start(PENDING);
            field::put_str(&mut out, group);
            put_partitions(&mut out, &[*partition]);
            out.put_i64(offset.offset);
            out.put_i32(offset.leader_epoch);
            field::put_str(&mut out, &offset.metadata);
            vec![out]
        }
        Event::Prepared { outcome, producer, previous } => {
            let mut out = start(PREPARED);
            out.put_u8(u8::from(*outcome == Outcome::Commit));
            put_producers(&mut out, *producer, *previous);
            vec![out]
        }
        Event::Ended { outcome } => {
            let mut out = start(ENDED);
            out.put_u8(u8::from(*outcome == Outcome::Commit));
            vec![out]
        }
    }
}

fn decode(mut fact: &[u8]) -> Option<Fact> {
    let tag = fact.try_get_u8().ok()?;
    let transactional_id = field::get_str(&mut fact)?.to_owned();
    let event = match tag {
        ASSIGNED => {
            let (producer, previous) = get_producers(&mut fact)?;
            Event::Assigned { producer, previous, timeout: fact.try_get_u64().ok()? }
        }
        ADDED => Event::Added {
            at: fact.try_get_u64().ok()?,
            partitions: get_partitions(&mut fact)?,
            groups: get_texts(&mut fact)?,
        },
        PENDING => Event::Pending {
            group: field::get_str(&mut fact)?.to_owned(),
            partition: get_partitions(&mut fact)?.pop()?,
            offset: Committed {
                offset: fact.try_get_i64().ok()?,
                leader_epoch: fact.try_get_i32().ok()?,
                metadata: field::get_str(&mut fact)?.to_owned(),
            },
        },
        PREPARED => {
            let outcome = get_outcome(&mut fact)?;
            let (producer, previous) = get_producers(&mut fact)?;
            Event::Prepared { outcome, producer, previous }
        }
        ENDED => Event::Ended { outcome: get_outcome(&mut fact)? },
        _ => return None,
    };
    Some(Fact { transactional_id, event })
}

/// Writes a producer and the one before it, which may be none: no id is negative.
fn put_producers(out: &mut Vec<u8>, producer: Producer, previous: Option<Producer>) {
    for producer in [producer, previous.unwrap_or(Producer { id: -1, epoch: -1 })] {
        out.put_i64(producer.id);
        out.put_i16(producer.epoch);
    }
}

fn get_producers(bytes: &mut &[u8]) -> Option<(Producer, Option<Producer>)> {
    let mut next = || Some(Producer { id: bytes.try_get_i64().ok()?, epoch: bytes.try_get_i16().ok()? });
    let (producer, previous) = (next()?, next()?);
    Some((producer, (previous.id >= 0).then_some(previous)))
}

fn put_partitions(out: &mut Vec<u8>, partitions: &[Partition]) {
    out.put_u32(partitions.len() as u32);
    for (topic, index) in partitions {
        field::put_id(out, *topic);
        out.put_i32(*index);
    }
}

fn get_partitions(bytes: &mut &[u8]) -> Option<Vec<Partition>> {
    let count = bytes.try_get_u32().ok()?;
    (0..count).map(|_| Some((field::get_id(bytes)?, bytes.try_get_i32().ok()?))).collect()
}

fn put_texts(out: &mut Vec<u8>, texts: &[String]) {
    out.put_u32(texts.len() as u32);
    for text in texts {
        field::put_str(out, text);
    }
}

fn get_texts(bytes: &mut &[u8]) -> Option<Vec<String>> {
    let count = bytes.try_get_u32().ok()?;
    (0..count).map(|_| Some(field::get_str(bytes)?.to_owned())).collect()
}

fn get_outcome(bytes: &mut &[u8]) -> Option<Outcome> {
    Some(if bytes.try_get_u8().ok()? == 0 { Outcome::Abort } else { Outcome::Commit })
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn fact(transactional_id: &str, event: Event) -> Fact {
        Fact { transactional_id: transactional_id.to_owned(), event }
    }

    /// One id in every state.
    fn facts() -> Vec<Fact> {
        let producer = Producer { id: 7, epoch: 3 };
        let previous = Some(Producer { id: 7, epoch: 2 });
        let mut facts = Vec::new();
        for id in ["empty", "ongoing", "prepared", "ended"] {
            facts.push(fact(id, Event::Assigned { producer, previous, timeout: 8000 }));
            if id == "empty" {
                continue;
            }
            let partitions = (0..2 * PARTITIONS_MAX as i32 + 1).map(|index| (Uuid::from_u128(9), index)).collect();
            facts.push(fact(id, Event::Added { at: 55, partitions, groups: vec!["g".into(), "h".into()] }));
            facts.push(fact(id, Event::Added { at: 66, partitions: vec![], groups: vec!["i".into()] }));
            for index in 0..2 {
                let offset = Committed { offset: 42, leader_epoch: -1, metadata: "a note".into() };
                let partition = (Uuid::from_u128(5), index);
                facts.push(fact(id, Event::Pending { group: "g".into(), partition, offset }));
            }
            if id != "ongoing" {
                let producer = Producer { id: 7, epoch: 4 };
                facts.push(fact(id, Event::Prepared { outcome: Outcome::Abort, producer, previous: None }));
            }
            if id == "ended" {
                facts.push(fact(id, Event::Ended { outcome: Outcome::Abort }));
            }
        }
        facts
    }

    #[test]
    fn what_happened_is_there_after_a_restart_and_after_a_rewriting() {
        let folder = tempfile::tempdir().unwrap();
        let (mut journal, mut machine) = Journal::open(folder.path()).unwrap();
        journal.append(&facts()).unwrap();
        for fact in facts() {
            machine.apply(fact).expect("can happen");
        }
        assert_eq!(machine.all().count(), 4);
        drop(journal);
        for _ in 0..2 {
            let (_, again) = Journal::open(folder.path()).unwrap();
            assert_eq!(again, machine);
        }
    }

    #[test]
    fn what_can_not_have_happened_is_damage() {
        let folder = tempfile::tempdir().unwrap();
        let (mut journal, _) = Journal::open(folder.path()).unwrap();
        journal.append(&[fact("nobody", Event::Ended { outcome: Outcome::Commit })]).unwrap();
        let message = Journal::open(folder.path()).unwrap_err().to_string();
        assert!(message.contains("transactions.journal") && message.contains("byte 0"), "{message}");
    }
}
