//! When positions are committed, and which: those that changed, at most once an interval, one commit at a time.

use std::time::Duration;

use super::input::{LaneId, Now};
use super::lane::Lane;
use super::lanes::Lanes;

/// What is to be committed, and what is being.
#[derive(Debug)]
pub(super) struct Commits {
    interval: Duration,
    /// Not before this.
    not_before: Now,
    /// Not before this, however urgent: the last commit failed.
    retry_not_before: Now,
    /// The lanes whose settled position the broker doesn't know; each once.
    dirty: Vec<LaneId>,
    /// The lanes of the commit in flight, if there is one.
    in_flight: Option<Vec<LaneId>>,
}

impl Commits {
    /// Nothing to commit yet.
    pub(super) fn new(interval: Duration) -> Self {
        Self { interval, not_before: Now::ZERO, retry_not_before: Now::ZERO, dirty: Vec::new(), in_flight: None }
    }

    /// Lists a lane if it has something to commit that isn't listed or in flight.
    pub(super) fn note(&mut self, id: LaneId, lane: &mut Lane) {
        if !lane.dirty && lane.settled() > lane.committing.unwrap_or(lane.committed) {
            lane.dirty = true;
            self.dirty.push(id);
        }
    }

    /// A lane was released.
    pub(super) fn forget(&mut self, id: LaneId) {
        self.dirty.retain(|&dirty| dirty != id);
        if let Some(lanes) = &mut self.in_flight {
            lanes.retain(|&lane| lane != id);
        }
    }

    /// When the next commit is due, if there is one to make.
    pub(super) fn due(&self) -> Option<Now> {
        (self.in_flight.is_none() && !self.dirty.is_empty()).then_some(self.not_before)
    }

    /// Begins a commit, if one is due, or `soon` says not to wait for the interval: what it consists of.
    pub(super) fn begin(&mut self, soon: bool, now: Now, lanes: &mut Lanes) -> Option<Vec<(LaneId, i64)>> {
        let not_before = if soon { self.retry_not_before } else { self.not_before };
        if self.in_flight.is_some() || self.dirty.is_empty() || now < not_before {
            return None;
        }
        let positions = self.dirty.iter().map(|&id| {
            let lane = lanes.known(id);
            let position = lane.settled();
            assert!(position > lane.committed, "commit of {position} after {}", lane.committed);
            lane.dirty = false;
            lane.committing = Some(position);
            (id, position)
        });
        let positions = positions.collect();
        self.in_flight = Some(std::mem::take(&mut self.dirty));
        self.not_before = now + self.interval;
        Some(positions)
    }

    /// The commit in flight has ended: whose it was.
    pub(super) fn end(&mut self) -> Vec<LaneId> {
        self.in_flight.take().expect("a commit ends that has begun")
    }

    /// Nothing is to be committed, or being: lanes are elsewhere.
    pub(super) fn clear(&mut self, lanes: &mut Lanes) {
        for id in self.dirty.drain(..).chain(self.in_flight.take().into_iter().flatten()) {
            let lane = lanes.known(id);
            lane.dirty = false;
            lane.committing = None;
        }
    }

    /// The commit failed: the next one waits for an interval.
    pub(super) fn delay(&mut self, now: Now) {
        self.retry_not_before = now + self.interval;
        self.not_before = self.retry_not_before;
    }
}
