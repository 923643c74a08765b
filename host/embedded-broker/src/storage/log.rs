//! The log of one partition: appended to at its end, read anywhere, cut at its start by age. It stores batches as they
//! came, adds nothing but the markers that end transactions, and never knows who reads them.

use std::collections::VecDeque;
use std::fs;
use std::io::{self, IoSlice, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tokio::sync::Notify;

use super::batch::{self, Header, Outcome};
use super::handles::Handles;
use super::known::Known;
use super::producers::Sequence;
use super::segment::{BLOCK, Segment};
use super::transactions::Aborted;
use crate::Error;

/// A segment is rolled before it grows beyond this, in bytes: it bounds what recovery reads.
pub(crate) const SEGMENT_BYTES: u64 = 64 << 20;

/// Where an appended batch went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Appended {
    pub(crate) base_offset: i64,
    pub(crate) start_offset: i64,
}

/// Why a batch was not appended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AppendError {
    #[error("its sequence is refused")]
    Sequence(Sequence),
    #[error("its producer has no transaction with this partition, or has one and writes outside of it")]
    Transaction,
    #[error("the partition is deleted")]
    Deleted,
    #[error("the file system refused")]
    File(#[from] io::Error),
}

/// Why nothing was read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error("the offset is outside the log")]
    OutOfRange,
    #[error("the log is damaged on disk")]
    Damaged,
    #[error("the file system refused")]
    File(#[from] io::Error),
}

/// Which records a reader may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Isolation {
    /// All that are written.
    Uncommitted,
    /// Those before the first transaction that is still open.
    Committed,
}

/// What was read.
#[derive(Debug, Default)]
pub(crate) struct Read {
    /// Whole batches.
    pub(crate) records: Bytes,
    /// The aborted transactions among them, for those who read what is committed.
    pub(crate) aborted: Vec<Aborted>,
}

/// More bytes than ever come while someone waits.
const UNKNOWN: i64 = i64::MAX / 4;

/// Someone who waits for more bytes in any of several logs.
#[derive(Debug)]
pub(crate) struct Waiter {
    missing: AtomicI64,
    enough: Notify,
}

impl Waiter {
    /// Counts what comes, towards a number that [`Waiter::wants`] will tell: until then, it is never enough.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { missing: AtomicI64::new(UNKNOWN), enough: Notify::new() })
    }

    /// Waits for so many bytes, from when it was made.
    pub(crate) fn wants(&self, bytes: i64) {
        let less = UNKNOWN - bytes.clamp(0, UNKNOWN);
        self.came(less);
    }

    /// Counts bytes that have come.
    fn came(&self, bytes: i64) {
        if self.missing.fetch_sub(bytes, Ordering::AcqRel) <= bytes {
            self.enough.notify_one();
        }
    }

    /// Returns once enough bytes have come.
    pub(crate) async fn enough(&self) {
        self.enough.notified().await;
    }
}

/// The log of a partition.
#[derive(Debug)]
pub(crate) struct Log {
    folder: PathBuf,
    handles: Arc<Handles>,
    segment_bytes: u64,
    inner: Mutex<Inner>,
    /// Copies of what `inner` says, for those who only look.
    start: AtomicI64,
    end: AtomicI64,
    stable: AtomicI64,
    waiters: Mutex<Vec<Weak<Waiter>>>,
}

#[derive(Debug, Default)]
struct Inner {
    segments: VecDeque<Segment>,
    known: Known,
    deleted: bool,
}

impl Log {
    /// Opens the log in a folder, which need not exist before the first append.
    pub(crate) fn open(folder: &Path, handles: Arc<Handles>, segment_bytes: u64) -> Result<Self, Error> {
        let mut inner = Inner::default();
        for (base_offset, path) in segments_of(folder)? {
            let mut segment = Segment::open(&path, base_offset, &mut inner.known)?;
            if let Some(before) = inner.segments.back() {
                // A segment starts where the one before ended, or later when that was damaged.
                segment.next_offset = segment.next_offset.max(before.next_offset);
                // And was written to no earlier, whatever the machine's clock said then.
                segment.written = segment.written.max(before.written);
            }
            inner.segments.push_back(segment);
        }
        let log = Self {
            folder: folder.to_owned(),
            handles,
            segment_bytes,
            inner: Mutex::default(),
            start: AtomicI64::new(0),
            end: AtomicI64::new(0),
            stable: AtomicI64::new(0),
            waiters: Mutex::default(),
        };
        log.publish(&inner);
        *log.lock() = inner;
        Ok(log)
    }

    /// The offset of the first record that is kept.
    pub(crate) fn start_offset(&self) -> i64 {
        self.start.load(Ordering::Acquire)
    }

    /// The offset that the next record gets.
    pub(crate) fn end_offset(&self) -> i64 {
        self.end.load(Ordering::Acquire)
    }

    /// Where a reader must stop: at the end, or before the first transaction that is still open.
    pub(crate) fn limit(&self, isolation: Isolation) -> i64 {
        match isolation {
            Isolation::Uncommitted => self.end_offset(),
            Isolation::Committed => self.stable.load(Ordering::Acquire),
        }
    }

    /// Appends a batch that [`Header::read_produced`] accepted. Blocks on the file system.
    pub(crate) fn append(&self, header: &Header, bytes: &[u8], now: SystemTime) -> Result<Appended, AppendError> {
        let mut inner = self.lock();
        if inner.deleted {
            return Err(AppendError::Deleted);
        }
        let start_offset = self.start_offset();
        match inner.known.producers.judge(header) {
            Sequence::Duplicate(base_offset) => return Ok(Appended { base_offset, start_offset }),
            Sequence::Fenced => return Err(AppendError::Sequence(Sequence::Fenced)),
            _ if !inner.known.transactions.admits(header) => return Err(AppendError::Transaction),
            Sequence::Next => {}
            refused => return Err(AppendError::Sequence(refused)),
        }
        let base_offset = self.write(&mut inner, header, bytes, now)?;
        drop(inner);
        self.wake(header.size);
        Ok(Appended { base_offset, start_offset })
    }

    /// Lets a producer write in a transaction, until it ends.
    pub(crate) fn admit(&self, producer_id: i64, epoch: i16) {
        self.lock().known.transactions.admit(producer_id, epoch);
    }

    /// Ends a producer's transaction: nothing more is written in it, and a marker tells readers, when there is anything to
    /// tell of. Doing it again does nothing. Blocks on the file system.
    pub(crate) fn end_transaction(
        &self,
        (producer_id, epoch): (i64, i16),
        outcome: Outcome,
        now: SystemTime,
    ) -> Result<(), Error> {
        let mut inner = self.lock();
        if !inner.known.transactions.dismiss(producer_id) || inner.deleted {
            return Ok(());
        }
        let since_epoch = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let marker = batch::make_marker(producer_id, epoch, outcome, since_epoch.as_millis() as i64);
        let header = Header::read(&marker).map_err(|_| io::ErrorKind::InvalidData.into());
        let written = header.and_then(|header| self.write(&mut inner, &header, &marker, now));
        written.map_err(Error::file("write", &self.folder))?;
        drop(inner);
        // However much was written in it, it is there for all readers only now.
        self.wake(1 << 40);
        Ok(())
    }

    /// The producers that have an open transaction here, and their epochs.
    pub(crate) fn open_transactions(&self) -> Vec<(i64, i16)> {
        self.lock().known.transactions.open()
    }

    /// Writes a batch at the end; gives its offset.
    fn write(&self, inner: &mut Inner, header: &Header, bytes: &[u8], now: SystemTime) -> io::Result<i64> {
        self.make_room(inner, header.size as u64, now)?;
        let Inner { segments, known, .. } = &mut *inner;
        let segment = segments.back_mut().ok_or(io::ErrorKind::NotFound)?;
        let base_offset = segment.next_offset;
        let stored = Header { base_offset, ..*header };
        let file = self.handles.make(&segment.path)?;
        let prefix = batch::stored_prefix(base_offset, bytes);
        if let Err(error) = write_both(&file, &prefix, &bytes[prefix.len()..]) {
            // What was half written must not stand before what comes next.
            file.set_len(segment.size)?;
            return Err(error);
        }
        segment.wrote(&stored, known.stored(&stored, bytes));
        segment.written = now;
        self.publish(inner);
        Ok(base_offset)
    }

    /// Makes the segment that the next batch goes to.
    fn make_room(&self, inner: &mut Inner, size: u64, now: SystemTime) -> io::Result<()> {
        let Inner { segments, known, .. } = inner;
        let next = match segments.back_mut() {
            None => {
                fs::create_dir_all(&self.folder)?;
                0
            }
            Some(segment) if segment.size > 0 && segment.size + size > self.segment_bytes => {
                if let Err(error) = segment.checkpoint(known) {
                    // It only makes the next start slower.
                    tracing::warn!(error = &error as &dyn std::error::Error, "Checkpoint of a segment not written.");
                }
                segment.next_offset
            }
            Some(_) => return Ok(()),
        };
        segments.push_back(Segment::new(&self.folder, next, now));
        Ok(())
    }

    /// Reads whole batches from the one that holds `offset`: at most `max_bytes`, but one batch however large it is where
    /// `at_least_one` says so. Blocks on the file system.
    pub(crate) fn read(
        &self,
        offset: i64,
        max_bytes: usize,
        at_least_one: bool,
        isolation: Isolation,
    ) -> Result<Read, ReadError> {
        let slack = BLOCK as usize + batch::HEADER;
        let (path, position, length, limit, mut aborted) = {
            let inner = self.lock();
            if offset < self.start_offset() || offset > self.end_offset() {
                return Err(ReadError::OutOfRange);
            }
            let limit = self.limit(isolation);
            let index = inner.segments.partition_point(|segment| segment.next_offset <= offset);
            let Some(segment) = inner.segments.get(index).filter(|_| offset < limit) else {
                return Ok(Read::default());
            };
            let position = segment.position_of(offset);
            let available = usize::try_from(segment.size - position).unwrap_or(usize::MAX);
            let length = available.min(slack.saturating_add(max_bytes));
            // Looked up together with where the records are: both go when the segment is deleted for its age.
            let aborted = match isolation {
                Isolation::Uncommitted => Vec::new(),
                Isolation::Committed => {
                    let until = limit.min(segment.offset_after(position + length as u64));
                    aborted_between(inner.segments.range(index..), offset, until)
                }
            };
            (segment.path.clone(), position, length, limit, aborted)
        };
        let file = self.handles.get(&path).map_err(gone)?;
        let mut buffer = vec![0; length];
        file.read_exact_at(&mut buffer, position)?;
        let records = cut(&file, position, buffer, (offset, limit), max_bytes, at_least_one)?;
        if !aborted.is_empty() {
            let end = batch::headers(&records).last().map_or(offset, |(_, header)| header.next_offset());
            aborted.retain(|aborted| aborted.first_offset < end);
        }
        Ok(Read { records, aborted })
    }

    /// The first record with a timestamp of at least `timestamp`: its offset and timestamp. Blocks on the file system.
    pub(crate) fn find_timestamp(&self, timestamp: i64) -> Result<Option<(i64, i64)>, ReadError> {
        let found = {
            let inner = self.lock();
            let segment = inner.segments.iter().find(|segment| segment.max_timestamp >= timestamp);
            segment.and_then(|segment| Some((segment.path.clone(), segment.block_since(timestamp)?)))
        };
        let Some((path, (position, end))) = found else { return Ok(None) };
        let mut block = vec![0; usize::try_from(end - position).unwrap_or(usize::MAX)];
        self.handles.get(&path).map_err(gone)?.read_exact_at(&mut block, position)?;
        Ok(batch::headers(&block).find_map(|(at, _)| batch::find_timestamp(&block[at..], timestamp)))
    }

    /// The record with the largest timestamp, the first of them: its offset and timestamp. Blocks on the file system.
    pub(crate) fn find_newest(&self) -> Result<Option<(i64, i64)>, ReadError> {
        let newest = self.lock().segments.iter().map(|segment| segment.max_timestamp).max();
        newest.filter(|&timestamp| timestamp >= 0).map_or(Ok(None), |timestamp| self.find_timestamp(timestamp))
    }

    /// Deletes segments that were last written to before `oldest`; the newest one is first rolled when it is among
    /// them. One that is written to all the time is rolled once it is as old as `roll_after`, so that it can end.
    pub(crate) fn expire(&self, now: SystemTime, oldest: SystemTime, roll_after: Duration) -> Result<(), Error> {
        let mut inner = self.lock();
        let Inner { segments, known, deleted } = &mut *inner;
        if let Some(newest) = segments.back_mut().filter(|segment| segment.size > 0 && !*deleted) {
            let age = now.duration_since(newest.created).unwrap_or_default();
            if newest.written < oldest || age > roll_after {
                newest.checkpoint(known)?;
                let next = Segment::new(&self.folder, newest.next_offset, now);
                // The empty file keeps the end of the log when all before it is gone.
                self.handles.make(&next.path).map_err(Error::file("create", &next.path))?;
                segments.push_back(next);
            }
        }
        while segments.len() > 1 && segments[0].written < oldest {
            let Some(segment) = segments.pop_front() else { break };
            self.handles.forget(&segment.path);
            segment.delete().map_err(Error::file("delete", &segment.path))?;
            tracing::debug!(file = %segment.path.display(), "Segment deleted: older than the retention.");
        }
        self.publish(&inner);
        Ok(())
    }

    /// Writes what makes the next start quick, and has the system write the newest segment to disk.
    pub(crate) fn close(&self) -> Result<(), Error> {
        let mut inner = self.lock();
        let Inner { segments, known, deleted } = &mut *inner;
        let Some(segment) = segments.back_mut().filter(|segment| segment.size > 0 && !*deleted) else { return Ok(()) };
        let file = self.handles.get(&segment.path).map_err(Error::file("open", &segment.path))?;
        file.sync_data().map_err(Error::file("flush", &segment.path))?;
        segment.checkpoint(known)
    }

    /// Refuses appends from now on and lets go of the files, which the caller deletes.
    pub(crate) fn delete(&self) {
        let mut inner = self.lock();
        inner.deleted = true;
        for segment in &inner.segments {
            self.handles.forget(&segment.path);
        }
        inner.segments.clear();
        drop(inner);
        self.wake(1 << 40);
    }

    /// Has a waiter told of every byte that is appended from now on.
    pub(crate) fn watch(&self, waiter: &Arc<Waiter>) {
        let mut waiters = self.waiters.lock().unwrap_or_else(PoisonError::into_inner);
        if waiters.len() == waiters.capacity() {
            waiters.retain(|waiter| waiter.strong_count() > 0);
        }
        waiters.push(Arc::downgrade(waiter));
    }

    fn wake(&self, bytes: usize) {
        let mut waiters = self.waiters.lock().unwrap_or_else(PoisonError::into_inner);
        waiters.retain(|waiter| {
            let waiter = waiter.upgrade();
            if let Some(waiter) = &waiter {
                waiter.came(bytes as i64);
            }
            waiter.is_some()
        });
    }

    fn publish(&self, inner: &Inner) {
        let start = inner.segments.front().map_or(0, |segment| segment.base_offset);
        let end = inner.segments.back().map_or(0, |segment| segment.next_offset);
        let stable = inner.known.transactions.first_offset().map_or(end, |first| first.max(start));
        self.start.store(start, Ordering::Release);
        self.end.store(end, Ordering::Release);
        self.stable.store(stable, Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The files of a log in the order of their offsets.
fn segments_of(folder: &Path) -> Result<Vec<(i64, PathBuf)>, Error> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(Error::file("list", folder)(source)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(Error::file("list", folder))?.path();
        let base = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse().ok());
        if let (Some(base), true) = (base, path.extension().is_some_and(|extension| extension == "log")) {
            found.push((base, path));
        }
    }
    found.sort();
    Ok(found)
}

/// A file that was there a moment ago was deleted: by its age, or with its topic.
fn gone(error: io::Error) -> ReadError {
    match error.kind() {
        io::ErrorKind::NotFound => ReadError::OutOfRange,
        _ => ReadError::File(error),
    }
}

/// The transactions that were aborted in some segments, with anything between an offset and another.
fn aborted_between<'a>(segments: impl Iterator<Item = &'a Segment>, from: i64, until: i64) -> Vec<Aborted> {
    let mut found = Vec::new();
    for aborted in segments.flat_map(|segment| segment.aborted_since(from)) {
        if aborted.first_offset < until {
            found.push(*aborted);
        }
        if aborted.stable_offset >= until {
            break;
        }
    }
    found
}

/// Cuts what was asked for out of a buffer that was read at a position.
fn cut(
    file: &fs::File,
    position: u64,
    buffer: Vec<u8>,
    (offset, limit): (i64, i64),
    max_bytes: usize,
    at_least_one: bool,
) -> Result<Bytes, ReadError> {
    let mut from = 0;
    let first = loop {
        let header = Header::read(buffer.get(from..).unwrap_or_default()).map_err(|_| ReadError::Damaged)?;
        if header.next_offset() > offset {
            break header;
        }
        from += header.size;
    };
    if first.size > max_bytes {
        return Ok(if at_least_one { read_one(file, position + from as u64, first.size)? } else { Bytes::new() });
    }
    let within = &buffer[from..buffer.len().min(from + max_bytes)];
    let readable = batch::headers(within).take_while(|(_, header)| header.base_offset < limit);
    let length = readable.last().map_or(0, |(at, header)| at + header.size);
    Ok(Bytes::from(buffer).slice(from..from + length))
}

fn read_one(file: &fs::File, position: u64, size: usize) -> io::Result<Bytes> {
    let mut buffer = vec![0; size];
    file.read_exact_at(&mut buffer, position)?;
    Ok(Bytes::from(buffer))
}

/// Writes two pieces at the end of a file, in one call where the system takes it all.
fn write_both(mut file: &fs::File, first: &[u8], second: &[u8]) -> io::Result<()> {
    let written = file.write_vectored(&[IoSlice::new(first), IoSlice::new(second)])?;
    match written.checked_sub(first.len()) {
        Some(of_second) => file.write_all(&second[of_second..]),
        None => file.write_all(&first[written..]).and_then(|()| file.write_all(second)),
    }
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
