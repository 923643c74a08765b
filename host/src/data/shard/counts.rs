//! Numbers that all shards of a host add to, and that are read off when somebody asks. A shard looks each up once.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Numbers, by what they count.
#[derive(Debug)]
pub struct Counts<K>(Arc<Mutex<BTreeMap<K, Arc<AtomicU64>>>>);

impl<K> Clone for Counts<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K> Default for Counts<K> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K: Ord + Clone> Counts<K> {
    /// The number of one thing, to add to.
    pub(super) fn number(&self, of: K) -> Arc<AtomicU64> {
        let mut numbers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(numbers.entry(of).or_default())
    }

    /// All of them.
    pub fn all(&self) -> Vec<(K, u64)> {
        let numbers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        numbers.iter().map(|(of, number)| (of.clone(), number.load(Ordering::Relaxed))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_add_to_the_same_numbers() {
        let counts = Counts::default();
        for of in ["b", "a", "b"] {
            counts.clone().number(of).fetch_add(1, Ordering::Relaxed);
        }
        assert_eq!(counts.all(), [("a", 1), ("b", 2)]);
    }
}
