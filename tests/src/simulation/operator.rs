//! What operators do to a host, at any time.

use std::time::Duration;

use midplane::data::engine::{Cause, Input, LaneId, Standing};

use super::env::Env;
use super::host::Host;

impl Host {
    /// One thing, whatever comes to mind.
    pub(super) fn interfere(&mut self, env: &mut Env) {
        let ids = self.ids();
        let lane = (!ids.is_empty()).then(|| ids[env.random.below(ids.len())]);
        match (env.random.below(5), lane) {
            (0 | 1, _) => self.pause(!self.paused, env),
            (2, Some(lane)) => self.again(lane, env),
            (3, Some(lane)) => self.skip(lane, env),
            _ => {
                let route = env.random.below(env.script.routes.len());
                self.trust(route, env);
            }
        }
    }

    /// All that it reads is paused, or read again.
    pub(super) fn pause(&mut self, paused: bool, env: &mut Env) {
        self.paused = paused;
        let lanes = self.ids();
        if paused {
            env.stats.pauses += 1;
            self.step(Input::Paused { lanes: &lanes }, env);
        } else {
            self.step(Input::Unpaused { lanes: &lanes }, env);
        }
    }

    fn again(&mut self, id: LaneId, env: &mut Env) {
        self.lane(id).parked_until = Duration::ZERO;
        self.step(Input::Again { lanes: &[id] }, env);
    }

    fn skip(&mut self, id: LaneId, env: &mut Env) {
        let Some(at) = self.engine.stands_at(id) else { return };
        if self.engine.standing(id) == Some(Standing::Halted { route: None }) {
            return;
        }
        let to = at + 1 + env.random.below(3) as i64;
        let lane = self.lane(id);
        // What isn't there yet can't be meant.
        let to = to.min(env.broker.partitions[lane.partition].end);
        if to <= at {
            return;
        }
        lane.skip.push(at..to);
        lane.parked_until = Duration::ZERO;
        let events = &mut env.broker.partitions[lane.partition].events;
        for event in events.iter_mut().filter(|event| (at..to).contains(&event.offset)) {
            event.skipped = true;
        }
        self.step(Input::Skip { lane: id, to }, env);
    }

    /// Helps what a breaker holds: every route is trusted again, or what is held is skipped.
    pub(super) fn help(&mut self, trusts: bool, env: &mut Env) {
        if trusts {
            return (0..env.script.routes.len()).for_each(|route| self.trust(route, env));
        }
        for id in self.ids() {
            let held = |standing| matches!(standing, Standing::Waiting { cause: Cause::Breaker { .. }, .. });
            if self.engine.standing(id).is_some_and(held) {
                self.skip(id, env);
            }
        }
    }

    fn trust(&mut self, route: usize, env: &mut Env) {
        self.close_breaker(route);
        let number = self.numbers[route];
        self.step(Input::Trusted { routes: &[number] }, env);
    }
}
