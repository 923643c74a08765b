//! What the control plane may see of a shard without disturbing it.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::account::Account;

/// Written by the shard, read by others.
#[derive(Debug)]
pub struct Health {
    started: Instant,
    turned_ms: AtomicU64,
    assigned: AtomicBool,
    partitions: AtomicUsize,
    generation: AtomicU64,
    /// How often somebody has asked for an account, and the last one that was given, with the number of who asked for it.
    asked: AtomicU64,
    given: AtomicU64,
    account: Mutex<Arc<Account>>,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            turned_ms: AtomicU64::new(0),
            assigned: AtomicBool::new(false),
            partitions: AtomicUsize::new(0),
            generation: AtomicU64::new(0),
            asked: AtomicU64::new(0),
            given: AtomicU64::new(0),
            account: Mutex::default(),
        }
    }
}

impl Health {
    /// The shard's loop has come around, with so many partitions.
    pub(crate) fn turned(&self, partitions: usize) {
        self.turned_ms.store(self.started.elapsed().as_millis() as u64, Ordering::Relaxed);
        self.partitions.store(partitions, Ordering::Relaxed);
    }

    /// The group has said which partitions are this shard's, perhaps none.
    pub(crate) fn assigned(&self) {
        self.assigned.store(true, Ordering::Relaxed);
    }

    /// The shard follows a generation from here on.
    pub(crate) fn follows(&self, generation: u64) {
        self.generation.store(generation, Ordering::Release);
    }

    /// The generation that the shard follows; 0 before it has begun.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Asks the shard for an account of itself, which it gives with its next turn. Gives the number of the question.
    pub fn ask(&self) -> u64 {
        self.asked.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// The number of a question that waits for its answer.
    pub(crate) fn question(&self) -> Option<u64> {
        let asked = self.asked.load(Ordering::Acquire);
        (asked > self.given.load(Ordering::Relaxed)).then_some(asked)
    }

    /// Answers all questions up to this one.
    pub(crate) fn answer(&self, question: u64, account: Account) {
        *self.account.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(account);
        self.given.store(question, Ordering::Release);
    }

    /// Whether a question was answered.
    pub fn has_answered(&self, question: u64) -> bool {
        self.given.load(Ordering::Acquire) >= question
    }

    /// The account that was given last.
    pub fn account(&self) -> Arc<Account> {
        Arc::clone(&self.account.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// One whose loop came around so long ago.
    #[cfg(test)]
    pub(crate) fn turned_ago(ago: Duration) -> Self {
        let started = Instant::now().checked_sub(ago).expect("the machine has been up for longer");
        Self { started, ..Self::default() }
    }

    /// How long ago its loop came around last.
    pub fn since_turn(&self) -> Duration {
        self.started.elapsed().saturating_sub(Duration::from_millis(self.turned_ms.load(Ordering::Relaxed)))
    }

    /// Whether an assignment, perhaps empty, has arrived.
    pub fn is_assigned(&self) -> bool {
        self.assigned.load(Ordering::Relaxed)
    }

    /// How many partitions it has.
    pub fn partitions(&self) -> usize {
        self.partitions.load(Ordering::Relaxed)
    }
}
