//! The checks' own breakers: simple and slow on purpose. A host counts each event once, in the order in which they went on.

use midplane::config::model::Breaker as Policy;
use midplane::data::engine::{LaneId, Seq};

use super::broker::LETTER;
use super::env::Env;
use super::host::Host;
use super::lane::{Lane, Prepared};
use super::script::Behaviour;

/// The breaker of one route, for the lanes of one host.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    open: bool,
    /// By event that went on since it was closed last, whether it failed.
    outcomes: Vec<bool>,
}

impl Breaker {
    /// Failures among the last events, with one more.
    fn failures(&self, policy: &Policy, one_more: bool) -> usize {
        let outcomes = self.outcomes.iter().rev().chain(&[]).copied();
        let last = [true].into_iter().filter(|_| one_more).chain(outcomes);
        last.take(policy.events as usize).filter(|failed| *failed).count()
    }
}

fn too_many(policy: &Policy) -> usize {
    ((f64::from(policy.events) * policy.failures).ceil() as usize).max(1)
}

impl Host {
    /// An event goes on: those that are open must have let it, and the others count it.
    pub(super) fn pass_breakers(&mut self, id: LaneId, seq: Seq, offset: i64, failed: &[usize], env: &mut Env) {
        let lane = self.lanes[id.0 as usize].as_mut().expect("the lane is assigned");
        let new = lane.counted.insert(offset);
        if lane.skips.contains(&seq) {
            return;
        }
        let (probes, partition) = (lane.may_probe, &env.broker.partitions[lane.partition]);
        let event = partition.events.partition_point(|event| event.offset < offset);
        let mut closed = Vec::new();
        for (route, behaviour) in partition.events[event].behaviours.iter().enumerate() {
            let Some(policy) = env.script.routes[route].breaker.filter(|_| *behaviour != Behaviour::NotTaken) else {
                continue;
            };
            let breaker = &mut self.breakers[route];
            let failed = failed.contains(&route);
            if breaker.open {
                assert!(probes && !failed, "event {offset} passes route {route}, whose breaker is open");
                closed.push(route);
                continue;
            }
            if !new {
                continue;
            }
            breaker.outcomes.push(failed);
            let failures = breaker.failures(&policy, false);
            assert!(failures < too_many(&policy), "{failures} of the last events of route {route} failed");
        }
        for route in closed {
            env.stats.probes += 1;
            self.close_breaker(route);
        }
    }

    /// A lane stops for a breaker, which must have a reason. An event that was judged may make several trip.
    pub(super) fn stopped_by_breaker(&mut self, id: LaneId, offset: i64, route: u16, judged: bool, env: &mut Env) {
        let route = self.numbers.iter().position(|number| *number == route).expect("a route that there is");
        let lane = self.lanes[id.0 as usize].as_mut().expect("the lane is assigned");
        let new = !lane.counted.contains(&offset);
        let (seq, _) = *lane.hand.iter().find(|(_, of)| *of == offset).expect("it is in hand");
        let failing = lane.failing.get(&seq).filter(|_| judged && new);
        for &failing in failing.into_iter().flatten() {
            let (breaker, policy) = (&mut self.breakers[failing], env.script.routes[failing].breaker);
            let trips = |policy| breaker.failures(&policy, true) >= too_many(&policy);
            if !breaker.open && policy.is_some_and(trips) {
                breaker.open = true;
                env.stats.trips += 1;
            }
        }
        assert!(self.breakers[route].open, "event {offset} waits for a breaker that has no reason to be open");
        lane.waits_for = Some(route);
        lane.may_probe = false;
    }

    /// A breaker closes: nothing waits for it any more.
    pub(super) fn close_breaker(&mut self, route: usize) {
        self.breakers[route] = Breaker::default();
        let any_open = self.breakers.iter().any(|breaker| breaker.open);
        for lane in self.lanes.iter_mut().flatten() {
            lane.may_probe &= any_open;
            if lane.waits_for.take_if(|waits| *waits == route).is_some() {
                lane.parked_until = std::time::Duration::ZERO;
            }
        }
    }
}

/// The routes that an event failed on for good: those with letters, and those that drop it.
pub(super) fn failed(lane: &Lane, seq: Seq) -> Vec<usize> {
    let Prepared { messages, dropped, .. } = &lane.prepared[&seq];
    let letters = messages.iter().filter(|message| message.part == LETTER).map(|message| message.route);
    letters.chain(dropped.iter().copied()).collect()
}
