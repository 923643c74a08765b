//! Open files, bounded: thousands of partitions fit under the usual limit of a process. It never knows what a file holds.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// How many files stay open while nobody uses them.
const OPEN_MAX: usize = 256;

/// A pool of open files.
#[derive(Debug, Default)]
pub(crate) struct Handles {
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    files: HashMap<PathBuf, (Arc<File>, u64)>,
    /// Counts uses, to find the file that was used longest ago.
    clock: u64,
}

impl Handles {
    /// The file at a path, open for reading anywhere and writing at its end. A missing one is not made: a reader that
    /// comes late must not bring a deleted file back.
    pub(crate) fn get(&self, path: &Path) -> io::Result<Arc<File>> {
        self.open(path, false)
    }

    /// The same, made if it is missing.
    pub(crate) fn make(&self, path: &Path) -> io::Result<Arc<File>> {
        self.open(path, true)
    }

    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<File>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.clock += 1;
        let now = open.clock;
        if let Some((file, used)) = open.files.get_mut(path) {
            *used = now;
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(File::options().create(create).append(true).read(true).open(path)?);
        if open.files.len() >= OPEN_MAX {
            let oldest = open.files.iter().min_by_key(|(_, (_, used))| *used).map(|(path, _)| path.clone());
            if let Some(oldest) = oldest {
                open.files.remove(&oldest);
            }
        }
        open.files.insert(path.to_owned(), (Arc::clone(&file), now));
        Ok(file)
    }

    /// Forgets a file that is about to be deleted; those who still read it may finish.
    pub(crate) fn forget(&self, path: &Path) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).files.remove(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_files_stay_open_than_the_bound() {
        let folder = tempfile::tempdir().unwrap();
        let handles = Handles::default();
        let hot = folder.path().join("hot");
        let first = handles.make(&hot).unwrap();
        for n in 0..2 * OPEN_MAX {
            handles.make(&folder.path().join(n.to_string())).unwrap();
            assert!(Arc::ptr_eq(&first, &handles.make(&hot).unwrap()));
        }
        assert_eq!(handles.open.lock().unwrap().files.len(), OPEN_MAX);
        handles.forget(&hot);
        assert!(handles.get(&folder.path().join("never made")).is_err());
        assert!(!Arc::ptr_eq(&first, &handles.make(&hot).unwrap()));
    }
}
