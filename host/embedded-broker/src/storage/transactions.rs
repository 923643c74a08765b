//! What a partition knows of transactions: who may write in one, which are open since which offset, which were aborted.
//! It never decides when one ends.

use std::collections::{BTreeMap, HashMap};

use bytes::{Buf, BufMut};

use super::batch::{Header, Outcome};

/// A transaction that was aborted, as far as its partition is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Aborted {
    pub(crate) producer_id: i64,
    pub(crate) first_offset: i64,
    /// The offset of its marker.
    pub(super) last_offset: i64,
    /// Where the first transaction began that was still open then: whatever was aborted later began there or after.
    pub(super) stable_offset: i64,
}

/// A transaction with records in a partition, not ended yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Open {
    epoch: i16,
    first_offset: i64,
}

/// The transactions of a partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Transactions {
    open: BTreeMap<i64, Open>,
    /// The producers whose transaction the partition was added to, and their epochs. Not in the log: whoever keeps track
    /// of transactions says it again after a start.
    admitted: HashMap<i64, i16>,
}

impl Transactions {
    /// Lets a producer write in a transaction.
    pub(crate) fn admit(&mut self, producer_id: i64, epoch: i16) {
        self.admitted.insert(producer_id, epoch);
    }

    /// Ends what [`Transactions::admit`] began; gives whether there are records that a marker must follow.
    pub(crate) fn dismiss(&mut self, producer_id: i64) -> bool {
        self.admitted.remove(&producer_id);
        self.open.contains_key(&producer_id)
    }

    /// Whether a batch may be written as far as transactions are concerned: in one that the partition was added to, or
    /// outside of any.
    pub(crate) fn admits(&self, header: &Header) -> bool {
        if header.is_transactional() {
            self.admitted.get(&header.producer_id) == Some(&header.producer_epoch)
        } else {
            !self.open.contains_key(&header.producer_id)
        }
    }

    /// Takes note of a batch of a transaction.
    pub(crate) fn stored(&mut self, header: &Header) {
        let open = self.open.entry(header.producer_id);
        open.or_insert(Open { epoch: header.producer_epoch, first_offset: header.base_offset });
    }

    /// Takes note of a marker; tells of the transaction when it was aborted.
    pub(crate) fn ended(&mut self, marker: &Header, outcome: Outcome) -> Option<Aborted> {
        let open = self.open.remove(&marker.producer_id).filter(|_| outcome == Outcome::Abort)?;
        Some(Aborted {
            producer_id: marker.producer_id,
            first_offset: open.first_offset,
            last_offset: marker.base_offset,
            stable_offset: self.first_offset().unwrap_or(marker.next_offset()),
        })
    }

    /// Where the first open transaction begins.
    pub(crate) fn first_offset(&self) -> Option<i64> {
        self.open.values().map(|open| open.first_offset).min()
    }

    /// The producers with an open transaction, and their epochs.
    pub(crate) fn open(&self) -> Vec<(i64, i16)> {
        self.open.iter().map(|(&producer_id, open)| (producer_id, open.epoch)).collect()
    }

    /// Writes what the log tells.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.put_u32(self.open.len() as u32);
        for (&producer_id, open) in &self.open {
            out.put_i64(producer_id);
            out.put_i16(open.epoch);
            out.put_i64(open.first_offset);
        }
    }

    /// Reads what [`Transactions::encode`] wrote; nothing when it isn't that.
    pub(crate) fn decode(bytes: &mut &[u8]) -> Option<Self> {
        let mut open = BTreeMap::new();
        for _ in 0..bytes.try_get_u32().ok()? {
            let producer_id = bytes.try_get_i64().ok()?;
            let (epoch, first_offset) = (bytes.try_get_i16().ok()?, bytes.try_get_i64().ok()?);
            open.insert(producer_id, Open { epoch, first_offset });
        }
        Some(Self { open, admitted: HashMap::new() })
    }
}

impl Aborted {
    /// Writes all of it.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.put_i64(self.producer_id);
        out.put_i64(self.first_offset);
        out.put_i64(self.last_offset);
        out.put_i64(self.stable_offset);
    }

    /// Reads what [`Aborted::encode`] wrote.
    pub(super) fn decode(bytes: &mut &[u8]) -> Option<Self> {
        Some(Self {
            producer_id: bytes.try_get_i64().ok()?,
            first_offset: bytes.try_get_i64().ok()?,
            last_offset: bytes.try_get_i64().ok()?,
            stable_offset: bytes.try_get_i64().ok()?,
        })
    }
}
