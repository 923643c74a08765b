//! The layout of a record batch (version 2): its header, its checksum, its whole within a buffer. It never looks into the
//! records, which may be compressed, except to find a timestamp among those that aren't.

use bytes::{Buf, BufMut};

/// The bytes of a batch before its first record.
pub(crate) const HEADER: usize = 61;

/// The bytes of a batch that its own length does not count: the base offset and that length.
pub(crate) const PREFIX: usize = 12;

/// What the checksum covers starts here: after everything that a broker rewrites.
const CHECKED: usize = 21;

/// How long a batch may be on disk: anything longer is damage. Far above what a topic accepts.
pub(crate) const BATCH_MAX: usize = 64 << 20;

/// The header of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) base_offset: i64,
    /// In bytes, all of the batch.
    pub(crate) size: usize,
    pub(super) crc: u32,
    pub(super) attributes: i16,
    pub(crate) last_offset_delta: i32,
    pub(crate) first_timestamp: i64,
    pub(crate) max_timestamp: i64,
    pub(crate) producer_id: i64,
    pub(crate) producer_epoch: i16,
    pub(crate) base_sequence: i32,
    pub(crate) records: i32,
}

/// Why bytes aren't a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// The buffer ends before the batch does.
    Short,
    /// A format from before Kafka 0.11.
    Old,
    /// Damaged, or never a batch.
    Corrupt,
    /// Sound, but its numbers contradict one another.
    Inconsistent,
}

impl Header {
    /// Reads the header at the start of `bytes`, which need not hold the rest.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, Wrong> {
        if bytes.len() < PREFIX + 5 {
            return Err(Wrong::Short);
        }
        match bytes[16] {
            2 => {}
            0 | 1 => return Err(Wrong::Old),
            _ => return Err(Wrong::Corrupt),
        }
        if bytes.len() < HEADER {
            return Err(Wrong::Short);
        }
        let mut at = &bytes[..HEADER];
        let base_offset = at.get_i64();
        let length = at.get_i32();
        at.advance(5);
        let header = Self {
            base_offset,
            size: usize::try_from(length).map_err(|_| Wrong::Corrupt)? + PREFIX,
            crc: at.get_u32(),
            attributes: at.get_i16(),
            last_offset_delta: at.get_i32(),
            first_timestamp: at.get_i64(),
            max_timestamp: at.get_i64(),
            producer_id: at.get_i64(),
            producer_epoch: at.get_i16(),
            base_sequence: at.get_i32(),
            records: at.get_i32(),
        };
        if header.size < HEADER || header.size > BATCH_MAX || header.last_offset_delta < 0 {
            return Err(Wrong::Corrupt);
        }
        Ok(header)
    }

    /// Reads the batch at the start of `bytes` and checks it whole.
    pub(crate) fn read_checked(bytes: &[u8]) -> Result<Self, Wrong> {
        let header = Self::read(bytes)?;
        let batch = bytes.get(..header.size).ok_or(Wrong::Short)?;
        if crc32c::crc32c(&batch[CHECKED..]) != header.crc {
            return Err(Wrong::Corrupt);
        }
        Ok(header)
    }

    /// What a producer sends: exactly one sound batch, with as many records as it has offsets. Only one that numbers its
    /// batches may have transactions, and no one may end them by itself.
    pub(crate) fn read_produced(bytes: &[u8]) -> Result<Self, Wrong> {
        let header = Self::read_checked(bytes)?;
        let whole = header.size == bytes.len();
        let numbered = header.records > 0 && header.last_offset_delta == header.records - 1;
        let sequenced = header.base_sequence >= 0 && header.producer_epoch >= 0;
        let sent_by = if header.producer_id < 0 { !header.is_transactional() } else { sequenced };
        let fine = whole && numbered && sent_by && !header.is_control();
        if fine { Ok(header) } else { Err(Wrong::Inconsistent) }
    }

    /// Whether it is part of a transaction.
    pub(crate) fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }

    /// Whether it is a word of the broker to readers, not records of a producer.
    pub(crate) fn is_control(&self) -> bool {
        self.attributes & CONTROL != 0
    }

    /// The offset after its last record.
    pub(crate) fn next_offset(&self) -> i64 {
        self.base_offset + i64::from(self.last_offset_delta) + 1
    }

    /// The sequence number of its last record: they wrap.
    pub(crate) fn last_sequence(&self) -> i32 {
        let last = i64::from(self.base_sequence) + i64::from(self.last_offset_delta);
        i32::try_from(last % (1 << 31)).unwrap_or_default()
    }

    fn compressed(&self) -> bool {
        self.attributes & 7 != 0
    }
}

const TRANSACTIONAL: i16 = 0x10;
const CONTROL: i16 = 0x20;

/// How a transaction ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Its records never count.
    Abort,
    /// Its records count.
    Commit,
}

/// The batch that ends a transaction in a log, for readers to see: it takes one offset.
pub(crate) fn make_marker(producer_id: i64, epoch: i16, outcome: Outcome, timestamp: i64) -> Vec<u8> {
    let kind = match outcome {
        Outcome::Abort => 0,
        Outcome::Commit => 1,
    };
    // Every length in it is a zigzag number of one byte. The key is `version: i16, kind: i16`, the value is
    // `version: i16, epoch of the coordinator: i32`.
    let record = [16 << 1, 0, 0, 0, 4 << 1, 0, 0, 0, kind, 6 << 1, 0, 0, 0, 0, 0, 0, 0];
    let mut checked = Vec::with_capacity(HEADER - CHECKED + record.len());
    checked.put_i16(TRANSACTIONAL | CONTROL);
    checked.put_i32(0);
    checked.put_i64(timestamp);
    checked.put_i64(timestamp);
    checked.put_i64(producer_id);
    checked.put_i16(epoch);
    checked.put_i32(-1);
    checked.put_i32(1);
    checked.put_slice(&record);
    let mut batch = Vec::with_capacity(CHECKED + checked.len());
    batch.put_i64(0);
    batch.put_i32((CHECKED - PREFIX + checked.len()) as i32);
    batch.put_i32(0);
    batch.put_u8(2);
    batch.put_u32(crc32c::crc32c(&checked));
    batch.put_slice(&checked);
    batch
}

/// How a control batch says that a transaction ended; nothing when it says something else.
pub(crate) fn read_marker(batch: &[u8]) -> Option<Outcome> {
    let mut record = batch.get(HEADER..)?;
    let _length = varint(&mut record)?;
    record = record.get(1..)?;
    let (_timestamp, _offset, key) = (varint(&mut record)?, varint(&mut record)?, varint(&mut record)?);
    let mut key = record.get(..usize::try_from(key).ok()?)?;
    let _version = key.try_get_i16().ok()?;
    match key.try_get_i16().ok()? {
        0 => Some(Outcome::Abort),
        1 => Some(Outcome::Commit),
        _ => None,
    }
}

/// The first sixteen bytes of a batch as it is stored: the offset is the log's, the epoch of the leader is always 0.
pub(crate) fn stored_prefix(base_offset: i64, batch: &[u8]) -> [u8; 16] {
    let mut prefix = [0; 16];
    prefix[..8].copy_from_slice(&base_offset.to_be_bytes());
    prefix[8..12].copy_from_slice(&batch[8..12]);
    prefix
}

/// The sound headers at the start of a buffer, each with its position; ends at the first that isn't whole. Checksums are
/// not looked at.
pub(crate) fn headers(bytes: &[u8]) -> impl Iterator<Item = (usize, Header)> {
    let mut position = 0;
    std::iter::from_fn(move || {
        let rest = &bytes[position..];
        let header = Header::read(rest).ok().filter(|header| header.size <= rest.len())?;
        let at = position;
        position += header.size;
        Some((at, header))
    })
}

/// The first record of a batch with a timestamp of at least `timestamp`: its offset and its timestamp. Records that are
/// compressed aren't opened: the start of their batch stands for them, which is never too late.
pub(crate) fn find_timestamp(batch: &[u8], timestamp: i64) -> Option<(i64, i64)> {
    let header = Header::read(batch).ok()?;
    if header.max_timestamp < timestamp {
        return None;
    }
    if header.compressed() {
        return Some((header.base_offset, header.first_timestamp.max(timestamp).min(header.max_timestamp)));
    }
    let mut rest = batch.get(HEADER..header.size)?;
    for _ in 0..header.records {
        let length = usize::try_from(varint(&mut rest)?).ok()?;
        let (mut record, after) = rest.split_at_checked(length)?;
        rest = after;
        record = record.get(1..)?;
        let at = header.first_timestamp.checked_add(varint(&mut record)?)?;
        let offset = header.base_offset.checked_add(varint(&mut record)?)?;
        if at >= timestamp {
            return Some((offset, at));
        }
    }
    None
}

/// A zigzag number of up to ten bytes.
fn varint(bytes: &mut &[u8]) -> Option<i64> {
    let mut value = 0_u64;
    for shift in (0..70).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(((value >> 1) as i64) ^ -((value & 1) as i64));
        }
    }
    None
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What to put into a batch for tests.
    #[derive(Debug, Clone, Copy)]
    pub(crate) struct Made {
        pub(crate) records: i32,
        pub(crate) value: usize,
        pub(crate) first_timestamp: i64,
        pub(crate) producer: Option<(i64, i16, i32)>,
        pub(crate) transactional: bool,
    }

    impl Default for Made {
        fn default() -> Self {
            Self { records: 1, value: 10, first_timestamp: 1000, producer: None, transactional: false }
        }
    }

    fn put_varint(out: &mut Vec<u8>, value: i64) {
        let mut rest = ((value << 1) ^ (value >> 63)) as u64;
        while rest >= 0x80 {
            out.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        out.push(rest as u8);
    }

    /// A batch as a producer sends it: the record at index `n` has the timestamp `first_timestamp + n`.
    pub(crate) fn make(made: Made) -> Vec<u8> {
        let mut records = Vec::new();
        for n in 0..i64::from(made.records) {
            let mut record = vec![0];
            put_varint(&mut record, n);
            put_varint(&mut record, n);
            put_varint(&mut record, -1);
            put_varint(&mut record, made.value as i64);
            record.resize(record.len() + made.value, b'v');
            put_varint(&mut record, 0);
            put_varint(&mut records, record.len() as i64);
            records.extend(record);
        }
        let (id, epoch, sequence) = made.producer.unwrap_or((-1, -1, -1));
        let mut checked = Vec::new();
        checked.put_i16(if made.transactional { TRANSACTIONAL } else { 0 });
        checked.put_i32(made.records - 1);
        checked.put_i64(made.first_timestamp);
        checked.put_i64(made.first_timestamp + i64::from(made.records) - 1);
        checked.put_i64(id);
        checked.put_i16(epoch);
        checked.put_i32(sequence);
        checked.put_i32(made.records);
        checked.extend(records);
        let mut batch = Vec::new();
        batch.put_i64(0);
        batch.put_i32((checked.len() + 9) as i32);
        batch.put_i32(-1);
        batch.put_u8(2);
        batch.put_u32(crc32c::crc32c(&checked));
        batch.extend(checked);
        batch
    }

    #[test]
    fn what_a_producer_may_send() {
        let check = |bytes: &[u8], expected: Option<Wrong>| assert_eq!(Header::read_produced(bytes).err(), expected);
        let good = make(Made { records: 3, ..Made::default() });
        check(&good, None);
        check(&[good.clone(), good.clone()].concat(), Some(Wrong::Inconsistent));
        check(&good[..good.len() - 1], Some(Wrong::Short));
        check(&[], Some(Wrong::Short));
        let mut flipped = good.clone();
        *flipped.last_mut().unwrap() ^= 1;
        check(&flipped, Some(Wrong::Corrupt));
        let mut old = good.clone();
        old[16] = 1;
        check(&old, Some(Wrong::Old));
        let transactional = Made { transactional: true, producer: Some((7, 0, 0)), ..Made::default() };
        check(&make(transactional), None);
        check(&make(Made { producer: None, ..transactional }), Some(Wrong::Inconsistent));
        check(&make_marker(7, 0, Outcome::Commit, 1000), Some(Wrong::Inconsistent));
    }

    #[test]
    fn markers_are_sound_batches_of_one_record() {
        for outcome in [Outcome::Abort, Outcome::Commit] {
            let marker = make_marker(7, 3, outcome, 1000);
            let header = Header::read_checked(&marker).unwrap();
            assert_eq!((header.size, header.records, header.next_offset()), (marker.len(), 1, 1));
            assert_eq!((header.producer_id, header.producer_epoch, header.base_sequence), (7, 3, -1));
            assert!(header.is_control() && header.is_transactional());
            assert_eq!(read_marker(&marker), Some(outcome));
            assert_eq!(find_timestamp(&marker, 1000), Some((0, 1000)));
        }
    }

    #[test]
    fn timestamps_are_found_to_the_record() {
        let batch = make(Made { records: 5, first_timestamp: 100, ..Made::default() });
        let check = |timestamp, expected| assert_eq!(find_timestamp(&batch, timestamp), expected, "{timestamp}");
        check(0, Some((0, 100)));
        check(100, Some((0, 100)));
        check(103, Some((3, 103)));
        check(105, None);
    }

    #[test]
    fn sequences_wrap() {
        let batch = make(Made { records: 3, producer: Some((1, 0, i32::MAX - 1)), ..Made::default() });
        assert_eq!(Header::read_produced(&batch).unwrap().last_sequence(), 0);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..200), version in any::<bool>(), at in any::<i64>()) {
            let mut bytes = bytes;
            if version && bytes.len() > 16 {
                bytes[16] = 2;
            }
            let _ = Header::read_produced(&bytes);
            let _ = find_timestamp(&bytes, at);
            let _ = read_marker(&bytes);
            prop_assert!(headers(&bytes).count() <= bytes.len() / HEADER);
        }
    }
}
