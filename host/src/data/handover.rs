//! How the shards of a group come by a new generation: the control plane puts it down in one place, and each shard takes it
//! between two batches. Neither waits for the other.
//!
//! One place for all shards of a group, not a message to each: a shard that gets a partition from another one of this host
//! looks here before the partition's first event, and so never finds an older generation than the one that had it before.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};

use super::program::Program;
use crate::kafka::Partition;

/// Where partitions begin that the group has no offset for, by topic and number.
pub type Starts = Arc<HashMap<Partition, i64>>;

/// Takes, of each shard, how far it had read its partitions.
pub type Positions = Sender<Vec<(Partition, i64)>>;

/// What a group's shards go over to.
pub struct Cutover {
    /// What they follow.
    pub program: Arc<Program>,
    /// The topics that they read.
    pub topics: Vec<String>,
    /// The topics that are written to, as the program numbers them, each with the bytes of one record that it takes.
    pub outputs: Vec<(String, usize)>,
    /// Where partitions begin that the group has no offset for, if not with their first event.
    pub starts: Starts,
    /// Where each shard says how far it had read its partitions when it went over, for who has to know: routes that move to
    /// another group go on there.
    pub positions: Option<Mutex<Positions>>,
}

/// The ids of routes that an operator has paused.
pub type Pauses = Arc<BTreeSet<String>>;

/// The place.
pub struct Handover {
    /// Counts what was put down.
    version: AtomicU64,
    newest: Mutex<Arc<Cutover>>,
    /// Counts what operators said of pauses, from 1.
    pauses_version: AtomicU64,
    pauses: Mutex<Pauses>,
}

impl Handover {
    /// With what the shards begin with.
    pub fn new(cutover: Cutover, pauses: Pauses) -> Arc<Self> {
        Arc::new(Self {
            version: AtomicU64::new(1),
            newest: Mutex::new(Arc::new(cutover)),
            pauses_version: AtomicU64::new(1),
            pauses: Mutex::new(pauses),
        })
    }

    /// Says which routes are paused. Apart from the generations: it is no part of them, and holds over them.
    pub fn pause(&self, pauses: Pauses) {
        let mut paused = self.pauses.lock().unwrap_or_else(PoisonError::into_inner);
        *paused = pauses;
        self.pauses_version.fetch_add(1, Ordering::Release);
    }

    /// Which routes are paused, if that is newer than the version that was `seen`, and its version. Costs an atomic load where
    /// it isn't.
    pub fn pauses(&self, seen: u64) -> Option<(u64, Pauses)> {
        if self.pauses_version.load(Ordering::Acquire) == seen {
            return None;
        }
        let pauses = self.pauses.lock().unwrap_or_else(PoisonError::into_inner);
        Some((self.pauses_version.load(Ordering::Acquire), Arc::clone(&pauses)))
    }

    /// Puts something newer down. All shards take it before their next batch.
    pub fn publish(&self, cutover: Cutover) {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        *newest = Arc::new(cutover);
        self.version.fetch_add(1, Ordering::Release);
    }

    /// What is newer than the version that was `seen`, and its version. Costs an atomic load where nothing is.
    pub fn newer(&self, seen: u64) -> Option<(u64, Arc<Cutover>)> {
        if self.version.load(Ordering::Acquire) == seen {
            return None;
        }
        let newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        Some((self.version.load(Ordering::Acquire), Arc::clone(&newest)))
    }

    /// What was put down last.
    pub fn newest(&self) -> Arc<Cutover> {
        Arc::clone(&self.newest.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
