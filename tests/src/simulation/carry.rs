//! The driver's side of the actions, with the checks of what each may ask for.

use std::collections::VecDeque;
use std::ops::Range;

use midplane::config::model::Guarantee;
use midplane::data::engine::{Cause, Input, LaneId, Now, Outcome, Report, Seq};

use super::broker::{LETTER, Message};
use super::bug::Bug;
use super::env::Env;
use super::host::{COMMIT_INTERVAL, Commit, Host};
use super::lane::{Emitted, Prepared};
use super::script::Behaviour;

impl Host {
    pub(super) fn take(&mut self, id: LaneId, first: Seq, count: u32, mut skip: Range<u32>, env: &mut Env) {
        assert!(!self.paused, "events are taken of a paused partition");
        let offsets = std::mem::take(&mut self.delivering);
        assert_eq!(offsets.len(), count as usize, "all events that were delivered are processed");
        let lane = self.lane(id);
        for offset in &offsets[skip.start as usize..skip.end as usize] {
            let asked = lane.skip.iter().any(|range| range.contains(offset));
            assert!(asked, "event {offset} is skipped, and nobody asked for it");
        }
        let last = lane.skip.last().cloned().unwrap_or_default();
        let asked = offsets.iter().filter(|offset| last.contains(offset)).count();
        assert!(skip.len() >= asked, "what was to be skipped is run");
        if env.has(Bug::SkipsOneMore) && !skip.is_empty() {
            skip.end = (skip.end + 1).min(count);
        }
        if !skip.is_empty() {
            env.stats.skips += skip.len() as u64;
            let (start, end) = (first + u64::from(skip.start), first + u64::from(skip.end));
            // It may come in several goes.
            lane.skips = if lane.skips.end == start { lane.skips.start } else { start }..end;
        }
        lane.ledger.delivered(first, &offsets);
        lane.hand.extend((first..).zip(offsets));
    }

    /// Runs the next events in hand through the plugins.
    pub(super) fn answer(&mut self, id: LaneId, max: usize, env: &mut Env) -> bool {
        let takes = self.engine.takes_events();
        let (room, between) = (self.engine.room(), self.engine.is_between_transactions());
        let suspect = self.engine.suspect(id);
        let lane = self.lanes[id.0 as usize].as_mut().expect("the lane is assigned");
        let count = if takes { max.min(lane.hand.len()).min(room) } else { 0 };
        if count == 0 {
            return false;
        }
        // What failed to be written goes into a transaction alone.
        let suspect = suspect.map(|offset| lane.hand.iter().take_while(|(_, at)| *at < offset).count());
        let (count, alone) = match suspect {
            Some(0) => (1, true),
            suspect => (suspect.map_or(count, |suspect| count.min(suspect)), false),
        };
        self.hurried |= alone;
        if alone && !between {
            self.step(Input::Barrier, env);
            return false;
        }
        let first = lane.hand[0].0;
        let breakers = super::plugins::breakers(self.engine.is_probing(id), env);
        let taken = super::plugins::taken(lane, count, env);
        let takes = super::plugins::takes(&taken, &breakers, &self.numbers);
        let (mut messages, mut failures) = (Vec::new(), Vec::new());
        for index in 0..count {
            let (seq, offset) = lane.hand[index];
            let attempt = lane.stops.get(&offset).map_or(1, |stops| stops + 1);
            assert_eq!(self.engine.attempt(id, seq), attempt, "attempt of event {offset}");
            let prepared = super::plugins::run(lane, &self.numbers, seq, offset, index as u32, &mut failures, env);
            messages.push(prepared.messages.len() as u32);
            lane.prepared.insert(seq, prepared);
            env.stats.events += 1;
        }
        // A transaction that has as much as it may have ends at once.
        self.hurried |= messages.iter().sum::<u32>() as usize + failures.len() >= room;
        self.step(Input::Answered { lane: id, first, messages: &messages, failures: &failures, takes: &takes }, env);
        if let Some(lane) = &mut self.lanes[id.0 as usize] {
            assert!(lane.prepared.is_empty(), "answered events are emitted, or dropped");
        }
        if alone {
            self.step(Input::Barrier, env);
        }
        true
    }

    pub(super) fn write_letter(&mut self, id: LaneId, seq: Seq, route: usize, attempts: u32, env: &mut Env) {
        let channel = env.script.topics + route;
        let lane = self.lane(id);
        let (partition, offset) = (lane.partition, lane.hand.iter().find(|(of, _)| *of == seq).expect("in hand").1);
        let events = &env.broker.partitions[partition].events;
        let event = events.partition_point(|event| event.offset < offset);
        let prepared = lane.prepared.get_mut(&seq).expect("letters are of events that were answered");
        prepared.unresolved.retain(|&unresolved| unresolved != route);
        prepared.messages.push(Message { partition, event, route, part: LETTER, channel });
        let calls = lane.calls[&(offset, route)];
        let held_back = lane.held_back.get(&(offset, route)).copied().unwrap_or(0);
        match events[event].behaviours[route] {
            _ if lane.skips.contains(&seq) => {
                assert!(events[event].skipped, "event {offset} is skipped, and nobody asked for it")
            }
            Behaviour::Endless => {
                let due = env.script.routes[route].attempts + held_back;
                assert_eq!(attempts, due, "attempts of event {offset} on route {route}");
                assert!(calls >= due, "event {offset} was called {calls} times on route {route}, not {due}");
            }
            Behaviour::Permanent | Behaviour::TooLarge(_) | Behaviour::Sick => {
                assert_eq!(attempts, 1 + held_back, "attempts of event {offset}");
            }
            other => panic!("a letter of event {offset} on route {route}, which is {other:?}"),
        }
        env.stats.letters += 1;
    }

    pub(super) fn emit(&mut self, id: LaneId, first: Seq, mut count: u32, env: &mut Env) {
        let past_stop = env.has(Bug::EmitsPastStop);
        if past_stop {
            count = self.lane(id).prepared.len() as u32;
        }
        for seq in first..first + u64::from(count) {
            let failed = super::breaker::failed(self.lane(id), seq);
            let offset = self.lane(id).hand[0].1;
            self.pass_breakers(id, seq, offset, &failed, env);
            let lane = self.lane(id);
            let skipped = lane.skips.contains(&seq);
            assert!(!skipped || lane.failing.contains_key(&seq) || lane.prepared[&seq].messages.is_empty());
            let Prepared { mut messages, unresolved, .. } = lane.prepared.remove(&seq).expect("it was answered");
            assert!(unresolved.is_empty() || past_stop, "event {seq} is emitted without routes {unresolved:?}");
            let (next, offset) = lane.hand.pop_front().expect("it is in hand");
            assert_eq!(next, seq, "events are emitted in order");
            lane.refused.remove(&seq);
            messages.sort_by_key(|message| (message.route, message.part));
            lane.ledger.emitted(seq, offset, messages.len() as u32);
            if env.has(Bug::LosesLetter) {
                for letter in messages.iter().filter(|message| message.part == LETTER) {
                    let report = Report { lane: id, seq, outcome: Outcome::Acked };
                    self.reports[letter.channel].push_back(report);
                }
                messages.retain(|message| message.part != LETTER);
            }
            let messages = VecDeque::from(messages);
            self.lane(id).outbox.push_back(Emitted { seq, offset, messages, begun: false });
        }
    }

    pub(super) fn park(&mut self, id: LaneId, offset: i64, until: Now, cause: Cause, env: &mut Env) {
        // What the client has fetched may still arrive after a pause.
        let late = env.random.chance(500);
        // Of a transaction that is being given up, where it stood is of no interest.
        let (rewinding, aborting) = (self.rewinding, self.aborting);
        if let Cause::Breaker { route, failures } = cause {
            self.stopped_by_breaker(id, offset, route, failures > 0, env);
        }
        let lane = self.lane(id);
        if let Cause::Breaker { failures: 1.., .. } = cause {
            *lane.stops.entry(offset).or_default() += 1;
            let (seq, _) = *lane.hand.iter().find(|(_, of)| *of == offset).expect("it is in hand");
            for route in lane.failing.remove(&seq).into_iter().flatten() {
                *lane.held_back.entry((offset, route)).or_default() += 1;
            }
        }
        lane.drop_hand();
        if rewinding {
            lane.ledger.rewound(offset, &env.broker.partitions[lane.partition]);
        }
        assert!(aborting || offset == lane.ledger.position(), "a lane is parked where it stopped");
        lane.parked_until = until;
        lane.paused = true;
        if !late {
            lane.fetched.clear();
        }
        if let Cause::Retry { .. } = cause {
            *lane.stops.entry(offset).or_default() += 1;
            let stops = lane.retries.entry(offset).or_default();
            *stops += 1;
            // Each stop is one more failure of every route that still may fail.
            let most = env.script.routes.iter().map(|route| route.attempts).max().unwrap_or(0);
            assert!(*stops < most, "event {offset} stops its lane {stops} times, with {most} attempts at most");
        }
        env.stats.parks += 1;
    }

    pub(super) fn resume(&mut self, id: LaneId, offset: i64, env: &mut Env) {
        let offset = match env.bug {
            Some(Bug::ResumesAtPosition) => self.lane(id).ledger.position(),
            Some(Bug::ResumesAtStart) => self.lane(id).start,
            _ => offset,
        };
        let exactly_once = env.guarantee == Guarantee::ExactlyOnce;
        let lane = self.lane(id);
        if exactly_once {
            let partition = &env.broker.partitions[lane.partition];
            assert!(partition.has_none_between(lane.ledger.settled(), offset), "the lane goes on elsewhere");
            lane.ledger.rewound(offset, partition);
        }
        assert!(env.now >= lane.parked_until, "the lane goes on before its time");
        lane.outbox.retain(|event| event.begun || !event.messages.is_empty());
        assert!(lane.hand.is_empty() && lane.outbox.is_empty(), "nothing is left of what was before");
        lane.ledger.resumed(offset);
        lane.may_probe |= lane.waits_for.take().is_some();
        lane.seek(offset);
    }

    pub(super) fn halt(&mut self, id: LaneId, env: &mut Env) {
        let lane = self.lane(id);
        lane.drop_hand();
        lane.paused = true;
        lane.halted = true;
        env.stats.halts += 1;
    }

    pub(super) fn begin_commit(&mut self, positions: Vec<(LaneId, i64)>, env: &mut Env) {
        assert!(self.commit.is_none(), "one commit at a time");
        assert!(!positions.is_empty(), "an empty commit");
        assert!(env.now >= self.retry_from, "a commit that failed is made again at once");
        let closing = self.drain_by.is_some() || self.lanes.iter().flatten().any(|lane| lane.release_by.is_some());
        assert!(closing || self.hurried || env.now >= self.commit_from, "two commits in one interval");
        if env.guarantee == Guarantee::ExactlyOnce {
            let in_flight: u32 = self.lanes.iter().flatten().map(|lane| lane.ledger.in_flight()).sum();
            assert_eq!(in_flight, 0, "a transaction is committed with messages in flight");
        }
        self.commit_from = env.now + COMMIT_INTERVAL;
        let positions = positions.into_iter().map(|(id, mut position)| {
            let lane = self.lane(id);
            if env.has(Bug::CommitsPosition) {
                position = lane.ledger.position();
            }
            assert!(position <= lane.ledger.settled(), "commit of {position} before it is settled");
            assert!(position > lane.accepted, "commit of {position}, which was accepted before");
            (id, lane.partition, lane.reader, position)
        });
        let positions = positions.collect();
        self.commit = Some(Commit { positions, accepted: None, unknown: false });
    }

    pub(super) fn release(&mut self, id: LaneId, env: &mut Env) {
        let lane = self.lanes[id.0 as usize].take().expect("a lane is released once");
        let partition = &mut env.broker.partitions[lane.partition];
        let reads = partition.reader == Some(lane.reader);
        let due = lane.release_by.is_some_and(|by| by <= env.now);
        if !lane.lost && !due {
            assert!(lane.release_by.is_some(), "a lane is released that wasn't revoked");
            assert_eq!(lane.ledger.in_flight(), 0, "a lane is released before it is drained");
            if reads {
                let settled = lane.ledger.settled();
                assert!(partition.has_committed(settled), "a lane is released before {settled} is committed");
            }
            env.stats.releases += 1;
        }
        if reads {
            partition.reader = None;
        }
    }

    pub(super) fn drained(&mut self, clean: bool, env: &mut Env) {
        let clean = clean || env.has(Bug::AlwaysClean);
        let deadline = self.drain_by.expect("it was told to drain");
        let mut expected = true;
        for lane in self.lanes.iter().flatten() {
            let partition = &env.broker.partitions[lane.partition];
            let committed = partition.has_committed(lane.ledger.settled());
            let reads = partition.reader == Some(lane.reader);
            expected &= lane.ledger.in_flight() == 0 && lane.ledger.is_clean() && (committed || !reads);
        }
        assert!(expected || !clean, "the drain is said to be clean, and isn't");
        // Whoever gave a transaction up may not have had to, as it turns out.
        let given_up = env.guarantee == Guarantee::ExactlyOnce;
        assert!(clean || !expected || given_up || env.now >= deadline, "the drain is said not to be clean, and is");
        env.stats.drains += u64::from(clean);
        self.ended = Some(clean);
    }
}
