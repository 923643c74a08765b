//! What is to happen to single requests, or to their answers.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::{ApiKey, LOOK_INTERVAL, Passage};
use crate::wait::{DEADLINE, wait_until};

/// Which way a frame goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// To the broker.
    Request,
    /// Back. The broker has done by then what it was asked for.
    Answer,
}

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    Hold,
    Delay(Duration),
    Lose,
    Fail(i16),
}

/// One rule, for the next few frames of a kind.
#[derive(Debug)]
pub(super) struct Rule {
    side: Side,
    key: ApiKey,
    what: What,
    /// How many pass before, of each client.
    spared: usize,
    /// How many it takes after those, of each client.
    each: usize,
    /// How many of both there were, by the clients' ids.
    seen: Mutex<HashMap<String, usize>>,
    left: AtomicUsize,
    met: AtomicUsize,
    released: AtomicBool,
}

impl Rule {
    /// For the next so many frames, whoever sends them.
    pub(super) fn new(side: Side, key: ApiKey, times: usize, what: What) -> Self {
        let [left, met] = [times, 0].map(AtomicUsize::new);
        let (spared, each) = (0, usize::MAX);
        Self { side, key, what, spared, each, seen: Mutex::default(), left, met, released: AtomicBool::new(false) }
    }

    /// For so many frames of each client, once so many of that one have passed.
    pub(super) fn of_each((side, key): (Side, ApiKey), spared: usize, each: usize, what: What) -> Self {
        Self { spared, each, ..Self::new(side, key, usize::MAX, what) }
    }

    /// Whether the rule is for such a frame of a client, which it then has taken.
    pub(super) fn takes(&self, side: Side, key: ApiKey, client_id: &str) -> bool {
        let is_meant = self.side == side && self.key == key && !self.released.load(Ordering::Acquire);
        if !is_meant || !self.is_due(client_id) {
            return false;
        }
        let less = |left: usize| left.checked_sub(1);
        self.left.fetch_update(Ordering::AcqRel, Ordering::Acquire, less).is_ok()
    }

    /// Whether another frame of a client's is neither spared nor one too many.
    fn is_due(&self, client_id: &str) -> bool {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = seen.entry(client_id.to_owned()).or_default();
        *seen += 1;
        *seen > self.spared && *seen - self.spared <= self.each
    }

    /// What becomes of a frame that was taken, once that is known.
    pub(super) fn pass(&self, is_over: impl Fn() -> bool) -> Passage {
        self.met.fetch_add(1, Ordering::AcqRel);
        match self.what {
            What::Lose => return Passage::Lost,
            What::Fail(code) => return Passage::Failing(code),
            What::Delay(delay) => std::thread::sleep(delay),
            What::Hold => {
                while !self.released.load(Ordering::Acquire) && !is_over() {
                    std::thread::sleep(LOOK_INTERVAL);
                }
            }
        }
        Passage::Through
    }

    pub(super) fn release(&self) {
        self.released.store(true, Ordering::Release);
    }
}

/// A rule, in the hands of who made it.
#[derive(Debug)]
pub struct Held(pub(super) Arc<Rule>);

impl Held {
    /// How many frames it has met so far.
    pub fn met(&self) -> usize {
        self.0.met.load(Ordering::Acquire)
    }

    /// Waits until it has met a frame.
    ///
    /// # Panics
    /// When none comes in time.
    pub fn wait(&self) {
        self.wait_for(1);
    }

    /// Waits until it has met so many frames.
    ///
    /// # Panics
    /// When fewer come in time.
    pub fn wait_for(&self, count: usize) {
        wait_until(&format!("{:?} of {:?}, {count} times", self.0.side, self.0.key), DEADLINE, || self.met() >= count);
    }

    /// What is held goes on, and no further frame is held.
    pub fn release(&self) {
        self.0.release();
    }
}
