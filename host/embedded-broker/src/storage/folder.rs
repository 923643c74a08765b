//! The data folder as a whole: its lock, its format, its identity. It never looks at what the other files hold.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use crate::Error;

/// The first line of the `format` file. A change of layout changes the number.
const FORMAT: &str = "midplane-embedded-broker 1";

/// A data folder, held until dropped.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    cluster_id: Uuid,
    /// The lock is the kernel's, on this open file: it goes with the process, however that ends.
    _lock: File,
}

impl Folder {
    /// Makes the folder if it is missing, takes its lock and checks its format.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        fs::create_dir_all(path).map_err(Error::file("create", path))?;
        let lock_path = path.join("lock");
        let lock = File::options().create(true).truncate(false).write(true).open(&lock_path);
        let lock = lock.map_err(Error::file("open", &lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::Locked(path.to_owned())),
            Err(TryLockError::Error(source)) => {
                return Err(Error::file("lock", &lock_path)(source));
            }
        }
        let cluster_id = identity(path)?;
        Ok(Self { path: path.to_owned(), cluster_id, _lock: lock })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The identity that the folder got when it was made.
    pub(crate) fn cluster_id(&self) -> Uuid {
        self.cluster_id
    }
}

/// Reads the identity of the folder, or gives it one.
fn identity(folder: &Path) -> Result<Uuid, Error> {
    let path = folder.join("format");
    match fs::read_to_string(&path) {
        Ok(text) => {
            let mut lines = text.lines();
            let found = lines.next().unwrap_or_default();
            if found != FORMAT {
                let (found, expected) = (found.to_owned(), FORMAT.to_owned());
                return Err(Error::Format { path: folder.to_owned(), found, expected });
            }
            let id = lines.next().and_then(|line| line.strip_prefix("cluster ")).and_then(|id| id.parse().ok());
            id.ok_or_else(|| Error::Damaged { path, position: FORMAT.len() as u64, reason: "no cluster id".to_owned() })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let id = random_id();
            replace(&path, format!("{FORMAT}\ncluster {id}\n").as_bytes())?;
            Ok(id)
        }
        Err(source) => Err(Error::file("read", &path)(source)),
    }
}

/// Replaces a file whole: readers, and the next start after a crash, see the old content or the new.
pub(crate) fn replace(path: &Path, content: &[u8]) -> Result<(), Error> {
    use std::io::Write;
    let temporary = path.with_extension("new");
    let mut file = File::create(&temporary).map_err(Error::file("create", &temporary))?;
    file.write_all(content).map_err(Error::file("write", &temporary))?;
    file.sync_data().map_err(Error::file("flush", &temporary))?;
    fs::rename(&temporary, path).map_err(Error::file("rename", &temporary))
}

/// A random id: of topics, members and the cluster. Unique, not secret.
pub(crate) fn random_id() -> Uuid {
    use std::hash::{BuildHasher, RandomState};
    let half = || RandomState::new().hash_one(std::process::id()).to_be_bytes();
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&half());
    bytes[8..].copy_from_slice(&half());
    uuid::Builder::from_random_bytes(bytes).into_uuid()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_held_by_one_and_keeps_its_identity() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("deep/data");
        let first = Folder::open(&path).unwrap();
        let refused = Folder::open(&path).unwrap_err().to_string();
        assert!(refused.contains(path.to_str().unwrap()) && refused.contains("in use"), "{refused}");
        let id = first.cluster_id();
        drop(first);
        assert_eq!(Folder::open(&path).unwrap().cluster_id(), id);
    }

    #[test]
    fn another_format_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        fs::write(parent.path().join("format"), "midplane-embedded-broker 9\n").unwrap();
        let refused = Folder::open(parent.path()).unwrap_err().to_string();
        assert!(refused.contains("midplane-embedded-broker 9") && refused.contains("expected"), "{refused}");
    }

    #[test]
    fn ids_differ() {
        let ids: std::collections::HashSet<_> = (0..1000).map(|_| random_id()).collect();
        assert_eq!(ids.len(), 1000);
    }
}
