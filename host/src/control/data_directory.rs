//! The host's own folder: who this host is, and which generation it was at. One process at a time: the folder is locked
//! for as long as [`DataDirectory`] lives. Holds no events; those are the broker's.

use std::fs::{File, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

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
}

/// Which generation is live, as it is kept over restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
struct Live {
    number: u64,
    hash: digest::Bytes,
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

    /// The number of the generation with this hash: that of the last run if it ran the same one, else the next. Durable
    /// before it returns, so that no two generations of a host ever bear the same number.
    pub fn number_generation(&self, hash: &digest::Bytes) -> Result<u64, Error> {
        let path = self.path.join("generation.json");
        let io = |source| Error::Io { path: path.clone(), source };
        let last: Option<Live> = match std::fs::read(&path) {
            Ok(bytes) => Some(serde_json::from_slice(&bytes).map_err(|error| io(error.into()))?),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(io(error)),
        };
        match last {
            Some(last) if last.hash == *hash => Ok(last.number),
            last => {
                let live = Live { number: last.map_or(1, |last| last.number + 1), hash: *hash };
                replace(&path, &serde_json::to_vec(&live).map_err(|error| io(error.into()))?).map_err(io)?;
                Ok(live.number)
            }
        }
    }
}

/// Puts a file in place whole or not at all, and durably.
fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().expect("a file in a folder");
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    File::open(folder)?.sync_all()
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
}
