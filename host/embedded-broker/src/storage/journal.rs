//! An append-only file of small facts, each with its checksum: topics, committed offsets, transactions. It never knows
//! what a fact says.
//!
//! A fact is `length: u32, crc32c: u32, bytes`, big-endian. One that a crash cut short is cut off at the next start;
//! damage before the end is an error, since what follows it would be lost in silence.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::{Buf, BufMut};

use super::folder::replace;
use crate::Error;

/// Facts are small; anything longer is damage.
const FACT_MAX: usize = 1 << 20;

/// A journal smaller than this is not rewritten while it is open, in bytes.
const REWRITE_MIN: u64 = 16 << 20;

/// An open journal.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    file: File,
    end: u64,
    /// Its length after the last rewriting, in bytes.
    base: u64,
}

impl Journal {
    /// Opens the journal, made if it is missing, and gives each of its facts to `fact` in order; a fact that `fact` can't
    /// read is damage.
    pub(crate) fn open(path: &Path, mut fact: impl FnMut(&[u8]) -> Option<()>) -> Result<Self, Error> {
        let file = File::options().create(true).truncate(false).read(true).write(true).open(path);
        let file = file.map_err(Error::file("open", path))?;
        let bytes = fs::read(path).map_err(Error::file("read", path))?;
        let mut position = 0;
        while let Some(found) = next(&bytes[position..]) {
            let damaged = |reason: &str| Error::Damaged {
                path: path.to_owned(),
                position: position as u64,
                reason: reason.to_owned(),
            };
            let content = found.map_err(damaged)?;
            fact(content).ok_or_else(|| damaged("a fact that this version can't read"))?;
            position += 8 + content.len();
        }
        if position < bytes.len() {
            tracing::warn!(file = %path.display(), position, lost = bytes.len() - position, "Torn end of a journal cut off.");
            file.set_len(position as u64).map_err(Error::file("truncate", path))?;
        }
        let end = position as u64;
        Ok(Self { path: path.to_owned(), file, end, base: end })
    }

    /// Appends facts in one write.
    pub(crate) fn append<'a>(&mut self, facts: impl IntoIterator<Item = &'a [u8]>) -> Result<(), Error> {
        let mut bytes = Vec::new();
        for fact in facts {
            frame(&mut bytes, fact);
        }
        if let Err(source) = self.file.write_all_at(&bytes, self.end) {
            // What was half written must not stand before what comes next.
            let _ = self.file.set_len(self.end);
            return Err(Error::file("write", &self.path)(source));
        }
        self.end += bytes.len() as u64;
        Ok(())
    }

    /// Whether it has grown so much that rewriting it pays.
    pub(crate) fn is_long(&self) -> bool {
        self.end > REWRITE_MIN.max(4 * self.base)
    }

    /// Replaces all facts by those that still hold.
    pub(crate) fn rewrite(&mut self, facts: impl IntoIterator<Item = Vec<u8>>) -> Result<(), Error> {
        let mut bytes = Vec::new();
        for fact in facts {
            frame(&mut bytes, &fact);
        }
        if bytes.len() as u64 != self.end {
            replace(&self.path, &bytes)?;
            let file = File::options().read(true).write(true).open(&self.path);
            self.file = file.map_err(Error::file("open", &self.path))?;
        }
        self.end = bytes.len() as u64;
        self.base = self.end;
        Ok(())
    }

    /// Has the system write it to disk.
    pub(crate) fn sync(&self) -> Result<(), Error> {
        self.file.sync_data().map_err(Error::file("flush", &self.path))
    }
}

fn frame(out: &mut Vec<u8>, fact: &[u8]) {
    out.put_u32(fact.len() as u32);
    out.put_u32(crc32c::crc32c(fact));
    out.put_slice(fact);
}

/// The next fact; nothing at the end, be it torn or not.
fn next(mut bytes: &[u8]) -> Option<Result<&[u8], &'static str>> {
    let length = bytes.try_get_u32().ok()? as usize;
    let crc = bytes.try_get_u32().ok()?;
    if length > FACT_MAX {
        return Some(Err("a length that no fact has"));
    }
    let content = bytes.get(..length)?;
    match crc32c::crc32c(content) == crc {
        true => Some(Ok(content)),
        // The last one may have been cut short by a crash of the machine, after its length was written.
        false if bytes.len() == length => None,
        false => Some(Err("a checksum that doesn't fit")),
    }
}

/// Writes and reads the fields of facts.
pub(crate) mod field {
    use bytes::{Buf, BufMut};
    use uuid::Uuid;

    pub(crate) fn put_str(out: &mut Vec<u8>, text: &str) {
        out.put_u32(text.len() as u32);
        out.put_slice(text.as_bytes());
    }

    pub(crate) fn get_str<'a>(bytes: &mut &'a [u8]) -> Option<&'a str> {
        let length = bytes.try_get_u32().ok()? as usize;
        let (text, rest) = bytes.split_at_checked(length)?;
        *bytes = rest;
        std::str::from_utf8(text).ok()
    }

    pub(crate) fn put_id(out: &mut Vec<u8>, id: Uuid) {
        out.put_slice(id.as_bytes());
    }

    pub(crate) fn get_id(bytes: &mut &[u8]) -> Option<Uuid> {
        bytes.try_get_u128().ok().map(Uuid::from_u128)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &Path) -> Result<Vec<Vec<u8>>, Error> {
        let mut facts = Vec::new();
        Journal::open(path, |fact| {
            facts.push(fact.to_vec());
            Some(())
        })?;
        Ok(facts)
    }

    #[test]
    fn facts_are_kept_a_torn_end_is_cut_off_and_damage_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("facts");
        let mut journal = Journal::open(&path, |_| None).unwrap();
        journal.append([b"one".as_slice(), b"two"]).unwrap();
        journal.append([b"three".as_slice()]).unwrap();
        drop(journal);
        let whole = fs::read(&path).unwrap();
        for cut in 1..=12 {
            fs::write(&path, &whole[..whole.len() - cut]).unwrap();
            assert_eq!(read(&path).unwrap(), [b"one", b"two"], "{cut}");
            assert_eq!(fs::metadata(&path).unwrap().len(), 22, "{cut}");
        }
        let mut damaged = whole.clone();
        damaged[8] ^= 1;
        fs::write(&path, &damaged).unwrap();
        let message = read(&path).unwrap_err().to_string();
        assert!(message.contains("byte 0") && message.contains("checksum"), "{message}");
    }

    #[test]
    fn rewriting_keeps_what_holds_and_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("facts");
        let mut journal = Journal::open(&path, |_| None).unwrap();
        journal.append([b"one".as_slice(), b"two"]).unwrap();
        journal.rewrite([b"two".to_vec()]).unwrap();
        journal.append([b"three".as_slice()]).unwrap();
        assert_eq!(read(&path).unwrap(), [b"two".to_vec(), b"three".to_vec()]);
    }
}
