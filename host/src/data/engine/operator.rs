//! What operators have a hand in: pauses, tries before their time, events that are not to be run, breakers that are to close.

use super::action::{Action, Cause, Standing};
use super::input::{LaneId, Now};
use super::lane::State;
use super::{Drain, Engine};

impl Engine {
    pub(super) fn paused(&mut self, lanes: &[LaneId], now: Now, actions: &mut Vec<Action>) {
        for &id in lanes {
            let Some(lane) = self.lanes.get_mut(id) else { continue };
            lane.paused = true;
            if lane.state == State::Running {
                self.park(id, now, Cause::Paused, actions);
            }
        }
    }

    pub(super) fn unpaused(&mut self, lanes: &[LaneId]) {
        for &id in lanes {
            if let Some(lane) = self.lanes.get_mut(id) {
                lane.paused = false;
            }
        }
    }

    /// Whatever these wait for, they wait no longer.
    pub(super) fn again(&mut self, lanes: &[LaneId], now: Now) {
        for &id in lanes {
            let Some(lane) = self.lanes.get_mut(id) else { continue };
            match &mut lane.state {
                State::Parked { until, .. } => *until = now,
                State::Halted { route: Some(_) } => self.unhalt(id, now),
                State::Halted { route: None } | State::Running | State::Closed => {}
            }
        }
    }

    pub(super) fn skip(&mut self, id: LaneId, to: i64, now: Now) {
        let Some(from) = self.stands_at(id) else { return };
        let lane = self.lanes.known(id);
        if lane.state != (State::Halted { route: None }) {
            // What was skipped before may have to run again, and is skipped then, too.
            let from = if lane.skip.end == from { lane.skip.start } else { from };
            lane.skip = from..to;
            self.again(&[id], now);
        }
    }

    /// A lane that a route's policy has halted goes on.
    pub(super) fn unhalt(&mut self, id: LaneId, now: Now) {
        self.lanes.known(id).state = State::Parked { until: now, cause: Cause::Again };
        self.watch(id);
    }

    /// Closes a breaker: what waits for it goes on.
    pub(super) fn close_breaker(&mut self, route: u16) {
        if !self.breakers.close(route) {
            return;
        }
        let waits =
            |state| matches!(state, State::Parked { cause: Cause::Breaker { route: of, .. }, .. } if of == route);
        for id in self.lanes.ids(|lane| waits(lane.state) || lane.probing) {
            let lane = self.lanes.known(id);
            lane.probing &= self.breakers.any_open();
            if waits(lane.state) {
                lane.state = State::Parked { until: Now::ZERO, cause: Cause::Again };
            }
        }
    }

    /// How a lane stands.
    pub fn standing(&self, lane: LaneId) -> Option<Standing> {
        let lane = self.lanes.get(lane)?;
        Some(match lane.state {
            State::Halted { route } => Standing::Halted { route },
            State::Parked { until, cause } if !lane.paused => Standing::Waiting { until, cause },
            State::Running if lane.probing => Standing::Probing { at: lane.restart_offset() },
            State::Running if !lane.paused => Standing::Running,
            State::Running | State::Parked { .. } => Standing::Paused,
            State::Closed => Standing::Closing,
        })
    }

    /// What the group has of a lane, as far as is known here.
    pub fn committed_offset(&self, lane: LaneId) -> Option<i64> {
        self.lanes.get(lane).map(|lane| lane.committed).filter(|committed| *committed >= 0)
    }

    /// Where a lane stands that has stopped: its first event that is not settled, once nothing of it is in flight or to be given up.
    pub fn stands_at(&self, lane: LaneId) -> Option<i64> {
        let lane = self.lanes.get(lane).filter(|lane| lane.is_still() && !self.transaction.is_given_up())?;
        let stopped = matches!(lane.state, State::Parked { .. } | State::Halted { .. });
        (stopped && self.drain == Drain::No).then(|| lane.restart_offset())
    }

    /// Whether the next event of a lane tries whether a route works again: it goes alone.
    pub fn is_probing(&self, lane: LaneId) -> bool {
        self.lanes.get(lane).is_some_and(|lane| lane.probing)
    }

    /// Whether any breaker is open.
    pub fn has_open_breakers(&self) -> bool {
        self.breakers.any_open()
    }

    /// The routes whose breakers are open, and when a partition tries next.
    pub fn open_breakers(&self) -> impl Iterator<Item = (u16, Now)> {
        self.breakers.all_open()
    }
}
