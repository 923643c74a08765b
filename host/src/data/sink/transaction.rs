//! A sink's transaction: whether one is open, since when, and what becomes of it in the end. Which it is to be, and when, is the
//! caller's.

use std::time::{Duration, Instant, SystemTime};

use super::Sink;
use crate::kafka::settings::TRANSACTION_TIMEOUT;
use crate::kafka::{self, TransactionError};

impl Sink {
    /// Begins a transaction, where none is open.
    ///
    /// # Errors
    /// Where the producer can't go on.
    pub fn begin(&mut self) -> Result<(), TransactionError> {
        if self.begun.is_none() {
            self.producer.begin_transaction().inspect_err(|_| self.refuses_to_begin = true)?;
            self.begun = Some((Instant::now(), SystemTime::now()));
        }
        Ok(())
    }

    /// Whether its producer has refused to begin a transaction, and would again.
    pub fn refuses_to_begin(&self) -> bool {
        self.refuses_to_begin
    }

    /// Whether a transaction is open.
    pub fn has_begun(&self) -> bool {
        self.begun.is_some()
    }

    /// How long the transaction has been open, if one is.
    pub fn open_for(&self) -> Duration {
        self.begun.map_or(Duration::ZERO, |(begun, _)| begun.elapsed())
    }

    /// Whether the transaction that is open took longer than the broker waits for its end.
    pub fn is_late(&self) -> bool {
        self.begun.is_some_and(|(begun, at)| {
            // The first clock stands still while the machine sleeps, the second one may be set.
            begun.elapsed().max(at.elapsed().unwrap_or_default()) >= TRANSACTION_TIMEOUT
        })
    }

    /// The transaction was committed.
    pub fn committed(&mut self) {
        self.window.committed(Instant::now());
        self.remains.committed();
        self.begun = None;
    }

    /// The broker is asked to commit the transaction from here on.
    pub fn commits(&mut self) {
        self.remains.commits();
    }

    /// The transaction was aborted.
    pub fn aborted(&mut self) {
        self.remains.aborted();
        self.begun = None;
    }

    /// Whether the transaction, all of which is acknowledged, has to be aborted, since what a former one may have left in its partitions
    /// would be committed with it. The broker is asked only where one was given up.
    ///
    /// # Errors
    /// Where the broker doesn't answer in time, or refuses.
    pub fn meets_remains(&mut self, timeout: Duration) -> Result<bool, kafka::Error> {
        let Some(places) = self.remains.may_be_met() else { return Ok(false) };
        let partitions =
            places.iter().map(|(number, partition)| (self.outputs[usize::from(*number)].topic, *partition));
        let open = self.producer.open_from(partitions, timeout)?;
        Ok(self.remains.are_met(places.into_iter().zip(open)))
    }
}
