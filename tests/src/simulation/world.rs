//! A schedule: hosts, faults and time, in an order that the seed decides; then everything heals, and must come to its end.

use std::time::Duration;

use midplane::config::model::Guarantee;
use midplane::data::engine::Input;

use super::broker::Broker;
use super::bug::Bug;
use super::env::{Env, Stats};
use super::host::Host;
use super::script::Script;
use crate::random::Random;

/// Longer than any wait of the engine's, many times over.
const HEALED_WITHIN: Duration = Duration::from_secs(60);

/// More than any schedule needs, many times over.
const HEALED_ROUNDS: usize = 5000;

/// So many waits that nothing but time ends are enough for an operator to look at the breakers.
const OPERATOR_EACH: usize = 5;

/// All there is.
#[derive(Debug)]
pub(super) struct World {
    pub(super) env: Env,
    hosts: Vec<Option<Host>>,
    /// By partition: which host is to read it.
    targets: Vec<usize>,
    /// Readers that were fenced, and don't know yet.
    fenced: Vec<u64>,
    /// Crashes, rebalances and the like, per ten thousand.
    faults: usize,
}

impl World {
    pub(super) fn new(seed: u64, bug: Option<Bug>, trace: bool) -> Self {
        let mut random = Random::new(seed);
        let script = Script::new(&mut random);
        let partitions = 1 + random.below(3);
        let broker = Broker::new(partitions, script.channels());
        let failing = [0, 0, 20, 100][random.below(4)];
        let faults = [0, 10, 40, 100][random.below(4)];
        let hosts = 1 + random.below(3);
        let guarantee = [Guarantee::AtLeastOnce, Guarantee::ExactlyOnce][random.below(2)];
        let sick = vec![false; script.routes.len()];
        let env = Env {
            random,
            script,
            broker,
            now: Duration::ZERO,
            bug,
            guarantee,
            failing,
            repaired: false,
            sick,
            readers: 0,
            stats: Stats::default(),
            trace: trace.then(Vec::new),
        };
        let targets = vec![0; partitions];
        let mut world = Self { env, hosts: (0..hosts).map(|_| None).collect(), targets, fenced: Vec::new(), faults };
        for _ in 0..world.env.random.below(40) {
            world.grow();
        }
        world.hosts[0] = Some(Host::new(0, &mut world.env));
        world
    }

    /// The whole schedule. Panics where something doesn't hold.
    pub(super) fn run(&mut self) {
        for _ in 0..200 + self.env.random.below(1500) {
            self.happen();
        }
        self.heal();
        for host in 0..self.hosts.len() {
            let deadline = self.env.now + HEALED_WITHIN;
            if let Some(host) = &mut self.hosts[host] {
                host.drain(deadline, &mut self.env);
            }
            self.settle(|world| world.hosts[host].is_none());
        }
        assert!(self.env.broker.is_done(), "everything is committed at the end");
        self.env.broker.check_order(self.env.guarantee);
        self.env.broker.check_letters();
    }

    /// The input grows.
    fn grow(&mut self) {
        let partition = self.env.random.below(self.targets.len());
        if self.env.random.chance(100) {
            self.env.broker.add_control_record(partition);
        } else {
            let end = self.env.broker.partitions[partition].end;
            let event = self.env.script.event(end, &mut self.env.random);
            self.env.broker.add_event(partition, event);
        }
    }

    /// One thing happens.
    fn happen(&mut self) {
        if self.env.random.chance(300) {
            self.env.now += Duration::from_micros(self.env.random.below(8000) as u64);
        }
        if self.env.random.below(10_000) < self.faults {
            self.fault();
        }
        if self.env.random.chance(15) {
            self.grow();
        }
        if self.env.random.chance(10) {
            self.env.broker.let_strays_end();
        }
        self.assign();
        let index = self.env.random.below(self.hosts.len());
        let env = &mut self.env;
        let Some(host) = &mut self.hosts[index] else { return };
        let max = 1 + env.random.below(6);
        let channel = env.random.below(env.script.channels());
        let ids = host.ids();
        let lane = (!ids.is_empty()).then(|| ids[env.random.below(ids.len())]);
        match (env.random.below(9), lane) {
            (0, Some(lane)) => host.fetch(lane, max, env),
            (1, Some(lane)) => host.deliver(lane, max, env),
            (2, Some(lane)) => host.answer(lane, max, env),
            (3, Some(lane)) => host.produce(lane, env),
            (4 | 5, _) => host.work(channel, env),
            (6, _) => host.report(channel, max, env),
            (7, _) => host.advance_commit(env),
            _ => {
                self.tick(index);
                true
            }
        };
        self.bury();
    }

    fn tick(&mut self, index: usize) {
        let Some(host) = &mut self.hosts[index] else { return };
        host.step(Input::Tick, &mut self.env);
        let (now, wakeup) = (self.env.now, host.engine.next_wakeup());
        assert!(wakeup.is_none_or(|at| at > now), "a wake-up at {wakeup:?}, which is done at {now:?}");
        let due = host.lanes.iter().flatten().filter_map(|lane| lane.release_by).chain(host.drain_by).min();
        let waits = host.ended.is_none() && due.is_some();
        assert!(!waits || wakeup.is_some_and(|at| Some(at) <= due), "no wake-up for {due:?}");
    }

    /// One thing goes wrong, or is done to the hosts.
    fn fault(&mut self) {
        let index = self.env.random.below(self.hosts.len());
        let channel = self.env.random.below(self.env.script.channels());
        let Some(host) = &mut self.hosts[index] else {
            self.hosts[index] = Some(Host::new(index, &mut self.env));
            return self.rebalance();
        };
        let ids = host.ids();
        let lane = (!ids.is_empty()).then(|| ids[self.env.random.below(ids.len())]);
        match (self.env.random.below(21), lane) {
            (15 | 16, _) => {
                let route = self.env.random.below(self.env.sick.len());
                self.env.note(index, format_args!("route {route} falls sick, or is well again"));
                self.env.sick[route] ^= true;
            }
            (17.., _) => host.interfere(&mut self.env),
            (12..15, _) => host.swap(&mut self.env),
            (0 | 1, _) => self.crash(index),
            (2 | 3, _) => host.lose_producer(&mut self.env),
            (4, Some(lane)) => {
                let lane = host.lane(lane);
                let partition = &mut self.env.broker.partitions[lane.partition];
                if partition.reader.take_if(|reader| *reader == lane.reader).is_some() {
                    self.fenced.push(lane.reader);
                }
            }
            (5, Some(lane)) if self.env.random.chance(200) => {
                host.step(Input::Unreadable { lane }, &mut self.env);
            }
            (6, _) if host.drain_by.is_none() => {
                let deadline = self.env.now + Duration::from_millis(self.env.random.below(400) as u64);
                host.drain(deadline, &mut self.env);
            }
            (7 | 8, _) => {
                self.env.note(index, format_args!("channel {channel} is blocked, or free again"));
                self.env.broker.blocked[channel] ^= true;
            }
            _ => self.rebalance(),
        }
    }

    fn crash(&mut self, index: usize) {
        if let Some(mut host) = self.hosts[index].take() {
            self.env.note(index, format_args!("crashes"));
            self.env.stats.crashes += 1;
            self.leave(&mut host);
        }
    }

    fn leave(&mut self, host: &mut Host) {
        host.vanish(&mut self.env);
        // Of a transaction whose producer is gone, nothing is ever seen.
        self.env.broker.fence(host.writer);
        for lane in host.lanes.iter().flatten() {
            let reader = &mut self.env.broker.partitions[lane.partition].reader;
            reader.take_if(|reader| *reader == lane.reader);
        }
    }

    /// Hosts whose drain has ended leave.
    fn bury(&mut self) -> bool {
        let mut left = false;
        for index in 0..self.hosts.len() {
            if let Some(mut host) = self.hosts[index].take_if(|host| host.ended.is_some()) {
                self.env.note(index, format_args!("leaves"));
                self.leave(&mut host);
                left = true;
            }
        }
        left
    }

    /// The group decides anew who reads what.
    fn rebalance(&mut self) {
        for target in &mut self.targets {
            *target = self.env.random.below(self.hosts.len());
        }
        for index in 0..self.hosts.len() {
            let Some(host) = &mut self.hosts[index] else { continue };
            let mut leaving = host.ids();
            leaving.retain(|&id| {
                let lane = host.lane(id);
                self.targets[lane.partition] != index && !self.fenced.contains(&lane.reader)
            });
            if !leaving.is_empty() {
                host.revoke(&leaving, &mut self.env);
            }
        }
    }

    /// Fenced readers may hear of it; partitions that nobody reads are given out.
    fn assign(&mut self) -> bool {
        let readers = (self.fenced.len(), self.env.readers);
        if !self.fenced.is_empty() && (self.faults == 0 || self.env.random.chance(100)) {
            let reader = self.fenced.swap_remove(0);
            for host in self.hosts.iter_mut().flatten() {
                if let Some(lane) = host.lane_of(reader) {
                    host.lose(lane, &mut self.env);
                }
            }
        }
        for partition in 0..self.targets.len() {
            if self.env.broker.partitions[partition].reader.is_some() {
                continue;
            }
            let target = self.hosts[self.targets[partition]].as_mut();
            let env = &mut self.env;
            if let Some(host) =
                target.filter(|host| host.drain_by.is_none() || self.faults > 0 && env.random.chance(300))
            {
                host.assign(partition, env);
            }
        }
        readers != (self.fenced.len(), self.env.readers)
    }

    /// Nothing fails any more: all that was read and wasn't must be, and be committed.
    fn heal(&mut self) {
        self.env.failing = 0;
        self.faults = 0;
        self.env.repaired = true;
        self.env.sick.fill(false);
        self.env.broker.blocked.fill(false);
        for index in 0..self.hosts.len() {
            self.env.note(index, format_args!("heals"));
            if let Some(host) = &mut self.hosts[index] {
                host.pause(false, &mut self.env);
            }
            if let Some(host) = &mut self.hosts[index]
                && host.lanes.iter().flatten().any(|lane| lane.halted)
                && host.drain_by.is_none()
            {
                let deadline = self.env.now + HEALED_WITHIN;
                host.drain(deadline, &mut self.env);
            }
        }
        self.settle(|world| {
            let draining = |host: &Option<Host>| host.as_ref().is_some_and(|host| host.drain_by.is_some());
            if world.hosts.iter().any(draining) {
                return false;
            }
            for index in 0..world.hosts.len() {
                if world.hosts[index].is_none() {
                    world.hosts[index] = Some(Host::new(index, &mut world.env));
                }
            }
            world.env.broker.is_done()
        });
    }

    /// Lets everybody work until something holds. Time passes only when there is nothing to do, and then to the next
    /// wake-up that an engine asked for.
    fn settle(&mut self, mut done: impl FnMut(&mut Self) -> bool) {
        let deadline = self.env.now + 2 * HEALED_WITHIN;
        let mut waits = 0;
        for round in 0.. {
            if done(self) {
                return;
            }
            assert!(round < HEALED_ROUNDS, "it goes on and on, and doesn't come to its end");
            let mut progress = self.assign();
            for host in self.hosts.iter_mut().flatten() {
                progress |= work(host, &mut self.env);
            }
            progress |= self.bury();
            if progress {
                continue;
            }
            waits += 1;
            if waits % OPERATOR_EACH == 0 {
                // What fails for good keeps a breaker open until somebody looks.
                let trusts = waits % (2 * OPERATOR_EACH) == 0;
                self.hosts.iter_mut().flatten().for_each(|host| host.help(trusts, &mut self.env));
                continue;
            }
            let wakeups = self.hosts.iter().flatten().filter_map(|host| host.engine.next_wakeup());
            let next = wakeups.min().expect("nothing goes on, but somebody waits for something");
            self.env.now = self.env.now.max(next);
            assert!(self.env.now < deadline, "it doesn't come to its end");
            for index in 0..self.hosts.len() {
                self.tick(index);
            }
            self.bury();
        }
    }
}

/// A host does what it can.
fn work(host: &mut Host, env: &mut Env) -> bool {
    let mut progress = false;
    for id in host.ids() {
        // Each step may release the lane.
        let held = |host: &Host| host.lanes[id.0 as usize].is_some();
        progress |= held(host) && host.fetch(id, 5, env);
        progress |= held(host) && host.deliver(id, 3, env);
        progress |= held(host) && host.answer(id, 4, env);
        progress |= held(host) && host.produce(id, env);
    }
    for channel in 0..env.script.channels() {
        progress |= host.work(channel, env);
        progress |= host.report(channel, 8, env);
    }
    progress | host.advance_commit(env)
}
