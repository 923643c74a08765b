//! Committed offsets, durable: an append-only journal, rewritten without what was overwritten when the broker starts and
//! when it has grown long. It never judges who may commit.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use bytes::{Buf, BufMut};
use uuid::Uuid;

use crate::Error;
use crate::storage::journal::{Journal, field};

/// What a group committed for a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Committed {
    pub(crate) offset: i64,
    pub(crate) leader_epoch: i32,
    pub(crate) metadata: String,
}

/// A partition by the id of its topic: a name that is used again starts without offsets.
pub(crate) type Partition = (Uuid, i32);

/// The offsets of all groups.
#[derive(Debug)]
pub(crate) struct Offsets {
    journal: Journal,
    groups: Groups,
}

type Groups = HashMap<String, BTreeMap<Partition, Committed>>;

/// The tags of the journal's facts.
const COMMITTED: u8 = 1;
const GROUP_DELETED: u8 = 2;
const TOPIC_DELETED: u8 = 3;

impl Offsets {
    /// Opens the journal of a data folder; offsets of topics that are gone go too.
    pub(crate) fn open(folder: &Path, exists: impl Fn(Uuid) -> bool) -> Result<Self, Error> {
        let mut groups = Groups::new();
        let mut journal = Journal::open(&folder.join("offsets.journal"), |fact| replay(&mut groups, fact))?;
        groups.retain(|_, partitions| {
            partitions.retain(|&(topic, _), _| exists(topic));
            !partitions.is_empty()
        });
        journal.rewrite(facts(&groups))?;
        Ok(Self { journal, groups })
    }

    /// Commits offsets, all or none. Blocks on the file system.
    pub(crate) fn commit(&mut self, group: &str, offsets: Vec<(Partition, Committed)>) -> Result<(), Error> {
        let facts: Vec<_> = offsets.iter().map(|(partition, committed)| encode(group, *partition, committed)).collect();
        self.journal.append(facts.iter().map(Vec::as_slice))?;
        if !offsets.is_empty() {
            self.groups.entry(group.to_owned()).or_default().extend(offsets);
        }
        if self.journal.is_long() {
            self.journal.rewrite(self::facts(&self.groups))?;
        }
        Ok(())
    }

    /// What a group committed for a partition.
    pub(crate) fn get(&self, group: &str, partition: Partition) -> Option<&Committed> {
        self.groups.get(group)?.get(&partition)
    }

    /// Everything that a group committed.
    pub(crate) fn all(&self, group: &str) -> impl Iterator<Item = (Partition, &Committed)> {
        self.groups.get(group).into_iter().flatten().map(|(partition, committed)| (*partition, committed))
    }

    /// The groups that committed something.
    pub(crate) fn groups(&self) -> impl Iterator<Item = &str> {
        self.groups.keys().map(String::as_str)
    }

    /// Forgets a group; says whether there was one.
    pub(crate) fn delete_group(&mut self, group: &str) -> Result<bool, Error> {
        if !self.groups.contains_key(group) {
            return Ok(false);
        }
        let mut fact = vec![GROUP_DELETED];
        field::put_str(&mut fact, group);
        self.journal.append([fact.as_slice()])?;
        self.groups.remove(group);
        Ok(true)
    }

    /// Forgets what was committed for a topic.
    pub(crate) fn delete_topic(&mut self, topic: Uuid) -> Result<(), Error> {
        let mut fact = vec![TOPIC_DELETED];
        field::put_id(&mut fact, topic);
        self.journal.append([fact.as_slice()])?;
        forget_topic(&mut self.groups, topic);
        Ok(())
    }

    /// Has the system write everything to disk.
    pub(crate) fn close(&self) -> Result<(), Error> {
        self.journal.sync()
    }
}

fn forget_topic(groups: &mut Groups, gone: Uuid) {
    groups.retain(|_, partitions| {
        partitions.retain(|&(topic, _), _| topic != gone);
        !partitions.is_empty()
    });
}

fn facts(groups: &Groups) -> impl Iterator<Item = Vec<u8>> {
    groups.iter().flat_map(|(group, partitions)| {
        partitions.iter().map(|(partition, committed)| encode(group, *partition, committed))
    })
}

fn encode(group: &str, (topic, partition): Partition, committed: &Committed) -> Vec<u8> {
    let mut fact = vec![COMMITTED];
    field::put_str(&mut fact, group);
    field::put_id(&mut fact, topic);
    fact.put_i32(partition);
    fact.put_i64(committed.offset);
    fact.put_i32(committed.leader_epoch);
    field::put_str(&mut fact, &committed.metadata);
    fact
}

fn replay(groups: &mut Groups, mut fact: &[u8]) -> Option<()> {
    match fact.try_get_u8().ok()? {
        COMMITTED => {
            let group = field::get_str(&mut fact)?;
            let partition = (field::get_id(&mut fact)?, fact.try_get_i32().ok()?);
            let committed = Committed {
                offset: fact.try_get_i64().ok()?,
                leader_epoch: fact.try_get_i32().ok()?,
                metadata: field::get_str(&mut fact)?.to_owned(),
            };
            groups.entry(group.to_owned()).or_default().insert(partition, committed);
        }
        GROUP_DELETED => {
            groups.remove(field::get_str(&mut fact)?);
        }
        TOPIC_DELETED => forget_topic(groups, field::get_id(&mut fact)?),
        _ => return None,
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn committed(offset: i64) -> Committed {
        Committed { offset, leader_epoch: 0, metadata: format!("at {offset}") }
    }

    #[test]
    fn offsets_survive_a_restart_but_not_their_group_or_topic() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b, gone) = (Uuid::from_u128(1), Uuid::from_u128(2), Uuid::from_u128(3));
        let mut offsets = Offsets::open(folder.path(), |_| true).unwrap();
        offsets.commit("g", vec![((a, 0), committed(5)), ((b, 1), committed(6))]).unwrap();
        offsets.commit("g", vec![((a, 0), committed(7)), ((gone, 0), committed(8))]).unwrap();
        offsets.commit("h", vec![((a, 0), committed(9))]).unwrap();
        assert!(offsets.delete_group("h").unwrap());
        assert!(!offsets.delete_group("h").unwrap());
        offsets.delete_topic(b).unwrap();
        for _ in 0..2 {
            let again = Offsets::open(folder.path(), |topic| topic != gone).unwrap();
            assert_eq!(again.groups().collect::<Vec<_>>(), ["g"]);
            assert_eq!(again.all("g").collect::<Vec<_>>(), [((a, 0), &committed(7))]);
            assert_eq!(again.get("g", (a, 0)), Some(&committed(7)));
            assert_eq!(again.get("g", (b, 1)), None);
        }
    }
}
