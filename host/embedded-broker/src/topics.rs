//! Which topics there are: created, grown, deleted, and found by name or id, durably. Also the ids of producers, which
//! must never be given twice. It never looks into a log.
//!
//! A topic's folder is named by its id, so a name that is used again never meets old records.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use bytes::{Buf, BufMut};
use uuid::Uuid;

use crate::Error;
use crate::settings::{PARTITIONS_MAX, check_partitions, check_topic_name};
use crate::storage::folder::random_id;
use crate::storage::handles::Handles;
use crate::storage::journal::{Journal, field};
use crate::storage::log::{Log, SEGMENT_BYTES};

/// How many partitions all topics may have together.
const ALL_PARTITIONS_MAX: usize = 100_000;

/// How many ids of producers are set aside at a time.
const PRODUCER_IDS: i64 = 1000;

/// A topic; growing it makes another value of the same id.
#[derive(Debug)]
pub(crate) struct Topic {
    pub(crate) name: String,
    pub(crate) id: Uuid,
    pub(crate) partitions: Vec<Arc<Log>>,
}

impl Topic {
    /// The log of a partition as clients number them.
    pub(crate) fn partition(&self, index: i32) -> Option<&Arc<Log>> {
        self.partitions.get(usize::try_from(index).ok()?)
    }
}

/// Why a topic was not changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    #[error("topic `{0}` exists already")]
    Exists(String),
    #[error("there is no such topic")]
    Unknown,
    #[error("topic `{name}` is refused: {reason}")]
    Name { name: String, reason: String },
    #[error("{0}")]
    Partitions(String),
    #[error(transparent)]
    Storage(#[from] Error),
}

/// All topics.
#[derive(Debug)]
pub(crate) struct Topics {
    folder: PathBuf,
    handles: Arc<Handles>,
    known: RwLock<Known>,
    /// Held over every change, so that the journal and what is known agree.
    changes: Mutex<Changes>,
}

#[derive(Debug, Default)]
struct Known {
    by_name: BTreeMap<String, Arc<Topic>>,
    names: HashMap<Uuid, String>,
}

#[derive(Debug)]
struct Changes {
    journal: Journal,
    next_producer_id: i64,
    reserved_producer_ids: i64,
}

/// A line of the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Fact {
    Created { id: Uuid, name: String, partitions: u32 },
    Grown { id: Uuid, partitions: u32 },
    Deleted { id: Uuid },
    ProducerIds { below: i64 },
}

impl Fact {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Created { id, name, partitions } => {
                out.put_u8(1);
                field::put_id(&mut out, *id);
                field::put_str(&mut out, name);
                out.put_u32(*partitions);
            }
            Self::Grown { id, partitions } => {
                out.put_u8(2);
                field::put_id(&mut out, *id);
                out.put_u32(*partitions);
            }
            Self::Deleted { id } => {
                out.put_u8(3);
                field::put_id(&mut out, *id);
            }
            Self::ProducerIds { below } => {
                out.put_u8(4);
                out.put_i64(*below);
            }
        }
        out
    }

    fn decode(mut bytes: &[u8]) -> Option<Self> {
        Some(match bytes.try_get_u8().ok()? {
            1 => Self::Created {
                id: field::get_id(&mut bytes)?,
                name: field::get_str(&mut bytes)?.to_owned(),
                partitions: bytes.try_get_u32().ok()?,
            },
            2 => Self::Grown { id: field::get_id(&mut bytes)?, partitions: bytes.try_get_u32().ok()? },
            3 => Self::Deleted { id: field::get_id(&mut bytes)? },
            4 => Self::ProducerIds { below: bytes.try_get_i64().ok()? },
            _ => return None,
        })
    }
}

/// What the journal says once it is read.
#[derive(Debug, Default)]
struct Replayed {
    topics: BTreeMap<Uuid, (String, u32)>,
    producer_ids: i64,
}

impl Replayed {
    fn apply(&mut self, fact: Fact) {
        match fact {
            Fact::Created { id, name, partitions } => {
                self.topics.insert(id, (name, partitions));
            }
            Fact::Grown { id, partitions } => {
                if let Some((_, known)) = self.topics.get_mut(&id) {
                    *known = partitions;
                }
            }
            Fact::Deleted { id } => {
                self.topics.remove(&id);
            }
            Fact::ProducerIds { below } => self.producer_ids = below,
        }
    }

    fn facts(&self) -> Vec<Vec<u8>> {
        let created = self.topics.iter().map(|(&id, (name, partitions))| {
            Fact::Created { id, name: name.clone(), partitions: *partitions }.encode()
        });
        created.chain([Fact::ProducerIds { below: self.producer_ids }.encode()]).collect()
    }
}

impl Topics {
    /// Opens every topic under a data folder, recovering their logs, and deletes what a crash left of deleted ones.
    pub(crate) fn open(folder: &Path, handles: Arc<Handles>) -> Result<Self, Error> {
        let mut replayed = Replayed::default();
        let mut journal = Journal::open(&folder.join("topics.journal"), |bytes| {
            replayed.apply(Fact::decode(bytes)?);
            Some(())
        })?;
        journal.rewrite(replayed.facts())?;
        let folder = folder.join("topics");
        fs::create_dir_all(&folder).map_err(Error::file("create", &folder))?;
        delete_strays(&folder, &replayed)?;
        let next = replayed.producer_ids;
        let changes = Changes { journal, next_producer_id: next, reserved_producer_ids: next };
        let topics = Self { folder, handles, known: RwLock::default(), changes: Mutex::new(changes) };
        for (id, (name, partitions)) in replayed.topics {
            let logs = topics.open_logs(id, 0..partitions)?;
            topics.publish(Topic { name, id, partitions: logs });
        }
        Ok(topics)
    }

    /// The topic of a name.
    pub(crate) fn get(&self, name: &str) -> Option<Arc<Topic>> {
        self.known().by_name.get(name).cloned()
    }

    /// The topic of an id.
    pub(crate) fn get_by_id(&self, id: Uuid) -> Option<Arc<Topic>> {
        let known = self.known();
        known.names.get(&id).and_then(|name| known.by_name.get(name)).cloned()
    }

    /// All topics in the order of their names.
    pub(crate) fn all(&self) -> Vec<Arc<Topic>> {
        self.known().by_name.values().cloned().collect()
    }

    /// Makes a topic; with `dry_run`, only says whether it could be made. Blocks on the file system.
    pub(crate) fn create(&self, name: &str, partitions: u32, dry_run: bool) -> Result<Arc<Topic>, Refused> {
        let mut changes = self.changes();
        check_topic_name(name).map_err(|reason| Refused::Name { name: name.to_owned(), reason })?;
        check_partitions(partitions).map_err(Refused::Partitions)?;
        if self.get(name).is_some() {
            return Err(Refused::Exists(name.to_owned()));
        }
        self.check_room(partitions)?;
        let id = random_id();
        let topic = Topic { name: name.to_owned(), id, partitions: self.open_logs(id, 0..partitions)? };
        if dry_run {
            return Ok(Arc::new(topic));
        }
        let fact = Fact::Created { id, name: name.to_owned(), partitions };
        changes.journal.append([fact.encode().as_slice()])?;
        Ok(self.publish(topic))
    }

    /// Gives a topic more partitions. Blocks on the file system.
    pub(crate) fn grow(&self, name: &str, partitions: u32, dry_run: bool) -> Result<Arc<Topic>, Refused> {
        let mut changes = self.changes();
        let topic = self.get(name).ok_or(Refused::Unknown)?;
        check_partitions(partitions).map_err(Refused::Partitions)?;
        let has = topic.partitions.len() as u32;
        if partitions <= has {
            return Err(Refused::Partitions(format!(
                "{partitions} partitions, expected more than the {has} that it has"
            )));
        }
        self.check_room(partitions - has)?;
        let mut logs = topic.partitions.clone();
        logs.extend(self.open_logs(topic.id, has..partitions)?);
        let grown = Topic { name: name.to_owned(), id: topic.id, partitions: logs };
        if dry_run {
            return Ok(Arc::new(grown));
        }
        changes.journal.append([Fact::Grown { id: topic.id, partitions }.encode().as_slice()])?;
        Ok(self.publish(grown))
    }

    /// Deletes a topic with its records. Blocks on the file system.
    pub(crate) fn delete(&self, id: Uuid) -> Result<Arc<Topic>, Refused> {
        let mut changes = self.changes();
        let topic = self.get_by_id(id).ok_or(Refused::Unknown)?;
        changes.journal.append([Fact::Deleted { id }.encode().as_slice()])?;
        {
            let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
            known.by_name.remove(&topic.name);
            known.names.remove(&id);
        }
        for log in &topic.partitions {
            log.delete();
        }
        delete_folder(&self.folder.join(id.to_string()))?;
        Ok(topic)
    }

    /// An id that no producer had before. Blocks on the file system, now and then.
    pub(crate) fn new_producer_id(&self) -> Result<i64, Error> {
        let mut changes = self.changes();
        if changes.next_producer_id >= changes.reserved_producer_ids {
            let below = changes.next_producer_id + PRODUCER_IDS;
            changes.journal.append([Fact::ProducerIds { below }.encode().as_slice()])?;
            changes.reserved_producer_ids = below;
        }
        let id = changes.next_producer_id;
        changes.next_producer_id += 1;
        Ok(id)
    }

    /// Has everything written to disk; gives the first error, after trying all.
    pub(crate) fn close(&self) -> Result<(), Error> {
        let mut outcome = self.changes().journal.sync();
        for topic in self.all() {
            for log in &topic.partitions {
                outcome = outcome.and(log.close());
            }
        }
        outcome
    }

    fn check_room(&self, more: u32) -> Result<(), Refused> {
        let has: usize = self.known().by_name.values().map(|topic| topic.partitions.len()).sum();
        if has + more as usize > ALL_PARTITIONS_MAX {
            let message =
                format!("{more} partitions more than the {has} there are, expected at most {ALL_PARTITIONS_MAX}");
            return Err(Refused::Partitions(message));
        }
        Ok(())
    }

    fn open_logs(&self, id: Uuid, partitions: std::ops::Range<u32>) -> Result<Vec<Arc<Log>>, Error> {
        let folder = self.folder.join(id.to_string());
        let open = |partition: u32| {
            Log::open(&folder.join(partition.to_string()), Arc::clone(&self.handles), SEGMENT_BYTES).map(Arc::new)
        };
        debug_assert!(partitions.end <= PARTITIONS_MAX, "checked by the callers");
        partitions.map(open).collect()
    }

    fn publish(&self, topic: Topic) -> Arc<Topic> {
        let topic = Arc::new(topic);
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.names.insert(topic.id, topic.name.clone());
        known.by_name.insert(topic.name.clone(), Arc::clone(&topic));
        topic
    }

    fn known(&self) -> std::sync::RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn changes(&self) -> MutexGuard<'_, Changes> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Deletes the folders of topics that the journal doesn't know: their deletion was cut short.
fn delete_strays(folder: &Path, replayed: &Replayed) -> Result<(), Error> {
    for entry in fs::read_dir(folder).map_err(Error::file("list", folder))? {
        let path = entry.map_err(Error::file("list", folder))?.path();
        let id = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse::<Uuid>().ok());
        if id.is_some_and(|id| !replayed.topics.contains_key(&id)) {
            delete_folder(&path)?;
        }
    }
    Ok(())
}

fn delete_folder(path: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::file("delete", path)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(folder: &Path) -> Topics {
        Topics::open(folder, Arc::default()).unwrap()
    }

    fn listed(topics: &Topics) -> Vec<(String, usize)> {
        topics.all().iter().map(|topic| (topic.name.clone(), topic.partitions.len())).collect()
    }

    #[test]
    fn topics_survive_a_restart_with_their_ids() {
        let folder = tempfile::tempdir().unwrap();
        let topics = open(folder.path());
        let id = topics.create("a", 2, false).unwrap().id;
        let gone = topics.create("b", 1, false).unwrap().id;
        topics.create("never", 1, true).unwrap();
        topics.grow("a", 5, false).unwrap();
        topics.delete(gone).unwrap();
        assert_eq!(listed(&topics), [("a".to_owned(), 5)]);
        for _ in 0..2 {
            let again = open(folder.path());
            assert_eq!(listed(&again), [("a".to_owned(), 5)]);
            assert_eq!(again.get("a").unwrap().id, id);
            assert!(again.get_by_id(gone).is_none());
        }
    }

    #[test]
    fn what_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let topics = open(folder.path());
        topics.create("a", 2, false).unwrap();
        let check = |outcome: Result<Arc<Topic>, Refused>, expected: &str| {
            let message = outcome.expect_err("refused").to_string();
            assert!(message.contains(expected), "{message}");
        };
        check(topics.create("a", 1, false), "`a` exists");
        check(topics.create("a/b", 1, false), "`/`");
        check(topics.create("b", 0, false), "0 partitions");
        check(topics.grow("a", 2, false), "expected more than the 2");
        check(topics.grow("b", 2, false), "no such topic");
        check(topics.delete(random_id()), "no such topic");
    }

    #[test]
    fn ids_of_producers_never_repeat() {
        let folder = tempfile::tempdir().unwrap();
        let mut last = -1;
        for _ in 0..3 {
            let topics = open(folder.path());
            for _ in 0..PRODUCER_IDS + 1 {
                let id = topics.new_producer_id().unwrap();
                assert!(id > last);
                last = id;
            }
        }
    }
}
