//! What a partition knows besides where its batches are: what each producer sent last, which transactions are open. It is
//! the fold of all batches so far, and never reads one twice.

use super::batch::{self, Header};
use super::producers::Producers;
use super::transactions::{Aborted, Transactions};

/// What the batches so far tell of those who sent them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) producers: Producers,
    pub(super) transactions: Transactions,
}

impl Known {
    /// Takes note of a batch that was stored at the header's base offset; tells of the transaction that it aborted.
    pub(super) fn stored(&mut self, header: &Header, batch: &[u8]) -> Option<Aborted> {
        if header.is_control() {
            self.producers.ended(header);
            return self.transactions.ended(header, batch::read_marker(batch)?);
        }
        self.producers.stored(header);
        if header.is_transactional() {
            self.transactions.stored(header);
        }
        None
    }

    /// Writes all of it that the log tells.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        self.producers.encode(out);
        self.transactions.encode(out);
    }

    /// Reads what [`Known::encode`] wrote; nothing when it isn't that.
    pub(super) fn decode(bytes: &mut &[u8]) -> Option<Self> {
        Some(Self { producers: Producers::decode(bytes)?, transactions: Transactions::decode(bytes)? })
    }
}
