//! The host's own folder: who this host is, which generation is live, where the rest is kept. One process at a time: the
//! folder is locked for as long as [`DataDirectory`] lives. Holds no events; those are the broker's.
//!
//! A generation is published in three steps, each durable before the next: its contents and then its manifest in the
//! [store](Store), `generation.json`, the shards. A crash before the second leaves the old one live, and a manifest above it
//! that nobody followed: it is removed, and its number is not given again.

use std::fs::{File, TryLockError};
use std::io::Read;
use std::path::{Path, PathBuf};

use super::durable::replace;
use super::store::{self, Manifest, Store};
use crate::digest;

/// The folder of a running host.
#[derive(Debug)]
pub struct DataDirectory {
    path: PathBuf,
    host_id: String,
    _lock: File,
}

/// Why a folder can't be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process has it.
    #[error("the data directory `{}` is in use by another process", .0.display())]
    Locked(PathBuf),
    /// It can't be made, read or written.
    #[error("cannot use `{}` as, or in, the data directory", path.display())]
    Io {
        /// What was tried.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The store of generations refuses.
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// Which generation is live, as it is kept over restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Live {
    /// Its number.
    pub number: u64,
    /// Its name.
    pub hash: digest::Bytes,
}

/// `generation.json`
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
struct Record {
    number: u64,
    hash: digest::Bytes,
    /// The highest number that was ever put into the store, published or not. Absent from older files.
    #[serde(default)]
    taken: u64,
}

/// What a host keeps, seen by another process, whether the host runs or not: the generation that is live, or was when it
/// stopped, and what generations consist of. None where no host ever published one there.
///
/// # Errors
/// When it can't be read.
pub fn look(path: &Path) -> Result<Option<(Live, Store)>, Error> {
    match read_record(&record_path(path))? {
        Some(record) => {
            let store = Store::look(&store_path(path))?;
            Ok(Some((Live { number: record.number, hash: record.hash }, store)))
        }
        None => Ok(None),
    }
}

impl DataDirectory {
    /// Makes the folder if it is missing, and locks it.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| Error::Io { path, source }
        };
        std::fs::create_dir_all(path).map_err(io(path))?;
        let lock_path = path.join("lock");
        let lock = File::options().create(true).truncate(false).write(true).open(&lock_path).map_err(io(&lock_path))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => Error::Locked(path.to_owned()),
            TryLockError::Error(source) => Error::Io { path: lock_path.clone(), source },
        })?;
        let id_path = path.join("host-id");
        let host_id = match std::fs::read_to_string(&id_path) {
            Ok(id) if !id.trim().is_empty() => id.trim().to_owned(),
            _ => {
                let id = random_id().map_err(io(&id_path))?;
                replace(&id_path, id.as_bytes()).map_err(io(&id_path))?;
                id
            }
        };
        Ok(Self { path: path.to_owned(), host_id, _lock: lock })
    }

    /// The host's random id, the same over restarts.
    pub fn host_id(&self) -> &str {
        &self.host_id
    }

    /// Where compiled plugins are kept.
    pub fn compile_cache(&self) -> PathBuf {
        self.path.join("compiled")
    }

    /// Where operators' decisions are kept.
    pub fn decisions_file(&self) -> PathBuf {
        self.path.join("decisions.json")
    }

    /// What generations consist of. To be opened once.
    ///
    /// # Errors
    /// When it can't be read or written.
    pub fn open_store(&self) -> Result<Store, Error> {
        let store = Store::open(&store_path(&self.path))?;
        self.forget_unpublished(&store)?;
        Ok(store)
    }

    /// The generation that is live, or was when the host stopped.
    ///
    /// # Errors
    /// When the file that says so can't be read.
    pub fn live(&self) -> Result<Option<Live>, Error> {
        let live = |record: Record| Live { number: record.number, hash: record.hash };
        Ok(self.record()?.map(live))
    }

    /// The number of the next generation. It is taken once [published](Self::publish): one that is refused before leaves no
    /// gap.
    ///
    /// # Errors
    /// When the file that says which is live can't be read.
    pub fn next_number(&self, store: &Store) -> Result<u64, Error> {
        let used = self.record()?.map_or(0, |record| record.number.max(record.taken));
        Ok(used.max(store.last_number()) + 1)
    }

    /// Puts a generation into the store, and makes it the live one: durably, in this order. Publishing the live one again,
    /// after a restart, changes nothing.
    ///
    /// # Errors
    /// When the disk refuses, or the store lacks something that the manifest names. The live generation is then still the
    /// one that it was.
    pub fn publish<'b>(
        &self,
        store: &Store,
        manifest: &Manifest,
        blobs: impl IntoIterator<Item = (digest::Bytes, &'b [u8])>,
    ) -> Result<(), Error> {
        self.forget_unpublished(store)?;
        store.put(manifest, blobs)?;
        self.set_live(Live { number: manifest.number, hash: manifest.hash })
    }

    /// The number of the generation with this hash: that of the last run if it ran the same one, else the next. Durable
    /// before it returns, so that no two generations of a host ever bear the same number.
    pub fn number_generation(&self, hash: &digest::Bytes) -> Result<u64, Error> {
        match self.record()? {
            Some(last) if last.hash == *hash => Ok(last.number),
            last => {
                let number = last.map_or(1, |last| last.number.max(last.taken) + 1);
                self.set_live(Live { number, hash: *hash })?;
                Ok(number)
            }
        }
    }

    fn set_live(&self, live: Live) -> Result<(), Error> {
        let before = self.record()?;
        let taken = before.map_or(0, |record| record.taken).max(live.number);
        let record = Record { number: live.number, hash: live.hash, taken };
        if before == Some(record) { Ok(()) } else { self.write_record(record) }
    }

    /// What was put and never published, because of a crash or of a disk that refused in between, is no history.
    fn forget_unpublished(&self, store: &Store) -> Result<(), Error> {
        let Some(record) = self.record()? else { return Ok(()) };
        let last = store.last_number();
        if last > record.number {
            self.write_record(Record { taken: record.taken.max(last), ..record })?;
            store.forget_above(record.number)?;
        }
        Ok(())
    }

    fn record(&self) -> Result<Option<Record>, Error> {
        read_record(&record_path(&self.path))
    }

    fn write_record(&self, record: Record) -> Result<(), Error> {
        let path = record_path(&self.path);
        let io = |source| Error::Io { path: path.clone(), source };
        replace(&path, &serde_json::to_vec(&record).map_err(|error| io(error.into()))?).map_err(io)
    }
}

fn record_path(folder: &Path) -> PathBuf {
    folder.join("generation.json")
}

fn store_path(folder: &Path) -> PathBuf {
    folder.join("generations")
}

fn read_record(path: &Path) -> Result<Option<Record>, Error> {
    let io = |source| Error::Io { path: path.to_owned(), source };
    match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| io(error.into())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io(error)),
    }
}

fn random_id() -> std::io::Result<String> {
    let mut bytes = [0_u8; 4];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(format!("{:08x}", u32::from_ne_bytes(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_at_a_time_and_the_id_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data");
        let first = DataDirectory::open(&path).unwrap();
        let id = first.host_id().to_owned();
        assert_eq!(id.len(), 8);
        let error = DataDirectory::open(&path).unwrap_err();
        assert!(matches!(error, Error::Locked(_)), "{error}");
        drop(first);
        assert_eq!(DataDirectory::open(&path).unwrap().host_id(), id);
    }

    #[test]
    fn generations_are_numbered_over_restarts() {
        let folder = tempfile::tempdir().unwrap();
        let numbers: Vec<_> = [[1; 32], [1; 32], [2; 32], [1; 32]]
            .iter()
            .map(|hash| DataDirectory::open(folder.path()).unwrap().number_generation(hash).unwrap())
            .collect();
        assert_eq!(numbers, [1, 1, 2, 3]);
    }

    fn publish(data: &DataDirectory, store: &Store, hash: u8) -> u64 {
        let number = data.next_number(store).unwrap();
        data.publish(store, &Manifest::new(number, [hash; 32]), []).unwrap();
        number
    }

    fn stored(store: &Store) -> Vec<u64> {
        store.list().iter().map(|manifest| manifest.number).collect()
    }

    #[test]
    fn what_was_published_is_live_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDirectory::open(folder.path()).unwrap();
        let store = data.open_store().unwrap();
        assert_eq!(data.live().unwrap(), None);
        assert_eq!([publish(&data, &store, 1), publish(&data, &store, 2)], [1, 2]);
        data.publish(&store, &Manifest::new(2, [2; 32]), []).unwrap();
        drop((data, store));
        let data = DataDirectory::open(folder.path()).unwrap();
        assert_eq!(data.live().unwrap(), Some(Live { number: 2, hash: [2; 32] }));
        assert_eq!(stored(&data.open_store().unwrap()), [1, 2]);
    }

    #[test]
    fn what_a_running_host_keeps_can_be_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        assert!(look(&folder.path().join("nowhere")).unwrap().is_none());
        let data = DataDirectory::open(folder.path()).unwrap();
        let store = data.open_store().unwrap();
        assert!(look(folder.path()).unwrap().is_none());
        publish(&data, &store, 1);
        let draft = folder.path().join("generations/blobs/.draft-1");
        std::fs::write(&draft, "half").unwrap();
        let (live, seen) = look(folder.path()).unwrap().unwrap();
        assert_eq!((live, stored(&seen)), (Live { number: 1, hash: [1; 32] }, vec![1]));
        assert!(draft.exists(), "what the host is about to put there is left alone");
    }

    #[test]
    fn a_crash_between_the_steps_leaves_the_old_one_live_and_takes_the_number() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDirectory::open(folder.path()).unwrap();
        let store = data.open_store().unwrap();
        publish(&data, &store, 1);
        // Killed before the second step, twice; the second time after the first crash was tidied up.
        for (number, hash) in [(2, [2; 32]), (3, [3; 32])] {
            let store = data.open_store().unwrap();
            assert_eq!(data.next_number(&store).unwrap(), number);
            store.put(&Manifest::new(number, hash), []).unwrap();
        }
        let store = data.open_store().unwrap();
        assert_eq!(data.live().unwrap(), Some(Live { number: 1, hash: [1; 32] }));
        assert_eq!((stored(&store), data.next_number(&store).unwrap()), (vec![1], 4));
        // A disk that refused the second step, and the next attempt of the same process.
        store.put(&Manifest::new(4, [4; 32]), []).unwrap();
        assert_eq!(publish(&data, &store, 5), 5);
        assert_eq!(stored(&store), [1, 5]);
    }

    #[test]
    fn the_very_first_crash_loses_no_number_either() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDirectory::open(folder.path()).unwrap();
        data.open_store().unwrap().put(&Manifest::new(1, [1; 32]), []).unwrap();
        let store = data.open_store().unwrap();
        assert_eq!((data.live().unwrap(), data.next_number(&store).unwrap()), (None, 2));
    }
}
