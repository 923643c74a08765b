//! Files that are there whole or not at all, also after the power failed. Knows nothing of what is in them.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

/// What a draft's name begins with, until it is put in its place. A crash leaves some behind.
const DRAFT: &str = ".draft-";

/// Puts a file in place of whatever was there.
///
/// # Errors
/// When it can't be written; what was there then still is.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write(path, bytes)?;
    sync_folder(folder(path))
}

/// As [`replace`], but for a crash that comes before the folder is [synced](sync_folder), which may bring back what was
/// there: for many files at once.
pub(super) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut draft = tempfile::Builder::new().prefix(DRAFT).tempfile_in(folder(path))?;
    draft.write_all(bytes)?;
    draft.as_file().sync_all()?;
    draft.persist(path)?;
    Ok(())
}

/// Makes what was put into a folder, or removed from it, outlast a crash.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Makes a folder in one that is there, to outlast a crash.
pub(super) fn create_folder(path: &Path) -> io::Result<()> {
    match std::fs::create_dir(path) {
        Ok(()) => sync_folder(folder(path)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// Removes the drafts that a crash left. Nobody else may be writing into the folder.
pub(super) fn remove_drafts(folder: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(DRAFT) {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// The folder of a file, by a name that can be opened.
fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_and_drafts_go() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("a");
        replace(&path, b"first").expect("writable");
        replace(&path, b"second").expect("writable");
        std::fs::write(folder.path().join(".draft-x1"), "half").expect("writable");
        remove_drafts(folder.path()).expect("writable");
        let names: Vec<_> = std::fs::read_dir(folder.path()).expect("a folder").flatten().collect();
        assert_eq!((names.len(), std::fs::read(&path).expect("a file")), (1, b"second".to_vec()));
    }

    #[test]
    fn what_can_not_be_written_leaves_what_was_there() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("a");
        std::fs::create_dir(&path).expect("a folder");
        std::fs::write(path.join("inside"), "").expect("writable");
        assert!(replace(&path, b"file").is_err());
        assert!(path.join("inside").exists());
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 1);
    }
}
