//! A producer's transactions: what it writes becomes visible with the consumer's positions, or never. Never decides what to do
//! about a failure, and sends nothing again by itself: it says what is left to be done.

use std::time::{Duration, Instant};

use rdkafka::bindings as rdsys;

use super::consumer::Consumer;
use super::error::{Code, Error};
use super::native::{lossy, timeout_ms};
use super::producer::Producer;
use super::settings::RETRY_BACKOFF;

/// The end of a transaction, as it is watched: what to compare with once it has ended.
#[derive(Debug, Clone, Copy)]
pub struct Ending {
    troubles: u64,
    begun: Instant,
}

/// Why a step of a transaction wasn't done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransactionError {
    /// Not yet: the same call goes on with it.
    Pending {
        /// What kept it.
        code: Code,
    },
    /// Never: the transaction is to be aborted.
    Abort {
        /// Why.
        code: Code,
        /// librdkafka's words.
        message: String,
    },
    /// Another producer has this one's transactional id, or the transaction took longer than it may: nothing of it counts.
    Fenced {
        /// librdkafka's words.
        message: String,
    },
    /// This producer can't go on; nobody knows whether the transaction was committed.
    Unknown {
        /// Why.
        code: Code,
        /// librdkafka's words.
        message: String,
    },
}

impl TransactionError {
    /// Whether another producer would be answered in the same way: somebody has to grant something, or to change a setting.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Pending { .. } | Self::Fenced { .. } => false,
            Self::Abort { code, .. } | Self::Unknown { code, .. } => code.is_final(),
        }
    }
}

impl std::fmt::Display for TransactionError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Pending { code } => write!(f, "not done in time ({code})"),
            Self::Fenced { message } => write!(f, "another producer has taken over: {message}"),
            Self::Abort { code, message } | Self::Unknown { code, message } => write!(f, "{message} ({})", code.name()),
        }
    }
}

impl Producer {
    /// A transaction is about to be ended.
    pub fn ending(&self) -> Ending {
        Ending { troubles: self.troubles(), begun: Instant::now() }
    }

    /// Whether something of an end may have been sent twice, by the client itself: it may come late, and end, or change, a later
    /// transaction of the same producer. The client says so only of some errors, as events, which were polled; whatever it sends
    /// again takes its time.
    pub fn is_suspect(&self, ending: Ending) -> bool {
        let retried = ending.begun.elapsed() >= RETRY_BACKOFF * 4 / 5;
        self.troubles() != ending.troubles || retried
    }

    /// Takes the transactional id over from whoever had it: what they left open is aborted. To be called once, before anything
    /// is written, and again where it is [`Pending`](TransactionError::Pending).
    ///
    /// # Errors
    /// Where the broker doesn't answer in time, or refuses.
    pub fn init_transactions(&self, timeout: Duration) -> Result<(), TransactionError> {
        // SAFETY: the client is live, and the error ours.
        unsafe { outcome(rdsys::rd_kafka_init_transactions(self.raw(), timeout_ms(timeout).max(1))) }
    }

    /// What is written from here on is one transaction. Asks nobody.
    ///
    /// # Errors
    /// Where the producer can't go on.
    pub fn begin_transaction(&self) -> Result<(), TransactionError> {
        // SAFETY: the client is live, and the error ours.
        unsafe { outcome(rdsys::rd_kafka_begin_transaction(self.raw())) }
    }

    /// Adds a group's positions to the transaction, by the right of this member of it. Each with the next offset to read, and
    /// what to remember with it.
    ///
    /// # Errors
    /// Where the broker doesn't answer in time, or refuses: the member may have lost the partitions.
    pub fn send_offsets<'a>(
        &self,
        consumer: &Consumer,
        offsets: impl ExactSizeIterator<Item = (&'a str, i32, i64, &'a str)>,
        timeout: Duration,
    ) -> Result<(), TransactionError> {
        let list = consumer
            .offsets(offsets)
            .map_err(|error| TransactionError::Abort { code: Code::INVALID_ARGUMENT, message: error.to_string() })?;
        // SAFETY: the clients and the list are live, the metadata is ours to destroy, and so is the error.
        unsafe {
            let metadata = rdsys::rd_kafka_consumer_group_metadata(consumer.raw());
            if metadata.is_null() {
                let message = "the consumer has left its group".to_owned();
                return Err(TransactionError::Abort { code: Code::STATE, message });
            }
            let error = rdsys::rd_kafka_send_offsets_to_transaction(
                self.raw(),
                list.raw(),
                metadata,
                timeout_ms(timeout).max(1),
            );
            rdsys::rd_kafka_consumer_group_metadata_destroy(metadata);
            outcome(error)
        }
    }

    /// Commits the transaction. Everything that was written has been reported, else this waits for the reports, which nobody
    /// serves meanwhile.
    ///
    /// # Errors
    /// Where it isn't known to be committed.
    pub fn commit_transaction(&self, timeout: Duration) -> Result<(), TransactionError> {
        // SAFETY: the client is live, and the error ours.
        unsafe { outcome(rdsys::rd_kafka_commit_transaction(self.raw(), timeout_ms(timeout).max(1))) }
    }

    /// Aborts the transaction. As [`Self::commit_transaction`]: [`Self::purge`] first, and take the reports.
    ///
    /// # Errors
    /// Where it isn't known to be aborted.
    pub fn abort_transaction(&self, timeout: Duration) -> Result<(), TransactionError> {
        // SAFETY: the client is live, and the error ours.
        unsafe { outcome(rdsys::rd_kafka_abort_transaction(self.raw(), timeout_ms(timeout).max(1))) }
    }
}

/// # Safety
/// `error` is null, or an error that is ours.
unsafe fn outcome(error: *mut rdsys::rd_kafka_error_t) -> Result<(), TransactionError> {
    if error.is_null() {
        return Ok(());
    }
    // SAFETY: the object is live until it is destroyed here.
    unsafe {
        let code = Code::from(rdsys::rd_kafka_error_code(error));
        let message = lossy(rdsys::rd_kafka_error_string(error)).into_owned();
        let aborts = rdsys::rd_kafka_error_txn_requires_abort(error) != 0;
        let retriable = rdsys::rd_kafka_error_is_retriable(error) != 0;
        rdsys::rd_kafka_error_destroy(error);
        Err(match code {
            _ if retriable => TransactionError::Pending { code },
            code if code.is_fenced() => TransactionError::Fenced { message },
            _ if aborts => TransactionError::Abort { code, message },
            _ => TransactionError::Unknown { code, message },
        })
    }
}

impl From<TransactionError> for Error {
    fn from(error: TransactionError) -> Self {
        let code = match &error {
            TransactionError::Pending { code }
            | TransactionError::Abort { code, .. }
            | TransactionError::Unknown { code, .. } => *code,
            TransactionError::Fenced { .. } => Code::FENCED,
        };
        Self::Fatal { code, message: error.to_string() }
    }
}
