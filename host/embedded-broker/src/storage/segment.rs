//! One file of a partition's log: its sparse index, its recovery. It never decides when to roll or to delete.
//!
//! `{first offset}.log` holds batches, one after the other. `{first offset}.index` is a checkpoint: what a scan of the
//! first so many bytes would find, so that a start reads only what came after. A missing or damaged one costs a scan.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use bytes::{Buf, BufMut};

use super::batch::{self, Header, Wrong};
use super::known::Known;
use super::transactions::Aborted;
use crate::Error;

/// A block of the index starts with the first batch after so many bytes.
pub(crate) const BLOCK: u64 = 32 << 10;

/// The first byte of a checkpoint. A change of its layout changes the number; older ones are then scanned anew.
const CHECKPOINT: u8 = 2;

/// How much recovery reads at a time, unless a batch is larger.
const SCAN: usize = 1 << 20;

/// A run of batches that start within [`BLOCK`] bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) base_offset: i64,
    pub(crate) position: u64,
    pub(crate) max_timestamp: i64,
}

/// What is known of a file of the log.
#[derive(Debug, Clone)]
pub(crate) struct Segment {
    pub(crate) base_offset: i64,
    pub(crate) path: PathBuf,
    /// In bytes.
    pub(crate) size: u64,
    pub(crate) next_offset: i64,
    pub(crate) max_timestamp: i64,
    pub(crate) blocks: Vec<Block>,
    /// The transactions whose abort is told here, in the order of their markers: gone with the segment, when nothing of
    /// them is left either.
    pub(super) aborted: Vec<Aborted>,
    pub(crate) created: SystemTime,
    pub(crate) written: SystemTime,
    /// How much of it the checkpoint on disk covers, in bytes.
    checkpointed: Option<u64>,
}

impl Segment {
    /// A segment that has no file yet.
    pub(crate) fn new(folder: &Path, base_offset: i64, now: SystemTime) -> Self {
        Self {
            base_offset,
            path: folder.join(format!("{base_offset:020}.log")),
            size: 0,
            next_offset: base_offset,
            max_timestamp: -1,
            blocks: Vec::new(),
            aborted: Vec::new(),
            created: now,
            written: now,
            checkpointed: None,
        }
    }

    /// Takes note of a batch that was written at the end, and of the transaction that it aborted.
    pub(super) fn wrote(&mut self, header: &Header, aborted: Option<Aborted>) {
        self.aborted.extend(aborted);
        match self.blocks.last_mut() {
            Some(block) if self.size - block.position < BLOCK => {
                block.max_timestamp = block.max_timestamp.max(header.max_timestamp);
            }
            _ => self.blocks.push(Block {
                base_offset: header.base_offset,
                position: self.size,
                max_timestamp: header.max_timestamp,
            }),
        }
        self.size += header.size as u64;
        self.next_offset = header.next_offset();
        self.max_timestamp = self.max_timestamp.max(header.max_timestamp);
    }

    /// The position of the block that an offset is in.
    pub(crate) fn position_of(&self, offset: i64) -> u64 {
        let after = self.blocks.partition_point(|block| block.base_offset <= offset);
        after.checked_sub(1).map_or(0, |index| self.blocks[index].position)
    }

    /// An offset that every batch which starts before a position lies before.
    pub(crate) fn offset_after(&self, position: u64) -> i64 {
        let index = self.blocks.partition_point(|block| block.position < position);
        self.blocks.get(index).map_or(self.next_offset, |block| block.base_offset)
    }

    /// The transactions that were aborted here at an offset or after it.
    pub(super) fn aborted_since(&self, offset: i64) -> &[Aborted] {
        &self.aborted[self.aborted.partition_point(|aborted| aborted.last_offset < offset)..]
    }

    /// From where to where the first block lies that has a timestamp of at least `timestamp`.
    pub(crate) fn block_since(&self, timestamp: i64) -> Option<(u64, u64)> {
        let index = self.blocks.iter().position(|block| block.max_timestamp >= timestamp)?;
        let end = self.blocks.get(index + 1).map_or(self.size, |next| next.position);
        Some((self.blocks[index].position, end))
    }

    /// Opens the segment at `path`: trusts its checkpoint, reads what came after, and cuts off what isn't sound.
    pub(super) fn open(path: &Path, base_offset: i64, known: &mut Known) -> Result<Self, Error> {
        let file = File::options().read(true).write(true).open(path).map_err(Error::file("open", path))?;
        let about = file.metadata().map_err(Error::file("look at", path))?;
        let written = about.modified().unwrap_or_else(|_| SystemTime::now());
        let mut segment = Self {
            path: path.to_owned(),
            created: about.created().unwrap_or(written).min(written),
            written,
            ..Self::new(Path::new(""), base_offset, written)
        };
        let checkpoint = fs::read(path.with_extension("index")).ok();
        if let Some((covered, then)) = checkpoint.and_then(|bytes| segment.decode(&bytes))
            && covered.size <= about.len()
        {
            segment = covered;
            *known = then;
        }
        segment.scan(&file, about.len(), known).map_err(Error::file("read", path))?;
        if segment.size < about.len() {
            let lost = about.len() - segment.size;
            tracing::warn!(file = %path.display(), position = segment.size, lost, "Torn end of a log cut off.");
            file.set_len(segment.size).map_err(Error::file("truncate", path))?;
        }
        Ok(segment)
    }

    /// Reads the batches after what is known, up to the first that isn't sound.
    fn scan(&mut self, file: &File, length: u64, known: &mut Known) -> io::Result<()> {
        let mut want = SCAN;
        while self.size < length {
            let available = usize::try_from(length - self.size).unwrap_or(usize::MAX);
            let mut buffer = vec![0; want.min(available)];
            file.read_exact_at(&mut buffer, self.size)?;
            let before = self.size;
            let mut rest = buffer.as_slice();
            let stopped = loop {
                match Header::read_checked(rest) {
                    Ok(header) if header.base_offset >= self.next_offset => {
                        let aborted = known.stored(&header, &rest[..header.size]);
                        self.wrote(&header, aborted);
                        rest = &rest[header.size..];
                    }
                    Ok(_) => break Wrong::Inconsistent,
                    Err(wrong) => break wrong,
                }
            };
            if stopped != Wrong::Short {
                return Ok(());
            }
            if self.size == before {
                if want >= available || want > batch::BATCH_MAX {
                    return Ok(());
                }
                want *= 2;
            } else {
                want = SCAN;
            }
        }
        Ok(())
    }

    /// Writes the checkpoint, unless the one on disk says the same.
    pub(super) fn checkpoint(&mut self, known: &Known) -> Result<(), Error> {
        if self.checkpointed == Some(self.size) {
            return Ok(());
        }
        let path = self.path.with_extension("index");
        fs::write(&path, self.encode(known)).map_err(Error::file("write", &path))?;
        self.checkpointed = Some(self.size);
        Ok(())
    }

    fn encode(&self, known: &Known) -> Vec<u8> {
        let mut out = vec![CHECKPOINT];
        out.put_u64(self.size);
        out.put_i64(self.next_offset);
        out.put_i64(self.max_timestamp);
        out.put_u32(self.blocks.len() as u32);
        for block in &self.blocks {
            out.put_i64(block.base_offset);
            out.put_u64(block.position);
            out.put_i64(block.max_timestamp);
        }
        out.put_u32(self.aborted.len() as u32);
        for aborted in &self.aborted {
            aborted.encode(&mut out);
        }
        known.encode(&mut out);
        let crc = crc32c::crc32c(&out);
        out.put_u32(crc);
        out
    }

    /// What a checkpoint says of this segment; nothing when it is damaged or of another version.
    fn decode(&self, bytes: &[u8]) -> Option<(Self, Known)> {
        let (mut content, mut crc) = bytes.split_at_checked(bytes.len().checked_sub(4)?)?;
        if crc.get_u32() != crc32c::crc32c(content) || content.try_get_u8().ok()? != CHECKPOINT {
            return None;
        }
        let mut covered = self.clone();
        covered.size = content.try_get_u64().ok()?;
        covered.next_offset = content.try_get_i64().ok()?;
        covered.max_timestamp = content.try_get_i64().ok()?;
        for _ in 0..content.try_get_u32().ok()? {
            covered.blocks.push(Block {
                base_offset: content.try_get_i64().ok()?,
                position: content.try_get_u64().ok()?,
                max_timestamp: content.try_get_i64().ok()?,
            });
        }
        for _ in 0..content.try_get_u32().ok()? {
            covered.aborted.push(Aborted::decode(&mut content)?);
        }
        covered.checkpointed = Some(covered.size);
        Some((covered, Known::decode(&mut content)?))
    }

    /// Deletes its files.
    pub(crate) fn delete(&self) -> io::Result<()> {
        let _ = fs::remove_file(self.path.with_extension("index"));
        fs::remove_file(&self.path)
    }
}
